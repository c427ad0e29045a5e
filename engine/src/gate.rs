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

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use crate::choose;
use crate::executor::Held;
use crate::id::{Epoch, RunId, TenantId, WorkerId};
use crate::limit::{Need, Rate};
use crate::plan::{self, Settlement};
use crate::registry::Registry;
use crate::run::RunKey;
use crate::store;
use crate::store::breaker::{BreakerRow, BreakerState};
use crate::store::claim::CLAIM_SLOT;
use crate::store::settle::Settled;

/// The most runs that one transaction wakes.
const WAKE_BATCH: i64 = 500;
/// How long a woken run may take to come for its permit before it is given to the next.
const RESERVED_SECONDS: f64 = 60.0;
/// How long a probe may take before the next run probes.
const PROBE_SECONDS: i64 = 60;
/// Where a breaker waits for whoever comes first.
const NOBODY_TO_PROBE_SECONDS: i64 = 24 * 3600;
/// What the permit of a probe is called; limits cannot be called so.
const PROBE: &str = "breaker:";

/// Where a run waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    /// For room under a limit, in the count of a key.
    Limit { name: String, key: String },
    /// Until a dependency answers again.
    Breaker { name: String },
    /// Until a workflow, queue or tenant goes on.
    Pause { scope: String, name: String },
}

impl Door {
    pub(crate) fn gate(&self) -> &'static str {
        match self {
            Self::Limit { .. } => "limit",
            Self::Breaker { .. } => "breaker",
            Self::Pause { .. } => "pause",
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Limit { name, .. } | Self::Breaker { name } => name,
            Self::Pause { scope, .. } => scope,
        }
    }

    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Limit { key, .. } => key,
            Self::Breaker { .. } => "",
            Self::Pause { name, .. } => name,
        }
    }

    /// Reads the stored spelling.
    pub(crate) fn decode(gate: &str, name: String, key: String) -> Option<Self> {
        match gate {
            "limit" => Some(Self::Limit { name, key }),
            "breaker" => Some(Self::Breaker { name }),
            "pause" => Some(Self::Pause {
                scope: name,
                name: key,
            }),
            _ => None,
        }
    }

    /// In words, for the log of visits.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Limit { name, key } if key.is_empty() => format!("no room under limit {name}"),
            Self::Limit { name, key } => format!("no room under limit {name} for {key}"),
            Self::Breaker { name } => format!("dependency {name} does not answer"),
            Self::Pause { scope, name } => format!("{scope} {name} is paused"),
        }
    }
}

/// A limit's numbers, with the database's time.
#[derive(Debug, Clone)]
pub(crate) struct LimitRow {
    pub(crate) name: String,
    pub(crate) concurrency: Option<i32>,
    pub(crate) rate: Option<i32>,
    pub(crate) period_seconds: Option<i32>,
    pub(crate) burst: Option<i32>,
    pub(crate) now: DateTime<Utc>,
}

impl LimitRow {
    fn rate(&self) -> Option<Rate> {
        let number = |value: Option<i32>| value.and_then(|n| u32::try_from(n).ok());
        Some(Rate {
            count: number(self.rate)?,
            period_seconds: number(self.period_seconds)?,
            burst: number(self.burst)?,
        })
    }
}

/// How much of a limit is in use under one key.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) in_use: i64,
    /// Somebody waits already; who comes now goes behind.
    pub(crate) awaited: bool,
    pub(crate) tokens: Option<f64>,
    pub(crate) refilled_at: Option<DateTime<Utc>>,
}

impl Use {
    /// Tokens by now; without end when there is no rate.
    fn tokens(&self, limit: &LimitRow) -> f64 {
        let Some(rate) = limit.rate() else {
            return f64::INFINITY;
        };
        let burst = f64::from(rate.burst);
        let (Some(tokens), Some(at)) = (self.tokens, self.refilled_at) else {
            return burst;
        };
        let elapsed = (limit.now - at).as_seconds_f64().max(0.0);
        (tokens + elapsed * rate.tokens_per_second()).min(burst)
    }

    /// How many more may begin.
    fn room(&self, limit: &LimitRow) -> i64 {
        let slots = limit
            .concurrency
            .map_or(i64::MAX, |most| i64::from(most) - self.in_use);
        let tokens = self.tokens(limit);
        let tokens = if tokens.is_finite() {
            tokens.floor() as i64
        } else {
            i64::MAX
        };
        slots.min(tokens).max(0)
    }

    /// The bucket after `taken` have begun; `None` without a rate.
    fn bucket(&self, limit: &LimitRow, taken: i64, awaited: bool) -> Option<Bucket> {
        let rate = limit.rate()?;
        let tokens = self.tokens(limit) - taken as f64;
        let lacking = (1.0 - tokens).max(0.0) / rate.tokens_per_second();
        let ahead = chrono::TimeDelta::microseconds((lacking * 1e6).ceil() as i64);
        // With a token there, what is lacking is a slot, and its release wakes the next.
        let wake_at = (awaited && tokens < 1.0).then(|| limit.now + ahead);
        Some(Bucket {
            name: self.name.clone(),
            key: self.key.clone(),
            tokens,
            wake_at,
        })
    }
}

/// A token bucket as it is written down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) tokens: f64,
    pub(crate) wake_at: Option<DateTime<Utc>>,
}

/// A pause of more than one run.
#[derive(Debug, Clone)]
pub(crate) struct PauseRow {
    pub(crate) scope: String,
    pub(crate) name: String,
}

/// Room that is given to a run: for a hold, or reserved until it comes.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) run: RunKey,
    pub(crate) epoch: Option<Epoch>,
}

/// A run and the door at which it waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) run: RunKey,
    pub(crate) tenant_id: TenantId,
    pub(crate) door: Door,
}

/// Who stands at the gate, and what it needs.
struct Asker<'a> {
    run_id: RunId,
    tenant_id: TenantId,
    workflow: &'a str,
    queue: &'a str,
    needs: Vec<Need>,
    /// Somebody wants it to end: no door is closed to it.
    passes: bool,
}

/// What the gate sees while it decides.
#[derive(Default)]
struct View {
    pauses: Vec<PauseRow>,
    limits: HashMap<String, LimitRow>,
    uses: HashMap<(String, String), Use>,
    taken: HashMap<(String, String), i64>,
    permits: HashMap<RunId, HashSet<(String, String)>>,
}

impl View {
    /// Lets the run in and takes the room that it needs, or says where it waits.
    fn judge(&mut self, asker: &Asker<'_>) -> Result<Vec<(String, String)>, Door> {
        if asker.passes {
            return Ok(Vec::new());
        }
        if let Some(pause) = self.pauses.iter().find(|pause| asker.is_under(pause)) {
            return Err(Door::Pause {
                scope: pause.scope.clone(),
                name: pause.name.clone(),
            });
        }
        let needs: Vec<_> = asker
            .needs
            .iter()
            .map(|need| (need.limit.to_owned(), need.key.clone()))
            .collect();
        let reserved = self.permits.get(&asker.run_id).cloned().unwrap_or_default();
        let new: Vec<_> = needs
            .iter()
            .filter(|place| !reserved.contains(*place))
            .cloned()
            .collect();
        if let Some((name, key)) = new.iter().find(|place| !self.has_room(place)) {
            return Err(Door::Limit {
                name: name.clone(),
                key: key.clone(),
            });
        }
        for place in &new {
            *self.taken.entry(place.clone()).or_default() += 1;
        }
        // A probe's permit is no need of the workflow's, but it goes with the run.
        let probes = reserved
            .into_iter()
            .filter(|(name, _)| name.starts_with(PROBE));
        Ok(needs.into_iter().chain(probes).collect())
    }

    fn has_room(&self, place: &(String, String)) -> bool {
        let (Some(limit), Some(in_use)) = (self.limits.get(&place.0), self.uses.get(place)) else {
            return true;
        };
        let taken = self.taken.get(place).copied().unwrap_or(0);
        !in_use.awaited && in_use.room(limit) > taken
    }

    /// The buckets from which tokens were taken, or at which somebody waits now.
    fn buckets(&self, waiting: &[Waiting]) -> Vec<Bucket> {
        self.uses
            .iter()
            .filter_map(|(place, in_use)| {
                let limit = self.limits.get(&place.0)?;
                let taken = self.taken.get(place).copied().unwrap_or(0);
                let here = |door: &Door| {
                    matches!(door, Door::Limit { name, key } if (name, key) == (&place.0, &place.1))
                };
                let awaited = in_use.awaited || waiting.iter().any(|one| here(&one.door));
                in_use.bucket(limit, taken, awaited)
            })
            .collect()
    }
}

impl Asker<'_> {
    fn is_under(&self, pause: &PauseRow) -> bool {
        match pause.scope.as_str() {
            "workflow" => pause.name == self.workflow,
            "queue" => pause.name == self.queue,
            "tenant" => pause.name == self.tenant_id.to_string(),
            _ => false,
        }
    }
}

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
    let mut tx = pool.begin().await?;
    let (entered, freed) = decide(&mut tx, registry, worker, asking).await?;
    tx.commit().await?;
    through.extend(entered);
    let mut woken = false;
    for place in freed {
        woken |= wake(pool, &limit_door(place)).await?;
    }
    Ok(Passed { through, woken })
}

/// Who came through the gate.
pub(crate) struct Passed {
    pub(crate) through: Vec<Held>,
    /// Room came free meanwhile, and somebody was woken for it.
    pub(crate) woken: bool,
}

fn limit_door((name, key): (String, String)) -> Door {
    match name.strip_prefix(PROBE) {
        Some(dependency) => Door::Breaker {
            name: dependency.to_owned(),
        },
        None => Door::Limit { name, key },
    }
}

/// Who entered, and whose reserved room came free.
type Decided = (Vec<Held>, Vec<(String, String)>);

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
                grants.extend(permits.iter().map(|(name, key)| Grant {
                    name: name.clone(),
                    key: key.clone(),
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
                    door,
                });
            }
        }
    }
    // What was reserved for a run that cannot use it now is somebody else's.
    let idle: Vec<_> = idle
        .into_iter()
        .filter(|run| view.permits.contains_key(&run.run_id))
        .collect();
    let freed = match idle.as_slice() {
        [] => Vec::new(),
        idle => store::flow::delete_permits_of(conn, idle).await?,
    };
    if !entered.is_empty() {
        let runs: Vec<_> = entered.iter().map(|held| held.run.key).collect();
        store::flow::delete_waiters(conn, &runs).await?;
    }
    if !grants.is_empty() {
        store::flow::insert_permits(conn, &grants).await?;
    }
    let buckets = view.buckets(&waiting);
    if !buckets.is_empty() {
        store::flow::store_buckets(conn, &buckets).await?;
    }
    if !waiting.is_empty() {
        store::flow::insert_waiters(conn, &waiting).await?;
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
    let mut places: Vec<(&str, &str)> = askers
        .iter()
        .flat_map(|asker| &asker.needs)
        .map(|need| (need.limit, need.key.as_str()))
        .collect();
    places.sort_unstable();
    places.dedup();
    if !places.is_empty() {
        let mut names: Vec<&str> = places.iter().map(|(name, _)| *name).collect();
        names.dedup();
        let limits = store::flow::lock_limits(conn, &names).await?;
        view.limits = limits
            .into_iter()
            .map(|row| (row.name.clone(), row))
            .collect();
        let uses = store::flow::list_uses(conn, &places).await?;
        view.uses = uses
            .into_iter()
            .map(|one| ((one.name.clone(), one.key.clone()), one))
            .collect();
    }
    view.pauses = store::flow::hold_pauses(conn).await?;
    let runs: Vec<_> = asking.iter().map(|held| held.run.key).collect();
    for (run, name, key) in store::flow::list_permits(conn, &runs).await? {
        view.permits.entry(run).or_default().insert((name, key));
    }
    Ok(view)
}

/// Takes permits back from visits that are over, and wakes who waited for the room.
pub(crate) async fn give_back(pool: &PgPool, holds: &[(RunKey, Epoch)]) -> sqlx::Result<bool> {
    let mut conn = pool.acquire().await?;
    let freed = store::flow::delete_permits(&mut conn, holds).await?;
    drop(conn);
    let mut woken = false;
    for place in freed {
        woken |= wake(pool, &limit_door(place)).await?;
    }
    Ok(woken)
}

/// Wakes whoever may pass a door by now; whether there was somebody.
pub(crate) async fn wake(pool: &PgPool, door: &Door) -> sqlx::Result<bool> {
    let mut any = false;
    loop {
        let mut tx = pool.begin().await?;
        let woken = match door {
            Door::Limit { name, key } => wake_at_limit(&mut tx, name, key).await?,
            Door::Breaker { name } => wake_at_breaker(&mut tx, name).await?,
            Door::Pause { scope, name } => {
                if store::flow::is_paused(&mut tx, scope, name).await? {
                    0
                } else {
                    store::flow::wake_first(&mut tx, door, WAKE_BATCH)
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

async fn wake_at_limit(conn: &mut PgConnection, name: &str, key: &str) -> sqlx::Result<usize> {
    let Some(limit) = store::flow::lock_limits(conn, &[name]).await?.pop() else {
        return Ok(0);
    };
    let place = [(name, key)];
    let Some(before) = store::flow::list_uses(conn, &place).await?.pop() else {
        return Ok(0);
    };
    let door = Door::Limit {
        name: name.to_owned(),
        key: key.to_owned(),
    };
    let mut room = before.room(&limit).min(WAKE_BATCH);
    let mut grants = Vec::new();
    while room > 0 {
        let taken = store::flow::wake_first(conn, &door, room).await?;
        if taken.is_empty() {
            break;
        }
        let blocked = taken.iter().filter(|one| one.blocked);
        let new: Vec<Grant> = blocked
            .map(|one| Grant {
                name: name.to_owned(),
                key: key.to_owned(),
                run: one.run,
                epoch: None,
            })
            .collect();
        room -= i64::try_from(new.len()).unwrap_or(i64::MAX);
        grants.extend(new);
    }
    if !grants.is_empty() {
        store::flow::insert_permits(conn, &grants).await?;
    }
    let awaited = before.awaited && {
        let after = store::flow::list_uses(conn, &place).await?;
        after.first().is_some_and(|one| one.awaited)
    };
    let taken = i64::try_from(grants.len()).unwrap_or(i64::MAX);
    if let Some(bucket) = before.bucket(&limit, taken, awaited) {
        store::flow::store_buckets(conn, &[bucket]).await?;
    }
    Ok(grants.len())
}

async fn wake_at_breaker(conn: &mut PgConnection, name: &str) -> sqlx::Result<usize> {
    let door = Door::Breaker {
        name: name.to_owned(),
    };
    let known = store::breaker::lock(conn, name).await?;
    let Some(mut breaker) = known.filter(|row| row.state != BreakerState::Closed) else {
        let woken = store::flow::wake_first(conn, &door, WAKE_BATCH).await?;
        return Ok(woken.len());
    };
    if breaker.probe_at.is_none_or(|at| at > breaker.now) {
        return Ok(0);
    }
    breaker.state = BreakerState::Probing;
    breaker.probe_at = Some(breaker.now + chrono::TimeDelta::seconds(PROBE_SECONDS));
    let woken = loop {
        let taken = store::flow::wake_first(conn, &door, 1).await?;
        match taken.first() {
            None => break 0,
            Some(one) if one.blocked => {
                store::flow::insert_permits(conn, &[probe(name, one.run)]).await?;
                break 1;
            }
            Some(_) => {}
        }
    };
    if woken == 0 {
        let ahead = chrono::TimeDelta::seconds(NOBODY_TO_PROBE_SECONDS);
        breaker.probe_at = Some(breaker.now + ahead);
    }
    store::breaker::store(conn, &breaker).await?;
    Ok(woken)
}

fn probe(dependency: &str, run: RunKey) -> Grant {
    Grant {
        name: format!("{PROBE}{dependency}"),
        key: String::new(),
        run,
        epoch: None,
    }
}

/// Whether the run is the one that tries whether a dependency answers again.
pub(crate) fn is_probe(permits: &[(String, String)], dependency: &str) -> bool {
    permits
        .iter()
        .any(|(name, _)| name.strip_prefix(PROBE) == Some(dependency))
}

/// Settles a run whose step met an open breaker: it waits there, or tries at once when the breaker
/// has closed meanwhile, or is the one that probes.
pub(crate) async fn park(
    pool: &PgPool,
    worker: WorkerId,
    settlement: &Settlement,
    dependency: &str,
) -> sqlx::Result<Option<Settled>> {
    let mut tx = pool.begin().await?;
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
            door: Door::Breaker {
                name: dependency.to_owned(),
            },
        };
        store::flow::insert_waiters(&mut tx, &[waiting]).await?;
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
    let name = format!("{PROBE}{}", breaker.name);
    let uses = store::flow::list_uses(conn, &[(&name, "")]).await?;
    let probed = uses.first().is_some_and(|one| one.in_use > 0);
    let due = breaker.probe_at.is_some_and(|at| at <= breaker.now);
    let probes = match breaker.state {
        BreakerState::Closed => false,
        BreakerState::Open => due,
        BreakerState::Probing => due || !probed,
    };
    if probes {
        breaker.state = BreakerState::Probing;
        breaker.probe_at = Some(breaker.now + chrono::TimeDelta::seconds(PROBE_SECONDS));
        store::flow::insert_permits(conn, &[probe(&breaker.name, run)]).await?;
        store::breaker::store(conn, &breaker).await?;
    }
    Ok(probes)
}

/// Opens the doors whose time has come: tokens, and probes.
pub(crate) async fn wake_due(pool: &PgPool) -> sqlx::Result<()> {
    let due = store::flow::list_due(&mut *pool.acquire().await?).await?;
    for door in due {
        wake(pool, &door).await?;
    }
    Ok(())
}

/// Takes back what lost workers and ended runs left, and wakes whoever may pass: nobody waits for
/// ever because somebody died between giving room back and waking the next.
pub(crate) async fn sweep(pool: &PgPool) -> sqlx::Result<()> {
    let mut conn = pool.acquire().await?;
    store::flow::delete_stale_permits(&mut conn, RESERVED_SECONDS).await?;
    store::flow::delete_full_buckets(&mut conn).await?;
    let doors = store::flow::list_awaited(&mut conn).await?;
    drop(conn);
    for door in doors {
        wake(pool, &door).await?;
    }
    Ok(())
}
