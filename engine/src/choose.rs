//! Chooses, purely, which event a held run gets next.
//!
//! The order of what is due (DESIGN §1): terminate, what is left to undo, cancel, the deadline of the
//! whole run, signals received by the deadline's instant, the deadline, later signals. A visit that
//! was begun is pinned to its event, unless it only fails and the run is to end.

use chrono::{DateTime, Utc};

use crate::run::{ClaimedRun, Deadline, InboxItem, InboxKind, SignalOutcome};
use crate::undo::Reverse;
use crate::workflow::Reception;

/// How the journal and the log name the visit for the deadline of the whole run.
pub(crate) const RUN_DEADLINE: &str = "run deadline";

/// The deadline of a run that starts later than it was asked for.
pub(crate) const RUN_START: &str = "run-start";

/// What a held run is to do next.
#[derive(Debug)]
pub(crate) enum NextEvent {
    Entered,
    Cancel(InboxItem),
    Terminate(InboxItem),
    /// The failing visit is given up: a cancel waits, or the run's time has passed.
    Abandon,
    /// The next of what a failed visit left to reverse.
    Undo(Reverse),
    /// Nothing is left to reverse.
    UndoEnd,
    Signal(InboxItem),
    Finished(InboxItem),
    Deadline(Deadline),
    /// The time of the whole run has passed.
    RunDeadline(Deadline),
    Nothing,
}

/// What becomes of one message, written with the settlement.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) signal_id: String,
    pub(crate) outcome: SignalOutcome,
    pub(crate) reason: Option<String>,
}

impl NextEvent {
    /// Names the event in the journal, so that a retried visit answers the same one.
    pub(crate) fn pin(&self) -> String {
        match self {
            Self::Entered => "entered".to_owned(),
            Self::Cancel(item)
            | Self::Terminate(item)
            | Self::Signal(item)
            | Self::Finished(item) => {
                format!("inbox {}", item.signal_id)
            }
            Self::Deadline(deadline) => format!("deadline {}", deadline.name),
            Self::RunDeadline(_) => RUN_DEADLINE.to_owned(),
            Self::Undo(reverse) => format!("undo {}", reverse.name),
            Self::Abandon | Self::UndoEnd | Self::Nothing => "nothing".to_owned(),
        }
    }

    /// Says in words what the visit is for.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Entered => "entered".to_owned(),
            Self::Cancel(_) | Self::Abandon => "cancel".to_owned(),
            Self::Terminate(_) => "terminate".to_owned(),
            Self::Undo(reverse) => format!("undo {}", reverse.name),
            Self::UndoEnd => "undo".to_owned(),
            Self::Signal(item) => format!("signal {}", item.name),
            Self::Finished(item) => format!("finished {}", item.name),
            Self::Deadline(deadline) => format!("deadline {}", deadline.name),
            Self::RunDeadline(_) => RUN_DEADLINE.to_owned(),
            Self::Nothing => "nothing".to_owned(),
        }
    }
}

/// Picks the next event. Rejected signals are taken out of `inbox` and come back as marks.
///
/// `pinned` names the event of a visit whose journal has answers already: a cancel that came in
/// between must not be answered with another event's journal.
pub(crate) fn next_event(
    run: &ClaimedRun,
    inbox: &mut Vec<InboxItem>,
    pinned: Option<&str>,
    mut receive: impl FnMut(&InboxItem) -> Result<Reception, String>,
) -> (NextEvent, Vec<Mark>) {
    let mut marks = Vec::new();
    if let Some(at) = position(inbox, InboxKind::Terminate) {
        return (NextEvent::Terminate(inbox.remove(at)), marks);
    }
    if let Some(undo) = &run.undo {
        let next = undo.next().cloned();
        return (next.map_or(NextEvent::UndoEnd, NextEvent::Undo), marks);
    }
    let over = run_deadline(run).filter(|_| is_over(run));
    let gives_way = |pin: &str| gives_way(run, inbox, pin == RUN_DEADLINE, is_cancel(inbox, pin));
    if run.attempt > 0 && pinned.is_some_and(gives_way) {
        return (NextEvent::Abandon, marks);
    }
    if let Some(event) = pinned.and_then(|pin| find_pinned(run, inbox, pin)) {
        return (event, marks);
    }
    if let Some(at) = position(inbox, InboxKind::Cancel) {
        return (NextEvent::Cancel(inbox.remove(at)), marks);
    }
    if let Some(deadline) = over {
        return (NextEvent::RunDeadline(deadline.clone()), marks);
    }
    if !run.entered {
        let early = starts_at(run).is_some_and(|at| at > run.tenant_now);
        let event = if early {
            NextEvent::Nothing
        } else {
            NextEvent::Entered
        };
        return (event, marks);
    }
    let mut accepted = None;
    let mut at = 0;
    while at < inbox.len() {
        let verdict = match inbox[at].kind {
            InboxKind::Signal => receive(&inbox[at]),
            InboxKind::RunFinished | InboxKind::Cancel | InboxKind::Terminate => {
                Ok(Reception::Accept)
            }
        };
        let reason = match verdict {
            Ok(Reception::Accept) => {
                accepted = Some(at);
                break;
            }
            Ok(Reception::Defer) => {
                at += 1;
                continue;
            }
            Ok(Reception::Reject(reason)) => reason.to_owned(),
            Err(malformed) => malformed,
        };
        marks.push(Mark {
            signal_id: inbox.remove(at).signal_id,
            outcome: SignalOutcome::Rejected,
            reason: Some(reason),
        });
    }
    (deadline_or(run, inbox, accepted), marks)
}

/// What has come: the signal that is accepted, or the deadline if that was before it.
fn deadline_or(run: &ClaimedRun, inbox: &mut Vec<InboxItem>, accepted: Option<usize>) -> NextEvent {
    let passed = run.deadlines.iter();
    let passed = passed.filter(|deadline| deadline.at <= run.tenant_now);
    let deadline = passed.min_by_key(|deadline| deadline.at);
    match (accepted, deadline) {
        (Some(at), Some(deadline)) if inbox[at].received_at > deadline.at => {
            NextEvent::Deadline(deadline.clone())
        }
        (Some(at), _) => message(inbox.remove(at)),
        (None, Some(deadline)) => NextEvent::Deadline(deadline.clone()),
        (None, None) => NextEvent::Nothing,
    }
}

fn find_pinned(run: &ClaimedRun, inbox: &mut Vec<InboxItem>, pin: &str) -> Option<NextEvent> {
    if pin == RUN_DEADLINE {
        return run_deadline(run).cloned().map(NextEvent::RunDeadline);
    }
    if pin == "entered" {
        return (!run.entered).then_some(NextEvent::Entered);
    }
    if let Some(name) = pin.strip_prefix("deadline ") {
        let mut known = run.deadlines.iter();
        let deadline = known.find(|known| known.name == name && !known.whole)?;
        return Some(NextEvent::Deadline(deadline.clone()));
    }
    let signal_id = pin.strip_prefix("inbox ")?;
    let at = inbox.iter().position(|item| item.signal_id == signal_id)?;
    Some(message(inbox.remove(at)))
}

/// Whether a visit answers a cancel that waits.
fn is_cancel(inbox: &[InboxItem], pin: &str) -> bool {
    let signal_id = pin.strip_prefix("inbox ");
    inbox
        .iter()
        .any(|item| item.kind == InboxKind::Cancel && signal_id == Some(&item.signal_id))
}

/// Whether a visit that only fails gives way to an end that waits, which would otherwise wait until
/// somebody mends it.
///
/// The clean-up for the run's time gives way to a cancel, that for a cancel to nothing: it would be
/// begun again for ever, and its policy never run out.
pub(crate) fn gives_way(
    run: &ClaimedRun,
    inbox: &[InboxItem],
    for_time: bool,
    for_cancel: bool,
) -> bool {
    !for_cancel && (wants_to_end(inbox) || is_over(run) && !for_time)
}

fn message(item: InboxItem) -> NextEvent {
    match item.kind {
        InboxKind::RunFinished => NextEvent::Finished(item),
        InboxKind::Cancel => NextEvent::Cancel(item),
        InboxKind::Terminate => NextEvent::Terminate(item),
        InboxKind::Signal => NextEvent::Signal(item),
    }
}

/// Takes all ends of other runs out of the inbox, `first` among them.
pub(crate) fn gather(first: InboxItem, inbox: &mut Vec<InboxItem>) -> Vec<InboxItem> {
    let mut gathered = vec![first];
    gathered.extend(inbox.extract_if(.., |item| item.kind == InboxKind::RunFinished));
    gathered
}

/// When a run starts that was asked for earlier.
pub(crate) fn starts_at(run: &ClaimedRun) -> Option<DateTime<Utc>> {
    let mut known = run.deadlines.iter();
    let start = known.find(|deadline| deadline.name == RUN_START)?;
    Some(start.at)
}

/// The deadline of the whole run.
pub(crate) fn run_deadline(run: &ClaimedRun) -> Option<&Deadline> {
    run.deadlines.iter().find(|deadline| deadline.whole)
}

/// Whether the run's time has passed.
pub(crate) fn is_over(run: &ClaimedRun) -> bool {
    run_deadline(run).is_some_and(|deadline| deadline.at <= run.tenant_now)
}

/// Whether somebody waits for the run to end.
pub(crate) fn wants_to_end(inbox: &[InboxItem]) -> bool {
    inbox
        .iter()
        .any(|item| matches!(item.kind, InboxKind::Cancel | InboxKind::Terminate))
}

fn position(inbox: &[InboxItem], kind: InboxKind) -> Option<usize> {
    inbox.iter().position(|item| item.kind == kind)
}
