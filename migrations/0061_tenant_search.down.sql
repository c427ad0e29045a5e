revoke select (tenant_id, shard_id, provider_intent_id) on app.payment from tenure_control;
revoke select (tenant_id, shard_id, provider_customer_id, default_method_id) on app.customer from tenure_control;
drop policy control_find on app.payment;
drop policy control_find on app.customer;
drop index app.payment_by_provider_id;
drop index app.customer_by_method;
drop index app.customer_by_provider_id;
