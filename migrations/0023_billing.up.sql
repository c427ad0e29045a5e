-- What a subscription is made of, what will become of it, and what is given back.
--
-- A subscription has items with a time in which they hold; what will change stands as one intent of
-- a kind. Lines keep what they were priced of, so that what is left of them can be given back. A
-- credit note gives back; what it gives lowers a debt, adds to the tenant's balance or is refunded.

-- Subscriptions.
alter table app.subscription rename column interval_unit to billing_interval;
alter table app.subscription drop constraint subscription_interval_unit_check;
alter table app.subscription drop constraint subscription_lifecycle_check;
alter table app.subscription drop constraint subscription_end_reason_check;
alter table app.subscription
  add column plan_version integer not null default 1 check (plan_version >= 1),
  add column seats integer check (seats >= 0),
  add column billing text not null default 'in_advance' check (billing in ('in_advance', 'in_arrears')),
  add column proration text not null default 'day' check (proration in ('day', 'second')),
  add column term_ends_at timestamptz,
  add column coupon text,
  add column coupon_off jsonb,
  add column coupon_left integer check (coupon_left >= 0);
alter table app.subscription
  alter column plan_version drop default,
  alter column billing drop default,
  alter column proration drop default;
alter table app.subscription
  add constraint subscription_interval_form check (billing_interval ~ '^([0-9]+ )?(day|week|month|quarter|year)s?$') not valid,
  add constraint subscription_lifecycle_known check (
    lifecycle in ('scheduled', 'incomplete', 'trialing', 'active', 'paused', 'ended')) not valid,
  add constraint subscription_end_reason_known check (
    end_reason in ('canceled', 'unpaid', 'expired', 'incomplete_expired', 'trial_expired')) not valid,
  add constraint subscription_coupon_left_of_one check ((coupon_left is null or coupon is not null) and (coupon is null) = (coupon_off is null)) not valid;
comment on column app.subscription.plan is 'The plan''s key.';
comment on column app.subscription.billing_interval is 'Length of a period, such as month or 2 weeks.';
comment on column app.subscription.amount is 'Price of a period: the sum of its items.';
comment on column app.subscription.lifecycle is 'scheduled, incomplete, trialing, active, paused or ended; debt, holds and intents are apart.';
comment on column app.subscription.end_reason is 'canceled, unpaid, expired with its fixed term, incomplete_expired without a first payment, or trial_expired without a payment method.';
comment on column app.subscription.plan_version is 'The version of the plan that it was sold at; it keeps it until it is moved.';
comment on column app.subscription.seats is 'How many seats; null where the plan has none.';
comment on column app.subscription.billing is 'in_advance or in_arrears.';
comment on column app.subscription.proration is 'What a part of a period is counted in: day or second.';
comment on column app.subscription.term_ends_at is 'When a fixed term ends.';
comment on column app.subscription.coupon is 'The coupon that was redeemed, while it holds.';
comment on column app.subscription.coupon_off is 'What comes off: a percentage, or an amount of a period.';
comment on column app.subscription.coupon_left is 'For how many more periods; null for ever.';

create table app.subscription_item (
  subscription_id uuid not null,
  item text not null,
  valid_from timestamptz not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  name text not null,
  unit_price numeric not null check (unit_price >= 0),
  quantity integer not null check (quantity >= 0),
  valid_to timestamptz,
  primary key (subscription_id, item, valid_from, shard_id),
  constraint subscription_item_forward check (valid_to >= valid_from)
);
comment on table app.subscription_item is 'What a subscription has so many of, and when. A change ends one row and begins another; none is edited.';
comment on column app.subscription_item.subscription_id is 'The subscription.';
comment on column app.subscription_item.item is 'plan, seats, or an add-on''s key.';
comment on column app.subscription_item.valid_from is 'From when, inclusive, in the tenant''s time.';
comment on column app.subscription_item.shard_id is 'The tenant''s shard.';
comment on column app.subscription_item.tenant_id is 'The owner.';
comment on column app.subscription_item.name is 'For lines.';
comment on column app.subscription_item.unit_price is 'Of one for a period.';
comment on column app.subscription_item.quantity is 'How many.';
comment on column app.subscription_item.valid_to is 'Until when, exclusive; null while it holds.';

insert into app.subscription_item
  (subscription_id, item, valid_from, shard_id, tenant_id, name, unit_price, quantity, valid_to)
select subscription_id, 'plan', started_at, shard_id, tenant_id, plan, amount, 1, ended_at
from app.subscription;

create table app.subscription_intent (
  subscription_id uuid not null,
  kind text not null check (kind in ('change', 'cancel', 'pause', 'resume', 'move_anchor')),
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  effective_at timestamptz not null,
  details jsonb not null,
  requested_at timestamptz not null,
  primary key (subscription_id, kind, shard_id)
);
comment on table app.subscription_intent is 'What will become of a subscription: at most one of a kind. A new one replaces the old.';
comment on column app.subscription_intent.subscription_id is 'The subscription.';
comment on column app.subscription_intent.kind is 'change, cancel, pause, resume or move_anchor.';
comment on column app.subscription_intent.shard_id is 'The tenant''s shard.';
comment on column app.subscription_intent.tenant_id is 'The owner.';
comment on column app.subscription_intent.effective_at is 'When, in the tenant''s time.';
comment on column app.subscription_intent.details is 'What exactly.';
comment on column app.subscription_intent.requested_at is 'When it was asked for, in the tenant''s time.';

insert into app.subscription_intent
  (subscription_id, kind, shard_id, tenant_id, effective_at, details, requested_at)
select subscription_id, 'cancel', shard_id, tenant_id, cancel_at, '{"when": "period_end", "credit": "none"}', started_at
from app.subscription
where cancel_at is not null
  and lifecycle <> 'ended';
alter table app.subscription drop column cancel_at;

-- Tax.
create table app.tenant_tax (
  tenant_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  name text not null check (length(name) between 1 and 100),
  percent numeric not null check (percent between 0 and 100),
  inclusive boolean not null,
  primary key (tenant_id, shard_id)
);
comment on table app.tenant_tax is 'The tax on what a tenant is billed, as it was given from outside. None means none.';
comment on column app.tenant_tax.tenant_id is 'The tenant.';
comment on column app.tenant_tax.shard_id is 'Its shard.';
comment on column app.tenant_tax.name is 'For invoices, such as VAT.';
comment on column app.tenant_tax.percent is 'The rate.';
comment on column app.tenant_tax.inclusive is 'Whether prices hold it already.';

-- Invoices.
alter table app.invoice
  add column reason text not null default 'cycle' check (
    reason in ('start', 'cycle', 'change', 'resume', 'final')),
  add column subtotal numeric,
  add column discount numeric not null default 0 check (discount >= 0),
  add column tax numeric not null default 0 check (tax >= 0),
  add column tax_name text,
  add column tax_percent numeric,
  add column tax_inclusive boolean not null default false,
  add column credited numeric not null default 0 check (credited >= 0),
  add column balance_applied numeric not null default 0 check (balance_applied >= 0),
  add column priced text,
  add column priced_hash text,
  add constraint invoice_never_below_zero check (credited + balance_applied <= total) not valid;
update app.invoice set subtotal = total;
alter table app.invoice alter column subtotal set not null, alter column reason drop default;
comment on column app.invoice.reason is 'start, cycle, change, resume or final: what it was drafted for.';
comment on column app.invoice.subtotal is 'Sum of its lines before discounts.';
comment on column app.invoice.discount is 'What came off.';
comment on column app.invoice.tax is 'Added to the amounts, or held by them.';
comment on column app.invoice.tax_name is 'The tax''s name; null for none.';
comment on column app.invoice.tax_percent is 'Its rate.';
comment on column app.invoice.tax_inclusive is 'Whether the amounts hold the tax.';
comment on column app.invoice.total is 'What it is for, in all.';
comment on column app.invoice.credited is 'What credit notes took off the debt.';
comment on column app.invoice.balance_applied is 'What the tenant''s balance paid.';
comment on column app.invoice.priced is 'All that its lines were computed of, as JSON text; null for those from before it was kept.';
comment on column app.invoice.priced_hash is 'SHA-256 of that text, in hexadecimal.';

alter table app.invoice_line
  add column item text not null default 'plan',
  add column unit_price numeric,
  add column units bigint not null default 1 check (units >= 0),
  add column units_of bigint not null default 1 check (units_of >= 1),
  add column subtotal numeric,
  add column discount numeric not null default 0,
  add column tax numeric not null default 0,
  add column percent_off numeric not null default 0;
update app.invoice_line as line
set unit_price = line.amount,
  subtotal = line.amount,
  units = greatest(1, (line.period_end at time zone subscription.zone)::date - (line.period_start at time zone subscription.zone)::date),
  units_of = greatest(1, (line.period_end at time zone subscription.zone)::date - (line.period_start at time zone subscription.zone)::date)
from app.invoice
join app.subscription on subscription.subscription_id = invoice.subscription_id and subscription.shard_id = invoice.shard_id
where invoice.invoice_id = line.invoice_id
  and invoice.shard_id = line.shard_id;
update app.invoice_line set unit_price = amount, subtotal = amount where unit_price is null;
alter table app.invoice_line
  alter column unit_price set not null,
  alter column subtotal set not null,
  alter column item drop default,
  alter column units drop default,
  alter column units_of drop default;
comment on column app.invoice_line.item is 'plan, seats, setup-fee, or an add-on''s key.';
comment on column app.invoice_line.unit_price is 'Of one for a natural period.';
comment on column app.invoice_line.units is 'How long the service period is, in days or seconds.';
comment on column app.invoice_line.units_of is 'How long the natural period is that it is a part of.';
comment on column app.invoice_line.subtotal is 'Before discounts.';
comment on column app.invoice_line.discount is 'What came off.';
comment on column app.invoice_line.tax is 'Added to the amount, or held by it.';
comment on column app.invoice_line.percent_off is 'The percentage that came off.';
comment on column app.invoice_line.amount is 'After discounts; rounded to the currency''s minor unit, half away from zero.';
create index invoice_of_subscription on app.invoice (subscription_id, shard_id);

-- Credit.
create table app.credit_series (
  tenant_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  last_number integer not null check (last_number >= 0),
  primary key (tenant_id, shard_id)
);
comment on table app.credit_series is 'The last credit note''s number, per tenant: gapless.';
comment on column app.credit_series.tenant_id is 'The tenant.';
comment on column app.credit_series.shard_id is 'Its shard.';
comment on column app.credit_series.last_number is 'The last number given.';

create table app.credit_note (
  credit_note_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  invoice_id uuid not null,
  number integer not null check (number >= 1),
  currency text not null,
  reason text not null check (length(reason) between 1 and 2000),
  author text not null,
  tax numeric not null check (tax >= 0),
  total numeric not null check (total > 0),
  to_debt numeric not null check (to_debt >= 0),
  to_balance numeric not null check (to_balance >= 0),
  to_refund numeric not null check (to_refund >= 0),
  created_at timestamptz not null,
  primary key (credit_note_id, shard_id),
  foreign key (invoice_id, shard_id) references app.invoice (invoice_id, shard_id),
  constraint credit_note_all_goes_somewhere check (to_debt + to_balance + to_refund = total)
);
create unique index credit_note_number on app.credit_note (tenant_id, shard_id, number);
create index credit_note_of_invoice on app.credit_note (invoice_id, shard_id);
comment on table app.credit_note is 'What was given back of an invoice, and where it went.';
comment on column app.credit_note.credit_note_id is 'Identity.';
comment on column app.credit_note.shard_id is 'The tenant''s shard.';
comment on column app.credit_note.tenant_id is 'The owner.';
comment on column app.credit_note.invoice_id is 'The invoice.';
comment on column app.credit_note.number is 'Gapless per tenant.';
comment on column app.credit_note.currency is 'ISO 4217 code.';
comment on column app.credit_note.reason is 'Why.';
comment on column app.credit_note.author is 'Who gave it: from the token, or the run.';
comment on column app.credit_note.tax is 'Of the total.';
comment on column app.credit_note.total is 'What is given back, with tax.';
comment on column app.credit_note.to_debt is 'What it took off what was still owed for the invoice.';
comment on column app.credit_note.to_balance is 'What it added to the tenant''s balance.';
comment on column app.credit_note.to_refund is 'What goes back to the payment method.';
comment on column app.credit_note.created_at is 'When, in the tenant''s time.';

create table app.credit_note_line (
  credit_note_id uuid not null,
  line integer not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  invoice_id uuid not null,
  invoice_line integer not null,
  units bigint not null check (units >= 0),
  amount numeric not null check (amount >= 0),
  tax numeric not null check (tax >= 0),
  period_start timestamptz not null,
  period_end timestamptz not null,
  primary key (credit_note_id, line, shard_id),
  foreign key (credit_note_id, shard_id) references app.credit_note (credit_note_id, shard_id)
);
create index credit_note_line_of_invoice on app.credit_note_line (invoice_id, shard_id);
comment on table app.credit_note_line is 'What was given back of a line.';
comment on column app.credit_note_line.credit_note_id is 'The credit note.';
comment on column app.credit_note_line.line is 'Counts from 1.';
comment on column app.credit_note_line.shard_id is 'The tenant''s shard.';
comment on column app.credit_note_line.tenant_id is 'The owner.';
comment on column app.credit_note_line.invoice_id is 'The invoice.';
comment on column app.credit_note_line.invoice_line is 'Its line.';
comment on column app.credit_note_line.units is 'How much of the line''s units.';
comment on column app.credit_note_line.amount is 'Of its amount.';
comment on column app.credit_note_line.tax is 'Of its tax.';
comment on column app.credit_note_line.period_start is 'From when the line was not used.';
comment on column app.credit_note_line.period_end is 'Until when.';

create table app.credit_balance (
  tenant_id uuid not null,
  currency text not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  amount numeric not null check (amount >= 0),
  primary key (tenant_id, currency, shard_id)
);
comment on table app.credit_balance is 'What a tenant has in credit: the sum of its entries. The row is locked by whoever adds one.';
comment on column app.credit_balance.tenant_id is 'The tenant.';
comment on column app.credit_balance.currency is 'ISO 4217 code.';
comment on column app.credit_balance.shard_id is 'The tenant''s shard.';
comment on column app.credit_balance.amount is 'The sum.';

create table app.credit_entry (
  entry_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  currency text not null,
  amount numeric not null check (amount <> 0),
  reason text not null check (
    reason in ('credit_note', 'applied', 'overpaid', 'granted', 'released', 'refund_failed')),
  reference uuid not null,
  note text,
  author text not null,
  created_at timestamptz not null,
  primary key (entry_id, shard_id)
);
create unique index credit_entry_once on app.credit_entry (reference, reason, tenant_id, shard_id);
create index credit_entry_by_tenant on app.credit_entry (tenant_id, shard_id, entry_id);
comment on table app.credit_entry is 'How a tenant''s balance came about: entries that are only ever added.';
comment on column app.credit_entry.entry_id is 'Identity.';
comment on column app.credit_entry.shard_id is 'The tenant''s shard.';
comment on column app.credit_entry.tenant_id is 'The owner.';
comment on column app.credit_entry.currency is 'ISO 4217 code.';
comment on column app.credit_entry.amount is 'What it adds; below zero, what it takes.';
comment on column app.credit_entry.reason is 'credit_note, applied to an invoice, overpaid, granted by support, released by an invoice that was voided, or a refund that failed.';
comment on column app.credit_entry.reference is 'The credit note, the invoice, or the grant itself.';
comment on column app.credit_entry.note is 'Why, in the author''s words.';
comment on column app.credit_entry.author is 'Who added it: from the token, or the run.';
comment on column app.credit_entry.created_at is 'When, in the tenant''s time.';

create table app.refund (
  credit_note_id uuid not null,
  generation integer not null check (generation >= 1),
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  invoice_id uuid not null,
  currency text not null,
  amount numeric not null check (amount > 0),
  provider_intent_id text not null,
  status text not null check (status in ('sent', 'pending', 'succeeded', 'failed')),
  provider_refund_id text,
  failure text,
  sent_at timestamptz not null,
  settled_at timestamptz,
  primary key (credit_note_id, generation, shard_id)
);
create index refund_of_invoice on app.refund (invoice_id, shard_id);
comment on table app.refund is 'What goes back to a payment method for a credit note: one row a payment that it is taken from. Owned by its refund run.';
comment on column app.refund.credit_note_id is 'The credit note.';
comment on column app.refund.generation is 'The attempt at the invoice whose payment is given back.';
comment on column app.refund.shard_id is 'The tenant''s shard.';
comment on column app.refund.tenant_id is 'The owner.';
comment on column app.refund.invoice_id is 'The invoice.';
comment on column app.refund.currency is 'ISO 4217 code.';
comment on column app.refund.amount is 'How much.';
comment on column app.refund.provider_intent_id is 'The provider''s id of the charge.';
comment on column app.refund.status is 'sent, pending at the bank, succeeded or failed.';
comment on column app.refund.provider_refund_id is 'The provider''s id of the refund.';
comment on column app.refund.failure is 'Why it failed, in the provider''s word.';
comment on column app.refund.sent_at is 'When it was about to be sent.';
comment on column app.refund.settled_at is 'When the outcome was known.';

do $$
declare
  name text;
begin
  foreach name in array array[
    'subscription_item', 'subscription_intent', 'tenant_tax', 'credit_series', 'credit_note',
    'credit_note_line', 'credit_balance', 'credit_entry', 'refund'
  ] loop
    execute format('alter table app.%I enable row level security', name);
    execute format('alter table app.%I force row level security', name);
    execute format(
      'create policy tenant_own on app.%I to tenure_tenant using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant())',
      name);
    execute format('grant select, insert, update on app.%I to tenure_tenant', name);
  end loop;
end
$$;
grant delete on app.subscription_intent, app.tenant_tax to tenure_tenant;
