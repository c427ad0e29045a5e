//! What the engine counts, for whoever collects metrics in this process; nobody, by default.
//!
//! Labels are names from code (workflows, steps, outcomes), never a tenant, a run or a key: the
//! number of series is bounded by the program. The names are described in `api/src/metrics.rs`.

use std::time::Duration;

use metrics::{counter, histogram};

use crate::error::{Retry, StepError};
use crate::plan::RESTED;
use crate::run::ClaimedRun;

/// The outcome of a visit that ended without a settlement of its own.
pub(crate) const UNSETTLED: &str = "unsettled";

/// What a settlement statement, or one of steps, wrote.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Commit {
    Steps,
    Settlements,
    /// One settlement with what it sends on.
    FollowUp,
    /// Reports of progress.
    Reports,
}

/// A visit, from the choice of its event to its durable settlement. A claim that found nothing to do
/// is counted but not timed.
pub(crate) fn visited(workflow: &'static str, outcome: &'static str, took: Duration) {
    counter!("tenure_visits_total", "workflow" => workflow, "outcome" => outcome).increment(1);
    if outcome != RESTED {
        histogram!("tenure_visit_duration_seconds", "workflow" => workflow).record(took);
    }
}

/// One attempt at a step; replays are none. Returns how it ended.
pub(crate) fn attempted<T>(
    workflow: &str,
    step: &'static str,
    result: &Result<T, StepError>,
) -> &'static str {
    let outcome = match result {
        Ok(_) => "succeeded",
        Err(error) if error.record.code == "timed_out" => "timed_out",
        Err(error) if error.record.code == "no_progress" => "no_progress",
        Err(error) if error.record.code == "panicked" => "panicked",
        Err(error) if matches!(error.retry, Retry::Never) => "terminal_error",
        Err(_) => "retryable_error",
    };
    counter!(
        "tenure_step_attempts_total",
        "workflow" => workflow.to_owned(), "step" => step, "outcome" => outcome
    )
    .increment(1);
    outcome
}

/// Runs that a claim took, and how long after their instants.
pub(crate) fn claimed(runs: &[ClaimedRun]) {
    counter!("tenure_claimed_runs_total").increment(runs.len() as u64);
    for run in runs {
        let late = run.due_at.and_then(|due| (run.now - due).to_std().ok());
        if let Some(late) = late {
            histogram!("tenure_claim_lateness_seconds").record(late);
        }
    }
}

/// A statement of a committer, and the rows that were offered to it.
pub(crate) fn committed(commit: Commit, rows: usize) {
    let kind = match commit {
        Commit::Steps => "steps",
        Commit::Settlements => "settlements",
        Commit::FollowUp => "follow_up",
        Commit::Reports => "reports",
    };
    counter!("tenure_commits_total", "kind" => kind).increment(1);
    histogram!("tenure_commit_rows", "kind" => kind).record(rows as f64);
}

/// Rows that the database did not take from us because the run is somebody else's by now.
pub(crate) fn fenced(rows: usize) {
    if rows > 0 {
        counter!("tenure_fenced_writes_total").increment(rows as u64);
    }
}

pub(crate) fn lost_lease() {
    counter!("tenure_leases_lost_total").increment(1);
}

/// A failover, and how many acknowledged commits were gone after it.
pub(crate) fn failed_over(lost: u64) {
    counter!("tenure_failovers_total").increment(1);
    counter!("tenure_lost_commits_total").increment(lost);
}

/// Runs that were taken over from a lost worker.
pub(crate) fn recovered(runs: usize) {
    counter!("tenure_recovered_runs_total").increment(runs as u64);
}

/// A signal that was written into an inbox, or had been before.
pub(crate) fn signalled(created: bool) {
    let outcome = if created { "new" } else { "repeated" };
    counter!("tenure_signals_total", "outcome" => outcome).increment(1);
}
