//! W9: a worker process is killed with a thousand visits in flight. How soon the last of them runs
//! again elsewhere, and whether anything was done to the database twice.
//!
//! The worker that is killed is this program again (`tenure bench hold`): its visits write a row of
//! their own and then never come to an end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{ConnectOptions as _, Executor as _, PgPool};
use tenure_engine::{Client, Registry, ShardId, TenantId, Worker, WorkerConfig, tenant};
use tokio_util::sync::CancellationToken;

use super::figure::Measured;
use super::load::Bench;
use super::workflows::Held;

/// Visits in flight when the worker is killed.
const IN_FLIGHT: u32 = 1_000;
/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the database is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Measured> {
    let mut conn = bench.pool().acquire().await?;
    conn.execute(
        "reset role;
         drop table if exists bench_held;
         create table bench_held (run_id uuid not null);
         grant select, insert on bench_held to tenure_tenant, tenure_engine;
         set role tenure_engine",
    )
    .await?;
    let shard = ShardId::any();
    let tenant = TenantId::new(shard);
    tenant::register(&mut conn, tenant, shard, None).await?;
    let runs = bench.scaled(IN_FLIGHT);
    let keyed: Vec<_> = (0..runs)
        .map(|_| (tenure_engine::random_uuid().to_string(), ()))
        .collect();
    let client = bench.client();
    client.start_many::<Held>(&mut conn, tenant, &keyed).await?;
    drop(conn);

    let url = bench.pool().connect_options().to_url_lossy();
    let mut holder = tokio::process::Command::new(std::env::current_exe()?)
        .args(["bench", "hold", "--in-flight", &runs.to_string()])
        .env("DATABASE_URL", url.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the worker that is to be killed")?;
    let held = "select count(*) from bench_held";
    until(bench.pool(), held, runs).await?;
    // It stands by and finds nothing to do.
    let mut worker = bench.worker().await?;
    worker.idle().await;

    holder.kill().await?;
    let killed = Instant::now();
    let again = "select count(*) from engine.run where workflow = 'bench-held' and status = 10";
    until(bench.pool(), again, runs).await?;
    let after = killed.elapsed();
    worker.shutdown().await;
    let (rows, steps): (i64, i64) = sqlx::query_as(
        "select (select count(*) from bench_held),
           (select count(*) from engine.step join engine.run using (run_id, shard_id)
            where workflow = 'bench-held' and step.name = 'write' and tenant_id = $1)",
    )
    .bind(tenant.0)
    .fetch_one(bench.pool())
    .await?;
    let mut conn = bench.pool().acquire().await?;
    conn.execute("delete from engine.run where workflow = 'bench-held'")
        .await?;
    conn.execute("reset role; drop table bench_held; set role tenure_engine")
        .await?;
    let lease = WorkerConfig::default().lease;
    Ok(vec![
        ("all_again_s".to_owned(), after.as_secs_f64()),
        (
            "past_lease_s".to_owned(),
            (after.as_secs_f64() - lease.as_secs_f64()).max(0.0),
        ),
        ("visits_in_flight".to_owned(), runs as f64),
        ("rows_twice".to_owned(), (rows - steps) as f64),
    ])
}

async fn until(pool: &PgPool, count: &'static str, wanted: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let found: i64 = sqlx::query_scalar(count).fetch_one(pool).await?;
        if usize::try_from(found)? >= wanted {
            return Ok(());
        }
        anyhow::ensure!(
            began.elapsed() < PATIENCE,
            "{found} of {wanted} after {PATIENCE:?}: {count}"
        );
        tenure_engine::sleep(LOOK_EVERY).await;
    }
}

/// Takes runs and holds them until it is killed.
pub(super) async fn hold(pool: PgPool, in_flight: usize) -> anyhow::Result<()> {
    let registry = Registry::builder().register(Held { ends: false }).build()?;
    let client = Client::new(pool, registry, CancellationToken::new());
    let config = WorkerConfig {
        name: "bench-hold".to_owned(),
        in_flight,
        claim_batch: in_flight.clamp(1, 256),
        ..WorkerConfig::default()
    };
    let _worker = Worker::start(&client, config).await?;
    std::future::pending::<()>().await;
    Ok(())
}
