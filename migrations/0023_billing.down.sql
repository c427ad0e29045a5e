-- Back to one price a subscription and one line an invoice. What the old tables cannot hold is lost:
-- items, intents other than a wish to end, credit, refunds, taxes.

drop table app.refund;
drop table app.credit_entry;
drop table app.credit_balance;
drop table app.credit_note_line;
drop table app.credit_note;
drop table app.credit_series;
drop index app.invoice_of_subscription;
alter table app.invoice_line
  drop column item,
  drop column unit_price,
  drop column units,
  drop column units_of,
  drop column subtotal,
  drop column discount,
  drop column tax,
  drop column percent_off;
comment on column app.invoice_line.amount is 'Rounded to the currency''s minor unit, half away from zero.';
alter table app.invoice
  drop constraint invoice_never_below_zero,
  drop column reason,
  drop column subtotal,
  drop column discount,
  drop column tax,
  drop column tax_name,
  drop column tax_percent,
  drop column tax_inclusive,
  drop column credited,
  drop column balance_applied,
  drop column priced,
  drop column priced_hash;
comment on column app.invoice.total is 'Sum of its lines.';
drop table app.tenant_tax;
alter table app.subscription add column cancel_at timestamptz;
comment on column app.subscription.cancel_at is 'When it will end, if somebody asked for it.';
update app.subscription
set cancel_at = intent.effective_at
from app.subscription_intent as intent
where intent.subscription_id = subscription.subscription_id
  and intent.shard_id = subscription.shard_id
  and intent.kind = 'cancel';
drop table app.subscription_intent;
drop table app.subscription_item;
alter table app.subscription
  drop constraint subscription_interval_form,
  drop constraint subscription_lifecycle_known,
  drop constraint subscription_end_reason_known,
  drop constraint subscription_coupon_left_of_one,
  drop column plan_version,
  drop column seats,
  drop column billing,
  drop column proration,
  drop column term_ends_at,
  drop column coupon,
  drop column coupon_off,
  drop column coupon_left;
update app.subscription set lifecycle = 'active' where lifecycle = 'paused';
update app.subscription set lifecycle = 'scheduled' where lifecycle = 'incomplete';
update app.subscription set end_reason = 'canceled' where end_reason not in ('canceled', 'unpaid');
update app.subscription set billing_interval = 'month' where billing_interval not in ('month', 'year');
alter table app.subscription rename column billing_interval to interval_unit;
alter table app.subscription
  add constraint subscription_interval_unit_check check (interval_unit in ('month', 'year')),
  add constraint subscription_lifecycle_check check (lifecycle in ('scheduled', 'trialing', 'active', 'ended')),
  add constraint subscription_end_reason_check check (end_reason in ('canceled', 'unpaid'));
comment on column app.subscription.interval_unit is 'Length of a period, as of the start.';
comment on column app.subscription.amount is 'Price of a period, as of the start.';
comment on column app.subscription.lifecycle is 'scheduled, trialing, active or ended; debt and intents are apart.';
comment on column app.subscription.end_reason is 'canceled by the tenant, or unpaid.';
