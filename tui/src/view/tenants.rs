//! Finding a tenant, and its page.

use super::paint::Paint;
use super::tree;
use crate::model::Model;
use crate::tenant::TenantPage;
use crate::tenants::Tenants;
use crate::theme::Tone;
use ratatui::layout::{Constraint, Layout, Rect};

/// Draws what is looked for, and the tenants that were found.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Tenants) {
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
        None if shown.query.is_empty() => paint.words(line, 0, Tone::Plain, "/ all tenants"),
        None => paint.words(line, 0, Tone::Plain, &format!("/ {}", shown.query)),
    }
    let more = shown
        .found
        .as_ref()
        .is_some_and(|page| page.next_cursor.is_some());
    let heading = match (&shown.editing, more) {
        (Some(_), _) => "TENANTS: type a part of the name, the mail address or the id",
        (None, true) => "TENANTS, newest first; there are more, look closer",
        (None, false) => "TENANTS, newest first",
    };
    let words = (
        heading,
        "No tenant has that in its name, mail address or id, and the provider calls none so.",
    );
    tree::screen(paint, body, model, words, (shown, shown.found.is_some()));
}

/// Draws a tenant's page.
pub(super) fn render_one(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &TenantPage) {
    let heading = format!("TENANT {}", shown.name());
    let known = (shown as &dyn crate::place::Place, shown.known.is_some());
    tree::screen(paint, area, model, (&heading, ""), known);
}
