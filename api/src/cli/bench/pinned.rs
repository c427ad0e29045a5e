//! W7: an hour of mixed load while another connection holds an old snapshot open, so that Postgres
//! can take no dead row away. What matters is the drift: how slow the last minutes are against the
//! first, and how large the tables of live work have grown.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use tenure_engine::RunRef;

use super::figure::{Measured, percentile};
use super::load::Bench;
use super::workflows::{Call, Listener, Sleeper, Steps};

/// The whole of it; the first part is what the last is held against.
const SECONDS: u32 = 3_600;
/// Into so many parts the time is divided.
const PARTS: u32 = 12;
/// How often there is something to do.
const TICK: Duration = Duration::from_millis(100);
/// What a tick brings: runs of one step, signals to listeners, and runs that sleep for a while.
const STARTS: usize = 20;
const SIGNALS: usize = 4;
const SLEEPERS: usize = 4;
const NAP_MS: i64 = 5_000;
/// The tables that hold what is live.
const LIVE: [&str; 5] = [
    "engine.due",
    "engine.nudge",
    "engine.claimed",
    "engine.lease",
    "engine.waiter",
];

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Measured> {
    let listeners: Vec<_> = (0..SIGNALS)
        .map(|_| (tenure_engine::random_uuid().to_string(), ()))
        .collect();
    bench.start_keyed::<Listener>(&listeners).await?;
    let mut worker = bench.worker().await?;
    worker.idle().await;
    let options = (*bench.pool().connect_options()).clone();
    let mut old = PgConnection::connect_with(&options).await?;
    old.execute("begin isolation level repeatable read; select 1")
        .await?;

    let ticks = bench.scaled(SECONDS * 10).max(PARTS as usize) / PARTS as usize;
    let mut parts = Vec::new();
    let mut size = Vec::new();
    for _ in 0..PARTS {
        parts.push(part(bench, &listeners, ticks).await?);
        size.push(live_bytes(bench.pool()).await?);
    }
    let dead = dead_rows(bench.pool()).await?;
    old.execute("rollback").await?;
    old.close().await?;
    worker.idle().await;
    worker.shutdown().await;
    let p99: Vec<f64> = parts.iter().map(|times| percentile(times, 0.99)).collect();
    let (first, last) = (p99[0], p99[p99.len() - 1]);
    Ok(vec![
        ("first_p50_ms".to_owned(), percentile(&parts[0], 0.5)),
        ("first_p99_ms".to_owned(), first),
        (
            "last_p50_ms".to_owned(),
            percentile(&parts[parts.len() - 1], 0.5),
        ),
        ("last_p99_ms".to_owned(), last),
        ("drift_x".to_owned(), last / first.max(f64::EPSILON)),
        ("live_tables_first_mib".to_owned(), size[0]),
        ("live_tables_last_mib".to_owned(), size[size.len() - 1]),
        ("dead_rows".to_owned(), dead),
    ])
}

/// So many ticks of load; the milliseconds from start to end of one run of each.
async fn part(bench: &Bench, listeners: &[(String, ())], ticks: usize) -> anyhow::Result<Vec<f64>> {
    let began = Instant::now();
    let mut watched = Vec::with_capacity(ticks);
    let mut due = Duration::ZERO;
    for _ in 0..ticks {
        let runs: Vec<_> = (0..STARTS)
            .map(|_| (tenure_engine::random_uuid().to_string(), 1))
            .collect();
        bench.start_keyed::<Steps>(&runs).await?;
        let until = bench.now_ms().await? + NAP_MS;
        let naps: Vec<_> = (0..SLEEPERS)
            .map(|_| (tenure_engine::random_uuid().to_string(), until))
            .collect();
        bench.start_keyed::<Sleeper>(&naps).await?;
        let mut conn = bench.pool().acquire().await?;
        for (key, ()) in listeners {
            let id = tenure_engine::random_uuid().to_string();
            let (client, tenant) = (bench.client(), bench.tenant());
            let place = RunRef::Key(key);
            client
                .signal::<Listener>(&mut conn, tenant, place, &id, &Call::Ping)
                .await?;
        }
        drop(conn);
        bench.client().ring();
        watched.extend(runs.into_iter().take(1).map(|(key, _)| key));
        due += TICK;
        tenure_engine::sleep(due.saturating_sub(began.elapsed())).await;
    }
    bench.until_ended(bench.tenant(), &watched).await
}

pub(super) async fn live_bytes(pool: &PgPool) -> anyhow::Result<f64> {
    let size = "select sum(pg_total_relation_size(name::regclass))::float8 / 1048576
                from unnest($1::text[]) as name";
    let size = sqlx::query_scalar(size).bind(LIVE).fetch_one(pool);
    Ok(size.await?)
}

/// Rows of those tables that nobody but the old snapshot could still see.
pub(super) async fn dead_rows(pool: &PgPool) -> anyhow::Result<f64> {
    let dead = "select sum(n_dead_tup)::float8 from pg_stat_user_tables
                where (schemaname || '.' || relname) = any($1)";
    let dead = sqlx::query_scalar(dead).bind(LIVE).fetch_one(pool);
    Ok(dead.await?)
}
