//! From where a claim looks.
//!
//! Due rows and nudges are deleted when they are taken. While an old snapshot is open anywhere in the
//! database (a report, a forgotten session, a replica that sends its own back) Postgres can clear none
//! of them away, and a claim that looks from the beginning walks past all the work of that time: an
//! hour of it, and every look takes a good part of a second.
//!
//! So a look that took long is not taken again at once. For ten times as long, claims look from a
//! *floor*: a little before the oldest work that there was. What lies below, such as work that a
//! transaction wrote which had been open for long, or the child of a run whose deadline is long past, is
//! found by the next whole look, and a whole look never costs more than a tenth of the time. Where looks
//! are quick every look is whole.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// A look that takes longer than this is slow, and this much longer for each run that it took.
const SLOW: Duration = Duration::from_millis(25);
const SLOW_EACH: Duration = Duration::from_micros(200);
/// A slow look is made again when so many times as long has passed, and within this.
const REST: u32 = 10;
const REST_AT_MOST: Duration = Duration::from_secs(10);
/// The floor lies this much before the oldest work: a transaction may have written some, under the
/// time at which it began, and not have committed yet.
const SLACK: TimeDelta = TimeDelta::seconds(5);
/// As much for nudges, which have no order but their place in the table. Where Postgres can clear them away
/// it puts new ones into earlier pages; a table of so many is read in some milliseconds, and none larger
/// comes about unless it cannot.
const SLACK_PAGES: i64 = 512;

/// Work before this is not looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    /// Due before this.
    pub(crate) due_at: Option<DateTime<Utc>>,
    /// Nudges on earlier pages.
    pub(crate) nudge_page: i64,
}

impl Floor {
    /// Whether all is looked for.
    pub(crate) fn is_whole(self) -> bool {
        self == Self::default()
    }
}

/// Where the tables end, read after a look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) now: DateTime<Utc>,
    /// Pages of the nudges.
    pub(crate) nudge_pages: i64,
}

/// Where a worker looks from, and until when.
#[derive(Debug, Default)]
pub(crate) struct Lookout {
    floor: Floor,
    whole_at: Option<Instant>,
}

impl Lookout {
    /// From where to look at an instant.
    pub(crate) fn floor(&self, now: Instant) -> Floor {
        match self.whole_at {
            Some(whole_at) if now < whole_at => self.floor,
            _ => Floor::default(),
        }
    }

    /// How long it is until the next whole look, while looks are not.
    pub(crate) fn whole_in(&self, now: Instant) -> Option<Duration> {
        let left = self.whole_at?.checked_duration_since(now)?;
        (!left.is_zero()).then_some(left)
    }

    /// Whether a look of so long was slow for what it took.
    pub(crate) fn is_slow(took: Duration, runs: usize) -> bool {
        let runs = u32::try_from(runs).unwrap_or(u32::MAX);
        took > SLOW + SLOW_EACH.saturating_mul(runs)
    }

    /// Spares the next looks what a slow one walked past. `oldest` is the oldest due work that it met;
    /// `full` says that it may have left nudges.
    pub(crate) fn rest(
        &mut self,
        (now, took): (Instant, Duration),
        oldest: Option<DateTime<Utc>>,
        end: End,
        full: bool,
    ) {
        let due_at = oldest.map_or(end.now, |oldest| oldest.min(end.now)) - SLACK;
        let nudge_page = if full {
            0
        } else {
            (end.nudge_pages - SLACK_PAGES).max(0)
        };
        self.floor = Floor {
            due_at: Some(due_at),
            nudge_page,
        };
        self.whole_at = Some(now + (took * REST).min(REST_AT_MOST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn end() -> End {
        End {
            now: at(1_000),
            nudge_pages: 1_000,
        }
    }

    #[test]
    fn quick_looks_are_whole() {
        let lookout = Lookout::default();
        assert_eq!(lookout.whole_in(Instant::now()), None);
        assert!(lookout.floor(Instant::now()).is_whole());
        assert!(!Lookout::is_slow(Duration::from_millis(20), 0));
        assert!(Lookout::is_slow(Duration::from_millis(30), 0));
        assert!(!Lookout::is_slow(Duration::from_millis(60), 256));
    }

    #[test]
    fn a_slow_look_rests_for_ten_times_as_long() {
        let (mut lookout, now) = (Lookout::default(), Instant::now());
        let took = Duration::from_millis(100);
        lookout.rest((now, took), None, end(), false);
        let floor = lookout.floor(now + Duration::from_millis(999));
        assert_eq!(floor.due_at, Some(at(995)));
        assert_eq!(floor.nudge_page, 488);
        let whole_in = lookout.whole_in(now + Duration::from_millis(999));
        assert_eq!(whole_in, Some(Duration::from_millis(1)));
        assert_eq!(lookout.whole_in(now + Duration::from_secs(1)), None);
        assert!(lookout.floor(now + Duration::from_secs(1)).is_whole());
        lookout.rest((now, Duration::from_secs(60)), None, end(), false);
        assert!(!lookout.floor(now + Duration::from_secs(9)).is_whole());
        assert!(lookout.floor(now + Duration::from_secs(10)).is_whole());
    }

    #[test]
    fn nothing_that_was_left_lies_below_the_floor() {
        let (mut lookout, now) = (Lookout::default(), Instant::now());
        let took = Duration::from_millis(100);
        lookout.rest((now, took), Some(at(700)), end(), true);
        let floor = lookout.floor(now);
        assert_eq!(floor.due_at, Some(at(695)));
        assert_eq!(floor.nudge_page, 0);
        // A look that takes what is due to come later, by another clock.
        lookout.rest((now, took), Some(at(2_000)), end(), false);
        assert_eq!(lookout.floor(now).due_at, Some(at(995)));
    }
}
