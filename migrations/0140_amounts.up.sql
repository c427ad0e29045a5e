-- An amount that the provider takes of nobody is a decline of a class of its own.

alter table app.payment drop constraint payment_decline_class_check;
alter table app.payment add constraint payment_decline_class_check check (
  decline_class in ('hard', 'data', 'soft', 'amount')) not valid;
comment on column app.payment.decline_class is 'hard, data or soft: what a retry could change; amount: nothing of the customer''s, for the provider takes no such amount.';
comment on column app.payment.amount is 'What is charged: of what is owed, as much as the provider takes of the currency''s smallest unit.';
