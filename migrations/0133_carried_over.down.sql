-- Back to balances that are never below zero. What was carried over counts as paid by the balance; what
-- was not collected yet is forgiven, and what an invoice collected is a grant.

alter table app.invoice add constraint invoice_balance_applied_check check (balance_applied >= 0) not valid;
update app.invoice set balance_applied = 0 where balance_applied < 0;
comment on column app.invoice.balance_applied is 'What the tenant''s balance paid.';

alter table app.credit_entry
  drop constraint credit_entry_direction,
  drop constraint credit_entry_reason_check;
update app.credit_entry set reason = 'applied' where reason = 'carried_over';
update app.credit_entry set reason = 'granted', reference = entry_id where reason = 'collected';
insert into app.credit_entry
  (entry_id, shard_id, tenant_id, currency, amount, reason, reference, note, author, created_at)
select forgiven.id, forgiven.shard_id, forgiven.tenant_id, forgiven.currency, -forgiven.amount, 'granted',
  forgiven.id, 'carried over, and forgiven', 'migration', now()
from (select gen_random_uuid() as id, balance.* from app.credit_balance as balance where amount < 0) as forgiven;
alter table app.credit_entry add constraint credit_entry_reason_check check (
  reason in ('credit_note', 'applied', 'overpaid', 'granted', 'released', 'refund_failed', 'late_payment',
    'dispute_won')) not valid;
comment on column app.credit_entry.reason is 'credit_note, applied to an invoice, overpaid, granted by support, released by an invoice that was voided, a refund that failed, a late_payment, or dispute_won after its debt had been credited.';

update app.credit_balance set amount = 0 where amount < 0;
alter table app.credit_balance add constraint credit_balance_amount_check check (amount >= 0) not valid;
comment on table app.credit_balance is 'What a tenant has in credit: the sum of its entries. The row is locked by whoever adds one.';

update app.payment
set status = 'declined', decline_code = 'amount_too_small', decline_class = 'soft'
where status = 'too_small';
alter table app.payment drop constraint payment_status_check;
alter table app.payment add constraint payment_status_check check (
  status in ('sent', 'processing', 'requires_action', 'succeeded', 'declined')) not valid;
comment on column app.payment.status is 'sent, processing, requires_action, succeeded or declined.';
