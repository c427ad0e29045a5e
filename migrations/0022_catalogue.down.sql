-- Back to one row a plan. Kept of each plan is its current version, as far as the old tables can hold
-- it; add-ons, coupons and plans of other intervals are not.

create table app.plan (
  plan text primary key,
  name text not null,
  interval_unit text not null check (interval_unit in ('month', 'year')),
  trial_days integer not null check (trial_days between 0 and 730)
);
comment on table app.plan is 'What can be subscribed to.';
comment on column app.plan.plan is 'Its key.';
comment on column app.plan.name is 'For people.';
comment on column app.plan.interval_unit is 'Length of a billing period.';
comment on column app.plan.trial_days is 'Free local days before the first period; 0 for none.';

create table app.price (
  plan text not null references app.plan (plan),
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  amount numeric not null check (amount >= 0),
  primary key (plan, currency)
);
comment on table app.price is 'What a period of a plan costs, per currency.';
comment on column app.price.plan is 'The plan.';
comment on column app.price.currency is 'ISO 4217 code.';
comment on column app.price.amount is 'In the currency''s units, with no more decimals than it has.';
grant select on app.plan, app.price to tenure_tenant;
grant select, insert, update on app.plan, app.price to tenure_control;

insert into app.plan (plan, name, interval_unit, trial_days)
select distinct on (key) key, terms->>'name', terms->>'interval', coalesce((terms->'trial'->>'days')::integer, 0)
from app.catalogue_entry
where kind = 'plan'
  and terms->>'interval' in ('month', 'year')
order by key, version desc;

insert into app.price (plan, currency, amount)
select plan.plan, price.key, price.value::numeric
from app.plan
join lateral (
  select terms
  from app.catalogue_entry
  where kind = 'plan' and key = plan.plan
  order by version desc
  limit 1
) as current on true
cross join lateral jsonb_each_text(current.terms->'prices') as price;

drop table app.catalogue_entry;
