//! Pages and details for humans, and `why` a run is not moving.
//!
//! `why` is computed from the same row that is shown, as of one instant, by one pure function; it
//! names the evidence, so that it can be checked and is never a guess.

mod why;

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::error::EngineError;
use crate::fan_out;
use crate::id::{ClockId, RunId, TenantId};
use crate::operator;
use crate::priority::Priority;
use crate::private::Private;
use crate::registry::Registry;
use crate::retention::Hold;
use crate::ring::{self, Ring};
use crate::run::{Deadline, InboxKind, RunKey, SignalOutcome, Status, StoredError};
use crate::seal::{Keyring, Reader};
use crate::store;
use crate::store::inspect::RunRow;
use crate::undo::Undo;
use crate::workflow::Reception;
use why::{Around, Workers, wants_a_visit};

/// The most lines of one kind that a detail shows.
const MAX_LINES: i64 = 500;

/// A run as lists show it.
#[derive(Debug, Clone, Serialize)]
pub struct RunSummary {
    /// Identity.
    pub run_id: RunId,
    /// The owner.
    pub tenant_id: TenantId,
    /// The workflow's name.
    pub workflow: String,
    /// The caller's name for the run.
    pub key: String,
    /// Version of the workflow that wrote the state.
    pub version: i32,
    /// Where the engine has it.
    pub status: Status,
    /// Where the workflow is.
    pub state: String,
    /// Raised by each claim.
    pub epoch: i64,
    /// Counts visits.
    pub visit: i64,
    /// Failed attempts of the current visit.
    pub attempt: i32,
    /// The next deadline (the tenant's time) or attempt (real time).
    pub next_at: Option<DateTime<Utc>>,
    /// The tenant's test clock.
    pub clock_id: Option<ClockId>,
    /// The kind of stuck.
    pub stuck: Option<String>,
    /// The last error.
    pub error: Option<StoredError>,
    /// When it started, in the tenant's time.
    pub started_at: DateTime<Utc>,
    /// When it last changed, in real time.
    pub changed_at: DateTime<Utc>,
}

impl RunSummary {
    /// What an act has to carry: it rises with everything that happens to the run.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.epoch + self.visit
    }

    /// When it was made, on the clock on the wall.
    #[must_use]
    pub fn made_at(&self) -> DateTime<Utc> {
        match self.clock_id {
            None => self.started_at,
            // The id is made by another machine's clock than the row is written by.
            Some(_) => self.run_id.made_at().min(self.changed_at),
        }
    }

    /// Whether `next_at` is read on the test clock: deadlines are, attempts are not.
    #[must_use]
    pub fn next_is_on_test_clock(&self) -> bool {
        let tries = matches!(self.status, Status::Retrying | Status::Undoing);
        let attempts = self.attempt > 0 || tries;
        self.clock_id.is_some() && !attempts
    }
}

/// Everything about one run.
#[derive(Debug, Clone)]
pub struct RunDetail {
    /// As in lists.
    pub summary: RunSummary,
    /// The state with its data.
    pub data: Value,
    /// What it left behind.
    pub output: Option<Value>,
    /// What it is found by, where its workflow declares that.
    pub attributes: Option<Value>,
    /// The deadlines of its state, in the tenant's time.
    pub deadlines: Vec<Deadline>,
    /// The run that started it.
    pub parent_run_id: Option<RunId>,
    /// How urgent it is.
    pub priority: Priority,
    /// Why it is where it is.
    pub why: Why,
    /// What steps under way reported last, the newest first.
    pub progress: Vec<ProgressLine>,
    /// The legal holds that keep it: its own and its tenant's.
    pub holds: Vec<Hold>,
}

impl RunDetail {
    /// Whether a verb makes sense for the run as it was seen.
    ///
    /// # Errors
    /// The reason, in words for the operator.
    pub fn may(&self, word: &str) -> Result<(), &'static str> {
        operator::may(word, self.summary.status)?;
        if matches!(word, "move-deadline" | "fire-deadline") && self.deadlines.is_empty() {
            return Err("it has no deadline");
        }
        Ok(())
    }
}

/// The last report of a step that works long.
#[derive(Debug, Clone)]
pub struct ProgressLine {
    /// The step.
    pub step: String,
    /// What it reported.
    pub value: Value,
    /// When, in real time.
    pub reported_at: DateTime<Utc>,
}

impl ProgressLine {
    /// What was reported, for people: a text as it is, `{done, of}` as a part of the whole.
    #[must_use]
    pub fn words(&self) -> String {
        let part = |name: &str| self.value.get(name).and_then(Value::as_f64);
        match (&self.value, part("done"), part("of")) {
            (Value::String(text), ..) => text.clone(),
            (value, Some(done), Some(of)) if of > 0.0 => format!(
                "{:.0} % ({} of {})",
                100.0 * done / of,
                value["done"],
                value["of"]
            ),
            (value, ..) => value.to_string(),
        }
    }
}

/// Why a run is not moving, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Stable: `waiting_for_signal`, `waiting_for_children`, `waiting_for_runs`, `waiting_in_ring`,
    /// `waiting_for_deadline`, `starts_later`, `due`, `running`, `no_worker`,
    /// `worker_lost`, `retrying`, `stuck`, `no_handler`, `paused`, `blocked`, `blocked_by_limit`,
    /// `blocked_by_breaker`, `blocked_by_pause`, `undoing`, `ended`.
    pub kind: &'static str,
    /// In words.
    pub summary: String,
    /// What the words rest on.
    pub evidence: Vec<(&'static str, String)>,
}

/// An answered step.
#[derive(Debug, Clone)]
pub struct StepLine {
    /// The visit that asked for it.
    pub visit: i64,
    /// Its place in the visit.
    pub seq: i32,
    /// Its name.
    pub name: String,
    /// Its answer.
    pub answer: Option<Value>,
    /// The error that the handler was given instead.
    pub error: Option<StoredError>,
    /// Version of the workflow that asked.
    pub version: i32,
    /// When, in real time.
    pub recorded_at: DateTime<Utc>,
}

/// One visit in the log.
#[derive(Debug, Clone)]
pub struct TransitionLine {
    /// The visit.
    pub visit: i64,
    /// When, in real time.
    pub at: DateTime<Utc>,
    /// When, in the tenant's time, where that differs.
    pub tenant_at: Option<DateTime<Utc>>,
    /// What it was for.
    pub event: String,
    /// The state before.
    pub from_state: String,
    /// The state after.
    pub to_state: String,
    /// went, stayed, completed, failed, cancelled, retrying, stuck, no handler.
    pub outcome: String,
    /// The error of a failed attempt.
    pub detail: Option<String>,
}

/// A message to a run.
#[derive(Debug, Clone)]
pub struct SignalLine {
    /// The sender's id.
    pub signal_id: String,
    /// What kind of message.
    pub(crate) kind: InboxKind,
    /// The variant's name.
    pub name: String,
    /// The signal.
    pub payload: Value,
    /// When, in the tenant's time.
    pub received_at: DateTime<Utc>,
    /// When, in real time.
    pub recorded_at: DateTime<Utc>,
    /// What became of it.
    pub outcome: SignalOutcome,
    /// Why it was rejected.
    pub reason: Option<String>,
}

impl SignalLine {
    /// What of it is private, in the inbox of a run of this workflow. An end of another run bears that
    /// run's output, of which its own workflow says what is private.
    #[must_use]
    pub fn private(&self, registry: &Registry, workflow: &str) -> Private {
        let private = registry.private(workflow);
        let ended = self.payload.get("workflow").and_then(Value::as_str);
        match (self.kind, ended) {
            (InboxKind::RunFinished, Some(ended)) => private.or(registry.private(ended)),
            _ => private,
        }
    }

    /// `signal`, `run finished`, `cancel` or `terminate`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.kind {
            InboxKind::Signal => "signal",
            InboxKind::RunFinished => "run finished",
            InboxKind::Cancel => "cancel",
            InboxKind::Terminate => "terminate",
        }
    }
}

/// Shows one run. Which tenants' runs are seen is up to the connection's role.
///
/// # Errors
/// [`EngineError::RunNotFound`].
pub async fn detail(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
) -> Result<RunDetail, EngineError> {
    let mut row = store::inspect::find(conn, run, run.shard())
        .await?
        .ok_or_else(|| EngineError::RunNotFound(run.to_string()))?;
    let keys = registry.keyring().reader(row.summary.tenant_id).await?;
    if let Ok(Cow::Owned(opened)) = keys.open(&row.data) {
        row.data = opened;
    }
    let undo = row.stored_undo.as_deref();
    let undo = undo.and_then(|stored| keys.open(stored).ok());
    row.undo = undo.and_then(|opened| Undo::decode(&opened));
    let (workflow, version) = (&row.summary.workflow, row.summary.version);
    let (live, able) = store::inspect::count_workers(conn, workflow, version).await?;
    let visit = row.summary.visit;
    // What was never claimed has done nothing.
    let idle = row.summary.status.is_finished() || row.summary.epoch == 0;
    let progress = if idle {
        Vec::new()
    } else {
        store::progress::list(conn, run, run.shard(), visit, &keys).await?
    };
    let heard = match row.summary.status {
        Status::Waiting => heard(registry, workflow, version, &keys.show(&row.data)),
        _ => Vec::new(),
    };
    let around = around(conn, &row, (live, able), heard).await?;
    let mut why = match ring(conn, &row, &around).await? {
        Some(ring) => why::in_a_ring(&row, &ring),
        None => {
            let private = registry.private(workflow);
            why::with_progress(why::why(&row, &around), &progress, &private, row.now)
        }
    };
    let holds =
        store::retention::list_holds_of(conn, row.summary.tenant_id, run, run.shard()).await?;
    let held = holds.iter().map(|hold| {
        let since = why::rfc3339(hold.since);
        format!("since {since}, {}: {}", hold.author, hold.reason)
    });
    why.evidence.extend(held.map(|words| ("legal hold", words)));
    Ok(RunDetail {
        data: keys.show(&row.data),
        output: row.output.as_deref().map(|output| keys.show(output)),
        deadlines: row.deadlines(),
        attributes: row.attributes,
        parent_run_id: row.parent_run_id,
        priority: row.priority,
        why,
        progress,
        holds,
        summary: row.summary,
    })
}

/// Finds whose run it is.
///
/// # Errors
/// [`EngineError::RunNotFound`].
pub async fn tenant_of(conn: &mut PgConnection, run: RunId) -> Result<TenantId, EngineError> {
    store::run::find_identity(conn, run, run.shard())
        .await?
        .map(|identity| identity.tenant_id)
        .ok_or_else(|| EngineError::RunNotFound(run.to_string()))
}

/// What of a run's payloads is private.
///
/// # Errors
/// [`EngineError::RunNotFound`].
pub async fn private_of(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
) -> Result<Private, EngineError> {
    let found = store::run::find_identity(conn, run, run.shard()).await?;
    let found = found.ok_or_else(|| EngineError::RunNotFound(run.to_string()))?;
    Ok(registry.private(&found.workflow))
}

/// Whether a run has ended, or is no more: nothing that it was to do comes of itself.
///
/// # Errors
/// When the database does not answer.
pub async fn has_ended(conn: &mut PgConnection, run: RunId) -> Result<bool, EngineError> {
    let found = store::run::find_identity(conn, run, run.shard()).await?;
    Ok(found.is_none_or(|found| found.status.is_finished()))
}

/// Lists answered steps, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn steps(
    conn: &mut PgConnection,
    keyring: &Keyring,
    run: RunId,
) -> Result<Vec<StepLine>, EngineError> {
    let keys = reader(conn, keyring, run).await?;
    Ok(store::inspect::list_steps(conn, run, run.shard(), MAX_LINES, &keys).await?)
}

/// Lists visits, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn transitions(
    conn: &mut PgConnection,
    run: RunId,
) -> Result<Vec<TransitionLine>, EngineError> {
    Ok(store::inspect::list_transitions(conn, run, run.shard(), MAX_LINES).await?)
}

/// Lists messages, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn signals(
    conn: &mut PgConnection,
    keyring: &Keyring,
    run: RunId,
) -> Result<Vec<SignalLine>, EngineError> {
    let keys = reader(conn, keyring, run).await?;
    Ok(store::inspect::list_signals(conn, run, run.shard(), MAX_LINES, &keys).await?)
}

/// What opens a run's payloads; without a master key nobody is asked whose it is.
async fn reader(
    conn: &mut PgConnection,
    keyring: &Keyring,
    run: RunId,
) -> Result<Reader, EngineError> {
    if !keyring.seals() {
        return Ok(Reader::default());
    }
    let found = store::run::find_identity(conn, run, run.shard()).await?;
    match found {
        Some(identity) => keyring.reader(identity.tenant_id).await,
        None => Ok(Reader::default()),
    }
}

/// Counts runs by workflow and status.
///
/// # Errors
/// When the database does not answer.
pub async fn counts(conn: &mut PgConnection) -> Result<Vec<(String, Status, i64)>, EngineError> {
    Ok(store::inspect::count(conn).await?)
}

/// Reads what is around a run that its own row does not say.
async fn around(
    conn: &mut PgConnection,
    row: &RunRow,
    (live, able): (i64, i64),
    heard: Vec<&'static str>,
) -> sqlx::Result<Around> {
    let run = row.summary.run_id;
    let mut around = Around {
        workers: Workers {
            live,
            able,
            wanted: false,
        },
        heard,
        awaited: Vec::new(),
        place: None,
        paused_by: None,
    };
    if row.summary.status == Status::Blocked {
        around.place = store::waiter::find(conn, run, run.shard()).await?;
    }
    if row.pausing || row.summary.status == Status::Paused {
        around.paused_by = store::audit::find_pause(conn, run, run.shard()).await?;
    }
    if row.summary.status != Status::Waiting {
        return Ok(around);
    }
    if row.pending > 0 {
        let pending = store::inspect::list_pending(conn, run, run.shard()).await?;
        around.workers.wanted = wants_a_visit(&pending, &around.heard, &row.deadlines());
    }
    // A fan-out counts its children itself, and it may have any number.
    if row.summary.workflow != fan_out::NAME {
        let most = why::MAX_AWAITED;
        around.awaited = store::inspect::list_awaited(conn, run, run.shard(), most).await?;
    }
    Ok(around)
}

/// The ring that a run is in, where it waits for nothing else.
async fn ring(
    conn: &mut PgConnection,
    row: &RunRow,
    around: &Around,
) -> sqlx::Result<Option<Ring>> {
    let waits = row.summary.status == Status::Waiting && row.summary.next_at.is_none();
    if !waits || around.workers.wanted {
        return Ok(None);
    }
    let run_id = row.summary.run_id;
    let shard_id = run_id.shard();
    ring::around(conn, RunKey { run_id, shard_id }).await
}

/// Which signals a run that waits would handle at once, as far as this process knows its workflow.
fn heard(registry: &Registry, workflow: &str, version: i32, data: &Value) -> Vec<&'static str> {
    let kinds = registry.signals(workflow, version, data).into_iter();
    let handled = kinds.filter(|kind| kind.reception == Some(Reception::Accept));
    handled.map(|kind| kind.name).collect()
}
