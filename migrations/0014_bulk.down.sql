drop table engine.bulk_run;
drop table engine.bulk;
