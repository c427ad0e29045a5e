//! The keys of a place, from the one table.

use super::paint::Paint;
use crate::keymap;
use crate::model::Model;
use crate::theme::Tone;
use crate::update;
use ratatui::layout::{Constraint, Layout, Rect};

/// Columns for the names of keys.
const KEY_COLUMNS: usize = 18;

/// Draws the keys that work below the help page, with the reason for each that does not now.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, scroll: usize) {
    let [heading, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    let place = model.place();
    let count = keymap::bindings(place).count();
    let below = count.saturating_sub(scroll + usize::from(body.height));
    let more = if below > 0 {
        format!(" ({below} more below)")
    } else {
        String::new()
    };
    paint.rule(heading, 0, &format!("KEYS: {}{more}", place.title()));
    for (row, binding) in keymap::bindings(place).skip(scroll).enumerate() {
        let keys = paint.cell(&keymap::key_names(binding), KEY_COLUMNS);
        let refusal = update::refusal(model, binding.command);
        let tone = if refusal.is_some() {
            Tone::Dim
        } else {
            Tone::Plain
        };
        let why = refusal
            .map(|reason| format!("  [not now: {reason}]"))
            .unwrap_or_default();
        let pieces = [
            (Tone::Strong, keys),
            (tone, binding.help.to_owned()),
            (Tone::Warn, why),
        ];
        paint.row(body, row, &pieces);
    }
}
