//! Mails to all tenants.

use super::{list, paint::Paint, tree};
use crate::mails::Mails;
use crate::model::Model;
use crate::theme::Tone;
use ratatui::layout::{Constraint, Layout, Rect};

/// Draws a heading and the mails.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, mails: &Mails) {
    let [heading, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    paint.rule(heading, 0, "MAILS to all tenants, newest first");
    match &mails.mails {
        Some(sent) if sent.is_empty() => {
            list::lines(paint, body, Tone::Plain, "No mail was sent yet.")
        }
        Some(_) => tree::render(
            paint,
            body,
            &mails.nodes(usize::from(area.width)),
            &mails.folding,
        ),
        None if model.link.trouble().is_none() => {
            list::lines(paint, body, Tone::Plain, "Asking the server ...");
        }
        None => list::lines(paint, body, Tone::Plain, "There are no mails to show."),
    }
}
