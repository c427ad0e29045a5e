-- Numbers are given by a legal entity to a tenant: each seller has series of its own. What was numbered
-- before was so by the one that has no name, which is all that a catalogue without legal entities has.

alter table app.catalogue_entry
  drop constraint catalogue_entry_kind_check,
  add constraint catalogue_entry_kind_check check (kind in ('plan', 'add_on', 'coupon', 'legal_entity'));
comment on table app.catalogue_entry is 'What can be subscribed to, and who sells it: versions that are only ever added. The highest is current.';
comment on column app.catalogue_entry.kind is 'plan, add_on, coupon or legal_entity.';
comment on column app.catalogue_entry.terms is 'What it offers, at what price; of a legal entity, how it is named.';

alter table app.tenant add column legal_entity text not null default '';
alter table app.tenant alter column legal_entity drop default;
comment on column app.tenant.legal_entity is 'Who issues its invoices, by the catalogue''s key; empty for the seller without a name.';
create index tenant_by_legal_entity on app.tenant (legal_entity, tenant_id);

alter table app.invoice_series add column legal_entity text not null default '';
alter table app.invoice_series
  alter column legal_entity drop default,
  drop constraint invoice_series_pkey,
  add constraint invoice_series_pkey primary key (tenant_id, shard_id, legal_entity);
comment on table app.invoice_series is 'The last invoice number given, per tenant and legal entity: gapless, because it moves with the finalisation.';
comment on column app.invoice_series.legal_entity is 'Who gives the numbers; empty for the seller without a name.';

alter table app.credit_series add column legal_entity text not null default '';
alter table app.credit_series
  alter column legal_entity drop default,
  drop constraint credit_series_pkey,
  add constraint credit_series_pkey primary key (tenant_id, shard_id, legal_entity);
comment on table app.credit_series is 'The last credit note''s number, per tenant and legal entity: gapless.';
comment on column app.credit_series.legal_entity is 'Who gives the numbers; empty for the seller without a name.';

alter table app.invoice add column legal_entity text, add column seller jsonb;
update app.invoice set legal_entity = '' where number is not null;
alter table app.invoice
  add constraint invoice_issued_when_final check (number is null or legal_entity is not null),
  add constraint invoice_seller_when_named check ((seller is not null) = (coalesce(legal_entity, '') <> ''));
comment on column app.invoice.legal_entity is 'Who issues it, as of its finalisation or its first credit note; empty for the seller without a name.';
comment on column app.invoice.seller is 'That legal entity as the catalogue named it then; null for the seller without a name.';
comment on column app.invoice.number is 'Gapless per tenant and legal entity, given at finalisation.';
drop index app.invoice_number;
create unique index invoice_number on app.invoice (tenant_id, shard_id, legal_entity, number) where number is not null;

alter table app.credit_note add column legal_entity text not null default '';
alter table app.credit_note alter column legal_entity drop default;
comment on column app.credit_note.legal_entity is 'Who issues it: the invoice''s; empty for the seller without a name.';
comment on column app.credit_note.number is 'Gapless per tenant and legal entity.';
drop index app.credit_note_number;
create unique index credit_note_number on app.credit_note (tenant_id, shard_id, legal_entity, number);
