//! The audit of what humans do to what is a tenant's, as it is read.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::audit::{Page, Query};
use crate::id::{RunId, ShardId, TenantId};

/// A row of the audit.
#[derive(Debug)]
pub(crate) struct AuditRow {
    pub(crate) audit_id: Uuid,
    pub(crate) at: DateTime<Utc>,
    pub(crate) actor: String,
    pub(crate) role: String,
    pub(crate) action: String,
    pub(crate) reason: String,
    /// The run, schedule, operation or tenant.
    pub(crate) run_id: Uuid,
    pub(crate) tenant_id: TenantId,
    pub(crate) epoch_seen: i64,
    pub(crate) before: Value,
    pub(crate) after: Value,
}

/// Lists rows, newest first, after the page before; those about `id` and on `shard`, where given.
/// Planned for its values, it goes by the run, the tenant or the time.
pub(crate) async fn list(
    conn: &mut PgConnection,
    query: &Query,
    (id, shard): (Option<Uuid>, Option<ShardId>),
    page: Page,
) -> sqlx::Result<Vec<AuditRow>> {
    sqlx::query_as!(
        AuditRow,
        r#"
        select audit_id, at, actor, role, action, reason, run_id, tenant_id as "tenant_id: TenantId",
          epoch_seen, before, after
        from engine.audit
        where (at, audit_id) < (
            coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
          and ($3::timestamptz is null or at >= $3)
          and ($4::timestamptz is null or at < $4)
          and ($5::uuid is null or run_id = $5)
          and ($6::uuid is null or tenant_id = $6)
          and ($7::smallint is null or shard_id = $7)
          and ($8::text is null or actor = $8)
          and ($9::text is null or action = $9)
        order by at desc, audit_id desc
        limit $10
        "#,
        page.before.map(|(at, _)| at),
        page.before.map(|(_, id)| id),
        query.from,
        query.to,
        id,
        query.tenant.map(|tenant| tenant.0),
        shard.map(|shard| shard.0),
        query.actor,
        query.action,
        page.limit,
    )
    .fetch_all(conn)
    .await
}

/// Finds who paused a run last, and why.
pub(crate) async fn find_pause(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Option<(String, String)>> {
    let row = sqlx::query!(
        r#"
        select actor, reason
        from engine.audit
        where run_id = $1
          and shard_id = $2
          and action = 'pause'
        order by at desc
        limit 1
        "#,
        run.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.actor, row.reason)))
}
