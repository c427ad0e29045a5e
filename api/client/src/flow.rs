//! Flow control: limits, pauses of more than one run, breakers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A named bound on visits, shared by the workflows that name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowLimit {
    /// What workflows call it.
    pub name: String,
    /// Visits in flight at once, per key; absent when they are not bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Visits that may begin per period, per key; absent when they are not bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<FlowRate>,
    /// Permits that are out now, over all keys.
    pub in_use: i64,
    /// Runs that wait for room, over all keys.
    pub waiting: i64,
    /// When the numbers were last set.
    pub changed_at: DateTime<Utc>,
    /// The operator who set them; absent when they are the code's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_by: Option<String>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowRate {
    /// Tokens per period, at least 1; they come evenly.
    pub count: u32,
    /// The period, in seconds, at least 1.
    pub period_seconds: u32,
    /// The most tokens saved up, at least 1.
    pub burst: u32,
}

impl FlowLimit {
    /// Its numbers, to be sent back with a change.
    #[must_use]
    pub const fn seen(&self) -> LimitSeen {
        LimitSeen {
            concurrency: self.concurrency,
            rate: self.rate,
        }
    }
}

/// The numbers of a limit as somebody saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSeen {
    /// Visits in flight at once, per key; absent when they were not bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Visits that may begin per period, per key; absent when they were not bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<FlowRate>,
}

/// New numbers for a limit; what is absent is not bounded any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetFlowLimit {
    /// Visits in flight at once, per key; 0 lets nobody begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Visits that may begin per period, per key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<FlowRate>,
    /// Why, 1 to 2,000 characters; kept in the audit.
    pub reason: String,
    /// The numbers as they were seen; with others than these it is refused (409), and says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<LimitSeen>,
}

/// What a pause covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PauseScope {
    /// All runs of a workflow.
    Workflow,
    /// All runs of the workflows of a queue.
    Queue,
    /// All runs of a tenant.
    Tenant,
}

impl PauseScope {
    /// Reads a scope as it is written in requests.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "workflow" => Some(Self::Workflow),
            "queue" => Some(Self::Queue),
            "tenant" => Some(Self::Tenant),
            _ => None,
        }
    }

    /// As it is written in requests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Queue => "queue",
            Self::Tenant => "tenant",
        }
    }
}

/// A pause of more than one run. What becomes due under it is blocked until it is lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    /// What it covers.
    pub scope: PauseScope,
    /// Which workflow, queue or tenant.
    pub name: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Who paused.
    pub paused_by: String,
    /// Why.
    pub reason: String,
    /// Runs that became due meanwhile.
    pub waiting: i64,
}

impl Pause {
    /// What tells it from the next pause of its scope, to be sent back when it is lifted.
    #[must_use]
    pub fn seen(&self) -> PauseSeen {
        PauseSeen {
            since: self.since,
            paused_by: self.paused_by.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// A pause as somebody saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseSeen {
    /// Since when it stood.
    pub since: DateTime<Utc>,
    /// Who paused.
    pub paused_by: String,
    /// Why.
    pub reason: String,
}

/// How many turns a tenant has for one of another's, when both have work due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantWeight {
    /// The tenant.
    pub tenant_id: Uuid,
    /// 1 as all have, to 100.
    pub weight: i16,
}

/// Body of `POST /v1/weights`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetTenantWeight {
    /// The tenant.
    pub tenant_id: Uuid,
    /// 1 as all have, to 100.
    pub weight: i16,
    /// Why, 1 to 2,000 characters; kept in the audit.
    pub reason: String,
    /// The weight as it was seen, 1 of a tenant that is not listed; with another than this it is refused
    /// (409), and says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<i16>,
}

/// Pauses a scope, or lifts its pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActOnPause {
    /// What is to be covered.
    pub scope: PauseScope,
    /// Name of the workflow or queue, or id of the tenant.
    pub name: String,
    /// Why, 1 to 2,000 characters; kept in the audit.
    pub reason: String,
    /// Only to lift one: the pause as it was seen. If that was lifted meanwhile and another stands, it
    /// is refused (409), and says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<PauseSeen>,
}

/// The breaker of an outside dependency that failed at least once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Breaker {
    /// The dependency, as steps name it.
    pub name: String,
    /// `closed` lets all through, `open` nobody, `probing` one.
    pub state: String,
    /// An operator holds it open: no probe closes it.
    pub forced: bool,
    /// Since when it is in this state.
    pub changed_at: DateTime<Utc>,
    /// When a run tries next whether the dependency answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_at: Option<DateTime<Utc>>,
    /// The last error, or the operator's words.
    pub reason: String,
    /// The operator who set it; absent when steps did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_by: Option<String>,
    /// Runs that wait.
    pub waiting: i64,
}

impl Breaker {
    /// What an act on it hangs on, to be sent back with one.
    #[must_use]
    pub fn seen(&self) -> BreakerSeen {
        BreakerSeen {
            state: self.state.clone(),
            forced: self.forced,
            changed_by: self.changed_by.clone(),
        }
    }
}

/// A breaker as somebody saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerSeen {
    /// `closed`, `open` or `probing`.
    pub state: String,
    /// Whether an operator held it open.
    pub forced: bool,
    /// The operator who had set it; absent when steps had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_by: Option<String>,
}

/// Opens or closes a breaker by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActOnBreaker {
    /// Why, 1 to 2,000 characters; kept in the audit.
    pub reason: String,
    /// The breaker as it was seen; if it is not so any more, it is refused (409), and says how it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<BreakerSeen>,
}
