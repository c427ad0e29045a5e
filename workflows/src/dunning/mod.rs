//! Dunning: what follows when a tenant owes, in one currency.
//!
//! One run per tenant and currency, for as long as the tenant is. Each event makes it look: it reads
//! what is open and was declined, asks the tenant's policy what follows, and writes the debt and its
//! holds in one transaction. Whether there is a debt is never remembered: what was paid, refunded or
//! credited by another way counts at the next look, for which anybody may ask (`Reevaluate`).
//!
//! What follows is one pure function, `rules::decide`; when and what is data, `policy`.
//!
//! While an attempt at an invoice is under way, nothing that hurts follows for it. Whoever makes the
//! attempt tells when it has to wait and when it has ended. What the provider takes of nobody, for its
//! amount, waits in the same way, for an operator: the tenant is told nothing of it.

mod door;
mod look;
pub mod policy;
pub mod rules;
pub(crate) mod store;

pub use door::{
    Assignment, AssignmentScope, DebtRow, DebtView, ExemptionRow, LastDeclineView, NewExemption,
    PolicyRow, UnpaidView, assign, assignments, debts, exempt, exemptions, lift_exemption,
    load_policy, policies, reevaluate,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenure_engine::{
    AttributeKind, AttributeNames, Attributes, Context, Event, Guard, GuardNeed, StepError,
    Transition, Workflow,
};
use uuid::Uuid;

use crate::invoice::{self, InvoiceWorkflow};
use crate::money::Currency;
use crate::notice::{self, NoticeWorkflow};
use crate::payment::rules::{AUTHENTICATION_REQUIRED, DeclineClass};
use crate::subscription::{self, SubscriptionWorkflow};
use look::{Ask, Looked, Stored};
use policy::EndAction;
use rules::{Decision, Stage};

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
    /// Nothing is owed, or what was is given up.
    Clear {
        /// The currency.
        currency: Currency,
        /// What was given up and is not written off yet.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        given_up: Vec<Uuid>,
    },
    /// Something is owed.
    PastDue(Debt),
    /// Something is owed, and an attempt at all of it is under way: it waits for the end of one.
    UnderWay(Debt),
}

/// A debt, as the run keeps it: its position, and what it is found by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Debt {
    /// The currency.
    pub currency: Currency,
    /// Since the first failure, as of the last look.
    pub since: DateTime<Utc>,
    /// How many rungs have been climbed.
    pub rungs: u32,
    /// How it stood at the last look.
    #[serde(default = "past_due")]
    pub stage: Stage,
    /// The policy's step that held then.
    #[serde(default)]
    pub step: Option<String>,
    /// Up to when it has asked for payment.
    #[serde(default)]
    pub asked_at: Option<DateTime<Utc>>,
    /// Whether the tenant was told nothing yet, because its next method is tried at once.
    #[serde(default)]
    pub untold: bool,
    /// What was given up and is not written off yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<Uuid>,
    /// What the oldest of it is for, as of the last look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<Uuid>,
    /// Whether another method is to be tried at once: as soon as the attempt has failed that is under way.
    #[serde(default)]
    pub new_method: bool,
}

const fn past_due() -> Stage {
    Stage::PastDue
}

impl Debt {
    /// One that is looked at for the first time.
    const fn new(currency: Currency, given_up: Vec<Uuid>, since: DateTime<Utc>) -> Self {
        Self {
            currency,
            since,
            rungs: 0,
            stage: Stage::Clear,
            step: None,
            asked_at: None,
            untold: false,
            given_up,
            subscription_id: None,
            new_method: false,
        }
    }
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
    /// Something that a debt follows from has changed: a refund, a credit, a policy, an exemption.
    Reevaluate,
}

/// The workflow.
pub struct DunningWorkflow;

const RUNG: &str = "rung";
const STEP: &str = "step";
const FINAL: &str = "final";
const EXEMPTION: &str = "exemption-end";

// Handle.

impl Workflow for DunningWorkflow {
    const NAME: &'static str = "dunning";
    const VERSION: i32 = 3;
    const GUARD: Guard = Guard {
        signals: &[(
            "PaymentFailed",
            GuardNeed::Door("an attempt at an invoice that failed"),
        )],
        // Without its run nobody lifts what a debt holds, and a tenant would be spared by no exemption.
        ends: GuardNeed::Admin,
        ..Guard::OPEN
    };
    const ATTRIBUTES: AttributeNames = &[
        ("currency", AttributeKind::Text),
        ("since", AttributeKind::Time),
        ("rungs", AttributeKind::Number),
        ("stage", AttributeKind::Text),
    ];
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = ();

    fn start(&self, Input { currency }: Input) -> State {
        State::Clear {
            currency,
            given_up: Vec::new(),
        }
    }

    /// The two older versions kept two of the states; what they did not know has a default. Version 1 did
    /// not read from the declines whether the same method is tried again, version 2 not whether an
    /// attempt is under way.
    fn migrate(&self, _from_version: i32, state: Value) -> Result<Value, String> {
        Ok(state)
    }

    fn attributes(&self, state: &State) -> Attributes {
        match state {
            State::Clear { currency, .. } => Attributes::none().text("currency", currency.code()),
            State::PastDue(debt) | State::UnderWay(debt) => Attributes::none()
                .text("currency", debt.currency.code())
                .time("since", debt.since)
                .number("rungs", f64::from(debt.rungs))
                .text("stage", debt.stage.word()),
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (
                State::Clear { currency, given_up },
                Event::Signal(Signal::PaymentFailed(failure)),
            ) => {
                let debt = Debt::new(currency, given_up, cx.now());
                failed(cx, debt, false, failure).await
            }
            (
                State::PastDue(debt) | State::UnderWay(debt),
                Event::Signal(Signal::PaymentFailed(failure)),
            ) => failed(cx, debt, true, failure).await,
            (State::Clear { currency, given_up }, Event::Signal(Signal::Reevaluate)) => {
                let debt = Debt::new(currency, given_up, cx.now());
                let looked = look(cx, &debt, false).await?;
                Ok(follow(cx, debt, looked, "look"))
            }
            (State::PastDue(debt) | State::UnderWay(debt), Event::Deadline(_)) => {
                again(cx, debt, "rung").await
            }
            (
                State::PastDue(debt) | State::UnderWay(debt),
                Event::Signal(Signal::MethodChanged),
            ) => {
                let new_method = true;
                again(cx, Debt { new_method, ..debt }, "method").await
            }
            (
                State::PastDue(debt) | State::UnderWay(debt),
                Event::Signal(Signal::Paid | Signal::Reevaluate),
            ) => again(cx, debt, "look").await,
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

/// An attempt failed: looks, and tells the tenant.
async fn failed(
    cx: &Context,
    debt: Debt,
    owing: bool,
    failure: Failure,
) -> Result<Transition<DunningWorkflow>, StepError> {
    let looked = look(cx, &debt, owing).await?;
    let decision = looked.decision.clone();
    let (invoice, generation) = (failure.invoice_id, failure.generation);
    let switched = decision.switch.iter().any(|one| one.invoice_id == invoice);
    let goes_on = switched || decision.collect.contains(&invoice);
    let of_amount = failure.class == DeclineClass::Amount;
    let debt = Debt {
        untold: (debt.untold || !owing) && (goes_on || of_amount),
        ..debt
    };
    let transition = follow(cx, debt, looked, "failed");
    if decision.stage == Stage::Clear || goes_on || of_amount {
        // It was paid meanwhile, or the attempt with the next method tells; or nothing that the tenant
        // could do would help.
        return Ok(transition);
    }
    if failure.code == AUTHENTICATION_REQUIRED {
        let mail = notice::Input::ActionNeeded {
            invoice_id: invoice,
            link: None,
        };
        let key = format!("action-needed/{invoice}/{generation}");
        return Ok(transition.launch::<NoticeWorkflow>(key, &mail));
    }
    let mail = notice::Input::PaymentFailed {
        invoice_id: invoice,
        code: failure.code,
        next_attempt_at: decision.retry_at,
        ends_at: decision.ends_at.filter(|_| decision.retry_at.is_none()),
        hard: !failure.class.is_retried(),
    };
    let key = format!("payment-failed/{invoice}/{generation}");
    Ok(transition.launch::<NoticeWorkflow>(key, &mail))
}

/// Looks again at what was owed.
async fn again(
    cx: &Context,
    debt: Debt,
    tag: &str,
) -> Result<Transition<DunningWorkflow>, StepError> {
    // Visits that version 1 began have recorded this before anything else, so it stays the first.
    let (tenant, shard, currency) = (cx.tenant_id(), cx.shard_id(), debt.currency);
    let _: Vec<Uuid> = cx
        .transact(READ_OPEN, async |tx| {
            Ok(invoice::store::list_open(tx, tenant, shard, currency.code()).await?)
        })
        .await?;
    let looked = look(cx, &debt, true).await?;
    Ok(follow(cx, debt, looked, tag))
}

async fn look(cx: &Context, debt: &Debt, owing: bool) -> Result<Looked, StepError> {
    let ask = Ask {
        tenant: cx.tenant_id(),
        shard: cx.shard_id(),
        debt,
        owing,
    };
    let stored: Stored = cx
        .transact(STORE_DEBT, async |tx| {
            Ok(Stored::Looked(Box::new(look::look(tx, ask).await?)))
        })
        .await?;
    Ok(stored.looked(debt))
}

/// What was decided, as a transition.
fn follow(cx: &Context, debt: Debt, looked: Looked, tag: &str) -> Transition<DunningWorkflow> {
    let Looked {
        at,
        decision,
        invoices,
        runs,
        given_up,
        subscription_id,
    } = looked;
    let Some(since) = decision.since else {
        return clear(&debt, given_up);
    };
    let all_wait = decision.waits && invoices.is_empty();
    let asked = decision.rung || !decision.collect.is_empty();
    let mut next = Debt {
        currency: debt.currency,
        since,
        rungs: debt.rungs + u32::from(decision.rung),
        stage: decision.stage,
        step: decision.step.clone(),
        asked_at: if asked { Some(at) } else { debt.asked_at },
        untold: debt.untold && decision.step.is_none(),
        given_up,
        subscription_id,
        new_method: debt.new_method && all_wait,
    };
    if let Some(action @ (EndAction::Cancel | EndAction::Uncollectible)) = decision.end {
        next.given_up.extend(&invoices);
        return give_up(next, action, decision.waits, &invoices, &runs);
    }
    if all_wait {
        return wait_for(&decision, State::UnderWay(next));
    }
    let transition = wait_for(&decision, State::PastDue(next));
    let mut transition = tell(transition, &debt, &decision, subscription_id);
    let switched = decision.switch.iter().map(|one| one.invoice_id);
    for invoice in decision.collect.iter().copied().chain(switched) {
        // The visit makes the id unique: a method may change twice between two rungs.
        let signal_id = format!("collect:{tag}:{}", cx.uuid());
        transition = transition.signal_key::<InvoiceWorkflow>(
            invoice.to_string(),
            signal_id,
            &invoice::Signal::Collect,
        );
    }
    transition
}

/// Nothing is owed any more.
fn clear(debt: &Debt, given_up: Vec<Uuid>) -> Transition<DunningWorkflow> {
    let currency = debt.currency;
    let clear = State::Clear { currency, given_up };
    if debt.stage == Stage::Clear {
        return Transition::stay(clear);
    }
    if debt.untold {
        return Transition::go(clear);
    }
    let key = format!("recovered/{currency}/{}", debt.since.timestamp());
    let recovered = notice::Input::Recovered {
        currency: Some(currency),
        since: Some(debt.since),
        subscription_id: debt.subscription_id,
    };
    Transition::go(clear).launch::<NoticeWorkflow>(key, &recovered)
}

/// The ladder has ended: invoices are written off, and subscriptions end if the policy says so. What
/// an attempt is under way for is waited for.
fn give_up(
    debt: Debt,
    action: EndAction,
    waits: bool,
    invoices: &[Uuid],
    runs: &[tenure_engine::RunId],
) -> Transition<DunningWorkflow> {
    let (currency, since) = (debt.currency, debt.since.timestamp());
    let (given_up, subscription_id) = (debt.given_up.clone(), debt.subscription_id);
    let mut transition = Transition::go(if waits {
        State::UnderWay(debt)
    } else {
        State::Clear { currency, given_up }
    });
    let mail = notice::Input::Final {
        currency: Some(currency),
        ends: action == EndAction::Cancel,
        subscription_id,
    };
    if let Some(first) = invoices.first() {
        // An invoice is given up once, and so names the end.
        transition =
            transition.launch::<NoticeWorkflow>(format!("final/{currency}/{first}"), &mail);
    }
    for run in runs {
        let signal_id = format!("unpaid:{since}");
        transition = transition.signal::<SubscriptionWorkflow>(
            *run,
            signal_id,
            &subscription::Signal::Unpaid,
        );
    }
    for invoice in invoices {
        transition = transition.signal_key::<InvoiceWorkflow>(
            invoice.to_string(),
            format!("write-off:{since}"),
            &invoice::Signal::WriteOff,
        );
    }
    transition
}

/// Tells the tenant what has changed since the last look.
fn tell(
    transition: Transition<DunningWorkflow>,
    before: &Debt,
    decision: &Decision,
    subscription_id: Option<Uuid>,
) -> Transition<DunningWorkflow> {
    let (currency, Some(since)) = (before.currency, decision.since) else {
        return transition;
    };
    let since = since.timestamp();
    if decision.end.is_some() {
        let key = format!("final/{currency}/{since}");
        let about = notice::Input::Final {
            currency: Some(currency),
            ends: false,
            subscription_id,
        };
        return transition.launch::<NoticeWorkflow>(key, &about);
    }
    let Some(step) = decision
        .step
        .as_ref()
        .filter(|step| before.step.as_ref() != Some(*step))
    else {
        return transition;
    };
    let next = decision.next_step.as_ref().map(|next| next.at);
    let until = next.or(decision.ends_at);
    let about = match decision.stage {
        Stage::Grace => notice::Input::Grace {
            currency,
            until,
            subscription_id,
        },
        Stage::Suspended => notice::Input::Suspended {
            currency,
            until,
            subscription_id,
        },
        Stage::Clear | Stage::PastDue | Stage::Exhausted => return transition,
    };
    let key = format!("{}/{currency}/{since}/{step}", about.kind());
    transition.launch::<NoticeWorkflow>(key, &about)
}

// Rules.

fn wait_for(decision: &Decision, state: State) -> Transition<DunningWorkflow> {
    let next_step = decision.next_step.as_ref().map(|next| next.at);
    let deadlines = [
        (RUNG, decision.retry_at),
        (STEP, next_step),
        (FINAL, decision.ends_at),
        (EXEMPTION, decision.exempt_until),
    ];
    let mut transition = Transition::stay(state);
    for (name, at) in deadlines {
        transition = match at {
            Some(at) => transition.at(name, at),
            None => transition.clear(name),
        };
    }
    transition
}
