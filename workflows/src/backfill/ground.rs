//! What the runs of backfills stand on: their rows, and the places that they work at.

use sqlx::{PgConnection, Postgres, Transaction};
use tenure_engine::{SYSTEM_TENANT, StepError, TenantId};
use uuid::Uuid;

use super::{Backfill, Range, Target, rows};
use crate::door::{DoorError, as_control};
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
    tenure_engine::begin_for(environment.engine(), SYSTEM_TENANT).await
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
    found.ok_or_else(|| no_row("backfill", id))
}

/// A backfill, one of its ranges, and how many of them work.
pub(super) async fn range(
    environment: &Environment,
    id: Uuid,
    range: Uuid,
) -> Result<(Backfill, Range, u32), StepError> {
    let mut tx = begin(environment).await?;
    let backfill = rows::find(&mut tx, id).await?;
    let backfill = backfill.ok_or_else(|| no_row("backfill", id))?;
    let wanted = rows::Wanted {
        range: Some(range),
        ..rows::Wanted::default()
    };
    let found = rows::list_ranges(&mut tx, id, wanted, 1).await?.pop();
    let found = found.ok_or_else(|| no_row("range", range))?;
    let most = backfill.definition.parallel;
    let at_work = rows::count_at_work(&mut tx, id, range, most).await?;
    Ok((backfill, found, at_work))
}

fn no_row(what: &str, id: Uuid) -> StepError {
    StepError::terminal("row_gone", format!("no {what} {id} exists any more"))
}

/// Why a tenant's place is not opened.
pub(super) enum Closed {
    /// The tenant is nowhere, or where the backfill does not reach: nothing of it is to be done.
    Gone(String),
    /// The product says no.
    Failed(ProductError),
}

/// Finds a tenant's placement and opens it as the backfill knows its source. The inner error is the
/// product's; the outer one is ours.
pub(super) async fn open(
    environment: &Environment,
    of: &Backfill,
    tenant: TenantId,
) -> Result<Result<Opened, Closed>, StepError> {
    let mut tx = begin_control(environment).await?;
    let placement = match placement(&mut tx, of, tenant).await? {
        Ok(placement) => placement,
        Err(gone) => return Ok(Err(Closed::Gone(gone))),
    };
    let opened = open_at(environment, &mut tx, of, &placement, tenant.0).await;
    Ok(opened.map_err(Closed::Failed))
}

/// Why a tenant is not where a backfill reaches, if it is not.
pub(super) async fn gone_of(
    environment: &Environment,
    of: &Backfill,
    tenant: TenantId,
) -> Result<Option<String>, StepError> {
    let mut tx = begin_control(environment).await?;
    Ok(placement(&mut tx, of, tenant).await?.err())
}

/// A tenant's placement, or why it has none that the backfill reaches.
async fn placement(
    control: &mut PgConnection,
    of: &Backfill,
    tenant: TenantId,
) -> Result<Result<Placement, String>, StepError> {
    let placement = match product::door::find(control, tenant).await {
        Err(DoorError::NotFound { .. }) => {
            return Ok(Err("the tenant has no place any more".to_owned()));
        }
        found => found?,
    };
    let source = &placement.place.source;
    let reached = of.targets.iter().any(|target| target.source == *source);
    Ok(match reached {
        true => Ok(placement),
        false => Err(format!(
            "the tenant has moved to source {source}, which the backfill is not for"
        )),
    })
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
