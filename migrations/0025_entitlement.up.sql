-- Entitlements: what support adds to them or takes away, and the facts that they follow from.
--
-- Nothing that is derived is stored, and no fact has a copy: an answer is a function of the rows that
-- their owners write, read in one statement. So no owner can forget to tell.

create table app.entitlement_override (
  tenant_id uuid not null,
  feature text not null check (feature ~ '^[a-z0-9._-]{1,100}$'),
  shard_id smallint not null check (shard_id between 0 and 1023),
  value jsonb not null check (jsonb_typeof(value) in ('boolean', 'number', 'string')),
  reason text not null check (length(reason) between 1 and 2000),
  author text not null,
  set_at timestamptz not null,
  expires_at timestamptz,
  primary key (tenant_id, feature, shard_id),
  constraint entitlement_override_forward check (expires_at > set_at)
);
comment on table app.entitlement_override is 'What support gives a tenant in place of what it has bought, one value a feature.';
comment on column app.entitlement_override.tenant_id is 'The tenant.';
comment on column app.entitlement_override.feature is 'The feature''s key.';
comment on column app.entitlement_override.shard_id is 'The tenant''s shard.';
comment on column app.entitlement_override.value is 'true, false, a whole number, or a text.';
comment on column app.entitlement_override.reason is 'Why, in the author''s words.';
comment on column app.entitlement_override.author is 'Who set it.';
comment on column app.entitlement_override.set_at is 'When it was set, in the tenant''s time.';
comment on column app.entitlement_override.expires_at is 'Until when it counts, exclusive, in the tenant''s time; null until it is taken away.';
alter table app.entitlement_override enable row level security;
alter table app.entitlement_override force row level security;
create policy tenant_own on app.entitlement_override to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update, delete on app.entitlement_override to tenure_tenant;

create function app.subscription_facts(owner uuid, home smallint) returns json
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select json_agg(json_build_object(
      'subscription_id', subscription.subscription_id,
      'plan', subscription.plan,
      'version', subscription.plan_version,
      'seats', subscription.seats,
      'started_at', subscription.started_at,
      'trial_ends_at', subscription.trial_ends_at,
      'ends_at', least(subscription.term_ends_at, (
        select intent.effective_at
        from app.subscription_intent as intent
        where intent.subscription_id = subscription.subscription_id
          and intent.shard_id = home
          and intent.kind = 'cancel')),
      'add_ons', (
        select json_agg(json_build_object(
          'add_on', item.item,
          'version', (
            select max(entry.version)
            from app.catalogue_entry as entry
            where entry.kind = 'add_on' and entry.key = item.item),
          'quantity', item.quantity,
          'valid_from', item.valid_from,
          'valid_to', item.valid_to
        ) order by item.item, item.valid_from)
        from app.subscription_item as item
        where item.subscription_id = subscription.subscription_id
          and item.shard_id = home
          and item.valid_to is null
          and item.item not in ('plan', 'seats'))
    ) order by subscription.subscription_id)
    from app.subscription
    where subscription.tenant_id = owner
      and subscription.shard_id = home
      and subscription.lifecycle in ('trialing', 'active'));
end
$$;
comment on function app.subscription_facts(uuid, smallint) is
  'What of a tenant''s live subscriptions its entitlements follow from. The one place that says which version of a plan counts.';

create function app.entitlement_facts(wanted uuid)
returns table (tenant_now timestamptz, facts text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set app.tenant = ''
as $$
#variable_conflict use_column
declare
  home engine.tenant%rowtype;
begin
  -- The function belongs to tenure_tenant: row-level security shows it this one tenant's rows. That
  -- it is stable makes all of them one snapshot.
  perform set_config('app.tenant', wanted::text, true);
  select * into home from engine.tenant where tenant_id = wanted;
  if not found then
    return;
  end if;
  return query select
    coalesce(
      (select clock.now_at from engine.test_clock as clock where clock.clock_id = home.clock_id),
      engine.now()),
    json_build_object(
      'subscriptions', app.subscription_facts(home.tenant_id, home.shard_id),
      'holds', (
        select json_agg(hold order by hold.hold_id)
        from app.hold
        where hold.tenant_id = home.tenant_id
          and hold.shard_id = home.shard_id
          and hold.lifted_at is null
          and hold.blocks_access),
      'overrides', (
        select json_agg(override order by override.feature)
        from app.entitlement_override as override
        where override.tenant_id = home.tenant_id
          and override.shard_id = home.shard_id)
    )::text;
end
$$;
comment on function app.entitlement_facts(uuid) is
  'All that a tenant''s entitlements follow from, and the tenant''s time: one snapshot, one round trip, no transaction to open. No row for a tenant that is not there.';
-- What owns a function in a schema must be allowed to make one there, for a moment.
grant create on schema app to tenure_tenant;
alter function app.entitlement_facts(uuid) owner to tenure_tenant;
revoke create on schema app from tenure_tenant;
revoke execute on function app.subscription_facts(uuid, smallint) from public;
-- Who owns it may not call it: whoever speaks for one tenant would be told of any other.
revoke execute on function app.entitlement_facts(uuid) from public, tenure_tenant;
grant execute on function app.subscription_facts(uuid, smallint) to tenure_tenant;
grant execute on function app.entitlement_facts(uuid) to tenure_control;
