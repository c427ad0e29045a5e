//! Test clocks: the time of the tenants that are bound to them, moved only by an advance.
//!
//! The due table holds real instants only. A deadline of a clocked tenant lies apart until its
//! clock passes it. An advance is a loop: move to the earliest deadline, wait until the tenants are
//! quiet, repeat until the target; the loop itself is a durable run of the business's own.

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};

use crate::error::EngineError;
use crate::id::{ClockId, ShardId, TenantId};
use crate::store;

/// A clock as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestClock {
    /// Its time.
    pub now: DateTime<Utc>,
    /// Where a running advance is going.
    pub target: Option<DateTime<Utc>>,
}

/// What a move came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The clock's time now.
    pub now: DateTime<Utc>,
    /// Whether it has reached the target.
    pub arrived: bool,
}

/// Creates a clock that stands at `now`. A repeat changes nothing.
///
/// # Errors
/// When the database does not answer.
pub async fn create(
    conn: &mut PgConnection,
    clock: ClockId,
    now: DateTime<Utc>,
) -> Result<(), EngineError> {
    Ok(store::clock::insert(conn, clock, now).await?)
}

/// Finds a clock.
///
/// # Errors
/// When the database does not answer.
pub async fn find(
    conn: &mut PgConnection,
    clock: ClockId,
) -> Result<Option<TestClock>, EngineError> {
    let found = store::clock::find(conn, clock).await?;
    Ok(found.map(|(now, target)| TestClock { now, target }))
}

/// Says where an advance is going; false when another is under way, and nothing has changed.
///
/// # Errors
/// When the database does not answer.
pub async fn set_out(
    conn: &mut PgConnection,
    clock: ClockId,
    target: DateTime<Utc>,
) -> Result<bool, EngineError> {
    Ok(store::clock::set_out(conn, clock, target).await?)
}

/// Says that the advance to `target` has arrived. Said again it is harmless, also when another advance
/// has set out meanwhile.
///
/// # Errors
/// When the database does not answer.
pub async fn arrive(
    conn: &mut PgConnection,
    clock: ClockId,
    target: DateTime<Utc>,
) -> Result<(), EngineError> {
    Ok(store::clock::arrive(conn, clock, target).await?)
}

/// The tenants that are bound to a clock, with their shards.
///
/// # Errors
/// When the database does not answer.
pub async fn tenants(
    conn: &mut PgConnection,
    clock: ClockId,
) -> Result<Vec<(TenantId, ShardId)>, EngineError> {
    Ok(store::clock::list_tenants(conn, clock).await?)
}

/// Where [`move_to_next`] would move the clock.
///
/// # Errors
/// [`EngineError::RunNotFound`] when there is no such clock.
pub async fn next_stop(
    conn: &mut PgConnection,
    clock: ClockId,
    target: DateTime<Utc>,
) -> Result<DateTime<Utc>, EngineError> {
    store::clock::find_next_stop(conn, clock, target)
        .await?
        .ok_or_else(|| EngineError::RunNotFound(format!("for test clock {clock}")))
}

/// Moves the clock to the earliest deadline or slot of its tenants, or to `target` if that is
/// earlier, and makes the runs and schedules due whose deadline or slot it has passed. Never moves
/// back; repeating it is harmless.
///
/// # Errors
/// [`EngineError::RunNotFound`] when there is no such clock.
pub async fn move_to_next(
    conn: &mut PgConnection,
    clock: ClockId,
    target: DateTime<Utc>,
) -> Result<Moved, EngineError> {
    // One transaction: a clock that had moved past a deadline that is not due would wait for it for
    // ever.
    let mut tx = conn.begin().await?;
    let now = store::clock::move_to_next(&mut tx, clock, target)
        .await?
        .ok_or_else(|| EngineError::RunNotFound(format!("for test clock {clock}")))?;
    store::clock::ripen(&mut tx, clock).await?;
    store::schedule::ripen(&mut tx, clock).await?;
    tx.commit().await?;
    Ok(Moved {
        now,
        arrived: now >= target,
    })
}

/// Whether nothing of the clock's tenants is due, running, retrying or waiting to be heard.
///
/// # Errors
/// When the database does not answer.
pub async fn is_quiet(conn: &mut PgConnection, clock: ClockId) -> Result<bool, EngineError> {
    Ok(store::clock::count_busy(conn, clock).await? == 0)
}
