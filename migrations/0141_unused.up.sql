-- A line that is not used any more says so also where nothing is given back of it.

alter table app.invoice_line add column unused_from timestamptz;
comment on column app.invoice_line.unused_from is
  'From when on it is not used although nothing of it was given back, which would have been less than the smallest unit.';
