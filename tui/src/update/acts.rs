//! The way to a change: menu, form, and the buttons at its end.

use crate::deeds::runs::{RETRY, REVEAL, SIGNAL};
use crate::deeds::start;
use crate::dialog::{Dialog, Field, Stage};
use crate::event::Action;
use crate::keymap::Command;
use crate::menu::Menu;
use crate::model::{Model, Screen};
use crate::subject::Offer;
use crate::theme::Tone;

/// Why a command cannot be used now, if so.
pub(crate) fn refusal(model: &Model, command: Command) -> Option<String> {
    match command {
        Command::Signal => refused(model, SIGNAL),
        Command::Retry => refused(model, RETRY),
        Command::Reveal => refused(model, REVEAL),
        Command::StartRun => new_run(model).refused,
        Command::NextPage => without_page(model, true),
        Command::PreviousPage => without_page(model, false),
        Command::ActOnMany if model.list.filter.is_empty() => Some(NO_FILTER.to_owned()),
        _ => None,
    }
}

/// Said where an operation on many runs would be one on all of them.
pub(super) const NO_FILTER: &str = "filter the list first (/): not every run can be meant";

fn without_page(model: &Model, on: bool) -> Option<String> {
    let there = model.paged().is_some_and(|paged| paged.pages().has(on));
    (!there).then(|| no_page(on).to_owned())
}

/// Said where there is no page further on, or further back.
pub(super) fn no_page(on: bool) -> &'static str {
    if on {
        "this is the last page"
    } else {
        "this is the first page"
    }
}

/// Why a verb cannot be used now. The server decides.
fn refused(model: &Model, verb: &str) -> Option<String> {
    let offers = model.offers();
    if offers.is_empty() {
        return Some("the server has not said yet what may be done".to_owned());
    }
    match offers.into_iter().find(|offer| offer.form.verb == verb) {
        None => Some("the server does not offer it".to_owned()),
        Some(offer) => offer.refused,
    }
}

/// Opens the menu at the first verb that can be done.
pub(super) fn show_menu(model: &mut Model) {
    model.menu = Menu::open(&model.offers());
    if model.menu.is_none() {
        model.say(Tone::Bad, "There is nothing to act on yet.");
    }
}

/// Prepares the act under the cursor. A menu from which nothing came stays open.
pub(super) fn choose(model: &mut Model) {
    let offer = match (&model.menu, model.over.last()) {
        (Some(menu), _) => {
            let offers = model.offers();
            let Some(place) = menu.position(&offers) else {
                return choose_anew(model);
            };
            offers.into_iter().nth(place)
        }
        (None, Some(Screen::Many(many))) => many.chosen(model.columns()),
        (None, _) => None,
    };
    let Some(offer) = offer else {
        return;
    };
    prepare(model, offer);
    if model.dialog.is_some() {
        model.menu = None;
    }
}

/// What the person looked at is not offered any more; what is there instead was not asked for.
fn choose_anew(model: &mut Model) {
    let verb = model.menu.as_ref().map(|menu| menu.verb().to_owned());
    let verb = verb.unwrap_or_default();
    let words = format!("{verb} is not offered any more: it has changed meanwhile. Choose again.");
    model.menu = Menu::open(&model.offers());
    model.say(Tone::Bad, words);
}

/// Prepares a verb by its name.
pub(super) fn prepare_verb(model: &mut Model, verb: &str) {
    let mut offers = model.offers().into_iter();
    match offers.find(|offer| offer.form.verb == verb) {
        Some(offer) => prepare(model, offer),
        None => {
            let why = refused(model, verb).unwrap_or_default();
            model.say(Tone::Bad, format!("You cannot {verb} now: {why}"));
        }
    }
}

/// Prepares a new run, like the one under the cursor.
pub(super) fn start_run(model: &mut Model) {
    prepare(model, new_run(model));
}

fn new_run(model: &Model) -> Offer {
    let like = model.list.selected();
    // The engine's own runs are no pattern for anybody.
    let like = like.filter(|run| run.tenant_name.as_deref() != Some("system"));
    let tenant = like.map(|run| {
        let name = run.tenant_name.as_deref();
        (run.tenant_id, name.unwrap_or("a tenant"))
    });
    let workflow = like.map(|run| run.workflow.as_str());
    start::offer_run(&model.who, tenant, workflow)
}

/// Opens the form of a verb, or says why not.
pub(super) fn prepare(model: &mut Model, offer: Offer) {
    if let Some(reason) = &offer.refused {
        let (verb, noun) = (&offer.form.verb, offer.subject.target.noun());
        let words = format!("You cannot {verb} this {noun} now: {reason}");
        return model.say(Tone::Bad, words);
    }
    let intent = model.new_intent();
    model.dialog = Some(Dialog::open(intent, offer));
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
    if dialog.complete() {
        // It stays in the field, so that what was written out is seen before it counts.
        return Vec::new();
    }
    match dialog.field {
        Field::Arg(_) if !dialog.is_at_end() => dialog.turn(1),
        Field::Keep => close(model),
        Field::Arg(_) | Field::Reason | Field::Go => {
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
