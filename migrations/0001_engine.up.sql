-- The engine: runs, what is due, signals, journals, logs. Knows nothing of money.
--
-- Every table that holds a tenant's rows carries shard_id in its primary key and in every unique
-- index, so that the same statements run on one Postgres and distributed by shard_id. Hence also:
-- no triggers, no sequences, no volatile defaults, no foreign keys between hot tables.

create schema engine;
comment on schema engine is 'The workflow engine. Knows runs, states, steps, signals and time; knows no money.';

-- Roles are shared by all databases of a cluster, so another database may have made them already.
do $$
declare
  role_name text;
begin
  foreach role_name in array array['tenure_engine', 'tenure_tenant', 'tenure_control'] loop
    begin
      execute format('create role %I nologin', role_name);
    exception when duplicate_object or unique_violation then
      null;
    end;
    execute format('grant %I to current_user', role_name);
  end loop;
end
$$;

grant usage on schema engine to tenure_engine, tenure_tenant, tenure_control;

create function engine.now() returns timestamptz
language sql stable parallel safe
as $$
  select now() + coalesce(nullif(current_setting('engine.clock_offset', true), ''), '0 s')::interval
$$;
comment on function engine.now() is
  'The engine''s only clock: the transaction''s time, moved by the setting engine.clock_offset in tests of the engine''s own time.';

create function engine.current_tenant() returns uuid
language sql stable parallel safe
as $$
  select nullif(current_setting('app.tenant', true), '')::uuid
$$;
comment on function engine.current_tenant() is
  'The tenant that the transaction speaks for, from set local app.tenant; null sees nothing.';

-- Control tables: not sharded, never joined to another shard's rows by a foreign key.

create table engine.test_clock (
  clock_id uuid primary key,
  now_at timestamptz not null,
  target_at timestamptz,
  constraint test_clock_target_ahead check (target_at is null or target_at >= now_at)
);
comment on table engine.test_clock is 'Clocks that only advance moves; a tenant may be bound to one.';
comment on column engine.test_clock.clock_id is 'Identity.';
comment on column engine.test_clock.now_at is 'The time of every tenant that is bound to the clock.';
comment on column engine.test_clock.target_at is 'Where a running advance is going; null when it is at rest.';

create table engine.tenant (
  tenant_id uuid primary key,
  shard_id smallint not null check (shard_id between 0 and 1023),
  clock_id uuid references engine.test_clock (clock_id)
);
comment on table engine.tenant is 'The directory: where each tenant''s rows live and which clock it follows.';
comment on column engine.tenant.tenant_id is 'Identity.';
comment on column engine.tenant.shard_id is 'The shard of all rows of the tenant, for ever.';
comment on column engine.tenant.clock_id is 'The test clock that the tenant is bound to; null follows real time.';

-- The system tenant owns fleet-wide runs.
insert into engine.tenant (tenant_id, shard_id)
values ('00000000-0000-7000-8000-000000000001', 0);

create table engine.worker (
  worker_id uuid primary key,
  name text not null,
  handles jsonb not null,
  started_at timestamptz not null,
  expires_at timestamptz not null
);
comment on table engine.worker is 'One lease per worker process, renewed while it lives.';
comment on column engine.worker.worker_id is 'Names the lease; a worker that lost its lease comes back under a new one.';
comment on column engine.worker.name is 'Host and process, for people.';
comment on column engine.worker.handles is 'Workflow name to version, for "no handler" and plan-deploy.';
comment on column engine.worker.started_at is 'When the lease was first taken.';
comment on column engine.worker.expires_at is 'When every run that it holds may be taken by others.';

create table engine.lease (
  worker_id uuid not null,
  slot smallint not null,
  primary key (worker_id, slot)
);
comment on table engine.lease is
  'What a committer locks in every write; recovery deletes it first, so a worker that lost its lease writes nothing more.';
comment on column engine.lease.worker_id is 'The worker.';
comment on column engine.lease.slot is 'One row per committer, so that committers of one worker do not wait for each other.';

create table engine.claimed (
  worker_id uuid not null,
  batch bigint not null,
  run_ids uuid[] not null,
  shard_ids smallint[] not null,
  primary key (worker_id, batch),
  constraint claimed_pairs check (cardinality(run_ids) = cardinality(shard_ids))
);
comment on table engine.claimed is 'Which runs a worker may hold, per claim; read only by recovery, and a superset is fine.';
comment on column engine.claimed.worker_id is 'The worker.';
comment on column engine.claimed.batch is 'Counts the worker''s claims.';
comment on column engine.claimed.run_ids is 'The runs of the claim.';
comment on column engine.claimed.shard_ids is 'Their shards, in the same order.';

-- The run: identity, state, epoch. Finished in place, off the hot path because nothing due points at it.

create table engine.run (
  run_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  status smallint not null,
  entered boolean not null,
  nudged boolean not null,
  version integer not null,
  attempt integer not null,
  losses integer not null,
  tenant_id uuid not null,
  worker_id uuid,
  clock_id uuid,
  parent_run_id uuid,
  input_digest uuid not null,
  epoch bigint not null,
  visit bigint not null,
  started_at timestamptz not null,
  changed_at timestamptz not null,
  next_at timestamptz,
  workflow text not null,
  key text not null,
  state text not null,
  data bytea not null,
  deadlines jsonb,
  stuck text,
  error jsonb,
  output bytea,
  primary key (run_id, shard_id),
  constraint run_status_known check (status in (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13)),
  constraint run_held_when_running check ((worker_id is not null) = (status = 1)),
  constraint run_stuck_has_kind check ((stuck is not null) = (status = 8)),
  constraint run_output_when_completed check (output is null or status = 10)
) with (
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_cost_delay = 1
);
-- The key leads: an index that shared a prefix with the primary key was taken by the planner for
-- look-ups by run on tables not yet analysed, and scanned the tenant.
create unique index run_key on engine.run (key, workflow, tenant_id, shard_id);
comment on table engine.run is 'One durable execution of a workflow.';
comment on column engine.run.run_id is 'Identity, a UUIDv7 that carries the shard.';
comment on column engine.run.shard_id is 'The tenant''s shard.';
comment on column engine.run.status is
  'Where the engine has it: 0 due, 1 running, 2 waiting, 3 retrying, 4 undoing, 5 paused, 6 blocked, 7 no handler, 8 stuck; 10 completed, 11 failed, 12 cancelled, 13 terminated.';
comment on column engine.run.entered is 'Whether the state''s "entered" event was handled.';
comment on column engine.run.nudged is 'A signal came in while the run was held: look at the inbox before resting.';
comment on column engine.run.version is 'Version of the workflow that wrote state and data.';
comment on column engine.run.attempt is 'Failed attempts of the current visit.';
comment on column engine.run.losses is 'How often a worker was lost during the current visit.';
comment on column engine.run.tenant_id is 'The owner.';
comment on column engine.run.worker_id is 'The worker that holds it, while running.';
comment on column engine.run.clock_id is 'The owner''s test clock; null follows real time.';
comment on column engine.run.parent_run_id is 'The run that started it and hears of its end.';
comment on column engine.run.input_digest is 'First half of the SHA-256 of the input: tells a repeated start from a conflicting one.';
comment on column engine.run.epoch is 'Raised by each claim, recovery and intervention; the fence on every write.';
comment on column engine.run.visit is 'Counts visits; raising it cuts the journal.';
comment on column engine.run.started_at is 'When it was started, in the tenant''s time.';
comment on column engine.run.changed_at is 'When it last changed, in real time.';
comment on column engine.run.next_at is 'Its earliest deadline in the tenant''s time, or the real time of its next attempt.';
comment on column engine.run.workflow is 'Name of the workflow.';
comment on column engine.run.key is 'The caller''s name for it, unique per tenant and workflow for as long as the run is kept.';
comment on column engine.run.state is 'Name of the state''s variant.';
comment on column engine.run.data is 'The state with its data, as JSON in UTF-8.';
comment on column engine.run.deadlines is 'Named deadlines of the state: [{name, at}].';
comment on column engine.run.stuck is 'Kind of stuck.';
comment on column engine.run.error is 'The last error: {code, message, step}.';
comment on column engine.run.output is 'What a completed run left behind, as JSON in UTF-8.';

create table engine.due (
  run_id uuid not null,
  shard_id smallint not null,
  due_at timestamptz not null,
  tenant_id uuid not null,
  primary key (run_id, shard_id)
) with (
  autovacuum_vacuum_scale_factor = 0.01,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0
);
create index due_at on engine.due (due_at);
comment on table engine.due is 'Runs that want a hand at a real instant: ready, retry and deadline alike. Written by the engine only.';
comment on column engine.due.run_id is 'The run.';
comment on column engine.due.shard_id is 'Its shard.';
comment on column engine.due.due_at is 'The real instant.';
comment on column engine.due.tenant_id is 'The owner, for fair claims.';

create table engine.nudge (
  run_id uuid not null,
  shard_id smallint not null,
  tenant_id uuid not null
) with (
  autovacuum_vacuum_scale_factor = 0.01,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0
);
comment on table engine.nudge is
  'Append-only: "this run has something in its inbox". A door appends here and locks nothing, so a caller''s long transaction stalls nobody.';
comment on column engine.nudge.run_id is 'The run.';
comment on column engine.nudge.shard_id is 'Its shard.';
comment on column engine.nudge.tenant_id is 'The owner.';

create table engine.clocked (
  run_id uuid not null,
  shard_id smallint not null,
  clock_id uuid not null,
  due_at timestamptz not null,
  tenant_id uuid not null,
  primary key (run_id, shard_id)
);
create index clocked_due on engine.clocked (clock_id, due_at);
comment on table engine.clocked is 'Deadlines of tenants on a test clock; they become due when the clock passes them.';
comment on column engine.clocked.run_id is 'The run.';
comment on column engine.clocked.shard_id is 'Its shard.';
comment on column engine.clocked.clock_id is 'The clock.';
comment on column engine.clocked.due_at is 'The instant, in the clock''s time.';
comment on column engine.clocked.tenant_id is 'The owner.';

create table engine.parked (
  run_id uuid not null,
  shard_id smallint not null,
  status smallint not null check (status in (5, 6, 7, 8)),
  tenant_id uuid not null,
  workflow text not null,
  reason text not null,
  since timestamptz not null,
  primary key (run_id, shard_id)
);
create index parked_by_status on engine.parked (status, workflow);
comment on table engine.parked is 'Runs out of the due index that only a human, a handler or free room brings back.';
comment on column engine.parked.run_id is 'The run.';
comment on column engine.parked.shard_id is 'Its shard.';
comment on column engine.parked.status is '5 paused, 6 blocked, 7 no handler, 8 stuck.';
comment on column engine.parked.tenant_id is 'The owner.';
comment on column engine.parked.workflow is 'Its workflow.';
comment on column engine.parked.reason is 'The kind, such as attempts_exhausted.';
comment on column engine.parked.since is 'Since when.';

create table engine.inbox (
  run_id uuid not null,
  shard_id smallint not null,
  kind smallint not null check (kind in (0, 1, 2)),
  outcome smallint check (outcome in (1, 2, 3)),
  received_at timestamptz not null,
  recorded_at timestamptz not null,
  position integer not null,
  tenant_id uuid not null,
  signal_id text not null,
  name text not null,
  reason text,
  payload bytea not null,
  primary key (run_id, shard_id, signal_id),
  constraint inbox_reason_when_refused check (reason is null or outcome in (2, 3))
);
create index inbox_pending on engine.inbox (run_id, shard_id) where outcome is null;
comment on table engine.inbox is 'Messages to runs, each once per run by its id, kept with what became of them.';
comment on column engine.inbox.run_id is 'The receiver.';
comment on column engine.inbox.shard_id is 'Its shard.';
comment on column engine.inbox.kind is '0 signal, 1 a child or watched run finished, 2 cancel.';
comment on column engine.inbox.outcome is 'Null pending, 1 accepted, 2 rejected, 3 late.';
comment on column engine.inbox.received_at is 'When it came, in the tenant''s time: decides whether a deadline or the signal was first.';
comment on column engine.inbox.recorded_at is 'When it came, in real time: the order of handling.';
comment on column engine.inbox.position is 'Order among messages of one transaction.';
comment on column engine.inbox.tenant_id is 'The receiver''s owner.';
comment on column engine.inbox.signal_id is 'The sender''s id; a repeat is ignored.';
comment on column engine.inbox.name is 'Name of the signal''s variant.';
comment on column engine.inbox.reason is 'Why it was rejected or late.';
comment on column engine.inbox.payload is 'The signal, as JSON in UTF-8.';

create table engine.watch (
  run_id uuid not null,
  shard_id smallint not null,
  watcher_run_id uuid not null,
  tenant_id uuid not null,
  primary key (run_id, shard_id, watcher_run_id)
);
comment on table engine.watch is 'Who asked to hear of a run''s end.';
comment on column engine.watch.run_id is 'The run that is watched.';
comment on column engine.watch.shard_id is 'The shard of both.';
comment on column engine.watch.watcher_run_id is 'The run that hears of it.';
comment on column engine.watch.tenant_id is 'The owner of both.';

create table engine.step (
  run_id uuid not null,
  shard_id smallint not null,
  seq integer not null,
  visit bigint not null,
  recorded_at timestamptz not null,
  version integer not null,
  failed boolean not null,
  name text not null,
  event text,
  answer bytea not null,
  primary key (run_id, shard_id, visit, seq, recorded_at)
) partition by range (recorded_at);
comment on table engine.step is 'The journal: answered steps. Rows of the current visit are replayed; older ones age out as the log.';
comment on column engine.step.run_id is 'The run.';
comment on column engine.step.shard_id is 'Its shard.';
comment on column engine.step.seq is 'Order within the visit.';
comment on column engine.step.visit is 'The visit that asked for it.';
comment on column engine.step.recorded_at is 'When it was recorded, in real time.';
comment on column engine.step.version is 'Version of the workflow that asked for it.';
comment on column engine.step.failed is 'Whether the answer is an error that the handler was given.';
comment on column engine.step.name is 'The step''s name; a contract with stored rows.';
comment on column engine.step.event is 'On a visit''s first step: the event that the visit is for, so that a retry answers the same one.';
comment on column engine.step.answer is 'Its answer, as JSON in UTF-8.';

create table engine.transition (
  run_id uuid not null,
  shard_id smallint not null,
  visit bigint not null,
  at timestamptz not null,
  tenant_id uuid not null,
  event text not null,
  from_state text not null,
  to_state text not null,
  outcome text not null,
  tenant_at timestamptz,
  detail text
) partition by range (at);
create index transition_by_run on engine.transition (run_id, shard_id, at);
comment on table engine.transition is 'The log of visits, for people. Execution never reads it.';
comment on column engine.transition.run_id is 'The run.';
comment on column engine.transition.shard_id is 'Its shard.';
comment on column engine.transition.visit is 'The visit.';
comment on column engine.transition.at is 'When it was settled, in real time.';
comment on column engine.transition.tenant_id is 'The owner.';
comment on column engine.transition.event is 'What the visit was for, such as "entered" or "deadline renewal".';
comment on column engine.transition.from_state is 'The state before.';
comment on column engine.transition.to_state is 'The state after.';
comment on column engine.transition.outcome is 'went, stayed, completed, failed, cancelled, retrying, stuck, no handler.';
comment on column engine.transition.tenant_at is 'When, in the tenant''s time, where that differs.';
comment on column engine.transition.detail is 'The error of a failed attempt, in words.';

create table engine.audit (
  audit_id uuid not null,
  shard_id smallint not null,
  run_id uuid not null,
  tenant_id uuid not null,
  at timestamptz not null,
  actor text not null,
  role text not null,
  action text not null,
  reason text not null check (length(reason) between 1 and 2000),
  epoch_seen bigint not null,
  before jsonb not null,
  after jsonb not null,
  primary key (audit_id, shard_id)
);
create index audit_by_run on engine.audit (run_id, shard_id, at);
comment on table engine.audit is 'What humans did to runs, and why.';
comment on column engine.audit.audit_id is 'Identity.';
comment on column engine.audit.shard_id is 'The run''s shard.';
comment on column engine.audit.run_id is 'The run.';
comment on column engine.audit.tenant_id is 'Its owner.';
comment on column engine.audit.at is 'When, in real time.';
comment on column engine.audit.actor is 'Who, from the token.';
comment on column engine.audit.role is 'In which role.';
comment on column engine.audit.action is 'The verb.';
comment on column engine.audit.reason is 'Why, in the actor''s words.';
comment on column engine.audit.epoch_seen is 'The revision that the actor saw.';
comment on column engine.audit.before is 'Status, state and revision before.';
comment on column engine.audit.after is 'Status, state and revision after.';

-- Partitions of the logs, one a month. Upkeep calls this ahead of time; the default partition
-- catches what a stopped upkeep would miss.

create function engine.ensure_partitions(around timestamptz) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  month date;
  parent text;
begin
  for month in
    select generate_series(date_trunc('month', around), date_trunc('month', around) + interval '2 months', interval '1 month')
  loop
    foreach parent in array array['step', 'transition'] loop
      execute format(
        'create table if not exists engine.%I partition of engine.%I for values from (%L) to (%L)',
        parent || '_' || to_char(month, 'YYYYMM'), parent, month, month + interval '1 month');
    end loop;
  end loop;
end
$$;
comment on function engine.ensure_partitions(timestamptz) is
  'Makes the partitions of the logs for the month of the argument and the two after it.';

select engine.ensure_partitions(now());
create table engine.step_default partition of engine.step default;
create table engine.transition_default partition of engine.transition default;

-- What humans read of a run; the one list of its columns.

create view engine.run_summary with (security_invoker = true) as
select
  run.run_id,
  run.shard_id,
  run.tenant_id,
  run.workflow,
  run.key,
  run.version,
  run.status,
  run.state,
  run.epoch,
  run.visit,
  run.attempt,
  run.next_at,
  run.stuck,
  run.error,
  run.started_at,
  run.changed_at,
  run.parent_run_id,
  run.clock_id,
  run.worker_id
from engine.run;
comment on view engine.run_summary is 'A run as lists show it.';

-- Rights. tenure_engine works for all tenants; tenure_tenant sees and appends only its own rows.

do $$
declare
  name text;
begin
  foreach name in array array[
    'run', 'due', 'nudge', 'clocked', 'parked', 'inbox', 'watch', 'transition', 'audit'
  ] loop
    execute format('alter table engine.%I enable row level security', name);
    execute format('alter table engine.%I force row level security', name);
    execute format('create policy engine_all on engine.%I to tenure_engine using (true) with check (true)', name);
    execute format(
      'create policy tenant_own on engine.%I to tenure_tenant using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant())',
      name);
  end loop;
end
$$;
alter table engine.step enable row level security;
alter table engine.step force row level security;
create policy engine_all on engine.step to tenure_engine using (true) with check (true);
create policy tenant_own on engine.step for select to tenure_tenant
  using (exists (
    select from engine.run
    where run.run_id = step.run_id and run.shard_id = step.shard_id
  ));
alter table engine.tenant enable row level security;
alter table engine.tenant force row level security;
create policy engine_all on engine.tenant to tenure_engine using (true) with check (true);
create policy control_all on engine.tenant to tenure_control using (true) with check (true);
create policy tenant_own on engine.tenant for select to tenure_tenant
  using (tenant_id = engine.current_tenant());

grant select, insert, update, delete on all tables in schema engine to tenure_engine;
grant select on engine.run, engine.run_summary, engine.due, engine.clocked, engine.parked,
  engine.inbox, engine.step, engine.transition, engine.audit, engine.tenant, engine.test_clock,
  engine.worker
  to tenure_tenant;
grant insert on engine.run, engine.due, engine.nudge, engine.inbox to tenure_tenant;
grant select, insert on engine.tenant, engine.test_clock to tenure_control;
