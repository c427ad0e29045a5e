//! Mails, as they were sent.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::facts::{Owed, Sold};
use super::{KeptNotice, NoticeRow};
use crate::invoice;
use crate::money::{Currency, Money};

/// Inserts a mail that waits to be handed over, or that is moot.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    dedupe_key: &str,
    body_html: &str,
    row: &NoticeRow,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.notice
          (notice_id, shard_id, tenant_id, kind, dedupe_key, recipient, subject, body_text, body_html,
           status, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        "#,
        row.notice_id,
        shard.0,
        tenant.0,
        row.kind,
        dedupe_key,
        row.recipient,
        row.subject,
        row.body_text,
        body_html,
        row.status,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks a mail handed over.
pub(super) async fn apply_sent(
    conn: &mut PgConnection,
    notice: Uuid,
    shard: ShardId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.notice
        set status = 'sent', sent_at = $3
        where notice_id = $1
          and shard_id = $2
        "#,
        notice,
        shard.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What an invoice is for, less what was credited, and whether that is owed still.
pub(super) async fn find_owed(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<(Owed, bool)>> {
    let row = sqlx::query!(
        r#"
        select number as "number!", seller->>'prefix' as prefix, currency,
          total - credited - balance_applied as "due!", status = 'open' as "is_open!"
        from app.invoice
        where invoice_id = $1
          and shard_id = $2
          and number is not null
        "#,
        invoice,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let currency: Currency = row.currency.parse().map_err(decode)?;
        let owed = Owed {
            number: invoice::printed(row.prefix.as_deref(), row.number),
            due: Money::new(row.due, currency),
        };
        Ok((owed, row.is_open))
    })
    .transpose()
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// What a live subscription is sold at.
pub(super) async fn find_sold(
    conn: &mut PgConnection,
    subscription: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<Sold>> {
    let row = sqlx::query!(
        r#"
        select subscription.amount, subscription.currency, subscription.billing_interval,
          item.name as "plan?"
        from app.subscription
        left join app.subscription_item as item
          on item.subscription_id = subscription.subscription_id
          and item.shard_id = $2
          and item.item = 'plan'
          and item.valid_to is null
        where subscription.subscription_id = $1
          and subscription.shard_id = $2
          and subscription.lifecycle <> 'ended'
        "#,
        subscription,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let currency: Currency = row.currency.parse().map_err(decode)?;
        Ok(Sold {
            plan: row.plan,
            price: Money::new(row.amount, currency),
            every: row.billing_interval.parse().map_err(decode)?,
        })
    })
    .transpose()
}

/// How the tenant's debt in a currency stands.
pub(super) async fn find_debt_state(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: Currency,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select state from app.debt where tenant_id = $1 and shard_id = $2 and currency = $3",
        tenant.0,
        shard.0,
        currency.code(),
    )
    .fetch_optional(conn)
    .await
}

/// Whether an invoice was paid since an instant, or stayed paid because a dispute was settled so.
pub(super) async fn is_paid_since(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: Currency,
    since: DateTime<Utc>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
          select
          from app.invoice
          where tenant_id = $1
            and shard_id = $2
            and currency = $3
            and paid_at >= $4
        ) or exists (
          select
          from app.dispute
          where tenant_id = $1
            and shard_id = $2
            and currency = $3
            and standing in ('won', 'closed')
            and settled_at >= $4
        ) as "is_paid!"
        "#,
        tenant.0,
        shard.0,
        currency.code(),
        since,
    )
    .fetch_one(conn)
    .await
}

/// Finds one mail with its HTML part and what it was told once by.
pub(super) async fn find(
    conn: &mut PgConnection,
    notice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<KeptNotice>> {
    let row = sqlx::query!(
        r#"
        select notice_id, tenant_id as "tenant_id: TenantId", kind, recipient, subject, body_text,
          status, created_at, sent_at, body_html, dedupe_key
        from app.notice
        where notice_id = $1
          and shard_id = $2
        "#,
        notice,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| KeptNotice {
        body_html: row.body_html,
        dedupe_key: row.dedupe_key,
        row: NoticeRow {
            notice_id: row.notice_id,
            tenant_id: row.tenant_id,
            kind: row.kind,
            recipient: row.recipient,
            subject: row.subject,
            body_text: row.body_text,
            status: row.status,
            created_at: row.created_at,
            sent_at: row.sent_at,
        },
    }))
}

/// Lists mails, newest first, after the cursor; of one tenant, or of all that the role may see.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Option<TenantId>,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<NoticeRow>> {
    sqlx::query_as!(
        NoticeRow,
        r#"
        select notice_id, tenant_id as "tenant_id: TenantId", kind, recipient, subject, body_text,
          status, created_at, sent_at
        from app.notice
        where ($1::uuid is null or tenant_id = $1)
          and ($2::uuid is null or notice_id < $2)
        order by notice_id desc
        limit $3
        "#,
        tenant.map(|tenant| tenant.0),
        after,
        limit,
    )
    .fetch_all(conn)
    .await
}
