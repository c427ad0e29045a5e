//! The rules with figures: those of peers, and what must hold for any.

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    format!("{text}T00:00:00Z").parse().unwrap()
}

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn eur() -> Currency {
    "EUR".parse().unwrap()
}

fn charge(price: &str, quantity: u32, units: i64, of: i64) -> Charge {
    Charge {
        item: Item {
            item: "plan".to_owned(),
            name: "Team".to_owned(),
            unit_price: dec(price),
            quantity,
        },
        span: Span {
            start: at("2027-05-01"),
            end: at("2027-06-01"),
            units,
            of,
        },
    }
}

fn bill(charges: Vec<Charge>) -> Bill {
    Bill::new(eur(), charges, None, None)
}

fn given(line: &Line) -> Given {
    Given {
        line: line.clone(),
        amount: Decimal::ZERO,
        tax: Decimal::ZERO,
        until: line.charge.span.end,
    }
}

fn unused(units: i64, of: i64) -> Unused {
    Unused {
        start: at("2027-05-02"),
        units,
        of,
    }
}

fn back(line: &Line, unused: i64, tax: Option<&Tax>) -> CreditLine {
    let of = line.charge.span.units;
    one(&given(line), self::unused(unused, of), tax, eur())
}

/// What is given back of one line that no amount came off.
fn one(given: &Given, unused: Unused, tax: Option<&Tax>, currency: Currency) -> CreditLine {
    one_less(given, unused, tax, Decimal::ZERO, currency)
}

/// What is given back of one line that is all that an amount came off.
fn one_less(
    given: &Given,
    unused: Unused,
    tax: Option<&Tax>,
    off: Decimal,
    currency: Currency,
) -> CreditLine {
    let end = End { given, unused, tax };
    credit(&[end], off, currency).remove(0)
}

#[test]
fn a_part_of_a_period_costs_that_part_rounded_once() {
    for (price, quantity, units, of, expected) in [
        // 243 of 366 days of a year with a leap day (Lago).
        ("1000.00", 1, 243, 366, "663.93"),
        ("49.00", 1, 31, 31, "49.00"),
        ("49.00", 1, 17, 31, "26.87"),
        // Half a cent goes away from zero.
        ("0.01", 1, 15, 30, "0.01"),
        ("9.99", 7, 10, 31, "22.56"),
        ("0.00", 5, 1, 31, "0.00"),
    ] {
        let bill = bill(vec![charge(price, quantity, units, of)]);
        assert_eq!(
            bill.price()[0].amount,
            dec(expected),
            "{price} {units}/{of}"
        );
    }
}

#[test]
fn tax_is_rounded_per_line_and_a_credit_note_takes_the_same_part() {
    // Lago's example: 200.00 + 25 % after 1 of 30 days is 241.66, not 241.67.
    let tax = Tax {
        name: "VAT".to_owned(),
        percent: dec("25"),
        inclusive: false,
    };
    let bill = Bill::new(
        eur(),
        vec![charge("200.00", 1, 30, 30)],
        None,
        Some(tax.clone()),
    );
    let lines = bill.price();
    assert_eq!(bill.totals(&lines).total, dec("250.00"));
    let line = back(&lines[0], 29, Some(&tax));
    let sum = Credit::of(&[line], false);
    assert_eq!(sum.total, dec("241.66"));
}

#[test]
fn an_inclusive_tax_is_held_by_the_amount() {
    let tax = Tax {
        name: "MwSt.".to_owned(),
        percent: dec("19"),
        inclusive: true,
    };
    let bill = Bill::new(eur(), vec![charge("119.00", 1, 1, 1)], None, Some(tax));
    let lines = bill.price();
    assert_eq!(lines[0].tax, dec("19.00"));
    assert_eq!(bill.totals(&lines).total, dec("119.00"));
}

#[test]
fn an_amount_off_is_spread_by_size_and_never_below_nothing() {
    let off = |amount: &str| {
        Some(Discount {
            coupon: "c".to_owned(),
            off: DiscountOff::Amount(dec(amount)),
        })
    };
    let charges = || {
        vec![
            charge("10.00", 1, 31, 31),
            charge("10.00", 1, 31, 31),
            charge("10.00", 1, 31, 31),
        ]
    };
    let lines = Bill::new(eur(), charges(), off("10.00"), None).price();
    let amounts: Vec<Decimal> = lines.iter().map(|line| line.discount).collect();
    assert_eq!(amounts, [dec("3.34"), dec("3.33"), dec("3.33")]);
    let all = Bill::new(eur(), charges(), off("99.00"), None);
    assert_eq!(all.totals(&all.price()).total, dec("0.00"));
    // Of half a period, half of the amount.
    let half = Bill::new(eur(), vec![charge("60.00", 1, 15, 30)], off("10.00"), None);
    assert_eq!(half.price()[0].amount, dec("25.00"));
}

#[test]
fn used_and_credited_are_the_original_whatever_came_before() {
    let discounts = [
        None,
        Some(DiscountOff::Percent(dec("20"))),
        Some(DiscountOff::Percent(dec("33.33"))),
        Some(DiscountOff::Amount(dec("7.77"))),
    ];
    let tax = Tax {
        name: "VAT".to_owned(),
        percent: dec("19"),
        inclusive: false,
    };
    for off in discounts {
        let amount = match off {
            Some(DiscountOff::Amount(amount)) => amount,
            _ => Decimal::ZERO,
        };
        let discount = off.map(|off| Discount {
            coupon: "c".to_owned(),
            off,
        });
        for units in [1, 7, 19, 31] {
            let charges = vec![charge("19.99", 3, units, 31)];
            let bill = Bill::new(eur(), charges, discount.clone(), Some(tax.clone()));
            let line = bill.price().remove(0);
            let mut so_far = given(&line);
            // Given back day by day from its end: never more than the line, and all of it in the end.
            for of in (1..=units).rev() {
                let unused = unused(1, of);
                let bite = one_less(&so_far, unused, Some(&tax), amount, eur());
                so_far.amount += bite.amount;
                so_far.tax += bite.tax;
                assert!(so_far.amount <= line.amount && so_far.tax <= line.tax);
            }
            assert_eq!(so_far.amount, line.amount);
            assert_eq!(so_far.tax, line.tax);
        }
    }
}

#[test]
fn up_and_down_on_one_day_nets_to_zero() {
    let discounts = [None, Some(DiscountOff::Percent(dec("12.5")))];
    for off in discounts {
        let discount = off.map(|off| Discount {
            coupon: "c".to_owned(),
            off,
        });
        for first in [31, 23, 11] {
            for rest in 1..=first {
                let priced = |price: &str, units| {
                    let charges = vec![charge(price, 1, units, 31)];
                    Bill::new(eur(), charges, discount.clone(), None)
                        .price()
                        .remove(0)
                };
                let small = priced("19.99", first);
                let given_back = back(&small, rest, None).amount;
                let large = priced("49.01", rest);
                let large_back = back(&large, rest, None).amount;
                let again = priced("19.99", rest);
                let net = -given_back + large.amount - large_back + again.amount;
                assert_eq!(net, Decimal::ZERO, "{rest} of {first}");
            }
        }
    }
}

#[test]
fn days_are_local_and_deaf_to_summer_time() {
    let berlin = calendar::zone("Europe/Berlin").unwrap();
    let start: DateTime<Utc> = "2027-03-14T23:00:00Z".parse().unwrap();
    let end: DateTime<Utc> = "2027-04-14T22:00:00Z".parse().unwrap();
    assert_eq!(measure(start, end, Proration::Day, berlin), 31);
    assert_eq!(
        measure(start, end, Proration::Second, berlin),
        31 * 86_400 - 3_600
    );
    let noon: DateTime<Utc> = "2027-03-28T10:00:00Z".parse().unwrap();
    assert_eq!(
        cut(noon, Proration::Day, berlin).to_rfc3339(),
        "2027-03-27T23:00:00+00:00"
    );
    assert_eq!(cut(noon, Proration::Second, berlin), noon);
}

#[test]
fn a_stored_bill_gives_the_same_lines_and_the_same_hash() {
    let discount = Discount {
        coupon: "welcome".to_owned(),
        off: DiscountOff::Percent(dec("20")),
    };
    let bill = Bill::new(
        eur(),
        vec![charge("49.00", 2, 17, 31)],
        Some(discount),
        None,
    );
    let text = bill.to_text().unwrap();
    let read: Bill = serde_json::from_str(&text).unwrap();
    assert_eq!(read.price(), bill.price());
    assert_eq!(read.to_text().unwrap(), text);
    assert_eq!(Bill::hash(&text).len(), 64);
}

#[test]
fn an_amount_comes_off_whole_when_an_item_was_changed_within_the_period() {
    let discount = Discount {
        coupon: "five".to_owned(),
        off: DiscountOff::Amount(dec("5")),
    };
    let halves = vec![charge("49.00", 1, 15, 30), charge("199.00", 1, 15, 30)];
    let mut bill = Bill::new(eur(), halves, Some(discount), None);
    let off = |bill: &Bill| bill.totals(&bill.price()).discount;
    assert_eq!(off(&bill), dec("5.00"));
    // Bills that were priced by the first rules stay what they were.
    bill.rules = 1;
    assert_eq!(off(&bill), dec("2.50"));
}

#[test]
fn an_amount_comes_off_before_what_is_left_is_rounded() {
    let discount = Discount {
        coupon: "five".to_owned(),
        off: DiscountOff::Amount(dec("5")),
    };
    let mut bill = Bill::new(
        eur(),
        vec![charge("49.00", 1, 10, 30)],
        Some(discount),
        None,
    );
    let told = |bill: &Bill| {
        let line = bill.price().remove(0);
        [line.subtotal, line.discount, line.amount]
    };
    // 16.3333 less 1.6667 is 14.6667.
    assert_eq!(told(&bill), [dec("16.33"), dec("1.66"), dec("14.67")]);
    // Invoices that were drafted by the rules of before stay what they were.
    bill.rules = 2;
    assert_eq!(told(&bill), [dec("16.33"), dec("1.67"), dec("14.66")]);
}

#[test]
fn a_shorter_part_never_costs_more_and_no_line_more_than_without_the_discount() {
    for off in ["0.01", "0.99", "5.00", "14.98", "60.00"] {
        for prices in [
            vec!["5.10"],
            vec!["19.99", "0.07"],
            vec!["1.01", "3.33", "10.05"],
        ] {
            let mut before = Decimal::ZERO;
            for units in 1..=31 {
                let charges = prices.iter().map(|price| charge(price, 1, units, 31));
                let mut bill = bill(charges.collect());
                // Lines of one item would count as parts of one period.
                for (index, charge) in bill.charges.iter_mut().enumerate() {
                    charge.item.item = index.to_string();
                }
                bill.discount = Some(Discount {
                    coupon: "c".to_owned(),
                    off: DiscountOff::Amount(dec(off)),
                });
                let lines = bill.price();
                for line in &lines {
                    assert!(line.amount >= Decimal::ZERO && line.discount >= Decimal::ZERO);
                    assert_eq!(line.amount + line.discount, line.subtotal);
                }
                let total = bill.totals(&lines).total;
                assert!(total >= before, "{units} days of {prices:?} less {off}");
                before = total;
            }
        }
    }
}

/// The rows of the tables of docs/billing.md that have so many columns, after the two of their head.
fn rows(columns: usize) -> Vec<Vec<String>> {
    let text = include_str!("../../../docs/billing.md");
    let mut rows = Vec::new();
    for table in text.split("\n\n") {
        let lines: Vec<Vec<String>> = table
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(|line| {
                let cells = line.trim_matches('|').split('|');
                cells.map(|cell| cell.trim().to_owned()).collect()
            })
            .collect();
        if lines.first().is_some_and(|head| head.len() == columns) {
            rows.extend(lines.into_iter().skip(2));
        }
    }
    rows
}

fn money_of(text: &str) -> (Decimal, Currency) {
    let (amount, currency) = text.split_once(' ').unwrap();
    (dec(amount), currency.parse().unwrap())
}

#[test]
fn the_worked_examples_of_the_docs_hold() {
    let priced = rows(7);
    assert!(priced.len() >= 7);
    for row in &priced {
        let (price, currency) = money_of(&row[0]);
        let (units, of) = (row[2].parse().unwrap(), row[3].parse().unwrap());
        let mut charge = charge("0", row[1].parse().unwrap(), units, of);
        charge.item.unit_price = price;
        let discount = Discount {
            coupon: "c".to_owned(),
            off: DiscountOff::Percent(dec(&row[4])),
        };
        let line = Bill::new(currency, vec![charge], Some(discount), None).price();
        assert_eq!((line[0].amount, currency), money_of(&row[5]), "{row:?}");
    }
    let given_back = rows(8);
    assert!(given_back.len() >= 3);
    for row in &given_back {
        let (price, currency) = money_of(&row[0]);
        let (units, of) = (row[1].parse().unwrap(), row[2].parse().unwrap());
        let mut charge = charge("0", 1, units, of);
        charge.item.unit_price = price;
        let tax = Tax {
            name: "VAT".to_owned(),
            percent: dec(&row[4]),
            inclusive: false,
        };
        let bill = Bill::new(currency, vec![charge], None, Some(tax.clone()));
        let line = bill.price().remove(0);
        let unused = unused(row[3].parse().unwrap(), units);
        let back = one(&given(&line), unused, Some(&tax), currency);
        assert_eq!((back.amount, currency), money_of(&row[5]), "{row:?}");
        assert_eq!((back.tax, currency), money_of(&row[6]), "{row:?}");
    }
}
