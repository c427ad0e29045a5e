//! A subscription: trial, paid periods, the wish to cancel, the end.
//!
//! Each period opens an invoice in advance and rests until its end. What is owed is dunning's
//! business: a late or failed payment does not stop the periods, and the end comes from the
//! tenant's wish or from dunning's last word.

mod door;
pub mod rules;
pub(crate) mod store;

pub use door::{NewSubscription, cancel, create, find, list};

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use tenure_engine::{
    AttributeKind, AttributeNames, Attributes, Context, Event, ResultExt as _, RunId, ShardId,
    StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use crate::calendar::{self, Interval, Period};
use crate::invoice::{self, InvoiceWorkflow};
use crate::money::Money;
use crate::notice::{self, NoticeWorkflow};

// Input.

/// The row, as the door inserted it; what the run needs of it never changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// The row.
    pub subscription_id: Uuid,
    /// For lines and mails.
    pub plan_name: String,
    /// Price of a period.
    pub price: Money,
    /// Length of a period.
    pub interval: Interval,
    /// IANA zone in which periods begin.
    pub zone: String,
    /// The day that periods return to.
    pub anchor_on: NaiveDate,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// End of the trial, if there is one.
    pub trial_ends_at: Option<DateTime<Utc>>,
    /// The plan's key, to be found by; empty in runs that began before it was kept.
    #[serde(default)]
    pub plan: String,
}

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
    /// Length of a period.
    pub interval: Interval,
    /// Price of a period.
    pub price: Money,
    /// IANA zone.
    pub zone: String,
    /// The day that periods return to.
    pub anchor_on: NaiveDate,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// End of the trial.
    pub trial_ends_at: Option<DateTime<Utc>>,
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

/// Where a subscription is in its life; debt and intents are other axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Made, and not begun.
    Scheduled,
    /// In its trial.
    Trialing,
    /// In a paid period.
    Active,
    /// Over.
    Ended,
}

impl Lifecycle {
    const fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::Ended => "ended",
        }
    }

    fn from_word(word: &str) -> Self {
        [Self::Scheduled, Self::Trialing, Self::Active]
            .into_iter()
            .find(|lifecycle| lifecycle.word() == word)
            .unwrap_or(Self::Ended)
    }
}

// States and signals.

/// Where a subscription's run is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// About to begin.
    Starting {
        /// What never changes.
        terms: Input,
    },
    /// In its trial.
    Trialing {
        /// What never changes.
        terms: Input,
        /// Whether it ends with the trial.
        cancelled: bool,
    },
    /// In a paid period.
    Active {
        /// What never changes.
        terms: Input,
        /// The period.
        period: Period,
        /// Whether it ends with the period.
        cancelled: bool,
    },
    /// About to be closed.
    Ending {
        /// What never changes.
        terms: Input,
        /// When access ended.
        ended_at: DateTime<Utc>,
        /// Why.
        reason: EndReason,
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
}

impl EndReason {
    const fn word(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Unpaid => "unpaid",
        }
    }
}

/// What a subscription may be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// End it.
    Cancel {
        /// When.
        when: CancelWhen,
    },
    /// Dunning has come to its end.
    Unpaid,
}

/// When a cancellation takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelWhen {
    /// At the end of what is paid for, or of the trial.
    PeriodEnd,
    /// At once.
    Now,
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

const TRIAL_ENDING: &str = "trial-ending";
const TRIAL_END: &str = "trial-end";
const PERIOD_END: &str = "period-end";

// Handle.

impl Workflow for SubscriptionWorkflow {
    const NAME: &'static str = "subscription";
    const VERSION: i32 = 1;
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

    fn start(&self, terms: Input) -> State {
        State::Starting { terms }
    }

    fn attributes(&self, state: &State) -> Attributes {
        let (terms, cancelled, ends) = match state {
            State::Starting { terms } => (terms, false, None),
            State::Trialing { terms, cancelled } => (terms, *cancelled, terms.trial_ends_at),
            State::Active {
                terms,
                period,
                cancelled,
            } => (terms, *cancelled, Some(period.end)),
            State::Ending {
                terms, ended_at, ..
            } => (terms, true, Some(*ended_at)),
        };
        let attributes = Attributes::none()
            .text("plan", &terms.plan)
            .text("currency", terms.price.currency().code())
            .bool("cancelled", cancelled);
        match ends {
            Some(ends) => attributes.time("period_ends", ends),
            None => attributes,
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Starting { terms }, Event::Entered) => begin(cx, terms).await,
            (State::Trialing { terms, cancelled }, Event::Entered) => {
                trial(cx, terms, cancelled).await
            }
            (State::Trialing { terms, cancelled }, Event::Deadline(name)) => {
                trial_deadline(terms, cancelled, &name)
            }
            (
                State::Active {
                    terms,
                    period,
                    cancelled,
                },
                Event::Entered,
            ) => open_period(cx, terms, period, cancelled).await,
            (
                State::Active {
                    terms,
                    period,
                    cancelled,
                },
                Event::Deadline(_),
            ) => period_end(terms, &period, cancelled),
            (state @ State::Trialing { .. }, Event::Signal(Signal::Cancel { when }))
            | (state @ State::Active { .. }, Event::Signal(Signal::Cancel { when })) => {
                cancel_wish(cx, state, when).await
            }
            (
                State::Trialing { terms, .. } | State::Active { terms, .. },
                Event::Signal(Signal::Unpaid),
            ) => Ok(end(terms, cx.now(), EndReason::Unpaid)),
            (
                State::Trialing { terms, .. } | State::Active { terms, .. },
                Event::CancelRequested,
            ) => Ok(end(terms, cx.now(), EndReason::Canceled)),
            (
                State::Ending {
                    terms,
                    ended_at,
                    reason,
                },
                Event::Entered,
            ) => close(cx, terms, ended_at, reason).await,
            (
                state,
                Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline
                | Event::CancelRequested,
            ) => Ok(Transition::stay(state)),
        }
    }

    fn receive(&self, state: &State, _signal: &Signal) -> tenure_engine::Reception {
        match state {
            State::Starting { .. } => tenure_engine::Reception::Defer,
            State::Trialing { .. } | State::Active { .. } => tenure_engine::Reception::Accept,
            State::Ending { .. } => tenure_engine::Reception::Reject("the subscription is ending"),
        }
    }
}

// Steps.

const START_TRIAL: &str = "start-trial";
const OPEN_PERIOD: &str = "open-period";
const NOTE_CANCEL: &str = "note-cancel";
const CLOSE: &str = "close";

async fn begin(cx: &Context, terms: Input) -> Result<Transition<SubscriptionWorkflow>, StepError> {
    if terms.trial_ends_at.is_some() {
        let (id, shard) = (terms.subscription_id, cx.shard_id());
        cx.transact(START_TRIAL, async |tx| {
            Ok(store::apply(tx, id, shard, Lifecycle::Trialing, None).await?)
        })
        .await?;
        let cancelled = false;
        return Ok(Transition::go(State::Trialing { terms, cancelled }));
    }
    go_period(terms, 0, false)
}

async fn trial(
    _cx: &Context,
    terms: Input,
    cancelled: bool,
) -> Result<Transition<SubscriptionWorkflow>, StepError> {
    let zone = zone_of(&terms)?;
    let Some(ends_at) = terms.trial_ends_at else {
        return go_period(terms, 0, cancelled);
    };
    let told = rules::trial_notice_at(terms.started_at, ends_at, zone);
    let mut transition =
        Transition::stay(State::Trialing { terms, cancelled }).at(TRIAL_END, ends_at);
    if let Some(at) = told {
        transition = transition.at(TRIAL_ENDING, at);
    }
    Ok(transition)
}

fn trial_deadline(
    terms: Input,
    cancelled: bool,
    name: &str,
) -> Result<Transition<SubscriptionWorkflow>, StepError> {
    let ends_at = terms.trial_ends_at.unwrap_or(terms.started_at);
    match name {
        TRIAL_ENDING if cancelled => Ok(Transition::stay(State::Trialing { terms, cancelled })),
        TRIAL_ENDING => {
            let mail = notice::Input::TrialEnding {
                plan: terms.plan_name.clone(),
                price: terms.price,
                ends_at,
            };
            let key = format!("trial-ending/{}", terms.subscription_id);
            Ok(Transition::stay(State::Trialing { terms, cancelled })
                .launch::<NoticeWorkflow>(key, &mail))
        }
        _ if cancelled => Ok(end(terms, ends_at, EndReason::Canceled)),
        _ => go_period(terms, 0, false),
    }
}

/// Notes the period and drafts its invoice, in one transaction; the invoice's run does the rest.
async fn open_period(
    cx: &Context,
    terms: Input,
    period: Period,
    cancelled: bool,
) -> Result<Transition<SubscriptionWorkflow>, StepError> {
    let (tenant, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
    let invoice_id = cx.uuid();
    let draft = invoice::Draft {
        invoice_id,
        subscription_id: terms.subscription_id,
        description: format!("{} (period {})", terms.plan_name, period.index + 1),
        price: terms.price,
        period,
    };
    cx.transact(OPEN_PERIOD, async |tx| {
        let id = terms.subscription_id;
        store::apply(tx, id, shard, Lifecycle::Active, Some(&period)).await?;
        Ok(invoice::store::insert(tx, tenant, shard, &draft, now).await?)
    })
    .await?;
    let input = invoice::Input {
        invoice_id,
        currency: terms.price.currency(),
        finalized: None,
    };
    let renewal = renewal_notice(&terms, &period);
    let transition = Transition::stay(State::Active {
        terms,
        period,
        cancelled,
    })
    .at(PERIOD_END, period.end)
    .launch::<InvoiceWorkflow>(invoice_id.to_string(), &input);
    Ok(match renewal {
        Some((key, mail)) => transition.launch::<NoticeWorkflow>(key, &mail),
        None => transition,
    })
}

fn period_end(
    terms: Input,
    period: &Period,
    cancelled: bool,
) -> Result<Transition<SubscriptionWorkflow>, StepError> {
    if cancelled {
        return Ok(end(terms, period.end, EndReason::Canceled));
    }
    go_period(terms, period.index + 1, false)
}

async fn cancel_wish(
    cx: &Context,
    state: State,
    when: CancelWhen,
) -> Result<Transition<SubscriptionWorkflow>, StepError> {
    let (terms, ends_at, rested) = match state {
        State::Trialing { terms, .. } => {
            let ends_at = terms.trial_ends_at.unwrap_or(terms.started_at);
            let cancelled = true;
            (terms.clone(), ends_at, State::Trialing { terms, cancelled })
        }
        State::Active { terms, period, .. } => {
            let cancelled = true;
            (
                terms.clone(),
                period.end,
                State::Active {
                    terms,
                    period,
                    cancelled,
                },
            )
        }
        other @ (State::Starting { .. } | State::Ending { .. }) => {
            return Ok(Transition::stay(other));
        }
    };
    if when == CancelWhen::Now {
        return Ok(end(terms, cx.now(), EndReason::Canceled));
    }
    let (id, shard) = (terms.subscription_id, cx.shard_id());
    cx.transact(NOTE_CANCEL, async |tx| {
        Ok(store::apply_cancel_at(tx, id, shard, ends_at).await?)
    })
    .await?;
    Ok(Transition::stay(rested))
}

async fn close(
    cx: &Context,
    terms: Input,
    ended_at: DateTime<Utc>,
    reason: EndReason,
) -> Result<Transition<SubscriptionWorkflow>, StepError> {
    let (id, shard) = (terms.subscription_id, cx.shard_id());
    cx.transact(CLOSE, async |tx| {
        Ok(store::apply_end(tx, id, shard, ended_at, reason.word()).await?)
    })
    .await?;
    let mail = notice::Input::Cancelled {
        plan: terms.plan_name,
        ended_at,
        unpaid: reason == EndReason::Unpaid,
    };
    Ok(Transition::complete(Output { ended_at, reason })
        .launch::<NoticeWorkflow>(format!("cancelled/{id}"), &mail))
}

// Rules.

fn go_period(
    terms: Input,
    index: u32,
    cancelled: bool,
) -> Result<Transition<SubscriptionWorkflow>, StepError> {
    let zone = zone_of(&terms)?;
    let Input {
        anchor_on,
        interval,
        started_at,
        ..
    } = terms;
    let period = rules::period(anchor_on, interval, index, zone, started_at);
    Ok(Transition::go(State::Active {
        terms,
        period,
        cancelled,
    }))
}

fn end(
    terms: Input,
    ended_at: DateTime<Utc>,
    reason: EndReason,
) -> Transition<SubscriptionWorkflow> {
    Transition::go(State::Ending {
        terms,
        ended_at,
        reason,
    })
}

/// The mail that tells of the next period of a yearly plan; its run waits for the day.
fn renewal_notice(terms: &Input, period: &Period) -> Option<(String, notice::Input)> {
    let mail = notice::Input::RenewalComing {
        subscription_id: terms.subscription_id,
        plan: terms.plan_name.clone(),
        price: terms.price,
        renews_at: period.end,
    };
    let key = format!("renewal/{}/{}", terms.subscription_id, period.index + 1);
    (terms.interval == Interval::Year).then_some((key, mail))
}

fn zone_of(terms: &Input) -> Result<Tz, StepError> {
    calendar::zone(&terms.zone).terminal("unknown_zone")
}
