//! Weights of tenants: how many turns one has for one of another's when all have work due.
//!
//! A worker hears the weights with each renewal of its lease and hands them to its claims, so that a
//! claim reads no table for them. Within a priority tenants take turns; a tenant of weight *n* has *n*
//! runs taken in the time in which another has one.

use std::sync::{Mutex, PoisonError};

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::audit::Deed;
use crate::error::EngineError;
use crate::flow::Author;
use crate::id::{self, TenantId};
use crate::operator;
use crate::store;

/// The most turns that a tenant may have for one of another's.
pub const MAX_WEIGHT: i16 = 100;

/// What a worker last heard.
#[derive(Debug, Default)]
pub(crate) struct Weights(Mutex<(Vec<Uuid>, Vec<i16>)>);

impl Weights {
    /// Looks for itself, before the first claim.
    pub(crate) async fn look(&self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let found = store::weight::list(conn).await?;
        let (tenants, weights) = found.into_iter().map(|(tenant, n)| (tenant.0, n)).unzip();
        self.hear(tenants, weights);
        Ok(())
    }

    pub(crate) fn hear(&self, tenants: Vec<Uuid>, weights: Vec<i16>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (tenants, weights);
    }

    pub(crate) fn now(&self) -> (Vec<Uuid>, Vec<i16>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Gives a tenant its weight, 1 as all have to [`MAX_WEIGHT`]; workers hear of it within seconds. With
/// `seen`, only if that is its weight still. The transaction must act as the engine.
///
/// # Errors
/// [`EngineError::UnknownTenant`]; [`EngineError::Malformed`] for a bad weight or reason;
/// [`EngineError::Changed`] with the weight as it is.
pub async fn set(
    conn: &mut PgConnection,
    tenant: TenantId,
    weight: i16,
    seen: Option<i16>,
    author: &Author,
) -> Result<(), EngineError> {
    operator::check_reason(&author.reason)?;
    if !(1..=MAX_WEIGHT).contains(&weight) {
        return Err(EngineError::Malformed {
            what: "weight",
            workflow: String::new(),
            detail: format!("{weight}: a weight is 1 to {MAX_WEIGHT}"),
        });
    }
    let place = store::run::find_place(conn, tenant).await?;
    place.ok_or(EngineError::UnknownTenant(tenant))?;
    let before = store::weight::lock(conn, tenant).await?;
    if seen.is_some_and(|seen| seen != before) {
        if before == 1 {
            store::weight::delete(conn, tenant).await?;
        }
        return Err(EngineError::Changed {
            what: format!("weight of tenant {tenant}"),
            now: before.to_string(),
        });
    }
    if weight == 1 {
        store::weight::delete(conn, tenant).await?;
    } else {
        store::weight::put(conn, tenant, weight).await?;
    }
    let deed = Deed {
        action: "set weight",
        subject: &tenant.to_string(),
        tenant: Some(tenant),
        before: json!({ "weight": before }),
        after: json!({ "weight": weight }),
    };
    Ok(store::control::insert(conn, id::random_uuid(), author, &deed).await?)
}

/// Lists the tenants whose weight is not 1, the heaviest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(conn: &mut PgConnection) -> Result<Vec<(TenantId, i16)>, EngineError> {
    Ok(store::weight::list(conn).await?)
}
