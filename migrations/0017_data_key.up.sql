-- Keys of tenants, wrapped by a master key that never enters the database.

create table engine.data_key (
  tenant_id uuid not null,
  version integer not null check (version > 0),
  master_key text not null,
  wrapped bytea,
  created_at timestamptz not null,
  usable_at timestamptz not null,
  destroyed_at timestamptz,
  primary key (tenant_id, version),
  constraint data_key_destroyed check ((wrapped is null) = (destroyed_at is not null)),
  constraint data_key_usable_later check (usable_at >= created_at)
);
comment on table engine.data_key is
  'Versions of the keys that seal tenants'' payloads. A control table: it has no row for a tenant of whom nothing is sealed.';
comment on column engine.data_key.tenant_id is 'The tenant.';
comment on column engine.data_key.version is 'Counts from 1; each sealed payload names the one that seals it.';
comment on column engine.data_key.master_key is 'Name of the master key that wraps it.';
comment on column engine.data_key.wrapped is 'The key as the master key wrapped it; null when it was destroyed.';
comment on column engine.data_key.created_at is 'When it was made, in real time.';
comment on column engine.data_key.usable_at is
  'From when on it seals, in real time: a new version waits until every process has read it.';
comment on column engine.data_key.destroyed_at is 'When it was destroyed, in real time.';
grant select, insert, update on engine.data_key to tenure_engine;
