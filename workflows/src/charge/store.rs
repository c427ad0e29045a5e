//! The rows of a charge after its attempt: late money, refunds that came back, disputes.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tenure_engine::{ShardId, StepError, TenantId};
use uuid::Uuid;

use crate::invoice;
use crate::ports::stripe::{Charged, Disputed, Refunded, Standing};

/// What our rows say of a charge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Known {
    /// The provider's id of the charge.
    pub(super) intent: String,
    pub(super) currency: String,
    pub(super) amount: Decimal,
    pub(super) counts_as_failed: bool,
    /// The provider's ids of refunds that count as given back.
    pub(super) refunds: Vec<String>,
}

impl Known {
    /// It was given up, and no money has come since.
    pub(crate) fn counts_as_failed(&self) -> bool {
        self.counts_as_failed
    }
}

/// What the provider says of it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// How the charge stands, if it counts as failed.
    pub(super) charged: Option<Charged>,
    pub(super) refunds: Vec<(String, Refunded)>,
    pub(super) dispute: Option<Disputed>,
}

impl Found {
    /// Whether something is to come of which we may not be told.
    pub(super) fn is_on_its_way(&self) -> bool {
        let charged = matches!(self.charged, Some(Charged::Processing { .. }));
        let disputed = self.dispute.as_ref();
        charged || disputed.is_some_and(|dispute| !is_settled(dispute.standing))
    }
}

/// Whose charge it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) tenant: TenantId,
    pub(super) shard: ShardId,
    pub(super) invoice: Uuid,
    pub(super) generation: i32,
}

/// What was written, and who has to hear of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Written {
    /// What a debt follows from has changed.
    pub(super) debt_changed: bool,
    /// Open invoices that new credit may pay.
    pub(super) open: Vec<Uuid>,
}

/// Finds what is known of a charge; nothing when none reached the provider.
pub(crate) async fn find(
    conn: &mut PgConnection,
    invoice: Uuid,
    generation: i32,
    shard: ShardId,
) -> sqlx::Result<Option<Known>> {
    let row = sqlx::query!(
        r#"
        select payment.provider_intent_id as "intent!", payment.currency, payment.amount,
          payment.status = 'declined' and payment.late_at is null as "counts_as_failed!",
          array(
            select refund.provider_refund_id
            from app.refund
            where refund.invoice_id = payment.invoice_id
              and refund.shard_id = $3
              and refund.generation = payment.generation
              and refund.status = 'succeeded'
              and refund.provider_refund_id is not null
            order by refund.provider_refund_id) as "refunds!"
        from app.payment
        where payment.invoice_id = $1
          and payment.generation = $2
          and payment.shard_id = $3
          and payment.provider_intent_id is not null
        "#,
        invoice,
        generation,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Known {
        intent: row.intent,
        currency: row.currency,
        amount: row.amount,
        counts_as_failed: row.counts_as_failed,
        refunds: row.refunds,
    }))
}

/// Writes what has changed. The transaction must act as the tenant.
pub(super) async fn apply(
    conn: &mut PgConnection,
    at: Place,
    known: &Known,
    found: &Found,
    now: DateTime<Utc>,
) -> Result<Written, StepError> {
    let mut written = Written::default();
    let mut credited = false;
    if let Some(Charged::Succeeded { .. }) = &found.charged
        && apply_late(conn, at, now).await?
    {
        let credit = (known.currency.as_str(), known.amount, "late_payment");
        add_credit(conn, at, credit, &known.intent, now).await?;
        credited = true;
    }
    for (refund, refunded) in &found.refunds {
        if let Refunded::Failed { reason, .. } = refunded
            && let Some(amount) = apply_refund_failed(conn, at, refund, reason, now).await?
        {
            let credit = (known.currency.as_str(), amount, "refund_failed");
            add_credit(conn, at, credit, refund, now).await?;
            credited = true;
        }
    }
    if let Some(dispute) = &found.dispute {
        let credit = match is_settled(dispute.standing) {
            // What was credited of a debt that is none any more.
            true if dispute.standing != Standing::Lost => {
                let standing = invoice::store::lock(conn, at.invoice, at.shard).await?;
                standing.map_or(Decimal::ZERO, |standing| standing.credited_of_withdrawn())
            }
            _ => Decimal::ZERO,
        };
        written.debt_changed = put_dispute(conn, at, dispute, now).await?;
        if written.debt_changed && credit > Decimal::ZERO {
            let credit = (known.currency.as_str(), credit, "dispute_won");
            add_credit(conn, at, credit, &dispute.dispute, now).await?;
            credited = true;
        }
    }
    if credited {
        written.debt_changed = true;
        written.open =
            invoice::store::list_open(conn, at.tenant, at.shard, &known.currency).await?;
    }
    Ok(written)
}

/// Adds to the balance what somebody gave back. The caller's guarded write makes it once.
async fn add_credit(
    conn: &mut PgConnection,
    at: Place,
    (currency, amount, reason): (&str, Decimal, &str),
    note: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let entry = invoice::store::Entry {
        currency,
        amount,
        reason,
        reference: tenure_engine::new_uuid(at.shard),
        note: Some(note),
        author: "charge",
    };
    invoice::store::add_entry(conn, at.tenant, at.shard, &entry, now).await
}

/// Notes that an attempt was paid after all; false when that was noted before.
async fn apply_late(conn: &mut PgConnection, at: Place, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update app.payment
        set late_at = $4
        where invoice_id = $1
          and generation = $2
          and shard_id = $3
          and status = 'declined'
          and late_at is null
        "#,
        at.invoice,
        at.generation,
        at.shard.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that a refund came back; returns how much, the first time.
async fn apply_refund_failed(
    conn: &mut PgConnection,
    at: Place,
    refund: &str,
    failure: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Decimal>> {
    sqlx::query_scalar!(
        r#"
        update app.refund
        set status = 'failed', failure = $5, settled_at = $6
        where invoice_id = $1
          and generation = $2
          and shard_id = $3
          and provider_refund_id = $4
          and status = 'succeeded'
        returning amount
        "#,
        at.invoice,
        at.generation,
        at.shard.0,
        refund,
        failure,
        now,
    )
    .fetch_optional(conn)
    .await
}

/// Writes how a dispute stands; false when nothing is new. What has ended does not begin again.
async fn put_dispute(
    conn: &mut PgConnection,
    at: Place,
    dispute: &Disputed,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into app.dispute
          (dispute_id, shard_id, tenant_id, invoice_id, generation, currency, amount, fee, reason, standing,
           evidence_due_at, opened_at, settled_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        on conflict (dispute_id, shard_id) do update
        set amount = excluded.amount,
          fee = excluded.fee,
          reason = excluded.reason,
          standing = excluded.standing,
          evidence_due_at = excluded.evidence_due_at,
          settled_at = excluded.settled_at
        where dispute.settled_at is null
          and (dispute.standing, dispute.amount, dispute.fee, dispute.evidence_due_at)
            is distinct from (excluded.standing, excluded.amount, excluded.fee, excluded.evidence_due_at)
        "#,
        dispute.dispute,
        at.shard.0,
        at.tenant.0,
        at.invoice,
        at.generation,
        dispute.money.currency().code(),
        dispute.money.amount(),
        dispute.fee,
        dispute.reason,
        word(dispute.standing),
        dispute.evidence_due,
        now,
        is_settled(dispute.standing).then_some(now),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lists the tenant's disputes, newest first.
pub(crate) async fn list_disputes(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Vec<super::DisputeRow>> {
    sqlx::query_as!(
        super::DisputeRow,
        r#"
        select dispute_id, invoice_id, currency, amount, fee, reason, standing, evidence_due_at,
          opened_at, settled_at
        from app.dispute
        where tenant_id = $1
          and shard_id = $2
        order by opened_at desc, dispute_id
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_all(conn)
    .await
}

/// Whether nothing can happen to it any more.
const fn is_settled(standing: Standing) -> bool {
    matches!(standing, Standing::Won | Standing::Lost | Standing::Closed)
}

/// The stored word.
const fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Inquiry => "inquiry",
        Standing::Open => "open",
        Standing::Won => "won",
        Standing::Lost => "lost",
        Standing::Closed => "closed",
    }
}
