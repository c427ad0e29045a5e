//! `why` a run is not moving, by one pure function over what was read of it as of one instant.

use chrono::{DateTime, Utc};

use super::{ProgressLine, Why};
use crate::choose::RUN_START;
use crate::fan_out::{self, Going};
use crate::flow;
use crate::gate::Door;
use crate::private::Private;
use crate::ring::Ring;
use crate::run::{Deadline, InboxKind, Status};
use crate::store::inspect::{Awaited, RunRow};
use crate::store::waiter::Standing;

/// Whether a run that waits would do something about one of its messages: what its state leaves for later
/// waits for another state, and before its start a run hears only what ends it.
pub(super) fn wants_a_visit(
    pending: &[(InboxKind, String)],
    heard: &[&str],
    deadlines: &[Deadline],
) -> bool {
    let is_early = deadlines.iter().any(|one| one.name == RUN_START);
    pending.iter().any(|(kind, name)| match kind {
        InboxKind::Signal => !is_early && heard.contains(&name.as_str()),
        InboxKind::RunFinished => !is_early,
        InboxKind::Cancel | InboxKind::Terminate => true,
    })
}

/// So many are up, and so many of those know the run's workflow in its version.
#[derive(Clone, Copy)]
pub(super) struct Workers {
    pub(super) live: i64,
    pub(super) able: i64,
    /// A message waits for one of them, not for another state of the run.
    pub(super) wanted: bool,
}

/// What there is around a run, that its own row does not say.
pub(super) struct Around {
    pub(super) workers: Workers,
    /// The signals that it would handle at once.
    pub(super) heard: Vec<&'static str>,
    /// Runs that it started or watches and that have not ended, the oldest first, no more than
    /// [`MAX_AWAITED`].
    pub(super) awaited: Vec<Awaited>,
    /// What it is blocked by; none when it has been woken.
    pub(super) place: Option<Standing>,
    /// Who paused it, and why.
    pub(super) paused_by: Option<(String, String)>,
}

/// So many live ones are counted.
pub(super) const MAX_AWAITED: i64 = 100;
/// So many of them are named.
const NAMED: usize = 3;

impl Around {
    /// Who paused it, as evidence.
    fn pause(&self) -> Option<(&'static str, String)> {
        let by = self.paused_by.as_ref();
        by.map(|(actor, reason)| ("paused by", format!("{actor}: {reason}")))
    }

    /// What may come before a deadline: signals, and the ends of its children and of those that it watches.
    fn may_come(&self) -> String {
        let signals = match &*self.heard {
            [] => "a signal".to_owned(),
            names => format!("signal {}", names.join(" or ")),
        };
        match &*self.awaited {
            [] => signals,
            awaited => format!("{signals} or the end of {}", named(awaited)),
        }
    }

    fn has_children(&self) -> bool {
        self.awaited.iter().any(|one| one.is_child)
    }
}

/// So many children and others, the first of them by name.
fn named(awaited: &[Awaited]) -> String {
    let most = usize::try_from(MAX_AWAITED).unwrap_or(usize::MAX);
    let (one, more) = match awaited.iter().all(|one| one.is_child) {
        true => ("child", "children"),
        false => ("run", "runs"),
    };
    let count = match awaited.len() {
        1 => one.to_owned(),
        many if many >= most => format!("{many} or more {more}"),
        many => format!("{many} {more}"),
    };
    let name = |one: &Awaited| format!("{} {:?}, {}", one.workflow, one.key, one.status);
    let names: Vec<String> = awaited.iter().take(NAMED).map(name).collect();
    let rest = if awaited.len() > names.len() {
        "; ..."
    } else {
        ""
    };
    format!("{count} ({}{rest})", names.join("; "))
}

impl Workers {
    fn evidence(self, row: &RunRow) -> (&'static str, String) {
        let (Self { live, able, .. }, summary) = (self, &row.summary);
        let (workflow, version) = (&summary.workflow, summary.version);
        let words =
            format!("{live} live, {able} know workflow {workflow} in version {version} or newer");
        ("workers", words)
    }

    /// Why a run for which there is something to do stands: for want of a worker, or of a free one.
    fn awaited(
        self,
        row: &RunRow,
        kind: &'static str,
        what: &str,
        mut evidence: Vec<(&'static str, String)>,
    ) -> Why {
        evidence.push(self.evidence(row));
        if self.able == 0 {
            return Why {
                kind: "no_worker",
                summary: format!("{what}, but no worker that knows its workflow is running."),
                evidence,
            };
        }
        Why {
            kind,
            summary: format!("{what}: the next free worker takes it."),
            evidence,
        }
    }
}

/// Says why the run is where it is, and what it would hear.
pub(super) fn why(row: &RunRow, around: &Around) -> Why {
    let (summary, workers) = (&row.summary, around.workers);
    match summary.status {
        Status::Due => due(row, workers),
        Status::Running => {
            let mut why = running(row);
            if row.pausing {
                why.evidence.extend(around.pause());
            }
            why
        }
        Status::Waiting => waiting(row, around),
        Status::Retrying => retrying(row, workers),
        Status::Stuck => stuck(row),
        Status::NoHandler => Why {
            kind: "no_handler",
            summary: format!(
                "No live worker knows workflow {} in version {} or newer. It goes on by itself as \
                 soon as one does.",
                summary.workflow, summary.version
            ),
            evidence: vec![workers.evidence(row), since(row)],
        },
        Status::Undoing => undoing(row, workers),
        Status::Paused => {
            let mut why = simple("paused", "An operator has paused it.", row);
            why.evidence.extend(around.pause());
            why
        }
        Status::Blocked => blocked(row, around),
        Status::Completed | Status::Failed | Status::Cancelled | Status::Terminated => {
            let error = summary.error.as_ref();
            let reason = error.map_or(String::new(), |error| {
                format!(" ({}: {})", error.code, error.message)
            });
            let words = format!("It has ended: {}{reason}.", summary.status);
            simple("ended", &words, row)
        }
    }
}

/// Adds what steps under way reported last.
pub(super) fn with_progress(
    mut why: Why,
    progress: &[ProgressLine],
    private: &Private,
    now: DateTime<Utc>,
) -> Why {
    for line in progress {
        let line = ProgressLine {
            value: private.mask(line.value.clone()),
            ..line.clone()
        };
        let ago = (now - line.reported_at).num_seconds().max(0);
        let words = format!("{}: {}, last report {ago} s ago", line.step, line.words());
        why.summary = format!("{} Step {words}.", why.summary);
        why.evidence.push(("progress", words));
    }
    why
}

fn simple(kind: &'static str, words: &str, row: &RunRow) -> Why {
    Why {
        kind,
        summary: words.to_owned(),
        evidence: vec![since(row)],
    }
}

fn since(row: &RunRow) -> (&'static str, String) {
    let since = row.parked_since.unwrap_or(row.summary.changed_at);
    ("since", rfc3339(since))
}

fn due(row: &RunRow, workers: Workers) -> Why {
    if let Some(at) = row.due_at.filter(|at| *at > row.now) {
        return Why {
            kind: "due",
            summary: format!(
                "Its schedule spreads its runs over time: it begins at {}.",
                rfc3339(at)
            ),
            evidence: vec![("due at", rfc3339(at)), workers.evidence(row)],
        };
    }
    let since = ("due since", row.due_at.map_or_else(String::new, rfc3339));
    workers.awaited(row, "due", "It is due", vec![since])
}

fn running(row: &RunRow) -> Why {
    let name = row.worker_name.clone().unwrap_or_default();
    let worker = ("worker", name.clone());
    match row.worker_expires_at {
        Some(expires) if expires > row.now => {
            let expires = rfc3339(expires);
            // Whether the process is alive shows only when its lease ends.
            let then = if row.pausing {
                format!(
                    "It is to be paused when its visit is over, or if the worker is not heard of \
                     before {expires}."
                )
            } else {
                format!("If it is not heard of before {expires}, another takes it over.")
            };
            Why {
                kind: "running",
                summary: format!("Worker {name} holds it. {then}"),
                evidence: vec![worker, ("lease until", expires), since(row)],
            }
        }
        expires => {
            let then = if row.pausing {
                "It is paused"
            } else {
                "Another takes it"
            };
            Why {
                kind: "worker_lost",
                summary: format!(
                    "The worker that held it is gone. {then} as soon as the lost lease is cleared, \
                     within seconds."
                ),
                evidence: vec![
                    worker,
                    ("lease until", expires.map_or("unknown".to_owned(), rfc3339)),
                ],
            }
        }
    }
}

fn waiting(row: &RunRow, around: &Around) -> Why {
    let workers = around.workers;
    let deadlines = row.deadlines();
    let next = deadlines.iter().min_by_key(|deadline| deadline.at);
    let mut evidence = vec![("since", rfc3339(row.summary.changed_at))];
    if row.pending > 0 {
        evidence.push(("signals in the inbox", row.pending.to_string()));
    }
    // Beside the time of a test clock the real one would mislead.
    let (clock, since) = if row.summary.clock_id.is_some() {
        evidence.push(("test clock stands at", rfc3339(row.tenant_now)));
        (" on its test clock", String::new())
    } else {
        ("", format!(" since {}", rfc3339(row.summary.changed_at)))
    };
    if workers.wanted {
        return workers.awaited(row, "due", "There is a message for it", evidence);
    }
    if let Some(going) = fan_out::read(&row.summary.workflow, &row.data) {
        return fanned_out(&going, evidence);
    }
    if !around.awaited.is_empty() {
        evidence.push(("awaits the end of", named(&around.awaited)));
    }
    let Some(next) = next else {
        return for_ever(row, around, &since, evidence);
    };
    let (state, may_come) = (&row.summary.state, around.may_come());
    evidence.push((
        "next deadline",
        format!("{} {}", next.name, rfc3339(next.at)),
    ));
    if next.at <= row.tenant_now {
        let what = format!("Deadline {} has passed", next.name);
        return workers.awaited(row, "due", &what, evidence);
    }
    if next.name == RUN_START {
        return Why {
            kind: "starts_later",
            summary: format!(
                "It starts at {}{clock}; signals are kept until then.",
                rfc3339(next.at)
            ),
            evidence,
        };
    }
    Why {
        kind: "waiting_for_deadline",
        summary: format!(
            "State {state} waits{since} until {}{clock} for deadline {}; {may_come} may come first.",
            rfc3339(next.at),
            next.name
        ),
        evidence,
    }
}

/// Why a run waits that has no deadline.
fn for_ever(
    row: &RunRow,
    around: &Around,
    since: &str,
    evidence: Vec<(&'static str, String)>,
) -> Why {
    let (state, may_come) = (&row.summary.state, around.may_come());
    let kind = match &*around.awaited {
        [] => "waiting_for_signal",
        _ if around.has_children() => "waiting_for_children",
        _ => "waiting_for_runs",
    };
    Why {
        kind,
        summary: format!("State {state} waits{since} for {may_come}; it has no deadline."),
        evidence,
    }
}

pub(super) fn in_a_ring(row: &RunRow, ring: &Ring) -> Why {
    Why {
        kind: "waiting_in_ring",
        summary: format!(
            "It waits for the end of a run that waits for its own: {ring}. Unless a signal moves one \
             of them, none goes on; cancel one."
        ),
        evidence: vec![("each waits for the next", ring.to_string()), since(row)],
    }
}

fn fanned_out(going: &Going, mut evidence: Vec<(&'static str, String)>) -> Why {
    let ended = going.ended;
    evidence.push((
        "children",
        format!("{} of {} started", going.started, going.total),
    ));
    evidence.push(("completed", ended.completed.to_string()));
    let badly = ended.sum() - ended.completed;
    evidence.push(("failed, cancelled, terminated", badly.to_string()));
    Why {
        kind: "waiting_for_children",
        summary: format!(
            "It waits for children: {} of {} have ended, {} live, at most {} may.",
            ended.sum(),
            going.total,
            going.alive(),
            going.at_most
        ),
        evidence,
    }
}

fn retrying(row: &RunRow, workers: Workers) -> Why {
    let summary = &row.summary;
    let error = summary.error.as_ref();
    let at = row.due_at.or(summary.next_at);
    let step = error
        .and_then(|error| error.step.as_ref())
        .map_or("The visit".to_owned(), |step| format!("Step {step}"));
    let reason = error.map_or(String::new(), |error| {
        format!("{}: {}", error.code, error.message)
    });
    let most = error.and_then(|error| error.max_attempts);
    let happened = match (summary.attempt, most) {
        (0, _) => "was cut off".to_owned(),
        (attempts, Some(most)) => format!("failed in {attempts} of {most} attempts"),
        (attempts, None) => format!("failed in {attempts} attempts"),
    };
    let evidence = vec![
        ("failed attempts", summary.attempt.to_string()),
        ("next attempt", at.map_or_else(String::new, rfc3339)),
        ("last error", reason.clone()),
    ];
    if at.is_some_and(|at| at <= row.now) {
        let what = format!("{step} {happened} because: {reason}. Its next attempt is due");
        return workers.awaited(row, "retrying", &what, evidence);
    }
    Why {
        kind: "retrying",
        summary: format!(
            "{step} {happened}; it is tried again at {} because: {reason}",
            at.map_or_else(String::new, rfc3339),
        ),
        evidence,
    }
}

fn blocked(row: &RunRow, around: &Around) -> Why {
    let Some(place) = &around.place else {
        let evidence = vec![since(row)];
        let what = "There is room for it now";
        return around.workers.awaited(row, "blocked", what, evidence);
    };
    let ahead = place.ahead;
    let mut evidence = vec![("since", rfc3339(place.since))];
    let (kind, summary) = match &place.door {
        Door::Limit { name, key } => {
            let whose = if key.is_empty() {
                String::new()
            } else {
                format!(", key {key}")
            };
            evidence.push(("ahead of it", ahead.to_string()));
            let allows = place.allows.map(flow::in_words);
            evidence.extend(allows.map(|allows| ("the limit allows", allows)));
            let words = format!("Blocked by limit {name}{whose}, {ahead} ahead of it.");
            ("blocked_by_limit", words)
        }
        Door::Breaker { name } => {
            let at = place.probe_at.map(rfc3339);
            let at = at.map_or_else(
                || "an operator closes it".to_owned(),
                |at| format!("about {at}"),
            );
            evidence.push(("ahead of it", ahead.to_string()));
            let words = format!(
                "Its next step asks {name}, which keeps failing: it waits, and no attempt is \
                 burnt, until {at}.",
            );
            ("blocked_by_breaker", words)
        }
        Door::Pause { scope, name } => {
            let words = format!("{scope} {name} is paused; it goes on when that is lifted.");
            ("blocked_by_pause", words)
        }
    };
    let reason = place.reason.clone();
    evidence.extend(reason.map(|reason| ("reason", reason)));
    Why {
        kind,
        summary,
        evidence,
    }
}

fn undoing(row: &RunRow, workers: Workers) -> Why {
    let left = row.undo.iter().flat_map(|undo| &undo.left);
    let left: Vec<_> = left.rev().map(|reverse| reverse.name.as_str()).collect();
    let mut evidence = vec![("left to reverse", left.join(", ")), since(row)];
    if row.due_at.is_some_and(|at| at <= row.now) {
        if let Some(error) = &row.summary.error {
            evidence.push(("failed attempts", row.summary.attempt.to_string()));
            evidence.push(("last error", format!("{}: {}", error.code, error.message)));
        }
        let what = "What a failed visit did is to be reversed";
        return workers.awaited(row, "undoing", what, evidence);
    }
    let summary = match &row.summary.error {
        None => "A visit failed for good; it reverses what that did, newest first.".to_owned(),
        Some(error) => {
            let at = row.due_at.map_or_else(String::new, rfc3339);
            evidence.push(("failed attempts", row.summary.attempt.to_string()));
            format!(
                "It reverses what a failed visit did; the reverse failed and is tried again at \
                 {at} because: {}: {}",
                error.code, error.message
            )
        }
    };
    Why {
        kind: "undoing",
        summary,
        evidence,
    }
}

fn stuck(row: &RunRow) -> Why {
    let summary = &row.summary;
    let kind = summary.stuck.clone().unwrap_or_default();
    let error = summary.error.as_ref();
    let words = match kind.as_str() {
        "attempts_exhausted" => "Its attempts are used up",
        "terminal_error" => "A step failed for good and the workflow has no branch for it",
        "undecodable" => "What is stored cannot be read by this version of the workflow",
        "undo_failed" => "It was reversing what a failed visit did, and a reverse failed",
        "journal_mismatch" => "The code changed in the middle of a visit",
        "worker_lost" => "It was in the hands of a worker that died, too many times in a row",
        "payload_too_large" => "It produced a payload over the limit",
        "not_recordable" => "The database will never take the answer of a step",
        "panicked" => "Its code panicked",
        _ => "It cannot go on",
    };
    let reason = error.map_or(String::new(), |error| {
        let step = error.step.as_ref();
        let step = step.map_or(String::new(), |step| format!("step {step}: "));
        format!("{step}{}: {}", error.code, error.message)
    });
    let because = error.map_or(String::new(), |_| format!(" {reason}."));
    let left = row.undo.iter().flat_map(|undo| &undo.left).rev();
    let left: Vec<_> = left.map(|reverse| reverse.name.as_str()).collect();
    let losses = (row.losses > 0).then(|| ("workers lost", row.losses.to_string()));
    let mut evidence = vec![("kind", kind), ("last error", reason.clone()), since(row)];
    evidence.extend(losses);
    if !left.is_empty() {
        evidence.push(("left to reverse", left.join(", ")));
    }
    let helps = match evidence[0].1.as_str() {
        "undecodable" => "let a version run that reads it, then retry",
        "journal_mismatch" => {
            "let the code run that began the visit, then retry, or move the run to a state"
        }
        _ => "mend the cause, then retry",
    };
    Why {
        kind: "stuck",
        summary: format!("{words}.{because} Only a human can help: {helps}."),
        evidence,
    }
}

pub(super) fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
