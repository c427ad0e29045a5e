//! One verb to many runs: which verb, all operations, and one of them.

use super::paint::Paint;
use super::tree;
use crate::bulk::Bulk;
use crate::bulks::{self, Bulks};
use crate::deeds::flow::runs;
use crate::many::Many;
use crate::model::Model;
use crate::theme::Tone;
use crate::tree::Piece;
use ratatui::layout::{Constraint, Layout, Rect};
use tenure_client::{BulkOperation, BulkStatus};

/// Columns of the bar that shows how far an operation is.
const BAR: usize = 20;

/// Draws how many runs pass the filter, and the verbs.
pub(super) fn render_many(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Many) {
    let heading = format!("ACT ON {}: {}", shown.count(), shown.filter);
    let words = (heading.as_str(), "The server offers no verb for many runs.");
    tree::screen(paint, area, model, words, (shown, shown.known.is_some()));
}

/// Draws all operations.
pub(super) fn render_all(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Bulks) {
    let none = "Nothing was done to many runs yet. Filter the list (/), then press B there.";
    let words = ("OPERATIONS on many runs, newest first", none);
    tree::screen(paint, area, model, words, (shown, shown.all.is_some()));
}

/// Draws one operation: what it does, how far it is, and what came of its runs.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model, shown: &Bulk) {
    let bulk = &shown.bulk;
    let pace = format!("{} a second", bulk.pace);
    let stop = bulk
        .stop_after
        .map(|count| format!(", stops at {count} refused"));
    let what = vec![
        (Tone::Strong, format!("{}  ", bulk.verb)),
        (Tone::Plain, format!("{pace}{}  ", stop.unwrap_or_default())),
        (Tone::Dim, bulk.bulk_operation_id.to_string()),
    ];
    let which = vec![(Tone::Plain, format!("the runs of {}", bulk.filter))];
    let why = vec![(Tone::Dim, format!("by {}: {}", bulk.actor, bulk.reason))];
    let rows = [what, which, why, far(bulk)];
    let [head, body] = Layout::vertical([Constraint::Length(4), Constraint::Min(1)]).areas(area);
    for (row, pieces) in rows.iter().enumerate() {
        paint.row(head, row, pieces);
    }
    let heading = format!("RUNS: {}", shown.listed());
    let words = (heading.as_str(), "None of these.");
    tree::screen(paint, body, model, words, (shown, shown.results.is_some()));
}

/// How far it is, as a bar and in words.
fn far(bulk: &BulkOperation) -> Vec<Piece> {
    let all = u64::try_from(bulk.selected).unwrap_or(0).max(1);
    let ended = bulk.done + bulk.moved + bulk.refused;
    let ended = u64::try_from(ended).unwrap_or(0).min(all);
    let filled = usize::try_from(ended * BAR as u64 / all).unwrap_or(0);
    let bar = format!("[{}{}]  ", "#".repeat(filled), ".".repeat(BAR - filled));
    let words = if bulk.status == BulkStatus::Prepared {
        let selected = runs(i64::from(bulk.selected));
        format!("  {selected} are selected, and wait for somebody to confirm their number")
    } else {
        format!("  {}", bulks::counts(bulk))
    };
    let (tone, status) = bulks::status(bulk.status);
    vec![(Tone::Plain, bar), (tone, status), (Tone::Plain, words)]
}
