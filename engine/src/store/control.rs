//! The audit of what humans do to what is not one run's.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::flow::Author;

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
