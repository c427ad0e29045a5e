//! Entitlements: which features and limits a tenant has now, and why.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::HoldKind;

/// Why a feature has its value, in `OpenFeature`'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntitlementReason {
    /// It was bought: a plan or an add-on says so.
    TargetingMatch,
    /// Support has set it.
    Static,
    /// It was bought, and a hold has shut it.
    Disabled,
    /// Nothing that the tenant has names it.
    Default,
    /// Something that is newer than this client.
    #[serde(other)]
    Unknown,
}

impl EntitlementReason {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Static => "STATIC",
            Self::Disabled => "DISABLED",
            Self::Default => "DEFAULT",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Where a feature's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntitlementSource {
    /// A plan.
    Plan {
        /// The subscription.
        subscription_id: Uuid,
        /// Its plan.
        plan: String,
        /// The version of the plan that it has.
        version: i32,
    },
    /// Add-ons, which changed what the plan says.
    AddOn {
        /// The subscription.
        subscription_id: Uuid,
        /// Its plan.
        plan: String,
        /// The version of the plan that it has.
        version: i32,
        /// The add-ons, and how many of each.
        add_ons: Vec<EntitlementAddOn>,
    },
    /// Support.
    Override {
        /// Who decided.
        author: String,
        /// Until when it counts, in the tenant's time; absent until it is cleared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<DateTime<Utc>>,
    },
    /// A hold, which has shut it.
    Hold {
        /// The hold.
        hold_id: Uuid,
        /// What it is for.
        hold: HoldKind,
    },
    /// Something that is newer than this client.
    #[serde(other)]
    Unknown,
}

/// So many of an add-on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntitlementAddOn {
    /// Its key.
    pub add_on: String,
    /// How many.
    pub quantity: u32,
}

/// What a tenant has of a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entitlement {
    /// `true`, `false`, a number as a limit, or a text; null where nothing names the feature, and
    /// for a text that is shut.
    #[schema(value_type = Value)]
    pub value: Value,
    /// Whether it can be used at all: `true`, a number above 0, or a text.
    pub enabled: bool,
    /// Why.
    pub reason: EntitlementReason,
    /// From where; absent where nothing names the feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<EntitlementSource>,
}

impl Entitlement {
    /// Why the feature has its value, in words.
    pub fn because(&self) -> String {
        let until = |at: &DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        match &self.source {
            Some(EntitlementSource::Plan { plan, version, .. }) => {
                format!("plan {plan}, version {version}")
            }
            Some(EntitlementSource::AddOn {
                plan,
                version,
                add_ons,
                ..
            }) => {
                let add_ons: Vec<String> = add_ons
                    .iter()
                    .map(|one| format!("{} x {}", one.quantity, one.add_on))
                    .collect();
                let add_ons = add_ons.join(", ");
                format!("plan {plan}, version {version}, with {add_ons}")
            }
            Some(EntitlementSource::Override { author, expires_at }) => {
                let until = expires_at
                    .as_ref()
                    .map(|at| format!(", until {}", until(at)));
                format!("override by {author}{}", until.unwrap_or_default())
            }
            Some(EntitlementSource::Hold { hold_id, hold }) => {
                format!("shut by hold {hold_id} ({})", hold.as_str())
            }
            _ => self.reason.as_str().to_owned(),
        }
    }
}

/// All that a tenant has. The answer's `ETag` stands for it as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entitlements {
    /// The tenant.
    pub tenant_id: Uuid,
    /// The instant from which on it may be something else with nobody acting, in the tenant's time;
    /// absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<DateTime<Utc>>,
    /// What it has, by feature.
    pub features: BTreeMap<String, Entitlement>,
}

/// What a tenant has of one feature, as `GET /v1/tenants/{id}/entitlements/{feature}` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeatureEntitlement {
    /// The feature.
    pub feature: String,
    /// What it has of it.
    #[serde(flatten)]
    pub entitlement: Entitlement,
    /// The instant from which on it may be something else with nobody acting, in the tenant's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<DateTime<Utc>>,
}

/// What support gives a tenant in place of what it has bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntitlementOverride {
    /// The feature.
    pub feature: String,
    /// `true`, `false`, a whole number, or a text.
    #[schema(value_type = Value)]
    pub value: Value,
    /// Why.
    pub reason: String,
    /// Who decided.
    pub author: String,
    /// When, in the tenant's time.
    pub set_at: DateTime<Utc>,
    /// Until when it counts, in the tenant's time; absent until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// Body of `PUT /v1/tenants/{id}/overrides/{feature}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetOverride {
    /// `true`, `false`, a whole number, or a text.
    #[schema(value_type = Value)]
    pub value: Value,
    /// Until when it counts, in the tenant's time; until it is cleared when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Why; kept with it and in the audit, never empty.
    pub reason: String,
}

/// Query of `DELETE /v1/tenants/{id}/overrides/{feature}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ClearOverride {
    /// Why; kept in the audit, never empty.
    pub reason: String,
}
