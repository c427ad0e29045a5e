//! What acts on a subscription come to in money. Pure: the same functions tell a preview and make the
//! change, so what was shown is what is done.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::terms::{Offer, SETUP_FEE, TRIAL, Terms};
use crate::calendar::{self, Period};
use crate::catalog::Billing;
use crate::money::Currency;
use crate::pricing::{
    Bill, Charge, Credit, CreditLine, Discount, DiscountOff, End, Given, Item, Span, Tax, Unused,
    credit, cut, measure,
};

/// What the rows say of a subscription's money.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The tenant's tax.
    pub tax: Option<Tax>,
    /// What was billed for time to come, of invoices that are not void.
    pub billed: Vec<Billed>,
    /// What it had, and when.
    pub held: Vec<Held>,
    /// When its billing was held.
    pub blocked: Vec<Blocked>,
}

/// A time in which a hold blocks billing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked {
    /// Inclusive.
    pub from: DateTime<Utc>,
    /// Exclusive; `None` while it stands.
    pub to: Option<DateTime<Utc>>,
}

impl Facts {
    /// Whether billing is held at an instant: no money moves then.
    #[must_use]
    pub fn is_blocked(&self, at: DateTime<Utc>) -> bool {
        let mut holds = self.blocked.iter();
        holds.any(|hold| hold.from <= at && hold.to.is_none_or(|to| at < to))
    }
}

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq)]
pub struct Billed {
    /// The invoice.
    pub invoice_id: Uuid,
    /// The line.
    pub number: i32,
    /// The tax of the invoice.
    pub tax: Option<Tax>,
    /// The line, and what was given back of it.
    pub given: Given,
}

/// An item in the time in which it held.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// What, and how many.
    pub item: Item,
    /// Inclusive.
    pub from: DateTime<Utc>,
    /// Exclusive; `None` while it holds.
    pub to: Option<DateTime<Utc>>,
}

/// What is given back of one invoice: nothing, where what is not used costs less than the smallest unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GiveBack {
    /// The invoice.
    pub invoice_id: Uuid,
    /// Its lines, by number.
    pub lines: Vec<(i32, CreditLine)>,
    /// Of the tax.
    pub tax: Decimal,
    /// In all, with tax.
    pub total: Decimal,
}

/// What an act comes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// What is given back.
    pub credits: Vec<GiveBack>,
    /// What is charged.
    pub bill: Option<Bill>,
}

/// What a change comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The terms from then on.
    pub terms: Terms,
    /// The period from then on.
    pub period: Period,
    /// From when on it holds: the act's instant, at the start of its day where days are counted.
    pub from: DateTime<Utc>,
    /// In money.
    pub outcome: Outcome,
}

fn bill(terms: &Terms, charges: Vec<Charge>, tax: Option<&Tax>) -> Option<Bill> {
    bill_less(terms, charges, terms.discount(), tax)
}

fn bill_less(
    terms: &Terms,
    charges: Vec<Charge>,
    discount: Option<Discount>,
    tax: Option<&Tax>,
) -> Option<Bill> {
    let charges: Vec<Charge> = charges
        .into_iter()
        .filter(|charge| charge.span.units > 0 && charge.item.quantity > 0)
        .collect();
    (!charges.is_empty()).then(|| Bill::new(terms.currency, charges, discount, tax.cloned()))
}

/// An amount off comes off a period once: what lines that stay have of it, others do not get.
fn discount_left(
    terms: &Terms,
    facts: &Facts,
    from: DateTime<Utc>,
    stays: impl Fn(&Item) -> bool,
) -> Option<Discount> {
    let mut discount = terms.discount()?;
    if let DiscountOff::Amount(off) = &mut discount.off {
        for billed in &facts.billed {
            let line = &billed.given.line;
            let item = &line.charge.item;
            if billed.given.until > from && (item.item == SETUP_FEE || stays(item)) {
                *off -= line.discount / whole_part(facts, billed);
            }
        }
        if *off <= Decimal::ZERO {
            return None;
        }
    }
    Some(discount)
}

/// Which part of a whole period a line's amount off is of. What is charged once had its share of what
/// came off the period that it was billed with.
fn whole_part(facts: &Facts, billed: &Billed) -> Decimal {
    let part = |one: &Billed| {
        let span = one.given.line.charge.span;
        Decimal::from(span.units.max(1)) / Decimal::from(span.of.max(1))
    };
    if billed.given.line.charge.item.item != SETUP_FEE {
        return part(billed);
    }
    let beside = facts.billed.iter().filter(|one| {
        one.invoice_id == billed.invoice_id && one.given.line.charge.item.item != SETUP_FEE
    });
    beside.map(part).max().unwrap_or(Decimal::ONE)
}

fn charges(items: &[Item], span: Span) -> Vec<Charge> {
    let each = items.iter().cloned();
    each.map(|item| Charge { item, span }).collect()
}

/// What a trial costs that begins; nothing when it is free, or while a hold blocks billing. A coupon
/// comes off periods, and this is none.
#[must_use]
pub fn tries(terms: &Terms, facts: &Facts) -> Option<Bill> {
    let (price, end) = terms.trial_price.zip(terms.trial_ends_at)?;
    let trial = Charge {
        item: Item {
            item: TRIAL.to_owned(),
            name: format!("Trial of {}", terms.offer.plan_name),
            unit_price: price,
            quantity: 1,
        },
        span: Span {
            start: terms.started_at,
            end,
            units: 1,
            of: 1,
        },
    };
    bill_less(terms, vec![trial], None, facts.tax.as_ref())
        .filter(|_| !facts.is_blocked(terms.started_at))
}

/// What a period costs that begins now; nothing yet where it is billed at its end.
#[must_use]
pub fn open(terms: &Terms, period: &Period, zone: Tz, tax: Option<&Tax>) -> Option<Bill> {
    let mut all = match terms.offer.billing {
        Billing::InAdvance => {
            let span = terms.span(period.index, period.start, period.end, zone);
            charges(&terms.offer.items, span)
        }
        Billing::InArrears => Vec::new(),
    };
    if let Some(fee) = terms.setup_fee {
        all.push(Charge {
            item: Item {
                item: SETUP_FEE.to_owned(),
                name: format!("Set-up of {}", terms.offer.plan_name),
                unit_price: fee,
                quantity: 1,
            },
            span: Span {
                start: period.start,
                end: period.end,
                units: 1,
                of: 1,
            },
        });
    }
    let mut discount = terms.discount();
    if terms.offer.billing == Billing::InArrears {
        // An amount off comes off the period, which is billed at its end.
        discount = discount.filter(|one| matches!(one.off, DiscountOff::Percent(_)));
    }
    bill_less(terms, all, discount, tax)
}

/// What a period is billed as it begins. While a hold blocks billing nothing is invoiced, as at Kill
/// Bill; what counts is when it begins, however late it is opened.
#[must_use]
pub fn begin(terms: &Terms, period: &Period, zone: Tz, facts: &Facts) -> Option<Bill> {
    open(terms, period, zone, facts.tax.as_ref()).filter(|_| !facts.is_blocked(period.start))
}

/// What a period that is billed at its end costs until `until`; nothing where it was billed before.
#[must_use]
pub fn used(
    terms: &Terms,
    period: &Period,
    until: DateTime<Utc>,
    zone: Tz,
    facts: &Facts,
) -> Option<Bill> {
    if terms.offer.billing == Billing::InAdvance {
        return None;
    }
    let parts = facts.held.iter().flat_map(|held| {
        let start = held.from.max(period.start);
        let end = held.to.map_or(until, |to| to.min(until));
        let billed = unblocked(start, end, &facts.blocked, terms, zone);
        billed.into_iter().map(move |(start, end)| Charge {
            item: held.item.clone(),
            span: terms.span(period.index, start, end, zone),
        })
    });
    bill(terms, parts.collect(), facts.tax.as_ref())
}

/// What is left of a time when the times in which billing was held are taken out of it.
fn unblocked(
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    blocked: &[Blocked],
    terms: &Terms,
    zone: Tz,
) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let mut left = vec![(start, end)];
    for hold in blocked {
        let from = cut(hold.from, terms.offer.proration, zone);
        let to = hold
            .to
            .map_or(end, |to| cut(to, terms.offer.proration, zone));
        left = left
            .into_iter()
            .flat_map(|(start, end)| [(start, end.min(from)), (start.max(to), end)])
            .filter(|(start, end)| start < end)
            .collect();
    }
    left
}

/// What is given back of the lines of `items` from an instant on.
fn give_back(
    facts: &Facts,
    from: DateTime<Utc>,
    terms: &Terms,
    zone: Tz,
    is_over: impl Fn(&Item) -> bool,
) -> Vec<GiveBack> {
    let over = facts.billed.iter().filter(|billed| {
        let item = &billed.given.line.charge.item;
        item.item != SETUP_FEE && billed.given.until > from && is_over(item)
    });
    let over: Vec<(&Billed, End<'_>)> = over
        .map(|billed| (billed, end_of(billed, from, terms, zone)))
        .filter(|(_, end)| end.unused.units > 0)
        .collect();
    let ends: Vec<End<'_>> = over.iter().map(|(_, end)| *end).collect();
    // What the lines had of an amount off that go, as those have it that come in their place.
    let off = match discount_left(terms, facts, from, |item| !is_over(item)) {
        Some(Discount {
            off: DiscountOff::Amount(off),
            ..
        }) => off,
        _ => Decimal::ZERO,
    };
    let mut all: Vec<GiveBack> = Vec::new();
    for ((billed, _), line) in over.iter().zip(credit(&ends, off, terms.currency)) {
        let inclusive = billed.tax.as_ref().is_some_and(|tax| tax.inclusive);
        let sum = Credit::of(std::slice::from_ref(&line), inclusive);
        let give = all
            .iter_mut()
            .find(|one| one.invoice_id == billed.invoice_id);
        match give {
            Some(one) => {
                one.lines.push((billed.number, line));
                one.tax += sum.tax;
                one.total += sum.total;
            }
            None => all.push(GiveBack {
                invoice_id: billed.invoice_id,
                lines: vec![(billed.number, line)],
                tax: sum.tax,
                total: sum.total,
            }),
        }
    }
    all
}

/// What of a line is not used from an instant on.
fn end_of<'a>(billed: &'a Billed, from: DateTime<Utc>, terms: &Terms, zone: Tz) -> End<'a> {
    let span = &billed.given.line.charge.span;
    let until = billed.given.until;
    // A period that began at a boundary of another zone counts from its natural start on.
    let counted = span.start.max(terms.natural_start(span, zone));
    let units = |start: DateTime<Utc>| {
        let units = measure(start.max(counted), until, terms.offer.proration, zone);
        scale(units, span, counted, terms, zone)
    };
    let unused = Unused {
        start: from.max(span.start),
        units: units(from),
        of: units(span.start),
    };
    End {
        given: &billed.given,
        unused,
        tax: billed.tax.as_ref(),
    }
}

/// A line that was counted in another unit than the plan counts in now keeps its own.
fn scale(unused: i64, span: &Span, counted: DateTime<Utc>, terms: &Terms, zone: Tz) -> i64 {
    let now = measure(counted, span.end, terms.offer.proration, zone);
    if now == span.units || now == 0 {
        unused
    } else {
        // In whole units of the line, in the tenant's favour.
        (unused * span.units + now - 1) / now
    }
}

/// Where an act cuts a period.
fn cut_at(terms: &Terms, period: &Period, at: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
    cut(at, terms.offer.proration, zone).clamp(period.start, period.end)
}

/// Another offer within a period.
///
/// Items that stay as they are are left alone. Of those that go or change, what was paid for the rest
/// of the period is given back, and what comes is charged for it. Another interval, or another time of
/// billing, begins a period of its own that day (as Stripe resets its anchor).
#[must_use]
pub fn change(
    terms: &Terms,
    period: &Period,
    offer: &Offer,
    at: DateTime<Utc>,
    zone: Tz,
    facts: &Facts,
) -> Changed {
    let from = cut_at(terms, period, at, zone);
    if terms.offer.restarts(offer) {
        return restart(
            terms,
            period,
            offer,
            from,
            zone,
            facts,
            facts.is_blocked(at),
        );
    }
    let mut next = terms.clone();
    next.sell(offer.clone(), period.index, zone);
    let stays = |item: &Item| offer.items.contains(item) && terms.offer.items.contains(item);
    let mut outcome = Outcome::default();
    if offer.billing == Billing::InAdvance && !facts.is_blocked(at) {
        outcome.credits = give_back(facts, from, terms, zone, |item| !stays(item));
        let comes: Vec<Item> = offer
            .items
            .iter()
            .filter(|item| !stays(item))
            .cloned()
            .collect();
        let span = terms.span(period.index, from, period.end, zone);
        let discount = discount_left(&next, facts, from, stays);
        outcome.bill = bill_less(&next, charges(&comes, span), discount, facts.tax.as_ref());
    }
    Changed {
        terms: next,
        period: *period,
        from,
        outcome,
    }
}

/// A change that begins a period of its own.
fn restart(
    terms: &Terms,
    period: &Period,
    offer: &Offer,
    from: DateTime<Utc>,
    zone: Tz,
    facts: &Facts,
    blocked: bool,
) -> Changed {
    let mut next = terms.clone();
    next.anchor_on = calendar::local_day(from, zone);
    next.sell(offer.clone(), 0, zone);
    next.keep_coupon_time(terms, period.index);
    let (mut first, entered) = next.begin(Some(0), from, zone);
    first.start = first.start.max(from);
    let (begins, credits) = if blocked {
        (None, Vec::new())
    } else {
        let begins = open(&next, &first, entered, facts.tax.as_ref());
        next.setup_fee = None;
        (begins, give_back(facts, from, terms, zone, |_| true))
    };
    let bill = match used(terms, period, from, zone, facts) {
        Some(used) => Some(join(used, begins)),
        None => begins,
    };
    Changed {
        terms: next,
        period: first,
        from,
        outcome: Outcome { credits, bill },
    }
}

/// Two bills of one invoice.
fn join(mut first: Bill, second: Option<Bill>) -> Bill {
    if let Some(second) = second {
        first.charges.extend(second.charges);
    }
    first
}

/// No more of it from an instant on: what was paid for the rest is given back, what was used and not
/// billed yet is charged.
#[must_use]
pub fn stop(
    terms: &Terms,
    period: &Period,
    at: DateTime<Utc>,
    zone: Tz,
    facts: &Facts,
) -> (DateTime<Utc>, Outcome) {
    let from = cut_at(terms, period, at, zone);
    let outcome = Outcome {
        credits: give_back(facts, from, terms, zone, |_| true),
        bill: used(terms, period, from, zone, facts),
    };
    (from, outcome)
}

/// Goes on after a pause: until the natural period's end, at the price of that part. What was used
/// until the pause stays used, also where the day of the resume began before it, in another zone.
#[must_use]
pub fn resume(
    terms: &Terms,
    used_until: DateTime<Utc>,
    at: DateTime<Utc>,
    zone: Tz,
    facts: &Facts,
) -> (Period, Option<Bill>) {
    let from = cut(at, terms.offer.proration, zone).max(used_until.min(at));
    let period = terms.period_from(from, zone);
    let bill = open(terms, &period, zone, facts.tax.as_ref());
    (period, bill.filter(|_| !facts.is_blocked(at)))
}

/// Another day of the month. The bridge until the first such day costs its part of the natural period
/// that it lies in.
#[must_use]
pub fn move_anchor(
    terms: &Terms,
    period: &Period,
    day: u32,
    at: DateTime<Utc>,
    zone: Tz,
    facts: &Facts,
) -> Changed {
    let from = cut_at(terms, period, at, zone);
    let mut next = terms.clone();
    let until = calendar::local_day(from, zone);
    next.anchor_on = calendar::anchor_before(until, day).unwrap_or(terms.anchor_on);
    let (bridge, entered) = next.begin(None, from, zone);
    let (begins, credits) = if facts.is_blocked(at) {
        (None, Vec::new())
    } else {
        let begins = open(&next, &bridge, entered, facts.tax.as_ref());
        (begins, give_back(facts, from, terms, zone, |_| true))
    };
    let bill = match used(terms, period, from, zone, facts) {
        Some(used) => Some(join(used, begins)),
        None => begins,
    };
    let outcome = Outcome { credits, bill };
    Changed {
        terms: next,
        period: bridge,
        from,
        outcome,
    }
}

/// Where what is given back of an invoice goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Off what is still owed.
    pub to_debt: Decimal,
    /// To the tenant's balance.
    pub to_balance: Decimal,
    /// Back to the payment method.
    pub to_refund: Decimal,
}

/// What may be done with what is given back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditPolicy {
    /// Nothing is given back.
    #[default]
    None,
    /// It lowers the debt, then adds to the balance.
    Credit,
    /// It lowers the debt, then goes back to the payment method as far as that paid, then adds to the
    /// balance.
    Refund,
}

/// Splits what is given back of an invoice of which `due` is owed and `refundable` was paid by a
/// method (Lago's and Meteroid's rule: a refund never exceeds what was paid). A refund is of whole
/// `part`s, which is what the provider moves.
#[must_use]
pub fn split(
    total: Decimal,
    due: Decimal,
    refundable: Decimal,
    policy: CreditPolicy,
    part: Decimal,
) -> Split {
    let to_debt = total.min(due.max(Decimal::ZERO));
    let rest = total - to_debt;
    let to_refund = match policy {
        CreditPolicy::Refund => {
            let most = rest.min(refundable.max(Decimal::ZERO));
            most - most % part
        }
        CreditPolicy::None | CreditPolicy::Credit => Decimal::ZERO,
    };
    Split {
        to_debt,
        to_balance: rest - to_refund,
        to_refund,
    }
}

/// The zero of a currency.
#[must_use]
pub fn nothing(currency: Currency) -> Decimal {
    crate::money::Money::zero(currency).amount()
}
