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
begin
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
revoke delete on app.backfill_range, app.product_migration_place from tenure_control;
drop policy control_erase on app.backfill_range;
revoke select (method_id) on app.payment from tenure_control;
do $$
declare
  name text;
begin
  foreach name in array array[
    'customer', 'payment', 'notice', 'subscription', 'subscription_item', 'subscription_intent',
    'invoice_series', 'invoice', 'invoice_line', 'debt', 'hold', 'dunning_exemption', 'tenant_tax',
    'credit_series', 'credit_note', 'credit_note_line', 'credit_balance', 'credit_entry', 'refund',
    'dispute', 'entitlement_override', 'usage', 'data_hold', 'keeping_turn', 'data_archive', 'data_export',
    'data_part'
  ] loop
    execute format('drop policy control_erase on app.%I', name);
    execute format('revoke update, delete on app.%I from tenure_control', name);
    if name in ('customer', 'payment', 'notice') then
      execute format('revoke select (ctid) on app.%I from tenure_control', name);
    else
      execute format('revoke select on app.%I from tenure_control', name);
    end if;
  end loop;
end
$$;
revoke delete on app.webhook_event from tenure_control;
revoke update (before, after) on engine.control_audit from tenure_engine;
drop table app.deletion_record;
drop table app.deletion_unit;
drop table app.deletion;
alter table engine.tenant drop column closing_since;
