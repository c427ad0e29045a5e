//! One run: what it is, why it is where it is, what comes next, and a tab.

use super::{list, paint::Paint, tree};
use crate::detail::{Detail, Tab};
use crate::event::Content;
use crate::model::Model;
use crate::place::Place;
use crate::subject::why_not;
use crate::theme::{self, Tone};
use crate::time;
use crate::tree::Piece;
use chrono::{DateTime, Utc};
use ratatui::layout::{Constraint, Layout, Rect};
use tenure_client::{Deadline, DeadlineClock, RunDetail};

/// Below this height only the next deadline gets a row.
const LOW: u16 = 18;
/// Rows beside what is told of the run: two of identity, a rule, the tabs.
const FIXED_ROWS: usize = 4;
/// Deadlines that are told; the rest is counted.
const DEADLINES: usize = 3;

/// How many rows each part of what is told of a run gets while it is folded.
pub(super) struct Folded {
    /// The explanation.
    pub(super) why: usize,
    /// Deadlines; where there is one row for them, the first is cut and not broken.
    pub(super) next: usize,
    /// What may be done.
    pub(super) may: usize,
}

/// Draws the run from the top: identity, why, next, what may be done, tabs.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, detail: &Detail) {
    let folded = Folded {
        why: (usize::from(area.height) / 4).clamp(3, 10),
        next: if area.height < LOW { 1 } else { usize::MAX },
        may: 2,
    };
    let (rows, hidden) = told(paint, area, model, detail, &folded);
    let room = usize::from(area.height).saturating_sub(FIXED_ROWS);
    let count = rows.len().min(room);
    let heights =
        [2, 1 + count, 1].map(|rows| Constraint::Length(u16::try_from(rows).unwrap_or(u16::MAX)));
    let [identity, explanation, tabs, body] =
        Layout::vertical(heights.into_iter().chain([Constraint::Min(0)])).areas(area);
    identify(paint, identity, detail);
    let heading = match (hidden, rows.len() - count) {
        (0, 0) => "WHY".to_owned(),
        (0, lost) => format!("WHY ({lost} more in a higher window)"),
        (hidden, _) => format!("WHY (w: {hidden} more)"),
    };
    paint.rule(explanation, 0, &heading);
    for (row, pieces) in rows.iter().take(count).enumerate() {
        paint.row(explanation, row + 1, pieces);
    }
    paint.row(tabs, 0, &tab_bar(detail.tab));
    content(paint, body, model, detail);
}

/// Why the run is where it is, what comes next and what may be done, and how many rows of that are
/// folded away.
pub(super) fn told(
    paint: &Paint<'_, '_>,
    area: Rect,
    model: &Model,
    detail: &Detail,
    folded: &Folded,
) -> (Vec<Vec<Piece>>, usize) {
    let wrapped = |rows: Vec<Vec<Piece>>| -> Vec<Vec<Piece>> {
        let rows = rows.iter();
        rows.flat_map(|pieces| paint.wrap_pieces(area, pieces))
            .collect()
    };
    let why = why_rows(paint, area, model, detail);
    let mut next = next_rows(detail, model.now);
    if detail.why_open || folded.next > 1 {
        next = wrapped(next);
    }
    let may = wrapped(may(detail).into_iter().collect());
    let may_not = wrapped(may_not(detail));
    let all = why.len() + next.len() + may.len() + may_not.len();
    let rows: Vec<_> = if detail.why_open {
        why.into_iter()
            .chain(next)
            .chain(may)
            .chain(may_not)
            .collect()
    } else {
        let why = why.into_iter().take(folded.why);
        let next = next.into_iter().take(folded.next);
        why.chain(next)
            .chain(may.into_iter().take(folded.may))
            .collect()
    };
    let hidden = all - rows.len();
    (rows, hidden)
}

fn identify(paint: &mut Paint<'_, '_>, area: Rect, detail: &Detail) {
    let Some(run) = &detail.summary else {
        return paint.words(area, 0, Tone::Dim, &format!("run {}", detail.run_id));
    };
    let first = [
        (Tone::Strong, format!("{} v{}  ", run.workflow, run.version)),
        (
            theme::status_tone(run.status),
            format!("{}  ", theme::status_words(run.status)),
        ),
        (Tone::Strong, format!("state {}  ", run.state)),
        (Tone::Plain, detail.tenant_name()),
        (Tone::Dim, format!("  key {}", run.key)),
    ];
    let revision = detail
        .run
        .as_ref()
        .map(|run| format!("revision {}  ", run.revision));
    let second = format!(
        "run {}  {}visit {}  attempt {}",
        run.run_id,
        revision.unwrap_or_default(),
        run.visit,
        run.attempt
    );
    paint.row(area, 0, &first);
    paint.words(area, 1, Tone::Dim, &second);
}

/// The explanation, wrapped: the sentences, then the evidence.
fn why_rows(paint: &Paint<'_, '_>, area: Rect, model: &Model, detail: &Detail) -> Vec<Vec<Piece>> {
    let Some(run) = &detail.run else {
        let words = model.link.trouble().map_or(
            "Asking the server ...",
            |_| "Not known: the server gave no answer.",
        );
        return vec![vec![(Tone::Plain, words.to_owned())]];
    };
    let mut rows: Vec<Vec<Piece>> = Vec::new();
    for sentence in run.why.summary.lines() {
        rows.extend(
            paint
                .wrap(area, sentence)
                .into_iter()
                .map(|line| vec![(Tone::Plain, line)]),
        );
    }
    for fact in &run.why.evidence {
        let words = format!("- {}: {}", fact.label, fact.value);
        rows.extend(
            paint
                .wrap(area, &words)
                .into_iter()
                .map(|line| vec![(Tone::Dim, line)]),
        );
    }
    rows
}

/// What will happen by itself, soonest first.
fn next_rows(detail: &Detail, now: DateTime<Utc>) -> Vec<Vec<Piece>> {
    let Some(run) = &detail.run else {
        return Vec::new();
    };
    let mut deadlines: Vec<&Deadline> = run.deadlines.iter().collect();
    deadlines.sort_by_key(|deadline| deadline.at - reading(deadline, detail, now));
    let mut rows: Vec<_> = deadlines
        .iter()
        .take(DEADLINES)
        .map(|deadline| next_row(deadline, detail, now))
        .collect();
    if rows.is_empty() {
        rows.push(vec![
            (Tone::Strong, "Next: ".to_owned()),
            (Tone::Plain, nothing_next(run, now)),
        ]);
    }
    if deadlines.len() > DEADLINES {
        let more = format!("      and {} later deadlines", deadlines.len() - DEADLINES);
        rows.push(vec![(Tone::Dim, more)]);
    }
    rows
}

/// What the clock of a deadline shows now.
fn reading(deadline: &Deadline, detail: &Detail, now: DateTime<Utc>) -> DateTime<Utc> {
    let test_clock = detail
        .tenant_now()
        .filter(|_| deadline.clock == DeadlineClock::Tenant);
    test_clock.unwrap_or(now)
}

/// A deadline on a test clock is counted from where that clock stands; when that is not known, it is
/// not counted at all.
fn next_row(deadline: &Deadline, detail: &Detail, now: DateTime<Utc>) -> Vec<Piece> {
    let exact = deadline.at.format("%a %d %b %Y %H:%M UTC");
    let (near, clock) = match (deadline.clock, detail.tenant_now()) {
        (DeadlineClock::Real, _) => (format!("{}, ", time::relative(deadline.at, now)), None),
        (DeadlineClock::Tenant, Some(at)) => (
            format!("{}, ", time::relative(deadline.at, at)),
            Some(format!("  (test clock: {})", at.format("%d %b %Y %H:%M"))),
        ),
        (DeadlineClock::Tenant, None) => (String::new(), Some("  (test clock)".to_owned())),
    };
    vec![
        (Tone::Strong, format!("Next: {}  ", deadline.name)),
        (Tone::Plain, format!("{near}{exact}")),
        (Tone::Dim, clock.unwrap_or_default()),
    ]
}

fn nothing_next(run: &RunDetail, now: DateTime<Utc>) -> String {
    match (run.summary.finished_at, run.summary.next_at) {
        (Some(at), _) => format!("nothing; it ended {}", time::relative(at, now)),
        (None, Some(at)) if run.summary.next_clock == Some(DeadlineClock::Tenant) => {
            let at = at.format("%d %b %Y %H:%M UTC");
            format!("the engine looks again on {at} (test clock)")
        }
        (None, Some(at)) => format!("the engine looks again {}", time::relative(at, now)),
        (None, None) => "nothing by itself; it waits for something from outside".to_owned(),
    }
}

/// What may be done.
fn may(detail: &Detail) -> Option<Vec<Piece>> {
    detail.run.as_ref()?;
    let may: Vec<_> = detail
        .actions()
        .iter()
        .filter(|action| action.allowed)
        .map(|action| action.action.as_str())
        .collect();
    let may = if may.is_empty() {
        "look only".to_owned()
    } else {
        may.join(", ")
    };
    Some(vec![
        (Tone::Strong, "You may: ".to_owned()),
        (Tone::Plain, may),
    ])
}

/// What may not be done, by the reason why not.
fn may_not(detail: &Detail) -> Vec<Vec<Piece>> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for action in detail.actions().iter().filter(|action| !action.allowed) {
        let reason = why_not(action);
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, verbs)) => verbs.push(&action.action),
            None => reasons.push((reason, vec![&action.action])),
        }
    }
    let rows = reasons.into_iter().map(|(reason, verbs)| {
        vec![
            (Tone::Plain, format!("Not {}: ", verbs.join(", "))),
            (Tone::Dim, reason.to_owned()),
        ]
    });
    rows.collect()
}

/// The tabs; the open one stands in angle brackets.
pub(super) fn tab_bar(open: Tab) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (place, tab) in Tab::ALL.into_iter().enumerate() {
        let words = format!("{} {}", place + 1, tab.title());
        pieces.push(if tab == open {
            (Tone::Selected, format!("<{words}>"))
        } else {
            (Tone::Plain, format!(" {words} "))
        });
        pieces.push((Tone::Dim, " ".to_owned()));
    }
    pieces
}

/// The contents of the open tab.
pub(super) fn content(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, detail: &Detail) {
    let nodes = detail.nodes(model.columns());
    match detail.content() {
        None => list::lines(paint, area, Tone::Dim, "Asking the server ..."),
        Some(Content::Refused(words)) => list::lines(paint, area, Tone::Bad, &format!("! {words}")),
        Some(_) if nodes.is_empty() => list::lines(paint, area, Tone::Dim, nothing_in(detail.tab)),
        Some(_) => tree::render(paint, area, &nodes, &detail.folding()),
    }
}

fn nothing_in(tab: Tab) -> &'static str {
    match tab {
        Tab::Timeline => "Nothing happened yet.",
        Tab::Data => "The state has no data.",
        Tab::Steps => "No step was answered yet.",
        Tab::Signals => "No signal came yet.",
        Tab::Mails => "No mail went to this tenant yet.",
    }
}
