-- Retention: how long finished runs are kept, who must not be forgotten, and where the sweep stands.
--
-- Nothing of it touches the hot path: no column and no index is added to engine.run.

create table engine.retention (
  workflow text primary key,
  keep_days integer check (keep_days between 0 and 36500),
  action text not null check (action in ('keep', 'drop', 'archive')),
  changed_at timestamptz not null,
  changed_by text not null,
  reason text not null,
  constraint retention_days_unless_kept check ((keep_days is null) = (action = 'keep'))
);
comment on table engine.retention is 'What operators decided on the runs of a workflow, over what its code declares.';
comment on column engine.retention.workflow is 'The workflow.';
comment on column engine.retention.keep_days is 'Days for which a run is kept after its end; null keeps it for ever.';
comment on column engine.retention.action is 'What becomes of it then: keep, drop, archive (and drop).';
comment on column engine.retention.changed_at is 'When it was decided, in real time.';
comment on column engine.retention.changed_by is 'Who decided it.';
comment on column engine.retention.reason is 'Why, in their words.';

create table engine.legal_hold (
  hold_id uuid not null,
  shard_id smallint not null,
  tenant_id uuid not null,
  run_id uuid,
  since timestamptz not null,
  author text not null,
  reason text not null,
  primary key (hold_id, shard_id)
);
create unique index legal_hold_scope on engine.legal_hold (tenant_id, run_id, shard_id) nulls not distinct;
comment on table engine.legal_hold is 'What must not be dropped, whatever retention says.';
comment on column engine.legal_hold.hold_id is 'Identity.';
comment on column engine.legal_hold.shard_id is 'The tenant''s shard.';
comment on column engine.legal_hold.tenant_id is 'The tenant.';
comment on column engine.legal_hold.run_id is 'The run; null holds all runs of the tenant.';
comment on column engine.legal_hold.since is 'Since when, in real time.';
comment on column engine.legal_hold.author is 'Who placed it.';
comment on column engine.legal_hold.reason is 'Why, in their words.';
alter table engine.legal_hold enable row level security;
alter table engine.legal_hold force row level security;
create policy engine_all on engine.legal_hold to tenure_engine using (true) with check (true);
create policy tenant_own on engine.legal_hold for select to tenure_tenant
  using (tenant_id = engine.current_tenant());

create table engine.sweep (
  name text primary key,
  holder uuid,
  until timestamptz,
  next_at timestamptz not null,
  after_run uuid not null,
  months date[] not null,
  batch_id uuid,
  batch_runs uuid[],
  batch_shards smallint[],
  constraint sweep_holder_until check ((holder is null) = (until is null)),
  constraint sweep_batch_whole check (
    (batch_id is null) = (batch_runs is null) and (batch_id is null) = (batch_shards is null)),
  constraint sweep_batch_pairs check (cardinality(batch_runs) = cardinality(batch_shards))
);
comment on table engine.sweep is 'Where the sweep over all runs stands. Its row is locked by whoever drops something, and by whoever decides what must stay.';
comment on column engine.sweep.name is 'retention.';
comment on column engine.sweep.holder is 'Whose turn it is.';
comment on column engine.sweep.until is 'When another may take the turn.';
comment on column engine.sweep.next_at is 'When the next pass may begin.';
comment on column engine.sweep.after_run is 'The last run that this pass has looked at.';
comment on column engine.sweep.months is 'Months whose logs must stay: an open visit or a legal hold was met in them.';
comment on column engine.sweep.batch_id is 'The archive file that is being written.';
comment on column engine.sweep.batch_runs is 'Its runs.';
comment on column engine.sweep.batch_shards is 'Their shards, in the same order.';
insert into engine.sweep (name, next_at, after_run, months)
values ('retention', '-infinity', '00000000-0000-0000-0000-000000000000', '{}');

grant select, insert, update, delete on engine.retention, engine.legal_hold, engine.sweep to tenure_engine;
grant select on engine.legal_hold to tenure_tenant;

-- Humans act seldom, so an index more costs nothing here.
create index audit_by_time on engine.audit (at);
comment on column engine.audit.run_id is
  'The run; for actions named "schedule …" the schedule, for holds on a tenant and for policies the tenant. Ids of these never meet.';

-- What was written while nobody made partitions lies in the default one, and keeps the partition of
-- its month from being made. The months after it are made all the same.
create or replace function engine.ensure_partitions(around timestamptz) returns void
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
      begin
        execute format(
          'create table if not exists engine.%I partition of engine.%I for values from (%L) to (%L)',
          parent || '_' || to_char(month, 'YYYYMM'), parent, month, month + interval '1 month');
      exception when check_violation then
        null;
      end;
    end loop;
  end loop;
end
$$;

-- A partition's parent is locked for the moment of the drop; rather than let writers queue behind a
-- long reader, the attempt gives up and is made again at the next look.
create function engine.drop_log_partition(before date, kept date[]) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC' set lock_timeout = '250ms'
as $$
declare
  victim text;
begin
  select child.relname into victim
  from pg_inherits
  join pg_class child on child.oid = pg_inherits.inhrelid
  where pg_inherits.inhparent in ('engine.step'::regclass, 'engine.transition'::regclass)
    and child.relname ~ '^(step|transition)_[0-9]{6}$'
    and to_date(right(child.relname, 6), 'YYYYMM') + interval '1 month' <= drop_log_partition.before
    and to_date(right(child.relname, 6), 'YYYYMM') <> all (drop_log_partition.kept)
  order by right(child.relname, 6), child.relname
  limit 1;
  if victim is not null then
    execute format('drop table engine.%I', victim);
    return victim;
  end if;
  delete from engine.step_default
  where ctid in (
    select ctid
    from engine.step_default
    where recorded_at < drop_log_partition.before
      and date_trunc('month', recorded_at)::date <> all (drop_log_partition.kept)
    limit 10000);
  if found then
    return 'step_default';
  end if;
  delete from engine.transition_default
  where ctid in (
    select ctid
    from engine.transition_default
    where at < drop_log_partition.before
      and date_trunc('month', at)::date <> all (drop_log_partition.kept)
    limit 10000);
  if found then
    return 'transition_default';
  end if;
  return null;
end
$$;
comment on function engine.drop_log_partition(date, date[]) is
  'Drops the oldest partition of the logs that ends by a date and is not of a month to keep, or some such rows of a default partition; returns its name, or null when there is none.';
revoke all on function engine.drop_log_partition(date, date[]) from public;
grant execute on function engine.drop_log_partition(date, date[]) to tenure_engine;
