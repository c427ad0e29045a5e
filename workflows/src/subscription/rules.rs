//! The rules of a subscription's life. Pure.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{Lifecycle, SubscriptionRow};
use crate::calendar;

/// How many local days before a trial's end its tenant is told.
pub const TRIAL_ENDING_DAYS: u32 = 3;

/// When a trial of `days` local days ends that starts at `started`; `None` when there is no trial.
///
/// It ends at the start of a local day, so that the first day counts as free, whenever it began.
#[must_use]
pub fn trial_end(started: DateTime<Utc>, days: u32, zone: Tz) -> Option<DateTime<Utc>> {
    let first = calendar::local_day(started, zone);
    (days > 0).then(|| calendar::start_of_day(calendar::add_days(first, days), zone))
}

/// When the tenant is told that its trial ends; `None` when the trial is too short for that.
#[must_use]
pub fn trial_notice_at(
    started: DateTime<Utc>,
    trial_ends: DateTime<Utc>,
    zone: Tz,
) -> Option<DateTime<Utc>> {
    let last = calendar::local_day(trial_ends, zone);
    let day = last.checked_sub_days(chrono::Days::new(u64::from(TRIAL_ENDING_DAYS)))?;
    let at = calendar::at_hour(day, 9, zone);
    (at > started).then_some(at)
}

/// The one word that support and customers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisplayStatus {
    /// Begins later.
    Scheduled,
    /// Begins with its first payment.
    Incomplete,
    /// In its trial.
    Trialing,
    /// Paid up.
    Active,
    /// Running, and an invoice of it is unpaid.
    PastDue,
    /// Neither used nor billed.
    Paused,
    /// Running until its tenant's wish to end is met.
    Ending,
    /// Over.
    Ended,
}

/// Derives the display status from the axes: lifecycle first, then debt, then intents.
#[must_use]
pub fn display_status(row: &SubscriptionRow, owes: bool) -> DisplayStatus {
    match row.lifecycle {
        Lifecycle::Ended => DisplayStatus::Ended,
        Lifecycle::Scheduled => DisplayStatus::Scheduled,
        Lifecycle::Incomplete => DisplayStatus::Incomplete,
        Lifecycle::Paused => DisplayStatus::Paused,
        Lifecycle::Trialing | Lifecycle::Active if owes => DisplayStatus::PastDue,
        Lifecycle::Trialing | Lifecycle::Active if row.cancel_at.is_some() => DisplayStatus::Ending,
        Lifecycle::Trialing => DisplayStatus::Trialing,
        Lifecycle::Active => DisplayStatus::Active,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_trial_ends_at_the_start_of_a_local_day() {
        let berlin = calendar::zone("Europe/Berlin").unwrap();
        let end = trial_end(at("2027-01-31T09:00:00Z"), 14, berlin);
        assert_eq!(end, Some(at("2027-02-13T23:00:00Z")));
        assert_eq!(trial_end(at("2027-01-31T09:00:00Z"), 0, berlin), None);
        // 23:30 UTC is the next day in Berlin already.
        let late = trial_end(at("2027-01-31T23:30:00Z"), 14, berlin);
        assert_eq!(late, Some(at("2027-02-14T23:00:00Z")));
    }

    #[test]
    fn a_short_trial_is_not_announced() {
        let zone = calendar::zone("UTC").unwrap();
        let started = at("2027-01-01T12:00:00Z");
        let told = trial_notice_at(started, at("2027-01-15T00:00:00Z"), zone);
        assert_eq!(told, Some(at("2027-01-12T09:00:00Z")));
        let short = trial_notice_at(started, at("2027-01-03T00:00:00Z"), zone);
        assert_eq!(short, None);
    }
}
