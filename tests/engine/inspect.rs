//! `why`, lists and logs tell the truth.

use std::time::Duration;

use chrono::TimeDelta;
use tenure_engine::inspect;
use tenure_engine::search::{self, RunFilter, Wanted};
use tenure_engine::{RunId, StartOptions, Status, Worker, WorkerConfig};

use super::workflows::{Door, DoorSignal, Errand, House, HouseSignal, Outside, registry};
use crate::support::engine::TestEngine;

#[tokio::test(flavor = "multi_thread")]
async fn due_work_without_a_worker_is_told_apart_from_due_work() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let run = engine.start::<Errand>("a", &0).await;
    assert_eq!(engine.detail(run).await.why.kind, "no_worker");
    outside.hold();
    let worker = engine.worker().await;
    outside.arrived().await;
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "running");
    assert!(
        why.evidence
            .iter()
            .any(|(label, _)| *label == "lease until")
    );
    outside.release();
    worker.shutdown().await;
    assert_eq!(engine.detail(run).await.why.kind, "ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_worker_is_told_apart_from_none() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.hold();
    engine.start::<Errand>("a", &0).await;
    let config = WorkerConfig {
        in_flight: 1,
        claim_batch: 1,
        ..WorkerConfig::default()
    };
    let worker = Worker::start(&engine.client, config).await.unwrap();
    outside.arrived().await;
    let waits = engine.start::<Errand>("b", &0).await;
    let why = engine.detail(waits).await.why;
    assert_eq!(why.kind, "due");
    assert!(why.summary.contains("next free worker"), "{why:?}");
    outside.release();
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_names_the_signals_that_it_would_handle() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    let run = engine.start::<Door>("a", &()).await;
    engine.drain().await;
    let why = engine.detail(run).await.why;
    assert_eq!(why.kind, "waiting_for_signal");
    let since = engine.detail(run).await.summary.changed_at;
    let since = since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let words = format!("State Closed waits since {since} for signal Open");
    assert!(why.summary.starts_with(&words), "{why:?}");
    // What the state leaves for later is none of them.
    assert!(!why.summary.contains("Knock"), "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_wants_a_worker_says_so_where_there_is_none() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let door = engine.start::<Door>("a", &()).await;
    outside.fail("second", 2);
    let errand = engine.start::<Errand>("b", &0).await;
    let house = engine.start::<House>("c", &()).await;
    engine.drain().await;
    // A message that its state leaves for later wants none.
    let knock = DoorSignal::Knock("ada".to_owned());
    engine.signal::<Door>(door, "1", &knock).await;
    engine.drain().await;
    assert_eq!(engine.detail(door).await.why.kind, "waiting_for_signal");
    assert_eq!(engine.detail(errand).await.why.kind, "retrying");
    engine.signal::<Door>(door, "2", &DoorSignal::Open).await;
    engine
        .signal::<House>(house, "1", &HouseSignal::Leave)
        .await;
    engine.advance(Duration::from_secs(700));
    for (run, words) in [
        (door, "There is a message for it"),
        (house, "There is a message for it"),
        (errand, "Step second failed in "),
    ] {
        let why = engine.detail(run).await.why;
        assert_eq!(why.kind, "no_worker", "{why:?}");
        assert!(why.summary.starts_with(words), "{why:?}");
        assert!(why.summary.contains("no worker that knows"), "{why:?}");
    }
    // Whoever speaks for the tenant is told the same.
    let mut tx = engine.pool().begin().await.unwrap();
    tenure_workflows::as_tenant(&mut tx, engine.tenant)
        .await
        .unwrap();
    let told = inspect::detail(&mut tx, engine.client.registry(), door)
        .await
        .unwrap();
    assert_eq!(told.why.kind, "no_worker");
    drop(tx);
    // What has not started yet keeps its signals, worker or not.
    let at = Some(told.summary.changed_at + TimeDelta::days(2));
    let options = StartOptions {
        at,
        ..StartOptions::default()
    };
    let mut conn = engine.pool().acquire().await.unwrap();
    let started = engine
        .client
        .start_with::<Door>(&mut conn, engine.tenant, "later", &(), options);
    let later = started.await.unwrap().run_id;
    drop(conn);
    engine.signal::<Door>(later, "1", &DoorSignal::Open).await;
    assert_eq!(engine.detail(later).await.why.kind, "starts_later");
    for _ in 0..2 {
        engine.drain().await;
        engine.advance(Duration::from_secs(700));
    }
    engine.drain().await;
    assert_eq!(engine.detail(door).await.why.kind, "waiting_for_signal");
    assert_eq!(engine.detail(errand).await.why.kind, "ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_filter_and_page_without_gaps() {
    let engine = TestEngine::new(registry(&Outside::default())).await;
    for n in 0..7 {
        engine.start::<Door>(&format!("door-{n}"), &()).await;
    }
    engine.start::<Errand>("errand", &0).await;
    engine.drain().await;
    let mut conn = engine.pool().begin().await.unwrap();
    let filter = RunFilter {
        workflow: Wanted::only("door".to_owned()),
        status: Wanted::only(Status::Waiting),
        state: Wanted::only("Closed".to_owned()),
        tenant: Wanted::only(engine.tenant),
        ..RunFilter::default()
    };
    let mut seen: Vec<RunId> = Vec::new();
    loop {
        let page = search::list(&mut conn, &filter, seen.last().copied(), 3).await;
        let page = page.unwrap();
        seen.extend(page.iter().map(|run| run.run_id));
        if page.len() < 3 {
            break;
        }
    }
    assert_eq!(seen.len(), 7);
    assert!(
        seen.is_sorted_by(|one, next| one > next),
        "newest first, each once"
    );
    let ended = RunFilter {
        key: Wanted::only("errand".to_owned()),
        ..RunFilter::default()
    };
    let found = search::list(&mut conn, &ended, None, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_shows_visits_and_steps() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.fail("second", 1);
    let run = engine.start::<Errand>("a", &0).await;
    engine.drain().await;
    engine.advance(std::time::Duration::from_secs(700));
    engine.drain().await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let visits = inspect::transitions(&mut conn, run).await.unwrap();
    let told: Vec<_> = visits
        .iter()
        .rev()
        .map(|line| (line.event.as_str(), line.outcome.as_str()))
        .collect();
    assert_eq!(told, [("entered", "retrying"), ("entered", "completed")]);
    assert!(
        visits[1]
            .detail
            .as_deref()
            .unwrap()
            .contains("outside_down")
    );
    let steps = inspect::steps(&mut conn, engine.keyring(), run)
        .await
        .unwrap();
    let names: Vec<_> = steps.iter().rev().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["now", "uuid", "first", "effect", "second"]);
}
