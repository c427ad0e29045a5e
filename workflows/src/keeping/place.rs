//! What sweeps, restores and exports share: the tenant's place, its rules and its holds.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};

use super::hold::{self, Standing};
use super::policy::{self, Policy, Rule};
use super::rows;
use super::store::{self, Table};
use crate::data_map::Model;
use crate::door::{DoorError, as_control, as_tenant};
use crate::environment::Environment;
use crate::product::{self, PlacementStatus, ProductError, Site, maps};
use crate::tenant;

/// Opens a tenant's place under a version of the map.
///
/// # Errors
/// [`DoorError::Conflict`] while it is being made or moved, or when it is elsewhere by now.
pub(crate) async fn open(
    environment: &Environment,
    tenant: TenantId,
    source: &str,
    map_version: i32,
) -> Result<Site, DoorError> {
    let mut tx = tenure_engine::begin(environment.engine()).await?;
    as_control(&mut tx).await?;
    let placement = product::door::find(&mut tx, tenant).await?;
    if placement.status != PlacementStatus::Active || placement.place.source != source {
        return Err(DoorError::Conflict(format!(
            "the tenant's rows are {} in {}; wait until they are at rest in {source}",
            placement.status.word(),
            placement.place.source
        )));
    }
    let map = maps::find(&mut tx, source, map_version).await?;
    tx.commit().await?;
    Ok(Site::open(environment.products(), &placement, &map).await?)
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
    let mut tx = tenure_engine::begin(environment.engine()).await?;
    as_tenant(&mut tx, tenant).await?;
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
    let mut tx = tenure_engine::begin(environment.engine()).await?;
    as_tenant(&mut tx, tenant).await?;
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
