-- Whether the current visit was begun before, whatever was forgotten of its attempts since.

alter table engine.run add column begun boolean not null default false;
comment on column engine.run.begun is
  'An operator has forgotten the attempts of the current visit, which was begun: it has a journal, and what it did may repeat.';
