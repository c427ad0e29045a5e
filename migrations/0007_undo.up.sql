-- Reversing what a failed visit did.

alter table engine.run
  add column undo bytea,
  add constraint run_undo_while_live check (undo is null or status < 10);
comment on column engine.run.undo is
  'What is left to reverse, as JSON in UTF-8: {then, error, left: [{name, args}]}, the newest last; null when nothing is.';
