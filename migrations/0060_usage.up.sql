-- How much of what a plan limits a tenant uses, as its product reports it.
--
-- Tenure counts nothing by itself: the product knows, and reports a level. What was told of it stands
-- in the same row, so that a report and what follows from it are one write.

create table app.usage (
  tenant_id uuid not null,
  feature text not null check (feature ~ '^[a-z0-9._-]{1,100}$'),
  shard_id smallint not null check (shard_id between 0 and 1023),
  level bigint not null check (level >= 0),
  reported_at timestamptz not null,
  told_percent smallint check (told_percent between 1 and 100),
  told_limit bigint check (told_limit > 0),
  told_period timestamptz,
  primary key (tenant_id, feature, shard_id),
  constraint usage_told_whole check ((told_percent is null) = (told_limit is null) and (told_percent is null) = (told_period is null))
);
comment on table app.usage is 'How much of a feature a tenant uses, as its product reported last.';
comment on column app.usage.tenant_id is 'The tenant.';
comment on column app.usage.feature is 'The feature''s key.';
comment on column app.usage.shard_id is 'The tenant''s shard.';
comment on column app.usage.level is 'How much of it is used.';
comment on column app.usage.reported_at is 'When that was reported, in the tenant''s time.';
comment on column app.usage.told_percent is 'The greatest share of the limit that the tenant was told of, in per cent; null if of none.';
comment on column app.usage.told_limit is 'Of which limit that was a share.';
comment on column app.usage.told_period is 'The start of the period in which it was told.';
alter table app.usage enable row level security;
alter table app.usage force row level security;
create policy tenant_own on app.usage to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update, delete on app.usage to tenure_tenant;
