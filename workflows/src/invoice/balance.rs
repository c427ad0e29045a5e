//! The tenant's balance and an invoice: what it pays of it, and the rest of it that is carried over.
//!
//! A provider takes no charge below a minimum of its own, which may depend on the currency that it
//! pays out in: only it can tell. A rest that is too small is carried over, as Stripe Billing does:
//! its invoice is paid by the balance, which is below zero by that much until the next invoice with
//! something to pay collects it, or until credit makes up for it. The thousandths that it does not take of
//! a larger amount are carried over in the same way, once the rest of it is paid. So what the balance gave an invoice
//! (`balance_applied`) is below zero where the invoice collected more than it was given.
//!
//! Whoever writes here locks the invoice's row first, then the row of the balance, like a credit note.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_engine::{ShardId, StepError, TenantId};

use super::{Input, store};

/// What a balance pays of what is due; below zero, what the invoice collects for earlier ones. Where
/// nothing is due nothing is collected either.
pub(crate) fn taken(balance: Decimal, due: Decimal) -> Decimal {
    if due.is_zero() {
        return Decimal::ZERO;
    }
    balance.min(due)
}

/// What an open invoice takes of new credit: the oldest debt is paid first, whichever run comes first.
pub(super) fn share(balance: Decimal, older: Decimal, due: Decimal) -> Decimal {
    due.min((balance - older).max(Decimal::ZERO))
}

/// Lets the balance pay of an invoice, or the invoice collect what the balance owes. The balance's row
/// is locked by the caller.
pub(super) async fn apply(
    tx: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    of: &Input,
    amount: Decimal,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    if amount.is_zero() {
        return Ok(());
    }
    let reason = if amount > Decimal::ZERO {
        "applied"
    } else {
        "collected"
    };
    move_to(tx, tenant, shard, of, (amount, reason), now).await
}

/// Settles an open invoice: what is due of it still, beyond what was paid, is carried over.
///
/// # Errors
/// Terminal, when there is no such invoice; when the database does not answer.
pub(super) async fn carry_over(
    tx: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    of: &Input,
    paid: Decimal,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let standing = store::lock(tx, of.invoice_id, shard).await?;
    let standing = standing.ok_or_else(|| StepError::terminal("no_invoice", of.invoice_id))?;
    let rest = standing.due() - paid;
    if standing.status == "open" && rest > Decimal::ZERO {
        move_to(tx, tenant, shard, of, (rest, "carried_over"), now).await?;
    }
    Ok(store::apply_paid(tx, of.invoice_id, shard, now).await?)
}

/// Moves an amount from the balance to an invoice; below zero, the other way.
async fn move_to(
    tx: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    of: &Input,
    (amount, reason): (Decimal, &str),
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let entry = store::Entry {
        currency: of.currency.code(),
        amount: -amount,
        reason,
        reference: of.invoice_id,
        note: None,
        author: "invoice",
    };
    store::add_entry(tx, tenant, shard, &entry, now).await?;
    store::apply_balance(tx, of.invoice_id, shard, amount).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_pays_at_most_what_is_due_and_what_it_owes_is_collected() {
        let dec = |text: &str| -> Decimal { text.parse().unwrap() };
        for (balance, due, expected) in [
            ("10.00", "49.00", "10.00"),
            ("60.00", "49.00", "49.00"),
            ("0.00", "49.00", "0.00"),
            ("-0.30", "49.00", "-0.30"),
            ("-0.30", "0.00", "0.00"),
            ("10.00", "0.00", "0.00"),
        ] {
            let found = taken(dec(balance), dec(due));
            assert_eq!(found, dec(expected), "{balance} of {due}");
        }
    }
}
