//! What the doors of all stories share: their errors, and for whom a transaction speaks.

use sqlx::{AssertSqlSafe, PgConnection};
use tenure_engine::{EngineError, TenantId};

use crate::calendar::UnknownZone;
use crate::money::UnknownCurrency;
use crate::product::ProductError;

/// What can go wrong at the business's doors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoorError {
    /// No plan has this key.
    #[error("no plan is called {0:?}")]
    UnknownPlan(String),
    /// The plan exists, but is not sold in this currency.
    #[error("plan {plan:?} is not sold in {currency}; it is sold in {sold_in}")]
    NotSoldIn {
        /// The plan.
        plan: String,
        /// The currency that was asked for.
        currency: String,
        /// The currencies that it has prices in.
        sold_in: String,
    },
    /// It is sold to nobody who does not have it.
    #[error("{what} {key:?} is retired: those who have it keep it, and nobody else can have it")]
    Retired {
        /// plan, add-on, coupon or legal entity.
        what: &'static str,
        /// Its key.
        key: String,
    },
    /// A catalogue does not fit.
    #[error("{}: {detail}", if place.is_empty() { "the catalogue" } else { place })]
    BadCatalogue {
        /// The way to what is wrong, such as `plans.team.prices.JPY`; empty for the whole.
        place: String,
        /// What was wrong, and what would be right.
        detail: String,
    },
    /// Not a currency.
    #[error(transparent)]
    UnknownCurrency(#[from] UnknownCurrency),
    /// Not a zone.
    #[error(transparent)]
    UnknownZone(#[from] UnknownZone),
    /// A field does not fit.
    #[error("{field}: {detail}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What was wrong, and what would be right.
        detail: String,
    },
    /// No such thing, or it is another tenant's.
    #[error("no {what} {id} exists")]
    NotFound {
        /// tenant, subscription, invoice, test clock.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// A dunning policy does not fit.
    #[error("{place}: {detail}")]
    BadPolicy {
        /// JSON Pointer (RFC 6901) into the document.
        place: String,
        /// What was wrong, and what would be right.
        detail: String,
    },
    /// The subscription cannot do that any more.
    #[error("{0}")]
    Conflict(String),
    /// A product's database failed, or does not fit.
    #[error(transparent)]
    Product(#[from] ProductError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The database did not answer, or refused.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl DoorError {
    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound {
            what,
            id: id.to_string(),
        }
    }
}

/// Lets the caller's transaction speak for a tenant until it ends: row-level security shows it
/// nothing else.
///
/// # Errors
/// When the login is no member of role `tenure_tenant`.
pub async fn as_tenant(conn: &mut PgConnection, tenant: TenantId) -> sqlx::Result<()> {
    // The id is a UUID, so the text is safe; `set local` takes no parameters.
    let text = format!("set local role tenure_tenant; set local app.tenant = '{tenant}'");
    sqlx::raw_sql(AssertSqlSafe(text)).execute(conn).await?;
    Ok(())
}

/// Lets the caller's transaction start and signal runs until it ends.
///
/// # Errors
/// When the login is no member of role `tenure_engine`.
pub(crate) async fn as_engine(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("set local role tenure_engine")
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets the caller's transaction work on control tables until it ends.
///
/// # Errors
/// When the login is no member of role `tenure_control`.
pub async fn as_control(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("set local role tenure_control")
        .execute(conn)
        .await?;
    Ok(())
}
