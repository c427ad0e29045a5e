//! What can be done here: every verb, and why one is refused.

use super::bars;
use super::paint::{self, Paint};
use crate::model::Model;
use crate::subject::Offer;
use crate::theme::Tone;
use crate::tree::Piece;
use ratatui::layout::{Margin, Rect};

/// Columns for the names of verbs.
const VERB_COLUMNS: usize = 15;

/// Draws the menu over what is below it: the verbs, and under a rule what the one under the cursor does.
pub(super) fn render(paint: &mut Paint<'_, '_>, area: Rect, model: &Model) {
    let actions = model.offers();
    // What was under the cursor and is gone leaves no cursor: another verb was not looked at.
    let found = model.menu.as_ref().and_then(|menu| menu.position(&actions));
    let place = found.unwrap_or(0);
    let title = actions.get(place).map_or("", |offer| &offer.subject.title);
    let heading = format!("{}: act on {title}", bars::environment_name(model));
    let inside = Rect {
        width: area.width.saturating_sub(8).min(86),
        ..area
    };
    let chosen = found.and_then(|place| actions.get(place));
    let told = chosen.map_or_else(Vec::new, |action| {
        let words = told(action);
        words
            .iter()
            .flat_map(|(tone, words)| {
                let lines = paint.wrap(inside, words);
                lines.into_iter().map(|line| (*tone, line))
            })
            .collect()
    });
    let rows = actions.len() + 1 + told.len();
    let height = u16::try_from(rows + 2).unwrap_or(u16::MAX).min(area.height);
    let boxed = Rect {
        x: area.x + (area.width - inside.width - 4) / 2,
        y: area.y + (area.height - height) / 2,
        width: inside.width + 4,
        height,
    };
    let inner = paint.boxed(boxed, &heading).inner(Margin::new(1, 0));
    let verbs = Rect {
        height: inner.height.saturating_sub(as_rows(told.len() + 1)),
        ..inner
    };
    let first = paint::offset(place, actions.len(), usize::from(verbs.height));
    let shown = actions.iter().enumerate().skip(first);
    for (row, (at, action)) in shown.take(usize::from(verbs.height)).enumerate() {
        let pieces = line(paint, action, found == Some(at));
        if found == Some(at) {
            paint.row_selected(verbs, row, &pieces);
        } else {
            paint.row(verbs, row, &pieces);
        }
    }
    let below = Rect {
        y: verbs.y + verbs.height,
        height: inner.height - verbs.height,
        ..inner
    };
    paint.rule(below, 0, "");
    for (row, piece) in told.into_iter().enumerate() {
        paint.row(below, row + 1, &[piece]);
    }
}

fn line(paint: &Paint<'_, '_>, offer: &Offer, under_cursor: bool) -> Vec<Piece> {
    let mark = if under_cursor { "> " } else { "  " };
    let (strong, tone, words) = match &offer.refused {
        None => (Tone::Strong, Tone::Plain, offer.form.help.clone()),
        Some(why) => (Tone::Dim, Tone::Dim, format!("[not now: {why}]")),
    };
    vec![
        (Tone::Strong, mark.to_owned()),
        (strong, paint.cell(&offer.form.verb, VERB_COLUMNS)),
        (tone, words),
    ]
}

/// What a verb does and takes, and why it is refused.
fn told(offer: &Offer) -> Vec<Piece> {
    let args = offer.form.args.iter().map(|arg| {
        let optional = if arg.required { "" } else { " (optional)" };
        format!("{}{optional}", arg.name)
    });
    let reason = offer.form.reason.then(|| "a reason".to_owned());
    let args: Vec<_> = args.chain(reason).collect();
    let mut pieces = vec![
        (Tone::Plain, offer.form.help.clone()),
        (Tone::Dim, format!("Takes {}.", args.join(", "))),
    ];
    if let Some(why) = &offer.refused {
        pieces.push((Tone::Warn, format!("Not now: {why}")));
    }
    pieces
}

fn as_rows(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}
