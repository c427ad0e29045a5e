-- Takes schedules away. Runs that they started stay, and so does what was audited.
drop table engine.slot;
drop table engine.schedule;
comment on column engine.audit.run_id is 'The run.';
comment on column engine.audit.shard_id is 'The run''s shard.';
