//! Holds: why a tenant or a subscription may not change, be used or be billed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// What a hold is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// The tenant wished a pause.
    CustomerPause,
    /// Something is owed, and the tenant has time to pay.
    DebtGrace,
    /// Something is owed, and the time is over.
    DebtSuspension,
    /// Fraud is suspected.
    Fraud,
    /// A case at law.
    Legal,
    /// The tenant is being deleted.
    TenantDeletion,
    /// Something that is newer than this client.
    #[serde(other)]
    Unknown,
}

impl HoldKind {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CustomerPause => "customer_pause",
            Self::DebtGrace => "debt_grace",
            Self::DebtSuspension => "debt_suspension",
            Self::Fraud => "fraud",
            Self::Legal => "legal",
            Self::TenantDeletion => "tenant_deletion",
            Self::Unknown => "unknown",
        }
    }
}

/// Which of the three a hold blocks; what is not named is not blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldBlocks {
    /// Plan, quantity and new subscriptions are refused.
    #[serde(default)]
    pub changes: bool,
    /// The product is shut.
    #[serde(default)]
    pub access: bool,
    /// Nothing is invoiced.
    #[serde(default)]
    pub billing: bool,
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// Identity.
    pub hold_id: Uuid,
    /// The tenant.
    pub tenant_id: Uuid,
    /// The one subscription that is held; absent when all that is the tenant's is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<Uuid>,
    /// What it is for.
    pub kind: HoldKind,
    /// The run that placed it and lifts it by itself; absent when a person placed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "dunning/EUR")]
    pub source: Option<String>,
    /// From when it counts, inclusive, in the tenant's time.
    pub starts_at: DateTime<Utc>,
    /// Until when it counts, exclusive; absent until it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<DateTime<Utc>>,
    /// What it blocks.
    pub blocks: HoldBlocks,
    /// Who placed it.
    pub author: String,
    /// Why, in their words.
    pub reason: String,
    /// When, in the tenant's time.
    pub placed_at: DateTime<Utc>,
    /// When it was lifted, in the tenant's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted_at: Option<DateTime<Utc>>,
    /// Who lifted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted_by: Option<String>,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lift_reason: Option<String>,
}

/// Whether something can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// As bought.
    On,
    /// What is there can be used; nothing can be added or changed.
    ReadOnly,
    /// Shut.
    Off,
    /// Something that is newer than this client.
    #[serde(other)]
    Unknown,
}

impl Service {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::ReadOnly => "read_only",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

/// Holds, and what they come to now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holds {
    /// Whether the subscription that was asked for, or all that is the tenant's, can be used.
    pub service: Service,
    /// The hold that blocks changes, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_blocked_by: Option<Uuid>,
    /// The hold that shuts the product, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_blocked_by: Option<Uuid>,
    /// The hold that stops billing, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_blocked_by: Option<Uuid>,
    /// The holds, newest first.
    pub holds: Vec<Hold>,
}

/// Query of `GET /v1/tenants/{id}/holds`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct HoldFilter {
    /// On this subscription: its own holds, and those on all that is the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<Uuid>,
    /// Also those that were lifted or have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<bool>,
}

/// Body of `POST /v1/tenants/{id}/holds`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceHold {
    /// What it is for: `customer_pause`, `fraud` or `legal`.
    pub kind: HoldKind,
    /// The one subscription; all that is the tenant's when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<Uuid>,
    /// From when on, in the tenant's time; now when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<DateTime<Utc>>,
    /// Until when; until it is lifted when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<DateTime<Utc>>,
    /// What it blocks; what its kind does when none is given: `legal` changes, the others all three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<HoldBlocks>,
    /// Why; kept with it and in the audit, never empty.
    pub reason: String,
}

/// Body of `POST /v1/tenants/{id}/holds/{hold_id}/lift`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LiftHold {
    /// Why; kept with it and in the audit, never empty.
    pub reason: String,
}
