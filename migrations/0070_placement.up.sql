-- A product's databases: which data map each goes by, and where each tenant's rows are.

create table app.data_map (
  source text not null check (source ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  version integer not null check (version > 0),
  text text not null,
  hash text not null check (hash ~ '^[0-9a-f]{64}$'),
  loaded_by text not null,
  loaded_at timestamptz not null,
  primary key (source, version)
);
comment on table app.data_map is
  'Versions of the data maps of products, never changed. A control table: a source goes by its newest version, a job by the one that it began with.';
comment on column app.data_map.source is 'The product''s database, by its name in the configuration.';
comment on column app.data_map.version is 'Counts from 1 for each source.';
comment on column app.data_map.text is 'The map, as its file said it.';
comment on column app.data_map.hash is 'SHA-256 of the text, in hexadecimal digits.';
comment on column app.data_map.loaded_by is 'Who loaded it, from the token.';
comment on column app.data_map.loaded_at is 'When, in real time.';
grant select, insert on app.data_map to tenure_control;

create table app.placement (
  tenant_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  model text not null check (model in ('shared', 'schema', 'database')),
  source text not null,
  database_name text,
  schema_name text,
  tenant_key text not null check (length(tenant_key) between 1 and 200),
  status text not null check (status in ('provisioning', 'active', 'moving', 'frozen', 'cleaning')),
  other jsonb,
  held_by uuid,
  revision bigint not null check (revision > 0),
  placed_at timestamptz not null,
  primary key (tenant_id, shard_id),
  constraint placement_names check (
    (schema_name is not null) = (model = 'schema') and (database_name is null or model = 'database')),
  constraint placement_other check (
    (other is not null) = (status in ('moving', 'frozen', 'cleaning'))),
  constraint placement_held check ((held_by is not null) = (status <> 'active'))
);
comment on table app.placement is
  'Where a tenant''s rows are in the product. The product may read it to route its requests.';
comment on column app.placement.tenant_id is 'The tenant.';
comment on column app.placement.shard_id is 'The tenant''s shard.';
comment on column app.placement.model is 'How it is kept apart there: shared, schema or database.';
comment on column app.placement.source is 'The product''s database, by its name in the configuration.';
comment on column app.placement.database_name is
  'The database beside the source''s, on its server; null for the source''s own.';
comment on column app.placement.schema_name is 'The tenant''s schema, where it has one.';
comment on column app.placement.tenant_key is 'What the product''s tenant column says of it.';
comment on column app.placement.status is
  'provisioning: not to be used yet; active; moving: copied elsewhere while it is used; frozen: to be read only, until it has switched; cleaning: it has switched, and the old rows go.';
comment on column app.placement.other is
  'The place that it moves to, or has left while that is cleaned: model, source, database, schema, key.';
comment on column app.placement.held_by is 'The run that provisions or moves it; null when it is at rest.';
comment on column app.placement.revision is 'Raised by each change.';
comment on column app.placement.placed_at is 'When it came to be there, in real time.';
alter table app.placement enable row level security;
alter table app.placement force row level security;
create policy tenant_own on app.placement for select to tenure_tenant
  using (tenant_id = engine.current_tenant());
create policy control_all on app.placement to tenure_control using (true) with check (true);
grant select on app.placement to tenure_tenant;
grant select, insert, update, delete on app.placement to tenure_control;
