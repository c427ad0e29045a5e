//! What a command does in the place where it was given.

use super::acts;
use crate::audit::Audit;
use crate::bulk::Bulk;
use crate::bulks::Bulks;
use crate::deeds::bulk::CONFIRM;
use crate::deeds::runs::{RETRY, REVEAL, SIGNAL};
use crate::detail::{Detail, Tab};
use crate::event::{Action, Door};
use crate::filter::Filter;
use crate::flow::Flow;
use crate::keymap::{self, Command, Context};
use crate::life::{BackfillPage, DeletionPage, ExportPage, Life, Shelf};
use crate::list::RunList;
use crate::mails::Mails;
use crate::many::Many;
use crate::model::{Model, Screen};
use crate::retention::Retention;
use crate::reveal::Revealed;
use crate::schedules::Schedules;
use crate::tenant::TenantPage;
use crate::tenants::Tenants;
use crate::theme::Tone;
use crate::tree::{Folding, Node};
use tenure_client::BulkStatus;
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
        Command::Unfold => fold(model, |folding, nodes| folding.toggle(nodes)),
        Command::UnfoldAll => fold(model, |folding, _| folding.set_all(true)),
        Command::FoldAll => fold(model, |folding, _| folding.set_all(false)),
        Command::EditFilter => edit_filter(model),
        Command::ApplyFilter => apply_filter(model),
        Command::NextPage => turn_page(model, true),
        Command::PreviousPage => turn_page(model, false),
        Command::ShowMails => show(model, Screen::Mails(Mails::default())),
        Command::ShowSchedules => show(model, Screen::Schedules(Schedules::default())),
        Command::ShowFlow => show(model, Screen::Flow(Flow::default())),
        Command::ShowRetention => show(model, Screen::Retention(Retention::default())),
        Command::ShowAudit => show_audit(model),
        Command::ShowBulks => show(model, Screen::Bulks(Bulks::default())),
        Command::FindTenant => show(model, Screen::Tenants(Tenants::default())),
        Command::ShowTenant => show_tenant(model),
        Command::ShowLife(shelf) => show_life(model, shelf),
        Command::ActOnMany => act_on_many(model),
        Command::StartRun => acts::start_run(model),
        Command::ShowTab(tab) => show_tab(model, |_| tab),
        Command::NextTab => turn_tab(model, 1),
        Command::PreviousTab => turn_tab(model, -1),
        Command::ToggleWhy => {
            if let Some(detail) = model.detail_mut() {
                detail.why_open = !detail.why_open;
            }
        }
        Command::ShowMenu => acts::show_menu(model),
        Command::Choose => acts::choose(model),
        Command::Signal => acts::prepare_verb(model, SIGNAL),
        Command::Retry => acts::prepare_verb(model, RETRY),
        Command::Reveal => acts::prepare_verb(model, REVEAL),
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
        Context::Filter => match model.over.last_mut() {
            Some(Screen::Audit(audit)) => audit.editing = None,
            _ => model.list.editing = None,
        },
        Context::Find if leave_typing(model) => {}
        Context::List if !model.list.filter.is_empty() => {
            model.list = RunList::default();
            model.link.renew(model.now);
        }
        Context::List => {}
        _ => {
            model.over.pop();
            model.link.renew(model.now);
        }
    }
}

/// Leaves the line for what is looked for as it was; nothing to go back to if that is nothing.
fn leave_typing(model: &mut Model) -> bool {
    match model.over.last_mut() {
        Some(Screen::Tenants(tenants)) if tenants.found.is_some() => {
            tenants.editing = None;
            true
        }
        _ => false,
    }
}

fn step(model: &mut Model, by: isize) {
    let last = keymap::bindings(model.place()).count().saturating_sub(1);
    if let Some(scroll) = &mut model.help {
        *scroll = scroll.saturating_add_signed(by).min(last);
    } else if let Some(mut menu) = model.menu.take() {
        menu.step(&model.offers(), by);
        model.menu = Some(menu);
    } else if model.over.is_empty() {
        model.list.step(by);
    } else {
        fold(model, |folding, nodes| folding.step(nodes, by));
    }
}

/// Lets `change` work on the tree on show.
fn fold(model: &mut Model, change: impl FnOnce(&mut Folding, &[Node])) {
    let columns = model.columns();
    let Some(screen) = model.over.last_mut() else {
        return;
    };
    let place = screen.place_mut();
    let nodes = place.nodes(columns);
    change(place.folding_mut(), &nodes);
    if place.lacks() {
        model.link.hurry(model.now);
    }
}

/// Goes through the door under the cursor; where there is none, the line unfolds.
fn open(model: &mut Model) {
    let Some(screen) = model.over.last() else {
        if let Some(run) = model.list.selected().cloned() {
            show(model, Screen::Detail(Box::new(Detail::open(run))));
        }
        return;
    };
    match screen.place().door(model.columns()) {
        Some(door) => enter(model, door),
        None => fold(model, |folding, nodes| folding.toggle(nodes)),
    }
}

/// Shows what is behind a door.
pub(super) fn enter(model: &mut Model, door: Door) {
    let screen = match door {
        Door::Run(run_id) => Screen::Detail(Box::new(Detail::of(run_id))),
        Door::Tenant(tenant_id, name) => {
            Screen::Tenant(Box::new(TenantPage::open(tenant_id, name)))
        }
        Door::Bulk(bulk) => Screen::Bulk(Box::new(Bulk::open(*bulk))),
        Door::Backfill(of) => Screen::Backfill(Box::new(BackfillPage::open(*of))),
        Door::Deletion(of, link) => Screen::Deletion(Box::new(DeletionPage::open(*of, link))),
        Door::Export(tenant, of, link) => {
            Screen::Export(Box::new(ExportPage::open(tenant, *of, link)))
        }
    };
    show(model, screen);
}

/// Shows what came of a change. An operation that waits for its number is asked for it at once.
pub(super) fn enter_new(model: &mut Model, door: Door) {
    let is_prepared = matches!(&door, Door::Bulk(bulk) if bulk.status == BulkStatus::Prepared);
    enter(model, door);
    if is_prepared {
        acts::prepare_verb(model, CONFIRM);
    }
}

fn show(model: &mut Model, screen: Screen) {
    // What is private of a run is shown for as long as one stays with it.
    model.revealed_mut().for_each(Revealed::clear);
    model.over.push(screen);
    model.link.renew(model.now);
}

/// The tenant of the run on show.
fn show_tenant(model: &mut Model) {
    let Some(run) = model.detail().and_then(|detail| detail.summary.as_ref()) else {
        return model.say(Tone::Bad, "The run is not known yet.");
    };
    let door = Door::Tenant(run.tenant_id, run.tenant_name.clone());
    enter(model, door);
}

/// What people did: to the run or the tenant on show, else all of it.
fn show_audit(model: &mut Model) {
    let audit = match model.over.last() {
        Some(Screen::Detail(detail)) => Audit::of_run(detail.run_id),
        Some(Screen::Tenant(page)) => Audit::of_tenant(page.tenant_id),
        _ => Audit::default(),
    };
    show(model, Screen::Audit(Box::new(audit)));
}

fn act_on_many(model: &mut Model) {
    let filter = &model.list.filter;
    if filter.is_empty() {
        return model.say(Tone::Bad, format!("Not yet: {}.", acts::NO_FILTER));
    }
    let many = Many::new(filter.text.clone());
    show(model, Screen::Many(many));
}

fn edit_filter(model: &mut Model) {
    match model.over.last_mut() {
        Some(Screen::Tenants(tenants)) => {
            tenants.editing = Some(Input::new(tenants.query.clone()));
        }
        Some(Screen::Audit(audit)) => audit.edit(),
        _ => model.list.editing = Some(Input::new(model.list.filter.text.clone())),
    }
}

fn show_tab(model: &mut Model, choose: impl FnOnce(Tab) -> Tab) {
    let Some(detail) = model.detail_mut() else {
        return;
    };
    detail.tab = choose(detail.tab);
    model.link.renew_part(model.now);
}

/// A shelf of what becomes of tenants' data; another one, where they are on show.
fn show_life(model: &mut Model, shelf: Shelf) {
    if let Some(Screen::Life(life)) = model.over.last_mut() {
        life.turn_to(shelf);
        return model.link.renew(model.now);
    }
    show(model, Screen::Life(Box::new(Life::on(shelf))));
}

/// The next or the last of the tabs, or of what is listed.
fn turn_tab(model: &mut Model, by: isize) {
    match model.over.last_mut() {
        Some(Screen::Bulk(bulk)) => bulk.turn_outcome(by),
        Some(Screen::Backfill(page)) => page.turn_status(by),
        Some(Screen::Life(life)) => {
            life.turn_to(life.shelf.turned(by));
            return model.link.renew(model.now);
        }
        _ => return show_tab(model, |tab| tab.turned(by)),
    }
    model.link.renew_part(model.now);
}

/// Uses the filter as typed. One that is wrong stays in the line, where it is told what is wrong.
fn apply_filter(model: &mut Model) {
    match model.over.last_mut() {
        Some(Screen::Tenants(tenants)) => {
            tenants.search();
            return model.link.renew(model.now);
        }
        Some(Screen::Audit(audit)) => {
            if audit.search() {
                model.link.renew(model.now);
            }
            return;
        }
        _ => {}
    }
    let Some(input) = &model.list.editing else {
        return;
    };
    if let Ok(filter) = Filter::parse(input.value()) {
        model.list = RunList::with_filter(filter);
        model.link.renew(model.now);
    }
}

fn turn_page(model: &mut Model, on: bool) {
    let turned = model.paged_mut().is_some_and(|paged| paged.turn(on));
    if turned {
        model.link.renew(model.now);
    } else {
        model.say(Tone::Plain, acts::no_page(on));
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
