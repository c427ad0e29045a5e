//! What a subscription's visits do: each step is one transaction, and what it comes to is decided in
//! [`super::money`].

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tenure_engine::{
    Context, FinishedRun, ResultExt as _, ShardId, StepError, TenantId, Transition,
};
use uuid::Uuid;

use super::intent::{Intents, Kind};
use super::life::{self, After, GoesOn};
use super::money::{self, Changed, CreditPolicy, Outcome};
use super::terms::{Followed, Offer, Terms, succeed};
use super::{
    EXPIRY, EndReason, Lifecycle, Next, Output, State, SubscriptionWorkflow, TRIAL_ENDING, end,
    rest, rules, store,
};
use crate::calendar::{self, Period};
use crate::catalog::{self, Activation, Billing};
use crate::hold;
use crate::invoice::{self, InvoiceWorkflow, Reason};
use crate::notice::{self, NoticeWorkflow};
use crate::payment::{self, PaymentWorkflow};
use crate::refund::{self, RefundWorkflow};

/// How long a first payment may take; Stripe's incomplete subscriptions expire after as long.
pub(crate) const FIRST_PAYMENT: TimeDelta = TimeDelta::hours(23);

const START_TRIAL: &str = "start-trial";
const BILL_TRIAL: &str = "bill-trial";
const OPEN_PERIOD: &str = "open-period";
const BILL_PERIOD: &str = "bill-period";
const LOOK_FOR_METHOD: &str = "look-for-method";
const LOOK_FOR_SUCCESSOR: &str = "look-for-successor";
const LOOK_FOR_PAYMENT: &str = "look-for-payment";
const NOTE_INTENTS: &str = "note-intents";
const CHANGE: &str = "change";
const PAUSE: &str = "pause";
const RESUME: &str = "resume";
const ACTIVATE: &str = "activate";
const CLOSE: &str = "close";

/// What a step left for other runs to do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Left {
    /// A draft.
    invoice: Option<Uuid>,
    /// Invoices of which a debt was taken, with the credit note that did.
    credited: Vec<(Uuid, Uuid)>,
    /// Credit notes that go back to a payment method.
    refunds: Vec<Uuid>,
    /// Open invoices that new credit may pay, with the credit note that it is of.
    #[serde(default)]
    open: Vec<(Uuid, Uuid)>,
}

/// How a subscription is closed.
pub(super) struct Closing {
    pub(super) ended_at: DateTime<Utc>,
    pub(super) reason: EndReason,
    pub(super) period: Option<Period>,
    pub(super) credit: CreditPolicy,
}

/// For whom a step writes, and when.
#[derive(Clone, Copy)]
struct Desk {
    tenant: TenantId,
    shard: ShardId,
    now: DateTime<Utc>,
}

impl Desk {
    fn new(cx: &Context) -> Self {
        Self {
            tenant: cx.tenant_id(),
            shard: cx.shard_id(),
            now: cx.now(),
        }
    }

    async fn facts(
        self,
        tx: &mut PgConnection,
        terms: &Terms,
        from: DateTime<Utc>,
    ) -> sqlx::Result<money::Facts> {
        store::facts(tx, self.tenant, self.shard, terms.subscription_id, from).await
    }

    /// Writes down what is yet to come about.
    async fn note(
        self,
        tx: &mut PgConnection,
        subscription: Uuid,
        intents: &Intents,
    ) -> sqlx::Result<()> {
        store::apply_intents(tx, self.tenant, self.shard, subscription, intents, self.now).await
    }

    /// Writes down what an act comes to.
    async fn settle(
        self,
        tx: &mut PgConnection,
        terms: &Terms,
        outcome: &Outcome,
        draft: Option<(Reason, Period)>,
        policy: CreditPolicy,
    ) -> Result<Left, StepError> {
        let mut left = Left::default();
        if policy != CreditPolicy::None {
            for give in &outcome.credits {
                invoice::store::end_lines(tx, self.shard, give.invoice_id, &give.lines).await?;
                if give.total.is_zero() {
                    continue;
                }
                let note = invoice::credit::NewCreditNote {
                    invoice_id: give.invoice_id,
                    lines: &give.lines,
                    tax: give.tax,
                    total: give.total,
                    policy,
                    reason: "unused time",
                    author: "subscription",
                };
                let given =
                    invoice::credit::give(tx, self.tenant, self.shard, &note, self.now).await?;
                if given.split.to_debt > money::nothing(terms.currency) {
                    left.credited.push((give.invoice_id, given.credit_note_id));
                }
                if given.split.to_refund > money::nothing(terms.currency) {
                    left.refunds.push(given.credit_note_id);
                }
                if given.split.to_balance > money::nothing(terms.currency) {
                    let (tenant, code) = (self.tenant, terms.currency.code());
                    let open = invoice::store::list_open(tx, tenant, self.shard, code).await?;
                    let note = given.credit_note_id;
                    left.open.extend(open.into_iter().map(|open| (open, note)));
                }
            }
        }
        if let (Some(bill), Some((reason, period))) = (&outcome.bill, draft) {
            let draft = invoice::Draft {
                invoice_id: tenure_engine::new_uuid(self.shard),
                subscription_id: terms.subscription_id,
                reason,
                start: period.start,
                end: period.end,
                zone: &terms.zone,
                bill,
            };
            invoice::store::insert(tx, self.tenant, self.shard, &draft, self.now).await?;
            left.invoice = Some(draft.invoice_id);
        }
        Ok(left)
    }
}

/// Lets other runs do what a step left for them.
fn follow(
    mut transition: Transition<SubscriptionWorkflow>,
    left: Left,
    terms_currency: crate::money::Currency,
) -> Transition<SubscriptionWorkflow> {
    if let Some(invoice_id) = left.invoice {
        let input = invoice::Input::new(invoice_id, terms_currency);
        transition = transition.launch::<InvoiceWorkflow>(invoice_id.to_string(), &input);
    }
    for (invoice_id, note) in left.credited {
        transition = transition.signal_key::<InvoiceWorkflow>(
            invoice_id.to_string(),
            format!("credited:{note}"),
            &invoice::Signal::Credited,
        );
    }
    for (invoice_id, note) in left.open {
        transition = invoice::tell_open(transition, &[invoice_id], &format!("note:{note}"));
    }
    for note in left.refunds {
        let input = refund::Input {
            credit_note_id: note,
        };
        transition = transition.launch::<RefundWorkflow>(note.to_string(), &input);
    }
    transition
}

fn zone_of(terms: &Terms) -> Result<Tz, StepError> {
    terms.zone().terminal("unknown_zone")
}

// The beginning.

pub(super) async fn begin(cx: &Context, terms: Terms) -> Next {
    if terms.ahead {
        let intents = Intents::default();
        return Ok(Transition::go(State::Scheduled { terms, intents }));
    }
    start_now(cx, terms, Intents::default()).await
}

/// Its start has come.
pub(super) async fn start_now(cx: &Context, terms: Terms, intents: Intents) -> Next {
    let (zone, at) = (zone_of(&terms)?, terms.started_at);
    go(cx, life::start(terms, intents, zone), at).await
}

/// Goes to what comes after a start, a trial or a period that ended at an instant.
async fn go(cx: &Context, after: After, at: DateTime<Utc>) -> Next {
    Ok(Transition::go(match after {
        After::Tries { terms, intents } | After::Asks { terms, intents } => {
            return try_it(cx, terms, intents).await;
        }
        After::Opens {
            terms,
            period,
            intents,
        } => State::Active {
            terms,
            period,
            intents,
        },
        After::Pauses {
            terms,
            intents,
            until,
        } => {
            let pausing = Pausing {
                terms,
                intents,
                until,
                cut_off: None,
            };
            return pause_from(cx, pausing, at).await;
        }
        After::Ends { terms, reason } => {
            let state = State::Starting { terms };
            return Ok(end(state, at, reason, CreditPolicy::None));
        }
    }))
}

// The trial.

/// Begins a trial.
async fn try_it(cx: &Context, terms: Terms, intents: Intents) -> Next {
    if terms.trial_price.is_some() {
        return bill_trial(cx, terms, intents).await;
    }
    let shard = cx.shard_id();
    cx.transact(START_TRIAL, async |tx| {
        Ok(store::apply(tx, shard, &terms, Lifecycle::Trialing, None).await?)
    })
    .await?;
    Ok(Transition::go(State::Trialing { terms, intents }))
}

/// Begins a trial that has a price, and drafts its invoice in the same transaction.
async fn bill_trial(cx: &Context, mut terms: Terms, intents: Intents) -> Next {
    let desk = Desk::new(cx);
    let (currency, period) = (terms.currency, terms.trial());
    let first = terms.activation == Activation::FirstPayment;
    let left: Left = cx
        .transact(BILL_TRIAL, async |tx| {
            let id = terms.subscription_id;
            let facts = store::opening_facts(tx, desk.tenant, desk.shard, id).await?;
            let bill = money::tries(&terms, &facts);
            let lifecycle = if first && bill.is_some() {
                Lifecycle::Incomplete
            } else {
                Lifecycle::Trialing
            };
            store::apply(tx, desk.shard, &terms, lifecycle, None).await?;
            let credits = Vec::new();
            let outcome = Outcome { credits, bill };
            let draft = Some((Reason::Start, period));
            desk.settle(tx, &terms, &outcome, draft, CreditPolicy::None)
                .await
        })
        .await?;
    life::tried(&mut terms, left.invoice.is_some());
    let Some(invoice_id) = left.invoice.filter(|_| first) else {
        let tries = Transition::go(State::Trialing { terms, intents });
        return Ok(follow(tries, left, currency));
    };
    let input = invoice::Input::new(invoice_id, currency);
    let state = State::Incomplete {
        terms,
        period,
        invoice_id,
        intents,
    };
    Ok(Transition::go(state).start::<InvoiceWorkflow>(invoice_id.to_string(), &input))
}

pub(super) fn trial(terms: Terms, intents: Intents) -> Next {
    let zone = zone_of(&terms)?;
    let ends_at = terms.trial_ends_at.unwrap_or(terms.started_at);
    let told = rules::trial_notice_at(terms.started_at, ends_at, zone);
    let transition = rest(State::Trialing { terms, intents });
    Ok(match told {
        Some(at) => transition.at(TRIAL_ENDING, at),
        None => transition,
    })
}

/// The tenant has moved to another zone, which counts from the next boundary on. What is told at a
/// local hour, and was not told yet, is told at that of the new zone.
pub(super) fn move_zone(cx: &Context, mut state: State, zone: String) -> Next {
    let to = calendar::zone(&zone).terminal("unknown_zone")?;
    let Some(terms) = state.terms_mut() else {
        return Ok(Transition::stay(state));
    };
    terms.expect_zone(zone);
    let told = match &state {
        State::Trialing { terms, .. } => terms
            .trial_ends_at
            .and_then(|ends_at| rules::trial_notice_at(terms.started_at, ends_at, to))
            .filter(|at| *at > cx.now()),
        _ => None,
    };
    let stays = rest(state);
    Ok(match told {
        Some(at) => stays.at(TRIAL_ENDING, at),
        None => stays,
    })
}

pub(super) fn tell_trial_ending(
    terms: Terms,
    intents: Intents,
) -> Transition<SubscriptionWorkflow> {
    let ends_at = terms.trial_ends_at.unwrap_or(terms.started_at);
    let key = format!("trial-ending/{}", terms.subscription_id);
    let mail = notice::Input::TrialEnding {
        plan: terms.offer.plan_name.clone(),
        price: terms.offer.price(terms.currency),
        every: Some(terms.offer.interval),
        subscription_id: Some(terms.subscription_id),
        ends_at,
    };
    let moot = intents.find(Kind::Cancel).is_some();
    let stays = Transition::stay(State::Trialing { terms, intents });
    if moot {
        stays
    } else {
        stays.launch::<NoticeWorkflow>(key, &mail)
    }
}

pub(super) async fn trial_end(cx: &Context, terms: Terms, intents: Intents) -> Next {
    let zone = zone_of(&terms)?;
    let ends_at = terms.trial_ends_at.unwrap_or(terms.started_at);
    let after = match life::trial_end(terms, intents, zone) {
        After::Asks { terms, intents } => {
            let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
            let has_method: bool = cx
                .transact(LOOK_FOR_METHOD, async |tx| {
                    Ok(store::has_method(tx, tenant, shard).await?)
                })
                .await?;
            life::without_method(terms, intents, has_method, zone)
        }
        after => after,
    };
    go(cx, after, ends_at).await
}

// Periods.

/// Notes the period and drafts its invoice, in one transaction; the invoice's run does the rest.
#[expect(
    clippy::too_many_lines,
    reason = "one transaction and what follows from it, told in order"
)]
pub(super) async fn open_period(
    cx: &Context,
    mut terms: Terms,
    period: Period,
    mut intents: Intents,
) -> Next {
    let desk = Desk::new(cx);
    let invoice_id = cx.uuid();
    let zone = zone_of(&terms)?;
    let first = terms.activation == Activation::FirstPayment;
    let lifecycle = if first {
        Lifecycle::Incomplete
    } else {
        Lifecycle::Active
    };
    intents.follow(period.end);
    // Runs of version 1 answered nothing here, and had an invoice always.
    let drafted: Option<bool> = cx
        .transact(OPEN_PERIOD, async |tx| {
            store::apply(tx, desk.shard, &terms, lifecycle, Some(&period)).await?;
            store::apply_items(tx, desk.tenant, desk.shard, &terms, period.start).await?;
            let id = terms.subscription_id;
            desk.note(tx, id, &intents).await?;
            let facts = store::opening_facts(tx, desk.tenant, desk.shard, id).await?;
            let Some(bill) = money::begin(&terms, &period, zone, &facts) else {
                return Ok(Some(false));
            };
            let draft = invoice::Draft {
                invoice_id,
                subscription_id: terms.subscription_id,
                reason: if first { Reason::Start } else { Reason::Cycle },
                start: period.start,
                end: period.end,
                zone: &terms.zone,
                bill: &bill,
            };
            invoice::store::insert(tx, desk.tenant, desk.shard, &draft, desk.now).await?;
            Ok(Some(true))
        })
        .await?;
    if drafted != Some(false) {
        // What a hold kept from being billed is billed with the next period.
        terms.setup_fee = None;
    }
    terms.activation = Activation::Start;
    let (key, currency) = (invoice_id.to_string(), terms.currency);
    let input = invoice::Input::new(invoice_id, currency);
    if drafted == Some(false) {
        if first {
            return activate(cx, terms, period, intents).await;
        }
        return Ok(rest(State::Active {
            terms,
            period,
            intents,
        }));
    }
    if first {
        let state = State::Incomplete {
            terms,
            period,
            invoice_id,
            intents,
        };
        return Ok(Transition::go(state).start::<InvoiceWorkflow>(key, &input));
    }
    let renewal = renewal_notice(&terms, &period);
    let state = State::Active {
        terms,
        period,
        intents,
    };
    let opened = rest(state).launch::<InvoiceWorkflow>(key, &input);
    Ok(match renewal {
        Some((key, mail)) => opened.launch::<NoticeWorkflow>(key, &mail),
        None => opened,
    })
}

/// The mail that tells of the next period of a plan with long ones; its run waits for the day.
fn renewal_notice(terms: &Terms, period: &Period) -> Option<(String, notice::Input)> {
    let mail = notice::Input::RenewalComing {
        subscription_id: terms.subscription_id,
        plan: terms.offer.plan_name.clone(),
        price: terms.offer.price(terms.currency),
        every: terms.offer.interval,
        renews_at: period.end,
    };
    let next = period.start.timestamp();
    let key = format!("renewal/{}/{next}", terms.subscription_id);
    terms.offer.interval.is_long().then_some((key, mail))
}

/// A first payment has its time from when it is asked for: the start may lie far back, and a trial
/// before it.
pub(super) fn await_payment(cx: &Context, state: State) -> Transition<SubscriptionWorkflow> {
    rest(state).at(EXPIRY, cx.now() + FIRST_PAYMENT)
}

/// The time of a first payment is over, unless a bank weighs it: then the end of that is waited for,
/// which has a limit of its own. Another debit of the same bank after its no is dunning's, and prolongs
/// nothing.
pub(super) async fn first_payment_due(cx: &Context, state: State, invoice_id: Uuid) -> Next {
    let (shard, now) = (cx.shard_id(), cx.now());
    let weighed: Option<i32> = cx
        .transact(LOOK_FOR_PAYMENT, async |tx| {
            Ok(payment::store::find_weighed(tx, invoice_id, shard).await?)
        })
        .await?;
    let Some(generation) = weighed else {
        return Ok(expire(state, EndReason::IncompleteExpired, now));
    };
    let input = payment::Input {
        invoice_id,
        generation,
    };
    // It runs already, so this asks to hear of its end.
    let key = payment::key(invoice_id, generation);
    Ok(rest(state).start::<PaymentWorkflow>(key, &input))
}

/// A subscription that waited for its first payment.
pub(super) struct First {
    pub(super) terms: Terms,
    pub(super) period: Period,
    pub(super) invoice_id: Uuid,
    pub(super) intents: Intents,
}

/// The first invoice was paid, or will not be.
pub(super) async fn first_invoice_ended(cx: &Context, first: First, run: &FinishedRun) -> Next {
    let First {
        terms,
        period,
        invoice_id,
        intents,
    } = first;
    match run.output::<InvoiceWorkflow>()? {
        invoice::Output::Paid => activate(cx, terms, period, intents).await,
        invoice::Output::Uncollectible | invoice::Output::Void => {
            let state = State::Incomplete {
                terms,
                period,
                invoice_id,
                intents,
            };
            let ended_at = cx.now();
            Ok(end(
                state,
                ended_at,
                EndReason::IncompleteExpired,
                CreditPolicy::None,
            ))
        }
    }
}

async fn activate(cx: &Context, terms: Terms, period: Period, intents: Intents) -> Next {
    let shard = cx.shard_id();
    let state = life::paid_first(terms, period, intents);
    let (lifecycle, begun) = match &state {
        State::Trialing { .. } => (Lifecycle::Trialing, None),
        _ => (Lifecycle::Active, Some(&period)),
    };
    cx.transact(ACTIVATE, async |tx| {
        Ok(store::apply(tx, shard, state.terms(), lifecycle, begun).await?)
    })
    .await?;
    Ok(match state {
        state @ State::Trialing { .. } => Transition::go(state),
        state => rest(state).clear(EXPIRY),
    })
}

/// Gives up waiting for the first payment: its invoice is taken back.
pub(super) fn expire(
    state: State,
    reason: EndReason,
    at: DateTime<Utc>,
) -> Transition<SubscriptionWorkflow> {
    let invoice = match &state {
        State::Incomplete { invoice_id, .. } => Some(*invoice_id),
        _ => None,
    };
    let ends = end(state, at, reason, CreditPolicy::None);
    match invoice {
        Some(invoice) => ends.signal_key::<InvoiceWorkflow>(
            invoice.to_string(),
            format!("void:{invoice}"),
            &invoice::Signal::Void,
        ),
        None => ends,
    }
}

/// Bills what a period used, where that comes last.
async fn bill_used(
    cx: &Context,
    terms: &Terms,
    period: Period,
    zone: Tz,
) -> Result<Left, StepError> {
    if terms.offer.billing == Billing::InAdvance {
        return Ok(Left::default());
    }
    let desk = Desk::new(cx);
    cx.transact(BILL_PERIOD, async |tx| {
        let facts = desk.facts(tx, terms, period.start).await?;
        let outcome = Outcome {
            credits: Vec::new(),
            bill: money::used(terms, &period, period.end, zone, &facts),
        };
        let draft = Some((Reason::Cycle, period));
        desk.settle(tx, terms, &outcome, draft, CreditPolicy::None)
            .await
    })
    .await
}

/// A period has ended: what it used is billed where that comes last, and what was to come about with
/// its end does.
pub(super) async fn period_end(
    cx: &Context,
    terms: Terms,
    period: Period,
    mut intents: Intents,
) -> Next {
    let (zone, currency) = (zone_of(&terms)?, terms.currency);
    let left = bill_used(cx, &terms, period, zone).await?;
    if life::may_follow(&terms, &intents, period.end) {
        let next: Option<Followed> = cx
            .transact(LOOK_FOR_SUCCESSOR, async |tx| {
                let next = catalog::find_successor(tx, &terms.offer.plan).await?;
                Ok(next.and_then(|next| succeed(&terms, &intents, period.end, zone, &next)))
            })
            .await?;
        if let Some(followed) = next {
            life::follow(&mut intents, followed, period.end);
        }
    }
    let after = life::period_end(terms, period, intents, zone);
    let goes = go(cx, after, period.end).await?;
    Ok(follow(goes, left, currency))
}

// Acts.

pub(super) async fn note_intents(cx: &Context, state: State) -> Next {
    let desk = Desk::new(cx);
    let intents = state.intents().cloned().unwrap_or_default();
    let id = state.terms().subscription_id;
    cx.transact(NOTE_INTENTS, async |tx| {
        Ok(desk.note(tx, id, &intents).await?)
    })
    .await?;
    Ok(rest(state))
}

/// Another offer, now.
pub(super) async fn change(cx: &Context, state: State, offer: Offer, at: DateTime<Utc>) -> Next {
    let (terms, period, mut intents) = match state {
        State::Active {
            terms,
            period,
            intents,
        } => (terms, period, intents),
        mut other => {
            life::sell(&mut other, offer, at).terminal("unknown_zone")?;
            return note_terms(cx, other, at).await;
        }
    };
    let desk = Desk::new(cx);
    let zone = zone_of(&terms)?;
    intents.take(Kind::Change);
    let (changed, left) = cx
        .transact(CHANGE, async |tx| {
            let facts = desk.facts(tx, &terms, at.min(period.start)).await?;
            let changed = money::change(&terms, &period, &offer, at, zone, &facts);
            let left = apply_changed(tx, desk, &changed, &intents, Reason::Change).await?;
            Ok((Kept::of(&changed), left))
        })
        .await?;
    Ok(go_on(changed, left, intents))
}

pub(super) async fn move_anchor(cx: &Context, state: State, day: u32, at: DateTime<Utc>) -> Next {
    let (terms, period, mut intents) = match state {
        State::Active {
            terms,
            period,
            intents,
        } => (terms, period, intents),
        mut other => {
            life::keep_move(&mut other, day, at);
            return note_intents(cx, other).await;
        }
    };
    let desk = Desk::new(cx);
    let zone = zone_of(&terms)?;
    intents.take(Kind::MoveAnchor);
    let (changed, left) = cx
        .transact(CHANGE, async |tx| {
            let facts = desk.facts(tx, &terms, at.min(period.start)).await?;
            let changed = money::move_anchor(&terms, &period, day, at, zone, &facts);
            let left = apply_changed(tx, desk, &changed, &intents, Reason::Change).await?;
            Ok((Kept::of(&changed), left))
        })
        .await?;
    Ok(go_on(changed, left, intents))
}

/// What a visit keeps of a change.
#[derive(Serialize, Deserialize)]
struct Kept {
    terms: Terms,
    period: Period,
}

impl Kept {
    fn of(changed: &Changed) -> Self {
        Self {
            terms: changed.terms.clone(),
            period: changed.period,
        }
    }
}

async fn apply_changed(
    tx: &mut PgConnection,
    desk: Desk,
    changed: &Changed,
    intents: &Intents,
    reason: Reason,
) -> Result<Left, StepError> {
    let Changed {
        terms,
        period,
        from,
        outcome,
    } = changed;
    let mut intents = intents.clone();
    intents.follow(period.end);
    store::apply(tx, desk.shard, terms, Lifecycle::Active, Some(period)).await?;
    store::apply_items(tx, desk.tenant, desk.shard, terms, *from).await?;
    let id = terms.subscription_id;
    desk.note(tx, id, &intents).await?;
    let bills = Period {
        start: *from,
        ..*period
    };
    let draft = Some((reason, bills));
    desk.settle(tx, terms, outcome, draft, CreditPolicy::Credit)
        .await
}

fn go_on(kept: Kept, left: Left, mut intents: Intents) -> Transition<SubscriptionWorkflow> {
    let Kept { terms, period } = kept;
    let currency = terms.currency;
    intents.follow(period.end);
    let state = State::Active {
        terms,
        period,
        intents,
    };
    follow(rest(state), left, currency)
}

/// Notes terms from an instant on that nothing was billed at yet.
async fn note_terms(cx: &Context, state: State, at: DateTime<Utc>) -> Next {
    let desk = Desk::new(cx);
    let (terms, intents) = (
        state.terms().clone(),
        state.intents().cloned().unwrap_or_default(),
    );
    cx.transact(CHANGE, async |tx| {
        store::apply_terms(tx, desk.shard, &terms).await?;
        store::apply_items(tx, desk.tenant, desk.shard, &terms, at).await?;
        let id = terms.subscription_id;
        Ok(desk.note(tx, id, &intents).await?)
    })
    .await?;
    Ok(rest(state))
}

pub(super) async fn pause(
    cx: &Context,
    state: State,
    until: Option<DateTime<Utc>>,
    at: DateTime<Utc>,
) -> Next {
    let (terms, intents, cut_off) = match state {
        State::Active {
            terms,
            period,
            intents,
        } => (terms, intents, Some(CutOff::Period(period))),
        State::Trialing { terms, intents } => {
            let ends_at = terms.trial_ends_at.unwrap_or(at);
            (terms, intents, Some(CutOff::Trial(ends_at)))
        }
        state => return note_intents(cx, state).await,
    };
    let pausing = Pausing {
        terms,
        intents,
        until,
        cut_off,
    };
    pause_from(cx, pausing, at).await
}

/// What a pause begins with.
struct Pausing {
    terms: Terms,
    intents: Intents,
    until: Option<DateTime<Utc>>,
    /// None between two periods, and between a trial and the first.
    cut_off: Option<CutOff>,
}

/// What a pause cuts off.
#[derive(Clone, Copy)]
enum CutOff {
    Period(Period),
    /// With its end.
    Trial(DateTime<Utc>),
}

impl CutOff {
    fn end(self) -> DateTime<Utc> {
        match self {
            Self::Period(period) => period.end,
            Self::Trial(end) => end,
        }
    }
}

/// Pauses from an instant on.
async fn pause_from(cx: &Context, pausing: Pausing, at: DateTime<Utc>) -> Next {
    let Pausing {
        terms,
        mut intents,
        until,
        cut_off,
    } = pausing;
    life::pause(&mut intents, until, cut_off.map(CutOff::end));
    let desk = Desk::new(cx);
    let (zone, currency) = (zone_of(&terms)?, terms.currency);
    let left = cx
        .transact(PAUSE, async |tx| {
            let id = terms.subscription_id;
            store::apply(tx, desk.shard, &terms, Lifecycle::Paused, None).await?;
            desk.note(tx, id, &intents).await?;
            hold::store::insert(tx, desk.shard, &customer_pause(desk, id, at)).await?;
            let Some(CutOff::Period(period)) = cut_off else {
                return Ok(Left::default());
            };
            let facts = desk.facts(tx, &terms, period.start).await?;
            let (from, outcome) = money::stop(&terms, &period, at, zone, &facts);
            store::end_items(tx, desk.tenant, desk.shard, id, from).await?;
            let bills = Period {
                end: from.max(period.start + TimeDelta::seconds(1)),
                ..period
            };
            let draft = Some((Reason::Final, bills));
            desk.settle(tx, &terms, &outcome, draft, CreditPolicy::Credit)
                .await
        })
        .await?;
    let paused = Transition::go(State::Paused {
        terms,
        since: at,
        intents,
    });
    Ok(follow(paused, left, currency))
}

/// The hold of a pause: its run places it and lifts it.
fn customer_pause(desk: Desk, subscription: Uuid, at: DateTime<Utc>) -> hold::HoldRow {
    let source = store::source_of(subscription);
    hold::HoldRow {
        hold_id: tenure_engine::new_uuid(desk.shard),
        tenant_id: desk.tenant,
        subscription_id: Some(subscription),
        kind: hold::Kind::CustomerPause,
        source: Some(source.clone()),
        starts_at: at,
        ends_at: None,
        blocks: hold::Kind::CustomerPause.blocks(),
        reason: "the subscription is paused".to_owned(),
        author: source,
        placed_at: desk.now,
        lifted: None,
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one transaction and what follows from it, told in order"
)]
pub(super) async fn resume(cx: &Context, state: State, at: DateTime<Utc>) -> Next {
    let State::Paused {
        terms,
        since,
        mut intents,
    } = state
    else {
        return note_intents(cx, state).await;
    };
    intents.take(Kind::Resume);
    let (mut terms, used) = match life::go_on(terms, since, at).terminal("unknown_zone")? {
        GoesOn::Over(terms) => {
            let state = State::Starting { terms };
            return Ok(end(state, at, EndReason::Expired, CreditPolicy::None));
        }
        GoesOn::InTrial(terms) => (terms, None),
        GoesOn::InPeriod {
            terms,
            used_until,
            zone,
        } => (terms, Some((used_until, zone))),
    };
    let (desk, currency) = (Desk::new(cx), terms.currency);
    let begins_with_payment = terms.activation == Activation::FirstPayment;
    let (period, left): (Option<Period>, Left) = cx
        .transact(RESUME, async |tx| {
            let id = terms.subscription_id;
            let source = store::source_of(id);
            store::lift_pause(tx, desk.tenant, desk.shard, id, &source, at).await?;
            let Some((used_until, zone)) = used else {
                store::apply(tx, desk.shard, &terms, Lifecycle::Trialing, None).await?;
                desk.note(tx, id, &intents).await?;
                return Ok((None, Left::default()));
            };
            let facts = desk.facts(tx, &terms, at).await?;
            let (period, bill) = money::resume(&terms, used_until, at, zone, &facts);
            let mut intents = intents.clone();
            intents.follow(period.end);
            desk.note(tx, id, &intents).await?;
            if begins_with_payment {
                // Nothing of it was paid for before: it begins now, and is billed where all begin.
                return Ok((Some(period), Left::default()));
            }
            store::apply(tx, desk.shard, &terms, Lifecycle::Active, Some(&period)).await?;
            store::apply_items(tx, desk.tenant, desk.shard, &terms, period.start).await?;
            let outcome = Outcome {
                credits: Vec::new(),
                bill,
            };
            let draft = Some((Reason::Resume, period));
            let left = desk
                .settle(tx, &terms, &outcome, draft, CreditPolicy::None)
                .await?;
            Ok((Some(period), left))
        })
        .await?;
    let Some(period) = period else {
        return Ok(Transition::go(State::Trialing { terms, intents }));
    };
    if begins_with_payment {
        return Ok(Transition::go(State::Active {
            terms,
            period,
            intents,
        }));
    }
    if left.invoice.is_some() {
        // What a hold kept from being billed is billed with the next period.
        terms.setup_fee = None;
    }
    intents.follow(period.end);
    let state = State::Active {
        terms,
        period,
        intents,
    };
    Ok(follow(rest(state), left, currency))
}

// The end.

pub(super) async fn close(cx: &Context, terms: Terms, closing: Closing) -> Next {
    let Closing {
        ended_at,
        reason,
        period,
        credit,
    } = closing;
    let (id, currency) = (terms.subscription_id, terms.currency);
    // Runs of version 1 answered nothing here.
    let left: Option<Left> = cx
        .transact(CLOSE, async |tx| {
            let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
            store::apply_end(tx, tenant, shard, id, ended_at, reason.word()).await?;
            let Some(period) = period else {
                return Ok(None);
            };
            let desk = Desk {
                tenant,
                shard,
                now: ended_at,
            };
            let zone = zone_of(&terms)?;
            let facts = desk.facts(tx, &terms, period.start).await?;
            let (from, outcome) = money::stop(&terms, &period, ended_at, zone, &facts);
            let bills = Period {
                end: from.max(period.start + TimeDelta::seconds(1)),
                ..period
            };
            let draft = Some((Reason::Final, bills));
            Ok(Some(
                desk.settle(tx, &terms, &outcome, draft, credit).await?,
            ))
        })
        .await?;
    let mail = notice::Input::Cancelled {
        plan: terms.offer.plan_name,
        ended_at,
        unpaid: reason == EndReason::Unpaid,
        subscription_id: Some(id),
    };
    let ends = Transition::complete(Output { ended_at, reason })
        .launch::<NoticeWorkflow>(format!("cancelled/{id}"), &mail);
    Ok(follow(ends, left.unwrap_or_default(), currency))
}
