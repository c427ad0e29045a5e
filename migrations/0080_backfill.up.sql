-- Backfills of a product's tables: each from expand to contract, and the ranges that it works on.
--
-- They belong to the system tenant, as the runs that own them do. How far a range is stands in its
-- row, never in a list of keys: a table of any size has as many rows here as it has ranges.

create table app.backfill (
  backfill_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  name text not null check (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
  definition jsonb not null,
  targets jsonb not null,
  phase text not null check (
    phase in ('expand', 'dual-write', 'fill', 'verify', 'switch', 'contract', 'done', 'undone')),
  status text not null check (status in ('working', 'waiting', 'held', 'stopping', 'ended')),
  pass integer not null check (pass > 0),
  percent smallint not null check (percent between 0 and 100),
  paused boolean not null,
  trouble jsonb,
  mismatches bigint check (mismatches >= 0),
  verified_at timestamptz,
  clean_since timestamptz,
  run_id uuid not null,
  started_by text not null,
  reason text not null check (length(reason) between 1 and 2000),
  started_at timestamptz not null,
  ended_at timestamptz,
  primary key (backfill_id, shard_id),
  constraint backfill_ended check ((ended_at is not null) = (status = 'ended')),
  constraint backfill_held check ((trouble is not null) = (status = 'held')),
  constraint backfill_clean check (clean_since is null or mismatches = 0)
);
create unique index backfill_name_while_live on app.backfill (name, tenant_id, shard_id) where ended_at is null;
comment on table app.backfill is
  'Changes of a product''s tables without a pause: new columns, a trigger, a fill, a proof, a switch, an end.';
comment on column app.backfill.backfill_id is 'Identity.';
comment on column app.backfill.shard_id is 'The system tenant''s shard.';
comment on column app.backfill.tenant_id is 'The system tenant.';
comment on column app.backfill.name is 'Its name, free again when it has ended.';
comment on column app.backfill.definition is 'What it does, as it was when it began.';
comment on column app.backfill.targets is
  'The sources that it is for, each with the version of its data map and the table''s name there.';
comment on column app.backfill.phase is
  'expand, dual-write, fill, verify, switch or contract: what it works on or waits before; done or undone.';
comment on column app.backfill.status is
  'working; waiting for a person''s word; held by trouble; stopping its ranges to go back; ended.';
comment on column app.backfill.pass is 'Raised whenever ranges begin anew; a range of an older pass ends.';
comment on column app.backfill.percent is 'How many tenants of a hundred read the new columns.';
comment on column app.backfill.paused is 'Whether somebody paused it: its ranges look before each batch.';
comment on column app.backfill.trouble is 'Why it is held: kind and what the database said.';
comment on column app.backfill.mismatches is 'Rows that the last verification found wrong; null before the first.';
comment on column app.backfill.verified_at is 'When it ended.';
comment on column app.backfill.clean_since is 'Since when verifications found nothing.';
comment on column app.backfill.run_id is 'The run that owns it.';
comment on column app.backfill.started_by is 'Who began it.';
comment on column app.backfill.reason is 'Why.';
comment on column app.backfill.started_at is 'When, in real time.';
comment on column app.backfill.ended_at is 'When it was done or undone.';

create table app.backfill_range (
  range_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  backfill_id uuid not null,
  owner_id uuid not null,
  part integer not null check (part >= 0),
  after_key text[],
  to_key text[],
  estimated_rows bigint not null check (estimated_rows >= 0),
  pass integer not null check (pass > 0),
  run_id uuid,
  status text not null check (
    status in ('planned', 'filling', 'verifying', 'throttled', 'paused', 'held', 'skipped', 'filled')),
  cursor_key text[],
  done_rows bigint not null default 0 check (done_rows >= 0),
  written_rows bigint not null default 0 check (written_rows >= 0),
  batch_rows integer not null default 0,
  rate jsonb,
  detail jsonb,
  verified_rows bigint check (verified_rows >= 0),
  mismatches bigint check (mismatches between 0 and verified_rows),
  found_sum text,
  expected_sum text,
  first_mismatch text[],
  verified_at timestamptz,
  noted_at timestamptz,
  primary key (range_id, shard_id),
  foreign key (backfill_id, shard_id) references app.backfill on delete cascade
);
create index backfill_range_of on app.backfill_range (backfill_id, owner_id, part, shard_id);
comment on table app.backfill_range is 'A part of one tenant''s rows that a backfill works on, by itself.';
comment on column app.backfill_range.range_id is 'Identity, derived from backfill, tenant and part.';
comment on column app.backfill_range.shard_id is 'The system tenant''s shard.';
comment on column app.backfill_range.tenant_id is 'The system tenant.';
comment on column app.backfill_range.backfill_id is 'The backfill.';
comment on column app.backfill_range.owner_id is 'The tenant whose rows they are.';
comment on column app.backfill_range.part is 'Which part of them, from 0.';
comment on column app.backfill_range.after_key is 'The key after which it begins; null at the beginning.';
comment on column app.backfill_range.to_key is 'The key up to which it reaches; null to the end.';
comment on column app.backfill_range.estimated_rows is 'How many rows the planner believed in.';
comment on column app.backfill_range.pass is 'The pass of the backfill that it was last in.';
comment on column app.backfill_range.run_id is 'The run that works on it, or did last.';
comment on column app.backfill_range.status is
  'planned; filling, verifying, throttled, paused or held while it is worked on; skipped or filled.';
comment on column app.backfill_range.cursor_key is 'The key of the last row that is done.';
comment on column app.backfill_range.done_rows is 'Rows that were looked at in this pass.';
comment on column app.backfill_range.written_rows is 'Rows of them that were not right and were written.';
comment on column app.backfill_range.batch_rows is 'Rows of the next batch.';
comment on column app.backfill_range.rate is 'Rows a second: mean, variance and count of measurements.';
comment on column app.backfill_range.detail is 'What throttles it, why it is held, or why it was skipped.';
comment on column app.backfill_range.verified_rows is 'Rows that the last verification compared.';
comment on column app.backfill_range.mismatches is 'Rows of them that were wrong.';
comment on column app.backfill_range.found_sum is 'Checksum over what was found: a whole number of any length.';
comment on column app.backfill_range.expected_sum is 'Checksum over what was expected.';
comment on column app.backfill_range.first_mismatch is 'The key of the first row that was wrong.';
comment on column app.backfill_range.verified_at is 'When it was verified.';
comment on column app.backfill_range.noted_at is 'When this was last written by its run.';

alter table app.backfill enable row level security;
alter table app.backfill force row level security;
create policy tenant_own on app.backfill to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
create policy control_all on app.backfill for select to tenure_control using (true);
grant select, insert, update, delete on app.backfill to tenure_tenant;
grant select on app.backfill to tenure_control;

alter table app.backfill_range enable row level security;
alter table app.backfill_range force row level security;
create policy tenant_own on app.backfill_range to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
create policy control_all on app.backfill_range for select to tenure_control using (true);
grant select, insert, update, delete on app.backfill_range to tenure_tenant;
grant select on app.backfill_range to tenure_control;
