-- no-transaction
-- A tenant by its name, as filters and the console name it. Written once a tenant. Built without a
-- lock on writes; if that is broken off, drop what is left of it and run it again.
create index concurrently tenant_by_name on app.tenant (lower(name));
