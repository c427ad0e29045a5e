-- Flow control: limits, breakers, pauses of more than one run, and the runs that wait at them.
--
-- Control tables: not sharded. A run that waits here is *blocked*: it has no row in engine.due, and
-- a row in engine.nudge wakes it when there is room.

create table engine.flow_limit (
  name text primary key,
  concurrency integer,
  rate integer,
  period_seconds integer,
  burst integer,
  changed_at timestamptz not null,
  changed_by text,
  reason text,
  constraint flow_limit_name check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  constraint flow_limit_concurrency check (concurrency >= 0),
  constraint flow_limit_rate check (rate > 0 and period_seconds > 0 and burst > 0),
  constraint flow_limit_rate_whole check (
    (rate is null) = (period_seconds is null) and (rate is null) = (burst is null)),
  constraint flow_limit_author check ((changed_by is null) = (reason is null))
);
comment on table engine.flow_limit is 'Named bounds on visits; its row is locked by whoever gives or takes room.';
comment on column engine.flow_limit.name is 'What workflows call it.';
comment on column engine.flow_limit.concurrency is 'Visits in flight at once, per key; null does not bound them.';
comment on column engine.flow_limit.rate is 'Visits that may begin per period, per key; null does not bound them.';
comment on column engine.flow_limit.period_seconds is 'The period of the rate.';
comment on column engine.flow_limit.burst is 'The most tokens that a bucket saves up.';
comment on column engine.flow_limit.changed_at is 'When the numbers were last set.';
comment on column engine.flow_limit.changed_by is 'The operator who set them; null when they are the code''s.';
comment on column engine.flow_limit.reason is 'Why, in the operator''s words.';

create table engine.bucket (
  name text not null,
  key text not null,
  tokens double precision not null,
  refilled_at timestamptz not null,
  wake_at timestamptz,
  primary key (name, key)
);
create index bucket_wake on engine.bucket (wake_at) where wake_at is not null;
comment on table engine.bucket is 'The tokens of a rate, per key, as of the last look.';
comment on column engine.bucket.name is 'The limit.';
comment on column engine.bucket.key is 'Whose count; empty for the one that all share.';
comment on column engine.bucket.tokens is 'Tokens at refilled_at.';
comment on column engine.bucket.refilled_at is 'When tokens were last added, in real time.';
comment on column engine.bucket.wake_at is 'When there is a token for the first that waits; null when nobody does.';

create table engine.permit (
  name text not null,
  key text not null,
  run_id uuid not null,
  shard_id smallint not null,
  epoch bigint,
  granted_at timestamptz not null,
  primary key (name, key, run_id, shard_id)
);
create index permit_by_run on engine.permit (run_id);
comment on table engine.permit is 'Room that a run has: from the grant to the end of its visit.';
comment on column engine.permit.name is 'The limit.';
comment on column engine.permit.key is 'Whose count.';
comment on column engine.permit.run_id is 'The run.';
comment on column engine.permit.shard_id is 'Its shard.';
comment on column engine.permit.epoch is 'The hold under which the visit runs; null while it is reserved for a run that has been woken.';
comment on column engine.permit.granted_at is 'When, in real time.';

create table engine.waiter (
  run_id uuid not null,
  shard_id smallint not null,
  tenant_id uuid not null,
  gate text not null,
  name text not null,
  key text not null,
  since timestamptz not null,
  primary key (run_id, shard_id),
  constraint waiter_gate_known check (gate in ('limit', 'breaker', 'pause'))
);
create index waiter_in_order on engine.waiter (gate, name, key, since, run_id);
comment on table engine.waiter is 'Blocked runs, and what each waits for.';
comment on column engine.waiter.run_id is 'The run.';
comment on column engine.waiter.shard_id is 'Its shard.';
comment on column engine.waiter.tenant_id is 'Its owner.';
comment on column engine.waiter.gate is 'limit, breaker or pause.';
comment on column engine.waiter.name is 'The limit, the dependency, or the scope of the pause.';
comment on column engine.waiter.key is 'Whose count; for a pause, what of the scope is paused.';
comment on column engine.waiter.since is 'Since when, in real time: the order of waking.';

create table engine.pause (
  scope text not null,
  name text not null,
  since timestamptz not null,
  paused_by text not null,
  reason text not null check (length(reason) between 1 and 2000),
  primary key (scope, name),
  constraint pause_scope_known check (scope in ('workflow', 'queue', 'tenant'))
);
comment on table engine.pause is 'Pauses of more than one run: what becomes due under one is blocked until it is lifted.';
comment on column engine.pause.scope is 'workflow, queue or tenant.';
comment on column engine.pause.name is 'Name of the workflow or queue, or id of the tenant.';
comment on column engine.pause.since is 'When, in real time.';
comment on column engine.pause.paused_by is 'Who, from the token.';
comment on column engine.pause.reason is 'Why, in the actor''s words.';

create table engine.breaker (
  name text primary key,
  state text not null,
  forced boolean not null,
  trips integer not null,
  changed_at timestamptz not null,
  probe_at timestamptz,
  changed_by text,
  reason text not null,
  constraint breaker_state_known check (state in ('closed', 'open', 'probing')),
  constraint breaker_probe check ((probe_at is not null) = (state <> 'closed' and not forced))
);
comment on table engine.breaker is 'Outside dependencies that failed; one without a row never did.';
comment on column engine.breaker.name is 'The dependency, as steps name it.';
comment on column engine.breaker.state is 'closed lets all through, open nobody, probing one.';
comment on column engine.breaker.forced is 'An operator holds it open: no probe closes it.';
comment on column engine.breaker.trips is 'How often it opened since it was last closed: each makes the wait longer.';
comment on column engine.breaker.changed_at is 'Since when it is in this state, in real time.';
comment on column engine.breaker.probe_at is 'When the next run may try; while probing, when the probe counts as lost.';
comment on column engine.breaker.changed_by is 'The operator who set it; null when steps did.';
comment on column engine.breaker.reason is 'The last error, or the operator''s words.';

create table engine.control_audit (
  act_id uuid primary key,
  at timestamptz not null,
  actor text not null,
  role text not null,
  action text not null,
  subject text not null,
  reason text not null check (length(reason) between 1 and 2000),
  before jsonb not null,
  after jsonb not null
);
create index control_audit_at on engine.control_audit (at);
comment on table engine.control_audit is 'What humans did to what is not one run''s, and why.';
comment on column engine.control_audit.act_id is 'Identity.';
comment on column engine.control_audit.at is 'When, in real time.';
comment on column engine.control_audit.actor is 'Who, from the token.';
comment on column engine.control_audit.role is 'In which role.';
comment on column engine.control_audit.action is 'The verb, such as "set limit".';
comment on column engine.control_audit.subject is 'What it was done to.';
comment on column engine.control_audit.reason is 'Why, in the actor''s words.';
comment on column engine.control_audit.before is 'How it stood before.';
comment on column engine.control_audit.after is 'How it stands after.';
grant select, insert on engine.control_audit to tenure_engine;

grant select, insert, update, delete
  on engine.flow_limit, engine.bucket, engine.permit, engine.waiter, engine.pause, engine.breaker
  to tenure_engine;

alter table engine.permit enable row level security;
alter table engine.permit force row level security;
create policy engine_all on engine.permit to tenure_engine using (true) with check (true);

-- A tenant sees what its own runs wait for, and how many of all tenants' are ahead.
alter table engine.waiter enable row level security;
alter table engine.waiter force row level security;
create policy engine_all on engine.waiter to tenure_engine using (true) with check (true);
create policy tenant_own on engine.waiter for select to tenure_tenant
  using (tenant_id = engine.current_tenant());
grant select on engine.waiter, engine.flow_limit, engine.breaker, engine.pause to tenure_tenant;

create function engine.waiters_ahead(waiting_run_id uuid) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select count(*)
  from engine.waiter as mine
  join engine.waiter as other
    on other.gate = mine.gate
    and other.name = mine.name
    and other.key = mine.key
    and (other.since, other.run_id) < (mine.since, mine.run_id)
  where mine.run_id = waiting_run_id
$$;
comment on function engine.waiters_ahead(uuid) is 'How many runs are woken before the given one.';
revoke execute on function engine.waiters_ahead(uuid) from public;
grant execute on function engine.waiters_ahead(uuid) to tenure_engine, tenure_tenant;
