//! Backfills: a change of a product's columns without a pause, from expand to contract.
//!
//! ```text
//! backfill (one run)      expand ─ dual-write ─ fill ─ verify ─ switch ─ contract
//!                                                │       │
//! backfill-range (many)                          └───────┴─ fan-out, a bounded number at once
//! ```
//!
//! The run of a backfill changes tables, one place after the other, and fans out over **ranges**: a
//! tenant's rows, or a part of them where there are many. A range is walked by key, and only where
//! it stands is kept, so that memory does not grow with the table. Each batch is one visit: it looks
//! whether it may (pause, quiet hours, how busy the database is), runs some statements, each in a
//! transaction that also writes the ledger, and notes how far it came. A process that is killed
//! anywhere leaves a batch that is asked for again, and that the ledger answers.
//!
//! A trigger keeps old and new columns alike, in both directions where the definition says how, so
//! that the old one is right until the contract: reads may go back at any time before. Nothing is
//! contracted before every row has been compared and found right for the stated time.
//!
//! `pace.rs`, `throttle.rs`, `progress.rs`, `phase.rs`, `roll_out.rs`, `trouble.rs` and `sql.rs`
//! decide and touch no database; `store.rs` is all SQL at the product, `rows.rs` all of ours.

mod definition;
pub mod door;
mod file;
mod ground;
mod job;
mod pace;
mod phase;
mod progress;
mod range;
mod roll_out;
mod rows;
mod sql;
mod store;
mod throttle;
mod trouble;
mod units;

pub use definition::{Back, Definition, Misfit, NewColumn, OwnSql};
pub use file::parse;
pub use job::BackfillWorkflow;
pub use pace::{Pace, PaceLimits, Seen};
pub use phase::{Facts, Phase, refusals};
pub use progress::{Eta, Rate, eta, percent, say_seconds};
pub use range::RangeWorkflow;
pub use roll_out::{bucket, reads_new};
pub use throttle::{Limits, Quiet, Readings, Reason, decide, unseen};
pub use trouble::{Kind, Trouble};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenure_engine::RunId;
use uuid::Uuid;

/// How a backfill is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It works on its phase.
    Working,
    /// It waits for somebody's word, or for what speaks against it, before its phase.
    Waiting,
    /// Somebody has to help.
    Held,
    /// Its ranges end, so that it can go back.
    Stopping,
    /// It is done or undone.
    Ended,
    /// Its run was terminated before that, and what it left stays.
    Terminated,
}

impl Status {
    const WORDS: [(&'static str, Self); 6] = [
        ("working", Self::Working),
        ("waiting", Self::Waiting),
        ("held", Self::Held),
        ("stopping", Self::Stopping),
        ("ended", Self::Ended),
        ("terminated", Self::Terminated),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        let mut words = Self::WORDS.into_iter();
        words
            .find(|(_, status)| *status == self)
            .map_or("", |(word, _)| word)
    }

    fn from_word(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words
            .find(|(one, _)| *one == word)
            .map(|(_, status)| status)
    }
}

/// How a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeStatus {
    /// Its turn has not come.
    Planned,
    /// It is being filled.
    Filling,
    /// It is being compared.
    Verifying,
    /// The database is too busy.
    Throttled,
    /// Somebody paused the backfill.
    Paused,
    /// Somebody has to help.
    Held,
    /// Somebody left it as it is.
    Skipped,
    /// All its rows were filled.
    Filled,
    /// Its tenant is no more, or where the backfill does not reach.
    Gone,
}

impl RangeStatus {
    const WORDS: [(&'static str, Self); 9] = [
        ("planned", Self::Planned),
        ("filling", Self::Filling),
        ("verifying", Self::Verifying),
        ("throttled", Self::Throttled),
        ("paused", Self::Paused),
        ("held", Self::Held),
        ("skipped", Self::Skipped),
        ("filled", Self::Filled),
        ("gone", Self::Gone),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        let mut words = Self::WORDS.into_iter();
        words
            .find(|(_, status)| *status == self)
            .map_or("", |(word, _)| word)
    }

    /// Reads the word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words
            .find(|(one, _)| *one == word)
            .map(|(_, status)| status)
    }
}

/// A source that a backfill is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The source.
    pub source: String,
    /// The version of its data map.
    pub map_version: i32,
    /// The table, as that map names it.
    pub table: String,
}

/// A place where the table is: each schema and each database once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The source.
    pub source: String,
    /// A database beside the source's own; empty for that one.
    pub database: String,
    /// The schema, where tenants have one each; empty otherwise.
    pub schema: String,
}

/// A backfill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backfill {
    /// Identity.
    pub backfill_id: Uuid,
    /// What it does.
    pub definition: Definition,
    /// What it is for.
    pub targets: Vec<Target>,
    /// What it works on, or waits before.
    pub phase: Phase,
    /// How it is.
    pub status: Status,
    /// Raised whenever ranges begin anew.
    pub pass: i32,
    /// How many tenants of a hundred read the new columns.
    pub percent: i16,
    /// Whether somebody paused it.
    pub paused: bool,
    /// Why it is held, or was when it was cancelled.
    pub trouble: Option<Trouble>,
    /// Rows that the last verification found wrong.
    pub mismatches: Option<i64>,
    /// When it ended.
    pub verified_at: Option<DateTime<Utc>>,
    /// Since when none is found.
    pub clean_since: Option<DateTime<Utc>>,
    /// The run that owns it.
    pub run_id: RunId,
    /// Who began it.
    pub started_by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub started_at: DateTime<Utc>,
    /// When it was done or undone.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Backfill {
    /// The names of its sources.
    fn sources(&self) -> Vec<String> {
        let sources = self.targets.iter().map(|target| target.source.clone());
        sources.collect()
    }
}

/// A range.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// Identity.
    pub range_id: Uuid,
    /// The tenant whose rows they are.
    pub owner_id: Uuid,
    /// Which part of them.
    pub part: i32,
    /// The key after which it begins.
    pub after: Option<Vec<String>>,
    /// The key up to which it reaches.
    pub to: Option<Vec<String>>,
    /// How many rows the planner believed in.
    pub estimated_rows: i64,
    /// The pass that it was last filled in.
    pub pass: i32,
    /// The run that works on it, or did last.
    pub run_id: Option<RunId>,
    /// How it is.
    pub status: RangeStatus,
    /// The last key that is done.
    pub cursor: Option<Vec<String>>,
    /// Rows that were looked at.
    pub done_rows: i64,
    /// Rows that were written.
    pub written_rows: i64,
    /// Rows of the next batch.
    pub batch_rows: i32,
    /// How fast it is.
    pub rate: Option<Rate>,
    /// What throttles or holds it, or why it was skipped or is gone.
    pub detail: Option<Value>,
    /// What is to throttle it and cannot, because the login may not see the readings.
    pub unseen: Vec<String>,
    /// Rows that were compared.
    pub verified_rows: Option<i64>,
    /// Rows of them that were wrong.
    pub mismatches: Option<i64>,
    /// Checksum over what was found.
    pub found_sum: Option<String>,
    /// Checksum over what was expected.
    pub expected_sum: Option<String>,
    /// The first key that was wrong.
    pub first_mismatch: Option<Vec<String>>,
    /// When it was verified.
    pub verified_at: Option<DateTime<Utc>>,
    /// When its run last noted rows.
    pub noted_at: Option<DateTime<Utc>>,
}
