//! What a command does in the place where it was given.

use crate::detail::{Detail, Tab};
use crate::dialog::{Dialog, Field, RETRY, SIGNAL, Stage};
use crate::event::Action;
use crate::filter::Filter;
use crate::keymap::{self, Command, Context};
use crate::list::RunList;
use crate::mails::Mails;
use crate::model::{Model, Screen};
use crate::theme::Tone;
use crate::tree::{Folding, Node};
use tui_input::Input;

/// Moves further than any list is long.
const FAR: isize = isize::MAX / 2;

pub(super) fn run(model: &mut Model, command: Command) -> Vec<Action> {
    match command {
        Command::Quit => return vec![Action::Quit],
        Command::Copy => return copy(model),
        Command::Press => return press(model),
        Command::Help => model.help = Some(0),
        Command::Back => back(model),
        Command::Reload => model.link.hurry(model.now),
        Command::Move(by) => step(model, by),
        Command::MovePage(by) => step(model, by * model.page()),
        Command::First => step(model, -FAR),
        Command::Last => step(model, FAR),
        Command::Open => open(model),
        Command::UnfoldAll => fold(model, |folding, _| folding.set_all(true)),
        Command::FoldAll => fold(model, |folding, _| folding.set_all(false)),
        Command::EditFilter => {
            model.list.editing = Some(Input::new(model.list.filter.text.clone()));
        }
        Command::ApplyFilter => apply_filter(model),
        Command::NextPage => turn_page(model, RunList::next_page, "this is the last page"),
        Command::PreviousPage => turn_page(model, RunList::previous_page, "this is the first page"),
        Command::ShowMails => show(model, Screen::Mails(Mails::default())),
        Command::ShowTab(tab) => show_tab(model, |_| tab),
        Command::NextTab => show_tab(model, |tab| tab.turned(1)),
        Command::PreviousTab => show_tab(model, |tab| tab.turned(-1)),
        Command::ToggleWhy => {
            if let Some(detail) = model.detail_mut() {
                detail.why_open = !detail.why_open;
            }
        }
        Command::ShowMenu => show_menu(model),
        Command::Choose => choose(model),
        Command::Signal => prepare(model, SIGNAL),
        Command::Retry => prepare(model, RETRY),
        Command::NextField => turn_field(model, 1),
        Command::PreviousField => turn_field(model, -1),
    }
    Vec::new()
}

/// Why a command cannot be used now, if so.
pub(crate) fn refusal(model: &Model, command: Command) -> Option<String> {
    let verb = match command {
        Command::Signal => SIGNAL,
        Command::Retry => RETRY,
        _ => return None,
    };
    model.detail()?.refusal(verb)
}

fn back(model: &mut Model) {
    match model.context() {
        Context::Help => model.help = None,
        Context::Dialog => close_dialog(model),
        Context::Menu => model.menu = None,
        Context::Filter => model.list.editing = None,
        Context::Detail | Context::Mails => {
            model.over.pop();
            model.link.renew(model.now);
        }
        Context::List if !model.list.filter.is_empty() => {
            model.list = RunList::default();
            model.link.renew(model.now);
        }
        Context::List => {}
    }
}

fn close_dialog(model: &mut Model) {
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

fn step(model: &mut Model, by: isize) {
    let last = keymap::bindings(model.place()).count().saturating_sub(1);
    if let Some(scroll) = &mut model.help {
        *scroll = scroll.saturating_add_signed(by).min(last);
    } else if let Some(place) = model.menu {
        let acts = model.detail().map_or(0, |detail| detail.actions().len());
        let place = place.saturating_add_signed(by).min(acts.saturating_sub(1));
        model.menu = Some(place);
    } else if model.over.is_empty() {
        model.list.step(by);
    } else {
        fold(model, |folding, nodes| folding.step(nodes, by));
    }
}

/// Lets `change` work on the tree on show.
fn fold(model: &mut Model, change: impl FnOnce(&mut Folding, &[Node])) {
    let columns = model.columns();
    match model.over.last_mut() {
        Some(Screen::Detail(detail)) => {
            let nodes = detail.nodes(columns);
            change(detail.folding_mut(), &nodes);
        }
        Some(Screen::Mails(mails)) => {
            let nodes = mails.nodes(columns);
            change(&mut mails.folding, &nodes);
        }
        None => {}
    }
}

fn open(model: &mut Model) {
    if !model.over.is_empty() {
        return fold(model, |folding, nodes| folding.toggle(nodes));
    }
    if let Some(run) = model.list.selected().cloned() {
        show(model, Screen::Detail(Box::new(Detail::open(run))));
    }
}

fn show(model: &mut Model, screen: Screen) {
    model.over.push(screen);
    model.link.renew(model.now);
}

fn show_tab(model: &mut Model, choose: impl FnOnce(Tab) -> Tab) {
    let Some(detail) = model.detail_mut() else {
        return;
    };
    detail.tab = choose(detail.tab);
    model.link.renew_part(model.now);
}

/// Uses the filter as typed. One that is wrong stays in the line, where it is told what is wrong.
fn apply_filter(model: &mut Model) {
    let Some(input) = &model.list.editing else {
        return;
    };
    if let Ok(filter) = Filter::parse(input.value()) {
        model.list = RunList::with_filter(filter);
        model.link.renew(model.now);
    }
}

fn turn_page(model: &mut Model, turn: impl FnOnce(&mut RunList) -> bool, otherwise: &str) {
    if turn(&mut model.list) {
        model.link.renew(model.now);
    } else {
        model.say(Tone::Plain, otherwise);
    }
}

fn copy(model: &mut Model) -> Vec<Action> {
    let mut copied = String::new();
    fold(model, |folding, nodes| {
        let rows = folding.rows(nodes);
        if let Some(row) = rows.get(folding.position(&rows)) {
            copied.clone_from(&row.node.copy);
        }
    });
    if model.over.is_empty() {
        copied = model
            .list
            .selected()
            .map(|run| run.run_id.to_string())
            .unwrap_or_default();
    }
    if copied.is_empty() {
        model.say(Tone::Plain, "There is nothing to copy here.");
        return Vec::new();
    }
    model.say(
        Tone::Plain,
        format!("Copied {} characters.", copied.chars().count()),
    );
    vec![Action::Copy(copied)]
}

fn show_menu(model: &mut Model) {
    if model.detail().is_some_and(|detail| detail.run.is_some()) {
        model.menu = Some(0);
    } else {
        model.say(Tone::Bad, "The run is not loaded yet.");
    }
}

/// Prepares the act under the cursor. A menu from which nothing came stays open.
fn choose(model: &mut Model) {
    let place = model.menu.unwrap_or_default();
    let Some(action) = model
        .detail()
        .and_then(|detail| detail.actions().get(place))
    else {
        return;
    };
    let verb = action.action.clone();
    prepare(model, &verb);
    if model.dialog.is_some() {
        model.menu = None;
    }
}

fn prepare(model: &mut Model, verb: &str) {
    if let Some(reason) = model.detail().and_then(|detail| detail.refusal(verb)) {
        let words = format!("You cannot {verb} this run now: {reason}");
        return model.say(Tone::Bad, words);
    }
    let intent = model.new_intent();
    model.dialog = model.detail().and_then(|detail| {
        let action = detail.action(verb)?.clone();
        Dialog::open(intent, action, detail)
    });
}

fn turn_field(model: &mut Model, by: isize) {
    if let Some(dialog) = &mut model.dialog {
        dialog.turn(by);
    }
}

/// Enter: on to the next field, out by the safe button, or off with the change.
fn press(model: &mut Model) -> Vec<Action> {
    let Some(dialog) = model.dialog.as_mut().filter(|dialog| !dialog.is_busy()) else {
        return Vec::new();
    };
    match dialog.field {
        Field::Arg(_) => dialog.turn(1),
        Field::Keep => close_dialog(model),
        Field::Reason | Field::Go => {
            dialog.refused = None;
            match dialog.go() {
                Ok(act) => {
                    let intent = dialog.intent;
                    return act
                        .into_iter()
                        .map(|act| Action::Act { intent, act })
                        .collect();
                }
                Err(words) => dialog.refused = Some(words),
            }
        }
    }
    Vec::new()
}
