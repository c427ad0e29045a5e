-- Holds: why a tenant or one of its subscriptions may not change, be used or be billed.

create table app.hold (
  hold_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  subscription_id uuid,
  kind text not null check (
    kind in ('customer_pause', 'debt_grace', 'debt_suspension', 'fraud', 'legal', 'tenant_deletion')),
  source text,
  starts_at timestamptz not null,
  ends_at timestamptz,
  blocks_changes boolean not null,
  blocks_access boolean not null,
  blocks_billing boolean not null,
  reason text not null check (length(reason) between 1 and 2000),
  author text not null,
  placed_at timestamptz not null,
  lifted_at timestamptz,
  lifted_by text,
  lift_reason text check (length(lift_reason) between 1 and 2000),
  primary key (hold_id, shard_id),
  constraint hold_forward check (ends_at > starts_at),
  constraint hold_blocks_something check (blocks_changes or blocks_access or blocks_billing),
  constraint hold_lifted_whole check (
    (lifted_at is null) = (lifted_by is null) and (lifted_at is null) = (lift_reason is null))
);
create index hold_standing on app.hold (tenant_id, shard_id) where lifted_at is null;
create unique index hold_source on app.hold (source, tenant_id, subscription_id, kind, shard_id)
  nulls not distinct where source is not null and lifted_at is null;
comment on table app.hold is
  'Why a tenant or a subscription may not change, be used or be billed. Whether service is on is derived from what stands here, never stored.';
comment on column app.hold.hold_id is 'Identity.';
comment on column app.hold.shard_id is 'The tenant''s shard.';
comment on column app.hold.tenant_id is 'The tenant.';
comment on column app.hold.subscription_id is 'The one subscription that is held; null when all that is the tenant''s is.';
comment on column app.hold.kind is
  'customer_pause, debt_grace, debt_suspension, fraud, legal or tenant_deletion.';
comment on column app.hold.source is
  'The run that placed it and lifts it by itself, such as dunning/EUR; null when a person did.';
comment on column app.hold.starts_at is 'From when it counts, inclusive, in the tenant''s time.';
comment on column app.hold.ends_at is 'Until when it counts, exclusive; null until it is lifted.';
comment on column app.hold.blocks_changes is 'Whether plan, quantity and new subscriptions are refused.';
comment on column app.hold.blocks_access is 'Whether the product is shut.';
comment on column app.hold.blocks_billing is 'Whether nothing is invoiced meanwhile.';
comment on column app.hold.reason is 'Why, in the author''s words.';
comment on column app.hold.author is 'Who placed it: from the token, or the run''s source.';
comment on column app.hold.placed_at is 'When it was placed, in the tenant''s time.';
comment on column app.hold.lifted_at is 'When it was lifted, in the tenant''s time.';
comment on column app.hold.lifted_by is 'Who lifted it.';
comment on column app.hold.lift_reason is 'Why it was lifted, in their words.';
alter table app.hold enable row level security;
alter table app.hold force row level security;
create policy tenant_own on app.hold to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update on app.hold to tenure_tenant;
