drop table app.data_part;
drop table app.data_export;
