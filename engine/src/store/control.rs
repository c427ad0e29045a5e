//! The audit of what humans do to what is not one run's.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::audit::{Deed, Page, Query};
use crate::flow::Author;
use crate::id::TenantId;

/// Writes an act into the audit.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    act_id: Uuid,
    author: &Author,
    deed: &Deed<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.control_audit
          (act_id, at, actor, role, action, subject, reason, before, after, tenant_id)
        values ($1, engine.now(), $2, $3, $4, $5, $6, $7, $8, $9)
        "#,
        act_id,
        author.actor,
        author.role,
        deed.action,
        deed.subject,
        author.reason,
        deed.before,
        deed.after,
        deed.tenant.map(|tenant| tenant.0),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A row of the audit.
#[derive(Debug)]
pub(crate) struct ActRow {
    pub(crate) act_id: Uuid,
    pub(crate) at: DateTime<Utc>,
    pub(crate) actor: String,
    pub(crate) role: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) reason: String,
    pub(crate) before: Value,
    pub(crate) after: Value,
    /// Whose that is.
    pub(crate) tenant_id: Option<TenantId>,
}

/// Lists acts, newest first, after the page before.
pub(crate) async fn list(
    conn: &mut PgConnection,
    query: &Query,
    page: Page,
) -> sqlx::Result<Vec<ActRow>> {
    sqlx::query_as!(
        ActRow,
        r#"
        select act_id, at, actor, role, action, subject, reason, before, after,
          tenant_id as "tenant_id?: TenantId"
        from engine.control_audit
        where (at, act_id) < (
            coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
          and ($3::timestamptz is null or at >= $3)
          and ($4::timestamptz is null or at < $4)
          and ($5::text is null or subject = $5)
          and ($6::uuid is null or tenant_id = $6)
          and ($7::text is null or actor = $7)
          and ($8::text is null or action = $8)
        order by at desc, act_id desc
        limit $9
        "#,
        page.before.map(|(at, _)| at),
        page.before.map(|(_, id)| id),
        query.from,
        query.to,
        query.subject,
        query.tenant.map(|tenant| tenant.0),
        query.actor,
        query.action,
        page.limit,
    )
    .fetch_all(conn)
    .await
}
