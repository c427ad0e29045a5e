//! Deletions of tenants, and their certificates.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Body of `POST /v1/deletions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestDeletion {
    /// The tenant.
    pub tenant_id: Uuid,
    /// How long it can be taken back after it was approved, 0 to 30 days.
    #[serde(default = "fourteen")]
    pub cooling_off_days: i32,
    /// How long backups are kept, 0 to 3,650 days: the certificate says when they expire.
    #[serde(default = "thirty_five")]
    pub backup_days: i32,
    /// For so many days after it is ready the link of an export works that the tenant takes along, 1 to
    /// 90. None is made without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_link_days: Option<u32>,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
}

fn fourteen() -> i32 {
    14
}

fn thirty_five() -> i32 {
    35
}

/// Body of what is told to a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeletionAct {
    /// Why, 1 to 2,000 characters.
    pub reason: String,
}

/// Which deletions are wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DeletionFilter {
    /// Of this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Uuid>,
    /// From `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// 1 to 200; 50 when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The deletion of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deletion {
    /// Identity.
    pub deletion_id: Uuid,
    /// The tenant.
    pub tenant_id: Uuid,
    /// The run that does it.
    pub run_id: Uuid,
    /// requested, verified, `cooling_off`, held, ending, exporting, ready, erasing, `third_parties`,
    /// verifying, certified; `failed_step`, cancelled.
    pub state: String,
    /// What it waits for, or what failed and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why it was asked for.
    pub reason: String,
    /// Who asked.
    pub requested_by: String,
    /// When.
    pub requested_at: DateTime<Utc>,
    /// When it should be done: a month later.
    pub due_at: DateTime<Utc>,
    /// How long it can be taken back after it was approved.
    pub cooling_off_days: i32,
    /// How long backups are kept.
    pub backup_days: i32,
    /// The second person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Until when it can be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cools_until: Option<DateTime<Utc>>,
    /// When the point of no return was passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_at: Option<DateTime<Utc>>,
    /// When it was certified or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// 0 none, 1 its deadline is near, 2 it has passed.
    pub alerts: i32,
    /// The export that the tenant takes along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_id: Option<Uuid>,
    /// The path of its link, told this once, in the answer to the request. It works from the moment on
    /// that the export is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_link: Option<String>,
}

/// A step of a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletionStep {
    /// archive, product, tenure, engine or keys.
    pub realm: String,
    /// The table.
    pub name: String,
    /// `null_keys`, delete, mask, keep, drop or shred.
    pub action: String,
    /// Rows that are gone; in a preview those that would be met.
    pub rows: i64,
    /// Rows that stay with their personal fields emptied.
    pub masked: i64,
    /// Rows that stay as they are.
    pub kept: i64,
    /// Why rows stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<DateTime<Utc>>,
}

/// A deletion with its steps, and the chain of what was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeletionDetail {
    /// The deletion.
    pub deletion: Deletion,
    /// Its steps, in order; none until it is past the point of no return.
    pub steps: Vec<DeletionStep>,
    /// What was done, each with its hash.
    #[schema(value_type = Vec<Object>)]
    pub records: Vec<Value>,
}

/// What a deletion would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletionPreview {
    /// Each step, with the rows that it would meet.
    pub steps: Vec<DeletionStep>,
    /// What stands in the way, in words; empty when nothing does.
    pub obstacles: Vec<String>,
    /// How many of its runs are live.
    pub live_runs: i64,
}

/// A signed certificate, as `tenure certificate verify` reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeletionCertificate {
    /// What is certified.
    #[schema(value_type = Object)]
    pub document: Value,
    /// Who says so.
    #[schema(value_type = Object)]
    pub signature: Value,
}
