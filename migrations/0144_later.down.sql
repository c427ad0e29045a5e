-- Back to nudges and waiters that are all alike.

alter table engine.waiter drop column later;
alter table engine.nudge drop column later;
