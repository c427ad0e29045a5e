//! One verb to many runs: a frozen selection, a number that somebody confirms, a pace, an end.
//!
//! ```text
//! prepare ─ selection frozen, each run with the revision that was seen    (nothing is done yet)
//!    confirm(number) ─ the number must be the selection's ─ a run of the system tenant starts
//!         each second: so many runs as the pace says; each run's verb and its line are one
//!         transaction, so a run is acted on once, whatever is killed meanwhile
//!    abort ─ no run more; what was done stays done
//! ```
//!
//! A run that moved on since it was selected is left alone, and its line says so: that is what the
//! revision is for, and no failure. A run that refuses the verb counts towards `stop_after`.

mod drive;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;

pub use drive::BulkWorkflow;

use crate::client::Client;
use crate::error::EngineError;
use crate::id::{self, BulkId, RunId, SYSTEM_TENANT, TenantId};
use crate::operator::{self, Act, RestartFrom, Verb};
use crate::search::MAX_FOUND;
use crate::store;
use crate::store::operator::Audit;

/// The most runs per second.
pub const MAX_PACE: i32 = 500;
/// The longest reason, in characters: each run's audit names the operation behind it.
const MAX_REASON: usize = 1_900;

/// Where an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkStatus {
    /// Its selection is frozen; nothing was done.
    Prepared,
    /// It acts.
    Acting,
    /// It has acted on every run.
    Done,
    /// Too many runs refused.
    Stopped,
    /// Somebody ended it.
    Aborted,
}

impl BulkStatus {
    const ALL: [Self; 5] = [
        Self::Prepared,
        Self::Acting,
        Self::Done,
        Self::Stopped,
        Self::Aborted,
    ];

    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Prepared => 0,
            Self::Acting => 1,
            Self::Done => 2,
            Self::Stopped => 3,
            Self::Aborted => 4,
        }
    }

    pub(crate) fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Acting => "acting",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Aborted => "aborted",
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkOutcome {
    /// It was not acted on, or not yet.
    Pending,
    /// The verb was done.
    Done,
    /// The run moved on since it was selected, and was left alone.
    Moved,
    /// The run refused the verb.
    Refused,
}

impl BulkOutcome {
    const ALL: [Self; 4] = [Self::Pending, Self::Done, Self::Moved, Self::Refused];

    /// The stored spelling; what is pending is stored as null.
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Pending => 0,
            Self::Done => 1,
            Self::Moved => 2,
            Self::Refused => 3,
        }
    }

    pub(crate) fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.code() == code)
    }
}

/// What is done to each run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// It gets a signal, whose id is the operation's.
    Signal {
        /// As the workflow encodes it.
        signal: Value,
    },
    /// It is restarted as a new run, under its key with the operation's id behind it.
    Restart {
        /// Where the new run begins.
        from: RestartFrom,
    },
    /// A verb is done to it.
    #[serde(untagged)]
    Verb(Verb),
}

impl Action {
    /// The words of all actions, in the order in which people are shown them.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Verb::WORDS.into_iter().chain(["signal", "restart"])
    }

    /// The word for people.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Signal { .. } => "signal",
            Self::Restart { .. } => "restart",
            Self::Verb(verb) => verb.word(),
        }
    }
}

/// An operation to prepare.
#[derive(Debug, Clone, PartialEq)]
pub struct NewBulk {
    /// What is done to each run.
    pub action: Action,
    /// The filter as it was written, for people.
    pub filter: String,
    /// Runs per second, 1 to [`MAX_PACE`].
    pub pace: i32,
    /// It stops when so many runs have refused.
    pub stop_after: Option<i32>,
}

/// An operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Bulk {
    /// Identity.
    pub bulk_id: BulkId,
    /// Whose runs were looked through.
    pub tenant_id: TenantId,
    /// Where it is.
    pub status: BulkStatus,
    /// What is done to each run.
    pub action: Action,
    /// The filter as it was written.
    pub filter: String,
    /// Runs per second.
    pub pace: i32,
    /// It stops when so many runs have refused.
    pub stop_after: Option<i32>,
    /// How many runs the selection has.
    pub selected: i32,
    /// Of these, how many were acted on.
    pub done: i64,
    /// How many had moved on.
    pub moved: i64,
    /// How many refused.
    pub refused: i64,
    /// Who asked for it.
    pub actor: String,
    /// In which role.
    pub role: String,
    /// Why.
    pub reason: String,
    /// The run that acts.
    pub run_id: Option<RunId>,
    /// When the selection was frozen.
    pub created_at: DateTime<Utc>,
    /// When somebody confirmed the number.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// When it was done, stopped or aborted.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A run of the selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkLine {
    /// The run.
    pub run_id: RunId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Its workflow.
    pub workflow: String,
    /// Its key.
    pub key: String,
    /// What came of it.
    pub outcome: BulkOutcome,
    /// Why not, in words.
    pub detail: Option<String>,
    /// When.
    pub acted_at: Option<DateTime<Utc>>,
}

/// Which runs of a selection are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct LineFilter {
    /// Those that came to this.
    pub outcome: Option<BulkOutcome>,
    /// Those after the last run of the page before.
    pub after: Option<RunId>,
}

/// Freezes a selection. `owner` is whose runs were looked through, the system tenant for all.
/// Nothing is done until the number is confirmed. The transaction must act as the engine.
///
/// # Errors
/// [`EngineError::BadBulk`] when there is no run, too many, or a field does not fit;
/// [`EngineError::Malformed`] for a bad reason.
pub async fn prepare(
    conn: &mut PgConnection,
    owner: TenantId,
    new: &NewBulk,
    runs: &[RunId],
    act: &Act,
) -> Result<Bulk, EngineError> {
    operator::check_reason(&act.reason)?;
    check(new, runs, act)?;
    let place = store::run::find_place(conn, owner)
        .await?
        .ok_or(EngineError::UnknownTenant(owner))?;
    let bulk_id = BulkId::new(place.shard_id);
    let frozen = store::bulk::Frozen {
        bulk_id,
        tenant_id: owner,
        selected: i32::try_from(runs.len()).unwrap_or(i32::MAX),
    };
    store::bulk::insert(conn, frozen, new, act).await?;
    let inserted = store::bulk::insert_lines(conn, bulk_id, runs).await?;
    if usize::try_from(inserted) != Ok(runs.len()) {
        return Err(bad("filter", "a run that it found is gone; ask again"));
    }
    find(conn, bulk_id).await
}

fn check(new: &NewBulk, runs: &[RunId], act: &Act) -> Result<(), EngineError> {
    if act.reason.chars().count() > MAX_REASON {
        let wrong = format!("the reason of an operation has at most {MAX_REASON} characters");
        return Err(bad("reason", &wrong));
    }
    if !(1..=MAX_PACE).contains(&new.pace) {
        let wrong = format!("1 to {MAX_PACE} runs per second");
        return Err(bad("pace", &wrong));
    }
    if new.stop_after.is_some_and(|stop| stop < 1) {
        return Err(bad("stop_after", "at least 1, or nothing"));
    }
    if runs.is_empty() {
        return Err(bad("filter", "it finds no run"));
    }
    if i64::try_from(runs.len()).is_ok_and(|count| count > MAX_FOUND) {
        let wrong = format!("it finds more than {MAX_FOUND} runs; narrow it");
        return Err(bad("filter", &wrong));
    }
    Ok(())
}

fn bad(field: &'static str, detail: &str) -> EngineError {
    EngineError::BadBulk {
        field,
        detail: detail.to_owned(),
    }
}

/// Finds an operation. Which tenants' are seen is up to the connection's role.
///
/// # Errors
/// [`EngineError::BulkNotFound`].
pub async fn find(conn: &mut PgConnection, bulk: BulkId) -> Result<Bulk, EngineError> {
    let found = store::bulk::list(conn, Some(bulk), None, 1).await?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| EngineError::BulkNotFound(bulk.to_string()))
}

/// Lists operations, newest first; `after` is the last one of the page before.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    after: Option<BulkId>,
    limit: i64,
) -> Result<Vec<Bulk>, EngineError> {
    Ok(store::bulk::list(conn, None, after, limit).await?)
}

/// Lists the runs of a selection, in the order in which they are acted on.
///
/// # Errors
/// When the database does not answer.
pub async fn lines(
    conn: &mut PgConnection,
    bulk: BulkId,
    wanted: &LineFilter,
    limit: i64,
) -> Result<Vec<BulkLine>, EngineError> {
    Ok(store::bulk::list_lines(conn, bulk, wanted, limit).await?)
}

/// Confirms the number of runs, and begins to act. The transaction must act as the engine; call
/// [`Client::ring`] after its commit.
///
/// # Errors
/// [`EngineError::CountDiffers`] when the number is not the selection's;
/// [`EngineError::NotAllowed`] when it was confirmed or aborted before.
pub async fn confirm(
    conn: &mut PgConnection,
    client: &Client,
    bulk: BulkId,
    count: i64,
    act: &Act,
) -> Result<Bulk, EngineError> {
    operator::check_reason(&act.reason)?;
    let before = lock(conn, bulk).await?;
    if before.status != BulkStatus::Prepared {
        return Err(not_allowed("confirm", before.status));
    }
    if count != i64::from(before.selected) {
        return Err(EngineError::CountDiffers {
            said: count,
            selected: before.selected,
        });
    }
    let key = bulk.to_string();
    let started = client
        .start::<BulkWorkflow>(conn, SYSTEM_TENANT, &key, &bulk)
        .await?;
    store::bulk::confirm(conn, bulk, started.run_id).await?;
    let after = find(conn, bulk).await?;
    audit(conn, "bulk-confirm", act, &before, &after).await?;
    Ok(after)
}

/// Ends an operation before its time: no run more is acted on. The transaction must act as the
/// engine.
///
/// # Errors
/// [`EngineError::NotAllowed`] when it has ended; [`EngineError::Malformed`] for a bad reason.
pub async fn abort(conn: &mut PgConnection, bulk: BulkId, act: &Act) -> Result<Bulk, EngineError> {
    operator::check_reason(&act.reason)?;
    let before = lock(conn, bulk).await?;
    if !store::bulk::end(conn, bulk, BulkStatus::Aborted).await? {
        return Err(not_allowed("abort", before.status));
    }
    let after = find(conn, bulk).await?;
    audit(conn, "bulk-abort", act, &before, &after).await?;
    Ok(after)
}

async fn lock(conn: &mut PgConnection, bulk: BulkId) -> Result<Bulk, EngineError> {
    store::bulk::lock(conn, bulk).await?;
    find(conn, bulk).await
}

fn not_allowed(verb: &'static str, status: BulkStatus) -> EngineError {
    EngineError::NotAllowed {
        verb,
        reason: format!("the operation is {}", status.word()),
    }
}

async fn audit(
    conn: &mut PgConnection,
    action: &'static str,
    act: &Act,
    before: &Bulk,
    after: &Bulk,
) -> Result<(), EngineError> {
    let shard = after.bulk_id.shard();
    let row = Audit {
        audit_id: id::new_uuid(shard),
        subject: RunId(after.bulk_id.0),
        shard_id: shard,
        tenant_id: after.tenant_id,
        action,
        before: &shape(before),
        after: &shape(after),
    };
    Ok(store::operator::insert_audit(conn, act, &row).await?)
}

/// What an audit row keeps of an operation.
fn shape(bulk: &Bulk) -> Value {
    json!({
        "status": bulk.status.word(),
        "verb": bulk.action.word(),
        "filter": bulk.filter,
        "selected": bulk.selected,
        "done": bulk.done,
    })
}
