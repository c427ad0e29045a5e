-- Plans are made once and kept. One that is made while a table is empty may read the whole of it for
-- each row of a batch, and stays until somebody tells Postgres how the table has grown, which
-- autovacuum does within a minute or so: too late for a rush.

create function engine.analyze_grown() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  grown regclass;
  looked integer := 0;
begin
  -- One is enough; it serves all sessions.
  if not pg_try_advisory_xact_lock(hashtextextended('engine.analyze_grown', 0)) then
    return 0;
  end if;
  for grown in
    select c.oid
    from pg_class c
    where c.relnamespace = 'engine'::regnamespace
      and c.relkind = 'r'
      -- What nobody has looked at yet is planned for as if it were large.
      and c.reltuples >= 0
      and pg_relation_size(c.oid) / current_setting('block_size')::integer > 4 * (c.relpages + 1)
  loop
    execute format('analyze (skip_locked) %s', grown);
    looked := looked + 1;
  end loop;
  return looked;
end
$$;

comment on function engine.analyze_grown() is
  'Looks at the tables that have grown fourfold since Postgres last looked at them, so that every session plans anew; how many. Called by workers that are behind.';

revoke all on function engine.analyze_grown() from public;
grant execute on function engine.analyze_grown() to tenure_engine;
