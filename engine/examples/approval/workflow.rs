//! A complete workflow: a refund that somebody has to approve within a week.
//!
//! `docs/writing-a-workflow.md` walks through it and `tests/engine/example.rs` tests it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure_engine::{
    Context, Event, Reception, RetryPolicy, Step, StepError, Transition, Workflow,
};

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) customer: String,
    pub(crate) cents: i64,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum State {
    Asked { request: Request, reminders: u32 },
    Approved { request: Request, by: String },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Signal {
    Approve { by: String },
    Decline { by: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Refunded { receipt: String, by: String },
    Declined { by: String },
    Expired,
}

/// The outside. Each call may come twice, with the same key.
pub(crate) trait Desk: Send + Sync + 'static {
    async fn tell(&self, key: &str, text: String) -> Result<(), StepError>;
    async fn refund(&self, key: &str, request: &Request) -> Result<String, StepError>;
}

pub(crate) struct Approval<D>(pub(crate) D);

impl<D: Desk> Workflow for Approval<D> {
    const NAME: &'static str = "approval";
    const VERSION: i32 = 1;
    type Input = Request;
    type State = State;
    type Signal = Signal;
    type Output = Outcome;

    fn start(&self, request: Request) -> State {
        let reminders = 0;
        State::Asked { request, reminders }
    }

    fn receive(&self, state: &State, _signal: &Signal) -> Reception {
        match state {
            State::Asked { .. } => Reception::Accept,
            State::Approved { .. } => Reception::Reject("it is approved already"),
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        let (desk, policy) = (&self.0, &RetryPolicy::DEFAULT);
        Ok(match (state, event) {
            (state @ State::Asked { .. }, Event::Entered) => {
                let text = format!("{} asks for a refund", cx.key());
                cx.step("ask", policy, async |step| desk.tell(&step.key, text).await)
                    .await?;
                Transition::stay(state)
                    .after("remind", 2 * DAY)
                    .after("expire", 7 * DAY)
            }
            (State::Asked { request, reminders }, Event::Deadline(name)) if name == "remind" => {
                let reminders = reminders + 1;
                let text = format!("{} still waits, reminder {reminders}", cx.key());
                cx.step("remind", policy, async |step| {
                    desk.tell(&step.key, text).await
                })
                .await?;
                Transition::stay(State::Asked { request, reminders }).after("remind", 2 * DAY)
            }
            (State::Asked { .. }, Event::Deadline(_)) => Transition::complete(Outcome::Expired),
            (State::Asked { request, .. }, Event::Signal(Signal::Approve { by })) => {
                Transition::go(State::Approved { request, by })
            }
            (_, Event::Signal(Signal::Decline { by })) => {
                Transition::complete(Outcome::Declined { by })
            }
            (State::Approved { request, by }, Event::Entered) => {
                let pay = async |step: Step| desk.refund(&step.key, &request).await;
                let receipt = cx.step("refund", policy, pay).await?;
                Transition::complete(Outcome::Refunded { receipt, by })
            }
            (_, Event::CancelRequested) => Transition::cancelled(),
            (state, _) => Transition::stay(state),
        })
    }
}
