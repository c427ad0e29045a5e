drop function engine.waiters_ahead(uuid);
drop table engine.control_audit;
drop table engine.breaker;
drop table engine.pause;
drop table engine.waiter;
drop table engine.permit;
drop table engine.bucket;
drop table engine.flow_limit;
