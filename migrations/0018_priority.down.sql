revoke insert on engine.clocked from tenure_tenant;
drop table engine.tenant_weight;
create index due_at on engine.due (due_at);
drop index engine.due_by_priority;
alter table engine.due drop column priority;
alter table engine.run drop column priority;
