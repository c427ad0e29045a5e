//! What mails say: the values that templates are filled with. Pure.

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use super::Input;
use super::facts::{Facts, Owed, Sold};
use super::template::{self, Locale, Values, Words};
use crate::calendar::{Interval, Unit};
use crate::money::Money;

/// To whom a mail is written, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) name: &'a str,
    pub(super) zone: Tz,
    pub(super) locale: Locale,
    /// The page on which they pay, if there is one.
    pub(super) link: Option<&'a str>,
}

/// Writes a mail.
pub(super) fn write(input: &Input, facts: &Facts, reader: Reader<'_>) -> Words {
    let mut values = values(input, reader);
    values.extend(values_of_facts(facts, reader.locale));
    values.insert("name", reader.name.to_owned());
    let link = match input {
        Input::ActionNeeded { link, .. } => link.as_deref().or(reader.link),
        _ => reader.link,
    };
    if let Some(link) = link {
        values.insert("link", link.to_owned());
    }
    // Every kind has a template, which a test proves.
    template::write(input.kind(), reader.locale, &values).unwrap_or_else(|| Words {
        subject: input.kind().to_owned(),
        text: String::new(),
        html: String::new(),
    })
}

/// A value that a template may name, if there is one.
type Pair = (&'static str, Option<String>);

fn values(input: &Input, reader: Reader<'_>) -> Values {
    let locale = reader.locale;
    let day = |at: &DateTime<Utc>| local_date(at, reader);
    let pairs: Vec<Pair> = match input {
        Input::TrialEnding {
            plan,
            price,
            every,
            ends_at,
            ..
        } => vec![
            ("plan", Some(plan.clone())),
            ("price", Some(money(price, locale))),
            ("every", every.map(|every| each(every, locale))),
            ("ends", Some(day(ends_at))),
        ],
        Input::RenewalComing {
            plan,
            price,
            every,
            renews_at,
            ..
        } => vec![
            ("plan", Some(plan.clone())),
            ("price", Some(money(price, locale))),
            ("span", Some(further(*every, locale))),
            ("renews", Some(day(renews_at))),
        ],
        Input::Receipt {
            number,
            total,
            paid_at,
            ..
        } => vec![
            ("number", Some(number.clone())),
            ("total", Some(money(total, locale))),
            ("paid", Some(day(paid_at))),
        ],
        Input::Cancelled {
            plan,
            ended_at,
            unpaid,
            ..
        } => vec![
            ("plan", Some(plan.clone())),
            ("ended", Some(day(ended_at))),
            ("unpaid", set(*unpaid)),
        ],
        Input::Limit {
            feature,
            level,
            limit,
            ..
        } => vec![
            ("feature", Some(feature.clone())),
            ("level", Some(level.to_string())),
            ("limit", Some(limit.to_string())),
            ("reached", set(level >= limit)),
        ],
        _ => values_of_debt(input, reader),
    };
    pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The values of mails about what is owed and how it is paid.
fn values_of_debt(input: &Input, reader: Reader<'_>) -> Vec<Pair> {
    let day = |at: &Option<DateTime<Utc>>| at.as_ref().map(|at| local_date(at, reader));
    match input {
        Input::PaymentFailed {
            code,
            next_attempt_at,
            ends_at,
            hard,
            ..
        } => {
            // Version 1 named neither date when it was not tried again.
            let undated = next_attempt_at.is_none() && ends_at.is_none();
            let reason = template::reason(code, reader.locale);
            vec![
                ("reason", Some(reason.to_owned())),
                ("next", day(next_attempt_at)),
                ("ends", day(ends_at)),
                ("hard", set(*hard || undated)),
            ]
        }
        Input::CardExpiring {
            brand,
            last4,
            expires_on,
            ..
        } => vec![
            ("card", Some(format!("{brand} {last4}"))),
            ("expires", Some(date(*expires_on, reader.locale))),
        ],
        Input::Grace {
            currency, until, ..
        }
        | Input::Suspended {
            currency, until, ..
        } => vec![
            ("currency", Some(currency.to_string())),
            ("until", day(until)),
        ],
        Input::Final { ends, .. } => vec![("ends", set(*ends))],
        Input::ActionNeeded { .. }
        | Input::Recovered { .. }
        | Input::TrialEnding { .. }
        | Input::RenewalComing { .. }
        | Input::Receipt { .. }
        | Input::Cancelled { .. }
        | Input::Limit { .. } => Vec::new(),
    }
}

/// The values that were looked up when the mail was written.
fn values_of_facts(facts: &Facts, locale: Locale) -> Values {
    let mut values = Values::new();
    if let Some(Owed { number, due }) = &facts.invoice {
        values.insert("number", number.clone());
        values.insert("due", money(due, locale));
    }
    if let Some(owed) = &facts.owed {
        values.insert("owed", money(owed, locale));
    }
    if facts.has_method {
        values.insert("method", String::new());
    }
    if let Some(Sold { plan, price, every }) = &facts.sold {
        values.extend(plan.clone().map(|plan| ("plan", plan)));
        values.insert("price", money(price, locale));
        values.insert("every", each(*every, locale));
        values.insert("span", further(*every, locale));
    }
    values
}

/// Numbers that are written in letters, from two on.
const WORDS: [&str; 11] = [
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
];
const WORTE: [&str; 11] = [
    "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf",
];

/// A number from two on, in words as far as that is usual.
fn count(count: u32, locale: Locale) -> String {
    let words = match locale {
        Locale::En => WORDS,
        Locale::De => WORTE,
    };
    let index = usize::try_from(count).unwrap_or(usize::MAX).checked_sub(2);
    let word = index.and_then(|index| words.get(index));
    word.map_or_else(|| count.to_string(), |word| (*word).to_owned())
}

/// How often a price is charged, to be said after it.
fn each(every: Interval, locale: Locale) -> String {
    let (many, unit) = every.parts();
    match (locale, many) {
        (Locale::En, 1) => format!("a {}", unit.word()),
        (Locale::En, _) => format!("every {} {}s", count(many, locale), unit.word()),
        (Locale::De, 1) => format!("je {}", einheit(unit).0),
        (Locale::De, _) => format!("alle {} {}", count(many, locale), einheit(unit).1),
    }
}

/// For how long it goes on: after "for another" in English, after "um" in German.
fn further(every: Interval, locale: Locale) -> String {
    let (many, unit) = every.parts();
    match (locale, many) {
        (Locale::En, 1) => unit.word().to_owned(),
        (Locale::En, _) => format!("{} {}s", count(many, locale), unit.word()),
        (Locale::De, 1) => {
            let article = match unit {
                Unit::Day | Unit::Month => "einen weiteren",
                Unit::Week => "eine weitere",
                Unit::Quarter | Unit::Year => "ein weiteres",
            };
            format!("{article} {}", einheit(unit).0)
        }
        (Locale::De, _) => format!("weitere {} {}", count(many, locale), einheit(unit).1),
    }
}

/// A unit of time, one and several.
const fn einheit(unit: Unit) -> (&'static str, &'static str) {
    match unit {
        Unit::Day => ("Tag", "Tage"),
        Unit::Week => ("Woche", "Wochen"),
        Unit::Month => ("Monat", "Monate"),
        Unit::Quarter => ("Quartal", "Quartale"),
        Unit::Year => ("Jahr", "Jahre"),
    }
}

/// A value that only says that something is so.
fn set(is: bool) -> Option<String> {
    is.then(String::new)
}

fn local_date(at: &DateTime<Utc>, reader: Reader<'_>) -> String {
    date(at.with_timezone(&reader.zone).date_naive(), reader.locale)
}

const MONATE: [&str; 12] = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
];

fn date(day: NaiveDate, locale: Locale) -> String {
    match locale {
        Locale::En => day.format("%-d %B %Y").to_string(),
        Locale::De => {
            let month = MONATE
                .get(day.month0() as usize)
                .copied()
                .unwrap_or_default();
            format!("{}. {month} {}", day.day(), day.year())
        }
    }
}

fn money(amount: &Money, locale: Locale) -> String {
    match locale {
        Locale::En => amount.to_string(),
        Locale::De => amount.to_string().replace('.', ","),
    }
}

/// A mail of a kind as it could be, to look at, and what it tells; `None` for what is no kind.
pub(super) fn sample(kind: &str) -> Option<(Input, Facts)> {
    let price = Money::new(rust_decimal::Decimal::new(1900, 2), "EUR".parse().ok()?);
    let owed = Owed {
        number: "INV-00001".to_owned(),
        due: price,
    };
    let facts = Facts {
        invoice: Some(owed),
        owed: Some(price),
        has_method: true,
        sold: None,
        moot: false,
    };
    let samples = samples(price);
    let sample = samples.into_iter().find(|sample| sample.kind() == kind)?;
    // Facts that a kind is not about would hide the values of its own.
    let invoice = facts.invoice.filter(|_| {
        matches!(
            sample,
            Input::PaymentFailed { .. } | Input::ActionNeeded { .. }
        )
    });
    Some((sample, Facts { invoice, ..facts }))
}

/// One of each kind.
#[expect(clippy::too_many_lines, reason = "one literal")]
fn samples(price: Money) -> [Input; 12] {
    let at =
        |day: i64| DateTime::from_timestamp(1_800_000_000 + day * 86_400, 0).unwrap_or_default();
    let currency = price.currency();
    let plan = "Starter, monthly".to_owned();
    [
        Input::TrialEnding {
            plan: plan.clone(),
            price,
            every: Some(Interval::MONTH),
            subscription_id: None,
            ends_at: at(3),
        },
        Input::RenewalComing {
            subscription_id: Uuid::nil(),
            plan: "Starter, yearly".to_owned(),
            price,
            every: Interval::YEAR,
            renews_at: at(7),
        },
        Input::Receipt {
            invoice_id: None,
            number: "INV-00001".to_owned(),
            total: price,
            paid_at: at(0),
        },
        Input::PaymentFailed {
            invoice_id: Uuid::nil(),
            code: "insufficient_funds".to_owned(),
            next_attempt_at: Some(at(1)),
            ends_at: None,
            hard: false,
        },
        Input::ActionNeeded {
            invoice_id: Uuid::nil(),
            link: None,
        },
        Input::CardExpiring {
            method_id: String::new(),
            brand: "visa".to_owned(),
            last4: "4242".to_owned(),
            expires_on: at(14).date_naive(),
        },
        Input::Grace {
            currency,
            until: Some(at(5)),
            subscription_id: None,
        },
        Input::Suspended {
            currency,
            until: Some(at(9)),
            subscription_id: None,
        },
        Input::Final {
            currency: Some(currency),
            ends: true,
            subscription_id: None,
        },
        Input::Cancelled {
            plan,
            ended_at: at(0),
            unpaid: false,
            subscription_id: None,
        },
        Input::Recovered {
            currency: Some(currency),
            since: None,
            subscription_id: None,
        },
        Input::Limit {
            feature: "projects".to_owned(),
            level: 8,
            limit: 10,
            percent: 80,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(locale: Locale) -> Reader<'static> {
        Reader {
            name: "Ada",
            zone: crate::calendar::zone("Europe/Berlin").unwrap(),
            locale,
            link: None,
        }
    }

    #[test]
    fn every_kind_is_written_in_every_language_with_nothing_left_open() {
        for kind in crate::notice::KINDS {
            let (input, facts) = sample(kind).unwrap();
            for locale in Locale::ALL {
                let link = Some("https://shop.example/pay?a=1&b=2");
                let words = write(
                    &input,
                    &facts,
                    Reader {
                        link,
                        ..reader(locale)
                    },
                );
                for part in [&words.subject, &words.text, &words.html] {
                    assert!(!part.contains(['{', '[']), "{kind} {locale:?}: {part}");
                    assert!(part.len() > 8, "{kind} {locale:?}: {part}");
                    assert!(!part.contains("  "), "{kind} {locale:?}: {part}");
                }
            }
        }
        assert!(sample("spam").is_none());
    }

    #[test]
    fn dates_are_the_tenants_days_in_the_tenants_language() {
        let input = Input::Cancelled {
            plan: "Team".to_owned(),
            ended_at: "2027-02-28T23:00:00Z".parse().unwrap(),
            unpaid: false,
            subscription_id: None,
        };
        let none = Facts::default();
        let english = write(&input, &none, reader(Locale::En));
        assert!(
            english.text.contains("ended on 1 March 2027"),
            "{}",
            english.text
        );
        let german = write(&input, &none, reader(Locale::De));
        assert!(
            german.text.contains("endete am 1. März 2027"),
            "{}",
            german.text
        );
        let (receipt, facts) = sample("receipt").unwrap();
        let receipt = write(&receipt, &facts, reader(Locale::De));
        assert!(
            receipt.subject.ends_with("19,00 EUR"),
            "{}",
            receipt.subject
        );
    }

    #[test]
    fn a_failed_payment_says_what_comes_next() {
        let at = Some("2027-03-02T10:00:00Z".parse().unwrap());
        let failed = |next_attempt_at, ends_at, hard| {
            let code = "insufficient_funds".to_owned();
            let invoice_id = Uuid::nil();
            let input = Input::PaymentFailed {
                invoice_id,
                code,
                next_attempt_at,
                ends_at,
                hard,
            };
            let (_, facts) = sample("payment_failed").unwrap();
            write(&input, &facts, reader(Locale::En)).text
        };
        let cases = [
            (failed(at, None, false), "We try again on 2 March 2027"),
            (failed(None, at, false), "the last attempt"),
            (failed(None, at, true), "we give up on 2 March 2027"),
            (
                failed(None, None, true),
                "We do not try this payment method again",
            ),
            // As version 1 wrote it.
            (
                failed(None, None, false),
                "We do not try this payment method again",
            ),
        ];
        for (text, words) in cases {
            assert!(text.contains(words), "{words}: {text}");
            let told = "payment of 19.00 EUR for invoice INV-00001 was refused";
            assert_eq!(text.matches(told).count(), 1, "{text}");
        }
    }

    #[test]
    fn a_price_is_told_with_how_often_it_is_charged() {
        let cases = [
            ("month", "a month", "je Monat", "einen weiteren Monat"),
            ("week", "a week", "je Woche", "eine weitere Woche"),
            ("year", "a year", "je Jahr", "ein weiteres Jahr"),
            ("quarter", "a quarter", "je Quartal", "ein weiteres Quartal"),
            ("day", "a day", "je Tag", "einen weiteren Tag"),
            (
                "2 weeks",
                "every two weeks",
                "alle zwei Wochen",
                "weitere zwei Wochen",
            ),
            (
                "6 months",
                "every six months",
                "alle sechs Monate",
                "weitere sechs Monate",
            ),
            (
                "30 days",
                "every 30 days",
                "alle 30 Tage",
                "weitere 30 Tage",
            ),
        ];
        for (interval, english, german, on) in cases {
            let every: Interval = interval.parse().unwrap();
            assert_eq!(each(every, Locale::En), english);
            assert_eq!(each(every, Locale::De), german);
            assert_eq!(further(every, Locale::De), on);
        }
        let two: Interval = "2 years".parse().unwrap();
        assert_eq!(further(two, Locale::En), "two years");
    }

    #[test]
    fn a_trial_without_a_payment_method_asks_for_one() {
        let (input, facts) = sample("trial_ending").unwrap();
        let with = write(&input, &facts, reader(Locale::En)).text;
        assert!(with.contains("it costs 19.00 EUR a month"), "{with}");
        assert!(with.contains("charged to your payment method"), "{with}");
        let without = write(&input, &Facts::default(), reader(Locale::De)).text;
        assert!(
            without.contains("kostet es 19,00 EUR je Monat"),
            "{without}"
        );
        assert!(without.contains("noch keine Zahlungsart"), "{without}");
    }

    #[test]
    fn a_limit_is_told_as_near_or_as_reached() {
        let told = |level, percent| {
            let feature = "projects".to_owned();
            let input = Input::Limit {
                feature,
                level,
                limit: 10,
                percent,
            };
            write(&input, &Facts::default(), reader(Locale::En))
        };
        assert_eq!(told(8, 80).subject, "projects: 8 of 10 used");
        assert!(told(8, 80).text.contains("When nothing of it is left"));
        assert!(
            told(12, 100)
                .text
                .contains("nothing of it is left. To go on")
        );
    }

    #[test]
    fn a_link_is_a_link() {
        let link = Some("https://shop.example/pay?a=1&b=2");
        let (input, facts) = sample("action_needed").unwrap();
        let words = write(
            &input,
            &facts,
            Reader {
                link,
                ..reader(Locale::En)
            },
        );
        assert!(
            words
                .text
                .contains("here: https://shop.example/pay?a=1&b=2")
        );
        let anchor = "<a href=\"https://shop.example/pay?a=1&amp;b=2\">";
        assert!(words.html.contains(anchor), "{}", words.html);
        let own = Input::ActionNeeded {
            invoice_id: Uuid::nil(),
            link: Some("https://bank.example/3ds".to_owned()),
        };
        let words = write(
            &own,
            &facts,
            Reader {
                link,
                ..reader(Locale::En)
            },
        );
        assert!(
            words.text.contains("https://bank.example/3ds"),
            "{}",
            words.text
        );
    }
}
