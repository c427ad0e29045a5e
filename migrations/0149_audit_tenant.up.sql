-- An act on what is no run says whose that is: a subscription, an invoice, a hold. Until now it was read out of
-- what the act left behind, where that had it. A tenant reads no more than before.

alter table engine.control_audit add column tenant_id uuid;
comment on column engine.control_audit.tenant_id is
  'Whose that is: the tenant itself, or the one that has it. Null for what is no tenant''s.';

-- Row by row what names a tenant of the directory; what does not is left alone.
update engine.control_audit as act
set tenant_id = tenant.tenant_id
from engine.tenant
where tenant.tenant_id::text = coalesce(
  act.after ->> 'tenant_id',
  act.before ->> 'tenant_id',
  substring(act.subject from '^(?:tenant )?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$'));

-- What was done to subscriptions, invoices and the like named no tenant.
update engine.control_audit as act
set tenant_id = coalesce(
  (select tenant_id from app.subscription where subscription_id = act.subject::uuid limit 1),
  (select tenant_id from app.invoice where invoice_id = act.subject::uuid limit 1),
  (select tenant_id from app.hold where hold_id = act.subject::uuid limit 1),
  (select tenant_id from app.dunning_exemption where exemption_id = act.subject::uuid limit 1),
  (select tenant_id from app.data_hold where hold_id = act.subject::uuid limit 1),
  (select tenant_id from app.data_export where export_id = act.subject::uuid limit 1))
where tenant_id is null
  and subject ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';

drop index engine.control_audit_by_tenant;
create index control_audit_by_tenant on engine.control_audit (tenant_id, at, act_id) where tenant_id is not null;
