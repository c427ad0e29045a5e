//! A dialog that prepares a change.

use super::bars;
use super::paint::{self, Paint};
use crate::dialog::{Dialog, Field, Purpose};
use crate::model::Model;
use crate::theme::Tone;
use crate::tree::Piece;
use ratatui::layout::{Margin, Rect};

/// Columns that two buttons take beside each other.
const BUTTON_COLUMNS: u16 = 48;
/// Widest dialog.
const COLUMNS_MAX: u16 = 90;

/// A row of a dialog: words, the buttons, or a text field; and whether the cursor is in it.
enum Row<'a> {
    Words(Vec<Piece>),
    Buttons(Vec<Piece>, bool),
    Input(&'a tui_input::Input, bool),
}

impl Row<'_> {
    fn has_cursor(&self) -> bool {
        matches!(self, Self::Buttons(_, true) | Self::Input(_, true))
    }
}

/// Draws the dialog over what is below it; in a low window only what matters most.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, dialog: &Dialog) {
    let width = area.width.saturating_sub(4).min(COLUMNS_MAX);
    let room = Rect {
        width: width.saturating_sub(4),
        ..area
    };
    let mut rows = rows(paint, room, dialog);
    if rows.len() + 2 > usize::from(area.height) {
        rows = rows_in_short(paint, room, dialog);
    }
    let height = u16::try_from(rows.len() + 2)
        .unwrap_or(u16::MAX)
        .min(area.height);
    let (x, y) = (
        area.x + (area.width - width) / 2,
        area.y + (area.height - height) / 2,
    );
    let inner = paint.boxed(
        Rect {
            x,
            y,
            width,
            height,
        },
        &heading(model, dialog),
    );
    draw(paint, inner.inner(Margin::new(1, 0)), &rows);
}

/// Draws the dialog over the whole of a small window.
pub(super) fn render_small(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, dialog: &Dialog) {
    let mut rows = vec![words(Tone::Strong, &heading(model, dialog))];
    rows.extend(rows_in_short(paint, area, dialog));
    draw(paint, area, &rows);
}

/// Draws rows; where there are more than fit, those around the cursor.
fn draw(paint: &mut Paint<'_, '_>, area: Rect, rows: &[Row<'_>]) {
    let height = usize::from(area.height);
    let cursor = rows.iter().position(Row::has_cursor).unwrap_or(0);
    let first = paint::offset(cursor, rows.len(), height);
    for (row, content) in rows.iter().skip(first).take(height).enumerate() {
        match content {
            Row::Words(pieces) | Row::Buttons(pieces, _) => paint.row(area, row, pieces),
            Row::Input(input, focused) => {
                paint.words(area, row, Tone::Strong, if *focused { "> " } else { "  " });
                let width = area.width.saturating_sub(2);
                paint.field(
                    Rect {
                        x: area.x + 2,
                        width,
                        ..area
                    },
                    row,
                    input,
                    *focused,
                );
            }
        }
    }
}

/// The environment stands first, so that nobody changes one while thinking of another.
fn heading(model: &Model, dialog: &Dialog) -> String {
    let verb = match dialog.purpose {
        Purpose::Signal => "Signal",
        Purpose::Retry => "Retry now",
    };
    let environment = bars::environment_name(model);
    format!(
        "{environment}: {verb}, {} of {}",
        dialog.run.workflow, dialog.tenant
    )
}

/// All rows. What will happen stands first; the trouble of the last try stands next to the buttons.
fn rows<'a>(paint: &Paint<'_, '_>, area: Rect, dialog: &'a Dialog) -> Vec<Row<'a>> {
    let mut rows = vec![words(
        Tone::Dim,
        &format!("run {}, revision {}", dialog.run.run_id, dialog.revision),
    )];
    rows.push(words(Tone::Strong, "What will happen"));
    for sentence in dialog.consequences() {
        for (row, line) in paint
            .wrap(
                Rect {
                    width: area.width.saturating_sub(4),
                    ..area
                },
                &sentence,
            )
            .iter()
            .enumerate()
        {
            rows.push(words(
                Tone::Plain,
                &format!("{}{line}", if row == 0 { "  - " } else { "    " }),
            ));
        }
    }
    rows.extend(inputs(dialog));
    rows.push(words(Tone::Plain, ""));
    rows.extend(buttons(area, dialog));
    rows.extend(troubles(paint, area, dialog));
    rows
}

/// The same for low windows: one sentence on what will happen.
fn rows_in_short<'a>(paint: &Paint<'_, '_>, area: Rect, dialog: &'a Dialog) -> Vec<Row<'a>> {
    let sentence = paint.wrap(area, dialog.consequence());
    let mut rows: Vec<_> = sentence
        .iter()
        .map(|line| words(Tone::Plain, line))
        .collect();
    rows.extend(inputs(dialog));
    rows.extend(buttons(area, dialog));
    rows.extend(troubles(paint, area, dialog));
    rows
}

fn inputs(dialog: &Dialog) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    if dialog.purpose == Purpose::Signal {
        let hint = match dialog.payload_hint() {
            Ok(hint) => (Tone::Good, hint),
            Err(hint) => (Tone::Warn, hint),
        };
        rows.push(Row::Words(vec![
            (Tone::Strong, "Signal *  ".to_owned()),
            hint,
        ]));
        rows.push(Row::Input(&dialog.payload, dialog.field == Field::Payload));
    }
    let hint = if dialog.reason.value().trim().is_empty() {
        "needed; it is kept in the audit"
    } else {
        ""
    };
    rows.push(Row::Words(vec![
        (Tone::Strong, "Reason *  ".to_owned()),
        (Tone::Dim, hint.to_owned()),
    ]));
    rows.push(Row::Input(&dialog.reason, dialog.field == Field::Reason));
    rows
}

/// The buttons; the one under the cursor is reversed and pointed at. Where they do not fit beside each
/// other, each has a row.
fn buttons(area: Rect, dialog: &Dialog) -> Vec<Row<'static>> {
    let verb = match dialog.purpose {
        Purpose::Signal => "Send the signal",
        Purpose::Retry => "Retry now",
    };
    let button = |field, label: &str| {
        let here = dialog.field == field;
        let mark = if here { "> " } else { "  " };
        let tone = if here { Tone::Selected } else { Tone::Plain };
        let label = format!("[ {label} ]");
        (
            vec![
                (Tone::Strong, mark.to_owned()),
                (tone, label),
                (Tone::Plain, "  ".to_owned()),
            ],
            here,
        )
    };
    let (keep, on_keep) = button(Field::Keep, "Keep it as it is");
    let (go, on_go) = button(Field::Go, verb);
    if area.width < BUTTON_COLUMNS {
        return vec![Row::Buttons(keep, on_keep), Row::Buttons(go, on_go)];
    }
    vec![Row::Buttons([keep, go].concat(), on_keep || on_go)]
}

fn troubles(paint: &Paint<'_, '_>, area: Rect, dialog: &Dialog) -> Vec<Row<'static>> {
    let mut rows = Vec::new();
    let stale = dialog.is_stale().then(|| {
        format!(
            "! The run changed while this was open (revision {} -> {}).",
            dialog.revision, dialog.latest
        )
    });
    let sending = dialog.sending.then(|| "* Sending ...".to_owned());
    let refused = dialog
        .refused
        .as_ref()
        .map(|refused| format!("! {refused}"));
    for (tone, text) in [
        (Tone::Warn, stale),
        (Tone::Plain, sending),
        (Tone::Bad, refused),
    ] {
        for line in text.iter().flat_map(|text| paint.wrap(area, text)) {
            rows.push(words(tone, &line));
        }
    }
    rows
}

fn words(tone: Tone, text: &str) -> Row<'static> {
    Row::Words(vec![(tone, text.to_owned())])
}
