-- no-transaction
drop index concurrently engine.run_by_watcher;
