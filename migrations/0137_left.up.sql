-- A range leaves its backfill with its tenant; a backfill that was cancelled half-way says where; what a login does not see is told.

alter table app.backfill_range drop constraint backfill_range_status_check;
alter table app.backfill_range add constraint backfill_range_status_check check (
  status in ('planned', 'filling', 'verifying', 'throttled', 'paused', 'held', 'skipped', 'filled', 'gone'));
alter table app.backfill_range add column unseen text[] not null default '{}';
comment on column app.backfill_range.status is
  'planned; filling, verifying, throttled, paused or held while it is worked on; skipped or filled; gone with its tenant.';
comment on column app.backfill_range.unseen is
  'What is to throttle it and cannot, because the login at its source may not see the readings.';
comment on column app.backfill_range.detail is
  'What throttles it, why it is held or gone, or why it was skipped.';

alter table app.backfill drop constraint backfill_held;
alter table app.backfill add constraint backfill_held check (
  case status when 'held' then trouble is not null when 'ended' then true else trouble is null end);
comment on column app.backfill.trouble is
  'Why it is held, or was when it was cancelled: kind and what the database said.';
