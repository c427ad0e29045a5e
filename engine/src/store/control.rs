//! The audit of what humans do to what is not one run's.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::audit::{Page, Query};
use crate::flow::Author;
use crate::id::TenantId;

/// An act on what is not one run's.
#[derive(Debug)]
pub(crate) struct ControlAct<'a> {
    pub(crate) action: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) before: Value,
    pub(crate) after: Value,
}

/// Writes an act into the audit.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    act_id: Uuid,
    author: &Author,
    act: &ControlAct<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.control_audit (act_id, at, actor, role, action, subject, reason, before, after)
        values ($1, engine.now(), $2, $3, $4, $5, $6, $7, $8)
        "#,
        act_id,
        author.actor,
        author.role,
        act.action,
        act.subject,
        author.reason,
        act.before,
        act.after,
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
    /// The tenant that is the subject.
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
          case when subject ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then (
            select tenant.tenant_id
            from engine.tenant
            where tenant.tenant_id = control_audit.subject::uuid
          ) end as "tenant_id?: TenantId"
        from engine.control_audit
        where (at, act_id) < (
            coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
          and ($3::timestamptz is null or at >= $3)
          and ($4::timestamptz is null or at < $4)
          and ($5::text is null or subject = $5)
          and ($6::text is null or subject = $6 or subject = 'tenant ' || $6 or after ->> 'tenant_id' = $6)
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
        query.tenant.map(|tenant| tenant.to_string()),
        query.actor,
        query.action,
        page.limit,
    )
    .fetch_all(conn)
    .await
}
