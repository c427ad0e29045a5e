-- no-transaction
-- Which runs a run has started, for `why`, for who looks for them, and for whoever closes them. All of them,
-- not only those that close with it: a parent that waits says for whom. In the order of their ids, as they are
-- listed. Runs that nobody's run started are not in it.
create index concurrently run_by_parent on engine.run (parent_run_id, run_id, shard_id)
  where parent_run_id is not null;
