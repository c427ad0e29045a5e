//! The trait that a workflow implements, and the events that it answers.
//!
//! A workflow is a state machine whose states carry their own data. The state *is* the durable
//! program: nothing else about the code's position is stored for a waiting run.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::attribute::{AttributeNames, Attributes};
use crate::context::Context;
use crate::error::{ErrorRecord, StepError};
use crate::fan_out::Joined;
use crate::guard::Guard;
use crate::id::RunId;
use crate::limit::{Limit, Need};
use crate::priority::Priority;
use crate::private;
use crate::retention::Retention;
use crate::run::Status;
use crate::transition::Transition;

/// The queue of workflows that name none.
pub(crate) const DEFAULT_QUEUE: &str = "default";

/// A named, versioned definition of a durable state machine.
///
/// `State` and `Signal` are serde enums in serde's default (externally tagged) form, so that the
/// variant's name can be read from the payload; renaming a variant is a change of version.
#[expect(
    async_fn_in_trait,
    reason = "visits run on the worker's own threads and need not be Send"
)]
pub trait Workflow: Send + Sync + 'static {
    /// The name that runs are stored under; kebab-case, for ever.
    const NAME: &'static str;
    /// The version of the state's shape, from 1; raise it together with [`Workflow::migrate`].
    const VERSION: i32;
    /// The queue that its runs belong to: what operators pause together.
    const QUEUE: &'static str = DEFAULT_QUEUE;
    /// How urgent its runs are, unless a start says otherwise.
    const PRIORITY: Priority = Priority::Normal;
    /// The limits that [`Workflow::needs`] may name, with the numbers that they begin with.
    const LIMITS: &'static [Limit] = &[];
    /// What its runs can be found by beyond what every run has; names in snake case.
    const ATTRIBUTES: AttributeNames = &[];
    /// The fields of its input, states, signals, step answers, reports and output that hold private data,
    /// by their names as JSON bears them, at any depth. People are shown [`MASK`](crate::MASK) for such a
    /// field, with all below it, and have to say why when they want to see it. A name that an older version
    /// used stays here for as long as its runs are kept. No search attribute may bear such a name.
    const PRIVATE: &'static [&'static str] = &[];
    /// How long a run may take from its start, in the tenant's time; for ever otherwise. See
    /// [`Event::RunDeadline`]. [`Transition::end_by`] sets it for one run.
    const RUN_DEADLINE: Option<Duration> = None;
    /// What becomes of a run after its end, unless operators decide otherwise. Its key is free again
    /// once it is dropped.
    const RETENTION: Retention = Retention::DEFAULT;
    /// What of it is decided at doors of its own: signals that carry authority, starts, and the verbs
    /// that would go round them.
    const GUARD: Guard = Guard::OPEN;
    /// What a run is started with.
    type Input: Serialize + DeserializeOwned;
    /// Where a run is, with its data.
    type State: Serialize + DeserializeOwned;
    /// What the outside may tell a run.
    type Signal: Serialize + DeserializeOwned;
    /// What a completed run leaves behind.
    type Output: Serialize + DeserializeOwned;

    /// Turns the input into the first state. Pure.
    fn start(&self, input: Self::Input) -> Self::State;

    /// Says what a run is found by in a state; of the names and types in [`Workflow::ATTRIBUTES`].
    /// Pure. They are stored in clear.
    fn attributes(&self, _state: &Self::State) -> Attributes {
        Attributes::none()
    }

    /// Says what the state does with a signal that waits: accept, defer or reject.
    fn receive(&self, _state: &Self::State, _signal: &Self::Signal) -> Reception {
        Reception::Accept
    }

    /// Says what room a visit in this state needs before it begins, under [`Workflow::LIMITS`]; all
    /// of it or none is taken. Until there is room the run is *blocked*. Pure.
    fn needs(&self, _state: &Self::State) -> Vec<Need> {
        Vec::new()
    }

    /// Answers one event in one state; see `docs/architecture.md`, *A visit*.
    ///
    /// # Errors
    /// A retryable error runs the visit again, with its answered steps replayed; a terminal one
    /// leaves the run stuck.
    async fn handle(
        &self,
        cx: &Context,
        state: Self::State,
        event: Event<Self::Signal>,
    ) -> Result<Transition<Self>, StepError>
    where
        Self: Sized;

    /// Reverses what was registered under `name` with [`Context::on_undo`]; called when a visit has
    /// failed for good, newest first, each in a visit of its own. It may run more than once, and
    /// must bear that the effect never happened.
    ///
    /// # Errors
    /// A retryable error runs it again; a terminal one leaves the run stuck as *undo failed*, with
    /// what is left to reverse.
    async fn undo(&self, _cx: &Context, name: &str, _args: Value) -> Result<(), StepError> {
        Err(StepError::terminal(
            "unknown_reverse",
            format!("workflow {} has no reverse called {name:?}", Self::NAME),
        ))
    }

    /// Lifts a state that an older version wrote; called lazily when the run is loaded.
    ///
    /// # Errors
    /// What makes the bytes unreadable; they are kept and the run is stuck as *undecodable*.
    fn migrate(&self, from_version: i32, _state: Value) -> Result<Value, String> {
        Err(format!(
            "workflow {} knows no way from version {from_version} to {}",
            Self::NAME,
            Self::VERSION
        ))
    }
}

/// Why a visit happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<S> {
    /// The state was entered.
    Entered,
    /// A signal was accepted.
    Signal(S),
    /// The named deadline of the state has passed.
    Deadline(String),
    /// A child or a watched run has ended.
    RunFinished(FinishedRun),
    /// A fan-out has joined.
    Joined(Joined),
    /// The time of the whole run has passed. The answer may clean up, and may end the run as it likes;
    /// if it does not end it, the run fails with the code `run_deadline`. It comes between visits: a
    /// step under way has limits of its own, a visit that only fails is given up for it, and a run
    /// that is paused or stuck hears of it when it goes on.
    RunDeadline,
    /// Somebody asked the run to end and clean up after itself.
    CancelRequested,
}

/// What a state does with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// Handle it now.
    Accept,
    /// Leave it in the inbox until the state changes.
    Defer,
    /// Keep it, visible, with the reason; never handle it.
    Reject(&'static str),
}

/// How a child or a watched run ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FinishedRun {
    /// The run that ended.
    pub run_id: RunId,
    /// Its workflow's name.
    pub workflow: String,
    /// Its key.
    pub key: String,
    /// Completed, failed, cancelled or terminated.
    pub status: Status,
    /// What it left behind, when it completed.
    #[serde(default)]
    pub output: Value,
    /// Why it failed, when it did: the code and message of [`Transition::fail`], or of what failed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRecord>,
}

impl FinishedRun {
    /// Reads the output as workflow `W` wrote it.
    ///
    /// # Errors
    /// Terminal, when the run did not complete or left something else.
    pub fn output<W: Workflow>(&self) -> Result<W::Output, StepError> {
        if self.status != Status::Completed || self.workflow != W::NAME {
            let mut ended = format!(
                "{} run {} ended as {}",
                self.workflow, self.run_id, self.status
            );
            if let Some(error) = &self.error {
                ended = format!("{ended}: {}: {}", error.code, error.message);
            }
            return Err(StepError::terminal("no_output", ended));
        }
        serde_json::from_value(self.output.clone())
            .map_err(|error| private::misfit(W::PRIVATE, &error))
            .map_err(|words| StepError::terminal("undecodable_output", words))
    }
}
