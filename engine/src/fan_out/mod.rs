//! Fan-out: one transition asks for thousands of children, and hears once how they ended.
//!
//! # The protocol
//!
//! A fan-out is a run of its own, between the parent and the children; its row holds counts, its
//! items lie in `fan_item`.
//!
//! ```text
//! parent ──(one transaction: its transition, the fan-out's run, all items)──> fan-out
//! fan-out ─(one transaction: count what ended, start the next batch)────────> children
//! children ─(each its own settlement: one message and one nudge, no lock)───> fan-out
//! fan-out ──(its end: one message)──────────────────────────────────────────> parent: joined
//! ```
//!
//! - The parent's row does not grow: it knows the fan-out's run and no child, and it is woken once.
//! - A child that ends appends to the fan-out's inbox and locks nothing that its siblings want.
//!   Nudges of one run are taken by one claim, and a visit of the fan-out takes *all* ends that wait
//!   in its inbox: when thousands end at once, it visits as often as it can and no oftener.
//! - What lives is `started` less what ended, both in the fan-out's row. A start raises the first in
//!   the transaction that inserts the children, an end is counted after the child's own commit: at no
//!   moment do more live than it may.
//! - It is a run, so the fence, recovery and the inbox's *once by id* hold for it as for any: after a
//!   crash a batch is started wholly or not at all, and no end is counted twice. The join is its end,
//!   and a run ends once.
//! - The close policy stands on both edges. The parent's end closes the fan-out, the fan-out's end
//!   closes the children: so a join before the last one has ended (`FirstFailure`, `Any`) closes the
//!   rest by the same policy, and starts none of those that were not started yet.
//! - What children leave behind stays in their rows, and is read by key in the order of the items
//!   ([`Context::child_results`](crate::Context::child_results)).
//!
//! A key that is taken by a run with the same input is watched, as with `Transition::start`; one with
//! another input is *refused*: it counts as failed, and its item says why.
//!
//! `rules.rs` decides, `handler.rs` is the run's code, `begin.rs` starts; SQL is in
//! `store/fan_out.rs`.

mod begin;
mod handler;
mod rules;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use begin::{begin, start_batch};
pub(crate) use handler::{FanOutHandler, read};
pub(crate) use rules::Going;

use crate::error::{EngineError, ErrorRecord, StepError};
use crate::id::RunId;
use crate::payload;
use crate::private;
use crate::run::Status;
use crate::transition::ClosePolicy;
use crate::workflow::{FinishedRun, Workflow};

/// The name that fan-outs' runs are stored under.
pub(crate) const NAME: &str = "fan-out";
/// The most children of one fan-out: their items are written in one transaction.
pub const MAX_FAN_OUT: usize = 10_000;
/// The items of one fan-out together may be this many times as large as one payload.
const MAX_PAYLOADS: usize = 16;
/// How many children live at once, unless the transition says otherwise.
const AT_MOST: u32 = 64;

/// Children of one workflow, to be started a few at a time; goes into
/// [`Transition::fan_out`](crate::Transition::fan_out).
///
/// ```
/// # use tenure_engine::doc_example::Greeter;
/// use tenure_engine::{ClosePolicy, FanOut, Join};
///
/// let items = ["Ada", "Grace"].map(|name| (format!("greet/{name}"), name.to_owned()));
/// let fan_out = FanOut::of::<Greeter>("greetings", items)
///     .at_most(16)
///     .join(Join::FirstFailure)
///     .close(ClosePolicy::Cancel);
/// ```
#[derive(Debug)]
#[must_use = "a fan-out does nothing until a transition carries it"]
pub struct FanOut {
    pub(crate) name: &'static str,
    pub(crate) workflow: &'static str,
    pub(crate) items: Vec<Item>,
    pub(crate) at_most: u32,
    pub(crate) join: Join,
    pub(crate) close: ClosePolicy,
    pub(crate) fault: Option<EngineError>,
}

/// One child to start.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) input: Vec<u8>,
}

/// When a fan-out joins. Once all have ended, every one of these does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// When all children have ended, however they did.
    #[default]
    All,
    /// As soon as one child ends otherwise than completed.
    FirstFailure,
    /// As soon as this many have completed, or can no longer complete.
    Any(u32),
}

/// How children have ended, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Ended well.
    pub completed: u32,
    /// Ended badly, or could not be started because their key was taken with another input.
    pub failed: u32,
    /// Ended on request, after their clean-up.
    pub cancelled: u32,
    /// Ended on request, without clean-up.
    pub terminated: u32,
}

impl Ended {
    /// How many.
    #[must_use]
    pub fn sum(&self) -> u32 {
        self.completed + self.failed + self.cancelled + self.terminated
    }
}

/// A fan-out has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The fan-out's name.
    pub name: String,
    /// Its own run: what [`Context::child_results`](crate::Context::child_results) reads by.
    pub run_id: RunId,
    /// Completed, unless somebody cancelled or terminated the fan-out itself; then it counts nothing.
    pub status: Status,
    /// How many children it was to have.
    pub total: u32,
    /// How those that had ended did.
    pub ended: Ended,
}

/// What a fan-out's run leaves behind.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Output {
    total: u32,
    ended: Ended,
}

/// One child of a fan-out, as its own row has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildResult {
    /// Its place among the items, from 0.
    pub position: u32,
    /// Its key.
    pub key: String,
    /// The child; none while it was not started, or could not be.
    pub run_id: Option<RunId>,
    /// Where it is.
    pub status: Option<Status>,
    /// What it left behind, when it completed.
    pub output: Value,
    /// Why it ended badly.
    pub error: Option<ErrorRecord>,
}

impl FanOut {
    /// Children of workflow `C`, one for each key and input, at most [`MAX_FAN_OUT`]. `name` tells
    /// this fan-out from others of the same parent.
    pub fn of<C: Workflow>(
        name: &'static str,
        items: impl IntoIterator<Item = (String, C::Input)>,
    ) -> Self {
        let mut fan_out = Self {
            name,
            workflow: C::NAME,
            items: Vec::new(),
            at_most: AT_MOST,
            join: Join::All,
            close: ClosePolicy::Leave,
            fault: None,
        };
        for (key, input) in items {
            // The value sorts the keys, as every input's encoding does.
            match payload::to_value("input", C::NAME, &input) {
                Ok(input) => fan_out.items.push(Item {
                    key,
                    input: input.to_string().into_bytes(),
                }),
                Err(error) => fan_out.fault = Some(error),
            }
        }
        fan_out
    }

    /// How many children live at once, at least one; 64 otherwise.
    pub fn at_most(mut self, children: u32) -> Self {
        self.at_most = children.max(1);
        self
    }

    /// When it joins; [`Join::All`] otherwise.
    pub fn join(mut self, join: Join) -> Self {
        self.join = join;
        self
    }

    /// What the end of the parent means for all of it, and the join for children that still live;
    /// [`ClosePolicy::Leave`] otherwise. A fan-out that is left goes on until it joins.
    pub fn close(mut self, close: ClosePolicy) -> Self {
        self.close = close;
        self
    }

    /// Refuses what the engine would have to refuse later, child by child.
    pub(crate) fn check(&self, payload_limit: usize) -> Result<(), StepError> {
        let malformed = |detail: String| {
            let text = format!("fan-out {}: {detail}", self.name);
            Err(StepError::terminal("malformed_transition", text))
        };
        if let Some(fault) = &self.fault {
            return malformed(fault.to_string());
        }
        if self.items.len() > MAX_FAN_OUT {
            let count = self.items.len();
            return malformed(format!("{count} children; the limit is {MAX_FAN_OUT}"));
        }
        let mut keys = HashSet::new();
        let mut bytes = 0;
        for item in &self.items {
            crate::start::check_key(self.workflow, &item.key)
                .or_else(|error| malformed(error.to_string()))?;
            if !keys.insert(item.key.as_str()) {
                return malformed(format!("two children have the key {:?}", item.key));
            }
            bytes += item.input.len();
        }
        let largest = self.items.iter().map(|item| item.input.len()).max();
        let limit = payload_limit.saturating_mul(MAX_PAYLOADS);
        if bytes > limit || largest > Some(payload_limit) {
            let text = format!(
                "fan-out {}: inputs of {bytes} bytes; the limit is {limit}, and {payload_limit} for one",
                self.name
            );
            return Err(StepError::terminal("payload_too_large", text));
        }
        Ok(())
    }
}

impl Joined {
    /// Whether every child completed.
    #[must_use]
    pub fn all_completed(&self) -> bool {
        self.status == Status::Completed && self.ended.completed == self.total
    }

    /// Reads the end of a fan-out's run.
    pub(crate) fn of(finished: FinishedRun) -> Self {
        let output: Output = serde_json::from_value(finished.output).unwrap_or_default();
        let name = finished.key.splitn(3, '/').nth(2).unwrap_or_default();
        Self {
            name: name.to_owned(),
            run_id: finished.run_id,
            status: finished.status,
            total: output.total,
            ended: output.ended,
        }
    }
}

impl ChildResult {
    /// Reads the output as workflow `C` wrote it.
    ///
    /// # Errors
    /// Terminal, when the child did not complete or left something else.
    pub fn output<C: Workflow>(&self) -> Result<C::Output, StepError> {
        if self.status != Some(Status::Completed) {
            let ended = self.status.map_or("not started", Status::word);
            let text = format!("child {:?} is {ended}", self.key);
            return Err(StepError::terminal("no_output", text));
        }
        serde_json::from_value(self.output.clone())
            .map_err(|error| private::misfit(C::PRIVATE, &error))
            .map_err(|words| StepError::terminal("undecodable_output", words))
    }
}
