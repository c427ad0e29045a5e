//! Operations on many runs: the operation, its selection, what came of each run.

use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::bulk::{Action, Bulk, BulkLine, BulkOutcome, BulkStatus, LineFilter, NewBulk};
use crate::id::{BulkId, RunId, TenantId};
use crate::operator::Act;

/// An operation's identity, and the size of its selection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frozen {
    pub(crate) bulk_id: BulkId,
    pub(crate) tenant_id: TenantId,
    pub(crate) selected: i32,
}

/// Inserts an operation; its selection is inserted by [`insert_lines`].
pub(crate) async fn insert(
    conn: &mut PgConnection,
    frozen: Frozen,
    new: &NewBulk,
    act: &Act,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.bulk
          (bulk_id, shard_id, status, tenant_id, selected, pace, stop_after, created_at, actor, role,
           reason, filter, verb)
        values ($1, $2, 0, $3, $4, $5, $6, engine.now(), $7, $8, $9, $10, $11)
        "#,
        frozen.bulk_id.0,
        frozen.bulk_id.shard().0,
        frozen.tenant_id.0,
        frozen.selected,
        new.pace,
        new.stop_after,
        act.actor,
        act.role,
        act.reason,
        new.filter,
        Json(&new.action) as Json<&Action>,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Freezes runs with the revision that they have now; returns how many there are.
pub(crate) async fn insert_lines(
    conn: &mut PgConnection,
    bulk: BulkId,
    runs: &[RunId],
) -> sqlx::Result<u64> {
    let run_ids: Vec<Uuid> = runs.iter().map(|run| run.0).collect();
    let done = sqlx::query!(
        r#"
        insert into engine.bulk_run (bulk_id, run_id, shard_id, tenant_id, revision)
        select $1, run_id, shard_id, tenant_id, epoch + visit
        from engine.run
        where run_id = any($2)
        "#,
        bulk.0,
        &run_ids,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Lists operations, newest first, after the cursor; one, if it is named.
pub(crate) async fn list(
    conn: &mut PgConnection,
    bulk: Option<BulkId>,
    after: Option<BulkId>,
    limit: i64,
) -> sqlx::Result<Vec<Bulk>> {
    let rows = sqlx::query!(
        r#"
        select
          bulk.bulk_id as "bulk_id: BulkId",
          bulk.tenant_id as "tenant_id: TenantId",
          bulk.run_id as "run_id: RunId",
          bulk.verb as "verb: Json<Action>",
          bulk.status, bulk.filter, bulk.pace, bulk.stop_after, bulk.selected, bulk.actor, bulk.role,
          bulk.reason, bulk.created_at, bulk.confirmed_at, bulk.ended_at,
          line.done as "done!",
          line.moved as "moved!",
          line.refused as "refused!"
        from engine.bulk
        cross join lateral (
          select
            count(*) filter (where outcome = 1) as done,
            count(*) filter (where outcome = 2) as moved,
            count(*) filter (where outcome = 3) as refused
          from engine.bulk_run
          where bulk_run.bulk_id = bulk.bulk_id
        ) as line
        where ($1::uuid is null or bulk.bulk_id = $1)
          and ($2::uuid is null or bulk.bulk_id < $2)
        order by bulk.bulk_id desc
        limit $3
        "#,
        bulk.map(|bulk| bulk.0),
        after.map(|bulk| bulk.0),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Bulk {
            bulk_id: row.bulk_id,
            tenant_id: row.tenant_id,
            status: BulkStatus::from_code(row.status).unwrap_or(BulkStatus::Aborted),
            action: row.verb.0,
            filter: row.filter,
            pace: row.pace,
            stop_after: row.stop_after,
            selected: row.selected,
            done: row.done,
            moved: row.moved,
            refused: row.refused,
            actor: row.actor,
            role: row.role,
            reason: row.reason,
            run_id: row.run_id,
            created_at: row.created_at,
            confirmed_at: row.confirmed_at,
            ended_at: row.ended_at,
        })
        .collect())
}

/// Locks an operation.
pub(crate) async fn lock(conn: &mut PgConnection, bulk: BulkId) -> sqlx::Result<()> {
    sqlx::query!(
        "select status from engine.bulk where bulk_id = $1 and shard_id = $2 for no key update",
        bulk.0,
        bulk.shard().0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(())
}

/// Notes that the number was confirmed, and the run that acts.
pub(crate) async fn confirm(conn: &mut PgConnection, bulk: BulkId, run: RunId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.bulk
        set status = 1, run_id = $3, confirmed_at = engine.now()
        where bulk_id = $1
          and shard_id = $2
          and status = 0
        "#,
        bulk.0,
        bulk.shard().0,
        run.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends an operation that has not ended; whether it had not.
pub(crate) async fn end(
    conn: &mut PgConnection,
    bulk: BulkId,
    status: BulkStatus,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update engine.bulk
        set status = $3, ended_at = engine.now()
        where bulk_id = $1
          and shard_id = $2
          and ended_at is null
        "#,
        bulk.0,
        bulk.shard().0,
        status.code(),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether an operation is to go on.
pub(crate) async fn is_acting(conn: &mut PgConnection, bulk: BulkId) -> sqlx::Result<bool> {
    let status = sqlx::query_scalar!(
        "select status from engine.bulk where bulk_id = $1 and shard_id = $2",
        bulk.0,
        bulk.shard().0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(status == Some(BulkStatus::Acting.code()))
}

/// A run that is to be acted on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Next {
    pub(crate) run_id: RunId,
    pub(crate) revision: i64,
}

/// Locks the next line of a selection. Whoever else is at it is waited for, so that no line is
/// passed over.
pub(crate) async fn lock_next(conn: &mut PgConnection, bulk: BulkId) -> sqlx::Result<Option<Next>> {
    let row = sqlx::query!(
        r#"
        select run_id as "run_id: RunId", revision
        from engine.bulk_run
        where bulk_id = $1
          and outcome is null
        order by run_id
        limit 1
        for no key update
        "#,
        bulk.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Next {
        run_id: row.run_id,
        revision: row.revision,
    }))
}

/// Writes down what came of a run.
pub(crate) async fn record(
    conn: &mut PgConnection,
    bulk: BulkId,
    run: RunId,
    outcome: BulkOutcome,
    detail: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.bulk_run
        set outcome = $4, acted_at = engine.now(), detail = $5
        where bulk_id = $1
          and run_id = $2
          and shard_id = $3
        "#,
        bulk.0,
        run.0,
        run.shard().0,
        outcome.code(),
        detail,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the lines of a selection, by run, after the cursor.
pub(crate) async fn list_lines(
    conn: &mut PgConnection,
    bulk: BulkId,
    wanted: &LineFilter,
    limit: i64,
) -> sqlx::Result<Vec<BulkLine>> {
    let rows = sqlx::query!(
        r#"
        select
          line.run_id as "run_id: RunId",
          line.tenant_id as "tenant_id: TenantId",
          coalesce(run.workflow, '') as "workflow!",
          coalesce(run.key, '') as "key!",
          line.outcome, line.detail, line.acted_at
        from engine.bulk_run as line
        left join engine.run on run.run_id = line.run_id and run.shard_id = line.shard_id
        where line.bulk_id = $1
          and ($2::smallint is null or coalesce(line.outcome, 0) = $2)
          and ($3::uuid is null or line.run_id > $3)
        order by line.run_id
        limit $4
        "#,
        bulk.0,
        wanted.outcome.map(BulkOutcome::code),
        wanted.after.map(|run| run.0),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| BulkLine {
            run_id: row.run_id,
            tenant_id: row.tenant_id,
            workflow: row.workflow,
            key: row.key,
            outcome: row
                .outcome
                .and_then(BulkOutcome::from_code)
                .unwrap_or(BulkOutcome::Pending),
            detail: row.detail,
            acted_at: row.acted_at,
        })
        .collect())
}
