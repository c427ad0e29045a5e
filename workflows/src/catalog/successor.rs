//! What follows a retired plan: whoever has it is moved there with a renewal of their own, as data of
//! the catalogue says.
//!
//! Kill Bill's catalogue says of a new version from when it is for existing subscriptions, too
//! (`effectiveDateForExistingSubscriptions`), and can move them at their next billing boundary
//! (`org.killbill.subscription.align.effectiveDateForExistingSubscriptions`); at Stripe a price is
//! replaced one subscription after the other.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sqlx::PgConnection;

use super::{Entry, NewEntry, Plan, PlanTerms, Published, store};
use crate::door::DoorError;

/// What those are moved to who have a retired plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Successor {
    /// The plan's key; its current version is taken.
    pub plan: String,
    /// The first local day on which a renewal moves there.
    #[serde(deserialize_with = "read_day")]
    pub from: NaiveDate,
}

fn read_day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveDate, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |_| D::Error::custom(format!("{text:?} is no day; one is written 2028-01-01"));
    text.parse().map_err(wrong)
}

/// A plan that another one follows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Succession {
    /// The retired plan's key.
    pub(crate) of: String,
    /// The first local day on which a renewal moves.
    pub(crate) from: NaiveDate,
    /// Where to.
    pub(crate) to: Plan,
}

/// Plans by key, and whether they are retired.
type All<'a> = BTreeMap<&'a str, (bool, &'a PlanTerms)>;

fn known<'a>(
    key: &'a str,
    retired: bool,
    entry: &'a Entry,
) -> Option<(&'a str, (bool, &'a PlanTerms))> {
    match entry {
        Entry::Plan(terms) => Some((key, (retired, terms))),
        _ => None,
    }
}

fn wrong(key: &str, field: &str, detail: String) -> DoorError {
    DoorError::BadCatalogue {
        place: format!("plans.{key}.successor{field}"),
        detail,
    }
}

/// Checks the successors that a file names: each stands in it.
pub(super) fn check_file(entries: &[NewEntry]) -> Result<(), DoorError> {
    let each = entries.iter();
    let all: All<'_> = each
        .filter_map(|one| known(&one.key, one.retired, &one.entry))
        .collect();
    check_all(&all)
}

fn check_all(all: &All<'_>) -> Result<(), DoorError> {
    for (key, (retired, terms)) in all {
        let Some(Successor { plan, .. }) = &terms.successor else {
            continue;
        };
        if !retired {
            let detail = "only a plan with \"retired\": true has one".to_owned();
            return Err(wrong(key, "", detail));
        }
        let Some((gone, next)) = all.get(&**plan) else {
            let detail = format!(
                "no plan {plan:?} stands beside it; a file that names it has it, too, changed or not"
            );
            return Err(wrong(key, ".plan", detail));
        };
        if *gone {
            let detail = format!("{plan:?} is retired itself");
            return Err(wrong(key, ".plan", detail));
        }
        check_fits(terms, next).map_err(|detail| wrong(key, ".plan", detail))?;
    }
    Ok(())
}

/// Checks what stands after a publication: whoever has whichever version of a retired plan can have its
/// successor.
pub(super) async fn check_published(
    conn: &mut PgConnection,
    current: &[Published],
    new: &[NewEntry],
) -> Result<(), DoorError> {
    let before = current
        .iter()
        .filter_map(|one| known(&one.key, one.retired, &one.entry));
    let mut all: All<'_> = before.collect();
    all.extend(
        new.iter()
            .filter_map(|one| known(&one.key, one.retired, &one.entry)),
    );
    check_all(&all)?;
    for (key, (_, terms)) in &all {
        let next = terms.successor.as_ref().and_then(|one| all.get(&*one.plan));
        let Some((_, next)) = next else { continue };
        for sold in store::list_versions(conn, "plan", key).await? {
            if let Entry::Plan(terms) = &sold.entry {
                check_fits(terms, next).map_err(|detail| {
                    wrong(key, ".plan", format!("version {}: {detail}", sold.version))
                })?;
            }
        }
    }
    Ok(())
}

/// Whether whoever has a plan can have another at a renewal: the same calendar, and all that it has.
fn check_fits(terms: &PlanTerms, next: &PlanTerms) -> Result<(), String> {
    if terms.interval != next.interval {
        return Err(format!(
            "a period of it is one {}, and of this plan one {}",
            next.interval, terms.interval
        ));
    }
    if terms.billing != next.billing {
        return Err("one of the two is billed in advance, the other in arrears".to_owned());
    }
    if next.periods.is_some() {
        return Err("it is sold for a fixed term, and nobody is moved into one".to_owned());
    }
    let missing = terms
        .prices
        .keys()
        .find(|currency| !next.prices.contains_key(currency));
    if let Some(currency) = missing {
        return Err(format!("this plan is sold in {currency}, and it is not"));
    }
    if let Some(add_on) = terms.add_ons.iter().find(|key| !next.add_ons.contains(key)) {
        return Err(format!("add-on {add_on:?} does not go with it"));
    }
    let Some(seats) = &terms.seats else {
        return Ok(());
    };
    match &next.seats {
        None => Err("this plan has seats, and it has none".to_owned()),
        Some(next) => match (seats.most, next.most) {
            (None, Some(most)) => Err(format!("it has at most {most} seats, this plan any number")),
            (Some(now), Some(most)) if now > most => {
                Err(format!("it has at most {most} seats, this plan {now}"))
            }
            _ => Ok(()),
        },
    }
}

/// Finds what follows a plan, if it is retired and something does.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn find_successor(
    conn: &mut PgConnection,
    plan: &str,
) -> sqlx::Result<Option<Succession>> {
    let Some(Published {
        retired: true,
        entry:
            Entry::Plan(PlanTerms {
                successor: Some(successor),
                ..
            }),
        ..
    }) = store::find_current(conn, "plan", plan).await?
    else {
        return Ok(None);
    };
    let next = store::find_current(conn, "plan", &successor.plan).await?;
    Ok(match next {
        Some(Published {
            retired: false,
            version,
            entry: Entry::Plan(terms),
            key,
            ..
        }) => Some(Succession {
            of: plan.to_owned(),
            from: successor.from,
            to: Plan {
                plan: key,
                version,
                terms,
            },
        }),
        _ => None,
    })
}
