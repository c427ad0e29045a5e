-- The audit is read: newest first, all of it or one tenant's, a page at a time. Humans act seldom, so
-- the indexes are built in the moment in which they wait.

drop index engine.audit_by_time;
create index audit_by_time on engine.audit (at, audit_id);
create index audit_by_tenant on engine.audit (tenant_id, at, audit_id);
drop index engine.control_audit_at;
create index control_audit_at on engine.control_audit (at, act_id);
create index control_audit_by_subject on engine.control_audit (subject, at, act_id);
create index control_audit_by_tenant on engine.control_audit ((after ->> 'tenant_id'), at, act_id);

-- A tenant sees the acts on itself.
alter table engine.control_audit enable row level security;
alter table engine.control_audit force row level security;
create policy engine_all on engine.control_audit to tenure_engine using (true) with check (true);
create policy tenant_own on engine.control_audit for select to tenure_tenant
  using (
    subject = engine.current_tenant()::text
    -- Of acts on a scope only these: others keep how all tenants stand.
    or (action in ('pause', 'lift pause') and subject = 'tenant ' || engine.current_tenant()::text)
  );
grant select on engine.control_audit to tenure_tenant;
