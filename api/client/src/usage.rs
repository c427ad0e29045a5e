//! Usage: how much of what a plan limits a tenant uses.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `PUT /v1/tenants/{tenant_id}/usage/{feature}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportUsage {
    /// How much of it is used now, in all; at most 9223372036854775807.
    pub level: u64,
}

/// How much of a feature a tenant uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// The feature's key.
    pub feature: String,
    /// How much of it is used.
    pub level: u64,
    /// How much there is; absent where nothing limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The level as a share of the limit, in per cent, rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u64>,
    /// When it was reported, in the tenant's time.
    pub reported_at: DateTime<Utc>,
    /// The greatest share that the tenant was told of last, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_percent: Option<u32>,
    /// The limit that this was a share of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_limit: Option<u64>,
    /// The start of the period in which it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_period: Option<DateTime<Utc>>,
}
