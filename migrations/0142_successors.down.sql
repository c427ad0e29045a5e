-- Back to subscriptions that do not tell why they were moved.

update app.catalogue_entry set terms = terms - 'successor' where kind = 'plan' and terms ? 'successor';
alter table app.subscription drop column succeeds;
