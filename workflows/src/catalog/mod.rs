//! The catalogue: what can be subscribed to, at what price, and who sells it.
//!
//! Control tables, loaded from a file or over the API. What was published never changes: an entry
//! that differs is a new version, and whoever subscribed to an older one keeps it until somebody
//! moves them (Kill Bill's catalogue versions; Stripe's prices are immutable, too). An entry that is
//! retired is kept by those who have it and refused to everybody else; a legal entity is retired once
//! nobody has it.

mod file;
mod legal_entity;
mod store;
mod successor;

pub use file::{from_value, is_feature, parse};
pub use legal_entity::{LegalEntityTerms, Seller};
pub(crate) use legal_entity::{choose as choose_legal_entity, find_seller};
pub use successor::Successor;
pub(crate) use successor::{Succession, find_successor};

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;

use crate::calendar::Interval;
use crate::door::DoorError;
use crate::money::{Currency, Money};
use crate::tenant;

/// An amount for each currency that something is sold in.
pub type Prices = BTreeMap<Currency, Decimal>;

/// What a plan offers, as its version holds it for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanTerms {
    /// For people.
    pub name: String,
    /// What it is a plan of, to be grouped by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Length of a period.
    pub interval: Interval,
    /// Whether a period is billed at its start or at its end.
    #[serde(default)]
    pub billing: Billing,
    /// The time before the first period.
    #[serde(default)]
    pub trial: Trial,
    /// When the subscription counts as begun.
    #[serde(default)]
    pub activation: Activation,
    /// What proration counts in.
    #[serde(default)]
    pub proration: Proration,
    /// After how many paid periods it ends by itself; never when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub periods: Option<u32>,
    /// Price of a period.
    pub prices: Prices,
    /// What more people than are included cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<Seats>,
    /// Charged once, with the first period.
    #[serde(default, skip_serializing_if = "Prices::is_empty")]
    pub setup_fee: Prices,
    /// Keys of the add-ons that go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_ons: Vec<String>,
    /// What the tenant may use: `true`, `false`, a number as a limit, or a text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, Value>,
    /// What those are moved to who have it once it is retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<Successor>,
}

/// When a period is billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Billing {
    /// At its start.
    #[default]
    InAdvance,
    /// At its end, for what was in force in it.
    InArrears,
}

/// The time before the first period.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trial {
    /// Local days; 0 for no trial.
    pub days: u32,
    /// What it costs in all, charged as it begins (Kill Bill's fixed price of a trial phase, the price
    /// of Stripe's trial offers); free when there is none.
    #[serde(skip_serializing_if = "Prices::is_empty")]
    pub prices: Prices,
    /// What becomes of a subscription whose trial ends without a payment method.
    pub without_method: WithoutMethod,
}

/// What becomes of a subscription whose trial ends without a payment method (Stripe's
/// `missing_payment_method`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutMethod {
    /// It is billed, and dunning follows.
    #[default]
    Bill,
    /// It is paused until somebody resumes it.
    Pause,
    /// It ends.
    End,
}

/// When a subscription counts as begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// With its start; a first payment that fails is dunning's business.
    #[default]
    Start,
    /// With its first payment; until then it is incomplete, and it expires after 23 hours, as
    /// Stripe's do.
    FirstPayment,
}

/// What proration counts in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proration {
    /// Whole local days, as Kill Bill, Lago and Meteroid do: explained on a calendar, and deaf to
    /// summer time.
    #[default]
    Day,
    /// Seconds, as Stripe does.
    Second,
}

/// Seats beyond the plan's price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seats {
    /// How many are in the plan's price.
    pub included: u32,
    /// The most that can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u32>,
    /// Price of each further one for a period.
    pub prices: Prices,
}

/// What an add-on offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddOnTerms {
    /// For people.
    pub name: String,
    /// Price of one for a period of its subscription.
    pub prices: Prices,
    /// The most that one subscription can have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u32>,
    /// What it adds to the plan's features: a number is added for each, anything else replaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, Value>,
}

/// What a coupon takes off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CouponTerms {
    /// For people.
    pub name: String,
    /// How much.
    pub off: Off,
    /// For how long.
    pub duration: Duration,
    /// The last local day on which it can be redeemed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redeem_by: Option<NaiveDate>,
}

/// How much a coupon takes off a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Off {
    /// So many per cent of each line, above 0, at most 100.
    Percent(#[serde(with = "rust_decimal::serde::str")] Decimal),
    /// An amount of a whole period, spread over its lines.
    Amount(Prices),
}

/// For how long a coupon holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duration {
    /// For the first invoice.
    Once,
    /// For so many periods.
    Periods(u32),
    /// For as long as the subscription lives.
    Forever,
}

/// What stands in the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A plan.
    Plan(PlanTerms),
    /// An add-on.
    AddOn(AddOnTerms),
    /// A coupon.
    Coupon(CouponTerms),
    /// Who sells.
    LegalEntity(LegalEntityTerms),
}

impl Entry {
    /// The stored word: `plan`, `add_on`, `coupon` or `legal_entity`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Plan(_) => "plan",
            Self::AddOn(_) => "add_on",
            Self::Coupon(_) => "coupon",
            Self::LegalEntity(_) => legal_entity::KIND,
        }
    }

    /// What it offers, as a catalogue's file says it.
    ///
    /// # Errors
    /// Never, for terms that were read.
    pub fn to_terms(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::Plan(terms) => serde_json::to_value(terms),
            Self::AddOn(terms) => serde_json::to_value(terms),
            Self::Coupon(terms) => serde_json::to_value(terms),
            Self::LegalEntity(terms) => serde_json::to_value(terms),
        }
    }

    pub(crate) fn from_terms(kind: &str, terms: Value) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            "plan" => Self::Plan(serde_json::from_value(terms)?),
            "add_on" => Self::AddOn(serde_json::from_value(terms)?),
            legal_entity::KIND => Self::LegalEntity(serde_json::from_value(terms)?),
            _ => Self::Coupon(serde_json::from_value(terms)?),
        })
    }
}

/// An entry to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEntry {
    /// Its key.
    pub key: String,
    /// Whether it is refused to everybody who does not have it.
    pub retired: bool,
    /// What it offers.
    pub entry: Entry,
}

/// A published version of an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Its key.
    pub key: String,
    /// Counts from 1.
    pub version: i32,
    /// Whether it is refused to everybody who does not have it.
    pub retired: bool,
    /// When it was published, in real time.
    pub published_at: DateTime<Utc>,
    /// What it offers.
    pub entry: Entry,
}

/// A version of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its key.
    pub plan: String,
    /// Counts from 1.
    pub version: i32,
    /// What it offers.
    pub terms: PlanTerms,
}

/// What publishing did to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `plan`, `add_on`, `coupon` or `legal_entity`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// The version that is current now.
    pub version: i32,
    /// Whether this publication made it.
    pub new: bool,
    /// Whether that version is refused to everybody who does not have it.
    pub retired: bool,
    /// The fields that differ from the version before; empty for what is new or the same.
    pub changed: Vec<String>,
}

/// Publishes a catalogue: what differs from the current version, or is new, becomes a new version.
/// What the catalogue does not name is left as it is. The transaction must act as control.
///
/// # Errors
/// [`DoorError::BadCatalogue`] when its legal entities do not go with those that there are, or what
/// follows a retired plan does not fit who has that.
pub async fn publish(
    conn: &mut PgConnection,
    entries: &[NewEntry],
) -> Result<Vec<Change>, DoorError> {
    store::lock(conn).await?;
    let current = store::list_current(conn).await?;
    legal_entity::check_published(&current, entries)?;
    successor::check_published(conn, &current, entries).await?;
    for key in legal_entity::retired(entries) {
        if let Some(tenant) = tenant::store::find_with_legal_entity(conn, key).await? {
            return Err(legal_entity::in_use(key, tenant));
        }
    }
    let mut changes = Vec::with_capacity(entries.len());
    for new in entries {
        let kind = new.entry.kind();
        let known = current
            .iter()
            .find(|known| known.entry.kind() == kind && known.key == new.key);
        let same = known.filter(|known| known.entry == new.entry && known.retired == new.retired);
        let version = match (same, known) {
            (Some(same), _) => same.version,
            (None, known) => {
                let version = known.map_or(1, |known| known.version + 1);
                store::insert(conn, new, version).await?;
                version
            }
        };
        changes.push(Change {
            kind,
            key: new.key.clone(),
            version,
            new: same.is_none(),
            retired: new.retired,
            changed: known.map_or_else(Vec::new, |known| differences(known, new)),
        });
    }
    Ok(changes)
}

/// The fields in which an entry differs from its current version, by name.
fn differences(known: &Published, new: &NewEntry) -> Vec<String> {
    let fields = |entry: &Entry| match entry.to_terms() {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (before, after) = (fields(&known.entry), fields(&new.entry));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changed: Vec<String> = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect();
    if known.retired != new.retired {
        changed.push("retired".to_owned());
    }
    changed
}

/// Lists the current version of every entry, by kind and key.
///
/// # Errors
/// When the database does not answer.
pub async fn list(conn: &mut PgConnection) -> Result<Vec<Published>, DoorError> {
    Ok(store::list_current(conn).await?)
}

/// Lists all versions of a plan, newest first.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn list_versions(
    conn: &mut PgConnection,
    plan: &str,
) -> Result<Vec<Published>, DoorError> {
    let versions = store::list_versions(conn, "plan", plan).await?;
    if versions.is_empty() {
        return Err(DoorError::not_found("plan", plan));
    }
    Ok(versions)
}

/// Finds the version of a plan that can be subscribed to now.
///
/// # Errors
/// [`DoorError::UnknownPlan`]; [`DoorError::Retired`].
pub(crate) async fn find_plan(conn: &mut PgConnection, plan: &str) -> Result<Plan, DoorError> {
    let current = store::find_current(conn, "plan", plan).await?;
    match current {
        Some(Published { retired: true, .. }) => Err(DoorError::Retired {
            what: "plan",
            key: plan.to_owned(),
        }),
        Some(Published {
            version,
            entry: Entry::Plan(terms),
            ..
        }) => Ok(Plan {
            plan: plan.to_owned(),
            version,
            terms,
        }),
        _ => Err(DoorError::UnknownPlan(plan.to_owned())),
    }
}

/// Finds a version of a plan, current or not.
///
/// # Errors
/// [`DoorError::UnknownPlan`].
pub(crate) async fn find_version(
    conn: &mut PgConnection,
    plan: &str,
    version: i32,
) -> Result<Plan, DoorError> {
    match store::find_version(conn, "plan", plan, version).await? {
        Some(Published {
            entry: Entry::Plan(terms),
            ..
        }) => Ok(Plan {
            plan: plan.to_owned(),
            version,
            terms,
        }),
        _ => Err(DoorError::UnknownPlan(plan.to_owned())),
    }
}

/// Finds an add-on: the version that was sold, where one was, and otherwise the one that can be had
/// now. With the version that it is.
///
/// # Errors
/// [`DoorError::Malformed`] when there is none of that key; [`DoorError::Retired`].
pub(crate) async fn find_add_on(
    conn: &mut PgConnection,
    add_on: &str,
    sold: Option<i32>,
) -> Result<(AddOnTerms, i32), DoorError> {
    if let Some(version) = sold
        && let Some(Published {
            entry: Entry::AddOn(terms),
            ..
        }) = store::find_version(conn, "add_on", add_on, version).await?
    {
        return Ok((terms, version));
    }
    match store::find_current(conn, "add_on", add_on).await? {
        Some(Published { retired: true, .. }) => Err(DoorError::Retired {
            what: "add-on",
            key: add_on.to_owned(),
        }),
        Some(Published {
            entry: Entry::AddOn(terms),
            version,
            ..
        }) => Ok((terms, version)),
        _ => Err(DoorError::Malformed {
            field: "add_ons",
            detail: format!("no add-on is called {add_on:?}"),
        }),
    }
}

/// Finds a coupon that can be redeemed on a local day.
///
/// # Errors
/// [`DoorError::Malformed`] when there is none of that key or its time is over;
/// [`DoorError::Retired`].
pub(crate) async fn find_coupon(
    conn: &mut PgConnection,
    coupon: &str,
    day: NaiveDate,
) -> Result<CouponTerms, DoorError> {
    let malformed = |detail: String| DoorError::Malformed {
        field: "coupon",
        detail,
    };
    match store::find_current(conn, "coupon", coupon).await? {
        Some(Published { retired: true, .. }) => Err(DoorError::Retired {
            what: "coupon",
            key: coupon.to_owned(),
        }),
        Some(Published {
            entry: Entry::Coupon(terms),
            ..
        }) => match terms.redeem_by {
            Some(last) if last < day => {
                let detail = format!("coupon {coupon:?} could be redeemed until {last}");
                Err(malformed(detail))
            }
            _ => Ok(terms),
        },
        _ => Err(malformed(format!("no coupon is called {coupon:?}"))),
    }
}

/// The price in a currency.
///
/// # Errors
/// [`DoorError::NotSoldIn`], with the currencies that there are.
pub(crate) fn price_in(
    prices: &Prices,
    what: &str,
    currency: Currency,
) -> Result<Money, DoorError> {
    match prices.get(&currency) {
        Some(amount) => Ok(Money::new(*amount, currency)),
        None => Err(DoorError::NotSoldIn {
            plan: what.to_owned(),
            currency: currency.to_string(),
            sold_in: prices
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}
