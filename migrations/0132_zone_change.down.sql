comment on column app.subscription.zone is 'IANA zone in which its periods begin, as of the start.';
alter table app.invoice drop column zone;
