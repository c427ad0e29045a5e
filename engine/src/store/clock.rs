//! Test clocks: the time of the tenants that are bound to them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::id::{ClockId, ShardId, TenantId};

/// Inserts a clock; a repeat changes nothing.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    clock: ClockId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.test_clock (clock_id, now_at)
        values ($1, $2)
        on conflict (clock_id) do nothing
        "#,
        clock.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Finds a clock: its time, and where a running advance is going.
pub(crate) async fn find(
    conn: &mut PgConnection,
    clock: ClockId,
) -> sqlx::Result<Option<(DateTime<Utc>, Option<DateTime<Utc>>)>> {
    let row = sqlx::query!(
        "select now_at, target_at from engine.test_clock where clock_id = $1",
        clock.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.now_at, row.target_at)))
}

/// Says where an advance is going; false when another is under way.
pub(crate) async fn set_out(
    conn: &mut PgConnection,
    clock: ClockId,
    target: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update engine.test_clock
        set target_at = $2
        where clock_id = $1
          and target_at is null
        "#,
        clock.0,
        target,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Says that the advance to a target has arrived.
pub(crate) async fn arrive(
    conn: &mut PgConnection,
    clock: ClockId,
    target: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.test_clock
        set target_at = null
        where clock_id = $1
          and target_at = $2
        "#,
        clock.0,
        target,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the tenants that are bound to a clock.
pub(crate) async fn list_tenants(
    conn: &mut PgConnection,
    clock: ClockId,
) -> sqlx::Result<Vec<(TenantId, ShardId)>> {
    let rows = sqlx::query!(
        r#"
        select tenant_id as "tenant_id: TenantId", shard_id as "shard_id: ShardId"
        from engine.tenant
        where clock_id = $1
        "#,
        clock.0,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.tenant_id, row.shard_id))
        .collect())
}

/// The clock's earliest deadline or slot, or `target`, whichever is first; never before its time.
pub(crate) async fn find_next_stop(
    conn: &mut PgConnection,
    clock: ClockId,
    target: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        r#"
        select greatest(now_at, least(
          $2,
          (select min(due_at) from engine.clocked where clock_id = $1),
          (select min(next_slot) from engine.schedule where clock_id = $1 and next_slot > now_at)
        )) as "stop!"
        from engine.test_clock
        where clock_id = $1
        "#,
        clock.0,
        target,
    )
    .fetch_optional(conn)
    .await
}

/// Moves the clock to its earliest deadline or slot or to `target`, whichever is first; never back.
/// Returns its time.
pub(crate) async fn move_to_next(
    conn: &mut PgConnection,
    clock: ClockId,
    target: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        r#"
        update engine.test_clock
        set now_at = greatest(now_at, least(
          $2,
          (select min(due_at) from engine.clocked where clock_id = $1),
          (select min(next_slot) from engine.schedule where clock_id = $1 and next_slot > now_at)
        ))
        where clock_id = $1
        returning now_at
        "#,
        clock.0,
        target,
    )
    .fetch_optional(conn)
    .await
}

/// Makes the runs due whose deadline the clock has passed.
pub(crate) async fn ripen(conn: &mut PgConnection, clock: ClockId) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        with passed as (
          delete from engine.clocked
          using engine.test_clock
          where clocked.clock_id = $1
            and test_clock.clock_id = $1
            and clocked.due_at <= test_clock.now_at
          returning clocked.run_id, clocked.shard_id, clocked.tenant_id
        )
        insert into engine.due (run_id, shard_id, due_at, tenant_id, priority)
        select passed.run_id, passed.shard_id, engine.now(), passed.tenant_id, least(run.priority + 1, 5)
        from passed
        join engine.run using (run_id, shard_id)
        on conflict (run_id, shard_id) do update set due_at = excluded.due_at, priority = excluded.priority
        "#,
        clock.0,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// How many runs of the clock's tenants are still at work: due, running, retrying, or with a
/// deadline that has passed or a message that was not looked at; and how many of its schedules
/// have something to start.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(crate) async fn count_busy(conn: &mut PgConnection, clock: ClockId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select
          (select count(*)
           from engine.claimed
           cross join lateral unnest(claimed.run_ids, claimed.shard_ids) as held (run_id, shard_id)
           join engine.run
             on run.run_id = held.run_id
             and run.shard_id = held.shard_id
             and run.worker_id = claimed.worker_id
           where run.clock_id = $1)
          -- By way of the tenants' runs: what is due of all tenants may be millions.
          + (select count(*)
             from engine.tenant
             join engine.run
               on run.tenant_id = tenant.tenant_id
               and run.shard_id = tenant.shard_id
             join engine.due
               on due.run_id = run.run_id
               and due.shard_id = run.shard_id
             where tenant.clock_id = $1
               and run.status < 10)
          + (select count(*)
             from engine.tenant
             join engine.nudge
               on nudge.tenant_id = tenant.tenant_id
             where tenant.clock_id = $1)
          + (select count(*)
             from engine.clocked
             join engine.test_clock using (clock_id)
             where clock_id = $1
               and clocked.due_at <= test_clock.now_at)
          -- What is blocked goes on by itself, except under a pause.
          + (select count(*)
             from engine.waiter
             join engine.tenant using (tenant_id)
             where tenant.clock_id = $1
               and waiter.gate <> 'pause')
          + (select count(*)
             from engine.schedule
             join engine.test_clock using (clock_id)
             where clock_id = $1
               and look_at <= engine.now()
               -- A look at a slot that only waits for an earlier run is no work.
               and next_slot <= test_clock.now_at)
          -- A slot that waits, and no earlier run any more that it could wait for.
          + (select count(*)
             from engine.schedule
             where clock_id = $1
               and look_at is not null
               and exists (
                 select from engine.slot
                 where slot.schedule_id = schedule.schedule_id
                   and slot.shard_id = schedule.shard_id
                   and slot.open
                   and slot.outcome = 2)
               and not exists (
                 select from engine.slot
                 join engine.run
                   on run.run_id = slot.run_id
                   and run.shard_id = slot.shard_id
                 where slot.schedule_id = schedule.schedule_id
                   and slot.shard_id = schedule.shard_id
                   and slot.open
                   and run.status < 10))
          as "busy!"
        "#,
        clock.0,
    )
    .fetch_one(conn)
    .await
}
