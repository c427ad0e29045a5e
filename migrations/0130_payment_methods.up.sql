-- A tenant pays by several methods, in an order; an attempt keeps which offer of a method it charged.

create table app.payment_method (
  tenant_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  method_id text not null,
  position integer not null check (position >= 1),
  brand text not null,
  last4 text not null,
  expires_on date,
  offer integer not null check (offer >= 1),
  primary key (tenant_id, shard_id, method_id),
  foreign key (tenant_id, shard_id) references app.customer (tenant_id, shard_id),
  constraint payment_method_position unique (tenant_id, shard_id, position) deferrable initially deferred
);
create index payment_method_by_id on app.payment_method (method_id);
comment on table app.payment_method is 'What a tenant pays by, in its order. Owned by the tenant run.';
comment on column app.payment_method.tenant_id is 'The tenant.';
comment on column app.payment_method.shard_id is 'Its shard.';
comment on column app.payment_method.method_id is 'The provider''s id of it.';
comment on column app.payment_method.position is 'Its place in the order, from 1; the first that is usable is charged.';
comment on column app.payment_method.brand is 'Its brand, such as visa.';
comment on column app.payment_method.last4 is 'Its last four digits.';
comment on column app.payment_method.expires_on is 'The last day on which it can be charged, if it is a card.';
comment on column app.payment_method.offer is 'How often it was given: what refused it before it was given again counts no more.';
alter table app.payment_method enable row level security;
alter table app.payment_method force row level security;
create policy tenant_own on app.payment_method to tenure_tenant using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
create policy control_find on app.payment_method for select to tenure_control using (true);
grant select, insert, update, delete on app.payment_method to tenure_tenant;
create policy control_erase on app.payment_method to tenure_control using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select (ctid, tenant_id, shard_id, method_id), update, delete on app.payment_method to tenure_control;

insert into app.payment_method (tenant_id, shard_id, method_id, position, brand, last4, expires_on, offer)
select tenant_id, shard_id, default_method_id, 1, method_brand, method_last4, method_expires_on, 1
from app.customer
where default_method_id is not null;
alter table app.customer
  drop column default_method_id,
  drop column method_brand,
  drop column method_last4,
  drop column method_expires_on;

alter table app.payment add column method_offer integer not null default 1;
comment on column app.payment.method_offer is 'Which offer of its method it charged; see payment_method.offer.';
