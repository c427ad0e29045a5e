-- no-transaction
drop index concurrently app.invoice_by_tenant;
