drop table engine.failover;
