//! The workloads: each drives the engine through its public doors and says what it saw.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use sqlx::{Executor as _, PgPool};
use tenure_engine::{
    Client, Registry, RunId, RunRef, ShardId, TenantId, Worker, WorkerConfig, Workflow, tenant,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::figure::{Measured, percentile};
use super::workflows::{Call, Effects, Listener, Sleeper, Steps};
use super::{backfill, crowd, deletion, entitlement, http, lost, pinned, renewal, sleep};

/// How often a sent signal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Idle backends send their statistics this late; they must not fall into the watched time.
const STATISTICS_LAG: Duration = Duration::from_secs(12);
/// How often the end of a crowd is looked for, which is not what is measured.
const SLOW_LOOK: Duration = Duration::from_millis(100);
/// How long a crowd may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many runs are started in one statement.
const START_BATCH: usize = 500;

/// The engine under measurement: a client, and one tenant.
pub(crate) struct Bench {
    client: Client,
    tenant: TenantId,
    in_flight: usize,
    scale: f64,
    stop: CancellationToken,
}

/// One of the workloads.
#[derive(Clone, Copy)]
pub(crate) enum Workload {
    OneStep,
    TenSteps,
    TenEffects,
    Latency,
    Sleepers,
    Signals,
    Flood,
    Blocked,
    Pinned,
    Idle,
    Lost,
    Http,
    Entitlements,
    Renewals,
    Backfill,
    Deletion,
}

/// All of them, by name.
pub(crate) const WORKLOADS: [(&str, Workload); 16] = [
    ("W1", Workload::OneStep),
    ("W2", Workload::TenSteps),
    ("W2T", Workload::TenEffects),
    ("W2L", Workload::Latency),
    ("W3", Workload::Sleepers),
    ("W4", Workload::Signals),
    ("W5", Workload::Flood),
    ("W6", Workload::Blocked),
    ("W7", Workload::Pinned),
    ("W8", Workload::Idle),
    ("W9", Workload::Lost),
    ("W10", Workload::Http),
    ("E1", Workload::Entitlements),
    ("R1", Workload::Renewals),
    ("B1", Workload::Backfill),
    ("B2", Workload::Deletion),
];

impl Workload {
    pub(crate) async fn measure(self, bench: &Bench) -> anyhow::Result<Measured> {
        match self {
            Self::OneStep => one_step(bench).await,
            Self::TenSteps => ten_steps(bench).await,
            Self::TenEffects => ten_effects(bench).await,
            Self::Latency => latency(bench).await,
            Self::Sleepers => sleep::measure(bench).await,
            Self::Signals => signals(bench).await,
            Self::Flood => crowd::flood(bench).await,
            Self::Blocked => crowd::blocked(bench).await,
            Self::Pinned => pinned::measure(bench).await,
            Self::Idle => idle(bench).await,
            Self::Lost => lost::measure(bench).await,
            Self::Http => http::measure(bench).await,
            Self::Entitlements => entitlement::measure(bench.pool(), bench.scale).await,
            Self::Renewals => renewal::measure(bench).await,
            Self::Backfill => backfill::measure(bench).await,
            Self::Deletion => deletion::measure(bench).await,
        }
    }
}

impl Bench {
    pub(crate) async fn new(
        pool: PgPool,
        registry: Registry,
        in_flight: usize,
        scale: f64,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let shard = ShardId::any();
        let tenant = TenantId::new(shard);
        tenant::register(&mut *pool.acquire().await?, tenant, shard, None).await?;
        Ok(Self {
            client: Client::new(pool, registry, stop.clone()),
            tenant,
            in_flight,
            scale,
            stop,
        })
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.client.pool()
    }

    /// Measures with more or less work from now on.
    pub(super) fn set_scale(&mut self, scale: f64) {
        self.scale = scale;
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.pool().close().await;
    }

    pub(super) fn scaled(&self, count: u32) -> usize {
        ((f64::from(count) * self.scale) as usize).max(1)
    }

    pub(super) async fn worker(&self) -> anyhow::Result<Worker> {
        self.worker_as(WorkerConfig::default()).await
    }

    /// A worker with as many visits in flight as all others here.
    pub(super) async fn worker_as(&self, config: WorkerConfig) -> anyhow::Result<Worker> {
        let config = WorkerConfig {
            name: "bench".to_owned(),
            in_flight: self.in_flight,
            ..config
        };
        Ok(Worker::start(&self.client, config).await?)
    }

    /// Starts runs of so many steps, with keys that no earlier round has used.
    pub(super) async fn start(&self, runs: usize, steps: u32) -> anyhow::Result<()> {
        self.start_of::<Steps>(runs, &steps).await
    }

    /// Starts runs of a workflow with the same input, with keys that no earlier round has used.
    pub(super) async fn start_of<W>(&self, runs: usize, input: &W::Input) -> anyhow::Result<()>
    where
        W: Workflow,
        W::Input: Clone,
    {
        let keyed: Vec<_> = (0..runs)
            .map(|_| (tenure_engine::random_uuid().to_string(), input.clone()))
            .collect();
        self.start_keyed::<W>(&keyed).await
    }

    /// Starts runs in batches.
    pub(super) async fn start_keyed<W: Workflow>(
        &self,
        keyed: &[(String, W::Input)],
    ) -> anyhow::Result<()> {
        let mut conn = self.pool().acquire().await?;
        for batch in keyed.chunks(START_BATCH) {
            self.client
                .start_many::<W>(&mut conn, self.tenant, batch)
                .await?;
        }
        Ok(())
    }

    /// The engine's time, in milliseconds since 1970.
    pub(super) async fn now_ms(&self) -> anyhow::Result<i64> {
        let now = "select (extract(epoch from engine.now()) * 1000)::bigint";
        Ok(sqlx::query_scalar(now).fetch_one(self.pool()).await?)
    }

    /// Starts a sleeper that is not due while anything is measured; its id.
    pub(super) async fn sleep_for_long(&self) -> anyhow::Result<uuid::Uuid> {
        let until = self.now_ms().await? + 10 * 365 * 24 * 3_600_000;
        let key = tenure_engine::random_uuid().to_string();
        let mut conn = self.pool().acquire().await?;
        let started = self
            .client
            .start::<Sleeper>(&mut conn, self.tenant, &key, &until);
        let run = started.await?.run_id;
        self.client.ring();
        Ok(run.0)
    }

    /// How many runs of the tenant have work to do.
    pub(super) async fn live(&self) -> anyhow::Result<f64> {
        let count = "select count(*)::float8 from engine.run where tenant_id = $1 and status in (0, 1, 3, 6)";
        let count = sqlx::query_scalar(count).bind(self.tenant.0);
        Ok(count.fetch_one(self.pool()).await?)
    }

    /// Waits until no run of the tenant has anything to do or to wake for.
    pub(super) async fn until_none_lives(&self) -> anyhow::Result<()> {
        self.until_none_lives_within(PATIENCE).await
    }

    pub(super) async fn until_none_lives_within(&self, limit: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let lives: bool = sqlx::query_scalar(
                "select exists (select from engine.due where tenant_id = $1)
                   or exists (select from engine.waiter where tenant_id = $1)
                   or exists (select from engine.run where tenant_id = $1 and status in (0, 1, 6))",
            )
            .bind(self.tenant.0)
            .fetch_one(self.pool())
            .await?;
            if !lives {
                return Ok(());
            }
            anyhow::ensure!(began.elapsed() < limit, "runs did not end within {limit:?}");
            tenure_engine::sleep(SLOW_LOOK).await;
        }
    }

    /// Waits until runs with these keys have ended; the milliseconds from each one's start to its end.
    pub(super) async fn until_ended(
        &self,
        tenant: TenantId,
        keys: &[String],
    ) -> anyhow::Result<Vec<f64>> {
        let began = Instant::now();
        loop {
            let ended: Vec<f64> = sqlx::query_scalar(
                "select extract(epoch from changed_at - started_at)::float8 * 1000
                 from engine.run
                 where key = any($1) and tenant_id = $2 and status = 10",
            )
            .bind(keys)
            .bind(tenant.0)
            .fetch_all(self.pool())
            .await?;
            if ended.len() == keys.len() {
                return Ok(ended);
            }
            anyhow::ensure!(
                began.elapsed() < PATIENCE,
                "runs did not end within {PATIENCE:?}"
            );
            // The database's stamps are what is measured; the look itself must not crowd them out.
            tenure_engine::sleep(LOOK_EVERY).await;
        }
    }
}

/// What Postgres says that it did so far.
struct Counters {
    wal_bytes: f64,
    commits: f64,
}

impl Counters {
    async fn read(pool: &PgPool) -> anyhow::Result<Self> {
        // A full look: the statistics of this session are sent at the end of each transaction.
        let (wal_bytes, commits): (f64, f64) = sqlx::query_as(
            "select (pg_current_wal_insert_lsn() - '0/0')::float8,
                    (select xact_commit::float8 from pg_stat_database where datname = current_database())",
        )
        .fetch_one(pool)
        .await?;
        Ok(Self { wal_bytes, commits })
    }
}

async fn one_step(bench: &Bench) -> anyhow::Result<Measured> {
    let runs = bench.scaled(20_000);
    let before = Counters::read(bench.pool()).await?;
    let began = Instant::now();
    bench.start(runs, 1).await?;
    let started = began.elapsed();
    let began = Instant::now();
    let mut worker = bench.worker().await?;
    worker.idle().await;
    let completed = began.elapsed();
    let after = Counters::read(bench.pool()).await?;
    worker.shutdown().await;
    let runs = runs as f64;
    Ok(vec![
        ("start_runs_per_s".to_owned(), runs / started.as_secs_f64()),
        (
            "complete_runs_per_s".to_owned(),
            runs / completed.as_secs_f64(),
        ),
        (
            "wal_bytes_per_run".to_owned(),
            (after.wal_bytes - before.wal_bytes) / runs,
        ),
    ])
}

async fn ten_steps(bench: &Bench) -> anyhow::Result<Measured> {
    let runs = bench.scaled(5_000);
    bench.start(runs, 10).await?;
    let before = Counters::read(bench.pool()).await?;
    let began = Instant::now();
    let mut worker = bench.worker().await?;
    worker.idle().await;
    let elapsed = began.elapsed().as_secs_f64();
    let after = Counters::read(bench.pool()).await?;
    worker.shutdown().await;
    let steps = runs as f64 * 10.0;
    Ok(vec![
        ("steps_per_s".to_owned(), steps / elapsed),
        (
            "wal_bytes_per_step".to_owned(),
            (after.wal_bytes - before.wal_bytes) / steps,
        ),
        (
            "commits_per_step".to_owned(),
            (after.commits - before.commits) / steps,
        ),
    ])
}

/// As ten steps, with a row of the caller's own in the transaction of each.
async fn ten_effects(bench: &Bench) -> anyhow::Result<Measured> {
    let mut conn = bench.pool().acquire().await?;
    conn.execute(
        "reset role;
         create table if not exists bench_effect (tenant_id uuid not null, done bigint not null);
         grant insert on bench_effect to tenure_tenant;
         set role tenure_engine",
    )
    .await?;
    drop(conn);
    let runs = bench.scaled(1_000);
    bench.start_of::<Effects>(runs, &10).await?;
    let before = Counters::read(bench.pool()).await?;
    let began = Instant::now();
    let mut worker = bench.worker().await?;
    worker.idle().await;
    let elapsed = began.elapsed().as_secs_f64();
    let after = Counters::read(bench.pool()).await?;
    worker.shutdown().await;
    let steps = runs as f64 * 10.0;
    let done: f64 =
        sqlx::query_scalar("select count(*)::float8 from engine.step where name = 'insert'")
            .fetch_one(bench.pool())
            .await?;
    anyhow::ensure!(done >= steps, "{done} of {steps} effects are recorded");
    Ok(vec![
        ("steps_per_s".to_owned(), steps / elapsed),
        (
            "wal_bytes_per_step".to_owned(),
            (after.wal_bytes - before.wal_bytes) / steps,
        ),
    ])
}

/// One run of many steps at a time: the time between two steps' records.
async fn latency(bench: &Bench) -> anyhow::Result<Measured> {
    let mut worker = bench.worker().await?;
    let rounds = bench.scaled(40);
    for _ in 0..rounds {
        bench.start(1, 11).await?;
        bench.client.ring();
        worker.idle().await;
    }
    worker.shutdown().await;
    let recorded: Vec<Option<f64>> = sqlx::query_scalar(
        "select extract(epoch from recorded_at - lag(recorded_at) over (partition by run_id order by seq))::float8 * 1000
         from engine.step
         join engine.run using (run_id, shard_id)
         where run.tenant_id = $1
           and run_id in (
             select run_id from engine.run where tenant_id = $1 order by run_id desc limit $2
           )
         order by 1",
    )
    .bind(bench.tenant.0)
    .bind(i64::try_from(rounds)?)
    .fetch_all(bench.pool())
    .await?;
    let gaps: Vec<f64> = recorded.into_iter().flatten().collect();
    Ok(vec![
        ("step_p50_ms".to_owned(), percentile(&gaps, 0.5)),
        ("step_p99_ms".to_owned(), percentile(&gaps, 0.99)),
    ])
}

async fn signals(bench: &Bench) -> anyhow::Result<Measured> {
    let mut worker = bench.worker().await?;
    let mut conn = bench.pool().acquire().await?;
    let crowd = 200;
    let keys: Vec<_> = (0..crowd)
        .map(|_| (tenure_engine::random_uuid().to_string(), ()))
        .collect();
    bench
        .client
        .start_many::<Listener>(&mut conn, bench.tenant, &keys)
        .await?;
    drop(conn);
    bench.client.ring();
    worker.idle().await;

    let watch = Watch::new(bench.pool().clone());
    let alone = {
        let pings = async {
            let mut alone = Vec::new();
            for _ in 0..bench.scaled(200) {
                alone.push(ping(bench, &watch, &keys[0].0).await?);
            }
            anyhow::Ok(alone)
        };
        tokio::select! {
            alone = pings => alone?,
            broken = watch.keep_looking() => return Err(broken),
        }
    };
    let per_run = bench.scaled(10);
    let callers = keys.iter().map(async |(key, ())| {
        let mut times = Vec::new();
        for _ in 0..per_run {
            times.push(ping(bench, &watch, key).await?);
        }
        anyhow::Ok(times)
    });
    let crowded: Vec<Vec<f64>> = tokio::select! {
        crowded = try_join_all(callers) => crowded?,
        broken = watch.keep_looking() => return Err(broken),
    };
    let crowded: Vec<f64> = crowded.into_iter().flatten().collect();
    worker.shutdown().await;
    Ok(vec![
        ("alone_p50_ms".to_owned(), percentile(&alone, 0.5)),
        ("alone_p99_ms".to_owned(), percentile(&alone, 0.99)),
        ("crowd_p50_ms".to_owned(), percentile(&crowded, 0.5)),
        ("crowd_p99_ms".to_owned(), percentile(&crowded, 0.99)),
    ])
}

/// Sends one signal; milliseconds between its record and that of the transition it led to.
async fn ping(bench: &Bench, watch: &Watch, key: &str) -> anyhow::Result<f64> {
    let signal_id = tenure_engine::random_uuid().to_string();
    let mut conn = bench.pool().acquire().await?;
    let sent = bench
        .client
        .signal::<Listener>(
            &mut conn,
            bench.tenant,
            RunRef::Key(key),
            &signal_id,
            &Call::Ping,
        )
        .await?;
    drop(conn);
    let handled = watch.expect(sent.run_id, signal_id);
    bench.client.ring();
    let handled = tokio::time::timeout(Duration::from_secs(30), handled).await;
    Ok(handled.context("a signal was not handled within 30 s")??)
}

/// Looks, for all callers at once, which signals have been handled: a look of each caller's own
/// would crowd out what is measured.
struct Watch {
    pool: PgPool,
    expected: Mutex<Expected>,
}

/// Who is told when a signal to a run has been handled.
type Expected = HashMap<(Uuid, String), oneshot::Sender<f64>>;

impl Watch {
    fn new(pool: PgPool) -> Self {
        Self {
            pool,
            expected: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, run_id: RunId, signal_id: String) -> oneshot::Receiver<f64> {
        let (tell, told) = oneshot::channel();
        self.lock().insert((run_id.0, signal_id), tell);
        told
    }

    /// Looks until it cannot.
    async fn keep_looking(&self) -> anyhow::Error {
        loop {
            if let Err(error) = self.look().await {
                return error;
            }
            // The database's stamps are what is measured; how soon they are seen is not.
            tenure_engine::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> anyhow::Result<()> {
        let (run_ids, signal_ids): (Vec<Uuid>, Vec<String>) = self.lock().keys().cloned().unzip();
        if run_ids.is_empty() {
            return Ok(());
        }
        let handled: Vec<(Uuid, String, f64)> = sqlx::query_as(
            "select run_id, signal_id,
                    extract(epoch from run.changed_at - inbox.recorded_at)::float8 * 1000
             from unnest($1::uuid[], $2::text[]) as expected (run_id, signal_id)
             join engine.inbox using (run_id, signal_id)
             join engine.run using (run_id, shard_id)
             where inbox.outcome = 1",
        )
        .bind(run_ids)
        .bind(signal_ids)
        .fetch_all(&self.pool)
        .await?;
        for (run_id, signal_id, took) in handled {
            if let Some(tell) = self.lock().remove(&(run_id, signal_id)) {
                let _ = tell.send(took);
            }
        }
        Ok(())
    }
}

/// Nothing due: what one worker asks of Postgres, and of the processor.
async fn idle(bench: &Bench) -> anyhow::Result<Measured> {
    let mut worker = bench.worker().await?;
    worker.idle().await;
    tenure_engine::sleep(STATISTICS_LAG).await;
    let watched = Duration::from_secs(10);
    let before = Counters::read(bench.pool()).await?;
    let cpu_before = process_cpu_seconds()?;
    tenure_engine::sleep(watched).await;
    let cpu_after = process_cpu_seconds()?;
    let after = Counters::read(bench.pool()).await?;
    worker.shutdown().await;
    let seconds = watched.as_secs_f64();
    Ok(vec![
        (
            "statements_per_s".to_owned(),
            (after.commits - before.commits) / seconds,
        ),
        (
            "process_cpu_percent".to_owned(),
            100.0 * (cpu_after - cpu_before) / seconds,
        ),
    ])
}

/// User and system time of this process.
fn process_cpu_seconds() -> anyhow::Result<f64> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}
