//! A subscription played forward, before it happens. Pure: from where its run is and from what the rows
//! say, by the functions that the run itself goes by.
//!
//! Everybody is taken to pay in time, and nobody to ask for anything more.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::intent::{Act, Intent, Intents, Kind, When};
use super::life::{self, After, GoesOn};
use super::money::{self, Billed, Changed, CreditPolicy, Facts, GiveBack, Held, Outcome};
use super::terms::{Offer, Terms, succeed};
use super::{EndReason, State};
use crate::calendar::{Period, UnknownZone};
use crate::catalog::{Activation, Succession};
use crate::pricing::{Bill, Given};

/// What came about at an instant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Happening {
    pub(super) at: DateTime<Utc>,
    /// What is given back, and by which policy.
    pub(super) credits: Vec<GiveBack>,
    pub(super) policy: CreditPolicy,
    /// An invoice, with an id that is none: it counts the invoices that are still to come.
    pub(super) bill: Option<(Uuid, Bill)>,
}

/// A subscription on its way.
pub(super) struct Course {
    state: State,
    entered: bool,
    facts: Facts,
    has_method: bool,
    at: DateTime<Utc>,
    happenings: Vec<Happening>,
    invoices: u128,
    successions: Vec<Succession>,
    followed: Option<(DateTime<Utc>, Offer)>,
}

/// What a subscription does next.
enum Next {
    /// Its start, or the end of its trial or period.
    Boundary,
    /// An intent with a day of its own.
    Dated(Kind),
}

impl Course {
    /// From where a run is at an instant.
    pub(super) fn new(
        state: State,
        entered: bool,
        facts: Facts,
        has_method: bool,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            state,
            entered,
            facts,
            has_method,
            at: now,
            happenings: Vec::new(),
            invoices: 0,
            successions: Vec::new(),
            followed: None,
        }
    }

    /// With what follows plans that are retired.
    pub(super) fn knowing(self, successions: Vec<Succession>) -> Self {
        Self {
            successions,
            ..self
        }
    }

    /// Where it is.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// What an act comes to that is asked for now: when it comes about, and what happens until then and
    /// with it.
    pub(super) fn ask(
        &mut self,
        act: Act,
        when: When,
    ) -> Result<(DateTime<Utc>, Vec<Happening>), UnknownZone> {
        let now = self.at;
        self.pass(now)?;
        self.happenings.clear();
        let asked_at = self.state.began().map_or(now, |began| now.max(began));
        let at = self.state.instant(when, asked_at);
        if at <= asked_at {
            self.at = asked_at;
            self.perform(act, asked_at)?;
        } else if let Some(intents) = self.state.intents_mut() {
            intents.put(Intent { act, when, at });
            self.pay_first();
            self.pass(at)?;
        }
        Ok((at, std::mem::take(&mut self.happenings)))
    }

    /// What happens until an instant.
    pub(super) fn play(&mut self, until: DateTime<Utc>) -> Result<Vec<Happening>, UnknownZone> {
        self.pass(until)?;
        Ok(std::mem::take(&mut self.happenings))
    }

    /// A first payment that is waited for comes in time.
    fn pay_first(&mut self) {
        if let State::Incomplete {
            terms,
            period,
            intents,
            ..
        } = self.state.clone()
        {
            self.state = life::paid_first(terms, period, intents);
        }
    }

    /// Lets an instant come, with all that lies before it.
    pub(super) fn pass(&mut self, until: DateTime<Utc>) -> Result<(), UnknownZone> {
        self.enter()?;
        while self.come(until)? {}
        Ok(())
    }

    /// What follows its plan, and with the end of which period, if something does until an instant.
    pub(super) fn find_followed(
        &mut self,
        until: DateTime<Utc>,
    ) -> Result<Option<(DateTime<Utc>, Offer)>, UnknownZone> {
        self.enter()?;
        while self.followed.is_none() && self.come(until)? {}
        Ok(self.followed.take())
    }

    /// Lets what comes next come; false when that is after an instant.
    fn come(&mut self, until: DateTime<Utc>) -> Result<bool, UnknownZone> {
        let Some((at, next)) = self.next().filter(|(at, _)| *at <= until) else {
            return Ok(false);
        };
        self.at = at;
        match next {
            Next::Boundary => self.boundary()?,
            Next::Dated(kind) => {
                let intent = self.state.intents_mut().and_then(|all| all.take(kind));
                if let Some(intent) = intent {
                    self.perform(intent.act, at)?;
                }
            }
        }
        Ok(true)
    }

    /// What comes next, and when.
    fn next(&self) -> Option<(DateTime<Utc>, Next)> {
        let boundary = match &self.state {
            State::Starting { .. } | State::Paused { .. } | State::Ending { .. } => None,
            state => state.ends(),
        };
        let dated = self.state.intents().into_iter().flat_map(|all| &all.0);
        let dated = dated
            .filter(|one| one.is_dated())
            .map(|one| (one.at, Next::Dated(one.act.kind())));
        dated
            .chain(boundary.map(|at| (at, Next::Boundary)))
            .min_by_key(|(at, _)| *at)
    }

    fn boundary(&mut self) -> Result<(), UnknownZone> {
        self.pay_first();
        match self.state.clone() {
            State::Scheduled { terms, intents } => {
                let zone = terms.zone()?;
                self.go(life::start(terms, intents, zone))
            }
            State::Trialing { terms, intents } => {
                let zone = terms.zone()?;
                let after = match life::trial_end(terms, intents, zone) {
                    After::Asks { terms, intents } => {
                        life::without_method(terms, intents, self.has_method, zone)
                    }
                    after => after,
                };
                self.go(after)
            }
            State::Active {
                terms,
                period,
                intents,
            } => self.end_period(terms, period, intents),
            State::Starting { .. }
            | State::Incomplete { .. }
            | State::Paused { .. }
            | State::Ending { .. } => Ok(()),
        }
    }

    fn end_period(
        &mut self,
        terms: Terms,
        period: Period,
        mut intents: Intents,
    ) -> Result<(), UnknownZone> {
        let zone = terms.zone()?;
        if life::may_follow(&terms, &intents, period.end) {
            let mut known = self.successions.iter();
            let next = known.find_map(|one| succeed(&terms, &intents, period.end, zone, one));
            if let Some(followed) = next {
                let first = (period.end, followed.offer.clone());
                self.followed.get_or_insert(first);
                life::follow(&mut intents, followed, period.end);
            }
        }
        let used = Outcome {
            credits: Vec::new(),
            bill: money::used(&terms, &period, period.end, zone, &self.facts),
        };
        self.happen(used, CreditPolicy::None);
        self.go(life::period_end(terms, period, intents, zone))
    }

    /// Goes to what comes after a start, a trial or a period.
    fn go(&mut self, after: After) -> Result<(), UnknownZone> {
        let state = match after {
            After::Tries { terms, intents } | After::Asks { terms, intents } => {
                return self.try_it(terms, intents);
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
                mut intents,
                until,
            } => {
                life::pause(&mut intents, until, None);
                let since = self.at;
                State::Paused {
                    terms,
                    since,
                    intents,
                }
            }
            After::Ends { terms, reason } => {
                let state = State::Starting { terms };
                life::ended(state, self.at, reason, CreditPolicy::None)
            }
        };
        self.enter_as(state)
    }

    /// Begins a trial; what it costs is paid in time.
    fn try_it(&mut self, mut terms: Terms, intents: Intents) -> Result<(), UnknownZone> {
        let bill = money::tries(&terms, &self.facts);
        life::tried(&mut terms, bill.is_some());
        let credits = Vec::new();
        self.happen(Outcome { credits, bill }, CreditPolicy::None);
        self.enter_as(State::Trialing { terms, intents })
    }

    fn enter_as(&mut self, state: State) -> Result<(), UnknownZone> {
        self.state = state;
        self.entered = false;
        self.enter()
    }

    /// Does what a state does as it is entered.
    fn enter(&mut self) -> Result<(), UnknownZone> {
        if std::mem::replace(&mut self.entered, true) {
            return Ok(());
        }
        match self.state.clone() {
            State::Starting { terms } if terms.ahead => {
                let intents = Intents::default();
                self.enter_as(State::Scheduled { terms, intents })
            }
            State::Starting { terms } => {
                let zone = terms.zone()?;
                self.go(life::start(terms, Intents::default(), zone))
            }
            State::Active {
                terms,
                period,
                intents,
            } => self.open(terms, period, intents),
            State::Ending {
                terms,
                ended_at,
                period: Some(period),
                credit,
                ..
            } => self.stop(&terms, &period, ended_at, credit),
            _ => Ok(()),
        }
    }

    fn open(
        &mut self,
        mut terms: Terms,
        period: Period,
        mut intents: Intents,
    ) -> Result<(), UnknownZone> {
        let zone = terms.zone()?;
        let bill = money::begin(&terms, &period, zone, &self.facts);
        self.facts.forget(period.start);
        self.facts.hold(&terms.offer.items, period.start);
        if bill.is_some() {
            terms.setup_fee = None;
        }
        terms.activation = Activation::Start;
        intents.follow(period.end);
        self.happen(
            Outcome {
                credits: Vec::new(),
                bill,
            },
            CreditPolicy::None,
        );
        self.state = State::Active {
            terms,
            period,
            intents,
        };
        Ok(())
    }

    /// Ends the period in its middle.
    fn stop(
        &mut self,
        terms: &Terms,
        period: &Period,
        at: DateTime<Utc>,
        policy: CreditPolicy,
    ) -> Result<(), UnknownZone> {
        let zone = terms.zone()?;
        let (from, outcome) = money::stop(terms, period, at, zone, &self.facts);
        self.facts.hold(&[], from);
        self.happen(outcome, policy);
        Ok(())
    }

    /// Does what was asked for.
    fn perform(&mut self, act: Act, at: DateTime<Utc>) -> Result<(), UnknownZone> {
        if let State::Active {
            terms,
            period,
            intents,
        } = &self.state
            && let Some(intents) = life::with_the_end(period, intents, &act, at)
        {
            return self.end_period(terms.clone(), *period, intents);
        }
        match act {
            Act::Cancel { credit } => {
                let state = self.state.clone();
                let ended = life::ended(state, at, EndReason::Canceled, credit);
                self.enter_as(ended)
            }
            Act::Change { offer } => self.change(offer, at),
            Act::Pause { until } => self.pause(until, at),
            Act::Resume => self.resume(at),
            Act::MoveAnchor { day } => self.move_anchor(day, at),
        }
    }

    fn change(&mut self, offer: super::terms::Offer, at: DateTime<Utc>) -> Result<(), UnknownZone> {
        let State::Active {
            terms,
            period,
            mut intents,
        } = self.state.clone()
        else {
            return life::sell(&mut self.state, offer, at);
        };
        let zone = terms.zone()?;
        intents.take(Kind::Change);
        let changed = money::change(&terms, &period, &offer, at, zone, &self.facts);
        self.go_on(changed, intents);
        Ok(())
    }

    fn move_anchor(&mut self, day: u32, at: DateTime<Utc>) -> Result<(), UnknownZone> {
        let State::Active {
            terms,
            period,
            mut intents,
        } = self.state.clone()
        else {
            life::keep_move(&mut self.state, day, at);
            return Ok(());
        };
        let zone = terms.zone()?;
        intents.take(Kind::MoveAnchor);
        let changed = money::move_anchor(&terms, &period, day, at, zone, &self.facts);
        self.go_on(changed, intents);
        Ok(())
    }

    fn go_on(&mut self, changed: Changed, mut intents: Intents) {
        let Changed {
            terms,
            period,
            from,
            outcome,
        } = changed;
        self.facts.hold(&terms.offer.items, from);
        self.happen(outcome, CreditPolicy::Credit);
        intents.follow(period.end);
        self.state = State::Active {
            terms,
            period,
            intents,
        };
    }

    fn pause(
        &mut self,
        until: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
    ) -> Result<(), UnknownZone> {
        let (terms, mut intents, cut_off) = match self.state.clone() {
            State::Active {
                terms,
                period,
                intents,
            } => {
                self.stop(&terms, &period, at, CreditPolicy::Credit)?;
                (terms, intents, period.end)
            }
            State::Trialing { terms, intents } => {
                let ends_at = terms.trial_ends_at.unwrap_or(at);
                (terms, intents, ends_at)
            }
            _ => return Ok(()),
        };
        life::pause(&mut intents, until, Some(cut_off));
        self.state = State::Paused {
            terms,
            since: at,
            intents,
        };
        Ok(())
    }

    fn resume(&mut self, at: DateTime<Utc>) -> Result<(), UnknownZone> {
        let State::Paused {
            terms,
            since,
            mut intents,
        } = self.state.clone()
        else {
            return Ok(());
        };
        intents.take(Kind::Resume);
        let (mut terms, used_until, zone) = match life::go_on(terms, since, at)? {
            GoesOn::Over(terms) => {
                let state = State::Starting { terms };
                self.state = life::ended(state, at, EndReason::Expired, CreditPolicy::None);
                return Ok(());
            }
            GoesOn::InTrial(terms) => {
                self.state = State::Trialing { terms, intents };
                return Ok(());
            }
            GoesOn::InPeriod {
                terms,
                used_until,
                zone,
            } => (terms, used_until, zone),
        };
        let (period, bill) = money::resume(&terms, used_until, at, zone, &self.facts);
        intents.follow(period.end);
        if terms.activation == Activation::FirstPayment {
            return self.enter_as(State::Active {
                terms,
                period,
                intents,
            });
        }
        self.facts.hold(&terms.offer.items, period.start);
        if bill.is_some() {
            terms.setup_fee = None;
        }
        let credits = Vec::new();
        self.happen(Outcome { credits, bill }, CreditPolicy::None);
        self.state = State::Active {
            terms,
            period,
            intents,
        };
        Ok(())
    }

    /// Notes what came about, and lets what follows count on it.
    fn happen(&mut self, outcome: Outcome, policy: CreditPolicy) {
        let Outcome { mut credits, bill } = outcome;
        if policy == CreditPolicy::None {
            credits.clear();
        }
        for give in &credits {
            self.facts.give(give);
        }
        let bill = bill.map(|bill| {
            self.invoices += 1;
            let id = Uuid::from_u128(self.invoices);
            self.facts.bill(id, &bill);
            (id, bill)
        });
        if bill.is_some() || !credits.is_empty() {
            self.happenings.push(Happening {
                at: self.at,
                credits,
                policy,
                bill,
            });
        }
    }
}

/// What the rows would say.
impl Facts {
    /// What lies before an instant counts no more.
    fn forget(&mut self, before: DateTime<Utc>) {
        self.billed.retain(|one| one.given.until > before);
        self.held.retain(|one| one.to.is_none_or(|to| to > before));
    }

    /// It has these from an instant on.
    fn hold(&mut self, items: &[crate::pricing::Item], from: DateTime<Utc>) {
        for held in self.held.iter_mut().filter(|held| held.to.is_none()) {
            if !items.contains(&held.item) {
                held.to = Some(from.max(held.from));
            }
        }
        self.held.retain(|held| held.to != Some(held.from));
        for item in items {
            let mut live = self.held.iter().filter(|held| held.to.is_none());
            if !live.any(|held| held.item == *item) {
                self.held.push(Held {
                    item: item.clone(),
                    from,
                    to: None,
                });
            }
        }
    }

    /// An invoice is drafted.
    fn bill(&mut self, invoice_id: Uuid, bill: &Bill) {
        for (number, line) in (1..).zip(bill.price()) {
            let nothing = money::nothing(bill.currency);
            self.billed.push(Billed {
                invoice_id,
                number,
                tax: bill.tax.clone(),
                given: Given {
                    amount: nothing,
                    tax: nothing,
                    until: line.charge.span.end,
                    line,
                },
            });
        }
    }

    /// A credit note is given.
    fn give(&mut self, give: &GiveBack) {
        for (number, line) in &give.lines {
            let mut all = self.billed.iter_mut();
            let billed = all.find(|one| one.invoice_id == give.invoice_id && one.number == *number);
            if let Some(Billed { given, .. }) = billed {
                given.amount += line.amount;
                given.tax += line.tax;
                given.until = given.until.min(line.start);
            }
        }
    }
}

#[cfg(test)]
mod tests;
