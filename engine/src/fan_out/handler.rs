//! The code of a fan-out's run. It has no steps: each visit turns counts into counts.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rules::Then;
use super::{Going, NAME, Output};
use crate::attribute::AttributeNames;
use crate::context::Context;
use crate::error::{EngineError, StepError};
use crate::limit::{Limit, Need};
use crate::plan::{Answer, AnswerNext};
use crate::priority::Priority;
use crate::registry::{Beginning, ErasedEvent, Handler, SignalKind, Unfit, VisitError};
use crate::retention::Retention;
use crate::run::Status;
use crate::store::claim::INBOX_PAGE;
use crate::transition::{FanBatch, FollowUp};
use crate::undo::Reverse;
use crate::workflow::{DEFAULT_QUEUE, FinishedRun, Reception};

pub(super) const VERSION: i32 = 1;
pub(super) const GOING: &str = "Going";

/// The one state, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum State {
    Going(Going),
}

/// Where a fan-out is, if the run is one.
pub(crate) fn read(workflow: &str, data: &[u8]) -> Option<Going> {
    let State::Going(going) = serde_json::from_slice(data)
        .ok()
        .filter(|_| workflow == NAME)?;
    Some(going)
}

/// Knows how fan-outs go on; every registry has it.
#[derive(Debug)]
pub(crate) struct FanOutHandler;

impl Handler for FanOutHandler {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i32 {
        VERSION
    }

    fn states(&self) -> &'static [&'static str] {
        &[GOING]
    }

    fn signals(&self, _version: i32, _data: &[u8]) -> Vec<SignalKind> {
        Vec::new()
    }

    fn retention(&self) -> Retention {
        Retention::DEFAULT
    }

    fn queue(&self) -> &'static str {
        DEFAULT_QUEUE
    }

    fn priority(&self) -> Priority {
        Priority::Normal
    }

    fn limits(&self) -> &'static [Limit] {
        &[]
    }

    fn needs(&self, _version: i32, _data: &[u8]) -> Result<Vec<Need>, String> {
        Ok(Vec::new())
    }

    fn attributes(&self) -> AttributeNames {
        &[]
    }

    fn start(&self, _input: Value) -> Result<Beginning, EngineError> {
        Err(malformed("input", "a transition starts a fan-out".into()))
    }

    fn check_signal(&self, _signal: &Value) -> Result<(), EngineError> {
        Err(malformed("signal", "a fan-out takes none".into()))
    }

    fn check_state(&self, state: &Value) -> Result<Option<Value>, EngineError> {
        serde_json::from_value::<State>(state.clone())
            .map(|_| None)
            .map_err(|error| malformed("state", error.to_string()))
    }

    fn read_state(&self, version: i32, data: &[u8]) -> Result<(), String> {
        if version > VERSION {
            return Err(format!(
                "written by version {version}, this build has {VERSION}"
            ));
        }
        serde_json::from_slice::<State>(data)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn lift(&self, version: i32, data: &[u8]) -> Result<Value, String> {
        self.read_state(version, data)?;
        serde_json::from_slice(data).map_err(|error| error.to_string())
    }

    fn read_signal(&self, _signal: &[u8]) -> Result<(), String> {
        Err("a fan-out takes no signals".to_owned())
    }

    fn receive(&self, _version: i32, _data: &[u8], _signal: &[u8]) -> Result<Reception, Unfit> {
        Ok(Reception::Reject("a fan-out takes no signals"))
    }

    fn gathers(&self) -> bool {
        true
    }

    fn visit<'a>(
        &'a self,
        _cx: &'a Context,
        _version: i32,
        data: &'a [u8],
        event: ErasedEvent,
    ) -> LocalBoxFuture<'a, Result<Answer, VisitError>> {
        async move {
            let unreadable = |error: serde_json::Error| VisitError::Undecodable(error.to_string());
            let State::Going(going) = serde_json::from_slice(data).map_err(unreadable)?;
            match event {
                ErasedEvent::Entered => Ok(go_on(going, &[])),
                ErasedEvent::Gathered(payloads) => {
                    let ended: Result<Vec<Status>, _> = payloads
                        .iter()
                        .map(|bytes| serde_json::from_slice::<FinishedRun>(bytes))
                        .map(|finished| finished.map(|finished| finished.status))
                        .collect();
                    Ok(go_on(going, &ended.map_err(unreadable)?))
                }
                ErasedEvent::CancelRequested => Ok(Answer {
                    next: AnswerNext::Cancelled,
                    attributes: None,
                    follow: FollowUp::default(),
                }),
                other => Err(VisitError::Undecodable(format!("not for it: {other:?}"))),
            }
        }
        .boxed_local()
    }

    fn undo<'a>(
        &'a self,
        _cx: &'a Context,
        reverse: &'a Reverse,
    ) -> LocalBoxFuture<'a, Result<(), VisitError>> {
        let error = StepError::terminal("unknown_reverse", &reverse.name);
        async move { Err(VisitError::Failed(error)) }.boxed_local()
    }
}

fn go_on(mut going: Going, ended: &[Status]) -> Answer {
    let then = going.next(ended);
    let close = going.close;
    let mut follow = FollowUp::default();
    // A full page may not have been all: the state is entered again, by a claim that reads the next.
    let mut enter = ended.len() >= INBOX_PAGE;
    match then {
        Then::Join => {
            let output = Output {
                total: going.total,
                ended: going.ended,
            };
            let output = encode(&output);
            return Answer {
                next: AnswerNext::Complete { output },
                attributes: None,
                follow,
            };
        }
        Then::Wait => {}
        Then::Start { items, again } => {
            enter |= again;
            follow.fan_batch = Some(FanBatch {
                workflow: going.workflow.clone(),
                items,
                close,
            });
        }
    }
    let (state, data) = (GOING.to_owned(), encode(&State::Going(going)));
    let next = if enter {
        AnswerNext::Go { state, data }
    } else {
        AnswerNext::Stay { state, data }
    };
    Answer {
        next,
        attributes: None,
        follow,
    }
}

pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn malformed(what: &'static str, detail: String) -> EngineError {
    EngineError::Malformed {
        what,
        workflow: NAME.to_owned(),
        detail,
    }
}
