-- Finding runs: search attributes, and an index for the runs of a tenant.
--
-- Attributes are a column of the run, written by the settlement that writes the run's row anyway: no
-- statement and no index entry more, and nothing at all where a workflow declares none. A table of
-- their own would cost a second row for each change; an index over them would cost every settlement,
-- because a row with a changed indexed column is never updated in place. So they are tested on the
-- way along the runs: with a million runs on two busy cores, a value that no run has was told absent
-- after 1.4 s, and 6 ms within one tenant.
--
-- An index by workflow was tried and left out: with five workflows the planner did not use it, and it
-- cost each start as much as the one by tenant, which also serves every token that is bound to one.

alter table engine.run add column attributes jsonb;
comment on column engine.run.attributes is
  'What the workflow lets the run be found by, in clear: {"plan": "starter", "ends": "2027-01-31T09:00:00.000000Z"}. Null where it declares nothing.';
create index run_by_tenant on engine.run (tenant_id, run_id);
