-- Back to declines of three classes: an amount that the provider does not take is mended by no retry.

update app.payment set decline_class = 'hard' where decline_class = 'amount';
alter table app.payment drop constraint payment_decline_class_check;
alter table app.payment add constraint payment_decline_class_check check (
  decline_class in ('hard', 'data', 'soft')) not valid;
comment on column app.payment.decline_class is 'hard, data or soft: what a retry could change.';
comment on column app.payment.amount is 'What is charged.';
