//! A subscription: trial, paid periods, what will become of it, the end.
//!
//! Each period is billed at its start or at its end, and the run rests until then. What is owed is
//! dunning's business: a late or failed payment does not stop the periods. The end comes from the
//! tenant's wish, from a fixed term, or from dunning's last word.
//!
//! Four axes are kept apart, as Kill Bill does: the lifecycle (here), what is held (`hold`), what is
//! owed (`dunning`), and what will come about ([`intent`]). One display status is derived of them.
//!
//! | State | Waits for |
//! |---|---|
//! | `Scheduled` | its start |
//! | `Incomplete` | its first payment, for 23 hours, and as long as a bank first weighs it |
//! | `Trialing` | the end of the trial |
//! | `Active` | the end of the period |
//! | `Paused` | somebody, or its day, to go on |
//! | `Ending` | nothing: it is being closed |
//!
//! What an act comes to in money is decided in [`money`], and what follows from what in `life`. A
//! preview plays a `course` of just these forward, from the run's own state, so it cannot tell
//! anything else than what is done.
//!
//! Work may be late. What was asked for comes about as of when it was asked for, and in the order in
//! which it came between the ends of periods, so that nobody owes more or less for it.

mod course;
mod door;
pub mod intent;
mod life;
mod migrate;
pub mod money;
pub mod rules;
mod steps;
pub(crate) mod store;
pub mod terms;

pub use door::{
    Asked, Follows, GivenBack, NewSubscription, Preview, Wanted, act, create, find, find_follows,
    list, list_intents, preview, preview_new, undo,
};
pub(crate) use door::{coming, move_zone};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenure_engine::{
    AttributeKind, AttributeNames, Attributes, Context, Event, FinishedRun, Guard, GuardNeed,
    Reception, RunId, ShardId, StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use crate::calendar::{Interval, Period};
use crate::money::Money;
use intent::{Act, Intent, Intents, Kind, When};
use money::CreditPolicy;
pub(crate) use steps::FIRST_PAYMENT;
use terms::{Offer, Terms};

// Input.

/// What a subscription's run is started with: its terms, as its row holds them.
pub type Input = Terms;

/// The row.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionRow {
    /// Identity.
    pub subscription_id: Uuid,
    /// The tenant's shard.
    pub shard_id: ShardId,
    /// The owner.
    pub tenant_id: TenantId,
    /// The run that drives it.
    pub run_id: RunId,
    /// The plan's key.
    pub plan: String,
    /// The version that it was sold at.
    pub plan_version: i32,
    /// The retired plan that it follows, where nobody asked for it.
    pub succeeds: Option<String>,
    /// How many seats, where the plan has any.
    pub seats: Option<u32>,
    /// Length of a period.
    pub interval: Interval,
    /// Price of a period.
    pub price: Money,
    /// IANA zone.
    pub zone: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// End of the trial.
    pub trial_ends_at: Option<DateTime<Utc>>,
    /// When a fixed term ends.
    pub term_ends_at: Option<DateTime<Utc>>,
    /// The coupon, while it holds.
    pub coupon: Option<String>,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// The current paid period.
    pub period: Option<Period>,
    /// When it will end, if somebody asked for it.
    pub cancel_at: Option<DateTime<Utc>>,
    /// When access ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why.
    pub end_reason: Option<String>,
}

/// Where a subscription is in its life; debt, holds and intents are other axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Made, and not begun.
    Scheduled,
    /// Waits for its first payment.
    Incomplete,
    /// In its trial.
    Trialing,
    /// In a paid period.
    Active,
    /// Neither used nor billed.
    Paused,
    /// Over.
    Ended,
}

impl Lifecycle {
    const ALL: [Self; 6] = [
        Self::Scheduled,
        Self::Incomplete,
        Self::Trialing,
        Self::Active,
        Self::Paused,
        Self::Ended,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Incomplete => "incomplete",
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|lifecycle| lifecycle.word() == word)
    }
}

// States and signals.

/// Where a subscription's run is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// About to begin.
    Starting {
        /// What it was sold at.
        terms: Terms,
    },
    /// Begins later.
    Scheduled {
        /// What it was sold at.
        terms: Terms,
        /// What will come about.
        #[serde(default)]
        intents: Intents,
    },
    /// Begins with its first payment.
    Incomplete {
        /// What it was sold at.
        terms: Terms,
        /// The first period, or the trial where that has a price.
        period: Period,
        /// What is to be paid.
        invoice_id: Uuid,
        /// What will come about.
        #[serde(default)]
        intents: Intents,
    },
    /// In its trial.
    Trialing {
        /// What it was sold at.
        terms: Terms,
        /// What will come about.
        #[serde(default)]
        intents: Intents,
    },
    /// In a paid period.
    Active {
        /// What it was sold at.
        terms: Terms,
        /// The period.
        period: Period,
        /// What will come about.
        #[serde(default)]
        intents: Intents,
    },
    /// Neither used nor billed.
    Paused {
        /// What it was sold at.
        terms: Terms,
        /// Since when.
        since: DateTime<Utc>,
        /// What will come about.
        #[serde(default)]
        intents: Intents,
    },
    /// About to be closed.
    Ending {
        /// What it was sold at.
        terms: Terms,
        /// When access ended.
        ended_at: DateTime<Utc>,
        /// Why.
        reason: EndReason,
        /// The period that it ends in the middle of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        period: Option<Period>,
        /// What is given back.
        #[serde(default)]
        credit: CreditPolicy,
    },
}

/// Why a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its tenant wished it.
    Canceled,
    /// Dunning came to its end.
    Unpaid,
    /// Its fixed term is over.
    Expired,
    /// The first payment did not come.
    IncompleteExpired,
    /// The trial ended without a payment method.
    TrialExpired,
}

impl EndReason {
    const fn word(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Unpaid => "unpaid",
            Self::Expired => "expired",
            Self::IncompleteExpired => "incomplete_expired",
            Self::TrialExpired => "trial_expired",
        }
    }
}

/// What a subscription may be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// End it.
    Cancel {
        /// When.
        when: When,
        /// What is given back, when it ends before what was paid for does.
        #[serde(default)]
        credit: CreditPolicy,
    },
    /// Dunning has come to its end.
    Unpaid,
    /// Another offer.
    Change {
        /// When.
        when: When,
        /// What it is sold at from then on.
        offer: Offer,
    },
    /// Neither use nor billing.
    Pause {
        /// When.
        when: When,
        /// When it goes on by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<DateTime<Utc>>,
    },
    /// Go on.
    Resume {
        /// When.
        when: When,
    },
    /// Begin periods on another day of the month.
    MoveAnchor {
        /// When.
        when: When,
        /// 1 to 31.
        day: u32,
    },
    /// Its tenant's days begin in another zone.
    MoveZone {
        /// IANA zone.
        zone: String,
    },
    /// What was to come about does not.
    Undo {
        /// Which.
        intent: Kind,
    },
}

impl Signal {
    /// The signal that asks for an act.
    #[must_use]
    pub fn asking(act: Act, when: When) -> Self {
        match act {
            Act::Change { offer } => Self::Change { when, offer },
            Act::Cancel { credit } => Self::Cancel { when, credit },
            Act::Pause { until } => Self::Pause { when, until },
            Act::Resume => Self::Resume { when },
            Act::MoveAnchor { day } => Self::MoveAnchor { when, day },
        }
    }

    /// The act that it asks for, and when.
    fn asked(self) -> Option<(Act, When)> {
        Some(match self {
            Self::Change { when, offer } => (Act::Change { offer }, when),
            Self::Cancel { when, credit } => (Act::Cancel { credit }, when),
            Self::Pause { when, until } => (Act::Pause { until }, when),
            Self::Resume { when } => (Act::Resume, when),
            Self::MoveAnchor { when, day } => (Act::MoveAnchor { day }, when),
            Self::Unpaid | Self::MoveZone { .. } | Self::Undo { .. } => return None,
        })
    }
}

/// What an ended subscription leaves behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Output {
    /// When access ended.
    pub ended_at: DateTime<Utc>,
    /// Why.
    pub reason: EndReason,
}

/// The workflow.
pub struct SubscriptionWorkflow;

pub(crate) const START: &str = "start";
pub(crate) const EXPIRY: &str = "expiry";
pub(crate) const TRIAL_ENDING: &str = "trial-ending";
pub(crate) const TRIAL_END: &str = "trial-end";
pub(crate) const PERIOD_END: &str = "period-end";

/// Where it is decided what becomes of it.
const ACTS: &str = "the acts on /v1/tenants/{tenant_id}/subscriptions/{subscription_id} \
                    (tenure subscription --help)";
const ZONE: &str = "POST /v1/tenants/{tenant_id}/zone (tenure tenant zone)";

// Handle.

impl Workflow for SubscriptionWorkflow {
    const NAME: &'static str = "subscription";
    const VERSION: i32 = 2;
    // A change bears what it is sold at, and an end what is given back.
    const GUARD: Guard = Guard {
        signals: &[
            ("Cancel", GuardNeed::Door(ACTS)),
            ("Unpaid", GuardNeed::Door("the dunning of its tenant")),
            ("Change", GuardNeed::Door(ACTS)),
            ("Pause", GuardNeed::Door(ACTS)),
            ("Resume", GuardNeed::Door(ACTS)),
            ("MoveAnchor", GuardNeed::Door(ACTS)),
            ("MoveZone", GuardNeed::Door(ZONE)),
            ("Undo", GuardNeed::Door(ACTS)),
        ],
        ..Guard::OPEN
    };
    const ATTRIBUTES: AttributeNames = &[
        ("plan", AttributeKind::Text),
        ("currency", AttributeKind::Text),
        ("cancelled", AttributeKind::Bool),
        ("period_ends", AttributeKind::Time),
    ];
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Output;

    fn start(&self, terms: Terms) -> State {
        State::Starting { terms }
    }

    fn migrate(&self, from_version: i32, state: Value) -> Result<Value, String> {
        match from_version {
            1 => migrate::from_1(state),
            _ => Err(format!("no way from version {from_version}")),
        }
    }

    fn attributes(&self, state: &State) -> Attributes {
        let terms = state.terms();
        let cancelled = match state {
            State::Ending { .. } => true,
            _ => state
                .intents()
                .is_some_and(|intents| intents.find(Kind::Cancel).is_some()),
        };
        let attributes = Attributes::none()
            .text("plan", &terms.offer.plan)
            .text("currency", terms.currency.code())
            .bool("cancelled", cancelled);
        match state.ends() {
            Some(ends) => attributes.time("period_ends", ends),
            None => attributes,
        }
    }

    fn receive(&self, state: &State, signal: &Signal) -> Reception {
        match (state, signal) {
            (State::Starting { .. }, _) => Reception::Defer,
            (State::Ending { .. }, _) => Reception::Reject("the subscription is ending"),
            // Its first payment is under way: what is paid for is as it was asked for.
            (State::Incomplete { .. }, Signal::MoveZone { .. }) => Reception::Defer,
            (
                State::Incomplete { .. },
                Signal::Change { .. }
                | Signal::Pause { .. }
                | Signal::Resume { .. }
                | Signal::MoveAnchor { .. },
            ) => Reception::Reject("the first payment has not come yet"),
            (State::Paused { .. }, Signal::Pause { .. }) => {
                Reception::Reject("the subscription is paused already")
            }
            (
                State::Scheduled { intents, .. }
                | State::Trialing { intents, .. }
                | State::Active { intents, .. },
                Signal::Resume { .. },
            ) if intents.find(Kind::Pause).is_none() => {
                Reception::Reject("the subscription is not paused")
            }
            (
                State::Scheduled { .. } | State::Trialing { .. } | State::Paused { .. },
                Signal::MoveAnchor { .. },
            ) => Reception::Reject("there is no period to move"),
            (State::Scheduled { .. }, Signal::Pause { .. }) => {
                Reception::Reject("the subscription has not begun")
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
        match event {
            Event::Entered => entered(cx, state).await,
            Event::Deadline(name) => deadline(cx, state, &name).await,
            Event::Signal(signal) => signalled(cx, state, signal).await,
            Event::RunFinished(run) => finished(cx, state, &run).await,
            Event::CancelRequested => Ok(match state {
                State::Ending { .. } => Transition::stay(state),
                state => {
                    let at = heard(cx, &state);
                    end(state, at, EndReason::Canceled, CreditPolicy::None)
                }
            }),
            Event::Joined(_) | Event::RunDeadline => Ok(Transition::stay(state)),
        }
    }
}

type Next = Result<Transition<SubscriptionWorkflow>, StepError>;

async fn entered(cx: &Context, state: State) -> Next {
    match state {
        State::Starting { terms } => steps::begin(cx, terms).await,
        State::Incomplete { .. } => Ok(steps::await_payment(cx, state)),
        State::Trialing { terms, intents } => steps::trial(terms, intents),
        State::Active {
            terms,
            period,
            intents,
        } => steps::open_period(cx, terms, period, intents).await,
        State::Ending {
            terms,
            ended_at,
            reason,
            period,
            credit,
        } => {
            let closing = steps::Closing {
                ended_at,
                reason,
                period,
                credit,
            };
            steps::close(cx, terms, closing).await
        }
        state @ (State::Scheduled { .. } | State::Paused { .. }) => Ok(rest(state)),
    }
}

async fn deadline(cx: &Context, state: State, name: &str) -> Next {
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.deadline() == name) {
        return come_about(cx, state, kind).await;
    }
    match state {
        State::Scheduled { terms, intents } => steps::start_now(cx, terms, intents).await,
        State::Incomplete { invoice_id, .. } => {
            steps::first_payment_due(cx, state, invoice_id).await
        }
        State::Trialing { terms, intents } if name == TRIAL_ENDING => {
            Ok(steps::tell_trial_ending(terms, intents))
        }
        State::Trialing { terms, intents } => steps::trial_end(cx, terms, intents).await,
        State::Active {
            terms,
            period,
            intents,
        } => steps::period_end(cx, terms, period, intents).await,
        state @ (State::Starting { .. } | State::Paused { .. } | State::Ending { .. }) => {
            Ok(Transition::stay(state))
        }
    }
}

/// A dated intent's instant has come.
async fn come_about(cx: &Context, mut state: State, kind: Kind) -> Next {
    let intent = state.intents_mut().and_then(|intents| intents.take(kind));
    match intent {
        Some(intent) => perform(cx, state, intent.act, intent.at).await,
        None => Ok(Transition::stay(state)),
    }
}

async fn signalled(cx: &Context, mut state: State, signal: Signal) -> Next {
    match signal {
        Signal::MoveZone { zone } => steps::move_zone(cx, state, zone),
        Signal::Unpaid => {
            let at = heard(cx, &state);
            Ok(end(state, at, EndReason::Unpaid, CreditPolicy::None))
        }
        Signal::Undo { intent } => {
            if let Some(intents) = state.intents_mut() {
                intents.take(intent);
            }
            steps::note_intents(cx, state).await
        }
        signal => {
            let asked_at = heard(cx, &state);
            let Some((act, when)) = signal.asked() else {
                return Ok(Transition::stay(state));
            };
            let at = state.instant(when, asked_at);
            if at <= asked_at {
                return perform(cx, state, act, asked_at).await;
            }
            if let Some(intents) = state.intents_mut() {
                intents.put(Intent { act, when, at });
            }
            steps::note_intents(cx, state).await
        }
    }
}

/// When what a visit answers was asked for: late work acts as of then. Not before its state began, at
/// whose beginning it may have been on its way.
fn heard(cx: &Context, state: &State) -> DateTime<Utc> {
    let now = cx.now();
    let heard = cx.received_at().map_or(now, |at| at.min(now));
    state.began().map_or(heard, |began| heard.max(began))
}

/// Does what was asked for.
async fn perform(cx: &Context, state: State, act: Act, at: DateTime<Utc>) -> Next {
    if let State::Active {
        terms,
        period,
        intents,
    } = &state
        && let Some(intents) = life::with_the_end(period, intents, &act, at)
    {
        return steps::period_end(cx, terms.clone(), *period, intents).await;
    }
    match act {
        Act::Cancel { credit } => Ok(match state {
            State::Incomplete { .. } => steps::expire(state, EndReason::Canceled, at),
            state => end(state, at, EndReason::Canceled, credit),
        }),
        Act::Change { offer } => steps::change(cx, state, offer, at).await,
        Act::Pause { until } => steps::pause(cx, state, until, at).await,
        Act::Resume => steps::resume(cx, state, at).await,
        Act::MoveAnchor { day } => steps::move_anchor(cx, state, day, at).await,
    }
}

/// The first invoice has ended.
async fn finished(cx: &Context, state: State, run: &FinishedRun) -> Next {
    match state {
        State::Incomplete {
            terms,
            period,
            invoice_id,
            intents,
        } if run.key == invoice_id.to_string() => {
            let first = steps::First {
                terms,
                period,
                invoice_id,
                intents,
            };
            steps::first_invoice_ended(cx, first, run).await
        }
        // A bank has weighed the first payment. If it said no, there is time for another method.
        state @ State::Incomplete { .. } => Ok(steps::await_payment(cx, state)),
        state => Ok(Transition::stay(state)),
    }
}

// Rules.

impl State {
    /// What it was sold at.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        match self {
            Self::Starting { terms }
            | Self::Scheduled { terms, .. }
            | Self::Incomplete { terms, .. }
            | Self::Trialing { terms, .. }
            | Self::Active { terms, .. }
            | Self::Paused { terms, .. }
            | Self::Ending { terms, .. } => terms,
        }
    }

    /// What it is sold at, while that can change.
    fn terms_mut(&mut self) -> Option<&mut Terms> {
        match self {
            Self::Scheduled { terms, .. }
            | Self::Trialing { terms, .. }
            | Self::Active { terms, .. }
            | Self::Paused { terms, .. } => Some(terms),
            Self::Starting { .. } | Self::Incomplete { .. } | Self::Ending { .. } => None,
        }
    }

    fn intents(&self) -> Option<&Intents> {
        match self {
            Self::Scheduled { intents, .. }
            | Self::Incomplete { intents, .. }
            | Self::Trialing { intents, .. }
            | Self::Active { intents, .. }
            | Self::Paused { intents, .. } => Some(intents),
            Self::Starting { .. } | Self::Ending { .. } => None,
        }
    }

    fn intents_mut(&mut self) -> Option<&mut Intents> {
        match self {
            Self::Scheduled { intents, .. }
            | Self::Incomplete { intents, .. }
            | Self::Trialing { intents, .. }
            | Self::Active { intents, .. }
            | Self::Paused { intents, .. } => Some(intents),
            Self::Starting { .. } | Self::Ending { .. } => None,
        }
    }

    /// When it began, where that is known.
    fn began(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Starting { .. } | Self::Scheduled { .. } => None,
            Self::Trialing { terms, .. } => Some(terms.started_at),
            Self::Incomplete { period, .. } | Self::Active { period, .. } => Some(period.start),
            Self::Paused { since, .. } => Some(*since),
            Self::Ending { ended_at, .. } => Some(*ended_at),
        }
    }

    /// The instant at which something comes about that is asked for now.
    fn instant(&self, when: When, now: DateTime<Utc>) -> DateTime<Utc> {
        match when {
            When::Now => now,
            When::PeriodEnd => self.ends().unwrap_or(now),
            When::At(at) => at,
        }
    }

    /// When what is paid for, or the trial, ends.
    fn ends(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Starting { .. } | Self::Paused { .. } => None,
            Self::Scheduled { terms, .. } => Some(terms.started_at),
            Self::Trialing { terms, .. } => terms.trial_ends_at,
            Self::Incomplete { period, .. } | Self::Active { period, .. } => Some(period.end),
            Self::Ending { ended_at, .. } => Some(*ended_at),
        }
    }
}

/// Stays, with the deadlines that a state waits for.
fn rest(state: State) -> Transition<SubscriptionWorkflow> {
    let own = match &state {
        State::Scheduled { terms, .. } => Some((START, terms.started_at)),
        State::Trialing { terms, .. } => terms.trial_ends_at.map(|at| (TRIAL_END, at)),
        State::Active { period, .. } => Some((PERIOD_END, period.end)),
        _ => None,
    };
    let dated: Vec<(Kind, Option<DateTime<Utc>>)> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let intent = state.intents().and_then(|intents| intents.find(kind));
            (kind, intent.filter(|one| one.is_dated()).map(|one| one.at))
        })
        .collect();
    let mut transition = Transition::stay(state);
    if let Some((name, at)) = own {
        transition = transition.at(name, at);
    }
    for (kind, at) in dated {
        transition = match at {
            Some(at) => transition.at(kind.deadline(), at),
            None => transition.clear(kind.deadline()),
        };
    }
    transition
}

/// Goes to its end.
fn end(
    state: State,
    ended_at: DateTime<Utc>,
    reason: EndReason,
    credit: CreditPolicy,
) -> Transition<SubscriptionWorkflow> {
    Transition::go(life::ended(state, ended_at, reason, credit))
}

#[cfg(test)]
mod zone_tests;
