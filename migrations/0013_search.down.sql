drop index engine.run_by_tenant;
alter table engine.run drop column attributes;
