//! Where runs wait for room: limits, breakers, and pauses of more than one run.
//!
//! # The protocol
//!
//! A claimed run whose workflow names needs, or that was blocked before, or while any pause stands,
//! passes the gate before its visit. In one transaction the gate locks the limits in question (in
//! the order of their names), reads the pauses under a lock that keeps them from being lifted, and
//! then either writes the run's **permits** down, or settles it as *blocked* and writes down what
//! it **waits** for. Room is given out, and a door opened, under the same locks: whoever opens it
//! sees everybody who waits, and nobody begins to wait at a door that is open.
//!
//! ```text
//! claim ─ gate ─┬─ permits ─ visit ─ settle ─ permits back ─ wake the next
//!               └─ blocked, waiter ……… wake: permit reserved, nudge ─ claim ─ gate ─ visit
//! ```
//!
//! A woken run finds its permit reserved, so nobody overtakes it. A blocked run has no row in
//! `due`. Any nudge brings it to the gate again: a signal to it costs a look, never a wake-up too
//! many; a request to end passes every gate. Permits carry the epoch of the hold that they are
//! used under, so that those of a lost worker are known and taken back (`sweep`).
//!
//! What is decided here is decided by [`View::judge`], purely; the statements are in
//! `store/flow.rs` and `store/breaker.rs`.

mod door;
mod probe;
mod rules;
mod wake;

use sqlx::{PgConnection, PgPool};

use crate::choose;
use crate::executor::Held;
use crate::id::WorkerId;
use crate::plan::{self, Settlement};
use crate::registry::Registry;
use crate::store;
use crate::store::claim::CLAIM_SLOT;

pub(crate) use self::door::{Door, Grant, Place, Waiting};
pub(crate) use self::probe::{is_probe, park};
use self::rules::{Asker, View};
pub(crate) use self::rules::{Bucket, LimitRow, PauseRow, Use};
pub(crate) use self::wake::{give_back, sweep, wake, wake_due};

/// Lets claimed runs through; the others are blocked when this returns. Runs that need nothing are
/// not looked at.
pub(crate) async fn pass(
    pool: &PgPool,
    registry: &Registry,
    worker: WorkerId,
    claimed: Vec<Held>,
) -> sqlx::Result<Passed> {
    let (asking, mut through): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|held| {
        held.run.gated
            || !registry
                .needs(&held.run.workflow, held.run.version, &held.run.data)
                .is_empty()
    });
    if asking.is_empty() {
        return Ok(Passed {
            through,
            woken: false,
        });
    }
    let mut tx = crate::pool::begin(pool).await?;
    let (entered, freed) = decide(&mut tx, registry, worker, asking).await?;
    tx.commit().await?;
    through.extend(entered);
    let mut woken = false;
    for place in freed {
        woken |= wake(pool, &place.door()).await?;
    }
    Ok(Passed { through, woken })
}

/// Who came through the gate.
pub(crate) struct Passed {
    pub(crate) through: Vec<Held>,
    /// Room came free meanwhile, and somebody was woken for it.
    pub(crate) woken: bool,
}

/// Who entered, and whose reserved room came free.
type Decided = (Vec<Held>, Vec<Place>);

async fn decide(
    conn: &mut PgConnection,
    registry: &Registry,
    worker: WorkerId,
    asking: Vec<Held>,
) -> sqlx::Result<Decided> {
    let askers: Vec<Asker<'_>> = asking
        .iter()
        .map(|held| Asker {
            run_id: held.run.key.run_id,
            tenant_id: held.run.tenant_id,
            workflow: &held.run.workflow,
            queue: registry.queue(&held.run.workflow),
            needs: registry.needs(&held.run.workflow, held.run.version, &held.run.data),
            passes: choose::wants_to_end(&held.inbox),
        })
        .collect();
    let mut view = look(conn, &asking, &askers).await?;
    let verdicts: Vec<_> = askers.iter().map(|asker| view.judge(asker)).collect();
    drop(askers);
    let (mut entered, mut settlements, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    let (mut grants, mut idle) = (Vec::new(), Vec::new());
    for (mut held, verdict) in asking.into_iter().zip(verdicts) {
        let run = held.run.key;
        match verdict {
            Ok(permits) => {
                if permits.is_empty() {
                    idle.push(run);
                }
                grants.extend(permits.iter().map(|place| Grant {
                    place: place.clone(),
                    run,
                    epoch: Some(held.run.epoch),
                }));
                held.permits = permits;
                entered.push(held);
            }
            Err(door) => {
                idle.push(run);
                settlements.push(plan::blocked(&held.run, "claimed", &door));
                waiting.push(Waiting {
                    run,
                    tenant_id: held.run.tenant_id,
                    later: held.run.is_later(),
                    door,
                });
            }
        }
    }
    // What was reserved for a run that cannot use it now is somebody else's.
    let idle: Vec<_> = idle
        .into_iter()
        .filter(|run| view.reserved.contains_key(&run.run_id))
        .collect();
    let freed = match idle.as_slice() {
        [] => Vec::new(),
        idle => store::permit::delete_of(conn, idle).await?,
    };
    if !entered.is_empty() {
        let runs: Vec<_> = entered.iter().map(|held| held.run.key).collect();
        store::waiter::delete(conn, &runs).await?;
    }
    if !grants.is_empty() {
        store::permit::insert(conn, &grants).await?;
    }
    let buckets = view.buckets(&waiting);
    if !buckets.is_empty() {
        store::limit::store_buckets(conn, &buckets).await?;
    }
    if !waiting.is_empty() {
        store::waiter::insert(conn, &waiting).await?;
        let all: Vec<&Settlement> = settlements.iter().collect();
        // One that is fenced is somebody else's by now; its waiter is dropped when it is woken.
        store::settle::apply(conn, worker, CLAIM_SLOT, &all).await?;
    }
    Ok((entered, freed))
}

async fn look(
    conn: &mut PgConnection,
    asking: &[Held],
    askers: &[Asker<'_>],
) -> sqlx::Result<View> {
    let mut view = View::default();
    let needs = askers.iter().flat_map(|asker| &asker.needs);
    let mut places: Vec<Place> = needs.map(Place::of).collect();
    places.sort();
    places.dedup();
    if !places.is_empty() {
        let mut names: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
        names.dedup();
        let limits = store::limit::lock(conn, &names).await?;
        let by_name = limits.into_iter().map(|row| (row.name.clone(), row));
        view.limits = by_name.collect();
        let uses = store::permit::list_uses(conn, &places).await?;
        view.uses = uses
            .into_iter()
            .map(|one| (one.place.clone(), one))
            .collect();
    }
    view.pauses = store::pause::hold_all(conn).await?;
    let runs: Vec<_> = asking.iter().map(|held| held.run.key).collect();
    for (run, place) in store::permit::list(conn, &runs).await? {
        view.reserved.entry(run).or_default().insert(place);
    }
    Ok(view)
}
