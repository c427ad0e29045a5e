//! Retention of finished runs, and legal holds.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// What becomes of a workflow's runs after their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetentionAction {
    /// They are kept for ever.
    Keep,
    /// They are dropped after some days.
    Drop,
    /// They are written to the archive after some days, and then dropped.
    Archive,
    /// Something that is newer than this client.
    #[serde(other)]
    Unknown,
}

impl RetentionAction {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::Archive => "archive",
            Self::Unknown => "unknown",
        }
    }
}

/// How long the finished runs of a workflow are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionPolicy {
    /// Name of the workflow.
    pub workflow: String,
    /// What becomes of its runs.
    pub action: RetentionAction,
    /// Days after the end; absent when they are kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u32>,
    /// Who decided it; absent when it is what the workflow's code declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_by: Option<String>,
    /// When they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<DateTime<Utc>>,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Body of `PUT /v1/retention/{workflow}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutRetention {
    /// What becomes of the workflow's runs.
    pub action: RetentionAction,
    /// Days after the end; none with action `keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u32>,
    /// Why; kept in the audit, never empty.
    pub reason: String,
}

/// A reason why nothing of a tenant or a run is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LegalHold {
    /// Identity.
    pub hold_id: Uuid,
    /// The tenant.
    pub tenant_id: Uuid,
    /// The run; absent when all that is the tenant's is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Who placed it.
    pub author: String,
    /// Why, in their words.
    pub reason: String,
}

/// Body of `POST /v1/legal-holds`: a tenant or a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceLegalHold {
    /// The tenant, to hold all that is its.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Uuid>,
    /// The run, to hold that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
    /// Why; kept in the audit, never empty.
    pub reason: String,
}

/// Query of `DELETE /v1/legal-holds/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LiftLegalHold {
    /// Why; kept in the audit, never empty.
    pub reason: String,
}

/// Query of `GET /v1/legal-holds`. Every part that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LegalHoldFilter {
    /// On this tenant, or on a run of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Uuid>,
    /// On this run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Holds per page, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
