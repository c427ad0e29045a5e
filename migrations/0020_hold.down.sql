drop table app.hold;
