//! The ladder: when a failed payment is tried again, and when it is given up. Pure.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::calendar;

/// Local days after the first failure on which collection is tried again.
pub const RETRY_DAYS: [u32; 4] = [1, 3, 5, 7];
/// The local day on which the ladder ends.
pub const FINAL_DAY: u32 = 9;
/// The local hour of each rung: when people can be reached and banks are open.
pub const HOUR: u32 = 10;

/// What comes next on the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again then.
    Retry(DateTime<Utc>),
    /// Give up then.
    Final(DateTime<Utc>),
}

impl Next {
    /// When it is.
    #[must_use]
    pub fn at(self) -> DateTime<Utc> {
        match self {
            Self::Retry(at) | Self::Final(at) => at,
        }
    }
}

/// What follows `rungs` retries of a debt that began at `since`.
#[must_use]
pub fn next_rung(since: DateTime<Utc>, rungs: u32, zone: Tz) -> Next {
    let first = calendar::local_day(since, zone);
    let on = |days| calendar::at_hour(calendar::add_days(first, days), HOUR, zone);
    match RETRY_DAYS.get(rungs as usize) {
        Some(days) => Next::Retry(on(*days)),
        None => Next::Final(on(FINAL_DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_climbs_at_ten_local_and_ends() {
        let zone = calendar::zone("Europe/Berlin").unwrap();
        let since: DateTime<Utc> = "2027-03-27T23:00:00Z".parse().unwrap();
        // Local day 2027-03-28, on which summer time begins.
        let days: Vec<_> = (0..6)
            .map(|rungs| match next_rung(since, rungs, zone) {
                Next::Retry(at) => format!("retry {}", at.to_rfc3339()),
                Next::Final(at) => format!("final {}", at.to_rfc3339()),
            })
            .collect();
        assert_eq!(
            days,
            [
                "retry 2027-03-29T08:00:00+00:00",
                "retry 2027-03-31T08:00:00+00:00",
                "retry 2027-04-02T08:00:00+00:00",
                "retry 2027-04-04T08:00:00+00:00",
                "final 2027-04-06T08:00:00+00:00",
                "final 2027-04-06T08:00:00+00:00",
            ]
        );
    }
}
