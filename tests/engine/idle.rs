//! Idling: what a worker with nothing due asks of the database, and one with little.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tenure_engine::{Client, PoolConfig, Status, Worker, WorkerConfig};
use tokio_util::sync::CancellationToken;

use super::workflows::{Errand, Outside, registry};
use crate::support::engine::TestEngine;
use crate::support::wire::{Tally, WireTap};
use crate::support::{self, eventually};

/// How often a lease is renewed within its time (`engine/src/upkeep.rs`).
const RENEWALS_PER_LEASE: f64 = 4.0;
/// The bound of the benchmark's W8.
const STATEMENTS_PER_SECOND: f64 = 2.0;

fn executions(tally: &Tally, words: &str) -> usize {
    let about = tally
        .iter()
        .filter(|(statement, _)| statement.contains(words));
    about.map(|(_, count)| count).sum()
}

fn looks(tally: &Tally) -> usize {
    executions(tally, "select min(look_at) from engine.schedule")
}

fn renewals(tally: &Tally) -> usize {
    executions(tally, "update engine.worker set expires_at")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_nothing_due_asks_little() {
    let (tap, options) = WireTap::on(&support::database().await).await;
    let pool = tenure_engine::connect(options, &PoolConfig::default())
        .await
        .unwrap();
    let client = Client::new(
        pool,
        registry(&Outside::default()),
        CancellationToken::new(),
    );
    // Statements are counted by look and by renewal, so their pace does not matter here.
    let config = WorkerConfig {
        poll: Duration::from_millis(20),
        lease: Duration::from_secs(6),
        ..WorkerConfig::default()
    };
    let worker = Worker::start(&client, config).await.unwrap();
    let wait_for = async |wanted: usize| {
        eventually("it has looked and renewed often enough", async || {
            let tally = tap.tally();
            looks(&tally) >= 10 * wanted && renewals(&tally) >= wanted
        })
        .await;
    };
    // Registering, listening, the partitions of the logs: once in the life of a worker.
    wait_for(1).await;
    tap.reset();
    wait_for(2).await;
    let tally = tap.tally();
    worker.shutdown().await;

    // A connection that the pool opens anew speaks for itself.
    let opened = executions(&tally, "set role");
    let upkeep = renewals(&tally) + executions(&tally, "where expires_at <= engine.now()");
    let all: usize = tally.values().sum();
    let count = |number: usize| f64::from(u32::try_from(number).unwrap());
    // What was begun when the counting began or ended may count on one side only.
    let per_look = count(all - upkeep - opened - 1) / count(looks(&tally));
    let per_renewal = count(upkeep - 1) / count(renewals(&tally));
    assert!(per_look <= 1.0, "{per_look} statements a look: {tally:#?}");
    assert!(per_renewal <= 2.0, "{per_renewal} a renewal: {tally:#?}");

    // At the pace that a worker really has.
    let real = WorkerConfig::default();
    let per_second = 1.0 / real.poll.as_secs_f64()
        + 2.0 * RENEWALS_PER_LEASE / real.lease.as_secs_f64()
        + 1.0 / real.retention.look_every.as_secs_f64();
    assert!(per_second <= STATEMENTS_PER_SECOND, "{per_second}");
}

/// Whoever starts a run wakes the worker of its own process at once, and those of others by a message, which
/// comes back to it, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_looks_once_for_what_its_own_process_rang_for() {
    const ROUNDS: usize = 20;
    let direct = support::database().await;
    let (tap, options) = WireTap::on(&direct).await;
    let engine = TestEngine::on(options, registry(&Outside::default())).await;
    let config = WorkerConfig {
        poll: Duration::from_secs(3_600),
        lease: Duration::from_secs(60),
        ..WorkerConfig::default()
    };
    let mut worker = Worker::start(&engine.client, config).await.unwrap();
    for number in 0..20 {
        engine
            .start::<Errand>(&format!("before-{number}"), &0)
            .await;
        worker.idle().await;
    }
    let beside = PgPool::connect_with(direct).await.unwrap();
    let mut rings = PgListener::connect_with(&beside).await.unwrap();
    rings.listen("tenure_due").await.unwrap();
    let ring = || sqlx::query("select pg_notify('tenure_due', '')").execute(&beside);
    let before = looks(&tap.tally());
    eventually("it hears rings from elsewhere", async || {
        ring().await.unwrap();
        looks(&tap.tally()) >= before + 3
    })
    .await;
    tap.reset();
    for number in 0..ROUNDS {
        let before = looks(&tap.tally());
        let run = engine.start::<Errand>(&format!("one-{number}"), &0).await;
        eventually("the run has ended", async || {
            engine.status(run).await == Status::Completed
        })
        .await;
        let own = async { while rings.recv().await.unwrap().payload().is_empty() {} };
        let heard = tokio::time::timeout(Duration::from_secs(60), own);
        heard.await.expect("its own ring");
        // One from elsewhere is heard, and after the other.
        ring().await.unwrap();
        eventually("it has looked for both", async || {
            looks(&tap.tally()) >= before + 2
        })
        .await;
    }
    let claims = executions(&tap.tally(), "A worker that lost its lease takes nothing");
    worker.shutdown().await;
    // What was asked for before the counting began may have come after.
    assert!(claims <= 2 * ROUNDS + 5, "{claims} claims");
}
