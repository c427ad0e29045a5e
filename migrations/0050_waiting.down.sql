-- Back to attempts that wait without a limit. Disputes are lost, and late money is a grant.

update app.credit_entry set reason = 'granted' where reason in ('late_payment', 'dispute_won');
-- What an invoice took in several parts is one again.
with merged as (
  select reference, tenant_id, shard_id, sum(amount) as amount, (array_agg(entry_id order by entry_id))[1] as kept
  from app.credit_entry
  where reason = 'applied'
  group by reference, tenant_id, shard_id
  having count(*) > 1
), dropped as (
  delete from app.credit_entry as entry
  using merged
  where entry.reason = 'applied'
    and (entry.reference, entry.tenant_id, entry.shard_id) = (merged.reference, merged.tenant_id, merged.shard_id)
    and entry.entry_id <> merged.kept
)
update app.credit_entry as entry
set amount = merged.amount
from merged
where entry.entry_id = merged.kept
  and entry.shard_id = merged.shard_id;
drop index app.credit_entry_once;
create unique index credit_entry_once on app.credit_entry (reference, reason, tenant_id, shard_id);
alter table app.credit_entry drop constraint credit_entry_reason_check;
alter table app.credit_entry add constraint credit_entry_reason_check check (
  reason in ('credit_note', 'applied', 'overpaid', 'granted', 'released', 'refund_failed'));
comment on column app.credit_entry.reason is 'credit_note, applied to an invoice, overpaid, granted by support, released by an invoice that was voided, or a refund that failed.';
comment on column app.credit_entry.reference is 'The credit note, the invoice, or the grant itself.';
drop table app.dispute;
revoke select (provider_intent_id, shard_id, tenant_id, invoice_id, generation) on app.payment from tenure_control;
drop policy control_read on app.payment;
drop index app.payment_by_intent;
alter table app.payment
  drop constraint payment_late_was_declined,
  drop column rail,
  drop column late_at;
