//! What people did.

use super::paint::Paint;
use super::{list, tree};
use crate::audit::Audit;
use crate::model::Model;
use crate::theme::Tone;
use ratatui::layout::{Constraint, Layout, Rect};

/// Draws the filter line, a heading and the acts.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Audit) {
    let [line, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    match &shown.editing {
        Some(input) => {
            paint.words(line, 0, Tone::Strong, "/ ");
            let field = Rect {
                x: line.x + 2,
                width: line.width.saturating_sub(2),
                ..line
            };
            paint.field(field, 0, input, true);
        }
        None => {
            let [filter, page] = shown.listed();
            let mark = (Tone::Strong, "/ ".to_owned());
            paint.row(line, 0, &[mark, filter, page]);
        }
    }
    if let Some((tone, words)) = shown.typed() {
        return list::lines(paint, body, tone, &words);
    }
    let words = ("AUDIT: what people did, newest first", shown.none());
    tree::screen(paint, body, model, words, (shown, shown.known.is_some()));
}
