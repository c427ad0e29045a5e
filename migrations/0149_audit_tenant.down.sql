drop index engine.control_audit_by_tenant;
create index control_audit_by_tenant on engine.control_audit ((after ->> 'tenant_id'), at, act_id);
alter table engine.control_audit drop column tenant_id;
