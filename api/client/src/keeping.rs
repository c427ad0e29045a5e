//! How long a product's rows are kept: policies, holds, sweeps, archives, restores; and exports.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// A version of how long the rows of a source are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeepingPolicy {
    /// The product's database.
    pub source: String,
    /// Counts from 1.
    pub version: i32,
    /// What it says; see `docs/retention.md`.
    #[schema(value_type = Object)]
    pub document: Value,
    /// Who loaded it.
    pub author: String,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub loaded_at: DateTime<Utc>,
}

/// Body of `POST /v1/sources/{source}/retention-policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadKeepingPolicy {
    /// What it says; see `docs/retention.md`.
    #[schema(value_type = Object)]
    pub document: Value,
    /// Why; kept with the version, never empty.
    pub reason: String,
}

/// What keeps rows of a tenant in the product from being deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DataHold {
    /// Identity.
    pub hold_id: Uuid,
    /// The tenant.
    pub tenant_id: Uuid,
    /// The case that it is for.
    pub case: String,
    /// The table, as the data map names it; absent when all that is the tenant's is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Columns and the values that held rows have in them; absent when all of the table's are held.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub matches: Option<Map<String, Value>>,
    /// Why, in the author's words.
    pub reason: String,
    /// Who placed it.
    pub author: String,
    /// When.
    pub placed_at: DateTime<Utc>,
    /// Until when it counts, exclusive; absent until it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted_at: Option<DateTime<Utc>>,
    /// Who lifted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted_by: Option<String>,
    /// How many rows of its table it held when it was placed; told in the answer to that only, and absent
    /// where it took too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
}

/// Body of `POST /v1/tenants/{id}/data-holds`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceDataHold {
    /// The case that it is for, such as a file number.
    pub case: String,
    /// The table, as the data map names it, with or without its schema; all that is the tenant's when none
    /// is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Columns and the values that held rows have in them: a row by its key, or what rows of a matter
    /// share.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub matches: Option<Map<String, Value>>,
    /// Until when it counts, exclusive; until it is lifted when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Why; never empty.
    pub reason: String,
}

/// Body of `POST /v1/tenants/{id}/data-holds/{hold_id}/lift`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LiftDataHold {
    /// Why; never empty.
    pub reason: String,
}

/// Query of `GET /v1/tenants/{id}/data-holds`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DataHoldFilter {
    /// Also those that were lifted or have expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<bool>,
}

/// Body of `POST /v1/tenants/{id}/sweeps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartSweep {
    /// Only count what would go.
    #[serde(default)]
    pub dry_run: bool,
    /// The instant that days are counted back from; now when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<DateTime<Utc>>,
    /// Why; kept in the audit. A dry run needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A job on the product's data that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DataJob {
    /// Its run: how it stands, and what came of it.
    pub run_id: Uuid,
}

/// Rows that retention took out of the product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DataArchive {
    /// Identity.
    pub archive_id: Uuid,
    /// The run that made it.
    pub sweep_id: Uuid,
    /// The table, as the data map names it.
    pub table: String,
    /// `complete`, `restoring`, `restored` or `destroyed`.
    pub status: String,
    /// Rows in it.
    pub rows: i64,
    /// Bytes of its parts.
    pub bytes: i64,
    /// SHA-256 of its manifest.
    pub manifest_sha256: String,
    /// When it was complete.
    pub made_at: DateTime<Utc>,
    /// Until when its rows can be brought back, exclusive; absent when it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy_at: Option<DateTime<Utc>>,
    /// When it was destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed_at: Option<DateTime<Utc>>,
    /// When its rows were last brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<DateTime<Utc>>,
}

/// Query of `GET /v1/tenants/{id}/archives`. Every part that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DataArchiveFilter {
    /// Of this sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep_id: Option<Uuid>,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Archives per page, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Body of `POST /v1/tenants/{id}/restores`: a sweep or one archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRestore {
    /// All that this sweep took out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep_id: Option<Uuid>,
    /// What is in this archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_id: Option<Uuid>,
    /// Why; kept in the audit, never empty.
    pub reason: String,
}

/// All that the product keeps of a tenant, put together for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DataExport {
    /// Identity.
    pub export_id: Uuid,
    /// `writing`, `ready`, or `ended`: its link is over and its archive destroyed.
    pub status: String,
    /// Who asked for it.
    pub asked_by: String,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub asked_at: DateTime<Utc>,
    /// For so many days after it is ready its link works.
    pub link_days: i32,
    /// Rows in it.
    pub rows: i64,
    /// Bytes of its parts.
    pub bytes: i64,
    /// When it was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<DateTime<Utc>>,
    /// When its link ends, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// How often it was fetched.
    pub downloads: i32,
    /// When it was last fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_download_at: Option<DateTime<Utc>>,
}

/// Body of `POST /v1/tenants/{id}/exports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartExport {
    /// For so many days after it is ready its link works, 1 to 90; 7 when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_days: Option<u32>,
    /// Why; kept with it, never empty.
    pub reason: String,
}

/// An export that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportStarted {
    /// The export.
    pub export: DataExport,
    /// Its run.
    pub run_id: Uuid,
    /// The path of its link, told this once: whoever has it can read the export. Absent when the
    /// request is answered again; ask for another export if it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}
