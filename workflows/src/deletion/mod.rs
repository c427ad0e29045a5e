//! The deletion of a tenant: two people, a time to think, then everything goes, and a certificate says
//! what went. A run of the system tenant, with rows and a key of the system tenant, so that a deletion
//! does not erase itself.
//!
//! ```text
//! Requested ─ approved by another ─ Verified ─ CoolingOff ─ Exporting ─┬─ Ending ─ Ready
//!     └──────────────────── cancel, restore ───────────────────┘       │    the point of no return
//!                                       Erasing(n of m) ─ ThirdParties ─ Verifying ─ certified
//! Held: a hold in law stands; goes on by itself when it is lifted.
//! FailedStep: what is named there has to be mended; `retry` goes on where it stopped, by the newest data
//! map: what has not begun is planned anew.
//! ```
//!
//! There is no way from a failure to *certified* but through *Verifying*: a tenant that is half erased
//! is never told to be done. What is kept, and why, is data: the product's in its data map, Tenure's
//! own in `own.rs`; of archives what `archives.rs` finds in the retention policy.

mod archives;
pub mod door;
mod erase;
pub mod own;
pub mod rules;
mod steps;
mod store;

pub use archives::KeptArchivesWorkflow;
pub use rules::Stage;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};
use tenure_engine::{
    Context, Event, Guard, GuardNeed, Reception, RunId, StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use crate::environment::Environment;
use crate::export;

/// A deletion, as its row says.
#[derive(Debug, Clone, PartialEq)]
pub struct DeletionRow {
    /// Identity.
    pub deletion_id: Uuid,
    /// The tenant.
    pub subject: TenantId,
    /// The run that does it.
    pub run_id: RunId,
    /// Where it is.
    pub state: String,
    /// What it waits for, or what failed.
    pub detail: Option<String>,
    /// Why it was asked for.
    pub reason: String,
    /// Who asked.
    pub requested_by: String,
    /// When.
    pub requested_at: DateTime<Utc>,
    /// When it should be done.
    pub due_at: DateTime<Utc>,
    /// How long it can be taken back after it was approved.
    pub cooling_off_days: i32,
    /// How long backups are kept.
    pub backup_days: i32,
    /// The second person.
    pub approved_by: Option<String>,
    /// When.
    pub approved_at: Option<DateTime<Utc>>,
    /// Until when it can be taken back.
    pub cools_until: Option<DateTime<Utc>>,
    /// When the point of no return was passed.
    pub final_at: Option<DateTime<Utc>>,
    /// When it was certified or cancelled.
    pub ended_at: Option<DateTime<Utc>>,
    /// 0 none, 1 its deadline is near, 2 it has passed.
    pub alerts: i32,
    /// The export that the tenant takes along.
    pub export_id: Option<Uuid>,
    /// The signed certificate.
    pub certificate: Option<Value>,
}

/// A step of the plan, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its place, from 1.
    pub seq: i32,
    /// What it is.
    pub planned: rules::Planned,
    /// Rows that were met.
    pub found: i64,
    /// Rows that are gone.
    pub erased: i64,
    /// Rows that stay with their personal fields emptied.
    pub masked: i64,
    /// Rows that stay as they are.
    pub kept: i64,
    /// How many chunks it had.
    pub(crate) chunk: i64,
    /// Where the next one begins.
    pub(crate) after: Option<String>,
    /// When its turn is; by `seq` where a plan was never made anew.
    pub(crate) place: i32,
    /// When it was done.
    pub done_at: Option<DateTime<Utc>>,
}

// Input.

/// Which deletion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The row.
    pub deletion_id: Uuid,
    /// The tenant.
    pub subject: TenantId,
    /// When it should be done.
    pub due_at: DateTime<Utc>,
    /// The export that the tenant takes along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<export::Input>,
}

// States and signals.

/// What a deletion remembers everywhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The row.
    pub deletion_id: Uuid,
    /// The tenant.
    pub subject: TenantId,
    /// When it should be done.
    pub due_at: DateTime<Utc>,
    /// How often its deadline was called out.
    #[serde(default)]
    pub alerts: i32,
    /// The version of the data map that it goes by.
    #[serde(default)]
    pub map_version: Option<i32>,
    /// What was accepted to be left, and by whom.
    #[serde(default)]
    pub accepted: Option<String>,
    /// What was found to be left when somebody was last told: nothing else is accepted.
    #[serde(default)]
    pub(crate) left: Vec<erase::Leftover>,
    /// The export that the tenant takes along.
    #[serde(default)]
    pub export: Option<export::Input>,
}

/// Where a deletion is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// Waits for a second person.
    Requested {
        /// What it is about.
        job: Job,
    },
    /// Looks at everything, and does nothing.
    Verified {
        /// What it is about.
        job: Job,
    },
    /// Can be taken back.
    CoolingOff {
        /// What it is about.
        job: Job,
    },
    /// A hold in law stands.
    Held {
        /// What it is about.
        job: Job,
        /// Where it goes on.
        back: Stage,
        /// What the hold says.
        reason: String,
    },
    /// The tenant's runs come to their end.
    Ending {
        /// What it is about.
        job: Job,
        /// Since when.
        #[serde(default)]
        since: Option<DateTime<Utc>>,
        /// Since when those that are left have been asked to cancel.
        #[serde(default)]
        asked: Option<DateTime<Utc>>,
    },
    /// What the tenant takes along is written.
    Exporting {
        /// What it is about.
        job: Job,
        /// Whether the point of no return has passed, as it had in runs of version 1.
        #[serde(default)]
        past: bool,
    },
    /// The plan is made.
    Ready {
        /// What it is about.
        job: Job,
    },
    /// Rows go.
    Erasing {
        /// What it is about.
        job: Job,
        /// The step, from 1.
        step: i32,
        /// Of so many.
        of: i32,
        /// Rows of the next chunk.
        chunk: i64,
    },
    /// Others are told.
    ThirdParties {
        /// What it is about.
        job: Job,
    },
    /// It is looked for what should be gone.
    Verifying {
        /// What it is about.
        job: Job,
    },
    /// Somebody has to do something first.
    FailedStep {
        /// What it is about.
        job: Job,
        /// Where it goes on.
        at: Stage,
        /// What kind of failure, such as `trigger_failed`.
        code: String,
        /// What failed.
        message: String,
    },
}

/// What a deletion may be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// The second person agrees.
    Approve {
        /// Who.
        by: String,
    },
    /// It is taken back: the tenant is as before.
    Cancel {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// What was named is mended, or a hold was lifted or placed: look again.
    Retry {
        /// Who.
        by: String,
    },
    /// What was found after erasing may stay.
    Accept {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

/// What it leaves behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Output {
    /// The end of the chain of what was done.
    pub chain: String,
}

/// The workflow.
pub struct DeletionWorkflow {
    environment: Environment,
}

impl DeletionWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

/// Look again.
const LOOK: &str = "look";
/// The time to think is over.
const COOLED: &str = "cooled-off";
/// Its deadline is near, or has passed.
const NEAR: &str = "due-soon";
const OVERDUE: &str = "overdue";
/// How often a hold is looked at again.
const HOLD_EVERY: Duration = Duration::from_secs(60);
/// How often an export that is being written is looked at.
const EXPORT_EVERY: Duration = Duration::from_secs(1);
/// How often the tenant's runs are looked at while they end.
const END_EVERY: Duration = Duration::from_millis(500);

// Handle.

impl Workflow for DeletionWorkflow {
    const NAME: &'static str = "deletion";
    const VERSION: i32 = 2;
    const GUARD: Guard = Guard {
        start: GuardNeed::Door("POST /v1/deletions (tenure deletion request)"),
        signals: &[
            (
                "Approve",
                GuardNeed::Door(
                    "POST /v1/deletions/{deletion_id}/approve (tenure deletion approve)",
                ),
            ),
            (
                "Cancel",
                GuardNeed::Door("POST /v1/deletions/{deletion_id}/cancel (tenure deletion cancel)"),
            ),
            (
                "Retry",
                GuardNeed::Door("POST /v1/deletions/{deletion_id}/retry (tenure deletion retry)"),
            ),
            (
                "Accept",
                GuardNeed::Door("POST /v1/deletions/{deletion_id}/accept (tenure deletion accept)"),
            ),
        ],
        verbs: GuardNeed::Door("the acts on /v1/deletions/{deletion_id} (tenure deletion --help)"),
        // A tenant that is erased by half is nobody's to leave so.
        ends: GuardNeed::Door(
            "POST /v1/deletions/{deletion_id}/cancel (tenure deletion cancel) until the point of no \
             return; after it a deletion goes on to its end, with retry or accept where it has stopped",
        ),
    };
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Output;

    fn start(&self, input: Input) -> State {
        State::Requested {
            job: Job {
                deletion_id: input.deletion_id,
                subject: input.subject,
                due_at: input.due_at,
                alerts: 0,
                map_version: None,
                accepted: None,
                left: Vec::new(),
                export: input.export,
            },
        }
    }

    fn migrate(&self, from_version: i32, state: Value) -> Result<Value, String> {
        match from_version {
            1 => Ok(lift(state)),
            other => Err(format!("no deletion was ever of version {other}")),
        }
    }

    fn receive(&self, state: &State, signal: &Signal) -> Reception {
        receive(state, signal)
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        let moved = match (state, event) {
            (state, Event::Deadline(name)) if name == NEAR => self.alert(cx, state, 1).await?,
            (state, Event::Deadline(name)) if name == OVERDUE => self.alert(cx, state, 2).await?,
            (State::Requested { job }, Event::Signal(Signal::Approve { by })) => {
                self.approve(cx, job, &by).await?
            }
            (state, Event::Signal(Signal::Cancel { by, reason })) => {
                return self.cancel(cx, state, (&by, &reason)).await;
            }
            (state, Event::CancelRequested) => {
                let why = ("operator", "the run was asked to end");
                return self.cancel(cx, state, why).await;
            }
            (State::FailedStep { job, at, .. }, Event::Signal(Signal::Retry { by })) => {
                self.retry(cx, job, at, &by).await?
            }
            (State::FailedStep { job, .. }, Event::Signal(Signal::Accept { by, reason })) => {
                self.accept(cx, job, (&by, &reason)).await?
            }
            (State::Requested { job }, Event::Entered) => self.wait_for_second(cx, job).await?,
            (State::Verified { job }, Event::Entered) => self.verify(cx, job).await?,
            (State::CoolingOff { job }, Event::Entered) => self.cool_off(cx, job).await?,
            (State::CoolingOff { job }, Event::Deadline(_)) => self.cooled_off(cx, job).await?,
            (State::Held { job, back, reason }, Event::Entered) => {
                self.hold(cx, job, back, reason).await?
            }
            (State::Held { job, back, reason }, Event::Deadline(_) | Event::Signal(_)) => {
                self.look_at_hold(cx, job, back, reason).await?
            }
            (State::Ending { job, since, asked }, Event::Entered | Event::Deadline(_)) => {
                self.end_runs(cx, job, since, asked).await?
            }
            (State::Exporting { job, past }, Event::Entered | Event::Deadline(_)) => {
                self.export(cx, job, past).await?
            }
            (State::Ready { job }, Event::Entered) => self.plan(cx, job).await?,
            (
                State::Erasing {
                    job,
                    step,
                    of,
                    chunk,
                },
                Event::Entered | Event::Deadline(_),
            ) => self.erase(cx, job, (step, of), chunk).await?,
            (State::ThirdParties { job }, Event::Entered) => self.tell_others(cx, job).await?,
            (State::Verifying { job }, Event::Entered) => self.certify(cx, job).await?,
            (
                State::FailedStep {
                    job,
                    at,
                    code,
                    message,
                },
                Event::Entered,
            ) => self.fail_step(cx, job, at, (code, message)).await?,
            (
                state,
                Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => Transition::stay(state),
        };
        Ok(moved)
    }
}

/// What each state does with each signal.
fn receive(state: &State, signal: &Signal) -> Reception {
    match (state, signal) {
        (State::Requested { .. }, Signal::Approve { .. })
        | (State::FailedStep { .. } | State::Held { .. }, Signal::Retry { .. }) => {
            Reception::Accept
        }
        (
            State::FailedStep {
                at: Stage::Verifying,
                ..
            },
            Signal::Accept { .. },
        ) => Reception::Accept,
        (_, Signal::Cancel { .. }) if is_restorable(state) => Reception::Accept,
        (_, Signal::Cancel { .. }) => Reception::Reject("the point of no return has passed"),
        (_, Signal::Approve { .. }) => Reception::Reject("it does not wait for an approval"),
        (_, Signal::Retry { .. }) => Reception::Reject("nothing has failed, and nothing holds it"),
        (_, Signal::Accept { .. }) => Reception::Reject("nothing was found that could be accepted"),
    }
}

/// Whether a deletion can still be taken back.
fn is_restorable(state: &State) -> bool {
    match state {
        State::Requested { .. } | State::Verified { .. } | State::CoolingOff { .. } => true,
        State::Exporting { past, .. } => !past,
        State::Held { back: stage, .. } | State::FailedStep { at: stage, .. } => {
            stage.is_restorable()
        }
        State::Ending { .. }
        | State::Ready { .. }
        | State::Erasing { .. }
        | State::ThirdParties { .. }
        | State::Verifying { .. } => false,
    }
}

impl State {
    fn job_mut(&mut self) -> &mut Job {
        match self {
            Self::Requested { job }
            | Self::Verified { job }
            | Self::CoolingOff { job }
            | Self::Held { job, .. }
            | Self::Ending { job, .. }
            | Self::Exporting { job, .. }
            | Self::Ready { job }
            | Self::Erasing { job, .. }
            | Self::ThirdParties { job }
            | Self::Verifying { job }
            | Self::FailedStep { job, .. } => job,
        }
    }

    /// The state in which a stage begins.
    fn at(stage: Stage, job: Job) -> Self {
        match stage {
            Stage::Verified => Self::Verified { job },
            Stage::CoolingOff => Self::CoolingOff { job },
            Stage::Ending => Self::Ending {
                job,
                since: None,
                asked: None,
            },
            Stage::Exporting => Self::Exporting { job, past: false },
            Stage::Ready => Self::Ready { job },
            Stage::Erasing => Self::Erasing {
                job,
                step: 1,
                of: 1,
                chunk: rules::FIRST_CHUNK,
            },
            Stage::ThirdParties => Self::ThirdParties { job },
            Stage::Verifying => Self::Verifying { job },
        }
    }
}

/// A state as version 1 had it, which wrote what the tenant takes along after the point of no return.
fn lift(mut state: Value) -> Value {
    if let Some(exporting) = state.get_mut("Exporting") {
        exporting["past"] = json!(true);
    }
    if let Some(failed) = state.get_mut("FailedStep")
        && failed["at"] == json!(Stage::Exporting)
    {
        // Its export had ended; it goes on without one.
        failed["at"] = json!(Stage::Ready);
    }
    state
}

/// The name under which a deletion places its hold.
#[must_use]
pub fn source(deletion: Uuid) -> String {
    format!("deletion/{deletion}")
}

/// Lets a transaction erase one tenant's rows of schema `app`, and write down that it did.
async fn as_eraser(conn: &mut PgConnection, subject: TenantId) -> sqlx::Result<()> {
    // The id is a UUID, so the text is safe; `set local` takes no parameters.
    let text = format!("set local role tenure_control; set local app.tenant = '{subject}'");
    sqlx::raw_sql(AssertSqlSafe(text)).execute(conn).await?;
    Ok(())
}

/// A record of something that somebody did.
fn deed(kind: &str, by: &str, reason: Option<&str>, at: DateTime<Utc>) -> Value {
    match reason {
        Some(reason) => json!({ "kind": kind, "by": by, "reason": reason, "at": at }),
        None => json!({ "kind": kind, "by": by, "at": at }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            deletion_id: Uuid::nil(),
            subject: TenantId(Uuid::nil()),
            due_at: "2027-04-01T09:00:00Z".parse().unwrap(),
            alerts: 0,
            map_version: None,
            accepted: None,
            left: Vec::new(),
            export: None,
        }
    }

    fn is_accepted(state: &State, signal: &Signal) -> bool {
        matches!(receive(state, signal), Reception::Accept)
    }

    #[test]
    fn a_deletion_is_taken_back_until_the_runs_of_its_tenant_end_and_never_after() {
        let cancel = Signal::Cancel {
            by: "ada".to_owned(),
            reason: "they stay".to_owned(),
        };
        let all = [
            (Stage::Verified, true),
            (Stage::CoolingOff, true),
            (Stage::Exporting, true),
            (Stage::Ending, false),
            (Stage::Ready, false),
            (Stage::Erasing, false),
            (Stage::ThirdParties, false),
            (Stage::Verifying, false),
        ];
        for (stage, expected) in all {
            assert_eq!(
                is_accepted(&State::at(stage, job()), &cancel),
                expected,
                "{stage:?}"
            );
            let held = State::Held {
                job: job(),
                back: stage,
                reason: String::new(),
            };
            assert_eq!(is_accepted(&held, &cancel), expected, "held at {stage:?}");
            let failed = State::FailedStep {
                job: job(),
                at: stage,
                code: String::new(),
                message: String::new(),
            };
            assert_eq!(
                is_accepted(&failed, &cancel),
                expected,
                "failed at {stage:?}"
            );
            let retry = Signal::Retry {
                by: "ada".to_owned(),
            };
            assert!(is_accepted(&failed, &retry) && is_accepted(&held, &retry));
            let accept = Signal::Accept {
                by: "ada".to_owned(),
                reason: "a name that many have".to_owned(),
            };
            assert_eq!(is_accepted(&failed, &accept), stage == Stage::Verifying);
        }
    }

    #[test]
    fn an_export_of_version_1_comes_after_the_point_of_no_return_and_stays_there() {
        let state = serde_json::to_value(State::at(Stage::Exporting, job())).unwrap();
        let lifted: State = serde_json::from_value(lift(state)).unwrap();
        assert!(!is_restorable(&lifted));
        let failed = State::FailedStep {
            job: job(),
            at: Stage::Exporting,
            code: "export_ended".to_owned(),
            message: String::new(),
        };
        assert!(is_restorable(&failed));
        let failed = lift(serde_json::to_value(failed).unwrap());
        let failed: State = serde_json::from_value(failed).unwrap();
        assert!(!is_restorable(&failed));
    }
}
