-- Back to the one method that is charged: the first of the order. The others are forgotten here, and
-- stay at the provider.

alter table app.payment drop column method_offer;
alter table app.customer
  add column default_method_id text,
  add column method_brand text,
  add column method_last4 text,
  add column method_expires_on date;
comment on column app.customer.default_method_id is 'The provider''s id of the payment method that is charged.';
comment on column app.customer.method_brand is 'Its brand, such as visa.';
comment on column app.customer.method_last4 is 'Its last four digits.';
comment on column app.customer.method_expires_on is 'The last day on which the method can be charged, if it is a card.';
update app.customer
set default_method_id = first.method_id, method_brand = first.brand, method_last4 = first.last4,
  method_expires_on = first.expires_on
from (
  select distinct on (tenant_id, shard_id) *
  from app.payment_method
  order by tenant_id, shard_id, position
) as first
where (customer.tenant_id, customer.shard_id) = (first.tenant_id, first.shard_id);
alter table app.customer add constraint customer_method_whole check ((default_method_id is null) = (method_brand is null) and (method_brand is null) = (method_last4 is null));
create index customer_by_method on app.customer (default_method_id) where default_method_id is not null;
grant select (default_method_id) on app.customer to tenure_control;
drop table app.payment_method;
