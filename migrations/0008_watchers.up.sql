-- Who watches a run stands in the run's own row: whoever ends it reads that row under its lock, and
-- so cannot miss a watcher that was added while it waited for the lock.

alter table engine.run add column watchers uuid[];
comment on column engine.run.watchers is 'Runs of the same tenant that asked to hear of its end.';
update engine.run
set watchers = watch.watchers
from (
  select run_id, shard_id, array_agg(watcher_run_id) as watchers
  from engine.watch
  group by run_id, shard_id
) as watch
where watch.run_id = run.run_id
  and watch.shard_id = run.shard_id
  and run.status < 10;
drop table engine.watch;
