comment on column app.backfill.trouble is 'Why it is held: kind and what the database said.';
update app.backfill set trouble = null where status = 'ended';
alter table app.backfill drop constraint backfill_held;
alter table app.backfill add constraint backfill_held check ((trouble is not null) = (status = 'held'));

comment on column app.backfill_range.detail is 'What throttles it, why it is held, or why it was skipped.';
comment on column app.backfill_range.status is
  'planned; filling, verifying, throttled, paused or held while it is worked on; skipped or filled.';
alter table app.backfill_range drop column unseen;
update app.backfill_range set status = 'skipped' where status = 'gone';
alter table app.backfill_range drop constraint backfill_range_status_check;
alter table app.backfill_range add constraint backfill_range_status_check check (
  status in ('planned', 'filling', 'verifying', 'throttled', 'paused', 'held', 'skipped', 'filled'));
