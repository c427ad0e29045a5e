-- Failovers that workers noticed, and what was gone after them.

create table engine.failover (
  failover_id uuid primary key,
  noticed_at timestamptz not null,
  worker text not null,
  timeline_before bigint not null check (timeline_before >= 0),
  timeline_after bigint not null check (timeline_after >= 0),
  checked integer not null check (checked >= 0),
  lost_commits integer not null check (lost_commits between 0 and checked),
  lost_rows integer not null check (lost_rows >= lost_commits),
  first_lost_run uuid
);
comment on table engine.failover is
  'One line for each worker that found itself on another timeline of Postgres: whether commits that it had been told of were gone. A control table.';
comment on column engine.failover.failover_id is 'A UUID made by the worker.';
comment on column engine.failover.noticed_at is 'When it was noticed, in the engine''s time.';
comment on column engine.failover.worker is 'The worker''s name.';
comment on column engine.failover.timeline_before is 'The timeline that it knew; 0 if the server does not tell.';
comment on column engine.failover.timeline_after is 'The timeline that it found; lower than before when an old primary took the writes again.';
comment on column engine.failover.checked is 'How many group commits of the last two minutes it looked up again.';
comment on column engine.failover.lost_commits is 'How many of them were gone.';
comment on column engine.failover.lost_rows is 'How many step records and settlements those had held.';
comment on column engine.failover.first_lost_run is 'A run of the earliest commit that was gone.';
create index failover_latest on engine.failover (noticed_at desc);
grant select, insert on engine.failover to tenure_engine;
