-- Acting on many runs: an operation, its frozen selection, and what came of each run.
--
-- A line lies in its run's shard, so that the verb and its line are one transaction in one shard.

create table engine.bulk (
  bulk_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  status smallint not null check (status in (0, 1, 2, 3, 4)),
  tenant_id uuid not null,
  run_id uuid,
  selected integer not null check (selected > 0),
  pace integer not null check (pace between 1 and 500),
  stop_after integer check (stop_after > 0),
  created_at timestamptz not null,
  confirmed_at timestamptz,
  ended_at timestamptz,
  actor text not null,
  role text not null,
  reason text not null check (length(reason) between 1 and 2000),
  filter text not null,
  verb jsonb not null,
  primary key (bulk_id, shard_id),
  constraint bulk_run_when_confirmed check ((run_id is not null) = (confirmed_at is not null)),
  constraint bulk_confirmed_when_acting check (confirmed_at is not null or status in (0, 4)),
  constraint bulk_ended_has_time check ((ended_at is not null) = (status in (2, 3, 4)))
);
comment on table engine.bulk is 'One verb to many runs.';
comment on column engine.bulk.bulk_id is 'Identity, a UUIDv7 that carries the shard.';
comment on column engine.bulk.shard_id is 'The shard of the tenant.';
comment on column engine.bulk.status is '0 prepared, 1 acting, 2 done, 3 stopped after refusals, 4 aborted.';
comment on column engine.bulk.tenant_id is 'Whose runs were looked through; the system tenant for all.';
comment on column engine.bulk.run_id is 'The run of the system tenant that acts.';
comment on column engine.bulk.selected is 'How many runs the frozen selection has.';
comment on column engine.bulk.pace is 'Runs per second.';
comment on column engine.bulk.stop_after is 'It stops when so many runs have refused the verb; null never stops.';
comment on column engine.bulk.created_at is 'When the selection was frozen, in real time.';
comment on column engine.bulk.confirmed_at is 'When somebody confirmed the number.';
comment on column engine.bulk.ended_at is 'When it was done, stopped or aborted.';
comment on column engine.bulk.actor is 'Who asked for it, from the token; the actor in the audit of each run.';
comment on column engine.bulk.role is 'In which role.';
comment on column engine.bulk.reason is 'Why, in the actor''s words.';
comment on column engine.bulk.filter is 'The filter as it was written, for people; the selection is what counts.';
comment on column engine.bulk.verb is 'The verb with its arguments.';

create table engine.bulk_run (
  bulk_id uuid not null,
  run_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  outcome smallint check (outcome in (1, 2, 3)),
  tenant_id uuid not null,
  revision bigint not null,
  acted_at timestamptz,
  detail text,
  primary key (bulk_id, run_id, shard_id),
  constraint bulk_run_outcome_has_time check ((outcome is not null) = (acted_at is not null))
);
create index bulk_run_pending on engine.bulk_run (bulk_id, run_id) where outcome is null;
comment on table engine.bulk_run is 'The frozen selection of an operation, and what came of each run.';
comment on column engine.bulk_run.bulk_id is 'The operation.';
comment on column engine.bulk_run.run_id is 'The run.';
comment on column engine.bulk_run.shard_id is 'The run''s shard.';
comment on column engine.bulk_run.outcome is 'Null not acted on, 1 done, 2 moved on since it was selected, 3 refused.';
comment on column engine.bulk_run.tenant_id is 'The run''s owner.';
comment on column engine.bulk_run.revision is 'The run''s revision when it was selected; a run that moved on since is left alone.';
comment on column engine.bulk_run.acted_at is 'When, in real time.';
comment on column engine.bulk_run.detail is 'Why not, in words.';

do $$
declare
  name text;
begin
  foreach name in array array['bulk', 'bulk_run'] loop
    execute format('alter table engine.%I enable row level security', name);
    execute format('alter table engine.%I force row level security', name);
    execute format('create policy engine_all on engine.%I to tenure_engine using (true) with check (true)', name);
    execute format(
      'create policy tenant_own on engine.%I for select to tenure_tenant using (tenant_id = engine.current_tenant())',
      name);
  end loop;
end
$$;
grant select, insert, update, delete on engine.bulk, engine.bulk_run to tenure_engine;
grant select on engine.bulk, engine.bulk_run to tenure_tenant;
