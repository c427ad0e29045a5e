//! The doors to subscriptions: create, find, cancel.

use sqlx::PgConnection;
use tenure_engine::{Client, EngineError, RunRef, Signalled, TenantId};
use uuid::Uuid;

use super::rules::{self, DisplayStatus, display_status};
use super::store;
use super::{CancelWhen, Input, Lifecycle, Signal, SubscriptionRow, SubscriptionWorkflow};
use crate::calendar;
use crate::catalog;
use crate::door::DoorError;
use crate::tenant;

/// A subscription to create.
#[derive(Debug, Clone)]
pub struct NewSubscription {
    /// The plan's key.
    pub plan: String,
    /// ISO 4217 code.
    pub currency: String,
    /// The caller's name for it: the same key again returns the first. A new one if none is given.
    pub key: Option<String>,
}

/// Creates a subscription and its run. The transaction must act as the tenant.
///
/// Returns the row, its display status, and whether it was created now.
///
/// # Errors
/// [`DoorError::UnknownPlan`], [`DoorError::UnknownCurrency`], [`DoorError::NotSoldIn`],
/// [`DoorError::NotFound`] for the tenant; [`EngineError::KeyTaken`] when the key belongs to a
/// subscription of another plan or currency.
pub async fn create(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    new: &NewSubscription,
) -> Result<(SubscriptionRow, DisplayStatus, bool), DoorError> {
    let plan = catalog::find_plan(conn, &new.plan).await?;
    let terms = &plan.terms;
    let price = catalog::price_in(&terms.prices, &plan.plan, new.currency.parse()?)?;
    let tenant = tenant::find(conn, tenant_id).await?;
    let subscription_id = tenure_engine::new_uuid(tenant.shard_id);
    let key = new
        .key
        .clone()
        .unwrap_or_else(|| subscription_id.to_string());
    if let Some(holder) = find_by_key(client, conn, &tenant, &key, &plan, price).await? {
        return Ok((holder.0, holder.1, false));
    }
    let started_at = tenure_engine::tenant::now(conn, tenant_id).await?;
    let zone = calendar::zone(&tenant.zone)?;
    let input = Input {
        subscription_id,
        plan_name: terms.name.clone(),
        price,
        interval: terms.interval,
        zone: tenant.zone.clone(),
        anchor_on: rules::anchor(started_at, terms.trial.days, zone),
        started_at,
        trial_ends_at: rules::trial_end(started_at, terms.trial.days, zone),
        plan: plan.plan.clone(),
    };
    let started = client
        .start::<SubscriptionWorkflow>(conn, tenant_id, &key, &input)
        .await?;
    let row = SubscriptionRow {
        subscription_id,
        shard_id: tenant.shard_id,
        tenant_id,
        run_id: started.run_id,
        plan: plan.plan.clone(),
        interval: input.interval,
        price,
        zone: input.zone,
        anchor_on: input.anchor_on,
        started_at,
        trial_ends_at: input.trial_ends_at,
        lifecycle: Lifecycle::Scheduled,
        period: None,
        cancel_at: None,
        ended_at: None,
        end_reason: None,
    };
    store::insert(conn, &row).await?;
    let status = display_status(&row, false);
    Ok((row, status, true))
}

/// The subscription that holds the key, if it is of the same plan and currency.
async fn find_by_key(
    client: &Client,
    conn: &mut PgConnection,
    tenant: &tenant::TenantRow,
    key: &str,
    plan: &catalog::Plan,
    price: crate::money::Money,
) -> Result<Option<(SubscriptionRow, DisplayStatus)>, DoorError> {
    let holder = client
        .find_by_key::<SubscriptionWorkflow>(conn, tenant.tenant_id, key)
        .await?;
    let Some(run_id) = holder else {
        return Ok(None);
    };
    let all = store::list(conn, tenant.tenant_id, tenant.shard_id, None).await?;
    let same =
        |row: &SubscriptionRow| row.plan == plan.plan && row.price.currency() == price.currency();
    match all.into_iter().find(|(row, _)| row.run_id == run_id) {
        Some((row, owes)) if same(&row) => {
            let status = display_status(&row, owes);
            Ok(Some((row, status)))
        }
        _ => Err(DoorError::Engine(EngineError::KeyTaken {
            key: key.to_owned(),
            run_id,
        })),
    }
}

/// Lists the tenant's subscriptions, newest first. The transaction must act as the tenant.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<Vec<(SubscriptionRow, DisplayStatus)>, DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    let rows = store::list(conn, tenant.tenant_id, tenant.shard_id, None).await?;
    Ok(rows
        .into_iter()
        .map(|(row, owes)| {
            let status = display_status(&row, owes);
            (row, status)
        })
        .collect())
}

/// Finds one subscription. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: Uuid,
) -> Result<(SubscriptionRow, DisplayStatus), DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    let rows = store::list(conn, tenant.tenant_id, tenant.shard_id, Some(subscription)).await?;
    let (row, owes) = rows
        .into_iter()
        .next()
        .ok_or_else(|| DoorError::not_found("subscription", subscription))?;
    let status = display_status(&row, owes);
    Ok((row, status))
}

/// Asks a subscription to end. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when it has ended.
pub async fn cancel(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: Uuid,
    signal_id: &str,
    when: CancelWhen,
) -> Result<Signalled, DoorError> {
    let (row, status) = find(conn, tenant, subscription).await?;
    if status == DisplayStatus::Ended {
        return Err(DoorError::Conflict(format!(
            "subscription {subscription} has ended; start a new one instead"
        )));
    }
    let signal = Signal::Cancel { when };
    let run = RunRef::Id(row.run_id);
    Ok(client
        .signal::<SubscriptionWorkflow>(conn, tenant, run, signal_id, &signal)
        .await?)
}
