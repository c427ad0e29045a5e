-- Starts that are gathered: many become one run, with the last input or with all of them.

create table engine.gathering (
  key text not null,
  workflow text not null,
  tenant_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  run_id uuid not null,
  inputs integer not null,
  bytes bigint not null,
  until timestamptz not null,
  primary key (key, workflow, tenant_id, shard_id)
);
comment on table engine.gathering is
  'Which run the next start of a key goes into, while that run has not begun. A row that is left over is dropped later; the next start finds that its run has begun and opens another.';
comment on column engine.gathering.key is 'What starts are gathered by; the run''s key is made of it.';
comment on column engine.gathering.workflow is 'The workflow.';
comment on column engine.gathering.tenant_id is 'The owner.';
comment on column engine.gathering.shard_id is 'Its shard.';
comment on column engine.gathering.run_id is 'The run that waits.';
comment on column engine.gathering.inputs is 'How many starts it has taken.';
comment on column engine.gathering.bytes is 'How large their inputs are together.';
comment on column engine.gathering.until is 'When it starts at the latest, in the tenant''s time.';
comment on table engine.fan_item is
  'What a fan-out starts its children from, in their order, and the inputs of a batched start, which have no key. Written with the transition or start that asks for it, read by ranges.';

alter table engine.gathering enable row level security;
alter table engine.gathering force row level security;
create policy engine_all on engine.gathering to tenure_engine using (true) with check (true);
create policy tenant_own on engine.gathering for select to tenure_tenant
  using (tenant_id = engine.current_tenant());
grant select, insert, update, delete on engine.gathering to tenure_engine;
grant select on engine.gathering to tenure_tenant;
