drop table app.data_archive;
drop table app.keeping_turn;
drop table app.data_hold;
drop table app.keeping_policy;
