//! Payloads over the limit: refused where they come in, and a run that makes one says so.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::{
    Context, EngineError, Event, Registry, RetryPolicy, RunId, RunRef, Status, StepError,
    Transition, Workflow,
};

use crate::support::engine::TestEngine;

const LIMIT: usize = 200;

/// Answers a step, and keeps a state, as long as it is told.
struct Talker;

#[derive(Serialize, Deserialize)]
enum TalkerState {
    Talking {
        answer: usize,
        keep: usize,
        words: String,
    },
}

#[derive(Serialize, Deserialize)]
enum Said {
    Words(String),
}

impl Workflow for Talker {
    const NAME: &'static str = "talker";
    const VERSION: i32 = 1;
    type Input = (usize, usize);
    type State = TalkerState;
    type Signal = Said;
    type Output = ();

    fn start(&self, (answer, keep): (usize, usize)) -> TalkerState {
        let words = String::new();
        TalkerState::Talking {
            answer,
            keep,
            words,
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: TalkerState,
        event: Event<Said>,
    ) -> Result<Transition<Self>, StepError> {
        let TalkerState::Talking { answer, keep, .. } = state;
        if matches!(event, Event::Entered) {
            let say = async |_| Ok("x".repeat(answer));
            let _: String = cx.step("say", &RetryPolicy::ONCE, say).await?;
        }
        let words = "x".repeat(keep);
        Ok(Transition::stay(TalkerState::Talking {
            answer,
            keep,
            words,
        }))
    }
}

async fn engine() -> TestEngine {
    let registry = Registry::builder().register(Talker).payload_limit(LIMIT);
    TestEngine::new(registry.build().unwrap()).await
}

async fn count(engine: &TestEngine, of: &'static str) -> i64 {
    let counted = sqlx::query_scalar(of).fetch_one(engine.pool());
    counted.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_makes_too_much_is_stuck_and_says_what() {
    let engine = engine().await;
    let fits = engine.start::<Talker>("fits", &(20, 20)).await;
    let answers = engine.start::<Talker>("answers", &(300, 20)).await;
    let keeps = engine.start::<Talker>("keeps", &(20, 300)).await;
    engine.drain().await;
    assert_eq!(engine.status(fits).await, Status::Waiting);
    for (run, kind, words) in [
        (
            answers,
            "payload_too_large",
            "It produced a payload over the limit. step say: ",
        ),
        (keeps, "terminal_error", "A step failed for good"),
    ] {
        let detail = engine.detail(run).await;
        assert_eq!(detail.summary.status, Status::Stuck);
        assert_eq!(detail.summary.stuck.as_deref(), Some(kind));
        assert_eq!(detail.summary.error.unwrap().code, "payload_too_large");
        assert!(detail.why.summary.starts_with(words), "{:?}", detail.why);
        assert!(detail.why.summary.contains("200"), "{:?}", detail.why);
    }
    // What was too long is nowhere.
    let steps = count(&engine, "select count(*) from engine.step").await;
    let long = count(
        &engine,
        "select count(*) from engine.run where length(data) > 200",
    )
    .await;
    assert_eq!((steps, long), (2, 0));
    engine.assert_nothing_lost().await;
}

async fn edit(engine: &TestEngine, run: RunId, verb: Verb) -> Result<(), EngineError> {
    let act = Act {
        actor: "maria".to_owned(),
        role: "operator".to_owned(),
        reason: "because".to_owned(),
        revision: engine.detail(run).await.summary.revision(),
    };
    let registry = engine.client.registry();
    let mut tx = engine.pool().begin().await.unwrap();
    let done = operator::intervene(&mut tx, registry, run, &verb, &act).await;
    done?;
    tx.commit().await.unwrap();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_or_an_edited_state_that_is_too_long_is_refused() {
    let engine = engine().await;
    let run = engine.start::<Talker>("a", &(20, 20)).await;
    engine.drain().await;
    let long = "x".repeat(LIMIT);
    let said = Said::Words(long.clone());
    let mut conn = engine.pool().acquire().await.unwrap();
    let place = RunRef::Id(run);
    let client = &engine.client;
    let refused = client.signal::<Talker>(&mut conn, engine.tenant, place, "1", &said);
    let refused = refused.await;
    assert!(
        matches!(
            refused,
            Err(EngineError::PayloadTooLarge {
                what: "signal",
                limit: LIMIT,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(count(&engine, "select count(*) from engine.inbox").await, 0);

    edit(&engine, run, Verb::Pause).await.unwrap();
    let before = engine.detail(run).await;
    let state = json!({"Talking": {"answer": 1, "keep": 1, "words": long}});
    let refused = edit(&engine, run, Verb::Edit { state }).await;
    assert!(
        matches!(
            refused,
            Err(EngineError::PayloadTooLarge { what: "state", .. })
        ),
        "{refused:?}"
    );
    let after = engine.detail(run).await;
    assert_eq!(after.data, before.data);
    assert_eq!(after.summary.revision(), before.summary.revision());
}
