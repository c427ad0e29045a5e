//! Invoices, their lines, and the number series.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::{Draft, InvoiceRow, LineRow};
use crate::money::Money;

/// Inserts a draft with its one line.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    draft: &Draft,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with invoice as (
          insert into app.invoice
            (invoice_id, shard_id, tenant_id, subscription_id, status, currency, total, attempts,
             period_start, period_end, created_at)
          values ($1, $2, $3, $4, 'draft', $5, $6, 0, $7, $8, $9)
          returning invoice_id
        )
        insert into app.invoice_line
          (invoice_id, line, shard_id, tenant_id, description, quantity, amount, period_start, period_end)
        select invoice_id, 1, $2, $3, $10, 1, $6, $7, $8
        from invoice
        "#,
        draft.invoice_id,
        shard.0,
        tenant.0,
        draft.subscription_id,
        draft.price.currency().code(),
        draft.price.amount(),
        draft.period.start,
        draft.period.end,
        now,
        draft.description,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the next number of the tenant's series.
pub(super) async fn claim_number(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"
        insert into app.invoice_series (tenant_id, shard_id, last_number)
        values ($1, $2, 1)
        on conflict (tenant_id, shard_id) do update
        set last_number = invoice_series.last_number + 1
        returning last_number
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_one(conn)
    .await
}

/// Finalises a draft: it has its number and is open from here on. Returns its total.
pub(super) async fn apply_final(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    number: i32,
    now: DateTime<Utc>,
) -> sqlx::Result<Decimal> {
    sqlx::query_scalar!(
        r#"
        update app.invoice
        set status = 'open', number = $3, finalized_at = $4
        where invoice_id = $1
          and shard_id = $2
          and status = 'draft'
        returning total
        "#,
        invoice,
        shard.0,
        number,
        now,
    )
    .fetch_one(conn)
    .await
}

/// Notes that a payment is attempted.
pub(super) async fn apply_attempt(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    generation: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update app.invoice set attempts = $3 where invoice_id = $1 and shard_id = $2",
        invoice,
        shard.0,
        generation,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks an open invoice paid.
pub(super) async fn apply_paid(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.invoice
        set status = 'paid', paid_at = $3
        where invoice_id = $1
          and shard_id = $2
          and status = 'open'
        "#,
        invoice,
        shard.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes an open invoice off.
pub(super) async fn apply_uncollectible(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.invoice
        set status = 'uncollectible', closed_at = $3
        where invoice_id = $1
          and shard_id = $2
          and status = 'open'
        "#,
        invoice,
        shard.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the tenant's invoices, newest period first; one of them when `invoice` names it.
pub(crate) async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    invoice: Option<Uuid>,
) -> sqlx::Result<Vec<InvoiceRow>> {
    let rows = sqlx::query!(
        r#"
        select invoice_id, subscription_id, status, number, currency, total, attempts,
          period_start, period_end, finalized_at, paid_at
        from app.invoice
        where tenant_id = $1
          and shard_id = $2
          and ($3::uuid is null or invoice_id = $3)
        order by period_start desc, invoice_id desc
        "#,
        tenant.0,
        shard.0,
        invoice,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let currency = row
                .currency
                .parse()
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok(InvoiceRow {
                invoice_id: row.invoice_id,
                subscription_id: row.subscription_id,
                status: row.status,
                number: row.number,
                total: Money::new(row.total, currency),
                attempts: row.attempts,
                period_start: row.period_start,
                period_end: row.period_end,
                finalized_at: row.finalized_at,
                paid_at: row.paid_at,
            })
        })
        .collect()
}

/// Lists the lines of an invoice.
pub(super) async fn list_lines(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Vec<LineRow>> {
    sqlx::query_as!(
        LineRow,
        r#"
        select description, quantity, amount, period_start, period_end
        from app.invoice_line
        where invoice_id = $1
          and shard_id = $2
        order by line
        "#,
        invoice,
        shard.0,
    )
    .fetch_all(conn)
    .await
}

/// Lists the tenant's open invoices in a currency, oldest first.
pub(crate) async fn list_open(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: &str,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        select invoice_id
        from app.invoice
        where tenant_id = $1
          and shard_id = $2
          and currency = $3
          and status = 'open'
          and attempts > 0
        order by number
        "#,
        tenant.0,
        shard.0,
        currency,
    )
    .fetch_all(conn)
    .await
}
