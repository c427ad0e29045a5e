//! Name to code. The workflow's types are erased here, once, and nowhere else.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::attribute::AttributeNames;
use crate::context::{Context, panic_text};
use crate::error::{EngineError, StepError};
use crate::fan_out::{FanOutHandler, Joined, NAME};
use crate::guard::Guard;
use crate::limit::{Limit, Need};
use crate::made_up::made_up;
use crate::payload;
use crate::plan::{Answer, AnswerNext};
use crate::priority::Priority;
use crate::private::{self, MASK, Private};
use crate::retention::Retention;
use crate::seal::Keyring;
use crate::start::FROM_INPUT;
use crate::testkit::{Faults, Moment};
use crate::transition::{Next, Transition};
use crate::undo::Reverse;
use crate::variants::{sketches, variants};
use crate::workflow::{DEFAULT_QUEUE, Event, FinishedRun, Reception, Workflow};

/// An event whose signal is still bytes.
#[derive(Debug, Clone)]
pub(crate) enum ErasedEvent {
    Entered,
    Signal(Vec<u8>),
    Deadline(String),
    RunFinished(Vec<u8>),
    /// All ends that wait, for a handler that gathers.
    Gathered(Vec<Vec<u8>>),
    CancelRequested,
    RunDeadline,
}

/// Why a visit gave no answer.
pub(crate) enum VisitError {
    Failed(StepError),
    Undecodable(String),
}

/// A first state, and what a run in it is found by, if the workflow declares that.
pub(crate) struct Beginning {
    pub(crate) state: Value,
    pub(crate) attributes: Option<Value>,
}

/// A workflow behind its name.
pub(crate) trait Handler: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> i32;
    fn states(&self) -> &'static [&'static str];
    /// Its signals, and what a run in a state does with each.
    fn signals(&self, version: i32, data: &[u8]) -> Vec<SignalKind>;
    fn retention(&self) -> Retention;
    fn queue(&self) -> &'static str;
    fn priority(&self) -> Priority;
    fn limits(&self) -> &'static [Limit];
    /// What its next visit needs; an error when its code panics.
    fn needs(&self, version: i32, data: &[u8]) -> Result<Vec<Need>, String>;
    fn attributes(&self) -> AttributeNames;
    /// The names of its private fields.
    fn private(&self) -> &'static [&'static str] {
        &[]
    }
    /// What of it is decided at doors of its own.
    fn guard(&self) -> Guard {
        Guard::OPEN
    }
    fn start(&self, input: Value) -> Result<Beginning, EngineError>;
    fn check_signal(&self, signal: &Value) -> Result<(), EngineError>;
    fn check_state(&self, state: &Value) -> Result<Option<Value>, EngineError>;
    /// Whether a stored state can be lifted and decoded.
    fn read_state(&self, version: i32, data: &[u8]) -> Result<(), String>;
    /// A stored state as the present version would store it.
    fn lift(&self, version: i32, data: &[u8]) -> Result<Value, String>;
    /// Whether a stored signal can be decoded.
    fn read_signal(&self, signal: &[u8]) -> Result<(), String>;
    fn receive(&self, version: i32, data: &[u8], signal: &[u8]) -> Result<Reception, Unfit>;
    /// How long a run may take, from its start.
    fn run_deadline(&self) -> Option<Duration> {
        None
    }
    /// Whether one visit takes all ends of other runs that wait.
    fn gathers(&self) -> bool {
        false
    }
    fn visit<'a>(
        &'a self,
        cx: &'a Context,
        version: i32,
        data: &'a [u8],
        event: ErasedEvent,
    ) -> LocalBoxFuture<'a, Result<Answer, VisitError>>;
    fn undo<'a>(
        &'a self,
        cx: &'a Context,
        reverse: &'a Reverse,
    ) -> LocalBoxFuture<'a, Result<(), VisitError>>;
}

/// A signal that a run may be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalKind {
    /// Its name, as payloads bear it.
    pub name: &'static str,
    /// Its payload, with the names of what it carries and no values.
    pub sketch: Value,
    /// What the run's state does with it when it carries the plainest there is; `None` where nothing of
    /// the kind can be made up.
    pub reception: Option<Reception>,
}

/// The workflows that this process knows.
#[derive(Clone, Default)]
pub struct Registry {
    handlers: Arc<BTreeMap<&'static str, Arc<dyn Handler>>>,
    payload_limit: usize,
    faults: Option<Arc<Faults>>,
    keyring: Keyring,
}

/// Collects workflows; each name once.
#[derive(Default)]
pub struct RegistryBuilder {
    handlers: BTreeMap<&'static str, Arc<dyn Handler>>,
    twice: Option<&'static str>,
    payload_limit: Option<usize>,
    faults: Option<Arc<Faults>>,
    keyring: Keyring,
}

impl Registry {
    /// Starts an empty list.
    #[must_use]
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// Lists names and versions, as a worker registers them.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<&'static str, i32> {
        self.handlers
            .values()
            .map(|handler| (handler.name(), handler.version()))
            .collect()
    }

    /// Lists the states that a workflow's runs can be in at its present version, in the order of
    /// its code; `None` when no workflow has the name.
    #[must_use]
    pub fn states(&self, workflow: &str) -> Option<&'static [&'static str]> {
        self.handlers.get(workflow).map(|handler| handler.states())
    }

    /// Lists the signals of a workflow, and what a run in a state would do with each; empty when no
    /// workflow has the name.
    #[must_use]
    pub fn signals(&self, workflow: &str, version: i32, state: &Value) -> Vec<SignalKind> {
        let Some(handler) = self.handlers.get(workflow) else {
            return Vec::new();
        };
        handler.signals(version, state.to_string().as_bytes())
    }

    /// What of a workflow is decided at doors of its own; of one that is not known, nothing.
    #[must_use]
    pub fn guard(&self, workflow: &str) -> Guard {
        let handler = self.handlers.get(workflow);
        handler.map_or(Guard::OPEN, |handler| handler.guard())
    }

    /// What is decided at doors of their own, of all workflows: workflow, signal (a start has none) and
    /// door.
    pub(crate) fn doors(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut doors = Vec::new();
        for (name, handler) in self.handlers.iter() {
            let guard = handler.guard();
            let signals = guard.signals.iter().copied();
            let all = std::iter::once(("", guard.start)).chain(signals);
            doors.extend(all.map(|(signal, need)| (*name, signal, need.words())));
        }
        doors.retain(|(_, _, door)| !door.is_empty());
        doors
    }

    /// The queue of a workflow's runs; of one that is not known, the default one.
    #[must_use]
    pub fn queue(&self, workflow: &str) -> &'static str {
        self.handlers
            .get(workflow)
            .map_or(DEFAULT_QUEUE, |handler| handler.queue())
    }

    /// All limits that workflows name, each once.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        let all = self.handlers.values().flat_map(|handler| handler.limits());
        let mut by_name: BTreeMap<&str, Limit> = BTreeMap::new();
        for limit in all {
            by_name.entry(limit.name).or_insert(*limit);
        }
        by_name.into_values().collect()
    }

    /// What room the next visit of a run needs.
    pub(crate) fn needs(&self, workflow: &str, version: i32, data: &[u8]) -> Vec<Need> {
        self.handlers
            .get(workflow)
            // Code that panics is told by the visit, as a failed attempt.
            .and_then(|handler| handler.needs(version, data).ok())
            .unwrap_or_default()
    }

    /// Lists the search attributes that a workflow declares; `None` when no workflow has the name.
    #[must_use]
    pub fn attributes(&self, workflow: &str) -> Option<AttributeNames> {
        let handler = self.handlers.get(workflow);
        handler.map(|handler| handler.attributes())
    }

    /// What of a workflow's payloads is private: everything where no workflow has the name.
    #[must_use]
    pub fn private(&self, workflow: &str) -> Private {
        let handler = self.handlers.get(workflow);
        handler.map_or(Private::everything(), |handler| {
            Private::only(handler.private())
        })
    }

    /// Refuses a payload in which a mask stands for a private field: it would be stored for what it hides.
    pub(crate) fn refuse_masks(
        &self,
        workflow: &str,
        what: &'static str,
        payload: &Value,
    ) -> Result<(), EngineError> {
        match self.private(workflow).find_mask(payload) {
            Some(place) => Err(EngineError::Malformed {
                what,
                workflow: workflow.to_owned(),
                detail: format!("{place} holds {MASK}, which hides nothing here: give its value"),
            }),
            None => Ok(()),
        }
    }

    /// Lists what each workflow's code declares on its finished runs.
    #[must_use]
    pub fn retentions(&self) -> BTreeMap<&'static str, Retention> {
        self.handlers
            .values()
            .map(|handler| (handler.name(), handler.retention()))
            .collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.handlers.keys().map(ToString::to_string).collect()
    }

    /// The most bytes that one payload may have.
    #[must_use]
    pub fn payload_limit(&self) -> usize {
        self.payload_limit
    }

    /// Whether a workflow is registered.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.handlers.contains_key(name)
    }

    /// Whether a play of the test kit breaks visits: at each moment it knows what is written by then.
    pub(crate) fn is_played(&self) -> bool {
        self.faults.is_some()
    }

    /// Passes a moment at which a play of the test kit may break a visit.
    pub(crate) async fn pass(
        &self,
        moment: Moment,
        workflow: &str,
        step: &str,
    ) -> Result<(), StepError> {
        match &self.faults {
            Some(faults) => faults.pass(moment, &format!("{workflow} {step}")).await,
            None => Ok(()),
        }
    }

    /// Where the keys of tenants come from.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<dyn Handler>> {
        self.handlers.get(name).cloned()
    }

    pub(crate) fn require(&self, name: &str) -> Result<Arc<dyn Handler>, EngineError> {
        self.find(name)
            .ok_or_else(|| EngineError::UnknownWorkflow(name.to_owned()))
    }
}

impl RegistryBuilder {
    /// Adds a workflow.
    #[must_use]
    pub fn register<W: Workflow>(mut self, workflow: W) -> Self {
        let handler = Arc::new(Typed { workflow });
        if self.handlers.insert(W::NAME, handler).is_some() {
            self.twice = Some(W::NAME);
        }
        self
    }

    /// Bounds every payload; [`DEFAULT_PAYLOAD_LIMIT`](crate::DEFAULT_PAYLOAD_LIMIT) otherwise.
    #[must_use]
    pub fn payload_limit(mut self, bytes: usize) -> Self {
        self.payload_limit = Some(bytes);
        self
    }

    /// Seals payloads; without one they are stored in clear.
    #[must_use]
    pub fn keyring(mut self, keyring: Keyring) -> Self {
        self.keyring = keyring;
        self
    }

    /// Breaks visits as a play of the test kit wishes.
    pub(crate) fn faults(mut self, faults: Arc<Faults>) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Closes the list.
    ///
    /// # Errors
    /// [`EngineError::RegisteredTwice`] when two workflows share a name, [`EngineError::Malformed`] when a
    /// search attribute, which is stored in clear, bears the name of a private field.
    pub fn build(mut self) -> Result<Registry, EngineError> {
        if self
            .handlers
            .insert(NAME, Arc::new(FanOutHandler))
            .is_some()
        {
            self.twice = Some(NAME);
        }
        for handler in self.handlers.values() {
            let mut names = handler.attributes().iter().map(|(name, _)| *name);
            if let Some(name) = names.find(|name| handler.private().contains(name)) {
                return Err(EngineError::Malformed {
                    what: "attributes",
                    workflow: handler.name().to_owned(),
                    detail: format!("{name} is private, and attributes are stored in clear"),
                });
            }
        }
        match self.twice {
            Some(name) => Err(EngineError::RegisteredTwice(name)),
            None => Ok(Registry {
                handlers: Arc::new(self.handlers),
                payload_limit: self.payload_limit.unwrap_or(payload::DEFAULT_PAYLOAD_LIMIT),
                faults: self.faults,
                keyring: self.keyring,
            }),
        }
    }
}

/// Why a workflow was not asked what it makes of a signal.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// It is no signal of the workflow.
    Malformed(String),
    /// The workflow's code panics.
    Panicked(String),
}

/// Calls workflow code outside a visit: whoever holds many runs must not fall with one.
fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|panic| format!("it panics: {}", panic_text(&*panic)))
}

struct Typed<W> {
    workflow: W,
}

impl<W: Workflow> Typed<W> {
    /// Reads a state, lifting it when an older version wrote it.
    fn state(&self, version: i32, data: &[u8]) -> Result<W::State, String> {
        if version == FROM_INPUT {
            let input = Self::decode(data);
            let input = input.map_err(|error| format!("the input does not fit: {error}"))?;
            return Ok(self.workflow.start(input));
        }
        if version == W::VERSION {
            return Self::decode(data);
        }
        let value = Self::decode(data)?;
        if version > W::VERSION {
            return Err(format!(
                "written by version {version}, this worker has version {}",
                W::VERSION
            ));
        }
        let lifted = self.workflow.migrate(version, value)?;
        Self::read(lifted)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        serde_json::from_slice(bytes).map_err(|error| Self::misfit(&error))
    }

    fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|error| Self::misfit(&error))
    }

    /// Why a payload does not fit.
    fn misfit(error: &serde_json::Error) -> String {
        private::misfit(W::PRIVATE, error)
    }

    fn event(event: ErasedEvent) -> Result<Event<W::Signal>, String> {
        Ok(match event {
            ErasedEvent::Entered => Event::Entered,
            ErasedEvent::Signal(bytes) => Event::Signal(Self::decode(&bytes)?),
            ErasedEvent::Deadline(name) => Event::Deadline(name),
            ErasedEvent::RunFinished(bytes) => {
                let finished: FinishedRun = Self::decode(&bytes)?;
                if finished.workflow == NAME {
                    Event::Joined(Joined::of(finished))
                } else {
                    Event::RunFinished(finished)
                }
            }
            ErasedEvent::Gathered(_) => return Err("only a fan-out gathers".to_owned()),
            ErasedEvent::CancelRequested => Event::CancelRequested,
            ErasedEvent::RunDeadline => Event::RunDeadline,
        })
    }

    /// What a run in a state is found by, if the workflow declares that.
    fn attributes_of(&self, state: &W::State) -> Result<Option<Value>, String> {
        if W::ATTRIBUTES.is_empty() {
            return Ok(None);
        }
        let attributes = caught(|| self.workflow.attributes(state))?;
        attributes.encode(W::ATTRIBUTES).map(Some)
    }

    fn erase(&self, transition: Transition<W>, limit: usize) -> Result<Answer, StepError> {
        if let Some(fault) = transition.follow.fault {
            return Err(StepError::terminal("malformed_transition", fault));
        }
        for fan_out in &transition.follow.fan_outs {
            fan_out.check(limit)?;
        }
        let attributes = match &transition.next {
            Next::Go(state) | Next::Stay(state) => self.attributes_of(state),
            Next::Complete(_) | Next::Fail { .. } | Next::Cancelled => Ok(None),
        };
        let attributes =
            attributes.map_err(|error| StepError::terminal("malformed_attributes", error))?;
        let next = match transition.next {
            Next::Go(state) => {
                let (state, data) = encode_state(&state, limit)?;
                AnswerNext::Go { state, data }
            }
            Next::Stay(state) => {
                let (state, data) = encode_state(&state, limit)?;
                AnswerNext::Stay { state, data }
            }
            Next::Complete(output) => AnswerNext::Complete {
                output: encode("output", &output, limit)?,
            },
            Next::Fail { code, message } => AnswerNext::Fail { code, message },
            Next::Cancelled => AnswerNext::Cancelled,
        };
        Ok(Answer {
            next,
            follow: transition.follow,
            attributes,
        })
    }
}

fn encode<T: Serialize>(what: &'static str, value: &T, limit: usize) -> Result<Vec<u8>, StepError> {
    payload::to_bytes(what, value, limit)
        .map_err(|error| StepError::terminal("payload_too_large", error))
}

fn malformed<W: Workflow>(what: &'static str, detail: String) -> EngineError {
    EngineError::Malformed {
        what,
        workflow: W::NAME.to_owned(),
        detail,
    }
}

/// Encodes a state and reads its variant's name from the encoding's first string.
fn encode_state<S: Serialize>(state: &S, limit: usize) -> Result<(String, Vec<u8>), StepError> {
    let data = encode("state", state, limit)?;
    Ok((first_string(&data).to_owned(), data))
}

/// The first string of `"Name"` or `{"Name":…}`; variant names hold no escapes.
fn first_string(json: &[u8]) -> &str {
    let mut quoted = json.split(|byte| *byte == b'"');
    quoted
        .nth(1)
        .and_then(|name| std::str::from_utf8(name).ok())
        .unwrap_or_default()
}

impl<W: Workflow> Handler for Typed<W> {
    fn name(&self) -> &'static str {
        W::NAME
    }

    fn version(&self) -> i32 {
        W::VERSION
    }

    fn states(&self) -> &'static [&'static str] {
        variants::<W::State>()
    }

    fn signals(&self, version: i32, data: &[u8]) -> Vec<SignalKind> {
        let state = self.state(version, data).ok();
        let reception = |name| {
            let (state, signal) = (state.as_ref()?, made_up::<W::Signal>(name)?);
            caught(|| self.workflow.receive(state, &signal)).ok()
        };
        let kinds = sketches::<W::Signal>().into_iter();
        let kind = |(name, sketch)| SignalKind {
            name,
            sketch,
            reception: reception(name),
        };
        kinds.map(kind).collect()
    }

    fn retention(&self) -> Retention {
        W::RETENTION
    }

    fn run_deadline(&self) -> Option<Duration> {
        W::RUN_DEADLINE
    }

    fn queue(&self) -> &'static str {
        W::QUEUE
    }

    fn priority(&self) -> Priority {
        W::PRIORITY
    }

    fn limits(&self) -> &'static [Limit] {
        W::LIMITS
    }

    fn needs(&self, version: i32, data: &[u8]) -> Result<Vec<Need>, String> {
        if W::LIMITS.is_empty() {
            return Ok(Vec::new());
        }
        caught(|| match self.state(version, data) {
            Ok(state) => self.workflow.needs(&state),
            // A state that cannot be read is told by the visit, as undecodable.
            Err(_) => Vec::new(),
        })
    }

    fn attributes(&self) -> AttributeNames {
        W::ATTRIBUTES
    }

    fn private(&self) -> &'static [&'static str] {
        W::PRIVATE
    }

    fn guard(&self) -> Guard {
        W::GUARD
    }

    fn start(&self, input: Value) -> Result<Beginning, EngineError> {
        let input = Self::read(input).map_err(|error| malformed::<W>("input", error))?;
        let state = caught(|| self.workflow.start(input));
        let state = state.map_err(|panic| malformed::<W>("input", panic))?;
        Ok(Beginning {
            attributes: self
                .attributes_of(&state)
                .map_err(|error| malformed::<W>("attributes", error))?,
            state: payload::to_value("state", W::NAME, &state)?,
        })
    }

    fn check_signal(&self, signal: &Value) -> Result<(), EngineError> {
        Self::read::<W::Signal>(signal.clone())
            .map(drop)
            .map_err(|error| malformed::<W>("signal", error))
    }

    fn check_state(&self, state: &Value) -> Result<Option<Value>, EngineError> {
        let state: W::State =
            Self::read(state.clone()).map_err(|error| malformed::<W>("state", error))?;
        self.attributes_of(&state)
            .map_err(|error| malformed::<W>("attributes", error))
    }

    fn read_state(&self, version: i32, data: &[u8]) -> Result<(), String> {
        self.state(version, data).map(drop)
    }

    fn lift(&self, version: i32, data: &[u8]) -> Result<Value, String> {
        let state = self.state(version, data)?;
        serde_json::to_value(state).map_err(|error| error.to_string())
    }

    fn read_signal(&self, signal: &[u8]) -> Result<(), String> {
        Self::decode::<W::Signal>(signal).map(drop)
    }

    fn receive(&self, version: i32, data: &[u8], signal: &[u8]) -> Result<Reception, Unfit> {
        let received = caught(|| {
            // A state that cannot be read is told by the visit, as undecodable.
            let Ok(state) = self.state(version, data) else {
                return Ok(Reception::Accept);
            };
            let signal =
                Self::decode(signal).map_err(|error| format!("not a signal of it: {error}"))?;
            Ok(self.workflow.receive(&state, &signal))
        });
        received.map_err(Unfit::Panicked)?.map_err(Unfit::Malformed)
    }

    fn visit<'a>(
        &'a self,
        cx: &'a Context,
        version: i32,
        data: &'a [u8],
        event: ErasedEvent,
    ) -> LocalBoxFuture<'a, Result<Answer, VisitError>> {
        async move {
            let state = self.state(version, data).map_err(VisitError::Undecodable)?;
            let event = Self::event(event).map_err(VisitError::Undecodable)?;
            let transition = self
                .workflow
                .handle(cx, state, event)
                .await
                .map_err(VisitError::Failed)?;
            self.erase(transition, cx.payload_limit())
                .map_err(VisitError::Failed)
        }
        .boxed_local()
    }

    fn undo<'a>(
        &'a self,
        cx: &'a Context,
        reverse: &'a Reverse,
    ) -> LocalBoxFuture<'a, Result<(), VisitError>> {
        async move {
            let args = reverse.args.clone();
            self.workflow
                .undo(cx, &reverse.name, args)
                .await
                .map_err(VisitError::Failed)
        }
        .boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::first_string;

    #[test]
    fn a_states_name_is_read_from_its_encoding() {
        assert_eq!(first_string(br#""Idle""#), "Idle");
        assert_eq!(first_string(br#"{"Busy":{"n":"x"}}"#), "Busy");
        assert_eq!(first_string(b"3"), "");
    }
}
