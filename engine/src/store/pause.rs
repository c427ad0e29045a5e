//! Pauses of more than one run.

use sqlx::PgConnection;

use crate::flow::{Author, PauseLine, PauseSeen};
use crate::gate::PauseRow;

/// Reads the pauses, and keeps them from being lifted before the caller's transaction ends: who
/// parks under a pause is seen by who lifts it.
pub(crate) async fn hold_all(conn: &mut PgConnection) -> sqlx::Result<Vec<PauseRow>> {
    sqlx::query_as!(
        PauseRow,
        "select scope, name from engine.pause order by scope, name for share"
    )
    .fetch_all(conn)
    .await
}

/// Whether a pause still stands.
pub(crate) async fn stands(conn: &mut PgConnection, scope: &str, name: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
          select from engine.pause where scope = $1 and name = $2
        ) as "paused!"
        "#,
        scope,
        name,
    )
    .fetch_one(conn)
    .await
}

/// Lists the pauses with who waits under each.
pub(crate) async fn list(conn: &mut PgConnection) -> sqlx::Result<Vec<PauseLine>> {
    sqlx::query_as!(
        PauseLine,
        r#"
        select
          scope, name, since, paused_by, reason,
          (select count(*) from engine.waiter
            where waiter.gate = 'pause'
              and waiter.name = pause.scope
              and waiter.key = pause.name) as "waiting!"
        from engine.pause
        order by scope, name
        "#
    )
    .fetch_all(conn)
    .await
}

/// Pauses a scope; false when it was paused already.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    scope: &str,
    name: &str,
    author: &Author,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into engine.pause (scope, name, since, paused_by, reason)
        values ($1, $2, engine.now(), $3, $4)
        on conflict (scope, name) do nothing
        "#,
        scope,
        name,
        author.actor,
        author.reason,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Reads a pause, and keeps it as it is until the caller's transaction ends; `None` when none stands.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    scope: &str,
    name: &str,
) -> sqlx::Result<Option<PauseSeen>> {
    sqlx::query_as!(
        PauseSeen,
        r#"
        select since, paused_by, reason
        from engine.pause
        where scope = $1
          and name = $2
        for update
        "#,
        scope,
        name,
    )
    .fetch_optional(conn)
    .await
}

/// Lifts a pause; waits for those who are beginning to wait under it.
pub(crate) async fn delete(conn: &mut PgConnection, scope: &str, name: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "delete from engine.pause where scope = $1 and name = $2",
        scope,
        name,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
