delete from engine.inbox where kind = 3;
alter table engine.inbox
  drop constraint inbox_kind_check,
  add constraint inbox_kind_check check (kind in (0, 1, 2));
comment on column engine.inbox.kind is '0 signal, 1 a child or watched run finished, 2 cancel.';
drop index engine.run_children;
alter table engine.run
  drop column close_policy,
  drop column closes,
  drop column paused_at,
  drop column pausing;
comment on column engine.transition.outcome is
  'went, stayed, completed, failed, cancelled, retrying, stuck, no handler.';
