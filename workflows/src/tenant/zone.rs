//! A tenant moves to another zone: its days begin elsewhere from then on.
//!
//! What is paid for keeps its instants and its days. Each subscription enters the new zone at its next
//! boundary, where a whole period begins; its run is told, and so is the tenant's own, for what is told
//! and tried at a local hour.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{Client, EngineError, RunRef, TenantId};
use uuid::Uuid;

use super::{KEY, Signal, TenantRow, TenantWorkflow, find, store};
use crate::door::{DoorError, as_control, as_tenant};
use crate::subscription::rules::DisplayStatus;
use crate::subscription::{self, Lifecycle, SubscriptionRow};
use crate::{calendar, invoice};

/// How many boundaries of each subscription are told.
const BOUNDARIES: usize = 4;

/// What a move comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneMove {
    /// The zone that the tenant is in until then.
    pub from: String,
    /// And from then on.
    pub to: String,
    /// What becomes of its subscriptions' dates, newest first; those that have ended have none.
    pub subscriptions: Vec<MovedDates>,
}

/// The next boundaries of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedDates {
    /// The subscription.
    pub subscription_id: Uuid,
    /// Its plan.
    pub plan: String,
    /// How it stands.
    pub status: DisplayStatus,
    /// When it would be billed if the tenant stayed. None while it is paused.
    pub before: Vec<DateTime<Utc>>,
    /// When it is billed.
    pub after: Vec<DateTime<Utc>>,
}

/// Tells what a move to another zone comes to, and does nothing. The transaction must act as the
/// tenant.
///
/// # Errors
/// As [`change_zone`].
pub async fn preview_zone(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    zone: &str,
) -> Result<ZoneMove, DoorError> {
    let tenant = check(conn, tenant_id, zone).await?;
    Ok(look(conn, tenant, zone).await?.0)
}

/// Moves a tenant to another zone. The transaction must act as the tenant, and does so afterwards.
///
/// # Errors
/// [`DoorError::UnknownZone`]; [`DoorError::NotFound`]; [`DoorError::Conflict`] for the zone that the
/// tenant is in; [`EngineError::TenantClosing`] while the tenant is being deleted, and after.
pub async fn change_zone(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    signal_id: &str,
    zone: &str,
) -> Result<ZoneMove, DoorError> {
    // No subscription begins in the old zone beside this.
    store::lock_zone(conn, tenant_id).await?;
    let tenant = check(conn, tenant_id, zone).await?;
    let shard = tenant.shard_id;
    let (moved, rows) = look(conn, tenant, zone).await?;
    invoice::store::keep_zone(conn, tenant_id, shard, &moved.from).await?;
    as_control(conn).await?;
    store::apply_zone(conn, tenant_id, zone).await?;
    as_tenant(conn, tenant_id).await?;
    subscription::move_zone(client, conn, &rows, signal_id, zone).await?;
    let run = RunRef::Key(KEY);
    match client
        .signal::<TenantWorkflow>(conn, tenant_id, run, signal_id, &Signal::ZoneMoved)
        .await
    {
        Ok(_) | Err(EngineError::RunFinished { .. }) => Ok(moved),
        Err(error) => Err(error.into()),
    }
}

async fn check(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    zone: &str,
) -> Result<TenantRow, DoorError> {
    calendar::zone(zone)?;
    let tenant = find(conn, tenant_id).await?;
    if tenant.zone == zone {
        return Err(DoorError::Conflict(format!(
            "the tenant's days begin in {zone} already"
        )));
    }
    if tenure_engine::tenant::is_closing(conn, tenant_id).await? {
        return Err(EngineError::TenantClosing(tenant_id).into());
    }
    Ok(tenant)
}

/// The dates before and after, and the subscriptions that live.
async fn look(
    conn: &mut PgConnection,
    tenant: TenantRow,
    zone: &str,
) -> Result<(ZoneMove, Vec<SubscriptionRow>), DoorError> {
    let mut moved = ZoneMove {
        from: tenant.zone,
        to: zone.to_owned(),
        subscriptions: Vec::new(),
    };
    let mut live = Vec::new();
    for (row, status) in subscription::list(conn, tenant.tenant_id).await? {
        if row.lifecycle == Lifecycle::Ended {
            continue;
        }
        moved.subscriptions.push(MovedDates {
            subscription_id: row.subscription_id,
            plan: row.plan.clone(),
            status,
            before: subscription::coming(conn, &row, &moved.from, BOUNDARIES).await?,
            after: subscription::coming(conn, &row, zone, BOUNDARIES).await?,
        });
        live.push(row);
    }
    Ok((moved, live))
}
