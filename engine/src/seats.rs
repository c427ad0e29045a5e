//! How many of a worker's connections the transactions of its visits may hold, and whose turn it is.
//!
//! A pool serves who comes first. With hundreds of visits in flight whose steps are transactions,
//! everybody would stand behind all of them: the committers, without which no visit ends, the claim, the
//! renewal of the lease, and the one transaction of whoever started something a moment ago. So some
//! connections are kept from visits; the more urgent level comes first for the rest, and within a level
//! tenants take turns; and while a queue stands there a worker claims no more than will soon be served, but
//! for what is more urgent than who waits.
//!
//! It is `transact` that takes a seat. A step that opens a connection of its own stands where all stand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::id::TenantId;
use crate::lanes::Lanes;
use crate::priority::Priority;

/// Connections that are kept for the engine's own statements, where there are as many.
const KEPT: usize = 6;
/// One seat in so many goes to the least urgent who wait, so that nobody waits for ever.
const BLIND: usize = 8;
/// How many may wait for each seat before nothing more is claimed.
const QUEUE: usize = 2;

/// The seats of one worker.
#[derive(Debug)]
pub(crate) struct Seats {
    count: usize,
    state: Mutex<State>,
    /// Rung when so few wait that more may be claimed.
    shorter: Notify,
}

#[derive(Debug)]
struct State {
    /// None while somebody waits.
    free: usize,
    waiting: Levels,
    /// Whether somebody had to wait since the room was last asked for.
    crowded: bool,
}

type Turn = oneshot::Sender<Seat>;

/// Who waits, the most urgent first.
#[derive(Debug, Default)]
struct Levels {
    levels: BTreeMap<Priority, Lanes<Turn>>,
    taken: usize,
}

impl Levels {
    fn len(&self) -> usize {
        self.up_to(Priority::Lowest)
    }

    /// How many wait on a level and on those before it.
    fn up_to(&self, level: Priority) -> usize {
        let levels = self.levels.range(..=level);
        levels.map(|(_, lanes)| lanes.len()).sum()
    }

    fn push(&mut self, tenant: TenantId, level: Priority, turn: Turn) {
        self.levels.entry(level).or_default().push(tenant, turn);
    }

    fn pop(&mut self) -> Option<Turn> {
        self.taken = (self.taken + 1) % BLIND;
        let mut waiting = self.levels.values_mut().filter(|lanes| lanes.len() > 0);
        let lanes = match self.taken {
            0 => waiting.next_back(),
            _ => waiting.next(),
        };
        lanes?.take(1).pop()
    }
}

/// The right to one connection; whoever waits gets it when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Option<Arc<Seats>>);

impl Seats {
    /// The seats at a pool of so many connections.
    pub(crate) fn of(connections: u32) -> Arc<Self> {
        let connections = connections as usize;
        let count = connections.saturating_sub(KEPT.min(connections / 2)).max(1);
        Arc::new(Self {
            count,
            state: Mutex::new(State {
                free: count,
                waiting: Levels::default(),
                crowded: false,
            }),
            shorter: Notify::new(),
        })
    }

    /// Waits until there is room again.
    pub(crate) async fn shorter(&self) {
        self.shorter.notified().await;
    }

    /// Takes a seat, when it is the tenant's turn on its level.
    pub(crate) async fn take(self: &Arc<Self>, tenant: TenantId, level: Priority) -> Seat {
        loop {
            let turn = {
                let mut state = self.lock();
                if state.free > 0 {
                    state.free -= 1;
                    return Seat(Some(self.clone()));
                }
                state.crowded = true;
                let (give, turn) = oneshot::channel();
                state.waiting.push(tenant, level, give);
                turn
            };
            if let Ok(seat) = turn.await {
                return seat;
            }
        }
    }

    /// How many runs more are worth claiming, and up to which level; without a bound where nobody has to
    /// wait. None, rather than a few: a claim costs as much however little it takes.
    pub(crate) fn room(&self) -> (usize, Priority) {
        let mut state = self.lock();
        let crowded = std::mem::take(&mut state.crowded);
        if state.waiting.len() == 0 && !crowded {
            return (usize::MAX, Priority::Lowest);
        }
        let rooms = Priority::ALL.iter().rev().map(|level| {
            let room = (self.count * QUEUE).saturating_sub(state.waiting.up_to(*level));
            (room, *level)
        });
        let mut enough = rooms.filter(|(room, _)| *room >= self.count);
        enough.next().unwrap_or((0, Priority::Highest))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a seat on to whoever is next and still there.
    fn hand_on(self: Arc<Self>) {
        let mut seat = Seat(None);
        loop {
            let mut state = self.lock();
            let next = state.waiting.pop();
            if state.waiting.len() == self.count * (QUEUE - 1) {
                self.shorter.notify_one();
            }
            let Some(next) = next else {
                state.free += 1;
                return;
            };
            drop(state);
            seat.0 = Some(self.clone());
            match next.send(seat) {
                Ok(()) => return,
                Err(mut back) => {
                    back.0 = None;
                    seat = back;
                }
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(seats) = self.0.take() {
            seats.hand_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId(Uuid::from_u128(number))
    }

    type Turn<'a> = Pin<Box<dyn Future<Output = Seat> + 'a>>;

    /// Asks once; the seat if it was to be had.
    fn ask(turn: &mut Turn<'_>) -> Option<Seat> {
        match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(seat) => Some(seat),
            Poll::Pending => None,
        }
    }

    fn turn(seats: &Arc<Seats>, number: u128) -> Turn<'_> {
        turn_of(seats, number, Priority::Normal)
    }

    fn turn_of(seats: &Arc<Seats>, number: u128, level: Priority) -> Turn<'_> {
        Box::pin(seats.take(tenant(number), level))
    }

    #[test]
    fn some_connections_are_kept_and_one_is_always_left() {
        let count = |connections| Seats::of(connections).count;
        assert_eq!(count(16), 10);
        assert_eq!(count(24), 18);
        assert_eq!(count(4), 2);
        assert_eq!(count(3), 2);
        assert_eq!((count(1), count(0)), (1, 1));
    }

    #[test]
    fn tenants_take_turns_and_a_seat_goes_on_to_who_is_still_there() {
        let seats = Seats::of(1);
        let held = ask(&mut turn(&seats, 1)).unwrap();
        let mut flood: Vec<Turn<'_>> = (0..5).map(|_| turn(&seats, 1)).collect();
        let mut other = turn(&seats, 2);
        for turn in flood.iter_mut().chain([&mut other]) {
            assert!(ask(turn).is_none());
        }
        drop(held);
        let first = ask(&mut flood[0]).expect("who came first");
        assert!(ask(&mut other).is_none());
        drop(first);
        let held = ask(&mut other).expect("then the other tenant, not the flood");
        // Two of the flood are given up: one before the seat is on its way to it, one after.
        drop(flood.remove(1));
        drop(held);
        drop(flood.remove(1));
        let held = ask(&mut flood[1]).expect("who still waits");
        assert!(ask(&mut flood[2]).is_none());
        drop(flood);
        drop(held);
        assert_eq!(seats.lock().free, 1, "nothing is lost");
        assert!(ask(&mut turn(&seats, 3)).is_some());
    }

    #[test]
    fn the_more_urgent_come_first_and_one_in_eight_is_of_the_others() {
        let seats = Seats::of(1);
        let mut held = ask(&mut turn(&seats, 1));
        let mut turns: Vec<(Priority, Turn<'_>)> = Vec::new();
        for level in [Priority::Low, Priority::Normal] {
            turns.extend((0..8).map(|number| (level, turn_of(&seats, number, level))));
        }
        for (_, turn) in &mut turns {
            assert!(ask(turn).is_none());
        }
        let mut served = Vec::new();
        while !turns.is_empty() {
            held = None;
            let mut at = 0;
            while held.is_none() {
                held = ask(&mut turns[at].1);
                at += 1;
            }
            served.push(turns.remove(at - 1).0);
        }
        drop(held);
        let low = |from: usize| {
            served[from..]
                .iter()
                .position(|level| *level == Priority::Low)
        };
        assert_eq!(
            (served.len(), low(0), low(8)),
            (16, Some(7), Some(1)),
            "{served:?}"
        );
    }

    #[test]
    fn while_some_wait_no_more_is_claimed_than_will_soon_be_served() {
        let seats = Seats::of(4);
        assert_eq!(seats.room(), (usize::MAX, Priority::Lowest));
        let held: Vec<Seat> = (0..2).map(|_| ask(&mut turn(&seats, 1)).unwrap()).collect();
        let free = (usize::MAX, Priority::Lowest);
        assert_eq!(seats.room(), free, "nobody waits");
        let mut waiting: Vec<Turn<'_>> = (0..6).map(|_| turn(&seats, 1)).collect();
        assert!(waiting.iter_mut().all(|turn| ask(turn).is_none()));
        let level = Priority::High;
        assert_eq!(seats.room(), (4, level), "more wait than twice the seats");
        waiting.push(turn(&seats, 2));
        assert!(waiting.iter_mut().all(|turn| ask(turn).is_none()));
        drop(waiting);
        drop(held);
        let room = (4, Priority::Lowest);
        assert_eq!(seats.room(), room, "somebody had to wait just before");
        assert_eq!(seats.room(), free);
    }
}
