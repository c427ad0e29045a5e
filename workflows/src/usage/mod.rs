//! Usage: how much of what a plan limits a tenant uses.
//!
//! Tenure counts nothing: the product knows what is used, and reports a level. What is sold and what
//! support gave says where the limit is ([`crate::entitlement`]). At four fifths of it and at all of
//! it the tenant is told by mail, each once in a period and for a limit: the row remembers, and the
//! mail's run has a key besides.

mod door;
pub(crate) mod rules;
mod store;

pub use door::{Limit, Report, list, report};
pub(crate) use store::find_level;

use chrono::{DateTime, Utc};

/// How much of a feature a tenant uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The feature's key.
    pub feature: String,
    /// How much of it is used.
    pub level: i64,
    /// When that was reported, in the tenant's time.
    pub reported_at: DateTime<Utc>,
    /// What the tenant was told of it last.
    pub told: Option<Told>,
}

/// That a tenant was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The share of the limit, in per cent.
    pub percent: u32,
    /// The limit.
    pub limit: u64,
    /// The start of the period.
    pub period: DateTime<Utc>,
}
