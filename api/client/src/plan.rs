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
    /// The version that is current.
    pub version: i32,
    /// How often it renews: `month`, or `2 weeks`.
    #[schema(example = "month")]
    pub interval: String,
    /// Days of trial before the first charge; 0 for none.
    pub trial_days: i32,
    /// Its price in each currency it is sold in.
    pub prices: Vec<Money>,
}
