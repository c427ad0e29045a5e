-- no-transaction
drop index concurrently app.tenant_by_name;
