//! What a tenant can subscribe to.

use crate::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A plan of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Its code, as subscriptions name it.
    pub plan: String,
    /// Its name for people.
    pub name: String,
    /// How often it renews.
    pub interval: Interval,
    /// Days of trial before the first charge; 0 for none.
    pub trial_days: i32,
    /// Its price in each currency it is sold in.
    pub prices: Vec<Money>,
}

/// How often a plan renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// Each month, on the anchor day.
    Month,
    /// Each year, on the anchor day.
    Year,
}
