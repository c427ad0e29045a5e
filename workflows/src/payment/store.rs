//! The attempt's row: written before the charge is sent.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use crate::tenant::methods::Offered;

/// An attempt to write down before it is made.
pub(super) struct NewAttempt<'a> {
    pub(super) invoice: Uuid,
    pub(super) generation: i32,
    /// What is charged; the attempt keeps it.
    pub(super) method: Option<&'a Offered>,
    /// The smallest part of the currency that can be charged.
    pub(super) part: Decimal,
}

/// Writes the intent to charge what is still owed for the invoice, in whole parts; all of it where that
/// is less than one. `false` when it was written before, or when nothing is owed.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    attempt: &NewAttempt<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into app.payment
          (invoice_id, generation, shard_id, tenant_id, currency, amount, method_id, method_offer, rail, status,
           sent_at)
        select invoice.invoice_id, $2, $3, $4, invoice.currency,
          coalesce(nullif(due.amount - mod(due.amount, $9), 0), due.amount), $5, $6, $7, 'sent', $8
        from app.invoice
        cross join lateral (
          select invoice.total - invoice.credited - invoice.balance_applied as amount) as due
        where invoice.invoice_id = $1
          and invoice.shard_id = $3
          and invoice.total > invoice.credited + invoice.balance_applied
        on conflict (invoice_id, generation, shard_id) do nothing
        "#,
        attempt.invoice,
        attempt.generation,
        shard.0,
        tenant.0,
        attempt.method.map(|one| one.method.id.as_str()),
        attempt.method.map_or(1, |one| one.offer),
        attempt.method.map(|one| one.method.brand.as_str()),
        now,
        attempt.part,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What an attempt charges, and with which method; nothing when there was nothing to charge.
pub(super) async fn find(
    conn: &mut PgConnection,
    invoice: Uuid,
    generation: i32,
    shard: ShardId,
) -> sqlx::Result<(Decimal, Option<String>)> {
    let row = sqlx::query!(
        r#"
        select amount, method_id
        from app.payment
        where invoice_id = $1
          and generation = $2
          and shard_id = $3
        "#,
        invoice,
        generation,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map_or_else(Default::default, |row| (row.amount, row.method_id)))
}

/// By which rail an attempt is made.
pub(super) async fn find_rail(
    conn: &mut PgConnection,
    invoice: Uuid,
    generation: i32,
    shard: ShardId,
) -> sqlx::Result<Option<String>> {
    let rail = sqlx::query_scalar!(
        r#"
        select rail
        from app.payment
        where invoice_id = $1
          and generation = $2
          and shard_id = $3
        "#,
        invoice,
        generation,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(rail.flatten())
}

/// Finds the attempt at an invoice that a bank weighs, if one does with a method that was not declined
/// for it before.
pub(crate) async fn find_weighed(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!(
        r#"
        select generation
        from app.payment
        where invoice_id = $1
          and shard_id = $2
          and status = 'processing'
          and not exists (
            select from app.payment as earlier
            where earlier.invoice_id = $1
              and earlier.shard_id = $2
              and earlier.status = 'declined'
              and earlier.method_id = payment.method_id)
        order by generation desc
        limit 1
        "#,
        invoice,
        shard.0,
    )
    .fetch_optional(conn)
    .await
}

/// How an attempt stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome<'a> {
    pub(super) status: &'static str,
    pub(super) intent: Option<&'a str>,
    pub(super) decline: Option<(&'a str, &'static str)>,
    pub(super) settled_at: Option<DateTime<Utc>>,
}

/// Records how the attempt stands.
pub(super) async fn apply(
    conn: &mut PgConnection,
    invoice: Uuid,
    generation: i32,
    shard: ShardId,
    outcome: Outcome<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.payment
        set status = $4, provider_intent_id = coalesce($5, provider_intent_id),
          decline_code = $6, decline_class = $7, settled_at = $8
        where invoice_id = $1
          and generation = $2
          and shard_id = $3
        "#,
        invoice,
        generation,
        shard.0,
        outcome.status,
        outcome.intent,
        outcome.decline.map(|(code, _)| code),
        outcome.decline.map(|(_, class)| class),
        outcome.settled_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What an attempt is about; nothing when there was nothing to charge.
pub(crate) async fn find_amount(
    conn: &mut PgConnection,
    invoice: Uuid,
    generation: i32,
    shard: ShardId,
) -> sqlx::Result<Decimal> {
    let found = sqlx::query_scalar!(
        r#"
        select amount
        from app.payment
        where invoice_id = $1
          and generation = $2
          and shard_id = $3
        "#,
        invoice,
        generation,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.unwrap_or_default())
}
