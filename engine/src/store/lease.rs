//! Leases of workers, and taking back what a lost worker held.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use crate::id::{Epoch, RunId, WorkerId};
use crate::plan::MAX_LOSSES;
use crate::run::RunKey;
use crate::store::claim::split;

/// Registers a worker: its lease, one row for claims (slot -1) and one for each who writes.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    worker: WorkerId,
    name: &str,
    handles: &Value,
    slots: i16,
    lease: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with worker as (
          insert into engine.worker (worker_id, name, handles, started_at, expires_at)
          values ($1, $2, $3, engine.now(), engine.now() + $5::interval)
        )
        insert into engine.lease (worker_id, slot)
        select $1, slot
        from generate_series(-1, $4::integer - 1) as slot
        "#,
        worker.0,
        name,
        handles,
        i32::from(slots),
        interval(lease),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a worker hears of flow control with each renewal.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Permits are out, or runs wait.
    pub(crate) busy: bool,
    /// The breakers that are not closed.
    pub(crate) shut: Vec<String>,
    /// The tenants whose weight is not 1, and their weights in the same order.
    pub(crate) tenants: Vec<Uuid>,
    pub(crate) weights: Vec<i16>,
    /// Until when the lease was before this renewal, and until when it is now.
    pub(crate) before: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
    /// The timeline's name, if it was asked for.
    pub(crate) timeline: Option<String>,
}

/// Renews the lease; `None` when it has ended. Not every server that speaks Postgres tells its
/// timeline, so it is asked only of one that does.
pub(crate) async fn renew(
    conn: &mut PgConnection,
    worker: WorkerId,
    lease: Duration,
    tells_timeline: bool,
) -> sqlx::Result<Option<Flow>> {
    sqlx::query_as!(
        Flow,
        r#"
        update engine.worker
        set expires_at = engine.now() + $2::interval
        where worker_id = $1
          and expires_at > engine.now()
        returning
          exists (select from engine.permit) or exists (select from engine.waiter) as "busy!",
          array(select name from engine.breaker where state <> 'closed') as "shut!",
          array(select tenant_id from engine.tenant_weight order by tenant_id) as "tenants!",
          array(select weight from engine.tenant_weight order by tenant_id) as "weights!",
          -- As it was when the statement began.
          (
            select held.expires_at from engine.worker as held where held.worker_id = $1
          ) as "before!",
          expires_at,
          case when $3 then left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end as timeline
        "#,
        worker.0,
        interval(lease),
        tells_timeline,
    )
    .fetch_optional(conn)
    .await
}

/// Locks one worker whose lease has ended; others skip it.
pub(crate) async fn find_expired(conn: &mut PgConnection) -> sqlx::Result<Option<WorkerId>> {
    sqlx::query_scalar!(
        r#"
        select worker_id as "worker_id: WorkerId"
        from engine.worker
        where expires_at <= engine.now()
        order by expires_at
        limit 1
        for update skip locked
        "#
    )
    .fetch_optional(conn)
    .await
}

/// Takes the lease away: from here on the worker's committers write nothing. Waits for a write
/// that is under way; what that write did is seen by the statements after this one.
pub(crate) async fn delete(conn: &mut PgConnection, worker: WorkerId) -> sqlx::Result<()> {
    sqlx::query!("delete from engine.lease where worker_id = $1", worker.0)
        .execute(conn)
        .await?;
    Ok(())
}

/// A run that recovery made due again, or gave up on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) run_id: RunId,
    pub(crate) gave_up: bool,
}

/// Makes the runs of a worker due again, and counts the loss: the visit is known to have been begun.
/// A run that lost too many workers in one visit is stuck, so that a payload that kills its worker
/// does not kill them all.
pub(crate) async fn release_runs(
    conn: &mut PgConnection,
    worker: WorkerId,
) -> sqlx::Result<Vec<Recovered>> {
    let rows = sqlx::query!(
        r#"
        with held as (
          select distinct held.run_id, held.shard_id
          from engine.claimed
          cross join lateral unnest(claimed.run_ids, claimed.shard_ids) as held (run_id, shard_id)
          where claimed.worker_id = $1
        ), released as (
          update engine.run
          set
            epoch = run.epoch + 1,
            worker_id = null,
            nudged = false,
            losses = run.losses + 1,
            begun = true,
            status = case when run.pausing then 5 when run.losses + 1 > $2 then 8 else 0 end,
            stuck = case when not run.pausing and run.losses + 1 > $2 then 'worker_lost' end,
            pausing = false,
            paused_at = case when run.pausing then coalesce(
              (select now_at from engine.test_clock where test_clock.clock_id = run.clock_id),
              engine.now()) end,
            changed_at = engine.now()
          from held
          where run.run_id = held.run_id
            and run.shard_id = held.shard_id
            and run.worker_id = $1
          returning run.run_id, run.shard_id, run.tenant_id, run.workflow, run.status, run.priority
        ), armed as (
          insert into engine.due (run_id, shard_id, due_at, tenant_id, priority)
          select run_id, shard_id, engine.now(), tenant_id, priority
          from released
          where status = 0
          on conflict (run_id, shard_id) do update set due_at = excluded.due_at, priority = excluded.priority
        ), parked as (
          insert into engine.parked (run_id, shard_id, status, tenant_id, workflow, reason, since)
          select run_id, shard_id, status, tenant_id, workflow,
            case when status = 5 then 'paused' else 'worker_lost' end, engine.now()
          from released
          where status in (5, 8)
          on conflict (run_id, shard_id) do nothing
        )
        select run_id as "run_id: RunId", status = 8 as "gave_up!"
        from released
        "#,
        worker.0,
        MAX_LOSSES,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Recovered {
            run_id: row.run_id,
            gave_up: row.gave_up,
        })
        .collect())
}

/// Makes runs due again that a live worker holds no longer, each under the epoch of its hold.
pub(crate) async fn release_held(
    conn: &mut PgConnection,
    worker: WorkerId,
    held: &[(RunKey, Epoch)],
) -> sqlx::Result<u64> {
    let keys: Vec<RunKey> = held.iter().map(|(key, _)| *key).collect();
    let (run_ids, shard_ids) = split(&keys);
    let epochs: Vec<i64> = held.iter().map(|(_, epoch)| epoch.0).collect();
    let done = sqlx::query!(
        r#"
        with released as (
          update engine.run
          set
            epoch = run.epoch + 1,
            worker_id = null,
            nudged = false,
            losses = run.losses + 1,
            begun = true,
            status = case when run.pausing then 5 else 0 end,
            pausing = false,
            paused_at = case when run.pausing then coalesce(
              (select now_at from engine.test_clock where test_clock.clock_id = run.clock_id),
              engine.now()) end,
            changed_at = engine.now()
          from unnest($2::uuid[], $3::smallint[], $4::bigint[]) as held (run_id, shard_id, epoch)
          where run.run_id = held.run_id
            and run.shard_id = held.shard_id
            and run.epoch = held.epoch
            and run.worker_id = $1
          returning run.run_id, run.shard_id, run.tenant_id, run.workflow, run.status
        ), parked as (
          insert into engine.parked (run_id, shard_id, status, tenant_id, workflow, reason, since)
          select run_id, shard_id, status, tenant_id, workflow, 'paused', engine.now()
          from released
          where status = 5
          on conflict (run_id, shard_id) do nothing
        ), armed as (
          insert into engine.nudge (run_id, shard_id, tenant_id)
          select run_id, shard_id, tenant_id
          from released
          where status = 0
        )
        select count(*) as "freed!"
        from released
        "#,
        worker.0,
        &run_ids,
        &shard_ids,
        &epochs,
    )
    .fetch_one(conn)
    .await?;
    Ok(done.freed.unsigned_abs())
}

/// Forgets the worker and what it had booked.
pub(crate) async fn delete_worker(conn: &mut PgConnection, worker: WorkerId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with booked as (
          delete from engine.claimed where worker_id = $1
        )
        delete from engine.worker where worker_id = $1
        "#,
        worker.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether some live worker knows the workflow in this version or a newer one.
pub(crate) async fn is_handled(
    conn: &mut PgConnection,
    workflow: &str,
    version: i32,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
          select from engine.worker
          where (handles ->> $1)::integer >= $2
            and expires_at > engine.now()
        ) as "handled!"
        "#,
        workflow,
        version,
    )
    .fetch_one(conn)
    .await
}

/// Makes parked runs of the given workflows, up to the given versions, due again: a handler has
/// appeared.
pub(crate) async fn unpark_handled(
    conn: &mut PgConnection,
    handled: &[(String, i32)],
) -> sqlx::Result<u64> {
    let (workflows, versions): (Vec<String>, Vec<i32>) = handled.iter().cloned().unzip();
    let done = sqlx::query!(
        r#"
        with freed as (
          delete from engine.parked
          using unnest($1::text[], $2::integer[]) as handled (workflow, version), engine.run
          where parked.status = 7
            and parked.workflow = handled.workflow
            and run.run_id = parked.run_id
            and run.shard_id = parked.shard_id
            and run.version <= handled.version
          returning parked.run_id, parked.shard_id
        ), readied as (
          update engine.run
          set status = 0, epoch = run.epoch + 1, changed_at = engine.now()
          from freed
          where run.run_id = freed.run_id
            and run.shard_id = freed.shard_id
            and run.status = 7
          returning run.run_id, run.shard_id, run.tenant_id, run.priority
        )
        insert into engine.due (run_id, shard_id, due_at, tenant_id, priority)
        select run_id, shard_id, engine.now(), tenant_id, priority
        from readied
        on conflict (run_id, shard_id) do update set due_at = excluded.due_at, priority = excluded.priority
        "#,
        &workflows,
        &versions,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Makes the partitions of the logs ahead of time.
pub(crate) async fn ensure_partitions(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select engine.ensure_partitions(engine.now())")
        .execute(conn)
        .await?;
    Ok(())
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}
