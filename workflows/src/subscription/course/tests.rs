//! What must hold of any course: nothing is charged or given back that was not, on whatever day.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rust_decimal::Decimal;

use super::*;
use crate::calendar::Interval;
use crate::catalog::{Billing, Proration, WithoutMethod};
use crate::pricing::{Discount, DiscountOff, Item, Tax};
use crate::subscription::terms::{Offer, PLAN, Redeemed, SEATS, SETUP_FEE};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn item(key: &str, price: &str, quantity: u32) -> Item {
    Item {
        item: key.to_owned(),
        name: key.to_owned(),
        unit_price: dec(price),
        quantity,
    }
}

fn offer(plan: &str, items: Vec<Item>) -> Offer {
    Offer {
        plan: plan.to_owned(),
        plan_name: plan.to_owned(),
        plan_version: 1,
        interval: Interval::MONTH,
        billing: Billing::InAdvance,
        proration: Proration::Day,
        items,
        versions: BTreeMap::new(),
        seats: None,
        periods: None,
        set_up: None,
        succeeds: None,
    }
}

/// The team plan with so many seats beyond those that it includes.
fn team(seats: u32) -> Offer {
    let mut items = vec![item(PLAN, "49.00", 1)];
    if seats > 0 {
        items.push(item(SEATS, "9.00", seats));
    }
    offer("team", items)
}

fn scale() -> Offer {
    offer("scale", vec![item(PLAN, "199.00", 1)])
}

fn terms(offer: Offer, off: Option<DiscountOff>) -> Terms {
    Terms {
        subscription_id: Uuid::nil(),
        offer,
        currency: "EUR".parse().unwrap(),
        zone: "UTC".to_owned(),
        next_zone: None,
        anchor_on: "2027-06-01".parse().unwrap(),
        started_at: at("2027-06-01T00:00:00Z"),
        ahead: false,
        trial_ends_at: None,
        trial_price: None,
        without_method: WithoutMethod::Bill,
        activation: Activation::Start,
        term_ends_at: None,
        setup_fee: None,
        coupon: off.map(|off| Redeemed {
            discount: Discount {
                coupon: "c".to_owned(),
                off,
            },
            left: None,
        }),
    }
}

impl Course {
    fn begin(terms: Terms, tax: Option<Tax>) -> Self {
        let facts = Facts {
            tax,
            ..Facts::default()
        };
        let now = terms.started_at;
        Self::new(State::Starting { terms }, false, facts, true, now)
    }

    /// Asks at an instant; what it comes to in all, charged less given back.
    fn does(&mut self, at: DateTime<Utc>, act: Act, when: When) -> Decimal {
        self.pass(at).unwrap();
        self.at = at;
        let (_, happenings) = self.ask(act, when).unwrap();
        self.check();
        happenings.iter().map(net).sum()
    }

    /// No line has given back more than it was.
    fn check(&self) {
        for Billed { given, .. } in &self.facts.billed {
            assert!(given.amount <= given.line.amount, "{given:?}");
            assert!(given.tax <= given.line.tax, "{given:?}");
            let all = given.until <= given.line.charge.span.start;
            assert!(!all || given.amount == given.line.amount, "{given:?}");
            assert!(!all || given.tax == given.line.tax, "{given:?}");
        }
    }
}

fn net(happening: &Happening) -> Decimal {
    let charged = happening.bill.as_ref().map(|(_, bill)| {
        let lines = bill.price();
        let totals = bill.totals(&lines);
        let amounts: Decimal = lines.iter().map(|line| line.amount).sum();
        let inclusive = bill.tax.as_ref().is_some_and(|tax| tax.inclusive);
        let tax: Decimal = lines.iter().map(|line| line.tax).sum();
        let added = if inclusive { amounts } else { amounts + tax };
        assert_eq!(totals.total, added, "lines add to totals");
        totals.total
    });
    let back: Decimal = happening.credits.iter().map(|give| give.total).sum();
    charged.unwrap_or_default() - back
}

/// Two of them leave a part of a cent of a part of the price, or nothing.
fn discounts() -> Vec<Option<DiscountOff>> {
    let amounts = [
        "0.01", "5.00", "7.77", "19.99", "48.00", "48.99", "49.00", "500.00",
    ];
    let amounts = amounts.map(|amount| Some(DiscountOff::Amount(dec(amount))));
    let percents = ["12.5", "20", "33.33", "100"];
    let percents = percents.map(|percent| Some(DiscountOff::Percent(dec(percent))));
    std::iter::once(None)
        .chain(amounts)
        .chain(percents)
        .collect()
}

fn taxes() -> Vec<Option<Tax>> {
    let tax = |percent, inclusive| {
        Some(Tax {
            name: "VAT".to_owned(),
            percent: dec(percent),
            inclusive,
        })
    };
    vec![None, tax("19", false), tax("19", true), tax("7.7", false)]
}

fn day(day: i64) -> DateTime<Utc> {
    at("2027-06-01T10:00:00Z") + TimeDelta::days(day)
}

fn change(offer: Offer) -> Act {
    Act::Change { offer }
}

#[test]
fn up_and_down_on_one_day_nets_to_zero_whatever_came_off() {
    for off in discounts() {
        for tax in taxes() {
            for seats in [0, 2] {
                for on in 0..30 {
                    let mut course = Course::begin(terms(team(seats), off), tax.clone());
                    let up = course.does(day(on), change(scale()), When::Now);
                    let down = course.does(day(on), change(team(seats)), When::Now);
                    assert_eq!(up + down, Decimal::ZERO, "{off:?} {tax:?} {seats} day {on}");
                    // Nor does it change what the end gives back.
                    let mut stays = Course::begin(terms(team(seats), off), tax.clone());
                    let end = Act::Cancel {
                        credit: CreditPolicy::Credit,
                    };
                    let gone = course.does(day(on), end.clone(), When::Now);
                    assert_eq!(gone, stays.does(day(on), end, When::Now));
                }
            }
        }
    }
}

#[test]
fn up_and_down_nets_to_zero_also_where_items_came_on_different_days() {
    for off in discounts() {
        for on in 3..30 {
            let mut course = Course::begin(terms(team(1), off), None);
            course.does(day(2), change(team(4)), When::Now);
            let before = course.does(day(on), change(team(7)), When::Now);
            let after = course.does(day(on), change(team(4)), When::Now);
            assert_eq!(before + after, Decimal::ZERO, "seats, {off:?} day {on}");
            let up = course.does(day(on), change(scale()), When::Now);
            let down = course.does(day(on), change(team(4)), When::Now);
            assert_eq!(up + down, Decimal::ZERO, "plan, {off:?} day {on}");
        }
    }
}

#[test]
fn a_set_up_fee_has_its_share_of_what_came_off_and_no_more() {
    let off = Some(DiscountOff::Amount(dec("5.00")));
    for on in 0..30 {
        let mut sold = terms(team(0), off);
        sold.setup_fee = Some(dec("250.00"));
        let mut course = Course::begin(sold, None);
        let up = course.does(day(on), change(scale()), When::Now);
        let down = course.does(day(on), change(team(0)), When::Now);
        assert_eq!(up + down, Decimal::ZERO, "day {on}");
    }
}

#[test]
fn an_act_of_a_later_period_is_told_as_of_its_day() {
    let mut course = Course::begin(terms(team(0), None), None);
    let when = When::At(at("2027-07-15T00:00:00Z"));
    course.pass(day(0)).unwrap();
    let (told_at, happenings) = course.ask(change(scale()), when).unwrap();
    let told: Vec<_> = happenings.iter().filter(|one| one.at == told_at).collect();
    assert_eq!(told.len(), 1);
    // 17 of July's 31 days.
    assert_eq!(told[0].credits[0].total, dec("26.87"));
    assert_eq!(net(told[0]), dec("109.13") - dec("26.87"));
    assert_eq!(happenings.len(), 2, "July is billed on its way");
}

#[test]
fn ten_years_of_days_are_foretold_without_growing() {
    let mut sold = terms(team(3), Some(DiscountOff::Percent(dec("20"))));
    sold.offer.interval = "day".parse().unwrap();
    let mut course = Course::begin(sold, None);
    let end = Act::Cancel {
        credit: CreditPolicy::None,
    };
    let when = When::At(at("2037-05-01T12:00:00Z"));
    course.ask(end, when).unwrap();
    assert!(
        course.facts.billed.len() <= 4,
        "{}",
        course.facts.billed.len()
    );
}

#[test]
fn a_set_up_fee_is_told_with_the_first_period_after_a_pause_in_the_trial() {
    let mut sold = terms(team(0), None);
    sold.trial_ends_at = Some(at("2027-06-15T00:00:00Z"));
    sold.anchor_on = "2027-06-15".parse().unwrap();
    sold.setup_fee = Some(dec("12.00"));
    let mut course = Course::begin(sold, None);
    let pause = Act::Pause { until: None };
    assert_eq!(course.does(day(3), pause, When::Now), Decimal::ZERO);
    course.pass(day(25)).unwrap();
    course.at = day(25);
    let (_, happenings) = course.ask(Act::Resume, When::Now).unwrap();
    let (_, bill) = happenings[0].bill.as_ref().unwrap();
    let keys: Vec<&str> = bill.charges.iter().map(|one| &*one.item.item).collect();
    assert_eq!(keys, [PLAN, SETUP_FEE]);
}
