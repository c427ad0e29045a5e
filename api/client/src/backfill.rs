//! Backfills: a change of a product's columns, from expand to contract.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Body of `POST /v1/backfills` and of `POST /v1/backfills/plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartBackfill {
    /// What it does, as its TOML file says it; see docs/backfills.md.
    pub definition: String,
    /// Why; kept in the audit. A plan needs none.
    #[serde(default)]
    pub reason: String,
}

/// What a backfill would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackfillPlan {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub targets: Vec<BackfillTarget>,
    /// How many tenants have a place there.
    pub tenants: i64,
    /// How many rows they have, as the product's planner believes.
    pub estimated_rows: u64,
    /// How long the fill takes at least, in seconds, on a fast database that nothing throttles.
    pub earliest_seconds: u64,
    /// How long on a slow one.
    pub latest_seconds: u64,
    /// The statements, by source and phase.
    pub statements: Vec<BackfillStatement>,
    /// What stands in the way: it would not start.
    pub obstacles: Vec<BackfillObstacle>,
    /// What one should know.
    pub warnings: Vec<String>,
}

/// A source that a backfill is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackfillTarget {
    /// The source.
    pub source: String,
    /// The version of its data map.
    pub map_version: i32,
    /// The table, as that map names it.
    pub table: String,
}

/// A statement of a plan, as one of the source's tenants would have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackfillStatement {
    /// The source.
    pub source: String,
    /// The phase.
    pub phase: String,
    /// The text.
    pub sql: String,
}

/// What stands in the way at a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackfillObstacle {
    /// The source.
    pub source: String,
    /// What.
    pub trouble: BackfillTrouble,
}

/// Why something is held, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackfillTrouble {
    /// `column_gone`, `table_gone`, `name_taken`, `trigger_gone`, `still_needed`, `no_key`, `row_refused`,
    /// `timed_out`, `locked`, `not_allowed`, `bad_statement`, `place_gone` or `half_done`.
    pub kind: String,
    /// What the database said.
    pub detail: String,
    /// The key of the row that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Vec<String>>,
    /// What a person can do.
    pub remedy: String,
}

/// Query of `GET /v1/backfills`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct BackfillFilter {
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Backfills per page, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A backfill, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Backfill {
    /// Identity.
    pub backfill_id: Uuid,
    /// Its name, free again when it has ended.
    pub name: String,
    /// What it is for.
    pub targets: Vec<BackfillTarget>,
    /// `expand`, `dual-write`, `fill`, `verify`, `switch`, `contract`, `done` or `undone`: what it
    /// works on or waits before.
    pub phase: String,
    /// `working`, `waiting` for somebody's word before its phase, `held`, `stopping`, `ended`; or
    /// `terminated` with its run, with what that left in `trouble`.
    pub status: String,
    /// Whether somebody paused it.
    pub paused: bool,
    /// How many tenants of a hundred read the new columns.
    pub percent_reading: i16,
    /// Why it is held; when it has ended, why it was when it was cancelled, and where it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<BackfillTrouble>,
    /// How far its ranges are.
    pub progress: BackfillProgress,
    /// Rows that the last verification found wrong; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatches: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<DateTime<Utc>>,
    /// Since when none is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_since: Option<DateTime<Utc>>,
    /// The phase that somebody may let begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What speaks against it.
    pub refusals: Vec<String>,
    /// The run that owns it.
    pub run_id: Uuid,
    /// Who began it.
    pub started_by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub started_at: DateTime<Utc>,
    /// When it was done or undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
}

/// How far the ranges of a backfill are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackfillProgress {
    /// Ranges that are known.
    pub ranges: i64,
    /// Those that are filled, skipped or gone.
    pub finished_ranges: i64,
    /// Those that are held.
    pub held_ranges: i64,
    /// Those that were skipped.
    pub skipped_ranges: i64,
    /// Those whose tenant is no more, or where the backfill does not reach.
    #[serde(default)]
    pub gone_ranges: i64,
    /// Rows that are believed to be there.
    pub estimated_rows: i64,
    /// Rows that were looked at.
    pub done_rows: i64,
    /// Rows of them that were not right and were written.
    pub written_rows: i64,
    /// Of a hundred, never 100 while something is left.
    pub percent: f64,
    /// Rows a second, while it fills and something was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_second: Option<f64>,
    /// The fill ends in so many seconds at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest_seconds: Option<u64>,
    /// And hardly after so many; absent when the rate is too uneven to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_seconds: Option<u64>,
    /// What throttles ranges, each with how many.
    pub throttled: Vec<BackfillThrottle>,
    /// What is to throttle and cannot, because a login does not see it: a source and a reading each.
    #[serde(default)]
    pub unseen: Vec<String>,
}

/// What throttles ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackfillThrottle {
    /// The reading and its limit, in words.
    pub reason: String,
    /// How many ranges.
    pub ranges: i64,
}

/// Body of `POST /v1/backfills/{name}/actions/{verb}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActOnBackfill {
    /// Why; kept in the audit.
    pub reason: String,
    /// How many tenants of a hundred read the new columns; for `roll-out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i16>,
    /// `expand`, `dual-write`, `fill`, `verify` or `undone`; for `back`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only say whether it would be refused.
    #[serde(default)]
    pub dry_run: bool,
}

/// Query of `GET /v1/backfills/{name}/ranges`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct BackfillRangeFilter {
    /// `planned`, `filling`, `verifying`, `throttled`, `paused`, `held`, `skipped`, `filled` or `gone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Ranges per page, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A part of a tenant's rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackfillRange {
    /// Identity.
    pub range_id: Uuid,
    /// The tenant whose rows they are.
    pub tenant_id: Uuid,
    /// Which part of them, from 0.
    pub part: i32,
    /// How it is.
    pub status: String,
    /// The key after which it begins; absent at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<String>>,
    /// The key up to which it reaches; absent to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
    /// The last key that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Vec<String>>,
    /// Rows that are believed to be there.
    pub estimated_rows: i64,
    /// Rows that were looked at.
    pub done_rows: i64,
    /// Rows of them that were written.
    pub written_rows: i64,
    /// Rows of the next batch.
    pub batch_rows: i32,
    /// Why it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<BackfillTrouble>,
    /// What throttles it, or why it was skipped or is gone, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What is to throttle it and cannot, because the login does not see it.
    #[serde(default)]
    pub unseen: Vec<String>,
    /// Rows that the last verification compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_rows: Option<i64>,
    /// Rows of them that were wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatches: Option<i64>,
    /// Checksum over what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_sum: Option<String>,
    /// Checksum over what was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_sum: Option<String>,
    /// The key of the first row that was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_mismatch: Option<Vec<String>>,
    /// The run that works on it, or did last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
}

/// Body of `POST /v1/backfills/{name}/ranges/{range_id}/actions/{verb}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActOnBackfillRange {
    /// Why; kept in the audit, and with a range that is skipped.
    pub reason: String,
}

/// Whether a tenant reads the new columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackfillReads {
    /// The tenant.
    pub tenant_id: Uuid,
    /// `new` or `old`.
    pub columns: String,
    /// The tenant's place among 10,000: it reads the new ones once the percentage passes it.
    pub bucket: u16,
}
