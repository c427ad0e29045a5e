//! W5 and W6: what others feel of one tenant's flood, and of a crowd that has no room.
//!
//! Each is measured twice in one round, on a system that is at rest and beside the crowd, so that the
//! ratio says something whatever the machine does. What is timed is one small run, from its start to
//! its end, by the database's stamps.

use tenure_engine::flow::{self, Author, Numbers};
use tenure_engine::{ShardId, TenantId, tenant};

use super::figure::{Measured, percentile};
use super::load::Bench;
use super::workflows::{GATE, Gated, Steps};

/// Runs of the tenant that floods, and of the crowd that has no room.
const CROWD: u32 = 100_000;
/// How often the other tenant starts its ten.
const ROUNDS: u32 = 10;
/// How many it starts at a time.
const FEW: usize = 10;

/// One tenant floods, another starts ten.
pub(super) async fn flood(bench: &Bench) -> anyhow::Result<Measured> {
    let other = another(bench).await?;
    let mut worker = bench.worker().await?;
    worker.idle().await;
    let empty = few(bench, other).await?;
    bench.start(bench.scaled(CROWD), 1).await?;
    bench.client().ring();
    let beside = few(bench, other).await?;
    // How much of the flood the measured runs went past.
    let left = bench.live().await?;
    worker.idle().await;
    worker.shutdown().await;
    let mut measured = against("empty", &empty, "flood", &beside);
    measured.push(("flood_left_runs".to_owned(), left));
    Ok(measured)
}

/// A crowd is blocked on a key that is full, and everybody else works on.
pub(super) async fn blocked(bench: &Bench) -> anyhow::Result<Measured> {
    let other = another(bench).await?;
    let mut worker = bench.worker().await?;
    worker.idle().await;
    let empty = few(bench, other).await?;
    set_room(bench, Some(0)).await?;
    bench.start_of::<Gated>(bench.scaled(CROWD), &()).await?;
    bench.client().ring();
    worker.idle().await;
    let waiting: i64 =
        sqlx::query_scalar("select count(*) from engine.waiter where name = $1 and tenant_id = $2")
            .bind(GATE.name)
            .bind(bench.tenant().0)
            .fetch_one(bench.pool())
            .await?;
    let beside = few(bench, other).await?;
    set_room(bench, None).await?;
    bench.client().ring();
    bench.until_none_lives().await?;
    worker.shutdown().await;
    let mut measured = against("empty", &empty, "blocked", &beside);
    measured.push(("blocked_runs".to_owned(), waiting as f64));
    Ok(measured)
}

fn against(empty: &str, without: &[f64], crowded: &str, beside: &[f64]) -> Measured {
    let (rest, busy) = (percentile(without, 0.99), percentile(beside, 0.99));
    vec![
        (format!("{empty}_p50_ms"), percentile(without, 0.5)),
        (format!("{empty}_p99_ms"), rest),
        (format!("{crowded}_p50_ms"), percentile(beside, 0.5)),
        (format!("{crowded}_p99_ms"), busy),
        (
            format!("{crowded}_x_{empty}"),
            busy / rest.max(f64::EPSILON),
        ),
    ]
}

async fn another(bench: &Bench) -> anyhow::Result<TenantId> {
    let shard = ShardId::any();
    let other = TenantId::new(shard);
    let mut conn = bench.pool().acquire().await?;
    tenant::register(&mut conn, other, shard, None).await?;
    Ok(other)
}

/// Starts a few runs of a tenant again and again; the milliseconds from each one's start to its end.
pub(super) async fn few(bench: &Bench, tenant: TenantId) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let keys: Vec<_> = (0..FEW)
            .map(|_| (tenure_engine::random_uuid().to_string(), 1))
            .collect();
        let mut conn = bench.pool().acquire().await?;
        bench
            .client()
            .start_many::<Steps>(&mut conn, tenant, &keys)
            .await?;
        drop(conn);
        bench.client().ring();
        let names: Vec<String> = keys.into_iter().map(|(key, _)| key).collect();
        times.extend(bench.until_ended(tenant, &names).await?);
    }
    Ok(times)
}

async fn set_room(bench: &Bench, concurrency: Option<u32>) -> anyhow::Result<()> {
    let author = Author {
        actor: "bench".to_owned(),
        role: "operator".to_owned(),
        reason: "to measure what others feel".to_owned(),
    };
    let numbers = Numbers {
        concurrency,
        rate: None,
    };
    let mut tx = tenure_engine::begin(bench.pool()).await?;
    flow::set_limit(&mut tx, GATE.name, numbers, &author).await?;
    tx.commit().await?;
    Ok(())
}
