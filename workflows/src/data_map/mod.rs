//! The data map: what a product keeps of a tenant, and what becomes of it.
//!
//! A file that people own, drafted from the catalog of a live database and held against it from
//! then on. Per table: how a row finds its tenant, its retention class, its place in the order of
//! deletion. Per column: the kind of data, and how it is erased. What the catalog tells for sure is
//! drafted as it is; what only a name or a type suggests is marked as a guess, and a map with
//! guesses does not pass: somebody has to have read it.
//!
//! ```text
//! store::read ─ Snapshot ─┬─ draft ─ DataMap ─ file::print ─ map.toml
//!                         ├─ check(file::parse(map.toml)) ─ findings, none of them silent
//!                         └─ unindexed ─ keys that no index leads to: true, but slow to erase over
//! ```
//!
//! Only [`read`] touches a database, and it only reads. A table or a column that the map does not
//! name is a finding, so that nothing new is forgotten. The meaning of each word: `docs/data-map.md`.

mod check;
mod draft;
mod file;
mod index;
mod order;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;

pub use check::{Code, Finding, check};
pub use draft::draft;
pub(crate) use file::{At, read_toml};
pub use file::{FileError, parse, print};
pub use index::{Reads, Unindexed, unindexed};
pub use order::{Cycle, Link, Order, arrange};
pub use snapshot::{
    Column, ForeignKey, Index, OnDelete, Partition, Policy, Security, Snapshot, Table,
};
pub use store::{ReadError, read};

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How tenants are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// All in the same tables, told apart by a column and row-level security.
    Shared,
    /// Each in a schema of its own, all of the same shape; the map names tables without schema.
    Schema,
    /// Each in a database of its own.
    Database,
}

impl Model {
    /// All of them, by their words.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("shared", Self::Shared),
        ("schema", Self::Schema),
        ("database", Self::Database),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        word(&Self::WORDS, &self)
    }

    /// The model that a word means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words.find(|(one, _)| *one == word).map(|(_, model)| model)
    }
}

/// What kind of data a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is about a person, or what a person wrote.
    Personal,
    /// Money, and what documents of money must say.
    Financial,
    /// What the product needs to work: keys, times, states.
    Operational,
}

impl Kind {
    const WORDS: [(&'static str, Self); 3] = [
        ("personal", Self::Personal),
        ("financial", Self::Financial),
        ("operational", Self::Operational),
    ];
}

/// What becomes of a column's value when its tenant is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erase {
    /// It goes with its row. Of a table's columns all say so, or none.
    Delete,
    /// The row stays, the value is null.
    Null,
    /// The row stays, the value becomes a keyed hash: equal stays equal.
    Hash,
    /// The row stays, the value becomes a fixed one that says nothing.
    Mask,
    /// Row and value stay, for a reason in law.
    Keep,
}

impl Erase {
    const WORDS: [(&'static str, Self); 5] = [
        ("delete", Self::Delete),
        ("null", Self::Null),
        ("hash", Self::Hash),
        ("mask", Self::Mask),
        ("keep", Self::Keep),
    ];
}

/// How a row finds its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Belongs {
    /// By a column of its own.
    Column(String),
    /// Over these foreign keys, the first from this table, to a table with such a column.
    Path(Vec<String>),
    /// To no tenant, and why: it holds nothing of theirs.
    Nobody(String),
    /// Nothing is said. Right where the schema or the database is the tenant's.
    Unsaid,
}

/// What is said of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnRule {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// What becomes of it.
    pub erase: Erase,
    /// Why a personal value may stay.
    pub basis: Option<String>,
    /// Whether nobody has confirmed this yet.
    pub guess: bool,
}

/// What is said of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRule {
    /// How a row finds its tenant.
    pub belongs: Belongs,
    /// Its retention class.
    pub class: String,
    /// Its place in the order of deletion: lower is earlier, equal is at the same time.
    pub order: u32,
    /// Foreign keys of this table that are nulled before anything is deleted, to break a cycle.
    pub nulled_first: BTreeSet<String>,
    /// Foreign keys of this table that could point to another tenant's row, and are known to.
    pub unguarded: BTreeSet<String>,
    /// Why its rows may stay.
    pub basis: Option<String>,
    /// Its columns, in the order of the table.
    pub columns: Vec<ColumnRule>,
}

impl TableRule {
    /// What is said of a column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ColumnRule> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether its rows outlive a tenant. Nobody's rows do.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        if matches!(self.belongs, Belongs::Nobody(_)) {
            return true;
        }
        let mut columns = self.columns.iter();
        columns.any(|column| column.erase != Erase::Delete)
    }
}

/// The map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataMap {
    /// How tenants are kept apart.
    pub model: Model,
    /// The schemas that it covers; with [`Model::Schema`] the one that it was drafted from.
    pub schemas: Vec<String>,
    /// The setting by which a session names its tenant, with [`Model::Shared`]: what the product's
    /// row-level security reads.
    pub setting: Option<String>,
    /// By name: `schema.table`, or `table` with [`Model::Schema`].
    pub tables: BTreeMap<String, TableRule>,
}

/// The word for a value.
pub(crate) fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    let found = words.iter().find(|(_, one)| one == value);
    found.map_or("", |(word, _)| word)
}
