//! Schedules.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::id::{ClockId, ScheduleId, ShardId, TenantId};
use crate::schedule::{CatchUp, Overlap, Schedule, ScheduleFilter};

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
          -- Schedules of a tenant that is closing rest; they go on if it is restored.
          and not exists (
            select from engine.tenant
            where tenant.tenant_id = schedule.tenant_id
              and tenant.closing_since is not null)
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

/// Locks a schedule if its look is still due, so that [`find`] reads it as it stays; false when
/// somebody else has it or had it.
pub(crate) async fn lock_due(conn: &mut PgConnection, key: ScheduleKey) -> sqlx::Result<bool> {
    let locked = sqlx::query!(
        r#"
        select from engine.schedule
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
    Ok(locked.is_some())
}

/// Locks a schedule for an act of a human, so that [`find`] reads it as it stays.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    id: ScheduleId,
    shard: ShardId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "select from engine.schedule where schedule_id = $1 and shard_id = $2 for update",
        id.0,
        shard.0,
    )
    .execute(conn)
    .await?;
    Ok(())
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
