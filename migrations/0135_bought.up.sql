-- What was bought: the version of each add-on, so that it offers what it did then; and what a subscription was asked for as, so that the same key again can be told from another wish.

alter table app.subscription_item add column version integer check (version >= 1);
comment on column app.subscription_item.version is 'The version of the add-on that was sold; null for what is no add-on, and for what workers of before 0135 wrote, which counts as the newest.';
alter table app.subscription add column asked jsonb;
comment on column app.subscription.asked is 'What its creation asked for under its key; null when that was before 0135.';

-- What was sold before keeps what it offers today.
update app.subscription_item as item
set version = newest.version
from (
  select key, max(version) as version
  from app.catalogue_entry
  where kind = 'add_on'
  group by key
) as newest
where newest.key = item.item
  and item.item not in ('plan', 'seats');

create or replace function app.subscription_facts(owner uuid, home smallint) returns json
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
          'version', coalesce(item.version, (
            select max(entry.version)
            from app.catalogue_entry as entry
            where entry.kind = 'add_on' and entry.key = item.item)),
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
