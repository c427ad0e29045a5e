//! A database goes away under a visit: for a while that is nobody's failed attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tenure_engine::testkit::{Play, PlayError};
use tenure_engine::{
    Context, Event, Registry, RetryPolicy, Status, StepError, Transition, Workflow, inspect,
};

use crate::support;

/// Asks the database, which goes away as often as `left` says.
struct Shaky {
    left: Arc<AtomicU32>,
}

#[derive(Serialize, Deserialize)]
enum ShakyState {
    Asking { in_step: bool },
}

#[derive(Serialize, Deserialize)]
enum NoSignal {}

impl Shaky {
    fn ask(&self) -> Result<u32, sqlx::Error> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        match taken {
            Ok(_) => Err(sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into())),
            Err(_) => Ok(7),
        }
    }
}

impl Workflow for Shaky {
    const NAME: &'static str = "shaky";
    const VERSION: i32 = 1;
    type Input = bool;
    type State = ShakyState;
    type Signal = NoSignal;
    type Output = u32;

    fn start(&self, in_step: bool) -> ShakyState {
        ShakyState::Asking { in_step }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: ShakyState,
        _event: Event<NoSignal>,
    ) -> Result<Transition<Self>, StepError> {
        let ShakyState::Asking { in_step } = state;
        let answer = if in_step {
            let ask = async |_| Ok(self.ask()?);
            cx.step("ask", &RetryPolicy::ONCE, ask).await?
        } else {
            self.ask()?
        };
        Ok(Transition::complete(answer))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_engines_database_burns_no_attempt() -> Result<(), PlayError> {
    for in_step in [false, true] {
        let left = Arc::new(AtomicU32::new(20));
        let shaky = Shaky { left: left.clone() };
        let workflows = Registry::builder().register(shaky);
        let play = Play::open(support::database().await, workflows).await?;
        let run = play.start::<Shaky>("one", &in_step).await?;
        play.settle().await?;
        assert_eq!(play.output::<u32>(run).await?, 7, "in a step: {in_step}");
        assert_eq!(left.load(Ordering::Relaxed), 0);
        let mut conn = play.client().pool().acquire().await?;
        let told = inspect::transitions(&mut conn, run).await?;
        let again = told.iter().filter(|one| one.outcome == "retrying");
        assert_eq!(again.count(), 20, "each is told in the log");
        drop(conn);
        play.close().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stays_away_puts_the_run_to_rest_in_the_end() -> Result<(), PlayError> {
    let left = Arc::new(AtomicU32::new(u32::MAX));
    let workflows = Registry::builder().register(Shaky { left });
    let play = Play::open(support::database().await, workflows).await?;
    let run = play.start::<Shaky>("one", &false).await?;
    play.settle().await?;
    let detail = play.detail(run).await?;
    assert_eq!(detail.summary.status, Status::Stuck);
    assert_eq!(detail.summary.stuck.as_deref(), Some("attempts_exhausted"));
    let error = detail.summary.error.ok_or("no error")?;
    assert_eq!(error.code, "database_away");
    let ran = detail.summary.changed_at - detail.summary.started_at;
    assert!(ran > TimeDelta::minutes(5), "it gave up after {ran}");
    play.close().await;
    Ok(())
}
