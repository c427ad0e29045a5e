//! The product's own databases: where each tenant's rows are, and how they are worked on safely.
//!
//! A **source** is one of them, named in the configuration. Its **data map** says what the tables
//! hold and how tenants are kept apart; its versions never change, and a job pins the one that it
//! began with. A tenant's **placement** says which source its rows are in, and where there. A
//! **site** is a place, opened: the same face for all three models.
//!
//! ```text
//! door::find(tenant) ─ Placement ─┐
//! maps::current(source) ─ Map ────┴─ Site::open ─ begin   a transaction that sees this tenant only
//!                                                 once    the same, and its key in the ledger
//! ```
//!
//! | Model | What keeps the tenant apart there |
//! |---|---|
//! | shared | the tenant setting and row-level security, which must bind the login; and [`Site::own`] |
//! | schema | `search_path`, and names that say the schema |
//! | database | the connection |
//!
//! **Exactly once, in a database that is not ours.** Our journal and the product's rows cannot
//! commit together. So [`Site::once`] writes what was done, and its answer, into the ledger
//! `tenure.done` of the product's database, in the transaction of the work itself. A process that is
//! killed between the product's commit and our journal's leaves a step that is asked for again: the
//! ledger then answers, and nothing is done twice. A process that was only thought to be dead finds
//! the key taken, or is waited for by who comes after it. Keys name the job; [`Site::forget`] and
//! [`Source::forget`] drop them when it is over.
//!
//! **Small commits that wait for no disk.** Work in many small transactions, which would have the product's
//! own commits stand behind one flush each, commits by [`Site::once_in_memory`] and is on disk when
//! [`Site::flush`] has returned, which comes before our journal says that it was done. Such commits are lost,
//! if at all, from some one on, each with its key; so whoever finds all keys there when a commit of the
//! ordinary kind follows them has all of their work. What came after those that are lost may be there, and
//! answers; so a key says all that its work depends on, such as the row after which it begins.
//!
//! Statements over a product's tables are built from names that its catalog told, quoted; values
//! are bound. They are in rooms called `store.rs`, as all SQL is.

pub mod door;
pub(crate) mod ledger;
pub mod maps;
mod site;
mod source;
pub(crate) mod store;

pub use ledger::OnceKey;
pub use site::Site;
pub use source::{BadSources, Source, Sources};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tenure_engine::{RunId, TenantId};
use uuid::Uuid;

use crate::data_map::{self, Model};

/// What can go wrong in a product's database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProductError {
    /// The configuration has no such source.
    #[error("no product database is called {0:?}; the configuration names {known}", known = .1)]
    UnknownSource(String, String),
    /// Nothing says what the source holds.
    #[error("source {0:?} has no data map; load one: tenure data-map load FILE --source {0}")]
    NoMap(String),
    /// The source's map has no such version.
    #[error("source {0:?} has no version {1} of its data map")]
    UnknownVersion(String, i32),
    /// A stored map cannot be read any more.
    #[error("version {version} of the data map of {source_name:?} cannot be read")]
    BadMap {
        /// The source.
        source_name: String,
        /// The version.
        version: i32,
        /// Why.
        #[source]
        error: data_map::FileError,
    },
    /// The place is of another model than the map of its source.
    #[error("the place is of model {place}, but the data map of {source_name:?} is of model {map}")]
    OtherModel {
        /// The source.
        source_name: String,
        /// What the placement says.
        place: &'static str,
        /// What the map says.
        map: &'static str,
    },
    /// The map's tables are not there, or say nothing of the tenant.
    #[error("the data map does not fit: {0}")]
    DoesNotFit(String),
    /// Row-level security would not bind this login.
    #[error(
        "the login of source {0:?} is a superuser or has bypassrls, so nothing would keep tenants apart; \
         give one that row-level security binds"
    )]
    BypassesRowSecurity(String),
    /// What stands in the ledger under this key is no such answer.
    #[error("the ledger holds another kind of answer under {0}")]
    OtherAnswer(String, #[source] serde_json::Error),
    /// A database that was restarted has lost commits that were not on its disk yet.
    #[error("the product's database was restarted and lost {0} commits that were not on disk yet")]
    LostCommits(u64),
    /// A rule of the work itself forbids it; what was written in the transaction is undone.
    #[error("{0}")]
    Refused(String),
    /// A table that is to go is referred to by one that is somebody else's.
    #[error("{0}")]
    ReferredTo(String),
    /// The database did not answer, or refused.
    #[error("the product's database failed")]
    Database(#[from] sqlx::Error),
    /// The catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] data_map::ReadError),
}

/// Where rows can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// How tenants are kept apart there.
    pub model: Model,
    /// The source.
    pub source: String,
    /// A database beside the source's own, on its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The tenant's schema, with [`Model::Schema`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What the product's tenant column says of the tenant.
    pub key: String,
}

/// What may be done with a placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlacementStatus {
    /// It is being made; nothing may be written there yet.
    Provisioning,
    /// At rest.
    Active,
    /// It is copied elsewhere while it is used.
    Moving,
    /// It may be read only, until it has switched.
    Frozen,
    /// It has switched; what was left behind is being deleted.
    Cleaning,
}

impl PlacementStatus {
    const WORDS: [(&'static str, Self); 5] = [
        ("provisioning", Self::Provisioning),
        ("active", Self::Active),
        ("moving", Self::Moving),
        ("frozen", Self::Frozen),
        ("cleaning", Self::Cleaning),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        data_map::word(&Self::WORDS, &self)
    }

    fn from_word(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words
            .find(|(one, _)| *one == word)
            .map(|(_, status)| status)
    }
}

/// Where a tenant's rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The tenant.
    pub tenant: TenantId,
    /// Where its rows are.
    pub place: Place,
    /// What may be done with it.
    pub status: PlacementStatus,
    /// Where it moves to, or what it has left.
    pub other: Option<Place>,
    /// The run that holds it while it is not at rest.
    pub held_by: Option<RunId>,
    /// Raised by each change.
    pub revision: i64,
    /// Since when it is there.
    pub placed_at: DateTime<Utc>,
}

impl Placement {
    /// The tenant's id, as the ledger names it.
    #[must_use]
    pub fn subject(&self) -> Uuid {
        self.tenant.0
    }
}

/// A name as SQL wants it, whatever it holds.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
