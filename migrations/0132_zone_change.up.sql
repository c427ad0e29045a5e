-- A tenant's days may begin in another zone from some boundary on: an invoice keeps the zone that it was drafted in.

alter table app.invoice add column zone text;
comment on column app.invoice.zone is 'IANA zone of its dates; its tenant''s where it is null, until that moves.';
comment on column app.subscription.zone is 'IANA zone in which the days of its present period count; its tenant''s from its next boundary on.';
