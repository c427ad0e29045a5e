//! An invoice: finalised once, then collected until it is paid or written off.
//!
//! Each attempt is a child run of its own generation, so that a repeat of the same attempt is the
//! same charge, and a new attempt is a new one. When the next attempt is made is dunning's word.

mod door;
pub(crate) mod store;

pub use door::{find, list};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde::{Deserialize, Serialize};
use tenure_engine::{
    AttributeKind, AttributeNames, Attributes, Context, Event, FinishedRun, Reception, StepError,
    Transition, Workflow,
};
use uuid::Uuid;

use crate::calendar::Period;
use crate::dunning::{self, DunningWorkflow};
use crate::money::{Currency, Money};
use crate::notice::{self, NoticeWorkflow};
use crate::payment::{self, PaymentWorkflow};

// Input.

/// Which invoice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// The row, drafted by its subscription.
    pub invoice_id: Uuid,
    /// Its currency.
    pub currency: Currency,
    /// What it got when it was finalised, to be found by; none before, and in runs that were
    /// finalised before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finalized: Option<Finalized>,
}

/// What finalising gives an invoice, once and for all.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Finalized {
    /// Gapless per tenant.
    pub number: i32,
    /// Sum of the lines.
    pub total: Decimal,
}

/// A draft, for its subscription to insert.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) invoice_id: Uuid,
    pub(crate) subscription_id: Uuid,
    pub(crate) description: String,
    pub(crate) price: Money,
    pub(crate) period: Period,
}

/// The row.
#[derive(Debug, Clone, PartialEq)]
pub struct InvoiceRow {
    /// Identity.
    pub invoice_id: Uuid,
    /// What it is for.
    pub subscription_id: Uuid,
    /// draft, open, paid, void or uncollectible.
    pub status: String,
    /// Gapless per tenant, from finalisation on.
    pub number: Option<i32>,
    /// Sum of the lines.
    pub total: Money,
    /// Payment attempts so far.
    pub attempts: i32,
    /// Start of the period, inclusive.
    pub period_start: DateTime<Utc>,
    /// End of the period, exclusive.
    pub period_end: DateTime<Utc>,
    /// When it was finalised.
    pub finalized_at: Option<DateTime<Utc>>,
    /// When it was paid.
    pub paid_at: Option<DateTime<Utc>>,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct LineRow {
    /// For people.
    pub description: String,
    /// How many.
    pub quantity: Decimal,
    /// In the invoice's currency.
    pub amount: Decimal,
    /// Start of the service period, inclusive.
    pub period_start: DateTime<Utc>,
    /// End of the service period, exclusive.
    pub period_end: DateTime<Utc>,
}

impl InvoiceRow {
    /// The number as it is printed.
    #[must_use]
    pub fn printed_number(&self) -> Option<String> {
        self.number.map(printed)
    }
}

// States and signals.

/// Where an invoice's run is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// About to get its number.
    Finalizing {
        /// Which invoice.
        of: Input,
    },
    /// A payment is under way.
    Collecting {
        /// Which invoice.
        of: Input,
        /// Which attempt, from 1.
        generation: i32,
    },
    /// Unpaid, until dunning says what follows.
    Open {
        /// Which invoice.
        of: Input,
        /// The last attempt.
        generation: i32,
    },
    /// Paid; receipt and dunning are told.
    Paid {
        /// Which invoice.
        of: Input,
        /// The attempt that paid it; 0 when there was nothing to pay.
        generation: i32,
    },
}

/// What an invoice may be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// Try to collect again.
    Collect,
    /// Give it up.
    WriteOff,
}

/// How an invoice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Paid.
    Paid,
    /// Written off.
    Uncollectible,
}

/// The workflow.
pub struct InvoiceWorkflow;

// Handle.

impl Workflow for InvoiceWorkflow {
    const NAME: &'static str = "invoice";
    const VERSION: i32 = 1;
    const ATTRIBUTES: AttributeNames = &[
        ("number", AttributeKind::Text),
        ("total", AttributeKind::Number),
        ("currency", AttributeKind::Text),
    ];
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Output;

    fn start(&self, of: Input) -> State {
        State::Finalizing { of }
    }

    fn attributes(&self, state: &State) -> Attributes {
        let (State::Finalizing { of }
        | State::Collecting { of, .. }
        | State::Open { of, .. }
        | State::Paid { of, .. }) = state;
        let attributes = Attributes::none().text("currency", of.currency.code());
        match of.finalized {
            Some(Finalized { number, total }) => attributes
                .text("number", &printed(number))
                .number("total", total.to_f64().unwrap_or(f64::NAN)),
            None => attributes,
        }
    }

    fn receive(&self, state: &State, signal: &Signal) -> Reception {
        match (state, signal) {
            (State::Open { .. }, Signal::Collect | Signal::WriteOff) => Reception::Accept,
            (State::Collecting { .. }, Signal::Collect) => {
                Reception::Reject("an attempt is under way")
            }
            (State::Finalizing { .. }, Signal::Collect) => {
                Reception::Reject("the first attempt comes by itself")
            }
            (State::Finalizing { .. } | State::Collecting { .. }, Signal::WriteOff) => {
                Reception::Defer
            }
            (State::Paid { .. }, Signal::Collect | Signal::WriteOff) => {
                Reception::Reject("the invoice is paid")
            }
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Finalizing { of }, Event::Entered) => finalize(cx, of).await,
            (State::Collecting { of, generation }, Event::Entered) => {
                collect(cx, of, generation).await
            }
            (State::Collecting { of, generation }, Event::RunFinished(payment)) => {
                collected(cx, of, generation, &payment).await
            }
            (State::Open { of, generation }, Event::Signal(Signal::Collect)) => {
                let generation = generation + 1;
                Ok(Transition::go(State::Collecting { of, generation }))
            }
            (State::Open { of, .. }, Event::Signal(Signal::WriteOff)) => write_off(cx, of).await,
            (State::Paid { of, generation }, Event::Entered) => paid(cx, of, generation).await,
            (
                state,
                Event::Entered
                | Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline
                | Event::CancelRequested,
            ) => Ok(Transition::stay(state)),
        }
    }
}

// Steps.

const FINALIZE: &str = "finalize";
const NOTE_ATTEMPT: &str = "note-attempt";
const MARK_PAID: &str = "mark-paid";
const WRITE_OFF: &str = "write-off";
const READ_INVOICE: &str = "read-invoice";

async fn finalize(cx: &Context, mut of: Input) -> Result<Transition<InvoiceWorkflow>, StepError> {
    let (tenant, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
    let finalized: Finalized = cx
        .transact(FINALIZE, async |tx| {
            let number = store::claim_number(tx, tenant, shard).await?;
            let total = store::apply_final(tx, of.invoice_id, shard, number, now).await?;
            if total.is_zero() {
                // Nothing to pay: never a charge of nothing.
                store::apply_paid(tx, of.invoice_id, shard, now).await?;
            }
            Ok(Finalized { number, total })
        })
        .await?;
    of.finalized = Some(finalized);
    Ok(if finalized.total.is_zero() {
        Transition::go(State::Paid { of, generation: 0 })
    } else {
        Transition::go(State::Collecting { of, generation: 1 })
    })
}

async fn collect(
    cx: &Context,
    of: Input,
    generation: i32,
) -> Result<Transition<InvoiceWorkflow>, StepError> {
    let shard = cx.shard_id();
    cx.transact(NOTE_ATTEMPT, async |tx| {
        Ok(store::apply_attempt(tx, of.invoice_id, shard, generation).await?)
    })
    .await?;
    let invoice_id = of.invoice_id;
    let input = payment::Input {
        invoice_id,
        generation,
    };
    let key = payment::key(invoice_id, generation);
    Ok(
        Transition::stay(State::Collecting { of, generation })
            .start::<PaymentWorkflow>(key, &input),
    )
}

async fn collected(
    cx: &Context,
    of: Input,
    generation: i32,
    payment: &FinishedRun,
) -> Result<Transition<InvoiceWorkflow>, StepError> {
    match payment.output::<PaymentWorkflow>()? {
        payment::Output::Succeeded => {
            let (shard, now) = (cx.shard_id(), cx.now());
            cx.transact(MARK_PAID, async |tx| {
                Ok(store::apply_paid(tx, of.invoice_id, shard, now).await?)
            })
            .await?;
            Ok(Transition::go(State::Paid { of, generation }))
        }
        payment::Output::Declined { code, class } => {
            let currency = of.currency;
            let failed = dunning::Signal::PaymentFailed(dunning::Failure {
                invoice_id: of.invoice_id,
                generation,
                code,
                class,
            });
            let signal_id = format!("failed:{}:{generation}", of.invoice_id);
            Ok(
                Transition::go(State::Open { of, generation })
                    .signal_with_start::<DunningWorkflow>(
                        currency.to_string(),
                        &dunning::Input { currency },
                        signal_id,
                        &failed,
                    ),
            )
        }
    }
}

async fn paid(
    cx: &Context,
    of: Input,
    generation: i32,
) -> Result<Transition<InvoiceWorkflow>, StepError> {
    let (tenant, shard, id) = (cx.tenant_id(), cx.shard_id(), of.invoice_id);
    let (number, total, paid_at): (String, Money, DateTime<Utc>) = cx
        .transact(READ_INVOICE, async |tx| {
            let rows = store::list(tx, tenant, shard, Some(id)).await?;
            let row = rows.into_iter().next();
            let row = row.ok_or_else(|| StepError::terminal("no_invoice", id))?;
            let number = row.printed_number().unwrap_or_default();
            Ok((number, row.total, row.paid_at.unwrap_or(row.period_start)))
        })
        .await?;
    let mut transition = Transition::complete(Output::Paid);
    if !total.is_zero() {
        let receipt = notice::Input::Receipt {
            number,
            total,
            paid_at,
        };
        transition = transition.launch::<NoticeWorkflow>(format!("receipt/{id}"), &receipt);
    }
    if generation > 1 {
        let signal_id = format!("paid:{id}");
        transition = transition.signal_key::<DunningWorkflow>(
            of.currency.to_string(),
            signal_id,
            &dunning::Signal::Paid,
        );
    }
    Ok(transition)
}

async fn write_off(cx: &Context, of: Input) -> Result<Transition<InvoiceWorkflow>, StepError> {
    let (shard, now) = (cx.shard_id(), cx.now());
    cx.transact(WRITE_OFF, async |tx| {
        Ok(store::apply_uncollectible(tx, of.invoice_id, shard, now).await?)
    })
    .await?;
    Ok(Transition::complete(Output::Uncollectible))
}

// Rules.

/// A number as it is printed.
fn printed(number: i32) -> String {
    format!("INV-{number:05}")
}
