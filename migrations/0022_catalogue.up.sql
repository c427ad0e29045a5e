-- The catalogue becomes a row a version, which never changes.
--
-- What was in app.plan and app.price is version 1. One table for plans, add-ons and coupons: they are
-- read one by one, by key, and what they hold is a document that one parser checks.

create table app.catalogue_entry (
  kind text not null check (kind in ('plan', 'add_on', 'coupon')),
  key text not null check (key ~ '^[a-z0-9-]{1,100}$'),
  version integer not null check (version >= 1),
  retired boolean not null,
  published_at timestamptz not null,
  terms jsonb not null check (jsonb_typeof(terms) = 'object'),
  primary key (kind, key, version)
);
comment on table app.catalogue_entry is 'What can be subscribed to: versions that are only ever added. The highest is current.';
comment on column app.catalogue_entry.kind is 'plan, add_on or coupon.';
comment on column app.catalogue_entry.key is 'Its name in requests.';
comment on column app.catalogue_entry.version is 'Counts from 1.';
comment on column app.catalogue_entry.retired is 'Whether nobody can have it who does not have it.';
comment on column app.catalogue_entry.published_at is 'When it was published, in real time.';
comment on column app.catalogue_entry.terms is 'What it offers, at what price.';
grant select on app.catalogue_entry to tenure_tenant;
grant select, insert on app.catalogue_entry to tenure_control;
-- To wait for another publication, whoever publishes locks the table.
grant update on app.catalogue_entry to tenure_control;

insert into app.catalogue_entry (kind, key, version, retired, published_at, terms)
select 'plan', plan.plan, 1, false, now(), jsonb_build_object(
  'name', plan.name,
  'interval', plan.interval_unit,
  'trial', jsonb_build_object('days', plan.trial_days),
  'prices', (select jsonb_object_agg(price.currency, price.amount::text) from app.price where price.plan = plan.plan))
from app.plan
where exists (select 1 from app.price where price.plan = plan.plan);

drop table app.price;
drop table app.plan;
