drop function engine.drop_log_partition(date, date[]);
create or replace function engine.ensure_partitions(around timestamptz) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
  month date;
  parent text;
begin
  for month in
    select generate_series(date_trunc('month', around), date_trunc('month', around) + interval '2 months', interval '1 month')
  loop
    foreach parent in array array['step', 'transition'] loop
      execute format(
        'create table if not exists engine.%I partition of engine.%I for values from (%L) to (%L)',
        parent || '_' || to_char(month, 'YYYYMM'), parent, month, month + interval '1 month');
    end loop;
  end loop;
end
$$;
drop index engine.audit_by_time;
comment on column engine.audit.run_id is 'The run; for actions named "schedule …" the schedule. Ids of the two never meet.';
drop table engine.sweep;
drop table engine.legal_hold;
drop table engine.retention;
