-- Back to one series a tenant. A number that two legal entities gave to one tenant would stand there
-- twice, so then there is no way back.

do $$
declare
  twice record;
begin
  select tenant_id, number, kind into twice
  from (
    select tenant_id, number, 'invoices' as kind from app.invoice where number is not null
    union all
    select tenant_id, number, 'credit notes' from app.credit_note
  ) as given
  group by tenant_id, number, kind
  having count(*) > 1
  limit 1;
  if found then
    raise exception 'tenant % has % with the number % of two legal entities: one series cannot hold both, so migration 0131 cannot be undone',
      twice.tenant_id, twice.kind, twice.number;
  end if;
end
$$;

drop index app.credit_note_number;
create unique index credit_note_number on app.credit_note (tenant_id, shard_id, number);
alter table app.credit_note drop column legal_entity;
comment on column app.credit_note.number is 'Gapless per tenant.';

drop index app.invoice_number;
create unique index invoice_number on app.invoice (tenant_id, shard_id, number) where number is not null;
alter table app.invoice drop column legal_entity, drop column seller;
comment on column app.invoice.number is 'Gapless per tenant, given at finalisation.';

-- Of a tenant's series the one that is furthest goes on.
delete from app.credit_series as series
using app.credit_series as further
where further.tenant_id = series.tenant_id
  and further.shard_id = series.shard_id
  and (further.last_number, further.legal_entity) > (series.last_number, series.legal_entity);
alter table app.credit_series
  drop constraint credit_series_pkey,
  drop column legal_entity,
  add constraint credit_series_pkey primary key (tenant_id, shard_id);
comment on table app.credit_series is 'The last credit note''s number, per tenant: gapless.';
delete from app.invoice_series as series
using app.invoice_series as further
where further.tenant_id = series.tenant_id
  and further.shard_id = series.shard_id
  and (further.last_number, further.legal_entity) > (series.last_number, series.legal_entity);
alter table app.invoice_series
  drop constraint invoice_series_pkey,
  drop column legal_entity,
  add constraint invoice_series_pkey primary key (tenant_id, shard_id);
comment on table app.invoice_series is 'The last invoice number given, per tenant: gapless, because it moves with the finalisation.';

drop index app.tenant_by_legal_entity;
alter table app.tenant drop column legal_entity;

delete from app.catalogue_entry where kind = 'legal_entity';
alter table app.catalogue_entry
  drop constraint catalogue_entry_kind_check,
  add constraint catalogue_entry_kind_check check (kind in ('plan', 'add_on', 'coupon'));
comment on table app.catalogue_entry is 'What can be subscribed to: versions that are only ever added. The highest is current.';
comment on column app.catalogue_entry.kind is 'plan, add_on or coupon.';
comment on column app.catalogue_entry.terms is 'What it offers, at what price.';
