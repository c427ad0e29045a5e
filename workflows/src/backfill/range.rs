//! One range of a backfill: walked by key, a batch a visit, or compared.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tenure_engine::{
    Context, Event, Exhausted, Guard, GuardNeed, Reception, RetryPolicy, StepError, TenantId,
    Transition, Workflow,
};
use uuid::Uuid;

use super::ground::{self, Closed, Opened};
use super::pace::{Pace, Seen};
use super::rows::{self, Note, Tally};
use super::sql::{Shape, object};
use super::store::{self, Compared, Filled, Key, Span, WalMark};
use super::throttle::{Readings, Reason, decide, unseen};
use super::trouble::{Kind, Trouble, Verdict, judge};
use super::{Backfill, Range, RangeStatus};
use crate::environment::Environment;
use crate::product::{OnceKey, ProductError};

// Input.

/// Which range, and what is done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The backfill.
    pub backfill_id: Uuid,
    /// The range.
    pub range_id: Uuid,
    /// The pass that it belongs to.
    pub pass: i32,
    /// What is done.
    pub work: Work,
}

/// What is done with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Its rows are filled.
    Fill,
    /// They are compared.
    Verify {
        /// Whether somebody skipped the range, which stays skipped.
        skipped: bool,
    },
}

/// The key of a range's run.
pub(super) fn key(of: &Input) -> String {
    format!("{}/{}/{}", of.backfill_id, of.range_id, of.pass)
}

// States and signals.

/// Where a range is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// Batches are done.
    Walking {
        /// Which range.
        of: Input,
        /// How far it is.
        at: Walk,
    },
    /// Somebody has to help.
    Held {
        /// Which range.
        of: Input,
        /// How far it came.
        at: Walk,
        /// What stopped it.
        why: Trouble,
    },
}

/// How far a range is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Walk {
    cursor: Option<Key>,
    /// Names the next statement in the ledger.
    seq: u64,
    done: i64,
    written: i64,
    pace: Option<Pace>,
    wal: Option<WalMark>,
    /// How often in a row a lock was not to be had.
    busy: u32,
    /// What it rests for, so that it is written down once.
    resting: Option<String>,
    /// What is to throttle it and cannot, because the login does not see it.
    #[serde(default)]
    unseen: Vec<String>,
    tally: Option<Tally>,
}

/// What a person may tell a range.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// Go on where it was held.
    Retry,
    /// Leave it as it is.
    Skip {
        /// Who says so.
        by: String,
        /// Why.
        reason: String,
    },
}

/// What became of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Its rows were filled.
    Filled,
    /// They were compared.
    Verified,
    /// Somebody left it.
    Skipped,
    /// Its tenant is gone.
    Gone,
    /// The backfill went elsewhere.
    Superseded,
}

/// The workflow.
pub struct RangeWorkflow {
    environment: Environment,
}

impl RangeWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

/// The next look of a range that rests.
const LOOK: &str = "look";
const LOOK_PAUSED: Duration = Duration::from_secs(1);
const LOOK_BUSY: Duration = Duration::from_secs(2);
const LOOK_QUIET: Duration = Duration::from_secs(5);
const LOOK_HELD: Duration = Duration::from_secs(3);
/// After how many locks in a row that were not to be had a person is asked.
const MAX_BUSY: u32 = 30;
/// A visit ends after so long; what is left of a rest then keeps no worker.
const VISIT: Duration = Duration::from_secs(2);
/// A database that is away is asked again for hours; then an operator decides.
const POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 200,
    attempt_timeout: Duration::from_secs(600),
    exhausted: Exhausted::Stuck,
    ..RetryPolicy::DEFAULT
};

/// Where it is decided what becomes of a range.
const ACTS: &str =
    "POST /v1/backfills/{name}/ranges/{range_id}/actions/{verb} (tenure backfill --help)";

// Handle.

impl Workflow for RangeWorkflow {
    const NAME: &'static str = "backfill-range";
    const VERSION: i32 = 1;
    const GUARD: Guard = Guard {
        start: GuardNeed::Door("POST /v1/backfills (tenure backfill start)"),
        signals: &[
            ("Retry", GuardNeed::Door(ACTS)),
            ("Skip", GuardNeed::Door(ACTS)),
        ],
        verbs: GuardNeed::Admin,
        ..Guard::OPEN
    };
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Outcome;

    fn start(&self, of: Input) -> State {
        State::Walking {
            of,
            at: Walk::default(),
        }
    }

    fn receive(&self, state: &State, signal: &Signal) -> Reception {
        let (State::Walking { of, .. } | State::Held { of, .. }) = state;
        match (state, signal) {
            (State::Walking { .. }, Signal::Retry) => Reception::Reject("it is not held"),
            (State::Walking { .. }, Signal::Skip { .. }) if of.work != Work::Fill => {
                Reception::Reject("it is being verified, and not held")
            }
            _ => Reception::Accept,
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Walking { of, at }, Event::Entered | Event::Deadline(_)) => {
                self.walk(cx, of, at).await
            }
            (State::Held { of, at, why }, Event::Entered) => {
                let detail = serde_json::to_value(&why)?;
                note(cx, &of, &at, RangeStatus::Held, Some(detail), 0).await?;
                Ok(Transition::stay(State::Held { of, at, why }).after(LOOK, LOOK_HELD))
            }
            (State::Held { of, at, why }, Event::Deadline(_)) => {
                self.look_again(cx, of, at, why).await
            }
            (State::Held { of, at, .. }, Event::Signal(Signal::Retry)) => {
                let at = Walk {
                    pace: None,
                    busy: 0,
                    resting: None,
                    ..at
                };
                Ok(Transition::go(State::Walking { of, at }))
            }
            (
                State::Held { of, at, .. } | State::Walking { of, at },
                Event::Signal(Signal::Skip { by, reason }),
            ) => {
                let detail = json!({ "by": by, "reason": reason });
                match of.work {
                    Work::Fill => note(cx, &of, &at, RangeStatus::Skipped, Some(detail), 0).await?,
                    Work::Verify { .. } => leave(cx, &of, RangeStatus::Skipped, detail).await?,
                }
                Ok(Transition::complete(Outcome::Skipped))
            }
            (_, Event::CancelRequested) => Ok(Transition::cancelled()),
            (
                state,
                Event::Signal(Signal::Retry)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => Ok(Transition::stay(state)),
        }
    }
}

// Steps.

/// What a visit came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Answer {
    /// The backfill is in another pass.
    Superseded,
    /// Somebody paused it.
    Paused,
    /// The database is too busy, or the hour is quiet.
    Throttled { at: Walk, reasons: Vec<Reason> },
    /// Rows were done.
    Walked {
        at: Walk,
        rows: u32,
        ended: bool,
        /// How long after the beginning of this visit the next one begins; nothing means at once.
        #[serde(default)]
        rest: Duration,
    },
    /// Somebody has to help.
    Held { at: Walk, why: Trouble },
    /// The tenant is nowhere, or where the backfill does not reach.
    Gone { why: String },
}

impl RangeWorkflow {
    /// Whether a range that is held still has anybody's rows, in a pass that still goes on.
    async fn look_again(
        &self,
        cx: &Context,
        of: Input,
        at: Walk,
        why: Trouble,
    ) -> Result<Transition<Self>, StepError> {
        let environment = &self.environment;
        let look = async |_| {
            let backfill = ground::backfill(environment, of.backfill_id).await;
            backfill.map(|backfill| backfill.pass)
        };
        if cx.step("look", &POLICY, look).await? != of.pass {
            return Ok(Transition::complete(Outcome::Superseded));
        }
        let look = async |_| {
            let (backfill, range, _) =
                ground::range(environment, of.backfill_id, of.range_id).await?;
            ground::gone_of(environment, &backfill, TenantId(range.owner_id)).await
        };
        if let Some(gone) = cx.step("look-for-tenant", &POLICY, look).await? {
            leave(cx, &of, RangeStatus::Gone, json!({ "reason": gone })).await?;
            return Ok(Transition::complete(Outcome::Gone));
        }
        Ok(Transition::stay(State::Held { of, at, why }).after(LOOK, LOOK_HELD))
    }

    async fn walk(&self, cx: &Context, of: Input, at: Walk) -> Result<Transition<Self>, StepError> {
        let (now, began) = (cx.now(), Instant::now());
        let answer = cx
            .step("batch", &POLICY, async |step| {
                if !at.unseen.is_empty() {
                    let unseen = at.unseen.join(", ");
                    step.progress(&format!("not seen, and so throttling nothing: {unseen}"))?;
                }
                let (backfill, range, at_work) =
                    ground::range(&self.environment, of.backfill_id, of.range_id).await?;
                if backfill.pass != of.pass {
                    return Ok(Answer::Superseded);
                }
                if backfill.paused {
                    return Ok(Answer::Paused);
                }
                if let Some(reason) = backfill
                    .definition
                    .quiet
                    .as_ref()
                    .and_then(|q| q.holds(now))
                {
                    let reasons = vec![reason];
                    return Ok(Answer::Throttled {
                        at: at.clone(),
                        reasons,
                    });
                }
                // Who begins, or goes on after a pause, is seldom the only one that does.
                let at_work = match at.pace.is_none() || at.resting.is_some() {
                    true => backfill.definition.parallel,
                    false => at_work,
                };
                let at = at.clone();
                self.batch(&of, at, (&backfill, &range), (began, at_work))
                    .await
            })
            .await?;
        follow(cx, of, at, answer).await
    }

    /// Opens the place, looks how busy it is, and does some statements.
    async fn batch(
        &self,
        of: &Input,
        at: Walk,
        (backfill, range): (&Backfill, &Range),
        (began, at_work): (Instant, u32),
    ) -> Result<Answer, StepError> {
        let opened = ground::open(&self.environment, backfill, TenantId(range.owner_id)).await?;
        let opened = match opened {
            Ok(opened) => opened,
            Err(Closed::Gone(why)) => return Ok(Answer::Gone { why }),
            Err(Closed::Failed(error)) => return settle(at, error),
        };
        if opened.frozen {
            let reasons = vec![Reason {
                code: "placement_frozen".to_owned(),
                detail: "the tenant is being moved and may not be written to".to_owned(),
            }];
            return Ok(Answer::Throttled { at, reasons });
        }
        let (shape, readings, wal) = match look(&opened, backfill, at.wal.as_ref()).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(why)) => return Ok(Answer::Held { at, why }),
            Err(error) => return settle(at, error),
        };
        let limits = &backfill.definition.throttle;
        let source = &opened.target.source;
        let unseen = unseen(&readings, limits).into_iter();
        let at = Walk {
            wal: Some(wal),
            unseen: unseen.map(|code| format!("{source}: {code}")).collect(),
            ..at
        };
        let reasons = decide(&readings, limits);
        if !reasons.is_empty() {
            return Ok(Answer::Throttled { at, reasons });
        }
        let pace = at
            .pace
            .unwrap_or_else(|| Pace::first(&backfill.definition.pace));
        let batch = Batch {
            of,
            backfill,
            range,
            opened: &opened,
            shape: &shape,
            at,
            pace,
            at_work,
            rows: 0,
            began,
            rest: Duration::ZERO,
        };
        match of.work {
            Work::Fill => batch.fill().await,
            Work::Verify { .. } => batch.verify().await,
        }
    }
}

/// Reads the table's shape and how busy its database is. Without the trigger what is filled would
/// not stay right.
async fn look(
    opened: &Opened,
    backfill: &Backfill,
    before: Option<&WalMark>,
) -> Result<Result<(Shape, Readings, WalMark), Trouble>, ProductError> {
    let of = &backfill.definition;
    let mut tx = opened.site.begin().await?;
    let shape = store::shape(&mut tx, &opened.site, of, &opened.target.table).await?;
    if of.generates_trigger() && !store::trigger_fires(&mut tx, &shape.table, &object(of)).await? {
        let detail = format!("{} on {} is gone, or is disabled", object(of), shape.table);
        return Ok(Err(Trouble::new(Kind::TriggerGone, detail)));
    }
    let (readings, mark) = store::readings(&mut tx, &shape.table, before).await?;
    tx.rollback().await?;
    Ok(Ok((shape, readings, mark)))
}

/// What follows an error before a statement was begun.
fn settle(at: Walk, error: ProductError) -> Result<Answer, StepError> {
    match judge(&error) {
        Verdict::Hold(why) => Ok(Answer::Held { at, why }),
        _ => Err(error.into()),
    }
}

/// Some statements at an open place.
struct Batch<'a> {
    of: &'a Input,
    backfill: &'a Backfill,
    range: &'a Range,
    opened: &'a Opened,
    shape: &'a Shape,
    at: Walk,
    pace: Pace,
    /// How many ranges work.
    at_work: u32,
    /// Rows that were done in this visit.
    rows: u32,
    /// When the visit began.
    began: Instant,
    /// How long is to be rested before the next statement.
    rest: Duration,
}

/// Why no more statements are done in a visit.
enum Stopped {
    /// The range is at its end.
    AtTheEnd,
    /// The next visit goes on.
    Between,
    /// Something is in the way.
    With(Box<Answer>),
}

impl Batch<'_> {
    async fn fill(mut self) -> Result<Answer, StepError> {
        let mut keys = Vec::new();
        let stopped = self.fill_some(&mut keys).await?;
        self.opened.site.flush(&keys).await?;
        Ok(match stopped {
            Stopped::With(answer) => *answer,
            Stopped::AtTheEnd => {
                self.rest_at_the_end().await;
                self.walked(true)
            }
            Stopped::Between => self.walked(false),
        })
    }

    /// Does some statements, and says under which keys. The product's commits would wait for each flush of
    /// theirs, so they are flushed together.
    async fn fill_some(&mut self, keys: &mut Vec<OnceKey>) -> Result<Stopped, StepError> {
        let of = &self.backfill.definition;
        for _ in 0..of.pace.sub_batches {
            let asked = self.pace.rows;
            let (shape, after) = (self.shape, self.after());
            let key = self.key(after.as_ref());
            let span = Span {
                after: after.as_ref(),
                to: self.range.to.as_ref(),
            };
            let fill = async |conn: &mut sqlx::PgConnection| {
                store::fill(conn, shape, of, span, asked).await
            };
            let began = Instant::now();
            let filled = self.opened.site.once_in_memory(&key, fill).await;
            self.rest = of.pace.rest(began.elapsed(), self.at_work);
            match filled {
                Ok(filled) => {
                    keys.push(key);
                    if self.take(filled) {
                        return Ok(Stopped::AtTheEnd);
                    }
                }
                Err(error) => {
                    if let Some(answer) = self.judge(error, asked).await? {
                        return Ok(Stopped::With(Box::new(answer)));
                    }
                }
            }
            if !self.goes_on().await {
                break;
            }
        }
        Ok(Stopped::Between)
    }

    /// What the next statement is known by: where it begins. Of what was lost in memory other spans may come
    /// the second time, and what stands in the ledger from the first answers only who comes to its place.
    fn key(&self, after: Option<&Key>) -> OnceKey {
        let place = Sha256::digest(serde_json::to_vec(&after).unwrap_or_default());
        let place = hex::encode(&place[..16]);
        let name = format!("{}/{}/{place}", self.of.range_id, self.of.pass);
        OnceKey::new(self.of.backfill_id, name)
    }

    fn after(&self) -> Option<Key> {
        self.at.cursor.clone().or_else(|| self.range.after.clone())
    }

    /// Takes what a statement did; whether the range has come to its end.
    fn take(&mut self, filled: Filled) -> bool {
        self.at.seq += 1;
        self.at.busy = 0;
        let Some(last) = filled.last else {
            return true;
        };
        self.advance(last, filled.rows, filled.ms, filled.wal_bytes);
        self.at.written += i64::try_from(filled.written).unwrap_or(i64::MAX);
        filled.short
    }

    fn advance(&mut self, last: Key, rows: u32, ms: f64, wal_bytes: f64) {
        let seen = Seen {
            rows,
            ms,
            wal_bytes,
        };
        self.pace = self.pace.after(&self.backfill.definition.pace, seen);
        self.at.cursor = Some(last);
        self.at.done += i64::from(rows);
        self.rows = self.rows.saturating_add(rows);
    }

    /// Rests after the last statement of a range, as far as the visit goes.
    async fn rest_at_the_end(&mut self) {
        let left = VISIT.saturating_sub(self.began.elapsed());
        tenure_engine::sleep(std::mem::take(&mut self.rest).min(left)).await;
    }

    /// Rests, if the visit is not over by then; whether it goes on.
    async fn goes_on(&mut self) -> bool {
        if self.began.elapsed() + self.rest > VISIT {
            return false;
        }
        tenure_engine::sleep(std::mem::take(&mut self.rest)).await;
        true
    }

    fn walked(self, ended: bool) -> Answer {
        Answer::Walked {
            at: Walk {
                pace: Some(self.pace),
                ..self.at
            },
            rows: self.rows,
            ended,
            // A deadline counts from when the visit began.
            rest: match self.rest.is_zero() {
                true => Duration::ZERO,
                false => self.began.elapsed() + self.rest,
            },
        }
    }

    /// What follows a statement that failed; none where a smaller one may do.
    async fn judge(
        &mut self,
        error: ProductError,
        asked: u32,
    ) -> Result<Option<Answer>, StepError> {
        let timed_out = || Trouble::new(Kind::TimedOut, "one row took longer than the time-out");
        let why = match judge(&error) {
            Verdict::Split | Verdict::Narrow(_) if asked > 1 => {
                self.pace = self.pace.halved(asked);
                return Ok(None);
            }
            Verdict::Split => self.with_key(timed_out()).await,
            Verdict::Narrow(detail) => self.with_key(Trouble::new(Kind::RowRefused, detail)).await,
            Verdict::Busy(detail) if self.at.busy >= MAX_BUSY => Trouble::new(Kind::Locked, detail),
            Verdict::Busy(detail) => {
                self.at.busy += 1;
                let code = "locked".to_owned();
                let reasons = vec![Reason { code, detail }];
                let at = self.rest();
                return Ok(Some(Answer::Throttled { at, reasons }));
            }
            Verdict::Hold(why) => why,
            Verdict::Again => return Err(error.into()),
        };
        let at = self.rest();
        Ok(Some(Answer::Held { at, why }))
    }

    fn rest(&mut self) -> Walk {
        Walk {
            pace: Some(self.pace),
            ..std::mem::take(&mut self.at)
        }
    }

    /// Names the row that the next statement would have begun with.
    async fn with_key(&self, why: Trouble) -> Trouble {
        let after = self.after();
        let span = Span {
            after: after.as_ref(),
            to: self.range.to.as_ref(),
        };
        let found = async {
            let mut tx = self.opened.site.begin().await?;
            Ok::<_, ProductError>(store::page(&mut tx, self.shape, span, 1).await?)
        };
        let key = found.await.ok().flatten().map(|(_, key)| key);
        Trouble { key, ..why }
    }

    async fn verify(mut self) -> Result<Answer, StepError> {
        let of = &self.backfill.definition;
        for _ in 0..of.pace.sub_batches {
            let asked = self.pace.rows;
            let after = self.after();
            let span = Span {
                after: after.as_ref(),
                to: self.range.to.as_ref(),
            };
            let compared = async {
                let mut tx = self.opened.site.begin().await?;
                let compared = store::compare(&mut tx, self.shape, of, span, asked).await?;
                tx.rollback().await?;
                Ok::<_, ProductError>(compared)
            };
            let began = Instant::now();
            let compared = compared.await;
            self.rest = of.pace.rest(began.elapsed(), self.at_work);
            match compared {
                Ok(compared) => {
                    if self.tally(compared, asked) {
                        self.rest_at_the_end().await;
                        return Ok(self.walked(true));
                    }
                }
                Err(error) => {
                    if let Some(answer) = self.judge(error, asked).await? {
                        return Ok(answer);
                    }
                }
            }
            if !self.goes_on().await {
                break;
            }
        }
        Ok(self.walked(false))
    }

    /// Adds what a comparison found; whether the range has come to its end.
    fn tally(&mut self, compared: Compared, asked: u32) -> bool {
        let before = self.at.tally.take().unwrap_or_default();
        let sum = |text: &str, more: i128| (text.parse::<i128>().unwrap_or(0) + more).to_string();
        self.at.tally = Some(Tally {
            rows: before.rows + compared.rows,
            wrong: before.wrong + compared.wrong,
            found: sum(&before.found, compared.found),
            expected: sum(&before.expected, compared.expected),
            first_wrong: before.first_wrong.or(compared.first_wrong),
        });
        let Some(last) = compared.last else {
            return true;
        };
        let rows = u32::try_from(compared.rows).unwrap_or(u32::MAX);
        self.advance(last, rows, compared.ms, 0.0);
        rows < asked
    }
}

/// Writes down what a visit came to, and goes on.
async fn follow(
    cx: &Context,
    of: Input,
    before: Walk,
    answer: Answer,
) -> Result<Transition<RangeWorkflow>, StepError> {
    Ok(match answer {
        Answer::Superseded => Transition::complete(Outcome::Superseded),
        Answer::Gone { why } => {
            leave(cx, &of, RangeStatus::Gone, json!({ "reason": why })).await?;
            Transition::complete(Outcome::Gone)
        }
        Answer::Paused => {
            let at = rest(cx, &of, before, RangeStatus::Paused, "paused", None).await?;
            Transition::stay(State::Walking { of, at }).after(LOOK, LOOK_PAUSED)
        }
        Answer::Throttled { at, reasons } => {
            let codes: Vec<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
            let codes = codes.join(",");
            let look = match codes == "quiet_hours" {
                true => LOOK_QUIET,
                false => LOOK_BUSY,
            };
            let detail = serde_json::to_value(&reasons)?;
            let at = rest(cx, &of, at, RangeStatus::Throttled, &codes, Some(detail)).await?;
            Transition::stay(State::Walking { of, at }).after(LOOK, look)
        }
        Answer::Held { at, why } => Transition::go(State::Held { of, at, why }),
        Answer::Walked {
            at,
            rows,
            ended,
            rest,
        } => {
            let at = Walk {
                resting: None,
                ..at
            };
            let status = match (of.work, ended) {
                (Work::Fill, true) => RangeStatus::Filled,
                (Work::Fill, false) => RangeStatus::Filling,
                (Work::Verify { .. }, _) => RangeStatus::Verifying,
            };
            if ended && let Work::Verify { skipped } = of.work {
                return close(cx, &of, at, skipped).await;
            }
            note(cx, &of, &at, status, None, rows).await?;
            match ended {
                true => Transition::complete(Outcome::Filled),
                false if rest.is_zero() => Transition::go(State::Walking { of, at }),
                false => Transition::stay(State::Walking { of, at }).after(LOOK, rest),
            }
        }
    })
}

/// Writes down that it rests, once for each reason.
async fn rest(
    cx: &Context,
    of: &Input,
    at: Walk,
    status: RangeStatus,
    why: &str,
    detail: Option<Value>,
) -> Result<Walk, StepError> {
    if at.resting.as_deref() == Some(why) {
        return Ok(at);
    }
    let at = Walk {
        resting: Some(why.to_owned()),
        ..at
    };
    note(cx, of, &at, status, detail, 0).await?;
    Ok(at)
}

async fn note(
    cx: &Context,
    of: &Input,
    at: &Walk,
    status: RangeStatus,
    detail: Option<Value>,
    rows: u32,
) -> Result<(), StepError> {
    let run_id = cx.run_id();
    cx.transact("note", async |conn| {
        if of.work != Work::Fill {
            let unseen = &at.unseen;
            return Ok(rows::note_status(conn, of.range_id, run_id, status, detail, unseen).await?);
        }
        let note = Note {
            pass: of.pass,
            run_id,
            status,
            cursor: at.cursor.as_ref(),
            done: at.done,
            written: at.written,
            batch_rows: at.pace.map_or(0, |pace| pace.rows),
            detail,
            unseen: &at.unseen,
            rows,
            first: at.done == i64::from(rows),
        };
        Ok(rows::note(conn, of.range_id, &note).await?)
    })
    .await
}

/// Leaves a verification without having been compared, or the backfill with its tenant.
async fn leave(
    cx: &Context,
    of: &Input,
    status: RangeStatus,
    detail: Value,
) -> Result<(), StepError> {
    let run_id = cx.run_id();
    cx.transact("leave", async |conn| {
        Ok(rows::note_left(conn, of.range_id, run_id, status, &detail).await?)
    })
    .await
}

async fn close(
    cx: &Context,
    of: &Input,
    at: Walk,
    skipped: bool,
) -> Result<Transition<RangeWorkflow>, StepError> {
    let tally = at.tally.unwrap_or_default();
    let status = match skipped {
        true => RangeStatus::Skipped,
        false => RangeStatus::Filled,
    };
    cx.transact("close", async |conn| {
        Ok(rows::note_verified(conn, of.range_id, status, &tally).await?)
    })
    .await?;
    Ok(Transition::complete(Outcome::Verified))
}
