-- Priorities of runs, and weights of tenants: in which order workers take what is due.

alter table engine.run add column priority smallint not null default 3;
alter table engine.run add constraint run_priority_known check (priority between 1 and 5) not valid;
comment on column engine.run.priority is 'Which of what is due is taken first: 1 highest, 3 normal, 5 lowest.';

alter table engine.due add column priority smallint not null default 3;
comment on column engine.due.priority is 'The run''s priority.';
-- Each level is read from its oldest end.
create index due_by_priority on engine.due (priority, due_at);
drop index engine.due_at;

create table engine.tenant_weight (
  tenant_id uuid primary key references engine.tenant (tenant_id),
  weight smallint not null check (weight between 2 and 100)
);
comment on table engine.tenant_weight is
  'Tenants that get more than one turn when all have work due. A control table: workers read it with each renewal of their lease.';
comment on column engine.tenant_weight.tenant_id is 'The tenant.';
comment on column engine.tenant_weight.weight is 'Its turns for one of others; a tenant without a row has one.';
grant select, insert, update, delete on engine.tenant_weight to tenure_engine;

-- A start that lies ahead, for a tenant on a test clock.
grant insert on engine.clocked to tenure_tenant;
