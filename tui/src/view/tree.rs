//! A tree with a cursor.

use super::list;
use super::paint::{self, Paint};
use crate::model::Model;
use crate::place::Place;
use crate::theme::Tone;
use crate::tree::{Folding, Node, Piece, Row};
use ratatui::layout::{Constraint, Layout, Rect};

/// Draws a screen that is one tree under a heading. What is said instead of rows depends on whether the
/// server has answered yet.
pub(super) fn screen(
    paint: &mut Paint<'_, '_>,
    area: Rect,
    model: &Model,
    (heading, none): (&str, &str),
    (place, is_known): (&dyn Place, bool),
) {
    let [top, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    paint.rule(top, 0, heading);
    let nodes = place.nodes(usize::from(area.width));
    match (is_known, model.link.trouble()) {
        (true, _) if nodes.is_empty() => list::lines(paint, body, Tone::Plain, none),
        (true, _) => render(paint, body, &nodes, &place.folding()),
        (false, None) => list::lines(paint, body, Tone::Plain, "Asking the server ..."),
        (false, Some(_)) => {
            list::lines(
                paint,
                body,
                Tone::Plain,
                "There is nothing to show: see below.",
            );
        }
    }
}

/// Draws the rows that are on show, around the cursor.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, nodes: &[Node], folding: &Folding) {
    let rows = folding.rows(nodes);
    let height = usize::from(area.height);
    let cursor = folding.position(&rows);
    let first = paint::offset(cursor, rows.len(), height);
    for (row, (place, shown)) in rows.iter().enumerate().skip(first).take(height).enumerate() {
        let pieces = pieces(paint, shown, place == cursor);
        if place == cursor {
            paint.row_selected(area, row, &pieces);
        } else {
            paint.row(area, row, &pieces);
        }
    }
}

fn pieces(paint: &Paint<'_, '_>, row: &Row<'_>, under_cursor: bool) -> Vec<Piece> {
    let cursor = if under_cursor { ">" } else { " " };
    let fold = row.open.map_or("  ", |is_open| paint.theme().fold(is_open));
    let mut pieces = vec![
        (Tone::Strong, cursor.to_owned()),
        (Tone::Dim, format!("{}{fold}", "  ".repeat(row.depth))),
    ];
    pieces.extend(row.node.line.iter().cloned());
    pieces
}
