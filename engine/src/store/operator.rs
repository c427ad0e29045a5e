//! What an operator's verb changes, with its audit row, under the run's lock.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::id::{RunId, ShardId, TenantId};
use crate::operator::Act;
use crate::run::Status;

/// A run under its lock, as an operator's verb finds it.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) tenant_id: TenantId,
    pub(crate) status: Status,
    pub(crate) state: String,
    pub(crate) epoch: i64,
    pub(crate) visit: i64,
    pub(crate) stuck: Option<String>,
}

/// Locks a run for an intervention.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Option<Locked>> {
    let row = sqlx::query!(
        r#"
        select tenant_id as "tenant_id: TenantId", status, state, epoch, visit, stuck
        from engine.run
        where run_id = $1
          and shard_id = $2
        for no key update
        "#,
        run.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Locked {
        tenant_id: row.tenant_id,
        status: Status::from_code(row.status).unwrap_or(Status::Stuck),
        state: row.state,
        epoch: row.epoch,
        visit: row.visit,
        stuck: row.stuck,
    }))
}

/// Forgets the last answer of a locked run's visit if it is an error, so that the step is done again.
pub(crate) async fn delete_failed_step(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
    visit: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        delete from engine.step
        where run_id = $1
          and shard_id = $2
          and visit = $3
          and failed
          and seq = (
            select max(seq)
            from engine.step
            where run_id = $1
              and shard_id = $2
              and visit = $3
          )
        "#,
        run.0,
        shard.0,
        visit,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes a locked run due now, with its attempts forgotten. The error stays: it tells that the
/// visit was begun and has a journal.
pub(crate) async fn make_due(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with readied as (
          update engine.run
          set status = 0, stuck = null, attempt = 0, losses = 0, next_at = null,
            epoch = run.epoch + 1, changed_at = engine.now()
          where run_id = $1
            and shard_id = $2
          returning run_id, shard_id, tenant_id
        ), freed as (
          delete from engine.parked
          where run_id = $1
            and shard_id = $2
        )
        insert into engine.due (run_id, shard_id, due_at, tenant_id)
        select run_id, shard_id, engine.now(), tenant_id
        from readied
        on conflict (run_id, shard_id) do update set due_at = excluded.due_at
        "#,
        run.0,
        shard.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes down who did what, and why.
#[expect(
    clippy::too_many_arguments,
    reason = "one argument per column of the audit row"
)]
pub(crate) async fn insert_audit(
    conn: &mut PgConnection,
    audit_id: Uuid,
    run: RunId,
    shard: ShardId,
    tenant: TenantId,
    act: &Act,
    before: &Value,
    after: &Value,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.audit
          (audit_id, shard_id, run_id, tenant_id, at, actor, role, action, reason, epoch_seen, before, after)
        values ($1, $2, $3, $4, engine.now(), $5, $6, $7, $8, $9, $10, $11)
        "#,
        audit_id,
        shard.0,
        run.0,
        tenant.0,
        act.actor,
        act.role,
        act.action,
        act.reason,
        act.revision,
        before,
        after,
    )
    .execute(conn)
    .await?;
    Ok(())
}
