//! Runs: starting, listing, looking closely, and the acts of a person.

use crate::{LegalHold, RunStatus};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Body of `POST /v1/runs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRun {
    /// Name of the workflow.
    pub workflow: String,
    /// The tenant the run belongs to.
    pub tenant_id: Uuid,
    /// Business key, unique per tenant and workflow: starting it again returns the first run.
    pub key: String,
    /// The workflow's input.
    pub input: Value,
    /// How urgent it is; as its workflow says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<RunPriority>,
    /// When it starts, in the tenant's time; at once otherwise, or when that has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<DateTime<Utc>>,
    /// Many starts of the key become one run; not together with `priority` or `start_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gather: Option<GatherStarts>,
}

/// How many starts become one run. Each request counts; the run's key is the key, a slash and its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GatherStarts {
    /// It starts with the last input once no other start has come for a while.
    Debounce {
        /// For how long, in seconds.
        quiet_seconds: u32,
        /// At the latest so many seconds after the first.
        at_most_seconds: u32,
    },
    /// It starts with the list of all inputs; the workflow's input is a list.
    Batch {
        /// Once there are so many, 2 to 1,000.
        size: u32,
        /// At the latest so many seconds after the first.
        at_most_seconds: u32,
    },
}

/// Which of what is due is taken first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunPriority {
    /// Before all others.
    Highest,
    /// Before most.
    High,
    /// Where nothing else is said.
    #[default]
    Normal,
    /// After most.
    Low,
    /// After all others.
    Lowest,
}

impl RunPriority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 5] = [
        Self::Highest,
        Self::High,
        Self::Normal,
        Self::Low,
        Self::Lowest,
    ];

    /// As it is written in requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Highest => "highest",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
            Self::Lowest => "lowest",
        }
    }

    /// Reads a priority as it is written in requests.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// Query of `GET /v1/runs`. Every part that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RunFilter {
    /// Name of the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Status on the engine's side; one that does not exist is refused.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "known_status"
    )]
    pub status: Option<RunStatus>,
    /// Name of the workflow's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Uuid>,
    /// The exact business key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Runs per page, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// A filter, such as `workflow:dunning state:past-due age:>3d`; see [`crate::filter`]. The
    /// parameters above are short for terms of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Query of `GET /v1/runs/count`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RunCountFilter {
    /// A filter, as for the list; all runs when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// How many runs a filter finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunCount {
    /// So many, at least.
    pub runs: i64,
    /// Whether there are more, which were not counted.
    pub more: bool,
}

/// A run as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// The run.
    pub run_id: Uuid,
    /// Its tenant.
    pub tenant_id: Uuid,
    /// The tenant's name, where the asker may see it; `system` for runs that are no tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_name: Option<String>,
    /// Name of the workflow.
    pub workflow: String,
    /// Business key, unique per tenant and workflow.
    pub key: String,
    /// Version of the workflow's code that wrote the state.
    pub version: i32,
    /// Where the engine has the run.
    pub status: RunStatus,
    /// Where the workflow is.
    pub state: String,
    /// Raised by each claim.
    pub epoch: i64,
    /// Number of the current visit.
    pub visit: i64,
    /// When it next wants a worker, if a time is known, on the clock below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<DateTime<Utc>>,
    /// The clock that `next_at` is read on: deadlines of a tenant on a test clock pass on that clock,
    /// attempts are planned in real time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_clock: Option<DeadlineClock>,
    /// Tries of the current visit so far.
    pub attempt: i32,
    /// Kind of the trouble of a stuck run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_kind: Option<String>,
    /// The trouble of a stuck run, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_reason: Option<String>,
    /// When it was started, in real time, as are the two below.
    pub started_at: DateTime<Utc>,
    /// When it was started on the tenant's test clock, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_started_at: Option<DateTime<Utc>>,
    /// When its state or status last changed, in real time.
    pub changed_at: DateTime<Utc>,
    /// When it ended, in real time; never before `started_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
}

/// A run, looked at closely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunDetail {
    /// The fields a list shows.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// The data of the current state.
    pub data: Value,
    /// The deadlines of the current state.
    pub deadlines: Vec<Deadline>,
    /// Why the run is where it is.
    pub why: Why,
    /// What the asker may do, and for the rest why not.
    pub allowed_actions: Vec<AllowedAction>,
    /// Send this back with an act: one on a run that moved on is refused.
    pub revision: i64,
    /// The run that started this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_run_id: Option<Uuid>,
    /// Which of what is due is taken first.
    #[serde(default)]
    pub priority: RunPriority,
    /// What a completed run left behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The search attributes that its workflow declares, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Value>,
    /// What steps under way reported last, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub progress: Vec<Progress>,
    /// The legal holds that keep it: its own and its tenant's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legal_holds: Vec<LegalHold>,
    /// The signals that its workflow knows, and what its state does with each; none once it has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<SignalKind>,
}

/// A signal that a run may be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignalKind {
    /// Its name.
    pub name: String,
    /// Its payload, with the names of what it carries and no values.
    #[schema(example = json!({"PaymentFailed": {"invoice_id": null, "code": null}}))]
    pub sketch: Value,
    /// What the run's state does with it; absent where that hangs on what it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reception: Option<SignalReception>,
    /// Why it would be rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a run's state does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalReception {
    /// It is handled.
    Accept,
    /// It waits until the state changes.
    Defer,
    /// It is kept and never handled.
    Reject,
}

/// The last report of a step that works long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// The step.
    pub step: String,
    /// What it reported.
    pub value: Value,
    /// When, in real time.
    pub reported_at: DateTime<Utc>,
}

/// A named time at which a state acts by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deadline {
    /// Its name in the workflow.
    pub name: String,
    /// The instant, on the clock below.
    pub at: DateTime<Utc>,
    /// The clock it is read on.
    pub clock: DeadlineClock,
}

/// A clock that a deadline is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineClock {
    /// The clock on the wall.
    Real,
    /// The tenant's test clock, which only `advance` moves.
    Tenant,
}

/// Why a run is where it is, in words and with the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// Stable snake-case code for programs.
    pub kind: String,
    /// One or two sentences for a person.
    pub summary: String,
    /// The facts behind the sentences.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
}

/// One fact behind an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// What the fact is about.
    pub label: String,
    /// The fact.
    pub value: String,
}

/// One thing a person could do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllowedAction {
    /// The verb: `signal`, `retry`, and so on.
    pub action: String,
    /// What it does, in a sentence or two.
    pub help: String,
    /// What it takes beside a reason, in the order in which a form asks for it: for `signal` the
    /// signal, else members of [`ActionArgs`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<ActionArg>,
    /// Whether `dry_run` says beforehand what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether the asker may do it now.
    pub allowed: bool,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that an act takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActionArg {
    /// The member's name in the body.
    pub name: String,
    /// What is written there.
    pub kind: ArgKind,
    /// Whether the act needs it.
    pub required: bool,
}

/// What is written into an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArgKind {
    /// Any JSON value.
    Json,
    /// An instant, RFC 3339, on the clock that the run's deadlines are on.
    Time,
    /// Text; so is what this client does not know yet.
    #[serde(other)]
    Text,
}

/// Body of `POST /v1/runs/{id}/signals`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendSignal {
    /// Names the signal; the run takes each id once.
    pub id: String,
    /// Kind of the signal; read from the payload when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The value of the workflow's signal enum.
    pub signal: Value,
    /// Why a person sends it; kept in the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answer to everything that reaches a run as a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignalAccepted {
    /// The run whose inbox has it.
    pub run_id: Uuid,
    /// The signal's id.
    pub signal_id: String,
}

/// Body of `POST /v1/runs/{id}/actions/{verb}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActOnRun {
    /// Why; kept in the audit, never empty.
    pub reason: String,
    /// The revision that the person saw.
    pub revision: i64,
    /// Say what would happen, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// What the verb needs beside a reason.
    #[serde(default, skip_serializing_if = "ActionArgs::is_empty")]
    pub args: ActionArgs,
}

/// What stands in the place of a private field of a run or a schedule. Who sends it back with what was
/// shown leaves the field as it is.
pub const MASK: &str = "[private]";

/// Asks for one private field of a run, which everybody else is shown a mask for. That it was asked for
/// is written into the audit; what it holds is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevealField {
    /// Which: a JSON Pointer (RFC 6901) that begins with `/data`, `/output`, `/progress/{step}/value`,
    /// `/steps/{visit}/{seq}/answer` or `/signals/{signal_id}/payload`.
    pub field: String,
    /// Why; kept in the audit, never empty.
    pub reason: String,
}

/// A private field, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RevealedField {
    /// Which.
    pub field: String,
    /// What it holds.
    pub value: Value,
}

/// What verbs need; one that a verb does not take is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionArgs {
    /// `skip-step`: what the step would have answered.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    pub answer: Option<Value>,
    /// `fail-step`: the error's stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// `fail-step`: the error in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `edit-state`, `move`, `restart`: the whole state, as the workflow encodes it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    pub state: Option<Value>,
    /// `move-deadline`, `fire-deadline`: the deadline's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `move-deadline`: when it passes, in the tenant's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// `restart`: the new run's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `restart`: the input with which it starts over, instead of a state.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    pub input: Option<Value>,
    /// `signal`, to many runs: the message, as the workflow encodes it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given"
    )]
    pub signal: Option<Value>,
}

impl ActionArgs {
    /// Whether nothing is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Tells a `null` that was given from a value that was not.
pub(crate) fn given<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(source).map(Some)
}

/// Answer to an act on a run: what it did, or with `dry_run` would have done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActionAccepted {
    /// The run.
    pub run_id: Uuid,
    /// Its revision after the act.
    pub revision: i64,
    /// Nothing was done.
    #[serde(default)]
    pub dry_run: bool,
    /// Status, state, data, deadlines and revision before.
    pub before: Value,
    /// The same afterwards.
    pub after: Value,
    /// What follows, in words.
    #[serde(default)]
    pub effects: Vec<String>,
    /// `restart`: the new run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_run_id: Option<Uuid>,
}

/// Answers may name statuses from the future, questions may not.
fn known_status<'de, D: Deserializer<'de>>(source: D) -> Result<Option<RunStatus>, D::Error> {
    match Option::deserialize(source)? {
        Some(RunStatus::Unknown) => Err(serde::de::Error::custom(RunStatus::known())),
        status => Ok(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_refuses_what_it_does_not_know() {
        let filter: RunFilter = serde_json::from_str(r#"{"status": "no_handler"}"#).unwrap();
        assert_eq!(filter.status, Some(RunStatus::NoHandler));
        assert!(serde_json::from_str::<RunFilter>(r#"{"status": "lost"}"#).is_err());
        assert!(serde_json::from_str::<RunFilter>(r#"{"colour": "red"}"#).is_err());
    }

    #[test]
    fn an_answer_may_name_a_status_from_the_future() {
        let status: RunStatus = serde_json::from_str(r#""hibernating""#).unwrap();
        assert_eq!(status, RunStatus::Unknown);
    }
}
