//! Dunning: what follows when a tenant owes, in one currency.
//!
//! One run per tenant and currency, for as long as the tenant is. Whether there is a debt is read
//! from the open invoices each time, never remembered: what was paid by another way clears it too.
//! A hard decline is not tried again with the same method; its ladder only reminds, until a new
//! method comes, which is tried at once.

pub mod rules;
mod store;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tenure_engine::{
    AttributeKind, AttributeNames, Attributes, Context, Event, ResultExt as _, RunId, StepError,
    Transition, Workflow,
};
use uuid::Uuid;

use crate::calendar;
use crate::invoice::{self, InvoiceWorkflow};
use crate::money::Currency;
use crate::notice::{self, NoticeWorkflow};
use crate::payment::rules::DeclineClass;
use crate::subscription::{self, SubscriptionWorkflow};
use crate::tenant;
use rules::{Next, next_rung};

// Input.

/// Which currency of the tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// The currency.
    pub currency: Currency,
}

// States and signals.

/// Where dunning is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// Nothing is owed.
    Clear {
        /// The currency.
        currency: Currency,
    },
    /// Something is owed.
    PastDue(Debt),
}

/// A debt, from the first failure on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Debt {
    /// The currency.
    pub currency: Currency,
    /// Since the first failure.
    pub since: DateTime<Utc>,
    /// How many rungs have been climbed.
    pub rungs: u32,
    /// Whether the same method is tried again by itself.
    pub retried: bool,
}

/// A failed attempt at an invoice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// The invoice.
    pub invoice_id: Uuid,
    /// The attempt.
    pub generation: i32,
    /// Why, in the provider's word.
    pub code: String,
    /// What a retry could change.
    pub class: DeclineClass,
}

/// What dunning may be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// An attempt at an invoice failed.
    PaymentFailed(Failure),
    /// An invoice was paid after it had failed.
    Paid,
    /// The tenant has a new payment method.
    MethodChanged,
}

/// The workflow.
pub struct DunningWorkflow;

const RUNG: &str = "rung";
const FINAL: &str = "final";

// Handle.

impl Workflow for DunningWorkflow {
    const NAME: &'static str = "dunning";
    const VERSION: i32 = 1;
    const ATTRIBUTES: AttributeNames = &[
        ("currency", AttributeKind::Text),
        ("since", AttributeKind::Time),
        ("rungs", AttributeKind::Number),
    ];
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = ();

    fn start(&self, Input { currency }: Input) -> State {
        State::Clear { currency }
    }

    fn attributes(&self, state: &State) -> Attributes {
        match state {
            State::Clear { currency } => Attributes::none().text("currency", currency.code()),
            State::PastDue(debt) => Attributes::none()
                .text("currency", debt.currency.code())
                .time("since", debt.since)
                .number("rungs", f64::from(debt.rungs)),
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Clear { currency }, Event::Signal(Signal::PaymentFailed(failure))) => {
                let debt = Debt {
                    currency,
                    since: cx.now(),
                    rungs: 0,
                    retried: true,
                };
                failed(cx, debt, failure).await
            }
            (State::PastDue(debt), Event::Signal(Signal::PaymentFailed(failure))) => {
                failed(cx, debt, failure).await
            }
            (State::PastDue(debt), Event::Deadline(name)) if name == FINAL => {
                give_up(cx, debt).await
            }
            (State::PastDue(debt), Event::Deadline(_)) => climb(cx, debt).await,
            (State::PastDue(mut debt), Event::Signal(Signal::MethodChanged)) => {
                debt.retried = true;
                collect_all(cx, debt, "method").await
            }
            (State::PastDue(debt), Event::Signal(Signal::Paid)) => look_again(cx, debt).await,
            (_, Event::CancelRequested) => Ok(Transition::cancelled()),
            (
                state,
                Event::Entered
                | Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => Ok(Transition::stay(state)),
        }
    }
}

// Steps.

const STORE_DEBT: &str = "store-debt";
const READ_OPEN: &str = "read-open-invoices";
const CLEAR_DEBT: &str = "clear-debt";
const EXHAUST_DEBT: &str = "exhaust-debt";

/// Notes the debt, tells the tenant, and waits for the next rung.
async fn failed(
    cx: &Context,
    mut debt: Debt,
    failure: Failure,
) -> Result<Transition<DunningWorkflow>, StepError> {
    debt.retried = failure.class.is_retried();
    let next = store_debt(cx, debt).await?;
    let mail = notice::Input::PaymentFailed {
        invoice_id: failure.invoice_id,
        code: failure.code,
        next_attempt_at: match next {
            Next::Retry(at) if debt.retried => Some(at),
            Next::Retry(_) | Next::Final(_) => None,
        },
        ends_at: match next {
            Next::Retry(_) => None,
            Next::Final(at) => Some(at),
        },
    };
    let key = format!(
        "payment-failed/{}/{}",
        failure.invoice_id, failure.generation
    );
    Ok(wait_for(next, debt).launch::<NoticeWorkflow>(key, &mail))
}

/// A rung has come: try again, unless that cannot work, and wait for the next.
async fn climb(cx: &Context, mut debt: Debt) -> Result<Transition<DunningWorkflow>, StepError> {
    debt.rungs += 1;
    if debt.retried {
        let tag = format!("rung-{}", debt.rungs);
        return collect_all(cx, debt, &tag).await;
    }
    let next = store_debt(cx, debt).await?;
    Ok(wait_for(next, debt))
}

/// Asks every open invoice to be collected now.
async fn collect_all(
    cx: &Context,
    debt: Debt,
    tag: &str,
) -> Result<Transition<DunningWorkflow>, StepError> {
    let open = read_open(cx, debt.currency).await?;
    if open.is_empty() {
        return clear(cx, debt).await;
    }
    let next = store_debt(cx, debt).await?;
    let mut transition = wait_for(next, debt);
    for invoice in open {
        // The visit makes the id unique: a method may change twice between two rungs.
        let signal_id = format!("collect:{tag}:{}", cx.uuid());
        transition = transition.signal_key::<InvoiceWorkflow>(
            invoice.to_string(),
            signal_id,
            &invoice::Signal::Collect,
        );
    }
    Ok(transition)
}

/// Something was paid: is there a debt still?
async fn look_again(cx: &Context, debt: Debt) -> Result<Transition<DunningWorkflow>, StepError> {
    if read_open(cx, debt.currency).await?.is_empty() {
        clear(cx, debt).await
    } else {
        Ok(Transition::stay(State::PastDue(debt)))
    }
}

async fn clear(cx: &Context, debt: Debt) -> Result<Transition<DunningWorkflow>, StepError> {
    let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
    let currency = debt.currency;
    cx.transact(CLEAR_DEBT, async |tx| {
        Ok(store::apply(tx, tenant, shard, currency.code(), None, None).await?)
    })
    .await?;
    let key = format!("recovered/{currency}/{}", debt.since.timestamp());
    Ok(Transition::go(State::Clear { currency })
        .launch::<NoticeWorkflow>(key, &notice::Input::Recovered {}))
}

/// The ladder has ended: subscriptions end, invoices are written off.
async fn give_up(cx: &Context, debt: Debt) -> Result<Transition<DunningWorkflow>, StepError> {
    let (tenant, shard, currency) = (cx.tenant_id(), cx.shard_id(), debt.currency);
    let open = read_open(cx, currency).await?;
    if open.is_empty() {
        return clear(cx, debt).await;
    }
    let runs: Vec<RunId> = cx
        .transact(EXHAUST_DEBT, async |tx| {
            store::apply_exhausted(tx, tenant, shard, currency.code()).await?;
            Ok(subscription::store::list_live_runs(tx, tenant, shard, currency.code()).await?)
        })
        .await?;
    let since = debt.since.timestamp();
    let mut transition = Transition::go(State::Clear { currency }).launch::<NoticeWorkflow>(
        format!("final/{currency}/{since}"),
        &notice::Input::Final {},
    );
    for run in runs {
        let signal_id = format!("unpaid:{since}");
        transition = transition.signal::<SubscriptionWorkflow>(
            run,
            signal_id,
            &subscription::Signal::Unpaid,
        );
    }
    for invoice in open {
        transition = transition.signal_key::<InvoiceWorkflow>(
            invoice.to_string(),
            format!("write-off:{since}"),
            &invoice::Signal::WriteOff,
        );
    }
    Ok(transition)
}

async fn store_debt(cx: &Context, debt: Debt) -> Result<Next, StepError> {
    let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
    let next: DateTime<Utc> = cx
        .transact(STORE_DEBT, async |tx| {
            let next = next_of(tx, tenant, debt).await?;
            let attempt = matches!(next, Next::Retry(_)).then_some(next.at());
            let attempt = attempt.filter(|_| debt.retried);
            let code = debt.currency.code();
            store::apply(tx, tenant, shard, code, Some(debt.since), attempt).await?;
            Ok(next.at())
        })
        .await?;
    let last = rules::RETRY_DAYS.len() as u32;
    Ok(if debt.rungs < last {
        Next::Retry(next)
    } else {
        Next::Final(next)
    })
}

async fn next_of(
    tx: &mut sqlx::PgConnection,
    tenant_id: tenure_engine::TenantId,
    debt: Debt,
) -> Result<Next, StepError> {
    let profile = tenant::store::find_profile(tx, tenant_id).await?;
    let zone = calendar::zone(&profile.zone).terminal("unknown_zone")?;
    Ok(next_rung(debt.since, debt.rungs, zone))
}

async fn read_open(cx: &Context, currency: Currency) -> Result<Vec<Uuid>, StepError> {
    let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
    cx.transact(READ_OPEN, async |tx| {
        Ok(invoice::store::list_open(tx, tenant, shard, currency.code()).await?)
    })
    .await
}

// Rules.

fn wait_for(next: Next, debt: Debt) -> Transition<DunningWorkflow> {
    let transition = Transition::stay(State::PastDue(debt));
    match next {
        Next::Retry(at) => transition.clear(FINAL).at(RUNG, at),
        Next::Final(at) => transition.clear(RUNG).at(FINAL, at),
    }
}
