//! Windows too small for the full screens: one column, and at last one line.

use super::detail::Folded;
use super::{bars, detail, dialog, help, list, menu, paint, paint::Paint};
use crate::model::{Model, Screen};
use crate::theme::{self, Tone};
use ratatui::layout::{Constraint, Layout, Rect};
use tenure_client::DeadlineClock;

/// Everything in one line: where, and what is looked at.
pub(super) fn line(paint: &mut Paint<'_, '_>, area: Rect, model: &Model) {
    let mut pieces = bars::environment(model);
    let run = match model.over.last() {
        Some(Screen::Detail(open)) => open.summary.as_ref(),
        _ => model.list.selected(),
    };
    if let Some(run) = run {
        let status = theme::status_words(run.status);
        pieces.push((
            theme::status_tone(run.status),
            format!("{status} {} ", run.workflow),
        ));
    }
    pieces.push((Tone::Dim, "make the window larger".to_owned()));
    paint.row(area, 0, &pieces);
}

/// One column: head, body, message, keys.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model) {
    let rows = [
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(bars::message_rows(paint, area, model)),
        Constraint::Length(1),
    ];
    let [top, body, message, keys] = Layout::vertical(rows).areas(area);
    let mut head = bars::environment(model);
    head.push((bars::link_tone(model), bars::link_words(model)));
    paint.row(top, 0, &head);
    bars::message(paint, message, model);
    bars::footer(paint, keys, model);
    match (model.help, &model.dialog, model.over.last()) {
        (Some(scroll), _, _) => help::render(paint, body, model, scroll),
        (None, Some(open), _) => dialog::render_small(paint, body, model, open),
        (None, None, Some(_)) if model.menu.is_some() => menu::render(paint, body, model),
        (None, None, Some(Screen::Detail(open))) => run(paint, body, model, open),
        (None, None, Some(screen)) => super::screen(paint, body, model, screen),
        (None, None, None) => runs(paint, body, model),
    }
}

fn runs(paint: &mut Paint<'_, '_>, area: Rect, model: &Model) {
    let [line, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    list::filter_line(paint, line, &model.list);
    if let Some((tone, words)) = list::instead_of_rows(model) {
        return list::lines(paint, body, tone, &words);
    }
    let runs = model.list.rows();
    let height = usize::from(body.height);
    let selected = model.list.position();
    let first = paint::offset(selected, runs.len(), height);
    for (row, (place, run)) in runs.iter().enumerate().skip(first).take(height).enumerate() {
        let (near, exact) = list::next_words(run, model.now, false);
        let next = match run.next_clock {
            Some(DeadlineClock::Tenant) => format!("{exact} {near}"),
            _ => near,
        };
        let mark = if place == selected { ">" } else { " " };
        let pieces = [
            (Tone::Strong, mark.to_owned()),
            (
                theme::status_tone(run.status),
                paint.cell(&theme::status_words(run.status), 13),
            ),
            (Tone::Strong, format!("{} ", list::tenant(run))),
            (Tone::Plain, format!("{} {} ", run.workflow, run.state)),
            (Tone::Dim, next),
        ];
        if place == selected {
            paint.row_selected(body, row, &pieces);
        } else {
            paint.row(body, row, &pieces);
        }
    }
}

/// Who, why and next in a few rows, and the tab below them.
fn run(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, open: &crate::detail::Detail) {
    let mut rows = vec![match &open.summary {
        Some(run) => vec![
            (
                theme::status_tone(run.status),
                format!("{} ", theme::status_words(run.status)),
            ),
            (Tone::Strong, format!("{} {} ", run.workflow, run.state)),
            (Tone::Plain, open.tenant_name()),
        ],
        None => vec![(Tone::Dim, format!("run {}", open.run_id))],
    }];
    let folded = Folded {
        why: usize::from(area.height / 3).max(1),
        next: 1,
        may: 0,
    };
    rows.extend(detail::told(paint, area, model, open, &folded).0);
    rows.push(detail::tab_bar(open.tab));
    let height = u16::try_from(rows.len())
        .unwrap_or(u16::MAX)
        .min(area.height);
    for (row, pieces) in rows.iter().enumerate() {
        paint.row(area, row, pieces);
    }
    let body = Rect {
        y: area.y + height,
        height: area.height - height,
        ..area
    };
    detail::content(paint, body, model, open);
}
