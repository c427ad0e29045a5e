//! What workflow code holds during a visit: `step`, `transact`, `now`, `uuid`.
//!
//! Each of them asks the journal first. What was answered in an earlier attempt of the same visit
//! is replayed; the rest is done and recorded. A step that fails under its policy does not return:
//! the visit is cut off, and comes back when the delay has passed. What is recorded without an
//! outside effect (`now`, `uuid`) rides with the next record, and is durable before the next
//! outside effect starts, so that a repeated effect is the same to the letter.
//!
//! The answer of a step is on its way to the disk when the handler has it. The next effect waits
//! until it is there, and the end of the visit is settled with it or after it; so whatever follows
//! from an answer is preceded by it, and the last step of a visit costs no wait of its own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Mutex;
use tokio::time::error::Elapsed;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::breaker::Breakers;
use crate::clock;
use crate::committer::{Committer, Landed, Landing, Unrecorded};
use crate::error::{ErrorRecord, Retry, StepError};
use crate::gate;
use crate::id::{self, RunId, ShardId, TenantId};
use crate::journal::{Asked, Entry, Journal};
use crate::payload;
use crate::plan::{self, Suspension};
use crate::private;
use crate::progress::{CutOff, Reports};
use crate::registry::Registry;
use crate::retry::{self, Exhausted, RetryPolicy};
use crate::run::{ClaimedRun, InboxItem, StoredError};
use crate::seal::TenantKeys;
use crate::seats::Seats;
use crate::store;
use crate::store::progress::Place;
use crate::store::step::StepRecord;
use crate::tally;
use crate::testkit::Moment;
use crate::undo::{self, Reverse};

/// The durable side of one visit.
pub struct Context {
    run: ClaimedRun,
    pin: String,
    journal: RefCell<Journal>,
    riders: RefCell<Vec<StepRecord>>,
    /// The records that are on their way, in their order.
    landings: RefCell<VecDeque<Landing>>,
    /// Who waits for them holds it, so that nobody passes.
    gate: Mutex<()>,
    reverses: RefCell<Vec<Reverse>>,
    suspension: RefCell<Option<Suspension>>,
    event_recorded: Cell<bool>,
    received_at: Option<DateTime<Utc>>,
    tools: Tools,
    opened: Instant,
}

/// What a visit is for.
pub(crate) struct Occasion {
    /// The event, as the journal names it.
    pub(crate) pin: String,
    /// When the message came that it is for, in the tenant's time; none for what is no message.
    pub(crate) received_at: Option<DateTime<Utc>>,
}

impl Occasion {
    /// Of a visit that is for a message, if it is for one.
    pub(crate) fn of(pin: String, message: Option<&InboxItem>) -> Self {
        let received_at = message.map(|item| item.received_at);
        Self { pin, received_at }
    }
}

/// What the steps of a visit work with.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) committer: Committer,
    pub(crate) pool: PgPool,
    pub(crate) seats: Arc<Seats>,
    pub(crate) breakers: Arc<Breakers>,
    /// The room that the visit was given.
    pub(crate) permits: Vec<gate::Place>,
    pub(crate) registry: Registry,
}

/// One attempt at a step.
#[derive(Debug, Clone)]
pub struct Step {
    /// The same for every attempt of this step of this visit, and for no other: hand it to the
    /// outside as an idempotency key.
    pub key: String,
    /// Counts from 1.
    pub attempt: u32,
    /// Whether this attempt may be a repeat of one whose answer was lost.
    pub repeated: bool,
    pub(crate) reports: Arc<Reports>,
}

/// What is known of the attempts at a step when one begins.
#[derive(Debug, Clone, Copy)]
struct Tries {
    /// This one, from 1.
    attempt: u32,
    /// When the first one began, in real time.
    began: DateTime<Utc>,
    /// How long ago that is.
    spent: Duration,
    /// When this one began.
    at: Instant,
}

impl Tries {
    /// How long the step has taken by now.
    fn elapsed(&self) -> Duration {
        self.spent + (clock::monotonic() - self.at)
    }
}

impl Context {
    pub(crate) fn new(
        run: ClaimedRun,
        occasion: Occasion,
        entries: Vec<Entry>,
        tools: Tools,
    ) -> Self {
        Self {
            event_recorded: Cell::new(!entries.is_empty()),
            run,
            pin: occasion.pin,
            received_at: occasion.received_at,
            journal: RefCell::new(Journal::new(entries)),
            riders: RefCell::default(),
            landings: RefCell::default(),
            gate: Mutex::default(),
            reverses: RefCell::default(),
            suspension: RefCell::default(),
            tools,
            opened: clock::monotonic(),
        }
    }

    /// The run that is being visited.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.run.key.run_id
    }

    /// Its owner.
    #[must_use]
    pub fn tenant_id(&self) -> TenantId {
        self.run.tenant_id
    }

    /// Its owner's shard.
    #[must_use]
    pub fn shard_id(&self) -> ShardId {
        self.run.key.shard_id
    }

    /// The caller's name for the run.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.run.run_key
    }

    /// The tenant's time, recorded: a retried visit gets the same again.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.ride("now", || self.run.tenant_now)
    }

    /// When the message came that this visit answers (a signal, a cancel, another run's end), in the
    /// tenant's time; `None` when it answers none. It is stored with the message, so it is the same for
    /// every attempt; [`Context::now`] is later when work was late.
    #[must_use]
    pub fn received_at(&self) -> Option<DateTime<Utc>> {
        self.received_at
    }

    /// A new id that carries the run's shard, recorded.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.ride("uuid", || id::new_uuid(self.run.key.shard_id))
    }

    /// Registers a reverse: if this visit fails for good, or is given up for a cancel, the engine
    /// calls [`Workflow::undo`](crate::Workflow::undo) with `name` and `args`, newest first.
    ///
    /// Register it before the step that it reverses: it is durable before that step's effect
    /// starts, and so covers an effect whose answer was lost.
    pub fn on_undo(&self, name: &str, args: &impl Serialize) {
        let name = format!("{}{name}", undo::PREFIX);
        let args = serde_json::to_value(args).unwrap_or_default();
        let args = self.ride(&name, || args);
        let name = name[undo::PREFIX.len()..].to_owned();
        self.reverses.borrow_mut().push(Reverse { name, args });
    }

    /// What this attempt has registered, in order.
    pub(crate) fn take_reverses(&self) -> Vec<Reverse> {
        self.reverses.take()
    }

    /// The records that the visit's end comes after.
    pub(crate) fn take_landings(&self) -> VecDeque<Landing> {
        self.landings.take()
    }

    /// What the tenant's payloads are sealed with.
    pub(crate) fn keys(&self) -> &TenantKeys {
        &self.run.keys
    }

    pub(crate) fn payload_limit(&self) -> usize {
        self.tools.registry.payload_limit()
    }

    /// The workflows that this process knows, for the engine's own.
    pub(crate) fn registry(&self) -> &Registry {
        &self.tools.registry
    }

    /// The pool of the engine's role, for the engine's own workflows.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.tools.pool
    }

    /// Does one outside thing and keeps its answer.
    ///
    /// `work` may run more than once, with the same [`Step::key`]; a refusal by the outside is an
    /// answer, not an error. Retryable errors do not come back here while the policy allows
    /// another attempt: the visit is cut off and repeated later.
    ///
    /// The answer is durable before the next step's effect starts and before anything of the
    /// transition is, but not yet when this returns: an effect belongs into a step.
    ///
    /// # Errors
    /// A terminal error of `work`, or its last one when the policy is exhausted and says
    /// [`Exhausted::Return`]. The error is kept, so that a repeated visit sees it again.
    pub async fn step<T, F>(
        &self,
        name: &'static str,
        policy: &RetryPolicy,
        work: F,
    ) -> Result<T, StepError>
    where
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(Step) -> Result<T, StepError>,
    {
        let seq = match self.ask(name).await {
            Ok(seq) => seq,
            Err(entry) => return self.replay(entry).await,
        };
        let probe = match policy.dependency {
            Some(dependency) => self.approach(dependency).await,
            None => false,
        };
        if !self.riders.borrow().is_empty() {
            if self.tools.registry.is_played() {
                self.landed().await;
            }
            self.pass(Moment::Riding, name).await?;
        }
        self.flush().await;
        let tries = self.tries(name);
        let span = self.span(name, tries.attempt);
        let may_fail = policy.max_attempts > 1;
        let result = match self.pass(Moment::Before { may_fail }, name).await {
            Ok(()) => {
                self.attempt(name, seq, policy, &tries, work)
                    .instrument(span.clone())
                    .await
            }
            Err(error) => Err(error),
        };
        let outcome = tally::attempted(&self.run.workflow, name, &result);
        span.record("outcome", outcome);
        if let Some(dependency) = policy.dependency {
            let breakers = &self.tools.breakers;
            breakers
                .hear(&self.tools.pool, dependency, probe, &result)
                .await;
        }
        match result {
            Ok(value) => {
                self.pass(Moment::Answered, name).await?;
                let answer = self.encode(name, &value).await;
                self.record(self.entry(name, seq, false, answer));
                Ok(value)
            }
            Err(error) => self.failed(name, seq, policy, &tries, error).await,
        }
    }

    /// Passes a moment at which a play of the test kit may break the visit.
    async fn pass(&self, moment: Moment, step: &str) -> Result<(), StepError> {
        let registry = &self.tools.registry;
        registry.pass(moment, &self.run.workflow, step).await
    }

    /// One attempt, cut off when it takes too long or stops reporting.
    async fn attempt<T, F>(
        &self,
        name: &'static str,
        seq: i32,
        policy: &RetryPolicy,
        tries: &Tries,
        work: F,
    ) -> Result<T, StepError>
    where
        F: AsyncFnOnce(Step) -> Result<T, StepError>,
    {
        let place = Place {
            key: self.run.key,
            tenant_id: self.run.tenant_id,
            epoch: self.run.epoch,
            visit: self.run.visit,
            seq,
            step: name,
        };
        let reports = Reports::new(
            place,
            self.run.begun,
            &self.tools.pool,
            &self.tools.committer,
            self.keys(),
        );
        let step = Step {
            key: self.step_key(name),
            attempt: tries.attempt,
            repeated: self.run.begun,
            reports: reports.clone(),
        };
        let limit = policy.attempt_limit(tries.spent);
        let attempted = AssertUnwindSafe(tokio::time::timeout(limit, work(step))).catch_unwind();
        let (result, fenced) = tokio::select! {
            biased;
            done = attempted => (told(done, limit), false),
            cut = reports.keep(policy.report_within) => match cut {
                CutOff::Silent(error) => (Err(error), false),
                CutOff::Fenced => (Err(StepError::retryable("fenced", "taken away")), true),
            },
        };
        // What the next attempt goes on from.
        if fenced || (result.is_err() && !reports.flush().await) {
            return self.suspend(Suspension::Abandon).await;
        }
        result
    }

    fn tries(&self, name: &str) -> Tries {
        let at = clock::monotonic();
        let now = self.run.now + (at - self.opened);
        let began = plan::began(&self.run, Some(name)).unwrap_or(now);
        Tries {
            attempt: plan::attempt_of(&self.run, Some(name)).unsigned_abs() + 1,
            began,
            spent: (now - began).to_std().unwrap_or_default(),
            at,
        }
    }

    /// Goes on to a dependency that answers, or is the one that probes (true); otherwise the visit
    /// is cut off until it does.
    async fn approach(&self, dependency: &'static str) -> bool {
        if gate::is_probe(&self.tools.permits, dependency) {
            return true;
        }
        if self.tools.breakers.is_shut(dependency) {
            return self.suspend(Suspension::Shut { dependency }).await;
        }
        false
    }

    /// Runs the caller's SQL and keeps its answer, in one transaction: exactly once.
    ///
    /// The transaction speaks for the run's tenant: row-level security shows it no other.
    /// Errors of the database are tried again under [`RetryPolicy::DEFAULT`].
    /// Not within another one: each waits for a connection while it may hold one.
    ///
    /// # Errors
    /// A terminal error of `work`; nothing that it wrote is kept.
    pub async fn transact<T, F>(&self, name: &'static str, work: F) -> Result<T, StepError>
    where
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, StepError>,
    {
        let seq = match self.ask(name).await {
            Ok(seq) => seq,
            Err(entry) => return self.replay(entry).await,
        };
        let policy = RetryPolicy::DEFAULT;
        self.landed().await;
        // Before anything is counted: whose turn has not come is not late.
        let seat = self
            .tools
            .seats
            .take(self.run.tenant_id, self.run.level)
            .await;
        let tries = self.tries(name);
        let span = self.span(name, tries.attempt);
        let limit = policy.attempt_timeout;
        let once = tokio::time::timeout(limit, self.transact_once(name, seq, work));
        let once = AssertUnwindSafe(once).catch_unwind();
        let result = match self.pass(Moment::Before { may_fail: true }, name).await {
            Ok(()) => told(once.instrument(span.clone()).await, limit),
            Err(error) => Err(error),
        };
        drop(seat);
        let outcome = tally::attempted(&self.run.workflow, name, &result);
        span.record("outcome", outcome);
        match result {
            Ok(value) => Ok(value),
            Err(error) => self.failed(name, seq, &policy, &tries, error).await,
        }
    }

    async fn transact_once<T, F>(
        &self,
        name: &'static str,
        seq: i32,
        work: F,
    ) -> Result<T, StepError>
    where
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, StepError>,
    {
        let mut tx = crate::pool::begin_for(&self.tools.pool, self.run.tenant_id).await?;
        let value = work(&mut tx).await?;
        let answer = self.encode(name, &value).await;
        store::step::leave_tenant(&mut tx).await?;
        let mut records = self.riders.borrow().clone();
        records.push(self.entry(name, seq, false, answer));
        // Fence last: the run's row lock is held only from here to the commit.
        let hold = (self.tools.committer.worker(), self.run.epoch);
        if !store::step::record_in_transaction(&mut tx, hold, &records).await? {
            drop(tx);
            tally::fenced(records.len());
            return self.suspend(Suspension::Abandon).await;
        }
        tx.commit().await?;
        // Another one may have been drawn meanwhile.
        let written = |rider: &StepRecord| records.iter().any(|record| record.seq == rider.seq);
        self.riders.borrow_mut().retain(|rider| !written(rider));
        Ok(value)
    }

    /// What follows a failed attempt: cut the visit off, or give the handler the error.
    async fn failed<T>(
        &self,
        name: &'static str,
        seq: i32,
        policy: &RetryPolicy,
        tries: &Tries,
        error: StepError,
    ) -> Result<T, StepError> {
        let (spent, attempt) = (tries.elapsed(), tries.attempt);
        let uncounted = match error.retry {
            Retry::Away => retry::when_away(spent, clock::chance()),
            _ => None,
        };
        let uncounted = uncounted.filter(|delay| policy.fits(spent, *delay));
        let delay = uncounted.or_else(|| match error.retry {
            Retry::Never => None,
            Retry::After(delay) => policy.delay_after(spent, attempt, 0.0).map(|_| delay),
            Retry::ByPolicy | Retry::Away => policy.delay_after(spent, attempt, clock::chance()),
        });
        if let Some(delay) = delay {
            let error = StoredError {
                began: Some(tries.began),
                max_attempts: Some(policy.max_attempts),
                ..stored(name, error.record)
            };
            let again = Suspension::Retry {
                delay,
                error,
                counts: uncounted.is_none(),
            };
            return self.suspend(again).await;
        }
        if !error.is_terminal() && policy.exhausted == Exhausted::Stuck {
            let kind = "attempts_exhausted";
            let error = stored(name, error.record);
            return self.suspend(Suspension::Stuck { kind, error }).await;
        }
        let answer = self.encode(name, &error.record).await;
        self.record(self.entry(name, seq, true, answer));
        Err(StepError::terminal(error.record.code, error.record.message))
    }

    /// A value that is recorded with whatever is recorded next.
    fn ride<T: Serialize + DeserializeOwned>(&self, name: &str, make: impl FnOnce() -> T) -> T {
        let asked = self.journal.borrow_mut().ask(name);
        let seq = match asked {
            Asked::Replay(entry) => match serde_json::from_slice(&entry.answer) {
                Ok(value) => return value,
                Err(_) => return make(),
            },
            Asked::New { seq } => seq,
            Asked::Mismatch { unasked } => {
                self.set_suspension(mismatch(name, &unasked));
                return make();
            }
        };
        let value = make();
        let answer = serde_json::to_vec(&value).unwrap_or_default();
        let record = self.entry(name, seq, false, answer);
        self.riders.borrow_mut().push(record);
        value
    }

    /// The step's place if it is new, or its entry if it was answered before.
    async fn ask(&self, name: &'static str) -> Result<i32, Entry> {
        let asked = self.journal.borrow_mut().ask(name);
        match asked {
            Asked::Replay(entry) => Err(entry),
            Asked::New { seq } if self.tools.committer.is_trusted() => Ok(seq),
            Asked::New { .. } => self.suspend(Suspension::Abandon).await,
            Asked::Mismatch { unasked } => self.suspend(mismatch(name, &unasked)).await,
        }
    }

    async fn replay<T: DeserializeOwned>(&self, entry: Entry) -> Result<T, StepError> {
        if entry.failed {
            let record: ErrorRecord = self.decode(&entry).await;
            return Err(StepError::terminal(record.code, record.message));
        }
        Ok(self.decode(&entry).await)
    }

    async fn decode<T: DeserializeOwned>(&self, entry: &Entry) -> T {
        match serde_json::from_slice(&entry.answer) {
            Ok(value) => value,
            Err(error) => {
                let handler = self.registry().find(&self.run.workflow);
                let names = handler.map_or(&[][..], |handler| handler.private());
                let words = private::misfit(names, &error);
                let error = stored(&entry.name, record("undecodable_answer", words));
                let kind = "undecodable";
                self.suspend(Suspension::Stuck { kind, error }).await
            }
        }
    }

    async fn encode<T: Serialize>(&self, name: &str, value: &T) -> Vec<u8> {
        match payload::to_bytes("answer", value, self.payload_limit()) {
            Ok(bytes) => bytes,
            Err(error) => {
                let error = stored(name, record("payload_too_large", error.to_string()));
                let kind = "payload_too_large";
                self.suspend(Suspension::Stuck { kind, error }).await
            }
        }
    }

    fn entry(&self, name: &str, seq: i32, failed: bool, answer: Vec<u8>) -> StepRecord {
        let first = !self.event_recorded.replace(true);
        StepRecord {
            key: self.run.key,
            visit: self.run.visit,
            seq,
            version: self.run.version,
            failed,
            name: name.to_owned(),
            event: first.then(|| self.pin.clone()),
            answer: self.run.keys.seal(answer).into_owned(),
        }
    }

    /// Makes durable what has been recorded, and the riders: an outside effect is about to start.
    async fn flush(&self) {
        let riders = std::mem::take(&mut *self.riders.borrow_mut());
        if !riders.is_empty() {
            self.send(riders);
        }
        self.landed().await;
    }

    /// Records with the riders, and waits for nothing.
    fn record(&self, record: StepRecord) {
        let mut records = std::mem::take(&mut *self.riders.borrow_mut());
        records.push(record);
        self.send(records);
    }

    fn send(&self, records: Vec<StepRecord>) {
        let landing = self.tools.committer.record(self.run.tenant_id, records);
        self.landings.borrow_mut().push_back(landing);
    }

    /// Waits until what has been recorded is durable. A landing stays where it is until it is known what
    /// came of it: whoever drops this loses none.
    async fn landed(&self) {
        let _gate = self.gate.lock().await;
        let next = || {
            std::future::poll_fn(|cx| {
                let mut landings = self.landings.borrow_mut();
                let Some(first) = landings.front_mut() else {
                    return Poll::Ready(None);
                };
                let landed = ready!(first.poll(cx));
                landings.pop_front();
                Poll::Ready(Some(landed))
            })
        };
        while let Some(landed) = next().await {
            if let Some(suspension) = cut_off_by(landed) {
                self.suspend(suspension).await
            }
        }
    }

    /// Of one attempt; below what is logged, for whoever exports traces.
    fn span(&self, name: &'static str, attempt: u32) -> Span {
        tracing::debug_span!(
            "step",
            run.id = %self.run.key.run_id,
            step.name = name,
            step.attempt = attempt,
            outcome = Empty,
        )
    }

    fn step_key(&self, name: &str) -> String {
        let occurrence = self.journal.borrow().occurrence(name);
        let (run, visit) = (self.run.key.run_id, self.run.visit);
        format!("{run}:{visit}:{name}:{occurrence}")
    }

    fn set_suspension(&self, suspension: Suspension) {
        self.suspension.borrow_mut().get_or_insert(suspension);
    }

    /// Cuts the visit off: the future that awaits this never goes on.
    async fn suspend<T>(&self, suspension: Suspension) -> T {
        self.set_suspension(suspension);
        std::future::pending().await
    }

    /// Runs the visit until it answers or is cut off.
    pub(crate) async fn run_until_suspended<F: Future>(
        &self,
        visit: F,
    ) -> Result<F::Output, Suspension> {
        let mut visit = pin!(visit);
        std::future::poll_fn(|cx| {
            let polled = visit.as_mut().poll(cx);
            match (polled, self.suspension.borrow_mut().take()) {
                (_, Some(suspension)) => Poll::Ready(Err(suspension)),
                (Poll::Ready(output), None) => Poll::Ready(Ok(output)),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }
}

/// What came of an attempt; a panic and a time-out are failures.
fn told<T>(
    done: std::thread::Result<Result<Result<T, StepError>, Elapsed>>,
    limit: Duration,
) -> Result<T, StepError> {
    match done {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(StepError::retryable(
            "timed_out",
            format!("no answer within {limit:?}"),
        )),
        Err(panic) => Err(StepError::retryable("panicked", panic_text(&*panic))),
    }
}

fn record(code: &str, message: String) -> ErrorRecord {
    ErrorRecord {
        code: code.to_owned(),
        message,
    }
}

fn stored(step: &str, record: ErrorRecord) -> StoredError {
    StoredError {
        code: record.code,
        message: record.message,
        step: Some(step.to_owned()),
        event: None,
        began: None,
        max_attempts: None,
    }
}

/// How a visit is cut off by what came of a record, if it is.
pub(crate) fn cut_off_by(landed: Landed) -> Option<Suspension> {
    match landed {
        Ok(true) => None,
        Ok(false) => Some(Suspension::Abandon),
        Err(error) => Some(not_recordable(error)),
    }
}

/// What becomes of a visit whose answer the database will never take.
pub(crate) fn not_recordable(error: Unrecorded) -> Suspension {
    Suspension::Stuck {
        kind: "not_recordable",
        error: stored(&error.step, record("not_recordable", error.message)),
    }
}

fn mismatch(asked: &str, unasked: &str) -> Suspension {
    let message = format!(
        "the visit asks for {asked:?}, but its journal holds an answer of {unasked:?} \
         that it has not asked for: the code has changed in the middle of a visit"
    );
    Suspension::Stuck {
        kind: "journal_mismatch",
        error: stored(asked, record("journal_mismatch", message)),
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked without a message".to_owned())
}
