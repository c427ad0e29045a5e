-- What is decided at doors of its own: signals that carry authority, which SQL refuses; and archives
-- of a deleted tenant that the law keeps.

create table engine.own_door (
  workflow text not null,
  signal text not null,
  door text not null,
  primary key (workflow, signal)
);
comment on table engine.own_door is 'What workflows decide at doors of their own, as their code declares it: engine.start_run and engine.send_signal refuse it. Workers write it when they begin.';
comment on column engine.own_door.workflow is 'The workflow.';
comment on column engine.own_door.signal is 'The signal''s name; empty for the start of a run.';
comment on column engine.own_door.door is 'Where it is decided, for people.';
grant select, insert, update on engine.own_door to tenure_engine;

create or replace function engine.start_run(tenant_id uuid, workflow text, key text, input jsonb default 'null')
returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  home engine.tenant%rowtype;
  made uuid;
  data bytea := convert_to(engine.canonical_json(coalesce(start_run.input, 'null')), 'UTF8');
  digest uuid := encode(substr(sha256(data), 1, 16), 'hex')::uuid;
  holder record;
  guarded text := (select own_door.door from engine.own_door
    where own_door.workflow = start_run.workflow and own_door.signal = '');
begin
  if guarded is not null then
    raise exception 'a run of workflow % comes only through %', quote_literal(start_run.workflow), guarded
      using errcode = 'insufficient_privilege';
  end if;
  if octet_length(start_run.key) not between 1 and 255 or start_run.key is null then
    raise exception 'a key has 1 to 255 bytes' using errcode = 'check_violation';
  end if;
  if octet_length(start_run.workflow) not between 1 and 255 or start_run.workflow is null then
    raise exception 'a workflow''s name has 1 to 255 bytes' using errcode = 'check_violation';
  end if;
  if octet_length(data) > 1048576 then
    raise exception 'the input has % bytes; the limit is 1048576', octet_length(data)
      using errcode = 'program_limit_exceeded';
  end if;
  select * into home from engine.tenant where tenant.tenant_id = start_run.tenant_id;
  if not found then
    raise exception 'no tenant % is registered', start_run.tenant_id using errcode = 'no_data_found';
  end if;
  if home.closing_since is not null then
    raise exception 'tenant % is being deleted; nothing new is started for it', start_run.tenant_id
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  -- A holder that retention drops between the two statements leaves the key free: once more.
  for round in 1..3 loop
    made := engine.new_id(home.shard_id);
    insert into engine.run
      (run_id, shard_id, status, entered, nudged, version, attempt, losses, tenant_id, clock_id,
       input_digest, epoch, visit, started_at, changed_at, workflow, key, state, data)
    select
      made, home.shard_id, 0, false, false, 0, 0, 0, home.tenant_id, home.clock_id, digest, 0, 0,
      coalesce((select now_at from engine.test_clock where clock_id = home.clock_id), engine.now()),
      engine.now(), start_run.workflow, start_run.key, 'starting', data
    on conflict (key, workflow, tenant_id, shard_id) do nothing;
    if found then
      insert into engine.due (run_id, shard_id, due_at, tenant_id)
      values (made, home.shard_id, engine.now(), home.tenant_id);
      return made;
    end if;
    select run.run_id, run.input_digest into holder
    from engine.run
    where run.key = start_run.key
      and run.workflow = start_run.workflow
      and run.tenant_id = home.tenant_id
      and run.shard_id = home.shard_id;
    if found and holder.input_digest <> digest then
      raise exception 'the key % belongs to run %, which was started with another input',
        quote_literal(start_run.key), holder.run_id using errcode = 'unique_violation';
    end if;
    if found then
      return holder.run_id;
    end if;
  end loop;
  raise exception 'the key % changes hands; start again', quote_literal(start_run.key)
    using errcode = 'serialization_failure';
end
$$;

create or replace function engine.send_signal(tenant_id uuid, run_id uuid, signal_id text, signal jsonb)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  receiver record;
  guarded text;
  payload bytea := convert_to(engine.canonical_json(coalesce(send_signal.signal, 'null')), 'UTF8');
  name text := case jsonb_typeof(send_signal.signal)
    when 'string' then send_signal.signal #>> '{}'
    when 'object' then (select min(member) from jsonb_object_keys(send_signal.signal) as member)
  end;
begin
  if octet_length(send_signal.signal_id) not between 1 and 255 or send_signal.signal_id is null then
    raise exception 'a signal''s id has 1 to 255 bytes' using errcode = 'check_violation';
  end if;
  if coalesce(name, '') = '' then
    raise exception 'a signal is a name, or an object with one member of that name'
      using errcode = 'check_violation';
  end if;
  if octet_length(payload) > 1048576 then
    raise exception 'the signal has % bytes; the limit is 1048576', octet_length(payload)
      using errcode = 'program_limit_exceeded';
  end if;
  select run.shard_id, run.clock_id, run.status, run.workflow into receiver
  from engine.run
  join engine.tenant on tenant.tenant_id = run.tenant_id and tenant.shard_id = run.shard_id
  where run.run_id = send_signal.run_id
    and run.tenant_id = send_signal.tenant_id;
  if not found then
    raise exception 'no run % of tenant % exists', send_signal.run_id, send_signal.tenant_id
      using errcode = 'no_data_found';
  end if;
  select own_door.door into guarded
  from engine.own_door
  where own_door.workflow = receiver.workflow
    and own_door.signal = name;
  if found then
    raise exception 'signal % of workflow % comes only through %',
      name, quote_literal(receiver.workflow), guarded using errcode = 'insufficient_privilege';
  end if;
  -- Kept with a run that has ended, as long as that is kept.
  if receiver.status >= 10
    and not engine.keep_run(send_signal.run_id, receiver.shard_id, send_signal.tenant_id) then
    raise exception 'no run % of tenant % exists', send_signal.run_id, send_signal.tenant_id
      using errcode = 'no_data_found';
  end if;
  insert into engine.inbox
    (run_id, shard_id, kind, received_at, recorded_at, position, tenant_id, signal_id, name, payload)
  select
    send_signal.run_id, receiver.shard_id, 0,
    coalesce((select now_at from engine.test_clock where clock_id = receiver.clock_id), engine.now()),
    engine.now(), 0, send_signal.tenant_id, send_signal.signal_id, name, payload
  on conflict (run_id, shard_id, signal_id) do nothing;
  if not found then
    return 'repeated';
  end if;
  if receiver.status >= 10 then
    return 'late';
  end if;
  insert into engine.nudge (run_id, shard_id, tenant_id)
  values (send_signal.run_id, receiver.shard_id, send_signal.tenant_id);
  return 'accepted';
end
$$;

alter table app.data_archive
  add column law_basis text check (length(law_basis) between 1 and 2000),
  add column law_until timestamptz,
  add constraint data_archive_kept_whole check (law_until is null or law_basis is not null);
comment on column app.data_archive.law_basis is 'The law for which it outlives its tenant, which was deleted; null while the tenant is there.';
comment on column app.data_archive.law_until is 'Until when that law wants it, in real time: then it is destroyed. Null where the law named no end.';

alter table app.deletion_unit add column place integer check (place > 0);
comment on column app.deletion_unit.place is 'Its turn among those that are open, from 1; by seq where a plan was never made.';
-- A plan that is made anew drops the steps that have not begun.
grant delete on app.deletion_unit to tenure_control;
