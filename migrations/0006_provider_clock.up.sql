-- The provider's own test clock, which follows the tenant's.

alter table app.customer add column provider_clock_id text;
comment on column app.customer.provider_clock_id is
  'The provider''s id of the test clock that the customer lives by, when the tenant is bound to one.';
