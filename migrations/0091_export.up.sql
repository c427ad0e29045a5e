-- Exports: all that a product keeps of a tenant, sealed, behind a link that ends.

create table app.data_export (
  export_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  status text not null check (status in ('writing', 'ready', 'ended')),
  asked_by text not null,
  reason text not null check (length(reason) between 1 and 2000),
  asked_at timestamptz not null,
  link_days integer not null check (link_days between 1 and 90),
  token_digest bytea not null check (length(token_digest) = 32),
  sealed_key bytea,
  writing_key bytea check (length(writing_key) = 32),
  manifest_sha256 text check (manifest_sha256 ~ '^[0-9a-f]{64}$'),
  row_count bigint not null check (row_count >= 0),
  bytes bigint not null check (bytes >= 0),
  ready_at timestamptz,
  expires_at timestamptz,
  downloads integer not null check (downloads >= 0),
  last_download_at timestamptz,
  primary key (export_id, shard_id),
  constraint data_export_ready check (
    status = 'writing' or status = 'ended'
    or (manifest_sha256 is not null and ready_at is not null and expires_at is not null)),
  constraint data_export_key_while_written check ((writing_key is not null) = (status = 'writing')),
  constraint data_export_no_key_after check (status <> 'ended' or sealed_key is null)
);
create index data_export_of_tenant on app.data_export (tenant_id, export_id, shard_id);
comment on table app.data_export is 'What was put together of a tenant''s data for it to take along. The parts are sealed with a key that only the link opens.';
comment on column app.data_export.export_id is 'Identity, and the archive''s folder in the store.';
comment on column app.data_export.shard_id is 'The tenant''s shard.';
comment on column app.data_export.tenant_id is 'Whose data.';
comment on column app.data_export.status is 'writing; ready, to be fetched by its link; or ended: expired or given up, and its archive destroyed.';
comment on column app.data_export.asked_by is 'Who asked for it.';
comment on column app.data_export.reason is 'Why, in their words.';
comment on column app.data_export.asked_at is 'When, in real time.';
comment on column app.data_export.link_days is 'For so many days after it is ready its link works.';
comment on column app.data_export.token_digest is 'SHA-256 of the link''s token; the token itself is nowhere.';
comment on column app.data_export.sealed_key is 'The key that the parts are sealed with, sealed with one that the token gives.';
comment on column app.data_export.writing_key is 'The key in clear while parts are written; null from the moment on that it is ready.';
comment on column app.data_export.manifest_sha256 is 'SHA-256 of its manifest, which bears those of the parts.';
comment on column app.data_export.row_count is 'Rows in it.';
comment on column app.data_export.bytes is 'Bytes of its parts.';
comment on column app.data_export.ready_at is 'When it was ready, in real time.';
comment on column app.data_export.expires_at is 'When its link ends, exclusive, in real time.';
comment on column app.data_export.downloads is 'How often it was fetched.';
comment on column app.data_export.last_download_at is 'When it was last fetched, in real time.';
alter table app.data_export enable row level security;
alter table app.data_export force row level security;
create policy tenant_own on app.data_export to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update on app.data_export to tenure_tenant;

create table app.data_part (
  archive_id uuid not null,
  seq integer not null check (seq >= 0),
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  part jsonb not null,
  primary key (archive_id, seq, shard_id)
);
comment on table app.data_part is 'Parts of an archive that is being written and may have any number of them; gone when it has its manifest.';
comment on column app.data_part.archive_id is 'The archive.';
comment on column app.data_part.seq is 'Its place, from 0.';
comment on column app.data_part.shard_id is 'The tenant''s shard.';
comment on column app.data_part.tenant_id is 'Whose data.';
comment on column app.data_part.part is 'As the manifest will say it.';
alter table app.data_part enable row level security;
alter table app.data_part force row level security;
create policy tenant_own on app.data_part to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update, delete on app.data_part to tenure_tenant;
