//! What a workflow may answer: one value that says everything that follows.
//!
//! Here is only the shape of the answer. What the engine makes of it is decided in `plan.rs` and
//! written down by the committer, in one transaction.

use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::EngineError;
use crate::fan_out::FanOut;
use crate::id::RunId;
use crate::payload;
use crate::workflow::Workflow;

/// What follows a visit: a state, its deadlines, child runs, runs to watch, signals to send.
///
/// ```
/// # use tenure_engine::doc_example::{Greeter, State};
/// # use tenure_engine::Transition;
/// # use std::time::Duration;
/// let transition: Transition<Greeter> =
///     Transition::stay(State::Waiting { name: "Ada".into() })
///         .after("remind", Duration::from_secs(3_600));
/// ```
#[must_use = "a transition does nothing until the handler returns it"]
pub struct Transition<W: Workflow> {
    pub(crate) next: Next<W>,
    pub(crate) follow: FollowUp,
}

pub(crate) enum Next<W: Workflow> {
    Go(W::State),
    Stay(W::State),
    Complete(W::Output),
    Fail { code: String, message: String },
    Cancelled,
}

/// The parts of a transition that do not depend on the workflow's types.
#[derive(Debug, Default)]
pub(crate) struct FollowUp {
    pub(crate) deadlines: Vec<(&'static str, DeadlineChange)>,
    pub(crate) children: Vec<ChildStart>,
    pub(crate) watches: Vec<RunId>,
    pub(crate) signals: Vec<SignalOut>,
    pub(crate) fault: Option<EngineError>,
    pub(crate) fan_outs: Vec<FanOut>,
    /// What a fan-out's own run starts next.
    pub(crate) fan_batch: Option<FanBatch>,
    /// The deadline of the whole run.
    pub(crate) end_by: Option<DateTime<Utc>>,
}

/// The items of a fan-out whose children are to be started.
#[derive(Debug)]
pub(crate) struct FanBatch {
    pub(crate) workflow: String,
    pub(crate) items: Range<u32>,
    pub(crate) close: ClosePolicy,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum DeadlineChange {
    At(DateTime<Utc>),
    After(Duration),
    Clear,
}

#[derive(Debug)]
pub(crate) struct ChildStart {
    pub(crate) workflow: &'static str,
    pub(crate) key: String,
    pub(crate) input: Value,
    /// Whether its end comes back to the run that starts it.
    pub(crate) watched: bool,
    pub(crate) close: ClosePolicy,
}

/// What the end of a run means for a child that it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosePolicy {
    /// Nothing: the child goes on.
    #[default]
    Leave,
    /// The child is asked to end and clean up after itself.
    Cancel,
    /// The child ends at once, without clean-up.
    Terminate,
}

impl ClosePolicy {
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Leave => 0,
            Self::Cancel => 1,
            Self::Terminate => 2,
        }
    }
}

#[derive(Debug)]
pub(crate) struct SignalOut {
    pub(crate) workflow: &'static str,
    pub(crate) target: SignalTarget,
    pub(crate) signal_id: String,
    pub(crate) name: String,
    pub(crate) signal: Value,
}

#[derive(Debug)]
pub(crate) enum SignalTarget {
    Run(RunId),
    Key(String),
    StartKey { key: String, input: Value },
}

impl<W: Workflow> Transition<W> {
    /// Moves to `state` and enters it: a visit with [`Event::Entered`](crate::Event::Entered)
    /// follows. The deadlines of the old state are dropped.
    pub fn go(state: W::State) -> Self {
        Self::new(Next::Go(state))
    }

    /// Stays where it is, or rests in `state`, without entering it again.
    ///
    /// Deadlines that are not named anew stay as they are.
    pub fn stay(state: W::State) -> Self {
        Self::new(Next::Stay(state))
    }

    /// Ends the run well and leaves `output` behind.
    pub fn complete(output: W::Output) -> Self {
        Self::new(Next::Complete(output))
    }

    /// Ends the run as failed, for a reason that the business knows.
    pub fn fail(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Next::Fail {
            code: code.into(),
            message: message.into(),
        })
    }

    /// Ends the run as cancelled, after its clean-up.
    pub fn cancelled() -> Self {
        Self::new(Next::Cancelled)
    }

    /// Sets the named deadline to an absolute instant of the tenant's time; a pause never moves it.
    pub fn at(mut self, name: &'static str, instant: DateTime<Utc>) -> Self {
        self.follow
            .deadlines
            .push((name, DeadlineChange::At(instant)));
        self
    }

    /// Sets the named deadline relative to now; a pause freezes it with what remained.
    pub fn after(mut self, name: &'static str, duration: Duration) -> Self {
        self.follow
            .deadlines
            .push((name, DeadlineChange::After(duration)));
        self
    }

    /// Sets the deadline of the whole run, an absolute instant of the tenant's time that no change of
    /// state drops, in place of [`Workflow::RUN_DEADLINE`]; see
    /// [`Event::RunDeadline`](crate::Event::RunDeadline).
    pub fn end_by(mut self, instant: DateTime<Utc>) -> Self {
        self.follow.end_by = Some(instant);
        self
    }

    /// Drops the named deadline.
    pub fn clear(mut self, name: &'static str) -> Self {
        self.follow.deadlines.push((name, DeadlineChange::Clear));
        self
    }

    /// Starts a child run of the same tenant; its end comes back as
    /// [`Event::RunFinished`](crate::Event::RunFinished). A key that is taken watches that run.
    /// Where that one waits for this run, directly or over others, the visit fails for good as
    /// `child_cycle`, and what it registered is reversed.
    /// The child goes on when its parent ends; see [`Transition::start_closing`].
    pub fn start<C: Workflow>(self, key: impl Into<String>, input: &C::Input) -> Self {
        self.begin::<C>(key.into(), input, true, ClosePolicy::Leave)
    }

    /// As [`Transition::start`], and says what the end of this run, however it ends, means for the
    /// child. A key that is taken keeps the policy of its own start.
    pub fn start_closing<C: Workflow>(
        self,
        key: impl Into<String>,
        input: &C::Input,
        close: ClosePolicy,
    ) -> Self {
        self.begin::<C>(key.into(), input, true, close)
    }

    /// Starts a run of the same tenant that goes its own way: nobody hears of its end. A key that
    /// is taken is left alone.
    pub fn launch<C: Workflow>(self, key: impl Into<String>, input: &C::Input) -> Self {
        self.begin::<C>(key.into(), input, false, ClosePolicy::Leave)
    }

    /// Starts many children of one workflow, a few at a time; their end comes back once, as
    /// [`Event::Joined`](crate::Event::Joined). What they left behind is read by
    /// [`Context::child_results`](crate::Context::child_results).
    pub fn fan_out(mut self, fan_out: FanOut) -> Self {
        self.follow.fan_outs.push(fan_out);
        self
    }

    /// Asks to hear of the end of a run of the same tenant, now or later.
    pub fn watch(mut self, run: RunId) -> Self {
        self.follow.watches.push(run);
        self
    }

    /// Sends a signal to a run of the same tenant. `signal_id` makes it arrive once.
    pub fn signal<C: Workflow>(
        self,
        run: RunId,
        signal_id: impl Into<String>,
        signal: &C::Signal,
    ) -> Self {
        self.send::<C>(SignalTarget::Run(run), signal_id.into(), signal)
    }

    /// Sends a signal to the run of the same tenant that holds `key` in workflow `C`.
    pub fn signal_key<C: Workflow>(
        self,
        key: impl Into<String>,
        signal_id: impl Into<String>,
        signal: &C::Signal,
    ) -> Self {
        self.send::<C>(SignalTarget::Key(key.into()), signal_id.into(), signal)
    }

    /// Sends a signal to the run that holds `key`, and starts it with `input` first if there is
    /// none.
    pub fn signal_with_start<C: Workflow>(
        mut self,
        key: impl Into<String>,
        input: &C::Input,
        signal_id: impl Into<String>,
        signal: &C::Signal,
    ) -> Self {
        let key = key.into();
        match payload::to_value("input", C::NAME, input) {
            Ok(input) => self.send::<C>(
                SignalTarget::StartKey { key, input },
                signal_id.into(),
                signal,
            ),
            Err(error) => {
                self.follow.fault = Some(error);
                self
            }
        }
    }

    fn begin<C: Workflow>(
        mut self,
        key: String,
        input: &C::Input,
        watched: bool,
        close: ClosePolicy,
    ) -> Self {
        match payload::to_value("input", C::NAME, input) {
            Ok(input) => self.follow.children.push(ChildStart {
                workflow: C::NAME,
                key,
                input,
                watched,
                close,
            }),
            Err(error) => self.follow.fault = Some(error),
        }
        self
    }

    fn send<C: Workflow>(
        mut self,
        target: SignalTarget,
        signal_id: String,
        signal: &C::Signal,
    ) -> Self {
        match payload::to_value("signal", C::NAME, signal) {
            Ok(signal) => self.follow.signals.push(SignalOut {
                workflow: C::NAME,
                target,
                signal_id,
                name: payload::variant_name(&signal).to_owned(),
                signal,
            }),
            Err(error) => self.follow.fault = Some(error),
        }
        self
    }

    fn new(next: Next<W>) -> Self {
        Self {
            next,
            follow: FollowUp::default(),
        }
    }
}
