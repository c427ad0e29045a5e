//! What a settlement brings about is taken up at once, not when the worker next looks of its own accord.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure_engine::{
    Context, Event, Registry, RetryPolicy, RunId, Status, StepError, Transition, Worker,
    WorkerConfig, Workflow,
};

use super::workflows::{Errand, Nothing, Outside};
use crate::support::engine::TestEngine;
use crate::support::eventually;

/// Sits through a step, then until it is called.
struct Sitter(Outside);

#[derive(Serialize, Deserialize)]
enum SitterState {
    Sitting,
}

#[derive(Serialize, Deserialize)]
enum Call {
    Up,
}

impl Workflow for Sitter {
    const NAME: &'static str = "sitter";
    const VERSION: i32 = 1;
    type Input = ();
    type State = SitterState;
    type Signal = Call;
    type Output = ();

    fn start(&self, (): ()) -> SitterState {
        SitterState::Sitting
    }

    async fn handle(
        &self,
        cx: &Context,
        state: SitterState,
        event: Event<Call>,
    ) -> Result<Transition<Self>, StepError> {
        if let Event::Signal(Call::Up) = event {
            return Ok(Transition::complete(()));
        }
        let sit = async |step: tenure_engine::Step| self.0.call("sit", step.key).await;
        cx.step("sit", &RetryPolicy::ONCE, sit).await?;
        Ok(Transition::stay(state))
    }
}

/// Ends when another run has ended, which is no child of it.
struct Watcher;

#[derive(Serialize, Deserialize)]
enum WatcherState {
    Watching { run: RunId },
}

impl Workflow for Watcher {
    const NAME: &'static str = "watcher";
    const VERSION: i32 = 1;
    type Input = RunId;
    type State = WatcherState;
    type Signal = Nothing;
    type Output = ();

    fn start(&self, run: RunId) -> WatcherState {
        WatcherState::Watching { run }
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: WatcherState,
        event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        if let Event::RunFinished(_) = event {
            return Ok(Transition::complete(()));
        }
        let WatcherState::Watching { run } = state;
        Ok(Transition::stay(state).watch(run))
    }
}

/// An engine whose worker never looks of its own accord.
async fn engine() -> (TestEngine, Worker, Outside) {
    let outside = Outside::default();
    let registry = Registry::builder()
        .register(Sitter(outside.clone()))
        .register(Errand(outside.clone()))
        .register(Watcher);
    let engine = TestEngine::new(registry.build().unwrap()).await;
    let config = WorkerConfig {
        poll: Duration::from_secs(3_600),
        lease: Duration::from_secs(60),
        ..WorkerConfig::default()
    };
    let mut worker = Worker::start(&engine.client, config).await.unwrap();
    // A first claim over a connection is slow, and what follows a slow one is a look of the worker's own.
    for number in 0..20 {
        engine
            .start::<Errand>(&format!("before-{number}"), &0)
            .await;
        worker.idle().await;
    }
    (engine, worker, outside)
}

async fn ends(engine: &TestEngine, run: RunId) {
    eventually("the run has ended", async || {
        engine.status(run).await == Status::Completed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_comes_during_a_visit_is_heard_when_it_ends() {
    let (engine, worker, outside) = engine().await;
    outside.hold();
    let run = engine.start::<Sitter>("one", &()).await;
    outside.arrived().await;
    engine.signal::<Sitter>(run, "1", &Call::Up).await;
    eventually("the holder is told", async || {
        let nudged = sqlx::query_scalar("select nudged from engine.run where run_id = $1");
        nudged.bind(run.0).fetch_one(engine.pool()).await.unwrap()
    })
    .await;
    outside.release();
    ends(&engine, run).await;
    worker.shutdown().await;
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_a_run_hears_of_its_end_at_once() {
    let (engine, worker, outside) = engine().await;
    outside.hold();
    let watched = engine.start::<Errand>("one", &0).await;
    outside.arrived().await;
    let watcher = engine.start::<Watcher>("one", &watched).await;
    eventually("it watches", async || {
        engine.status(watcher).await == Status::Waiting
    })
    .await;
    outside.release();
    ends(&engine, watched).await;
    ends(&engine, watcher).await;
    worker.shutdown().await;
    engine.assert_nothing_lost().await;
}
