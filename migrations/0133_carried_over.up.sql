-- What is too small for the provider is carried over: a balance may be below zero, and the next invoice
-- collects what it owes.

alter table app.payment drop constraint payment_status_check;
alter table app.payment add constraint payment_status_check check (
  status in ('sent', 'processing', 'requires_action', 'succeeded', 'declined', 'too_small')) not valid;
comment on column app.payment.status is 'sent, processing, requires_action, succeeded, declined, or too_small: below what the provider charges, so nothing was asked of the customer.';

alter table app.credit_balance drop constraint credit_balance_amount_check;
comment on table app.credit_balance is 'What a tenant has in credit: the sum of its entries; below zero, what was carried over and is to be collected. The row is locked by whoever adds one.';

alter table app.credit_entry drop constraint credit_entry_reason_check;
alter table app.credit_entry add constraint credit_entry_reason_check check (
  reason in ('credit_note', 'applied', 'overpaid', 'granted', 'released', 'refund_failed', 'late_payment',
    'dispute_won', 'carried_over', 'collected')) not valid;
alter table app.credit_entry add constraint credit_entry_direction check (
  case reason when 'carried_over' then amount < 0 when 'collected' then amount > 0 else true end) not valid;
comment on column app.credit_entry.reason is 'credit_note, applied to an invoice, overpaid, granted by support, released by an invoice that was voided, a refund that failed, a late_payment, dispute_won after its debt had been credited, carried_over of an invoice because the provider takes no charge so small, or collected by a later one.';

alter table app.invoice drop constraint invoice_balance_applied_check;
comment on column app.invoice.balance_applied is 'What the tenant''s balance paid, with what was carried over to it; below zero, what the invoice collected for earlier ones.';
