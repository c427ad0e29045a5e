-- Takes the counter's tables away.
drop table app.idempotency;
drop table app.token;
