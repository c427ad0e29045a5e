-- no-transaction
-- Which runs a run watches, for `why`. Few runs are watched; the others are not in it, and a claim or a
-- settlement changes nothing that it holds.
create index concurrently run_by_watcher on engine.run using gin (watchers) where watchers is not null;
