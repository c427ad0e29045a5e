-- no-transaction
drop index concurrently engine.run_version;
