//! What becomes of a charge after its attempt has ended: money that comes late, a refund that comes
//! back, a dispute at the bank.
//!
//! One run per charge of which the provider says something by then; most charges never have one. It
//! looks at all of the charge whatever it was told, and writes what has changed: so order, repeats and
//! losses of events do not matter. While something is on its way it looks by itself, too.

mod door;
pub(crate) mod store;

pub use door::list_disputes;

use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tenure_engine::{Context, Event, ResultExt as _, RetryPolicy, StepError, Transition, Workflow};
use uuid::Uuid;

use crate::dunning::{self, DunningWorkflow};
use crate::environment::Environment;
use crate::invoice;
use crate::money::Currency;
use crate::ports::stripe::{Charged, Disputed, Refunded, STRIPE};
use store::{Found, Known};

// Input.

/// Which charge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// The invoice.
    pub invoice_id: Uuid,
    /// The attempt at it.
    pub generation: i32,
}

/// A payment that its customer disputes.
#[derive(Debug, Clone, PartialEq)]
pub struct DisputeRow {
    /// The provider's id.
    pub dispute_id: String,
    /// The invoice that was paid.
    pub invoice_id: Uuid,
    /// ISO 4217 code.
    pub currency: String,
    /// What is disputed.
    pub amount: Decimal,
    /// What the provider took for it so far.
    pub fee: Decimal,
    /// Why, in the provider's word.
    pub reason: String,
    /// inquiry, open, won, lost or closed.
    pub standing: String,
    /// Until when evidence is taken.
    pub evidence_due_at: Option<DateTime<Utc>>,
    /// When we heard of it.
    pub opened_at: DateTime<Utc>,
    /// When we heard of its end.
    pub settled_at: Option<DateTime<Utc>>,
}

// States and signals.

/// Where it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// Hears what becomes of the charge, for as long as its tenant is.
    Watching {
        /// Which charge.
        of: Input,
    },
}

/// What it may be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// The provider says that something happened: look.
    ProviderEvent {
        /// The provider's name for it.
        kind: String,
    },
}

/// The workflow.
pub struct ChargeWorkflow {
    environment: Environment,
}

impl ChargeWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

const LOOK: &str = "look";
/// Webhooks can be lost: what is on its way is looked at this often anyway. Banks take days.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);

// Handle.

impl Workflow for ChargeWorkflow {
    const NAME: &'static str = "charge";
    const VERSION: i32 = 1;
    const QUEUE: &'static str = "payments";
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = ();

    fn start(&self, of: Input) -> State {
        State::Watching { of }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Watching { of }, Event::Entered | Event::Signal(_) | Event::Deadline(_)) => {
                self.look(cx, of).await
            }
            (_, Event::CancelRequested) => Ok(Transition::cancelled()),
            (state, Event::RunFinished(_) | Event::Joined(_) | Event::RunDeadline) => {
                Ok(Transition::stay(state))
            }
        }
    }
}

// Steps.

const READ_CHARGE: &str = "read-charge";
const FETCH_CHARGE: &str = "fetch-charge";
const FETCH_REFUND: &str = "fetch-refund";
const FIND_DISPUTE: &str = "find-dispute";
const STORE_CHARGE: &str = "store-charge";

impl ChargeWorkflow {
    async fn look(&self, cx: &Context, of: Input) -> Result<Transition<Self>, StepError> {
        let shard = cx.shard_id();
        let known: Option<Known> = cx
            .transact(READ_CHARGE, async |tx| {
                Ok(store::find(tx, of.invoice_id, of.generation, shard).await?)
            })
            .await?;
        let Some(known) = known else {
            // Nothing of it ever reached the provider.
            return Ok(Transition::stay(State::Watching { of }));
        };
        let found = self.ask(cx, &known).await?;
        let currency: Currency = known.currency.parse().terminal("unknown_currency")?;
        let (tenant, now) = (cx.tenant_id(), cx.now());
        let written: store::Written = cx
            .transact(STORE_CHARGE, async |tx| {
                let at = store::Place {
                    tenant,
                    shard,
                    invoice: of.invoice_id,
                    generation: of.generation,
                };
                store::apply(tx, at, &known, &found, now).await
            })
            .await?;
        let cause = format!("charge:{}", cx.uuid());
        let transition = Transition::stay(State::Watching { of });
        let mut transition = if found.is_on_its_way() {
            transition.after(LOOK, LOOK_EVERY)
        } else {
            transition.clear(LOOK)
        };
        if written.debt_changed {
            transition = transition.signal_with_start::<DunningWorkflow>(
                currency.to_string(),
                &dunning::Input { currency },
                cause.clone(),
                &dunning::Signal::Reevaluate,
            );
        }
        Ok(invoice::tell_open(transition, &written.open, &cause))
    }

    /// What the provider says of all of the charge.
    async fn ask(&self, cx: &Context, known: &Known) -> Result<Found, StepError> {
        let policy = RetryPolicy::DEFAULT.on(STRIPE);
        let stripe = self.environment.stripe();
        let intent = known.intent.as_str();
        let charged: Option<Charged> = if known.counts_as_failed {
            let charged = cx
                .step(FETCH_CHARGE, &policy, async |_| {
                    stripe.fetch_charge(intent).await
                })
                .await?;
            Some(charged)
        } else {
            None
        };
        let mut refunds = Vec::with_capacity(known.refunds.len());
        for refund in &known.refunds {
            let fetched: Refunded = cx
                .step(FETCH_REFUND, &policy, async |_| {
                    stripe.fetch_refund(refund).await
                })
                .await?;
            refunds.push((refund.clone(), fetched));
        }
        let dispute: Option<Disputed> = cx
            .step(FIND_DISPUTE, &policy, async |_| {
                stripe.find_dispute(intent).await
            })
            .await?;
        Ok(Found {
            charged,
            refunds,
            dispute,
        })
    }
}
