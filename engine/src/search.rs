//! Finding runs: by what every run has, and by the attributes that workflows declare.
//!
//! One statement finds the ids; lists, counts and frozen selections are made of it. It is bounded:
//! a search for more than [`MAX_FOUND`] runs says that there are more.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::error::EngineError;
use crate::id::{RunId, TenantId};
use crate::inspect::RunSummary;
use crate::run::Status;
use crate::store;

/// The most runs that one search counts or selects.
pub const MAX_FOUND: i64 = 100_000;

/// Which runs are wanted; every part that is set must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunFilter {
    /// By workflow.
    pub workflow: Wanted<String>,
    /// By the name of the state.
    pub state: Wanted<String>,
    /// By status.
    pub status: Wanted<Status>,
    /// By owner.
    pub tenant: Wanted<TenantId>,
    /// By key.
    pub key: Wanted<String>,
    /// By the run that started it.
    pub parent: Wanted<RunId>,
    /// By seconds since the start, in the tenant's time.
    pub age_seconds: Bounds<i64>,
    /// By failed attempts of the current visit.
    pub attempt: Bounds<i64>,
    /// By the number of the visit.
    pub visit: Bounds<i64>,
    /// By the start, in the tenant's time.
    pub started: Bounds<DateTime<Utc>>,
    /// By attributes that workflows declare.
    pub attributes: Vec<AttributeTest>,
}

/// Which values are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<T> {
    /// One of these; `None` is any, none of none is nothing.
    pub any: Option<Vec<T>>,
    /// None of these.
    pub none: Vec<T>,
}

impl<T> Default for Wanted<T> {
    fn default() -> Self {
        Self {
            any: None,
            none: Vec::new(),
        }
    }
}

impl<T> Wanted<T> {
    /// This one.
    #[must_use]
    pub fn only(value: T) -> Self {
        Self {
            any: Some(vec![value]),
            none: Vec::new(),
        }
    }
}

/// A half-open range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds<T> {
    /// At least this.
    pub from: Option<T>,
    /// Less than this.
    pub before: Option<T>,
}

impl<T> Default for Bounds<T> {
    fn default() -> Self {
        Self {
            from: None,
            before: None,
        }
    }
}

/// A test of one attribute. A run without it fails each comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributeTest {
    /// The attribute's name.
    pub name: String,
    /// How it is compared.
    pub compare: Compare,
    /// With what, as it is stored; for [`Compare::OneOf`] an array.
    pub value: Value,
    /// Whether those that pass are excluded.
    pub negated: bool,
}

/// How an attribute is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Is one of them.
    OneOf,
    /// Is less.
    Under,
    /// Is less or equal.
    AtMost,
    /// Is more.
    Over,
    /// Is more or equal.
    AtLeast,
}

impl Compare {
    /// The spelling in the statement.
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::OneOf => 0,
            Self::Under => 1,
            Self::AtMost => 2,
            Self::Over => 3,
            Self::AtLeast => 4,
        }
    }
}

/// How many runs there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// So many, at least.
    pub runs: i64,
    /// Whether there are more, which were not counted.
    pub more: bool,
}

/// Lists runs, newest first; `after` is the last run of the page before. Which tenants' runs are
/// seen is up to the connection's role. The connection must be in a transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    filter: &RunFilter,
    after: Option<RunId>,
    limit: i64,
) -> Result<Vec<RunSummary>, EngineError> {
    let found = find(conn, filter, after, limit).await?;
    Ok(store::search::list(conn, &found).await?)
}

/// Counts runs, up to [`MAX_FOUND`]. The connection must be in a transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn count(conn: &mut PgConnection, filter: &RunFilter) -> Result<Count, EngineError> {
    let found = find(conn, filter, None, MAX_FOUND + 1).await?;
    let runs = i64::try_from(found.len()).unwrap_or(i64::MAX);
    Ok(Count {
        runs: runs.min(MAX_FOUND),
        more: runs > MAX_FOUND,
    })
}

/// Finds the ids of runs, newest first. The connection must be in a transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn find(
    conn: &mut PgConnection,
    filter: &RunFilter,
    after: Option<RunId>,
    limit: i64,
) -> Result<Vec<RunId>, EngineError> {
    store::search::plan_for_values(conn).await?;
    Ok(store::search::find(conn, filter, after, limit).await?)
}
