//! A look at one schedule: its due slots become runs, in the transaction that moves it on.
//!
//! # Once each
//!
//! The schedule's row is locked first (`for update skip locked`, so that nodes share the work), and
//! `next_slot` moves in the transaction that inserts the runs: a look that dies leaves nothing, and
//! the next one finds the same slots due. A run's key names schedule and slot besides, so that even
//! a schedule that was deleted and made anew starts no slot again that has a run.
//!
//! Order of locks: the tenant's test clock, the schedule, then what a start locks. An advance of the
//! clock locks in the same order.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};

use super::rules::{self, Look, Plan, Verdict, reason};
use super::{Schedule, timetable};
use crate::error::EngineError;
use crate::id::RunId;
use crate::registry::Registry;
use crate::run::InboxKind;
use crate::start::{self, Origin};
use crate::store;
use crate::store::inbox::NewMessage;
use crate::store::run::{NewRun, Place};
use crate::store::schedule::ScheduleKey;
use crate::store::slot::{NewSlots, OpenSlot};

/// How many schedules one round looks at, before the worker claims again.
const PER_ROUND: i64 = 16;
/// How long a schedule is left alone after a look that failed, so that it blocks no other.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How long it is known what became of a slot.
const KEEP: TimeDelta = TimeDelta::days(400);

/// Looks at schedules whose look is due; how many were looked at.
pub(crate) async fn fire_due(pool: &PgPool, registry: &Registry) -> sqlx::Result<usize> {
    let mut conn = pool.acquire().await?;
    let known = registry.names();
    let due = store::schedule::list_due(&mut conn, &known, PER_ROUND).await?;
    let mut looked = 0;
    for key in due {
        match fire(pool, registry, key).await {
            Ok(true) => looked += 1,
            Ok(false) => {}
            Err(error) => {
                tracing::error!(
                    schedule.id = %key.schedule_id, error = ?error,
                    "cannot look at a schedule; trying again"
                );
                store::schedule::put_off(&mut conn, key, AFTER_FAILURE).await?;
            }
        }
    }
    Ok(looked)
}

async fn fire(pool: &PgPool, registry: &Registry, key: ScheduleKey) -> Result<bool, EngineError> {
    let mut tx = crate::pool::begin(pool).await?;
    if let Some(clock) = key.clock_id {
        store::schedule::hold_clock(&mut tx, clock).await?;
    }
    if !store::schedule::lock_due(&mut tx, key).await? {
        return Ok(false);
    }
    let found = store::schedule::find(&mut tx, key.schedule_id, key.shard_id).await?;
    let Some(schedule) = found else {
        return Ok(false);
    };
    look(&mut tx, registry, &schedule).await?;
    tx.commit().await?;
    Ok(true)
}

/// Decides on the due slots of a schedule whose row the transaction holds, and starts their runs.
pub(super) async fn look(
    conn: &mut PgConnection,
    registry: &Registry,
    schedule: &Schedule,
) -> Result<(), EngineError> {
    let (id, shard_id) = (schedule.schedule_id, schedule.schedule_id.shard());
    let place = Place {
        shard_id,
        clock_id: schedule.clock_id,
        closing: false,
        keys: registry.keyring().of(schedule.tenant_id).await?,
    };
    let now = store::run::find_tenant_now(conn, schedule.clock_id).await?;
    store::slot::close_ended(conn, id, shard_id).await?;
    let open = store::slot::list_open(conn, id, shard_id).await?;
    let (running, waiting): (Vec<OpenSlot>, Vec<OpenSlot>) =
        open.into_iter().partition(|slot| slot.run_id.is_some());
    let queued: Vec<_> = waiting.iter().map(|slot| slot.slot).collect();
    let (cron, zone) = timetable(&schedule.cron, &schedule.zone)?;
    let plan = rules::decide(&Look {
        cron,
        zone,
        overlap: schedule.overlap,
        catch_up: schedule.catch_up,
        next_slot: schedule.next_slot,
        now,
        busy: !running.is_empty(),
        queued: &queued,
    });
    let slots = start_runs(conn, registry, schedule, &place, now, &plan, &waiting).await?;
    store::slot::insert(conn, schedule, shard_id, &slots).await?;
    if plan.cancel {
        for run in running.iter().filter_map(|slot| slot.run_id) {
            store::inbox::insert(conn, &cancel(schedule, &place, run)).await?;
        }
    }
    let waited = waiting.get(plan.released + plan.dropped);
    let waited = waited.map_or(Duration::ZERO, |slot| slot.waited);
    let rest = plan
        .waits
        .then(|| rules::rest(waited, schedule.clock_id.is_some()));
    store::schedule::advance(conn, id, shard_id, plan.next_slot, plan.more, rest).await?;
    store::slot::delete_closed(conn, id, shard_id, now - KEEP).await?;
    Ok(())
}

/// Starts the runs of a plan; what became of each slot.
async fn start_runs(
    conn: &mut PgConnection,
    registry: &Registry,
    schedule: &Schedule,
    place: &Place,
    now: DateTime<Utc>,
    plan: &Plan,
    waiting: &[OpenSlot],
) -> Result<NewSlots, EngineError> {
    let mut outcome = NewSlots::default();
    let (released, rest) = waiting.split_at(plan.released);
    let mut wanted: Vec<(DateTime<Utc>, String)> = Vec::new();
    wanted.extend(released.iter().map(|slot| (slot.slot, slot.key.clone())));
    for slot in &rest[..plan.dropped] {
        let reason = reason::REPLACED.to_owned();
        outcome.skipped(slot.slot, None, slot.key.clone(), reason);
    }
    for (slot, verdict) in &plan.slots {
        let key = rules::slot_key(&schedule.name, *slot);
        match verdict {
            Verdict::Start => wanted.push((*slot, key)),
            Verdict::Queue => outcome.queued(*slot, key),
            Verdict::Skip { until, reason } => {
                tracing::info!(
                    schedule.id = %schedule.schedule_id, slot = %slot, reason,
                    "a slot of a schedule is skipped"
                );
                outcome.skipped(*slot, *until, key, (*reason).to_owned());
            }
        }
    }
    let mut runs = Vec::with_capacity(wanted.len());
    let mut slots = Vec::with_capacity(wanted.len());
    for (slot, key) in wanted {
        let (workflow, input) = (schedule.workflow.as_str(), &schedule.input);
        let may = registry.guard(workflow).may_start(workflow);
        match may.and_then(|()| start::prepare(registry, place, workflow, &key, input)) {
            Ok(run) => {
                runs.push(run);
                slots.push(slot);
            }
            Err(error) => {
                // The code has changed under the schedule: visible, and the next slot tries again.
                tracing::error!(
                    schedule.id = %schedule.schedule_id, slot = %slot, error = %error,
                    "a slot of a schedule cannot start its run"
                );
                outcome.skipped(slot, None, key, format!("refused: {error}"));
            }
        }
    }
    let ids = insert(conn, schedule, place, &runs).await?;
    put_off(conn, schedule, now, &runs, &slots, &ids).await?;
    for ((run, slot), id) in runs.into_iter().zip(slots).zip(ids) {
        outcome.started(slot, run.key, id);
    }
    Ok(outcome)
}

/// Puts the new runs off by their slots' jitter. A run that held its key before is left alone: its
/// due instant is its own.
async fn put_off(
    conn: &mut PgConnection,
    schedule: &Schedule,
    now: DateTime<Utc>,
    runs: &[NewRun],
    slots: &[DateTime<Utc>],
    ids: &[RunId],
) -> Result<(), EngineError> {
    if schedule.jitter_seconds == 0 || schedule.clock_id.is_some() {
        return Ok(());
    }
    let (id, seconds) = (schedule.schedule_id, schedule.jitter_seconds);
    let (late, due): (Vec<_>, Vec<_>) = runs
        .iter()
        .zip(slots)
        .zip(ids)
        .filter(|((run, _), id)| run.run_id == **id)
        .map(|((run, slot), _)| (run.run_id, *slot + rules::jitter(id, *slot, seconds)))
        .filter(|(_, due)| *due > now)
        .unzip();
    if !late.is_empty() {
        let shard = schedule.schedule_id.shard();
        store::slot::delay_runs(conn, shard, &late, &due).await?;
    }
    Ok(())
}

/// Inserts runs; the run of a key that is taken is the run of the slot.
async fn insert(
    conn: &mut PgConnection,
    schedule: &Schedule,
    place: &Place,
    runs: &[NewRun],
) -> Result<Vec<RunId>, EngineError> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let tenant = schedule.tenant_id;
    let inserted = store::run::insert(conn, tenant, place, Origin::default(), runs).await?;
    let mut ids = Vec::with_capacity(runs.len());
    for run in runs {
        if inserted.contains(&run.run_id) {
            ids.push(run.run_id);
            continue;
        }
        let holder =
            store::run::find_by_key(conn, tenant, place.shard_id, &run.workflow, &run.key).await?;
        let holder = holder.ok_or_else(|| EngineError::RunNotFound(run.key.clone()))?;
        ids.push(holder.run_id);
    }
    Ok(ids)
}

fn cancel(schedule: &Schedule, place: &Place, run_id: RunId) -> NewMessage<'static> {
    NewMessage {
        run_id,
        shard_id: place.shard_id,
        tenant_id: schedule.tenant_id,
        clock_id: place.clock_id,
        kind: InboxKind::Cancel,
        position: 0,
        signal_id: "cancel",
        name: "cancel",
        payload: b"null",
    }
}
