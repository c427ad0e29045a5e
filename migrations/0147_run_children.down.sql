-- no-transaction
create index concurrently run_children on engine.run (parent_run_id, shard_id) where close_policy > 0;
