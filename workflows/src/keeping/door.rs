//! The doors to keeping: policies, sweeps, archives and restores.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::{Client, SYSTEM_TENANT, Started, TenantId};
use uuid::Uuid;

use super::hold::{MAX_REASON, check_text, malformed};
use super::policy::{self, Policy};
use super::restore::{self, RestoreWorkflow};
use super::rows::{self, ArchiveRow, PolicyRow};
use super::sweep::{self, SweepWorkflow};
use crate::deletion;
use crate::door::DoorError;
use crate::product::{self, maps};
use crate::tenant;

/// The most archives that one restore brings back.
const MAX_ARCHIVES: i64 = 2_000;

/// Loads a policy as the next version of a source's; one that says the same as the newest is that one.
/// The transaction must act as control.
///
/// # Errors
/// [`DoorError::BadPolicy`] with the first flaw, also against the source's data map;
/// [`DoorError::Malformed`] for a bad reason; [`DoorError::Conflict`] when somebody else loads one at
/// the same time; [`DoorError::Product`].
pub async fn load_policy(
    conn: &mut PgConnection,
    source: &str,
    document: &Value,
    author: &str,
    reason: &str,
) -> Result<PolicyRow, DoorError> {
    check_text("reason", reason, MAX_REASON)?;
    let policy: Policy = serde_path_to_error::deserialize(document).map_err(|error| {
        let place = error.path().to_string().replace('.', "/");
        DoorError::BadPolicy {
            place: format!("/{place}"),
            detail: error.into_inner().to_string(),
        }
    })?;
    let map = maps::current(conn, source).await?;
    if let Err(flaws) = policy::rules(&policy, &map.map)
        && let Some(first) = flaws.into_iter().next()
    {
        return Err(DoorError::BadPolicy {
            place: first.place,
            detail: first.detail,
        });
    }
    let newest = rows::find_policy(conn, source, None).await?;
    if let Some(newest) = &newest
        && newest.document == *document
    {
        return Ok(newest.clone());
    }
    let version = newest.map_or(1, |newest| newest.version + 1);
    if !rows::insert_policy(conn, source, version, document, author, reason.trim()).await? {
        return Err(DoorError::Conflict(format!(
            "somebody else loaded version {version} meanwhile; look at it and load yours again"
        )));
    }
    find_policy(conn, source).await
}

/// Finds the newest policy of a source. The transaction must act as control.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find_policy(conn: &mut PgConnection, source: &str) -> Result<PolicyRow, DoorError> {
    let found = rows::find_policy(conn, source, None).await?;
    found.ok_or_else(|| DoorError::not_found("retention policy of", source))
}

/// Says what a sweep of a tenant would be: under the newest map and policy of its place. Without
/// `as_of` days are counted back from now. The transaction must act as control.
///
/// # Errors
/// [`DoorError::NotFound`] without a placement or a policy; [`DoorError::Malformed`] for an `as_of`
/// that is to come; [`DoorError::Product`].
pub async fn prepare_sweep(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    as_of: Option<DateTime<Utc>>,
    dry_run: bool,
) -> Result<sweep::Input, DoorError> {
    deletion::door::refuse_shut(conn, tenant_id).await?;
    let placement = product::door::find(conn, tenant_id).await?;
    let source = placement.place.source;
    let map = maps::current(conn, &source).await?;
    let policy = find_policy(conn, &source).await?;
    let now = rows::find_now(conn).await?;
    let as_of = as_of.unwrap_or(now);
    if as_of > now {
        return Err(malformed("as_of", "it does not lie after now"));
    }
    Ok(sweep::Input {
        tenant_id,
        source,
        map_version: map.version,
        policy_version: policy.version,
        as_of,
        dry_run,
    })
}

/// Starts a sweep as a run of the system tenant. The transaction must act as the engine.
///
/// # Errors
/// When the engine refuses.
pub async fn start_sweep(
    client: &Client,
    conn: &mut PgConnection,
    input: &sweep::Input,
) -> Result<Started, DoorError> {
    let key = format!("{}/{}", input.tenant_id, tenure_engine::random_uuid());
    let started = client.start::<SweepWorkflow>(conn, SYSTEM_TENANT, &key, input);
    Ok(started.await?)
}

/// Which archives are wanted; nothing set means all.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArchiveFilter {
    /// Of this sweep.
    pub sweep_id: Option<Uuid>,
    /// This one.
    pub archive_id: Option<Uuid>,
}

/// Lists a tenant's archives, newest first, after the cursor. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn list_archives(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    filter: &ArchiveFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ArchiveRow>, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    let (sweep, archive) = (filter.sweep_id, filter.archive_id);
    Ok(rows::list_archives(conn, tenant_id, shard, sweep, archive, after, limit).await?)
}

/// Says what a restore would be. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] when there is no such archive; [`DoorError::Conflict`] when all were
/// destroyed, or there are more than 2,000; [`DoorError::Malformed`] when nothing is named.
pub async fn find_restorable(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    filter: &ArchiveFilter,
) -> Result<Vec<Uuid>, DoorError> {
    if filter.sweep_id.is_none() && filter.archive_id.is_none() {
        return Err(malformed("sweep_id", "name a sweep or an archive"));
    }
    let found = list_archives(conn, tenant_id, filter, None, MAX_ARCHIVES + 1).await?;
    if found.len() as i64 > MAX_ARCHIVES {
        return Err(DoorError::Conflict(format!(
            "there are more than {MAX_ARCHIVES} archives; restore them one by one"
        )));
    }
    let Some(newest) = found.first() else {
        let named = filter.archive_id.or(filter.sweep_id);
        return Err(DoorError::not_found("archive", named.unwrap_or_default()));
    };
    if let Some(at) = newest.destroyed_at
        && found.iter().all(|row| row.destroyed_at.is_some())
    {
        return Err(DoorError::Conflict(format!(
            "archive {} was destroyed at {} when its restore window ended; its rows cannot come back",
            newest.archive_id,
            at.to_rfc3339()
        )));
    }
    let whole = found.into_iter().filter(|row| row.destroyed_at.is_none());
    // Newest first is the opposite order in which they were made.
    Ok(whole.map(|row| row.archive_id).collect())
}

/// Puts a restore together. The transaction must act as control.
///
/// # Errors
/// [`DoorError::NotFound`] without a placement; [`DoorError::Product`].
pub async fn prepare_restore(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    archives: Vec<Uuid>,
) -> Result<restore::Input, DoorError> {
    deletion::door::refuse_shut(conn, tenant_id).await?;
    let source = product::door::find(conn, tenant_id).await?.place.source;
    let map_version = maps::current(conn, &source).await?.version;
    Ok(restore::Input {
        tenant_id,
        source,
        map_version,
        archives,
    })
}

/// Starts a restore as a run of the system tenant. The transaction must act as the engine.
///
/// # Errors
/// When the engine refuses.
pub async fn start_restore(
    client: &Client,
    conn: &mut PgConnection,
    input: &restore::Input,
) -> Result<Started, DoorError> {
    let key = format!("{}/{}", input.tenant_id, tenure_engine::random_uuid());
    let started = client.start::<RestoreWorkflow>(conn, SYSTEM_TENANT, &key, input);
    Ok(started.await?)
}
