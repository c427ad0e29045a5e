//! The doors to overrides: set, clear, list.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::TenantId;

use super::{Override, store};
use crate::door::DoorError;
use crate::{catalog, tenant};

/// The longest reason and the longest text that is a value, in characters.
const MAX_TEXT: usize = 2_000;

/// An override to set.
#[derive(Debug, Clone)]
pub struct NewOverride {
    /// The feature's key. It need not be in the catalogue: support may give what is not sold yet.
    pub feature: String,
    /// `true`, `false`, a whole number, or a text.
    pub value: Value,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
    /// Until when it counts, in the tenant's time; until it is cleared when none is given.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Gives a tenant a value of a feature in place of what it has bought, and in place of the override
/// before. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant; [`DoorError::Malformed`] for a key that is none, a value
/// that no feature has, a time that has passed, or a bad reason.
pub async fn set(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    new: &NewOverride,
    author: &str,
) -> Result<Override, DoorError> {
    let tenant = tenant::find(conn, tenant_id).await?;
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    check(new, now)?;
    let one = Override {
        feature: new.feature.clone(),
        value: new.value.clone(),
        reason: new.reason.trim().to_owned(),
        author: author.to_owned(),
        set_at: now,
        expires_at: new.expires_at,
    };
    store::put(conn, tenant_id, tenant.shard_id, &one).await?;
    Ok(one)
}

fn check(new: &NewOverride, now: DateTime<Utc>) -> Result<(), DoorError> {
    if !catalog::is_feature(&new.feature) {
        let detail = "a key has 1 to 100 characters of a-z, 0-9, -, _ and .";
        return Err(malformed("feature", detail));
    }
    let fits = match &new.value {
        Value::Bool(_) => true,
        Value::Number(number) => number.as_u64().is_some(),
        Value::String(text) => text.chars().count() <= MAX_TEXT && !text.contains('\0'),
        _ => false,
    };
    if !fits {
        return Err(malformed(
            "value",
            "true, false, a whole number, or a text of at most 2,000 characters",
        ));
    }
    if new.expires_at.is_some_and(|expires| expires <= now) {
        let detail = format!("it lies after now, which is {}", now.to_rfc3339());
        return Err(malformed("expires_at", &detail));
    }
    match new.reason.trim().chars().count() {
        1..=MAX_TEXT if !new.reason.contains('\0') => Ok(()),
        _ => Err(malformed(
            "reason",
            "it has 1 to 2,000 characters and no NUL",
        )),
    }
}

fn malformed(field: &'static str, detail: &str) -> DoorError {
    DoorError::Malformed {
        field,
        detail: detail.to_owned(),
    }
}

/// Takes an override away; what the tenant has bought counts again. The transaction must act as the
/// tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant, or when there is none.
pub async fn clear(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    feature: &str,
) -> Result<Override, DoorError> {
    let before = find(conn, tenant_id, feature).await?;
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    match before {
        Some(before) if store::delete(conn, tenant_id, shard, feature).await? => Ok(before),
        _ => Err(DoorError::not_found("override of feature", feature)),
    }
}

/// Finds a tenant's override of a feature, also one that has expired. The transaction must act as
/// the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn find(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    feature: &str,
) -> Result<Option<Override>, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    let found = store::list(conn, tenant_id, shard, Some(feature)).await?;
    Ok(found.into_iter().next())
}

/// Lists a tenant's overrides by feature, also those that have expired. The transaction must act as
/// the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn list(
    conn: &mut PgConnection,
    tenant_id: TenantId,
) -> Result<Vec<Override>, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    Ok(store::list(conn, tenant_id, shard, None).await?)
}
