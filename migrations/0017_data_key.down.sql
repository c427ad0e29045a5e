drop table engine.data_key;
