//! After a failover: whether commits that were acknowledged are gone; and before one: whether they
//! could be.
//!
//! A worker hears the timeline of Postgres with each renewal of its lease, and until when its lease
//! was. When the timeline is another, or the lease went back, it looks up what it has been told was
//! committed in the last two minutes: settlements and step records, one of each group commit. What
//! is missing is logged, counted and written down, so that people know that steps may be repeated.
//!
//! Nothing need be mended: a run whose settlement is gone stands where it stood before and goes on
//! from there, with the same keys for what it does outside. What is *not* seen: starts and signals
//! that the API acknowledged and that no worker had touched, `transact`s without a later commit of
//! the same worker, what workers did who went away with the primary, and whatever is older.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use crate::error::EngineError;
use crate::id::{self, RunId};
use crate::memory::Memory;
use crate::store;
use crate::tally;

/// A failover that a worker noticed, and what was gone after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failover {
    /// When it was noticed, in the engine's time.
    pub noticed_at: DateTime<Utc>,
    /// The worker's name.
    pub worker: String,
    /// The timeline of Postgres before; 0 if the server does not tell.
    pub timeline_before: i64,
    /// The timeline after; a lower one is an old primary's.
    pub timeline_after: i64,
    /// How many acknowledged commits were looked up.
    pub checked: i32,
    /// How many of them were gone.
    pub lost_commits: i32,
    /// How many step records and settlements those had held.
    pub lost_rows: i32,
    /// A run of the earliest commit that was gone.
    pub first_lost_run: Option<RunId>,
}

/// Why commits that were acknowledged could be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Risk {
    /// `fsync` is off.
    NotSynced,
    /// `synchronous_commit` is off: a crash loses the last commits.
    NotWaiting,
    /// Standbys are there, and commits do not wait for them: a failover loses the last ones.
    StandbysBehind,
}

impl Risk {
    /// In words, with what to do.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::NotSynced => {
                "fsync is off: a power cut loses what was acknowledged, or the whole database"
            }
            Self::NotWaiting => {
                "synchronous_commit is off: a crash loses the commits acknowledged last; set it to on"
            }
            Self::StandbysBehind => {
                "standbys are attached and commits do not wait for them: a failover may lose the \
                 commits acknowledged last; set synchronous_standby_names, and synchronous_commit to on"
            }
        }
    }
}

/// What the server says of durability.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) fsync: bool,
    pub(crate) synchronous_commit: String,
    pub(crate) synchronous_standby: bool,
    pub(crate) replicas: i64,
}

impl Setup {
    fn risks(&self) -> Vec<Risk> {
        let mut risks = Vec::new();
        if !self.fsync {
            risks.push(Risk::NotSynced);
        }
        if self.synchronous_commit == "off" {
            risks.push(Risk::NotWaiting);
        }
        let waits = self.synchronous_standby
            && matches!(
                self.synchronous_commit.as_str(),
                "on" | "remote_apply" | "remote_write"
            );
        if !waits && (self.replicas > 0 || self.synchronous_standby) {
            risks.push(Risk::StandbysBehind);
        }
        risks
    }
}

/// Why commits could be lost as the database is set up now. A managed service that replicates below
/// Postgres shows nothing of it, and has no risk here.
///
/// # Errors
/// When the database does not answer.
pub async fn risks(conn: &mut PgConnection) -> Result<Vec<Risk>, EngineError> {
    Ok(store::failover::setup(conn).await?.risks())
}

/// The latest failovers that workers noticed, the newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(conn: &mut PgConnection, limit: u32) -> Result<Vec<Failover>, EngineError> {
    Ok(store::failover::list(conn, i64::from(limit)).await?)
}

/// Looks up what the worker was told before it came from timeline `before` to the present one.
pub(crate) async fn look_up(
    pool: &PgPool,
    memory: &Memory,
    worker: &str,
    before: u32,
) -> sqlx::Result<()> {
    let mut conn = pool.acquire().await?;
    let acks = memory.take();
    let found = store::failover::look_up(&mut conn, &acks).await?;
    let lost: Vec<_> = acks
        .iter()
        .zip(found)
        .filter(|(ack, found)| ack.is_lost(*found))
        .map(|(ack, _)| ack)
        .collect();
    let rows = lost.iter().map(|ack| ack.rows);
    let failover = Failover {
        noticed_at: DateTime::UNIX_EPOCH,
        worker: worker.to_owned(),
        timeline_before: i64::from(before),
        timeline_after: i64::from(memory.timeline()),
        checked: i32::try_from(acks.len()).unwrap_or(i32::MAX),
        lost_commits: i32::try_from(lost.len()).unwrap_or(i32::MAX),
        lost_rows: rows.fold(0, i32::saturating_add),
        first_lost_run: lost.first().map(|ack| ack.key.run_id),
    };
    tell(&failover);
    store::failover::insert(&mut conn, id::random_uuid(), &failover).await
}

fn tell(failover: &Failover) {
    tally::failed_over(failover.lost_commits.unsigned_abs().into());
    let (before, after) = (failover.timeline_before, failover.timeline_after);
    if after < before {
        tracing::error!(
            timeline.before = before,
            timeline.after = after,
            "the database went back to an older timeline: an old primary takes the writes"
        );
    }
    if failover.lost_commits > 0 {
        tracing::error!(
            timeline.before = before,
            timeline.after = after,
            commits = failover.lost_commits,
            rows = failover.lost_rows,
            run.id = ?failover.first_lost_run,
            "commits that were acknowledged are gone; what they held is done again"
        );
    } else {
        tracing::warn!(
            timeline.before = before,
            timeline.after = after,
            commits = failover.checked,
            "the database failed over; all commits that were looked up are there"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_lose_commits_is_told() {
        let setup = |synchronous_commit: &str, synchronous_standby, replicas| Setup {
            fsync: true,
            synchronous_commit: synchronous_commit.to_owned(),
            synchronous_standby,
            replicas,
        };
        for (setup, expected) in [
            (setup("on", false, 0), vec![]),
            (setup("on", true, 1), vec![]),
            (setup("on", false, 1), vec![Risk::StandbysBehind]),
            (setup("local", true, 1), vec![Risk::StandbysBehind]),
            (setup("local", false, 0), vec![]),
            (
                setup("off", false, 2),
                vec![Risk::NotWaiting, Risk::StandbysBehind],
            ),
            (setup("remote_apply", true, 2), vec![]),
        ] {
            assert_eq!(setup.risks(), expected, "{setup:?}");
        }
        let unsynced = Setup {
            fsync: false,
            ..setup("on", false, 0)
        };
        assert_eq!(unsynced.risks(), [Risk::NotSynced]);
    }
}
