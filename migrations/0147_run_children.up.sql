-- no-transaction
-- All of its rows are in run_by_parent.
drop index concurrently engine.run_children;
