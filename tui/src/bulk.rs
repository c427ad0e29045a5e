//! One operation on many runs: how far it is, and what came of each run.

use crate::deeds::bulk;
use crate::event::{Answer, Door, Request};
use crate::keymap::Context;
use crate::pages::{Paged, Pages};
use crate::place::{self, Place, cell};
use crate::subject::{Offer, Target};
use crate::theme::Tone;
use crate::tree::{Folding, Node};
use tenure_client::{BulkOperation, BulkOutcome, BulkResult, Whoami};

/// What is looked for among the results, in the order in which Tab goes through.
const OUTCOMES: [Option<BulkOutcome>; 5] = [
    None,
    Some(BulkOutcome::Refused),
    Some(BulkOutcome::Moved),
    Some(BulkOutcome::Done),
    Some(BulkOutcome::Pending),
];

/// An operation, looked at closely.
#[derive(Clone, Debug)]
pub struct Bulk {
    /// The operation, as the server described it last.
    pub(crate) bulk: BulkOperation,
    /// Only runs of which this came.
    pub(crate) outcome: Option<BulkOutcome>,
    /// A page of its runs; `None` until the first answer.
    pub(crate) results: Option<Vec<BulkResult>>,
    pages: Pages,
    folding: Folding,
}

impl Bulk {
    /// Opens an operation.
    pub(crate) fn open(bulk: BulkOperation) -> Self {
        Self {
            bulk,
            outcome: None,
            results: None,
            pages: Pages::default(),
            folding: Folding::default(),
        }
    }

    /// Looks for another outcome, so many further around the end.
    pub(crate) fn turn_outcome(&mut self, by: isize) {
        let here = OUTCOMES.iter().position(|one| *one == self.outcome);
        let count = OUTCOMES.len().cast_signed();
        let there = (here.unwrap_or(0).cast_signed() + by).rem_euclid(count);
        self.outcome = OUTCOMES.get(there.cast_unsigned()).copied().flatten();
        self.pages = Pages::default();
        self.results = None;
    }

    /// What is listed, in words: which outcome, and which page.
    pub(crate) fn listed(&self) -> String {
        let which = self.outcome.map_or("all runs", BulkOutcome::as_str);
        format!("{which}{}", self.pages.words())
    }
}

impl Paged for Bulk {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    fn pages_mut(&mut self) -> &mut Pages {
        &mut self.pages
    }

    fn forget(&mut self) {
        self.results = None;
    }
}

impl Place for Bulk {
    fn context(&self) -> Context {
        Context::Bulk
    }

    fn request(&self) -> Request {
        Request::Bulk {
            bulk_operation_id: self.bulk.bulk_operation_id,
            outcome: self.outcome,
            cursor: self.pages.cursor(),
        }
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Bulk(bulk, page) = answer {
            self.bulk = *bulk;
            self.results = Some(page.items);
            self.pages.followed_by(page.next_cursor);
        }
        false
    }

    fn nodes(&self, _columns: usize) -> Vec<Node> {
        self.results.iter().flatten().map(node).collect()
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    fn offers(&self, who: &Whoami, _columns: usize) -> Vec<Offer> {
        bulk::offers(who, &self.bulk)
    }

    fn latest(&self, target: &Target) -> Option<String> {
        let now = Target::Bulk(Box::new(self.bulk.clone()));
        now.is_same(target).then(|| now.seen())
    }

    fn door(&self, columns: usize) -> Option<Door> {
        let cursor = place::cursor(self, columns)?;
        let mut results = self.results.iter().flatten();
        let run = results.find(|result| result.run_id.to_string() == cursor)?;
        Some(Door::Run(run.run_id))
    }
}

fn node(result: &BulkResult) -> Node {
    let (tone, outcome) = match result.outcome {
        BulkOutcome::Pending => (Tone::Dim, ". pending"),
        BulkOutcome::Done => (Tone::Good, "+ done"),
        BulkOutcome::Moved => (Tone::Warn, "- moved on"),
        BulkOutcome::Refused => (Tone::Bad, "x refused"),
    };
    let id = result.run_id.to_string();
    let tenant = result.tenant_name.clone();
    let tenant = tenant.unwrap_or_else(|| result.tenant_id.to_string());
    let line = vec![
        cell(tone, outcome, 11),
        cell(Tone::Strong, &tenant, 18),
        cell(Tone::Plain, &result.workflow, 13),
        cell(Tone::Dim, &result.key, 12),
        (Tone::Dim, result.detail.clone().unwrap_or_default()),
    ];
    Node::leaf(&id, line, &id)
}
