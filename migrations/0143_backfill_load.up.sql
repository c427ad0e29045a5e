-- How many ranges of a backfill work at this moment is asked before each batch: they share one load.

create index backfill_range_at_work on app.backfill_range (backfill_id, shard_id)
  where status in ('planned', 'filling', 'verifying');
