-- Fan-outs, and progress of long steps.

-- A fan-out is a run of its own that starts the children; it counts how they ended.
alter table engine.run add column gathered boolean not null default false;
comment on column engine.run.gathered is
  'Its parent is a fan-out, which is told how it ended and not what it left behind.';

create table engine.fan_item (
  run_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  position integer not null,
  tenant_id uuid not null,
  key text not null,
  refused text,
  input bytea not null,
  primary key (run_id, shard_id, position)
);
comment on table engine.fan_item is
  'What a fan-out starts its children from, in their order. Written with the transition that asks for it, read by ranges.';
comment on column engine.fan_item.run_id is 'The fan-out''s own run.';
comment on column engine.fan_item.shard_id is 'Its shard.';
comment on column engine.fan_item.position is 'Place among the items, from 0.';
comment on column engine.fan_item.tenant_id is 'The owner.';
comment on column engine.fan_item.key is 'The child''s key.';
comment on column engine.fan_item.refused is
  'Why no child could be started: its key belongs to a run that was started with another input.';
comment on column engine.fan_item.input is 'The child''s input, as JSON in UTF-8.';

-- The last report of a step that works long. Only steps that report have a row.
create table engine.progress (
  run_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  seq integer not null,
  visit bigint not null,
  epoch bigint not null,
  reported_at timestamptz not null,
  tenant_id uuid not null,
  step text not null,
  value bytea not null,
  primary key (run_id, shard_id, step)
) with (fillfactor = 50);
comment on table engine.progress is
  'The last report of each step of a run that reports; it speaks of the visit that it names, and of no other.';
comment on column engine.progress.run_id is 'The run.';
comment on column engine.progress.shard_id is 'Its shard.';
comment on column engine.progress.seq is 'The step''s place in the visit.';
comment on column engine.progress.visit is 'The visit.';
comment on column engine.progress.epoch is 'Under which claim it was reported; an older one does not overwrite it.';
comment on column engine.progress.reported_at is 'When, in real time.';
comment on column engine.progress.tenant_id is 'The owner.';
comment on column engine.progress.step is 'The step''s name.';
comment on column engine.progress.value is 'What it reported, as JSON in UTF-8.';

do $$
declare
  name text;
begin
  foreach name in array array['fan_item', 'progress'] loop
    execute format('alter table engine.%I enable row level security', name);
    execute format('alter table engine.%I force row level security', name);
    execute format('create policy engine_all on engine.%I to tenure_engine using (true) with check (true)', name);
    execute format(
      'create policy tenant_own on engine.%I for select to tenure_tenant using (tenant_id = engine.current_tenant())',
      name);
    execute format('grant select, insert, update, delete on engine.%I to tenure_engine', name);
    execute format('grant select on engine.%I to tenure_tenant', name);
  end loop;
end
$$;
