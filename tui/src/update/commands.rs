//! What a command does in the place where it was given.

use super::acts;
use crate::detail::{Detail, Tab};
use crate::dialog::{RETRY, SIGNAL};
use crate::event::Action;
use crate::filter::Filter;
use crate::keymap::{self, Command, Context};
use crate::list::RunList;
use crate::mails::Mails;
use crate::model::{Model, Screen};
use crate::schedules::Schedules;
use crate::theme::Tone;
use crate::tree::{Folding, Node};
use tui_input::Input;

/// Moves further than any list is long.
const FAR: isize = isize::MAX / 2;

pub(super) fn run(model: &mut Model, command: Command) -> Vec<Action> {
    match command {
        Command::Quit => return vec![Action::Quit],
        Command::Copy => return copy(model),
        Command::Press => return acts::press(model),
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
        Command::ShowSchedules => show(model, Screen::Schedules(Schedules::default())),
        Command::ShowTab(tab) => show_tab(model, |_| tab),
        Command::NextTab => show_tab(model, |tab| tab.turned(1)),
        Command::PreviousTab => show_tab(model, |tab| tab.turned(-1)),
        Command::ToggleWhy => {
            if let Some(detail) = model.detail_mut() {
                detail.why_open = !detail.why_open;
            }
        }
        Command::ShowMenu => acts::show_menu(model),
        Command::Choose => acts::choose(model),
        Command::Signal => acts::prepare(model, SIGNAL),
        Command::Retry => acts::prepare(model, RETRY),
        Command::NextField => acts::turn_field(model, 1),
        Command::PreviousField => acts::turn_field(model, -1),
    }
    Vec::new()
}

fn back(model: &mut Model) {
    match model.context() {
        Context::Help => model.help = None,
        Context::Dialog => acts::close(model),
        Context::Menu => model.menu = None,
        Context::Filter => model.list.editing = None,
        Context::Detail | Context::Mails | Context::Schedules => {
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

fn step(model: &mut Model, by: isize) {
    let last = keymap::bindings(model.place()).count().saturating_sub(1);
    if let Some(scroll) = &mut model.help {
        *scroll = scroll.saturating_add_signed(by).min(last);
    } else if let Some(place) = model.menu {
        let last = model.actions().len().saturating_sub(1);
        let place = place.saturating_add_signed(by).min(last);
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
        Some(Screen::Schedules(schedules)) => {
            let nodes = schedules.nodes();
            change(&mut schedules.folding, &nodes);
            if schedules.lacks_detail() {
                model.link.hurry(model.now);
            }
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
