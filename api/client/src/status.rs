//! Where the engine has a run.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where the engine has a run: exactly one of these at any time.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Wants a worker now.
    Due,
    /// A worker has it.
    Running,
    /// Waits for a signal, a deadline, children, or several of them.
    Waiting,
    /// A step failed and will be tried again.
    Retrying,
    /// Steps are being reversed.
    Undoing,
    /// A person stopped it for now.
    Paused,
    /// A limit or a circuit holds it back.
    Blocked,
    /// No live worker knows its workflow or version.
    NoHandler,
    /// Only a person can help.
    Stuck,
    /// Ended with its output.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended on request, with clean-up.
    Cancelled,
    /// Ended on request, without clean-up.
    Terminated,
    /// A status that is newer than this client.
    #[serde(other)]
    Unknown,
}

impl RunStatus {
    /// Every status the API may name, in reading order.
    pub const ALL: [Self; 13] = [
        Self::Due,
        Self::Running,
        Self::Waiting,
        Self::Retrying,
        Self::Undoing,
        Self::Paused,
        Self::Blocked,
        Self::NoHandler,
        Self::Stuck,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Terminated,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Undoing => "undoing",
            Self::Paused => "paused",
            Self::Blocked => "blocked",
            Self::NoHandler => "no_handler",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
            Self::Unknown => "unknown",
        }
    }

    /// Reads a name from the wire; `None` when no status has it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// What is said to somebody who asks for another.
    pub(crate) fn known() -> String {
        let names = Self::ALL.map(Self::as_str);
        format!("there is no such status; there are {}", names.join(", "))
    }

    /// Whether nothing will follow.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Terminated
        )
    }
}
