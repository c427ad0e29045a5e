//! Reversing what a visit did, when it fails for good. Pure.
//!
//! A handler registers a reverse with [`Context::on_undo`](crate::Context::on_undo); it is journaled
//! like a step's answer. When the visit fails for good, or is given up because somebody cancelled,
//! what was registered becomes the run's *undo* list. Each reverse is then a visit of its own, newest
//! first; what is left to reverse is in the row, so a crash repeats at most the one under way. A
//! reverse that fails leaves the run stuck with the list, never half hidden.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::journal::Entry;
use crate::run::StoredError;

/// Reverses are journaled under their name with this before it, so that no step is taken for one.
pub(crate) const PREFIX: &str = "undo:";

/// What a run has left to reverse, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undo {
    pub(crate) then: Then,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<StoredError>,
    /// The newest last.
    pub(crate) left: Vec<Reverse>,
}

/// What follows when all is reversed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Then {
    /// The run has failed.
    Fail,
    /// The run goes on: a cancel waits in its inbox.
    GoOn,
}

/// One registered reverse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reverse {
    pub(crate) name: String,
    pub(crate) args: Value,
}

impl Undo {
    /// What there is to reverse, or nothing.
    pub(crate) fn new(left: Vec<Reverse>, then: Then, error: Option<StoredError>) -> Option<Self> {
        (!left.is_empty()).then_some(Self { then, error, left })
    }

    /// The reverse that is next.
    pub(crate) fn next(&self) -> Option<&Reverse> {
        self.left.last()
    }

    /// The list without the one that is done.
    pub(crate) fn without_next(mut self) -> Self {
        self.left.pop();
        self
    }

    pub(crate) fn decode(stored: &[u8]) -> Option<Self> {
        serde_json::from_slice(stored).ok()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The reverses among the answers of a journal, in the order of their registration.
pub(crate) fn registered(journal: &[Entry]) -> Vec<Reverse> {
    let mut entries: Vec<&Entry> = journal.iter().collect();
    entries.sort_by_key(|entry| entry.seq);
    entries
        .into_iter()
        .filter_map(|entry| {
            Some(Reverse {
                name: entry.name.strip_prefix(PREFIX)?.to_owned(),
                args: serde_json::from_slice(&entry.answer).ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: i32, name: &str, answer: &str) -> Entry {
        Entry {
            seq,
            name: name.to_owned(),
            failed: false,
            answer: answer.as_bytes().to_vec(),
        }
    }

    #[test]
    fn reverses_are_taken_newest_first_and_steps_are_none() {
        let journal = [
            entry(2, "undo:refund", "7"),
            entry(0, "undo:release", "3"),
            entry(1, "charge", "\"ch_1\""),
        ];
        let undo = Undo::new(registered(&journal), Then::Fail, None).unwrap();
        let decoded = Undo::decode(&undo.encode()).unwrap();
        assert_eq!(decoded, undo);
        assert_eq!(undo.next().unwrap().name, "refund");
        let undo = undo.without_next();
        assert_eq!(undo.next().unwrap().args, 3);
        assert!(undo.without_next().next().is_none());
        assert!(Undo::new(Vec::new(), Then::Fail, None).is_none());
    }
}
