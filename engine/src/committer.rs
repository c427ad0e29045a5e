//! Group commit: step records and settlements of many runs meet here and leave in one statement.
//!
//! While one statement commits, the next batch gathers: an idle system commits at once, a busy one
//! commits hundreds of rows per fsync. The second committer helps only when a queue has formed, so
//! that it does not split small batches in two. Tenants take turns in the queue, and a batch is no
//! larger than pays off: who asks for one row amid another's flood waits for two statements, not
//! for the flood. Every row is fenced on its own and its caller is told. A row that fails its
//! statement is found by halving the batch; its neighbours go through.
//!
//! A settlement that starts, watches or signals other runs has a transaction of its own, and so
//! does not stand in the committers' way: followers write those, several at a time.
//!
//! A visit does not wait for the record of its last step: the record is on its way (a [`Landing`])
//! while the visit ends, and the settlement is written with it, in one commit, or after it.
//!
//! A commit whose answer was lost (the connection broke) is neither done nor failed: it is read
//! again before anybody is told.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, oneshot};

use crate::bell::Bell;
use crate::clock;
use crate::error::StepError;
use crate::follow;
use crate::id::{RunId, TenantId, WorkerId};
use crate::lanes::Lanes;
use crate::lease::Lease;
use crate::memory::Memory;
use crate::plan::Settlement;
use crate::registry::Registry;
use crate::run::Status;
use crate::store;
use crate::store::progress::Report;
use crate::store::settle::Settled;
use crate::store::step::StepRecord;
use crate::tally::{self, Commit};

/// The most requests in one statement.
const MAX_BATCH: usize = 128;
/// The second committer wakes when this many wait.
const HELP_FROM: usize = 64;
/// How many settlements with a transaction of their own are written at a time. Each follower has a
/// lease row of its own behind those of the committers: on one they would wait for each other.
const FOLLOWERS: i16 = 4;
const RECONNECT: Duration = Duration::from_millis(50);

/// What became of a settlement.
#[derive(Debug)]
pub(crate) enum SettleResult {
    Settled(Box<Settlement>, Settled),
    Fenced,
    Failed(StepError),
    /// The database will never take the record of a step before it: nothing was settled.
    Unrecorded(Unrecorded),
}

/// Whether a record is durable; false when it was fenced.
pub(crate) type Landed = Result<bool, Unrecorded>;

/// A record that the database will never take.
#[derive(Debug)]
pub(crate) struct Unrecorded {
    pub(crate) step: String,
    pub(crate) message: String,
}

/// A record on its way.
#[derive(Debug)]
pub(crate) struct Landing {
    step: String,
    answer: oneshot::Receiver<Result<bool, String>>,
}

impl Landing {
    /// Whether it is durable, once that is known; false when it was fenced. Not to be asked again then.
    pub(crate) fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Landed> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| {
            let answer = answer.unwrap_or(Ok(false));
            let step = std::mem::take(&mut self.step);
            answer.map_err(|message| Unrecorded { step, message })
        })
    }

    /// Waits until it is known whether it is durable, and leaves that to be asked.
    pub(crate) async fn known(&mut self) {
        let (reply, answer) = oneshot::channel();
        let known = (&mut self.answer).await.unwrap_or(Ok(false));
        let _ = reply.send(known);
        self.answer = answer;
    }

    /// Waits until it is known whether it is durable.
    pub(crate) async fn done(mut self) -> Landed {
        poll_fn(|cx| self.poll(cx)).await
    }
}

type RecordReply = oneshot::Sender<Result<bool, String>>;
type Recording = (Vec<StepRecord>, RecordReply);

/// A settlement, and the record that is to be durable before it or with it.
struct Settling {
    settlement: Box<Settlement>,
    after: Option<Landing>,
    reply: oneshot::Sender<SettleResult>,
}

impl Settling {
    /// Waits for the record that it comes after; whoever need not go on is told.
    async fn landed(mut self) -> Option<Self> {
        let Some(landing) = self.after.take() else {
            return Some(self);
        };
        let refused = match landing.done().await {
            Ok(true) => return Some(self),
            Ok(false) => SettleResult::Fenced,
            Err(error) => SettleResult::Unrecorded(error),
        };
        let _ = self.reply.send(refused);
        None
    }
}

enum Request {
    Record(Vec<StepRecord>, RecordReply),
    Report(Report, RecordReply),
    Settle(Settling),
}

/// The way in. A visit waits for its record before the next step, and for its settlement, so no more than two
/// requests of each that is in flight wait here.
#[derive(Clone)]
pub(crate) struct Committer {
    door: Arc<Door>,
    lease: Arc<Lease>,
    bell: Bell,
}

/// Closes the queue when nobody can ask any more.
struct Door(Arc<Queue>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.asked.notify_one();
        self.0.help.notify_one();
        self.0.follow.notify_one();
    }
}

#[derive(Default)]
struct Queue {
    lanes: Mutex<Lanes<Request>>,
    follow_ups: Mutex<Lanes<Settling>>,
    closed: AtomicBool,
    /// Wakes the first committer.
    asked: Notify,
    /// Wakes another one.
    help: Notify,
    /// Wakes a follower.
    follow: Notify,
}

/// The lease rows that writes need: one for each who writes.
pub(crate) fn slots(committers: i16) -> i16 {
    committers + FOLLOWERS
}

/// What a committer task needs.
struct Desk {
    pool: PgPool,
    registry: Registry,
    lease: Arc<Lease>,
    bell: Bell,
    memory: Arc<Memory>,
    slot: i16,
}

impl Committer {
    /// Starts so many committer tasks, and the followers; they end when the last handle is dropped.
    pub(crate) fn start(
        pool: &PgPool,
        registry: &Registry,
        lease: &Arc<Lease>,
        bell: &Bell,
        memory: &Arc<Memory>,
        committers: i16,
    ) -> Self {
        let queue = Arc::new(Queue::default());
        for slot in 0..slots(committers) {
            let desk = Desk {
                pool: pool.clone(),
                registry: registry.clone(),
                lease: lease.clone(),
                bell: bell.clone(),
                memory: memory.clone(),
                slot,
            };
            if slot < committers {
                tokio::spawn(serve(desk, queue.clone()));
            } else {
                tokio::spawn(follow_up(desk, queue.clone()));
            }
        }
        Self {
            door: Arc::new(Door(queue)),
            lease: lease.clone(),
            bell: bell.clone(),
        }
    }

    pub(crate) fn is_trusted(&self) -> bool {
        self.lease.is_trusted()
    }

    /// For whom it writes.
    pub(crate) fn worker(&self) -> WorkerId {
        self.lease.worker
    }

    /// Something may be due.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// Sends the records of steps on their way.
    pub(crate) fn record(&self, tenant: TenantId, records: Vec<StepRecord>) -> Landing {
        let (reply, answer) = oneshot::channel();
        let last = records.last();
        let step = last.map(|record| record.name.clone()).unwrap_or_default();
        self.ask(tenant, Request::Record(records, reply));
        Landing { step, answer }
    }

    /// Keeps a report of progress; false when fenced.
    pub(crate) async fn report(&self, report: Report) -> Result<bool, String> {
        let (reply, answer) = oneshot::channel();
        self.ask(report.place.tenant_id, Request::Report(report, reply));
        answer.await.unwrap_or(Ok(false))
    }

    /// Settles a run, once the record of its last step is durable, or with it.
    pub(crate) async fn settle(
        &self,
        settlement: Settlement,
        after: Option<Landing>,
    ) -> SettleResult {
        let (reply, answer) = oneshot::channel();
        let tenant = settlement.run.tenant_id;
        let settling = Settling {
            settlement: Box::new(settlement),
            after,
            reply,
        };
        if follow::has_follow_up(&settling.settlement) {
            self.door.0.push_follow_up(tenant, settling);
        } else {
            self.ask(tenant, Request::Settle(settling));
        }
        answer.await.unwrap_or(SettleResult::Fenced)
    }

    fn ask(&self, tenant: TenantId, request: Request) {
        self.door.0.push(tenant, request);
    }
}

impl Queue {
    fn push(&self, tenant: TenantId, request: Request) {
        let waiting = {
            let mut lanes = lock(&self.lanes);
            lanes.push(tenant, request);
            lanes.len()
        };
        self.asked.notify_one();
        if waiting >= HELP_FROM {
            self.help.notify_one();
        }
    }

    /// Waits for the first committer's next batch; empty when the queue is closed and served.
    async fn next(&self) -> Vec<Request> {
        loop {
            // Before the look: who asked before the end is heard.
            let closed = self.closed.load(Ordering::Acquire);
            let batch = lock(&self.lanes).take(MAX_BATCH);
            if closed || !batch.is_empty() {
                return batch;
            }
            self.asked.notified().await;
        }
    }

    /// Waits until there is enough for another committer; empty when the queue is closed and served.
    async fn next_for_helper(&self) -> Vec<Request> {
        loop {
            self.help.notified().await;
            let closed = self.closed.load(Ordering::Acquire);
            let batch = lock(&self.lanes).take(MAX_BATCH);
            if closed {
                // The other helpers must hear of it too.
                self.help.notify_one();
            }
            if closed || !batch.is_empty() {
                return batch;
            }
        }
    }

    fn push_follow_up(&self, tenant: TenantId, follow_up: Settling) {
        lock(&self.follow_ups).push(tenant, follow_up);
        self.follow.notify_one();
    }

    /// Waits for a follower's next settlement; none when the queue is closed and served.
    async fn next_follow_up(&self) -> Option<Settling> {
        loop {
            let closed = self.closed.load(Ordering::Acquire);
            let (taken, left) = {
                let mut follow_ups = lock(&self.follow_ups);
                (follow_ups.take(1).pop(), follow_ups.len())
            };
            if left > 0 || closed {
                // A wake-up may have stood for several, and all must hear of the end.
                self.follow.notify_one();
            }
            if closed || taken.is_some() {
                return taken;
            }
            self.follow.notified().await;
        }
    }
}

fn lock<T>(lanes: &Mutex<Lanes<T>>) -> MutexGuard<'_, Lanes<T>> {
    lanes.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(desk: Desk, queue: Arc<Queue>) {
    loop {
        let batch = if desk.slot > 0 {
            queue.next_for_helper().await
        } else {
            queue.next().await
        };
        if batch.is_empty() {
            return;
        }
        desk.write(batch).await;
    }
}

/// One follower.
async fn follow_up(desk: Desk, queue: Arc<Queue>) {
    while let Some(settling) = queue.next_follow_up().await {
        if let Some(settling) = settling.landed().await {
            let result = desk.settle_alone(settling.settlement).await;
            let _ = settling.reply.send(result);
        }
    }
}

impl Desk {
    async fn write(&self, batch: Vec<Request>) {
        let mut records = Vec::new();
        let mut reports = Vec::new();
        let mut plain = Vec::new();
        for request in batch {
            match request {
                Request::Record(record, reply) => records.push((record, reply)),
                Request::Report(report, reply) => reports.push((report, reply)),
                Request::Settle(settling) => plain.push(settling),
            }
        }
        match (records.is_empty(), plain.is_empty()) {
            (false, false) => self.write_both(records, plain).await,
            (false, true) => self.write_records(records).await,
            (true, false) => self.write_settlements(landed(plain).await).await,
            (true, true) => {}
        }
        if !reports.is_empty() {
            self.write_reports(reports).await;
        }
    }

    /// Records and settlements in one commit, those of one run among them.
    async fn write_both(&self, records: Vec<Recording>, settlings: Vec<Settling>) {
        // Another committer may be at what one of them comes after.
        let runs = records.iter().flat_map(|(rows, _)| rows);
        let here: HashSet<RunId> = runs.map(|row| row.key.run_id).collect();
        let (mut plain, elsewhere): (Vec<_>, Vec<_>) = settlings
            .into_iter()
            .partition(|one| one.after.is_none() || here.contains(&one.settlement.run.key.run_id));
        plain.extend(landed(elsewhere).await);
        if plain.is_empty() {
            return self.write_records(records).await;
        }
        let rows: Vec<&StepRecord> = records.iter().flat_map(|(rows, _)| rows).collect();
        let settlements: Vec<&Settlement> = plain.iter().map(|one| &*one.settlement).collect();
        let (worker, slot) = (self.lease.worker, self.slot);
        let written = match self.pool.acquire().await {
            Ok(mut conn) => {
                store::settle::apply_with(&mut conn, worker, slot, (&rows, &settlements)).await
            }
            Err(error) => Err(error),
        };
        match written {
            Ok((written, applied)) => {
                self.tell_recorded(records, &written);
                self.tell_settled(plain, &applied);
            }
            Err(error) if is_lost(&error) && !is_undone(&error) => {
                self.record_each_after_loss(records).await;
                self.settle_each_after_loss(landed(plain).await).await;
            }
            // One of them is bad, or waited too long for a run that somebody has locked: those of a kind
            // find it among themselves, and no record waits for a settlement.
            Err(_) => {
                self.write_records(records).await;
                self.write_settlements(landed(plain).await).await;
            }
        }
    }

    async fn write_records(&self, mut requests: Vec<Recording>) {
        let rows: Vec<&StepRecord> = requests.iter().flat_map(|(rows, _)| rows).collect();
        let written = match self.pool.acquire().await {
            Ok(mut conn) => {
                store::settle::record(&mut conn, self.lease.worker, self.slot, &rows).await
            }
            Err(error) => Err(error),
        };
        match written {
            Ok(written) => self.tell_recorded(requests, &written),
            Err(error) if is_lost(&error) => self.record_each_after_loss(requests).await,
            Err(error) if requests.len() == 1 => {
                for (_, reply) in requests {
                    let _ = reply.send(Err(error.to_string()));
                }
            }
            Err(_) => {
                let second = requests.split_off(requests.len() / 2);
                Box::pin(self.write_records(requests)).await;
                Box::pin(self.write_records(second)).await;
            }
        }
    }

    /// Tells what was recorded to those who asked for it.
    fn tell_recorded(&self, requests: Vec<Recording>, written: &HashSet<(RunId, i32)>) {
        let rows = || requests.iter().flat_map(|(rows, _)| rows);
        let is_written = |row: &StepRecord| written.contains(&(row.key.run_id, row.seq));
        let count = rows().count();
        tally::committed(Commit::Steps, count);
        tally::fenced(count.saturating_sub(written.len()));
        if let Some(first) = rows().find(|row| is_written(row)) {
            self.memory.recorded(first, written.len());
        }
        for (rows, reply) in requests {
            let _ = reply.send(Ok(rows.iter().all(is_written)));
        }
    }

    async fn record_each_after_loss(&self, requests: Vec<Recording>) {
        for (rows, reply) in requests {
            let result = self.record_after_loss(&rows).await;
            let _ = reply.send(result);
        }
    }

    /// Reports of progress are worth one try: a newer one follows.
    async fn write_reports(&self, requests: Vec<(Report, RecordReply)>) {
        let rows: Vec<&Report> = requests.iter().map(|(report, _)| report).collect();
        let written = match self.pool.acquire().await {
            Ok(mut conn) => {
                store::progress::upsert(&mut conn, self.lease.worker, self.slot, &rows).await
            }
            Err(error) => Err(error),
        };
        let written = written.map_err(|error| error.to_string());
        tally::committed(Commit::Reports, rows.len());
        for (report, reply) in requests {
            let run = report.place.key.run_id;
            let kept = written.as_ref().map(|runs| runs.contains(&run));
            let _ = reply.send(kept.map_err(Clone::clone));
        }
    }

    async fn write_settlements(&self, mut requests: Vec<Settling>) {
        if requests.is_empty() {
            return;
        }
        let rows: Vec<&Settlement> = requests.iter().map(|one| &*one.settlement).collect();
        let applied = match self.pool.acquire().await {
            Ok(mut conn) => {
                store::settle::apply(&mut conn, self.lease.worker, self.slot, &rows).await
            }
            Err(error) => Err(error),
        };
        match applied {
            Ok(applied) => self.tell_settled(requests, &applied),
            Err(error) if is_lost(&error) => self.settle_each_after_loss(requests).await,
            Err(error) if requests.len() == 1 => {
                for one in requests {
                    let error = StepError::retryable(follow::NOT_SETTLEABLE, &error);
                    let _ = one.reply.send(SettleResult::Failed(error));
                }
            }
            Err(_) => {
                let second = requests.split_off(requests.len() / 2);
                Box::pin(self.write_settlements(requests)).await;
                Box::pin(self.write_settlements(second)).await;
            }
        }
    }

    /// Tells what was settled to those who asked for it.
    fn tell_settled(&self, requests: Vec<Settling>, applied: &HashMap<RunId, Settled>) {
        tally::committed(Commit::Settlements, requests.len());
        tally::fenced(requests.len().saturating_sub(applied.len()));
        let is_applied = |one: &&Settling| applied.contains_key(&one.settlement.run.key.run_id);
        if let Some(first) = requests.iter().find(is_applied) {
            self.memory.settled(&first.settlement, applied.len());
        }
        for Settling {
            settlement, reply, ..
        } in requests
        {
            let result = match applied.get(&settlement.run.key.run_id) {
                Some(settled) => {
                    self.ring_for(&settlement, *settled);
                    SettleResult::Settled(settlement, *settled)
                }
                None => SettleResult::Fenced,
            };
            let _ = reply.send(result);
        }
    }

    async fn settle_each_after_loss(&self, requests: Vec<Settling>) {
        for one in requests {
            let result = self.settle_after_loss(one.settlement).await;
            let _ = one.reply.send(result);
        }
    }

    /// A settlement that starts runs, watches or signals has a transaction of its own.
    async fn settle_alone(&self, settlement: Box<Settlement>) -> SettleResult {
        let written = follow::settle(
            &self.pool,
            &self.registry,
            self.lease.worker,
            self.slot,
            &settlement,
        )
        .await;
        match written {
            Ok(Some(settled)) => {
                tally::committed(Commit::FollowUp, 1);
                self.memory.settled(&settlement, 1);
                self.bell.ring();
                SettleResult::Settled(settlement, settled)
            }
            Ok(None) => {
                tally::fenced(1);
                SettleResult::Fenced
            }
            Err(follow::FollowError::Database(error)) if is_lost(&error) => {
                Box::pin(self.settle_after_loss(settlement)).await
            }
            Err(error) => SettleResult::Failed(error.into_step_error()),
        }
    }

    /// Reads again what became of records whose answer was lost, and writes them if need be.
    async fn record_after_loss(&self, rows: &[StepRecord]) -> Result<bool, String> {
        let Some(first) = rows.first() else {
            return Ok(true);
        };
        while self.lease.is_trusted() {
            clock::sleep(RECONNECT).await;
            let Ok(mut conn) = self.pool.acquire().await else {
                continue;
            };
            let Ok(known) = store::settle::list_recorded(&mut conn, first.key, first.visit).await
            else {
                continue;
            };
            let missing: Vec<&StepRecord> = rows
                .iter()
                .filter(|row| !known.contains(&row.seq))
                .collect();
            if missing.is_empty() {
                return Ok(true);
            }
            let slot = self.slot;
            match store::settle::record(&mut conn, self.lease.worker, slot, &missing).await {
                Ok(written) => {
                    tally::committed(Commit::Steps, missing.len());
                    tally::fenced(missing.len().saturating_sub(written.len()));
                    return Ok(written.len() == missing.len());
                }
                Err(error) if is_lost(&error) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(false)
    }

    /// Reads again what became of a settlement whose answer was lost, and writes it if need be.
    async fn settle_after_loss(&self, settlement: Box<Settlement>) -> SettleResult {
        while self.lease.is_trusted() {
            clock::sleep(RECONNECT).await;
            let Ok(mut conn) = self.pool.acquire().await else {
                continue;
            };
            let Ok(standing) = store::settle::find_standing(&mut conn, settlement.run.key).await
            else {
                continue;
            };
            let Some(standing) = standing else {
                return SettleResult::Fenced;
            };
            let held = standing.held_by == Some(self.lease.worker.0)
                && standing.epoch == settlement.run.epoch.0
                && standing.status == Status::Running;
            if held && standing.visit == settlement.run.visit {
                drop(conn);
                if follow::has_follow_up(&settlement) {
                    return self.settle_alone(settlement).await;
                }
                let (reply, answer) = oneshot::channel();
                let again = Settling {
                    settlement,
                    after: None,
                    reply,
                };
                Box::pin(self.write_settlements(vec![again])).await;
                return answer.await.unwrap_or(SettleResult::Fenced);
            }
            let applied = standing.epoch == settlement.run.epoch.0;
            let ours = standing.held_by == Some(self.lease.worker.0);
            if !applied || !ours || !settlement.keep {
                // Applied and let go, or somebody else's by now: either way not ours any more.
                return SettleResult::Fenced;
            }
            let settled = Settled {
                nudged: true,
                held: true,
                due: false,
                told: false,
                now: settlement.run.now,
                tenant_now: settlement.run.tenant_now,
            };
            return SettleResult::Settled(settlement, settled);
        }
        SettleResult::Fenced
    }

    /// A parent, a watcher or the run itself may be due now.
    fn ring_for(&self, settlement: &Settlement, settled: Settled) {
        if settled.due || settled.told {
            self.bell.ring();
        } else if settlement.due_at.is_some() || settlement.delay.is_some() {
            // A new deadline may be earlier than what the idle worker waits for.
            self.bell.ring_here();
        }
    }
}

/// Those whose records are durable; the others have been told.
async fn landed(settlings: Vec<Settling>) -> Vec<Settling> {
    let mut landed = Vec::with_capacity(settlings.len());
    for settling in settlings {
        landed.extend(settling.landed().await);
    }
    landed
}

/// Whether the server said that the statement was rolled back: it waited too long, or for a ring of others.
fn is_undone(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "57014" || code.starts_with("40"))
}

/// Whether the error leaves open if the statement was committed.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Tls(_) => true,
        // 57P01..57P03: the server is shutting down or starting; 08: connection exceptions;
        // 40: serialization failure and deadlock; 53: out of resources; 55P03: lock timeout;
        // 57014: statement timeout. All pass with time; none says that the row is bad.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("57")
                || code.starts_with("08")
                || code.starts_with("40")
                || code.starts_with("53")
                || code == "55P03"
                || code == "25006"
        }),
        _ => false,
    }
}
