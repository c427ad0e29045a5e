//! What a subscription was sold at: its items, its calendar, and what an offer makes of it. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::intent::{Act, Intents, Kind};
use crate::calendar::{self, Interval, Period, UnknownZone};
use crate::catalog::{
    self, Activation, AddOnTerms, Billing, CouponTerms, Off, Plan, Proration, WithoutMethod,
};
use crate::door::DoorError;
use crate::money::{Currency, Money};
use crate::pricing::{Discount, DiscountOff, Item, Span, measure};

/// The item that every subscription has.
pub const PLAN: &str = "plan";
/// Seats beyond those that the plan includes.
pub const SEATS: &str = "seats";
/// What is charged once.
pub const SETUP_FEE: &str = "setup-fee";
/// A trial that has a price.
pub const TRIAL: &str = "trial";

/// How many periods of a day a move across the date line can take away: zones differ by 26 hours at
/// most.
const MOST_PASSED_OVER: u32 = 2;

/// What a subscription is sold at. A change replaces the offer and keeps the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The plan's key.
    pub plan: String,
    /// Its name, for mails.
    pub plan_name: String,
    /// Its version.
    pub plan_version: i32,
    /// Length of a period.
    pub interval: Interval,
    /// When a period is billed.
    pub billing: Billing,
    /// What proration counts in.
    pub proration: Proration,
    /// What it has so many of, with prices.
    pub items: Vec<Item>,
    /// The versions of its add-ons, by key: each offers what it did when it was sold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, i32>,
    /// How many seats, where the plan has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
    /// For how many periods, where the plan is a fixed term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub periods: Option<u32>,
    /// What its set-up costs, for who has paid none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_up: Option<Decimal>,
    /// The retired plan that it follows, where the catalogue says so and nobody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeds: Option<String>,
}

/// What a subscription's run knows of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The row.
    pub subscription_id: Uuid,
    /// What it is sold at.
    #[serde(flatten)]
    pub offer: Offer,
    /// The currency of its prices.
    pub currency: Currency,
    /// IANA zone in which the days of its present period count.
    pub zone: String,
    /// The zone that its tenant has moved to, which counts from its next boundary on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_zone: Option<String>,
    /// The day that periods are counted from, and whose day of the month they return to.
    pub anchor_on: NaiveDate,
    /// When it began, or will.
    pub started_at: DateTime<Utc>,
    /// Whether that lay ahead when it was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ahead: bool,
    /// End of the trial, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_ends_at: Option<DateTime<Utc>>,
    /// Charged as the trial begins, and gone then; none when that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_price: Option<Decimal>,
    /// What becomes of it when the trial ends without a payment method.
    #[serde(default)]
    pub without_method: WithoutMethod,
    /// When it counts as begun.
    #[serde(default)]
    pub activation: Activation,
    /// When a fixed term ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term_ends_at: Option<DateTime<Utc>>,
    /// Charged with the first paid period, and gone then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_fee: Option<Decimal>,
    /// The coupon, while it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupon: Option<Redeemed>,
}

/// A coupon that was redeemed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeemed {
    /// What comes off.
    #[serde(flatten)]
    pub discount: Discount,
    /// For how many periods, this one included; for ever when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u32>,
}

/// How many of an add-on.
#[derive(Debug, Clone, PartialEq)]
pub struct AddOn {
    /// Its key.
    pub key: String,
    /// Its version.
    pub version: i32,
    /// What it offers.
    pub terms: AddOnTerms,
    /// How many.
    pub quantity: u32,
}

/// Makes an offer of a plan: so many seats, and add-ons.
///
/// # Errors
/// [`DoorError::NotSoldIn`]; [`DoorError::Malformed`] for seats that the plan does not have, add-ons
/// that do not go with it, or more than can be had.
pub fn offer(
    plan: &Plan,
    currency: Currency,
    seats: Option<u32>,
    add_ons: &[AddOn],
) -> Result<Offer, DoorError> {
    let malformed = |field, detail: String| Err(DoorError::Malformed { field, detail });
    let terms = &plan.terms;
    let mut items = vec![Item {
        item: PLAN.to_owned(),
        name: terms.name.clone(),
        unit_price: catalog::price_in(&terms.prices, &plan.plan, currency)?.amount(),
        quantity: 1,
    }];
    let seats = match (&terms.seats, seats) {
        (None, None) => None,
        (None, Some(_)) => {
            return malformed("seats", format!("plan {:?} has no seats", plan.plan));
        }
        (Some(offered), wanted) => {
            let wanted = wanted.unwrap_or(offered.included);
            items.extend(more_seats(plan, offered, wanted, currency)?);
            Some(wanted)
        }
    };
    for AddOn {
        key,
        terms: add_on,
        quantity,
        ..
    } in add_ons
    {
        if !terms.add_ons.contains(key) {
            let known = terms.add_ons.join(", ");
            let detail = format!(
                "add-on {key:?} does not go with {:?} (those that do: {known})",
                plan.plan
            );
            return malformed("add_ons", detail);
        }
        if *quantity == 0 || add_on.most.is_some_and(|most| *quantity > most) {
            let most = add_on
                .most
                .map_or("any number".to_owned(), |most| most.to_string());
            return malformed(
                "add_ons",
                format!("{quantity} of {key:?}; 1 to {most} can be had"),
            );
        }
        items.push(Item {
            item: key.clone(),
            name: add_on.name.clone(),
            unit_price: catalog::price_in(&add_on.prices, key, currency)?.amount(),
            quantity: *quantity,
        });
    }
    Ok(Offer {
        plan: plan.plan.clone(),
        plan_name: terms.name.clone(),
        plan_version: plan.version,
        interval: terms.interval,
        billing: terms.billing,
        proration: terms.proration,
        items,
        versions: add_ons
            .iter()
            .map(|add_on| (add_on.key.clone(), add_on.version))
            .collect(),
        seats,
        periods: terms.periods,
        set_up: terms.setup_fee.get(&currency).copied(),
        succeeds: None,
    })
}

/// What follows an offer of a retired plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Followed {
    /// That of its successor.
    pub(super) offer: Offer,
    /// What a change of it that is still to come is to from then on.
    pub(super) later: Option<Offer>,
}

/// What follows an offer of a retired plan with the renewal at an instant; `None` while it does not yet.
pub(super) fn succeed(
    terms: &Terms,
    intents: &Intents,
    at: DateTime<Utc>,
    zone: Tz,
    next: &catalog::Succession,
) -> Option<Followed> {
    if next.of != terms.offer.plan || calendar::local_day(at, zone) < next.from {
        return None;
    }
    let coming = intents.find(Kind::Change);
    let coming = coming.and_then(|intent| match &intent.act {
        Act::Change { offer } if offer.plan == next.of => Some(offer),
        _ => None,
    });
    Some(Followed {
        offer: moved(&terms.offer, terms.currency, next)?,
        later: coming.and_then(|offer| moved(offer, terms.currency, next)),
    })
}

/// An offer of a retired plan as that of its successor: with the seats that it has, and the add-ons at
/// what they were sold at.
fn moved(now: &Offer, currency: Currency, next: &catalog::Succession) -> Option<Offer> {
    let offered = next.to.terms.seats.as_ref();
    let seats = offered.and_then(|offered| Some(now.seats?.max(offered.included)));
    // It was checked that whoever has the one can have the other; if not, they keep what they have.
    let mut offer = offer(&next.to, currency, seats, &[]).ok()?;
    let goes_with = |key: &String| next.to.terms.add_ons.contains(key);
    let kept = now.items.iter().filter(|item| goes_with(&item.item));
    offer.items.extend(kept.cloned());
    let versions = now.versions.iter().filter(|(key, _)| goes_with(key));
    offer.versions = versions
        .map(|(key, version)| (key.clone(), *version))
        .collect();
    offer.succeeds = Some(now.plan.clone());
    Some(offer)
}

/// The item of the seats beyond those that are included; none when there are not.
fn more_seats(
    plan: &Plan,
    offered: &catalog::Seats,
    wanted: u32,
    currency: Currency,
) -> Result<Option<Item>, DoorError> {
    if wanted == 0 || offered.most.is_some_and(|most| wanted > most) {
        let most = offered
            .most
            .map_or("any number".to_owned(), |most| most.to_string());
        return Err(DoorError::Malformed {
            field: "seats",
            detail: format!("{wanted} seats; 1 to {most} can be had"),
        });
    }
    let Some(more) = wanted
        .checked_sub(offered.included)
        .filter(|more| *more > 0)
    else {
        return Ok(None);
    };
    Ok(Some(Item {
        item: SEATS.to_owned(),
        name: format!("Seats beyond {}", offered.included),
        unit_price: catalog::price_in(&offered.prices, &plan.plan, currency)?.amount(),
        quantity: more,
    }))
}

/// Redeems a coupon in a currency.
///
/// # Errors
/// [`DoorError::NotSoldIn`] for an amount of another currency.
pub fn redeem(key: &str, terms: &CouponTerms, currency: Currency) -> Result<Redeemed, DoorError> {
    let off = match &terms.off {
        Off::Percent(percent) => DiscountOff::Percent(*percent),
        Off::Amount(prices) => {
            DiscountOff::Amount(catalog::price_in(prices, key, currency)?.amount())
        }
    };
    Ok(Redeemed {
        discount: Discount {
            coupon: key.to_owned(),
            off,
        },
        left: match terms.duration {
            catalog::Duration::Once => Some(1),
            catalog::Duration::Periods(periods) => Some(periods),
            catalog::Duration::Forever => None,
        },
    })
}

impl Offer {
    /// Whether it is the same to whoever has it, in whichever order its items stand.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let sorted = |offer: &Self| {
            let mut offer = offer.clone();
            offer.items.sort_by(|one, other| one.item.cmp(&other.item));
            offer
        };
        sorted(self) == sorted(other)
    }

    /// Price of a period before discounts.
    #[must_use]
    pub fn price(&self, currency: Currency) -> Money {
        let each = self.items.iter();
        let sum = each.map(|item| item.unit_price * Decimal::from(item.quantity));
        Money::new(sum.sum(), currency)
    }

    /// Whether a change to it begins a period of its own.
    #[must_use]
    pub fn restarts(&self, other: &Self) -> bool {
        self.interval != other.interval || self.billing != other.billing
    }
}

impl Terms {
    /// The zone of its days.
    ///
    /// # Errors
    /// When it is none; it was checked when the subscription was made.
    pub fn zone(&self) -> Result<Tz, UnknownZone> {
        calendar::zone(&self.zone)
    }

    /// The zone that its days are to count in; what the present period is keeps its own.
    pub fn expect_zone(&mut self, zone: String) {
        self.next_zone = (zone != self.zone).then_some(zone);
    }

    /// A boundary has come: from here on days are those of the zone that the tenant has moved to, if
    /// it has. A fixed term keeps its last day.
    pub fn enter_zone(&mut self, old: Tz) -> Tz {
        let Some(name) = self.next_zone.take() else {
            return old;
        };
        // It was checked when the tenant moved.
        let Ok(zone) = calendar::zone(&name) else {
            return old;
        };
        self.term_ends_at = self
            .term_ends_at
            .map(|over| calendar::start_of_day(calendar::local_day(over, old), zone));
        self.zone = name;
        zone
    }

    /// Begins a period at a boundary: that of an index, or what is left of the one that the boundary's
    /// day lies in. With the zone that its days count in.
    ///
    /// Where a whole period begins, the zone is entered that the tenant has moved to; what is left of
    /// one still counts in the old zone, as what was billed of it did. The boundary stays the instant
    /// that it was, so that nothing is billed twice and nothing is left out. A period that ends before
    /// it, because a move across the date line took a day away, is passed over.
    pub fn begin(&mut self, index: Option<u32>, from: DateTime<Utc>, old: Tz) -> (Period, Tz) {
        let day = calendar::local_day(from, old);
        let of = index.unwrap_or_else(|| self.index_on(day));
        let whole = calendar::boundary(self.anchor_on, self.offer.interval, of) == day;
        if self.next_zone.is_none() || !whole {
            let mut period = self.natural(of, old);
            if index.is_none() {
                period.start = period.start.max(from);
            }
            return (self.within_term(period), old);
        }
        let zone = self.enter_zone(old);
        let ahead = of..=of.saturating_add(MOST_PASSED_OVER);
        let mut all = ahead.map(|index| self.natural(index, zone));
        let period = all.find(|period| period.end > from);
        let period = period.unwrap_or_else(|| self.natural(of, zone));
        let begun = Period {
            start: from,
            ..period
        };
        (self.within_term(begun), zone)
    }

    /// The next boundaries, the end of what is now included: at most so many, up to the end of a fixed
    /// term.
    #[must_use]
    pub fn boundaries(
        &self,
        period: Option<&Period>,
        from: DateTime<Utc>,
        most: usize,
    ) -> Vec<DateTime<Utc>> {
        let Ok(mut zone) = self.zone() else {
            return Vec::new();
        };
        let mut terms = self.clone();
        let mut next = period.map(|period| period.index.saturating_add(1));
        let mut at = period.map_or(from, |period| period.end);
        let mut all = vec![at];
        while all.len() < most && !terms.is_over(at) {
            let (period, entered) = terms.begin(next, at, zone);
            if terms.is_over(at) || period.end <= at {
                break;
            }
            next = Some(period.index.saturating_add(1));
            (at, zone) = (period.end, entered);
            all.push(at);
        }
        all
    }

    /// The index of the period that a day lies in.
    fn index_on(&self, day: NaiveDate) -> u32 {
        calendar::index_of(self.anchor_on, self.offer.interval, day).unwrap_or(0)
    }

    /// Sells it at another offer from the period of an index on. Another plan brings a term of its own,
    /// or none.
    pub fn sell(&mut self, offer: Offer, index: u32, zone: Tz) {
        if offer.plan != self.offer.plan {
            self.term_ends_at = offer.periods.map(|periods| {
                let over = index.saturating_add(periods);
                calendar::start_of_day(
                    calendar::boundary(self.anchor_on, offer.interval, over),
                    zone,
                )
            });
        }
        self.offer = offer;
    }

    /// Sells it at another offer before anything was billed: another plan brings its own set-up fee.
    pub fn sell_unbilled(&mut self, offer: Offer, index: u32, zone: Tz) {
        if offer.plan != self.offer.plan {
            self.setup_fee = offer.set_up;
        }
        self.sell(offer, index, zone);
    }

    /// After a change from what `before` was at, from its period of an index on: a coupon of so many
    /// periods holds for no more time than those of its old length would have taken, in whole periods
    /// of the new one.
    pub fn keep_coupon_time(&mut self, before: &Self, index: u32) {
        let Some(Redeemed {
            left: Some(left), ..
        }) = &mut self.coupon
        else {
            return;
        };
        if before.offer.interval == self.offer.interval {
            return;
        }
        let last = index.saturating_add(*left);
        let until = calendar::boundary(before.anchor_on, before.offer.interval, last);
        let whole = calendar::index_of(self.anchor_on, self.offer.interval, until);
        *left = whole.unwrap_or(0);
        if *left == 0 {
            self.coupon = None;
        }
    }

    /// The period of an index, cut off where a fixed term ends.
    #[must_use]
    pub fn period(&self, index: u32, zone: Tz) -> Period {
        self.within_term(self.natural(index, zone))
    }

    /// Periods need not end with the term: its anchor may have been moved, or never been its first day.
    fn within_term(&self, mut period: Period) -> Period {
        if let Some(over) = self.term_ends_at
            && (period.start < over && over < period.end)
        {
            period.end = over;
        }
        period
    }

    /// The natural period of an index.
    #[must_use]
    pub fn natural(&self, index: u32, zone: Tz) -> Period {
        calendar::period(self.anchor_on, self.offer.interval, index, zone)
    }

    /// The period that begins at `from`, within the natural one that holds it.
    #[must_use]
    pub fn period_from(&self, from: DateTime<Utc>, zone: Tz) -> Period {
        let natural = self.natural(self.index_on(calendar::local_day(from, zone)), zone);
        self.within_term(Period {
            start: natural.start.max(from),
            ..natural
        })
    }

    /// A part of the natural period of an index. What a period has before that one, because it began at
    /// a boundary of another zone, adds nothing to it.
    #[must_use]
    pub fn span(&self, index: u32, start: DateTime<Utc>, end: DateTime<Utc>, zone: Tz) -> Span {
        let natural = self.natural(index, zone);
        let by = self.offer.proration;
        let within = |at: DateTime<Utc>| at.max(natural.start);
        Span {
            start,
            end,
            units: measure(within(start), within(end), by, zone),
            of: measure(natural.start, natural.end, by, zone).max(1),
        }
    }

    /// Where the natural period begins that ends with, or after, a part of it.
    #[must_use]
    pub fn natural_start(&self, part: &Span, zone: Tz) -> DateTime<Utc> {
        let last = calendar::local_day(part.end - TimeDelta::seconds(1), zone);
        self.natural(self.index_on(last), zone).start
    }

    /// What comes off now.
    #[must_use]
    pub fn discount(&self) -> Option<Discount> {
        let holds = |coupon: &&Redeemed| coupon.left != Some(0);
        self.coupon
            .as_ref()
            .filter(holds)
            .map(|coupon| coupon.discount.clone())
    }

    /// A period has passed: the coupon holds for one less.
    pub fn pass_period(&mut self) {
        if let Some(coupon) = &mut self.coupon
            && let Some(left) = &mut coupon.left
        {
            *left = left.saturating_sub(1);
        }
        if self
            .coupon
            .as_ref()
            .is_some_and(|coupon| coupon.left == Some(0))
        {
            self.coupon = None;
        }
    }

    /// Its trial, as the time that it is billed for.
    #[must_use]
    pub fn trial(&self) -> Period {
        Period {
            index: 0,
            start: self.started_at,
            end: self.trial_ends_at.unwrap_or(self.started_at),
        }
    }

    /// Whether an instant lies in its trial.
    #[must_use]
    pub fn is_trial(&self, at: DateTime<Utc>) -> bool {
        self.trial_ends_at.is_some_and(|ends| at < ends)
    }

    /// Whether no period was billed yet when it was paused: in its trial, or as that ended.
    #[must_use]
    pub fn is_unbilled(&self, since: DateTime<Utc>) -> bool {
        self.trial_ends_at.is_some_and(|ends| since <= ends)
    }

    /// Whether the period that a pause cut off when it goes on; what was paused at the start of
    /// a period, or in the trial, used nothing of one.
    #[must_use]
    pub fn passed_in_pause(&self, since: DateTime<Utc>, at: DateTime<Utc>, zone: Tz) -> bool {
        if self.is_unbilled(since) {
            return false;
        }
        let cut_off = self.natural(self.index_on(calendar::local_day(since, zone)), zone);
        let used = measure(cut_off.start, since, self.offer.proration, zone) > 0;
        used && cut_off.end <= at
    }

    /// Whether its fixed term is over at the end of a period.
    #[must_use]
    pub fn is_over(&self, end: DateTime<Utc>) -> bool {
        self.term_ends_at.is_some_and(|over| over <= end)
    }
}
