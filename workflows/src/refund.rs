//! A refund: what a credit note gives back to the payment method, once.
//!
//! The rows are written with the credit note, one for each payment that is given back of. As with
//! charges, the idempotency key is (credit note, payment), and a refund that may have been sent before
//! is looked up before it is sent again. What comes back from the bank adds to the tenant's balance;
//! when that is after all seemed done, a [`charge`](crate::charge) run hears of it.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tenure_engine::{
    Context, Event, Guard, GuardNeed, Reception, RetryPolicy, ShardId, StepError, Transition,
    Workflow,
};
use uuid::Uuid;

use crate::environment::Environment;
use crate::invoice;
use crate::money::Money;
use crate::ports::stripe::{CREDIT_NOTE, RefundOrder, Refunded, STRIPE};

// Input.

/// Which credit note.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// The credit note.
    pub credit_note_id: Uuid,
}

// States and signals.

/// Where a refund is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// About to be sent.
    Sending {
        /// Which credit note.
        of: Input,
    },
    /// The bank takes its time.
    Pending {
        /// Which credit note.
        of: Input,
    },
}

/// What a refund may be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// The provider says that something happened to it: fetch it.
    ProviderEvent {
        /// The provider's name for it.
        kind: String,
    },
}

/// How a refund ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// All of it was given back.
    Refunded,
    /// Something came back, and was added to the tenant's balance.
    Failed,
}

/// The workflow.
pub struct RefundWorkflow {
    environment: Environment,
}

impl RefundWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

const LOOK: &str = "look";
/// Webhooks can be lost: what is pending is looked at this often anyway.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Refunds are tried for some minutes; an outage beyond that is for a human to see.
const POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 12,
    dependency: Some(STRIPE),
    ..RetryPolicy::DEFAULT
};

// Handle.

impl Workflow for RefundWorkflow {
    const NAME: &'static str = "refund";
    const VERSION: i32 = 1;
    const QUEUE: &'static str = "payments";
    // What is stated of a refund is written into the books, and one that is ended is neither given back
    // nor credited.
    const GUARD: Guard = Guard {
        start: GuardNeed::Door(
            "POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/credit-notes (tenure invoice credit)",
        ),
        verbs: GuardNeed::Admin,
        ends: GuardNeed::Admin,
        ..Guard::OPEN
    };
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Output;

    fn start(&self, of: Input) -> State {
        State::Sending { of }
    }

    fn receive(&self, state: &State, _signal: &Signal) -> Reception {
        match state {
            State::Sending { .. } => Reception::Defer,
            State::Pending { .. } => Reception::Accept,
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Sending { of }, Event::Entered) => {
                for row in read_rows(cx, &of).await? {
                    let refunded = self.send(cx, &of, &row).await?;
                    store_outcome(cx, &of, row.generation, &refunded).await?;
                }
                finish(cx, of).await
            }
            (State::Pending { of }, Event::Entered) => {
                Ok(Transition::stay(State::Pending { of }).after(LOOK, LOOK_EVERY))
            }
            (State::Pending { of }, Event::Signal(_) | Event::Deadline(_)) => {
                for row in read_rows(cx, &of).await? {
                    let Some(refund) = row.provider_refund_id.as_deref() else {
                        continue;
                    };
                    let refunded = self.fetch(cx, refund).await?;
                    store_outcome(cx, &of, row.generation, &refunded).await?;
                }
                finish(cx, of).await
            }
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
}

// Steps.

const READ_ROWS: &str = "read-rows";
const SEND: &str = "refund";
const FETCH: &str = "fetch-refund";
const STORE_OUTCOME: &str = "store-outcome";
const FINISH: &str = "finish";

/// A refund that is not settled.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    generation: i32,
    currency: String,
    amount: Decimal,
    provider_intent_id: String,
    provider_refund_id: Option<String>,
}

impl RefundWorkflow {
    async fn send(&self, cx: &Context, of: &Input, row: &Row) -> Result<Refunded, StepError> {
        let currency = row.currency.parse();
        let currency = currency.map_err(|error| StepError::terminal("unknown_currency", error))?;
        let order = RefundOrder {
            intent: row.provider_intent_id.clone(),
            money: Money::new(row.amount, currency),
            key: format!("credit-note-{}-{}", of.credit_note_id, row.generation),
            metadata: HashMap::from([
                ("tenant".to_owned(), cx.tenant_id().to_string()),
                ("run".to_owned(), cx.run_id().to_string()),
                (CREDIT_NOTE.to_owned(), of.credit_note_id.to_string()),
            ]),
        };
        cx.step(SEND, &POLICY, async |step| {
            let stripe = self.environment.stripe();
            if step.repeated
                && let Some(known) = stripe.find_refund(&order).await?
            {
                return Ok(known);
            }
            stripe.refund(&order).await
        })
        .await
    }

    async fn fetch(&self, cx: &Context, refund: &str) -> Result<Refunded, StepError> {
        cx.step(FETCH, &POLICY, async |_| {
            self.environment.stripe().fetch_refund(refund).await
        })
        .await
    }
}

async fn read_rows(cx: &Context, of: &Input) -> Result<Vec<Row>, StepError> {
    let shard = cx.shard_id();
    cx.transact(READ_ROWS, async |tx| {
        Ok(list_unsettled(tx, of.credit_note_id, shard).await?)
    })
    .await
}

async fn store_outcome(
    cx: &Context,
    of: &Input,
    generation: i32,
    refunded: &Refunded,
) -> Result<(), StepError> {
    let (shard, now) = (cx.shard_id(), cx.now());
    cx.transact(STORE_OUTCOME, async |tx| {
        Ok(apply(tx, of.credit_note_id, generation, shard, refunded, now).await?)
    })
    .await
}

/// Ends, or waits for the bank. What failed adds to the tenant's balance.
async fn finish(cx: &Context, of: Input) -> Result<Transition<RefundWorkflow>, StepError> {
    let (tenant, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
    // Runs of before credit was told of answered the first two.
    let finished: Finished = cx
        .transact(FINISH, async |tx| {
            if !list_unsettled(tx, of.credit_note_id, shard)
                .await?
                .is_empty()
            {
                return Ok(Finished(true, false, None));
            }
            let failed = sum_failed(tx, of.credit_note_id, shard).await?;
            if let Some((currency, amount)) = &failed {
                let note = of.credit_note_id;
                invoice::credit::keep_failed_refund(
                    tx, tenant, shard, note, currency, *amount, now,
                )
                .await?;
            }
            let open = match &failed {
                Some((code, _)) => Some(invoice::store::list_open(tx, tenant, shard, code).await?),
                None => None,
            };
            Ok(Finished(false, failed.is_some(), open))
        })
        .await?;
    let Finished(pending, failed, open) = finished;
    let cause = format!("refund:{}", of.credit_note_id);
    Ok(match (pending, failed) {
        (true, _) => Transition::go(State::Pending { of }),
        (false, true) => invoice::tell_open(
            Transition::complete(Output::Failed),
            &open.unwrap_or_default(),
            &cause,
        ),
        (false, false) => Transition::complete(Output::Refunded),
    })
}

/// Whether something is pending, whether something failed, and which open invoices its credit may pay.
#[derive(Serialize, Deserialize)]
struct Finished(bool, bool, #[serde(default)] Option<Vec<Uuid>>);

// Rows.

async fn list_unsettled(
    conn: &mut PgConnection,
    note: Uuid,
    shard: ShardId,
) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select generation, currency, amount, provider_intent_id, provider_refund_id
        from app.refund
        where credit_note_id = $1
          and shard_id = $2
          and status in ('sent', 'pending')
        order by generation desc
        "#,
        note,
        shard.0,
    )
    .fetch_all(conn)
    .await
}

async fn apply(
    conn: &mut PgConnection,
    note: Uuid,
    generation: i32,
    shard: ShardId,
    refunded: &Refunded,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let (status, refund, failure) = match refunded {
        Refunded::Succeeded { refund } => ("succeeded", Some(refund.as_str()), None),
        Refunded::Pending { refund } => ("pending", Some(refund.as_str()), None),
        Refunded::Failed { refund, reason } => {
            ("failed", Some(refund.as_str()), Some(reason.as_str()))
        }
        Refunded::Refused { code } => ("failed", None, Some(code.as_str())),
    };
    sqlx::query!(
        r#"
        update app.refund
        set status = $4, provider_refund_id = coalesce($5, provider_refund_id), failure = $6,
          settled_at = $7
        where credit_note_id = $1
          and generation = $2
          and shard_id = $3
        "#,
        note,
        generation,
        shard.0,
        status,
        refund,
        failure,
        (status != "pending").then_some(now),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn sum_failed(
    conn: &mut PgConnection,
    note: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<(String, Decimal)>> {
    let row = sqlx::query!(
        r#"
        select currency, sum(amount) as "amount!"
        from app.refund
        where credit_note_id = $1
          and shard_id = $2
          and status = 'failed'
        group by currency
        "#,
        note,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.currency, row.amount)))
}
