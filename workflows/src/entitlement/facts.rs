//! The facts as `app.entitlement_facts` tells them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tenure_engine::TenantId;
use uuid::Uuid;

use crate::hold::{Blocks, HoldRow, Kind};

/// All that a tenant's entitlements follow from, but for the terms of what it has.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Facts {
    /// Its live subscriptions.
    #[serde(default, deserialize_with = "or_none")]
    pub subscriptions: Vec<SubscriptionFact>,
    /// The holds that shut something, also those that are yet to begin or have ended.
    #[serde(default, deserialize_with = "holds")]
    pub holds: Vec<HoldRow>,
    /// What support decided, also what has expired.
    #[serde(default, deserialize_with = "or_none")]
    pub overrides: Vec<OverrideFact>,
}

/// A live subscription.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SubscriptionFact {
    /// Identity.
    pub subscription_id: Uuid,
    /// The plan's key.
    pub plan: String,
    /// The version that counts.
    pub version: i32,
    /// From when it can be used.
    pub started_at: DateTime<Utc>,
    /// End of the trial.
    #[serde(default)]
    pub trial_ends_at: Option<DateTime<Utc>>,
    /// When it will end, as far as is known.
    #[serde(default)]
    pub ends_at: Option<DateTime<Utc>>,
    /// How many seats it has, with those that the plan includes; what is included if nothing is
    /// said.
    #[serde(default)]
    pub seats: Option<u32>,
    /// Its add-ons.
    #[serde(default, deserialize_with = "or_none")]
    pub add_ons: Vec<AddOnFact>,
}

/// So many of an add-on, for a time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AddOnFact {
    /// The add-on's key.
    pub add_on: String,
    /// The version that counts.
    pub version: i32,
    /// How many.
    pub quantity: u32,
    /// From when, inclusive.
    pub valid_from: DateTime<Utc>,
    /// Until when, exclusive.
    #[serde(default)]
    pub valid_to: Option<DateTime<Utc>>,
}

/// What support decided about a feature.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct OverrideFact {
    /// The feature.
    pub feature: String,
    /// `true`, `false`, a whole number, or a text.
    pub value: Value,
    /// Who decided.
    pub author: String,
    /// Until when it counts, exclusive.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

impl Facts {
    /// Reads what the database told.
    ///
    /// # Errors
    /// When it is of another shape: the schema is another's.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// Postgres aggregates nothing to null.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A hold's row, in the columns' names.
#[derive(Deserialize)]
struct HoldFact {
    hold_id: Uuid,
    tenant_id: Uuid,
    subscription_id: Option<Uuid>,
    kind: String,
    source: Option<String>,
    starts_at: DateTime<Utc>,
    ends_at: Option<DateTime<Utc>>,
    blocks_changes: bool,
    blocks_access: bool,
    blocks_billing: bool,
    reason: String,
    author: String,
    placed_at: DateTime<Utc>,
}

fn holds<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<HoldRow>, D::Error> {
    let found: Vec<HoldFact> = or_none(from)?;
    let hold = |row: HoldFact| {
        let kind = Kind::from_word(&row.kind);
        Ok(HoldRow {
            hold_id: row.hold_id,
            tenant_id: TenantId(row.tenant_id),
            subscription_id: row.subscription_id,
            kind: kind.ok_or_else(|| serde::de::Error::custom("an unknown kind of hold"))?,
            source: row.source,
            starts_at: row.starts_at,
            ends_at: row.ends_at,
            blocks: Blocks::new(row.blocks_changes, row.blocks_access, row.blocks_billing),
            reason: row.reason,
            author: row.author,
            placed_at: row.placed_at,
            lifted: None,
        })
    };
    found.into_iter().map(hold).collect()
}
