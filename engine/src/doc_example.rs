//! The workflow that the documentation's examples speak of.

use serde::{Deserialize, Serialize};

use crate::{Context, Event, StepError, Transition, Workflow};

pub struct Greeter;

#[derive(Serialize, Deserialize)]
pub enum State {
    Waiting { name: String },
}

#[derive(Serialize, Deserialize)]
pub enum Signal {
    Greet,
}

impl Workflow for Greeter {
    const NAME: &'static str = "greeter";
    const VERSION: i32 = 1;
    type Input = String;
    type State = State;
    type Signal = Signal;
    type Output = String;

    fn start(&self, name: String) -> State {
        State::Waiting { name }
    }

    async fn handle(
        &self,
        _cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        let State::Waiting { name } = state;
        Ok(match event {
            Event::Signal(Signal::Greet) => Transition::complete(format!("Hello, {name}!")),
            Event::CancelRequested => Transition::cancelled(),
            Event::Entered
            | Event::Deadline(_)
            | Event::RunFinished(_)
            | Event::Joined(_)
            | Event::RunDeadline => Transition::stay(State::Waiting { name }),
        })
    }
}
