//! Parcels, as the second build sends them: a state has another name and more in it, another state and
//! a signal are new, and a step has come between two that there were.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenure_engine::{Context, Event, StepError, Transition, Workflow};

use crate::depot::{Depot, PATIENT};

pub(crate) struct Parcel(pub(crate) Depot);

#[derive(Serialize, Deserialize)]
pub(crate) enum State {
    Packed { grams: u64, fragile: bool },
    OnItsWay { label: String, insured: bool },
    AtTheCustoms { label: String },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Signal {
    Send,
    Hold,
    Arrived,
}

impl Workflow for Parcel {
    const NAME: &'static str = "parcel";
    const VERSION: i32 = 2;
    type Input = u32;
    type State = State;
    type Signal = Signal;
    type Output = String;

    fn start(&self, grams: u32) -> State {
        let grams = u64::from(grams);
        State::Packed {
            grams,
            fragile: false,
        }
    }

    fn migrate(&self, _from_version: i32, mut state: Value) -> Result<Value, String> {
        if let Some(packed) = state.get_mut("Packed") {
            packed["fragile"] = json!(false);
            return Ok(state);
        }
        let label = state["Sent"]["label"].as_str();
        let label = label.ok_or("neither packed nor sent")?;
        Ok(json!({"OnItsWay": {"label": label, "insured": false}}))
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
                cx.step("insure", &PATIENT, async |step| {
                    self.0.note("insure", parcel, &step.key)
                })
                .await?;
                let label = cx
                    .step("label", &PATIENT, async |step| {
                        self.0.print(parcel, &step.key)
                    })
                    .await?;
                Transition::go(State::OnItsWay {
                    label,
                    insured: true,
                })
            }
            (State::OnItsWay { label, .. }, Event::Signal(Signal::Hold)) => {
                Transition::go(State::AtTheCustoms { label })
            }
            (
                State::OnItsWay { label, .. } | State::AtTheCustoms { label },
                Event::Signal(Signal::Arrived),
            ) => Transition::complete(label),
            (_, Event::CancelRequested) => Transition::cancelled(),
            (state, _) => Transition::stay(state),
        })
    }
}
