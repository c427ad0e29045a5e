//! An invoice: finalised once, then collected until it is paid or written off.
//!
//! Each attempt is a child run of its own generation, so that a repeat of the same attempt is the
//! same charge, and a new attempt is a new one. When the next attempt is made is dunning's word.

pub(crate) mod balance;
pub(crate) mod credit;
mod door;
mod issuer;
pub mod print;
pub(crate) mod store;

pub use door::{
    ActPreview, Verb, Wanted, act, find, find_credit, give_credit_note, grant_credit, list,
    list_credit_notes, page, preview_act,
};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tenure_engine::{
    AttributeKind, AttributeNames, Attributes, Context, Event, FinishedRun, Guard, GuardNeed,
    Reception, ShardId, StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use crate::catalog::Seller;
use crate::dunning::{self, DunningWorkflow};
use crate::money::{Currency, Money};
use crate::notice::{self, NoticeWorkflow};
use crate::payment::{self, PaymentWorkflow};
use crate::pricing::{Bill, CreditLine, Tax};
use crate::subscription::money::CreditPolicy;

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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finalized {
    /// Gapless per tenant and legal entity.
    pub number: i32,
    /// What the numbers of its legal entity begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// What it is for, in all.
    pub total: Decimal,
    /// What was left to pay; none in runs that were finalised before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Decimal>,
}

impl Input {
    /// The input of an invoice's run.
    #[must_use]
    pub fn new(invoice_id: Uuid, currency: Currency) -> Self {
        Self {
            invoice_id,
            currency,
            finalized: None,
        }
    }
}

/// What an invoice is drafted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The first payment of a subscription that begins with it, or a trial that has a price.
    Start,
    /// A period.
    Cycle,
    /// A change within a period.
    Change,
    /// The rest of a period after a pause.
    Resume,
    /// What was used until a pause or the end.
    Final,
}

impl Reason {
    /// The stored word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Cycle => "cycle",
            Self::Change => "change",
            Self::Resume => "resume",
            Self::Final => "final",
        }
    }
}

/// A draft, for its subscription to insert.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'a> {
    pub(crate) invoice_id: Uuid,
    pub(crate) subscription_id: Uuid,
    pub(crate) reason: Reason,
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    /// In which its days count, and its dates are printed.
    pub(crate) zone: &'a str,
    pub(crate) bill: &'a Bill,
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
    /// What it was drafted for.
    pub reason: String,
    /// Gapless per tenant and legal entity, from finalisation on.
    pub number: Option<i32>,
    /// Who issues it, by the catalogue's key, from finalisation on; empty for the seller without a name.
    pub legal_entity: Option<String>,
    /// That legal entity, as it is named on it.
    pub seller: Option<Seller>,
    /// Sum of the lines before discounts.
    pub subtotal: Money,
    /// What came off.
    pub discount: Money,
    /// Added to the amounts, or held by them.
    pub tax: Money,
    /// The tax's name and rate.
    pub tax_rate: Option<Tax>,
    /// What it is for, in all.
    pub total: Money,
    /// What credit notes took off the debt.
    pub credited: Money,
    /// What the tenant's balance paid, with what was carried over; below zero, what it collected for
    /// earlier invoices.
    pub balance_applied: Money,
    /// What of that was carried over to the balance, because the provider takes no charge so small.
    pub carried_over: Money,
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
    /// Proves what its lines were computed of.
    pub priced_hash: Option<String>,
    /// The zone of its dates; its tenant's when there is none.
    pub zone: Option<String>,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct LineRow {
    /// Counts from 1.
    pub line: i32,
    /// plan, seats, setup-fee, trial, or an add-on's key.
    pub item: String,
    /// For people.
    pub description: String,
    /// How many.
    pub quantity: Decimal,
    /// Of one for a natural period.
    pub unit_price: Decimal,
    /// How long the service period is.
    pub units: i64,
    /// How long the natural period is that it is a part of.
    pub units_of: i64,
    /// Before discounts.
    pub subtotal: Decimal,
    /// What came off.
    pub discount: Decimal,
    /// After discounts, in the invoice's currency.
    pub amount: Decimal,
    /// Added to the amount, or held by it.
    pub tax: Decimal,
    /// Start of the service period, inclusive.
    pub period_start: DateTime<Utc>,
    /// End of the service period, exclusive.
    pub period_end: DateTime<Utc>,
}

/// A credit note.
#[derive(Debug, Clone, PartialEq)]
pub struct CreditNoteRow {
    /// Identity.
    pub credit_note_id: Uuid,
    /// Gapless per tenant and legal entity.
    pub number: i32,
    /// What the numbers of its legal entity begin with.
    pub prefix: Option<String>,
    /// The invoice.
    pub invoice_id: Uuid,
    /// Why.
    pub reason: String,
    /// Who gave it.
    pub author: String,
    /// Of the total.
    pub tax: Money,
    /// With tax.
    pub total: Money,
    /// What lowered the debt.
    pub to_debt: Money,
    /// What was added to the balance.
    pub to_balance: Money,
    /// What goes back to the payment method.
    pub to_refund: Money,
    /// How that stands.
    pub refund_status: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}

impl CreditNoteRow {
    /// The number as it is printed.
    #[must_use]
    pub fn printed_number(&self) -> String {
        prefixed(self.prefix.as_deref(), &format!("CN-{:05}", self.number))
    }
}

/// An entry of a tenant's balance.
#[derive(Debug, Clone, PartialEq)]
pub struct CreditEntryRow {
    /// What it adds; below zero, what it takes.
    pub amount: Money,
    /// In the stored word.
    pub reason: String,
    /// The credit note, the invoice, or the grant itself.
    pub reference: Uuid,
    /// Why, in the author's words.
    pub note: Option<String>,
    /// Who added it.
    pub author: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

impl InvoiceRow {
    /// What is still to be paid.
    #[must_use]
    pub fn due(&self) -> Money {
        let currency = self.total.currency();
        match self.status.as_str() {
            "draft" | "open" => Money::new(self.settled_by_payment(), currency),
            _ => Money::zero(currency),
        }
    }

    /// What is, or was, to be paid by a method: all but credit.
    #[must_use]
    pub fn payable(&self) -> Money {
        Money::new(self.settled_by_payment(), self.total.currency())
    }

    /// What the tenant's balance paid out of credit.
    #[must_use]
    pub fn paid_by_balance(&self) -> Money {
        self.money(self.given_by_balance().max(Decimal::ZERO))
    }

    /// What was collected with it for earlier invoices, of which it had been carried over.
    #[must_use]
    pub fn collected(&self) -> Money {
        self.money((-self.given_by_balance()).max(Decimal::ZERO))
    }

    fn money(&self, amount: Decimal) -> Money {
        Money::new(amount, self.total.currency())
    }

    fn given_by_balance(&self) -> Decimal {
        self.balance_applied.amount() - self.carried_over.amount()
    }

    fn settled_by_payment(&self) -> Decimal {
        self.total.amount() - self.credited.amount() - self.balance_applied.amount()
    }

    /// The number as it is printed.
    #[must_use]
    pub fn printed_number(&self) -> Option<String> {
        let prefix = self.seller.as_ref().map(|seller| &*seller.prefix);
        self.number.map(|number| printed(prefix, number))
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
        /// Whether it is taken back when the payment fails, and given back when it does not.
        #[serde(default)]
        void: bool,
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
    /// Take it back: nothing is owed for it.
    Void,
    /// A credit note took something off what is owed, or there is credit that can pay of it.
    Credited,
}

/// How an invoice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Paid.
    Paid,
    /// Written off.
    Uncollectible,
    /// Taken back.
    Void,
}

/// The workflow.
pub struct InvoiceWorkflow;

/// Where it is decided what becomes of an invoice.
const ACTS: &str =
    "POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/{verb} (tenure invoice --help)";

// Handle.

impl Workflow for InvoiceWorkflow {
    const NAME: &'static str = "invoice";
    const VERSION: i32 = 1;
    // What is not owed any more is decided where it is told what that comes to.
    const GUARD: Guard = Guard {
        signals: &[
            ("WriteOff", GuardNeed::Door(ACTS)),
            ("Void", GuardNeed::Door(ACTS)),
        ],
        ..Guard::OPEN
    };
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
        match &of.finalized {
            Some(it) => attributes
                .text("number", &printed(it.prefix.as_deref(), it.number))
                .number("total", it.total.to_f64().unwrap_or(f64::NAN)),
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
            (
                State::Finalizing { .. } | State::Collecting { .. },
                Signal::WriteOff | Signal::Credited,
            )
            | (State::Finalizing { .. }, Signal::Void) => Reception::Defer,
            (State::Collecting { .. } | State::Open { .. }, Signal::Void)
            | (State::Open { .. }, Signal::Credited) => Reception::Accept,
            (State::Paid { .. }, _) => Reception::Reject("the invoice is paid"),
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
            (State::Collecting { of, generation, .. }, Event::Entered) => {
                collect(cx, of, generation).await
            }
            (
                State::Collecting {
                    of,
                    generation,
                    void,
                },
                Event::RunFinished(payment),
            ) => collected(cx, of, generation, void, &payment).await,
            (State::Collecting { of, generation, .. }, Event::Signal(Signal::Void)) => {
                let void = true;
                Ok(Transition::stay(State::Collecting {
                    of,
                    generation,
                    void,
                }))
            }
            (State::Open { of, generation }, Event::Signal(Signal::Collect)) => {
                Ok(Transition::go(State::Collecting {
                    of,
                    generation: generation + 1,
                    void: false,
                }))
            }
            (State::Open { of, .. }, Event::Signal(Signal::WriteOff)) => write_off(cx, of).await,
            (State::Open { of, .. }, Event::Signal(Signal::Void)) => void(cx, of).await,
            (State::Open { of, generation }, Event::Signal(Signal::Credited)) => {
                credited(cx, of, generation).await
            }
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
const CARRY_OVER: &str = "carry-over";
const GIVE_BACK: &str = "give-back";
const LOOK_WHAT_IS_DUE: &str = "look-what-is-due";
const WRITE_OFF: &str = "write-off";
const VOID: &str = "void";
const READ_INVOICE: &str = "read-invoice";

/// Gives the invoice its number, and lets the tenant's balance pay what it can; what was carried over
/// to the balance is collected.
async fn finalize(cx: &Context, mut of: Input) -> Result<Transition<InvoiceWorkflow>, StepError> {
    let (tenant, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
    let finalized: Finalized = cx
        .transact(FINALIZE, async |tx| {
            let issuer = issuer::find(tx, tenant, shard, of.invoice_id).await?;
            let number = store::claim_number(tx, tenant, shard, &issuer.legal_entity).await?;
            let total = store::apply_final(tx, of.invoice_id, shard, &issuer, number, now).await?;
            let standing = store::lock(tx, of.invoice_id, shard).await?;
            let standing =
                standing.ok_or_else(|| StepError::terminal("no_invoice", of.invoice_id))?;
            let balance = store::lock_balance(tx, tenant, shard, of.currency.code()).await?;
            let applied = balance::taken(balance, standing.due());
            balance::apply(tx, tenant, shard, &of, applied, now).await?;
            let due = standing.due() - applied;
            if due.is_zero() {
                // Nothing to pay: never a charge of nothing.
                store::apply_paid(tx, of.invoice_id, shard, now).await?;
            }
            Ok(Finalized {
                number,
                prefix: issuer.seller.map(|seller| seller.prefix),
                total,
                due: Some(due),
            })
        })
        .await?;
    let due = finalized.due.unwrap_or(finalized.total);
    of.finalized = Some(finalized);
    Ok(if due.is_zero() {
        Transition::go(State::Paid { of, generation: 0 })
    } else {
        Transition::go(State::Collecting {
            of,
            generation: 1,
            void: false,
        })
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
    Ok(Transition::stay(State::Collecting {
        of,
        generation,
        void: false,
    })
    .start::<PaymentWorkflow>(key, &input))
}

async fn collected(
    cx: &Context,
    of: Input,
    generation: i32,
    void: bool,
    payment: &FinishedRun,
) -> Result<Transition<InvoiceWorkflow>, StepError> {
    match payment.output::<PaymentWorkflow>()? {
        payment::Output::Succeeded => {
            let (tenant, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
            // Runs of before credit was told of answered nothing here.
            let open: Option<Vec<Uuid>> = cx
                .transact(MARK_PAID, async |tx| {
                    let (id, of) = (of.invoice_id, &of);
                    let paid = payment::store::find_amount(tx, id, generation, shard).await?;
                    let over = keep_overpaid(tx, tenant, shard, of, paid, now).await?;
                    balance::carry_over(tx, tenant, shard, of, paid, now).await?;
                    if !over {
                        return Ok(None);
                    }
                    let code = of.currency.code();
                    Ok(Some(store::list_open(tx, tenant, shard, code).await?))
                })
                .await?;
            let mut open = open.unwrap_or_default();
            if void {
                open.extend(give_all_back(cx, &of).await?.unwrap_or_default());
            }
            open.sort_unstable();
            open.dedup();
            let cause = format!("paid:{}", of.invoice_id);
            let paid = Transition::go(State::Paid { of, generation });
            Ok(tell_open(paid, &open, &cause))
        }
        payment::Output::Declined { .. } | payment::Output::TooSmall if void => {
            self::void(cx, of).await
        }
        payment::Output::TooSmall => {
            let (tenant, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
            cx.transact(CARRY_OVER, async |tx| {
                balance::carry_over(tx, tenant, shard, &of, Decimal::ZERO, now).await
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

/// What was paid beyond what is owed by now, because a credit note came in between, is the tenant's.
/// Whether there was any.
async fn keep_overpaid(
    tx: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    of: &Input,
    paid: Decimal,
    now: DateTime<Utc>,
) -> Result<bool, StepError> {
    let standing = store::lock(tx, of.invoice_id, shard).await?;
    let standing = standing.ok_or_else(|| StepError::terminal("no_invoice", of.invoice_id))?;
    let over = paid - standing.due();
    let is_over = over > Decimal::ZERO && standing.status == "open";
    if is_over {
        let entry = store::Entry {
            currency: of.currency.code(),
            amount: over,
            reason: "overpaid",
            reference: of.invoice_id,
            note: None,
            author: "invoice",
        };
        store::add_entry(tx, tenant, shard, &entry, now).await?;
    }
    Ok(is_over)
}

/// Paid after what it was for had been given up: all of it becomes credit. Returns which invoices are
/// open; runs of before credit was told of answered nothing here.
async fn give_all_back(cx: &Context, of: &Input) -> Result<Option<Vec<Uuid>>, StepError> {
    let (tenant, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
    cx.transact(GIVE_BACK, async |tx| {
        // What was given back while the payment was under way is not given back again.
        let lines = store::list_lines_given(tx, of.invoice_id, shard).await?;
        let whole: Vec<(i32, CreditLine)> = lines
            .iter()
            .map(|billed| {
                let (line, span) = (&billed.given.line, billed.given.line.charge.span);
                let all = CreditLine {
                    start: span.start,
                    end: billed.given.until,
                    units: span.units,
                    amount: line.amount - billed.given.amount,
                    tax: line.tax - billed.given.tax,
                };
                (billed.number, all)
            })
            .filter(|(_, all)| all.amount > Decimal::ZERO)
            .collect();
        if whole.is_empty() {
            return Ok(None);
        }
        let tax = whole.iter().map(|(_, line)| line.tax).sum();
        let net: Decimal = whole.iter().map(|(_, line)| line.amount).sum();
        let note = credit::NewCreditNote {
            invoice_id: of.invoice_id,
            lines: &whole,
            tax,
            total: if is_inclusive(&lines) { net } else { net + tax },
            policy: CreditPolicy::Credit,
            reason: "paid after it was given up",
            author: "invoice",
        };
        credit::give(tx, tenant, shard, &note, now).await?;
        let code = of.currency.code();
        Ok(Some(store::list_open(tx, tenant, shard, code).await?))
    })
    .await
}

/// A credit note took something off, or there is new credit: is anything owed still?
async fn credited(
    cx: &Context,
    of: Input,
    generation: i32,
) -> Result<Transition<InvoiceWorkflow>, StepError> {
    let (tenant, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
    let settled: bool = cx
        .transact(LOOK_WHAT_IS_DUE, async |tx| {
            let standing = store::lock(tx, of.invoice_id, shard).await?;
            let standing =
                standing.ok_or_else(|| StepError::terminal("no_invoice", of.invoice_id))?;
            let balance = store::lock_balance(tx, tenant, shard, of.currency.code()).await?;
            let older = store::sum_older_due(tx, tenant, shard, of.invoice_id).await?;
            let applied = balance::share(balance, older, standing.due());
            balance::apply(tx, tenant, shard, &of, applied, now).await?;
            // Once all of it was given back, what it collected for earlier ones is nothing that
            // anybody is dunned for: the next one collects that.
            let settled = standing.due() == applied || standing.credited == standing.total;
            if settled {
                balance::carry_over(tx, tenant, shard, &of, Decimal::ZERO, now).await?;
            }
            Ok(settled)
        })
        .await?;
    let tell = of.clone();
    Ok(if settled {
        tell_dunning(Transition::go(State::Paid { of, generation }), cx, tell)
    } else {
        tell_dunning(Transition::stay(State::Open { of, generation }), cx, tell)
    })
}

/// There is new credit: lets open invoices take of it. `cause` names it, once.
pub(crate) fn tell_open<W: Workflow>(
    mut transition: Transition<W>,
    open: &[Uuid],
    cause: &str,
) -> Transition<W> {
    for invoice in open {
        transition = transition.signal_key::<InvoiceWorkflow>(
            invoice.to_string(),
            format!("credit:{cause}"),
            &Signal::Credited,
        );
    }
    transition
}

/// Takes the invoice back; what the balance paid of it goes back there, and so does what it collected.
async fn void(cx: &Context, of: Input) -> Result<Transition<InvoiceWorkflow>, StepError> {
    let (tenant, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
    // Runs of before credit was told of answered nothing here.
    let open: Option<Vec<Uuid>> = cx
        .transact(VOID, async |tx| {
            let standing = store::lock(tx, of.invoice_id, shard).await?;
            let standing =
                standing.ok_or_else(|| StepError::terminal("no_invoice", of.invoice_id))?;
            let lines = store::list_lines_given(tx, of.invoice_id, shard).await?;
            let held = held(&standing, &lines);
            if !held.is_zero() {
                let entry = store::Entry {
                    currency: of.currency.code(),
                    amount: held,
                    reason: "released",
                    reference: of.invoice_id,
                    note: None,
                    author: "invoice",
                };
                store::add_entry(tx, tenant, shard, &entry, now).await?;
            }
            store::apply_void(tx, of.invoice_id, shard, now).await?;
            if held <= Decimal::ZERO {
                return Ok(None);
            }
            let code = of.currency.code();
            Ok(Some(store::list_open(tx, tenant, shard, code).await?))
        })
        .await?;
    let cause = format!("void:{}", of.invoice_id);
    let voided = tell_open(
        Transition::complete(Output::Void),
        &open.unwrap_or_default(),
        &cause,
    );
    Ok(tell_dunning(voided, cx, of))
}

/// What is owed has changed without a payment: dunning looks anew.
fn tell_dunning(
    transition: Transition<InvoiceWorkflow>,
    cx: &Context,
    of: Input,
) -> Transition<InvoiceWorkflow> {
    let currency = of.currency;
    transition.signal_with_start::<DunningWorkflow>(
        currency.to_string(),
        &dunning::Input { currency },
        format!("changed:{}:{}", of.invoice_id, cx.uuid()),
        &dunning::Signal::Reevaluate,
    )
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
            Ok((
                number,
                row.payable(),
                row.paid_at.unwrap_or(row.period_start),
            ))
        })
        .await?;
    let mut transition = Transition::complete(Output::Paid);
    if !total.is_zero() {
        let receipt = notice::Input::Receipt {
            invoice_id: Some(id),
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
    // Dunning may be what gave it up, and hears nothing new; when a person did, it looks at once.
    let written_off = Transition::complete(Output::Uncollectible);
    Ok(tell_dunning(written_off, cx, of))
}

// Rules.

fn is_inclusive(lines: &[store::BilledLine]) -> bool {
    lines
        .iter()
        .any(|line| line.tax.as_ref().is_some_and(|tax| tax.inclusive))
}

/// What credit notes gave back of lines, with tax.
fn gross_given(lines: &[store::BilledLine]) -> Decimal {
    let net: Decimal = lines.iter().map(|line| line.given.amount).sum();
    let tax: Decimal = lines.iter().map(|line| line.given.tax).sum();
    if is_inclusive(lines) { net } else { net + tax }
}

/// What the balance paid of an invoice and was not given back of it; below zero, what the invoice
/// collected. Credit notes took the debt first; what they gave beyond it was of what the balance paid.
fn held(standing: &store::Standing, lines: &[store::BilledLine]) -> Decimal {
    if standing.balance_applied < Decimal::ZERO {
        return standing.balance_applied;
    }
    let given = gross_given(lines) - standing.credited;
    (standing.balance_applied - given.max(Decimal::ZERO)).max(Decimal::ZERO)
}

/// An invoice's number as it is printed.
pub(crate) fn printed(prefix: Option<&str>, number: i32) -> String {
    prefixed(prefix, &format!("INV-{number:05}"))
}

/// What a legal entity has numbered begins with its prefix; the one without a name has none.
fn prefixed(prefix: Option<&str>, number: &str) -> String {
    prefix.map_or_else(|| number.to_owned(), |prefix| format!("{prefix}-{number}"))
}
