//! Schedules: cron entries in an IANA zone whose slots become runs, each slot once.
//!
//! [`Cron`] names the instants, `rules.rs` decides what becomes of them, `fire.rs` does it in a
//! worker's housekeeping. Here are the doors. Each act of a human carries a reason and the revision
//! that was seen, and leaves an audit row under the schedule's id.
//!
//! A slot is an instant of the tenant's time: a tenant on a test clock has its slots when the clock
//! passes them. Jitter spreads load in real time, so it does not apply there.
//!
//! What was due before an act is decided by the rules from before it. A pause stops slots from
//! coming about and waiting ones from starting; nothing of it is made up afterwards, because it was
//! on purpose. Runs that were started go on, also after the schedule is deleted.

mod cron;
pub(crate) mod fire;
mod rules;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;

pub use cron::{Cron, CronError, Slots};
pub use rules::{CatchUp, Overlap};

use crate::error::EngineError;
use crate::id::{self, ClockId, RunId, ScheduleId, TenantId};
use crate::operator::{self, Act};
use crate::payload;
use crate::registry::Registry;
use crate::run::Status;
use crate::seal::TenantKeys;
use crate::start::{self, Started};
use crate::store;
use crate::store::operator::Audit;
use crate::store::run::Place;
use crate::store::slot::NewSlots;

/// The longest jitter, in seconds: a day.
const MAX_JITTER_SECONDS: i32 = 86_400;
/// The longest name, in bytes; with a slot it makes a run's key.
const MAX_NAME_BYTES: usize = 100;
/// How many coming and past slots a detail shows.
const COMING: usize = 10;
const PAST: i64 = 50;

/// A schedule to make.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    /// The owner's name for it: letters, digits, `.`, `_`, `-`; unique per tenant.
    pub name: String,
    /// What to start.
    pub workflow: String,
    /// The input of each run.
    pub input: Value,
    /// Five fields, see [`Cron`].
    pub cron: String,
    /// The IANA zone in which the expression is read.
    pub zone: String,
    /// What a slot does while a run of an earlier one has not ended.
    pub overlap: Overlap,
    /// Which slots are made up that nobody was there for.
    pub catch_up: CatchUp,
    /// Up to how long after its slot a run becomes due.
    pub jitter_seconds: i32,
}

/// What to change of a schedule; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct ScheduleChange {
    /// The input of each run.
    pub input: Option<Value>,
    /// Five fields, see [`Cron`].
    pub cron: Option<String>,
    /// The IANA zone.
    pub zone: Option<String>,
    /// What a slot does while a run of an earlier one has not ended.
    pub overlap: Option<Overlap>,
    /// Which slots are made up that nobody was there for.
    pub catch_up: Option<CatchUp>,
    /// Up to how long after its slot a run becomes due.
    pub jitter_seconds: Option<i32>,
}

/// A schedule.
#[derive(Debug, Clone, Serialize)]
pub struct Schedule {
    /// Identity.
    pub schedule_id: ScheduleId,
    /// The owner.
    pub tenant_id: TenantId,
    /// The owner's test clock.
    pub clock_id: Option<ClockId>,
    /// The owner's name for it.
    pub name: String,
    /// What it starts.
    pub workflow: String,
    /// The input of each run.
    pub input: Value,
    /// Five fields.
    pub cron: String,
    /// The IANA zone.
    pub zone: String,
    /// What a slot does while a run of an earlier one has not ended.
    pub overlap: Overlap,
    /// Which slots are made up that nobody was there for.
    pub catch_up: CatchUp,
    /// Up to how long after its slot a run becomes due.
    pub jitter_seconds: i32,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// What an act has to carry: each act raises it.
    pub revision: i64,
    /// The first slot that nothing was decided on yet, in the tenant's time.
    pub next_slot: Option<DateTime<Utc>>,
    /// When it was made, in real time.
    pub created_at: DateTime<Utc>,
    /// When a human last changed it, in real time.
    pub changed_at: DateTime<Utc>,
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotOutcome {
    /// It started a run.
    Started,
    /// It waits for an earlier run to end.
    Queued,
    /// It was skipped, for a reason.
    Skipped,
}

impl SlotOutcome {
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Started => 1,
            Self::Queued => 2,
            Self::Skipped => 3,
        }
    }

    pub(crate) const fn from_code(code: i16) -> Self {
        match code {
            1 => Self::Started,
            2 => Self::Queued,
            _ => Self::Skipped,
        }
    }
}

/// A slot and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct SlotLine {
    /// When, in the tenant's time; of an extra run, when it was asked for.
    pub slot: DateTime<Utc>,
    /// The last slot of a stretch that was skipped as one.
    pub until: Option<DateTime<Utc>>,
    /// What became of it.
    pub outcome: SlotOutcome,
    /// When that was decided, in real time.
    pub decided_at: DateTime<Utc>,
    /// The key of its run.
    pub key: String,
    /// Its run.
    pub run_id: Option<RunId>,
    /// Where the engine has that run, if it is still kept.
    pub status: Option<Status>,
    /// Why it was skipped: `missed`, `overlap`, `replaced`, or `refused: …`.
    pub reason: Option<String>,
}

/// Which schedules are wanted; nothing set means all.
#[derive(Debug, Clone, Default)]
pub struct ScheduleFilter {
    /// By owner.
    pub tenant_id: Option<TenantId>,
    /// By workflow.
    pub workflow: Option<String>,
    /// By name.
    pub name: Option<String>,
    /// By whether it is paused.
    pub paused: Option<bool>,
}

/// A schedule, looked at closely.
#[derive(Debug, Clone)]
pub struct ScheduleDetail {
    /// As in lists.
    pub schedule: Schedule,
    /// The next slots, in the tenant's time; none while it is paused.
    pub coming: Vec<DateTime<Utc>>,
    /// What became of the last slots, latest first.
    pub slots: Vec<SlotLine>,
}

/// Makes a schedule; its first slot is the first one after now.
///
/// # Errors
/// [`EngineError::BadSchedule`] names the field; [`EngineError::NameTaken`],
/// [`EngineError::UnknownTenant`], [`EngineError::UnknownWorkflow`], [`EngineError::Malformed`] when
/// the input does not fit the workflow.
pub async fn create(
    conn: &mut PgConnection,
    registry: &Registry,
    tenant: TenantId,
    new: &NewSchedule,
    act: &Act,
) -> Result<Schedule, EngineError> {
    operator::check_reason(&act.reason)?;
    check_name(&new.name)?;
    check_jitter(new.jitter_seconds)?;
    let (cron, zone) = timetable(&new.cron, &new.zone)?;
    let place = store::run::find_place(conn, tenant)
        .await?
        .ok_or(EngineError::UnknownTenant(tenant))?;
    if place.closing {
        return Err(EngineError::TenantClosing(tenant));
    }
    let input = check_input(registry, &place, &new.workflow, &new.name, &new.input)?;
    if let Some(clock) = place.clock_id {
        store::schedule::hold_clock(conn, clock).await?;
    }
    let now = store::run::find_tenant_now(conn, place.clock_id).await?;
    let next_slot = cron.slots_after(now, zone).next();
    let schedule = Schedule {
        schedule_id: ScheduleId::new(place.shard_id),
        tenant_id: tenant,
        clock_id: place.clock_id,
        name: new.name.clone(),
        workflow: new.workflow.clone(),
        input: new.input.clone(),
        cron: new.cron.trim().to_owned(),
        zone: zone.name().to_owned(),
        overlap: new.overlap,
        catch_up: new.catch_up,
        jitter_seconds: new.jitter_seconds,
        paused: false,
        revision: 1,
        next_slot: Some(next_slot.ok_or_else(|| never(&new.cron))?),
        created_at: now,
        changed_at: now,
    };
    if !store::schedule::insert(conn, &schedule, place.shard_id, &input).await? {
        return Err(EngineError::NameTaken(new.name.clone()));
    }
    audit(
        conn,
        &schedule,
        "schedule create",
        act,
        &Value::Null,
        &shape(&schedule),
    )
    .await?;
    // Read back for the real instants that the database gave it.
    find(conn, schedule.schedule_id).await
}

/// Changes a schedule. With another expression or zone its next slot is the first one after now.
///
/// # Errors
/// As [`create`]; [`EngineError::ScheduleNotFound`], [`EngineError::Moved`].
pub async fn update(
    conn: &mut PgConnection,
    registry: &Registry,
    id: ScheduleId,
    change: &ScheduleChange,
    act: &Act,
) -> Result<Schedule, EngineError> {
    let (before, now) = lock(conn, registry, id, act).await?;
    let mut after = before.clone();
    if let Some(jitter) = change.jitter_seconds {
        check_jitter(jitter)?;
        after.jitter_seconds = jitter;
    }
    after.overlap = change.overlap.unwrap_or(before.overlap);
    after.catch_up = change.catch_up.unwrap_or(before.catch_up);
    if let Some(input) = &change.input {
        let private = registry.private(&before.workflow);
        after.input = private.restore(input.clone(), &before.input);
        check_input(
            registry,
            &place(&before, TenantKeys::default()),
            &before.workflow,
            &before.name,
            &after.input,
        )?;
    }
    if let Some(cron) = &change.cron {
        cron.trim().clone_into(&mut after.cron);
    }
    if let Some(zone) = &change.zone {
        after.zone.clone_from(zone);
    }
    let (cron, zone) = timetable(&after.cron, &after.zone)?;
    zone.name().clone_into(&mut after.zone);
    if (&after.cron, &after.zone) != (&before.cron, &before.zone) {
        let next_slot = cron.slots_after(now, zone).next();
        let next_slot = next_slot.ok_or_else(|| never(&after.cron))?;
        after.next_slot = (!before.paused).then_some(next_slot);
    }
    settle(conn, "schedule update", &before, after, act).await
}

/// Stops slots from coming about. Runs that were started go on.
///
/// # Errors
/// [`EngineError::ScheduleNotFound`], [`EngineError::Moved`], [`EngineError::NotAllowed`] when it is
/// paused.
pub async fn pause(
    conn: &mut PgConnection,
    registry: &Registry,
    id: ScheduleId,
    act: &Act,
) -> Result<Schedule, EngineError> {
    let (before, _) = lock(conn, registry, id, act).await?;
    if before.paused {
        return Err(not_allowed("pause", "it is paused"));
    }
    let mut after = before.clone();
    after.paused = true;
    after.next_slot = None;
    settle(conn, "schedule pause", &before, after, act).await
}

/// Goes on with the first slot after now.
///
/// # Errors
/// [`EngineError::ScheduleNotFound`], [`EngineError::Moved`], [`EngineError::NotAllowed`] when it is
/// not paused.
pub async fn resume(
    conn: &mut PgConnection,
    registry: &Registry,
    id: ScheduleId,
    act: &Act,
) -> Result<Schedule, EngineError> {
    let (before, now) = lock(conn, registry, id, act).await?;
    if !before.paused {
        return Err(not_allowed("resume", "it is not paused"));
    }
    let (cron, zone) = timetable(&before.cron, &before.zone)?;
    let mut after = before.clone();
    after.paused = false;
    after.next_slot = cron.slots_after(now, zone).next();
    settle(conn, "schedule resume", &before, after, act).await
}

/// Starts an extra run at once, whatever the policies and a pause say. Later slots see it as an
/// earlier run.
///
/// # Errors
/// [`EngineError::ScheduleNotFound`], [`EngineError::Moved`], and as a start.
pub async fn run_now(
    conn: &mut PgConnection,
    registry: &Registry,
    id: ScheduleId,
    act: &Act,
) -> Result<Started, EngineError> {
    let (before, now) = lock(conn, registry, id, act).await?;
    let home = store::run::find_place(conn, before.tenant_id).await?;
    if home.is_some_and(|home| home.closing) {
        return Err(EngineError::TenantClosing(before.tenant_id));
    }
    let keys = registry.keyring().of(before.tenant_id).await?;
    let place = place(&before, keys);
    let key = format!("schedule/{}/now/{}", before.name, id::random_uuid());
    let request = start::StartRequest {
        workflow: &before.workflow,
        key: &key,
        input: &before.input,
        origin: start::Origin::default(),
        options: start::StartOptions::default(),
    };
    let started = start::start(conn, registry, before.tenant_id, &place, request).await?;
    let mut slots = NewSlots::default();
    slots.started(now, key, started.run_id);
    store::slot::insert(conn, &before, place.shard_id, &slots).await?;
    let mut extra = shape(&before);
    extra["run_id"] = json!(started.run_id);
    audit(
        conn,
        &before,
        "schedule run now",
        act,
        &shape(&before),
        &extra,
    )
    .await?;
    Ok(started)
}

/// Takes a schedule away, with what is known of its slots. Its runs stay and go on.
///
/// # Errors
/// [`EngineError::ScheduleNotFound`], [`EngineError::Moved`].
pub async fn delete(
    conn: &mut PgConnection,
    registry: &Registry,
    id: ScheduleId,
    act: &Act,
) -> Result<(), EngineError> {
    let (before, _) = lock(conn, registry, id, act).await?;
    store::schedule::delete(conn, id, id.shard()).await?;
    audit(
        conn,
        &before,
        "schedule delete",
        act,
        &shape(&before),
        &Value::Null,
    )
    .await
}

/// Finds a schedule. Which tenants' schedules are seen is up to the connection's role.
///
/// # Errors
/// [`EngineError::ScheduleNotFound`].
pub async fn find(conn: &mut PgConnection, id: ScheduleId) -> Result<Schedule, EngineError> {
    store::schedule::find(conn, id, id.shard())
        .await?
        .ok_or_else(|| EngineError::ScheduleNotFound(id.to_string()))
}

/// Shows a schedule with its coming and its last slots.
///
/// # Errors
/// [`EngineError::ScheduleNotFound`].
pub async fn detail(
    conn: &mut PgConnection,
    id: ScheduleId,
) -> Result<ScheduleDetail, EngineError> {
    let schedule = find(conn, id).await?;
    let slots = store::slot::list(conn, id, id.shard(), PAST).await?;
    let coming = coming(&schedule, COMING);
    Ok(ScheduleDetail {
        schedule,
        coming,
        slots,
    })
}

/// Lists schedules, newest first. `after` is the last one of the page before.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    filter: &ScheduleFilter,
    after: Option<ScheduleId>,
    limit: i64,
) -> Result<Vec<Schedule>, EngineError> {
    Ok(store::schedule::list(conn, filter, after, limit).await?)
}

/// The next slots of a schedule, beginning with the first undecided one.
#[must_use]
pub fn coming(schedule: &Schedule, count: usize) -> Vec<DateTime<Utc>> {
    let (Some(first), Ok((cron, zone))) = (
        schedule.next_slot,
        timetable(&schedule.cron, &schedule.zone),
    ) else {
        return Vec::new();
    };
    let rest = cron.slots_after(first, zone);
    std::iter::once(first).chain(rest).take(count).collect()
}

/// Locks a schedule as an operator saw it, and decides on what is due by the rules so far.
async fn lock(
    conn: &mut PgConnection,
    registry: &Registry,
    id: ScheduleId,
    act: &Act,
) -> Result<(Schedule, DateTime<Utc>), EngineError> {
    operator::check_reason(&act.reason)?;
    let unlocked = find(conn, id).await?;
    if let Some(clock) = unlocked.clock_id {
        store::schedule::hold_clock(conn, clock).await?;
    }
    store::schedule::lock(conn, id, id.shard()).await?;
    let locked = find(conn, id).await?;
    if locked.revision != act.revision {
        return Err(EngineError::Moved {
            seen: act.revision,
            current: locked.revision,
        });
    }
    let now = store::run::find_tenant_now(conn, locked.clock_id).await?;
    // A process that does not know the workflow cannot start its runs: then what is due stays so.
    let due = locked.next_slot.is_some_and(|slot| slot <= now);
    if !due || registry.find(&locked.workflow).is_none() {
        return Ok((locked, now));
    }
    fire::look(conn, registry, &locked).await?;
    Ok((find(conn, id).await?, now))
}

/// Writes an act down, and its audit row.
async fn settle(
    conn: &mut PgConnection,
    action: &'static str,
    before: &Schedule,
    mut after: Schedule,
    act: &Act,
) -> Result<Schedule, EngineError> {
    after.revision += 1;
    let input = payload::to_bytes("input", &after.input, usize::MAX)?;
    let shard = after.schedule_id.shard();
    store::schedule::apply(conn, &after, shard, &input).await?;
    audit(conn, before, action, act, &shape(before), &shape(&after)).await?;
    find(conn, after.schedule_id).await
}

async fn audit(
    conn: &mut PgConnection,
    schedule: &Schedule,
    action: &'static str,
    act: &Act,
    before: &Value,
    after: &Value,
) -> Result<(), EngineError> {
    let shard_id = schedule.schedule_id.shard();
    let row = Audit {
        audit_id: id::new_uuid(shard_id),
        // Audit rows of runs and schedules share a table: the column names the subject.
        subject: RunId(schedule.schedule_id.0),
        shard_id,
        tenant_id: schedule.tenant_id,
        action,
        before,
        after,
    };
    Ok(store::operator::insert_audit(conn, act, &row).await?)
}

/// What an audit row keeps of a schedule: all but its input, which may be private.
fn shape(schedule: &Schedule) -> Value {
    json!({
        "name": schedule.name,
        "workflow": schedule.workflow,
        "cron": schedule.cron,
        "zone": schedule.zone,
        "overlap": schedule.overlap,
        "catch_up": schedule.catch_up,
        "jitter_seconds": schedule.jitter_seconds,
        "paused": schedule.paused,
        "revision": schedule.revision,
        "next_slot": schedule.next_slot,
    })
}

fn place(schedule: &Schedule, keys: TenantKeys) -> Place {
    Place {
        shard_id: schedule.schedule_id.shard(),
        clock_id: schedule.clock_id,
        closing: false,
        keys,
    }
}

/// Reads expression and zone.
pub(crate) fn timetable(cron: &str, zone: &str) -> Result<(Cron, Tz), EngineError> {
    let cron = cron
        .parse()
        .map_err(|error: CronError| bad("cron", error.to_string()))?;
    let zone = zone.parse().map_err(|_| {
        bad(
            "zone",
            format!("{zone:?} is no IANA time zone (such as Europe/Berlin)"),
        )
    })?;
    Ok((cron, zone))
}

/// Checks that the workflow is known and takes the input; returns it as stored.
fn check_input(
    registry: &Registry,
    place: &Place,
    workflow: &str,
    name: &str,
    input: &Value,
) -> Result<Vec<u8>, EngineError> {
    registry.guard(workflow).may_start(workflow)?;
    registry.refuse_masks(workflow, "input", input)?;
    start::prepare(registry, place, workflow, name, input)?;
    payload::to_bytes("input", input, registry.payload_limit())
}

fn check_name(name: &str) -> Result<(), EngineError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && name.len() <= MAX_NAME_BYTES && name.bytes().all(fits) {
        return Ok(());
    }
    Err(bad(
        "name",
        format!(
            "{name:?}: a name has 1 to {MAX_NAME_BYTES} letters, digits, dots, underscores and \
             dashes, and begins with a letter or digit"
        ),
    ))
}

fn check_jitter(seconds: i32) -> Result<(), EngineError> {
    if (0..=MAX_JITTER_SECONDS).contains(&seconds) {
        return Ok(());
    }
    Err(bad(
        "jitter_seconds",
        format!("{seconds}: jitter has 0 to {MAX_JITTER_SECONDS} seconds"),
    ))
}

fn never(cron: &str) -> EngineError {
    bad("cron", format!("{cron:?} names a day that never comes"))
}

fn bad(field: &'static str, detail: String) -> EngineError {
    EngineError::BadSchedule { field, detail }
}

fn not_allowed(verb: &'static str, reason: &str) -> EngineError {
    EngineError::NotAllowed {
        verb,
        reason: reason.to_owned(),
    }
}
