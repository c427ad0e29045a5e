//! What a run is, and the one function that says which status may follow which.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{ClockId, Epoch, RunId, ShardId, TenantId};
use crate::priority::Priority;
use crate::seal::{self, TenantKeys, Unreadable};
use crate::undo::Undo;

/// Where the *engine* has a run; a run has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Wants a hand now.
    Due,
    /// In a worker's hands.
    Running,
    /// Rests until a signal, a deadline or another run's end.
    Waiting,
    /// An attempt failed; the next one has its time.
    Retrying,
    /// Reverses what it did.
    Undoing,
    /// Paused by an operator.
    Paused,
    /// Waits for room under a limit.
    Blocked,
    /// No live worker knows its workflow.
    NoHandler,
    /// Only a human can help.
    Stuck,
    /// Ended well.
    Completed,
    /// Ended badly, for a reason that the business knows.
    Failed,
    /// Ended on request, after its clean-up.
    Cancelled,
    /// Ended on request, without clean-up.
    Terminated,
}

impl Status {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 13] = [
        Self::Due,
        Self::Running,
        Self::Waiting,
        Self::Retrying,
        Self::Undoing,
        Self::Paused,
        Self::Blocked,
        Self::NoHandler,
        Self::Stuck,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Terminated,
    ];

    /// The stored spelling.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Due => 0,
            Self::Running => 1,
            Self::Waiting => 2,
            Self::Retrying => 3,
            Self::Undoing => 4,
            Self::Paused => 5,
            Self::Blocked => 6,
            Self::NoHandler => 7,
            Self::Stuck => 8,
            Self::Completed => 10,
            Self::Failed => 11,
            Self::Cancelled => 12,
            Self::Terminated => 13,
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Undoing => "undoing",
            Self::Paused => "paused",
            Self::Blocked => "blocked",
            Self::NoHandler => "no handler",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
        }
    }

    /// Whether nothing follows any more.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        self.code() >= 10
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which row of `engine.run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RunKey {
    pub(crate) run_id: RunId,
    pub(crate) shard_id: ShardId,
}

/// A named time in a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// The workflow's name for it.
    pub name: String,
    /// When, in the tenant's time.
    pub at: DateTime<Utc>,
    /// Whether it was set relative to a moment, so that a pause freezes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relative: bool,
    /// Whether it is the deadline of the whole run: a change of state keeps it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// A run that a worker holds: the row, its epoch and the database's *now*, which came together.
#[derive(Debug, Clone)]
pub(crate) struct ClaimedRun {
    pub(crate) key: RunKey,
    pub(crate) tenant_id: TenantId,
    pub(crate) workflow: String,
    pub(crate) run_key: String,
    pub(crate) version: i32,
    pub(crate) epoch: Epoch,
    pub(crate) visit: i64,
    pub(crate) attempt: i32,
    pub(crate) losses: i32,
    pub(crate) entered: bool,
    pub(crate) state: String,
    pub(crate) data: Vec<u8>,
    pub(crate) deadlines: Vec<Deadline>,
    pub(crate) error: Option<StoredError>,
    pub(crate) clock_id: Option<ClockId>,
    /// It has children that end with it.
    pub(crate) closes: bool,
    /// The visit was begun before: it may have a journal, and what it did may repeat.
    pub(crate) begun: bool,
    /// What it has left to reverse, if it is undoing.
    pub(crate) undo: Option<Undo>,
    /// The same as it is stored, until it is opened.
    pub(crate) stored_undo: Option<Vec<u8>>,
    /// What its payloads are sealed with.
    pub(crate) keys: TenantKeys,
    pub(crate) priority: Priority,
    /// How urgent it is now that it was claimed: less than its priority when a deadline woke it.
    pub(crate) level: Priority,
    /// When it was started, in the tenant's time.
    pub(crate) started_at: DateTime<Utc>,
    /// The database's time, real.
    pub(crate) now: DateTime<Utc>,
    /// The tenant's time.
    pub(crate) tenant_now: DateTime<Utc>,
    /// It was blocked, or a pause stands: it passes the gate first.
    pub(crate) gated: bool,
    /// When it was due; a message woke it otherwise.
    pub(crate) due_at: Option<DateTime<Utc>>,
}

impl ClaimedRun {
    /// Whether it is less urgent than others of its priority.
    pub(crate) fn is_later(&self) -> bool {
        self.level > self.priority
    }

    /// If it is, when the deadline was that woke it.
    pub(crate) fn woken_by_deadline(&self) -> Option<DateTime<Utc>> {
        self.is_later().then(|| self.due_at.unwrap_or(self.now))
    }

    /// Opens its payloads with its tenant's keys; what cannot be read stays as it is stored.
    pub(crate) fn open(&mut self, keys: TenantKeys) -> Result<(), Unreadable> {
        self.keys = keys;
        seal::open_in_place(&self.keys, &mut self.data)?;
        if let Some(stored) = &self.stored_undo {
            let opened = self.keys.open(stored)?;
            self.undo = Some(Undo::decode(&opened).ok_or(Unreadable::Broken)?);
            self.stored_undo = None;
        }
        Ok(())
    }
}

/// The last error, as stored with the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredError {
    /// Stable and machine readable.
    pub code: String,
    /// For people.
    pub message: String,
    /// The step that failed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The event that the failed visit was for, as its journal names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// When the first attempt at the step began, in real time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<DateTime<Utc>>,
    /// How many attempts there are in all, the first one included, while another follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
}

/// A message in a run's inbox.
#[derive(Debug, Clone)]
pub(crate) struct InboxItem {
    pub(crate) run_id: RunId,
    pub(crate) signal_id: String,
    pub(crate) kind: InboxKind,
    pub(crate) name: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) received_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InboxKind {
    Signal,
    RunFinished,
    Cancel,
    Terminate,
}

impl InboxKind {
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Signal => 0,
            Self::RunFinished => 1,
            Self::Cancel => 2,
            Self::Terminate => 3,
        }
    }

    pub(crate) const fn from_code(code: i16) -> Self {
        match code {
            1 => Self::RunFinished,
            2 => Self::Cancel,
            3 => Self::Terminate,
            _ => Self::Signal,
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalOutcome {
    /// Waits in the inbox.
    Pending,
    /// Was handled.
    Accepted,
    /// Was refused by the state, with a reason.
    Rejected,
    /// Came after the run had ended.
    Late,
}

impl SignalOutcome {
    pub(crate) const fn code(self) -> Option<i16> {
        match self {
            Self::Pending => None,
            Self::Accepted => Some(1),
            Self::Rejected => Some(2),
            Self::Late => Some(3),
        }
    }

    pub(crate) const fn from_code(code: Option<i16>) -> Self {
        match code {
            Some(1) => Self::Accepted,
            Some(2) => Self::Rejected,
            Some(3) => Self::Late,
            _ => Self::Pending,
        }
    }
}

pub(crate) fn decode_deadlines(stored: Option<Value>) -> Vec<Deadline> {
    stored
        .and_then(|value| serde_json::from_value(value).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_reads_back_and_only_the_last_four_are_finished() {
        for status in Status::ALL {
            assert_eq!(Status::from_code(status.code()), Some(status));
        }
        let finished: Vec<_> = Status::ALL
            .into_iter()
            .filter(|s| s.is_finished())
            .collect();
        assert_eq!(
            finished,
            [
                Status::Completed,
                Status::Failed,
                Status::Cancelled,
                Status::Terminated
            ]
        );
        assert_eq!(Status::from_code(9), None);
    }
}
