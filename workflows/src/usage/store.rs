//! The rows of usage, and the period that counts.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::{Told, UsageRow};

/// Notes a level, and tells what the tenant was told before. Locks the row: reports of one feature
/// take turns.
pub(super) async fn put(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    feature: &str,
    level: i64,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Told>> {
    let row = sqlx::query!(
        r#"
        insert into app.usage (tenant_id, feature, shard_id, level, reported_at)
        values ($1, $2, $3, $4, $5)
        on conflict (tenant_id, feature, shard_id) do update
        set level = excluded.level, reported_at = excluded.reported_at
        returning told_percent, told_limit, told_period
        "#,
        tenant.0,
        feature,
        shard.0,
        level,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(told(row.told_percent, row.told_limit, row.told_period))
}

fn told(percent: Option<i16>, limit: Option<i64>, period: Option<DateTime<Utc>>) -> Option<Told> {
    Some(Told {
        percent: u32::try_from(percent?).ok()?,
        limit: u64::try_from(limit?).ok()?,
        period: period?,
    })
}

/// Notes what the tenant is told.
pub(super) async fn apply_told(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    feature: &str,
    told: &Told,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.usage
        set told_percent = $4, told_limit = $5, told_period = $6
        where tenant_id = $1
          and shard_id = $2
          and feature = $3
        "#,
        tenant.0,
        shard.0,
        feature,
        i16::try_from(told.percent).unwrap_or(i16::MAX),
        i64::try_from(told.limit).unwrap_or(i64::MAX),
        told.period,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Finds how much of a feature is used, if that was ever reported.
pub(crate) async fn find_level(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    feature: &str,
) -> sqlx::Result<Option<u64>> {
    let level = sqlx::query_scalar!(
        "select level from app.usage where tenant_id = $1 and shard_id = $2 and feature = $3",
        tenant.0,
        shard.0,
        feature,
    )
    .fetch_optional(conn)
    .await?;
    Ok(level.and_then(|level| u64::try_from(level).ok()))
}

/// Lists what a tenant uses, by feature.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Vec<UsageRow>> {
    let rows = sqlx::query!(
        r#"
        select feature, level, reported_at, told_percent, told_limit, told_period
        from app.usage
        where tenant_id = $1
          and shard_id = $2
        order by feature
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| UsageRow {
            told: told(row.told_percent, row.told_limit, row.told_period),
            feature: row.feature,
            level: row.level,
            reported_at: row.reported_at,
        })
        .collect())
}

/// When the period began that a subscription is in; its own beginning before the first.
pub(super) async fn find_period(
    conn: &mut PgConnection,
    subscription: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        r#"
        select coalesce(period_start, started_at) as "start!"
        from app.subscription
        where subscription_id = $1
          and shard_id = $2
        "#,
        subscription,
        shard.0,
    )
    .fetch_optional(conn)
    .await
}
