//! A dialog that prepares a change.

use super::bars;
use super::paint::{self, Paint};
use crate::deeds::{Preview, flow};
use crate::dialog::{Dialog, Field, Stage};
use crate::form::{self, Arg, Kind};
use crate::model::Model;
use crate::subject::Target;
use crate::text;
use crate::theme::Tone;
use crate::tree::Piece;
use ratatui::layout::{Margin, Rect};
use serde_json::Value;
use tenure_client::{SignalKind, SignalReception};

/// Columns that two buttons take beside each other.
const BUTTON_COLUMNS: u16 = 56;
/// Widest dialog.
const COLUMNS_MAX: u16 = 90;
/// Up to so many fields, each has a row for its name and one for its text.
const FIELDS_HIGH: usize = 3;
/// Columns for the name of a field that shares its row with the text.
const NAME_COLUMNS: usize = 17;
/// Columns for the name of a signal.
const SIGNAL_COLUMNS: usize = 18;
/// Rows of what will happen that stay in the lowest window.
const PREVIEW_ROWS_MIN: usize = 2;

/// A row of a dialog: words, the buttons, or a text field; and whether the cursor is in it.
enum Row<'a> {
    Words(Vec<Piece>),
    Buttons(Vec<Piece>, bool),
    Input(String, &'a tui_input::Input, bool),
}

impl Row<'_> {
    fn has_cursor(&self) -> bool {
        matches!(self, Self::Buttons(_, true) | Self::Input(_, _, true))
    }
}

/// Draws the dialog over what is below it.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, dialog: &Dialog) {
    let width = area.width.saturating_sub(4).min(COLUMNS_MAX);
    let room = Rect {
        width: width.saturating_sub(4),
        height: area.height.saturating_sub(2),
        ..area
    };
    let rows = rows(paint, room, model, dialog);
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
    paint.words(area, 0, Tone::Strong, &heading(model, dialog));
    let below = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    };
    let rows = rows(paint, below, model, dialog);
    draw(paint, below, &rows);
}

/// Draws rows; where there are more than fit, those around the cursor.
fn draw(paint: &mut Paint<'_, '_>, area: Rect, rows: &[Row<'_>]) {
    let height = usize::from(area.height);
    let cursor = rows.iter().position(Row::has_cursor).unwrap_or(0);
    let first = paint::offset(cursor, rows.len(), height);
    for (row, content) in rows.iter().skip(first).take(height).enumerate() {
        match content {
            Row::Words(pieces) | Row::Buttons(pieces, _) => paint.row(area, row, pieces),
            Row::Input(name, input, focused) => {
                let columns = if name.is_empty() { 0 } else { NAME_COLUMNS };
                let mark = if *focused { "> " } else { "  " };
                let name = paint.cell(name, columns);
                paint.row(
                    area,
                    row,
                    &[(Tone::Strong, name), (Tone::Strong, mark.to_owned())],
                );
                let taken = u16::try_from(columns + 2).unwrap_or(2).min(area.width);
                let field = Rect {
                    x: area.x + taken,
                    width: area.width - taken,
                    ..area
                };
                paint.field(field, row, input, *focused);
            }
        }
    }
}

/// The environment stands first, so that nobody changes one while thinking of another.
fn heading(model: &Model, dialog: &Dialog) -> String {
    let environment = bars::environment_name(model);
    let (verb, title) = (&dialog.form.verb, &dialog.subject.title);
    format!("{environment}: {verb}, {title}")
}

/// What is done to which run, what it takes, what will happen, the buttons, and next to them the
/// trouble of the last try. In a low window the first goes, and then the end of what will happen.
fn rows<'a>(paint: &Paint<'_, '_>, area: Rect, model: &Model, dialog: &'a Dialog) -> Vec<Row<'a>> {
    let height = usize::from(area.height);
    let mut top = about(paint, area, dialog);
    let inputs = inputs(model, dialog, usize::from(area.width));
    let mut preview = preview(paint, area, dialog);
    let mut end = buttons(area, dialog);
    end.extend(troubles(paint, area, dialog));
    let rest = inputs.len() + end.len();
    if top.len() + preview.len() + rest > height {
        top.clear();
    }
    let room = height.saturating_sub(rest).max(PREVIEW_ROWS_MIN);
    if preview.len() > room {
        let hidden = preview.len() - room + 1;
        preview.truncate(room - 1);
        let more = format!("    ... {hidden} more lines in a higher window");
        preview.push(words(Tone::Dim, &more));
    }
    let rows = top.into_iter().chain(inputs).chain(preview);
    rows.chain(end).collect()
}

fn about(paint: &Paint<'_, '_>, area: Rect, dialog: &Dialog) -> Vec<Row<'static>> {
    let identity = dialog.subject.target.identity();
    let identity = Some(identity).filter(|identity| !identity.is_empty());
    let mut rows: Vec<_> = identity.iter().map(|line| words(Tone::Dim, line)).collect();
    let seen = flow::seen(&dialog.subject.target).map(|seen| format!("As you saw it: {seen}"));
    let seen = seen.iter().flat_map(|line| paint.wrap(area, line));
    rows.extend(seen.map(|line| words(Tone::Dim, &line)));
    let help = paint.wrap(area, &dialog.form.help);
    rows.extend(help.iter().map(|line| words(Tone::Plain, line)));
    rows.push(words(Tone::Plain, ""));
    rows
}

fn inputs<'a>(model: &Model, dialog: &'a Dialog, columns: usize) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    let args = dialog.form.args.iter().zip(&dialog.args);
    for (place, (arg, input)) in args.enumerate() {
        let mark = if arg.required { " *" } else { "" };
        let here = dialog.field == Field::Arg(place);
        field(
            &mut rows,
            dialog,
            (&format!("{}{mark}", arg.name), input, here),
            hint(model, arg, input.value()),
            columns,
        );
        if let (true, Kind::Signal(known)) = (here, &arg.kind) {
            rows.extend(signals(known, input.value()));
        }
    }
    if dialog.form.reason {
        let is_empty = dialog.reason.value().trim().is_empty();
        let hint = if is_empty {
            "needed; it is kept in the audit with your name"
        } else {
            ""
        };
        let here = dialog.field == Field::Reason;
        let hint = (Tone::Dim, hint.to_owned());
        let name = ("reason *", &dialog.reason, here);
        field(&mut rows, dialog, name, hint, columns);
    }
    rows
}

/// One field: its name with what is to be said about it, and below it the text. Where there are many,
/// all stands in one row, and only of the one under the cursor something is said.
fn field<'a>(
    rows: &mut Vec<Row<'a>>,
    dialog: &Dialog,
    (name, input, here): (&str, &'a tui_input::Input, bool),
    (tone, hint): Piece,
    columns: usize,
) {
    if dialog.args.len() <= FIELDS_HIGH {
        let hint = (tone, hint);
        rows.push(Row::Words(vec![(Tone::Strong, format!("{name}  ")), hint]));
        rows.push(Row::Input(String::new(), input, here));
        return;
    }
    rows.push(Row::Input(name.to_owned(), input, here));
    if here && !hint.is_empty() {
        let lines = text::wrap(&hint, columns.saturating_sub(NAME_COLUMNS + 2).max(1));
        rows.extend(lines.into_iter().map(|line| {
            let indent = (Tone::Plain, " ".repeat(NAME_COLUMNS + 2));
            Row::Words(vec![indent, (tone, line)])
        }));
    }
}

/// What is to be said about an argument as it is typed.
fn hint(model: &Model, arg: &Arg, text: &str) -> Piece {
    match (form::read(arg, text), &arg.kind) {
        (_, Kind::Workflow) => workflow_hint(&model.workflows, text.trim()),
        (Err(why), _) => (Tone::Warn, why),
        (Ok(None), Kind::Choice(words)) => (
            Tone::Dim,
            format!("may be left out; or {}", words.join(", ")),
        ),
        (Ok(None), _) => (Tone::Dim, "may be left out".to_owned()),
        (Ok(Some(_)), Kind::Choice(words)) => (Tone::Dim, format!("one of {}", words.join(", "))),
        (Ok(Some(_)), Kind::Json) => (Tone::Good, "JSON is fine".to_owned()),
        (Ok(Some(value)), Kind::Signal(known)) => told_of(known, &value),
        (Ok(Some(_)), _) => (Tone::Good, String::new()),
    }
}

/// What becomes of a signal as it is typed.
fn told_of(known: &[SignalKind], value: &Value) -> Piece {
    let named = value.as_object().and_then(|all| all.keys().next());
    let name = value.as_str().or(named.map(String::as_str));
    match known.iter().find(|kind| Some(kind.name.as_str()) == name) {
        Some(kind) => received(kind),
        None => (Tone::Warn, "the workflow knows no such signal".to_owned()),
    }
}

/// What the run's state does with a signal.
fn received(kind: &SignalKind) -> Piece {
    match kind.reception {
        Some(SignalReception::Accept) => (Tone::Good, "it is handled".to_owned()),
        Some(SignalReception::Defer) => (Tone::Warn, "it waits for another state".to_owned()),
        Some(SignalReception::Reject) => {
            let why = kind.reason.as_deref().unwrap_or("its state wants none");
            (Tone::Bad, format!("it is rejected: {why}"))
        }
        None => (Tone::Dim, "that hangs on what it carries".to_owned()),
    }
}

/// The signals that could be meant, each with what would become of it.
fn signals(known: &[SignalKind], text: &str) -> Vec<Row<'static>> {
    let meant = form::meant(known, text).into_iter();
    let row = |kind: &SignalKind| {
        let name = text::pad(&kind.name, SIGNAL_COLUMNS, "~");
        let pieces = vec![
            (Tone::Plain, "    ".to_owned()),
            (Tone::Strong, format!("{name} ")),
            received(kind),
        ];
        Row::Words(pieces)
    };
    meant.map(row).collect()
}

/// Which workflows could be meant.
fn workflow_hint(known: &[String], text: &str) -> Piece {
    if known.is_empty() || known.iter().any(|name| name == text) {
        return (Tone::Good, String::new());
    }
    let meant = known.iter().filter(|name| name.contains(text));
    let mut meant: Vec<_> = meant.map(String::as_str).collect();
    if meant.is_empty() {
        meant = known.iter().map(String::as_str).collect();
    }
    (Tone::Warn, format!("one of {}", meant.join(", ")))
}

/// What will happen, or how to learn it.
fn preview(paint: &Paint<'_, '_>, area: Rect, dialog: &Dialog) -> Vec<Row<'static>> {
    let (Stage::Shown(shown) | Stage::Sending(shown)) = &dialog.stage else {
        let words_of = match dialog.stage {
            Stage::Asking => "* Asking the server what will happen ...",
            _ => "Enter shows what will happen; until then nothing is sent.",
        };
        let lines = paint.wrap(area, words_of);
        return lines.iter().map(|line| words(Tone::Dim, line)).collect();
    };
    let mut rows = vec![words(Tone::Strong, "What will happen")];
    rows.extend(told(shown).iter().flat_map(|(tone, line)| {
        let bullet = (Tone::Plain, "    - ".to_owned());
        let wrapped = paint.wrap_pieces(area, &[bullet, (*tone, line.clone())]);
        wrapped.into_iter().map(Row::Words)
    }));
    rows
}

fn told(shown: &Preview) -> Vec<Piece> {
    let effects = shown.effects.iter().map(|told| (Tone::Plain, told.clone()));
    let changes = shown.changes.iter().map(|change| {
        let told = format!("{}: {} -> {}", change.path, change.before, change.after);
        (Tone::Warn, told)
    });
    effects.chain(changes).collect()
}

/// The buttons; the one under the cursor is reversed and pointed at. Where they do not fit beside each
/// other, each has a row.
fn buttons(area: Rect, dialog: &Dialog) -> Vec<Row<'static>> {
    let go = match dialog.stage {
        Stage::Filling | Stage::Asking => "See what will happen".to_owned(),
        // The verb itself comes later, when the number is confirmed.
        _ if matches!(dialog.subject.target, Target::Many(_)) => {
            "Do it: select the runs".to_owned()
        }
        Stage::Shown(_) | Stage::Sending(_) => format!("Do it: {}", dialog.form.verb),
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
    let (go, on_go) = button(Field::Go, &go);
    if area.width < BUTTON_COLUMNS {
        return vec![Row::Buttons(keep, on_keep), Row::Buttons(go, on_go)];
    }
    vec![Row::Buttons([keep, go].concat(), on_keep || on_go)]
}

fn troubles(paint: &Paint<'_, '_>, area: Rect, dialog: &Dialog) -> Vec<Row<'static>> {
    let mut rows = Vec::new();
    // Once somebody tried to go on, the refusal says the same.
    let stale = (dialog.is_stale() && dialog.refused.is_none()).then(|| {
        let target = &dialog.subject.target;
        let way = format!("{} -> {}", target.seen(), dialog.latest);
        let way = match target {
            Target::Run(..) | Target::Schedule(..) => format!("revision {way}"),
            _ => way,
        };
        let noun = target.noun();
        format!("! The {noun} changed while this was open ({way}).")
    });
    let is_sending = matches!(dialog.stage, Stage::Sending(_));
    let sending = is_sending.then(|| "* Sending ...".to_owned());
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
