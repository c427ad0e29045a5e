//! Credit notes: what is given back of an invoice, and where it goes.
//!
//! What is given back lowers what is still owed for the invoice, and beyond that adds to the tenant's
//! balance or goes back to the payment method. Whoever gives locks the invoice's row first, then the
//! row of the balance, so that two who give at once do not both count on the same debt.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_engine::{ResultExt as _, ShardId, StepError, TenantId};
use uuid::Uuid;

use super::{issuer, store};
use crate::money::Currency;
use crate::ports::stripe::smallest_part;
use crate::pricing::CreditLine;
use crate::subscription::money::{CreditPolicy, Split, split};

/// A credit note to give.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewCreditNote<'a> {
    pub(crate) invoice_id: Uuid,
    /// Those that come to nothing are left out.
    pub(crate) lines: &'a [(i32, CreditLine)],
    pub(crate) tax: Decimal,
    pub(crate) total: Decimal,
    pub(crate) policy: CreditPolicy,
    pub(crate) reason: &'a str,
    pub(crate) author: &'a str,
}

/// A credit note, given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenCreditNote {
    pub(crate) credit_note_id: Uuid,
    pub(crate) split: Split,
}

/// Gives a credit note. The caller's transaction acts as the tenant.
///
/// # Errors
/// Terminal, when there is no such invoice; when the database does not answer.
pub(crate) async fn give(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    note: &NewCreditNote<'_>,
    now: DateTime<Utc>,
) -> Result<GivenCreditNote, StepError> {
    let standing = store::lock(conn, note.invoice_id, shard).await?;
    let standing = standing.ok_or_else(|| StepError::terminal("no_invoice", note.invoice_id))?;
    let payments = store::list_refundable(conn, note.invoice_id, shard).await?;
    let refundable = payments.iter().map(|payment| payment.left).sum();
    let currency: Currency = standing.currency.parse().terminal("unknown_currency")?;
    let part = smallest_part(currency);
    let split = split(note.total, standing.due(), refundable, note.policy, part);
    let credit_note_id = tenure_engine::new_uuid(shard);
    let issuer = issuer::keep(conn, tenant, shard, note.invoice_id).await?;
    let number = store::claim_credit_number(conn, tenant, shard, &issuer.legal_entity).await?;
    let row = store::CreditNote {
        credit_note_id,
        number,
        legal_entity: &issuer.legal_entity,
        currency: &standing.currency,
        note,
        split,
    };
    store::insert_credit_note(conn, tenant, shard, &row, now).await?;
    if split.to_debt > Decimal::ZERO {
        store::apply_credited(conn, note.invoice_id, shard, split.to_debt).await?;
    }
    if split.to_balance > Decimal::ZERO {
        let entry = store::Entry {
            currency: &standing.currency,
            amount: split.to_balance,
            reason: "credit_note",
            reference: credit_note_id,
            note: Some(note.reason),
            author: note.author,
        };
        store::add_entry(conn, tenant, shard, &entry, now).await?;
    }
    let mut left = split.to_refund;
    for payment in payments {
        let amount = left.min(payment.left);
        if amount > Decimal::ZERO {
            let refund = store::NewRefund {
                credit_note_id,
                invoice_id: note.invoice_id,
                currency: &standing.currency,
                amount,
                payment: &payment,
            };
            store::insert_refund(conn, tenant, shard, &refund, now).await?;
            left -= amount;
        }
    }
    Ok(GivenCreditNote {
        credit_note_id,
        split,
    })
}

/// Adds a refund that failed to the tenant's balance, once.
pub(crate) async fn keep_failed_refund(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    note: Uuid,
    currency: &str,
    amount: Decimal,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let entry = store::Entry {
        currency,
        amount,
        reason: "refund_failed",
        reference: note,
        note: None,
        author: "refund",
    };
    store::add_entry(conn, tenant, shard, &entry, now).await
}
