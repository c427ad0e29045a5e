//! What is given back of what was billed.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{Line, Tax, part, round, tax_of};
use crate::money::Currency;

/// A billed line, and what has been given back of it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// As it was billed.
    pub line: Line,
    /// Of its amount.
    pub amount: Decimal,
    /// Of its tax.
    pub tax: Decimal,
    /// Until when it is used: its end, or from when on it was given back.
    pub until: DateTime<Utc>,
}

/// The end of a line that is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unused {
    /// From when on.
    pub start: DateTime<Utc>,
    /// How long it is.
    pub units: i64,
    /// How long all is that was used until now; when that is no longer, all that is left goes back.
    pub of: i64,
}

/// What is to be given back of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditLine {
    /// From when on the line was not used.
    pub start: DateTime<Utc>,
    /// Until when.
    pub end: DateTime<Utc>,
    /// How much of the line's units.
    pub units: i64,
    /// Of its amount.
    pub amount: Decimal,
    /// Of its tax.
    pub tax: Decimal,
}

/// The sum of lines that are given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Of the tax.
    pub tax: Decimal,
    /// With the tax.
    pub total: Decimal,
}

/// Gives back the end of a line that is not used; `None` when nothing is left of it.
///
/// Priced as the same part would be charged, with the discounts of the line, and never more than what
/// is left of it after earlier credits (Kill Bill caps its repairs the same way).
#[must_use]
pub fn credit(
    given: &Given,
    unused: Unused,
    tax: Option<&Tax>,
    currency: Currency,
) -> Option<CreditLine> {
    let Given { line, .. } = given;
    let span = line.charge.span;
    let left = line.amount - given.amount;
    let tax_left = line.tax - given.tax;
    if unused.units <= 0 || left <= Decimal::ZERO {
        return None;
    }
    let amount = if unused.units >= unused.of {
        left
    } else {
        let keep = (Decimal::ONE_HUNDRED - line.percent_off) / Decimal::ONE_HUNDRED;
        let priced = part(&line.charge.item, unused.units, span.of) * keep;
        // What came off as an amount comes off what is given back, by the same part.
        let before = round(
            part(&line.charge.item, span.units, span.of) * keep,
            currency,
        );
        let off = before - line.amount;
        let off = off * Decimal::from(unused.units) / Decimal::from(span.units.max(1));
        round(priced - off, currency).clamp(Decimal::ZERO, left)
    };
    // Whatever takes the last of the amount takes the last of the tax, too.
    let tax = if amount == left {
        tax_left
    } else {
        tax_of(tax, amount, currency).min(tax_left)
    };
    (amount > Decimal::ZERO).then_some(CreditLine {
        start: unused.start,
        end: given.until,
        units: unused.units,
        amount,
        tax,
    })
}

impl Credit {
    /// Adds lines up.
    #[must_use]
    pub fn of(lines: &[CreditLine], inclusive: bool) -> Self {
        let tax: Decimal = lines.iter().map(|line| line.tax).sum();
        let amount: Decimal = lines.iter().map(|line| line.amount).sum();
        Self {
            tax,
            total: if inclusive { amount } else { amount + tax },
        }
    }
}
