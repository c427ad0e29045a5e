//! Runs counted by where they stand and what a deploy would mean for them. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rules::{Judged, Verdict};
use crate::id::RunId;

/// Live runs that share workflow, version, state and verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The workflow.
    pub workflow: String,
    /// The version that wrote the state; 0 for a run that was started from SQL and has no state yet.
    pub version: i32,
    /// The state.
    pub state: String,
    /// What the deploy would mean for them.
    pub verdict: Verdict,
    /// Whether that would strand them.
    pub stranded: bool,
    /// How many there are.
    pub runs: u64,
    /// Why, of the first of them that was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which they are, when that was asked for and they are not fine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub run_ids: Vec<RunId>,
}

/// What a deploy would mean, group by group. A run with an open journal or an unreadable signal is
/// in the group of its state, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// By workflow, version, state and verdict.
    pub groups: Vec<Group>,
}

impl Plan {
    /// Whether any run would be stranded.
    #[must_use]
    pub fn strands(&self) -> bool {
        self.stranded().next().is_some()
    }

    /// The groups that would be stranded.
    pub fn stranded(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.stranded)
    }
}

/// Where runs stand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) workflow: String,
    pub(super) version: i32,
    pub(super) state: String,
}

#[derive(Debug, Default)]
struct Count {
    runs: u64,
    reason: Option<String>,
    run_ids: Vec<RunId>,
    last: Option<RunId>,
}

/// Counts.
#[derive(Debug)]
pub(super) struct Tally {
    counts: BTreeMap<(Place, Verdict), Count>,
    keeps_ids: bool,
}

impl Tally {
    pub(super) fn new(keeps_ids: bool) -> Self {
        Self {
            counts: BTreeMap::new(),
            keeps_ids,
        }
    }

    /// Counts a run; once, when it comes several times in a row.
    pub(super) fn add(&mut self, place: Place, run: RunId, (verdict, reason): Judged) {
        let count = self.counts.entry((place, verdict)).or_default();
        if count.last.replace(run) == Some(run) {
            return;
        }
        count.runs += 1;
        if count.reason.is_none() {
            count.reason = reason;
        }
        if self.keeps_ids && verdict != Verdict::Fine {
            count.run_ids.push(run);
        }
    }

    /// Counts a run once more, for something that lies beside its state and is not fine.
    pub(super) fn add_beside(&mut self, place: Place, run: RunId, judged: Judged) {
        if judged.0 != Verdict::Fine {
            self.add(place, run, judged);
        }
    }

    pub(super) fn close(self) -> Plan {
        let groups = self.counts.into_iter().map(|((place, verdict), count)| {
            let Place {
                workflow,
                version,
                state,
            } = place;
            Group {
                workflow,
                version,
                state,
                verdict,
                stranded: verdict.strands(),
                runs: count.runs,
                reason: count.reason,
                run_ids: count.run_ids,
            }
        });
        Plan {
            groups: groups.collect(),
        }
    }
}
