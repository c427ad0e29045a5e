//! What Postgres plans by.

use sqlx::PgConnection;

/// Has the tables looked at that have grown fourfold since Postgres last did; how many.
pub(crate) async fn analyze_grown(conn: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"select engine.analyze_grown() as "looked!""#)
        .fetch_one(conn)
        .await
}
