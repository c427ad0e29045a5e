//! Policies of retention and legal holds: what people decided.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::id::{RunId, ShardId, TenantId};
use crate::operator::Act;
use crate::retention::{Hold, HoldFilter, Override, Retention};

/// Lists what operators decided, by workflow.
pub(crate) async fn list_overrides(conn: &mut PgConnection) -> sqlx::Result<Vec<Override>> {
    let rows = sqlx::query!(
        r#"
        select workflow, keep_days, action, changed_at, changed_by, reason
        from engine.retention
        order by workflow
        "#
    )
    .fetch_all(conn)
    .await?;
    let read = |row: &str, days: Option<i32>| {
        let days = days.and_then(|days| u32::try_from(days).ok());
        Retention::from_parts(row, days)
            .map_err(|error| sqlx::Error::Decode(format!("a policy of retention: {error}").into()))
    };
    rows.into_iter()
        .map(|row| {
            Ok(Override {
                retention: read(&row.action, row.keep_days)?,
                workflow: row.workflow,
                changed_at: row.changed_at,
                changed_by: row.changed_by,
                reason: row.reason,
            })
        })
        .collect()
}

/// Writes down what an operator decided on a workflow's runs.
pub(crate) async fn put_override(
    conn: &mut PgConnection,
    workflow: &str,
    retention: Retention,
    act: &Act,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with input as (
          select $1::text as workflow, $2::integer as keep_days, $3::text as action,
            engine.now() as changed_at, $4::text as changed_by, $5::text as reason
        )
        insert into engine.retention (workflow, keep_days, action, changed_at, changed_by, reason)
        select workflow, keep_days, action, changed_at, changed_by, reason
        from input
        on conflict (workflow) do update
        set keep_days = excluded.keep_days, action = excluded.action,
          changed_at = excluded.changed_at, changed_by = excluded.changed_by, reason = excluded.reason
        "#,
        workflow,
        retention.days().and_then(|days| i32::try_from(days).ok()),
        retention.word(),
        act.actor,
        act.reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists holds, newest first, after the cursor.
pub(crate) async fn list_holds(
    conn: &mut PgConnection,
    filter: &HoldFilter,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Hold>> {
    sqlx::query_as!(
        Hold,
        r#"
        select hold_id, tenant_id as "tenant_id: TenantId", run_id as "run_id: RunId", since,
          author, reason
        from engine.legal_hold
        where ($1::uuid is null or tenant_id = $1)
          and ($2::uuid is null or run_id = $2)
          and ($3::uuid is null or hold_id < $3)
        order by hold_id desc
        limit $4
        "#,
        filter.tenant_id.map(|tenant| tenant.0),
        filter.run_id.map(|run| run.0),
        after,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Lists the holds that keep a run: its own and its tenant's.
pub(crate) async fn list_holds_of(
    conn: &mut PgConnection,
    tenant: TenantId,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Vec<Hold>> {
    sqlx::query_as!(
        Hold,
        r#"
        select hold_id, tenant_id as "tenant_id: TenantId", run_id as "run_id: RunId", since,
          author, reason
        from engine.legal_hold
        where tenant_id = $1
          and shard_id = $3
          and (run_id is null or run_id = $2)
        order by hold_id
        "#,
        tenant.0,
        run.0,
        shard.0,
    )
    .fetch_all(conn)
    .await
}

/// Inserts a hold; `None` when the same is held already.
pub(crate) async fn insert_hold(
    conn: &mut PgConnection,
    hold_id: Uuid,
    shard: ShardId,
    tenant: TenantId,
    run: Option<RunId>,
    act: &Act,
) -> sqlx::Result<Option<Hold>> {
    sqlx::query_as!(
        Hold,
        r#"
        insert into engine.legal_hold (hold_id, shard_id, tenant_id, run_id, since, author, reason)
        values ($1, $2, $3, $4, engine.now(), $5, $6)
        on conflict (tenant_id, run_id, shard_id) do nothing
        returning hold_id, tenant_id as "tenant_id: TenantId", run_id as "run_id: RunId", since,
          author, reason
        "#,
        hold_id,
        shard.0,
        tenant.0,
        run.map(|run| run.0),
        act.actor,
        act.reason,
    )
    .fetch_optional(conn)
    .await
}

/// Takes a hold away; what it was.
pub(crate) async fn delete_hold(
    conn: &mut PgConnection,
    hold_id: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<Hold>> {
    sqlx::query_as!(
        Hold,
        r#"
        delete from engine.legal_hold
        where hold_id = $1
          and shard_id = $2
        returning hold_id, tenant_id as "tenant_id: TenantId", run_id as "run_id: RunId", since,
          author, reason
        "#,
        hold_id,
        shard.0,
    )
    .fetch_optional(conn)
    .await
}

/// Lets the sweep begin anew, under what its caller is about to decide. Waits for what is being
/// dropped at this moment; what comes after it sees the decision.
pub(crate) async fn restart_pass(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.sweep
        set after_run = $1, months = '{}', next_at = engine.now()
        where name = 'retention'
        "#,
        Uuid::nil(),
    )
    .execute(conn)
    .await?;
    Ok(())
}
