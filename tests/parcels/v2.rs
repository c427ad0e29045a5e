//! Parcels and convoys of them, as the second build sends them: states have other names and more in them,
//! one is gone and one is new, so is a signal, and a step has come between two that there were.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenure_engine::{Context, Event, Limit, Need, StepError, Transition, Workflow};

use crate::depot::{CRANE, Depot, HEAVY};

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
    const LIMITS: &'static [Limit] = &[CRANE];
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

    fn needs(&self, state: &State) -> Vec<Need> {
        match state {
            State::Packed { grams, .. } if *grams >= u64::from(HEAVY) => vec![CRANE.shared()],
            _ => Vec::new(),
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
        Ok(match (state, event) {
            (State::Packed { grams, .. }, Event::Signal(Signal::Send)) => {
                if cx.key().starts_with("refused") {
                    self.0.book_in_vain(cx).await?;
                }
                self.0.step(cx, "weigh").await?;
                self.0.step(cx, "insure").await?;
                if grams >= u64::from(HEAVY) {
                    self.0.step(cx, "lift").await?;
                }
                let label = self.0.step(cx, "label").await?;
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

    async fn undo(&self, cx: &Context, _name: &str, _args: Value) -> Result<(), StepError> {
        self.0.unbook(cx).await
    }
}

/// Ends when all of its parcels have ended.
pub(crate) struct Convoy;

#[derive(Serialize, Deserialize)]
pub(crate) enum ConvoyState {
    Together {
        parcels: Vec<String>,
        ended: Vec<String>,
        guarded: bool,
    },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum NoSignal {}

impl Workflow for Convoy {
    const NAME: &'static str = "convoy";
    const VERSION: i32 = 2;
    type Input = Vec<String>;
    type State = ConvoyState;
    type Signal = NoSignal;
    type Output = Vec<String>;

    fn start(&self, parcels: Vec<String>) -> ConvoyState {
        ConvoyState::Together {
            parcels,
            ended: Vec::new(),
            guarded: true,
        }
    }

    fn migrate(&self, _from_version: i32, mut state: Value) -> Result<Value, String> {
        let mut convoy = state["Gathering"].take();
        convoy["guarded"] = json!(false);
        Ok(json!({ "Together": convoy }))
    }

    async fn handle(
        &self,
        _cx: &Context,
        mut state: ConvoyState,
        event: Event<NoSignal>,
    ) -> Result<Transition<Self>, StepError> {
        let ConvoyState::Together { parcels, ended, .. } = &mut state;
        if let Event::RunFinished(parcel) = &event {
            ended.push(format!("{} {}", parcel.key, parcel.status));
        }
        if ended.len() == parcels.len() {
            return Ok(Transition::complete(std::mem::take(ended)));
        }
        let begins = matches!(event, Event::Entered);
        let keys = if begins { parcels.clone() } else { Vec::new() };
        let mut stays = Transition::stay(state);
        for key in keys {
            stays = stays.start::<Parcel>(key, &500);
        }
        Ok(stays)
    }
}
