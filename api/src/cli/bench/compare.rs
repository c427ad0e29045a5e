//! `tenure bench compare`: two files of figures, side by side.
//!
//! Machines are noisy: where the rounds of the two overlap, the difference says nothing, and is told
//! as such.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::figure::{Figure, percentile};

/// The two files.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// Written before, with --json.
    before: PathBuf,
    /// Written after.
    after: PathBuf,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Better,
    Worse,
    /// The rounds overlap.
    Same,
}

impl Verdict {
    fn of(before: &Figure, after: &Figure) -> Self {
        let ends = |figure: &Figure| {
            let runs = &figure.runs;
            (percentile(runs, 0.0), percentile(runs, 1.0))
        };
        let ((low, high), (least, most)) = (ends(before), ends(after));
        if least <= high && low <= most {
            return Self::Same;
        }
        if (after.median > before.median) == before.rises() {
            Self::Better
        } else {
            Self::Worse
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "rounds overlap",
        }
    }
}

/// Prints what both files have.
pub(super) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    outln!(
        "{:<6} {:<24} {:>12} {:>12} {:>8}  ",
        "",
        "metric",
        "before",
        "after",
        "ratio"
    );
    let mut compared = 0;
    for old in &before {
        let same = |new: &&Figure| new.workload == old.workload && new.metric == old.metric;
        let Some(new) = after.iter().find(same) else {
            continue;
        };
        compared += 1;
        let ratio = new.median / old.median;
        outln!(
            "{:<6} {:<24} {:>12.3} {:>12.3} {ratio:>8.3}  {}",
            old.workload,
            old.metric,
            old.median,
            new.median,
            Verdict::of(old, new).word(),
        );
    }
    anyhow::ensure!(compared > 0, "the files have no figure in common");
    Ok(())
}

/// Reads a file of figures; its first line is the machine.
fn read(path: &Path) -> anyhow::Result<Vec<Figure>> {
    let named = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(named)?;
    let mut figures = Vec::new();
    for (number, line) in std::io::BufReader::new(file).lines().enumerate().skip(1) {
        let line = line.with_context(named)?;
        let figure = serde_json::from_str(&line);
        let figure = figure
            .with_context(|| format!("{}, line {}, is no figure", path.display(), number + 1))?;
        figures.push(figure);
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::{Figure, Verdict};

    fn figure(metric: &str, runs: &[f64]) -> Figure {
        Figure {
            workload: "W2".to_owned(),
            metric: metric.to_owned(),
            median: super::super::figure::median(runs),
            runs: runs.to_vec(),
            in_flight: 512,
            limit: None,
            ratio: None,
            aim: None,
        }
    }

    #[test]
    fn what_is_better_goes_by_the_metric_and_overlap_says_nothing() {
        for (metric, before, after, verdict) in [
            ("steps_per_s", [10.0, 11.0], [12.0, 13.0], Verdict::Better),
            ("steps_per_s", [12.0, 13.0], [10.0, 11.0], Verdict::Worse),
            ("step_p50_ms", [1.0, 2.0], [3.0, 4.0], Verdict::Worse),
            ("statements_per_s", [3.0, 4.0], [1.0, 2.0], Verdict::Better),
            ("step_p50_ms", [1.0, 3.0], [2.0, 4.0], Verdict::Same),
        ] {
            let told = Verdict::of(&figure(metric, &before), &figure(metric, &after));
            assert_eq!(told, verdict, "{metric} {before:?} {after:?}");
        }
    }
}
