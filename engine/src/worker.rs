//! Claim, execute, settle, repeat; drain on shutdown.
//!
//! The loop registers interest in the bell before it looks, so that a ring in between is not
//! missed; polling with jitter is the truth. Claims are bounded by the visits in flight, so that a
//! slow outside fills no memory. A worker whose lease ended comes back under a new one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::bell::Bell;
use crate::breaker::Breakers;
use crate::client::Client;
use crate::clock;
use crate::committer::{self, Committer};
use crate::database;
use crate::error::EngineError;
use crate::executor::{Executor, Held};
use crate::floor::{Floor, Lookout};
use crate::gate;
use crate::gather::GATHERING;
use crate::hall::Hall;
use crate::id::{Epoch, RunId, ShardId, WorkerId};
use crate::journal::Entry;
use crate::lease::Lease;
use crate::memory::Memory;
use crate::pool;
use crate::priority::Priority;
use crate::registry::Registry;
use crate::retention::{self, RetentionConfig};
use crate::run::{ClaimedRun, InboxItem, RunKey};
use crate::schedule;
use crate::seats::Seats;
use crate::start::FROM_INPUT;
use crate::store;
use crate::tally;
use crate::upkeep::{self, Hearing};
use crate::weight::Weights;

/// How often a worker that is never idle looks at schedules.
const SCHEDULES_WHEN_BUSY: Duration = Duration::from_secs(1);
/// How soon a worker whose lease is in doubt looks whether it has been renewed.
const IN_DOUBT: Duration = Duration::from_millis(50);
/// How long a worker claims nothing after it has handed a run over to a newer version.
const AFTER_HANDING_OVER: Duration = Duration::from_millis(500);
/// How soon a worker looks again at schedules that others are at, or that it could not look at.
const SCHEDULES_ELSEWHERE: Duration = Duration::from_millis(50);
/// How long a worker that is behind waits for room, so that each claim is worth its commit and its look
/// at more than it takes. Who rings meanwhile is not kept waiting.
const GATHERING_ROOM: Duration = Duration::from_millis(20);
/// What part of the visits in flight it waits for, up to a batch: the others keep the committers busy.
const GATHERED: usize = 4;
/// What part of a batch is claimed for a ring amid a rush. Tenants take turns in a claim, so who
/// rang is in it however small it is.
const QUICK: usize = 4;
/// How soon a worker that claims nothing because many wait glances again at what is more urgent, and after
/// so many times as long as a glance took.
const URGENT: Duration = Duration::from_millis(10);
const GLANCES: u32 = 10;
/// How soon a worker looks again at nudges that its claim left.
const NUDGES_LEFT: Duration = Duration::from_millis(5);

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Host and process, for people.
    pub name: String,
    /// How long others wait before they take over from a lost worker.
    pub lease: Duration,
    /// The most visits in flight.
    pub in_flight: usize,
    /// The most runs in one claim. Amid a rush whoever rings is looked for with a quarter of it.
    pub claim_batch: usize,
    /// How long an idle worker waits before it looks again, unless something wakes it.
    pub poll: Duration,
    /// Threads that run workflow code.
    pub threads: usize,
    /// Committer tasks.
    pub committers: i16,
    /// How long an orderly stop waits for visits before it gives their runs back.
    pub drain: Duration,
    /// How it drops what is past its time.
    pub retention: RetentionConfig,
    /// Whether it listens for others' rings; behind a pooler in transaction mode nothing is heard,
    /// and polling finds the work.
    pub listen: bool,
    /// How much one claim looks at.
    pub claim_scope: ClaimScope,
}

/// How much one claim looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClaimScope {
    /// The whole database, in one statement.
    #[default]
    Database,
    /// One shard, going round those with due work: for a schema that is distributed by shard.
    Shard,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            name: "worker".to_owned(),
            lease: Duration::from_secs(10),
            in_flight: 512,
            claim_batch: 128,
            poll: Duration::from_millis(1_200),
            threads: 1,
            committers: 2,
            drain: Duration::from_secs(20),
            retention: RetentionConfig::default(),
            listen: true,
            claim_scope: ClaimScope::default(),
        }
    }
}

/// A running worker.
pub struct Worker {
    stop: CancellationToken,
    abort: CancellationToken,
    quiet: watch::Receiver<u64>,
    look: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Worker {
    /// Starts a worker on the client's pool and registry.
    ///
    /// # Errors
    /// When the lease cannot be registered.
    pub async fn start(client: &Client, config: WorkerConfig) -> Result<Self, EngineError> {
        let stop = CancellationToken::new();
        let abort = CancellationToken::new();
        let (quiet_tx, quiet) = watch::channel(0);
        let look = Arc::new(Notify::new());
        let station = Station {
            pool: client.pool().clone(),
            registry: client.registry().clone(),
            bell: client.bell().clone(),
            config,
            stop: stop.clone(),
            abort: abort.clone(),
            quiet: quiet_tx,
            look: look.clone(),
            breakers: client.breakers().clone(),
            weights: Arc::default(),
            memory: Arc::default(),
        };
        let first = station.register().await?;
        let task = tokio::spawn(station.serve(first));
        Ok(Self {
            stop,
            abort,
            quiet,
            look,
            task,
        })
    }

    /// Waits until a look that began after this call found nothing due and nothing in flight.
    /// Runs whose retry or deadline lies ahead do not count.
    pub async fn idle(&mut self) {
        let seen = *self.quiet.borrow();
        self.look.notify_one();
        // The look under way may have begun before the call; the one after it has not.
        let enough = self.quiet.wait_for(|tick| *tick >= seen + 2);
        let mut enough = std::pin::pin!(enough);
        loop {
            tokio::select! {
                _ = &mut enough => return,
                () = clock::sleep(Duration::from_millis(2)) => self.look.notify_one(),
            }
        }
    }

    /// Stops in order: claims nothing more, lets visits finish within the drain time, gives the
    /// rest back at once.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }

    /// Stops as a crash would: writes nothing more and leaves its lease to run out. For tests.
    pub async fn crash(self) {
        self.abort.cancel();
        self.stop.cancel();
        let _ = self.task.await;
    }
}

/// What outlives a lease.
struct Station {
    pool: PgPool,
    registry: Registry,
    bell: Bell,
    config: WorkerConfig,
    stop: CancellationToken,
    abort: CancellationToken,
    quiet: watch::Sender<u64>,
    /// Somebody wants a look. Not the bell: that is answered amid a rush, too.
    look: Arc<Notify>,
    breakers: Arc<Breakers>,
    weights: Arc<Weights>,
    memory: Arc<Memory>,
}

impl Station {
    async fn register(&self) -> Result<Arc<Lease>, EngineError> {
        let worker = WorkerId::new();
        let sent = clock::monotonic();
        let versions = self.registry.versions();
        let handles = serde_json::to_value(&versions).unwrap_or_default();
        let handled: Vec<_> = versions
            .into_iter()
            .map(|(name, version)| (name.to_owned(), version))
            .collect();
        let mut conn = self.pool.acquire().await?;
        store::lease::insert(
            &mut conn,
            worker,
            &self.config.name,
            &handles,
            committer::slots(self.config.committers),
            self.config.lease,
        )
        .await?;
        store::limit::insert_missing(&mut conn, &self.registry.limits()).await?;
        store::own_door::put(&mut conn, &self.registry.doors()).await?;
        self.breakers.look(&mut conn).await?;
        self.weights.look(&mut conn).await?;
        let freed = store::lease::unpark_handled(&mut conn, &handled).await?;
        if freed > 0 {
            tracing::info!(runs = freed, "runs without a handler have one again");
        }
        self.memory.forget_lease();
        // Not every server that speaks Postgres tells it.
        if let Ok(timeline) = database::timeline(&mut conn).await {
            drop(conn);
            if let Some(before) = self.memory.hear(timeline) {
                upkeep::look_up(&self.pool, &self.memory, &self.config.name, before).await;
            }
        }
        Ok(Arc::new(Lease::new(worker, self.config.lease, sent)))
    }

    /// Registers after a lease was lost, perhaps with the database.
    async fn register_again(&self) -> Result<Arc<Lease>, EngineError> {
        pool::shed_broken(&self.pool);
        self.register().await
    }

    /// Serves under one lease after another until told to stop.
    async fn serve(self, first: Arc<Lease>) {
        let mut lease = Some(first);
        let listening = self.bell.clone();
        let pool = self.pool.clone();
        let listens = self.config.listen;
        let listener = tokio::spawn(async move {
            if listens {
                listening.listen(&pool).await;
            }
        });
        let sweeping = tokio::spawn(retention::keep_sweeping(
            self.pool.clone(),
            self.registry.clone(),
            self.config.retention.clone(),
        ));
        while !self.stop.is_cancelled() {
            let current = match lease.take() {
                Some(lease) => lease,
                None => match self.register_again().await {
                    Ok(lease) => lease,
                    Err(error) => {
                        tracing::warn!(error = ?error, "cannot register a lease; trying again");
                        let pause = clock::sleep(Duration::from_millis(500));
                        self.stop.run_until_cancelled(pause).await;
                        continue;
                    }
                },
            };
            self.serve_lease(current).await;
        }
        sweeping.abort();
        listener.abort();
    }

    /// Serves until the lease is lost or the worker stops.
    async fn serve_lease(&self, lease: Arc<Lease>) {
        let lost = CancellationToken::new();
        let committer = Committer::start(
            &self.pool,
            &self.registry,
            &lease,
            &self.bell,
            &self.memory,
            self.config.committers,
        );
        let seats = Seats::of(self.pool.options().get_max_connections());
        let executor = Executor {
            pool: self.pool.clone(),
            seats: seats.clone(),
            registry: self.registry.clone(),
            committer,
            draining: self.stop.clone(),
            worker: lease.worker,
            breakers: self.breakers.clone(),
        };
        let hall = Hall::open(
            executor,
            self.config.in_flight,
            self.config.threads,
            lost.clone(),
        );
        let hearing = Hearing {
            worker: self.config.name.clone(),
            bell: self.bell.clone(),
            breakers: self.breakers.clone(),
            weights: self.weights.clone(),
            memory: self.memory.clone(),
        };
        let mut upkeep = upkeep::start(&self.pool, &lease, &lost, hearing);
        self.claim_until_done(&lease, &lost, (&hall, &seats)).await;
        if self.abort.is_cancelled() || lost.is_cancelled() {
            lease.end();
            hall.abandon().await;
        } else {
            let spent = hall.drain(self.config.drain).await;
            self.give_back_permits(&spent).await;
            lease.end();
        }
        upkeep.shutdown().await;
        if !self.abort.is_cancelled() {
            self.give_back(&lease).await;
        }
    }

    async fn claim_until_done(
        &self,
        lease: &Lease,
        lost: &CancellationToken,
        (hall, seats): (&Hall, &Seats),
    ) {
        let mut batch = 0;
        let mut round = Round::default();
        let mut looked = clock::monotonic();
        let (mut behind, mut quick, mut polls) = (false, false, false);
        loop {
            self.until_trusted(lease, lost).await;
            if self.stop.is_cancelled() || lost.is_cancelled() {
                return;
            }
            self.give_back_permits(&hall.take_spent()).await;
            if hall.take_handed_over() && !self.leaves_to_newer(lost).await {
                return;
            }
            let wanted = self.room(hall, behind, &mut quick).await;
            let (seated, most) = seats.room();
            let room = wanted.min(seated);
            let held_back = room == 0 || most < Priority::Lowest;
            let quiet_before = hall.in_flight() == 0;
            let look = self.look_first(&mut polls, hall, &mut round).await;
            let glance = self.glance((room, most), &round).await;
            let claimed = if room == 0 || look.is_idle || !glance.is_due {
                Ok(0)
            } else {
                batch += 1;
                let scope = (batch, room, most);
                self.claim(lease, hall, scope, &mut round).await
            };
            let full = matches!(claimed, Ok(taken) if taken > 0 && taken == wanted);
            self.falls_behind(&mut behind, full).await;
            // A worker that is never idle looks at schedules all the same.
            let busy = held_back || matches!(claimed, Ok(1..));
            if busy {
                self.look_when_busy(&mut looked).await;
            }
            let wait = match claimed {
                Ok(0) if held_back => {
                    self.pause(seats, glance.pause).await;
                    glance.wait
                }
                Ok(taken) if taken == 0 || self.is_all(taken, room, held_back) => {
                    let look = if look.is_idle {
                        look
                    } else {
                        self.look_ahead(&round).await
                    };
                    if taken == 0 {
                        looked = clock::monotonic();
                    } else if !look.is_clear || look.slots_due || look.wait.is_zero() {
                        // There is something, or it could not be seen.
                        continue;
                    }
                    polls = look.is_poll;
                    let at_rest = taken == 0 && quiet_before && hall.in_flight() == 0;
                    match self.rest(&look, at_rest).await {
                        Some(wait) => wait,
                        None => continue,
                    }
                }
                Ok(_) => continue,
                Err(error) => {
                    // A claim whose answer was lost may have taken runs that nobody here knows of:
                    // the lease is given back with all that it holds, and a new one taken.
                    tracing::warn!(error = %error, "a claim got no answer; taking a new lease");
                    tally::lost_lease();
                    lost.cancel();
                    return;
                }
            };
            let crowded = held_back.then_some(seats);
            polls &= !self.is_woken(wait, lost, (hall, crowded)).await;
        }
    }

    /// Claims nothing for a while: a newer worker can do all that this one can, and while it is behind, its work
    /// is not passed around. False when this one ends meanwhile.
    async fn leaves_to_newer(&self, lost: &CancellationToken) -> bool {
        let pause = clock::sleep(AFTER_HANDING_OVER);
        let pause = self.stop.run_until_cancelled(pause);
        lost.run_until_cancelled(pause).await.flatten().is_some()
    }

    /// Whether a claim took all that there was for it: then a look tells what comes next, and costs less than
    /// another claim, which takes nothing and is a commit for all that.
    fn is_all(&self, taken: usize, room: usize, held_back: bool) -> bool {
        let all_shards = self.config.claim_scope == ClaimScope::Database;
        taken < room && !held_back && all_shards
    }

    /// Waits until somebody rings, there is room for who waits for it, or the time is over; whether somebody
    /// rang.
    async fn is_woken(
        &self,
        wait: Duration,
        lost: &CancellationToken,
        (hall, crowded): (&Hall, Option<&Seats>),
    ) -> bool {
        let room = async {
            match crowded {
                Some(seats) => tokio::select! {
                    () = hall.freed() => {}
                    () = seats.shorter() => {}
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.bell.heard() => true,
            () = self.look.notified() => true,
            () = room => false,
            () = hall.spending() => false,
            () = clock::sleep(wait) => false,
            () = self.stop.cancelled() => false,
            () = lost.cancelled() => false,
        }
    }

    /// Rests a little before the next glance: whoever rings may do so often.
    async fn pause(&self, seats: &Seats, pause: Duration) {
        tokio::select! {
            () = clock::sleep(pause) => {}
            () = self.stop.cancelled() => {}
            () = seats.shorter() => self.look.notify_one(),
        }
    }

    /// Waits while the lease is in doubt: what would be claimed could only be given back.
    async fn until_trusted(&self, lease: &Lease, lost: &CancellationToken) {
        while !lease.is_trusted() && !lost.is_cancelled() && !self.stop.is_cancelled() {
            clock::sleep(IN_DOUBT).await;
        }
    }

    /// How many to claim. Amid a rush whoever rings waits for a small claim after the one under way, not
    /// for another large one; every second is large, so that many rings are no brake.
    async fn room(&self, hall: &Hall, behind: bool, quick: &mut bool) -> usize {
        let batch = self.config.claim_batch;
        let may_be_quick = behind && !*quick;
        *quick = false;
        if behind {
            let enough = batch.min(self.config.in_flight / GATHERED);
            let gathered = hall.gather_room(enough, GATHERING_ROOM);
            if may_be_quick {
                tokio::select! {
                    biased;
                    () = self.bell.heard() => *quick = true,
                    () = gathered => {}
                }
            } else {
                gathered.await;
            }
        }
        let most = if *quick {
            (batch / QUICK).max(1)
        } else {
            batch
        };
        hall.room().min(most)
    }

    /// A full claim is the beginning of a rush, if the last was not.
    async fn falls_behind(&self, behind: &mut bool, full: bool) {
        if full && !*behind {
            self.analyze_grown().await;
        }
        *behind = full;
    }

    /// What else is to be looked at from time to time.
    async fn look_when_busy(&self, looked: &mut Instant) {
        if looked.elapsed() < SCHEDULES_WHEN_BUSY {
            return;
        }
        *looked = clock::monotonic();
        self.fire_due().await;
        self.open_gates().await;
        self.analyze_grown().await;
    }

    /// Looks whether there is something that is more urgent than who waits, where less urgent work may not be
    /// claimed.
    async fn glance(&self, (room, most): (usize, Priority), round: &Round) -> Glance {
        if room == 0 || most == Priority::Lowest {
            return Glance::NONE;
        }
        let began = clock::monotonic();
        let floor = round.lookout.floor(began);
        let due = match self.pool.acquire().await {
            Ok(mut conn) => store::claim::is_due(&mut conn, most, floor).await,
            Err(error) => Err(error),
        };
        Glance {
            is_due: due.as_ref().is_ok_and(|due| *due),
            pause: URGENT.max(began.elapsed() * GLANCES),
            // What is due and was not taken, or could not be seen, is looked for again.
            wait: match due {
                Ok(false) => Glance::NONE.wait,
                _ => Duration::ZERO,
            },
        }
    }

    /// Takes due runs up to a level into the hall; how many.
    async fn claim(
        &self,
        lease: &Lease,
        hall: &Hall,
        (batch, limit, most): (i64, usize, Priority),
        round: &mut Round,
    ) -> sqlx::Result<usize> {
        let mut conn = self.pool.acquire().await?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // A batch stays booked until those of it that nobody settled are free: what is booked is taken
        // over if this worker ends in between, and nothing else is.
        round.finished.extend(hall.take_finished_batches());
        self.let_go(&mut conn, lease, hall).await?;
        let scope = (batch, limit, most);
        let runs = match self.config.claim_scope {
            ClaimScope::Database => self.claim_from(&mut conn, lease, scope, round).await?,
            ClaimScope::Shard => self.claim_round(&mut conn, lease, scope, round).await?,
        };
        if runs.is_empty() {
            return Ok(0);
        }
        let count = runs.len();
        tally::claimed(&runs);
        // From here on the runs are ours: what cannot be loaded now is loaded again, not dropped.
        loop {
            let loaded = match load(&mut conn, runs.clone()).await {
                Ok(mut held) => {
                    for held in &mut held {
                        held.open(self.registry.keyring()).await;
                    }
                    self.pass(lease, held).await
                }
                Err(error) => Err(error),
            };
            match loaded {
                Ok(held) => {
                    hall.admit(batch, held);
                    return Ok(count);
                }
                Err(error) if lease.is_trusted() => {
                    tracing::warn!(error = %error, "cannot load claimed runs; trying again");
                    clock::sleep(Duration::from_millis(100)).await;
                    if let Ok(fresh) = self.pool.acquire().await {
                        conn = fresh;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Claims from the floor, and lays one when the look was slow.
    async fn claim_from(
        &self,
        conn: &mut sqlx::PgConnection,
        lease: &Lease,
        (batch, limit, most): (i64, i64, Priority),
        round: &mut Round,
    ) -> sqlx::Result<Vec<ClaimedRun>> {
        let began = clock::monotonic();
        round.floor = round.lookout.floor(began);
        let (weights, scope) = (self.weights.now(), (batch, limit, most));
        let known = (round.floor, &*round.finished);
        let claim = store::claim::claim(conn, lease.worker, scope, weights, known).await?;
        round.finished.clear();
        let took = began.elapsed();
        // What was met on some levels tells nothing of the others.
        let whole = round.floor.is_whole() && most == Priority::Lowest;
        if whole && Lookout::is_slow(took, claim.runs.len()) {
            // Without it the next look is whole again.
            if let Ok(end) = store::claim::find_end(conn).await {
                let full = i64::try_from(claim.runs.len()).is_ok_and(|taken| taken >= limit);
                let ended = (began + took, took);
                round.lookout.rest(ended, claim.oldest_due_at, end, full);
            }
        }
        Ok(claim.runs)
    }

    /// Claims from the next shard with due work, of a round that is looked up when it is over.
    async fn claim_round(
        &self,
        conn: &mut sqlx::PgConnection,
        lease: &Lease,
        (batch, limit, most): (i64, i64, Priority),
        round: &mut Round,
    ) -> sqlx::Result<Vec<ClaimedRun>> {
        if round.shards.is_empty() {
            let shards = store::claim_shard::find_shards(conn).await?;
            round.shards.extend(shards);
        }
        while let Some(shard) = round.shards.pop_front() {
            let weights = self.weights.now();
            let scope = (shard, batch, limit, most);
            let known = (Floor::default(), &*round.finished);
            let claim =
                store::claim_shard::claim(conn, lease.worker, scope, weights, known).await?;
            round.finished.clear();
            if !claim.runs.is_empty() {
                return Ok(claim.runs);
            }
        }
        Ok(Vec::new())
    }

    /// Keeps what may begin now; the rest is blocked.
    async fn pass(&self, lease: &Lease, held: Vec<Held>) -> sqlx::Result<Vec<Held>> {
        let passed = gate::pass(&self.pool, &self.registry, lease.worker, held).await?;
        if passed.woken {
            self.bell.ring();
        }
        Ok(passed.through)
    }

    /// Gives the room of visits that are over to those who wait for it. What fails here is found by
    /// the sweep.
    async fn give_back_permits(&self, spent: &[(RunKey, Epoch)]) {
        if spent.is_empty() {
            return;
        }
        match gate::give_back(&self.pool, spent).await {
            Ok(true) => self.bell.ring(),
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %error, "cannot give room back; trying later"),
        }
    }

    /// Wakes whom a token or a probe has come for.
    async fn open_gates(&self) {
        if let Err(error) = gate::wake_due(&self.pool).await {
            tracing::warn!(error = %error, "cannot wake blocked runs; trying again");
        }
    }

    /// Has Postgres look at tables that a rush has made large: a plan that was made while they were
    /// empty reads the whole of them for each run, and would be kept until autovacuum comes by.
    async fn analyze_grown(&self) {
        let looked = match self.pool.acquire().await {
            Ok(mut conn) => store::statistics::analyze_grown(&mut conn).await,
            Err(error) => Err(error),
        };
        match looked {
            Ok(0) => {}
            Ok(tables) => tracing::info!(tables, "tables have grown; planning anew"),
            Err(error) => tracing::warn!(error = %error, "cannot look at how tables have grown"),
        }
    }

    /// Gives back the runs that left without a settlement and are still booked as held here.
    /// Under the epoch of that hold: a later claim of the same run is another one.
    async fn let_go(
        &self,
        conn: &mut sqlx::PgConnection,
        lease: &Lease,
        hall: &Hall,
    ) -> sqlx::Result<()> {
        let unclear = hall.take_unclear();
        if unclear.is_empty() {
            return Ok(());
        }
        let freed = store::lease::release_held(conn, lease.worker, &unclear).await?;
        if freed > 0 {
            tracing::warn!(
                runs = freed,
                "runs that left without a settlement are due again"
            );
        }
        Ok(())
    }

    /// How long to rest where a look found nothing to claim; none when it brought work.
    async fn rest(&self, look: &Look, at_rest: bool) -> Option<Duration> {
        if look.slots_due {
            // With none left, another worker is at it.
            return (self.fire_due().await == 0).then_some(SCHEDULES_ELSEWHERE);
        }
        if at_rest && look.is_clear {
            self.quiet.send_modify(|tick| *tick += 1);
        }
        Some(look.wait)
    }

    /// Looks before it claims, where nobody rang and nothing was foreseen: there is mostly nothing, and a
    /// look costs less.
    async fn look_first(&self, polls: &mut bool, hall: &Hall, round: &mut Round) -> Look {
        if std::mem::take(polls) && hall.is_empty() {
            round.floor = round.lookout.floor(clock::monotonic());
            self.look_ahead(round).await
        } else {
            Look::BLIND
        }
    }

    /// What there will be to do, and when.
    async fn look_ahead(&self, round: &Round) -> Look {
        let floor = round.floor;
        let jitter = 0.75 + 0.5 * clock::chance();
        let poll = self.config.poll.mul_f64(jitter);
        let ahead = match self.pool.acquire().await {
            Ok(mut conn) => {
                store::claim::find_ahead(&mut conn, &self.registry.names(), floor).await
            }
            Err(error) => Err(error),
        };
        let Ok(ahead) = ahead else {
            return Look {
                wait: poll,
                ..Look::BLIND
            };
        };
        let is_past = |at: Option<DateTime<Utc>>| at.is_some_and(|at| at <= ahead.now);
        let mut look = Look {
            wait: Duration::ZERO,
            is_idle: !ahead.nudged && !is_past(ahead.due_at),
            is_clear: floor.is_whole() && !ahead.nudged,
            slots_due: is_past(ahead.look_at),
            is_poll: false,
        };
        if is_past(ahead.gate_at) {
            self.open_gates().await;
            look.is_idle = false;
            return look;
        }
        let next = [ahead.due_at, ahead.look_at, ahead.gate_at];
        let next = next.into_iter().flatten().min();
        let wait = next.map_or(poll, |at| (at - ahead.now).to_std().unwrap_or_default());
        let poll = if ahead.nudged { NUDGES_LEFT } else { poll };
        look.wait = wait.min(poll);
        if !floor.is_whole() {
            // What lies below it is seen by the next whole look alone.
            let whole_in = round.lookout.whole_in(clock::monotonic());
            look.wait = look.wait.min(whole_in.unwrap_or_default());
        }
        look.is_poll = wait >= poll;
        look
    }

    /// Looks at schedules that are due; how many. A crash drops the look where it stands.
    async fn fire_due(&self) -> usize {
        let fire = schedule::fire::fire_due(&self.pool, &self.registry);
        match self.abort.run_until_cancelled(fire).await {
            Some(Ok(looked)) => looked,
            None => 0,
            Some(Err(error)) => {
                tracing::warn!(error = %error, "cannot look at schedules; trying again");
                0
            }
        }
    }

    /// Gives the lease back, and with it what was still held.
    async fn give_back(&self, lease: &Lease) {
        if let Err(error) = upkeep::release(&self.pool, lease.worker).await {
            tracing::warn!(error = %error, "could not give the lease back; it will run out");
        }
        self.bell.ring();
    }
}

/// What a look ahead saw.
struct Look {
    /// How long nothing is due, at most one poll.
    wait: Duration,
    /// Nothing is there to be claimed from where it looked.
    is_idle: bool,
    /// All was looked at, and no nudge is left.
    is_clear: bool,
    /// A schedule is due now.
    slots_due: bool,
    /// Nothing is foreseen within a poll.
    is_poll: bool,
}

impl Look {
    /// Nothing was seen, and there may be anything.
    const BLIND: Self = Self {
        wait: Duration::ZERO,
        is_idle: false,
        is_clear: false,
        slots_due: false,
        is_poll: false,
    };
}

/// What a worker saw that may claim only what is more urgent than who waits.
struct Glance {
    /// Whether there is something to claim.
    is_due: bool,
    /// How long it does not look again.
    pause: Duration,
    /// How long after that, if nothing wakes it.
    wait: Duration,
}

impl Glance {
    /// None was needed.
    const NONE: Self = Self {
        is_due: true,
        pause: Duration::ZERO,
        wait: Duration::from_secs(1),
    };
}

/// Where a worker is in its looks.
#[derive(Default)]
struct Round {
    /// The shards that it has not been to.
    shards: VecDeque<ShardId>,
    lookout: Lookout,
    /// From where this look looks.
    floor: Floor,
    /// The batches of which nothing is held any more, and that the next claim forgets.
    finished: Vec<i64>,
}

async fn load(conn: &mut sqlx::PgConnection, runs: Vec<ClaimedRun>) -> sqlx::Result<Vec<Held>> {
    let keys: Vec<_> = runs.iter().map(|run| run.key).collect();
    let mut inbox: HashMap<RunId, Vec<InboxItem>> = HashMap::new();
    for item in store::claim::list_pending(conn, &keys).await? {
        inbox.entry(item.run_id).or_default().push(item);
    }
    // Only a visit that was begun before can have a journal.
    let begun: Vec<_> = runs
        .iter()
        .filter(|run| run.begun)
        .map(|run| (run.key, run.visit))
        .collect();
    let mut journals: HashMap<RunId, (Option<String>, Vec<Entry>)> = HashMap::new();
    if !begun.is_empty() {
        for (owner, event, entry) in store::claim::list_journal(conn, &begun).await? {
            let (pin, entries) = journals.entry(owner).or_default();
            *pin = pin.take().or(event);
            entries.push(entry);
        }
    }
    let mut held = Vec::with_capacity(runs.len());
    for run in runs {
        let id = run.key.run_id;
        let batch = if run.version == FROM_INPUT && run.state == GATHERING {
            Some(store::fan_out::list_inputs(conn, run.key).await?)
        } else {
            None
        };
        let (pin, journal) = journals.remove(&id).unwrap_or_default();
        held.push(Held {
            run,
            inbox: inbox.remove(&id).unwrap_or_default(),
            journal,
            pin,
            permits: Vec::new(),
            batch,
            sealed: None,
            landing: None,
        });
    }
    Ok(held)
}
