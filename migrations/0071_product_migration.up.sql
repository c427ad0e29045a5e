-- Migrations of a product: one SQL text for every place that a tenant's rows are in.

create table app.product_migration (
  version text not null check (version ~ '^[A-Za-z0-9._-]{1,100}$'),
  sql text not null,
  hash text not null check (hash ~ '^[0-9a-f]{64}$'),
  author text not null,
  reason text not null check (length(reason) between 1 and 2000),
  run_id uuid not null,
  loaded_at timestamptz not null,
  primary key (version)
);
comment on table app.product_migration is
  'Migrations of the product, whose text never changes. A control table.';
comment on column app.product_migration.version is 'The product''s own name of it.';
comment on column app.product_migration.sql is 'What is run at each place, in one transaction.';
comment on column app.product_migration.hash is 'SHA-256 of the text, in hexadecimal digits.';
comment on column app.product_migration.author is 'Who loaded it, from the token.';
comment on column app.product_migration.reason is 'Why, in their words.';
comment on column app.product_migration.run_id is 'The run that applies it, the last one if it was asked for again.';
comment on column app.product_migration.loaded_at is 'When it was loaded, in real time.';

create table app.product_migration_place (
  version text not null references app.product_migration,
  source text not null,
  place text not null,
  tenant_id uuid,
  outcome text not null check (outcome in ('pending', 'applied', 'refused')),
  detail text,
  changed_at timestamptz not null,
  primary key (version, source, place)
);
comment on table app.product_migration_place is
  'What came of a migration at each place. The product''s database itself knows what was applied there; this is for people.';
comment on column app.product_migration_place.version is 'The migration.';
comment on column app.product_migration_place.source is 'The product''s database, by its name in the configuration.';
comment on column app.product_migration_place.place is
  'schema/name, database/name, or database for the source''s own.';
comment on column app.product_migration_place.tenant_id is 'The tenant whose place it is; null where tenants share it.';
comment on column app.product_migration_place.outcome is 'pending, applied or refused.';
comment on column app.product_migration_place.detail is 'Why it was refused.';
comment on column app.product_migration_place.changed_at is 'Since when that is so, in real time.';
grant select, insert, update on app.product_migration, app.product_migration_place to tenure_control;
