//! The subscription's row.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{RunId, ShardId, TenantId};
use uuid::Uuid;

use super::{Lifecycle, SubscriptionRow};
use crate::calendar::{Interval, Period};
use crate::money::Money;

/// Inserts a subscription.
pub(super) async fn insert(conn: &mut PgConnection, row: &SubscriptionRow) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.subscription
          (subscription_id, shard_id, tenant_id, run_id, plan, interval_unit, currency, amount, zone,
           anchor_on, started_at, trial_ends_at, lifecycle)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        "#,
        row.subscription_id,
        row.shard_id.0,
        row.tenant_id.0,
        row.run_id.0,
        row.plan,
        row.interval.word(),
        row.price.currency().code(),
        row.price.amount(),
        row.zone,
        row.anchor_on,
        row.started_at,
        row.trial_ends_at,
        row.lifecycle.word(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the tenant's subscriptions, newest first, with whether something is owed for them: an
/// invoice of theirs is open and was declined. What is owed for another one is no matter of theirs
/// (killbill/killbill#1997). One of them when `subscription` names it.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Option<Uuid>,
) -> sqlx::Result<Vec<(SubscriptionRow, bool)>> {
    let rows = sqlx::query!(
        r#"
        select
          subscription.subscription_id, subscription.run_id as "run_id: RunId", subscription.plan,
          subscription.interval_unit, subscription.currency, subscription.amount, subscription.zone,
          subscription.anchor_on, subscription.started_at, subscription.trial_ends_at,
          subscription.lifecycle, subscription.period_index, subscription.period_start,
          subscription.period_end, subscription.cancel_at, subscription.ended_at,
          subscription.end_reason,
          exists (
            select from app.invoice
            join app.payment using (invoice_id, shard_id)
            where invoice.subscription_id = subscription.subscription_id
              and invoice.shard_id = subscription.shard_id
              and invoice.status = 'open'
              and payment.status = 'declined') as "owes!"
        from app.subscription
        where subscription.tenant_id = $1
          and subscription.shard_id = $2
          and ($3::uuid is null or subscription.subscription_id = $3)
        order by subscription.subscription_id desc
        "#,
        tenant.0,
        shard.0,
        subscription,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let currency = row.currency.parse().map_err(decode)?;
            let period = match (row.period_index, row.period_start, row.period_end) {
                (Some(index), Some(start), Some(end)) => Some(Period {
                    index: index.unsigned_abs(),
                    start,
                    end,
                }),
                _ => None,
            };
            let subscription = SubscriptionRow {
                subscription_id: row.subscription_id,
                shard_id: shard,
                tenant_id: tenant,
                run_id: row.run_id,
                plan: row.plan,
                interval: Interval::from_word(&row.interval_unit).unwrap_or(Interval::Month),
                price: Money::new(row.amount, currency),
                zone: row.zone,
                anchor_on: row.anchor_on,
                started_at: row.started_at,
                trial_ends_at: row.trial_ends_at,
                lifecycle: Lifecycle::from_word(&row.lifecycle),
                period,
                cancel_at: row.cancel_at,
                ended_at: row.ended_at,
                end_reason: row.end_reason,
            };
            Ok((subscription, row.owes))
        })
        .collect()
}

fn decode<E: std::error::Error + Send + Sync + 'static>(error: E) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// Sets the lifecycle and, with a paid period, the period.
pub(super) async fn apply(
    conn: &mut PgConnection,
    subscription: Uuid,
    shard: ShardId,
    lifecycle: Lifecycle,
    period: Option<&Period>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.subscription
        set lifecycle = $3,
          period_index = coalesce($4, period_index),
          period_start = coalesce($5, period_start),
          period_end = coalesce($6, period_end)
        where subscription_id = $1
          and shard_id = $2
        "#,
        subscription,
        shard.0,
        lifecycle.word(),
        period.map(|period| i32::try_from(period.index).unwrap_or(i32::MAX)),
        period.map(|period| period.start),
        period.map(|period| period.end),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes when it will end.
pub(super) async fn apply_cancel_at(
    conn: &mut PgConnection,
    subscription: Uuid,
    shard: ShardId,
    cancel_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update app.subscription set cancel_at = $3 where subscription_id = $1 and shard_id = $2",
        subscription,
        shard.0,
        cancel_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends it.
pub(super) async fn apply_end(
    conn: &mut PgConnection,
    subscription: Uuid,
    shard: ShardId,
    ended_at: DateTime<Utc>,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.subscription
        set lifecycle = 'ended', ended_at = $3, end_reason = $4
        where subscription_id = $1
          and shard_id = $2
        "#,
        subscription,
        shard.0,
        ended_at,
        reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}
