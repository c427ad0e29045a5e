//! One verb to many runs: prepare, confirm the number, watch, abort.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::ActionArgs;

/// Body of `POST /v1/bulk-operations`: freezes what the filter finds, and does nothing yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrepareBulk {
    /// Which runs; see `GET /v1/runs`. An empty one is refused.
    pub filter: String,
    /// What is done to each: a verb of `POST /v1/runs/{run_id}/actions/{verb}`, or `signal`.
    /// A restarted run's key is the old one with the operation's id behind it.
    pub verb: String,
    /// The verb's arguments, the same for all.
    #[serde(default)]
    pub args: ActionArgs,
    /// Why, up to 1,900 characters; kept in the audit of each run.
    pub reason: String,
    /// Runs per second, 1 to 500.
    #[serde(default = "ten")]
    pub pace: i32,
    /// Stop when so many runs have refused the verb; absent, it goes on to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<i32>,
}

fn ten() -> i32 {
    10
}

/// Body of `POST /v1/bulk-operations/{id}/confirm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmBulk {
    /// How many runs are acted on: the `selected` that was shown, as a person typed it.
    pub runs: i64,
    /// Why; kept in the audit.
    pub reason: String,
}

/// Body of `POST /v1/bulk-operations/{id}/abort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AbortBulk {
    /// Why; kept in the audit.
    pub reason: String,
}

/// Query of `GET /v1/bulk-operations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct BulkFilter {
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Operations per page, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Query of `GET /v1/bulk-operations/{id}/results`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct BulkResultFilter {
    /// Only these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<BulkOutcome>,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Runs per page, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// One verb to many runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkOperation {
    /// Identity.
    pub bulk_operation_id: Uuid,
    /// Where it is.
    pub status: BulkStatus,
    /// What is done to each run.
    pub verb: String,
    /// The filter as it was written; the frozen selection is what counts.
    pub filter: String,
    /// Runs per second.
    pub pace: i32,
    /// It stops when so many runs have refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<i32>,
    /// How many runs the selection has: the number to confirm.
    pub selected: i32,
    /// How many the verb was done to.
    pub done: i64,
    /// How many were left alone because they had moved on since they were selected.
    pub moved: i64,
    /// How many refused.
    pub refused: i64,
    /// Who asked for it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When the selection was frozen.
    pub created_at: DateTime<Utc>,
    /// When somebody confirmed the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_at: Option<DateTime<Utc>>,
    /// When it was done, stopped or aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkStatus {
    /// Its selection is frozen; nothing was done.
    Prepared,
    /// It acts.
    Acting,
    /// It has come to the end of its selection.
    Done,
    /// Too many runs refused.
    Stopped,
    /// Somebody ended it.
    Aborted,
    /// A status that is newer than this client.
    #[serde(other)]
    Unknown,
}

impl BulkStatus {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Acting => "acting",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
        }
    }
}

/// A run of a selection, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkResult {
    /// The run.
    pub run_id: Uuid,
    /// Its tenant.
    pub tenant_id: Uuid,
    /// The tenant's name, where the asker may see it; `system` for runs that are no tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_name: Option<String>,
    /// Its workflow.
    pub workflow: String,
    /// Its business key.
    pub key: String,
    /// What came of it.
    pub outcome: BulkOutcome,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_at: Option<DateTime<Utc>>,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkOutcome {
    /// It was not acted on, or not yet.
    Pending,
    /// The verb was done.
    Done,
    /// It had moved on since it was selected, and was left alone.
    Moved,
    /// It refused the verb.
    Refused,
}

impl BulkOutcome {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Moved => "moved",
            Self::Refused => "refused",
        }
    }
}
