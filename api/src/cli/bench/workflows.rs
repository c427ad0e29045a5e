//! The workflows that are measured: steps that answer a small JSON or insert a row, a listener, a
//! sleeper, and one that needs room.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use tenure_engine::retention::Retention;
use tenure_engine::{Context, Event, Limit, Need, StepError, Transition, Workflow};

use super::POLICY;

/// Runs the number of steps that its input names, then completes.
pub(crate) struct Steps;

#[derive(Serialize, Deserialize)]
pub(crate) enum StepsState {
    Working { steps: u32 },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum NoSignal {}

#[derive(Serialize, Deserialize)]
struct Answer {
    done: u32,
    ok: bool,
}

impl Workflow for Steps {
    const NAME: &'static str = "bench-steps";
    const VERSION: i32 = 1;
    type Input = u32;
    type State = StepsState;
    type Signal = NoSignal;
    type Output = u32;

    fn start(&self, steps: u32) -> StepsState {
        StepsState::Working { steps }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: StepsState,
        _event: Event<NoSignal>,
    ) -> Result<Transition<Self>, StepError> {
        let StepsState::Working { steps } = state;
        for done in 0..steps {
            let answer = async |_| Ok(Answer { done, ok: true });
            cx.step("work", &POLICY, answer).await?;
        }
        Ok(Transition::complete(steps))
    }
}

/// One step, after a nap of so many milliseconds if there is to be one; forgotten as soon as it has
/// ended.
pub(crate) struct Brief;

#[derive(Serialize, Deserialize)]
pub(crate) enum BriefState {
    Begun { nap_ms: u32 },
}

impl Workflow for Brief {
    const NAME: &'static str = "bench-brief";
    const VERSION: i32 = 1;
    const RETENTION: Retention = Retention::Drop(0);
    type Input = u32;
    type State = BriefState;
    type Signal = NoSignal;
    type Output = ();

    fn start(&self, nap_ms: u32) -> BriefState {
        BriefState::Begun { nap_ms }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: BriefState,
        event: Event<NoSignal>,
    ) -> Result<Transition<Self>, StepError> {
        let BriefState::Begun { nap_ms } = state;
        if nap_ms > 0 && matches!(event, Event::Entered) {
            let nap = Duration::from_millis(nap_ms.into());
            return Ok(Transition::stay(state).after("nap", nap));
        }
        let answer = async |_| Ok(Answer { done: 1, ok: true });
        cx.step("work", &POLICY, answer).await?;
        Ok(Transition::complete(()))
    }
}

/// Counts the signals that it hears, for ever.
pub(crate) struct Listener;

#[derive(Serialize, Deserialize)]
pub(crate) enum ListenerState {
    Listening { heard: u32 },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Call {
    Ping,
}

impl Workflow for Listener {
    const NAME: &'static str = "bench-listener";
    const VERSION: i32 = 1;
    type Input = ();
    type State = ListenerState;
    type Signal = Call;
    type Output = ();

    fn start(&self, (): ()) -> ListenerState {
        ListenerState::Listening { heard: 0 }
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: ListenerState,
        event: Event<Call>,
    ) -> Result<Transition<Self>, StepError> {
        let ListenerState::Listening { heard } = state;
        let heard = match event {
            Event::Signal(Call::Ping) => heard + 1,
            Event::Entered
            | Event::Deadline(_)
            | Event::RunFinished(_)
            | Event::Joined(_)
            | Event::RunDeadline
            | Event::CancelRequested => heard,
        };
        Ok(Transition::stay(ListenerState::Listening { heard }))
    }
}

/// As [`Steps`], with a row of the caller's own in each step's transaction.
pub(crate) struct Effects;

impl Workflow for Effects {
    const NAME: &'static str = "bench-effects";
    const VERSION: i32 = 1;
    type Input = u32;
    type State = StepsState;
    type Signal = NoSignal;
    type Output = u32;

    fn start(&self, steps: u32) -> StepsState {
        StepsState::Working { steps }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: StepsState,
        _event: Event<NoSignal>,
    ) -> Result<Transition<Self>, StepError> {
        let StepsState::Working { steps } = state;
        let tenant = cx.tenant_id().0;
        for done in 0..steps {
            cx.transact("insert", async |tx| {
                sqlx::query("insert into bench_effect (tenant_id, done) values ($1, $2)")
                    .bind(tenant)
                    .bind(i64::from(done))
                    .execute(&mut *tx)
                    .await?;
                Ok(Answer { done, ok: true })
            })
            .await?;
        }
        Ok(Transition::complete(steps))
    }
}

/// The room that [`Gated`] needs.
pub(crate) const GATE: Limit = Limit::named("bench-gate");

/// Ends at once, if there is room.
pub(crate) struct Gated;

#[derive(Serialize, Deserialize)]
pub(crate) enum GatedState {
    Outside,
}

impl Workflow for Gated {
    const NAME: &'static str = "bench-gated";
    const VERSION: i32 = 1;
    const LIMITS: &'static [Limit] = &[GATE];
    type Input = ();
    type State = GatedState;
    type Signal = NoSignal;
    type Output = ();

    fn start(&self, (): ()) -> GatedState {
        GatedState::Outside
    }

    fn needs(&self, _state: &GatedState) -> Vec<Need> {
        vec![GATE.shared()]
    }

    async fn handle(
        &self,
        _cx: &Context,
        _state: GatedState,
        _event: Event<NoSignal>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(Transition::complete(()))
    }
}

/// Sleeps until an instant, in milliseconds since 1970.
pub(crate) struct Sleeper;

#[derive(Serialize, Deserialize)]
pub(crate) enum SleeperState {
    Asleep { until: i64 },
}

impl Workflow for Sleeper {
    const NAME: &'static str = "bench-sleeper";
    const VERSION: i32 = 1;
    type Input = i64;
    type State = SleeperState;
    type Signal = NoSignal;
    type Output = ();

    fn start(&self, until: i64) -> SleeperState {
        SleeperState::Asleep { until }
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: SleeperState,
        event: Event<NoSignal>,
    ) -> Result<Transition<Self>, StepError> {
        let SleeperState::Asleep { until } = state;
        Ok(match event {
            Event::Entered => {
                let at = DateTime::<Utc>::from_timestamp_millis(until)
                    .ok_or_else(|| StepError::terminal("until", "it is no instant"))?;
                Transition::stay(SleeperState::Asleep { until }).at("wake", at)
            }
            _ => Transition::complete(()),
        })
    }
}

/// Writes a row, then holds on: for ever, or until the next step where it `ends`.
pub(crate) struct Held {
    pub(crate) ends: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum HeldState {
    Holding,
}

impl Workflow for Held {
    const NAME: &'static str = "bench-held";
    const VERSION: i32 = 1;
    type Input = ();
    type State = HeldState;
    type Signal = NoSignal;
    type Output = ();

    fn start(&self, (): ()) -> HeldState {
        HeldState::Holding
    }

    async fn handle(
        &self,
        cx: &Context,
        _state: HeldState,
        _event: Event<NoSignal>,
    ) -> Result<Transition<Self>, StepError> {
        let run = cx.run_id().0;
        cx.transact("write", async |tx| {
            sqlx::query("insert into bench_held (run_id) values ($1)")
                .bind(run)
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
        .await?;
        if !self.ends {
            std::future::pending::<()>().await;
        }
        Ok(Transition::complete(()))
    }
}
