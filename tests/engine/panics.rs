//! Workflow code that panics outside a visit: the run fails its attempt, and nobody falls with it.

use serde::{Deserialize, Serialize};
use tenure_engine::{
    Context, EngineError, Event, Limit, Need, Reception, Registry, RunRef, Status, StepError,
    Transition, Workflow,
};

use crate::support::engine::TestEngine;

/// Panics where it is told to.
struct Fragile;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum At {
    Start,
    Needs,
    Receive,
    Nowhere,
}

#[derive(Serialize, Deserialize)]
enum FragileState {
    Stands(At),
}

#[derive(Serialize, Deserialize)]
enum Knock {
    Knock,
}

const ROOM: &[Limit] = &[Limit::named("room").concurrency(100)];

impl Workflow for Fragile {
    const NAME: &'static str = "fragile";
    const VERSION: i32 = 1;
    const LIMITS: &'static [Limit] = ROOM;
    type Input = At;
    type State = FragileState;
    type Signal = Knock;
    type Output = ();

    fn start(&self, at: At) -> FragileState {
        assert_ne!(at, At::Start, "not even a start");
        FragileState::Stands(at)
    }

    fn needs(&self, FragileState::Stands(at): &FragileState) -> Vec<Need> {
        assert_ne!(*at, At::Needs, "no needs");
        Vec::new()
    }

    fn receive(&self, FragileState::Stands(at): &FragileState, _signal: &Knock) -> Reception {
        assert_ne!(*at, At::Receive, "no reception");
        Reception::Accept
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: FragileState,
        event: Event<Knock>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match event {
            Event::Signal(Knock::Knock) => Transition::complete(()),
            _ => Transition::stay(state),
        })
    }
}

async fn engine() -> TestEngine {
    TestEngine::new(Registry::builder().register(Fragile).build().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_what_a_run_needs_or_receives_fails_its_attempt_alone() {
    let engine = engine().await;
    let needs = engine.start::<Fragile>("needs", &At::Needs).await;
    let receives = engine.start::<Fragile>("receives", &At::Receive).await;
    let fine = engine.start::<Fragile>("fine", &At::Nowhere).await;
    engine.drain().await;
    for run in [needs, receives, fine] {
        engine.signal::<Fragile>(run, "knock", &Knock::Knock).await;
    }
    // One worker for all: if it fell with one run, the others would wait.
    engine.drain().await;
    assert_eq!(engine.status(fine).await, Status::Completed);
    for (run, says) in [(needs, "no needs"), (receives, "no reception")] {
        let summary = engine.detail(run).await.summary;
        assert_eq!(summary.status, Status::Retrying, "{says}");
        let error = summary.error.unwrap();
        assert_eq!(error.code, "panicked");
        assert!(error.message.contains(says), "{}", error.message);
    }
    for _ in 0..30 {
        engine.advance(std::time::Duration::from_secs(3_600));
        engine.drain().await;
    }
    for run in [needs, receives] {
        let stuck = engine.detail(run).await.summary.stuck;
        assert_eq!(stuck.as_deref(), Some("panicked"));
    }
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_panics_is_refused() {
    let engine = engine().await;
    let mut conn = engine.pool().acquire().await.unwrap();
    let (client, tenant) = (&engine.client, engine.tenant);
    let refused = client
        .start::<Fragile>(&mut conn, tenant, "k", &At::Start)
        .await;
    match refused {
        Err(EngineError::Malformed { what, detail, .. }) => {
            assert_eq!(what, "input");
            assert!(detail.contains("not even a start"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    let run = RunRef::Key("k");
    let nobody = client
        .signal::<Fragile>(&mut conn, tenant, run, "s", &Knock::Knock)
        .await;
    assert!(
        matches!(nobody, Err(EngineError::RunNotFound(_))),
        "{nobody:?}"
    );
}
