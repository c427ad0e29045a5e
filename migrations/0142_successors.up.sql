-- A subscription that was moved because its plan was retired says so.

alter table app.subscription add column succeeds text;
comment on column app.subscription.succeeds is
  'The retired plan that its own follows, where the catalogue said so and nobody asked for it.';
