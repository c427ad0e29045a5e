//! `tenure bench soak`: mixed load at a part of what the machine can do, for hours or days. What is
//! wanted is that nothing grows but the logs: neither tables and their indexes, nor dead rows, memory
//! or the time that a run takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tenure_engine::retention::RetentionConfig;
use tenure_engine::{RunRef, WorkerConfig};

use super::figure::{Measured, percentile};
use super::load::Bench;
use super::pinned::{dead_rows, live_bytes};
use super::sleep::resident_bytes;
use super::workflows::{Brief, Call, Listener, Steps};

/// How often there is something to do.
const TICK: Duration = Duration::from_millis(100);
/// Runs whose end is watched begin this often; nothing drops them meanwhile.
const PROBE_EVERY: usize = 10;
/// Of so many starts one sleeps for a while, and to so many there is a signal.
const NAP_EVERY: usize = 10;
const NAP_MS: u32 = 5_000;
const SIGNAL_EVERY: usize = 10;
const LISTENERS: usize = 4;
/// Runs that are carried out as fast as it goes, to see what that is.
const TRIAL: u32 = 20_000;
/// How often finished runs are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// How long, and how hard.
#[derive(Debug, clap::Args)]
pub struct SoakArgs {
    /// How long.
    #[arg(long, default_value_t = 120.0)]
    minutes: f64,
    /// Into how many parts the time is divided; of each a line is printed.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(3..))]
    parts: u32,
    /// What part of the runs that can be carried out is started.
    #[arg(long, default_value_t = 0.5)]
    load: f64,
    /// Starts a second, in place of a part of what can be carried out.
    #[arg(long)]
    rate: Option<f64>,
    /// The most visits in flight.
    #[arg(long, default_value_t = 512)]
    pub(super) in_flight: usize,
    /// Also writes the figures to this file, one JSON object a line.
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
}

/// One part of the time, as it ended.
struct Part {
    times: Vec<f64>,
    live_mib: f64,
    run_mib: f64,
    dead_rows: f64,
    process_mib: f64,
    unfinished: f64,
}

pub(super) async fn run(args: &SoakArgs, bench: &Bench) -> anyhow::Result<Measured> {
    let rate = match args.rate {
        Some(rate) => rate,
        None => args.load * capacity(bench).await?,
    };
    anyhow::ensure!(rate > 0.0, "--load and --rate must be above zero");
    let listeners: Vec<_> = (0..LISTENERS)
        .map(|_| (tenure_engine::random_uuid().to_string(), ()))
        .collect();
    bench.start_keyed::<Listener>(&listeners).await?;
    let worker = bench.worker_as(keeping_house()).await?;
    let each = Duration::from_secs_f64(args.minutes * 60.0 / f64::from(args.parts));
    outln!(
        "{rate:.0} starts a second, {} parts of {each:?}",
        args.parts
    );
    outln!(
        "{:>4} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12} {:>11}",
        "part",
        "p50 ms",
        "p99 ms",
        "live MiB",
        "runs MiB",
        "dead rows",
        "process MiB",
        "unfinished"
    );
    let mut parts = Vec::new();
    let mut load = Load {
        bench,
        listeners: &listeners,
        rate,
        ticks: 0,
        started: 0,
    };
    let began = (Instant::now(), log_bytes(bench.pool()).await?);
    for nth in 1..=args.parts {
        let part = load.part(began.0 + each * nth).await?;
        outln!(
            "{nth:>4} {:>10.2} {:>10.2} {:>10.1} {:>10.1} {:>10.0} {:>12.1} {:>11.0}",
            percentile(&part.times, 0.5),
            percentile(&part.times, 0.99),
            part.live_mib,
            part.run_mib,
            part.dead_rows,
            part.process_mib,
            part.unfinished,
        );
        parts.push(part);
    }
    let logged = log_bytes(bench.pool()).await? - began.1;
    worker.shutdown().await;
    let mut measured = vec![
        ("starts_per_s".to_owned(), rate),
        (
            "log_bytes_per_run".to_owned(),
            logged / load.started.max(1) as f64,
        ),
    ];
    measured.extend(drift(&parts));
    Ok(measured)
}

/// The last part against the second: in the first, tables find their size.
fn drift(parts: &[Part]) -> Measured {
    let (Some(first), Some(last)) = (parts.get(1), parts.last()) else {
        return Vec::new();
    };
    let p99 = |part: &Part| percentile(&part.times, 0.99);
    let pairs = [
        (
            "p50_ms",
            percentile(&first.times, 0.5),
            percentile(&last.times, 0.5),
        ),
        ("p99_ms", p99(first), p99(last)),
        ("live_tables_mib", first.live_mib, last.live_mib),
        ("run_table_mib", first.run_mib, last.run_mib),
        ("dead_rows", first.dead_rows, last.dead_rows),
        ("process_mib", first.process_mib, last.process_mib),
        ("unfinished", first.unfinished, last.unfinished),
    ];
    let mut measured: Measured = Vec::new();
    for (name, first, last) in pairs {
        measured.push((format!("first_{name}"), first));
        measured.push((format!("last_{name}"), last));
    }
    measured.push((
        "drift_x".to_owned(),
        p99(last) / p99(first).max(f64::EPSILON),
    ));
    measured
}

/// A worker that drops finished runs all the time.
fn keeping_house() -> WorkerConfig {
    WorkerConfig {
        retention: RetentionConfig {
            look_every: SWEEP_EVERY,
            pass_every: SWEEP_EVERY,
            ..RetentionConfig::default()
        },
        ..WorkerConfig::default()
    }
}

/// Runs a second, carried out as fast as it goes.
async fn capacity(bench: &Bench) -> anyhow::Result<f64> {
    let runs = bench.scaled(TRIAL);
    bench.start_of::<Brief>(runs, &0).await?;
    let began = Instant::now();
    let mut worker = bench.worker().await?;
    worker.idle().await;
    let took = began.elapsed();
    worker.shutdown().await;
    Ok(runs as f64 / took.as_secs_f64())
}

struct Load<'a> {
    bench: &'a Bench,
    listeners: &'a [(String, ())],
    rate: f64,
    ticks: usize,
    /// How many runs were started, probes apart.
    started: usize,
}

impl Load<'_> {
    /// Load until an instant. What is late is made up for, so that a slow machine shows as unfinished
    /// runs and not as less load.
    async fn part(&mut self, until: Instant) -> anyhow::Result<Part> {
        let mut probes = Vec::new();
        let mut due = Instant::now();
        while due < until {
            self.tick(&mut probes).await?;
            due += TICK;
            tenure_engine::sleep(due.saturating_duration_since(Instant::now())).await;
        }
        let (bench, pool) = (self.bench, self.bench.pool());
        let unfinished = bench.live().await?;
        Ok(Part {
            times: bench.until_ended(bench.tenant(), &probes).await?,
            live_mib: live_bytes(pool).await?,
            run_mib: run_bytes(pool).await?,
            dead_rows: dead_rows(pool).await?,
            process_mib: resident_bytes()? / (1024.0 * 1024.0),
            unfinished,
        })
    }

    async fn tick(&mut self, probes: &mut Vec<String>) -> anyhow::Result<()> {
        self.ticks += 1;
        let wanted = self.rate * TICK.as_secs_f64() * self.ticks as f64;
        let starts = (wanted as usize).saturating_sub(self.started);
        let runs: Vec<_> = (0..starts)
            .map(|nth| {
                let nap = if nth % NAP_EVERY == 0 { NAP_MS } else { 0 };
                (tenure_engine::random_uuid().to_string(), nap)
            })
            .collect();
        self.bench.start_keyed::<Brief>(&runs).await?;
        self.started += starts;
        if self.ticks.is_multiple_of(PROBE_EVERY) {
            let key = tenure_engine::random_uuid().to_string();
            self.bench.start_keyed::<Steps>(&[(key.clone(), 1)]).await?;
            probes.push(key);
        }
        let mut conn = self.bench.pool().acquire().await?;
        for nth in 0..starts / SIGNAL_EVERY {
            let id = tenure_engine::random_uuid().to_string();
            let run = RunRef::Key(&self.listeners[nth % LISTENERS].0);
            let (client, tenant) = (self.bench.client(), self.bench.tenant());
            client
                .signal::<Listener>(&mut conn, tenant, run, &id, &Call::Ping)
                .await?;
        }
        drop(conn);
        self.bench.client().ring();
        Ok(())
    }
}

/// The runs, with their indexes.
async fn run_bytes(pool: &PgPool) -> anyhow::Result<f64> {
    let size = "select pg_total_relation_size('engine.run')::float8 / 1048576";
    Ok(sqlx::query_scalar(size).fetch_one(pool).await?)
}

/// The logs of steps, visits and messages, which are kept for months.
async fn log_bytes(pool: &PgPool) -> anyhow::Result<f64> {
    let size = "select coalesce(sum(pg_total_relation_size(relid)), 0)::float8
                from unnest(array['engine.step', 'engine.transition']) as name
                cross join pg_partition_tree(name::regclass) as part";
    Ok(sqlx::query_scalar(size).fetch_one(pool).await?)
}
