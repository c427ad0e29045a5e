//! The tax on what a tenant is billed, as it is given from outside: it holds for what is drafted from
//! then on. What is drafted keeps the one that it has, and so do the credit notes of it.

use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_engine::{EngineError, ShardId, TenantId};

use super::{find, store};
use crate::door::DoorError;
use crate::pricing::Tax;

/// What a change of tax comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxMove {
    /// What was on its bills until then.
    pub from: Option<Tax>,
    /// And from then on.
    pub to: Option<Tax>,
}

/// Finds the tax on what the tenant is billed. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find_tax(conn: &mut PgConnection, tenant: TenantId) -> Result<Option<Tax>, DoorError> {
    let row = find(conn, tenant).await?;
    Ok(store::find_tax(conn, tenant, row.shard_id).await?)
}

/// Tells what a change of tax comes to, and does nothing. The transaction must act as the tenant.
///
/// # Errors
/// As [`change_tax`].
pub async fn preview_tax(
    conn: &mut PgConnection,
    tenant: TenantId,
    tax: Option<Tax>,
) -> Result<TaxMove, DoorError> {
    Ok(look(conn, tenant, tax).await?.0)
}

/// Sets the tax on what the tenant is billed from now on, or takes it away. The transaction must act as
/// the tenant.
///
/// # Errors
/// [`DoorError::Malformed`]; [`DoorError::NotFound`]; [`DoorError::Conflict`] for what it has already;
/// [`EngineError::TenantClosing`] while the tenant is being deleted, and after.
pub async fn change_tax(
    conn: &mut PgConnection,
    tenant: TenantId,
    tax: Option<Tax>,
) -> Result<TaxMove, DoorError> {
    store::lock_terms(conn, tenant).await?;
    let (told, shard) = look(conn, tenant, tax).await?;
    store::apply_tax(conn, tenant, shard, told.to.as_ref()).await?;
    Ok(told)
}

async fn look(
    conn: &mut PgConnection,
    tenant: TenantId,
    tax: Option<Tax>,
) -> Result<(TaxMove, ShardId), DoorError> {
    let to = tax.map(check).transpose()?;
    let row = find(conn, tenant).await?;
    let from = store::find_tax(conn, tenant, row.shard_id).await?;
    if from == to {
        return Err(DoorError::Conflict(match to {
            None => "the tenant is billed without tax already".to_owned(),
            Some(tax) => format!(
                "the tenant is billed with {} % {} already",
                tax.percent, tax.name
            ),
        }));
    }
    if tenure_engine::tenant::is_closing(conn, tenant).await? {
        return Err(EngineError::TenantClosing(tenant).into());
    }
    Ok((TaxMove { from, to }, row.shard_id))
}

/// A tax as it is kept: without blanks around its name, and without zeros behind its rate.
fn check(tax: Tax) -> Result<Tax, DoorError> {
    let malformed = |field, detail: &str| {
        let detail = detail.to_owned();
        Err(DoorError::Malformed { field, detail })
    };
    let (name, percent) = (tax.name.trim(), tax.percent.normalize());
    if !(1..=100).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return malformed("tax/name", "1 to 100 characters on one line, such as VAT");
    }
    let within = Decimal::ZERO..=Decimal::ONE_HUNDRED;
    if !within.contains(&percent) || percent.scale() > 4 {
        return malformed(
            "tax/percent",
            "0 to 100, with at most 4 decimals, such as 19",
        );
    }
    Ok(Tax {
        name: name.to_owned(),
        percent,
        inclusive: tax.inclusive,
    })
}
