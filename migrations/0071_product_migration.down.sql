drop table app.product_migration_place;
drop table app.product_migration;
