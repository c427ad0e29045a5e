//! Pages and details for humans, and `why` a run is not moving.
//!
//! `why` is computed from the same row that is shown, as of one instant, by one pure function; it
//! names the evidence, so that it can be checked and is never a guess.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::choose::RUN_START;
use crate::error::EngineError;
use crate::fan_out::{self, Going};
use crate::gate::Door;
use crate::id::{ClockId, RunId, TenantId};
use crate::operator;
use crate::priority::Priority;
use crate::registry::Registry;
use crate::retention::Hold;
use crate::ring::{self, Ring};
use crate::run::{Deadline, InboxKind, RunKey, SignalOutcome, Status, StoredError};
use crate::seal::{Keyring, Reader};
use crate::store;
use crate::store::inspect::RunRow;
use crate::store::waiter::Standing;
use crate::undo::Undo;
use crate::workflow::Reception;

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
    /// Stable: `waiting_for_signal`, `waiting_for_children`, `waiting_in_ring`,
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
    let mut workers = Workers {
        live,
        able,
        wanted: false,
    };
    if row.summary.status == Status::Waiting && row.pending > 0 && workers.none() {
        let pending = store::inspect::list_pending(conn, run, run.shard()).await?;
        workers.wanted = wants_a_visit(&pending, &heard, &row.deadlines());
    }
    let mut why = match row.summary.status {
        Status::Blocked => blocked(&row, store::waiter::find(conn, run, run.shard()).await?),
        Status::Waiting if row.summary.next_at.is_none() => {
            let key = RunKey {
                run_id: run,
                shard_id: run.shard(),
            };
            let ring = ring::around(conn, key).await?;
            match ring {
                Some(ring) => in_a_ring(&row, &ring),
                None => with_progress(why(&row, workers, &heard), &progress, row.now),
            }
        }
        _ => with_progress(why(&row, workers, &heard), &progress, row.now),
    };
    let holds =
        store::retention::list_holds_of(conn, row.summary.tenant_id, run, run.shard()).await?;
    let held = holds.iter().map(|hold| {
        let since = rfc3339(hold.since);
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

/// Which signals a run that waits would handle at once, as far as this process knows its workflow.
fn heard(registry: &Registry, workflow: &str, version: i32, data: &Value) -> Vec<&'static str> {
    let kinds = registry.signals(workflow, version, data).into_iter();
    let handled = kinds.filter(|kind| kind.reception == Some(Reception::Accept));
    handled.map(|kind| kind.name).collect()
}

/// Whether a run that waits would do something about one of its messages: what its state leaves for later
/// waits for another state, and before its start a run hears only what ends it.
fn wants_a_visit(pending: &[(InboxKind, String)], heard: &[&str], deadlines: &[Deadline]) -> bool {
    let is_early = deadlines.iter().any(|one| one.name == RUN_START);
    pending.iter().any(|(kind, name)| match kind {
        InboxKind::Signal => !is_early && heard.contains(&name.as_str()),
        InboxKind::RunFinished => !is_early,
        InboxKind::Cancel | InboxKind::Terminate => true,
    })
}

/// So many are up, and so many of those know the run's workflow in its version.
#[derive(Clone, Copy)]
struct Workers {
    live: i64,
    able: i64,
    /// A message waits for one of them, not for another state of the run.
    wanted: bool,
}

impl Workers {
    fn none(self) -> bool {
        self.able == 0
    }

    fn evidence(self, row: &RunRow) -> (&'static str, String) {
        let (Self { live, able, .. }, summary) = (self, &row.summary);
        let (workflow, version) = (&summary.workflow, summary.version);
        let words =
            format!("{live} live, {able} know workflow {workflow} in version {version} or newer");
        ("workers", words)
    }

    /// Why nobody takes up a run, as far as it is for want of a worker.
    fn missing(self, row: &RunRow, what: &str, mut evidence: Vec<(&'static str, String)>) -> Why {
        evidence.push(self.evidence(row));
        Why {
            kind: "no_worker",
            summary: format!("{what}, but no worker that knows its workflow is running."),
            evidence,
        }
    }
}

/// Says why the run is where it is, and which signals it would handle at once.
fn why(row: &RunRow, workers: Workers, heard: &[&str]) -> Why {
    let summary = &row.summary;
    match summary.status {
        Status::Due => due(row, workers),
        Status::Running => running(row),
        Status::Waiting => waiting(row, workers, heard),
        Status::Retrying => retrying(row, workers),
        Status::Stuck => stuck(row),
        Status::NoHandler => Why {
            kind: "no_handler",
            summary: format!(
                "No live worker knows workflow {} in version {} or newer. It goes on by itself as \
                 soon as one does.",
                summary.workflow, summary.version
            ),
            evidence: vec![workers.evidence(row), since(row)],
        },
        Status::Undoing => undoing(row, workers),
        Status::Paused => simple("paused", "An operator has paused it.", row),
        Status::Blocked => blocked(row, None),
        Status::Completed | Status::Failed | Status::Cancelled | Status::Terminated => {
            let error = summary.error.as_ref();
            let reason = error.map_or(String::new(), |error| {
                format!(" ({}: {})", error.code, error.message)
            });
            let words = format!("It has ended: {}{reason}.", summary.status);
            simple("ended", &words, row)
        }
    }
}

/// Adds what steps under way reported last.
fn with_progress(mut why: Why, progress: &[ProgressLine], now: DateTime<Utc>) -> Why {
    for line in progress {
        let ago = (now - line.reported_at).num_seconds().max(0);
        let words = format!("{}: {}, last report {ago} s ago", line.step, line.words());
        why.summary = format!("{} Step {words}.", why.summary);
        why.evidence.push(("progress", words));
    }
    why
}

fn simple(kind: &'static str, words: &str, row: &RunRow) -> Why {
    Why {
        kind,
        summary: words.to_owned(),
        evidence: vec![since(row)],
    }
}

fn since(row: &RunRow) -> (&'static str, String) {
    let since = row.parked_since.unwrap_or(row.summary.changed_at);
    ("since", rfc3339(since))
}

fn due(row: &RunRow, workers: Workers) -> Why {
    if let Some(at) = row.due_at.filter(|at| *at > row.now) {
        return Why {
            kind: "due",
            summary: format!(
                "Its schedule spreads its runs over time: it begins at {}.",
                rfc3339(at)
            ),
            evidence: vec![("due at", rfc3339(at)), workers.evidence(row)],
        };
    }
    let since = ("due since", row.due_at.map_or_else(String::new, rfc3339));
    if workers.none() {
        return workers.missing(row, "It is due", vec![since]);
    }
    Why {
        kind: "due",
        summary: "It is due: the next free worker takes it.".to_owned(),
        evidence: vec![since, workers.evidence(row)],
    }
}

fn running(row: &RunRow) -> Why {
    let name = row.worker_name.clone().unwrap_or_default();
    let worker = ("worker", name.clone());
    match row.worker_expires_at {
        Some(expires) if expires > row.now => Why {
            kind: "running",
            // Whether the process is alive shows only when its lease ends.
            summary: format!(
                "Worker {name} holds it. If it is not heard of before {}, another takes it over.",
                rfc3339(expires)
            ),
            evidence: vec![worker, ("lease until", rfc3339(expires)), since(row)],
        },
        expires => Why {
            kind: "worker_lost",
            summary: "The worker that held it is gone. Another takes it as soon as the lost \
                      lease is cleared, within seconds."
                .to_owned(),
            evidence: vec![
                worker,
                ("lease until", expires.map_or("unknown".to_owned(), rfc3339)),
            ],
        },
    }
}

fn waiting(row: &RunRow, workers: Workers, heard: &[&str]) -> Why {
    let deadlines = row.deadlines();
    let next = deadlines.iter().min_by_key(|deadline| deadline.at);
    let mut evidence = vec![("since", rfc3339(row.summary.changed_at))];
    if row.pending > 0 {
        evidence.push(("signals in the inbox", row.pending.to_string()));
    }
    // Beside the time of a test clock the real one would mislead.
    let (clock, since) = if row.summary.clock_id.is_some() {
        evidence.push(("test clock stands at", rfc3339(row.tenant_now)));
        (" on its test clock", String::new())
    } else {
        ("", format!(" since {}", rfc3339(row.summary.changed_at)))
    };
    if let Some(going) = fan_out::read(&row.summary.workflow, &row.data) {
        return children(&going, evidence);
    }
    let state = &row.summary.state;
    if workers.wanted {
        return workers.missing(row, "There is a message for it", evidence);
    }
    let signals = match heard {
        [] => "a signal".to_owned(),
        names => format!("signal {}", names.join(" or ")),
    };
    let Some(next) = next else {
        return Why {
            kind: "waiting_for_signal",
            summary: format!(
                "State {state} waits{since} for {signals} or another run's end; it has no deadline."
            ),
            evidence,
        };
    };
    evidence.push((
        "next deadline",
        format!("{} {}", next.name, rfc3339(next.at)),
    ));
    if next.at <= row.tenant_now {
        let what = format!("Deadline {} has passed", next.name);
        if workers.none() {
            return workers.missing(row, &what, evidence);
        }
        evidence.push(workers.evidence(row));
        return Why {
            kind: "due",
            summary: format!("{what}: the next free worker takes it."),
            evidence,
        };
    }
    if next.name == RUN_START {
        return Why {
            kind: "starts_later",
            summary: format!(
                "It starts at {}{clock}; signals are kept until then.",
                rfc3339(next.at)
            ),
            evidence,
        };
    }
    Why {
        kind: "waiting_for_deadline",
        summary: format!(
            "State {state} waits{since} until {}{clock} for deadline {}; {signals} may come first.",
            rfc3339(next.at),
            next.name
        ),
        evidence,
    }
}

fn in_a_ring(row: &RunRow, ring: &Ring) -> Why {
    Why {
        kind: "waiting_in_ring",
        summary: format!(
            "It waits for the end of a run that waits for its own: {ring}. Unless a signal moves one \
             of them, none goes on; cancel one."
        ),
        evidence: vec![("each waits for the next", ring.to_string()), since(row)],
    }
}

fn children(going: &Going, mut evidence: Vec<(&'static str, String)>) -> Why {
    let ended = going.ended;
    evidence.push((
        "children",
        format!("{} of {} started", going.started, going.total),
    ));
    evidence.push(("completed", ended.completed.to_string()));
    let badly = ended.sum() - ended.completed;
    evidence.push(("failed, cancelled, terminated", badly.to_string()));
    Why {
        kind: "waiting_for_children",
        summary: format!(
            "It waits for children: {} of {} have ended, {} live, at most {} may.",
            ended.sum(),
            going.total,
            going.alive(),
            going.at_most
        ),
        evidence,
    }
}

fn retrying(row: &RunRow, workers: Workers) -> Why {
    let summary = &row.summary;
    let error = summary.error.as_ref();
    let at = row.due_at.or(summary.next_at);
    let step = error
        .and_then(|error| error.step.as_ref())
        .map_or("The visit".to_owned(), |step| format!("Step {step}"));
    let reason = error.map_or(String::new(), |error| {
        format!("{}: {}", error.code, error.message)
    });
    let most = error.and_then(|error| error.max_attempts);
    let happened = match (summary.attempt, most) {
        (0, _) => "was cut off".to_owned(),
        (attempts, Some(most)) => format!("failed in {attempts} of {most} attempts"),
        (attempts, None) => format!("failed in {attempts} attempts"),
    };
    let evidence = vec![
        ("failed attempts", summary.attempt.to_string()),
        ("next attempt", at.map_or_else(String::new, rfc3339)),
        ("last error", reason.clone()),
    ];
    if at.is_some_and(|at| at <= row.now) && workers.none() {
        let what = format!("{step} {happened} because: {reason}. Its next attempt is due");
        return workers.missing(row, &what, evidence);
    }
    Why {
        kind: "retrying",
        summary: format!(
            "{step} {happened}; it is tried again at {} because: {reason}",
            at.map_or_else(String::new, rfc3339),
        ),
        evidence,
    }
}

fn blocked(row: &RunRow, place: Option<Standing>) -> Why {
    let Some(place) = place else {
        let words = "There is room for it now: the next free worker takes it.";
        return simple("blocked", words, row);
    };
    let ahead = place.ahead;
    let mut evidence = vec![("since", rfc3339(place.since))];
    let (kind, summary) = match &place.door {
        Door::Limit { name, key } => {
            let whose = if key.is_empty() {
                String::new()
            } else {
                format!(", key {key}")
            };
            evidence.push(("ahead of it", ahead.to_string()));
            let words = format!("Blocked by limit {name}{whose}, {ahead} ahead of it.");
            ("blocked_by_limit", words)
        }
        Door::Breaker { name } => {
            let at = place.probe_at.map(rfc3339);
            let at = at.map_or_else(
                || "an operator closes it".to_owned(),
                |at| format!("about {at}"),
            );
            evidence.push(("ahead of it", ahead.to_string()));
            let words = format!(
                "Its next step asks {name}, which keeps failing: it waits, and no attempt is \
                 burnt, until {at}.",
            );
            ("blocked_by_breaker", words)
        }
        Door::Pause { scope, name } => {
            let words = format!("{scope} {name} is paused; it goes on when that is lifted.");
            ("blocked_by_pause", words)
        }
    };
    evidence.extend(place.reason.map(|reason| ("reason", reason)));
    Why {
        kind,
        summary,
        evidence,
    }
}

fn undoing(row: &RunRow, workers: Workers) -> Why {
    let left = row.undo.iter().flat_map(|undo| &undo.left);
    let left: Vec<_> = left.rev().map(|reverse| reverse.name.as_str()).collect();
    let mut evidence = vec![("left to reverse", left.join(", ")), since(row)];
    if row.due_at.is_some_and(|at| at <= row.now) && workers.none() {
        if let Some(error) = &row.summary.error {
            evidence.push(("failed attempts", row.summary.attempt.to_string()));
            evidence.push(("last error", format!("{}: {}", error.code, error.message)));
        }
        let what = "What a failed visit did is to be reversed";
        return workers.missing(row, what, evidence);
    }
    let summary = match &row.summary.error {
        None => "A visit failed for good; it reverses what that did, newest first.".to_owned(),
        Some(error) => {
            let at = row.due_at.map_or_else(String::new, rfc3339);
            evidence.push(("failed attempts", row.summary.attempt.to_string()));
            format!(
                "It reverses what a failed visit did; the reverse failed and is tried again at \
                 {at} because: {}: {}",
                error.code, error.message
            )
        }
    };
    Why {
        kind: "undoing",
        summary,
        evidence,
    }
}

fn stuck(row: &RunRow) -> Why {
    let summary = &row.summary;
    let kind = summary.stuck.clone().unwrap_or_default();
    let error = summary.error.as_ref();
    let words = match kind.as_str() {
        "attempts_exhausted" => "Its attempts are used up",
        "terminal_error" => "A step failed for good and the workflow has no branch for it",
        "undecodable" => "What is stored cannot be read by this version of the workflow",
        "undo_failed" => "It was reversing what a failed visit did, and a reverse failed",
        "journal_mismatch" => "The code changed in the middle of a visit",
        "worker_lost" => "It was in the hands of a worker that died, too many times in a row",
        "payload_too_large" => "It produced a payload over the limit",
        "not_recordable" => "The database will never take the answer of a step",
        "panicked" => "Its code panicked",
        _ => "It cannot go on",
    };
    let reason = error.map_or(String::new(), |error| {
        let step = error.step.as_ref();
        let step = step.map_or(String::new(), |step| format!("step {step}: "));
        format!("{step}{}: {}", error.code, error.message)
    });
    let left = row.undo.iter().flat_map(|undo| &undo.left).rev();
    let left: Vec<_> = left.map(|reverse| reverse.name.as_str()).collect();
    let losses = (row.losses > 0).then(|| ("workers lost", row.losses.to_string()));
    let mut evidence = vec![("kind", kind), ("last error", reason.clone()), since(row)];
    evidence.extend(losses);
    if !left.is_empty() {
        evidence.push(("left to reverse", left.join(", ")));
    }
    Why {
        kind: "stuck",
        summary: format!("{words}. {reason}. Only a human can help: mend the cause, then retry."),
        evidence,
    }
}

fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
