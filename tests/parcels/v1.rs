//! Parcels, as the first build sends them.

use serde::{Deserialize, Serialize};
use tenure_engine::{Context, Event, StepError, Transition, Workflow};

use crate::depot::{Depot, PATIENT};

pub(crate) struct Parcel(pub(crate) Depot);

#[derive(Serialize, Deserialize)]
pub(crate) enum State {
    Packed { grams: u32 },
    Sent { label: String },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Signal {
    Send,
    Arrived,
}

impl Workflow for Parcel {
    const NAME: &'static str = "parcel";
    const VERSION: i32 = 1;
    type Input = u32;
    type State = State;
    type Signal = Signal;
    type Output = String;

    fn start(&self, grams: u32) -> State {
        State::Packed { grams }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        let parcel = cx.key();
        Ok(match (state, event) {
            (State::Packed { .. }, Event::Signal(Signal::Send)) => {
                cx.step("weigh", &PATIENT, async |step| {
                    self.0.note("weigh", parcel, &step.key)
                })
                .await?;
                if parcel.starts_with("torn") {
                    return Err(StepError::terminal("torn", "this build cannot mend it"));
                }
                let label = cx
                    .step("label", &PATIENT, async |step| {
                        self.0.print(parcel, &step.key)
                    })
                    .await?;
                Transition::go(State::Sent { label })
            }
            (State::Sent { label }, Event::Signal(Signal::Arrived)) => Transition::complete(label),
            (_, Event::CancelRequested) => Transition::cancelled(),
            (state, _) => Transition::stay(state),
        })
    }
}
