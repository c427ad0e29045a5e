-- Back to backfills whose ranges do not ask how many they are.

drop index app.backfill_range_at_work;
