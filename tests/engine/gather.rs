//! Gathered starts: many become one run, and none is lost.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tenure_engine::seal::{Keyring, LocalMasterKey};
use tenure_engine::testkit::{Play, Scene, fault_matrix};
use tenure_engine::{
    ClockId, Context, EngineError, Event, Gather, Registry, RegistryBuilder, RunId, ShardId,
    Started, Status, StepError, Transition, Workflow, test_clock,
};

use crate::support::engine::TestEngine;

/// Ends with what it was started with.
struct Digest;

#[derive(Serialize, Deserialize)]
enum DigestState {
    Has(Vec<String>),
}

#[derive(Serialize, Deserialize)]
enum Never {}

impl Workflow for Digest {
    const NAME: &'static str = "digest";
    const VERSION: i32 = 1;
    type Input = Vec<String>;
    type State = DigestState;
    type Signal = Never;
    type Output = Vec<String>;

    fn start(&self, words: Vec<String>) -> DigestState {
        DigestState::Has(words)
    }

    async fn handle(
        &self,
        _cx: &Context,
        DigestState::Has(words): DigestState,
        event: Event<Never>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match event {
            Event::CancelRequested => Transition::cancelled(),
            _ => Transition::complete(words),
        })
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// What is debounced is told in minutes: the engine's time goes on by itself while a story is told.
const MINUTE: Duration = Duration::from_secs(60);

fn workflows() -> RegistryBuilder {
    Registry::builder().register(Digest)
}

async fn engine() -> TestEngine {
    TestEngine::new(workflows().build().unwrap()).await
}

async fn batch(engine: &TestEngine, key: &str, word: &str, size: u32) -> Started {
    let mut tx = tenure_engine::begin(engine.pool()).await.unwrap();
    let (word, within) = (word.to_owned(), (size, 60 * SECOND));
    let started =
        engine
            .client
            .start_batched::<Digest, String>(&mut tx, engine.tenant, key, &word, within);
    let started = started.await.unwrap();
    tx.commit().await.unwrap();
    started
}

async fn debounce(engine: &TestEngine, word: &str) -> Started {
    let mut tx = tenure_engine::begin(engine.pool()).await.unwrap();
    let times = (10 * MINUTE, 25 * MINUTE);
    let words = vec![word.to_owned()];
    let started =
        engine
            .client
            .start_debounced::<Digest>(&mut tx, engine.tenant, "d", &words, times);
    let started = started.await.unwrap();
    tx.commit().await.unwrap();
    started
}

async fn words(engine: &TestEngine, run: RunId) -> Vec<String> {
    engine.output(run).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_starts_when_it_is_full_and_the_next_start_opens_another() {
    let engine = engine().await;
    let first = batch(&engine, "b", "one", 3).await;
    assert!(first.created);
    assert_eq!(batch(&engine, "b", "two", 3).await.run_id, first.run_id);
    let other = batch(&engine, "other", "alone", 3).await;
    engine.drain().await;
    let waiting = engine.detail(first.run_id).await;
    assert_eq!(waiting.summary.status, Status::Waiting);
    assert_eq!(waiting.why.kind, "starts_later");
    let third = batch(&engine, "b", "three", 3).await;
    assert_eq!((third.run_id, third.created), (first.run_id, false));
    let fourth = batch(&engine, "b", "four", 3).await;
    assert!(fourth.created && fourth.run_id != first.run_id);
    engine.drain().await;
    assert_eq!(words(&engine, first.run_id).await, ["one", "two", "three"]);
    assert_eq!(engine.status(fourth.run_id).await, Status::Waiting);
    engine.advance(61 * SECOND);
    engine.drain().await;
    assert_eq!(words(&engine, fourth.run_id).await, ["four"]);
    assert_eq!(words(&engine, other.run_id).await, ["alone"]);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debounce_starts_with_the_last_input_and_is_not_put_off_for_ever() {
    let engine = engine().await;
    let first = debounce(&engine, "a").await;
    for word in ["b", "c"] {
        engine.advance(9 * MINUTE);
        engine.drain().await;
        assert_eq!(debounce(&engine, word).await.run_id, first.run_id);
    }
    // Quiet since the 18th minute, but the 25th is the last.
    engine.advance(8 * MINUTE);
    engine.drain().await;
    assert_eq!(words(&engine, first.run_id).await, ["c"]);
    let second = debounce(&engine, "d").await;
    assert!(second.created && second.run_id != first.run_id);
    engine.advance(11 * MINUTE);
    engine.drain().await;
    assert_eq!(words(&engine, second.run_id).await, ["d"]);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_that_race_each_other_and_a_worker_are_each_in_one_batch() {
    let engine = engine().await;
    let mut worker = engine.worker().await;
    let all: Vec<String> = (0..60).map(|n| format!("{n:02}")).collect();
    let starts = all.iter().map(|word| batch(&engine, "b", word, 7));
    let mut runs: Vec<RunId> = futures_util::future::join_all(starts)
        .await
        .into_iter()
        .map(|started| started.run_id)
        .collect();
    runs.sort();
    runs.dedup();
    assert!(runs.len() >= 60 / 7, "{}", runs.len());
    engine.client.ring();
    engine.advance(61 * SECOND);
    worker.idle().await;
    worker.shutdown().await;
    let mut found = Vec::new();
    for run in runs {
        let words = words(&engine, run).await;
        assert!(words.len() <= 7, "{words:?}");
        found.extend(words);
    }
    found.sort();
    assert_eq!(found, all, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cancelled_while_it_gathered_takes_no_more() {
    let engine = engine().await;
    let first = batch(&engine, "b", "one", 3).await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let tenant = engine.tenant;
    engine
        .client
        .cancel(&mut conn, tenant, first.run_id)
        .await
        .unwrap();
    engine.drain().await;
    assert_eq!(engine.status(first.run_id).await, Status::Cancelled);
    let next = batch(&engine, "b", "two", 3).await;
    assert!(next.created);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_holds_what_a_payload_holds() {
    let small = workflows().payload_limit(64).build().unwrap();
    let engine = TestEngine::new(small).await;
    let word = "x".repeat(24);
    let first = batch(&engine, "b", &word, 100).await;
    assert_eq!(batch(&engine, "b", &word, 100).await.run_id, first.run_id);
    let next = batch(&engine, "b", &word, 100).await;
    assert!(next.created, "three do not fit");
    engine.drain().await;
    assert_eq!(
        words(&engine, first.run_id).await.len(),
        2,
        "started at once"
    );
    let mut conn = tenure_engine::begin(engine.pool()).await.unwrap();
    let large = "x".repeat(64);
    let refused = engine
        .client
        .start_batched::<Digest, String>(&mut conn, engine.tenant, "b", &large, (9, SECOND))
        .await;
    assert!(
        matches!(refused, Err(EngineError::PayloadTooLarge { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_changes_nothing() {
    let engine = engine().await;
    let mut conn = tenure_engine::begin(engine.pool()).await.unwrap();
    let (client, tenant) = (&engine.client, engine.tenant);
    let batch = Gather::Batch {
        size: 3,
        at_most: SECOND,
    };
    for (key, input, gather, what) in [
        ("b", json!(7), batch, "input"),
        ("", json!("word"), batch, "key"),
        (&"k".repeat(219), json!("word"), batch, "key"),
        (
            "b",
            json!("word"),
            Gather::Batch {
                size: 1,
                at_most: SECOND,
            },
            "gather",
        ),
        (
            "b",
            json!(["word"]),
            Gather::Debounce {
                quiet: 2 * SECOND,
                at_most: SECOND,
            },
            "gather",
        ),
    ] {
        let refused = client
            .start_gathered_named(&mut conn, tenant, ("digest", key), &input, gather)
            .await;
        match refused {
            Err(EngineError::Malformed { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{other:?}"),
        }
    }
    let runs: i64 = sqlx::query_scalar("select count(*) from engine.run")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(runs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clocked_tenants_starts_gather_in_its_time() {
    let mut engine = engine().await;
    let clock = ClockId::new(ShardId(3));
    let begin = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut conn = engine.pool().acquire().await.unwrap();
    test_clock::create(&mut conn, clock, begin).await.unwrap();
    engine.tenant = engine.add_tenant(Some(clock)).await;
    let slow = batch(&engine, "slow", "one", 3).await;
    let full = batch(&engine, "full", "one", 2).await;
    batch(&engine, "full", "two", 2).await;
    engine.advance(120 * SECOND);
    engine.drain().await;
    assert_eq!(words(&engine, full.run_id).await, ["one", "two"]);
    assert_eq!(
        engine.status(slow.run_id).await,
        Status::Waiting,
        "its clock stands"
    );
    let day = begin + chrono::TimeDelta::days(1);
    let moved = test_clock::move_to_next(&mut conn, clock, day)
        .await
        .unwrap();
    assert_eq!(moved.now, begin + chrono::TimeDelta::seconds(60));
    engine.drain().await;
    assert_eq!(words(&engine, slow.run_id).await, ["one"]);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_batch_is_opened_when_it_begins() {
    let database = crate::support::database().await;
    let master = LocalMasterKey::parse(&LocalMasterKey::generate("m")).unwrap();
    let keyring = Keyring::new(database.clone(), std::sync::Arc::new(master));
    let registry = workflows().keyring(keyring).build().unwrap();
    let engine = TestEngine::on(database, registry).await;
    let first = batch(&engine, "b", "secret-one", 2).await;
    batch(&engine, "b", "secret-two", 2).await;
    let clear: i64 =
        sqlx::query_scalar("select count(*) from engine.fan_item where get_byte(input, 0) <> 1")
            .fetch_one(engine.pool())
            .await
            .unwrap();
    assert_eq!(clear, 0);
    engine.drain().await;
    assert_eq!(
        words(&engine, first.run_id).await,
        ["secret-one", "secret-two"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_bears_every_fault() {
    let scene = async || Scene {
        database: crate::support::database().await,
        workflows: workflows(),
        outside: (),
    };
    let script = async |play: &mut Play, (): &()| {
        let mut conn = tenure_engine::begin(play.client().pool()).await?;
        let (client, tenant) = (play.client().clone(), play.tenant());
        let mut run = None;
        for word in ["one".to_owned(), "two".to_owned()] {
            let started =
                client.start_batched::<Digest, String>(&mut conn, tenant, "b", &word, (2, SECOND));
            run = Some(started.await?.run_id);
        }
        conn.commit().await?;
        play.settle().await?;
        let words: Vec<String> = play.output(run.unwrap()).await?;
        Ok(words)
    };
    let report = fault_matrix(scene, script).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.plays >= 2, "{report}");
}
