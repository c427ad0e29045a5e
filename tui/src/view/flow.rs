//! Flow control.

use super::paint::Paint;
use super::tree;
use crate::flow::Flow;
use crate::model::Model;
use ratatui::layout::Rect;

/// Draws a heading, and limits, pauses, breakers and weights.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Flow) {
    let words = ("FLOW: what bounds and halts the engine", "");
    tree::screen(paint, area, model, words, (shown, shown.known.is_some()));
}
