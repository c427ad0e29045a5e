//! One run: what it is, why it is where it is, what comes next, and a tab.

use super::{list, paint::Paint, tree};
use crate::detail::{Detail, Tab};
use crate::event::Content;
use crate::model::Model;
use crate::theme::{self, Tone};
use crate::time;
use crate::tree::Piece;
use chrono::{DateTime, Utc};
use ratatui::layout::{Constraint, Layout, Rect};
use tenure_client::{Deadline, DeadlineClock, RunDetail};

/// Below this height only the next deadline gets a row.
const LOW: u16 = 18;
/// Rows beside explanation, deadlines and tab: two of identity, a rule, the acts, the tabs.
const FIXED_ROWS: usize = 5;
/// Deadlines that get a row; the rest is counted.
const DEADLINES: usize = 3;

/// Draws the run from the top: identity, why, next, what may be done, tabs.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, detail: &Detail) {
    let why = why_rows(paint, area, model, detail);
    let mut next = next_rows(detail, model.now);
    if area.height < LOW {
        next.truncate(1);
    }
    let why_count = why
        .len()
        .min(why_rows_max(area, detail.why_open, next.len()));
    let heights = [2, 1 + why_count, next.len(), 1, 1]
        .map(|rows| Constraint::Length(u16::try_from(rows).unwrap_or(u16::MAX)));
    let [identity, explanation, deadlines, may, tabs, body] =
        Layout::vertical(heights.into_iter().chain([Constraint::Min(0)])).areas(area);
    identify(paint, identity, detail);
    let hidden = why.len() - why_count;
    let heading = if hidden > 0 {
        format!("WHY (w: {hidden} more)")
    } else {
        "WHY".to_owned()
    };
    paint.rule(explanation, 0, &heading);
    for (row, pieces) in why.iter().take(why_count).enumerate() {
        paint.row(explanation, row + 1, pieces);
    }
    for (row, pieces) in next.iter().enumerate() {
        paint.row(deadlines, row, pieces);
    }
    paint.row(may, 0, &actions(detail));
    paint.row(tabs, 0, &tab_bar(detail.tab));
    content(paint, body, model, detail);
}

/// Rows for the explanation: enough for its sentences, or all that the fixed rows leave when opened.
fn why_rows_max(area: Rect, is_open: bool, next_rows: usize) -> usize {
    let height = usize::from(area.height);
    if is_open {
        return height.saturating_sub(FIXED_ROWS + next_rows);
    }
    (height / 4).clamp(3, 10)
}

fn identify(paint: &mut Paint<'_, '_>, area: Rect, detail: &Detail) {
    let run = &detail.summary;
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
pub(super) fn why_rows(
    paint: &Paint<'_, '_>,
    area: Rect,
    model: &Model,
    detail: &Detail,
) -> Vec<Vec<Piece>> {
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
pub(super) fn next_rows(detail: &Detail, now: DateTime<Utc>) -> Vec<Vec<Piece>> {
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

/// What may be done, and for the rest why not.
fn actions(detail: &Detail) -> Vec<Piece> {
    let Some(run) = &detail.run else {
        return Vec::new();
    };
    let (may, may_not): (Vec<_>, Vec<_>) = run
        .allowed_actions
        .iter()
        .partition(|action| action.allowed);
    let may: Vec<_> = may.iter().map(|action| action.action.clone()).collect();
    let may = if may.is_empty() {
        "look only".to_owned()
    } else {
        may.join(", ")
    };
    let may_not: Vec<_> = may_not
        .iter()
        .map(|action| match &action.reason {
            Some(reason) => format!("[{}: {reason}]", action.action),
            None => format!("[{}]", action.action),
        })
        .collect();
    vec![
        (Tone::Strong, "You may: ".to_owned()),
        (Tone::Plain, may),
        (Tone::Dim, format!("  {}", may_not.join(" "))),
    ]
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
