//! What became of the slots of schedules.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::id::{RunId, ScheduleId, ShardId};
use crate::run::Status;
use crate::schedule::{Schedule, SlotLine, SlotOutcome};

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
pub(crate) async fn insert(
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
pub(crate) async fn delete_closed(
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
pub(crate) async fn list(
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
