//! What humans do to runs: each verb with a reason, the revision that was seen, and an audit row.
//!
//! One verb is one transaction under the run's lock: look, decide purely, write the run, its place
//! among what is due, a line of the log and the audit row. Whoever only wants to know what would
//! happen rolls the transaction back.
//!
//! A run in a worker's hands is never changed under its feet: a pause waits for the visit to end,
//! a cancel waits in the inbox. Only *terminate* takes the run away; it raises epoch and visit, so
//! that what the worker still writes belongs to a visit that nobody reads.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::client::Client;
use crate::error::{EngineError, ErrorRecord};
use crate::id::{self, RunId};
use crate::payload;
use crate::registry::Registry;
use crate::run::{Deadline, InboxKind, Status};
use crate::start::{self, Started};
use crate::store;
use crate::store::inbox::NewMessage;
use crate::store::operator::{Answer, Audit, Change, Locked, Rest};
use crate::store::run::Place;
use crate::undo::Undo;

/// The longest reason, in characters.
const MAX_REASON: usize = 2_000;

/// Who intervenes, why, and what they saw.
#[derive(Debug, Clone)]
pub struct Act {
    /// From the token, never from the request.
    pub actor: String,
    /// The role in which they act.
    pub role: String,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
    /// The revision of the run or schedule that they saw.
    pub revision: i64,
}

/// What can be done to a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    /// Try again now, with the attempts forgotten. Answered steps stay answered, except the error
    /// that it is stuck on.
    Retry,
    /// Answer the failed step by hand and go on behind it.
    Skip {
        /// What the step would have answered.
        answer: Value,
    },
    /// Let the failed step fail for good: the handler gets the error and may branch.
    FailStep {
        /// The error's stable code.
        code: String,
        /// For people.
        message: String,
    },
    /// Replace the data of the state; the state's name stays. Paused or stuck runs only.
    Edit {
        /// The whole state, as the workflow encodes it.
        state: Value,
    },
    /// Enter another state. What the current visit has answered is forgotten.
    Move {
        /// The whole state, as the workflow encodes it.
        state: Value,
    },
    /// Give a deadline of the state another time.
    MoveDeadline {
        /// Its name.
        name: String,
        /// When, in the tenant's time.
        at: DateTime<Utc>,
    },
    /// Let a deadline of the state pass now.
    FireDeadline {
        /// Its name.
        name: String,
    },
    /// Hold it: relative deadlines are frozen, signals wait in the inbox.
    Pause,
    /// Let it go on; relative deadlines move by the time that it was paused.
    Resume,
    /// Ask it to end and clean up after itself.
    Cancel,
    /// End it now, without clean-up.
    Terminate,
}

impl Verb {
    /// The verbs' words, in the order in which people are shown them.
    pub const WORDS: [&'static str; 11] = [
        "retry",
        "skip-step",
        "fail-step",
        "pause",
        "resume",
        "edit-state",
        "move",
        "move-deadline",
        "fire-deadline",
        "cancel",
        "terminate",
    ];

    /// The verb's word, as the audit and the API spell it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Skip { .. } => "skip-step",
            Self::FailStep { .. } => "fail-step",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Edit { .. } => "edit-state",
            Self::Move { .. } => "move",
            Self::MoveDeadline { .. } => "move-deadline",
            Self::FireDeadline { .. } => "fire-deadline",
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
        }
    }
}

/// What an intervention did, or would have done.
#[derive(Debug, Clone, PartialEq)]
pub struct Intervention {
    /// The run.
    pub run_id: RunId,
    /// Its revision afterwards.
    pub revision: i64,
    /// Status, state and whatever the verb touched, before.
    pub before: Value,
    /// The same, afterwards.
    pub after: Value,
    /// What follows, in words.
    pub effects: Vec<String>,
}

/// Where a restarted run begins.
#[derive(Debug, Clone, PartialEq)]
pub enum RestartFrom {
    /// In the state in which the old run ended.
    LastState,
    /// In a given state, as the workflow encodes it.
    State(Value),
    /// At the start, with a given input.
    Input(Value),
}

/// Whether a verb makes sense in a status, or why not. Pure.
///
/// # Errors
/// The reason, in words for the operator.
pub fn may(word: &str, status: Status) -> Result<(), &'static str> {
    if word == "restart" {
        return if status.is_finished() {
            Ok(())
        } else {
            Err("it has not ended")
        };
    }
    if status.is_finished() {
        return Err("it has ended");
    }
    match (word, status) {
        ("cancel" | "terminate" | "signal", _) => Ok(()),
        ("retry", Status::Undoing) => Ok(()),
        (_, Status::Undoing) => Err("it is reversing what it did"),
        ("retry", Status::Stuck | Status::Retrying | Status::NoHandler) => Ok(()),
        ("retry" | "skip-step" | "fail-step", Status::Due | Status::Running) => {
            Err("it is being worked on already")
        }
        ("retry" | "skip-step" | "fail-step", Status::Waiting) => {
            Err("nothing failed: it waits for a signal or a deadline")
        }
        ("retry", _) => Err("it is held back on purpose"),
        ("skip-step" | "fail-step", Status::Stuck | Status::Retrying) => Ok(()),
        ("skip-step" | "fail-step", _) => Err("no step has failed"),
        ("pause", Status::Due | Status::Running | Status::Waiting | Status::Retrying) => Ok(()),
        ("pause", Status::Paused) => Err("it is paused already"),
        ("pause", _) => Err("it is out of the workers' reach already"),
        ("resume", Status::Paused) => Ok(()),
        ("resume", _) => Err("it is not paused"),
        ("edit-state", Status::Paused | Status::Stuck) => Ok(()),
        ("edit-state", _) => Err("pause it first: only paused or stuck runs are edited"),
        ("move", Status::Due | Status::Running) => Err("it is being worked on; pause it first"),
        ("move", _) => Ok(()),
        ("move-deadline", Status::Waiting | Status::Paused)
        | ("fire-deadline", Status::Waiting) => Ok(()),
        ("move-deadline" | "fire-deadline", _) => Err("it does not wait for a deadline"),
        _ => Err("there is no such verb"),
    }
}

/// Does one verb to one run, in the caller's transaction; roll it back for a dry run.
/// The transaction must act as the engine.
///
/// # Errors
/// [`EngineError::Moved`] when the run is not as the operator saw it, [`EngineError::NotAllowed`]
/// when the verb makes no sense, [`EngineError::Malformed`] for a bad reason, state or answer,
/// [`EngineError::RunNotFound`].
pub async fn intervene(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
    verb: &Verb,
    act: &Act,
) -> Result<Intervention, EngineError> {
    let locked = lock(conn, run, act).await?;
    may(verb.word(), locked.status).map_err(|reason| not_allowed(verb.word(), reason))?;
    let plan = decide(registry, &locked, verb)?;
    if plan.forgets_failure {
        store::operator::delete_failed_step(conn, &locked).await?;
    }
    if let Some(answer) = &plan.answer {
        store::operator::insert_answer(conn, &locked, answer).await?;
    }
    if let Some(kind) = plan.message {
        let message = NewMessage {
            run_id: run,
            shard_id: locked.key.shard_id,
            tenant_id: locked.tenant_id,
            clock_id: locked.clock_id,
            kind,
            position: 0,
            signal_id: verb.word(),
            name: verb.word(),
            payload: b"null",
        };
        store::inbox::insert(conn, &message).await?;
    }
    let mut revision = act.revision;
    match &plan.change {
        Some(change) => {
            revision = store::operator::apply(conn, &locked, change).await?;
            let detail = format!("{}: {}", act.actor, act.reason);
            store::operator::insert_log(conn, &locked, change, verb.word(), &detail).await?;
        }
        None if plan.pausing => store::operator::mark_pausing(conn, &locked).await?,
        None => {}
    }
    if plan
        .change
        .as_ref()
        .is_some_and(|change| change.status.is_finished())
    {
        store::operator::tell_finished(conn, &locked).await?;
        store::operator::close_children(conn, locked.key).await?;
    }
    let intervention = Intervention {
        run_id: run,
        revision,
        before: describe(&locked, locked.status, act.revision),
        after: plan.after(&locked, revision),
        effects: plan.effects,
    };
    audit(conn, &locked, verb.word(), act, &intervention).await?;
    Ok(intervention)
}

/// Starts a new run after one that has ended, under a key of its own.
/// The transaction must act as the engine.
///
/// # Errors
/// As [`intervene`], and [`EngineError::KeyTaken`].
pub async fn restart(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
    key: &str,
    from: &RestartFrom,
    act: &Act,
) -> Result<Started, EngineError> {
    let locked = lock(conn, run, act).await?;
    may("restart", locked.status).map_err(|reason| not_allowed("restart", reason))?;
    let place = Place {
        shard_id: locked.key.shard_id,
        clock_id: locked.clock_id,
    };
    let (workflow, tenant) = (locked.workflow.as_str(), locked.tenant_id);
    let new = match from {
        RestartFrom::Input(input) => start::prepare(registry, place, workflow, key, input)?,
        RestartFrom::State(state) => start::prepare_in(registry, place, workflow, key, state)?,
        RestartFrom::LastState => {
            let state = serde_json::from_slice(&locked.data)
                .map_err(|error| malformed("state", workflow, error))?;
            start::prepare_in(registry, place, workflow, key, &state)?
        }
    };
    let started = start::insert(conn, tenant, place, start::Origin::default(), new).await?;
    let intervention = Intervention {
        run_id: run,
        revision: act.revision,
        before: describe(&locked, locked.status, act.revision),
        after: json!({ "started": started.run_id, "key": key }),
        effects: Vec::new(),
    };
    audit(conn, &locked, "restart", act, &intervention).await?;
    Ok(started)
}

/// Sends a signal in a person's name: as [`Client::signal_named`], with an audit row.
/// The transaction must act as the engine.
///
/// # Errors
/// As [`Client::signal_named`], and [`EngineError::Malformed`] for a bad reason.
pub async fn signal(
    conn: &mut PgConnection,
    client: &Client,
    run: RunId,
    signal_id: &str,
    signal: &Value,
    act: &Act,
) -> Result<(), EngineError> {
    check_reason(&act.reason)?;
    let locked = store::operator::lock(conn, run, run.shard())
        .await?
        .ok_or_else(|| EngineError::RunNotFound(run.to_string()))?;
    client
        .signal_named(conn, locked.tenant_id, run, signal_id, signal)
        .await?;
    let seen = Act {
        revision: locked.revision(),
        ..act.clone()
    };
    let intervention = Intervention {
        run_id: run,
        revision: seen.revision,
        before: describe(&locked, locked.status, seen.revision),
        after: json!({ "signal": payload::variant_name(signal), "signal_id": signal_id }),
        effects: Vec::new(),
    };
    audit(conn, &locked, "signal", &seen, &intervention).await
}

async fn lock(conn: &mut PgConnection, run: RunId, act: &Act) -> Result<Locked, EngineError> {
    check_reason(&act.reason)?;
    let locked = store::operator::lock(conn, run, run.shard())
        .await?
        .ok_or_else(|| EngineError::RunNotFound(run.to_string()))?;
    if locked.revision() != act.revision {
        return Err(EngineError::Moved {
            seen: act.revision,
            current: locked.revision(),
        });
    }
    Ok(locked)
}

/// Checks that somebody said why.
pub(crate) fn check_reason(reason: &str) -> Result<(), EngineError> {
    if reason.trim().is_empty() || reason.chars().count() > MAX_REASON {
        return Err(EngineError::Malformed {
            what: "reason",
            workflow: String::new(),
            detail: format!("a reason has 1 to {MAX_REASON} characters"),
        });
    }
    Ok(())
}

fn not_allowed(verb: &'static str, reason: &str) -> EngineError {
    EngineError::NotAllowed {
        verb,
        reason: reason.to_owned(),
    }
}

fn malformed(what: &'static str, workflow: &str, error: impl std::fmt::Display) -> EngineError {
    EngineError::Malformed {
        what,
        workflow: workflow.to_owned(),
        detail: error.to_string(),
    }
}

async fn audit(
    conn: &mut PgConnection,
    locked: &Locked,
    action: &'static str,
    act: &Act,
    done: &Intervention,
) -> Result<(), EngineError> {
    let row = Audit {
        audit_id: id::new_uuid(locked.key.shard_id),
        subject: locked.key.run_id,
        shard_id: locked.key.shard_id,
        tenant_id: locked.tenant_id,
        action,
        before: &done.before,
        after: &done.after,
    };
    Ok(store::operator::insert_audit(conn, act, &row).await?)
}

fn describe(locked: &Locked, status: Status, revision: i64) -> Value {
    json!({
        "status": status,
        "state": locked.state,
        "data": serde_json::from_slice::<Value>(&locked.data).unwrap_or_default(),
        "deadlines": locked.deadlines,
        "revision": revision,
    })
}

/// What a verb comes to.
#[derive(Debug, Default)]
struct Plan {
    change: Option<Change>,
    /// The error that the last step answered is no answer any more.
    forgets_failure: bool,
    answer: Option<Answer>,
    message: Option<InboxKind>,
    pausing: bool,
    effects: Vec<String>,
}

impl Plan {
    fn change(change: Change, effects: &[&str]) -> Self {
        Self {
            change: Some(change),
            effects: effects.iter().map(|line| (*line).to_owned()).collect(),
            ..Self::default()
        }
    }

    fn after(&self, locked: &Locked, revision: i64) -> Value {
        match &self.change {
            Some(change) => json!({
                "status": change.status,
                "state": change.state,
                "data": serde_json::from_slice::<Value>(&change.data).unwrap_or_default(),
                "deadlines": change.deadlines,
                "revision": revision,
            }),
            None => describe(locked, locked.status, revision),
        }
    }
}

/// What a verb means for a run. Pure.
fn decide(registry: &Registry, locked: &Locked, verb: &Verb) -> Result<Plan, EngineError> {
    Ok(match verb {
        Verb::Retry => Plan {
            forgets_failure: is_stuck_on_answer(locked),
            ..Plan::change(
                locked.due_again(),
                &[
                    "The attempts are forgotten and it is tried again now; answered steps stay \
                   answered, but for an error that it is stuck on.",
                ],
            )
        },
        Verb::Skip { answer } => {
            let answer = payload::to_bytes("answer", answer, registry.payload_limit())?;
            answer_step(locked, verb, false, answer)?
        }
        Verb::FailStep { code, message } => {
            let record = ErrorRecord {
                code: code.clone(),
                message: message.clone(),
            };
            let answer = payload::to_bytes("answer", &record, registry.payload_limit())?;
            answer_step(locked, verb, true, answer)?
        }
        Verb::Edit { state } => edit(registry, locked, state)?,
        Verb::Move { state } => move_to(registry, locked, state)?,
        Verb::MoveDeadline { name, at } => move_deadline(locked, verb.word(), name, *at)?,
        Verb::FireDeadline { name } => move_deadline(locked, verb.word(), name, locked.tenant_now)?,
        Verb::Pause if locked.status == Status::Running => Plan {
            pausing: true,
            effects: vec!["A worker holds it: it is paused when the visit under way ends.".into()],
            ..Plan::default()
        },
        Verb::Pause => Plan::change(
            Change {
                status: Status::Paused,
                rest: Rest::Parked("paused"),
                paused_at: Some(locked.tenant_now),
                ..locked.unchanged()
            },
            &[
                "Nothing happens until it is resumed: signals wait, relative deadlines are frozen, \
               absolute ones stay and may pass.",
            ],
        ),
        Verb::Resume => resume(locked),
        Verb::Cancel => cancel(locked),
        Verb::Terminate => Plan::change(
            Change {
                status: Status::Terminated,
                rest: Rest::Ended,
                deadlines: Vec::new(),
                cut: true,
                undo: None,
                ..locked.unchanged()
            },
            &[
                "It ends at once and cleans nothing up. What the outside was asked to do stays done.",
            ],
        ),
    })
}

fn answer_step(
    locked: &Locked,
    verb: &Verb,
    failed: bool,
    answer: Vec<u8>,
) -> Result<Plan, EngineError> {
    if let Some(undo) = &locked.undo {
        return skip_reverse(locked, verb, failed, undo);
    }
    let error = locked.error.as_ref();
    let on_answer = is_stuck_on_answer(locked);
    let step = if on_answer {
        locked.failed_step.clone()
    } else {
        error.and_then(|error| error.step.clone())
    };
    let Some(step) = step else {
        return Err(not_allowed(
            verb.word(),
            "no step has failed: the visit itself did",
        ));
    };
    let what = if failed {
        format!("Step {step} fails for good: the workflow gets the error and may branch.")
    } else {
        format!("Step {step} counts as answered; what it would have done is not done.")
    };
    Ok(Plan {
        forgets_failure: on_answer,
        answer: Some(Answer {
            step,
            failed,
            event: error.and_then(|error| error.event.clone()),
            answer,
        }),
        effects: vec![what, "The visit goes on behind it now.".to_owned()],
        ..Plan::change(locked.due_again(), &[])
    })
}

/// A reverse that cannot be done counts as done; the next one follows.
fn skip_reverse(
    locked: &Locked,
    verb: &Verb,
    failed: bool,
    undo: &Undo,
) -> Result<Plan, EngineError> {
    let reverse = undo.next().filter(|_| !failed).ok_or_else(|| {
        let reason = "it is reversing what it did: retry, or skip the reverse that fails";
        not_allowed(verb.word(), reason)
    })?;
    let effect = format!(
        "Reverse {} counts as done; what it would have reversed stays as it is.",
        reverse.name
    );
    let change = Change {
        undo: Some(undo.clone().without_next()),
        cut: true,
        keep_error: false,
        ..locked.due_again()
    };
    Ok(Plan::change(change, &[&effect]))
}

/// Whether a step has answered with an error for good and the workflow had no branch for it:
/// replaying that answer would only be stuck again, whatever was mended.
fn is_stuck_on_answer(locked: &Locked) -> bool {
    let on_error = ["terminal_error", "undo_failed"].map(Some);
    on_error.contains(&locked.stuck.as_deref()) && locked.failed_step.is_some()
}

/// The state's bytes, when the workflow can read them.
fn encode_state(
    registry: &Registry,
    locked: &Locked,
    state: &Value,
) -> Result<(i32, Vec<u8>), EngineError> {
    let handler = registry.require(&locked.workflow)?;
    handler.check_state(state)?;
    let data = payload::to_bytes("state", state, registry.payload_limit())?;
    Ok((handler.version(), data))
}

fn edit(registry: &Registry, locked: &Locked, state: &Value) -> Result<Plan, EngineError> {
    let (version, data) = encode_state(registry, locked, state)?;
    let name = payload::variant_name(state);
    if name != locked.state {
        let reason = format!("the run is in state {}, not {name}: use move", locked.state);
        return Err(not_allowed("edit-state", &reason));
    }
    let change = Change {
        version,
        data,
        ..locked.unchanged()
    };
    Ok(Plan::change(
        change,
        &["The state's data is replaced; it stays where it is until it is resumed or retried."],
    ))
}

fn move_to(registry: &Registry, locked: &Locked, state: &Value) -> Result<Plan, EngineError> {
    let (version, data) = encode_state(registry, locked, state)?;
    let state = payload::variant_name(state).to_owned();
    let paused = locked.status == Status::Paused;
    let effects = if paused {
        "It is in the new state, which is entered when it is resumed."
    } else {
        "The new state is entered now."
    };
    let change = Change {
        version,
        data,
        state,
        entered: false,
        deadlines: Vec::new(),
        cut: true,
        keep_error: false,
        undo: None,
        ..if paused {
            locked.unchanged()
        } else {
            locked.due_again()
        }
    };
    Ok(Plan::change(
        change,
        &[
            "Deadlines of the old state and what its visit had answered are dropped.",
            effects,
        ],
    ))
}

fn move_deadline(
    locked: &Locked,
    verb: &'static str,
    name: &str,
    at: DateTime<Utc>,
) -> Result<Plan, EngineError> {
    let mut deadlines = locked.deadlines.clone();
    let Some(deadline) = deadlines.iter_mut().find(|known| known.name == name) else {
        let known: Vec<_> = locked
            .deadlines
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        let reason = format!(
            "state {} has deadlines {known:?}, not {name:?}",
            locked.state
        );
        return Err(not_allowed(verb, &reason));
    };
    let from = deadline.at;
    deadline.at = at;
    let paused = locked.status == Status::Paused;
    let change = Change {
        deadlines,
        ..if paused {
            locked.unchanged()
        } else {
            locked.due_again()
        }
    };
    let effect = format!("Deadline {name} moves from {from} to {at}.");
    Ok(Plan::change(change, &[&effect]))
}

fn resume(locked: &Locked) -> Plan {
    let slept = locked.paused_at.map(|since| locked.tenant_now - since);
    let slept = slept.unwrap_or_default();
    let deadlines = locked.deadlines.iter().map(|deadline| Deadline {
        at: if deadline.relative {
            deadline.at + slept
        } else {
            deadline.at
        },
        ..deadline.clone()
    });
    let change = Change {
        deadlines: deadlines.collect(),
        ..locked.due_again()
    };
    Plan::change(
        change,
        &["It goes on now; relative deadlines move by the time that it was paused."],
    )
}

fn cancel(locked: &Locked) -> Plan {
    let within_reach = matches!(
        locked.status,
        Status::Due | Status::Running | Status::Waiting | Status::Retrying | Status::Undoing
    );
    let mut plan = if within_reach {
        Plan::default()
    } else {
        let change = Change {
            cut: true,
            keep_error: false,
            ..locked.due_again()
        };
        Plan::change(change, &["What its failed visit had answered is dropped."])
    };
    plan.message = Some(InboxKind::Cancel);
    plan.effects
        .push("The workflow hears of it next, cleans up and ends as it sees fit.".to_owned());
    plan
}

#[cfg(test)]
mod tests {
    use super::{Verb, may};
    use crate::run::Status;

    #[test]
    fn every_status_answers_every_verb_and_an_ended_run_only_restarts() {
        for word in Verb::WORDS.into_iter().chain(["signal", "restart"]) {
            for status in Status::ALL {
                let answer = may(word, status);
                assert_ne!(answer, Err("there is no such verb"), "{word} {status}");
                assert!(
                    !status.is_finished() || word == "restart" || answer == Err("it has ended"),
                    "{word} {status}"
                );
            }
        }
        assert_eq!(may("burn", Status::Due), Err("there is no such verb"));
    }
}
