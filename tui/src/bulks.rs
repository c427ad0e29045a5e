//! Operations on many runs, the newest first.

use crate::deeds::{bulk, flow::runs};
use crate::event::{Answer, Door, Request};
use crate::keymap::Context;
use crate::place::{self, Place, cell, note};
use crate::subject::{Offer, Target};
use crate::theme::Tone;
use crate::tree::{Folding, Node, Piece};
use tenure_client::{BulkOperation, BulkStatus, Whoami};

/// All operations.
#[derive(Clone, Debug, Default)]
pub struct Bulks {
    /// The operations; `None` until the first answer.
    pub(crate) all: Option<Vec<BulkOperation>>,
    folding: Folding,
}

impl Bulks {
    fn chosen(&self, columns: usize) -> Option<&BulkOperation> {
        let cursor = place::cursor(self, columns)?;
        let mut all = self.all.iter().flatten();
        all.find(|bulk| place::is_on(&cursor, &id(bulk)))
    }
}

impl Place for Bulks {
    fn context(&self) -> Context {
        Context::Bulks
    }

    fn request(&self) -> Request {
        Request::Bulks
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Bulks(all) = answer {
            self.all = Some(all);
        }
        false
    }

    fn nodes(&self, _columns: usize) -> Vec<Node> {
        self.all.iter().flatten().map(node).collect()
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    fn offers(&self, who: &Whoami, columns: usize) -> Vec<Offer> {
        let chosen = self.chosen(columns).into_iter();
        chosen.flat_map(|bulk| bulk::offers(who, bulk)).collect()
    }

    fn latest(&self, target: &Target) -> Option<String> {
        let mut all = self.all.iter().flatten();
        all.find_map(|bulk| {
            let now = Target::Bulk(Box::new(bulk.clone()));
            now.is_same(target).then(|| now.seen())
        })
    }

    fn door(&self, columns: usize) -> Option<Door> {
        let chosen = self.chosen(columns)?;
        Some(Door::Bulk(Box::new(chosen.clone())))
    }
}

/// The status of an operation, with its sign.
pub(crate) fn status(status: BulkStatus) -> Piece {
    let (tone, sign) = match status {
        BulkStatus::Prepared => (Tone::Warn, '?'),
        BulkStatus::Acting => (Tone::Good, '*'),
        BulkStatus::Done => (Tone::Good, '+'),
        BulkStatus::Stopped => (Tone::Bad, '!'),
        BulkStatus::Aborted => (Tone::Dim, '-'),
        BulkStatus::Unknown => (Tone::Plain, '.'),
    };
    (tone, format!("{sign} {}", status.as_str()))
}

/// What came of its runs, as far as it is.
pub(crate) fn counts(bulk: &BulkOperation) -> String {
    let mut words = format!("{} of {} done", bulk.done, bulk.selected);
    for (count, word) in [(bulk.moved, "moved on"), (bulk.refused, "refused")] {
        if count > 0 {
            words.push_str(&format!(", {count} {word}"));
        }
    }
    words
}

fn id(bulk: &BulkOperation) -> String {
    format!("bulk {}", bulk.bulk_operation_id)
}

fn node(bulk: &BulkOperation) -> Node {
    let id = id(bulk);
    let (tone, status) = status(bulk.status);
    let created = bulk.created_at.format("%d %b %H:%M").to_string();
    let came = if bulk.status == BulkStatus::Prepared {
        format!("{} to confirm", runs(i64::from(bulk.selected)))
    } else {
        counts(bulk)
    };
    let line = vec![
        cell(Tone::Dim, &created, 12),
        cell(tone, &status, 10),
        cell(Tone::Strong, &bulk.verb, 13),
        cell(Tone::Plain, &came, 24),
        (Tone::Dim, bulk.filter.clone()),
    ];
    let children = [
        note(&id, "filter", bulk.filter.clone()),
        note(&id, "why", format!("by {}: {}", bulk.actor, bulk.reason)),
    ];
    let children = children.into_iter().flatten().collect();
    Node::leaf(&id, line, bulk.bulk_operation_id.to_string()).with_children(children)
}
