//! Keys that seal a tenant's payloads.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A version of a tenant's key; the key itself is never shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DataKey {
    /// Counts from 1; the newest whose time has come seals, older ones open what they sealed.
    pub version: u32,
    /// Name of the master key that wraps it.
    pub master_key: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it seals.
    pub usable_at: DateTime<Utc>,
    /// When it was destroyed; absent while it opens what it sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed_at: Option<DateTime<Utc>>,
}

/// Body of `POST /v1/tenants/{tenant_id}/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// Why; kept in the audit, never empty.
    pub reason: String,
}

/// Why a tenant's keys are destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DestroyKeys {
    /// Kept in the audit, never empty.
    pub reason: String,
}

/// Body of `POST /v1/keys/actions/rewrap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RewrapKeys {
    /// How many at most, 1 to 1,000.
    pub limit: u32,
    /// Why, 1 to 2,000 characters; kept in the audit.
    pub reason: String,
}

/// How many keys were wrapped anew; none are left when it is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeysRewrapped {
    /// How many.
    pub rewrapped: u32,
}
