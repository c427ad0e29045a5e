//! Pages and details for humans.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::id::{ClockId, RunId, ShardId, TenantId};
use crate::inspect::{RunSummary, SignalLine, StepLine, TransitionLine};
use crate::priority::Priority;
use crate::run::{InboxKind, SignalOutcome, Status, StoredError, decode_deadlines};
use crate::seal::Reader;
use crate::store::claim::decode_error;
use crate::undo::Undo;

/// Everything that is known of one run.
#[derive(Debug)]
pub(crate) struct RunRow {
    pub(crate) summary: RunSummary,
    pub(crate) data: Vec<u8>,
    pub(crate) output: Option<Vec<u8>>,
    pub(crate) deadlines: Option<Value>,
    pub(crate) undo: Option<Undo>,
    /// The same as it is stored.
    pub(crate) stored_undo: Option<Vec<u8>>,
    pub(crate) parent_run_id: Option<RunId>,
    pub(crate) priority: Priority,
    pub(crate) losses: i32,
    pub(crate) now: DateTime<Utc>,
    pub(crate) tenant_now: DateTime<Utc>,
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) worker_name: Option<String>,
    pub(crate) worker_expires_at: Option<DateTime<Utc>>,
    pub(crate) parked_since: Option<DateTime<Utc>>,
    pub(crate) pending: i64,
    /// It is to be paused when its visit is over.
    pub(crate) pausing: bool,
    pub(crate) attributes: Option<Value>,
}

impl RunRow {
    /// The deadlines of its state.
    pub(crate) fn deadlines(&self) -> Vec<crate::run::Deadline> {
        decode_deadlines(self.deadlines.clone())
    }
}

/// Finds one run with all that `why` needs, as of one instant.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(crate) async fn find(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Option<RunRow>> {
    let row = sqlx::query!(
        r#"
        select
          run.run_id as "run_id: RunId",
          run.tenant_id as "tenant_id: TenantId",
          run.workflow,
          run.key,
          run.version,
          run.status,
          run.state,
          run.epoch,
          run.visit,
          run.attempt,
          run.losses,
          run.next_at,
          run.stuck,
          run.error,
          run.started_at,
          run.changed_at,
          run.data,
          run.output,
          run.deadlines,
          run.undo,
          run.clock_id as "clock_id: ClockId",
          run.parent_run_id as "parent_run_id: RunId",
          run.priority,
          engine.now() as "now!",
          coalesce(test_clock.now_at, engine.now()) as "tenant_now!",
          due.due_at as "due_at?",
          parked.since as "parked_since?",
          (select count(*)
           from engine.inbox
           where inbox.run_id = $1
             and inbox.shard_id = $2
             and inbox.outcome is null) as "pending!",
          run.worker_id as "worker_id: Uuid",
          run.pausing,
          run.attributes
        from engine.run
        left join engine.test_clock on test_clock.clock_id = run.clock_id
        left join engine.due on due.run_id = run.run_id and due.shard_id = run.shard_id
        left join engine.parked on parked.run_id = run.run_id and parked.shard_id = run.shard_id
        where run.run_id = $1
          and run.shard_id = $2
        "#,
        run.0,
        shard.0,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let worker = match row.worker_id {
        Some(worker) => find_worker(conn, worker).await?,
        None => None,
    };
    let (worker_name, worker_expires_at) = worker.unzip();
    Ok(Some(RunRow {
        summary: RunSummary {
            run_id: row.run_id,
            tenant_id: row.tenant_id,
            workflow: row.workflow,
            key: row.key,
            version: row.version,
            status: Status::from_code(row.status).unwrap_or(Status::Stuck),
            state: row.state,
            epoch: row.epoch,
            visit: row.visit,
            attempt: row.attempt,
            next_at: row.next_at,
            clock_id: row.clock_id,
            stuck: row.stuck,
            error: decode_error(row.error),
            started_at: row.started_at,
            changed_at: row.changed_at,
        },
        data: row.data,
        output: row.output,
        deadlines: row.deadlines,
        undo: None,
        stored_undo: row.undo,
        parent_run_id: row.parent_run_id,
        priority: Priority::from_code(row.priority),
        losses: row.losses,
        now: row.now,
        tenant_now: row.tenant_now,
        due_at: row.due_at,
        worker_name,
        worker_expires_at,
        parked_since: row.parked_since,
        pending: row.pending,
        pausing: row.pausing,
        attributes: row.attributes,
    }))
}

/// A worker's name and the end of its lease. The directory of workers holds nothing of a tenant.
async fn find_worker(
    conn: &mut PgConnection,
    worker: Uuid,
) -> sqlx::Result<Option<(String, DateTime<Utc>)>> {
    let row = sqlx::query!(
        "select name, expires_at from engine.worker where worker_id = $1",
        worker,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.name, row.expires_at)))
}

/// How many workers are alive, and how many of them know the workflow in this version or a newer
/// one.
pub(crate) async fn count_workers(
    conn: &mut PgConnection,
    workflow: &str,
    version: i32,
) -> sqlx::Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"
        select
          count(*) as "live!",
          count(*) filter (where (handles ->> $1)::integer >= $2) as "able!"
        from engine.worker
        where expires_at > engine.now()
        "#,
        workflow,
        version,
    )
    .fetch_one(conn)
    .await?;
    Ok((row.live, row.able))
}

/// A run of whose end another one hears, as people know it.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) workflow: String,
    pub(crate) key: String,
    pub(crate) status: Status,
    /// The other one started it; it watches it otherwise.
    pub(crate) is_child: bool,
}

/// Lists runs that this one started or watches and that have not ended, the oldest first.
pub(crate) async fn list_awaited(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
    limit: i64,
) -> sqlx::Result<Vec<Awaited>> {
    let rows = sqlx::query!(
        r#"
        with watched as materialized (
          -- By the index of those that are watched, and not along all runs in their order.
          select run_id, workflow, key, status
          from engine.run
          where watchers @> array[$1::uuid]
            and parent_run_id is distinct from $1
            and shard_id = $2
            and status < 10
        )
        select workflow as "workflow!", key as "key!", status as "status!", is_child as "is_child!"
        from (
          (
            select run_id, workflow, key, status, true as is_child
            from engine.run
            where parent_run_id = $1
              and shard_id = $2
              and status < 10
            order by run_id
            limit $3
          )
          union all
          select run_id, workflow, key, status, false
          from watched
        ) as awaited
        order by run_id
        limit $3
        "#,
        run.0,
        shard.0,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter().map(|row| Awaited {
        workflow: row.workflow,
        key: row.key,
        status: Status::from_code(row.status).unwrap_or(Status::Stuck),
        is_child: row.is_child,
    });
    Ok(rows.collect())
}

/// Lists of what kinds and names the pending messages of a run are.
pub(crate) async fn list_pending(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Vec<(InboxKind, String)>> {
    let rows = sqlx::query!(
        r#"
        select distinct kind, name
        from engine.inbox
        where run_id = $1
          and shard_id = $2
          and outcome is null
        "#,
        run.0,
        shard.0,
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| (InboxKind::from_code(row.kind), row.name))
        .collect())
}

/// Lists the steps of a run, newest first.
pub(crate) async fn list_steps(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
    limit: i64,
    keys: &Reader,
) -> sqlx::Result<Vec<StepLine>> {
    let rows = sqlx::query!(
        r#"
        select visit, seq, name, failed, answer, version, recorded_at
        from engine.step
        where run_id = $1
          and shard_id = $2
        order by visit desc, seq desc
        limit $3
        "#,
        run.0,
        shard.0,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let answer = keys.show(&row.answer);
            let error: Option<StoredError> = row
                .failed
                .then(|| serde_json::from_value(answer.clone()).ok())
                .flatten();
            StepLine {
                visit: row.visit,
                seq: row.seq,
                name: row.name,
                answer: (!row.failed).then_some(answer),
                error,
                version: row.version,
                recorded_at: row.recorded_at,
            }
        })
        .collect())
}

/// Lists the log of visits of a run, newest first.
pub(crate) async fn list_transitions(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
    limit: i64,
) -> sqlx::Result<Vec<TransitionLine>> {
    sqlx::query_as!(
        TransitionLine,
        r#"
        select visit, at, tenant_at, event, from_state, to_state, outcome, detail
        from engine.transition
        where run_id = $1
          and shard_id = $2
        order by at desc, visit desc
        limit $3
        "#,
        run.0,
        shard.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Lists the messages of a run, newest first. A pending message of a finished run is late.
pub(crate) async fn list_signals(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
    limit: i64,
    keys: &Reader,
) -> sqlx::Result<Vec<SignalLine>> {
    let rows = sqlx::query!(
        r#"
        select
          inbox.signal_id, inbox.kind, inbox.name, inbox.payload, inbox.received_at,
          inbox.recorded_at, inbox.outcome, inbox.reason, run.status
        from engine.inbox
        join engine.run using (run_id, shard_id)
        where inbox.run_id = $1
          and inbox.shard_id = $2
        order by inbox.recorded_at desc, inbox.position desc
        limit $3
        "#,
        run.0,
        shard.0,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let finished = Status::from_code(row.status).is_some_and(Status::is_finished);
            let outcome = match SignalOutcome::from_code(row.outcome) {
                SignalOutcome::Pending if finished => SignalOutcome::Late,
                other => other,
            };
            SignalLine {
                signal_id: row.signal_id,
                kind: InboxKind::from_code(row.kind),
                name: row.name,
                payload: keys.show(&row.payload),
                received_at: row.received_at,
                recorded_at: row.recorded_at,
                outcome,
                reason: row.reason,
            }
        })
        .collect())
}

/// Counts runs by workflow and status.
pub(crate) async fn count(conn: &mut PgConnection) -> sqlx::Result<Vec<(String, Status, i64)>> {
    let rows = sqlx::query!(
        r#"
        select workflow as "workflow!", status as "status!", count(*) as "count!"
        from engine.run_summary
        group by workflow, status
        order by workflow, status
        "#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let status = Status::from_code(row.status).unwrap_or(Status::Stuck);
            (row.workflow, status, row.count)
        })
        .collect())
}
