-- no-transaction
drop index concurrently engine.tenant_by_clock;
