//! Mails to all tenants.

use super::paint::Paint;
use super::tree;
use crate::mails::Mails;
use crate::model::Model;
use ratatui::layout::Rect;

/// Draws a heading and the mails.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Mails) {
    let words = (
        "MAILS to all tenants, newest first",
        "No mail was sent yet.",
    );
    tree::screen(paint, area, model, words, (shown, shown.mails.is_some()));
}
