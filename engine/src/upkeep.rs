//! Housekeeping: renewing the lease, taking over from lost workers, partitions ahead of time.
//!
//! # Taking over
//!
//! Recovery deletes the lost worker's lease rows first. That waits for a write of that worker that
//! is under way, and any later one finds no lease and writes nothing. Only then, in a statement of
//! its own, are the worker's runs read and made due: a single statement would miss the rows that
//! it had just waited for.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bell::Bell;
use crate::breaker::Breakers;
use crate::clock;
use crate::failover;
use crate::gate;
use crate::id::WorkerId;
use crate::lease::Lease;
use crate::memory::Memory;
use crate::pool;
use crate::store;
use crate::store::lease::Flow;
use crate::tally;
use crate::weight::Weights;

/// How many renewals fit into one lease.
const RENEWALS_PER_LEASE: u32 = 4;
/// How often the logs' partitions are looked after.
const PARTITIONS_EVERY: Duration = Duration::from_secs(6 * 3600);

/// What hears of each renewal.
pub(crate) struct Hearing {
    pub(crate) worker: String,
    pub(crate) bell: Bell,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) weights: Arc<Weights>,
    pub(crate) memory: Arc<Memory>,
}

/// Renews the lease until it is lost, and looks after what all workers share. Each in a task of its own:
/// what takes long, as waking thousands at a limit that was raised does, must not cost the lease. Dropping
/// it ends them.
pub(crate) fn start(
    pool: &PgPool,
    lease: &Arc<Lease>,
    lost: &CancellationToken,
    hearing: Hearing,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let busy = Arc::new(Notify::new());
    let (failed_over, failovers) = mpsc::unbounded_channel();
    tasks.spawn(take_over(pool.clone(), lease.clone(), hearing.bell.clone()));
    tasks.spawn(sweep(pool.clone(), busy.clone()));
    tasks.spawn(make_partitions(pool.clone()));
    tasks.spawn(look_up_each(
        pool.clone(),
        hearing.memory.clone(),
        hearing.worker.clone(),
        failovers,
    ));
    let tells = Tells { busy, failed_over };
    tasks.spawn(renew(
        pool.clone(),
        lease.clone(),
        lost.clone(),
        hearing,
        tells,
    ));
    tasks
}

/// What a renewal tells those who see to it.
struct Tells {
    /// There are permits, or runs that wait.
    busy: Arc<Notify>,
    /// The timeline before a failover.
    failed_over: mpsc::UnboundedSender<u32>,
}

async fn renew(
    pool: PgPool,
    lease: Arc<Lease>,
    lost: CancellationToken,
    hearing: Hearing,
    tells: Tells,
) {
    let Hearing {
        breakers,
        weights,
        memory,
        ..
    } = hearing;
    loop {
        let sent = clock::monotonic();
        let changes = breakers.changes();
        // A host that does not answer must not hold us up until the kernel gives the connection up.
        let limit = lease.duration / RENEWALS_PER_LEASE;
        let renewed = tokio::time::timeout(limit, renew_once(&pool, &lease, &memory)).await;
        match renewed.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(Some(flow)) => {
                lease.renewed(sent);
                if let Some(before) = failed_over(&memory, &flow) {
                    // Nobody listens when the worker ends.
                    let _ = tells.failed_over.send(before);
                }
                breakers.refresh(changes, flow.shut);
                weights.hear(flow.tenants, flow.weights);
                if flow.busy {
                    tells.busy.notify_one();
                }
            }
            Ok(None) => {
                tracing::warn!("the lease has ended; its runs are others' now");
                tally::lost_lease();
                lost.cancel();
                return;
            }
            Err(error) if lease.is_trusted() => {
                tracing::warn!(error = %error, "cannot renew the lease; trying again");
                clock::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(error) => {
                tracing::warn!(error = %error, "the lease could not be renewed in time");
                tally::lost_lease();
                lost.cancel();
                return;
            }
        }
        clock::sleep(lease.duration / RENEWALS_PER_LEASE).await;
    }
}

/// Takes over from lost workers; one whose own lease is in doubt leaves that to others.
async fn take_over(pool: PgPool, lease: Arc<Lease>, bell: Bell) {
    loop {
        if lease.is_trusted() {
            match recover(&pool).await {
                Ok(true) => bell.ring(),
                Ok(false) => {}
                Err(error) => tracing::warn!(error = %error, "cannot take over from a lost worker"),
            }
        }
        clock::sleep(lease.duration / RENEWALS_PER_LEASE).await;
    }
}

/// Sweeps permits and doors after each renewal that found any.
async fn sweep(pool: PgPool, busy: Arc<Notify>) {
    loop {
        busy.notified().await;
        if let Err(error) = gate::sweep(&pool).await {
            tracing::warn!(error = %error, "cannot sweep permits; trying again");
        }
    }
}

async fn look_up_each(
    pool: PgPool,
    memory: Arc<Memory>,
    worker: String,
    mut failovers: mpsc::UnboundedReceiver<u32>,
) {
    while let Some(before) = failovers.recv().await {
        look_up(&pool, &memory, &worker, before).await;
    }
}

async fn make_partitions(pool: PgPool) {
    loop {
        if let Err(error) = ensure_partitions(&pool).await {
            tracing::warn!(error = %error, "cannot make the logs' partitions");
        }
        clock::sleep(PARTITIONS_EVERY).await;
    }
}

async fn renew_once(pool: &PgPool, lease: &Lease, memory: &Memory) -> sqlx::Result<Option<Flow>> {
    let mut conn = pool.acquire().await?;
    let tells_timeline = memory.timeline() > 0;
    store::lease::renew(&mut conn, lease.worker, lease.duration, tells_timeline).await
}

/// Whether the database is another than before: on another timeline, or with an older lease. Then
/// the timeline before.
fn failed_over(memory: &Memory, flow: &Flow) -> Option<u32> {
    let known = memory.timeline();
    let went_back = memory.renewed(flow.before, flow.expires_at);
    let timeline = flow.timeline.as_deref();
    let timeline = timeline.and_then(|name| u32::from_str_radix(name, 16).ok());
    let moved = timeline.and_then(|timeline| memory.hear(timeline));
    moved.or(went_back.then_some(known))
}

/// Looks up what was acknowledged before a failover.
pub(crate) async fn look_up(pool: &PgPool, memory: &Memory, worker: &str, before: u32) {
    if let Err(error) = failover::look_up(pool, memory, worker, before).await {
        tracing::error!(error = %error, "cannot look up what was committed before a failover");
    }
}

async fn ensure_partitions(pool: &PgPool) -> sqlx::Result<()> {
    let mut conn = pool.acquire().await?;
    store::gathering::delete_over(&mut conn).await?;
    store::lease::ensure_partitions(&mut conn).await
}

/// Takes over from every worker whose lease has ended; true when there was one.
pub(crate) async fn recover(pool: &PgPool) -> sqlx::Result<bool> {
    let mut any = false;
    loop {
        let mut conn = pool.acquire().await?;
        // Mostly there is nobody to take over from, and that needs no transaction.
        if store::lease::find_expired(&mut conn).await?.is_none() {
            return Ok(any);
        }
        drop(conn);
        let mut tx = pool::begin(pool).await?;
        let Some(worker) = store::lease::find_expired(&mut tx).await? else {
            return Ok(any);
        };
        let runs = take_back(&mut tx, worker).await?;
        tx.commit().await?;
        any = true;
        tally::recovered(runs);
        tracing::warn!(worker.id = ?worker.0, runs, "took over from a lost worker");
    }
}

/// Gives back a worker's lease and its runs.
pub(crate) async fn release(pool: &PgPool, worker: WorkerId) -> sqlx::Result<()> {
    let mut tx = pool::begin(pool).await?;
    take_back(&mut tx, worker).await?;
    tx.commit().await
}

async fn take_back(conn: &mut sqlx::PgConnection, worker: WorkerId) -> sqlx::Result<usize> {
    store::lease::delete(conn, worker).await?;
    let released = store::lease::release_runs(conn, worker).await?;
    for run in released.iter().filter(|run| run.gave_up) {
        tracing::error!(run.id = %run.run_id, "a run lost too many workers and is stuck");
    }
    store::lease::delete_worker(conn, worker).await?;
    Ok(released.len())
}
