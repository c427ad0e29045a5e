-- The business: tenants, catalogue, subscriptions, invoices, payments, debt, mails.
--
-- Rows here, written by the run that owns them, are the only truth on money and debt. Rows of a
-- tenant carry shard_id in every key and are shown by row-level security; control tables (tenant
-- directory, catalogue, raw webhooks) are not sharded, and nothing sharded refers to them by key.

create schema app;
comment on schema app is 'The SaaS domain. May name runs of schema engine by id; the engine never names anything here.';
grant usage on schema app to tenure_tenant, tenure_control;

create table app.tenant (
  tenant_id uuid primary key,
  shard_id smallint not null check (shard_id between 0 and 1023),
  test_clock_id uuid,
  name text not null check (length(name) between 1 and 200),
  email text not null check (length(email) between 3 and 320),
  zone text not null,
  locale text not null,
  created_at timestamptz not null
);
comment on table app.tenant is 'The directory of paying organisations.';
comment on column app.tenant.tenant_id is 'Identity.';
comment on column app.tenant.shard_id is 'The shard of all its rows.';
comment on column app.tenant.test_clock_id is 'The test clock that it is bound to, if any.';
comment on column app.tenant.name is 'For people.';
comment on column app.tenant.email is 'Where its mails go.';
comment on column app.tenant.zone is 'IANA zone in which its days begin.';
comment on column app.tenant.locale is 'BCP 47 language tag of its mails.';
comment on column app.tenant.created_at is 'When it was created, in its own time.';

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

create table app.webhook_event (
  endpoint text not null,
  event_id text not null,
  event_type text not null,
  status text not null check (status in ('mapped', 'ignored', 'quarantined')),
  reason text,
  deliveries integer not null check (deliveries >= 1),
  received_at timestamptz not null,
  body bytea not null,
  primary key (endpoint, event_id)
);
comment on table app.webhook_event is 'What providers told us, verified, once per event.';
comment on column app.webhook_event.endpoint is 'Which door it came through, such as stripe.';
comment on column app.webhook_event.event_id is 'The provider''s id of the event.';
comment on column app.webhook_event.event_type is 'The provider''s name for what happened.';
comment on column app.webhook_event.status is 'mapped: a run was signalled; ignored: nobody needs it; quarantined: nobody could be found.';
comment on column app.webhook_event.reason is 'Why it was ignored or quarantined.';
comment on column app.webhook_event.deliveries is 'How often it was delivered.';
comment on column app.webhook_event.received_at is 'When it first came, in real time.';
comment on column app.webhook_event.body is 'The raw body, as it was signed.';

create table app.customer (
  tenant_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  provider_customer_id text not null,
  default_method_id text,
  method_brand text,
  method_last4 text,
  method_error text,
  primary key (tenant_id, shard_id),
  constraint customer_method_whole check ((default_method_id is null) = (method_brand is null) and (method_brand is null) = (method_last4 is null))
);
comment on table app.customer is 'The tenant at the payment provider. Owned by the tenant run.';
comment on column app.customer.tenant_id is 'The tenant.';
comment on column app.customer.shard_id is 'Its shard.';
comment on column app.customer.provider_customer_id is 'The provider''s id of the customer.';
comment on column app.customer.default_method_id is 'The provider''s id of the payment method that is charged.';
comment on column app.customer.method_brand is 'Its brand, such as visa.';
comment on column app.customer.method_last4 is 'Its last four digits.';
comment on column app.customer.method_error is 'Why the last method that was offered was refused.';

create table app.subscription (
  subscription_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  run_id uuid not null,
  plan text not null,
  interval_unit text not null check (interval_unit in ('month', 'year')),
  currency text not null,
  amount numeric not null check (amount >= 0),
  zone text not null,
  anchor_on date not null,
  started_at timestamptz not null,
  trial_ends_at timestamptz,
  lifecycle text not null check (lifecycle in ('scheduled', 'trialing', 'active', 'ended')),
  period_index integer,
  period_start timestamptz,
  period_end timestamptz,
  cancel_at timestamptz,
  ended_at timestamptz,
  end_reason text check (end_reason in ('canceled', 'unpaid')),
  primary key (subscription_id, shard_id),
  constraint subscription_period_whole check ((period_start is null) = (period_end is null) and (period_start is null) = (period_index is null)),
  constraint subscription_period_forward check (period_end > period_start),
  constraint subscription_ended_whole check ((ended_at is null) = (end_reason is null) and (ended_at is null) = (lifecycle <> 'ended'))
);
create index subscription_by_tenant on app.subscription (tenant_id, shard_id);
comment on table app.subscription is 'One subscription, with the price that it was made at. Owned by its subscription run.';
comment on column app.subscription.subscription_id is 'Identity.';
comment on column app.subscription.shard_id is 'The tenant''s shard.';
comment on column app.subscription.tenant_id is 'The owner.';
comment on column app.subscription.run_id is 'The run that drives it.';
comment on column app.subscription.plan is 'The plan''s key.';
comment on column app.subscription.interval_unit is 'Length of a period, as of the start.';
comment on column app.subscription.currency is 'ISO 4217 code.';
comment on column app.subscription.amount is 'Price of a period, as of the start.';
comment on column app.subscription.zone is 'IANA zone in which its periods begin, as of the start.';
comment on column app.subscription.anchor_on is 'Local day on which the first paid period begins; later ones return to its day of the month.';
comment on column app.subscription.started_at is 'When it was made.';
comment on column app.subscription.trial_ends_at is 'End of the trial, if there is one.';
comment on column app.subscription.lifecycle is 'scheduled, trialing, active or ended; debt and intents are apart.';
comment on column app.subscription.period_index is 'Counts paid periods from 0.';
comment on column app.subscription.period_start is 'Start of the current period, inclusive.';
comment on column app.subscription.period_end is 'End of the current period, exclusive.';
comment on column app.subscription.cancel_at is 'When it will end, if somebody asked for it.';
comment on column app.subscription.ended_at is 'When access ended.';
comment on column app.subscription.end_reason is 'canceled by the tenant, or unpaid.';

create table app.invoice_series (
  tenant_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  last_number integer not null check (last_number >= 0),
  primary key (tenant_id, shard_id)
);
comment on table app.invoice_series is 'The last invoice number given, per tenant: gapless, because it moves with the finalisation.';
comment on column app.invoice_series.tenant_id is 'The tenant.';
comment on column app.invoice_series.shard_id is 'Its shard.';
comment on column app.invoice_series.last_number is 'The last number given.';

create table app.invoice (
  invoice_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  subscription_id uuid not null,
  status text not null check (status in ('draft', 'open', 'paid', 'void', 'uncollectible')),
  number integer,
  currency text not null,
  total numeric not null check (total >= 0),
  attempts integer not null check (attempts >= 0),
  period_start timestamptz not null,
  period_end timestamptz not null,
  created_at timestamptz not null,
  finalized_at timestamptz,
  paid_at timestamptz,
  closed_at timestamptz,
  primary key (invoice_id, shard_id),
  constraint invoice_number_when_final check ((number is null) = (status = 'draft') and (number is null) = (finalized_at is null)),
  constraint invoice_paid_at_when_paid check ((paid_at is not null) = (status = 'paid')),
  constraint invoice_period_forward check (period_end > period_start)
);
create unique index invoice_number on app.invoice (tenant_id, shard_id, number) where number is not null;
create index invoice_open on app.invoice (tenant_id, shard_id, currency) where status = 'open';
comment on table app.invoice is 'What a tenant owes for a period. Owned by its invoice run.';
comment on column app.invoice.invoice_id is 'Identity.';
comment on column app.invoice.shard_id is 'The tenant''s shard.';
comment on column app.invoice.tenant_id is 'The owner.';
comment on column app.invoice.subscription_id is 'What it is for.';
comment on column app.invoice.status is 'draft, open, paid, void or uncollectible.';
comment on column app.invoice.number is 'Gapless per tenant, given at finalisation.';
comment on column app.invoice.currency is 'ISO 4217 code.';
comment on column app.invoice.total is 'Sum of its lines.';
comment on column app.invoice.attempts is 'Payment attempts so far; the generation of the last one.';
comment on column app.invoice.period_start is 'Start of the period, inclusive.';
comment on column app.invoice.period_end is 'End of the period, exclusive.';
comment on column app.invoice.created_at is 'When it was drafted.';
comment on column app.invoice.finalized_at is 'When it was finalised.';
comment on column app.invoice.paid_at is 'When it was paid.';
comment on column app.invoice.closed_at is 'When it was voided or written off.';

create table app.invoice_line (
  invoice_id uuid not null,
  line integer not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  description text not null,
  quantity numeric not null,
  amount numeric not null,
  period_start timestamptz not null,
  period_end timestamptz not null,
  primary key (invoice_id, line, shard_id),
  foreign key (invoice_id, shard_id) references app.invoice (invoice_id, shard_id) on delete cascade
);
comment on table app.invoice_line is 'A line of an invoice, rounded on its own.';
comment on column app.invoice_line.invoice_id is 'The invoice.';
comment on column app.invoice_line.line is 'Counts from 1.';
comment on column app.invoice_line.shard_id is 'The tenant''s shard.';
comment on column app.invoice_line.tenant_id is 'The owner.';
comment on column app.invoice_line.description is 'For people.';
comment on column app.invoice_line.quantity is 'How many.';
comment on column app.invoice_line.amount is 'Rounded to the currency''s minor unit, half away from zero.';
comment on column app.invoice_line.period_start is 'Start of the service period, inclusive.';
comment on column app.invoice_line.period_end is 'End of the service period, exclusive.';

create table app.payment (
  invoice_id uuid not null,
  generation integer not null check (generation >= 1),
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  currency text not null,
  amount numeric not null check (amount > 0),
  method_id text,
  status text not null check (status in ('sent', 'processing', 'requires_action', 'succeeded', 'declined')),
  provider_intent_id text,
  decline_code text,
  decline_class text check (decline_class in ('hard', 'data', 'soft')),
  sent_at timestamptz not null,
  settled_at timestamptz,
  primary key (invoice_id, generation, shard_id),
  foreign key (invoice_id, shard_id) references app.invoice (invoice_id, shard_id),
  constraint payment_declined_has_code check ((decline_code is not null) = (status = 'declined') and (decline_class is not null) = (status = 'declined'))
);
comment on table app.payment is 'One attempt at an invoice. Written before the charge is sent. Owned by its payment run.';
comment on column app.payment.invoice_id is 'The invoice.';
comment on column app.payment.generation is 'Counts attempts from 1; with the invoice it is the idempotency key at the provider.';
comment on column app.payment.shard_id is 'The tenant''s shard.';
comment on column app.payment.tenant_id is 'The owner.';
comment on column app.payment.currency is 'ISO 4217 code.';
comment on column app.payment.amount is 'What is charged.';
comment on column app.payment.method_id is 'The provider''s id of the method; null when there was none to charge.';
comment on column app.payment.status is 'sent, processing, requires_action, succeeded or declined.';
comment on column app.payment.provider_intent_id is 'The provider''s id of the charge.';
comment on column app.payment.decline_code is 'Why it was declined, in the provider''s word.';
comment on column app.payment.decline_class is 'hard, data or soft: what a retry could change.';
comment on column app.payment.sent_at is 'When it was about to be sent.';
comment on column app.payment.settled_at is 'When the outcome was known.';

create table app.debt (
  tenant_id uuid not null,
  currency text not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  state text not null check (state in ('clear', 'past_due', 'exhausted')),
  since timestamptz,
  next_attempt_at timestamptz,
  primary key (tenant_id, currency, shard_id),
  constraint debt_since_when_owing check ((since is null) = (state = 'clear'))
);
comment on table app.debt is 'Whether a tenant owes in a currency. Owned by its dunning run.';
comment on column app.debt.tenant_id is 'The tenant.';
comment on column app.debt.currency is 'ISO 4217 code.';
comment on column app.debt.shard_id is 'The tenant''s shard.';
comment on column app.debt.state is 'clear, past_due, or exhausted when the ladder has ended.';
comment on column app.debt.since is 'Since when.';
comment on column app.debt.next_attempt_at is 'When the next attempt is planned.';

create table app.notice (
  notice_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  kind text not null,
  dedupe_key text not null,
  recipient text not null,
  subject text not null,
  body_text text not null,
  body_html text not null,
  status text not null check (status in ('queued', 'sent', 'suppressed')),
  created_at timestamptz not null,
  sent_at timestamptz,
  primary key (notice_id, shard_id),
  constraint notice_sent_at_when_sent check ((sent_at is not null) = (status = 'sent'))
);
create unique index notice_dedupe on app.notice (dedupe_key, tenant_id, shard_id);
comment on table app.notice is 'A mail, as it was sent. Owned by its notice run.';
comment on column app.notice.notice_id is 'Identity, and the mail''s Message-ID.';
comment on column app.notice.shard_id is 'The tenant''s shard.';
comment on column app.notice.tenant_id is 'The owner.';
comment on column app.notice.kind is 'What it is about, such as receipt.';
comment on column app.notice.dedupe_key is 'What must be told once only; the run''s key.';
comment on column app.notice.recipient is 'The address.';
comment on column app.notice.subject is 'The subject line.';
comment on column app.notice.body_text is 'The text part.';
comment on column app.notice.body_html is 'The HTML part.';
comment on column app.notice.status is 'queued, sent, or suppressed because it had become moot.';
comment on column app.notice.created_at is 'When it was written, in the tenant''s time.';
comment on column app.notice.sent_at is 'When it was handed over, in the tenant''s time.';

do $$
declare
  name text;
begin
  foreach name in array array[
    'customer', 'subscription', 'invoice_series', 'invoice', 'invoice_line', 'payment', 'debt', 'notice'
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
alter table app.tenant enable row level security;
alter table app.tenant force row level security;
create policy control_all on app.tenant to tenure_control using (true) with check (true);
create policy tenant_own on app.tenant for select to tenure_tenant using (tenant_id = engine.current_tenant());
grant select on app.tenant, app.plan, app.price to tenure_tenant;
grant select, insert, update on app.tenant, app.plan, app.price, app.webhook_event to tenure_control;
-- Support reads the mails of all tenants, and nothing else across tenants.
create policy control_read on app.notice for select to tenure_control using (true);
grant select on app.notice to tenure_control;
