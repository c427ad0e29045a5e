//! What the runs of backfills stand on: their rows, and the places that they work at.

use sqlx::{PgConnection, Postgres, Transaction};
use tenure_engine::{SYSTEM_TENANT, StepError, TenantId};
use uuid::Uuid;

use super::{Backfill, Range, Target, rows};
use crate::door::{DoorError, as_control, as_tenant};
use crate::environment::Environment;
use crate::product::{self, Placement, PlacementStatus, ProductError, Site, maps};

/// A tenant's place, opened for a backfill.
pub(super) struct Opened {
    pub(super) site: Site,
    pub(super) target: Target,
    /// Whether the tenant's rows must not be written at this moment.
    pub(super) frozen: bool,
}

/// A transaction that sees the rows of backfills.
pub(super) async fn begin(
    environment: &Environment,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = tenure_engine::begin(environment.engine()).await?;
    as_tenant(&mut tx, SYSTEM_TENANT).await?;
    Ok(tx)
}

/// A transaction that sees all placements.
pub(super) async fn begin_control(
    environment: &Environment,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = tenure_engine::begin(environment.engine()).await?;
    as_control(&mut tx).await?;
    Ok(tx)
}

/// A backfill, which a run of it always has.
pub(super) async fn backfill(environment: &Environment, id: Uuid) -> Result<Backfill, StepError> {
    let mut tx = begin(environment).await?;
    let found = rows::find(&mut tx, id).await?;
    found.ok_or_else(|| gone("backfill", id))
}

/// A backfill and one of its ranges.
pub(super) async fn range(
    environment: &Environment,
    id: Uuid,
    range: Uuid,
) -> Result<(Backfill, Range), StepError> {
    let mut tx = begin(environment).await?;
    let backfill = rows::find(&mut tx, id).await?;
    let backfill = backfill.ok_or_else(|| gone("backfill", id))?;
    let wanted = rows::Wanted {
        range: Some(range),
        ..rows::Wanted::default()
    };
    let found = rows::list_ranges(&mut tx, id, wanted, 1).await?.pop();
    Ok((backfill, found.ok_or_else(|| gone("range", range))?))
}

fn gone(what: &str, id: Uuid) -> StepError {
    StepError::terminal("row_gone", format!("no {what} {id} exists any more"))
}

/// Finds a tenant's placement and opens it as the backfill knows its source. The inner error is the
/// product's; the outer one is ours.
pub(super) async fn open(
    environment: &Environment,
    of: &Backfill,
    tenant: TenantId,
) -> Result<Result<Opened, ProductError>, StepError> {
    let mut tx = begin_control(environment).await?;
    let placement = match product::door::find(&mut tx, tenant).await {
        Ok(placement) => placement,
        Err(DoorError::NotFound { .. }) => {
            let nowhere =
                ProductError::UnknownSource(format!("of tenant {tenant}"), "none".to_owned());
            return Ok(Err(nowhere));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(open_at(environment, &mut tx, of, &placement, tenant.0).await)
}

/// Opens a placement in the name of `subject`, under which the ledger keeps what is done there.
pub(super) async fn open_at(
    environment: &Environment,
    control: &mut PgConnection,
    of: &Backfill,
    placement: &Placement,
    subject: Uuid,
) -> Result<Opened, ProductError> {
    let place = &placement.place;
    let target = of
        .targets
        .iter()
        .find(|target| target.source == place.source);
    let target = target.ok_or_else(|| ProductError::NoMap(place.source.clone()))?;
    let map = maps::find(control, &target.source, target.map_version).await?;
    let site = Site::at(environment.products(), subject, place, &map).await?;
    Ok(Opened {
        site,
        target: target.clone(),
        frozen: placement.status == PlacementStatus::Frozen,
    })
}
