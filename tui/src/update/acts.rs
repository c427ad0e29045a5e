//! The way to a change: menu, form, and the buttons at its end.

use crate::detail::why_not;
use crate::dialog::{Dialog, Field, RETRY, SIGNAL, Stage};
use crate::event::Action;
use crate::keymap::Command;
use crate::model::Model;
use crate::theme::Tone;

/// Why a command cannot be used now, if so.
pub(crate) fn refusal(model: &Model, command: Command) -> Option<String> {
    match command {
        Command::Signal => refused(model, SIGNAL),
        Command::Retry => refused(model, RETRY),
        _ => None,
    }
}

/// Why a verb cannot be used now. The server decides.
fn refused(model: &Model, verb: &str) -> Option<String> {
    if model.subject().is_none() {
        return Some("the server has not said yet what may be done".to_owned());
    }
    let actions = model.actions();
    match actions.iter().find(|action| action.action == verb) {
        None => Some("the server does not offer it".to_owned()),
        Some(action) if action.allowed => None,
        Some(action) => Some(why_not(action).to_owned()),
    }
}

pub(super) fn show_menu(model: &mut Model) {
    if model.subject().is_some() {
        model.menu = Some(0);
    } else {
        model.say(Tone::Bad, "There is nothing to act on yet.");
    }
}

/// Prepares the act under the cursor. A menu from which nothing came stays open.
pub(super) fn choose(model: &mut Model) {
    let place = model.menu.unwrap_or_default();
    let action = model.actions().get(place).map(|action| &action.action);
    let Some(verb) = action.cloned() else {
        return;
    };
    prepare(model, &verb);
    if model.dialog.is_some() {
        model.menu = None;
    }
}

/// Opens the form of a verb, or says why not.
pub(super) fn prepare(model: &mut Model, verb: &str) {
    if let Some(reason) = refused(model, verb) {
        let noun = model.subject().map_or("this", |subject| subject.id.noun());
        let words = format!("You cannot {verb} this {noun} now: {reason}");
        return model.say(Tone::Bad, words);
    }
    let intent = model.new_intent();
    let mut actions = model.actions().into_iter();
    let action = actions.find(|action| action.action == verb).cloned();
    let run = model.detail().and_then(|detail| detail.run.as_ref());
    model.dialog = action
        .zip(model.subject())
        .map(|(action, subject)| Dialog::open(intent, action, subject, run));
}

pub(super) fn turn_field(model: &mut Model, by: isize) {
    if let Some(dialog) = &mut model.dialog {
        dialog.turn(by);
    }
}

/// Leaves the form; what is under way cannot be called back.
pub(super) fn close(model: &mut Model) {
    let dialog = model.dialog.take();
    if dialog.is_some_and(|dialog| matches!(dialog.stage, Stage::Sending(_))) {
        model.say(
            Tone::Warn,
            "It is already on its way; its answer will be shown here.",
        );
    } else {
        model.say(Tone::Plain, "Nothing was changed.");
    }
}

/// Enter: on to the next field, out by the safe button, to what will happen, or off with the change.
pub(super) fn press(model: &mut Model) -> Vec<Action> {
    let Some(dialog) = model.dialog.as_mut().filter(|dialog| !dialog.is_busy()) else {
        return Vec::new();
    };
    match dialog.field {
        Field::Arg(_) => dialog.turn(1),
        Field::Keep => close(model),
        Field::Reason | Field::Go => {
            dialog.refused = None;
            let intent = dialog.intent;
            match dialog.go() {
                Ok(act) => {
                    let act = act.into_iter();
                    return act.map(|act| Action::Act { intent, act }).collect();
                }
                Err(words) => dialog.refused = Some(words),
            }
        }
    }
    Vec::new()
}
