//! All schedules.

use super::{list, paint::Paint, tree};
use crate::model::Model;
use crate::schedules::Schedules;
use crate::theme::Tone;
use ratatui::layout::{Constraint, Layout, Rect};

/// Draws a heading and the schedules.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Schedules) {
    let [heading, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    paint.rule(heading, 0, "SCHEDULES, newest first");
    match &shown.all {
        Some(all) if all.is_empty() => {
            list::lines(paint, body, Tone::Plain, "There are no schedules yet.");
        }
        Some(_) => tree::render(paint, body, &shown.nodes(), &shown.folding),
        None if model.link.trouble().is_none() => {
            list::lines(paint, body, Tone::Plain, "Asking the server ...");
        }
        None => list::lines(paint, body, Tone::Plain, "There are no schedules to show."),
    }
}
