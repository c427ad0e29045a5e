//! How many rows the next batch has: so many as fit a time and a number of WAL bytes. Pure.
//!
//! What a row costs is known from the batches before, as an exponential moving average. When rows
//! become dearer the newest batch weighs most, so that the product is spared at once; when they
//! become cheaper it is believed more slowly, and a batch never grows more than twofold.

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
}

impl Default for PaceLimits {
    fn default() -> Self {
        Self {
            first_rows: 500,
            min_rows: 10,
            max_rows: 50_000,
            target_ms: 400,
            target_wal_bytes: 32 << 20,
            timeout_ms: 5_000,
            sub_batches: 8,
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
        need("pace.sub_batches", sub, "1 to 100")
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
            wal if wal > 0.0 => limits.target_wal_bytes as f64 / wal,
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
    fn a_time_out_halves_down_to_one_row() {
        let mut pace = Pace::first(&LIMITS);
        for expected in [250, 125, 62, 31, 15, 7, 3, 1, 1] {
            pace = pace.halved(pace.rows);
            assert_eq!(pace.rows, expected);
        }
    }
}
