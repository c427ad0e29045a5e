//! How many rows the next batch has: so many as fit a time and a number of WAL bytes. And how long a range
//! rests after one, so that all ranges together keep no more of the database busy than they may. Pure.
//!
//! What a row costs is known from the batches before, as an exponential moving average. When rows
//! become dearer the newest batch weighs most, so that the product is spared at once; when they
//! become cheaper it is believed more slowly, and a batch never grows more than twofold.
//!
//! A rest is a share of what the batch took, as gh-ost's `nice-ratio` is: a database that becomes slower
//! is left alone for longer, at once and without a reading.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::definition::{Misfit, need};

/// Between what a batch stays, and what it aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceLimits {
    /// Rows of the first batch.
    pub first_rows: u32,
    /// The fewest rows.
    pub min_rows: u32,
    /// The most rows.
    pub max_rows: u32,
    /// How long one statement should take, in milliseconds.
    pub target_ms: u64,
    /// How many bytes of WAL it should write at most; what others write meanwhile counts.
    pub target_wal_bytes: u64,
    /// How long one statement may take, in milliseconds; one that takes longer is split.
    pub timeout_ms: u64,
    /// How many statements, each a transaction of its own, one visit runs.
    pub sub_batches: u32,
    /// How much of one connection its statements keep busy, those of all ranges taken together, in percent.
    /// None: it never rests.
    #[serde(default)]
    pub load_percent: Option<u32>,
}

impl Default for PaceLimits {
    fn default() -> Self {
        Self {
            first_rows: 500,
            min_rows: 10,
            max_rows: 50_000,
            target_ms: 25,
            // Whoever commits waits until all WAL before is on disk: a statement that wrote megabytes keeps
            // everybody waiting for as long as the disk takes to write them.
            target_wal_bytes: 128 << 10,
            timeout_ms: 5_000,
            sub_batches: 20,
            load_percent: Some(DEFAULT_LOAD),
        }
    }
}

impl PaceLimits {
    pub(super) fn check(&self) -> Result<(), Misfit> {
        need("pace.min_rows", self.min_rows >= 1, "at least 1")?;
        let most = self.max_rows >= self.min_rows && self.max_rows <= 1_000_000;
        need("pace.max_rows", most, "from min_rows to 1000000")?;
        let first = (self.min_rows..=self.max_rows).contains(&self.first_rows);
        need("pace.first_rows", first, "between min_rows and max_rows")?;
        let target = (10..=10_000).contains(&self.target_ms);
        need("pace.target", target, "10ms to 10s")?;
        let timeout = (self.target_ms * 2..=60_000).contains(&self.timeout_ms);
        need(
            "pace.timeout",
            timeout,
            "at least twice the target, at most 60s",
        )?;
        let wal = self.target_wal_bytes >= 1 << 16;
        need("pace.target_wal", wal, "at least 64kB")?;
        let sub = (1..=100).contains(&self.sub_batches);
        need("pace.sub_batches", sub, "1 to 100")?;
        let load = self
            .load_percent
            .is_none_or(|load| (1..=6_400).contains(&load));
        need(
            "pace.load",
            load,
            "1 to 6400 percent of a connection, or off",
        )
    }

    /// How long one of so many ranges rests after a statement that took so long: not so long that who pauses
    /// it or goes back waits for it.
    #[must_use]
    pub fn rest(&self, took: Duration, ranges: u32) -> Duration {
        let Some(load) = self.load_percent else {
            return Duration::ZERO;
        };
        let turns = f64::from(ranges.max(1)) * 100.0 / f64::from(load.max(1));
        took.mul_f64((turns - 1.0).max(0.0)).min(LONGEST_REST)
    }
}

/// What a batch cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Rows that it covered.
    pub rows: u32,
    /// How long it took, in milliseconds.
    pub ms: f64,
    /// Bytes of WAL that were written meanwhile.
    pub wal_bytes: f64,
}

/// The pace of a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Rows of the next batch.
    pub rows: u32,
    ms_per_row: Option<f64>,
    wal_per_row: Option<f64>,
}

/// The weight of the newest batch when rows became cheaper.
const CHEAPER: f64 = 0.5;
/// The same when they became dearer.
const DEARER: f64 = 0.8;
/// The load that is made where nothing else is said, in percent of a connection.
pub(super) const DEFAULT_LOAD: u32 = 25;
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// By WAL alone no batch has fewer rows: what others write meanwhile counts, too, and a busy product would
/// bring it down to nothing.
const ROWS_WHATEVER_WAL: f64 = 20.0;
/// How much a batch may grow.
const GROWTH: f64 = 2.0;

impl Pace {
    /// The pace of who has seen nothing.
    #[must_use]
    pub fn first(limits: &PaceLimits) -> Self {
        Self {
            rows: limits.first_rows,
            ms_per_row: None,
            wal_per_row: None,
        }
    }

    /// The pace after a batch. One that covered fewer rows than were asked for (the end of a range)
    /// tells little, and shrinks nothing.
    #[must_use]
    pub fn after(self, limits: &PaceLimits, seen: Seen) -> Self {
        if seen.rows == 0 {
            return self;
        }
        let rows = f64::from(seen.rows);
        let ms = average(self.ms_per_row, (seen.ms / rows).max(1e-6));
        let wal = average(self.wal_per_row, (seen.wal_bytes / rows).max(0.0));
        let by_time = limits.target_ms as f64 / ms;
        let by_wal = match wal {
            wal if wal > 0.0 => (limits.target_wal_bytes as f64 / wal).max(ROWS_WHATEVER_WAL),
            _ => f64::INFINITY,
        };
        let most = f64::from(self.rows) * GROWTH;
        Self {
            rows: clamp(by_time.min(by_wal).min(most), limits),
            ms_per_row: Some(ms),
            wal_per_row: Some(wal),
        }
    }

    /// The pace after a statement that was cut off: half, down to a single row.
    #[must_use]
    pub fn halved(self, asked: u32) -> Self {
        Self {
            rows: (asked / 2).max(1),
            ..self
        }
    }
}

fn average(before: Option<f64>, seen: f64) -> f64 {
    let Some(before) = before else {
        return seen;
    };
    let weight = if seen > before { DEARER } else { CHEAPER };
    before + weight * (seen - before)
}

fn clamp(rows: f64, limits: &PaceLimits) -> u32 {
    let rows = rows.clamp(f64::from(limits.min_rows), f64::from(limits.max_rows));
    // Between the limits, which are whole numbers of 32 bits.
    rows as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PaceLimits = PaceLimits {
        first_rows: 500,
        min_rows: 10,
        max_rows: 50_000,
        target_ms: 400,
        target_wal_bytes: 32 << 20,
        timeout_ms: 5_000,
        sub_batches: 8,
        load_percent: Some(50),
    };

    /// Plays batches of rows that cost so much.
    fn play(mut pace: Pace, batches: u32, ms_per_row: f64, wal_per_row: f64) -> Pace {
        for _ in 0..batches {
            let rows = pace.rows;
            pace = pace.after(
                &LIMITS,
                Seen {
                    rows,
                    ms: f64::from(rows) * ms_per_row,
                    wal_bytes: f64::from(rows) * wal_per_row,
                },
            );
        }
        pace
    }

    fn took(pace: Pace, ms_per_row: f64) -> f64 {
        f64::from(pace.rows) * ms_per_row
    }

    #[test]
    fn a_batch_comes_to_its_target_time() {
        let pace = play(Pace::first(&LIMITS), 8, 0.05, 100.0);
        assert!((360.0..=440.0).contains(&took(pace, 0.05)), "{pace:?}");
    }

    #[test]
    fn within_three_batches_it_follows_a_load_that_changes() {
        let settled = play(Pace::first(&LIMITS), 10, 0.05, 100.0);
        let dearer = play(settled, 3, 0.5, 100.0);
        assert!((300.0..=500.0).contains(&took(dearer, 0.5)), "{dearer:?}");
        let cheaper = play(dearer, 3, 0.1, 100.0);
        assert!((240.0..=500.0).contains(&took(cheaper, 0.1)), "{cheaper:?}");
    }

    #[test]
    fn wal_bounds_a_batch_that_time_would_not() {
        let pace = play(Pace::first(&LIMITS), 10, 0.001, 8_192.0);
        let wal = f64::from(pace.rows) * 8_192.0;
        assert!(wal <= f64::from(32_u32 << 20), "{pace:?}");
        assert!(wal > f64::from(16_u32 << 20), "{pace:?}");
    }

    #[test]
    fn what_others_write_does_not_bring_a_batch_down_to_nothing() {
        let pace = play(Pace::first(&LIMITS), 10, 0.05, 10_000_000.0);
        assert_eq!(pace.rows, 20);
    }

    #[test]
    fn it_never_leaves_its_limits_nor_grows_more_than_twofold() {
        let mut pace = Pace::first(&LIMITS);
        for cost in [1e-9, 5_000.0, 0.0, 1e-9, 1e9, 0.01] {
            let next = play(pace, 1, cost, 0.0);
            assert!((10..=50_000).contains(&next.rows));
            assert!(next.rows <= pace.rows * 2);
            pace = next;
        }
    }

    #[test]
    fn ranges_share_the_load_that_they_may_make() {
        let took = Duration::from_millis(100);
        let rest = |load_percent, ranges| {
            let limits = PaceLimits {
                load_percent,
                ..LIMITS
            };
            limits.rest(took, ranges).as_millis()
        };
        assert_eq!(rest(Some(50), 1), 100, "half of the time is others'");
        assert_eq!(rest(Some(50), 4), 700, "four make no more load than one");
        assert_eq!(rest(Some(100), 1), 0);
        assert_eq!(rest(Some(400), 2), 0, "fewer than may work never rest");
        assert_eq!(rest(None, 64), 0);
        assert_eq!(rest(Some(50), 0), 100);
        assert_eq!(rest(Some(1), 64), 30_000, "there is an end to it");
    }

    #[test]
    fn a_time_out_halves_down_to_one_row() {
        let mut pace = Pace::first(&LIMITS);
        for expected in [250, 125, 62, 31, 15, 7, 3, 1, 1] {
            pace = pace.halved(pace.rows);
            assert_eq!(pace.rows, expected);
        }
    }
}
