//! Signals and deadlines: buffered, once by id, in the promised order, never lost.

use std::time::Duration;

use tenure_engine::{EngineError, RunRef, SignalOutcome, Status, inspect};

use super::workflows::{Door, DoorSignal, Outside, registry};
use crate::support::engine::TestEngine;

async fn engine() -> TestEngine {
    TestEngine::new(registry(&Outside::default())).await
}

fn knock(who: &str) -> DoorSignal {
    DoorSignal::Knock(who.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_buffered_deferred_and_handled_in_order() {
    let engine = engine().await;
    let door = engine.start::<Door>("d", &()).await;
    // Before the first visit: two knocks that a closed door defers, and the opening.
    engine.signal::<Door>(door, "1", &knock("ada")).await;
    engine.signal::<Door>(door, "2", &knock("bob")).await;
    engine.drain().await;
    assert_eq!(engine.detail(door).await.why.kind, "waiting_for_signal");
    engine.signal::<Door>(door, "3", &DoorSignal::Open).await;
    engine.signal::<Door>(door, "4", &DoorSignal::Finish).await;
    engine.drain().await;
    let heard: Vec<String> = engine.output(door).await;
    assert_eq!(heard, ["ada", "bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_fifty_times_at_once_is_one_signal() {
    let engine = engine().await;
    let door = engine.start::<Door>("d", &()).await;
    engine.signal::<Door>(door, "open", &DoorSignal::Open).await;
    let mut worker = engine.worker().await;
    let ada = knock("ada");
    let sends = (0..50).map(|_| engine.signal::<Door>(door, "once", &ada));
    futures_util::future::join_all(sends).await;
    worker.idle().await;
    engine
        .signal::<Door>(door, "end", &DoorSignal::Finish)
        .await;
    worker.idle().await;
    worker.shutdown().await;
    let heard: Vec<String> = engine.output(door).await;
    assert_eq!(heard, ["ada"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_and_a_late_signal_are_kept_with_the_reason() {
    let engine = engine().await;
    let door = engine.start::<Door>("d", &()).await;
    engine.signal::<Door>(door, "push", &DoorSignal::Push).await;
    engine
        .signal::<Door>(door, "end", &DoorSignal::Finish)
        .await;
    engine.drain().await;
    assert_eq!(engine.status(door).await, Status::Completed);
    let mut conn = engine.pool().acquire().await.unwrap();
    let late = engine
        .client
        .signal::<Door>(
            &mut conn,
            engine.tenant,
            RunRef::Id(door),
            "late",
            &DoorSignal::Open,
        )
        .await;
    assert!(matches!(
        late,
        Err(EngineError::RunFinished {
            status: "completed",
            ..
        })
    ));
    let lines = inspect::signals(&mut conn, engine.keyring(), door)
        .await
        .unwrap();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line.signal_id.as_str(),
                line.outcome,
                line.reason.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("late", SignalOutcome::Late, None),
            ("end", SignalOutcome::Accepted, None),
            ("push", SignalOutcome::Rejected, Some("the door is closed")),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_from_before_the_deadline_comes_first_and_a_later_one_after() {
    let engine = engine().await;
    let door = engine.start::<Door>("d", &()).await;
    engine.signal::<Door>(door, "open", &DoorSignal::Open).await;
    engine
        .signal::<Door>(door, "wait", &DoorSignal::Wait { seconds: 60 })
        .await;
    engine.drain().await;
    assert_eq!(engine.detail(door).await.why.kind, "waiting_for_deadline");
    engine.assert_nothing_lost().await;
    // Nobody works while this happens: one knock before the deadline, one after.
    engine
        .signal::<Door>(door, "before", &knock("before"))
        .await;
    engine.advance(Duration::from_secs(120));
    engine.signal::<Door>(door, "after", &knock("after")).await;
    engine.drain().await;
    engine
        .signal::<Door>(door, "end", &DoorSignal::Finish)
        .await;
    engine.drain().await;
    let heard: Vec<String> = engine.output(door).await;
    assert_eq!(heard, ["before", "bell", "after"]);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_signal_is_lost_while_the_run_is_being_worked_on() {
    let engine = engine().await;
    let mut worker = engine.worker().await;
    let door = engine.start::<Door>("d", &()).await;
    engine.signal::<Door>(door, "open", &DoorSignal::Open).await;
    let sends = (0..300).map(|n| {
        let (engine, id) = (&engine, format!("knock-{n}"));
        async move { engine.signal::<Door>(door, &id, &knock(&id)).await }
    });
    futures_util::future::join_all(sends).await;
    worker.idle().await;
    engine
        .signal::<Door>(door, "end", &DoorSignal::Finish)
        .await;
    worker.idle().await;
    worker.shutdown().await;
    let mut heard: Vec<String> = engine.output(door).await;
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_open_transaction_with_a_signal_stalls_nobody() {
    let engine = engine().await;
    let door = engine.start::<Door>("d", &()).await;
    engine.signal::<Door>(door, "open", &DoorSignal::Open).await;
    let mut tx = engine.pool().begin().await.unwrap();
    let run = RunRef::Id(door);
    let signal = knock("slow");
    let sent = engine
        .client
        .signal::<Door>(&mut tx, engine.tenant, run, "slow", &signal);
    sent.await.unwrap();
    // The transaction stays open while the run is visited, settled and visited again.
    engine.signal::<Door>(door, "fast", &knock("fast")).await;
    engine.drain().await;
    tx.commit().await.unwrap();
    engine.client.ring();
    engine
        .signal::<Door>(door, "end", &DoorSignal::Finish)
        .await;
    engine.drain().await;
    let heard: Vec<String> = engine.output(door).await;
    assert_eq!(heard, ["fast", "slow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_lets_the_run_end_by_its_own_hand() {
    let engine = engine().await;
    let door = engine.start::<Door>("d", &()).await;
    engine.drain().await;
    let mut conn = engine.pool().acquire().await.unwrap();
    engine
        .client
        .cancel(&mut conn, engine.tenant, door)
        .await
        .unwrap();
    drop(conn);
    engine.drain().await;
    assert_eq!(engine.status(door).await, Status::Cancelled);
}
