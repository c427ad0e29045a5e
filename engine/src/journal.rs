//! Steps already answered in the current visit, by name and occurrence. Pure.
//!
//! A retried visit asks for the same steps again and gets the recorded answers; the first step
//! without one is where it goes on. If it asks for an unrecorded step while recorded ones remain
//! unasked, the code has changed in the middle of a visit: that is a mismatch, told before any
//! effect.

use std::collections::HashMap;

/// One answered step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: i32,
    pub(crate) name: String,
    pub(crate) failed: bool,
    pub(crate) answer: Vec<u8>,
}

/// The journal of one visit, being replayed or written.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    recorded: Vec<Option<Entry>>,
    asked: HashMap<String, usize>,
    next_seq: i32,
}

/// What the journal knows of a step that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Answered before.
    Replay(Entry),
    /// To be done now; its place in the journal.
    New { seq: i32 },
    /// Recorded steps remain that this visit has not asked for.
    Mismatch { unasked: String },
}

impl Journal {
    pub(crate) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| entry.seq);
        let next_seq = entries.last().map_or(0, |entry| entry.seq + 1);
        Self {
            recorded: entries.into_iter().map(Some).collect(),
            asked: HashMap::new(),
            next_seq,
        }
    }

    /// Asks for the next occurrence of `name`.
    pub(crate) fn ask(&mut self, name: &str) -> Asked {
        let found = self
            .recorded
            .iter_mut()
            .find(|slot| slot.as_ref().is_some_and(|entry| entry.name == name));
        if let Some(slot) = found
            && let Some(entry) = slot.take()
        {
            *self.asked.entry(name.to_owned()).or_default() += 1;
            return Asked::Replay(entry);
        }
        if let Some(left) = self.recorded.iter().flatten().next() {
            return Asked::Mismatch {
                unasked: left.name.clone(),
            };
        }
        *self.asked.entry(name.to_owned()).or_default() += 1;
        let seq = self.next_seq;
        self.next_seq += 1;
        Asked::New { seq }
    }

    /// How often `name` was asked for so far: part of a step's idempotency key.
    pub(crate) fn occurrence(&self, name: &str) -> usize {
        self.asked.get(name).copied().unwrap_or_default()
    }
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
    fn answered_steps_replay_by_name_and_occurrence_and_the_rest_is_new() {
        let mut journal = Journal::new(vec![entry(1, "b", "2"), entry(0, "b", "1")]);
        assert_eq!(journal.ask("b"), Asked::Replay(entry(0, "b", "1")));
        assert_eq!(journal.ask("b"), Asked::Replay(entry(1, "b", "2")));
        assert_eq!(journal.ask("b"), Asked::New { seq: 2 });
        assert_eq!(journal.occurrence("b"), 3);
    }

    #[test]
    fn an_unrecorded_step_before_the_recorded_ones_is_a_mismatch() {
        let mut journal = Journal::new(vec![entry(0, "charge", "1")]);
        assert_eq!(
            journal.ask("refund"),
            Asked::Mismatch {
                unasked: "charge".to_owned()
            }
        );
    }
}
