//! Retention and legal holds.

use super::paint::Paint;
use super::tree;
use crate::model::Model;
use crate::retention::Retention;
use ratatui::layout::Rect;

/// Draws a heading, holds and policies.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Retention) {
    let words = ("RETENTION: what becomes of runs after their end", "");
    tree::screen(paint, area, model, words, (shown, shown.known.is_some()));
}
