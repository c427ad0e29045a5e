drop table app.placement;
drop table app.data_map;
