//! What sweeps, restores and exports share: the tenant's place, its rules and its holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::PgConnection;
use tenure_engine::{ShardId, StepError, TenantId};

use super::hold::{self, Standing};
use super::policy::{self, Policy, Rule};
use super::rows;
use super::store::{self, Table};
use super::sweep::door_error;
use crate::archive::Manifest;
use crate::data_map::{Belongs, Model};
use crate::door::{DoorError, as_control};
use crate::environment::Environment;
use crate::product::maps::{self, Map};
use crate::product::{self, Place, Placement, PlacementStatus, ProductError, Site};
use crate::tenant;

/// Why a tenant's place was not opened.
#[derive(Debug)]
pub(crate) enum NoPlace {
    /// It is being made or moved: that passes.
    Busy(String),
    /// Its rows are at another place by now.
    Moved(String),
    /// It has no place any more.
    Gone(String),
    /// Something else.
    Failed(DoorError),
}

impl From<DoorError> for NoPlace {
    fn from(error: DoorError) -> Self {
        Self::Failed(error)
    }
}

impl From<ProductError> for NoPlace {
    fn from(error: ProductError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<sqlx::Error> for NoPlace {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The code of a place that a job has lost to a move.
pub(crate) const MOVED: &str = "moved";
/// The code of a place that is no more.
pub(crate) const GONE: &str = "place_gone";

/// What a step fails with whose place was not opened.
pub(crate) fn no_place(error: NoPlace) -> StepError {
    match error {
        NoPlace::Busy(detail) => StepError::terminal("place_busy", detail),
        NoPlace::Moved(detail) => StepError::terminal(MOVED, detail),
        NoPlace::Gone(detail) => StepError::terminal(GONE, detail),
        NoPlace::Failed(error) => door_error(error),
    }
}

/// A tenant's placement, at rest. The transaction must act as control.
async fn at_rest(conn: &mut PgConnection, tenant: TenantId) -> Result<Placement, NoPlace> {
    let placement = match product::door::find(conn, tenant).await {
        Err(DoorError::NotFound { .. }) => {
            return Err(NoPlace::Gone("the tenant has no place any more".to_owned()));
        }
        found => found?,
    };
    if placement.status != PlacementStatus::Active {
        return Err(NoPlace::Busy(format!(
            "the tenant's rows are {} in {}; wait until they are at rest",
            placement.status.word(),
            placement.place.source
        )));
    }
    Ok(placement)
}

/// Opens a tenant's place under a version of the map of `source`, where it is still: at `known`, if
/// the job has been there.
///
/// # Errors
/// [`NoPlace`].
pub(crate) async fn open(
    environment: &Environment,
    tenant: TenantId,
    source: &str,
    known: Option<&Place>,
    map_version: i32,
) -> Result<Site, NoPlace> {
    let mut tx = tenure_engine::begin(environment.engine()).await?;
    as_control(&mut tx).await?;
    let placement = at_rest(&mut tx, tenant).await?;
    let place = &placement.place;
    if place.source != source || known.is_some_and(|known| known != place) {
        return Err(NoPlace::Moved(format!(
            "the tenant has moved to {}",
            product::door::told(place)
        )));
    }
    let map = maps::find(&mut tx, source, map_version).await?;
    tx.commit().await?;
    Ok(Site::open(environment.products(), &placement, &map).await?)
}

/// Opens the place where a tenant is now, under the newest map of it.
///
/// # Errors
/// [`NoPlace`], but not that it has moved.
pub(crate) async fn open_present(
    environment: &Environment,
    tenant: TenantId,
) -> Result<Site, NoPlace> {
    let mut tx = tenure_engine::begin(environment.engine()).await?;
    as_control(&mut tx).await?;
    let placement = at_rest(&mut tx, tenant).await?;
    let map = maps::current(&mut tx, &placement.place.source).await?;
    tx.commit().await?;
    Ok(Site::open(environment.products(), &placement, &map).await?)
}

/// The version of a map that an archive was made by, as its manifest tells.
///
/// # Errors
/// [`DoorError::Product`] when there is none.
pub(crate) async fn map_of(
    environment: &Environment,
    manifest: &Manifest,
) -> Result<Arc<Map>, DoorError> {
    let told = manifest.data_map.rsplit_once(" version ");
    let read = told.and_then(|(source, version)| Some((source, version.parse().ok()?)));
    let (source, version) =
        read.ok_or_else(|| hold::malformed("data_map", "the manifest names no version of a map"))?;
    let mut tx = tenure_engine::begin(environment.engine()).await?;
    as_control(&mut tx).await?;
    let map = maps::find(&mut tx, source, version).await?;
    tx.commit().await?;
    Ok(map)
}

/// The column that says whose the rows of a table are, where tenants share it.
pub(crate) fn tenant_column<'a>(map: &'a Map, table: &str) -> Option<&'a str> {
    match &map.map.tables.get(table)?.belongs {
        Belongs::Column(column) if map.map.model == Model::Shared => Some(column),
        _ => None,
    }
}

/// What a map calls a table that another map calls `table`: the same, or the only one of that name in
/// another schema.
pub(crate) fn named_like<'a>(map: &'a Map, table: &str) -> Option<&'a str> {
    let bare = |name: &str| name.rsplit('.').next().map(ToOwned::to_owned);
    let tables = map.map.tables.iter();
    let tenants = tables.filter(|(_, rule)| !matches!(rule.belongs, Belongs::Nobody(_)));
    let names: Vec<&String> = tenants.map(|(name, _)| name).collect();
    if let Some(name) = names.iter().find(|name| **name == table) {
        return Some(name.as_str());
    }
    let mut alike = names.iter().filter(|name| bare(name) == bare(table));
    let name = alike.next()?;
    alike.next().is_none().then_some(name.as_str())
}

/// What a version of the policy says of the tables of a place.
pub(crate) async fn rules(
    environment: &Environment,
    site: &Site,
    version: i32,
) -> Result<Vec<Rule>, DoorError> {
    let source = &site.place().source;
    let mut tx = tenure_engine::begin(environment.engine()).await?;
    as_control(&mut tx).await?;
    let row = rows::find_policy(&mut tx, source, Some(version)).await?;
    tx.commit().await?;
    let row = row.ok_or_else(|| DoorError::not_found("retention policy of", source))?;
    let policy: Policy = serde_json::from_value(row.document)
        .map_err(|error| hold::malformed("policy", &format!("it cannot be read: {error}")))?;
    policy::rules(&policy, &site.map().map).map_err(|flaws| {
        let first = flaws.into_iter().next();
        let told = first.map(|flaw| format!("{}: {}", flaw.place, flaw.detail));
        hold::malformed("policy", &told.unwrap_or_default())
    })
}

/// The holds that count now.
pub(crate) async fn holds(
    environment: &Environment,
    tenant: TenantId,
) -> Result<Vec<Standing>, DoorError> {
    let mut tx = tenure_engine::begin_for(environment.engine(), tenant).await?;
    let holds = hold::standing(&mut tx, tenant).await?;
    tx.commit().await?;
    Ok(holds)
}

/// Does something in a tenant's name in our own database, in one transaction.
pub(crate) async fn speak<T>(
    environment: &Environment,
    tenant: TenantId,
    work: impl AsyncFnOnce(&mut PgConnection, TenantId, ShardId) -> sqlx::Result<T>,
) -> Result<T, DoorError> {
    let mut tx = tenure_engine::begin_for(environment.engine(), tenant).await?;
    let shard = tenant::find(&mut tx, tenant).await?.shard_id;
    let done = work(&mut tx, tenant, shard).await?;
    tx.commit().await?;
    Ok(done)
}

/// Whether all rows at a place are the tenant's.
pub(crate) fn is_tenants_own(site: &Site) -> bool {
    site.place().model != Model::Shared
}

/// The foreign keys of a table that do not hold the tenant and over which rows lead to what it does not
/// see.
pub(crate) async fn crossing(
    conn: &mut PgConnection,
    site: &Site,
    table: &Table,
) -> Result<Vec<String>, ProductError> {
    let rule = site.map().map.tables.get(&table.name);
    let Some(rule) = rule.filter(|_| !is_tenants_own(site)) else {
        return Ok(Vec::new());
    };
    let mut keys = Vec::new();
    for key in table.references() {
        if rule.unguarded.contains(&key.name) && store::is_crossed(conn, table, key).await? {
            keys.push(key.name.clone());
        }
    }
    Ok(keys)
}

/// Tables and keys, for people.
pub(crate) fn told(crossing: &BTreeMap<String, Vec<String>>) -> String {
    let each: Vec<String> = crossing
        .iter()
        .map(|(table, keys)| format!("{table} over {}", keys.join(", ")))
        .collect();
    each.join("; ")
}
