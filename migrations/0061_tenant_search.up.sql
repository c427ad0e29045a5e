-- Support finds a tenant by what stands in the provider's dashboard: its customer, its method, a
-- charge. Control reads these columns of all tenants and no others.

create index customer_by_provider_id on app.customer (provider_customer_id);
create index customer_by_method on app.customer (default_method_id) where default_method_id is not null;
create index payment_by_provider_id on app.payment (provider_intent_id) where provider_intent_id is not null;
create policy control_find on app.customer for select to tenure_control using (true);
create policy control_find on app.payment for select to tenure_control using (true);
grant select (tenant_id, shard_id, provider_customer_id, default_method_id) on app.customer to tenure_control;
grant select (tenant_id, shard_id, provider_intent_id) on app.payment to tenure_control;
