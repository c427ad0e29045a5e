//! What a policy of retention is, and which one holds. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::registry::Registry;

/// The most days that a policy may name: a hundred years.
const MAX_DAYS: u32 = 36_500;

/// What becomes of a workflow's runs after their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action", content = "keep_days")]
pub enum Retention {
    /// They are kept for ever.
    Keep,
    /// They are dropped after so many days.
    Drop(u32),
    /// They are written to the archive after so many days, and then dropped.
    Archive(u32),
}

impl Retention {
    /// What holds for a workflow that says nothing: a year and a month, then dropped.
    pub const DEFAULT: Self = Self::Drop(400);

    /// Makes one of a word and days, as [`word`](Self::word) and [`days`](Self::days) give them.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn from_parts(word: &str, days: Option<u32>) -> Result<Self, String> {
        match (word, days) {
            ("keep", None) => Ok(Self::Keep),
            ("keep", Some(_)) => Err("with action keep no days are given".to_owned()),
            ("drop" | "archive", None) => Err(format!("action {word} needs days")),
            (_, Some(days)) if days > MAX_DAYS => Err(format!("at most {MAX_DAYS} days")),
            ("drop", Some(days)) => Ok(Self::Drop(days)),
            ("archive", Some(days)) => Ok(Self::Archive(days)),
            _ => Err("action is keep, drop or archive".to_owned()),
        }
    }

    /// `keep`, `drop` or `archive`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drop(_) => "drop",
            Self::Archive(_) => "archive",
        }
    }

    /// For how many days after its end a run is kept; `None` is for ever.
    #[must_use]
    pub const fn days(self) -> Option<u32> {
        match self {
            Self::Keep => None,
            Self::Drop(days) | Self::Archive(days) => Some(days),
        }
    }
}

/// How a worker keeps house; the same for all workers of a database.
#[derive(Debug, Clone)]
pub struct RetentionConfig {
    /// Where archives are written; with `None`, runs that are to be archived stay.
    pub archive_folder: Option<PathBuf>,
    /// For how many whole months before the present one the logs of steps and visits are kept.
    pub log_months: u32,
    /// For how many days the audit is kept.
    pub audit_days: u32,
    /// For how many days an operation on many runs is kept after its end, with what came of each
    /// run. One that nobody confirmed for so long ends.
    pub operation_days: u32,
    /// How often a worker asks whether it is its turn.
    pub look_every: Duration,
    /// How long after a whole pass over all runs the next one begins.
    pub pass_every: Duration,
    /// The most runs that one transaction looks at, and drops.
    pub page: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            archive_folder: None,
            log_months: 25,
            audit_days: 3_650,
            operation_days: 90,
            look_every: Duration::from_secs(60),
            pass_every: Duration::from_secs(6 * 3_600),
            page: 1_000,
        }
    }
}

/// What operators decided on a workflow's runs.
#[derive(Debug, Clone)]
pub(crate) struct Override {
    pub(crate) workflow: String,
    pub(crate) retention: Retention,
    pub(crate) changed_at: DateTime<Utc>,
    pub(crate) changed_by: String,
    pub(crate) reason: String,
}

/// The policies that something is dropped by, column by column, as statements take them.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    pub(crate) workflows: Vec<String>,
    pub(crate) days: Vec<i32>,
    pub(crate) archived: Vec<bool>,
}

impl Policies {
    /// What holds: the code's, and over it what operators decided. Runs that are to be archived are
    /// left alone where there is no archive.
    pub(super) fn of(registry: &Registry, overrides: Vec<Override>, has_archive: bool) -> Self {
        let declared = registry.retentions().into_iter();
        let mut all: BTreeMap<String, Retention> = declared
            .map(|(workflow, retention)| (workflow.to_owned(), retention))
            .collect();
        let decided = overrides.into_iter();
        all.extend(decided.map(|one| (one.workflow, one.retention)));
        let mut policies = Self::default();
        for (workflow, retention) in all {
            let archived = matches!(retention, Retention::Archive(_));
            let Some(days) = retention.days().filter(|_| has_archive || !archived) else {
                continue;
            };
            policies.workflows.push(workflow);
            policies.days.push(i32::try_from(days).unwrap_or(i32::MAX));
            policies.archived.push(archived);
        }
        policies
    }
}
