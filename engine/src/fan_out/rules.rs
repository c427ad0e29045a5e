//! What a fan-out does next: counts in, a batch, a wait or the join out. Pure.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Ended, Join};
use crate::run::Status;
use crate::transition::ClosePolicy;

/// The most children that one transaction starts.
pub(crate) const BATCH: u32 = 256;

/// Where a fan-out is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Going {
    pub(crate) workflow: String,
    pub(crate) total: u32,
    pub(crate) at_most: u32,
    pub(crate) join: Join,
    pub(crate) close: ClosePolicy,
    /// Items below this place have their child.
    pub(crate) started: u32,
    pub(crate) ended: Ended,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    /// Start these items; `again` says that there is room for more than one batch.
    Start { items: Range<u32>, again: bool },
    /// Until a child ends.
    Wait,
    /// It is over.
    Join,
}

impl Going {
    /// How many live.
    pub(crate) fn alive(&self) -> u32 {
        self.started.saturating_sub(self.ended.sum())
    }

    /// Counts what ended and says what follows; a start is counted too.
    pub(super) fn next(&mut self, ended: &[Status]) -> Then {
        for status in ended {
            self.count(*status);
        }
        if self.is_joined() {
            return Then::Join;
        }
        let room = self.at_most.saturating_sub(self.alive());
        let wanted = room.min(self.total - self.started);
        if wanted == 0 {
            return Then::Wait;
        }
        let items = self.started..self.started + wanted.min(BATCH);
        self.started = items.end;
        Then::Start {
            items,
            again: wanted > BATCH,
        }
    }

    fn count(&mut self, status: Status) {
        match status {
            Status::Completed => self.ended.completed += 1,
            Status::Cancelled => self.ended.cancelled += 1,
            Status::Terminated => self.ended.terminated += 1,
            _ => self.ended.failed += 1,
        }
    }

    fn is_joined(&self) -> bool {
        let ended = self.ended.sum();
        let open = self.total.saturating_sub(ended);
        open == 0
            || match self.join {
                Join::All => false,
                Join::FirstFailure => ended > self.ended.completed,
                Join::Any(enough) => {
                    self.ended.completed >= enough || self.ended.completed + open < enough
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn going(total: u32, at_most: u32, join: Join) -> Going {
        Going {
            workflow: "copy".to_owned(),
            total,
            at_most,
            join,
            close: ClosePolicy::Leave,
            started: 0,
            ended: Ended::default(),
        }
    }

    fn start(items: Range<u32>, again: bool) -> Then {
        Then::Start { items, again }
    }

    #[test]
    fn nothing_to_start_joins_at_once() {
        assert_eq!(going(0, 4, Join::All).next(&[]), Then::Join);
        assert_eq!(going(5, 4, Join::Any(0)).next(&[]), Then::Join);
    }

    #[test]
    fn the_next_starts_as_one_ends_and_never_more_live() {
        let mut fan = going(5, 2, Join::All);
        assert_eq!(fan.next(&[]), start(0..2, false));
        assert_eq!(fan.next(&[]), Then::Wait);
        assert_eq!(fan.next(&[Status::Completed]), start(2..3, false));
        assert_eq!(fan.alive(), 2);
        let both = [Status::Failed, Status::Terminated];
        assert_eq!(fan.next(&both), start(3..5, false));
        assert_eq!(fan.next(&[Status::Cancelled]), Then::Wait);
        assert_eq!(fan.next(&[Status::Completed]), Then::Join);
        assert_eq!(fan.ended.sum(), 5);
    }

    #[test]
    fn a_transaction_starts_one_batch() {
        let mut fan = going(2 * BATCH + 1, 10_000, Join::All);
        assert_eq!(fan.next(&[]), start(0..BATCH, true));
        assert_eq!(fan.next(&[]), start(BATCH..2 * BATCH, true));
        assert_eq!(fan.next(&[]), start(2 * BATCH..2 * BATCH + 1, false));
    }

    #[test]
    fn a_join_comes_early_where_it_is_wanted_and_where_it_cannot_come_any_more() {
        let mut first = going(5, 5, Join::FirstFailure);
        first.next(&[]);
        assert_eq!(first.next(&[Status::Completed]), Then::Wait);
        assert_eq!(first.next(&[Status::Cancelled]), Then::Join);
        let mut any = going(5, 5, Join::Any(2));
        any.next(&[]);
        assert_eq!(any.next(&[Status::Completed, Status::Failed]), Then::Wait);
        assert_eq!(any.next(&[Status::Completed]), Then::Join);
        let mut lost = going(3, 3, Join::Any(2));
        lost.next(&[]);
        assert_eq!(lost.next(&[Status::Failed]), Then::Wait);
        assert_eq!(lost.next(&[Status::Failed]), Then::Join);
    }
}
