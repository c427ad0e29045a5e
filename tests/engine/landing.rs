//! The record of a step is on its way while the handler goes on: what follows from an answer still comes
//! after it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tenure_engine::{
    Context, Event, Registry, RetryPolicy, Status, StepError, Transition, Workflow,
};

use super::workflows::{Errand, Outside};
use crate::support;
use crate::support::engine::TestEngine;

/// What it does after its step `jot`.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Then {
    Complete,
    Step,
    Transact,
    Child,
    GiveUp,
}

#[derive(Serialize, Deserialize)]
enum JotterState {
    Going { then: Then },
}

#[derive(PartialEq, Serialize, Deserialize)]
enum NoSignal {}

/// Looks, in whatever comes after `jot`, whether its record is there.
struct Jotter {
    /// Sees all rows.
    pool: PgPool,
    outside: Outside,
}

impl Jotter {
    async fn look(&self, cx_run: uuid::Uuid) -> Result<i64, StepError> {
        let found: i64 = sqlx::query_scalar(
            "select count(*) from engine.step where run_id = $1 and name = 'jot'",
        )
        .bind(cx_run)
        .fetch_one(&self.pool)
        .await?;
        self.outside.note("looked", found.to_string());
        Ok(found)
    }
}

impl Workflow for Jotter {
    const NAME: &'static str = "jotter";
    const VERSION: i32 = 1;
    type Input = Then;
    type State = JotterState;
    type Signal = NoSignal;
    type Output = i64;

    fn start(&self, then: Then) -> JotterState {
        JotterState::Going { then }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: JotterState,
        event: Event<NoSignal>,
    ) -> Result<Transition<Self>, StepError> {
        let JotterState::Going { then } = state;
        let run = cx.run_id().0;
        if let Event::RunFinished(_) = event {
            return Ok(Transition::complete(1));
        }
        let jot = async |_| {
            self.outside.note("jot", String::new());
            Ok(())
        };
        cx.step("jot", &RetryPolicy::ONCE, jot).await?;
        let found = match then {
            Then::Complete => 1,
            Then::Step => {
                let look = async |_| self.look(run).await;
                cx.step("look", &RetryPolicy::ONCE, look).await?
            }
            Then::Transact => {
                let look = async |_: &mut sqlx::PgConnection| self.look(run).await;
                cx.transact("look", look).await?
            }
            Then::GiveUp => {
                let look = async |_| self.look(run).await;
                let step = cx.step("look", &RetryPolicy::ONCE, look);
                let _ = tokio::time::timeout(Duration::ZERO, step).await;
                1
            }
            Then::Child => {
                return Ok(Transition::stay(state).start::<Errand>("child", &0));
            }
        };
        Ok(Transition::complete(found))
    }
}

async fn jotters() -> (TestEngine, Outside, PgPool) {
    let (options, outside) = (support::database().await, Outside::default());
    let pool = pool_of(&options).await;
    let registry = Registry::builder()
        .register(Jotter {
            pool: pool.clone(),
            outside: outside.clone(),
        })
        .register(Errand(outside.clone()))
        .build();
    (
        TestEngine::on(options, registry.unwrap()).await,
        outside,
        pool,
    )
}

async fn pool_of(options: &PgConnectOptions) -> PgPool {
    PgPool::connect_with(options.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_from_an_answer_comes_after_its_record() {
    let (engine, outside, pool) = jotters().await;
    let mut runs = Vec::new();
    for number in 0..50 {
        for then in [Then::Complete, Then::Step, Then::Transact] {
            let key = format!("{number}-{}", then as u8);
            runs.push(engine.start::<Jotter>(&key, &then).await);
        }
    }
    engine.drain().await;
    for run in &runs {
        assert_eq!(engine.output::<i64>(*run).await, 1);
    }
    let looked = outside.keys("looked");
    assert_eq!(looked.len(), 100);
    assert!(looked.iter().all(|found| found == "1"), "{looked:?}");
    let kept: i64 = sqlx::query_scalar("select count(*) from engine.step where name = 'jot'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(kept, 150, "the last step of a visit is in the log, too");
    engine.assert_nothing_lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_from_an_answer_that_cannot_be_kept() {
    let (engine, outside, pool) = jotters().await;
    sqlx::raw_sql("alter table engine.step add constraint no_jot check (name <> 'jot') not valid")
        .execute(&pool)
        .await
        .unwrap();
    let mut bad = Vec::new();
    let thens = [
        Then::Complete,
        Then::Step,
        Then::Transact,
        Then::Child,
        Then::GiveUp,
    ];
    for then in thens {
        bad.push(
            engine
                .start::<Jotter>(&format!("{}", then as u8), &then)
                .await,
        );
    }
    let mut good = Vec::new();
    for number in 0..40 {
        good.push(engine.start::<Errand>(&number.to_string(), &0).await);
    }
    engine.drain().await;
    for run in &bad {
        let detail = engine.detail(*run).await;
        assert_eq!(detail.summary.status, Status::Stuck);
        assert_eq!(detail.summary.stuck.as_deref(), Some("not_recordable"));
        let error = detail.summary.error.unwrap();
        assert_eq!(error.step.as_deref(), Some("jot"));
        assert_eq!(error.event.as_deref(), Some("entered"));
    }
    for run in &good {
        assert_eq!(engine.status(*run).await, Status::Completed);
    }
    assert_eq!(outside.keys("jot").len(), 5, "none of them was repeated");
    assert!(outside.keys("looked").is_empty());
    let children: i64 =
        sqlx::query_scalar("select count(*) from engine.run where parent_run_id is not null")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(children, 0);
    engine.assert_nothing_lost().await;
}
