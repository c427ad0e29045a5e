//! Schedules and what became of their slots.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::id::{ClockId, RunId, ScheduleId, ShardId, TenantId};
use crate::run::Status;
use crate::schedule::{CatchUp, Overlap, Schedule, ScheduleFilter, SlotLine, SlotOutcome};

/// Which schedule a look is for; the clock is known before anything is locked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScheduleKey {
    pub(crate) schedule_id: ScheduleId,
    pub(crate) shard_id: ShardId,
    pub(crate) clock_id: Option<ClockId>,
}

/// A row as the columns have it. One list of columns, for `query_as`.
struct Row {
    schedule_id: ScheduleId,
    tenant_id: TenantId,
    clock_id: Option<ClockId>,
    paused: bool,
    jitter_seconds: i32,
    revision: i64,
    next_slot: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    changed_at: DateTime<Utc>,
    name: String,
    workflow: String,
    cron: String,
    zone: String,
    overlap: String,
    catch_up: String,
    input: Vec<u8>,
}

impl Row {
    fn into_schedule(self) -> sqlx::Result<Schedule> {
        let unknown = |what: &str, word: &str| {
            sqlx::Error::Decode(format!("{what} {word:?} of schedule {}", self.schedule_id).into())
        };
        let overlap =
            Overlap::from_word(&self.overlap).ok_or_else(|| unknown("overlap", &self.overlap))?;
        let catch_up = CatchUp::from_word(&self.catch_up)
            .ok_or_else(|| unknown("catch-up", &self.catch_up))?;
        Ok(Schedule {
            schedule_id: self.schedule_id,
            tenant_id: self.tenant_id,
            clock_id: self.clock_id,
            name: self.name,
            workflow: self.workflow,
            input: serde_json::from_slice(&self.input)
                .map_err(|error| sqlx::Error::Decode(error.into()))?,
            cron: self.cron,
            zone: self.zone,
            overlap,
            catch_up,
            jitter_seconds: self.jitter_seconds,
            paused: self.paused,
            revision: self.revision,
            next_slot: self.next_slot,
            created_at: self.created_at,
            changed_at: self.changed_at,
        })
    }
}

/// Lists schedules whose look is due and whose workflow is known here, the most overdue first.
pub(crate) async fn list_due(
    conn: &mut PgConnection,
    workflows: &[String],
    limit: i64,
) -> sqlx::Result<Vec<ScheduleKey>> {
    sqlx::query_as!(
        ScheduleKey,
        r#"
        select
          schedule_id as "schedule_id: ScheduleId",
          shard_id as "shard_id: ShardId",
          clock_id as "clock_id: ClockId"
        from engine.schedule
        where look_at <= engine.now()
          and workflow = any($1)
        order by look_at
        limit $2
        "#,
        workflows,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Keeps a test clock where it is until the transaction ends. Before any schedule is locked: an
/// advance locks the clock first and its schedules after it.
pub(crate) async fn hold_clock(conn: &mut PgConnection, clock: ClockId) -> sqlx::Result<()> {
    sqlx::query!(
        "select from engine.test_clock where clock_id = $1 for share",
        clock.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks a schedule if its look is still due; others skip it.
pub(crate) async fn lock_due(
    conn: &mut PgConnection,
    key: ScheduleKey,
) -> sqlx::Result<Option<Schedule>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select
          schedule_id as "schedule_id: ScheduleId", tenant_id as "tenant_id: TenantId",
          clock_id as "clock_id: ClockId", paused, jitter_seconds, revision, next_slot, created_at,
          changed_at, name, workflow, cron, zone, overlap, catch_up, input
        from engine.schedule
        where schedule_id = $1
          and shard_id = $2
          and look_at <= engine.now()
        for update skip locked
        "#,
        key.schedule_id.0,
        key.shard_id.0,
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::into_schedule).transpose()
}

/// Locks a schedule for an act of a human.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    id: ScheduleId,
    shard: ShardId,
) -> sqlx::Result<Option<Schedule>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select
          schedule_id as "schedule_id: ScheduleId", tenant_id as "tenant_id: TenantId",
          clock_id as "clock_id: ClockId", paused, jitter_seconds, revision, next_slot, created_at,
          changed_at, name, workflow, cron, zone, overlap, catch_up, input
        from engine.schedule
        where schedule_id = $1
          and shard_id = $2
        for update
        "#,
        id.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::into_schedule).transpose()
}

/// Finds a schedule.
pub(crate) async fn find(
    conn: &mut PgConnection,
    id: ScheduleId,
    shard: ShardId,
) -> sqlx::Result<Option<Schedule>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select
          schedule_id as "schedule_id: ScheduleId", tenant_id as "tenant_id: TenantId",
          clock_id as "clock_id: ClockId", paused, jitter_seconds, revision, next_slot, created_at,
          changed_at, name, workflow, cron, zone, overlap, catch_up, input
        from engine.schedule
        where schedule_id = $1
          and shard_id = $2
        "#,
        id.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::into_schedule).transpose()
}

/// Lists schedules, newest first, after the cursor.
pub(crate) async fn list(
    conn: &mut PgConnection,
    filter: &ScheduleFilter,
    after: Option<ScheduleId>,
    limit: i64,
) -> sqlx::Result<Vec<Schedule>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select
          schedule_id as "schedule_id: ScheduleId", tenant_id as "tenant_id: TenantId",
          clock_id as "clock_id: ClockId", paused, jitter_seconds, revision, next_slot, created_at,
          changed_at, name, workflow, cron, zone, overlap, catch_up, input
        from engine.schedule
        where ($1::uuid is null or tenant_id = $1)
          and ($2::text is null or workflow = $2)
          and ($3::text is null or name = $3)
          and ($4::boolean is null or paused = $4)
          and ($5::uuid is null or schedule_id < $5)
        order by schedule_id desc
        limit $6
        "#,
        filter.tenant_id.map(|tenant| tenant.0),
        filter.workflow,
        filter.name,
        filter.paused,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Row::into_schedule).collect()
}

/// Inserts a schedule, unpaused; false when its tenant has one of this name.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    schedule: &Schedule,
    shard: ShardId,
    input: &[u8],
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into engine.schedule
          (schedule_id, shard_id, tenant_id, clock_id, paused, jitter_seconds, revision, next_slot,
           look_at, created_at, changed_at, name, workflow, cron, zone, overlap, catch_up, input)
        values
          ($1, $2, $3, $4, false, $5, $6, $7, case when $4::uuid is null then $7::timestamptz end,
           engine.now(), engine.now(), $8, $9, $10, $11, $12, $13, $14)
        on conflict (name, tenant_id, shard_id) do nothing
        "#,
        schedule.schedule_id.0,
        shard.0,
        schedule.tenant_id.0,
        schedule.clock_id.map(|clock| clock.0),
        schedule.jitter_seconds,
        schedule.revision,
        schedule.next_slot,
        schedule.name,
        schedule.workflow,
        schedule.cron,
        schedule.zone,
        schedule.overlap.word(),
        schedule.catch_up.word(),
        input,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes down what a human changed.
pub(crate) async fn apply(
    conn: &mut PgConnection,
    schedule: &Schedule,
    shard: ShardId,
    input: &[u8],
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.schedule
        set paused = $3, jitter_seconds = $4, revision = $5, next_slot = $6,
          look_at = case when $3 then null else engine.now() end,
          workflow = $7, cron = $8, zone = $9, overlap = $10, catch_up = $11, input = $12,
          changed_at = engine.now()
        where schedule_id = $1
          and shard_id = $2
        "#,
        schedule.schedule_id.0,
        shard.0,
        schedule.paused,
        schedule.jitter_seconds,
        schedule.revision,
        schedule.next_slot,
        schedule.workflow,
        schedule.cron,
        schedule.zone,
        schedule.overlap.word(),
        schedule.catch_up.word(),
        input,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Moves a schedule on to its first undecided slot; it is looked at again then, or after `rest`
/// where a slot waits. A clocked one is made due by its clock.
pub(crate) async fn advance(
    conn: &mut PgConnection,
    schedule: ScheduleId,
    shard: ShardId,
    next_slot: Option<DateTime<Utc>>,
    more: bool,
    rest: Option<Duration>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.schedule
        set
          next_slot = $3,
          look_at = case
            when $4 then engine.now()
            when $5::bigint is null and clock_id is null then $3
            when $5::bigint is null then null
            when clock_id is null and $3 > engine.now()
              then least($3, engine.now() + $5 * interval '1 microsecond')
            else engine.now() + $5 * interval '1 microsecond'
          end
        where schedule_id = $1
          and shard_id = $2
        "#,
        schedule.0,
        shard.0,
        next_slot,
        more,
        rest.map(|rest| i64::try_from(rest.as_micros()).unwrap_or(i64::MAX)),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Leaves a schedule alone for a while, after a look that failed.
pub(crate) async fn put_off(
    conn: &mut PgConnection,
    key: ScheduleKey,
    rest: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.schedule
        set look_at = engine.now() + $3::bigint * interval '1 microsecond'
        where schedule_id = $1
          and shard_id = $2
          and look_at <= engine.now()
        "#,
        key.schedule_id.0,
        key.shard_id.0,
        i64::try_from(rest.as_micros()).unwrap_or(i64::MAX),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes the schedules of a clock due whose next slot it has passed. Reached by a look that has not
/// committed yet: the update waits for it and sees the slot that it moved on to.
pub(crate) async fn ripen(conn: &mut PgConnection, clock: ClockId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.schedule
        set look_at = engine.now()
        from engine.test_clock
        where schedule.clock_id = $1
          and test_clock.clock_id = $1
          and schedule.next_slot <= test_clock.now_at
        "#,
        clock.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a schedule and what is known of its slots away.
pub(crate) async fn delete(
    conn: &mut PgConnection,
    schedule: ScheduleId,
    shard: ShardId,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with slots as (
          delete from engine.slot where schedule_id = $1 and shard_id = $2
        )
        delete from engine.schedule where schedule_id = $1 and shard_id = $2
        "#,
        schedule.0,
        shard.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A slot that the overlap policy looks at.
#[derive(Debug, Clone)]
pub(crate) struct OpenSlot {
    pub(crate) slot: DateTime<Utc>,
    pub(crate) key: String,
    /// The run that has not ended; none when the slot waits.
    pub(crate) run_id: Option<RunId>,
    /// How long ago it was decided on, in real time.
    pub(crate) waited: Duration,
}

/// Closes the slots whose runs have ended.
pub(crate) async fn close_ended(
    conn: &mut PgConnection,
    schedule: ScheduleId,
    shard: ShardId,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.slot
        set open = false
        where schedule_id = $1
          and shard_id = $2
          and open
          and outcome = 1
          and not exists (
            select from engine.run
            where run.run_id = slot.run_id
              and run.shard_id = slot.shard_id
              and run.status < 10
          )
        "#,
        schedule.0,
        shard.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the slots that wait or whose runs have not ended, oldest first.
pub(crate) async fn list_open(
    conn: &mut PgConnection,
    schedule: ScheduleId,
    shard: ShardId,
) -> sqlx::Result<Vec<OpenSlot>> {
    let rows = sqlx::query!(
        r#"
        select slot, key, run_id as "run_id: RunId",
          (extract(epoch from engine.now() - decided_at) * 1000)::bigint as "waited_ms!"
        from engine.slot
        where schedule_id = $1
          and shard_id = $2
          and open
        order by slot, key
        "#,
        schedule.0,
        shard.0,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| OpenSlot {
            slot: row.slot,
            key: row.key,
            run_id: row.run_id,
            waited: Duration::from_millis(row.waited_ms.max(0).unsigned_abs()),
        })
        .collect())
}

/// What became of slots, column by column.
#[derive(Debug, Default)]
pub(crate) struct NewSlots {
    slot: Vec<DateTime<Utc>>,
    until: Vec<Option<DateTime<Utc>>>,
    outcome: Vec<i16>,
    run_id: Vec<Option<Uuid>>,
    key: Vec<String>,
    reason: Vec<Option<String>>,
}

impl NewSlots {
    pub(crate) fn started(&mut self, slot: DateTime<Utc>, key: String, run: RunId) {
        self.push(slot, None, SlotOutcome::Started, Some(run), key, None);
    }

    pub(crate) fn queued(&mut self, slot: DateTime<Utc>, key: String) {
        self.push(slot, None, SlotOutcome::Queued, None, key, None);
    }

    pub(crate) fn skipped(
        &mut self,
        slot: DateTime<Utc>,
        until: Option<DateTime<Utc>>,
        key: String,
        reason: String,
    ) {
        self.push(slot, until, SlotOutcome::Skipped, None, key, Some(reason));
    }

    fn push(
        &mut self,
        slot: DateTime<Utc>,
        until: Option<DateTime<Utc>>,
        outcome: SlotOutcome,
        run: Option<RunId>,
        key: String,
        reason: Option<String>,
    ) {
        self.slot.push(slot);
        self.until.push(until);
        self.outcome.push(outcome.code());
        self.run_id.push(run.map(|run| run.0));
        self.key.push(key);
        self.reason.push(reason);
    }
}

/// Writes down what became of slots; a slot that was decided on before keeps what it has, unless it
/// waited.
pub(crate) async fn insert_slots(
    conn: &mut PgConnection,
    schedule: &Schedule,
    shard: ShardId,
    slots: &NewSlots,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.slot
          (schedule_id, shard_id, tenant_id, outcome, open, slot, until, decided_at, run_id, key, reason)
        select $1, $2, $3, t.outcome, t.outcome in (1, 2), t.slot, t.until, engine.now(), t.run_id,
          t.key, t.reason
        from unnest(
          $4::smallint[], $5::timestamptz[], $6::timestamptz[], $7::uuid[], $8::text[], $9::text[]
        ) as t (outcome, slot, until, run_id, key, reason)
        on conflict (schedule_id, shard_id, key) do update
        set outcome = excluded.outcome, open = excluded.open, run_id = excluded.run_id,
          reason = excluded.reason
        where slot.outcome = 2
        "#,
        schedule.schedule_id.0,
        shard.0,
        schedule.tenant_id.0,
        &slots.outcome,
        &slots.slot,
        &slots.until as &[Option<DateTime<Utc>>],
        &slots.run_id as &[Option<Uuid>],
        &slots.key,
        &slots.reason as &[Option<String>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts runs off that have just been inserted.
pub(crate) async fn delay_runs(
    conn: &mut PgConnection,
    shard: ShardId,
    runs: &[RunId],
    due_at: &[DateTime<Utc>],
) -> sqlx::Result<()> {
    let runs: Vec<Uuid> = runs.iter().map(|run| run.0).collect();
    sqlx::query!(
        r#"
        update engine.due
        set due_at = greatest(t.due_at, due.due_at)
        from unnest($2::uuid[], $3::timestamptz[]) as t (run_id, due_at)
        where due.run_id = t.run_id
          and due.shard_id = $1
        "#,
        shard.0,
        &runs,
        due_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets closed slots that are older than `before`.
pub(crate) async fn delete_slots(
    conn: &mut PgConnection,
    schedule: ScheduleId,
    shard: ShardId,
    before: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        delete from engine.slot
        where schedule_id = $1
          and shard_id = $2
          and slot < $3
          and not open
        "#,
        schedule.0,
        shard.0,
        before,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists what became of slots, latest first.
pub(crate) async fn list_slots(
    conn: &mut PgConnection,
    schedule: ScheduleId,
    shard: ShardId,
    limit: i64,
) -> sqlx::Result<Vec<SlotLine>> {
    let rows = sqlx::query!(
        r#"
        select slot.slot, slot.until, slot.outcome, slot.decided_at, slot.key, slot.reason,
          slot.run_id as "run_id: RunId", run.status as "status?"
        from engine.slot
        left join engine.run
          on run.run_id = slot.run_id
          and run.shard_id = slot.shard_id
        where slot.schedule_id = $1
          and slot.shard_id = $2
        order by slot.slot desc, slot.key desc
        limit $3
        "#,
        schedule.0,
        shard.0,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SlotLine {
            slot: row.slot,
            until: row.until,
            outcome: SlotOutcome::from_code(row.outcome),
            decided_at: row.decided_at,
            key: row.key,
            run_id: row.run_id,
            status: row.status.and_then(Status::from_code),
            reason: row.reason,
        })
        .collect())
}
