comment on table engine.fan_item is
  'What a fan-out starts its children from, in their order. Written with the transition that asks for it, read by ranges.';
drop table engine.gathering;
