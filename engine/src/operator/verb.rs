//! The verbs of operators, and in which status each makes sense. Pure.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::run::Status;

/// What can be done to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Whether a verb makes sense in a status, or why not. Pure.
///
/// # Errors
/// The reason, in words for the operator.
pub fn may(word: &str, status: Status) -> Result<(), &'static str> {
    if word == "reveal" {
        return Ok(());
    }
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
        ("retry", Status::Blocked) => Err("it waits for room: see why, and change the limit"),
        ("retry", _) => Err("it is held back on purpose"),
        ("skip-step" | "fail-step", Status::Stuck | Status::Retrying) => Ok(()),
        ("skip-step" | "fail-step", _) => Err("no step has failed"),
        (
            "pause",
            Status::Due | Status::Running | Status::Waiting | Status::Retrying | Status::Blocked,
        ) => Ok(()),
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
                let always = may("reveal", status);
                assert_eq!(always, Ok(()), "{status}");
                assert!(
                    !status.is_finished() || word == "restart" || answer == Err("it has ended"),
                    "{word} {status}"
                );
            }
        }
        assert_eq!(may("burn", Status::Due), Err("there is no such verb"));
    }
}
