//! A product's databases: their data maps, and where each tenant's rows are.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// How a tenant is kept apart from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenancyModel {
    /// All in the same tables.
    Shared,
    /// In a schema of its own.
    Schema,
    /// In a database of its own.
    Database,
    /// Something that is newer than this client.
    #[serde(other)]
    Unknown,
}

impl TenancyModel {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Schema => "schema",
            Self::Database => "database",
            Self::Unknown => "unknown",
        }
    }
}

/// One of the product's databases, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProductSource {
    /// Its name.
    pub source: String,
    /// How tenants are kept apart there; absent until a data map is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<TenancyModel>,
    /// The version of the data map that it goes by; absent until one is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_version: Option<i32>,
}

/// Body of `POST /v1/sources/{source}/data-maps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadDataMap {
    /// The map, as its file says it.
    pub text: String,
    /// Load it without holding it against the database, where each tenant has one of its own beside
    /// the source's.
    #[serde(default)]
    pub unchecked: bool,
}

/// A version of a source's data map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DataMapVersion {
    /// The source.
    pub source: String,
    /// From 1.
    pub version: i32,
    /// SHA-256 of its text, in hexadecimal digits.
    pub hash: String,
    /// Who loaded it.
    pub loaded_by: String,
    /// When.
    pub loaded_at: DateTime<Utc>,
}

/// Where a tenant's rows are, or could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// How the tenant is kept apart there: that of the source's data map.
    pub model: TenancyModel,
    /// The product's database, by its name in the configuration.
    pub source: String,
    /// With `database`: the database beside the source's own, on its server. Absent for its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// With `schema`: the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What the product's tenant column says of the tenant.
    pub key: String,
}

/// What may be done with a tenant's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlacementStatus {
    /// The place is being made: not to be used yet.
    Provisioning,
    /// At rest.
    Active,
    /// Copied elsewhere while it is used.
    Moving,
    /// To be read only, until it has switched.
    Frozen,
    /// It has switched; what it left is being deleted.
    Cleaning,
    /// Something that is newer than this client.
    #[serde(other)]
    Unknown,
}

/// Where a tenant's rows are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Placement {
    /// The tenant.
    pub tenant_id: Uuid,
    /// Where its rows are.
    pub place: Place,
    /// What may be done with them.
    pub status: PlacementStatus,
    /// Where it moves to, or what it has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Place>,
    /// The run that provisions or moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
    /// Raised by each change.
    pub revision: i64,
    /// Since when it is there.
    pub placed_at: DateTime<Utc>,
}

/// Which placements to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PlacementFilter {
    /// Those that are in this source, move there, or have left it and are not cleaned yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The cursor of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The most items; 50 if not given, 200 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Body of `PUT /v1/tenants/{tenant_id}/placement`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPlacement {
    /// Where the tenant's rows are.
    pub place: Place,
    /// Why, 1 to 2,000 characters; kept in the audit.
    pub reason: String,
}

/// Body of `POST /v1/tenants/{tenant_id}/placement/back-out`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackOutPlacement {
    /// Why, 1 to 2,000 characters; kept in the audit.
    pub reason: String,
}

/// Body of `POST /v1/tenants/{tenant_id}/placement/provision`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionPlacement {
    /// Where the tenant's rows will be.
    pub place: Place,
    /// The product's SQL that makes what a tenant needs: run in the new schema or database, in one
    /// transaction. `{schema}`, `{database}` and `{key}` in it become the place's own, quoted. Absent
    /// for a place that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Why, 1 to 2,000 characters; kept in the audit.
    pub reason: String,
}

/// Body of `POST /v1/tenants/{tenant_id}/placement/move`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MovePlacement {
    /// Where the tenant's rows are to be.
    pub to: Place,
    /// The product's SQL that makes the new place, as for provisioning. Absent for one that is there
    /// and empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// For how many hours the old rows stay after the switch; 24 if not given, 744 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_hours: Option<u32>,
    /// How many rows are copied at a time; 500 if not given, 5000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Why.
    pub reason: String,
}

/// Body of `POST /v1/product-migrations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyMigration {
    /// The product's own name of it; its text never changes.
    pub version: String,
    /// What is run at each place, in one transaction, with the place's schemas to search in.
    pub sql: String,
    /// The sources whose places it is for; all, if there are none.
    #[serde(default)]
    pub sources: Vec<String>,
    /// How many places at a time; 8 if not given, 256 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u32>,
    /// Why.
    pub reason: String,
}

/// A migration of the product, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProductMigration {
    /// The product's own name of it.
    pub version: String,
    /// SHA-256 of its text, in hexadecimal digits.
    pub hash: String,
    /// Who loaded it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// The run that applies it, the last one if it was asked for again.
    pub run_id: Uuid,
    /// When it was loaded.
    pub loaded_at: DateTime<Utc>,
    /// Places where it waits.
    pub pending: i64,
    /// Places where it is applied.
    pub applied: i64,
    /// Places that refused it.
    pub refused: i64,
}

/// What came of a migration at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MigrationOutcome {
    /// It waits, or is tried again.
    Pending,
    /// It is applied.
    Applied,
    /// The place refused it; ask for the migration again when that is mended.
    Refused,
    /// Something that is newer than this client.
    #[serde(other)]
    Unknown,
}

/// A migration at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MigrationPlace {
    /// The product's database.
    pub source: String,
    /// `schema/name`, `database/name`, or `database` for the source's own.
    pub place: String,
    /// The tenant, where it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Uuid>,
    /// What came of it.
    pub outcome: MigrationOutcome,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Since when that is so.
    pub changed_at: DateTime<Utc>,
}
