-- Back to an audit that only SQL reads.

revoke select on engine.control_audit from tenure_tenant;
drop policy tenant_own on engine.control_audit;
drop policy engine_all on engine.control_audit;
alter table engine.control_audit no force row level security;
alter table engine.control_audit disable row level security;

drop index engine.control_audit_by_tenant;
drop index engine.control_audit_by_subject;
drop index engine.control_audit_at;
create index control_audit_at on engine.control_audit (at);
drop index engine.audit_by_tenant;
drop index engine.audit_by_time;
create index audit_by_time on engine.audit (at);
