//! The time of a whole run: heard as an event between visits, and then the run has failed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure_engine::{
    ClockId, Context, Event, Registry, RetryPolicy, ShardId, Status, StepError, Transition,
    Workflow, test_clock,
};

use crate::support::engine::TestEngine;

const HOUR: Duration = Duration::from_secs(3_600);

/// What a run does with its hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Does {
    /// Moves on to a second state and waits there.
    Wait,
    /// Waits, and has an answer when time is up.
    Answer,
    /// Never rests.
    Turn,
    /// Fails, and is tried again later.
    Fail,
    /// Fails for good.
    Break,
    /// Asks for a day.
    Extend,
}

struct Hourly;

#[derive(Serialize, Deserialize)]
enum State {
    First(Does),
    Second(Does),
}

#[derive(PartialEq, Serialize, Deserialize)]
enum Nothing {}

impl Workflow for Hourly {
    const NAME: &'static str = "hourly";
    const VERSION: i32 = 1;
    const RUN_DEADLINE: Option<Duration> = Some(HOUR);
    type Input = Does;
    type State = State;
    type Signal = Nothing;
    type Output = String;

    fn start(&self, does: Does) -> State {
        State::First(does)
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Nothing>,
    ) -> Result<Transition<Self>, StepError> {
        let (State::First(does) | State::Second(does)) = state;
        if event == Event::RunDeadline {
            cx.step("clean-up", &RetryPolicy::DEFAULT, async |_| Ok(()))
                .await?;
            if does == Does::Answer {
                return Ok(Transition::complete("what there was".to_owned()));
            }
            return Ok(Transition::go(State::First(does)));
        }
        cx.step("look", &RetryPolicy::DEFAULT, async |_| Ok(()))
            .await?;
        let policy = RetryPolicy {
            initial: 2 * HOUR,
            cap: 2 * HOUR,
            ..RetryPolicy::DEFAULT
        };
        let broken = async |_| match does {
            Does::Fail => Err(StepError::retryable("down", "down").after(2 * HOUR)),
            Does::Break => Err(StepError::terminal("broken", "broken")),
            _ => Ok(()),
        };
        cx.step("try", &policy, broken).await?;
        Ok(match (state, event) {
            (State::First(_), Event::Entered) if does == Does::Extend => {
                Transition::go(State::Second(does)).end_by(cx.now() + 24 * HOUR)
            }
            (State::First(_), Event::Entered) => Transition::go(State::Second(does)),
            (_, Event::Entered) if does == Does::Turn => Transition::go(State::Second(does)),
            _ => Transition::stay(State::Second(does)).after("later", 100 * HOUR),
        })
    }
}

async fn engine() -> TestEngine {
    let registry = Registry::builder().register(Hourly).build().unwrap();
    TestEngine::new(registry).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_not_done_in_time_cleans_up_and_has_failed() {
    let engine = engine().await;
    let run = engine.start::<Hourly>("a", &Does::Wait).await;
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Waiting);
    assert_eq!(detail.summary.state, "Second");
    assert!(
        detail.why.summary.contains("run-deadline"),
        "{:?}",
        detail.why
    );
    engine.advance(HOUR - Duration::from_secs(60));
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Waiting);
    engine.advance(Duration::from_secs(120));
    engine.drain().await;
    let detail = engine.detail(run).await;
    assert_eq!(detail.summary.status, Status::Failed);
    assert_eq!(detail.summary.error.unwrap().code, "run_deadline");
    let mut conn = engine.pool().acquire().await.unwrap();
    let steps = tenure_engine::inspect::steps(&mut conn, engine.keyring(), run)
        .await
        .unwrap();
    assert_eq!(steps[0].name, "clean-up");
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_of_its_own_choice_stands() {
    let engine = engine().await;
    let run = engine.start::<Hourly>("a", &Does::Answer).await;
    engine.drain().await;
    engine.advance(2 * HOUR);
    engine.drain().await;
    assert_eq!(engine.output::<String>(run).await, "what there was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_only_fails_is_given_up_for_it() {
    let engine = engine().await;
    let run = engine.start::<Hourly>("a", &Does::Fail).await;
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Retrying);
    // Its next attempt would come after two hours; the run has one.
    engine.advance(HOUR + Duration::from_secs(60));
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Failed);
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_never_rests_is_stopped_and_one_that_asked_for_a_day_has_it() {
    let engine = engine().await;
    let turning = engine.start::<Hourly>("turning", &Does::Turn).await;
    let worker = engine.worker().await;
    crate::support::eventually("it turns", async || {
        engine.detail(turning).await.summary.visit > 100
    })
    .await;
    engine.advance(HOUR);
    crate::support::eventually("it is stopped", async || {
        engine.status(turning).await == Status::Failed
    })
    .await;
    worker.shutdown().await;
    let run = engine.start::<Hourly>("extended", &Does::Extend).await;
    engine.drain().await;
    engine.advance(23 * HOUR);
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Waiting);
    engine.advance(HOUR + Duration::from_secs(60));
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Failed);
    engine.assert_nothing_lost().await;
}

/// A stuck run is a human's: it hears of the time when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_breaks_is_stuck_before_its_time_and_fails_after_it() {
    let engine = engine().await;
    let early = engine.start::<Hourly>("early", &Does::Break).await;
    engine.drain().await;
    assert_eq!(engine.status(early).await, Status::Stuck);
    let late = engine.start::<Hourly>("late", &Does::Break).await;
    engine.advance(2 * HOUR);
    engine.drain().await;
    assert_eq!(engine.status(early).await, Status::Stuck);
    assert_eq!(engine.status(late).await, Status::Failed);
    engine.assert_nothing_lost().await;
}

/// A tenant's deadline is in the tenant's time: real time that passes means nothing to it.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_test_clock_it_is_the_clocks_hour() {
    let mut engine = engine().await;
    let clock = ClockId::new(ShardId::any());
    let start = "2027-01-01T00:00:00Z".parse().unwrap();
    let mut conn = engine.pool().acquire().await.unwrap();
    test_clock::create(&mut conn, clock, start).await.unwrap();
    engine.tenant = engine.add_tenant(Some(clock)).await;
    let run = engine.start::<Hourly>("a", &Does::Wait).await;
    engine.drain().await;
    engine.advance(5 * HOUR);
    engine.drain().await;
    assert_eq!(engine.status(run).await, Status::Waiting);
    let due: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("select due_at from engine.clocked")
            .fetch_one(engine.pool())
            .await
            .unwrap();
    assert_eq!(due.to_rfc3339(), "2027-01-01T01:00:00+00:00");
}
