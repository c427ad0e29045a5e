//! What follows from a debt: one function from the facts to the next step. Pure.
//!
//! Nothing is remembered that can be read: a debt is what is open and was declined, it began with
//! the first of these declines, and what is held follows from that and the policy. So it does not
//! matter by which way something was paid, refunded, charged back or credited (Kill Bill re-enters
//! and clears its overdue states by balances, too). All that a run keeps is up to when it has asked
//! for payment.
//!
//! What an attempt is under way for stands still (Meteroid's rule for rails that take days: no dunning,
//! no second charge): it is as it was when the attempt was sent, until that has ended. So does what the
//! provider charges to nobody, for its amount: an operator has to change what is owed. After a no the
//! ladder goes on from there: what lay ahead when the attempt was sent keeps its distance.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::policy::{Action, DisputeAction, EndAction, NextMethod, Policy, Scope, When};
use crate::calendar;
use crate::hold::{Blocks, Kind};
use crate::money::Money;
use crate::payment::rules::DeclineClass;
use crate::ports::stripe::chargeable;

/// An invoice that is open and was declined.
#[derive(Debug, Clone, PartialEq)]
pub struct Unpaid {
    /// The invoice.
    pub invoice_id: Uuid,
    /// What it is for.
    pub subscription_id: Uuid,
    /// What is owed.
    pub total: Money,
    /// When it was finalised.
    pub finalized_at: DateTime<Utc>,
    /// When it was first declined.
    pub failed_at: DateTime<Utc>,
    /// Up to when it was tried: when the last attempt ended, or was sent.
    pub tried_at: DateTime<Utc>,
    /// The attempts since that were declined, in their order: the ladder stood still for them.
    pub waits: Vec<Waited>,
    /// The last attempt at it.
    pub last: Attempt,
    /// The method that would be charged for it now.
    pub next: Option<Next>,
}

impl Unpaid {
    /// The attempt that is under way, or that only an operator follows up, if one is.
    #[must_use]
    pub const fn under_way(&self) -> Option<UnderWay> {
        match self.last {
            Attempt::UnderWay(attempt) => Some(attempt),
            Attempt::Declined(_) => None,
        }
    }
}

/// An attempt that was under way, and was declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// When the answer came.
    pub answered_at: DateTime<Utc>,
}

/// How the last attempt at an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It was declined.
    Declined(Declined),
    /// It has not ended.
    UnderWay(UnderWay),
}

/// An attempt that has not ended; or one that has, and nothing that the customer does brings it further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderWay {
    /// When it was sent; `None` while it is about to be.
    pub since: Option<DateTime<Utc>>,
    /// Whose word it waits for.
    pub waits_for: WaitsFor,
}

/// Whose word an attempt waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// The provider takes the charge.
    Provider,
    /// The customer confirms (3-D Secure).
    Customer,
    /// The bank settles.
    Bank,
    /// An operator changes what is owed: the provider takes no such amount.
    Operator,
}

impl WaitsFor {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Customer => "customer",
            Self::Bank => "bank",
            Self::Operator => "operator",
        }
    }
}

/// An attempt that was declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declined {
    /// Which attempt.
    pub generation: i32,
    /// What a retry could change.
    pub class: DeclineClass,
}

/// The method that would be charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The provider's id of it.
    pub method: String,
    /// Whether there is anything to be hoped of it: it has not expired, and was not refused for good.
    pub usable: bool,
}

/// A payment that its customer disputes, of which money is withdrawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Disputed {
    /// What was paid for.
    pub subscription_id: Uuid,
    /// Whether the money is gone for good.
    pub lost: bool,
    /// When we heard of it.
    pub opened_at: DateTime<Utc>,
    /// What the policy holds for it.
    pub action: DisputeAction,
}

/// The last decline of what is unpaid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastDecline {
    /// The invoice.
    pub invoice_id: Uuid,
    /// What a retry could change.
    pub class: DeclineClass,
    /// The method that was declined; `None` when there was none to charge.
    pub method: Option<String>,
}

/// All that a decision is made from.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What is unpaid, the oldest first.
    pub unpaid: &'a [Unpaid],
    /// What is disputed, and not credited since.
    pub disputed: &'a [Disputed],
    /// The last decline of these.
    pub last_decline: Option<&'a LastDecline>,
    /// How often each method was tried again for an amount within the policy's ceiling of days.
    pub retries: &'a BTreeMap<(String, Decimal), u32>,
    /// Up to when support spares the tenant, if it does.
    pub exempt_until: Option<DateTime<Utc>>,
    /// The policy.
    pub policy: &'a Policy,
    /// Up to when the run has asked for payment.
    pub asked_at: Option<DateTime<Utc>>,
    /// Whether somebody asks to collect now, because the method has changed.
    pub collect_now: bool,
    /// The tenant's time.
    pub now: DateTime<Utc>,
    /// The tenant's zone.
    pub zone: Tz,
    /// What spreads this debt's attempts: the tenant.
    pub seed: Uuid,
}

/// An invoice that goes to another method at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The invoice.
    pub invoice_id: Uuid,
    /// The attempt that was declined: each leads to one other.
    pub generation: i32,
}

/// How a debt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing is owed.
    Clear,
    /// Something is owed.
    PastDue,
    /// And a step gives time to pay.
    Grace,
    /// And a step has suspended what is unpaid.
    Suspended,
    /// And the ladder has ended.
    Exhausted,
}

impl Stage {
    /// The stored spelling.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::PastDue => "past_due",
            Self::Grace => "grace",
            Self::Suspended => "suspended",
            Self::Exhausted => "exhausted",
        }
    }
}

/// A hold that should stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The subscription; `None` for all that is the tenant's.
    pub subscription_id: Option<Uuid>,
    /// What it is for.
    pub kind: Kind,
    /// What it blocks.
    pub blocks: Blocks,
}

/// Something that comes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coming {
    /// The step's name.
    pub step: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// How the debt stands.
    pub stage: Stage,
    /// Since when, if something is owed.
    pub since: Option<DateTime<Utc>>,
    /// The step that holds, if one does.
    pub step: Option<String>,
    /// Which holds should stand; all others of dunning should not.
    pub holds: Vec<Wanted>,
    /// Which invoices are to be collected now.
    pub collect: Vec<Uuid>,
    /// Which others go to another method now.
    #[serde(default)]
    pub switch: Vec<Switch>,
    /// Whether a rung is due now, even if the ceiling lets nothing be collected.
    pub rung: bool,
    /// How the ladder has ended, if it has.
    pub end: Option<EndAction>,
    /// When is tried again by itself.
    pub retry_at: Option<DateTime<Utc>>,
    /// Which step comes next.
    pub next_step: Option<Coming>,
    /// When the ladder ends.
    pub ends_at: Option<DateTime<Utc>>,
    /// When an exemption is over that spares the tenant now.
    pub exempt_until: Option<DateTime<Utc>>,
    /// Whether an attempt at something that is unpaid is under way: that stands still until it has ended.
    #[serde(default)]
    pub waits: bool,
}

impl Decision {
    /// Nothing is owed, nothing follows.
    #[must_use]
    pub const fn clear() -> Self {
        Self {
            stage: Stage::Clear,
            since: None,
            step: None,
            holds: Vec::new(),
            collect: Vec::new(),
            switch: Vec::new(),
            rung: false,
            end: None,
            retry_at: None,
            next_step: None,
            ends_at: None,
            exempt_until: None,
            waits: false,
        }
    }

    /// Adds a hold. Of two on the same, the one that suspends stands.
    fn hold(&mut self, wanted: Wanted) {
        let same = |known: &&mut Wanted| known.subscription_id == wanted.subscription_id;
        match self.holds.iter_mut().find(same) {
            Some(known) if wanted.kind == Kind::DebtSuspension => *known = wanted,
            Some(_) => {}
            None => self.holds.push(wanted),
        }
    }
}

/// Decides what follows from the facts.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Decision {
    let (waiting, unpaid): (Vec<Unpaid>, Vec<Unpaid>) = facts
        .unpaid
        .iter()
        .cloned()
        .partition(|one| one.under_way().is_some());
    let mut decision = match unpaid.iter().map(|one| one.failed_at).min() {
        Some(since) => {
            let unpaid = &unpaid[..];
            owing(
                &Facts {
                    unpaid,
                    ..facts.clone()
                },
                since,
            )
        }
        None => Decision::clear(),
    };
    stand_still(facts, &waiting, &mut decision);
    hold_disputed(facts, &mut decision);
    decision
}

/// What an attempt is under way for is held as it was when the first of these was sent, beside what
/// follows from the rest. Nothing comes by itself: the end of the attempt leads to another look.
fn stand_still(facts: &Facts<'_>, waiting: &[Unpaid], decision: &mut Decision) {
    let Some(since) = waiting.iter().map(|one| one.failed_at).min() else {
        return;
    };
    let sent = waiting.iter().filter_map(|one| one.under_way()?.since);
    let then = Facts {
        unpaid: waiting,
        now: sent.min().unwrap_or(facts.now),
        collect_now: false,
        ..facts.clone()
    };
    let stood = owing(&then, since);
    let stage = match stood.end {
        // That would have ended it, and it has not: the attempt came first.
        Some(EndAction::Cancel | EndAction::Uncollectible) => Stage::PastDue,
        Some(EndAction::Suspend | EndAction::Leave) | None => stood.stage,
    };
    if decision.since.is_none() {
        decision.since = Some(since);
        decision.step = stood.step;
    }
    decision.stage = decision.stage.max(stage);
    decision.waits = true;
    for wanted in stood.holds {
        decision.hold(wanted);
    }
}

/// What was withdrawn is held for as the policy says, beside what is unpaid. It is not charged again:
/// who disputes a payment is not asked for it by force.
fn hold_disputed(facts: &Facts<'_>, decision: &mut Decision) {
    let held = facts.disputed.iter();
    let held: Vec<(&Disputed, Kind)> = held
        .filter_map(|one| Some((one, one.action.hold()?)))
        .collect();
    let Some(since) = held.iter().map(|(one, _)| one.opened_at).min() else {
        return;
    };
    decision.since = Some(decision.since.map_or(since, |known| known.min(since)));
    decision.exempt_until = facts.exempt_until.filter(|until| *until > facts.now);
    if decision.exempt_until.is_some() {
        decision.stage = decision.stage.max(Stage::PastDue);
        return;
    }
    for (one, kind) in held {
        decision.stage = decision.stage.max(match kind {
            Kind::DebtSuspension => Stage::Suspended,
            _ => Stage::Grace,
        });
        let wanted = Wanted {
            subscription_id: match facts.policy.scope {
                Scope::Tenant => None,
                Scope::Subscription => Some(one.subscription_id),
            },
            kind,
            blocks: kind.blocks(),
        };
        decision.hold(wanted);
    }
}

/// What follows from what is unpaid.
fn owing(facts: &Facts<'_>, since: DateTime<Utc>) -> Decision {
    let calendar = Calendar::new(facts);
    let exempt_until = facts.exempt_until.filter(|until| *until > facts.now);
    let mut decision = Decision {
        stage: Stage::PastDue,
        since: Some(since),
        exempt_until,
        ..Decision::clear()
    };
    let ends_at = calendar.end();
    if exempt_until.is_none() {
        if ends_at.is_some_and(|at| at <= facts.now) {
            return ended(facts, &calendar, decision);
        }
        enter_step(facts, &calendar, &mut decision);
    }
    // A step or the end that an exemption holds back comes when that is over.
    let not_before = |at: DateTime<Utc>| exempt_until.map_or(at, |until| at.max(until));
    decision.ends_at = ends_at.map(not_before);
    decision.next_step = calendar
        .next_step(exempt_until.is_some())
        .map(|(step, at)| Coming {
            step,
            at: not_before(at),
        });
    climb(facts, &calendar, &mut decision);
    decision
}

/// The ladder has ended: nothing more comes by itself.
fn ended(facts: &Facts<'_>, calendar: &Calendar<'_>, mut decision: Decision) -> Decision {
    let action = facts.policy.end.action;
    match action {
        EndAction::Suspend => decision.holds = wanted(facts, Kind::DebtSuspension, None),
        EndAction::Leave => {
            if let Some((index, _)) = calendar.current_step() {
                let step = &facts.policy.steps[index];
                decision.holds = wanted(facts, step.action.hold(), Some(step.blocked()));
            }
        }
        EndAction::Cancel | EndAction::Uncollectible => {}
    }
    decision.stage = Stage::Exhausted;
    decision.end = Some(action);
    // Another method is news, also after the end.
    if facts.collect_now {
        let affordable = affordable(facts);
        decision.collect = affordable.iter().map(|one| one.invoice_id).collect();
    }
    decision
}

/// The last step that has come is the one that holds.
fn enter_step(facts: &Facts<'_>, calendar: &Calendar<'_>, decision: &mut Decision) {
    let Some((index, _)) = calendar.current_step() else {
        return;
    };
    let step = &facts.policy.steps[index];
    decision.stage = match step.action {
        Action::Grace => Stage::Grace,
        Action::Suspend => Stage::Suspended,
    };
    decision.step = Some(step.name.clone());
    decision.holds = wanted(facts, step.action.hold(), Some(step.blocked()));
}

/// The holds of a step: on what is unpaid and nothing else, unless the policy holds the tenant.
fn wanted(facts: &Facts<'_>, kind: Kind, blocks: Option<Blocks>) -> Vec<Wanted> {
    let blocks = blocks.unwrap_or(kind.blocks());
    let on = |subscription_id| Wanted {
        subscription_id,
        kind,
        blocks,
    };
    match facts.policy.scope {
        Scope::Tenant => vec![on(None)],
        Scope::Subscription => {
            let mut held: Vec<Uuid> = facts.unpaid.iter().map(|one| one.subscription_id).collect();
            held.sort_unstable();
            held.dedup();
            held.into_iter().map(|id| on(Some(id))).collect()
        }
    }
}

/// Attempts: those that are due now, and when the next one is.
fn climb(facts: &Facts<'_>, calendar: &Calendar<'_>, decision: &mut Decision) {
    let since = facts.unpaid.iter().map(|one| one.failed_at).min();
    let tried = facts.unpaid.iter().map(|one| one.tried_at).max();
    let position = [since, tried, facts.asked_at].into_iter().flatten().max();
    let Some(position) = position else {
        return;
    };
    let rungs = calendar.rungs();
    decision.rung = rungs.iter().any(|at| *at > position && *at <= facts.now);
    decision.retry_at = rungs
        .into_iter()
        .find(|at| *at > position && *at > facts.now);
    let affordable = affordable(facts);
    if decision.rung || facts.collect_now {
        decision.collect = affordable.iter().map(|one| one.invoice_id).collect();
    } else if facts.policy.next_method == NextMethod::AtOnce {
        decision.switch = affordable.iter().filter_map(|one| switch(one)).collect();
    }
}

/// Whether what is unpaid goes to another method: time does not mend its last decline, and there is
/// one of which something is to be hoped.
fn switch(one: &Unpaid) -> Option<Switch> {
    let Attempt::Declined(declined) = one.last else {
        return None;
    };
    let hope = one.next.as_ref().is_some_and(|next| next.usable);
    (hope && !declined.class.is_retried()).then_some(Switch {
        invoice_id: one.invoice_id,
        generation: declined.generation,
    })
}

/// What is unpaid, as far as the ceiling on each method and amount goes; the oldest first.
fn affordable<'a>(facts: &Facts<'a>) -> Vec<&'a Unpaid> {
    let mut retries = facts.retries.clone();
    let within = |one: &&Unpaid| {
        let (Some(ceiling), Some(next)) = (&facts.policy.ceiling, &one.next) else {
            // Without a method nothing reaches a network.
            return true;
        };
        let of = (next.method.clone(), chargeable(one.total).amount());
        let tried = retries.entry(of).or_default();
        *tried += 1;
        *tried <= ceiling.attempts
    };
    facts.unpaid.iter().filter(within).collect()
}

/// The instants of a policy, for one debt.
struct Calendar<'a> {
    facts: &'a Facts<'a>,
    oldest: NaiveDate,
}

impl<'a> Calendar<'a> {
    fn new(facts: &'a Facts<'a>) -> Self {
        let oldest = facts.unpaid.iter().map(|one| one.finalized_at).min();
        Self {
            facts,
            oldest: calendar::local_day(oldest.unwrap_or(facts.now), facts.zone),
        }
    }

    /// When an hour of a day of the policy comes: of all that is unpaid, for what it comes first. The
    /// day is not before another one, if one is given.
    fn comes(
        &self,
        (day, hour): (u32, u32),
        not_before: Option<NaiveDate>,
        spread: impl Fn(NaiveDate) -> TimeDelta,
    ) -> Option<DateTime<Utc>> {
        let zone = self.facts.zone;
        let of = |one: &Unpaid| {
            let first = calendar::local_day(one.failed_at, zone);
            let day = calendar::add_days(first, day);
            let day = not_before.map_or(day, |least| day.max(least));
            moved(one, day, zone, |on| {
                calendar::at_hour(on, hour, zone) + spread(day)
            })
        };
        self.facts.unpaid.iter().map(of).min()
    }

    /// When is tried again after a decline like the last one. What was declined with another method
    /// says nothing of one of which something is to be hoped: time may help.
    fn rungs(&self) -> Vec<DateTime<Utc>> {
        let facts = self.facts;
        let class = match facts.last_decline {
            Some(last) if !facts.collect_now && !self.goes_elsewhere(last) => last.class,
            _ => DeclineClass::Soft,
        };
        let ladder = facts.policy.ladders.of(class);
        let on = |day: &u32| self.comes((*day, ladder.hour), None, |day| self.jitter(day));
        ladder.days.iter().filter_map(on).collect()
    }

    /// Whether what was declined last would be charged with another method, not in vain.
    fn goes_elsewhere(&self, last: &LastDecline) -> bool {
        let declined = |one: &&Unpaid| one.invoice_id == last.invoice_id;
        let next = self.facts.unpaid.iter().find(declined);
        next.and_then(|one| one.next.as_ref())
            .is_some_and(|next| next.usable && last.method.as_deref() != Some(&*next.method))
    }

    /// The debt's share of the jitter on a day: the same whenever it is asked for.
    fn jitter(&self, day: NaiveDate) -> TimeDelta {
        let minutes = self.facts.policy.jitter_minutes;
        if minutes == 0 {
            return TimeDelta::zero();
        }
        let mut hash = Sha256::new();
        hash.update(self.facts.seed.as_bytes());
        hash.update(day.to_string());
        let hash = hash.finalize();
        let share = u64::from_be_bytes(hash[..8].try_into().unwrap_or_default());
        let seconds = share % (u64::from(minutes) * 60);
        TimeDelta::seconds(i64::try_from(seconds).unwrap_or_default())
    }

    /// When a day of the policy comes, if its conditions ever hold: facts may have to change first.
    fn at(&self, day: u32, hour: u32, when: &When) -> Option<DateTime<Utc>> {
        if !self.holds(when) {
            return None;
        }
        let aged = when
            .oldest_days_at_least
            .and_then(|days| self.oldest.checked_add_days(Days::new(u64::from(days))));
        self.comes((day, hour), aged, |_| TimeDelta::zero())
    }

    /// Whether the conditions hold that time alone does not change.
    fn holds(&self, when: &When) -> bool {
        let facts = self.facts;
        let count = u32::try_from(facts.unpaid.len()).unwrap_or(u32::MAX);
        let owed: Decimal = facts.unpaid.iter().map(|one| one.total.amount()).sum();
        let currency = facts.unpaid.first().map(|one| one.total.currency());
        let threshold = currency.and_then(|currency| when.amount_at_least.get(&currency));
        let class = facts.last_decline.map(|last| last.class);
        let classed = || class.is_some_and(|class| when.last_decline.contains(&class));
        when.unpaid_at_least.is_none_or(|least| count >= least)
            && threshold.is_none_or(|least| owed >= *least)
            && (when.last_decline.is_empty() || classed())
    }

    fn end(&self) -> Option<DateTime<Utc>> {
        let end = &self.facts.policy.end;
        self.at(end.day, end.hour, &end.when)
    }

    fn steps(&self) -> impl Iterator<Item = (usize, DateTime<Utc>)> {
        let steps = self.facts.policy.steps.iter().enumerate();
        steps.filter_map(|(index, step)| {
            let at = self.at(step.day, step.hour, &step.when)?;
            Some((index, at))
        })
    }

    /// The last step, in the policy's order, that has come.
    fn current_step(&self) -> Option<(usize, DateTime<Utc>)> {
        self.steps().filter(|(_, at)| *at <= self.facts.now).last()
    }

    /// The first step that is to come; of those that an exemption holds back, the last that has.
    fn next_step(&self, held_back: bool) -> Option<(String, DateTime<Utc>)> {
        let name = |(index, at): (usize, _)| (self.facts.policy.steps[index].name.clone(), at);
        if held_back && let Some(step) = self.current_step() {
            return Some(name(step));
        }
        let now = self.facts.now;
        self.steps()
            .filter(|(_, at)| *at > now)
            .min_by_key(|(_, at)| *at)
            .map(name)
    }
}

/// When something comes on a day, for one that is unpaid: what lay ahead when an attempt was sent that was
/// declined comes as many days later as the answer took, and not together with it.
fn moved(
    one: &Unpaid,
    mut day: NaiveDate,
    zone: Tz,
    on: impl Fn(NaiveDate) -> DateTime<Utc>,
) -> DateTime<Utc> {
    for wait in &one.waits {
        if on(day) <= wait.sent_at {
            continue;
        }
        let answered = calendar::local_day(wait.answered_at, zone);
        let took = answered - calendar::local_day(wait.sent_at, zone);
        day = calendar::add_days(day, u32::try_from(took.num_days()).unwrap_or_default());
        if on(day) <= wait.answered_at {
            day = calendar::add_days(day, 1);
        }
    }
    on(day)
}

#[cfg(test)]
mod tests;
