//! The lines that every screen has: who and where, a message, and the keys.

use super::paint::Paint;
use crate::keymap::{self, Command};
use crate::model::Model;
use crate::text;
use crate::theme::Tone;
use crate::tree::Piece;
use crate::update;
use ratatui::layout::Rect;

/// What stands between two keys of the footer.
const FOOTER_GAP: &str = "   ";
/// Rows that a message may take from the screen above it.
const MESSAGE_ROWS_MAX: u16 = 4;

/// Environment, link and role.
pub(super) fn header(paint: &mut Paint<'_, '_>, area: Rect, model: &Model) {
    let mut left = environment(model);
    left.push((link_tone(model), format!("{}  ", link_words(model))));
    let who = format!("{} ({})", model.who.token_name, model.who.role.as_str());
    let times = format!("{} UTC  ", model.now.format("%H:%M:%S"));
    let taken: usize = left
        .iter()
        .map(|(_, words)| text::width(&text::escape(words)))
        .sum();
    let right = text::width(&text::escape(&who)) + times.len();
    let gap = usize::from(area.width).saturating_sub(taken + right);
    left.push((Tone::Dim, " ".repeat(gap)));
    left.push((Tone::Dim, times));
    left.push((Tone::Plain, who));
    paint.row(area, 0, &left);
}

/// The environment, in the tone it deserves.
pub(super) fn environment(model: &Model) -> Vec<Piece> {
    let tone = if is_production(model) {
        Tone::Bad
    } else {
        Tone::Strong
    };
    vec![(tone, format!("{}  ", environment_name(model)))]
}

/// The environment in words; production is shouted.
pub(super) fn environment_name(model: &Model) -> String {
    let name = &model.who.environment;
    if is_production(model) {
        name.to_uppercase()
    } else {
        name.clone()
    }
}

fn is_production(model: &Model) -> bool {
    model.who.environment.to_lowercase().starts_with("prod")
}

/// The link to the server in words.
pub(super) fn link_words(model: &Model) -> String {
    model.link.words(model.now, model.focused)
}

/// The tone of the link.
pub(super) fn link_tone(model: &Model) -> Tone {
    match (model.link.is_live(), model.link.trouble(), model.focused) {
        (true, None, true) => Tone::Good,
        (true, None, false) => Tone::Dim,
        (_, _, _) => Tone::Bad,
    }
}

/// The message on show, or what is wrong with the link, over as many rows as there are.
pub(super) fn message(paint: &mut Paint<'_, '_>, area: Rect, model: &Model) {
    let Some((tone, words)) = message_words(model) else {
        return;
    };
    let mut lines = paint.wrap(area, &words);
    let rest = lines.split_off(lines.len().min(usize::from(area.height)));
    for (row, line) in lines.iter().enumerate() {
        // What finds no row makes the last one too long, so that it ends in an ellipsis.
        let more = if row + 1 == lines.len() {
            rest.join(" ")
        } else {
            String::new()
        };
        paint.words(area, row, tone, format!("{line} {more}").trim_end());
    }
}

/// Rows that the message takes: at least one, so that the screen does not jump for a short one.
pub(super) fn message_rows(paint: &Paint<'_, '_>, area: Rect, model: &Model) -> u16 {
    let rows = message_words(model).map_or(1, |(_, words)| paint.wrap(area, &words).len());
    u16::try_from(rows)
        .unwrap_or(u16::MAX)
        .clamp(1, MESSAGE_ROWS_MAX)
}

fn message_words(model: &Model) -> Option<(Tone, String)> {
    if let Some(toast) = &model.toast {
        let mark = match toast.tone {
            Tone::Bad => "! ",
            Tone::Good => "+ ",
            _ => "",
        };
        return Some((toast.tone, format!("{mark}{}", toast.text)));
    }
    let trouble = model.link.trouble()?;
    Some((Tone::Bad, format!("! {trouble}")))
}

/// The keys that matter here, as many as fit.
pub(super) fn footer(paint: &mut Paint<'_, '_>, area: Rect, model: &Model) {
    paint.row(area, 0, &keys(model, usize::from(area.width)));
}

/// The same as pieces. The ways out and the help keep their places in a narrow window; a key that would
/// be refused now has none, and the help says why.
fn keys(model: &Model, columns: usize) -> Vec<Piece> {
    let items: Vec<_> = keymap::bindings(model.context())
        .filter(|binding| update::refusal(model, binding.command).is_none())
        .filter_map(|binding| {
            Some((
                binding.command,
                binding.keys.first()?.name(),
                binding.label?,
            ))
        })
        .collect();
    let is_essential = |command| matches!(command, Command::Back | Command::Help | Command::Quit);
    let mut room = columns;
    let mut kept = vec![false; items.len()];
    for essential in [true, false] {
        for ((command, key, label), kept) in items.iter().zip(&mut kept) {
            let size = key.len() + 1 + label.len() + FOOTER_GAP.len();
            if is_essential(*command) == essential && size <= room + FOOTER_GAP.len() {
                *kept = true;
                room = room.saturating_sub(size);
            }
        }
    }
    let mut pieces = Vec::new();
    for ((_, key, label), _) in items.into_iter().zip(kept).filter(|(_, kept)| *kept) {
        let gap = if pieces.is_empty() { "" } else { FOOTER_GAP };
        pieces.push((Tone::Strong, format!("{gap}{key}")));
        pieces.push((Tone::Dim, format!(" {label}")));
    }
    pieces
}
