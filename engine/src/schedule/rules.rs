//! What becomes of a schedule's slots at one look. Pure: [`decide`] is given all that it needs and
//! says all that follows; `fire.rs` writes it down.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cron::Cron;
use crate::id::ScheduleId;

/// How late a slot may be and still not count as missed.
pub(crate) const GRACE: TimeDelta = TimeDelta::seconds(60);
/// The most slots that one look starts; a longer backlog goes on at the next one.
pub(crate) const MAX_PER_LOOK: usize = 100;
/// The most slots that wait for an earlier run, where all are made up.
pub(crate) const MAX_QUEUED: usize = 100;
/// How soon a waiting slot is looked at again, at first and at the latest.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What a slot does while a run of an earlier slot has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is skipped, visibly.
    Skip,
    /// It waits until the earlier run ends. With catch-up *all* up to a hundred slots wait and
    /// later ones are held back, else the latest one.
    Queue,
    /// It starts all the same.
    Allow,
    /// The earlier run is asked to cancel; the slot starts when it has ended.
    Replace,
}

/// Which of the slots that nobody was there for are made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// None that is older than a minute.
    None,
    /// The latest.
    One,
    /// All of them, in order. With overlap *replace* this is the latest, because each slot would
    /// replace the one before.
    All,
}

impl Overlap {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Skip, Self::Queue, Self::Allow, Self::Replace];

    /// The stored spelling.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::Allow => "allow",
            Self::Replace => "replace",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}

impl CatchUp {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::One, Self::All];

    /// The stored spelling.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::One => "one",
            Self::All => "all",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}

/// Why a slot was skipped, as stored.
pub(crate) mod reason {
    pub(crate) const MISSED: &str = "missed";
    pub(crate) const OVERLAP: &str = "overlap";
    pub(crate) const REPLACED: &str = "replaced";
}

/// A schedule as a look finds it; all instants are the tenant's time.
#[derive(Debug, Clone)]
pub(crate) struct Look<'a> {
    pub(crate) cron: Cron,
    pub(crate) zone: Tz,
    pub(crate) overlap: Overlap,
    pub(crate) catch_up: CatchUp,
    pub(crate) next_slot: Option<DateTime<Utc>>,
    pub(crate) now: DateTime<Utc>,
    /// Whether a run of an earlier slot has not ended.
    pub(crate) busy: bool,
    /// The slots that wait, oldest first.
    pub(crate) queued: &'a [DateTime<Utc>],
}

/// What becomes of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Start,
    Queue,
    Skip {
        until: Option<DateTime<Utc>>,
        reason: &'static str,
    },
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The slots that are decided on now, in order.
    pub(crate) slots: Vec<(DateTime<Utc>, Verdict)>,
    /// How many of the waiting slots start now, oldest first.
    pub(crate) released: usize,
    /// How many of the waiting slots are replaced by a later one, oldest first after the released.
    pub(crate) dropped: usize,
    /// Whether the runs of earlier slots are asked to cancel.
    pub(crate) cancel: bool,
    /// The first slot that is not decided on.
    pub(crate) next_slot: Option<DateTime<Utc>>,
    /// Whether more slots are due than one look takes.
    pub(crate) more: bool,
    /// Whether a slot waits for an earlier run to end.
    pub(crate) waits: bool,
}

/// The slots that a look has to decide on.
struct Due {
    missed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    slots: Vec<DateTime<Utc>>,
    next_slot: Option<DateTime<Utc>>,
    more: bool,
}

/// Decides on all slots that are due.
pub(crate) fn decide(look: &Look<'_>) -> Plan {
    let due = due(look);
    let mut plan = Plan {
        slots: Vec::new(),
        released: 0,
        dropped: 0,
        cancel: false,
        next_slot: due.next_slot,
        more: due.more,
        waits: false,
    };
    if let Some((first, last)) = due.missed {
        let until = (last > first).then_some(last);
        let reason = reason::MISSED;
        plan.slots.push((first, Verdict::Skip { until, reason }));
    }
    let mut busy = look.busy;
    let mut waiting = look.queued.len();
    match look.overlap {
        Overlap::Allow => plan.released = waiting,
        Overlap::Replace if !due.slots.is_empty() => plan.dropped = waiting,
        _ if !busy && waiting > 0 => {
            plan.released = 1;
            busy = true;
        }
        _ => {}
    }
    waiting -= plan.released + plan.dropped;
    for slot in due.slots {
        let verdict = match look.overlap {
            Overlap::Allow => Verdict::Start,
            _ if !busy && waiting == 0 => {
                busy = true;
                Verdict::Start
            }
            Overlap::Skip => Verdict::Skip {
                until: None,
                reason: reason::OVERLAP,
            },
            Overlap::Queue if look.catch_up == CatchUp::All && waiting >= MAX_QUEUED => {
                // Nothing is lost: the slot stays undecided until there is room.
                plan.next_slot = Some(slot);
                plan.more = false;
                break;
            }
            Overlap::Queue => {
                if look.catch_up != CatchUp::All && waiting > 0 {
                    plan.replace_waiting(look.queued.len());
                    waiting = 0;
                }
                waiting += 1;
                Verdict::Queue
            }
            Overlap::Replace => {
                plan.cancel = true;
                waiting += 1;
                Verdict::Queue
            }
        };
        plan.slots.push((slot, verdict));
    }
    plan.waits = waiting > 0;
    plan
}

impl Plan {
    /// Gives up the slots that wait, for a later one.
    fn replace_waiting(&mut self, queued: usize) {
        self.dropped = queued - self.released;
        for (_, verdict) in &mut self.slots {
            if *verdict == Verdict::Queue {
                *verdict = Verdict::Skip {
                    until: None,
                    reason: reason::REPLACED,
                };
            }
        }
    }
}

/// Which slots are due, after the catch-up policy.
fn due(look: &Look<'_>) -> Due {
    let none = Due {
        missed: None,
        slots: Vec::new(),
        next_slot: look.next_slot,
        more: false,
    };
    let Some(first) = look.next_slot.filter(|slot| *slot <= look.now) else {
        return none;
    };
    let following = |at: DateTime<Utc>| look.cron.slots_after(at, look.zone);
    let from = |at: DateTime<Utc>| following(at - TimeDelta::seconds(1));
    let catch_up = match (look.overlap, look.catch_up) {
        (Overlap::Replace, CatchUp::All) => CatchUp::One,
        (_, catch_up) => catch_up,
    };
    // The first slot counts as it is stored, also where the zone's rules have changed since.
    let slots: Vec<_> = match catch_up {
        CatchUp::All => std::iter::once(first)
            .chain(following(first).take_while(|slot| *slot <= look.now))
            .take(MAX_PER_LOOK)
            .collect(),
        CatchUp::One => vec![latest(look, first, look.now).unwrap_or(first)],
        CatchUp::None if first >= look.now - GRACE => std::iter::once(first)
            .chain(following(first).take_while(|slot| *slot <= look.now))
            .collect(),
        CatchUp::None => from(look.now - GRACE)
            .take_while(|slot| *slot <= look.now)
            .filter(|slot| *slot >= look.now - GRACE)
            .collect(),
    };
    // Of several slots only the last would survive a replacement.
    let kept = match look.overlap {
        Overlap::Replace => slots.len().saturating_sub(1),
        _ => 0,
    };
    let slots = slots[kept..].to_vec();
    let decided_from = slots.first().copied();
    let missed_until = decided_from.map_or(look.now, |slot| slot - TimeDelta::seconds(1));
    let missed = (decided_from != Some(first))
        .then(|| (first, latest(look, first, missed_until).unwrap_or(first)));
    let last = match catch_up {
        CatchUp::All => slots.last().copied().unwrap_or(look.now),
        CatchUp::None | CatchUp::One => look.now,
    };
    let next_slot = following(last).next();
    Due {
        missed,
        slots,
        more: next_slot.is_some_and(|slot| slot <= look.now),
        next_slot,
    }
}

/// The latest slot from `first` until `until`. Looked for from short spans to long ones, so that a
/// year of minutes is not counted through.
fn latest(look: &Look<'_>, first: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let spans = [
        TimeDelta::hours(1),
        TimeDelta::days(1),
        TimeDelta::days(32),
        TimeDelta::days(367),
    ];
    let starts = spans.into_iter().map(|span| (until - span).max(first));
    starts.chain([first]).find_map(|start| {
        look.cron
            .slots_after(start - TimeDelta::seconds(1), look.zone)
            .take_while(|slot| *slot <= until)
            .last()
    })
}

/// By how much a slot's run is put off: the same for the same schedule and slot, every time.
pub(crate) fn jitter(schedule: ScheduleId, slot: DateTime<Utc>, seconds: i32) -> TimeDelta {
    let bound = u64::from(seconds.unsigned_abs()) * 1000 + 1;
    let mut hash = Sha256::new();
    hash.update(schedule.0.as_bytes());
    hash.update(slot.timestamp().to_be_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&hash.finalize()[..8]);
    let millis = u64::from_be_bytes(head) % bound;
    TimeDelta::milliseconds(i64::try_from(millis).unwrap_or_default())
}

/// How long to leave a waiting slot alone: a tenth of what it has waited, within bounds.
pub(crate) fn rest(waited: Duration, clocked: bool) -> Duration {
    let (soonest, latest) = REST;
    if clocked {
        // An advance of the clock waits for it.
        return soonest;
    }
    (waited / 10).clamp(soonest, latest)
}

/// The key of a slot's run.
pub(crate) fn slot_key(name: &str, slot: DateTime<Utc>) -> String {
    let slot = slot.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    format!("schedule/{name}/{slot}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2027-{text}:00Z").parse().unwrap()
    }

    fn look(cron: &str, overlap: Overlap, catch_up: CatchUp) -> Look<'static> {
        Look {
            cron: cron.parse().unwrap(),
            zone: Tz::UTC,
            overlap,
            catch_up,
            next_slot: Some(at("01-01T01:00")),
            now: at("01-01T04:30"),
            busy: false,
            queued: &[],
        }
    }

    /// The plan in words: `s` start, `q` queue, `-` skip, with hour and, of a stretch, its end.
    fn words(plan: &Plan) -> String {
        let word = |(slot, verdict): &(DateTime<Utc>, Verdict)| {
            let hour = slot.format("%H").to_string();
            match verdict {
                Verdict::Start => format!("s{hour}"),
                Verdict::Queue => format!("q{hour}"),
                Verdict::Skip { until, reason } => {
                    let until = until.map(|at| at.format("-%H").to_string());
                    format!("-{hour}{} {reason}", until.unwrap_or_default())
                }
            }
        };
        let slots: Vec<_> = plan.slots.iter().map(word).collect();
        slots.join(", ")
    }

    #[test]
    fn catch_up_says_which_missed_slots_are_made_up() {
        use CatchUp::{All, None, One};
        let hourly = |catch_up| decide(&look("0 * * * *", Overlap::Allow, catch_up));
        assert_eq!(words(&hourly(None)), "-01-04 missed");
        assert_eq!(words(&hourly(One)), "-01-03 missed, s04");
        assert_eq!(words(&hourly(All)), "s01, s02, s03, s04");
        for catch_up in CatchUp::ALL {
            let plan = hourly(catch_up);
            assert_eq!(plan.next_slot, Some(at("01-01T05:00")));
            assert!(!plan.more);
        }
        // A slot that is a little late is not missed.
        let mut late = look("0 * * * *", Overlap::Allow, None);
        late.now = at("01-01T04:01");
        assert_eq!(words(&decide(&late)), "-01-03 missed, s04");
        late.next_slot = Some(at("01-01T04:00"));
        assert_eq!(words(&decide(&late)), "s04");
        // One missed slot is no stretch.
        late.next_slot = Some(at("01-01T03:00"));
        late.catch_up = One;
        assert_eq!(words(&decide(&late)), "-03 missed, s04");
    }

    #[test]
    fn a_long_backlog_is_taken_in_parts_and_a_year_of_minutes_at_once() {
        let mut year = look("* * * * *", Overlap::Allow, CatchUp::All);
        year.now = at("12-31T00:00");
        let plan = decide(&year);
        assert_eq!(plan.slots.len(), MAX_PER_LOOK);
        assert!(plan.more);
        assert_eq!(plan.next_slot, Some(at("01-01T02:40")));
        year.catch_up = CatchUp::One;
        let plan = decide(&year);
        assert_eq!(plan.slots[1], (at("12-31T00:00"), Verdict::Start));
        let until = Some(at("12-30T23:59"));
        let reason = reason::MISSED;
        assert_eq!(plan.slots[0].1, Verdict::Skip { until, reason });
        assert_eq!(plan.next_slot, Some(at("12-31T00:01")));
        // Sparse slots are found as well.
        let mut sparse = look("0 1 1 1 *", Overlap::Allow, CatchUp::One);
        sparse.now = "2031-06-01T00:00:00Z".parse().unwrap();
        let latest: DateTime<Utc> = "2031-01-01T01:00:00Z".parse().unwrap();
        assert_eq!(decide(&sparse).slots[1], (latest, Verdict::Start));
    }

    #[test]
    fn overlap_says_what_a_slot_does_while_a_run_goes_on() {
        let plan = |overlap, busy| {
            let mut look = look("0 * * * *", overlap, CatchUp::All);
            look.now = at("01-01T02:00");
            look.busy = busy;
            decide(&look)
        };
        assert_eq!(words(&plan(Overlap::Allow, true)), "s01, s02");
        assert_eq!(
            words(&plan(Overlap::Skip, true)),
            "-01 overlap, -02 overlap"
        );
        assert_eq!(words(&plan(Overlap::Skip, false)), "s01, -02 overlap");
        assert_eq!(words(&plan(Overlap::Queue, true)), "q01, q02");
        assert_eq!(words(&plan(Overlap::Queue, false)), "s01, q02");
        let replaced = plan(Overlap::Replace, true);
        assert_eq!(words(&replaced), "-01 missed, q02");
        assert!(replaced.cancel && replaced.waits);
        let replaced = plan(Overlap::Replace, false);
        assert_eq!(words(&replaced), "-01 missed, s02");
        assert!(!replaced.cancel && !replaced.waits);
    }

    #[test]
    fn what_waits_starts_in_order_one_at_a_time() {
        let queued = [at("01-01T01:00"), at("01-01T02:00")];
        let mut look = look("0 * * * *", Overlap::Queue, CatchUp::All);
        look.next_slot = Some(at("01-01T05:00"));
        look.queued = &queued;
        let plan = decide(&look);
        assert_eq!((plan.released, plan.dropped, plan.waits), (1, 0, true));
        look.busy = true;
        let plan = decide(&look);
        assert_eq!((plan.released, plan.dropped, plan.waits), (0, 0, true));
        // The latest alone waits where not all are made up, and after a replacement.
        for (overlap, catch_up) in [
            (Overlap::Queue, CatchUp::One),
            (Overlap::Queue, CatchUp::None),
            (Overlap::Replace, CatchUp::All),
        ] {
            look.overlap = overlap;
            look.catch_up = catch_up;
            look.queued = &queued[..1];
            look.next_slot = Some(at("01-01T04:30"));
            let plan = decide(&look);
            assert_eq!((plan.released, plan.dropped), (0, 1), "{overlap:?}");
            assert_eq!(words(&plan), "q04");
        }
        look.overlap = Overlap::Allow;
        look.queued = &queued;
        assert_eq!(decide(&look).released, 2);
    }

    #[test]
    fn a_full_queue_holds_slots_back_and_loses_none() {
        let queued = [at("01-01T00:00"); MAX_QUEUED];
        let mut full = look("0 * * * *", Overlap::Queue, CatchUp::All);
        full.busy = true;
        full.queued = &queued;
        let plan = decide(&full);
        assert_eq!((plan.slots.len(), plan.more), (0, false));
        assert_eq!(plan.next_slot, full.next_slot);
        full.busy = false;
        let plan = decide(&full);
        assert_eq!(words(&plan), "q01");
        assert_eq!(plan.next_slot, Some(at("01-01T02:00")));
    }

    #[test]
    fn jitter_is_stable_within_its_bound_and_spreads() {
        let schedule = ScheduleId(uuid::Uuid::from_u128(7));
        let slots: Vec<_> = (0..200)
            .map(|hour| at("01-01T00:00") + TimeDelta::hours(hour))
            .collect();
        let all: Vec<_> = slots
            .iter()
            .map(|slot| jitter(schedule, *slot, 60))
            .collect();
        let again: Vec<_> = slots
            .iter()
            .map(|slot| jitter(schedule, *slot, 60))
            .collect();
        assert_eq!(all, again);
        assert!(
            all.iter()
                .all(|by| *by >= TimeDelta::zero() && *by <= TimeDelta::seconds(60))
        );
        assert!(all.iter().any(|by| *by < TimeDelta::seconds(15)));
        assert!(all.iter().any(|by| *by > TimeDelta::seconds(45)));
        assert_eq!(jitter(schedule, slots[0], 0), TimeDelta::zero());
    }

    #[test]
    fn every_policy_reads_back() {
        for overlap in Overlap::ALL {
            assert_eq!(Overlap::from_word(overlap.word()), Some(overlap));
        }
        for catch_up in CatchUp::ALL {
            assert_eq!(CatchUp::from_word(catch_up.word()), Some(catch_up));
        }
        assert_eq!(Overlap::from_word("drop"), None);
        assert_eq!(
            rest(Duration::from_secs(5), false),
            Duration::from_millis(500)
        );
        assert_eq!(rest(Duration::from_secs(9_999), false), REST.1);
    }
}
