//! Whether a build can go on with what is stored. Pure: what is looked at is handed in.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;

use crate::context::panic_text;
use crate::registry::Handler;
use crate::start::FROM_INPUT;

/// What a deploy of this build would mean for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It goes on.
    Fine,
    /// It was stuck as *undecodable* before, and stays so.
    StuckAlready,
    /// Its visit was begun by another version: if that one's steps bear other names, it will be
    /// stuck as *journal mismatch*, before any effect.
    OpenJournal,
    /// A signal that waits for it cannot be read, and would be rejected.
    SignalUnreadable,
    /// The build has no such workflow: it would be *no handler*.
    NoWorkflow,
    /// A newer version than the build's wrote it: it would be *no handler*.
    NewerVersion,
    /// An older version wrote it, and `migrate` cannot lift it: it would be *undecodable*.
    NotLifted,
    /// The build knows no such state: it would be *undecodable*.
    UnknownState,
    /// The state's data cannot be read: it would be *undecodable*.
    Unreadable,
}

impl Verdict {
    /// Whether the deploy would strand the run: it would no longer go on by itself, or lose a
    /// message. An open journal only may.
    #[must_use]
    pub fn strands(self) -> bool {
        match self {
            Self::Fine | Self::StuckAlready | Self::OpenJournal => false,
            Self::SignalUnreadable
            | Self::NoWorkflow
            | Self::NewerVersion
            | Self::NotLifted
            | Self::UnknownState
            | Self::Unreadable => true,
        }
    }

    /// The words for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::StuckAlready => "stuck already",
            Self::OpenJournal => "open journal",
            Self::SignalUnreadable => "signal unreadable",
            Self::NoWorkflow => "no workflow",
            Self::NewerVersion => "newer version",
            Self::NotLifted => "not lifted",
            Self::UnknownState => "unknown state",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A verdict, and the reason in words where it is not *fine*.
pub(crate) type Judged = (Verdict, Option<String>);

/// Whether the build has a handler for what a version wrote, whatever the state.
pub(crate) fn judge_version(handler: Option<&dyn Handler>, version: i32) -> Judged {
    match handler {
        None => (
            Verdict::NoWorkflow,
            Some("this build has no such workflow".to_owned()),
        ),
        Some(handler) if version > handler.version() => (
            Verdict::NewerVersion,
            Some(format!("this build has version {}", handler.version())),
        ),
        Some(_) => (Verdict::Fine, None),
    }
}

/// Whether the build can read a state: lifts and decodes it, as loading the run would.
pub(crate) fn judge_state(
    handler: Option<&dyn Handler>,
    version: i32,
    state: &str,
    data: &[u8],
) -> Judged {
    let able = judge_version(handler, version);
    let Some(handler) = handler.filter(|_| able.0 == Verdict::Fine) else {
        return able;
    };
    let Err(reason) = caught(|| handler.read_state(version, data)) else {
        return able;
    };
    if version == FROM_INPUT {
        (Verdict::Unreadable, Some(reason))
    } else if version < handler.version() {
        (Verdict::NotLifted, Some(reason))
    } else if handler.states().contains(&state) {
        (Verdict::Unreadable, Some(reason))
    } else {
        let known = handler.states().join(", ");
        let reason = format!("version {version} of this build knows only {known}");
        (Verdict::UnknownState, Some(reason))
    }
}

/// What it means that the current visit's journal was written by `version`.
pub(crate) fn judge_journal(handler: &dyn Handler, version: i32) -> Judged {
    if version == handler.version() {
        return (Verdict::Fine, None);
    }
    let reason = format!(
        "version {version} began the visit; it goes on where version {} asks for the same steps",
        handler.version()
    );
    (Verdict::OpenJournal, Some(reason))
}

/// Whether the build can read a signal that waits.
pub(crate) fn judge_signal(handler: &dyn Handler, name: &str, payload: &[u8]) -> Judged {
    match caught(|| handler.read_signal(payload)) {
        Ok(()) => (Verdict::Fine, None),
        Err(reason) => (
            Verdict::SignalUnreadable,
            Some(format!("signal {name}: {reason}")),
        ),
    }
}

/// Code of a workflow may panic on what it does not expect; the other runs are still looked at.
fn caught(read: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|panic| Err(format!("it panics: {}", panic_text(&*panic))))
}
