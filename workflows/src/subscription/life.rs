//! What follows from what in a subscription's life. Pure: the run does what is decided here, and a
//! [`course`](super::course) plays it beforehand, so what was foretold is what is done.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::intent::{Act, Intent, Intents, Kind, When};
use super::money::CreditPolicy;
use super::terms::{Followed, Offer, Terms};
use super::{EndReason, State};
use crate::calendar::{self, Period, UnknownZone};
use crate::catalog::{Activation, WithoutMethod};
use crate::pricing::cut;

/// What comes after a start, a trial or a period.
#[derive(Debug)]
pub(super) enum After {
    /// A trial.
    Tries {
        /// What it is sold at from then on.
        terms: Terms,
        /// What is yet to come about.
        intents: Intents,
    },
    /// What its plan says, by whether there is a payment method; see [`without_method`].
    Asks {
        /// What it is sold at from then on.
        terms: Terms,
        /// What is yet to come about.
        intents: Intents,
    },
    /// A period.
    Opens {
        /// What it is sold at from then on.
        terms: Terms,
        /// The period.
        period: Period,
        /// What is yet to come about.
        intents: Intents,
    },
    /// A pause.
    Pauses {
        /// What it is sold at from then on.
        terms: Terms,
        /// What is yet to come about.
        intents: Intents,
        /// When it goes on by itself.
        until: Option<DateTime<Utc>>,
    },
    /// Nothing more.
    Ends {
        /// What it was sold at.
        terms: Terms,
        /// Why.
        reason: EndReason,
    },
}

/// Its start has come.
pub(super) fn start(mut terms: Terms, mut intents: Intents, zone: Tz) -> After {
    let at = terms.started_at;
    if intents.take_at_end(Kind::Cancel, at).is_some() {
        let reason = EndReason::Canceled;
        return After::Ends { terms, reason };
    }
    if let Some(Intent {
        act: Act::Change { offer },
        ..
    }) = intents.take_at_end(Kind::Change, at)
    {
        terms.sell_unbilled(offer, 0, zone);
    }
    if terms.trial_ends_at.is_some() {
        return After::Tries { terms, intents };
    }
    opens(terms, intents, at, zone)
}

/// Its trial has begun, and was billed or not: a price is asked for once, and a first payment of it is
/// the one that the subscription begins with.
pub(super) fn tried(terms: &mut Terms, billed: bool) {
    terms.trial_price = None;
    if billed {
        terms.activation = Activation::Start;
    }
}

/// Its first payment has come: that of a trial, or of a period.
pub(super) fn paid_first(terms: Terms, period: Period, intents: Intents) -> State {
    if terms.is_trial(period.start) {
        State::Trialing { terms, intents }
    } else {
        State::Active {
            terms,
            period,
            intents,
        }
    }
}

/// The period that begins at `from`.
pub(super) fn opens(mut terms: Terms, intents: Intents, from: DateTime<Utc>, zone: Tz) -> After {
    let (period, _) = terms.begin(None, from, zone);
    After::Opens {
        terms,
        period,
        intents,
    }
}

/// Its trial is over.
pub(super) fn trial_end(mut terms: Terms, mut intents: Intents, zone: Tz) -> After {
    let at = terms.trial_ends_at.unwrap_or(terms.started_at);
    if intents.take_at_end(Kind::Cancel, at).is_some() {
        let reason = EndReason::Canceled;
        return After::Ends { terms, reason };
    }
    if let Some(Intent {
        act: Act::Change { offer },
        ..
    }) = intents.take_at_end(Kind::Change, at)
    {
        terms.sell_unbilled(offer, 0, zone);
    }
    if let Some(Intent {
        act: Act::Pause { until },
        ..
    }) = intents.take_at_end(Kind::Pause, at)
    {
        return After::Pauses {
            terms,
            intents,
            until,
        };
    }
    if terms.without_method != WithoutMethod::Bill {
        return After::Asks { terms, intents };
    }
    opens(terms, intents, at, zone)
}

/// Its trial is over, and what follows depends on whether there is a payment method.
pub(super) fn without_method(
    terms: Terms,
    mut intents: Intents,
    has_method: bool,
    zone: Tz,
) -> After {
    let at = terms.trial_ends_at.unwrap_or(terms.started_at);
    match terms.without_method {
        WithoutMethod::End if !has_method => {
            let reason = EndReason::TrialExpired;
            After::Ends { terms, reason }
        }
        WithoutMethod::Pause if !has_method => {
            intents.take(Kind::Pause);
            let until = None;
            After::Pauses {
                terms,
                intents,
                until,
            }
        }
        _ => opens(terms, intents, at, zone),
    }
}

/// Whether what follows its retired plan comes about with the end of a period: not where the period ends
/// with a change, an end or a pause that was asked for, nor in a fixed term, which goes on to its end.
pub(super) fn may_follow(terms: &Terms, intents: &Intents, end: DateTime<Utc>) -> bool {
    let asked = intents.0.iter().any(|one| {
        matches!(one.act.kind(), Kind::Change | Kind::Cancel | Kind::Pause) && one.is_at_end(end)
    });
    terms.term_ends_at.is_none() && !asked
}

/// Lets what follows its retired plan come about with the end of a period. Wishes for a later day stand,
/// and a change of the plan is one of its successor then.
pub(super) fn follow(intents: &mut Intents, followed: Followed, at: DateTime<Utc>) {
    let Followed { offer, later } = followed;
    if let Some(later) = later {
        let changes = intents.0.iter_mut();
        for intent in changes.filter(|one| one.act.kind() == Kind::Change) {
            intent.act = Act::Change {
                offer: later.clone(),
            };
        }
    }
    let (act, when) = (Act::Change { offer }, When::PeriodEnd);
    intents.0.push(Intent { act, when, at });
}

/// A period has ended, and what it used is billed: what was to come about with its end does.
pub(super) fn period_end(
    mut terms: Terms,
    period: Period,
    mut intents: Intents,
    zone: Tz,
) -> After {
    let at = period.end;
    terms.pass_period();
    if intents.take_at_end(Kind::Cancel, at).is_some() {
        let reason = EndReason::Canceled;
        return After::Ends { terms, reason };
    }
    let mut next = period.index.checked_add(1);
    if let Some(Intent {
        act: Act::Change { offer },
        ..
    }) = intents.take_at_end(Kind::Change, at)
    {
        let before = terms.clone();
        if terms.offer.restarts(&offer) {
            terms.anchor_on = calendar::local_day(at, zone);
            next = Some(0);
        }
        // Before its term is looked at: another plan goes on when that of this one is over.
        terms.sell(offer, next.unwrap_or(0), zone);
        terms.keep_coupon_time(&before, period.index.saturating_add(1));
    }
    if terms.is_over(at) {
        let reason = EndReason::Expired;
        return After::Ends { terms, reason };
    }
    if let Some(Intent {
        act: Act::MoveAnchor { day },
        ..
    }) = intents.take_at_end(Kind::MoveAnchor, at)
    {
        let until = calendar::local_day(at, zone);
        terms.anchor_on = calendar::anchor_before(until, day).unwrap_or(terms.anchor_on);
        next = None;
    }
    if let Some(Intent {
        act: Act::Pause { until },
        ..
    }) = intents.take_at_end(Kind::Pause, at)
    {
        return After::Pauses {
            terms,
            intents,
            until,
        };
    }
    let (period, _) = terms.begin(next, at, zone);
    if terms.is_over(at) {
        // The last day of its term was one that a move across the date line took away.
        let reason = EndReason::Expired;
        return After::Ends { terms, reason };
    }
    After::Opens {
        terms,
        period,
        intents,
    }
}

/// What an act that comes at the very end of a period is done with: the end, so that the period is
/// closed first. `None` when it is not there yet.
pub(super) fn with_the_end(
    period: &Period,
    intents: &Intents,
    act: &Act,
    at: DateTime<Utc>,
) -> Option<Intents> {
    if at < period.end || act.kind() == Kind::Resume {
        return None;
    }
    let mut intents = intents.clone();
    intents.take(act.kind());
    intents.0.push(Intent {
        act: act.clone(),
        when: When::PeriodEnd,
        at: period.end,
    });
    Some(intents)
}

/// Another offer while nothing is billed: it is only sold at something else.
pub(super) fn sell(state: &mut State, offer: Offer, at: DateTime<Utc>) -> Result<(), UnknownZone> {
    let paused = match state {
        State::Paused { since, .. } => Some(*since),
        _ => None,
    };
    let Some(terms) = state.terms_mut() else {
        return Ok(());
    };
    let zone = terms.zone()?;
    let index = index_at(terms, &offer, at, zone);
    if paused.is_none_or(|since| terms.is_unbilled(since)) {
        terms.sell_unbilled(offer, index, zone);
    } else {
        let before = terms.clone();
        terms.sell(offer, index, zone);
        let old = index_at(&before, &before.offer, at, zone);
        terms.keep_coupon_time(&before, old);
    }
    if let Some(intents) = state.intents_mut() {
        intents.take(Kind::Change);
    }
    Ok(())
}

/// The index of the period that an offer would be in at an instant.
fn index_at(terms: &Terms, offer: &Offer, at: DateTime<Utc>, zone: Tz) -> u32 {
    let day = calendar::local_day(at, zone);
    calendar::index_of(terms.anchor_on, offer.interval, day).unwrap_or(0)
}

/// What is yet to come about when a pause begins. Neither a period nor a trial ends in a pause: what
/// was to come about with the end that it cuts off keeps its day.
pub(super) fn pause(
    intents: &mut Intents,
    until: Option<DateTime<Utc>>,
    cut_off: Option<DateTime<Utc>>,
) {
    intents.take(Kind::Pause);
    if let Some(at) = until {
        let (act, when) = (Act::Resume, When::At(at));
        intents.put(Intent { act, when, at });
    }
    if let Some(end) = cut_off {
        intents.date(Kind::Cancel, end);
        intents.date(Kind::Change, end);
    }
}

/// A move of the anchor whose day falls into a pause waits for the end of the period that the pause ends
/// in: there is no period to move. Where nothing is paused it has lost its sense.
pub(super) fn keep_move(state: &mut State, day: u32, at: DateTime<Utc>) {
    if let State::Paused { intents, .. } = state {
        let (act, when) = (Act::MoveAnchor { day }, When::PeriodEnd);
        intents.put(Intent { act, when, at });
    }
}

/// How it goes on after a pause.
pub(super) enum GoesOn {
    /// Not at all: its term is over.
    Over(Terms),
    /// In its trial.
    InTrial(Terms),
    /// In a period, of which something may have been used before the pause.
    InPeriod {
        /// What it is sold at from then on.
        terms: Terms,
        /// Until when that was.
        used_until: DateTime<Utc>,
        /// The zone that it is in from then on.
        zone: Tz,
    },
}

/// It goes on after a pause.
pub(super) fn go_on(
    mut terms: Terms,
    since: DateTime<Utc>,
    at: DateTime<Utc>,
) -> Result<GoesOn, UnknownZone> {
    if terms.is_over(at) {
        return Ok(GoesOn::Over(terms));
    }
    let zone = terms.zone()?;
    if terms.passed_in_pause(since, at, zone) {
        terms.pass_period();
    }
    if terms
        .trial_ends_at
        .is_some_and(|ends| ends > at && since < ends)
    {
        return Ok(GoesOn::InTrial(terms));
    }
    let used_until = cut(since, terms.offer.proration, zone);
    let zone = terms.enter_zone(zone);
    // In the zone that it moved to meanwhile.
    if terms.is_over(at) {
        return Ok(GoesOn::Over(terms));
    }
    Ok(GoesOn::InPeriod {
        terms,
        used_until,
        zone,
    })
}

/// Its end. A subscription that ends in the middle of a period says which.
pub(super) fn ended(
    state: State,
    ended_at: DateTime<Utc>,
    reason: EndReason,
    credit: CreditPolicy,
) -> State {
    let (terms, period) = match state {
        State::Active { terms, period, .. } => (terms, (period.end > ended_at).then_some(period)),
        State::Starting { terms }
        | State::Incomplete { terms, .. }
        | State::Scheduled { terms, .. }
        | State::Trialing { terms, .. }
        | State::Paused { terms, .. }
        | State::Ending { terms, .. } => (terms, None),
    };
    State::Ending {
        terms,
        ended_at,
        reason,
        period,
        credit,
    }
}
