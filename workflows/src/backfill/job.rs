//! The run of a backfill: its phases, the gates between them, and the way back.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use tenure_engine::{
    ClosePolicy, Context, Event, Exhausted, FanOut, Guard, GuardNeed, Reception, RetryPolicy,
    StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use super::definition::Definition;
use super::ground::{self, Closed, Opened};
use super::phase::{Facts, Phase, refusals};
use super::range::{self, RangeWorkflow, Work};
use super::rows::{self, NewRange, SHARD};
use super::store::{self, Key};
use super::trouble::{Kind, Trouble, Verdict, judge};
use super::{At, Backfill, RangeStatus, Status};
use crate::environment::Environment;
use crate::product::{self, OnceKey, Place, ProductError};

// States and signals.

/// What a run is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Input {
    /// A backfill, from its first phase on.
    Whole(Uuid),
    /// What the run of one that was terminated has left.
    Rest {
        /// The backfill.
        backfill_id: Uuid,
        /// What brings it to an end.
        doing: Change,
    },
}

/// Where a backfill is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Tables are changed, one place after the other.
    Changing {
        /// The backfill.
        backfill_id: Uuid,
        /// What is done to them.
        doing: Change,
        /// The last place that is done.
        after: Option<At>,
    },
    /// Ranges are filled.
    Filling {
        /// The backfill.
        backfill_id: Uuid,
        /// The pass; none before it has begun.
        pass: Option<i32>,
        /// Which ranges come next.
        wave: Wave,
        /// Whether tenants may read the new columns already.
        switched: bool,
    },
    /// Ranges are compared.
    Verifying {
        /// The backfill.
        backfill_id: Uuid,
        /// The pass and when it began; none before it has.
        begun: Option<(i32, DateTime<Utc>)>,
        /// The last range of the wave before.
        after: Option<Uuid>,
        /// What it is for.
        into: Phase,
    },
    /// Somebody has to say that the next phase may begin.
    Waiting {
        /// The backfill.
        backfill_id: Uuid,
        /// The next phase.
        before: Phase,
    },
    /// Tenants read the new columns, so many of a hundred.
    Switched {
        /// The backfill.
        backfill_id: Uuid,
    },
    /// Its ranges end, so that it can go back.
    Stopping {
        /// The backfill.
        backfill_id: Uuid,
        /// Where to.
        then: Phase,
        /// Whether somebody cancelled it.
        cancelled: bool,
    },
    /// Somebody has to help.
    Held {
        /// The backfill.
        backfill_id: Uuid,
        /// What was to be done.
        doing: Change,
        /// The last place that is done.
        after: Option<At>,
        /// What stopped it.
        why: Trouble,
    },
}

/// What is done to tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// New columns are added.
    Expand,
    /// The trigger is made.
    DualWrite,
    /// Trigger and old columns go.
    Contract,
    /// Trigger and new columns go.
    Undo {
        /// Whether somebody cancelled the run.
        cancelled: bool,
    },
    /// The ledger forgets.
    Forget {
        /// Whether it was contracted, and not undone.
        done: bool,
        /// Whether somebody cancelled the run.
        cancelled: bool,
    },
}

/// Which ranges come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wave {
    /// Those that are known, after the last one.
    Known {
        /// Only those that were found wrong, or were skipped.
        unright: bool,
        /// The last one.
        after: Option<Uuid>,
    },
    /// Those of tenants that have none yet.
    New,
}

/// What a person may tell a backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// The next phase may begin.
    Advance,
    /// So many tenants of a hundred read the new columns.
    RollOut {
        /// 0 to 100.
        percent: i16,
    },
    /// Go back.
    Back {
        /// Where to.
        to: Phase,
    },
    /// Go on where it was held; fill again what is wrong or was skipped.
    Retry,
    /// Compare again.
    Verify,
}

/// The workflow.
pub struct BackfillWorkflow {
    environment: Environment,
}

impl BackfillWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

/// The next verification while it waits.
const VERIFY: &str = "verify";
const RANGES: &str = "ranges";
/// How many tenants are planned in one wave.
const TENANTS_PER_WAVE: i64 = 200;
/// How many known ranges are begun in one wave.
const RANGES_PER_WAVE: i64 = 1_000;
/// How many places are told by name.
const PLACES_TOLD: usize = 100;
/// The most ranges of one tenant.
const MAX_PARTS: u64 = 256;
/// Locks are asked for again for minutes; then a person is.
const POLICY: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(250),
    cap: Duration::from_secs(15),
    max_attempts: 16,
    attempt_timeout: Duration::from_secs(600),
    exhausted: Exhausted::Return,
    ..RetryPolicy::DEFAULT
};
const BUSY: &str = "locked";

/// Where its gates are decided.
const ACTS: &str = "POST /v1/backfills/{name}/actions/{verb} (tenure backfill --help)";

// Handle.

impl Workflow for BackfillWorkflow {
    const NAME: &'static str = "backfill";
    const VERSION: i32 = 1;
    const GUARD: Guard = Guard {
        start: GuardNeed::Door("POST /v1/backfills (tenure backfill start)"),
        signals: &[
            ("Advance", GuardNeed::Door(ACTS)),
            ("RollOut", GuardNeed::Door(ACTS)),
            ("Back", GuardNeed::Door(ACTS)),
            ("Retry", GuardNeed::Door(ACTS)),
            ("Verify", GuardNeed::Door(ACTS)),
        ],
        // Its gates, and the SQL that it runs, are an admin's to decide.
        verbs: GuardNeed::Admin,
        ..Guard::OPEN
    };
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = ();

    fn start(&self, input: Input) -> State {
        let (backfill_id, doing) = match input {
            Input::Whole(backfill_id) => (backfill_id, Change::Expand),
            Input::Rest { backfill_id, doing } => (backfill_id, doing),
        };
        State::Changing {
            backfill_id,
            doing,
            after: None,
        }
    }

    fn receive(&self, state: &State, signal: &Signal) -> Reception {
        use Reception::{Accept, Reject};
        match (state, signal) {
            (_, Signal::Back { to }) if !to.can_be_gone_back_to() => {
                Reject("nobody goes back to that")
            }
            (State::Changing { doing, .. } | State::Held { doing, .. }, Signal::Back { .. })
                if !doing.leads_back() =>
            {
                Reject("there is no way back any more")
            }
            (State::Stopping { .. }, Signal::Back { .. }) => Reject("it goes back already"),
            // What has no trigger yet must not be filled, and what is not filled is not compared.
            (State::Waiting { before, .. }, Signal::Retry) if *before < Phase::Verify => {
                Reject("nothing is filled yet")
            }
            (State::Waiting { before, .. }, Signal::Verify) if *before < Phase::Switch => {
                Reject("not before the rows are filled")
            }
            (_, Signal::Back { .. })
            | (State::Waiting { .. } | State::Switched { .. }, Signal::Advance)
            | (
                State::Held { .. } | State::Waiting { .. } | State::Switched { .. },
                Signal::Retry,
            )
            | (State::Switched { .. }, Signal::RollOut { .. })
            | (State::Waiting { .. } | State::Switched { .. }, Signal::Verify) => Accept,
            (_, Signal::Advance) => Reject("it waits for nobody's word"),
            (_, Signal::RollOut { .. }) => Reject("reads have not switched"),
            (_, Signal::Retry) => Reject("nothing is held or was found wrong"),
            (_, Signal::Verify) => Reject("not before the rows are filled"),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm a state and event")]
    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (
                State::Changing {
                    backfill_id,
                    doing,
                    after,
                },
                Event::Entered,
            ) => self.change(cx, backfill_id, doing, after).await,
            (
                State::Filling {
                    backfill_id,
                    pass,
                    wave,
                    switched,
                },
                Event::Entered | Event::Joined(_),
            ) => self.fill(cx, backfill_id, pass, wave, switched).await,
            (
                State::Verifying {
                    backfill_id,
                    begun,
                    after,
                    into,
                },
                Event::Entered | Event::Joined(_),
            ) => self.verify(cx, backfill_id, begun, after, into).await,
            (
                State::Waiting {
                    backfill_id,
                    before,
                },
                Event::Entered,
            ) => {
                move_to(cx, "move", backfill_id, before, Status::Waiting, None).await?;
                let of = self.load(cx, backfill_id).await?;
                let rest = Transition::stay(State::Waiting {
                    backfill_id,
                    before,
                });
                Ok(match before {
                    Phase::Switch => rest.after(VERIFY, every(&of.definition)),
                    _ => rest,
                })
            }
            (
                State::Waiting {
                    backfill_id,
                    before,
                },
                Event::Signal(Signal::Advance),
            ) => {
                let of = self.load(cx, backfill_id).await?;
                let facts = self.facts(cx, &of).await?;
                if refusals(before, &of.definition, &facts).is_empty() {
                    return Ok(begin(backfill_id, before));
                }
                Ok(Transition::stay(State::Waiting {
                    backfill_id,
                    before,
                }))
            }
            (State::Switched { backfill_id }, Event::Entered) => {
                self.rest_switched(cx, backfill_id).await
            }
            (State::Switched { backfill_id }, Event::Signal(Signal::Advance)) => {
                // The contract is preceded by a verification of its own.
                Ok(verifying(backfill_id, Phase::Contract))
            }
            (State::Switched { backfill_id }, Event::Signal(Signal::RollOut { percent })) => {
                cx.transact("roll-out", async |conn| {
                    Ok(rows::set_percent(conn, backfill_id, percent.clamp(0, 100)).await?)
                })
                .await?;
                Ok(Transition::go(State::Switched { backfill_id }))
            }
            (
                State::Waiting { backfill_id, .. },
                Event::Signal(Signal::Verify) | Event::Deadline(_),
            ) => Ok(verifying(backfill_id, Phase::Switch)),
            (
                State::Switched { backfill_id },
                Event::Signal(Signal::Verify) | Event::Deadline(_),
            ) => Ok(verifying(backfill_id, Phase::Done)),
            (
                state @ (State::Waiting { .. } | State::Switched { .. }),
                Event::Signal(Signal::Retry),
            ) => {
                let switched = matches!(state, State::Switched { .. });
                let unright = true;
                Ok(filling(
                    state.backfill_id(),
                    switched,
                    Wave::Known {
                        unright,
                        after: None,
                    },
                ))
            }
            (
                State::Held {
                    backfill_id,
                    doing,
                    after,
                    why,
                },
                Event::Entered,
            ) => {
                move_to(
                    cx,
                    "move",
                    backfill_id,
                    doing.phase(),
                    Status::Held,
                    Some(&why),
                )
                .await?;
                Ok(Transition::stay(State::Held {
                    backfill_id,
                    doing,
                    after,
                    why,
                }))
            }
            (
                State::Held {
                    backfill_id,
                    doing,
                    after,
                    ..
                },
                Event::Signal(Signal::Retry),
            ) => Ok(Transition::go(State::Changing {
                backfill_id,
                doing,
                after,
            })),
            (state, Event::Signal(Signal::Back { to })) => go_back(cx, &state, to, false).await,
            (
                State::Stopping {
                    backfill_id,
                    then,
                    cancelled,
                },
                Event::Joined(_),
            ) => Ok(restart(backfill_id, then, cancelled)),
            (
                State::Stopping {
                    backfill_id,
                    then,
                    cancelled,
                },
                Event::Entered,
            ) => {
                move_to(cx, "move", backfill_id, then, Status::Stopping, None).await?;
                Ok(Transition::stay(State::Stopping {
                    backfill_id,
                    then,
                    cancelled,
                }))
            }
            (state, Event::CancelRequested) => self.cancel(cx, state).await,
            (
                state,
                Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => Ok(Transition::stay(state)),
        }
    }
}

impl State {
    const fn backfill_id(&self) -> Uuid {
        match self {
            Self::Changing { backfill_id, .. }
            | Self::Filling { backfill_id, .. }
            | Self::Verifying { backfill_id, .. }
            | Self::Waiting { backfill_id, .. }
            | Self::Switched { backfill_id }
            | Self::Stopping { backfill_id, .. }
            | Self::Held { backfill_id, .. } => *backfill_id,
        }
    }
}

impl Change {
    pub(super) const fn phase(self) -> Phase {
        match self {
            Self::Expand => Phase::Expand,
            Self::DualWrite => Phase::DualWrite,
            Self::Contract => Phase::Contract,
            Self::Undo { .. } => Phase::Undone,
            Self::Forget { done: true, .. } => Phase::Done,
            Self::Forget { done: false, .. } => Phase::Undone,
        }
    }

    /// Whether the old columns are all there still, and nobody has begun to take the new ones away.
    const fn leads_back(self) -> bool {
        matches!(self, Self::Expand | Self::DualWrite)
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::DualWrite => "dual-write",
            Self::Contract => "contract",
            Self::Undo { .. } => "undo",
            Self::Forget { .. } => "forget",
        }
    }
}

// Steps.

/// What came of a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Changed {
    /// No place was left.
    Over,
    /// This one is done.
    Done(At),
    /// Somebody has to help.
    Held(Trouble),
}

impl BackfillWorkflow {
    /// Does the next place, or goes on when there is none.
    async fn change(
        &self,
        cx: &Context,
        backfill_id: Uuid,
        doing: Change,
        after: Option<At>,
    ) -> Result<Transition<Self>, StepError> {
        if after.is_none() {
            move_to(
                cx,
                "move",
                backfill_id,
                doing.phase(),
                Status::Working,
                None,
            )
            .await?;
        }
        let changed = cx.step("change", &POLICY, async |_| {
            self.change_next(backfill_id, doing, after.as_ref()).await
        });
        let changed = match changed.await {
            Ok(changed) => changed,
            Err(error) if error.code() == BUSY => {
                Changed::Held(Trouble::new(Kind::Locked, error.to_string()))
            }
            Err(error) => return Err(error),
        };
        match changed {
            Changed::Done(at) => Ok(Transition::go(State::Changing {
                backfill_id,
                doing,
                after: Some(at),
            })),
            Changed::Held(why) => Ok(Transition::go(State::Held {
                backfill_id,
                doing,
                after,
                why,
            })),
            Changed::Over => self.after_change(cx, backfill_id, doing).await,
        }
    }

    async fn after_change(
        &self,
        cx: &Context,
        backfill_id: Uuid,
        doing: Change,
    ) -> Result<Transition<Self>, StepError> {
        let forget = |done, cancelled| State::Changing {
            backfill_id,
            doing: Change::Forget { done, cancelled },
            after: None,
        };
        match doing {
            Change::Expand | Change::DualWrite => {
                self.enter(cx, backfill_id, doing.phase().next()).await
            }
            Change::Contract => Ok(Transition::go(forget(true, false))),
            Change::Undo { cancelled } => Ok(Transition::go(forget(false, cancelled))),
            Change::Forget { cancelled, .. } => {
                move_to(cx, "end", backfill_id, doing.phase(), Status::Ended, None).await?;
                Ok(match cancelled {
                    true => Transition::cancelled(),
                    false => Transition::complete(()),
                })
            }
        }
    }

    async fn change_next(
        &self,
        backfill_id: Uuid,
        doing: Change,
        after: Option<&At>,
    ) -> Result<Changed, StepError> {
        let of = ground::backfill(&self.environment, backfill_id).await?;
        let mut control = ground::begin_control(&self.environment).await?;
        let Some(tenant) = rows::next_place(&mut control, &of.sources(), after).await? else {
            return Ok(Changed::Over);
        };
        let placement = product::door::find(&mut control, tenant).await?;
        let at = At::of(&placement.place);
        // The place is the subject, whichever of its tenants stands for it.
        let opened = ground::open_at(
            &self.environment,
            &mut control,
            &of,
            &placement,
            backfill_id,
        )
        .await;
        drop(control);
        let changed = match opened {
            Ok(opened) => change_at(&of, doing, &opened, &at).await,
            Err(error) => Err(error),
        };
        match changed {
            Ok(None) => Ok(Changed::Done(at)),
            Ok(Some(why)) => Ok(Changed::Held(why)),
            Err(error) => match judge(&error) {
                Verdict::Hold(why) => Ok(Changed::Held(why)),
                Verdict::Narrow(detail) => {
                    Ok(Changed::Held(Trouble::new(Kind::RowRefused, detail)))
                }
                Verdict::Busy(detail) => Err(StepError::retryable(BUSY, detail)),
                Verdict::Split | Verdict::Again => Err(error.into()),
            },
        }
    }

    /// Begins a phase, or waits for somebody's word, or for what speaks against it.
    async fn enter(
        &self,
        cx: &Context,
        backfill_id: Uuid,
        phase: Phase,
    ) -> Result<Transition<Self>, StepError> {
        let of = self.load_again(cx, backfill_id).await?;
        let waits = of.definition.wait_at.contains(&phase);
        let facts = self.facts(cx, &of).await?;
        if waits || !refusals(phase, &of.definition, &facts).is_empty() {
            return Ok(Transition::go(State::Waiting {
                backfill_id,
                before: phase,
            }));
        }
        Ok(begin(backfill_id, phase))
    }

    async fn fill(
        &self,
        cx: &Context,
        backfill_id: Uuid,
        pass: Option<i32>,
        wave: Wave,
        switched: bool,
    ) -> Result<Transition<Self>, StepError> {
        let pass = match pass {
            Some(pass) => pass,
            None => begin_pass(cx, backfill_id, Phase::Fill).await?,
        };
        let of = self.load(cx, backfill_id).await?;
        let (ranges, next) = match wave {
            Wave::Known { unright, after } => {
                let wanted = rows::Wanted {
                    here: true,
                    unright,
                    after,
                    ..rows::Wanted::default()
                };
                let ranges = self.known(cx, backfill_id, wanted).await?;
                let ranges: Vec<Uuid> = ranges.into_iter().map(|(range, _)| range).collect();
                let after = ranges.last().copied();
                (ranges, Wave::Known { unright, after })
            }
            Wave::New => (self.plan(cx, &of, pass).await?, Wave::New),
        };
        let state = |wave| State::Filling {
            backfill_id,
            pass: Some(pass),
            wave,
            switched,
        };
        if ranges.is_empty() {
            return match wave {
                Wave::Known { .. } => Ok(Transition::go(state(Wave::New))),
                Wave::New if switched => Ok(verifying(backfill_id, Phase::Done)),
                Wave::New => self.enter(cx, backfill_id, Phase::Verify).await,
            };
        }
        let inputs = ranges.into_iter().map(|range_id| range::Input {
            backfill_id,
            range_id,
            pass,
            work: Work::Fill,
        });
        Ok(Transition::stay(state(next)).fan_out(fan_out(&of, inputs)))
    }

    async fn verify(
        &self,
        cx: &Context,
        backfill_id: Uuid,
        begun: Option<(i32, DateTime<Utc>)>,
        after: Option<Uuid>,
        into: Phase,
    ) -> Result<Transition<Self>, StepError> {
        let (pass, at) = match begun {
            Some(begun) => begun,
            None => (begin_pass(cx, backfill_id, Phase::Verify).await?, cx.now()),
        };
        let of = self.load(cx, backfill_id).await?;
        let wanted = rows::Wanted {
            here: true,
            after,
            ..rows::Wanted::default()
        };
        let ranges = self.known(cx, backfill_id, wanted).await?;
        let Some((last, _)) = ranges.last().copied() else {
            let wrong = cx
                .transact("close", async |conn| {
                    Ok(rows::close_verification(conn, backfill_id, at).await?)
                })
                .await?;
            return self.after_verify(cx, &of, into, wrong).await;
        };
        let inputs = ranges.into_iter().map(|(range_id, skipped)| range::Input {
            backfill_id,
            range_id,
            pass,
            work: Work::Verify { skipped },
        });
        let state = State::Verifying {
            backfill_id,
            begun: Some((pass, at)),
            after: Some(last),
            into,
        };
        Ok(Transition::stay(state).fan_out(fan_out(&of, inputs)))
    }

    /// What a verification was for: the switch, the contract, or to see whether all is well yet.
    async fn after_verify(
        &self,
        cx: &Context,
        of: &Backfill,
        into: Phase,
        wrong: i64,
    ) -> Result<Transition<Self>, StepError> {
        let backfill_id = of.backfill_id;
        if into == Phase::Contract && wrong == 0 {
            let of = self.load_again(cx, backfill_id).await?;
            let facts = self.facts(cx, &of).await?;
            if refusals(Phase::Contract, &of.definition, &facts).is_empty() {
                return Ok(begin(backfill_id, Phase::Contract));
            }
        }
        if into == Phase::Switch {
            return self.enter(cx, backfill_id, Phase::Switch).await;
        }
        Ok(Transition::go(State::Switched { backfill_id }))
    }

    /// Rests while tenants read the new columns; contracts by itself where nobody's word is wanted.
    async fn rest_switched(
        &self,
        cx: &Context,
        backfill_id: Uuid,
    ) -> Result<Transition<Self>, StepError> {
        let of = self.load(cx, backfill_id).await?;
        let facts = self.facts(cx, &of).await?;
        let alone = !of.definition.wait_at.contains(&Phase::Contract);
        if alone && refusals(Phase::Contract, &of.definition, &facts).is_empty() {
            return Ok(begin(backfill_id, Phase::Contract));
        }
        move_to(
            cx,
            "move",
            backfill_id,
            Phase::Switch,
            Status::Working,
            None,
        )
        .await?;
        Ok(Transition::stay(State::Switched { backfill_id }).after(VERIFY, every(&of.definition)))
    }

    async fn cancel(&self, cx: &Context, state: State) -> Result<Transition<Self>, StepError> {
        match &state {
            // Half a contract is no place to stop at, and an undo under way is what is asked for.
            State::Changing { doing, .. } if !doing.leads_back() => Ok(Transition::go(state)),
            // What holds it may never pass, so it ends, and says how far it came.
            State::Held {
                backfill_id,
                doing,
                after,
                why,
            } if !doing.leads_back() => {
                self.end_half_way(cx, *backfill_id, *doing, after.as_ref(), why)
                    .await
            }
            State::Stopping { backfill_id, .. } => Ok(Transition::stay(State::Stopping {
                backfill_id: *backfill_id,
                then: Phase::Undone,
                cancelled: true,
            })),
            _ => go_back(cx, &state, Phase::Undone, true).await,
        }
    }

    /// Ends a change of tables that is held, and that nobody goes back from: some places have it, others
    /// do not.
    async fn end_half_way(
        &self,
        cx: &Context,
        backfill_id: Uuid,
        doing: Change,
        after: Option<&At>,
        why: &Trouble,
    ) -> Result<Transition<Self>, StepError> {
        let list = async |_| self.places(backfill_id, after).await;
        let (done, left): (Vec<At>, Vec<At>) = cx.step("list-places", &POLICY, list).await?;
        let detail = format!(
            "{} was cancelled when it was held ({}: {}); done at: {}; not done at: {}",
            doing.word(),
            why.kind.word(),
            why.detail,
            told(&done),
            told(&left)
        );
        let trouble = Trouble::new(Kind::HalfDone, detail);
        let phase = doing.phase();
        move_to(cx, "end", backfill_id, phase, Status::Ended, Some(&trouble)).await?;
        Ok(Transition::cancelled())
    }

    /// The places up to one, and those behind it.
    async fn places(
        &self,
        backfill_id: Uuid,
        last: Option<&At>,
    ) -> Result<(Vec<At>, Vec<At>), StepError> {
        let of = ground::backfill(&self.environment, backfill_id).await?;
        let mut control = ground::begin_control(&self.environment).await?;
        let (mut done, mut left) = (Vec::new(), Vec::new());
        let mut after: Option<At> = None;
        let mut is_done = last.is_some();
        while let Some(tenant) =
            rows::next_place(&mut control, &of.sources(), after.as_ref()).await?
        {
            let at = At::of(&product::door::find(&mut control, tenant).await?.place);
            let list = if is_done { &mut done } else { &mut left };
            list.push(at.clone());
            is_done = is_done && last != Some(&at);
            after = Some(at);
        }
        Ok((done, left))
    }

    /// The backfill, recorded: a visit that is repeated decides by the same row.
    async fn load(&self, cx: &Context, backfill_id: Uuid) -> Result<Backfill, StepError> {
        self.read(cx, "load", backfill_id).await
    }

    async fn load_again(&self, cx: &Context, backfill_id: Uuid) -> Result<Backfill, StepError> {
        self.read(cx, "load-again", backfill_id).await
    }

    async fn read(
        &self,
        cx: &Context,
        step: &'static str,
        backfill_id: Uuid,
    ) -> Result<Backfill, StepError> {
        cx.transact(step, async |conn| find(conn, backfill_id).await)
            .await
    }

    async fn facts(&self, cx: &Context, of: &Backfill) -> Result<Facts, StepError> {
        let now = cx.now();
        let (held, skipped, uncovered) = cx
            .step("look", &POLICY, async |_| {
                let mut tx = ground::begin_control(&self.environment).await?;
                let counts = rows::count(&mut tx, of.backfill_id).await?;
                let sources = of.sources();
                let uncovered = rows::count_uncovered(&mut tx, of.backfill_id, &sources).await?;
                Ok((counts.held, counts.skipped, uncovered))
            })
            .await?;
        Ok(Facts {
            now,
            held,
            skipped,
            uncovered,
            mismatches: of.mismatches,
            clean_since: of.clean_since,
            percent: of.percent,
        })
    }

    /// The next known ranges, and whether each was skipped.
    async fn known(
        &self,
        cx: &Context,
        backfill_id: Uuid,
        wanted: rows::Wanted,
    ) -> Result<Vec<(Uuid, bool)>, StepError> {
        cx.transact("ranges", async |conn| {
            let found = rows::list_ranges(conn, backfill_id, wanted, RANGES_PER_WAVE).await?;
            let ranges = found
                .into_iter()
                .map(|range| (range.range_id, range.status == RangeStatus::Skipped));
            Ok(ranges.collect())
        })
        .await
    }

    /// Plans the ranges of the next tenants that have none; their ids.
    async fn plan(&self, cx: &Context, of: &Backfill, pass: i32) -> Result<Vec<Uuid>, StepError> {
        let plan = async |_| {
            let mut tx = ground::begin_control(&self.environment).await?;
            let sources = of.sources();
            let tenants =
                rows::list_uncovered(&mut tx, of.backfill_id, &sources, None, TENANTS_PER_WAVE)
                    .await?;
            drop(tx);
            let mut planned = Vec::new();
            for tenant in tenants {
                planned.extend(plan_tenant(&self.environment, of, tenant).await?);
            }
            Ok(planned)
        };
        let planned: Vec<NewRange> = cx.step("plan", &POLICY, plan).await?;
        if !planned.is_empty() {
            cx.transact("planned", async |conn| {
                for new in &planned {
                    rows::insert_range(conn, of.backfill_id, pass, new).await?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(planned.into_iter().map(|new| new.range_id).collect())
    }
}

impl At {
    fn of(place: &Place) -> Self {
        Self {
            source: place.source.clone(),
            database: place.database.clone().unwrap_or_default(),
            schema: place.schema.clone().unwrap_or_default(),
        }
    }
}

/// Places in words, as many as fit.
fn told(places: &[At]) -> String {
    let each = places.iter().take(PLACES_TOLD).map(|at| {
        let names = [&at.source, &at.database, &at.schema].into_iter();
        let names: Vec<&str> = names
            .filter(|name| !name.is_empty())
            .map(String::as_str)
            .collect();
        names.join("/")
    });
    let each: Vec<String> = each.collect();
    match places.len() {
        0 => "no place".to_owned(),
        count if count > PLACES_TOLD => {
            format!("{} and {} more", each.join(", "), count - PLACES_TOLD)
        }
        _ => each.join(", "),
    }
}

async fn find(conn: &mut PgConnection, backfill_id: Uuid) -> Result<Backfill, StepError> {
    let found = rows::find(conn, backfill_id).await?;
    found.ok_or_else(|| StepError::terminal("row_gone", format!("no backfill {backfill_id}")))
}

/// Changes the tables of one place, once.
async fn change_at(
    of: &Backfill,
    doing: Change,
    opened: &Opened,
    at: &At,
) -> Result<Option<Trouble>, ProductError> {
    if matches!(doing, Change::Forget { .. }) {
        opened.site.forget(of.backfill_id).await?;
        return Ok(None);
    }
    let definition = &of.definition;
    let table = &opened.target.table;
    let key =
        |change: Change| OnceKey::new(of.backfill_id, format!("{}/{}", change.word(), at.schema));
    let site = &opened.site;
    let expanded = site.recorded::<()>(&key(Change::Expand)).await?.is_some();
    if !expanded && matches!(doing, Change::Contract | Change::Undo { .. }) {
        // It came later, or had a column of that name: nothing there is ours to drop.
        return Ok(None);
    }
    if !expanded && doing == Change::Expand {
        let mut tx = site.begin().await?;
        let shape = store::shape(&mut tx, site, definition, table).await?;
        let obstacle = store::find_obstacle(&mut tx, &shape, definition).await?;
        if obstacle.is_some() {
            return Ok(obstacle);
        }
    }
    site.once(&key(doing), async |conn| {
        let shape = store::shape(conn, site, definition, table).await?;
        let statements = match doing {
            Change::Expand => shape.expand(definition),
            Change::DualWrite => shape.dual_write(definition),
            Change::Contract => shape.contract(definition),
            Change::Undo { .. } => shape.undo(definition),
            Change::Forget { .. } => Vec::new(),
        };
        store::run_all(conn, &statements).await
    })
    .await?;
    Ok(None)
}

/// The ranges of a tenant. A place that cannot be opened now has one, whose run will tell why.
pub(super) async fn plan_tenant(
    environment: &Environment,
    of: &Backfill,
    tenant: TenantId,
) -> Result<Vec<NewRange>, StepError> {
    let look = async |opened: Opened| {
        let mut tx = opened.site.begin().await?;
        let table = &opened.target.table;
        let shape = store::shape(&mut tx, &opened.site, &of.definition, table).await?;
        let rows = store::estimate(&mut tx, &shape).await?;
        let parts = rows.div_ceil(of.definition.range_rows).clamp(1, MAX_PARTS);
        let bounds = match u32::try_from(parts) {
            Ok(parts) if parts > 1 => store::bounds(&mut tx, &shape, rows, parts).await?,
            _ => Vec::new(),
        };
        Ok::<_, ProductError>((rows, bounds))
    };
    let looked = match ground::open(environment, of, tenant).await? {
        Ok(opened) => look(opened).await,
        Err(Closed::Gone(_)) => Ok((0, Vec::new())),
        Err(Closed::Failed(error)) => Err(error),
    };
    let (rows, bounds) = match looked {
        Ok(looked) => looked,
        Err(error) => match judge(&error) {
            Verdict::Again => return Err(error.into()),
            _ => (0, Vec::new()),
        },
    };
    Ok(part(of.backfill_id, tenant, rows, bounds))
}

fn part(backfill: Uuid, tenant: TenantId, rows: u64, bounds: Vec<Key>) -> Vec<NewRange> {
    let parts = bounds.len() as u64 + 1;
    let mut after = None;
    let ends = bounds.into_iter().map(Some).chain([None]);
    ends.enumerate()
        .map(|(part, to)| {
            let digest = Sha256::digest(format!("{backfill}/{tenant}/{part}"));
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest[..16]);
            NewRange {
                range_id: tenure_engine::derived_uuid(SHARD, bytes),
                owner_id: tenant.0,
                part: i32::try_from(part).unwrap_or(i32::MAX),
                after: std::mem::replace(&mut after, to.clone()),
                to,
                estimated: i64::try_from(rows / parts).unwrap_or(i64::MAX),
            }
        })
        .collect()
}

fn fan_out(of: &Backfill, inputs: impl Iterator<Item = range::Input>) -> FanOut {
    FanOut::of::<RangeWorkflow>(RANGES, inputs.map(|input| (range::key(&input), input)))
        .at_most(of.definition.parallel)
        .close(ClosePolicy::Cancel)
}

fn every(of: &Definition) -> Duration {
    Duration::from_secs(of.verify_every_seconds)
}

/// The first state of a phase.
fn begin(backfill_id: Uuid, phase: Phase) -> Transition<BackfillWorkflow> {
    let change = |doing| {
        Transition::go(State::Changing {
            backfill_id,
            doing,
            after: None,
        })
    };
    match phase {
        Phase::Expand => change(Change::Expand),
        Phase::DualWrite => change(Change::DualWrite),
        Phase::Fill => filling(backfill_id, false, Wave::New),
        Phase::Verify => verifying(backfill_id, Phase::Switch),
        Phase::Switch => Transition::go(State::Switched { backfill_id }),
        Phase::Contract | Phase::Done => change(Change::Contract),
        Phase::Undone => change(Change::Undo { cancelled: false }),
    }
}

/// The first state of a phase that was gone back to: what was done is done again.
fn restart(backfill_id: Uuid, phase: Phase, cancelled: bool) -> Transition<BackfillWorkflow> {
    match phase {
        Phase::Fill => {
            let known = Wave::Known {
                unright: false,
                after: None,
            };
            filling(backfill_id, false, known)
        }
        Phase::Undone => Transition::go(State::Changing {
            backfill_id,
            doing: Change::Undo { cancelled },
            after: None,
        }),
        _ => begin(backfill_id, phase),
    }
}

fn filling(backfill_id: Uuid, switched: bool, wave: Wave) -> Transition<BackfillWorkflow> {
    Transition::go(State::Filling {
        backfill_id,
        pass: None,
        wave,
        switched,
    })
}

fn verifying(backfill_id: Uuid, into: Phase) -> Transition<BackfillWorkflow> {
    Transition::go(State::Verifying {
        backfill_id,
        begun: None,
        after: None,
        into,
    })
}

/// Lets nobody read the new columns any more, and goes back, once its ranges have ended.
async fn go_back(
    cx: &Context,
    state: &State,
    to: Phase,
    cancelled: bool,
) -> Result<Transition<BackfillWorkflow>, StepError> {
    let backfill_id = state.backfill_id();
    cx.transact("back", async |conn| {
        rows::set_percent(conn, backfill_id, 0).await?;
        rows::forget_verification(conn, backfill_id).await?;
        rows::raise_pass(conn, backfill_id).await?;
        Ok(())
    })
    .await?;
    Ok(match state {
        State::Filling { .. } | State::Verifying { .. } => Transition::go(State::Stopping {
            backfill_id,
            then: to,
            cancelled,
        }),
        _ => restart(backfill_id, to, cancelled),
    })
}

async fn begin_pass(cx: &Context, backfill_id: Uuid, phase: Phase) -> Result<i32, StepError> {
    cx.transact("begin-pass", async |conn| {
        rows::move_to(conn, backfill_id, phase, Status::Working, None).await?;
        Ok(rows::raise_pass(conn, backfill_id).await?)
    })
    .await
}

async fn move_to(
    cx: &Context,
    step: &'static str,
    backfill_id: Uuid,
    phase: Phase,
    status: Status,
    trouble: Option<&Trouble>,
) -> Result<(), StepError> {
    cx.transact(step, async |conn| {
        Ok(rows::move_to(conn, backfill_id, phase, status, trouble).await?)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_a_tenant_cover_all_keys_once() {
        let key = |n: u32| vec![n.to_string()];
        let tenant = TenantId(Uuid::from_u128(7));
        let ranges = part(Uuid::from_u128(1), tenant, 3_000, vec![key(10), key(20)]);
        let ends: Vec<_> = ranges
            .iter()
            .map(|range| (range.after.clone(), range.to.clone()))
            .collect();
        assert_eq!(
            ends,
            [
                (None, Some(key(10))),
                (Some(key(10)), Some(key(20))),
                (Some(key(20)), None)
            ]
        );
        assert!(ranges.iter().all(|range| range.estimated == 1_000));
        let again = part(Uuid::from_u128(1), tenant, 3_000, vec![key(10), key(20)]);
        assert_eq!(ranges, again);
    }
}
