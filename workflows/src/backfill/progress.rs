//! How far a backfill is, how fast, and between when and when it ends. Pure.
//!
//! The rate is measured over the wall clock, throttled time included, for that is when people will
//! look again. An interval is told, because both what is left and the rate are estimates: the
//! planner's count of rows is off by some, and batches vary.

use serde::{Deserialize, Serialize};

/// The rate of a range, in rows a second, as a moving average with its spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The average.
    pub mean: f64,
    /// The average of the squared distance from it.
    pub variance: f64,
    /// How many measurements it is made of.
    pub count: u32,
}

/// The weight of the newest measurement.
const ALPHA: f64 = 0.3;
/// By how much a planner's count of rows may be off.
const ESTIMATE_ERROR: f64 = 0.1;
/// How many deviations the interval reaches to either side.
const REACH: f64 = 2.0;

impl Rate {
    /// With one more measurement.
    #[must_use]
    pub fn with(self, rows_per_second: f64) -> Self {
        if self.count == 0 {
            return Self {
                mean: rows_per_second,
                variance: 0.0,
                count: 1,
            };
        }
        let distance = rows_per_second - self.mean;
        Self {
            mean: self.mean + ALPHA * distance,
            variance: (1.0 - ALPHA) * (self.variance + ALPHA * distance * distance),
            count: self.count.saturating_add(1),
        }
    }

    /// The rate of several that go on at once.
    #[must_use]
    pub fn sum(rates: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = Self::default();
        for rate in rates {
            sum.mean += rate.mean;
            sum.variance += rate.variance;
            sum.count = sum.count.saturating_add(rate.count);
        }
        sum
    }
}

/// Between when and when, in seconds from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eta {
    /// Not before.
    pub earliest_seconds: u64,
    /// Hardly after; none when the rate is too uneven to say.
    pub latest_seconds: Option<u64>,
}

/// When what is left of `estimated` rows is done. None while nothing was measured.
#[must_use]
pub fn eta(estimated: u64, done: u64, rate: Rate) -> Option<Eta> {
    if rate.count < 2 || rate.mean <= 0.0 {
        return None;
    }
    let left = |estimated: f64| (estimated - done as f64).max(0.0);
    let fewest = left(estimated as f64 * (1.0 - ESTIMATE_ERROR));
    let most = left(estimated as f64 * (1.0 + ESTIMATE_ERROR));
    let spread = REACH * rate.variance.sqrt();
    let slowest = rate.mean - spread;
    Some(Eta {
        earliest_seconds: (fewest / (rate.mean + spread)).floor() as u64,
        latest_seconds: (slowest > 0.0).then(|| (most / slowest).ceil() as u64),
    })
}

/// How much is done, in percent with one digit; never 100 while something is left.
#[must_use]
pub fn percent(estimated: u64, done: u64, finished: bool) -> f64 {
    if finished {
        return 100.0;
    }
    if estimated == 0 {
        return 0.0;
    }
    let share = (done as f64 / estimated as f64 * 1_000.0).floor() / 10.0;
    share.min(99.9)
}

/// Says seconds as `3m 20s`, `5h 11m` or `2d 4h`.
#[must_use]
pub fn say_seconds(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(measured: &[f64]) -> Rate {
        measured
            .iter()
            .fold(Rate::default(), |rate, one| rate.with(*one))
    }

    #[test]
    fn a_steady_rate_gives_a_narrow_interval_that_holds_the_truth() {
        let eta = eta(1_000_000, 400_000, rate(&[10_000.0; 20])).unwrap();
        assert_eq!(eta.earliest_seconds, 50);
        assert_eq!(eta.latest_seconds, Some(70));
    }

    #[test]
    fn an_uneven_rate_widens_it_until_there_is_no_end_to_tell() {
        let uneven = rate(&[10_000.0, 8_000.0, 11_000.0, 9_000.0, 10_500.0]);
        let wide = eta(1_000_000, 400_000, uneven).unwrap();
        assert!(
            wide.earliest_seconds < 50 && wide.latest_seconds.unwrap() > 70,
            "{wide:?}"
        );
        let wild = rate(&[20_000.0, 10.0, 20_000.0, 10.0]);
        assert_eq!(eta(1_000_000, 0, wild).unwrap().latest_seconds, None);
    }

    #[test]
    fn nothing_is_told_before_something_was_measured() {
        assert_eq!(eta(1_000, 0, rate(&[])), None);
        assert_eq!(eta(1_000, 0, rate(&[5.0])), None);
    }

    #[test]
    fn more_rows_than_estimated_are_still_not_all() {
        assert!((percent(100, 250, false) - 99.9).abs() < 1e-9);
        assert!((percent(100, 250, true) - 100.0).abs() < 1e-9);
        assert!((percent(1_000, 333, false) - 33.3).abs() < 1e-9);
        assert!(percent(0, 0, false).abs() < 1e-9);
    }
}
