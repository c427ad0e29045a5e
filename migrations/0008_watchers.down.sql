create table engine.watch (
  run_id uuid not null,
  shard_id smallint not null,
  watcher_run_id uuid not null,
  tenant_id uuid not null,
  primary key (run_id, shard_id, watcher_run_id)
);
comment on table engine.watch is 'Who asked to hear of a run''s end.';
comment on column engine.watch.run_id is 'The run that is watched.';
comment on column engine.watch.shard_id is 'The shard of both.';
comment on column engine.watch.watcher_run_id is 'The run that hears of it.';
comment on column engine.watch.tenant_id is 'The owner of both.';
alter table engine.watch enable row level security;
alter table engine.watch force row level security;
create policy engine_all on engine.watch to tenure_engine using (true) with check (true);
create policy tenant_own on engine.watch to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update, delete on engine.watch to tenure_engine;
insert into engine.watch (run_id, shard_id, watcher_run_id, tenant_id)
select run_id, shard_id, unnest(watchers), tenant_id
from engine.run
where watchers is not null
on conflict (run_id, shard_id, watcher_run_id) do nothing;
alter table engine.run drop column watchers;
