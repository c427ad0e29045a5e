//! The engine's directory of tenants: where their rows live and which clock they follow.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::EngineError;
use crate::id::{ClockId, ShardId, TenantId};
use crate::store;

/// Registers a tenant; its shard and its clock are for ever. A repeat changes nothing.
///
/// # Errors
/// When the database does not answer, or the clock does not exist.
pub async fn register(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    clock: Option<ClockId>,
) -> Result<(), EngineError> {
    Ok(store::run::insert_tenant(conn, tenant, shard, clock).await?)
}

/// The tenant's time: its test clock's, or real time.
///
/// # Errors
/// [`EngineError::UnknownTenant`].
pub async fn now(conn: &mut PgConnection, tenant: TenantId) -> Result<DateTime<Utc>, EngineError> {
    let now = store::run::find_now_of(conn, tenant).await?;
    now.ok_or(EngineError::UnknownTenant(tenant))
}

/// Closes a tenant to whatever starts from outside: clients, SQL, schedules, restarts. What is under
/// way goes on, and what it starts by itself still starts, so that it comes to its end. The
/// transaction must act as the engine; whether that changed anything.
///
/// # Errors
/// When the database does not answer.
pub async fn close(conn: &mut PgConnection, tenant: TenantId) -> Result<bool, EngineError> {
    Ok(store::run::apply_closing(conn, tenant, true).await?)
}

/// Whether a tenant is closed to whatever starts from outside.
///
/// # Errors
/// [`EngineError::UnknownTenant`].
pub async fn is_closing(conn: &mut PgConnection, tenant: TenantId) -> Result<bool, EngineError> {
    let place = store::run::find_place(conn, tenant).await?;
    Ok(place.ok_or(EngineError::UnknownTenant(tenant))?.closing)
}

/// Opens a tenant again that was closed. The transaction must act as the engine; whether that changed
/// anything.
///
/// # Errors
/// When the database does not answer.
pub async fn reopen(conn: &mut PgConnection, tenant: TenantId) -> Result<bool, EngineError> {
    Ok(store::run::apply_closing(conn, tenant, false).await?)
}
