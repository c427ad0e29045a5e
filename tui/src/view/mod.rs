//! Drawing: the model in, a frame out. No state, no clock.
//!
//! One screen a file. Everything is drawn through `paint`, which escapes all text in one place.

mod audit;
mod bars;
mod bulk;
mod detail;
mod dialog;
mod flow;
mod help;
mod life;
mod list;
mod mails;
mod menu;
mod paint;
mod retention;
mod schedules;
mod small;
mod tenants;
mod tree;

use crate::model::{Model, Screen};
use paint::Paint;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};

/// Below this the small layout is used.
const FULL_MIN: (u16, u16) = (60, 16);
/// Below this one line is shown.
const SMALL_MIN: (u16, u16) = (20, 5);

/// Draws the model into the frame.
pub fn render(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    let mut paint = Paint::new(frame, model.theme);
    if area.width < SMALL_MIN.0 || area.height < SMALL_MIN.1 {
        small::line(&mut paint, area, model);
    } else if area.width < FULL_MIN.0 || area.height < FULL_MIN.1 {
        small::render(&mut paint, area, model);
    } else {
        full(&mut paint, area, model);
    }
}

fn full(paint: &mut Paint<'_, '_>, area: Rect, model: &Model) {
    let rows = [
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(bars::message_rows(paint, area, model)),
        Constraint::Length(1),
    ];
    let [top, body, message, keys] = Layout::vertical(rows).areas(area);
    bars::header(paint, top, model);
    bars::message(paint, message, model);
    bars::footer(paint, keys, model);
    if let Some(scroll) = model.help {
        return help::render(paint, body, model, scroll);
    }
    match model.over.last() {
        Some(shown) => screen(paint, body, model, shown),
        None => list::render(paint, body, model),
    }
    if model.menu.is_some() {
        menu::render(paint, body, model);
    }
    if let Some(open) = &model.dialog {
        dialog::render(paint, body, model, open);
    }
}

fn screen(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, screen: &Screen) {
    match screen {
        Screen::Detail(shown) => detail::render(paint, area, model, shown),
        Screen::Schedules(shown) => schedules::render(paint, area, model, shown),
        Screen::Mails(shown) => mails::render(paint, area, model, shown),
        Screen::Flow(shown) => flow::render(paint, area, model, shown),
        Screen::Retention(shown) => retention::render(paint, area, model, shown),
        Screen::Audit(shown) => audit::render(paint, area, model, shown),
        Screen::Many(shown) => bulk::render_many(paint, area, model, shown),
        Screen::Bulks(shown) => bulk::render_all(paint, area, model, shown),
        Screen::Bulk(shown) => bulk::render(paint, area, model, shown),
        Screen::Tenants(shown) => tenants::render(paint, area, model, shown),
        Screen::Tenant(shown) => tenants::render_one(paint, area, model, shown),
        Screen::Life(shown) => life::render(paint, area, model, shown),
        Screen::Backfill(shown) => life::render_backfill(paint, area, model, shown),
        Screen::Deletion(shown) => life::render_deletion(paint, area, model, shown),
        Screen::Export(shown) => life::render_export(paint, area, model, shown),
    }
}
