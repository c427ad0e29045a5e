//! Who comes through the gate, decided purely: what is in use, what is asked for, who was first.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::door::{Door, Place, Waiting};
use crate::id::{RunId, TenantId};
use crate::limit::{Need, Rate};

/// A limit's numbers, with the database's time.
#[derive(Debug, Clone)]
pub(crate) struct LimitRow {
    pub(crate) name: String,
    pub(crate) concurrency: Option<i32>,
    pub(crate) rate: Option<i32>,
    pub(crate) period_seconds: Option<i32>,
    pub(crate) burst: Option<i32>,
    pub(crate) now: DateTime<Utc>,
}

impl LimitRow {
    fn rate(&self) -> Option<Rate> {
        let number = |value: Option<i32>| value.and_then(|n| u32::try_from(n).ok());
        Some(Rate {
            count: number(self.rate)?,
            period_seconds: number(self.period_seconds)?,
            burst: number(self.burst)?,
        })
    }
}

/// How much of a limit is in use under one key.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    pub(crate) place: Place,
    pub(crate) in_use: i64,
    /// Somebody waits already; who comes now goes behind.
    pub(crate) awaited: bool,
    pub(crate) tokens: Option<f64>,
    pub(crate) refilled_at: Option<DateTime<Utc>>,
}

impl Use {
    /// Tokens by now; without end when there is no rate.
    fn tokens(&self, limit: &LimitRow) -> f64 {
        let Some(rate) = limit.rate() else {
            return f64::INFINITY;
        };
        let burst = f64::from(rate.burst);
        let (Some(tokens), Some(at)) = (self.tokens, self.refilled_at) else {
            return burst;
        };
        let elapsed = (limit.now - at).as_seconds_f64().max(0.0);
        (tokens + elapsed * rate.tokens_per_second()).min(burst)
    }

    /// How many more may begin.
    pub(super) fn room(&self, limit: &LimitRow) -> i64 {
        let slots = limit
            .concurrency
            .map_or(i64::MAX, |most| i64::from(most) - self.in_use);
        let tokens = self.tokens(limit);
        let tokens = if tokens.is_finite() {
            tokens.floor() as i64
        } else {
            i64::MAX
        };
        slots.min(tokens).max(0)
    }

    /// The bucket after `taken` have begun; `None` without a rate.
    pub(super) fn bucket(&self, limit: &LimitRow, taken: i64, awaited: bool) -> Option<Bucket> {
        let rate = limit.rate()?;
        let tokens = self.tokens(limit) - taken as f64;
        let lacking = (1.0 - tokens).max(0.0) / rate.tokens_per_second();
        let ahead = TimeDelta::microseconds((lacking * 1e6).ceil() as i64);
        // With a token there, what is lacking is a slot, and its release wakes the next.
        let wake_at = (awaited && tokens < 1.0).then(|| limit.now + ahead);
        Some(Bucket {
            place: self.place.clone(),
            tokens,
            wake_at,
        })
    }
}

/// A token bucket as it is written down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) place: Place,
    pub(crate) tokens: f64,
    pub(crate) wake_at: Option<DateTime<Utc>>,
}

/// A pause of more than one run.
#[derive(Debug, Clone)]
pub(crate) struct PauseRow {
    pub(crate) scope: String,
    pub(crate) name: String,
}

/// Who stands at the gate, and what it needs.
pub(super) struct Asker<'a> {
    pub(super) run_id: RunId,
    pub(super) tenant_id: TenantId,
    pub(super) workflow: &'a str,
    pub(super) queue: &'a str,
    pub(super) needs: Vec<Need>,
    /// Somebody wants it to end: no door is closed to it.
    pub(super) passes: bool,
}

/// What the gate sees while it decides.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) pauses: Vec<PauseRow>,
    pub(super) limits: HashMap<String, LimitRow>,
    pub(super) uses: HashMap<Place, Use>,
    /// Permits that runs came with, reserved when they were woken.
    pub(super) reserved: HashMap<RunId, HashSet<Place>>,
    taken: HashMap<Place, i64>,
}

impl View {
    /// Lets the run in and takes the room that it needs, or says where it waits.
    pub(super) fn judge(&mut self, asker: &Asker<'_>) -> Result<Vec<Place>, Door> {
        if asker.passes {
            return Ok(Vec::new());
        }
        if let Some(pause) = self.pauses.iter().find(|pause| asker.is_under(pause)) {
            return Err(Door::Pause {
                scope: pause.scope.clone(),
                name: pause.name.clone(),
            });
        }
        let needs: Vec<Place> = asker.needs.iter().map(Place::of).collect();
        let reserved = self.reserved.get(&asker.run_id).cloned();
        let reserved = reserved.unwrap_or_default();
        let is_new = |place: &&Place| !reserved.contains(*place);
        let mut new = needs.iter().filter(is_new);
        if let Some(place) = new.find(|place| !self.has_room(place)) {
            return Err(place.clone().door());
        }
        for place in needs.iter().filter(is_new) {
            *self.taken.entry(place.clone()).or_default() += 1;
        }
        // A probe is no need of the workflow's, but it goes with the run.
        let probes = reserved
            .into_iter()
            .filter(|place| place.probes().is_some());
        Ok(needs.into_iter().chain(probes).collect())
    }

    fn has_room(&self, place: &Place) -> bool {
        let (Some(limit), Some(in_use)) = (self.limits.get(&place.name), self.uses.get(place))
        else {
            return true;
        };
        let taken = self.taken.get(place).copied().unwrap_or(0);
        !in_use.awaited && in_use.room(limit) > taken
    }

    /// The buckets as they stand now: what was taken, and who waits.
    pub(super) fn buckets(&self, waiting: &[Waiting]) -> Vec<Bucket> {
        let bucket = |(place, in_use): (&Place, &Use)| {
            let limit = self.limits.get(&place.name)?;
            let taken = self.taken.get(place).copied().unwrap_or(0);
            let door = place.clone().door();
            let awaited = in_use.awaited || waiting.iter().any(|one| one.door == door);
            in_use.bucket(limit, taken, awaited)
        };
        self.uses.iter().filter_map(bucket).collect()
    }
}

impl Asker<'_> {
    fn is_under(&self, pause: &PauseRow) -> bool {
        match pause.scope.as_str() {
            "workflow" => pause.name == self.workflow,
            "queue" => pause.name == self.queue,
            "tenant" => pause.name == self.tenant_id.to_string(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ShardId, TenantId};
    use crate::limit::Limit;

    const SLOTS: Limit = Limit::named("slots").concurrency(2);

    fn row(concurrency: Option<i32>, rate: Option<(i32, i32, i32)>) -> LimitRow {
        LimitRow {
            name: "slots".to_owned(),
            concurrency,
            rate: rate.map(|(count, ..)| count),
            period_seconds: rate.map(|(_, period, _)| period),
            burst: rate.map(|(.., burst)| burst),
            now: DateTime::from_timestamp(1_000, 0).unwrap(),
        }
    }

    fn in_use(count: i64, tokens: Option<f64>) -> Use {
        Use {
            place: Place::of(&SLOTS.shared()),
            in_use: count,
            awaited: false,
            tokens,
            refilled_at: tokens.and(DateTime::from_timestamp(990, 0)),
        }
    }

    fn view(limit: LimitRow, in_use: Use) -> View {
        View {
            limits: HashMap::from([("slots".to_owned(), limit)]),
            uses: HashMap::from([(in_use.place.clone(), in_use)]),
            ..View::default()
        }
    }

    fn asker() -> Asker<'static> {
        let shard = ShardId::any();
        Asker {
            run_id: RunId::new(shard),
            tenant_id: TenantId::new(shard),
            workflow: "payment",
            queue: "default",
            needs: vec![SLOTS.shared()],
            passes: false,
        }
    }

    #[test]
    fn room_is_taken_by_one_after_the_other_until_none_is_left() {
        let mut view = view(row(Some(2), None), in_use(1, None));
        assert!(view.judge(&asker()).is_ok());
        let door = view.judge(&asker()).unwrap_err();
        assert_eq!(door, Place::of(&SLOTS.shared()).door());
    }

    #[test]
    fn who_comes_goes_behind_who_waits_unless_its_room_was_reserved() {
        let place = Place::of(&SLOTS.shared());
        let mut view = view(row(Some(5), None), in_use(1, None));
        view.uses.get_mut(&place).unwrap().awaited = true;
        assert!(view.judge(&asker()).is_err());
        let woken = asker();
        view.reserved
            .insert(woken.run_id, HashSet::from([place.clone()]));
        assert_eq!(view.judge(&woken), Ok(vec![place]));
    }

    #[test]
    fn who_is_to_end_passes_a_pause_and_a_full_limit() {
        let mut view = view(row(Some(0), None), in_use(0, None));
        view.pauses.push(PauseRow {
            scope: "queue".to_owned(),
            name: "default".to_owned(),
        });
        assert_eq!(view.judge(&asker()).unwrap_err().gate(), "pause");
        let ending = Asker {
            passes: true,
            ..asker()
        };
        assert_eq!(view.judge(&ending), Ok(Vec::new()));
    }

    #[test]
    fn tokens_come_evenly_up_to_the_burst_and_tell_when_the_next_one_is_there() {
        // One every 4 seconds; 10 seconds have passed since there was half a token.
        let limit = row(None, Some((15, 60, 5)));
        let bucket = in_use(0, Some(0.5));
        assert_eq!(bucket.room(&limit), 3);
        assert_eq!(in_use(0, Some(4.9)).room(&limit), 5);
        assert_eq!(in_use(0, None).room(&limit), 5);
        let after = bucket.bucket(&limit, 3, true).unwrap();
        assert_eq!(after.tokens, 0.0);
        assert_eq!(after.wake_at, DateTime::from_timestamp(1_004, 0));
        assert_eq!(bucket.bucket(&limit, 3, false).unwrap().wake_at, None);
    }
}
