//! Schedules: cron entries whose slots start runs, and the acts of a person on them.

use crate::run::given;
use crate::{AllowedAction, RunStatus};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// What a slot does while a run of an earlier slot has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverlapPolicy {
    /// It is skipped, visibly.
    #[default]
    Skip,
    /// It waits until the earlier run ends.
    Queue,
    /// It starts all the same.
    Allow,
    /// The earlier run is asked to cancel, and the slot starts when it has ended.
    Replace,
    /// A policy that is newer than this client.
    #[serde(other)]
    Unknown,
}

/// Which slots are made up that no worker was there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUpPolicy {
    /// None that is older than a minute.
    None,
    /// The latest.
    #[default]
    One,
    /// All of them, in order.
    All,
    /// A policy that is newer than this client.
    #[serde(other)]
    Unknown,
}

impl OverlapPolicy {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::Allow => "allow",
            Self::Replace => "replace",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the word of the API.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Skip, Self::Queue, Self::Allow, Self::Replace]
            .into_iter()
            .find(|policy| policy.as_str() == word)
    }
}

impl CatchUpPolicy {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::One => "one",
            Self::All => "all",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the word of the API.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::None, Self::One, Self::All]
            .into_iter()
            .find(|policy| policy.as_str() == word)
    }
}

/// Body of `POST /v1/schedules`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    /// The owner of the schedule and of its runs.
    pub tenant_id: Uuid,
    /// Letters, digits, dots, underscores, dashes; unique per tenant. Part of the keys of its runs.
    #[schema(example = "nightly-report")]
    pub name: String,
    /// Name of the workflow that it starts.
    pub workflow: String,
    /// The workflow's input, the same for each run.
    pub input: Value,
    /// Minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, @yearly.
    #[schema(example = "30 2 * * MON-FRI")]
    pub cron: String,
    /// IANA time zone in which the expression is read.
    #[schema(example = "Europe/Berlin")]
    pub zone: String,
    /// What a slot does while a run of an earlier slot has not ended.
    #[serde(default)]
    pub overlap: OverlapPolicy,
    /// Which slots are made up that no worker was there for.
    #[serde(default)]
    pub catch_up: CatchUpPolicy,
    /// Up to how long after its slot a run becomes due, 0 to 86400.
    #[serde(default)]
    pub jitter_seconds: i32,
    /// Why; kept in the audit, never empty.
    pub reason: String,
}

/// Body of `PATCH /v1/schedules/{id}`; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSchedule {
    /// The workflow's input.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    pub input: Option<Value>,
    /// Minute, hour, day of month, month, day of week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// IANA time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What a slot does while a run of an earlier slot has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<OverlapPolicy>,
    /// Which slots are made up that no worker was there for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUpPolicy>,
    /// Up to how long after its slot a run becomes due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_seconds: Option<i32>,
    /// Why; kept in the audit, never empty.
    pub reason: String,
    /// The revision that the person saw.
    pub revision: i64,
}

/// Body of the acts on a schedule, and query of `DELETE /v1/schedules/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ActOnSchedule {
    /// Why; kept in the audit, never empty.
    pub reason: String,
    /// The revision that the person saw.
    pub revision: i64,
}

/// Query of `GET /v1/schedules`. Every part that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ScheduleFilter {
    /// The owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Uuid>,
    /// Name of the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The exact name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Schedules per page, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A cron entry whose slots start runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// The schedule.
    pub schedule_id: Uuid,
    /// The owner of the schedule and of its runs.
    pub tenant_id: Uuid,
    /// The tenant's name in lists, where the asker may see it; `system` for what is no tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_name: Option<String>,
    /// The test clock that its slots follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_clock_id: Option<Uuid>,
    /// Its name, unique per tenant.
    pub name: String,
    /// Name of the workflow that it starts.
    pub workflow: String,
    /// The input of each run.
    pub input: Value,
    /// The cron expression.
    pub cron: String,
    /// IANA time zone in which the expression is read.
    pub zone: String,
    /// What a slot does while a run of an earlier slot has not ended.
    pub overlap: OverlapPolicy,
    /// Which slots are made up that no worker was there for.
    pub catch_up: CatchUpPolicy,
    /// Up to how long after its slot a run becomes due.
    pub jitter_seconds: i32,
    /// Whether a person has paused it.
    pub paused: bool,
    /// Send this back with an act: one on a schedule that moved on is refused.
    pub revision: i64,
    /// The next slot, on the tenant's clock; absent while it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_slot: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When a person last changed it.
    pub changed_at: DateTime<Utc>,
}

/// A schedule, looked at closely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDetail {
    /// The fields a list shows.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// The next ten slots.
    pub coming: Vec<DateTime<Utc>>,
    /// What became of the last fifty slots, latest first.
    pub slots: Vec<Slot>,
    /// What the asker may do, and for the rest why not.
    pub allowed_actions: Vec<AllowedAction>,
}

/// A slot and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Slot {
    /// When, on the tenant's clock; of an extra run, when it was asked for.
    pub slot: DateTime<Utc>,
    /// The last slot of a stretch that was skipped as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// What became of it.
    pub outcome: SlotOutcome,
    /// Why it was skipped: `missed`, `overlap`, `replaced`, or `refused: …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The run that it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
    /// Where the engine has that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_status: Option<RunStatus>,
    /// The business key of the run.
    pub key: String,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotOutcome {
    /// It started a run.
    Started,
    /// It waits for an earlier run to end.
    Queued,
    /// It was skipped.
    Skipped,
    /// An outcome that is newer than this client.
    #[serde(other)]
    Unknown,
}

/// Answer to `run-now`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleRunStarted {
    /// The schedule.
    pub schedule_id: Uuid,
    /// The extra run.
    pub run_id: Uuid,
}

/// Answer to `DELETE /v1/schedules/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDeleted {
    /// The schedule that is gone.
    pub schedule_id: Uuid,
}
