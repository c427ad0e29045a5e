//! The doors to invoices: look only.

use sqlx::PgConnection;
use tenure_engine::TenantId;
use uuid::Uuid;

use super::{InvoiceRow, LineRow, store};
use crate::door::DoorError;
use crate::tenant;

/// Lists the tenant's invoices, newest period first. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn list(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<InvoiceRow>, DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    Ok(store::list(conn, tenant.tenant_id, tenant.shard_id, None).await?)
}

/// Finds one invoice with its lines. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    invoice: Uuid,
) -> Result<(InvoiceRow, Vec<LineRow>), DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    let rows = store::list(conn, tenant.tenant_id, tenant.shard_id, Some(invoice)).await?;
    let row = rows
        .into_iter()
        .next()
        .ok_or_else(|| DoorError::not_found("invoice", invoice))?;
    let lines = store::list_lines(conn, invoice, tenant.shard_id).await?;
    Ok((row, lines))
}
