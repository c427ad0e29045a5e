//! Entitlements: which features and limits a tenant has now, and why.
//!
//! They follow from rows that others own (subscriptions and what they have, holds) and from
//! overrides, which are owned here. Nothing that is derived is stored. An answer is a function of
//! the facts and of the tenant's time, in [`rules`]; `app.entitlement_facts` reads the facts in one
//! statement and one snapshot.
//!
//! What a process keeps between requests cannot become untrue: published versions never change
//! ([`Offers`]), and an answer is kept beside the very facts that it follows from, with the time at
//! which it has to be worked out anew. So any number of API nodes agree, a transition counts from
//! its commit on, and no owner of a fact has to tell anybody. A version row per tenant, raised by
//! each owner, would spare a read some index look-ups and cost every renewal a write; and an owner
//! that forgot it would leave a tenant with what it no longer pays for.
//!
//! Not here: what holds come to for changes and billing ([`crate::hold`]), and counting usage
//! against a limit.

mod door;
mod facts;
mod offer;
pub mod rules;
mod store;

pub use door::{NewOverride, clear, find, list, set};
pub use facts::{AddOnFact, Facts, OverrideFact, SubscriptionFact};
pub use offer::{Offer, OfferKey, Offers};
pub use rules::{Entitlement, Granted, Reason, Source};

use chrono::{DateTime, Utc};
use serde_json::Value;

/// What support gives a tenant in place of what it has bought.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The feature's key.
    pub feature: String,
    /// `true`, `false`, a whole number, or a text.
    pub value: Value,
    /// Why, in the author's words.
    pub reason: String,
    /// Who set it.
    pub author: String,
    /// When, in the tenant's time.
    pub set_at: DateTime<Utc>,
    /// Until when it counts, exclusive, in the tenant's time.
    pub expires_at: Option<DateTime<Utc>>,
}
