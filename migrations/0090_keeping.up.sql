-- What of a product's rows is kept, and how long: policies, holds, sweeps and their archives.

create table app.keeping_policy (
  source text not null check (source ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  version integer not null check (version >= 1),
  document jsonb not null,
  author text not null,
  reason text not null check (length(reason) between 1 and 2000),
  loaded_at timestamptz not null,
  primary key (source, version)
);
comment on table app.keeping_policy is 'Versions of how long the rows of a product are kept, by class and by table. None is ever changed; the newest holds.';
comment on column app.keeping_policy.source is 'The product''s database, by its name in the configuration.';
comment on column app.keeping_policy.version is 'Counts from 1.';
comment on column app.keeping_policy.document is 'What it says, as it was loaded.';
comment on column app.keeping_policy.author is 'Who loaded it.';
comment on column app.keeping_policy.reason is 'Why, in their words.';
comment on column app.keeping_policy.loaded_at is 'When, in real time.';
grant select, insert on app.keeping_policy to tenure_control;
grant select on app.keeping_policy to tenure_tenant;

create table app.data_hold (
  hold_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  case_name text not null check (length(case_name) between 1 and 200),
  table_name text check (length(table_name) between 1 and 200),
  row_match jsonb check (jsonb_typeof(row_match) = 'object' and row_match <> '{}'),
  reason text not null check (length(reason) between 1 and 2000),
  author text not null,
  placed_at timestamptz not null,
  expires_at timestamptz,
  lifted_at timestamptz,
  lifted_by text,
  lift_reason text check (length(lift_reason) between 1 and 2000),
  primary key (hold_id, shard_id),
  constraint data_hold_rows_of_a_table check (row_match is null or table_name is not null),
  constraint data_hold_forward check (expires_at > placed_at),
  constraint data_hold_lifted_whole check (
    (lifted_at is null) = (lifted_by is null) and (lifted_at is null) = (lift_reason is null))
);
create index data_hold_standing on app.data_hold (tenant_id, shard_id) where lifted_at is null;
comment on table app.data_hold is 'What of a tenant''s rows in the product must not be deleted, whatever a policy says: a case at law.';
comment on column app.data_hold.hold_id is 'Identity.';
comment on column app.data_hold.shard_id is 'The tenant''s shard.';
comment on column app.data_hold.tenant_id is 'The tenant.';
comment on column app.data_hold.case_name is 'The case that it is for, such as a file number.';
comment on column app.data_hold.table_name is 'The table, as the data map names it; null holds all that is the tenant''s.';
comment on column app.data_hold.row_match is 'Columns and the values that held rows have in them; null holds all of the tenant''s rows in the table.';
comment on column app.data_hold.reason is 'Why, in the author''s words.';
comment on column app.data_hold.author is 'Who placed it.';
comment on column app.data_hold.placed_at is 'When, in real time.';
comment on column app.data_hold.expires_at is 'Until when it counts, exclusive, in real time; null until it is lifted.';
comment on column app.data_hold.lifted_at is 'When it was lifted, in real time.';
comment on column app.data_hold.lifted_by is 'Who lifted it.';
comment on column app.data_hold.lift_reason is 'Why it was lifted, in their words.';
alter table app.data_hold enable row level security;
alter table app.data_hold force row level security;
create policy tenant_own on app.data_hold to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update on app.data_hold to tenure_tenant;

create table app.keeping_turn (
  tenant_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  decided_at timestamptz not null,
  primary key (tenant_id, shard_id)
);
comment on table app.keeping_turn is 'Where deletes and holds meet: whoever deletes rows of a tenant in the product shares its row''s lock meanwhile, whoever places a hold takes it. So a hold that was answered holds.';
comment on column app.keeping_turn.tenant_id is 'The tenant.';
comment on column app.keeping_turn.shard_id is 'Its shard.';
comment on column app.keeping_turn.decided_at is 'When a hold was last placed, in real time.';
alter table app.keeping_turn enable row level security;
alter table app.keeping_turn force row level security;
create policy tenant_own on app.keeping_turn to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update on app.keeping_turn to tenure_tenant;

create table app.data_archive (
  archive_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  sweep_id uuid not null,
  table_name text not null,
  status text not null check (status in ('complete', 'restoring', 'restored', 'destroyed')),
  manifest_sha256 text not null check (manifest_sha256 ~ '^[0-9a-f]{64}$'),
  row_count bigint not null check (row_count >= 0),
  bytes bigint not null check (bytes >= 0),
  made_at timestamptz not null,
  destroy_at timestamptz,
  destroyed_at timestamptz,
  restored_at timestamptz,
  primary key (archive_id, shard_id),
  constraint data_archive_destroyed check ((status = 'destroyed') = (destroyed_at is not null))
);
create index data_archive_of_tenant on app.data_archive (tenant_id, archive_id, shard_id);
comment on table app.data_archive is 'Rows that retention took out of a product, and whether they can still be brought back. A row is written when the manifest was read back, before anything is deleted.';
comment on column app.data_archive.archive_id is 'Identity, and the folder''s name in the store.';
comment on column app.data_archive.shard_id is 'The tenant''s shard.';
comment on column app.data_archive.tenant_id is 'Whose rows.';
comment on column app.data_archive.sweep_id is 'The sweep that made it.';
comment on column app.data_archive.table_name is 'The table, as the data map names it.';
comment on column app.data_archive.status is 'complete, restoring or restored into the product, or destroyed for good.';
comment on column app.data_archive.manifest_sha256 is 'SHA-256 of its manifest, which bears those of the parts.';
comment on column app.data_archive.row_count is 'Rows in it.';
comment on column app.data_archive.bytes is 'Bytes of its parts in the store.';
comment on column app.data_archive.made_at is 'When it was complete, in real time.';
comment on column app.data_archive.destroy_at is 'When it is destroyed, in real time: until then a delete can be taken back. Null keeps it.';
comment on column app.data_archive.destroyed_at is 'When it was destroyed, in real time: the point of no return.';
comment on column app.data_archive.restored_at is 'When its rows were last brought back, in real time.';
alter table app.data_archive enable row level security;
alter table app.data_archive force row level security;
create policy tenant_own on app.data_archive to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update, delete on app.data_archive to tenure_tenant;
