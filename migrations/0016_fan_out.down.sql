drop table engine.progress;
drop table engine.fan_item;
alter table engine.run drop column gathered;
