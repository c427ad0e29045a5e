//! Decides what a visit's end means for the run's row, purely. The committer writes the result
//! down; nothing here touches the database.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::choose::{self, Mark};
use crate::error::{Retry, StepError};
use crate::executor::Sealed;
use crate::gate::Door;
use crate::id::TenantId;
use crate::retry::{self, RetryPolicy};
use crate::run::{ClaimedRun, Deadline, Status, StoredError};
use crate::transition::{ChildStart, ClosePolicy, DeadlineChange, FanBatch, FollowUp};
use crate::undo::{Reverse, Then, Undo};

/// After this many lost workers in one visit the run is stuck instead of tried again.
pub(crate) const MAX_LOSSES: i32 = 10;

/// About how long a run that this worker does not know is left for another one to claim.
const HAND_OVER: Duration = Duration::from_millis(50);

/// About how long a run waits whose keys cannot be had.
const KEYS_AWAY: Duration = Duration::from_secs(10);

/// The outcome of a claim that led to no visit; it is not logged.
pub(crate) const RESTED: &str = "rested";

/// What a handler answered, with the workflow's types erased.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) next: AnswerNext,
    pub(crate) follow: FollowUp,
    /// What the run is found by from now on; `None` when the workflow declares nothing, or the state
    /// is the one before.
    pub(crate) attributes: Option<Value>,
}

#[derive(Debug)]
pub(crate) enum AnswerNext {
    Go { state: String, data: Vec<u8> },
    Stay { state: String, data: Vec<u8> },
    Complete { output: Vec<u8> },
    Fail { code: String, message: String },
    Cancelled,
}

/// How a visit ended.
#[derive(Debug)]
pub(crate) enum VisitEnd {
    Answered(Box<Answer>),
    Undone,
    Suspended(Suspension),
    Failed(StepError),
    Panicked(String),
    Undecodable(String),
}

/// Why a visit was cut off without an answer.
#[derive(Debug)]
pub(crate) enum Suspension {
    /// A step failed; try the visit again after the delay.
    Retry {
        delay: Duration,
        error: StoredError,
        /// Whether it is a failed attempt.
        counts: bool,
    },
    /// Only a human can help.
    Stuck {
        kind: &'static str,
        error: StoredError,
    },
    /// The step's dependency does not answer: wait until it does.
    Shut { dependency: &'static str },
    /// The lease is lost or the worker ends: write nothing.
    Abandon,
}

/// Everything that one settlement writes about one run.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) run: ClaimedRun,
    /// Already raised, if the journal is cut.
    pub(crate) cut: bool,
    pub(crate) status: Status,
    /// The worker keeps the run in its hands.
    pub(crate) keep: bool,
    /// Whether the run may have a row in `due` from before.
    pub(crate) had_due: bool,
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) delay: Option<Duration>,
    pub(crate) clocked_at: Option<DateTime<Utc>>,
    pub(crate) next_at: Option<DateTime<Utc>>,
    pub(crate) stuck: Option<&'static str>,
    /// The dependency at whose breaker the run waits.
    pub(crate) shut: Option<&'static str>,
    pub(crate) output: Option<Vec<u8>>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) follow: FollowUp,
    /// What is reversed if what follows is refused for good.
    pub(crate) reverses: Vec<Reverse>,
    pub(crate) log: Log,
    pub(crate) attributes: Option<Value>,
}

/// One line of the log of visits.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) event: String,
    pub(crate) from_state: String,
    pub(crate) outcome: &'static str,
    pub(crate) detail: Option<String>,
}

impl Settlement {
    /// The tenant that owns the run.
    pub(crate) fn tenant_id(&self) -> TenantId {
        self.run.tenant_id
    }

    fn new(run: &ClaimedRun, event: &str, status: Status, outcome: &'static str) -> Self {
        Self {
            run: run.clone(),
            cut: true,
            status,
            keep: false,
            // The claim deletes the row through which it takes a run.
            had_due: run.due_at.is_none(),
            due_at: None,
            delay: None,
            clocked_at: None,
            next_at: None,
            stuck: None,
            shut: None,
            output: None,
            marks: Vec::new(),
            follow: FollowUp::default(),
            reverses: Vec::new(),
            log: Log {
                event: event.to_owned(),
                from_state: run.state.clone(),
                outcome,
                detail: None,
            },
            attributes: None,
        }
    }
}

/// What the end of a visit means for the run's row; `None` when nothing may be written.
///
/// `consumed` is the deadline that the visit was for. The result rests; whether the worker goes on
/// with the run at once is decided by [`rest_or_keep`].
pub(crate) fn settle(
    run: &ClaimedRun,
    event: &str,
    consumed: Option<&Deadline>,
    end: VisitEnd,
    chance: f64,
) -> Option<Settlement> {
    let settlement = match end {
        VisitEnd::Answered(answer) => Some(answered(run, event, consumed, *answer)),
        VisitEnd::Undone => Some(undone(run, event)),
        VisitEnd::Suspended(Suspension::Abandon) => None,
        VisitEnd::Suspended(Suspension::Retry {
            delay,
            error,
            counts,
        }) => Some(retrying(run, event, delay, error, counts)),
        VisitEnd::Suspended(Suspension::Shut { dependency }) => {
            let name = dependency.to_owned();
            let mut settled = blocked(run, event, &Door::Breaker { name });
            settled.run.begun = true;
            settled.shut = Some(dependency);
            Some(settled)
        }
        VisitEnd::Suspended(Suspension::Stuck { kind, error }) => {
            Some(stuck(run, event, kind, error))
        }
        VisitEnd::Undecodable(message) => Some(stuck(
            run,
            event,
            "undecodable",
            stored("undecodable", message),
        )),
        VisitEnd::Panicked(message) => Some(failed_attempt(
            run,
            event,
            "panicked",
            stored("panicked", message),
            Retry::ByPolicy,
            chance,
        )),
        VisitEnd::Failed(error) => {
            let kind = if error.is_terminal() {
                "terminal_error"
            } else {
                "attempts_exhausted"
            };
            let record = stored(&error.record.code, error.record.message);
            Some(failed_attempt(
                run,
                event,
                kind,
                record,
                error.retry,
                chance,
            ))
        }
    };
    settlement.map(|settled| {
        if run.undo.is_some() {
            while_undoing(settled)
        } else {
            settled
        }
    })
}

/// A reverse that failed: told as undoing, not as the visit that it follows.
fn while_undoing(mut settled: Settlement) -> Settlement {
    match settled.status {
        Status::Retrying => settled.status = Status::Undoing,
        Status::Stuck => settled.stuck = Some("undo_failed"),
        _ => {}
    }
    settled
}

/// The next reverse is done; what follows when it was the last.
fn undone(run: &ClaimedRun, event: &str) -> Settlement {
    let mut settled = Settlement::new(run, event, Status::Undoing, "undone");
    settled.run.attempt = 0;
    settled.run.losses = 0;
    settled.run.error = None;
    let Some(left) = run.undo.clone().map(Undo::without_next) else {
        return settled;
    };
    if left.next().is_some() {
        settled.run.undo = Some(left);
        return settled;
    }
    settled.run.undo = None;
    match left.then {
        Then::GoOn => settled.status = Status::Waiting,
        Then::Fail => {
            settled.status = Status::Failed;
            settled.run.deadlines.clear();
            settled.log.detail = left.error.as_ref().map(describe);
            settled.run.error = left.error;
        }
    }
    settled
}

/// A visit that has failed for good begins to reverse what it registered.
pub(crate) fn begin_undo(settled: Settlement, reverses: Vec<Reverse>) -> Settlement {
    let error = settled.run.error.clone();
    let Some(undo) = Undo::new(reverses, Then::Fail, error) else {
        return settled;
    };
    let mut begun = Settlement::new(&settled.run, &settled.log.event, Status::Undoing, "undoing");
    begun.log.detail = settled.log.detail;
    begun.log.from_state = settled.log.from_state;
    begun.run.attempt = 0;
    begun.run.losses = 0;
    begun.run.error = None;
    begun.run.undo = Some(undo);
    begun
}

fn stored(code: &str, message: String) -> StoredError {
    StoredError {
        code: code.to_owned(),
        message,
        step: None,
        event: None,
        began: None,
        max_attempts: None,
    }
}

fn answered(
    run: &ClaimedRun,
    event: &str,
    consumed: Option<&Deadline>,
    answer: Answer,
) -> Settlement {
    let Answer {
        next,
        follow,
        attributes,
    } = answer;
    let mut settled = match next {
        AnswerNext::Go { state, data } => {
            let mut settled = Settlement::new(run, event, Status::Waiting, "went");
            settled.run.deadlines.retain(|known| known.whole);
            settled.run.entered = false;
            (settled.run.state, settled.run.data) = (state, data);
            settled
        }
        AnswerNext::Stay { state, data } => {
            let mut settled = Settlement::new(run, event, Status::Waiting, "stayed");
            settled
                .run
                .deadlines
                .retain(|known| Some(known) != consumed && known.name != choose::RUN_START);
            settled.run.entered = true;
            (settled.run.state, settled.run.data) = (state, data);
            settled
        }
        AnswerNext::Complete { output } => {
            let mut settled = Settlement::new(run, event, Status::Completed, "completed");
            settled.output = Some(output);
            settled
        }
        AnswerNext::Fail { code, message } => {
            let mut settled = Settlement::new(run, event, Status::Failed, "failed");
            settled.log.detail = Some(format!("{code}: {message}"));
            settled.run.error = Some(stored(&code, message));
            settled
        }
        AnswerNext::Cancelled => Settlement::new(run, event, Status::Cancelled, "cancelled"),
    };
    if settled.status != Status::Failed {
        settled.run.error = None;
    }
    if settled.status.is_finished() {
        settled.run.deadlines.clear();
    } else {
        set_deadlines(&mut settled.run, &follow);
    }
    settled.run.attempt = 0;
    settled.run.losses = 0;
    let closing = |child: &ChildStart| child.close != ClosePolicy::Leave;
    settled.run.closes |= follow.children.iter().any(closing)
        || follow
            .fan_outs
            .iter()
            .any(|fan_out| fan_out.close != ClosePolicy::Leave)
        || follow.fan_batch.as_ref().is_some_and(FanBatch::closes);
    settled.follow = follow;
    settled.attributes = attributes;
    settled
}

/// Ends without a visit, as the parent's end or an operator asked.
pub(crate) fn terminated(run: &ClaimedRun) -> Settlement {
    let mut settled = Settlement::new(run, "terminate", Status::Terminated, "terminated");
    settled.run.deadlines.clear();
    settled.run.undo = None;
    settled
}

/// The run's time has passed and its handler has cleaned up; whatever it would go on with, the run
/// has failed. An end of its own choice stands.
pub(crate) fn past_run_deadline(mut settled: Settlement, deadline: &Deadline) -> Settlement {
    if settled.status != Status::Waiting {
        return settled;
    }
    let error = stored("run_deadline", format!("it had until {}", deadline.at));
    settled.status = Status::Failed;
    settled.run.deadlines.clear();
    settled.log.outcome = "failed";
    settled.log.detail = Some(describe(&error));
    settled.run.error = Some(error);
    settled
}

/// Gives up a visit that fails, so that the cancel that waits is heard, or the run's own deadline. Its answers stay in the log.
pub(crate) fn abandon(run: &ClaimedRun, reverses: Vec<Reverse>) -> Settlement {
    let why = if choose::is_over(run) {
        choose::RUN_DEADLINE
    } else {
        "cancel"
    };
    let mut settled = Settlement::new(run, why, Status::Waiting, "abandoned");
    settled.run.attempt = 0;
    settled.run.losses = 0;
    settled.run.error = None;
    settled.run.undo = Undo::new(reverses, Then::GoOn, None);
    if settled.run.undo.is_some() {
        settled.status = Status::Undoing;
    }
    settled
}

fn set_deadlines(run: &mut ClaimedRun, follow: &FollowUp) {
    for (name, change) in &follow.deadlines {
        run.deadlines
            .retain(|known| known.whole || known.name != *name);
        let (at, relative) = match change {
            DeadlineChange::At(at) => (*at, false),
            DeadlineChange::After(duration) => (run.tenant_now + *duration, true),
            DeadlineChange::Clear => continue,
        };
        run.deadlines.push(Deadline {
            name: (*name).to_owned(),
            at,
            relative,
            whole: false,
        });
    }
    if let Some(at) = follow.end_by {
        set_run_deadline(run, at);
    }
}

/// Sets the deadline of the whole run, in place of an earlier one.
pub(crate) fn set_run_deadline(run: &mut ClaimedRun, at: DateTime<Utc>) {
    run.deadlines.retain(|known| !known.whole);
    run.deadlines.push(Deadline {
        name: "run-deadline".to_owned(),
        at,
        relative: false,
        whole: true,
    });
}

/// How long a failed attempt waits: no longer than the run has.
fn within_run(run: &ClaimedRun, delay: Duration) -> Duration {
    match choose::run_deadline(run) {
        // A test clock does not tell how long that is.
        Some(deadline) if run.clock_id.is_none() && !choose::is_over(run) => {
            let left = (deadline.at - run.tenant_now).to_std();
            delay.min(left.unwrap_or_default())
        }
        _ => delay,
    }
}

fn retrying(
    run: &ClaimedRun,
    event: &str,
    delay: Duration,
    error: StoredError,
    counts: bool,
) -> Settlement {
    let delay = within_run(run, delay);
    let mut settled = Settlement::new(run, event, Status::Retrying, "retrying");
    settled.cut = false;
    settled.run.begun = true;
    settled.run.attempt = attempt_of(run, error.step.as_deref()) + i32::from(counts);
    settled.delay = Some(delay);
    settled.next_at = Some(run.now + delay);
    settled.log.detail = Some(describe(&error));
    settled.run.error = Some(error);
    settled
}

pub(crate) fn stuck(
    run: &ClaimedRun,
    event: &str,
    kind: &'static str,
    error: StoredError,
) -> Settlement {
    let mut settled = Settlement::new(run, event, Status::Stuck, "stuck");
    settled.cut = false;
    settled.run.begun = true;
    settled.stuck = Some(kind);
    settled.log.detail = Some(describe(&error));
    settled.run.error = Some(error);
    settled
}

/// No room for its next visit: out of the due index until there is, no attempt burnt.
pub(crate) fn blocked(run: &ClaimedRun, event: &str, door: &Door) -> Settlement {
    let mut settled = Settlement::new(run, event, Status::Blocked, "blocked");
    settled.cut = false;
    settled.log.detail = Some(door.describe());
    settled
}

/// Nobody alive knows the workflow or its version: out of the due index until somebody
/// does, no attempt burnt.
pub(crate) fn no_handler(run: &ClaimedRun) -> Settlement {
    let mut settled = Settlement::new(run, "claimed", Status::NoHandler, "no handler");
    settled.cut = false;
    settled
}

/// Another worker knows the workflow and its version: let it have the run. Not at once, because
/// this worker, which may be the idler one, would only claim it again.
pub(crate) fn hand_over(run: &ClaimedRun, chance: f64) -> Settlement {
    let mut settled = Settlement::new(run, "claimed", Status::Due, RESTED);
    settled.cut = false;
    settled.delay = Some(HAND_OVER.mul_f64(0.5 + chance));
    settled
}

/// Its payloads cannot be opened: tried again later without an attempt burnt, or stuck.
pub(crate) fn sealed(run: &ClaimedRun, sealed: &Sealed, chance: f64) -> Settlement {
    let settled = match sealed {
        Sealed::ForGood(message) => {
            let error = stored("undecodable", message.clone());
            stuck(run, "claimed", "undecodable", error)
        }
        Sealed::ForNow(message) => {
            let mut settled = Settlement::new(run, "claimed", Status::Retrying, "sealed");
            settled.cut = false;
            let delay = KEYS_AWAY.mul_f64(0.5 + chance);
            settled.delay = Some(delay);
            settled.next_at = Some(run.now + delay);
            settled.log.detail = Some(message.clone());
            let error = || stored("keys_unavailable", message.clone());
            settled.run.error.get_or_insert_with(error);
            settled
        }
    };
    if run.stored_undo.is_some() {
        while_undoing(settled)
    } else {
        settled
    }
}

/// Nothing to do after all: rest as before. Leaves no line in the log.
pub(crate) fn rest(run: &ClaimedRun) -> Settlement {
    let mut settled = Settlement::new(run, "claimed", Status::Waiting, RESTED);
    settled.cut = false;
    settled
}

fn failed_attempt(
    run: &ClaimedRun,
    event: &str,
    kind: &'static str,
    mut error: StoredError,
    retry: Retry,
    chance: f64,
) -> Settlement {
    let attempt = attempt_of(run, None) + 1;
    let uncounted = if retry == Retry::Away {
        let since = began(run, None).unwrap_or(run.now);
        error.began = Some(since);
        retry::when_away((run.now - since).to_std().unwrap_or_default(), chance)
    } else {
        None
    };
    let delay = uncounted.or_else(|| match retry {
        Retry::Never => None,
        Retry::After(delay) => RetryPolicy::DEFAULT
            .delay(attempt.unsigned_abs(), 0.0)
            .map(|_| delay),
        Retry::ByPolicy | Retry::Away => RetryPolicy::DEFAULT.delay(attempt.unsigned_abs(), chance),
    });
    match delay {
        Some(delay) => {
            error.max_attempts = Some(RetryPolicy::DEFAULT.max_attempts);
            retrying(run, event, delay, error, uncounted.is_none())
        }
        None => stuck(run, event, kind, error),
    }
}

/// Failed attempts so far at the same step; another step starts from zero.
pub(crate) fn attempt_of(run: &ClaimedRun, step: Option<&str>) -> i32 {
    match &run.error {
        Some(error) if error.step.as_deref() == step => run.attempt,
        _ => 0,
    }
}

/// When the first attempt at the same step began, or the visit's database went away; none when it has
/// not failed yet.
pub(crate) fn began(run: &ClaimedRun, step: Option<&str>) -> Option<DateTime<Utc>> {
    let error = run.error.as_ref();
    error
        .filter(|error| error.step.as_deref() == step)
        .and_then(|error| error.began)
}

fn describe(error: &StoredError) -> String {
    match &error.step {
        Some(step) => format!("step {step}: {}: {}", error.code, error.message),
        None => format!("{}: {}", error.code, error.message),
    }
}

/// Completes a settlement of a live run: rest until the earliest deadline, or go on at once.
///
/// `more` says that another event is ready; `may_keep` that the worker may go on with it.
pub(crate) fn rest_or_keep(settlement: &mut Settlement, more: bool, may_keep: bool) {
    if settlement.status == Status::Undoing && settlement.run.undo.is_some() {
        // A failed reverse has its delay; the next one comes at once.
        if settlement.delay.is_none() {
            settlement.keep = may_keep;
            settlement.delay = Some(Duration::ZERO);
            if may_keep {
                settlement.status = Status::Running;
            }
        }
        return;
    }
    if settlement.status != Status::Waiting {
        return;
    }
    let run = &settlement.run;
    let earliest = run.deadlines.iter().map(|deadline| deadline.at).min();
    settlement.next_at = earliest;
    if more && may_keep {
        settlement.keep = true;
        settlement.status = Status::Running;
    } else if more {
        settlement.status = Status::Due;
        settlement.delay = Some(Duration::ZERO);
    } else if run.clock_id.is_some() {
        settlement.clocked_at = earliest;
    } else {
        settlement.due_at = earliest;
    }
}
