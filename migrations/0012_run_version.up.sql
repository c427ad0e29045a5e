-- no-transaction
-- Which workflows and versions runs are in, without looking at the runs: what a build that starts
-- asks. Not partial on live runs: an index whose condition names the status would make every claim
-- write to every index of the run. Built without a lock on writes; if that is broken off, drop what
-- is left of it and run it again.
create index concurrently run_version on engine.run (workflow, version, run_id);
