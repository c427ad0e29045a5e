drop function app.entitlement_facts(uuid);
drop function app.subscription_facts(uuid, smallint);
drop table app.entitlement_override;
