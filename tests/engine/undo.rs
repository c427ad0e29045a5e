//! What a visit did is reversed when it fails for good: newest first, durably, in plain sight.

use std::time::Duration;

use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::{EngineError, RunId, Status};

use super::workflows::{Booking, Outside, registry};
use crate::support::engine::TestEngine;
use crate::support::eventually;

async fn act(engine: &TestEngine, run: RunId, verb: Verb) -> Result<(), EngineError> {
    let act = Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: "because".to_owned(),
        revision: engine.detail(run).await.summary.revision(),
    };
    let mut conn = engine.pool().acquire().await.unwrap();
    let registry = engine.client.registry();
    let done = operator::intervene(&mut conn, registry, run, &verb, &act).await;
    done.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_fails_for_good_is_reversed_newest_first() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.refuse("car", 1);
    let run = engine.start::<Booking>("trip", &()).await;
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Failed, "{:?}", detail.why);
    assert!(detail.why.summary.contains("refused"), "{:?}", detail.why);
    // The car's own reverse was registered before it was asked for.
    assert_eq!(
        outside.keys("reversed"),
        ["cancel-car 2", "cancel-hotel 1", "cancel-flight 0"]
    );
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_succeeds_reverses_nothing() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.fail("hotel", 2);
    let run = engine.start::<Booking>("trip", &()).await;
    for _ in 0..3 {
        engine.drain().await;
        engine.advance(Duration::from_secs(700));
    }
    assert_eq!(engine.status(run).await, Status::Completed);
    assert!(outside.keys("reversed").is_empty());
    assert_eq!(outside.keys("flight").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reverse_is_retried_and_shown_and_a_crash_repeats_only_the_one_under_way() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.refuse("car", 1);
    outside.fail("cancel-hotel", 1);
    let run = engine.start::<Booking>("trip", &()).await;
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Undoing);
    assert_eq!(detail.why.kind, "undoing");
    let left = detail
        .why
        .evidence
        .iter()
        .find(|(label, _)| *label == "left to reverse");
    assert_eq!(left.unwrap().1, "cancel-hotel, cancel-flight");
    engine.assert_nothing_lost().await;

    // The next attempt dies with its worker.
    engine.advance(Duration::from_secs(700));
    outside.hold();
    let worker = engine.worker().await;
    outside.arrived().await;
    worker.crash().await;
    outside.release();
    engine.advance(Duration::from_secs(60));
    let worker = engine.worker().await;
    eventually("the run has failed, with all reversed", async || {
        engine.status(run).await == Status::Failed
    })
    .await;
    worker.shutdown().await;
    assert_eq!(outside.keys("cancel-car").len(), 1);
    let hotel = outside.keys("cancel-hotel");
    assert_eq!(hotel.len(), 3);
    assert!(
        hotel.iter().all(|key| *key == hotel[0]),
        "one key: {hotel:?}"
    );
    assert_eq!(outside.keys("cancel-flight").len(), 1);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reverse_that_fails_for_good_is_stuck_until_it_is_retried_or_skipped() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.refuse("car", 1);
    outside.refuse("cancel-hotel", 1);
    outside.refuse("cancel-flight", 2);
    let run = engine.start::<Booking>("trip", &()).await;
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.stuck.as_deref(), Some("undo_failed"));
    assert!(
        detail
            .why
            .evidence
            .contains(&("left to reverse", "cancel-hotel, cancel-flight".into())),
        "{:?}",
        detail.why
    );
    let verb = Verb::FailStep {
        code: "no".to_owned(),
        message: "no".to_owned(),
    };
    let refused = act(&engine, run, verb).await;
    assert!(matches!(refused, Err(EngineError::NotAllowed { .. })));

    act(&engine, run, Verb::Retry).await.unwrap();
    engine.drain().await;
    assert_eq!(outside.keys("cancel-hotel").len(), 2);
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.stuck.as_deref(), Some("undo_failed"));

    let skip = Verb::Skip {
        answer: serde_json::Value::Null,
    };
    act(&engine, run, skip).await.unwrap();
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Failed);
    assert!(detail.why.summary.contains("refused"), "{:?}", detail.why);
    assert_eq!(outside.keys("cancel-flight").len(), 1);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_visit_is_reversed_before_the_cancel_is_heard() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.fail("car", 1);
    let run = engine.start::<Booking>("trip", &()).await;
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Retrying);
    act(&engine, run, Verb::Cancel).await.unwrap();
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Cancelled);
    assert_eq!(outside.keys("reversed").len(), 3);
    engine.assert_nothing_lost().await;
}
