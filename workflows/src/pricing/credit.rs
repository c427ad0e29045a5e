//! What is given back of what was billed.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{Bill, Charge, Discount, DiscountOff, Line, Tax, part, round, tax_of};
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

/// The end of a line that is given back.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The line.
    pub given: &'a Given,
    /// What of it is not used.
    pub unused: Unused,
    /// The tax of its invoice.
    pub tax: Option<&'a Tax>,
}

impl End<'_> {
    /// What is left of the line after earlier credits.
    fn left(&self) -> Decimal {
        self.given.line.amount - self.given.amount
    }

    fn is_whole(&self) -> bool {
        self.unused.units >= self.unused.of
    }

    /// The same part, as it would be charged.
    fn charge(&self) -> Charge {
        let mut charge = self.given.line.charge.clone();
        charge.span.units = self.unused.units;
        charge
    }
}

/// Gives back the ends of lines that are not used, which may come to nothing: of what costs less than
/// the smallest unit, or of a line of which nothing is left.
///
/// Priced as the same parts would be charged together, with the percentage that came off each line, or
/// with `off` as the amount that comes off a whole period of them all. Never more than what is left of
/// a line after earlier credits (Kill Bill caps its repairs the same way).
#[must_use]
pub fn credit(ends: &[End<'_>], off: Decimal, currency: Currency) -> Vec<CreditLine> {
    let mut amounts = if off > Decimal::ZERO {
        priced_together(ends, off, currency)
    } else {
        ends.iter().map(|end| priced(end, currency)).collect()
    };
    for (amount, end) in amounts.iter_mut().zip(ends) {
        if end.unused.units <= 0 || end.left() <= Decimal::ZERO {
            *amount = Decimal::ZERO;
        }
    }
    let lines = ends.iter().zip(amounts);
    let lines = lines.map(|(end, amount)| {
        let tax_left = end.given.line.tax - end.given.tax;
        // Whatever takes the last of the amount takes the last of the tax, too.
        let tax = if amount.is_zero() {
            Decimal::ZERO
        } else if amount == end.left() {
            tax_left
        } else {
            tax_of(end.tax, amount, currency).min(tax_left)
        };
        CreditLine {
            start: end.unused.start,
            end: end.given.until,
            units: end.unused.units,
            amount,
            tax,
        }
    });
    lines.collect()
}

/// The part of a line, at most what is left of it.
fn priced(end: &End<'_>, currency: Currency) -> Decimal {
    if end.is_whole() {
        return end.left();
    }
    let line = &end.given.line;
    let keep = (Decimal::ONE_HUNDRED - line.percent_off) / Decimal::ONE_HUNDRED;
    let exact = part(&line.charge.item, end.unused.units, line.charge.span.of) * keep;
    round(exact, currency).clamp(Decimal::ZERO, end.left().max(Decimal::ZERO))
}

/// The parts of lines off which an amount came, which comes off all of them together. What one line has
/// no room for goes to the others, so that all of them come to what they would be charged at; what
/// somebody gave back of a line by hand is no matter of the others.
fn priced_together(ends: &[End<'_>], off: Decimal, currency: Currency) -> Vec<Decimal> {
    let discount = Discount {
        coupon: String::new(),
        off: DiscountOff::Amount(off),
    };
    let charges = ends.iter().map(End::charge).collect();
    let charged = Bill::new(currency, charges, Some(discount), None).price();
    let room = |end: &End<'_>| end.left().max(Decimal::ZERO);
    let mut amounts = Vec::with_capacity(ends.len());
    let mut rest = Decimal::ZERO;
    for (end, line) in ends.iter().zip(&charged) {
        let amount = if end.is_whole() {
            room(end)
        } else {
            line.amount.min(room(end))
        };
        if end.given.amount.is_zero() {
            rest += line.amount - amount;
        }
        amounts.push(amount);
    }
    let parts = amounts.iter_mut().zip(ends);
    let parts = parts.filter(|(_, end)| !end.is_whole() && end.given.amount.is_zero());
    for (amount, end) in parts {
        let more = rest.clamp(-*amount, room(end) - *amount);
        *amount += more;
        rest -= more;
    }
    amounts
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
