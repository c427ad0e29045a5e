//! The log of a run: its steps, its transitions and its inbox.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// One answered step of a visit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// The visit it belongs to.
    pub visit: i64,
    /// Its place within the visit.
    pub seq: i32,
    /// Its name in the workflow.
    pub name: String,
    /// What it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    /// What went wrong, as code, message and details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// When it was written down, in real time.
    pub recorded_at: DateTime<Utc>,
}

/// One visit's outcome: what came, and where the run went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Transition {
    /// The visit.
    pub visit: i64,
    /// When it was settled, in real time.
    pub at: DateTime<Utc>,
    /// What the tenant's test clock showed then, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_at: Option<DateTime<Utc>>,
    /// What came: `entered`, a signal, a deadline, a finished run, an act.
    pub event: String,
    /// The state before; absent at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_state: Option<String>,
    /// The state after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_state: Option<String>,
    /// What the workflow answered: moved, stayed, completed, failed, and so on.
    pub outcome: String,
    /// Further facts, such as the reason and the before and after of a person's act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
    /// Who did it, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// A message in a run's inbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Signal {
    /// Its id, taken once per run.
    pub signal_id: String,
    /// Its kind.
    pub name: String,
    /// What it says.
    pub payload: Value,
    /// When it arrived, in real time.
    pub received_at: DateTime<Utc>,
    /// What the tenant's test clock showed then, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_received_at: Option<DateTime<Utc>>,
    /// What became of it.
    pub outcome: SignalOutcome,
    /// Why it was rejected or came late, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalOutcome {
    /// Not taken yet: the run is busy, or its state defers this kind.
    Pending,
    /// The run took it.
    Accepted,
    /// The run's state refuses this kind.
    Rejected,
    /// The run had ended.
    Late,
}

impl SignalOutcome {
    /// The word that JSON has for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Late => "late",
        }
    }
}
