//! What the server sent, as lines that fold.

use crate::event::Content;
use crate::json;
use crate::text;
use crate::theme::Tone;
use crate::time;
use crate::tree::{Node, Piece};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tenure_client::{Mail, MailStatus, RunDetail, Signal, SignalOutcome, Step, Transition};

/// From this width on, times are told with the year and to the second.
const WIDE: usize = 60;
/// Columns that folding takes at the left of a mail's text.
const MAIL_INDENT: usize = 6;
/// Narrowest column a mail's text is wrapped to.
const MAIL_COLUMNS_MIN: usize = 20;

/// The contents of a tab, but for the state's data.
pub(crate) fn nodes(content: &Content, columns: usize) -> Vec<Node> {
    match content {
        Content::Timeline(transitions, steps) => timeline(transitions, steps, columns),
        Content::Data | Content::Refused(_) => Vec::new(),
        Content::Steps(steps) => steps
            .iter()
            .map(|answered| step(answered, columns))
            .collect(),
        Content::Signals(signals) => signals
            .iter()
            .rev()
            .map(|sent| signal(sent, columns))
            .collect(),
        Content::Mails(sent) => mails(sent, columns),
    }
}

/// The data of a run's state, and its output.
pub(crate) fn data(run: &RunDetail) -> Vec<Node> {
    let mut nodes = json::nodes("data", &run.data);
    if nodes.is_empty() {
        nodes.push(Node::leaf("data", dim("the state has no data"), ""));
    }
    if let Some(output) = &run.output {
        nodes.push(json::node("output", "output", output));
    }
    nodes
}

/// Mails, each with its text below it.
pub(crate) fn mails(mails: &[Mail], columns: usize) -> Vec<Node> {
    mails.iter().map(|sent| mail(sent, columns)).collect()
}

/// Transitions and steps in one line of time, newest first. A visit's steps come before what settled
/// it, also when both bear the same time.
fn timeline(transitions: &[Transition], steps: &[Step], columns: usize) -> Vec<Node> {
    let mut rows: Vec<_> = transitions
        .iter()
        .enumerate()
        .map(|(place, transition)| {
            (
                (transition.at, transition.visit, 1, place),
                moved(place, transition, columns),
            )
        })
        .collect();
    rows.extend(steps.iter().enumerate().map(|(place, answered)| {
        (
            (answered.recorded_at, answered.visit, 0, place),
            step(answered, columns),
        )
    }));
    rows.sort_by_key(|(order, _)| std::cmp::Reverse(*order));
    rows.into_iter().map(|(_, node)| node).collect()
}

fn moved(place: usize, transition: &Transition, columns: usize) -> Node {
    let way = match (&transition.from_state, &transition.to_state) {
        (Some(from), Some(to)) if from != to => format!("{from} -> {to}, "),
        (None, Some(to)) => format!("-> {to}, "),
        (Some(state), _) => format!("{state}, "),
        (None, None) => String::new(),
    };
    let mut line = vec![
        (Tone::Dim, format!("{}  ", stamp(transition.at, columns))),
        (Tone::Strong, format!("{}: ", transition.event)),
        (Tone::Plain, way),
        (
            outcome_tone(&transition.outcome),
            transition.outcome.clone(),
        ),
    ];
    if let Some(actor) = &transition.actor {
        line.push((Tone::Plain, format!(", by {actor}")));
    }
    line.extend(tenants(transition.tenant_at, columns));
    let id = format!("transition {} {place}", transition.visit);
    let clock = on_test_clock(transition.tenant_at);
    let mut children = vec![Node::leaf(
        format!("{id} visit"),
        dim(&format!("visit {}{clock}", transition.visit)),
        "",
    )];
    if let Some(detail) = &transition.detail {
        children.extend(json::nodes(&format!("{id} detail"), detail));
    }
    folded(id, line, children)
}

fn step(step: &Step, columns: usize) -> Node {
    let (tone, words) = match (&step.error, &step.answer) {
        (Some(error), _) => (Tone::Bad, format!("x {}", summary(error))),
        (None, Some(answer)) => (Tone::Plain, format!("+ {}", summary(answer))),
        (None, None) => (Tone::Plain, "+ no answer to keep".to_owned()),
    };
    let line = vec![
        (Tone::Dim, format!("{}  ", stamp(step.recorded_at, columns))),
        (Tone::Plain, "step ".to_owned()),
        (Tone::Strong, format!("{}  ", step.name)),
        (tone, words),
    ];
    let id = format!("steps/{}/{}", step.visit, step.seq);
    let mut children = vec![Node::leaf(
        format!("{id} place"),
        dim(&format!("visit {}, place {}", step.visit, step.seq)),
        "",
    )];
    children.extend(
        step.error
            .iter()
            .map(|error| json::node(&format!("{id}/error"), "error", error)),
    );
    children.extend(
        step.answer
            .iter()
            .map(|value| json::node(&format!("{id}/answer"), "answer", value)),
    );
    folded(id, line, children)
}

fn signal(signal: &Signal, columns: usize) -> Node {
    let (tone, outcome) = match signal.outcome {
        SignalOutcome::Pending => (Tone::Warn, ". pending"),
        SignalOutcome::Accepted => (Tone::Good, "+ accepted"),
        SignalOutcome::Rejected => (Tone::Bad, "x rejected"),
        SignalOutcome::Late => (Tone::Warn, "- late"),
    };
    let reason = signal
        .reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    let mut line = vec![
        (
            Tone::Dim,
            format!("{}  ", stamp(signal.received_at, columns)),
        ),
        (Tone::Strong, format!("{}  ", signal.name)),
        (tone, format!("{outcome}{reason}")),
    ];
    line.extend(tenants(signal.tenant_received_at, columns));
    let id = format!("signals/{}", json::step(&signal.signal_id));
    let clock = on_test_clock(signal.tenant_received_at);
    let mut children = vec![Node::leaf(
        format!("{id} id"),
        dim(&format!("id {}{clock}", signal.signal_id)),
        &signal.signal_id,
    )];
    children.push(json::node(
        &format!("{id}/payload"),
        "payload",
        &signal.payload,
    ));
    folded(id, line, children)
}

fn mail(mail: &Mail, columns: usize) -> Node {
    let (tone, status) = match mail.status {
        MailStatus::Queued => (Tone::Warn, ". queued"),
        MailStatus::Sent => (Tone::Good, "+ sent"),
        MailStatus::Suppressed => (Tone::Bad, "x suppressed"),
    };
    let time_columns = if columns < WIDE { 12 } else { 19 };
    let when = mail
        .sent_at
        .map_or_else(|| "not sent".to_owned(), |at| stamp(at, columns));
    let line = vec![
        (Tone::Dim, format!("{when:<time_columns$}  ")),
        (tone, format!("{status:<12}  ")),
        (Tone::Strong, format!("{}  ", mail.subject)),
        (Tone::Dim, format!("to {}", mail.to)),
    ];
    let id = format!("mail {}", mail.notice_id);
    let room = columns.saturating_sub(MAIL_INDENT).max(MAIL_COLUMNS_MIN);
    let header = [
        format!("to {}, mail \"{}\"", mail.to, mail.kind),
        format!("tenant {}", mail.tenant_id),
        String::new(),
    ];
    let body = mail
        .body_text
        .lines()
        .flat_map(|line| text::wrap(&text::escape(line), room));
    let lines = header
        .into_iter()
        .map(|line| (Tone::Dim, line))
        .chain(body.map(|line| (Tone::Plain, line)));
    let children = lines
        .enumerate()
        .map(|(place, piece)| {
            let copy = piece.1.clone();
            Node::leaf(format!("{id} {place}"), vec![piece], copy)
        })
        .collect();
    Node::leaf(id, line, mail.body_text.clone()).with_children(children)
}

/// A time as exact as the window has room for.
fn stamp(at: DateTime<Utc>, columns: usize) -> String {
    if columns < WIDE {
        at.format("%d %b %H:%M").to_string()
    } else {
        time::stamp(at)
    }
}

/// The tenant's time, beside a real one. Time columns are real, so that steps and what they led to
/// stand in order.
fn tenants(at: Option<DateTime<Utc>>, columns: usize) -> Option<Piece> {
    let format = if columns < WIDE { "%d %b" } else { "%d %b %Y" };
    let day = at?.format(format);
    Some((Tone::Dim, format!(" (tenant's {day})")))
}

/// The same in full, for what is unfolded.
fn on_test_clock(at: Option<DateTime<Utc>>) -> String {
    at.map(|at| format!(", at {} on the tenant's test clock", time::stamp(at)))
        .unwrap_or_default()
}

fn folded(id: String, line: Vec<Piece>, children: Vec<Node>) -> Node {
    let copy = line
        .iter()
        .map(|(_, text)| text.as_str())
        .collect::<String>();
    Node::leaf(id, line, copy).with_children(children)
}

fn dim(words: &str) -> Vec<Piece> {
    vec![(Tone::Dim, words.to_owned())]
}

/// An error's message where it has one, else the value on one line.
fn summary(value: &Value) -> String {
    let told = ["message", "detail", "code"]
        .iter()
        .find_map(|name| value.get(name)?.as_str());
    told.map_or_else(|| json::one_line(value), str::to_owned)
}

fn outcome_tone(outcome: &str) -> Tone {
    match outcome {
        "stuck" | "failed" | "rejected" => Tone::Bad,
        "retrying" | "undoing" | "late" => Tone::Warn,
        "completed" => Tone::Good,
        _ => Tone::Plain,
    }
}
