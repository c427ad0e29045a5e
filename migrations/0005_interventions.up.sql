-- What operators do to runs: pause, and the end of children with their parent.

alter table engine.run
  add column pausing boolean not null default false,
  add column paused_at timestamptz,
  add column closes boolean not null default false,
  add column close_policy smallint not null default 0 check (close_policy in (0, 1, 2)),
  add constraint run_paused_has_time check ((paused_at is not null) = (status = 5));
comment on column engine.run.pausing is 'A pause was asked for while a worker held it; it is paused when the visit ends.';
comment on column engine.run.paused_at is 'Since when it is paused, in the tenant''s time: on resuming, relative deadlines move by what passed.';
comment on column engine.run.closes is 'It has children that end with it.';
comment on column engine.run.close_policy is 'What the end of its parent means for it: 0 nothing, 1 cancel, 2 terminate.';
create index run_children on engine.run (parent_run_id, shard_id) where close_policy > 0;

alter table engine.inbox
  drop constraint inbox_kind_check,
  add constraint inbox_kind_check check (kind in (0, 1, 2, 3));
comment on column engine.inbox.kind is '0 signal, 1 a child or watched run finished, 2 cancel, 3 terminate.';

comment on column engine.transition.outcome is
  'went, stayed, completed, failed, cancelled, terminated, retrying, stuck, no handler; or an operator''s verb.';
