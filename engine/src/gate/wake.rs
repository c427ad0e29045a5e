//! Giving room back, and waking whom it was kept for.

use sqlx::{PgConnection, PgPool};

use super::door::{Door, Grant, Place};
use super::probe::wake_at_breaker;
use crate::id::Epoch;
use crate::run::RunKey;
use crate::store;

/// The most runs that one transaction wakes.
pub(super) const WAKE_BATCH: i64 = 500;
/// How long a woken run may take to come for its permit before it is given to the next.
const RESERVED_SECONDS: f64 = 60.0;

/// Takes permits back from visits that are over, and wakes who waited for the room.
pub(crate) async fn give_back(pool: &PgPool, holds: &[(RunKey, Epoch)]) -> sqlx::Result<bool> {
    let mut conn = pool.acquire().await?;
    let freed = store::permit::delete(&mut conn, holds).await?;
    drop(conn);
    let mut woken = false;
    for place in freed {
        woken |= wake(pool, &place.door()).await?;
    }
    Ok(woken)
}

/// Wakes whoever may pass a door by now; whether there was somebody.
pub(crate) async fn wake(pool: &PgPool, door: &Door) -> sqlx::Result<bool> {
    let mut any = false;
    loop {
        let mut tx = crate::pool::begin(pool).await?;
        let woken = match door {
            Door::Limit { name, key } => {
                let place = Place {
                    name: name.clone(),
                    key: key.clone(),
                };
                wake_at_limit(&mut tx, place).await?
            }
            Door::Breaker { name } => wake_at_breaker(&mut tx, name).await?,
            Door::Pause { scope, name } => {
                if store::pause::stands(&mut tx, scope, name).await? {
                    0
                } else {
                    store::waiter::wake_first(&mut tx, door, WAKE_BATCH)
                        .await?
                        .len()
                }
            }
        };
        tx.commit().await?;
        any |= woken > 0;
        if i64::try_from(woken).unwrap_or(i64::MAX) < WAKE_BATCH {
            return Ok(any);
        }
    }
}

async fn wake_at_limit(conn: &mut PgConnection, place: Place) -> sqlx::Result<usize> {
    let Some(limit) = store::limit::lock(conn, &[&place.name]).await?.pop() else {
        return Ok(0);
    };
    let places = [place];
    let Some(before) = store::permit::list_uses(conn, &places).await?.pop() else {
        return Ok(0);
    };
    let [place] = places;
    let door = place.clone().door();
    let mut room = before.room(&limit).min(WAKE_BATCH);
    let mut grants = Vec::new();
    while room > 0 {
        let taken = store::waiter::wake_first(conn, &door, room).await?;
        if taken.is_empty() {
            break;
        }
        let blocked = taken.iter().filter(|one| one.blocked);
        let new: Vec<Grant> = blocked
            .map(|one| Grant {
                place: place.clone(),
                run: one.run,
                epoch: None,
            })
            .collect();
        room -= i64::try_from(new.len()).unwrap_or(i64::MAX);
        grants.extend(new);
    }
    if !grants.is_empty() {
        store::permit::insert(conn, &grants).await?;
    }
    let awaited = before.awaited && {
        let after = store::permit::list_uses(conn, &[place]).await?;
        after.first().is_some_and(|one| one.awaited)
    };
    let taken = i64::try_from(grants.len()).unwrap_or(i64::MAX);
    if let Some(bucket) = before.bucket(&limit, taken, awaited) {
        store::limit::store_buckets(conn, &[bucket]).await?;
    }
    Ok(grants.len())
}

/// Opens the doors whose time has come: tokens, and probes.
pub(crate) async fn wake_due(pool: &PgPool) -> sqlx::Result<()> {
    let due = store::limit::list_due(&mut *pool.acquire().await?).await?;
    for door in due {
        wake(pool, &door).await?;
    }
    Ok(())
}

/// Takes back what lost workers and ended runs left, and wakes whoever may pass: nobody waits for
/// ever because somebody died between giving room back and waking the next.
pub(crate) async fn sweep(pool: &PgPool) -> sqlx::Result<()> {
    let mut conn = pool.acquire().await?;
    store::permit::delete_stale(&mut conn, RESERVED_SECONDS).await?;
    store::limit::delete_full_buckets(&mut conn).await?;
    let doors = store::waiter::list_doors(&mut conn).await?;
    drop(conn);
    for door in doors {
        wake(pool, &door).await?;
    }
    Ok(())
}
