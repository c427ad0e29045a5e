//! What a verb means for a run as it stands. Pure: the doors write the plan down.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::verb::Verb;
use crate::error::{EngineError, ErrorRecord};
use crate::payload;
use crate::registry::Registry;
use crate::run::{Deadline, InboxKind, Status};
use crate::store::operator::{Answer, Change, Locked, Rest};
use crate::undo::Undo;

/// A run as the audit keeps it, and as people are told of it.
pub(super) fn describe(registry: &Registry, locked: &Locked, revision: i64) -> Value {
    json!({
        "status": locked.status,
        "state": locked.state,
        "data": shown(registry, locked, &locked.data),
        "deadlines": locked.deadlines,
        "revision": revision,
    })
}

fn shown(registry: &Registry, locked: &Locked, data: &[u8]) -> Value {
    let private = registry.private(&locked.workflow);
    private.mask(locked.reader.show(data))
}

/// A state as a person edited what they were shown, with what its masks hide.
pub(super) fn unmasked(
    registry: &Registry,
    locked: &Locked,
    edited: &Value,
) -> Result<Value, EngineError> {
    let private = registry.private(&locked.workflow);
    let state = private.restore(edited.clone(), &locked.reader.show(&locked.data));
    registry.refuse_masks(&locked.workflow, "state", &state)?;
    Ok(state)
}

/// A change of the state, which says which private fields it changes: of these neither a dry run nor the
/// audit shows more.
fn with_state(registry: &Registry, locked: &Locked, change: Change, effects: &[&str]) -> Plan {
    let private = registry.private(&locked.workflow);
    let (before, after) = (&locked.data, &change.data);
    let places = private.changed(&locked.reader.show(before), &locked.reader.show(after));
    let mut plan = Plan::change(change, effects);
    if !places.is_empty() {
        let told = format!("Private fields change: {}.", places.join(", "));
        plan.effects.push(told);
    }
    plan
}

/// What a verb comes to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) change: Option<Change>,
    /// The error that the last step answered is no answer any more.
    pub(super) forgets_failure: bool,
    pub(super) answer: Option<Answer>,
    pub(super) message: Option<InboxKind>,
    pub(super) pausing: bool,
    pub(super) effects: Vec<String>,
}

impl Plan {
    fn change(change: Change, effects: &[&str]) -> Self {
        Self {
            change: Some(change),
            effects: effects.iter().map(|line| (*line).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Whether a payload is written that was not there before.
    pub(super) fn stores(&self, locked: &Locked) -> bool {
        let change = self.change.as_ref();
        self.answer.is_some() || change.is_some_and(|change| change.data != locked.data)
    }

    pub(super) fn after(&self, registry: &Registry, locked: &Locked, revision: i64) -> Value {
        match &self.change {
            Some(change) => json!({
                "status": change.status,
                "state": change.state,
                "data": shown(registry, locked, &change.data),
                "deadlines": change.deadlines,
                "revision": revision,
            }),
            None => describe(registry, locked, revision),
        }
    }
}

/// What a verb means for a run. Pure.
pub(super) fn decide(
    registry: &Registry,
    locked: &Locked,
    verb: &Verb,
) -> Result<Plan, EngineError> {
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
            registry.refuse_masks(&locked.workflow, "answer", answer)?;
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

/// The change that puts a state in the place of the present one, when the workflow can read it.
fn encode_state(
    registry: &Registry,
    locked: &Locked,
    state: &Value,
) -> Result<Change, EngineError> {
    let handler = registry.require(&locked.workflow)?;
    let state = &unmasked(registry, locked, state)?;
    let attributes = handler.check_state(state)?;
    Ok(Change {
        version: handler.version(),
        data: payload::to_bytes("state", state, registry.payload_limit())?,
        attributes,
        ..locked.unchanged()
    })
}

fn edit(registry: &Registry, locked: &Locked, state: &Value) -> Result<Plan, EngineError> {
    let change = encode_state(registry, locked, state)?;
    let name = payload::variant_name(state);
    if name != locked.state {
        let reason = format!("the run is in state {}, not {name}: use move", locked.state);
        return Err(not_allowed("edit-state", &reason));
    }
    let effects =
        &["The state's data is replaced; it stays where it is until it is resumed or retried."];
    Ok(with_state(registry, locked, change, effects))
}

fn move_to(registry: &Registry, locked: &Locked, state: &Value) -> Result<Plan, EngineError> {
    let Change {
        version,
        data,
        attributes,
        ..
    } = encode_state(registry, locked, state)?;
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
        attributes,
        state,
        entered: false,
        deadlines: whole(locked),
        cut: true,
        undo: None,
        ..if paused {
            locked.unchanged()
        } else {
            locked.due_again()
        }
    };
    let effects = &[
        "Deadlines of the old state and what its visit had answered are dropped.",
        effects,
    ];
    Ok(with_state(registry, locked, change, effects))
}

/// What a change of state keeps: the deadline of the whole run.
fn whole(locked: &Locked) -> Vec<Deadline> {
    let deadlines = locked.deadlines.iter().filter(|deadline| deadline.whole);
    deadlines.cloned().collect()
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
        let state = &locked.state;
        let reason = if known.is_empty() {
            format!("state {state} has no deadline")
        } else {
            format!("state {state} has deadlines {known:?}, not {name:?}")
        };
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
            ..locked.due_again()
        };
        Plan::change(change, &["What its failed visit had answered is dropped."])
    };
    plan.message = Some(InboxKind::Cancel);
    plan.effects
        .push("The workflow hears of it next, cleans up and ends as it sees fit.".to_owned());
    plan
}

pub(super) fn not_allowed(verb: &'static str, reason: &str) -> EngineError {
    EngineError::NotAllowed {
        verb,
        reason: reason.to_owned(),
    }
}
