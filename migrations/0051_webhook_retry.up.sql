-- Events that nobody could be found for are tried again, since what they are about may only be written
-- down now; and somebody may play one again.

alter table app.webhook_event
  add column tries integer not null default 0 check (tries >= 0),
  add column next_try_at timestamptz,
  add column listed boolean not null default false,
  add constraint webhook_event_tried_in_quarantine check (next_try_at is null or status = 'quarantined') not valid;
comment on column app.webhook_event.tries is 'How often it was tried again: by the watch over quarantine, or by a person.';
comment on column app.webhook_event.next_try_at is 'When it is tried again by itself, in real time; null for not any more.';
comment on column app.webhook_event.listed is 'It was not delivered but found in the provider''s list: its body is what mapping needs of it, and no more.';
comment on column app.webhook_event.deliveries is 'How often it was delivered, or found in the provider''s list.';
create index webhook_event_to_try on app.webhook_event (next_try_at) where next_try_at is not null;
create index webhook_event_by_time on app.webhook_event (received_at desc, event_id);
