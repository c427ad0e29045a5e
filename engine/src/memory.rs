//! What a worker has been told of: the group commits of the last minutes, and the timeline they were
//! written on.
//!
//! A standby holds a beginning of the primary's log. So one row of each commit tells whether that
//! commit is there, and the newest tell whether anything is gone.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::clock;
use crate::plan::Settlement;
use crate::run::RunKey;
use crate::store::failover::Found;
use crate::store::step::StepRecord;

/// The most commits that are remembered: some seconds of a worker at its limit, half a megabyte.
const MOST: usize = 8_192;
/// How long a commit is remembered.
const LOOK_BACK: Duration = Duration::from_secs(120);

/// One commit that was acknowledged, by one of its rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    at: Instant,
    pub(crate) rows: i32,
    pub(crate) key: RunKey,
    /// Under which epoch it was written; 0 of a step, which does not know it.
    epoch: i64,
    /// The visit of a step; the one after a settlement.
    pub(crate) visit: i64,
    /// Of a step.
    pub(crate) seq: Option<i32>,
    /// The run may have been dropped since.
    finished: bool,
}

impl Ack {
    /// Whether what was acknowledged is gone.
    pub(crate) fn is_lost(&self, found: Found) -> bool {
        let (Some(epoch), Some(visit)) = (found.epoch, found.visit) else {
            return !self.finished;
        };
        epoch < self.epoch
            || match self.seq {
                // A later visit has cut the journal, and was after it.
                Some(_) => visit < self.visit || visit == self.visit && !found.recorded,
                None => visit < self.visit,
            }
    }
}

/// What a worker remembers, over its leases.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    acks: VecDeque<Ack>,
    timeline: Option<u32>,
    /// Until when the lease was, as the last renewal said.
    expires_at: Option<DateTime<Utc>>,
}

impl Memory {
    /// A commit of settlements has been acknowledged.
    pub(crate) fn settled(&self, settlement: &Settlement, rows: usize) {
        self.keep(Ack {
            at: clock::monotonic(),
            rows: i32::try_from(rows).unwrap_or(i32::MAX),
            key: settlement.run.key,
            epoch: settlement.run.epoch.0,
            visit: settlement.run.visit + i64::from(settlement.cut),
            seq: None,
            finished: settlement.status.is_finished(),
        });
    }

    /// A commit of step records has been acknowledged.
    pub(crate) fn recorded(&self, record: &StepRecord, rows: usize) {
        self.keep(Ack {
            at: clock::monotonic(),
            rows: i32::try_from(rows).unwrap_or(i32::MAX),
            key: record.key,
            epoch: 0,
            visit: record.visit,
            seq: Some(record.seq),
            finished: false,
        });
    }

    /// Hears a timeline; the one before when it is another.
    pub(crate) fn hear(&self, timeline: u32) -> Option<u32> {
        let before = self.lock().timeline.replace(timeline);
        before.filter(|before| *before != timeline)
    }

    /// The timeline that was last heard; 0 if none was.
    pub(crate) fn timeline(&self) -> u32 {
        self.lock().timeline.unwrap_or_default()
    }

    /// Hears until when the lease is, and until when it was before this renewal; true when that is
    /// earlier than what an earlier renewal was told.
    pub(crate) fn renewed(&self, before: DateTime<Utc>, expires_at: DateTime<Utc>) -> bool {
        let told = self.lock().expires_at.replace(expires_at);
        told.is_some_and(|told| before < told)
    }

    /// A new lease has begun.
    pub(crate) fn forget_lease(&self) {
        self.lock().expires_at = None;
    }

    /// What was acknowledged lately, the earliest first. It is not asked for twice.
    pub(crate) fn take(&self) -> Vec<Ack> {
        let now = clock::monotonic();
        let acks = std::mem::take(&mut self.lock().acks);
        let recent = acks.into_iter().filter(|ack| now - ack.at <= LOOK_BACK);
        recent.collect()
    }

    fn keep(&self, ack: Ack) {
        let mut memory = self.lock();
        if memory.acks.len() == MOST {
            memory.acks.pop_front();
        }
        memory.acks.push_back(ack);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{RunId, ShardId};

    fn ack(epoch: i64, visit: i64, seq: Option<i32>) -> Ack {
        Ack {
            at: clock::monotonic(),
            rows: 1,
            key: RunKey {
                run_id: RunId(uuid::Uuid::nil()),
                shard_id: ShardId(0),
            },
            epoch,
            visit,
            seq,
            finished: false,
        }
    }

    fn found(epoch: i64, visit: i64, recorded: bool) -> Found {
        Found {
            epoch: Some(epoch),
            visit: Some(visit),
            recorded,
        }
    }

    #[test]
    fn a_commit_is_lost_when_the_run_is_behind_it() {
        for (ack, found, lost) in [
            (ack(3, 5, None), found(3, 5, false), false),
            (ack(3, 5, None), found(4, 6, false), false),
            (ack(3, 5, None), found(3, 4, false), true),
            (ack(3, 5, None), found(2, 5, false), true),
            (ack(0, 5, Some(1)), found(3, 5, true), false),
            (ack(0, 5, Some(1)), found(3, 6, false), false),
            (ack(0, 5, Some(1)), found(3, 5, false), true),
            (ack(0, 5, Some(1)), found(2, 4, false), true),
        ] {
            assert_eq!(ack.is_lost(found), lost, "{ack:?} {found:?}");
        }
    }

    #[test]
    fn a_run_that_is_not_there_is_lost_unless_it_had_ended() {
        let nothing = Found {
            epoch: None,
            visit: None,
            recorded: false,
        };
        assert!(ack(1, 1, None).is_lost(nothing));
        let ended = Ack {
            finished: true,
            ..ack(1, 1, None)
        };
        assert!(!ended.is_lost(nothing));
    }

    #[test]
    fn a_lease_that_went_back_is_noticed() {
        let memory = Memory::default();
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        assert!(!memory.renewed(at(10), at(20)));
        assert!(!memory.renewed(at(20), at(30)));
        assert!(memory.renewed(at(20), at(35)));
        memory.forget_lease();
        assert!(!memory.renewed(at(1), at(40)));
    }

    #[test]
    fn the_first_timeline_is_no_change() {
        let memory = Memory::default();
        assert_eq!(memory.hear(1), None);
        assert_eq!(memory.hear(1), None);
        assert_eq!(memory.hear(2), Some(1));
        assert_eq!(memory.hear(1), Some(2));
    }
}
