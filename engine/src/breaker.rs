//! Circuit breakers: an outside dependency that keeps failing is left alone for a while, by all.
//!
//! After the pattern of M. Nygard's *Release It!*: some failures in a row **open** the breaker, and
//! runs that reach a step on that dependency wait at the gate without burning attempts. After a
//! pause one run **probes**; its success closes the breaker and wakes the others, its failure opens
//! it for longer. What is stored is shared by all workers (`store/breaker.rs`); a process counts
//! failures on its own, and hears at each renewal of its lease which breakers are open. One that it
//! has not heard of yet costs an attempt, no more.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use sqlx::{PgConnection, PgPool};

use crate::error::{Retry, StepError};
use crate::gate::{self, Door};
use crate::store;
use crate::store::breaker::BreakerState;

/// Failures in a row, in one process, that open a breaker.
const FAILURES_TO_OPEN: u32 = 5;
/// How long the first pause is; each trip in a row doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What a process knows of its outside.
#[derive(Debug, Default)]
pub(crate) struct Breakers {
    shut: Mutex<Shut>,
    failures: Mutex<HashMap<&'static str, u32>>,
}

/// The dependencies whose attempts wait.
#[derive(Debug, Default)]
struct Shut {
    names: HashSet<String>,
    /// Counts what this process found out itself, so that an older answer of the database does not
    /// undo it.
    changes: u64,
}

/// What an attempt at a step says about its dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answers,
    Fails,
    /// It asked for patience: it answers, and is no worse for it.
    Says,
    /// It was not asked to the end.
    Silent,
}

impl Breakers {
    /// Whether attempts on the dependency are to wait.
    pub(crate) fn is_shut(&self, dependency: &str) -> bool {
        lock(&self.shut).names.contains(dependency)
    }

    /// To be asked before the database is, for [`Breakers::refresh`].
    pub(crate) fn changes(&self) -> u64 {
        lock(&self.shut).changes
    }

    /// Takes over which breakers are not closed, unless something was found out meanwhile.
    pub(crate) fn refresh(&self, changes: u64, shut: Vec<String>) {
        let mut known = lock(&self.shut);
        if known.changes == changes {
            known.names = shut.into_iter().collect();
        }
    }

    /// Asks the database now.
    pub(crate) async fn look(&self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let changes = self.changes();
        let shut = store::breaker::list_shut(conn).await?;
        self.refresh(changes, shut);
        Ok(())
    }

    fn set(&self, dependency: &str, shut: bool) {
        let mut known = lock(&self.shut);
        known.changes += 1;
        if shut {
            known.names.insert(dependency.to_owned());
        } else {
            known.names.remove(dependency);
        }
    }

    /// Hears how an attempt went, and opens or closes the breaker for all when that follows. A
    /// database that does not answer is no reason to fail the step: the next attempt tells again.
    pub(crate) async fn hear<T>(
        &self,
        pool: &PgPool,
        dependency: &'static str,
        probe: bool,
        result: &Result<T, StepError>,
    ) {
        let told = match (judge(result), probe) {
            (Verdict::Fails, _) if probe || self.count_failure(dependency) => {
                let reason = result
                    .as_ref()
                    .err()
                    .map(|error| format!("{}: {}", error.record.code, error.record.message));
                self.set(dependency, true);
                open(pool, dependency, &reason.unwrap_or_default()).await
            }
            (Verdict::Answers | Verdict::Says, true) => {
                lock(&self.failures).remove(dependency);
                self.set(dependency, false);
                close(pool, dependency).await
            }
            (Verdict::Answers, false) => {
                lock(&self.failures).remove(dependency);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = told {
            tracing::warn!(
                dependency,
                error = %error,
                "cannot tell the others about a dependency"
            );
        }
    }

    /// Counts; true when it is enough.
    fn count_failure(&self, dependency: &'static str) -> bool {
        let mut failures = lock(&self.failures);
        let count = failures.entry(dependency).or_default();
        *count += 1;
        if *count >= FAILURES_TO_OPEN {
            failures.remove(dependency);
            return true;
        }
        false
    }
}

fn judge<T>(result: &Result<T, StepError>) -> Verdict {
    match result {
        Ok(_) => Verdict::Answers,
        Err(error) => match error.retry {
            // "Never" is what the outside said, so it is there.
            Retry::Never => Verdict::Answers,
            Retry::After(_) => Verdict::Says,
            // Nobody knows what it would have said.
            Retry::Away => Verdict::Silent,
            Retry::ByPolicy => Verdict::Fails,
        },
    }
}

/// How long a breaker stays open before a probe, after so many trips in a row.
fn pause(trips: i32) -> Duration {
    let doublings = u32::try_from(trips.saturating_sub(1)).unwrap_or(0).min(16);
    (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
}

async fn open(pool: &PgPool, dependency: &str, reason: &str) -> sqlx::Result<()> {
    let mut tx = crate::pool::begin(pool).await?;
    store::breaker::ensure(&mut tx, dependency).await?;
    let Some(mut row) = store::breaker::lock(&mut tx, dependency).await? else {
        return Ok(());
    };
    // Another process may have opened it a moment ago; an operator's word stands above ours.
    if row.state == BreakerState::Open {
        return Ok(());
    }
    row.trips += 1;
    row.state = BreakerState::Open;
    row.changed_at = row.now;
    row.changed_by = None;
    reason.clone_into(&mut row.reason);
    let pause = TimeDelta::from_std(pause(row.trips)).unwrap_or(TimeDelta::MAX);
    row.probe_at = Some(row.now + pause);
    store::breaker::store(&mut tx, &row).await?;
    tx.commit().await?;
    tracing::error!(
        dependency,
        reason,
        pause_seconds = pause.num_seconds(),
        "a dependency keeps failing; steps on it wait"
    );
    Ok(())
}

async fn close(pool: &PgPool, dependency: &str) -> sqlx::Result<()> {
    let mut tx = crate::pool::begin(pool).await?;
    if let Some(mut row) = store::breaker::lock(&mut tx, dependency).await?
        && row.state == BreakerState::Probing
    {
        row.state = BreakerState::Closed;
        row.trips = 0;
        row.changed_at = row.now;
        row.probe_at = None;
        store::breaker::store(&mut tx, &row).await?;
        tracing::info!(dependency, "a dependency answers again");
    }
    tx.commit().await?;
    let door = Door::Breaker {
        name: dependency.to_owned(),
    };
    gate::wake(pool, &door).await?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        assert_eq!(pause(1), FIRST_PAUSE);
        assert_eq!(pause(2), FIRST_PAUSE * 2);
        assert_eq!(pause(99), LONGEST_PAUSE);
    }

    #[test]
    fn five_failures_in_a_row_are_enough_and_are_counted_anew() {
        let breakers = Breakers::default();
        let counts: Vec<bool> = (0..6).map(|_| breakers.count_failure("stripe")).collect();
        assert_eq!(counts, [false, false, false, false, true, false]);
    }

    #[test]
    fn a_refusal_and_a_request_for_patience_are_answers() {
        let fails = StepError::retryable("timed_out", "");
        let never = StepError::terminal("no", "");
        assert_eq!(judge::<()>(&Err(fails)), Verdict::Fails);
        assert_eq!(judge::<()>(&Err(never)), Verdict::Answers);
        assert_eq!(judge(&Ok(())), Verdict::Answers);
    }
}
