create or replace function engine.send_signal(tenant_id uuid, run_id uuid, signal_id text, signal jsonb)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  receiver record;
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
  select run.shard_id, run.clock_id, run.status into receiver
  from engine.run
  join engine.tenant on tenant.tenant_id = run.tenant_id and tenant.shard_id = run.shard_id
  where run.run_id = send_signal.run_id
    and run.tenant_id = send_signal.tenant_id;
  if not found then
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

drop function engine.keep_run(uuid, smallint, uuid);
