//! W3: runs asleep. How late those wake that are due, and what a million of them cost that are not.

use std::time::Duration;

use sqlx::{Executor as _, PgPool};

use super::crowd;
use super::figure::{Measured, percentile};
use super::load::Bench;
use super::workflows::Sleeper;

/// Sleepers that are due within [`SPREAD`], few and many.
const DUE: [(&str, u32); 2] = [("20k", 20_000), ("100k", 100_000)];
/// Over how long they fall due.
const SPREAD: f64 = 10.0;
/// Sleepers that are not due.
const ASLEEP: u32 = 1_000_000;
/// How many runs fall asleep in a second, at the worst; the first is due after all of them do.
const ASLEEP_PER_SECOND: f64 = 2_000.0;

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Measured> {
    let mut measured = Vec::new();
    for (name, count) in DUE {
        let late = wake(bench, bench.scaled(count)).await?;
        measured.push((format!("late_{name}_p50_ms"), percentile(&late, 0.5)));
        measured.push((format!("late_{name}_p99_ms"), percentile(&late, 0.99)));
    }
    measured.extend(beside(bench, bench.scaled(ASLEEP)).await?);
    Ok(measured)
}

/// Puts runs to sleep and lets them wake; by how many milliseconds each was late, to its commit.
async fn wake(bench: &Bench, count: usize) -> anyhow::Result<Vec<f64>> {
    let ahead = 2.0 + count as f64 / ASLEEP_PER_SECOND;
    let first: f64 = sqlx::query_scalar("select extract(epoch from engine.now())::float8 + $1")
        .bind(ahead)
        .fetch_one(bench.pool())
        .await?;
    let step = SPREAD / count as f64;
    let untils = (0..count).map(|nth| ((first + step * nth as f64) * 1e3) as i64);
    let keyed: Vec<(String, i64)> = untils
        .map(|until| (format!("{until}/{}", tenure_engine::random_uuid()), until))
        .collect();
    let mut worker = bench.worker().await?;
    bench.start_keyed::<Sleeper>(&keyed).await?;
    bench.client().ring();
    let limit = Duration::from_secs_f64(ahead + SPREAD + 120.0);
    bench.until_none_lives_within(limit).await?;
    worker.idle().await;
    worker.shutdown().await;
    let late: Vec<f64> = sqlx::query_scalar(
        "select extract(epoch from run.changed_at)::float8 * 1000 - split_part(key, '/', 1)::float8
         from engine.run
         where tenant_id = $1
           and workflow = 'bench-sleeper'
           and status = 10
         order by run_id desc
         limit $2",
    )
    .bind(bench.tenant().0)
    .bind(i64::try_from(count)?)
    .fetch_all(bench.pool())
    .await?;
    anyhow::ensure!(late.len() == count, "{} of {count} woke", late.len());
    Ok(late)
}

/// What runs that sleep for long cost: bytes, memory, and the others' time.
async fn beside(bench: &Bench, count: usize) -> anyhow::Result<Measured> {
    let mut worker = bench.worker().await?;
    worker.idle().await;
    let tenant = bench.tenant();
    let empty = crowd::few(bench, tenant).await?;
    let memory = resident_bytes()?;
    let size = size(bench.pool()).await?;
    let template = bench.sleep_for_long().await?;
    worker.idle().await;
    multiply(bench.pool(), template, count).await?;
    let asleep = crowd::few(bench, tenant).await?;
    let grown = (self::size(bench.pool()).await? - size) / count as f64;
    let memory = (resident_bytes()? - memory) / (1024.0 * 1024.0);
    worker.shutdown().await;
    forget(bench.pool(), tenant.0).await?;
    let (rest, busy) = (percentile(&empty, 0.99), percentile(&asleep, 0.99));
    Ok(vec![
        ("asleep_bytes_each".to_owned(), grown),
        ("asleep_process_mib".to_owned(), memory),
        ("empty_p99_ms".to_owned(), rest),
        ("asleep_p99_ms".to_owned(), busy),
        ("asleep_x_empty".to_owned(), busy / rest.max(f64::EPSILON)),
    ])
}

/// Copies a sleeper, row by row as the engine wrote it, but for its identity.
async fn multiply(pool: &PgPool, template: uuid::Uuid, count: usize) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    for table in ["engine.run", "engine.due"] {
        let copy = format!(
            "insert into {table}
             select row.*
             from {table} as template
             cross join generate_series(1, $2) as n
             cross join lateral jsonb_populate_record(template, jsonb_build_object(
               'run_id', overlay(template.run_id::text placing 'b' || lpad(to_hex(n), 11, '0') from 25),
               'key', 'asleep-' || n)) as row
             where template.run_id = $1"
        );
        sqlx::query(sqlx::AssertSqlSafe(copy))
            .bind(template)
            .bind(i32::try_from(count)?)
            .execute(&mut *conn)
            .await?;
    }
    conn.execute("reset role; analyze engine.run, engine.due; set role tenure_engine")
        .await?;
    Ok(())
}

/// Takes the sleepers away, so that what is measured next finds none.
async fn forget(pool: &PgPool, tenant: uuid::Uuid) -> anyhow::Result<()> {
    for statement in [
        "delete from engine.due using engine.run
         where due.run_id = run.run_id and due.shard_id = run.shard_id
           and run.tenant_id = $1 and run.workflow = 'bench-sleeper' and run.status = 2",
        "delete from engine.run
         where tenant_id = $1 and workflow = 'bench-sleeper' and status = 2",
    ] {
        sqlx::query(statement).bind(tenant).execute(pool).await?;
    }
    let mut conn = pool.acquire().await?;
    conn.execute("reset role").await?;
    conn.execute("vacuum (analyze) engine.run").await?;
    conn.execute("vacuum (analyze) engine.due").await?;
    conn.execute("set role tenure_engine").await?;
    Ok(())
}

async fn size(pool: &PgPool) -> anyhow::Result<f64> {
    let size = "select (pg_total_relation_size('engine.run') + pg_total_relation_size('engine.due'))::float8";
    Ok(sqlx::query_scalar(size).fetch_one(pool).await?)
}

/// Memory of this process, as the kernel counts it.
pub(super) fn resident_bytes() -> anyhow::Result<f64> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let resident = pages.split_whitespace().nth(1).unwrap_or("0");
    Ok(resident.parse::<f64>()? * 4096.0)
}
