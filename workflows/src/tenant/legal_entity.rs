//! Another legal entity issues a tenant's invoices from then on. What is finalised keeps the one that it
//! has, and so do the credit notes of it.

use sqlx::PgConnection;
use tenure_engine::{EngineError, TenantId};

use super::{find, store};
use crate::door::{DoorError, as_control, as_tenant};
use crate::{catalog, invoice};

/// What a change of legal entity comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegalEntityMove {
    /// Who issues its invoices until then; empty for the seller without a name.
    pub from: String,
    /// And from then on.
    pub to: String,
    /// The number that its next invoice gets there, as it is printed.
    pub next_number: String,
}

/// Tells what a change of legal entity comes to, and does nothing. The transaction must act as the
/// tenant.
///
/// # Errors
/// As [`change_legal_entity`].
pub async fn preview_legal_entity(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    legal_entity: &str,
) -> Result<LegalEntityMove, DoorError> {
    let tenant = find(conn, tenant_id).await?;
    let to = catalog::choose_legal_entity(conn, Some(legal_entity)).await?;
    if tenant.legal_entity == to {
        return Err(DoorError::Conflict(format!(
            "legal entity {to:?} issues the tenant's invoices already"
        )));
    }
    if tenure_engine::tenant::is_closing(conn, tenant_id).await? {
        return Err(EngineError::TenantClosing(tenant_id).into());
    }
    let last = invoice::store::find_last_number(conn, tenant_id, tenant.shard_id, &to).await?;
    let seller = catalog::find_seller(conn, &to).await?;
    let prefix = seller.as_ref().map(|seller| &*seller.prefix);
    Ok(LegalEntityMove {
        next_number: invoice::printed(prefix, last + 1),
        from: tenant.legal_entity,
        to,
    })
}

/// Lets another legal entity issue a tenant's invoices. The transaction must act as the tenant, and does
/// so afterwards.
///
/// # Errors
/// [`DoorError::Malformed`] for one that there is not; [`DoorError::Retired`]; [`DoorError::NotFound`];
/// [`DoorError::Conflict`] for the one that it has; [`EngineError::TenantClosing`] while the tenant is
/// being deleted, and after.
pub async fn change_legal_entity(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    legal_entity: &str,
) -> Result<LegalEntityMove, DoorError> {
    store::lock_terms(conn, tenant_id).await?;
    let told = preview_legal_entity(conn, tenant_id, legal_entity).await?;
    as_control(conn).await?;
    store::apply_legal_entity(conn, tenant_id, &told.to).await?;
    as_tenant(conn, tenant_id).await?;
    Ok(told)
}
