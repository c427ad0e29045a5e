//! The workflows that are measured: steps that answer a small JSON, and a listener.

use serde::{Deserialize, Serialize};
use tenure_engine::{Context, Event, StepError, Transition, Workflow};

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
