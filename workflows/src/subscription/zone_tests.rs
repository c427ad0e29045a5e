//! A tenant's move to another zone, in the rules alone: instants, days, money.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::money::{self, Billed, Facts, Held};
use super::terms::{Offer, PLAN, Terms};
use crate::calendar::{self, Interval, Period};
use crate::catalog::{Activation, Billing, Proration, WithoutMethod};
use crate::pricing::{Given, Item, Line, Span};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn item(price: i64) -> Item {
    Item {
        item: PLAN.to_owned(),
        name: "Team".to_owned(),
        unit_price: Decimal::new(price, 2),
        quantity: 1,
    }
}

fn terms(anchor: &str, interval: &str, zone: &str) -> Terms {
    let anchor_on: NaiveDate = anchor.parse().unwrap();
    let zone_read = calendar::zone(zone).unwrap();
    Terms {
        subscription_id: Uuid::nil(),
        offer: Offer {
            plan: "team".to_owned(),
            plan_name: "Team".to_owned(),
            plan_version: 1,
            interval: interval.parse().unwrap(),
            billing: Billing::InAdvance,
            proration: Proration::Day,
            items: vec![item(4_900)],
            versions: BTreeMap::new(),
            seats: None,
            periods: None,
            set_up: None,
            succeeds: None,
        },
        currency: "EUR".parse().unwrap(),
        zone: zone.to_owned(),
        next_zone: None,
        anchor_on,
        started_at: calendar::start_of_day(anchor_on, zone_read),
        ahead: false,
        trial_ends_at: None,
        trial_price: None,
        without_method: WithoutMethod::Bill,
        activation: Activation::Start,
        term_ends_at: None,
        setup_fee: None,
        coupon: None,
    }
}

/// A subscription that goes on by itself, as its run lets it.
struct Going {
    terms: Terms,
    zone: Tz,
    period: Period,
}

impl Going {
    fn new(mut terms: Terms) -> Self {
        let zone = terms.zone().unwrap();
        let (period, zone) = terms.begin(None, terms.started_at, zone);
        Self {
            terms,
            zone,
            period,
        }
    }

    fn moves(&mut self, zone: &str) {
        self.terms.expect_zone(zone.to_owned());
    }

    fn renews(&mut self) {
        let (next, end) = (self.period.index + 1, self.period.end);
        (self.period, self.zone) = self.terms.begin(Some(next), end, self.zone);
        assert_eq!(self.period.start, end, "no gap, and nothing twice");
        assert!(self.period.start < self.period.end, "{:?}", self.period);
    }

    fn whole(&self) -> Span {
        let Period { index, start, end } = self.period;
        self.terms.span(index, start, end, self.zone)
    }

    /// The line of the present period, as it was billed.
    fn billed(&self) -> Facts {
        let bill = money::open(&self.terms, &self.period, self.zone, None).unwrap();
        let line: Line = bill.price().remove(0);
        let given = Given {
            amount: Decimal::ZERO,
            tax: Decimal::ZERO,
            until: line.charge.span.end,
            line,
        };
        Facts {
            billed: vec![Billed {
                invoice_id: Uuid::nil(),
                number: 1,
                tax: None,
                given,
            }],
            held: vec![Held {
                item: item(4_900),
                from: self.period.start,
                to: None,
            }],
            ..Facts::default()
        }
    }
}

fn ends(going: &mut Going, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| {
            let end = going.period.end.to_rfc3339();
            going.renews();
            end.replace("+00:00", "Z")
        })
        .collect()
}

#[test]
fn what_is_paid_for_ends_where_it_did_and_the_next_period_ends_in_the_new_zone() {
    // Westwards over the changes to summer time, which come two weeks apart.
    let mut going = Going::new(terms("2027-01-31", "month", "Europe/Berlin"));
    going.moves("America/New_York");
    let dates = ends(&mut going, 4);
    let wanted = [
        "2027-02-27T23:00:00Z",
        "2027-03-31T04:00:00Z",
        "2027-04-30T04:00:00Z",
        "2027-05-31T04:00:00Z",
    ];
    assert_eq!(dates, wanted);
    // Eastwards, back over the change to winter time: one period is shorter by the hours between.
    let mut going = Going::new(terms("2027-10-15", "month", "America/New_York"));
    going.moves("Europe/Berlin");
    let dates = ends(&mut going, 3);
    let wanted = [
        "2027-11-15T05:00:00Z",
        "2027-12-14T23:00:00Z",
        "2028-01-14T23:00:00Z",
    ];
    assert_eq!(dates, wanted);
}

#[test]
fn a_period_that_changes_over_costs_what_any_costs() {
    for (from, to) in [
        ("Europe/Berlin", "America/New_York"),
        ("America/New_York", "Europe/Berlin"),
        ("Asia/Beirut", "Asia/Kolkata"),
        ("Pacific/Kiritimati", "America/Adak"),
        ("Pacific/Kiritimati", "Etc/GMT+12"),
    ] {
        let mut going = Going::new(terms("2027-01-01", "month", from));
        going.moves(to);
        for days in [31, 28, 31, 30] {
            let span = going.whole();
            assert_eq!((span.units, span.of), (days, days), "{from} to {to}");
            going.renews();
        }
    }
}

#[test]
fn a_day_that_the_date_line_takes_away_is_not_billed() {
    let mut going = Going::new(terms("2027-01-01", "month", "America/Adak"));
    going.moves("Pacific/Kiritimati");
    going.renews();
    // Midnight in Adak is midnight of the day after in Kiritimati.
    assert_eq!(going.period.start, at("2027-02-01T10:00:00Z"));
    assert_eq!(going.period.end, at("2027-02-28T10:00:00Z"));
    let span = going.whole();
    assert_eq!((span.units, span.of), (27, 28));
    // A period of that day alone is passed over, and nothing is billed for it.
    let mut daily = Going::new(terms("2027-01-31", "day", "America/Adak"));
    daily.moves("Pacific/Kiritimati");
    daily.renews();
    assert_eq!(daily.period.index, 2);
    assert_eq!(daily.period.start, at("2027-02-01T10:00:00Z"));
    assert_eq!(daily.period.end, at("2027-02-02T10:00:00Z"));
    assert_eq!(daily.whole().units, 1);
}

#[test]
fn a_leap_day_comes_back_in_the_new_zone() {
    let mut going = Going::new(terms("2028-02-29", "year", "Europe/Berlin"));
    going.moves("Asia/Tokyo");
    let dates = ends(&mut going, 4);
    let wanted = [
        "2029-02-27T23:00:00Z",
        "2030-02-27T15:00:00Z",
        "2031-02-27T15:00:00Z",
        "2032-02-28T15:00:00Z",
    ];
    assert_eq!(dates, wanted);
}

#[test]
fn to_move_twice_counts_the_last_and_to_come_back_changes_nothing() {
    let calm = || Going::new(terms("2027-01-31", "month", "Europe/Berlin"));
    let mut back = calm();
    back.moves("Pacific/Kiritimati");
    back.moves("Europe/Berlin");
    assert_eq!(back.terms, calm().terms);
    assert_eq!(ends(&mut back, 12), ends(&mut calm(), 12));
    let (mut twice, mut once) = (calm(), calm());
    twice.moves("Pacific/Kiritimati");
    twice.moves("America/New_York");
    once.moves("America/New_York");
    assert_eq!(ends(&mut twice, 12), ends(&mut once, 12));
    // Who has been away for some periods is in step again two boundaries after the return.
    let mut away = calm();
    away.moves("America/Adak");
    ends(&mut away, 3);
    away.moves("Europe/Berlin");
    ends(&mut away, 1);
    let mut stayed = calm();
    ends(&mut stayed, 4);
    assert_ne!(away.period.start, stayed.period.start);
    assert_eq!(away.period.end, stayed.period.end);
    assert_eq!(ends(&mut away, 6), ends(&mut stayed, 6));
}

#[test]
fn used_and_credited_are_the_original_on_every_day_of_a_change_over() {
    let zones = [
        "Pacific/Kiritimati",
        "Etc/GMT+12",
        "America/Adak",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kolkata",
    ];
    for from in zones {
        for to in zones {
            for proration in [Proration::Day, Proration::Second] {
                let mut going = Going::new(terms("2027-02-15", "month", from));
                going.terms.offer.proration = proration;
                going.moves(to);
                going.renews();
                let facts = going.billed();
                let line = &facts.billed[0].given.line;
                let other = Offer {
                    items: vec![item(9_900)],
                    plan: "scale".to_owned(),
                    ..going.terms.offer.clone()
                };
                let mut now = going.period.start;
                while now < going.period.end {
                    let (terms, period, zone) = (&going.terms, &going.period, going.zone);
                    let changed = money::change(terms, period, &other, now, zone, &facts);
                    let back: Decimal = changed.outcome.credits.iter().map(|one| one.total).sum();
                    let rest = changed
                        .outcome
                        .bill
                        .as_ref()
                        .map(|bill| bill.price().remove(0));
                    let charged = rest.as_ref().map(|rest| rest.charge.span);
                    let units = facts_back(&changed.outcome);
                    let what = format!("{from} to {to}, {proration:?}, {now}");
                    // The same part is given back that is charged anew, to the day or the second.
                    assert_eq!(charged.map_or(0, |span| span.units), units, "{what}");
                    assert!(back <= line.amount, "{what}");
                    now += TimeDelta::hours(5);
                }
                let first = going.period.start;
                let stopped = money::stop(&going.terms, &going.period, first, going.zone, &facts);
                let back: Decimal = stopped.1.credits.iter().map(|one| one.total).sum();
                assert_eq!(back, line.amount, "all of it: {from} to {to}");
            }
        }
    }
}

fn facts_back(outcome: &money::Outcome) -> i64 {
    let lines = outcome.credits.iter().flat_map(|one| &one.lines);
    lines.map(|(_, line)| line.units).sum()
}

#[test]
fn arrears_of_a_change_over_add_up_to_the_period() {
    for (from, to) in [
        ("Europe/Berlin", "America/New_York"),
        ("Pacific/Kiritimati", "America/Adak"),
        ("America/Adak", "Pacific/Kiritimati"),
    ] {
        let mut going = Going::new(terms("2027-01-01", "month", from));
        going.terms.offer.billing = Billing::InArrears;
        going.moves(to);
        going.renews();
        let middle = at("2027-02-11T12:00:00Z");
        let cut = crate::pricing::cut(middle, Proration::Day, going.zone);
        let facts = Facts {
            held: vec![
                Held {
                    item: item(4_900),
                    from: at("2027-01-01T00:00:00Z"),
                    to: Some(cut),
                },
                Held {
                    item: item(9_900),
                    from: cut,
                    to: None,
                },
            ],
            ..Facts::default()
        };
        let end = going.period.end;
        let bill = money::used(&going.terms, &going.period, end, going.zone, &facts).unwrap();
        let units: i64 = bill.charges.iter().map(|charge| charge.span.units).sum();
        assert_eq!(units, going.whole().units, "{from} to {to}");
    }
}

#[test]
fn a_part_of_a_period_still_counts_in_the_old_zone() {
    // It begins on the 10th and its periods on the 15th; the first is a part of one.
    let mut short = terms("2026-12-15", "month", "Europe/Berlin");
    short.started_at = at("2027-01-09T23:00:00Z");
    short.expect_zone("America/Los_Angeles".to_owned());
    let mut going = Going::new(short);
    assert_eq!(going.period.end, at("2027-01-14T23:00:00Z"));
    assert_eq!((going.whole().units, going.whole().of), (5, 31));
    going.renews();
    assert_eq!(going.period.end, at("2027-02-15T08:00:00Z"));
    assert_eq!((going.whole().units, going.whole().of), (31, 31));
    // So does the bridge to another anchor, whose rest was given back in days of the old zone.
    let mut going = Going::new(terms("2027-01-01", "month", "Europe/Berlin"));
    going.moves("America/Los_Angeles");
    let facts = going.billed();
    let now = at("2027-01-10T12:00:00Z");
    let moved = money::move_anchor(&going.terms, &going.period, 20, now, going.zone, &facts);
    assert_eq!(moved.terms.zone, "Europe/Berlin");
    assert_eq!(moved.period.end, at("2027-01-19T23:00:00Z"));
    let bridge = moved.outcome.bill.unwrap().price().remove(0);
    assert_eq!((bridge.charge.span.units, bridge.charge.span.of), (10, 31));
}

#[test]
fn another_interval_enters_the_new_zone_with_the_period_that_it_begins() {
    let mut going = Going::new(terms("2027-01-01", "month", "Europe/Berlin"));
    going.moves("America/New_York");
    let facts = going.billed();
    let yearly = Offer {
        interval: Interval::YEAR,
        ..going.terms.offer.clone()
    };
    let now = at("2027-01-11T12:00:00Z");
    let changed = money::change(
        &going.terms,
        &going.period,
        &yearly,
        now,
        going.zone,
        &facts,
    );
    assert_eq!(changed.from, at("2027-01-10T23:00:00Z"));
    assert_eq!(changed.period.start, changed.from);
    assert_eq!(changed.period.end, at("2028-01-11T05:00:00Z"));
    assert_eq!(changed.terms.zone, "America/New_York");
    assert_eq!(facts_back(&changed.outcome), 21);
    let year = changed.outcome.bill.unwrap().price().remove(0);
    assert_eq!((year.charge.span.units, year.charge.span.of), (365, 365));
}

#[test]
fn a_fixed_term_keeps_its_last_day() {
    for zone in ["America/New_York", "Asia/Tokyo"] {
        let mut fixed = terms("2027-01-01", "month", "Europe/Berlin");
        fixed.term_ends_at = Some(at("2027-03-31T22:00:00Z"));
        let mut going = Going::new(fixed);
        going.moves(zone);
        let told = going
            .terms
            .boundaries(Some(&going.period), at("2027-01-01T00:00:00Z"), 12);
        going.renews();
        going.renews();
        let over = calendar::start_of_day("2027-04-01".parse().unwrap(), going.zone);
        assert_eq!(going.period.end, over, "{zone}");
        assert!(going.terms.is_over(going.period.end), "{zone}");
        assert_eq!((going.whole().units, going.whole().of), (31, 31), "{zone}");
        assert_eq!(told.len(), 3, "{zone}: {told:?}");
        assert_eq!(told[2], over, "{zone}");
    }
}

#[test]
fn a_resume_does_not_bill_again_what_was_used_before_the_pause() {
    // Paused in New York on 15 March, and in Berlin on the same day.
    let paused = at("2027-03-15T04:00:00Z");
    let going = Going::new(terms("2027-03-01", "month", "Europe/Berlin"));
    let now = at("2027-03-15T21:00:00Z");
    let facts = Facts::default();
    let (period, bill) = money::resume(&going.terms, paused, now, going.zone, &facts);
    assert_eq!(period.start, paused);
    let line = bill.unwrap().price().remove(0);
    assert_eq!((line.charge.span.units, line.charge.span.of), (17, 31));
}

#[test]
fn the_worked_example_of_the_docs_holds() {
    let docs = include_str!("../../../docs/billing.md");
    let (_, table) = docs.split_once("moved to New York on 11 June").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut going = Going::new(terms("2027-06-01", "month", "Europe/Berlin"));
    going.moves("America/New_York");
    let mut proven = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let day = |at: DateTime<Utc>| at.format("%-d %B %H:%M UTC").to_string();
        let span = going.whole();
        let wanted = [
            day(going.period.start),
            day(going.period.end),
            span.units.to_string(),
            span.of.to_string(),
        ];
        assert_eq!(cells[2..6], wanted, "{row}");
        going.renews();
        proven += 1;
    }
    assert_eq!(proven, 3);
}
