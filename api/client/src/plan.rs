//! The catalogue: what a tenant can subscribe to.

use std::collections::BTreeMap;

use crate::Money;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A version of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Its code, as subscriptions name it.
    pub plan: String,
    /// Its name for people.
    pub name: String,
    /// Which version; among `GET /v1/plans` the one that is current.
    pub version: i32,
    /// Whether it is refused to everybody who does not have it.
    #[serde(default)]
    pub retired: bool,
    /// When the version was published, in real time.
    pub published_at: DateTime<Utc>,
    /// What it is a plan of, to be grouped by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// How often it renews: `month`, or `2 weeks`.
    #[schema(example = "month")]
    pub interval: String,
    /// When a period is billed: `in_advance` or `in_arrears`.
    #[schema(example = "in_advance")]
    pub billing: String,
    /// When a subscription counts as begun: with its `start`, or its `first_payment`.
    #[schema(example = "start")]
    pub activation: String,
    /// What proration counts in: `day` or `second`.
    #[schema(example = "day")]
    pub proration: String,
    /// After how many paid periods it ends by itself; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub periods: Option<u32>,
    /// Days of trial before the first period; 0 for none.
    pub trial_days: i32,
    /// What becomes of a trial that ends without a payment method: `bill`, `pause` or `end`.
    #[schema(example = "bill")]
    pub trial_without_method: String,
    /// What the trial costs in all, charged as it begins; absent where it is free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trial_prices: Vec<Money>,
    /// Its price in each currency it is sold in.
    pub prices: Vec<Money>,
    /// What more people than are included cost; absent where it has no seats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<PlanSeats>,
    /// Charged once, with the first paid period.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setup_fee: Vec<Money>,
    /// The add-ons that go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_ons: Vec<String>,
    /// What the tenant may use: `true`, `false`, a number as a limit, or a text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, Value>,
    /// What those are moved to who have it once it is retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<PlanSuccessor>,
}

/// What those are moved to who have a retired plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanSuccessor {
    /// Code of the plan; its current version is taken.
    pub plan: String,
    /// The first local day on which a renewal moves there.
    pub from: NaiveDate,
}

/// Seats of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanSeats {
    /// How many are in the plan's price.
    pub included: u32,
    /// The most that can be had; absent for no bound of the plan's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u32>,
    /// Price of each further one for a period.
    pub prices: Vec<Money>,
}

/// An entry of the catalogue: its current version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CatalogEntry {
    /// `plan`, `add_on`, `coupon` or `legal_entity`.
    #[schema(example = "plan")]
    pub kind: String,
    /// Its key.
    pub key: String,
    /// Counts from 1.
    pub version: i32,
    /// Whether it is refused to everybody who does not have it.
    pub retired: bool,
    /// When the version was published, in real time.
    pub published_at: DateTime<Utc>,
    /// What it offers, or how it is named, as a catalogue's file says it.
    pub terms: Value,
}

/// Query of `POST /v1/catalog`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PublishCatalog {
    /// Only tell what would become of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Why; only a dry run needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What publishing a catalogue came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogPublished {
    /// Whether it was only tried.
    pub dry_run: bool,
    /// Every entry of what was sent, add-ons first.
    pub entries: Vec<CatalogChange>,
}

/// What publishing did to an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogChange {
    /// `plan`, `add_on`, `coupon` or `legal_entity`.
    #[schema(example = "plan")]
    pub kind: String,
    /// Its key.
    pub key: String,
    /// The version that is current now.
    pub version: i32,
    /// Whether this publication made it.
    pub new: bool,
    /// Whether that version is refused to everybody who does not have it.
    pub retired: bool,
    /// The fields that differ from the version before; empty for what is new or the same.
    #[serde(default)]
    pub changed: Vec<String>,
}
