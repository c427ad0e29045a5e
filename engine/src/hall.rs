//! Where visits run: the threads, how many runs are in flight, and what became of claims.
//!
//! Workflow code need not be `Send`, so each thread drives its runs as local tasks. A run that left
//! without a settlement is told apart, because the database may still book it as held here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::executor::{Departure, Executor, Held};
use crate::id::Epoch;
use crate::run::RunKey;

/// The threads on which visits run, and how many are in flight.
pub(crate) struct Hall {
    doors: Vec<mpsc::UnboundedSender<(i64, Held)>>,
    next: AtomicUsize,
    state: Arc<HallState>,
    lost: CancellationToken,
    threads: Vec<std::thread::JoinHandle<()>>,
}

struct HallState {
    size: usize,
    in_flight: AtomicUsize,
    freed: tokio::sync::Notify,
    batches: std::sync::Mutex<std::collections::HashMap<i64, usize>>,
    finished: std::sync::Mutex<Vec<i64>>,
    /// Runs that left without a settlement, with the epoch under which they were held.
    unclear: std::sync::Mutex<Vec<(RunKey, Epoch)>>,
    /// Holds that are over and had permits.
    spent: std::sync::Mutex<Vec<(RunKey, Epoch)>>,
    spending: tokio::sync::Notify,
    handed_over: AtomicBool,
}

impl Hall {
    /// Opens with room for `size` runs on `threads` threads.
    pub(crate) fn open(
        executor: Executor,
        size: usize,
        threads: usize,
        lost: CancellationToken,
    ) -> Self {
        let state = Arc::new(HallState {
            size,
            in_flight: AtomicUsize::new(0),
            freed: tokio::sync::Notify::new(),
            batches: std::sync::Mutex::default(),
            finished: std::sync::Mutex::default(),
            unclear: std::sync::Mutex::default(),
            spent: std::sync::Mutex::default(),
            spending: tokio::sync::Notify::new(),
            handed_over: AtomicBool::new(false),
        });
        let mut doors = Vec::new();
        let mut handles = Vec::new();
        for index in 0..threads.max(1) {
            let (door, visitors) = mpsc::unbounded_channel();
            doors.push(door);
            let handle = tokio::runtime::Handle::current();
            let (executor, state, lost) = (executor.clone(), state.clone(), lost.clone());
            let thread = std::thread::Builder::new()
                .name(format!("visits-{index}"))
                .spawn(move || {
                    handle.block_on(
                        LocalSet::new().run_until(receive(executor, state, lost, visitors)),
                    );
                });
            match thread {
                Ok(thread) => handles.push(thread),
                Err(error) => tracing::error!(error = %error, "cannot start a visit thread"),
            }
        }
        Self {
            doors,
            next: AtomicUsize::new(0),
            state,
            lost,
            threads: handles,
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.state.size.saturating_sub(self.in_flight())
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::Acquire)
    }

    pub(crate) async fn freed(&self) {
        self.state.freed.notified().await;
    }

    /// Waits until there is room for so many, but not longer than that.
    pub(crate) async fn gather_room(&self, enough: usize, limit: Duration) {
        let room = async {
            while self.room() < enough {
                self.state.freed.notified().await;
            }
        };
        let _ = tokio::time::timeout(limit, room).await;
    }

    /// Lets a batch in; one of which nothing is left is finished.
    pub(crate) fn admit(&self, batch: i64, held: Vec<Held>) {
        if held.is_empty() {
            lock(&self.state.finished).push(batch);
            return;
        }
        self.state.in_flight.fetch_add(held.len(), Ordering::AcqRel);
        lock(&self.state.batches).insert(batch, held.len());
        for held in held {
            let door = self.next.fetch_add(1, Ordering::Relaxed) % self.doors.len();
            if self.doors[door].send((batch, held)).is_err() {
                self.state.leave(batch);
            }
        }
    }

    /// Whether a claim would only look: nothing is held, and nothing is left to be cleared away.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight() == 0
            && lock(&self.state.finished).is_empty()
            && lock(&self.state.unclear).is_empty()
    }

    pub(crate) fn take_finished_batches(&self) -> Vec<i64> {
        std::mem::take(&mut *lock(&self.state.finished))
    }

    pub(crate) fn take_unclear(&self) -> Vec<(RunKey, Epoch)> {
        std::mem::take(&mut *lock(&self.state.unclear))
    }

    pub(crate) fn take_spent(&self) -> Vec<(RunKey, Epoch)> {
        std::mem::take(&mut *lock(&self.state.spent))
    }

    /// Waits until there are permits to give back.
    pub(crate) async fn spending(&self) {
        self.state.spending.notified().await;
    }

    /// Whether a run was handed over to a newer version since this was last asked.
    pub(crate) fn take_handed_over(&self) -> bool {
        self.state.handed_over.swap(false, Ordering::AcqRel)
    }

    /// Lets visits finish, then drops what is left; the holds whose permits are to be given back.
    pub(crate) async fn drain(self, limit: Duration) -> Vec<(RunKey, Epoch)> {
        let empty = async {
            while self.in_flight() > 0 {
                self.state.freed.notified().await;
            }
        };
        if tokio::time::timeout(limit, empty).await.is_err() {
            tracing::warn!(
                runs = self.in_flight(),
                "visits did not finish in time; giving back"
            );
        }
        let state = self.state.clone();
        self.abandon().await;
        std::mem::take(&mut *lock(&state.spent))
    }

    /// Drops all visits where they stand.
    pub(crate) async fn abandon(self) {
        self.lost.cancel();
        drop(self.doors);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }
}

impl HallState {
    fn leave(&self, batch: i64) {
        let mut batches = lock(&self.batches);
        if let Some(left) = batches.get_mut(&batch) {
            *left -= 1;
            if *left == 0 {
                batches.remove(&batch);
                lock(&self.finished).push(batch);
            }
        }
        drop(batches);
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.freed.notify_one();
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// One thread: takes held runs in and drives each as a local task.
async fn receive(
    executor: Executor,
    state: Arc<HallState>,
    lost: CancellationToken,
    mut visitors: mpsc::UnboundedReceiver<(i64, Held)>,
) {
    let tracker = TaskTracker::new();
    while let Some((batch, held)) = visitors.recv().await {
        let (executor, state, lost) = (executor.clone(), state.clone(), lost.clone());
        let span = tracing::info_span!(
            "run",
            run.id = %held.run.key.run_id,
            tenant.id = %held.run.tenant_id,
            workflow = %held.run.workflow,
        );
        let drive = async move {
            let hold = (held.run.key, held.run.epoch);
            let permitted = !held.permits.is_empty();
            // On the heap, or each hand that the task goes through until it lies there copies all of it.
            let visits = Box::pin(executor.drive(held));
            let departure = lost.run_until_cancelled(visits).await;
            match departure {
                Some(Departure::Unclear) => lock(&state.unclear).push(hold),
                Some(Departure::HandedOver) => state.handed_over.store(true, Ordering::Release),
                Some(Departure::Settled) | None => {}
            }
            let abandoned = departure.is_none();
            if permitted {
                lock(&state.spent).push(hold);
                state.spending.notify_one();
            }
            // What was given up with the lease stays booked under it, for whoever takes over.
            if !abandoned {
                state.leave(batch);
            }
        };
        tokio::task::spawn_local(
            tracker.track_future(tracing::Instrument::instrument(drive, span)),
        );
    }
    tracker.close();
    tracker.wait().await;
}
