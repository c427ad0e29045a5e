-- Whether the current visit was begun before: one mark, instead of a guess from what else is known
-- of it, which people may make the engine forget.

alter table engine.run add column begun boolean not null default false;
comment on column engine.run.begun is
  'The current visit was begun before: it may have a journal, and what it did may repeat. Only the cut of the journal clears it.';
update engine.run
set begun = true
where attempt > 0
  or losses > 0
  or (error is not null and status < 10);
