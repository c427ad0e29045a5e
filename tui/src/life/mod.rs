//! What becomes of tenants' data in the product: backfills, placements, deletions, and what keeping
//! its rows comes to. One page with a shelf for each; what is worth a page of its own has one behind its
//! line.

mod backfill;
mod deletion;
mod export;
mod keeping;
mod placement;
mod tenant;

pub use backfill::BackfillPage;
pub use deletion::DeletionPage;
pub use export::ExportPage;

pub(crate) use backfill::{concerns, phase, ranges, reads, rows, speed, status as backfill_status};
pub(crate) use deletion::{due, people, state as deletion_state, way_back};
pub(crate) use placement::words;
pub(crate) use tenant::{
    archives, being_deleted, deletions, exports, holds, latest, on_line, product,
};

use crate::deeds::life as deeds;
use crate::event::{Answer, Around, Door, LifeAnswer, Lines, Names, Request};
use crate::keymap::Context;
use crate::pages::{Paged, Pages};
use crate::place::{self, Place, is_on};
use crate::subject::{Offer, Target};
use crate::text;
use crate::tree::{Folding, Node};
use std::collections::BTreeMap;
use tenure_client::Whoami;
use uuid::Uuid;

/// A part of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shelf {
    /// Changes of columns.
    #[default]
    Backfills,
    /// Where tenants' rows are, and what is on its way.
    Placements,
    /// Deletions of tenants.
    Deletions,
    /// Policies, sweeps, restores, exports.
    Keeping,
}

impl Shelf {
    /// Every shelf, from the left.
    pub const ALL: [Self; 4] = [
        Self::Backfills,
        Self::Placements,
        Self::Deletions,
        Self::Keeping,
    ];

    /// Its heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Backfills => "backfills",
            Self::Placements => "placements",
            Self::Deletions => "deletions",
            Self::Keeping => "keeping",
        }
    }

    /// What is said where it is empty.
    pub(crate) const fn none(self) -> &'static str {
        match self {
            Self::Backfills => {
                "No backfill was started yet: `tenure backfill start FILE` does, from a file."
            }
            Self::Placements => "",
            Self::Deletions => {
                "No deletion was asked for yet. That is done on the tenant's page (t in the list)."
            }
            Self::Keeping => "",
        }
    }

    /// The shelf so many places further, around the end.
    pub(crate) fn turned(self, by: isize) -> Self {
        let here = Self::ALL.iter().position(|shelf| *shelf == self);
        let count = Self::ALL.len().cast_signed();
        let there = (here.unwrap_or(0).cast_signed() + by).rem_euclid(count);
        let there = Self::ALL.get(there.cast_unsigned());
        there.copied().unwrap_or_default()
    }
}

/// The page.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// The shelf on show.
    pub(crate) shelf: Shelf,
    /// What the server said of it; `None` until the first answer.
    pub(crate) known: Option<LifeAnswer>,
    pages: Pages,
    foldings: BTreeMap<Shelf, Folding>,
}

impl Life {
    /// Opens it at a shelf.
    pub(crate) fn on(shelf: Shelf) -> Self {
        Self {
            shelf,
            ..Self::default()
        }
    }

    /// Goes to another shelf.
    pub(crate) fn turn_to(&mut self, shelf: Shelf) {
        self.shelf = shelf;
        self.known = None;
        self.pages = Pages::default();
    }

    /// The page of what is listed, in words.
    pub(crate) fn page(&self) -> String {
        self.pages.words()
    }

    /// What is on it: each line's id, what can be acted on, and where it leads.
    fn things(&self) -> Vec<(String, Option<Target>, Option<Door>)> {
        let Some(known) = &self.known else {
            return Vec::new();
        };
        let mut things: Vec<_> = match &known.lines {
            Lines::Backfills(all) => all.iter().map(backfill::thing).collect(),
            Lines::Placements(all) => all.iter().map(placement::thing).collect(),
            Lines::Deletions(all) => all.iter().map(deletion::thing).collect(),
            Lines::Jobs(all) => all.iter().map(run_thing).collect(),
        };
        if let Around::Moves { moves, migrations } = &known.around {
            things.extend(moves.iter().flatten().map(run_thing));
            let migrations = migrations.iter().flatten();
            things.extend(migrations.map(|(one, _)| placement::migration_thing(one)));
        }
        things
    }

    fn on_cursor(&self, columns: usize) -> Option<(String, Option<Target>, Option<Door>)> {
        let cursor = place::cursor(self, columns)?;
        let mut things = self.things().into_iter();
        things.find(|(id, ..)| is_on(&cursor, id))
    }
}

impl Paged for Life {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    fn pages_mut(&mut self) -> &mut Pages {
        &mut self.pages
    }

    fn forget(&mut self) {
        self.known = None;
    }
}

impl Place for Life {
    fn context(&self) -> Context {
        Context::Life
    }

    fn request(&self) -> Request {
        Request::Life {
            shelf: self.shelf,
            cursor: self.pages.cursor(),
        }
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Life(known) = answer {
            self.pages.followed_by(known.next_cursor.clone());
            self.known = Some(*known);
        }
        false
    }

    fn nodes(&self, columns: usize) -> Vec<Node> {
        let Some(known) = &self.known else {
            return Vec::new();
        };
        let names = &known.names;
        match (&known.lines, &known.around) {
            (Lines::Backfills(all), _) => {
                let lines = all.iter();
                lines.map(|one| backfill::node(one, columns)).collect()
            }
            (Lines::Deletions(all), _) => {
                let lines = all.iter();
                lines.map(|one| deletion::node(one, names)).collect()
            }
            (Lines::Placements(all), around) => placement::nodes(all, around, names, columns),
            (Lines::Jobs(all), around) => keeping::nodes(all, around, names),
        }
    }

    fn folding(&self) -> Folding {
        self.foldings.get(&self.shelf).cloned().unwrap_or_default()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        self.foldings.entry(self.shelf).or_default()
    }

    fn offers(&self, who: &Whoami, columns: usize) -> Vec<Offer> {
        let none = Names::new();
        let names = self.known.as_ref().map_or(&none, |known| &known.names);
        match self.on_cursor(columns) {
            Some((_, Some(target), _)) => deeds::offers(who, &target, names),
            _ => Vec::new(),
        }
    }

    fn latest(&self, target: &Target) -> Option<String> {
        let mut now = self.things().into_iter().filter_map(|(_, now, _)| now);
        now.find(|now| now.is_same(target)).map(|now| now.seen())
    }

    fn door(&self, columns: usize) -> Option<Door> {
        self.on_cursor(columns)?.2
    }
}

fn run_thing(run: &tenure_client::RunSummary) -> (String, Option<Target>, Option<Door>) {
    let id = format!("run {}", run.run_id);
    (id, None, Some(Door::Run(run.run_id)))
}

/// What people call a tenant, or the end of its id, which differs where ids begin alike.
pub(crate) fn named(names: &Names, tenant: Uuid) -> String {
    let known = names.get(&tenant).cloned();
    known.unwrap_or_else(|| format!("tenant {}", text::end_of(tenant)))
}
