-- What follows from a deadline is a level later also where a run's end tells its parent, and where a run has
-- waited for room.

alter table engine.nudge add column later boolean not null default false;
comment on column engine.nudge.later is
  'Whether it follows from what a deadline woke, and so wakes the run a level later.';
alter table engine.waiter add column later boolean not null default false;
comment on column engine.waiter.later is 'Whether it waits for room for what a deadline woke.';
