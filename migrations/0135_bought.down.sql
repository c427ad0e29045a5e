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
alter table app.subscription drop column asked;
alter table app.subscription_item drop column version;
