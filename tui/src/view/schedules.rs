//! All schedules.

use super::paint::Paint;
use super::tree;
use crate::model::Model;
use crate::schedules::Schedules;
use ratatui::layout::Rect;

/// Draws a heading and the schedules.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Schedules) {
    let words = ("SCHEDULES, newest first", "There are no schedules yet.");
    tree::screen(paint, area, model, words, (shown, shown.all.is_some()));
}
