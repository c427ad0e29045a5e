//! What a period, or a part of one, costs; and what is given back of it. Pure.
//!
//! # The rules
//!
//! - A line costs *unit price × quantity × units ÷ units of the natural period*, computed exactly and
//!   rounded once, half away from zero, to the currency's minor unit; then lines are added. Kill
//!   Bill's, Lago's and Meteroid's published figures follow this rule.
//! - Units are whole local days, or seconds where the plan says so. The day of a change belongs to
//!   what comes after it: everything is half-open.
//! - A percentage comes off each line before it is rounded, and so does an amount, which is spread over
//!   the lines by their size: what is left of all of them is rounded once, and the rounding goes to the
//!   largest remainders.
//! - Tax is rounded per line, on what is left of it after discounts.
//! - What is given back is priced as the same part of the same lines would be charged, and of a line
//!   never more than what is left of it: *used + credited = original* for each line, and a change up and
//!   down on one day nets to zero. A shorter part never costs more than a longer one.
//!
//! Quotients have 28 digits. A true quotient is either a midpoint itself or at least one part in
//! `units × 200` away from one, so the last digit never decides a rounding.
//!
//! A [`Bill`] is stored as text with the invoice. [`Bill::price`] gives the same lines again at any
//! time, and [`Bill::hash`] proves that the inputs are those.

mod credit;

pub use credit::{Credit, CreditLine, End, Given, Unused, credit};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::calendar;
use crate::catalog::{Proration, Seller};
use crate::money::{Currency, Money};

/// Raised when a rule of this module changes; stored with each bill.
pub const RULES: u32 = 3;

/// Something that a subscription has so many of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// `plan`, `seats`, or an add-on's key.
    pub item: String,
    /// For lines.
    pub name: String,
    /// Of one for a period.
    #[serde(with = "rust_decimal::serde::str")]
    pub unit_price: Decimal,
    /// How many.
    pub quantity: u32,
}

/// A part of a natural period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Inclusive.
    pub start: DateTime<Utc>,
    /// Exclusive.
    pub end: DateTime<Utc>,
    /// Its length.
    pub units: i64,
    /// The length of the natural period that it is a part of; 1 of 1 for what is not prorated.
    pub of: i64,
}

/// What is charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// What, and how many.
    #[serde(flatten)]
    pub item: Item,
    /// For when.
    #[serde(flatten)]
    pub span: Span,
}

/// What comes off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discount {
    /// The coupon's key.
    pub coupon: String,
    /// How much.
    pub off: DiscountOff,
}

/// How much comes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscountOff {
    /// So many per cent of each line.
    Percent(#[serde(with = "rust_decimal::serde::str")] Decimal),
    /// An amount of a whole natural period.
    Amount(#[serde(with = "rust_decimal::serde::str")] Decimal),
}

/// A tax, as it was given from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tax {
    /// For people, such as `VAT`.
    pub name: String,
    /// In per cent, 0 to 100.
    #[serde(with = "rust_decimal::serde::str")]
    pub percent: Decimal,
    /// Whether prices hold it already.
    pub inclusive: bool,
}

/// All that an invoice's lines are computed of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The rules that it was priced by.
    pub rules: u32,
    /// Of all amounts.
    pub currency: Currency,
    /// What is charged, in order.
    pub charges: Vec<Charge>,
    /// What comes off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount: Option<Discount>,
    /// What is added, or held already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Tax>,
    /// Who issues the invoice; none in a draft, and for the seller without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seller: Option<Seller>,
}

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What is charged.
    #[serde(flatten)]
    pub charge: Charge,
    /// Before discounts.
    pub subtotal: Decimal,
    /// What comes off.
    pub discount: Decimal,
    /// What is left; holds the tax when that is inclusive.
    pub amount: Decimal,
    /// Added to the amount, or held by it.
    pub tax: Decimal,
    /// The percentage that came off.
    pub percent_off: Decimal,
}

/// The sums of an invoice's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Before discounts.
    pub subtotal: Decimal,
    /// What comes off.
    pub discount: Decimal,
    /// Added to, or held by, the amounts.
    pub tax: Decimal,
    /// What is owed.
    pub total: Decimal,
}

impl Charge {
    /// Its exact price before discounts.
    fn exact(&self) -> Decimal {
        part(&self.item, self.span.units, self.span.of)
    }
}

/// The exact price of `units` of an item's natural period of `of` units.
fn part(item: &Item, units: i64, of: i64) -> Decimal {
    let whole = item.unit_price * Decimal::from(item.quantity);
    if units == of {
        whole
    } else {
        whole * Decimal::from(units) / Decimal::from(of.max(1))
    }
}

fn round(amount: Decimal, currency: Currency) -> Decimal {
    Money::new(amount, currency).amount()
}

impl Bill {
    /// A bill by the present rules.
    #[must_use]
    pub fn new(
        currency: Currency,
        charges: Vec<Charge>,
        discount: Option<Discount>,
        tax: Option<Tax>,
    ) -> Self {
        Self {
            rules: RULES,
            currency,
            charges,
            discount,
            tax,
            seller: None,
        }
    }

    /// Computes the lines.
    #[must_use]
    pub fn price(&self) -> Vec<Line> {
        let percent = match self.discount.as_ref().map(|discount| discount.off) {
            Some(DiscountOff::Percent(percent)) => percent,
            _ => Decimal::ZERO,
        };
        let keep = (Decimal::ONE_HUNDRED - percent) / Decimal::ONE_HUNDRED;
        let mut lines: Vec<Line> = Vec::with_capacity(self.charges.len());
        for charge in &self.charges {
            let subtotal = round(charge.exact(), self.currency);
            let amount = round(charge.exact() * keep, self.currency);
            lines.push(Line {
                charge: charge.clone(),
                subtotal,
                discount: subtotal - amount,
                amount,
                tax: Decimal::ZERO,
                percent_off: percent,
            });
        }
        if let Some(DiscountOff::Amount(off)) = self.discount.as_ref().map(|discount| discount.off)
        {
            if self.rules < 3 {
                self.spread_rounded(off, &mut lines);
            } else {
                self.spread(off, &mut lines);
            }
        }
        for line in &mut lines {
            line.tax = tax_of(self.tax.as_ref(), line.amount, self.currency);
        }
        lines
    }

    /// The part of a natural period that is charged: that of the item that is charged for most of it.
    fn longest(&self) -> Decimal {
        let prorated = || self.charges.iter().filter(|charge| charge.span.of > 1);
        let part = |charge: &Charge| {
            Decimal::from(charge.span.units) / Decimal::from(charge.span.of.max(1))
        };
        let of = |charge: &Charge| {
            if self.rules < 2 {
                // The first rules took the longest line, though an item may have several.
                return part(charge);
            }
            prorated()
                .filter(|other| other.item.item == charge.item.item)
                .map(part)
                .sum()
        };
        prorated().map(of).max().unwrap_or(Decimal::ONE)
    }

    /// Takes an amount of a whole period off the lines, by their size, before they are rounded.
    fn spread(&self, off: Decimal, lines: &mut [Line]) {
        let all: Decimal = lines.iter().map(|line| line.charge.exact()).sum();
        let rounded: Decimal = lines.iter().map(|line| line.subtotal).sum();
        let rest = (all - off * self.longest().min(Decimal::ONE)).max(Decimal::ZERO);
        if all.is_zero() {
            return;
        }
        let digits = self.currency.decimals();
        let mut left = round(rest, self.currency).min(rounded);
        let mut rests: Vec<(Decimal, usize)> = Vec::with_capacity(lines.len());
        for (index, line) in lines.iter_mut().enumerate() {
            let exact = line.charge.exact() * rest / all;
            let mut amount = exact.trunc_with_scale(digits).min(line.subtotal);
            amount.rescale(digits);
            rests.push((exact - amount, index));
            line.amount = amount;
            left -= amount;
        }
        rests.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.cmp(&a.1)));
        let unit = Decimal::new(1, digits);
        // Who has no room for it leaves it to the next; there is as much room as there is left.
        while left >= unit {
            let before = left;
            for (_, index) in &rests {
                if let Some(line) = lines
                    .get_mut(*index)
                    .filter(|one| one.amount < one.subtotal)
                    && left >= unit
                {
                    line.amount += unit;
                    left -= unit;
                }
            }
            if left == before {
                break;
            }
        }
        for line in lines {
            line.discount = line.subtotal - line.amount;
        }
    }

    /// As the rules before 3 did: the amount was rounded by itself.
    fn spread_rounded(&self, off: Decimal, lines: &mut [Line]) {
        let all: Decimal = lines.iter().map(|line| line.amount).sum();
        let part = self.longest().min(Decimal::ONE);
        let off = round(off * part, self.currency).min(all);
        if all.is_zero() || off.is_zero() {
            return;
        }
        let unit = Decimal::new(1, self.currency.decimals());
        let mut left = off;
        let mut rests: Vec<(Decimal, usize)> = Vec::with_capacity(lines.len());
        for (index, line) in lines.iter_mut().enumerate() {
            let exact = off * line.amount / all;
            let mut share = exact.trunc_with_scale(self.currency.decimals());
            share.rescale(self.currency.decimals());
            rests.push((exact - share, index));
            line.discount += share;
            line.amount -= share;
            left -= share;
        }
        rests.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, index) in rests {
            if left < unit {
                break;
            }
            if let Some(line) = lines.get_mut(index).filter(|line| line.amount >= unit) {
                line.discount += unit;
                line.amount -= unit;
                left -= unit;
            }
        }
    }

    /// Adds lines up.
    #[must_use]
    pub fn totals(&self, lines: &[Line]) -> Totals {
        let zero = Money::zero(self.currency).amount();
        let mut totals = Totals {
            subtotal: zero,
            discount: zero,
            tax: zero,
            total: zero,
        };
        let inclusive = self.tax.as_ref().is_some_and(|tax| tax.inclusive);
        for line in lines {
            totals.subtotal += line.subtotal;
            totals.discount += line.discount;
            totals.tax += line.tax;
            totals.total += line.amount;
            if !inclusive {
                totals.total += line.tax;
            }
        }
        totals
    }

    /// The text that is stored with the invoice.
    ///
    /// # Errors
    /// Never in practice: it holds nothing that JSON cannot.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The SHA-256 of a stored text, in hexadecimal.
    #[must_use]
    pub fn hash(text: &str) -> String {
        hex::encode(Sha256::digest(text.as_bytes()))
    }
}

/// The tax of an amount: added to it, or held by it.
fn tax_of(tax: Option<&Tax>, amount: Decimal, currency: Currency) -> Decimal {
    match tax {
        None => Money::zero(currency).amount(),
        Some(tax) if tax.inclusive => {
            let net = amount * Decimal::ONE_HUNDRED / (Decimal::ONE_HUNDRED + tax.percent);
            amount - round(net, currency)
        }
        Some(tax) => round(amount * tax.percent / Decimal::ONE_HUNDRED, currency),
    }
}

/// How long it is from one instant to another, as proration counts.
#[must_use]
pub fn measure(start: DateTime<Utc>, end: DateTime<Utc>, by: Proration, zone: Tz) -> i64 {
    match by {
        Proration::Day => {
            let days = calendar::local_day(end, zone) - calendar::local_day(start, zone);
            days.num_days()
        }
        Proration::Second => (end - start).num_seconds(),
    }
}

/// Where a change cuts a period: at the start of its local day, or at its second.
#[must_use]
pub fn cut(at: DateTime<Utc>, by: Proration, zone: Tz) -> DateTime<Utc> {
    match by {
        Proration::Day => calendar::start_of_day(calendar::local_day(at, zone), zone),
        Proration::Second => DateTime::from_timestamp(at.timestamp(), 0).unwrap_or(at),
    }
}

#[cfg(test)]
mod tests;
