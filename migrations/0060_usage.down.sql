drop table app.usage;
