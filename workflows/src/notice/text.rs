//! What mails say: the values that templates are filled with. Pure.

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use super::Input;
use super::template::{self, Locale, Values, Words};
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
pub(super) fn write(input: &Input, reader: Reader<'_>) -> Words {
    let mut values = values(input, reader);
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
            ends_at,
        } => vec![
            ("plan", Some(plan.clone())),
            ("price", Some(money(price, locale))),
            ("ends", Some(day(ends_at))),
        ],
        Input::RenewalComing {
            plan,
            price,
            renews_at,
            ..
        } => vec![
            ("plan", Some(plan.clone())),
            ("price", Some(money(price, locale))),
            ("renews", Some(day(renews_at))),
        ],
        Input::Receipt {
            number,
            total,
            paid_at,
        } => vec![
            ("number", Some(number.clone())),
            ("total", Some(money(total, locale))),
            ("paid", Some(day(paid_at))),
        ],
        Input::Cancelled {
            plan,
            ended_at,
            unpaid,
        } => vec![
            ("plan", Some(plan.clone())),
            ("ended", Some(day(ended_at))),
            ("unpaid", set(*unpaid)),
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
        Input::Grace { currency, until } | Input::Suspended { currency, until } => vec![
            ("currency", Some(currency.to_string())),
            ("until", day(until)),
        ],
        Input::Final { ends } => vec![("ends", set(*ends))],
        Input::ActionNeeded { .. }
        | Input::Recovered {}
        | Input::TrialEnding { .. }
        | Input::RenewalComing { .. }
        | Input::Receipt { .. }
        | Input::Cancelled { .. } => Vec::new(),
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

/// A mail of a kind as it could be, to look at; `None` for what is no kind.
pub(super) fn sample(kind: &str) -> Option<Input> {
    let at =
        |day: i64| DateTime::from_timestamp(1_800_000_000 + day * 86_400, 0).unwrap_or_default();
    let eur = || "EUR".parse().ok();
    let price = Money::new(rust_decimal::Decimal::new(1900, 2), eur()?);
    let plan = "Starter, monthly".to_owned();
    let samples = [
        Input::TrialEnding {
            plan: plan.clone(),
            price,
            ends_at: at(3),
        },
        Input::RenewalComing {
            subscription_id: Uuid::nil(),
            plan: plan.clone(),
            price,
            renews_at: at(7),
        },
        Input::Receipt {
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
            currency: eur()?,
            until: Some(at(5)),
        },
        Input::Suspended {
            currency: eur()?,
            until: Some(at(9)),
        },
        Input::Final { ends: true },
        Input::Cancelled {
            plan,
            ended_at: at(0),
            unpaid: false,
        },
        Input::Recovered {},
    ];
    samples.into_iter().find(|sample| sample.kind() == kind)
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
            let input = sample(kind).unwrap();
            for locale in Locale::ALL {
                let link = Some("https://shop.example/pay?a=1&b=2");
                let words = write(
                    &input,
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
        };
        let english = write(&input, reader(Locale::En));
        assert!(
            english.text.contains("ended on 1 March 2027"),
            "{}",
            english.text
        );
        let german = write(&input, reader(Locale::De));
        assert!(
            german.text.contains("endete am 1. März 2027"),
            "{}",
            german.text
        );
        let receipt = write(&sample("receipt").unwrap(), reader(Locale::De));
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
            write(&input, reader(Locale::En)).text
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
            assert_eq!(text.matches("was refused").count(), 1, "{text}");
        }
    }

    #[test]
    fn a_link_is_a_link() {
        let link = Some("https://shop.example/pay?a=1&b=2");
        let input = sample("action_needed").unwrap();
        let words = write(
            &input,
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
