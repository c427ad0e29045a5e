//! What becomes of tenants' data: the shelves, a backfill, a deletion, an export.

use super::paint::Paint;
use super::tree;
use crate::gauge;
use crate::life::{self, BackfillPage, DeletionPage, ExportPage, Life, Shelf};
use crate::model::Model;
use crate::place::Place;
use crate::theme::Tone;
use crate::tree::Piece;
use ratatui::layout::{Constraint, Layout, Rect};

/// Cells of a bar in a narrow window, and in a wide one.
const CELLS: (usize, usize) = (24, 48);
/// Columns from which on a window is wide.
const WIDE: u16 = 100;

/// Draws the shelves' names, and the one that is on show.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Life) {
    let [tabs, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    let mut pieces = Vec::new();
    for (place, shelf) in Shelf::ALL.into_iter().enumerate() {
        let words = format!("{} {}", place + 1, shelf.title());
        pieces.push(if shelf == shown.shelf {
            (Tone::Selected, format!("<{words}>"))
        } else {
            (Tone::Plain, format!(" {words} "))
        });
        pieces.push((Tone::Dim, " ".to_owned()));
    }
    paint.row(tabs, 0, &pieces);
    let what = match shown.shelf {
        Shelf::Backfills => "BACKFILLS, newest first",
        Shelf::Placements => "PLACEMENTS, by tenant",
        Shelf::Deletions => "DELETIONS of tenants, newest first",
        Shelf::Keeping => "KEEPING of the product's rows",
    };
    let heading = format!("{what}{}", shown.page());
    let words = (heading.as_str(), shown.shelf.none());
    tree::screen(paint, body, model, words, (shown, shown.known.is_some()));
}

/// Draws a backfill: where it is, how fast, what a person should know, and its ranges.
pub(super) fn render_backfill(
    paint: &mut Paint<'_, '_>,
    area: Rect,
    model: &Model,
    shown: &BackfillPage,
) {
    let of = &shown.of;
    let far = &of.progress;
    let (tone, status) = life::backfill_status(of);
    let what = vec![
        (Tone::Strong, format!("{}  ", of.name)),
        (tone, format!("{status}  ")),
        (Tone::Plain, format!("phase {}", life::phase(of))),
    ];
    let targets = of.targets.iter();
    let targets = targets.map(|one| {
        format!(
            "{} {} (data map {})",
            one.source, one.table, one.map_version
        )
    });
    let targets = targets.collect::<Vec<_>>().join(", ");
    let bar = vec![
        (Tone::Plain, gauge::bar(far.percent, cells(area))),
        (Tone::Strong, format!(" {:.1}%  ", far.percent)),
        (Tone::Plain, life::speed(of)),
    ];
    let rows = format!(
        "{}, {} written; {}",
        life::rows(of),
        gauge::count(far.written_rows),
        life::ranges(of)
    );
    let verified = of.clean_since.map(|at| {
        let words = format!(
            "verified: no row is wrong since {}",
            at.format("%d %b %H:%M UTC")
        );
        (Tone::Good, words)
    });
    let mut rows = vec![what, bar, vec![(Tone::Plain, rows)]];
    rows.extend(life::concerns(of).into_iter().map(|piece| vec![piece]));
    rows.extend(verified.map(|piece| vec![piece]));
    rows.extend(life::reads(of).map(|words| vec![(Tone::Plain, words)]));
    rows.push(vec![(
        Tone::Dim,
        format!("{targets}; by {}: {}", of.started_by, of.reason),
    )]);
    let heading = format!("RANGES: {}", shown.listed());
    let words = (heading.as_str(), "None of these.");
    under(
        paint,
        area,
        model,
        &rows,
        words,
        (shown, shown.ranges.is_some()),
    );
}

/// Draws a deletion: where it is, until when, who and why, and its steps.
pub(super) fn render_deletion(
    paint: &mut Paint<'_, '_>,
    area: Rect,
    model: &Model,
    shown: &DeletionPage,
) {
    let of = &shown.of;
    let (tone, state) = life::deletion_state(of);
    let mut rows = vec![vec![
        (Tone::Strong, format!("{}  ", shown.tenant())),
        (tone, format!("{state}  ")),
        life::due(of, Some(model.now)),
    ]];
    if let Some((done, all)) = shown.steps() {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let percent = gauge::percent(count(done), count(all));
        rows.push(vec![
            (Tone::Plain, gauge::bar(percent, cells(area))),
            (Tone::Strong, format!("  {done} of {all} steps done")),
        ]);
    }
    let detail = of.detail.clone();
    let tone = if of.state == "failed_step" {
        Tone::Bad
    } else {
        Tone::Warn
    };
    rows.extend(detail.map(|detail| vec![(tone, detail)]));
    rows.push(vec![(Tone::Plain, life::people(of))]);
    rows.extend(life::way_back(of).map(|words| vec![(Tone::Plain, words)]));
    rows.push(vec![(Tone::Dim, of.reason.clone())]);
    let heading = format!("DELETION {}", of.deletion_id);
    let words = (heading.as_str(), "");
    under(
        paint,
        area,
        model,
        &rows,
        words,
        (shown, shown.detail.is_some()),
    );
}

/// Draws an export.
pub(super) fn render_export(
    paint: &mut Paint<'_, '_>,
    area: Rect,
    model: &Model,
    shown: &ExportPage,
) {
    let words = ("EXPORT of what the product keeps of a tenant", "");
    tree::screen(paint, area, model, words, (shown, true));
}

/// Draws rows, broken where they are too long, and a tree under them. In a low window the tree keeps
/// half of it.
fn under(
    paint: &mut Paint<'_, '_>,
    area: Rect,
    model: &Model,
    rows: &[Vec<Piece>],
    words: (&str, &str),
    (place, is_known): (&dyn Place, bool),
) {
    let rows = rows.iter();
    let rows: Vec<_> = rows
        .flat_map(|pieces| paint.wrap_pieces(area, pieces))
        .collect();
    let height = u16::try_from(rows.len()).unwrap_or(u16::MAX);
    let height = height.min(area.height / 2 + 1);
    let [head, body] =
        Layout::vertical([Constraint::Length(height), Constraint::Min(1)]).areas(area);
    for (row, pieces) in rows.iter().enumerate() {
        paint.row(head, row, pieces);
    }
    tree::screen(paint, body, model, words, (place, is_known));
}

fn cells(area: Rect) -> usize {
    if area.width < WIDE { CELLS.0 } else { CELLS.1 }
}
