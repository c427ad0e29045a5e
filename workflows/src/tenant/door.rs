//! The doors to tenants: create, find, attach a payment method.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{
    Client, ClockId, EngineError, RunRef, ShardId, Signalled, TenantId, test_clock,
};

use super::methods::MAX_METHODS;
use super::store::{self, Customer};
use super::{Input, KEY, Signal, TenantRow, TenantWorkflow};
use crate::door::{DoorError, as_control, as_tenant};
use crate::ports::stripe::Method;
use crate::{calendar, catalog, clock};

/// A tenant to create.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// For people.
    pub name: String,
    /// Where its mails go.
    pub email: String,
    /// IANA zone in which its days begin.
    pub zone: String,
    /// BCP 47 language tag; English when none is given.
    pub locale: Option<String>,
    /// Bind it to a test clock of its own that stands at this instant.
    pub test_clock: Option<DateTime<Utc>>,
    /// Who issues its invoices, by the catalogue's key; its default when none is given.
    pub legal_entity: Option<String>,
}

/// Creates a tenant: its entry in both directories, its clock, and its run. The transaction ends up
/// speaking for the tenant.
///
/// # Errors
/// [`DoorError::Malformed`] or [`DoorError::UnknownZone`], with the field; [`DoorError::Retired`] for its
/// legal entity.
pub async fn create(
    client: &Client,
    conn: &mut PgConnection,
    new: &NewTenant,
) -> Result<TenantRow, DoorError> {
    check(new)?;
    let shard_id = ShardId::any();
    let tenant_id = TenantId::new(shard_id);
    let test_clock_id = new.test_clock.map(|_| ClockId::new(shard_id));
    as_control(conn).await?;
    let legal_entity = catalog::choose_legal_entity(conn, new.legal_entity.as_deref()).await?;
    if let (Some(clock), Some(now)) = (test_clock_id, new.test_clock) {
        test_clock::create(conn, clock, now).await?;
    }
    tenure_engine::tenant::register(conn, tenant_id, shard_id, test_clock_id).await?;
    as_tenant(conn, tenant_id).await?;
    let created_at = tenure_engine::tenant::now(conn, tenant_id).await?;
    let tenant = TenantRow {
        tenant_id,
        shard_id,
        test_clock_id,
        name: new.name.trim().to_owned(),
        email: new.email.trim().to_owned(),
        zone: new.zone.clone(),
        locale: new.locale.clone().unwrap_or_else(|| "en".to_owned()),
        created_at,
        legal_entity,
    };
    as_control(conn).await?;
    store::insert(conn, &tenant).await?;
    as_tenant(conn, tenant_id).await?;
    client
        .start::<TenantWorkflow>(conn, tenant_id, KEY, &Input {})
        .await?;
    Ok(tenant)
}

fn check(new: &NewTenant) -> Result<(), DoorError> {
    let malformed = |field, detail: &str| {
        Err(DoorError::Malformed {
            field,
            detail: detail.to_owned(),
        })
    };
    let name = new.name.trim();
    if name.is_empty() || name.chars().count() > 200 || name.contains('\0') {
        return malformed("name", "a name has 1 to 200 characters and no NUL");
    }
    if new.email.trim().parse::<lettre::Address>().is_err() {
        return malformed("email", "this is no mail address");
    }
    if let Some(locale) = &new.locale
        && (locale.is_empty() || locale.len() > 35 || !locale.is_ascii())
    {
        return malformed("locale", "a BCP 47 language tag such as en or de-AT");
    }
    if new.test_clock.is_some_and(|at| at > clock::latest()) {
        return malformed("test_clock", "a test clock stands before the year 2200");
    }
    calendar::zone(&new.zone)?;
    Ok(())
}

/// Finds a tenant in the directory. The transaction must act as control, or as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(conn: &mut PgConnection, tenant: TenantId) -> Result<TenantRow, DoorError> {
    let found = store::list(conn, Some(tenant), None, &[], None, 1).await?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| DoorError::not_found("tenant", tenant))
}

/// Lists tenants, newest first, after the cursor: those whose name, mail or id holds `query`, or whose
/// customer, method or charge the provider calls so.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    query: Option<&str>,
    after: Option<TenantId>,
    limit: i64,
) -> Result<Vec<TenantRow>, DoorError> {
    let named = match query.filter(|query| is_provider_id(query)) {
        Some(id) => store::find_by_provider_id(conn, id).await?,
        None => Vec::new(),
    };
    Ok(store::list(conn, None, query, &named, after, limit).await?)
}

/// Whether a text may be an id of the provider's, such as `cus_Q2x`: a short word, and what is unique.
fn is_provider_id(text: &str) -> bool {
    let word = |text: &str| text.chars().all(|one| one.is_ascii_alphanumeric());
    text.split_once('_').is_some_and(|(kind, id)| {
        (2..=8).contains(&kind.len()) && word(kind) && !id.is_empty() && word(&id.replace('_', ""))
    })
}

/// Finds the tenants of a name, in capitals or not; names need not be unique. Of more than a
/// thousand, the newest.
///
/// # Errors
/// When the database does not answer.
pub async fn find_named(conn: &mut PgConnection, name: &str) -> Result<Vec<TenantId>, DoorError> {
    Ok(store::find_named(conn, name, 1_000).await?)
}

/// The names of tenants, of those that the transaction may see.
///
/// # Errors
/// When the database does not answer.
pub async fn names(
    conn: &mut PgConnection,
    tenants: &[TenantId],
) -> Result<HashMap<TenantId, String>, DoorError> {
    Ok(store::list_names(conn, tenants)
        .await?
        .into_iter()
        .collect())
}

/// Finds the tenant's customer at the provider; `None` while it is being made. The transaction
/// must act as the tenant.
///
/// # Errors
/// When the database does not answer.
pub async fn find_customer(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> Result<Option<Customer>, DoorError> {
    Ok(store::find_customer(conn, tenant, shard).await?)
}

/// Asks the tenant's run to attach a payment method, at a place of its order or in place of the one
/// that is charged first. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::Malformed`] for what is no method's id, a place that there is not, or one method too
/// many; [`DoorError::NotFound`].
pub async fn attach_method(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    signal_id: &str,
    method: &str,
    position: Option<u32>,
) -> Result<Signalled, DoorError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !method.starts_with("pm_") || method.len() > 255 || !method.chars().all(plain) {
        return Err(DoorError::Malformed {
            field: "payment_method",
            detail: "the provider's id of a payment method, such as pm_card_visa".to_owned(),
        });
    }
    if position == Some(0) {
        return Err(DoorError::Malformed {
            field: "position",
            detail: "places count from 1".to_owned(),
        });
    }
    if position.is_some() && list_methods(conn, tenant).await?.len() >= MAX_METHODS {
        return Err(DoorError::Malformed {
            field: "payment_method",
            detail: format!("a tenant has at most {MAX_METHODS} methods; remove one first"),
        });
    }
    let signal = Signal::AttachMethod {
        method: method.to_owned(),
        position,
    };
    tell(client, conn, tenant, signal_id, &signal).await
}

/// Lists the tenant's payment methods in its order. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn list_methods(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<Vec<Method>, DoorError> {
    let row = find(conn, tenant).await?;
    let offered = store::list_methods(conn, tenant, row.shard_id, None, &[]).await?;
    Ok(offered.into_iter().map(|one| one.method).collect())
}

/// Asks the tenant's run to charge the methods in another order. The transaction must act as the
/// tenant.
///
/// # Errors
/// [`DoorError::Malformed`] unless each of the tenant's methods is named once; [`DoorError::NotFound`].
pub async fn order_methods(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    signal_id: &str,
    order: &[String],
) -> Result<Signalled, DoorError> {
    let known = list_methods(conn, tenant).await?;
    let mut known: Vec<String> = known.into_iter().map(|method| method.id).collect();
    let mut named = order.to_vec();
    known.sort_unstable();
    named.sort_unstable();
    if known != named {
        return Err(DoorError::Malformed {
            field: "payment_methods",
            detail: format!(
                "each method of the tenant's, once: {}",
                if known.is_empty() {
                    "it has none".to_owned()
                } else {
                    known.join(", ")
                }
            ),
        });
    }
    let signal = Signal::OrderMethods {
        methods: order.to_vec(),
    };
    tell(client, conn, tenant, signal_id, &signal).await
}

/// Asks the tenant's run to forget a method, here and at the provider. The transaction must act as the
/// tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant or the method.
pub async fn remove_method(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    signal_id: &str,
    method: &str,
) -> Result<Signalled, DoorError> {
    let known = list_methods(conn, tenant).await?;
    if !known.iter().any(|known| known.id == method) {
        return Err(DoorError::not_found("payment method", method));
    }
    let signal = Signal::RemoveMethod {
        method: method.to_owned(),
    };
    tell(client, conn, tenant, signal_id, &signal).await
}

/// Tells the tenant's run.
async fn tell(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    signal_id: &str,
    signal: &Signal,
) -> Result<Signalled, DoorError> {
    let run = RunRef::Key(KEY);
    match client
        .signal::<TenantWorkflow>(conn, tenant, run, signal_id, signal)
        .await
    {
        Err(EngineError::RunNotFound(_) | EngineError::UnknownTenant(_)) => {
            Err(DoorError::not_found("tenant", tenant))
        }
        signalled => Ok(signalled?),
    }
}
