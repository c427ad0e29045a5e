//! The debt row.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};

/// Records how the debt stands; clear when there is no `since`.
pub(super) async fn apply(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: &str,
    since: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
) -> sqlx::Result<()> {
    let state = if since.is_some() { "past_due" } else { "clear" };
    sqlx::query!(
        r#"
        insert into app.debt (tenant_id, currency, shard_id, state, since, next_attempt_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (tenant_id, currency, shard_id) do update
        set state = excluded.state,
          since = excluded.since,
          next_attempt_at = excluded.next_attempt_at
        "#,
        tenant.0,
        currency,
        shard.0,
        state,
        since,
        next_attempt_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks the debt as one on which the ladder has ended.
pub(super) async fn apply_exhausted(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.debt
        set state = 'exhausted', next_attempt_at = null
        where tenant_id = $1
          and currency = $2
          and shard_id = $3
        "#,
        tenant.0,
        currency,
        shard.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}
