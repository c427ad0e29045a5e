//! The door to disputes: look.

use sqlx::PgConnection;
use tenure_engine::TenantId;

use super::{DisputeRow, store};
use crate::door::DoorError;
use crate::tenant;

/// Lists the tenant's disputes, newest first. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn list_disputes(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<Vec<DisputeRow>, DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    Ok(store::list_disputes(conn, tenant.tenant_id, tenant.shard_id).await?)
}
