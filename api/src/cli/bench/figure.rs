//! What was measured: figures, the table, the JSON, and the machine they belong to.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sqlx::PgPool;

/// One metric of one workload over all repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) workload: String,
    pub(crate) metric: String,
    pub(crate) median: f64,
    pub(crate) runs: Vec<f64>,
    /// The most visits in flight.
    pub(crate) in_flight: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) aim: Option<f64>,
}

impl Figure {
    /// Whether more of it is better.
    pub(crate) fn rises(&self) -> bool {
        self.metric.ends_with("runs_per_s")
            || self.metric.ends_with("steps_per_s")
            || self.metric.ends_with("rows_per_s")
            || self.metric.ends_with("reads_per_s")
            || self.metric.ends_with("starts_per_s")
            || self.metric.ends_with("signals_per_s")
            || self.metric.ends_with("renewals_per_s")
    }

    fn aimed(&self) -> String {
        let sign = if self.rises() { ">=" } else { "<=" };
        self.aim
            .map_or_else(String::new, |aim| format!("{sign} {aim}"))
    }
}

/// One repetition's measurements: metric and value.
pub(crate) type Measured = Vec<(String, f64)>;

/// Adds a repetition to the figures.
pub(crate) fn collect(
    figures: &mut Vec<Figure>,
    workload: &str,
    in_flight: usize,
    measured: Measured,
) {
    for (metric, value) in measured {
        let known = figures
            .iter_mut()
            .find(|figure| figure.workload == workload && figure.metric == metric);
        match known {
            Some(figure) => {
                figure.runs.push(value);
                figure.median = median(&figure.runs);
            }
            None => figures.push(Figure {
                workload: workload.to_owned(),
                aim: aim(workload, &metric),
                metric,
                median: value,
                runs: vec![value],
                in_flight,
                limit: None,
                ratio: None,
            }),
        }
    }
}

/// What the project aims at for a metric.
fn aim(workload: &str, metric: &str) -> Option<f64> {
    Some(match (workload, metric) {
        ("W1", "complete_runs_per_s") => 35_000.0,
        ("W1", "wal_bytes_per_run") => 1_700.0,
        ("W2", "steps_per_s") => 120_000.0,
        ("W2", "wal_bytes_per_step") => 380.0,
        ("W2", "commits_per_step") => 0.02,
        // Against an empty system.
        ("W5", "flood_x_empty") | ("W6", "blocked_x_empty") => 2.0,
        ("W3", "late_20k_p50_ms") => 3.0,
        ("W3", "late_20k_p99_ms") => 20.0,
        ("W3", "late_100k_p99_ms") => 200.0,
        ("W3", "asleep_bytes_each") => 600.0,
        ("W3", "asleep_process_mib") => 64.0,
        ("W3", "asleep_x_empty") => 1.2,
        ("W2L", "step_p50_ms") => 0.25,
        ("W2L", "step_p99_ms") => 0.6,
        ("W4", "alone_p50_ms") => 1.5,
        ("W4", "alone_p99_ms") => 5.0,
        ("W4", "crowd_p50_ms") => 8.0,
        ("W4", "crowd_p99_ms") => 15.0,
        ("W8", "statements_per_s") => 2.0,
        ("W8", "process_cpu_percent") => 0.5,
        ("W7" | "soak", "drift_x") => 1.5,
        ("W9", "past_lease_s") => 1.0,
        ("W9", "rows_twice") => 0.0,
        ("W10", "starts_per_s") => 3_000.0,
        ("W10", "start_p99_ms") => 50.0,
        ("E1", "read_p99_ms") => 2.0,
        ("B1", "beside_x_alone") => 1.5,
        ("B1", "fast_rows_per_s") => 15_000.0,
        ("B2", "minutes") => 5.0,
        ("B2", "longest_lock_ms") => 100.0,
        ("R1", "renew_s") => 900.0,
        ("R1", "requests_each") => 2.0,
        ("R1", "slow_x_allowed") => 1.1,
        ("R1", "beside_x_alone") => 2.0,
        _ => return None,
    })
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which the given part of the values lies (nearest rank).
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Prints all figures, one a line.
pub(crate) fn print_table(figures: &[Figure]) {
    outln!(
        "{:<6} {:<24} {:>12} {:>12} {:>12} {:>8} {:>10}",
        "",
        "metric",
        "median",
        "min",
        "max",
        "x limit",
        "aim"
    );
    for figure in figures {
        outln!(
            "{:<6} {:<24} {:>12} {:>12} {:>12} {:>8} {:>10}",
            figure.workload,
            figure.metric,
            short(figure.median),
            short(percentile(&figure.runs, 0.0)),
            short(percentile(&figure.runs, 1.0)),
            figure
                .ratio
                .map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            figure.aimed(),
        );
    }
}

fn short(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// Writes the figures, one JSON object a line; the first is the machine.
pub(crate) fn write_json(path: &Path, machine: &Machine, figures: &[Figure]) -> anyhow::Result<()> {
    let mut file = std::fs::File::create(path)?;
    writeln!(file, "{}", serde_json::to_string(machine)?)?;
    for figure in figures {
        writeln!(file, "{}", serde_json::to_string(figure)?)?;
    }
    Ok(())
}

/// What the figures belong to.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    postgres: String,
    settings: BTreeMap<String, String>,
    build: &'static str,
}

impl Machine {
    pub(crate) async fn read(pool: &PgPool) -> anyhow::Result<Self> {
        let postgres: String = sqlx::query_scalar("select version()")
            .fetch_one(pool)
            .await?;
        let mut settings = BTreeMap::new();
        for name in [
            "fsync",
            "synchronous_commit",
            "full_page_writes",
            "shared_buffers",
        ] {
            let value: String = sqlx::query_scalar("select current_setting($1)")
                .bind(name)
                .fetch_one(pool)
                .await?;
            settings.insert(name.to_owned(), value);
        }
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            postgres,
            settings,
            build: if cfg!(debug_assertions) {
                "debug: figures mean nothing, build with --release"
            } else {
                "release"
            },
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.postgres)?;
        write!(
            f,
            "{} cores, build: {}, {:?}",
            self.cores, self.build, self.settings
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[]), 0.0);
    }
}
