-- Back to a quarantine that nothing leaves.

drop index app.webhook_event_by_time;
drop index app.webhook_event_to_try;
comment on column app.webhook_event.deliveries is 'How often it was delivered.';
alter table app.webhook_event
  drop constraint webhook_event_tried_in_quarantine,
  drop column tries,
  drop column next_try_at,
  drop column listed;
