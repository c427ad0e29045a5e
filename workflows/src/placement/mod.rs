//! Tenants' places: made, moved between models, migrated all together.
//!
//! All runs belong to the system tenant, and each holds the placement that it works on
//! (`app.placement.held_by`), so that two never work on one tenant. What a product sees meanwhile is
//! the placement's status.
//!
//! | Workflow | One run per | Does |
//! |---|---|---|
//! | [`ProvisionWorkflow`] | tenant to be placed | makes a schema or a database, holds it against the map, places |
//! | [`MoveWorkflow`] | move | copies, freezes, verifies, switches, cleans; or backs out |
//! | [`MigrationWorkflow`] | product migration | one SQL text at every place, some at a time |
//! | [`MigrateWorkflow`] | place and migration | applies it there, once |
//!
//! What is written in a product's database goes through its ledger (`product`), so a kill anywhere
//! repeats nothing, and a process that comes back from the dead finds its work done.

mod copy;
pub mod door;
mod make;
mod migration;
mod moving;
mod provision;
mod shape;
mod store;

pub use copy::{Digest, Stage, Walk};
pub use migration::{
    MigrateWorkflow, Migration, MigrationInput, MigrationPlace, MigrationRow, MigrationWorkflow,
    Outcome,
};
pub use moving::{MoveInput, MoveOutput, MoveWorkflow};
pub use provision::{ProvisionInput, ProvisionWorkflow};

use std::sync::Arc;

use sqlx::{Postgres, Transaction};
use tenure_engine::{RetryPolicy, RunId, StepError, TenantId};

use crate::door::as_control;
use crate::environment::Environment;
use crate::product::{self, Placement, ProductError, maps};

/// Work in a product's database is tried for some minutes; an outage beyond that is for a human to
/// see.
const POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 12,
    attempt_timeout: std::time::Duration::from_secs(300),
    cap: std::time::Duration::from_secs(30),
    ..RetryPolicy::DEFAULT
};

/// A transaction on our control tables.
async fn control(environment: &Environment) -> Result<Transaction<'static, Postgres>, StepError> {
    let mut tx = tenure_engine::begin(environment.engine()).await?;
    as_control(&mut tx).await?;
    Ok(tx)
}

/// A map that a job has pinned.
async fn pinned(
    environment: &Environment,
    source: &str,
    version: i32,
) -> Result<Arc<maps::Map>, StepError> {
    let mut tx = control(environment).await?;
    Ok(maps::find(&mut tx, source, version).await?)
}

/// Changes the placement that the run holds; one that has it so already is left alone.
///
/// # Errors
/// Terminal, when another run holds it, or nobody does.
async fn change(
    environment: &Environment,
    tenant: TenantId,
    run: RunId,
    next: impl FnOnce(&mut Placement),
) -> Result<(), StepError> {
    let mut tx = control(environment).await?;
    let seen = product::store::find_placement(&mut tx, tenant).await?;
    let held = seen.filter(|seen| seen.held_by == Some(run));
    let seen = held.ok_or_else(|| {
        StepError::terminal("not_held", "the run does not hold the tenant's placement")
    })?;
    let mut changed = seen.clone();
    next(&mut changed);
    if changed != seen && !product::store::update_placement(&mut tx, &seen, &changed).await? {
        return Err(StepError::retryable(
            "moved_on",
            "the placement was changed meanwhile",
        ));
    }
    tx.commit().await?;
    Ok(())
}

/// Gives the placement free, if the run still holds it; `last` is its last change.
async fn release(
    environment: &Environment,
    tenant: TenantId,
    run: RunId,
    last: impl FnOnce(&mut Placement),
) -> Result<(), StepError> {
    let mut tx = control(environment).await?;
    let seen = product::store::find_placement(&mut tx, tenant).await?;
    // A repeated visit finds it done.
    let Some(seen) = seen.filter(|seen| seen.held_by == Some(run)) else {
        return Ok(());
    };
    let mut next = seen.clone();
    last(&mut next);
    next.status = product::PlacementStatus::Active;
    next.other = None;
    next.held_by = None;
    if !product::store::update_placement(&mut tx, &seen, &next).await? {
        return Err(StepError::retryable(
            "moved_on",
            "the placement was changed meanwhile",
        ));
    }
    tx.commit().await?;
    Ok(())
}

/// What a refusal says, or the error that is tried again.
fn refusal(error: ProductError) -> Result<String, StepError> {
    match error {
        ProductError::Database(error) if !is_refused(&error) => Err(error.into()),
        ProductError::Database(sqlx::Error::Database(error)) => Ok(error.message().to_owned()),
        ProductError::Catalog(crate::data_map::ReadError::Database(error)) => Err(error.into()),
        error => Ok(error.to_string()),
    }
}

/// Whether the database refused the statement itself, so that it would again: not for a lock, a
/// lost connection, a shortage or a conflict with others.
fn is_refused(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    let passing = ["08", "40", "53", "55", "57", "58"];
    let code = error.code().unwrap_or_default();
    !passing.iter().any(|class| code.starts_with(class))
}
