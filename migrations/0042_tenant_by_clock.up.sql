-- no-transaction
-- What a plan at scale lacked: the tenants of a test clock among all tenants. Written once a tenant.
-- Built without a lock on writes; if that is broken off, drop what is left of it and run it again.
create index concurrently tenant_by_clock on engine.tenant (clock_id) where clock_id is not null;
