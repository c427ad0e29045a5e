-- What an attempt waits for has an end, and what comes after it is heard: money that comes late, and
-- payments that are disputed.

alter table app.payment
  add column rail text,
  add column late_at timestamptz,
  add constraint payment_late_was_declined check (late_at is null or status = 'declined') not valid;
comment on column app.payment.rail is 'By which rail it is made: a card''s brand, or the provider''s name of a debit; null when it is not known.';
comment on column app.payment.late_at is 'When it was paid after all, though it counted as failed. All of it is credit.';

-- Events about disputes carry the charge and no tenant: the directory of whose charge it is.
create index payment_by_intent on app.payment (provider_intent_id, shard_id) where provider_intent_id is not null;
create policy control_read on app.payment for select to tenure_control using (true);
grant select (provider_intent_id, shard_id, tenant_id, invoice_id, generation) on app.payment to tenure_control;

create table app.dispute (
  dispute_id text not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  invoice_id uuid not null,
  generation integer not null check (generation >= 1),
  currency text not null,
  amount numeric not null check (amount > 0),
  fee numeric not null,
  reason text not null,
  standing text not null check (standing in ('inquiry', 'open', 'won', 'lost', 'closed')),
  evidence_due_at timestamptz,
  opened_at timestamptz not null,
  settled_at timestamptz,
  primary key (dispute_id, shard_id),
  foreign key (invoice_id, shard_id) references app.invoice (invoice_id, shard_id),
  constraint dispute_settled_whole check ((settled_at is null) = (standing in ('inquiry', 'open')))
);
create index dispute_of_invoice on app.dispute (invoice_id, shard_id);
create index dispute_by_tenant on app.dispute (tenant_id, shard_id);
comment on table app.dispute is 'A payment that its customer disputes at the bank. Owned by the charge''s run.';
comment on column app.dispute.dispute_id is 'The provider''s id.';
comment on column app.dispute.shard_id is 'The tenant''s shard.';
comment on column app.dispute.tenant_id is 'The owner.';
comment on column app.dispute.invoice_id is 'The invoice that was paid.';
comment on column app.dispute.generation is 'The attempt that paid it.';
comment on column app.dispute.currency is 'ISO 4217 code.';
comment on column app.dispute.amount is 'What is disputed; it may be less than the payment.';
comment on column app.dispute.fee is 'What the provider took for it so far, in the currency of the dispute.';
comment on column app.dispute.reason is 'Why, in the provider''s word.';
comment on column app.dispute.standing is 'inquiry: the bank only asks; open: the money is withdrawn; won: it came back; lost: it is gone; closed: none ever moved.';
comment on column app.dispute.evidence_due_at is 'Until when evidence is taken.';
comment on column app.dispute.opened_at is 'When we heard of it, in the tenant''s time.';
comment on column app.dispute.settled_at is 'When we heard of its end, in the tenant''s time.';
alter table app.dispute enable row level security;
alter table app.dispute force row level security;
create policy tenant_own on app.dispute to tenure_tenant using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update on app.dispute to tenure_tenant;

alter table app.credit_entry drop constraint credit_entry_reason_check;
alter table app.credit_entry add constraint credit_entry_reason_check check (
  reason in ('credit_note', 'applied', 'overpaid', 'granted', 'released', 'refund_failed', 'late_payment',
    'dispute_won')) not valid;
comment on column app.credit_entry.reason is 'credit_note, applied to an invoice, overpaid, granted by support, released by an invoice that was voided, a refund that failed, a late_payment, or dispute_won after its debt had been credited.';
comment on column app.credit_entry.reference is 'The credit note, the invoice, the grant itself, or the entry itself where one thing may lead to several.';
-- One invoice may take of the balance more than once: when it is finalised, and of each new credit.
drop index app.credit_entry_once;
create unique index credit_entry_once on app.credit_entry (reference, reason, tenant_id, shard_id) where reason <> 'applied';
