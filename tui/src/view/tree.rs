//! A tree with a cursor.

use super::paint::{self, Paint};
use crate::theme::Tone;
use crate::tree::{Folding, Node, Piece, Row};
use ratatui::layout::Rect;

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
