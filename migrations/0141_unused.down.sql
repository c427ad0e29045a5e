-- Back to lines of which only credit notes say until when they were used.

alter table app.invoice_line drop column unused_from;
