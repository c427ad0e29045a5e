//! The list of runs.

use super::paint::{self, Paint};
use crate::filter::{self, Filter};
use crate::list::RunList;
use crate::model::Model;
use crate::pages::Paged;
use crate::text;
use crate::theme::{self, Tone};
use crate::time;
use crate::tree::Piece;
use chrono::{DateTime, Utc};
use ratatui::layout::{Constraint, Layout, Rect};
use tenure_client::{DeadlineClock, RunSummary};

/// From this width on, the next deadline is told in two units.
const WIDE: u16 = 100;
/// Below this width, only one part of it is told.
const NARROW: u16 = 76;
/// Marks a date on a tenant's test clock; the heading explains it.
const TENANTS: &str = "(t)";
/// The same where there is room.
const TENANTS_LONG: &str = "tenant's";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Tenant,
    Workflow,
    Key,
    Status,
    State,
    Next,
    Age,
}

/// Draws filter line, heading and rows.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model) {
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
    ];
    let [line, heading, body] = Layout::vertical(rows).areas(area);
    filter_line(paint, line, &model.list);
    let columns = columns(area.width);
    let clocked = |run: &RunSummary| run.next_clock == Some(DeadlineClock::Tenant);
    let has_mark = (NARROW..WIDE).contains(&area.width) && model.list.rows().iter().any(clocked);
    let mut cells = vec![(Tone::Dim, " ".to_owned())];
    for (place, (column, width)) in columns.iter().enumerate() {
        cells.push((
            Tone::Dim,
            format!(
                "{}{}",
                gap(place),
                paint.cell(title(*column, has_mark), *width)
            ),
        ));
    }
    paint.row(heading, 0, &cells);
    if let Some((tone, words)) = instead_of_rows(model) {
        return lines(paint, body, tone, &words);
    }
    rows_of(paint, body, model, &columns);
}

/// The filter as it is, or as it is being typed, with what is wrong with it.
pub(super) fn filter_line(paint: &mut Paint<'_, '_>, area: Rect, list: &RunList) {
    let Some(input) = &list.editing else {
        let place = list.pages().words();
        let shown = if list.filter.is_empty() {
            "all runs"
        } else {
            &list.filter.text
        };
        let pieces = [
            (Tone::Strong, "/ ".to_owned()),
            (Tone::Plain, shown.to_owned()),
            (Tone::Dim, place),
        ];
        return paint.row(area, 0, &pieces);
    };
    paint.words(area, 0, Tone::Strong, "/ ");
    let field = Rect {
        x: area.x + 2,
        width: area.width.saturating_sub(2),
        ..area
    };
    paint.field(field, 0, input, true);
}

/// What is said where there are no rows to show, or about the filter that is being typed.
pub(super) fn instead_of_rows(model: &Model) -> Option<(Tone, String)> {
    let list = &model.list;
    if let Some(told) = list
        .editing
        .as_ref()
        .and_then(|input| typed_words(input.value()))
    {
        return Some(told);
    }
    if !list.rows().is_empty() {
        return None;
    }
    let words = match (
        list.is_loaded(),
        model.link.trouble(),
        list.filter.is_empty(),
    ) {
        (false, None, _) => "Asking the server ...".to_owned(),
        (false, Some(_), _) => "There is no list to show yet.".to_owned(),
        (true, _, true) => "There are no runs yet.".to_owned(),
        (true, _, false) => {
            format!(
                "No run passes \"{}\". Esc drops the filter.",
                list.filter.text
            )
        }
    };
    Some((Tone::Plain, words))
}

/// What is to be said about a filter line while it is typed.
fn typed_words(text: &str) -> Option<(Tone, String)> {
    if text.is_empty() {
        let fields = filter::FIELDS.join(", ");
        let words =
            format!("fields: {fields}; such as workflow:dunning status:stuck tenant:\"Acme GmbH\"");
        return Some((Tone::Plain, words));
    }
    Filter::parse(text)
        .err()
        .map(|words| (Tone::Bad, format!("! {words}")))
}

/// Draws text over as many rows as it needs.
pub(super) fn lines(paint: &mut Paint<'_, '_>, area: Rect, tone: Tone, words: &str) {
    for (row, line) in paint.wrap(area, words).iter().enumerate() {
        paint.words(area, row, tone, line);
    }
}

/// When a run next does something by itself, near and exact. What is late has no exact part in a
/// narrow window: it should have happened already. On a test clock nothing is near or late here,
/// for a list does not know where each clock stands: the date is marked as the tenant's.
pub(super) fn next_words(run: &RunSummary, now: DateTime<Utc>, long: bool) -> (String, String) {
    let Some(at) = run.next_at else {
        return ("-".to_owned(), String::new());
    };
    if run.next_clock == Some(DeadlineClock::Tenant) {
        let mark = if long { TENANTS_LONG } else { TENANTS };
        return (mark.to_owned(), at.format("%d %b %Y").to_string());
    }
    match (at > now, long) {
        (true, true) => (time::long(at - now), time::absolute(at, now)),
        (true, false) => (time::short(at - now), time::absolute(at, now)),
        (false, true) => (
            format!("late {}", time::short(now - at)),
            time::absolute(at, now),
        ),
        (false, false) => (format!("late {}", time::short(now - at)), String::new()),
    }
}

fn rows_of(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, columns: &[(Column, usize)]) {
    let runs = model.list.rows();
    let height = usize::from(area.height);
    let selected = model.list.position();
    let first = paint::offset(selected, runs.len(), height);
    for (row, (place, run)) in runs.iter().enumerate().skip(first).take(height).enumerate() {
        let mark = if place == selected { ">" } else { " " };
        let mut cells: Vec<Piece> = vec![(Tone::Strong, mark.to_owned())];
        for (place, (column, width)) in columns.iter().enumerate() {
            let (tone, words) = content(*column, run, model.now, area.width);
            cells.push((
                tone,
                format!("{}{}", gap(place), paint.cell(&words, *width)),
            ));
        }
        if place == selected {
            paint.row_selected(area, row, &cells);
        } else {
            paint.row(area, row, &cells);
        }
    }
}

/// What stands before a column: nothing before the first.
fn gap(place: usize) -> &'static str {
    if place == 0 { "" } else { " " }
}

fn content(column: Column, run: &RunSummary, now: DateTime<Utc>, width: u16) -> (Tone, String) {
    match column {
        Column::Tenant => (Tone::Strong, tenant(run)),
        Column::Workflow => (Tone::Plain, run.workflow.clone()),
        Column::Key => (Tone::Dim, run.key.clone()),
        Column::Status => (
            theme::status_tone(run.status),
            theme::status_words(run.status),
        ),
        Column::State => (Tone::Plain, run.state.clone()),
        Column::Next => {
            let (near, exact) = next_words(run, now, width >= WIDE);
            let pad = if width >= WIDE { 8 } else { 3 };
            let words = match width {
                ..NARROW if near == TENANTS => exact,
                ..NARROW => near,
                _ => format!("{near:<pad$} {exact}"),
            };
            (Tone::Plain, words)
        }
        Column::Age => (Tone::Dim, time::short(now - run.started_at)),
    }
}

/// The tenant's name, or the end of its id.
pub(super) fn tenant(run: &RunSummary) -> String {
    let name = run.tenant_name.clone();
    name.unwrap_or_else(|| text::end_of(run.tenant_id))
}

fn title(column: Column, has_mark: bool) -> &'static str {
    match column {
        Column::Next if has_mark => "NEXT (t)enant's",
        Column::Tenant => "TENANT",
        Column::Workflow => "WORKFLOW",
        Column::Key => "KEY",
        Column::Status => "STATUS",
        Column::State => "STATE",
        Column::Next => "NEXT UTC",
        Column::Age => "AGE",
    }
}

/// Columns and their widths. A narrow window first loses the exact time, then age and key; a wide one
/// gives what is left to the texts.
fn columns(width: u16) -> Vec<(Column, usize)> {
    let room = usize::from(width).saturating_sub(1);
    let next = match width {
        ..NARROW => 8,
        NARROW..WIDE => 16,
        WIDE.. => 21,
    };
    let mut columns = vec![
        (Column::Tenant, 12),
        (Column::Workflow, 12),
        (Column::Key, 8),
        (Column::Status, 12),
        (Column::State, 9),
        (Column::Next, next),
        (Column::Age, 4),
    ];
    let taken =
        |columns: &[(Column, usize)]| columns.iter().map(|(_, size)| size + 1).sum::<usize>() - 1;
    for droppable in [Column::Age, Column::Key] {
        if taken(&columns) > room {
            columns.retain(|(column, _)| *column != droppable);
        }
    }
    let spare = room.saturating_sub(taken(&columns));
    for (column, size) in &mut columns {
        *size += match column {
            Column::Tenant | Column::Key => (spare / 3).min(26),
            Column::State => (spare / 6).min(14),
            Column::Workflow => (spare / 6).min(10),
            Column::Status | Column::Next | Column::Age => 0,
        };
    }
    columns
}
