-- Schedules: cron entries whose slots become runs, once each.

create table engine.schedule (
  schedule_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  clock_id uuid,
  paused boolean not null,
  jitter_seconds integer not null check (jitter_seconds between 0 and 86400),
  revision bigint not null check (revision > 0),
  next_slot timestamptz,
  look_at timestamptz,
  created_at timestamptz not null,
  changed_at timestamptz not null,
  name text not null check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
  workflow text not null,
  cron text not null,
  zone text not null,
  overlap text not null check (overlap in ('skip', 'queue', 'allow', 'replace')),
  catch_up text not null check (catch_up in ('none', 'one', 'all')),
  input bytea not null,
  primary key (schedule_id, shard_id),
  constraint schedule_rests_while_paused check (not paused or (next_slot is null and look_at is null))
) with (
  fillfactor = 80,
  autovacuum_vacuum_scale_factor = 0.02
);
create unique index schedule_name on engine.schedule (name, tenant_id, shard_id);
create index schedule_look on engine.schedule (look_at) where look_at is not null;
create index schedule_clocked on engine.schedule (clock_id, next_slot) where clock_id is not null;
comment on table engine.schedule is 'Cron entries: at each slot a run of a workflow starts.';
comment on column engine.schedule.schedule_id is 'Identity, a UUIDv7 that carries the shard.';
comment on column engine.schedule.shard_id is 'The tenant''s shard.';
comment on column engine.schedule.tenant_id is 'The owner of the schedule and of its runs.';
comment on column engine.schedule.clock_id is 'The owner''s test clock; null follows real time.';
comment on column engine.schedule.paused is 'Whether an operator has paused it: no slot comes about meanwhile.';
comment on column engine.schedule.jitter_seconds is 'Up to how long after its slot a run becomes due; the slot itself does not move.';
comment on column engine.schedule.revision is 'Raised by each act of a human; an act on a revision that has moved on is refused.';
comment on column engine.schedule.next_slot is 'The first slot that nothing was decided on yet, in the tenant''s time; null when paused or when none follows.';
comment on column engine.schedule.look_at is 'The real instant at which a worker next looks at it; null when none is known.';
comment on column engine.schedule.created_at is 'When it was made, in real time.';
comment on column engine.schedule.changed_at is 'When a human last changed it, in real time.';
comment on column engine.schedule.name is 'The owner''s name for it, unique per tenant; part of the keys of its runs.';
comment on column engine.schedule.workflow is 'Name of the workflow that it starts.';
comment on column engine.schedule.cron is 'Five fields: minute, hour, day of month, month, day of week.';
comment on column engine.schedule.zone is 'The IANA zone in which the cron expression is read.';
comment on column engine.schedule.overlap is 'What a slot does while an earlier run has not ended: skip, queue, allow, replace.';
comment on column engine.schedule.catch_up is 'Which of the slots that nobody was there for are made up: none, one (the latest), all.';
comment on column engine.schedule.input is 'The input of each run, as JSON in UTF-8.';

create table engine.slot (
  schedule_id uuid not null,
  shard_id smallint not null,
  tenant_id uuid not null,
  outcome smallint not null check (outcome in (1, 2, 3)),
  open boolean not null,
  slot timestamptz not null,
  until timestamptz,
  decided_at timestamptz not null,
  run_id uuid,
  key text not null,
  reason text,
  primary key (schedule_id, shard_id, key),
  constraint slot_run_when_started check ((run_id is not null) = (outcome = 1)),
  constraint slot_reason_when_skipped check ((reason is not null) = (outcome = 3)),
  constraint slot_open_has_an_end check (not open or outcome in (1, 2)),
  constraint slot_queued_is_open check (outcome <> 2 or open),
  constraint slot_stretch_when_skipped check (until is null or (outcome = 3 and until > slot))
);
create index slot_by_time on engine.slot (schedule_id, shard_id, slot);
create index slot_open on engine.slot (schedule_id, shard_id) where open;
comment on table engine.slot is 'What became of each slot of a schedule.';
comment on column engine.slot.schedule_id is 'The schedule.';
comment on column engine.slot.shard_id is 'The schedule''s shard.';
comment on column engine.slot.tenant_id is 'The owner.';
comment on column engine.slot.outcome is '1 started, 2 queued until the earlier run ends, 3 skipped.';
comment on column engine.slot.open is 'Queued, or started and not known to have ended: what the overlap policy looks at.';
comment on column engine.slot.slot is 'The instant, in the tenant''s time; of a stretch of skipped slots, the first.';
comment on column engine.slot.until is 'The last slot of a stretch that was skipped as one.';
comment on column engine.slot.decided_at is 'When, in real time.';
comment on column engine.slot.run_id is 'The run that it started.';
comment on column engine.slot.key is 'The key of its run; unique, so a slot comes about once.';
comment on column engine.slot.reason is 'Why it was skipped.';

-- Acts on schedules are audited beside acts on runs, under the schedule's id.
comment on column engine.audit.run_id is 'The run; for actions named "schedule …" the schedule. Ids of the two never meet.';
comment on column engine.audit.shard_id is 'The shard of the run or schedule.';

do $$
declare
  name text;
begin
  foreach name in array array['schedule', 'slot'] loop
    execute format('alter table engine.%I enable row level security', name);
    execute format('alter table engine.%I force row level security', name);
    execute format('create policy engine_all on engine.%I to tenure_engine using (true) with check (true)', name);
    execute format(
      'create policy tenant_own on engine.%I for select to tenure_tenant using (tenant_id = engine.current_tenant())',
      name);
  end loop;
end
$$;
grant select, insert, update, delete on engine.schedule, engine.slot to tenure_engine;
grant select on engine.schedule, engine.slot to tenure_tenant;
