drop table app.backfill_range;
drop table app.backfill;
