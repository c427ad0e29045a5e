//! What can go wrong: [`StepError`] inside a workflow, and one error enum at the engine's doors.
//!
//! Inside a workflow `?` on any error means *try again later*; `terminal` means never, on purpose.
//! What is stored of an error is an [`ErrorRecord`]: a stable code, a message, never a payload.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{RunId, TenantId};

/// Why a step or a visit did not succeed.
///
/// Made from any error by `?`, which means *retry under the step's policy*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    pub(crate) record: ErrorRecord,
    pub(crate) retry: Retry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    ByPolicy,
    After(Duration),
    Never,
    /// A database was away, which for a while is nobody's failed attempt: soon again, uncounted.
    Away,
}

/// What is kept of an error: shown to operators, stored with the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// Stable and machine readable, such as `provider_unreachable`.
    pub code: String,
    /// For people; never holds a payload, a token or an address.
    pub message: String,
}

impl StepError {
    /// An error that is tried again under the step's policy.
    pub fn retryable(code: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(code.into(), message.to_string(), Retry::ByPolicy)
    }

    /// An error that is never tried again; the handler gets it.
    pub fn terminal(code: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(code.into(), message.to_string(), Retry::Never)
    }

    /// Honours a *retry after* that the outside asked for, instead of the policy's delay.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.retry = Retry::After(delay);
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.record.code
    }

    /// What it says to people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.record.message
    }

    /// Whether the error was declared final.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.retry == Retry::Never
    }

    fn new(code: String, message: String, retry: Retry) -> Self {
        Self {
            record: ErrorRecord { code, message },
            retry,
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.record.code, self.record.message)
    }
}

/// `StepError` is no `std::error::Error` itself, so that `?` can make one from any that is. That a
/// database could not be reached is no failed attempt in the first minutes: after an outage each
/// connection that the pool kept would burn one.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        let message = with_causes(&error);
        let (code, retry) = if says_away(&error) {
            ("database_away", Retry::Away)
        } else {
            ("error", Retry::ByPolicy)
        };
        Self::new(code.to_owned(), message, retry)
    }
}

/// An error and what caused it, in words.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}

fn says_away(error: &dyn Any) -> bool {
    let error = match error.downcast_ref::<EngineError>() {
        Some(EngineError::Database(error)) => Some(error),
        Some(_) => None,
        None => error.downcast_ref::<sqlx::Error>(),
    };
    error.is_some_and(is_away)
}

/// Whether an error says that a database could not be reached, or went away meanwhile.
#[must_use]
pub fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        // It shuts down or starts, or the connection broke.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("57P0") || code.starts_with("08")),
        _ => false,
    }
}

/// Turns any error into a [`StepError`] that says more than *try again*.
pub trait ResultExt<T> {
    /// Declares the error final, under a stable code.
    ///
    /// # Errors
    /// The same error, made terminal.
    fn terminal(self, code: &str) -> Result<T, StepError>;

    /// Gives the error a stable code and leaves it retryable.
    ///
    /// # Errors
    /// The same error, named.
    fn code(self, code: &str) -> Result<T, StepError>;
}

impl<T, E: Into<StepError>> ResultExt<T> for Result<T, E> {
    fn terminal(self, code: &str) -> Result<T, StepError> {
        self.map_err(|error| StepError::terminal(code, error.into().record.message))
    }

    fn code(self, code: &str) -> Result<T, StepError> {
        self.map_err(|error| StepError::retryable(code, error.into().record.message))
    }
}

/// What can go wrong at the engine's doors: start, signal, inspect, intervene.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No workflow of this name is registered in this process.
    #[error("no workflow is called {0:?}")]
    UnknownWorkflow(String),
    /// The tenant is being deleted: nothing new is started for it.
    #[error("tenant {0} is being deleted; nothing new is started for it")]
    TenantClosing(TenantId),
    /// The tenant was never registered.
    #[error("no tenant {0} is registered")]
    UnknownTenant(TenantId),
    /// No run has this id, or it belongs to another tenant.
    #[error("no run {0} exists")]
    RunNotFound(String),
    /// The key is taken by a run that was started with another input.
    #[error("the key {key:?} belongs to run {run_id}, which was started with another input")]
    KeyTaken {
        /// The key that was asked for.
        key: String,
        /// The run that holds it.
        run_id: RunId,
    },
    /// The run has ended; the signal was kept as late.
    #[error("run {run_id} has ended ({status}); the signal is kept as late")]
    RunFinished {
        /// The run that was signalled.
        run_id: RunId,
        /// How it ended.
        status: &'static str,
    },
    /// The input, signal or state does not fit the workflow's type.
    #[error("{}", misfit(what, workflow, detail))]
    Malformed {
        /// `input`, `signal` or `state`.
        what: &'static str,
        /// The workflow whose type was not met.
        workflow: String,
        /// Where and what was wrong.
        detail: String,
    },
    /// A payload is larger than the limit.
    #[error("the {what} has {bytes} bytes; the limit is {limit}")]
    PayloadTooLarge {
        /// `input`, `signal`, `state`, `answer` or `output`.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The configured limit.
        limit: usize,
    },
    /// No schedule has this id, or it belongs to another tenant.
    #[error("no schedule {0} exists")]
    ScheduleNotFound(String),
    /// A field of a schedule does not fit.
    #[error("{field}: {detail}")]
    BadSchedule {
        /// `name`, `cron`, `zone` or `jitter_seconds`.
        field: &'static str,
        /// What was wrong, and what would be right.
        detail: String,
    },
    /// No operation on many runs has this id, or it is another tenant's.
    #[error("no operation {0} exists")]
    BulkNotFound(String),
    /// A field of an operation on many runs does not fit.
    #[error("{field}: {detail}")]
    BadBulk {
        /// `filter`, `reason`, `pace` or `stop_after`.
        field: &'static str,
        /// What was wrong, and what would be right.
        detail: String,
    },
    /// The number that was confirmed is not that of the frozen selection.
    #[error("you said {said} runs; the selection has {selected}")]
    CountDiffers {
        /// The number that was confirmed.
        said: i64,
        /// The selection's.
        selected: i32,
    },
    /// The tenant has a schedule of this name.
    #[error(
        "the tenant has a schedule named {0:?} already; change that one, or choose another name"
    )]
    NameTaken(String),
    /// The run or schedule moved on since the version that the operator saw.
    #[error("it moved on: you saw revision {seen}, it is now at {current}")]
    Moved {
        /// The revision that the operator saw.
        seen: i64,
        /// The revision now.
        current: i64,
    },
    /// What is decided on is not as somebody saw it any more.
    #[error("{what} changed since you saw it; it is now: {now}")]
    Changed {
        /// What it is, such as `limit charges`.
        what: String,
        /// How it is now, in words.
        now: String,
    },
    /// The verb makes no sense in the run's status.
    #[error("{verb} is not possible: {reason}")]
    NotAllowed {
        /// The verb that was asked for.
        verb: &'static str,
        /// Why not, in words for the operator.
        reason: String,
    },
    /// The workflow decides this at a door of its own, and nowhere else.
    #[error("{what} comes only through {door}")]
    OwnDoor {
        /// What was wanted.
        what: String,
        /// The door, as a caller finds it.
        door: &'static str,
    },
    /// The workflow asks more of who acts than the verb does.
    #[error("{what} wants {needed}")]
    NeedsRole {
        /// What was wanted.
        what: String,
        /// Whom it wants.
        needed: &'static str,
    },
    /// No limit, workflow, queue, tenant or pause of this name is known.
    #[error("no {what} {name:?} is known")]
    NoSuchGate {
        /// What was looked for.
        what: &'static str,
        /// The name that was given.
        name: String,
    },
    /// The tenant's keys were destroyed: nothing new is stored for it.
    #[error("the keys of tenant {0} were destroyed; nothing new is stored for it")]
    KeysDestroyed(TenantId),
    /// A master key is missing, wrong or away.
    #[error(transparent)]
    MasterKey(#[from] crate::seal::MasterKeyError),
    /// No legal hold has this id.
    #[error("no legal hold {0} exists")]
    HoldNotFound(uuid::Uuid),
    /// Two workflows with one name were registered.
    #[error("workflow {0:?} is registered twice")]
    RegisteredTwice(&'static str),
    /// The database did not answer, or refused.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

fn misfit(what: &str, workflow: &str, detail: &str) -> String {
    if workflow.is_empty() {
        return format!("the {what} does not fit: {detail}");
    }
    format!("the {what} does not fit workflow {workflow:?}: {detail}")
}
