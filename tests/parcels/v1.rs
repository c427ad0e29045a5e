//! Parcels and convoys of them, as the first build sends them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenure_engine::{Context, Event, Limit, Need, StepError, Transition, Workflow};

use crate::depot::{CRANE, Depot, HEAVY};

pub(crate) struct Parcel(pub(crate) Depot);

#[derive(Serialize, Deserialize)]
pub(crate) enum State {
    Packed { grams: u32 },
    Mislaid { grams: u32 },
    Sent { label: String },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Signal {
    Send,
    Mislay,
    Arrived,
}

impl Workflow for Parcel {
    const NAME: &'static str = "parcel";
    const VERSION: i32 = 1;
    const LIMITS: &'static [Limit] = &[CRANE];
    type Input = u32;
    type State = State;
    type Signal = Signal;
    type Output = String;

    fn start(&self, grams: u32) -> State {
        State::Packed { grams }
    }

    fn needs(&self, state: &State) -> Vec<Need> {
        match state {
            State::Packed { grams } if *grams >= HEAVY => vec![CRANE.shared()],
            _ => Vec::new(),
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        Ok(match (state, event) {
            (State::Packed { grams }, Event::Signal(Signal::Send)) => {
                if cx.key().starts_with("refused") {
                    self.0.book_in_vain(cx).await?;
                }
                self.0.step(cx, "weigh").await?;
                if cx.key().starts_with("torn") {
                    return Err(StepError::terminal("torn", "this build cannot mend it"));
                }
                if grams >= HEAVY {
                    self.0.step(cx, "lift").await?;
                }
                let label = self.0.step(cx, "label").await?;
                Transition::go(State::Sent { label })
            }
            (State::Packed { grams }, Event::Signal(Signal::Mislay)) => {
                Transition::go(State::Mislaid { grams })
            }
            (State::Mislaid { grams }, Event::Signal(Signal::Arrived)) => {
                Transition::go(State::Packed { grams })
            }
            (State::Sent { label }, Event::Signal(Signal::Arrived)) => Transition::complete(label),
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
    Gathering {
        parcels: Vec<String>,
        ended: Vec<String>,
    },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum NoSignal {}

impl Workflow for Convoy {
    const NAME: &'static str = "convoy";
    const VERSION: i32 = 1;
    type Input = Vec<String>;
    type State = ConvoyState;
    type Signal = NoSignal;
    type Output = Vec<String>;

    fn start(&self, parcels: Vec<String>) -> ConvoyState {
        let ended = Vec::new();
        ConvoyState::Gathering { parcels, ended }
    }

    async fn handle(
        &self,
        _cx: &Context,
        mut state: ConvoyState,
        event: Event<NoSignal>,
    ) -> Result<Transition<Self>, StepError> {
        let ConvoyState::Gathering { parcels, ended } = &mut state;
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
