-- The deletion of a tenant: what becomes of it stands with the system tenant, so that it does not
-- erase itself.

alter table engine.tenant add column closing_since timestamptz;
comment on column engine.tenant.closing_since is
  'Since when it is being deleted: nothing new is started for it from outside. Null while it is open.';

create table app.deletion (
  deletion_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  subject_id uuid not null,
  run_id uuid not null,
  state text not null check (state in (
    'requested', 'verified', 'cooling_off', 'held', 'ending', 'exporting', 'ready', 'erasing',
    'third_parties', 'verifying', 'certified', 'failed_step', 'cancelled')),
  detail text,
  reason text not null check (length(reason) between 1 and 2000),
  requested_by text not null,
  requested_at timestamptz not null,
  due_at timestamptz not null,
  cooling_off_days integer not null check (cooling_off_days between 0 and 30),
  backup_days integer not null check (backup_days between 0 and 3650),
  approved_by text,
  approved_at timestamptz,
  cools_until timestamptz,
  final_at timestamptz,
  ended_at timestamptz,
  alerts integer not null check (alerts between 0 and 2),
  known jsonb,
  export_id uuid,
  certificate jsonb,
  primary key (deletion_id, shard_id),
  constraint deletion_two_people check (approved_by <> requested_by),
  constraint deletion_approved_whole check ((approved_by is null) = (approved_at is null)),
  constraint deletion_ended_when_over check ((ended_at is not null) = (state in ('certified', 'cancelled'))),
  constraint deletion_certificate_when_certified check ((certificate is not null) = (state = 'certified')),
  constraint deletion_forgets_when_over check (ended_at is null or known is null)
);
create unique index deletion_once on app.deletion (subject_id, shard_id) where ended_at is null or state = 'certified';
comment on table app.deletion is
  'The deletion of a tenant, its row mirrored from its run. It belongs to the system tenant, as the certificate does.';
comment on column app.deletion.deletion_id is 'Identity.';
comment on column app.deletion.shard_id is 'The system tenant''s shard.';
comment on column app.deletion.tenant_id is 'The system tenant.';
comment on column app.deletion.subject_id is 'The tenant that is deleted; an id that says nothing.';
comment on column app.deletion.run_id is 'The run that does it.';
comment on column app.deletion.state is
  'requested, verified, cooling_off, held, ending, exporting, ready, erasing, third_parties, verifying, certified; failed_step, cancelled.';
comment on column app.deletion.detail is 'What it waits for or what failed, in words.';
comment on column app.deletion.reason is 'Why it was requested, in the requester''s words.';
comment on column app.deletion.requested_by is 'Who asked for it, from the token.';
comment on column app.deletion.requested_at is 'When, in real time.';
comment on column app.deletion.due_at is 'A month later: when it should be done.';
comment on column app.deletion.cooling_off_days is 'How long it can be taken back after it was approved.';
comment on column app.deletion.backup_days is 'How long backups are kept, for what was not encrypted.';
comment on column app.deletion.approved_by is 'The second person.';
comment on column app.deletion.approved_at is 'When, in real time.';
comment on column app.deletion.cools_until is 'Until when it can be taken back.';
comment on column app.deletion.final_at is 'When the point of no return was passed.';
comment on column app.deletion.ended_at is 'When it was certified or cancelled.';
comment on column app.deletion.alerts is '0 none, 1 its deadline is near, 2 its deadline has passed.';
comment on column app.deletion.known is
  'Values that must not be found afterwards, and what third parties call the tenant; gone when it is over.';
comment on column app.deletion.export_id is 'The export that the tenant takes along, if one was asked for.';
comment on column app.deletion.certificate is 'The signed certificate.';

create table app.deletion_unit (
  deletion_id uuid not null,
  seq integer not null check (seq > 0),
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  realm text not null check (realm in ('archive', 'product', 'tenure', 'engine', 'keys')),
  name text not null,
  action text not null check (action in ('null_keys', 'delete', 'mask', 'keep', 'drop', 'shred')),
  basis text,
  found bigint not null check (found >= 0),
  erased bigint not null check (erased >= 0),
  masked bigint not null check (masked >= 0),
  kept bigint not null check (kept >= 0),
  chunk bigint not null check (chunk >= 0),
  after text,
  done_at timestamptz,
  primary key (deletion_id, seq, shard_id),
  foreign key (deletion_id, shard_id) references app.deletion (deletion_id, shard_id)
);
comment on table app.deletion_unit is 'What is to be erased, in order, and how far it is.';
comment on column app.deletion_unit.deletion_id is 'The deletion.';
comment on column app.deletion_unit.seq is 'The step, from 1.';
comment on column app.deletion_unit.shard_id is 'The system tenant''s shard.';
comment on column app.deletion_unit.tenant_id is 'The system tenant.';
comment on column app.deletion_unit.realm is 'What it is: archives in the store, rows of the product, of schema app or of the engine, or the keys.';
comment on column app.deletion_unit.name is 'The table.';
comment on column app.deletion_unit.action is 'null_keys, delete, mask, keep, drop or shred.';
comment on column app.deletion_unit.basis is 'Why rows stay.';
comment on column app.deletion_unit.found is 'Rows that were met.';
comment on column app.deletion_unit.erased is 'Rows that are gone.';
comment on column app.deletion_unit.masked is 'Rows that stay with their personal fields emptied.';
comment on column app.deletion_unit.kept is 'Rows that stay as they are.';
comment on column app.deletion_unit.chunk is 'Counts its chunks; a chunk counts once.';
comment on column app.deletion_unit.after is 'Where the next chunk begins, where it has a place.';
comment on column app.deletion_unit.done_at is 'When it was done.';

create table app.deletion_record (
  deletion_id uuid not null,
  seq integer not null check (seq > 0),
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  body jsonb not null,
  hash text not null check (hash ~ '^[0-9a-f]{64}$'),
  primary key (deletion_id, seq, shard_id),
  foreign key (deletion_id, shard_id) references app.deletion (deletion_id, shard_id)
);
comment on table app.deletion_record is 'What was done, one after the other, each bound to the one before by its hash.';
comment on column app.deletion_record.deletion_id is 'The deletion.';
comment on column app.deletion_record.seq is 'Its place in the chain, from 1.';
comment on column app.deletion_record.shard_id is 'The system tenant''s shard.';
comment on column app.deletion_record.tenant_id is 'The system tenant.';
comment on column app.deletion_record.body is 'What was done: kind, subject, counts, when.';
comment on column app.deletion_record.hash is 'SHA-256 over the hash before it and the canonical body.';

do $$
declare
  name text;
begin
  foreach name in array array['deletion', 'deletion_unit', 'deletion_record'] loop
    execute format('alter table app.%I enable row level security', name);
    execute format('alter table app.%I force row level security', name);
    execute format(
      'create policy tenant_own on app.%I to tenure_tenant using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant())',
      name);
    execute format('create policy control_all on app.%I to tenure_control using (true) with check (true)', name);
    execute format('grant select, insert, update on app.%I to tenure_tenant, tenure_control', name);
  end loop;
end
$$;

-- Who erases acts as control and names the one tenant whose rows it may touch: without app.tenant
-- it sees none of them. Of the tables that control finds tenants by it reads no more than it did.
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
    execute format(
      'create policy control_erase on app.%I to tenure_control using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant())',
      name);
    if name in ('customer', 'payment', 'notice') then
      execute format('grant select (ctid, tenant_id) on app.%I to tenure_control', name);
    else
      execute format('grant select on app.%I to tenure_control', name);
    end if;
    execute format('grant update, delete on app.%I to tenure_control', name);
  end loop;
end
$$;
grant select (method_id) on app.payment to tenure_control;
create policy control_erase on app.backfill_range for delete to tenure_control
  using (owner_id = engine.current_tenant());
grant delete on app.backfill_range, app.product_migration_place to tenure_control;
grant delete on app.webhook_event to tenure_control;
grant select, update on app.tenant to tenure_control;
grant update (before, after) on engine.control_audit to tenure_engine;

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
