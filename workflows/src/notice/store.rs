//! Mails, as they were sent.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::NoticeRow;
use crate::money::Currency;

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

/// Whether an invoice is still open.
pub(super) async fn is_open(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
          select from app.invoice
          where invoice_id = $1
            and shard_id = $2
            and status = 'open'
        ) as "open!"
        "#,
        invoice,
        shard.0,
    )
    .fetch_one(conn)
    .await
}

/// Whether a subscription goes on into another period.
pub(super) async fn renews(
    conn: &mut PgConnection,
    subscription: Uuid,
    shard: ShardId,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
          select from app.subscription
          where subscription_id = $1
            and shard_id = $2
            and lifecycle <> 'ended'
            and not exists (
              select from app.subscription_intent as intent
              where intent.subscription_id = $1
                and intent.shard_id = $2
                and intent.kind = 'cancel')
        ) as "renews!"
        "#,
        subscription,
        shard.0,
    )
    .fetch_one(conn)
    .await
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
