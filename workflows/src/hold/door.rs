//! The doors to holds: place, lift, list, and what they come to.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::rules::{self, Standing};
use super::{Blocks, HoldRow, Kind, Lifted, store};
use crate::door::DoorError;
use crate::{keeping, subscription, tenant};

/// The longest reason, in characters.
const MAX_REASON: usize = 2_000;

/// A hold to place.
#[derive(Debug, Clone)]
pub struct NewHold {
    /// The one subscription; `None` holds all that is the tenant's.
    pub subscription_id: Option<Uuid>,
    /// What it is for.
    pub kind: Kind,
    /// From when on; now when none is given.
    pub starts_at: Option<DateTime<Utc>>,
    /// Until when; until it is lifted when none is given.
    pub ends_at: Option<DateTime<Utc>>,
    /// What it blocks; what its kind does when none is given.
    pub blocks: Option<Blocks>,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
}

/// Which holds are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// On this subscription: its own, and those on all that is the tenant's.
    pub subscription_id: Option<Uuid>,
    /// Also those that were lifted or have ended.
    pub past: bool,
}

/// Places a hold in a person's name. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for tenant or subscription; [`DoorError::Malformed`] for a kind that is
/// not for people, a hold that blocks nothing or ends before it starts, or a bad reason.
pub async fn place(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    new: &NewHold,
    author: &str,
) -> Result<HoldRow, DoorError> {
    let tenant = tenant::find(conn, tenant_id).await?;
    if let Some(subscription) = new.subscription_id {
        subscription::find(conn, tenant_id, subscription).await?;
    }
    if new.kind == Kind::Legal {
        // Deletes of its rows that are under way end first: from the answer on it holds.
        keeping::rows::take_turn(conn, tenant_id, tenant.shard_id).await?;
    }
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    let starts_at = new.starts_at.unwrap_or(now);
    let blocks = new.blocks.unwrap_or(new.kind.blocks());
    check(new, blocks, starts_at, now)?;
    let hold = HoldRow {
        hold_id: tenure_engine::new_uuid(tenant.shard_id),
        tenant_id,
        subscription_id: new.subscription_id,
        kind: new.kind,
        source: None,
        starts_at,
        ends_at: new.ends_at,
        blocks,
        reason: new.reason.trim().to_owned(),
        author: author.to_owned(),
        placed_at: now,
        lifted: None,
    };
    store::insert(conn, tenant.shard_id, &hold).await?;
    Ok(hold)
}

fn check(
    new: &NewHold,
    blocks: Blocks,
    starts_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), DoorError> {
    check_reason(&new.reason)?;
    if !new.kind.is_for_people() {
        let detail = match new.kind {
            Kind::TenantDeletion => "it comes with the deletion of the tenant",
            _ => "dunning places it by what is owed; hold as fraud, legal or customer_pause",
        };
        return Err(malformed("kind", detail));
    }
    if !blocks.any() {
        return Err(malformed(
            "blocks",
            "a hold blocks changes, access or billing, or several",
        ));
    }
    if new.ends_at.is_some_and(|ends| ends <= starts_at.max(now)) {
        return Err(malformed(
            "ends_at",
            "it ends after its start, and after now",
        ));
    }
    Ok(())
}

fn check_reason(reason: &str) -> Result<(), DoorError> {
    match reason.trim().chars().count() {
        1..=MAX_REASON if !reason.contains('\0') => Ok(()),
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

/// Lifts a hold in a person's name. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when it was lifted before, or when a run placed
/// it, which would only place it again; [`DoorError::Malformed`] for a bad reason.
pub async fn lift(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    hold_id: Uuid,
    author: &str,
    reason: &str,
) -> Result<HoldRow, DoorError> {
    check_reason(reason)?;
    let mut hold = find(conn, tenant_id, hold_id).await?;
    if let Some(lifted) = &hold.lifted {
        let (by, at) = (&lifted.by, lifted.at.to_rfc3339());
        return Err(DoorError::Conflict(format!(
            "{by} lifted hold {hold_id} at {at}"
        )));
    }
    if let Some(source) = &hold.source {
        return Err(DoorError::Conflict(format!(
            "{source} placed hold {hold_id} by what is owed and lifts it by that; exempt the tenant \
             from dunning instead"
        )));
    }
    let lifted = Lifted {
        at: tenure_engine::tenant::now(conn, tenant_id).await?,
        by: author.to_owned(),
        reason: reason.trim().to_owned(),
    };
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    if !store::apply_lift(conn, hold_id, shard, &lifted).await? {
        return Err(DoorError::Conflict(format!(
            "somebody else lifted hold {hold_id} meanwhile"
        )));
    }
    hold.lifted = Some(lifted);
    Ok(hold)
}

async fn find(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    hold_id: Uuid,
) -> Result<HoldRow, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    let found = store::list(conn, tenant_id, shard, true, Some(hold_id)).await?;
    let found = found.into_iter().next();
    found.ok_or_else(|| DoorError::not_found("hold", hold_id))
}

/// Lists the tenant's holds, newest first, and what they come to now. The transaction must act as
/// the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for tenant or subscription.
pub async fn list(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    filter: &Filter,
) -> Result<(Vec<HoldRow>, Standing), DoorError> {
    let tenant = tenant::find(conn, tenant_id).await?;
    if let Some(subscription) = filter.subscription_id {
        subscription::find(conn, tenant_id, subscription).await?;
    }
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    let mut holds = store::list(conn, tenant_id, tenant.shard_id, filter.past, None).await?;
    let standing = rules::standing(&holds, filter.subscription_id, now);
    let over = |hold: &HoldRow| hold.ends_at.is_some_and(|ends| ends <= now);
    holds.retain(|hold| filter.past || !over(hold));
    if filter.subscription_id.is_some() {
        holds.retain(|hold| rules::is_on(hold, filter.subscription_id));
    }
    Ok((holds, standing))
}

/// What is blocked at an instant, of one subscription or of the tenant as a whole: for the stories
/// that ask before they change, open or bill something. The transaction must act as the tenant.
///
/// # Errors
/// When the database does not answer.
pub async fn standing(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Option<Uuid>,
    at: DateTime<Utc>,
) -> Result<Standing, DoorError> {
    let holds = store::list(conn, tenant, shard, false, None).await?;
    Ok(rules::standing(&holds, subscription, at))
}
