-- Back to subscriptions that do not tell why they were moved.

alter table app.subscription drop column succeeds;
