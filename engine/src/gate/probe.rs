//! A dependency that does not answer: who waits for it, and who tries whether it does again.

use chrono::TimeDelta;
use sqlx::{PgConnection, PgPool};

use super::door::{Door, Grant, Place, Waiting};
use super::wake::WAKE_BATCH;
use crate::id::WorkerId;
use crate::plan::Settlement;
use crate::run::RunKey;
use crate::store;
use crate::store::breaker::{BreakerRow, BreakerState};
use crate::store::claim::CLAIM_SLOT;
use crate::store::settle::Settled;

/// How long a probe may take before the next run probes.
const PROBE_SECONDS: i64 = 60;
/// Where a breaker waits for whoever comes first.
const NOBODY_TO_PROBE_SECONDS: i64 = 24 * 3600;

/// Whether the run is the one that tries whether a dependency answers again.
pub(crate) fn is_probe(permits: &[Place], dependency: &str) -> bool {
    permits
        .iter()
        .any(|place| place.probes() == Some(dependency))
}

/// Settles a run whose step met an open breaker: it waits there, or tries at once when the breaker
/// has closed meanwhile, or is the one that probes.
pub(crate) async fn park(
    pool: &PgPool,
    worker: WorkerId,
    settlement: &Settlement,
    dependency: &str,
) -> sqlx::Result<Option<Settled>> {
    let mut tx = crate::pool::begin(pool).await?;
    let run = settlement.run.key;
    let waits = match store::breaker::lock(&mut tx, dependency).await? {
        None => false,
        Some(row) if row.state == BreakerState::Closed => false,
        Some(row) => !takes_the_probe(&mut tx, row, run).await?,
    };
    if waits {
        let waiting = Waiting {
            run,
            tenant_id: settlement.run.tenant_id,
            later: settlement.run.is_later(),
            door: Door::Breaker {
                name: dependency.to_owned(),
            },
        };
        store::waiter::insert(&mut tx, &[waiting]).await?;
    } else {
        store::run::nudge(&mut tx, run, settlement.run.tenant_id).await?;
    }
    let applied = store::settle::apply(&mut tx, worker, CLAIM_SLOT, &[settlement]).await?;
    let Some((_, settled)) = applied.into_iter().next() else {
        return Ok(None);
    };
    tx.commit().await?;
    Ok(Some(settled))
}

async fn takes_the_probe(
    conn: &mut PgConnection,
    mut breaker: BreakerRow,
    run: RunKey,
) -> sqlx::Result<bool> {
    let place = Place::probe(&breaker.name);
    let uses = store::permit::list_uses(conn, &[place]).await?;
    let probed = uses.first().is_some_and(|one| one.in_use > 0);
    let due = breaker.probe_at.is_some_and(|at| at <= breaker.now);
    let probes = match breaker.state {
        BreakerState::Closed => false,
        BreakerState::Open => due,
        BreakerState::Probing => due || !probed,
    };
    if probes {
        breaker.state = BreakerState::Probing;
        breaker.probe_at = Some(breaker.now + TimeDelta::seconds(PROBE_SECONDS));
        store::permit::insert(conn, &[probe(&breaker.name, run)]).await?;
        store::breaker::store(conn, &breaker).await?;
    }
    Ok(probes)
}

pub(super) async fn wake_at_breaker(conn: &mut PgConnection, name: &str) -> sqlx::Result<usize> {
    let door = Door::Breaker {
        name: name.to_owned(),
    };
    let known = store::breaker::lock(conn, name).await?;
    let Some(mut breaker) = known.filter(|row| row.state != BreakerState::Closed) else {
        let woken = store::waiter::wake_first(conn, &door, WAKE_BATCH).await?;
        return Ok(woken.len());
    };
    if breaker.probe_at.is_none_or(|at| at > breaker.now) {
        return Ok(0);
    }
    breaker.state = BreakerState::Probing;
    breaker.probe_at = Some(breaker.now + TimeDelta::seconds(PROBE_SECONDS));
    let woken = loop {
        let taken = store::waiter::wake_first(conn, &door, 1).await?;
        match taken.first() {
            None => break 0,
            Some(one) if one.blocked => {
                store::permit::insert(conn, &[probe(name, one.run)]).await?;
                break 1;
            }
            Some(_) => {}
        }
    };
    if woken == 0 {
        let ahead = TimeDelta::seconds(NOBODY_TO_PROBE_SECONDS);
        breaker.probe_at = Some(breaker.now + ahead);
    }
    store::breaker::store(conn, &breaker).await?;
    Ok(woken)
}

fn probe(dependency: &str, run: RunKey) -> Grant {
    Grant {
        place: Place::probe(dependency),
        run,
        epoch: None,
    }
}
