-- no-transaction
-- A tenant's invoices, all or the one with an id.
create index concurrently invoice_by_tenant on app.invoice (tenant_id, invoice_id, shard_id);
