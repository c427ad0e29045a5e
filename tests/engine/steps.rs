//! Steps: answered once, retried under their policy, exactly once in the database.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::{
    Context, EngineError, Event, Exhausted, Registry, RetryPolicy, RunId, Status, StepError,
    Transition, Workflow, inspect,
};

use super::workflows::{Errand, ErrandOutput, Nothing, Outside, POLICY, registry};
use crate::support::engine::TestEngine;
use crate::support::eventually;

async fn effects(engine: &TestEngine) -> i64 {
    let mut conn = crate::support::connect(&engine.options).await;
    sqlx::query_scalar("select count(*) from app.debt")
        .fetch_one(&mut conn)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_is_tried_again_and_answered_ones_are_not() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.fail("second", 2);
    let run = engine.start::<Errand>("a", &1).await;
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Retrying);
    assert_eq!(detail.summary.attempt, 1);
    assert_eq!(detail.why.kind, "retrying");
    assert!(
        detail
            .why
            .summary
            .contains("Step second failed in 1 of 3 attempts"),
        "{}",
        detail.why.summary
    );
    engine.assert_nothing_lost().await;
    for _ in 0..2 {
        engine.advance(Duration::from_secs(700));
        engine.drain().await;
    }
    let output: ErrandOutput = engine.output(run).await;
    assert_eq!(output.answers.len(), 2);
    assert!(output.now_agrees, "a retried visit saw another time or id");
    assert_eq!(outside.keys("first").len(), 1);
    let keys = outside.keys("second");
    assert_eq!(keys.len(), 3);
    assert!(
        keys.iter().all(|key| *key == keys[0]),
        "one key for all attempts: {keys:?}"
    );
    assert_eq!(effects(&engine).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_step_leaves_the_run_stuck_until_an_operator_retries_it() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.fail("second", 3);
    let run = engine.start::<Errand>("a", &1).await;
    for _ in 0..3 {
        engine.drain().await;
        engine.advance(Duration::from_secs(700));
    }
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Stuck);
    assert_eq!(detail.summary.stuck.as_deref(), Some("attempts_exhausted"));
    assert!(
        detail.why.summary.contains("second is down"),
        "{}",
        detail.why.summary
    );
    engine.assert_nothing_lost().await;

    let mut conn = engine.pool().acquire().await.unwrap();
    let registry = engine.client.registry();
    let mut act = Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: "the outside is up again".to_owned(),
        revision: detail.summary.revision() - 1,
    };
    let stale = operator::intervene(&mut conn, registry, run, &Verb::Retry, &act).await;
    assert!(matches!(stale, Err(EngineError::Moved { .. })), "{stale:?}");
    act.revision += 1;
    act.reason = " ".to_owned();
    let silent = operator::intervene(&mut conn, registry, run, &Verb::Retry, &act).await;
    assert!(matches!(
        silent,
        Err(EngineError::Malformed { what: "reason", .. })
    ));
    act.reason = "the outside is up again".to_owned();
    operator::intervene(&mut conn, registry, run, &Verb::Retry, &act)
        .await
        .unwrap();
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
    // What was answered before stays answered.
    assert_eq!(outside.keys("first").len(), 1);
    assert_eq!(effects(&engine).await, 1);
    let audit: (String, String) = sqlx::query_as("select actor, reason from engine.audit")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(
        audit,
        ("maria".to_owned(), "the outside is up again".to_owned())
    );
    act.revision = engine.detail(run).await.summary.revision();
    let ended = operator::intervene(&mut conn, registry, run, &Verb::Retry, &act).await;
    assert!(matches!(
        ended,
        Err(EngineError::NotAllowed { verb: "retry", .. })
    ));
}

/// Sends a letter by air, or by sea where that cannot be had.
struct Letter(Outside);

#[derive(Serialize, Deserialize)]
enum LetterState {
    Written,
}

impl Workflow for Letter {
    const NAME: &'static str = "letter";
    const VERSION: i32 = 1;
    type Input = ();
    type State = LetterState;
    type Signal = Nothing;
    type Output = Vec<String>;

    fn start(&self, (): ()) -> LetterState {
        LetterState::Written
    }

    async fn handle(
        &self,
        cx: &Context,
        _state: LetterState,
        _event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        let policy = RetryPolicy {
            exhausted: Exhausted::Return,
            ..POLICY
        };
        let by_air = cx
            .step("air", &policy, async |step| {
                self.0.call("air", step.key).await
            })
            .await;
        let Err(error) = by_air else {
            return Ok(Transition::complete(Vec::new()));
        };
        let told = format!("{}: {}", error.code(), error.message());
        self.0.note("told", told.clone());
        let by_sea = cx
            .step("sea", &policy, async |step| {
                self.0.call("sea", step.key).await
            })
            .await?;
        Ok(Transition::complete(vec![told, by_sea]))
    }
}

/// The error that a step of the run answered.
async fn kept_error(engine: &TestEngine, run: RunId, step: &str) -> Option<String> {
    let mut conn = engine.pool().acquire().await.unwrap();
    let lines = inspect::steps(&mut conn, engine.keyring(), run).await;
    let lines = lines.unwrap();
    let line = lines.iter().find(|line| line.name == step)?;
    line.error.as_ref().map(|error| error.code.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_step_may_return_its_error_which_a_crash_does_not_undo() {
    let outside = Outside::default();
    let letters = Registry::builder().register(Letter(outside.clone()));
    let engine = TestEngine::new(letters.build().unwrap()).await;
    outside.fail("air", 3);
    let run = engine.start::<Letter>("a", &()).await;
    for _ in 0..2 {
        engine.drain().await;
        assert_eq!(engine.status(run).await, Status::Retrying);
        assert!(outside.keys("told").is_empty(), "it has attempts left");
        engine.advance(Duration::from_secs(700));
    }
    // The third attempt is the last: the handler has the error, and goes another way.
    outside.hold_at("sea");
    let worker = engine.worker().await;
    outside.arrived().await;
    let kept = kept_error(&engine, run, "air").await;
    assert_eq!(kept.as_deref(), Some("outside_down"));
    worker.crash().await;
    outside.release();

    // The outside is up again by now, but that is answered.
    engine.advance(Duration::from_secs(60));
    let worker = engine.worker().await;
    eventually("the run completes", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
    worker.shutdown().await;
    let output: Vec<String> = engine.output(run).await;
    assert_eq!(output, ["outside_down: air is down", "sea done"]);
    assert_eq!(outside.keys("air").len(), 3, "it was tried again");
    let told = outside.keys("told");
    assert_eq!(
        told, ["outside_down: air is down"; 2],
        "once in each attempt"
    );
    let sea = outside.keys("sea");
    assert_eq!((sea.len(), &sea[0]), (2, &sea[1]), "one key for both");
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stuck_on_a_terminal_error_does_that_step_again_when_it_is_retried() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    for refused in ["first", "second"] {
        outside.refuse(refused, 1);
        let run = engine.start::<Errand>(refused, &0).await;
        engine.drain().await;
        let detail = engine.detail(run).await;
        assert_eq!(detail.summary.stuck.as_deref(), Some("terminal_error"));
        let act = Act {
            actor: "maria".to_owned(),
            role: "operator".to_owned(),
            reason: "the cause is mended".to_owned(),
            revision: detail.summary.revision(),
        };
        let mut conn = engine.pool().acquire().await.unwrap();
        operator::intervene(&mut conn, engine.client.registry(), run, &Verb::Retry, &act)
            .await
            .unwrap();
        drop(conn);
        engine.drain().await;
        assert_eq!(engine.status(run).await, Status::Completed, "{refused}");
    }
    // Twice by the run that it was refused to, once by the other.
    assert_eq!(outside.keys("first").len(), 3);
    assert_eq!(outside.keys("second").len(), 3);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_failed_attempt_and_hurts_nobody_else() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    outside.panic("first", 1);
    let run = engine.start::<Errand>("a", &0).await;
    engine.drain().await;
    let other = engine.start::<Errand>("b", &0).await;
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Retrying);
    assert_eq!(engine.status(other).await, Status::Completed);
    let error = engine.detail(run).await.summary.error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("panicked", "first panics")
    );
    engine.advance(Duration::from_secs(700));
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_database_effect_keeps_nothing_and_is_tried_again() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    // Two rows with one key: the second insert is refused, and takes the first with it.
    let run = engine.start::<Errand>("a", &2).await;
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Retrying);
    assert_eq!(
        detail.summary.error.unwrap().step.as_deref(),
        Some("effect")
    );
    assert_eq!(effects(&engine).await, 0);
    assert!(outside.keys("second").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_runs_complete_once_each() {
    let outside = Outside::default();
    let engine = TestEngine::new(registry(&outside)).await;
    let starts: Vec<_> = (0..3_000).map(|n| (format!("run-{n}"), 0)).collect();
    let mut conn = engine.pool().acquire().await.unwrap();
    let runs = engine
        .client
        .start_many::<Errand>(&mut conn, engine.tenant, &starts)
        .await;
    assert_eq!(runs.unwrap().len(), 3_000);
    drop(conn);
    engine.drain().await;
    let done: i64 = sqlx::query_scalar("select count(*) from engine.run where status = 10")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(done, 3_000);
    assert_eq!(outside.keys("first").len(), 3_000);
    engine.assert_nothing_lost().await;
    let left: i64 = sqlx::query_scalar("select count(*) from engine.claimed")
        .fetch_one(engine.pool())
        .await
        .unwrap();
    assert_eq!(left, 0, "an orderly stop leaves no claims behind");
}
