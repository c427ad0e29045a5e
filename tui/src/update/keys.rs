//! What the terminal says: keys that are commands, keys that are typing, sizes and focus.

use super::commands;
use crate::dialog::Stage;
use crate::event::Action;
use crate::keymap::{self, Context};
use crate::model::{Model, Screen};
use crate::reveal::Revealed;
use crossterm::event::{Event, KeyEvent, KeyEventKind};
use tui_input::backend::crossterm::EventHandler;
use tui_input::{Input, InputRequest};

/// Longest text a field takes, in characters.
const FIELD_CHARACTERS_MAX: usize = 16_384;

pub(super) fn terminal(model: &mut Model, event: &Event) -> Vec<Action> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => return pressed(model, key),
        Event::Paste(text) => typing(model, |input| paste(input, text)),
        Event::Resize(columns, rows) => model.size = (*columns, *rows),
        Event::FocusGained => {
            model.focused = true;
            model.link.hurry(model.now);
        }
        Event::FocusLost => {
            model.focused = false;
            // Somebody else may look at a window that nobody works in.
            model.revealed_mut().for_each(Revealed::clear);
        }
        Event::Key(_) | Event::Mouse(_) => {}
    }
    Vec::new()
}

fn pressed(model: &mut Model, key: &KeyEvent) -> Vec<Action> {
    // Some terminals never report focus; a key is proof of it.
    model.focused = true;
    if let Some(command) = keymap::command(model.context(), key) {
        return commands::run(model, command);
    }
    let event = Event::Key(*key);
    typing(model, |input| {
        let full = input.value().chars().count() >= FIELD_CHARACTERS_MAX;
        if !full || !matches!(key.code, crossterm::event::KeyCode::Char(_)) {
            input.handle_event(&event);
        }
    });
    Vec::new()
}

/// Lets `edit` work on the text field under the cursor, and draws what follows from a change.
fn typing(model: &mut Model, edit: impl FnOnce(&mut Input)) {
    match model.context() {
        Context::Filter => {
            let editing = match model.over.last_mut() {
                Some(Screen::Audit(audit)) => &mut audit.editing,
                _ => &mut model.list.editing,
            };
            if let Some(input) = editing {
                edit(input);
            }
        }
        Context::Dialog => {
            let intent = model.new_intent();
            let Some(dialog) = model.dialog.as_mut().filter(|dialog| !dialog.is_busy()) else {
                return;
            };
            let Some(input) = dialog.input_mut() else {
                return;
            };
            let before = input.value().to_owned();
            edit(input);
            if input.value() != before {
                // Other words are another wish: the server must not take it for the last one.
                dialog.intent = intent;
                dialog.stage = Stage::Filling;
                dialog.refused = None;
            }
        }
        Context::Find => {
            let Some(Screen::Tenants(tenants)) = model.over.last_mut() else {
                return;
            };
            if let Some(input) = &mut tenants.editing {
                edit(input);
            }
        }
        _ => {}
    }
}

/// Types a pasted text; line ends and tabs become spaces, other control characters are left out.
fn paste(input: &mut Input, text: &str) {
    let room = FIELD_CHARACTERS_MAX.saturating_sub(input.value().chars().count());
    let typed = text.chars().map(|c| {
        if matches!(c, '\n' | '\r' | '\t') {
            ' '
        } else {
            c
        }
    });
    for character in typed.filter(|character| !character.is_control()).take(room) {
        input.handle(InputRequest::InsertChar(character));
    }
}
