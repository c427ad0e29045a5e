//! Taking due runs into a worker's hands, and what a claimed run brings along.
//!
//! # The protocol
//!
//! A run at rest has at most one row in `due`, written by the engine alone. A signal appends a row
//! to `nudge` and locks nothing. One claim statement
//!
//! 1. locks due rows whose instant has passed, and nudges, and the runs that they name; what
//!    somebody else has locked at any of the three it leaves for the next claim, so it waits for
//!    nobody and no order of locks can be wrong;
//! 2. deletes those rows and takes each run (epoch + 1, worker set), or, if somebody holds it
//!    already, marks it *nudged* so that the holder looks at the inbox before it rests;
//! 3. books the taken runs under the worker, for recovery.
//!
//! The run's row is where claim, settlement, recovery and operator meet: settlement and recovery
//! wait for its lock and see what the other did, so no wake-up falls between them. All but the
//! claim lock the run first and its due row after it.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::floor::{End, Floor};
use crate::id::{ClockId, Epoch, RunId, ShardId, TenantId, WorkerId};
use crate::journal::Entry;
use crate::priority::Priority;
use crate::run::{ClaimedRun, InboxItem, InboxKind, RunKey, StoredError, decode_deadlines};
use crate::seal::TenantKeys;

/// Candidates are looked at in a window of this many times the batch, and taken in turns between
/// tenants. When the window is full there is a backlog, and a batch from its other end is looked at
/// too: whoever comes after one tenant's flood is found there at once, whatever the flood's size,
/// and whoever came before it is found at this end.
pub(crate) const FAIRNESS_WINDOW: i64 = 2;

/// One in so many is taken whatever its priority.
pub(crate) const BLIND: i64 = 8;

/// The lease row that claims lock; who writes for a worker locks those from 0 up.
pub(crate) const CLAIM_SLOT: i16 = -1;

/// The most messages of one run that are loaded at once.
pub(crate) const INBOX_PAGE: usize = 1000;

/// What was claimed.
pub(crate) struct Claim {
    pub(crate) runs: Vec<ClaimedRun>,
    /// The oldest due work that was met, if any was taken.
    pub(crate) oldest_due_at: Option<DateTime<Utc>>,
}

/// Reads where the tables end that a claim looks at.
pub(crate) async fn find_end(conn: &mut PgConnection) -> sqlx::Result<End> {
    sqlx::query_as!(
        End,
        r#"
        select
          engine.now() as "now!",
          pg_relation_size('engine.nudge') / current_setting('block_size')::bigint as "nudge_pages!"
        "#,
    )
    .fetch_one(conn)
    .await
}

/// Claims up to `limit` due runs and up to `limit` nudged ones, those up to a level, and forgets the batches
/// that are finished.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(crate) async fn claim(
    conn: &mut PgConnection,
    worker: WorkerId,
    (batch, limit, most): (i64, i64, Priority),
    (tenants, weights): (Vec<Uuid>, Vec<i16>),
    (floor, finished): (Floor, &[i64]),
) -> sqlx::Result<Claim> {
    let rows = sqlx::query!(
        r#"
        with lease as materialized (
          -- A worker that lost its lease takes nothing: its claims would belong to nobody.
          select from engine.lease
          where worker_id = $1
            and slot = $5
          for no key update
        ), oldest as materialized (
          -- Each level from its oldest end.
          select due.row_id, due.shard_id, due.tenant_id, due.due_at, due.priority
          from lease
          cross join unnest($6::smallint[]) as level (priority)
          cross join lateral (
            select due.ctid as row_id, due.shard_id, due.tenant_id, due.due_at, due.priority
            from engine.due
            where due.priority = level.priority
              and due.due_at <= engine.now()
              and due.due_at >= coalesce($10::timestamptz, '-infinity')
            order by due.due_at
            limit $3::bigint * $4::bigint
          ) as due
        ), newest as materialized (
          -- From behind the last of those to the newest. Of many that are due at one instant a few may be
          -- met twice, which only makes the claim smaller.
          select due.row_id, due.shard_id, due.tenant_id, due.due_at, due.priority
          from (
            select oldest.priority, max(oldest.due_at) as due_at
            from oldest
            group by oldest.priority
            having count(*) = $3::bigint * $4::bigint
          ) as level
          cross join lateral (
            select due.ctid as row_id, due.shard_id, due.tenant_id, due.due_at, due.priority
            from engine.due
            where due.priority = level.priority
              and due.due_at <= engine.now()
              and due.due_at >= level.due_at
            order by due.due_at desc
            limit $3
          ) as due
        ), candidate as materialized (
          select * from oldest
          union all
          select * from newest
        ), crowd as materialized (
          -- Of one tenant and level they are in their order already.
          select count(*) > 1 as is_mixed
          from (select from candidate group by tenant_id, priority limit 2) as each
        ), turn as (
          -- The first of each tenant before the second of any; of a tenant of weight 2, two.
          select
            row_id, candidate.shard_id, priority, due_at,
            (row_number() over (partition by candidate.tenant_id, priority order by due_at) - 1)
              / coalesce(heavy.weight, 1) as turn
          from candidate
          left join unnest($7::uuid[], $8::smallint[]) as heavy (tenant_id, weight)
            on heavy.tenant_id = candidate.tenant_id
          where (select is_mixed from crowd)
        ), place as (
          (
            -- By priority; but each so-many-th is taken as if there were none, so that none starves. It is
            -- another place in each claim: small ones have it, too.
            select row_id, shard_id
            from turn
            order by least(
              row_number() over (order by priority, turn, due_at) * $9,
              (row_number() over (order by turn, due_at) * $9 - $2::bigint % nullif($9, 0)) * $9 - 1
            )
          )
          union all
          (
            select row_id, shard_id
            from oldest
            where not (select is_mixed from crowd)
          )
        ), chosen as materialized (
          -- Locked one by one in their order, so that no more are looked at than are taken. A shard
          -- lies in one partition, so row and shard name one row on any layout. Written so that no
          -- index serves the shard: one that has it second would be read whole for each row.
          select due.row_id, due.run_id, due.shard_id, due.due_at, due.priority
          from place
          cross join lateral (
            select due.ctid as row_id, due.run_id, due.shard_id, due.due_at, due.priority
            from engine.due
            where due.ctid = place.row_id
              and due.shard_id + 0 = place.shard_id
            for update skip locked
          ) as due
          limit $3
        ), heard as materialized (
          select nudge.ctid as row_id, nudge.run_id, nudge.shard_id, nudge.later
          from lease
          cross join engine.nudge
          where nudge.ctid >= ('(' || $11::bigint || ',0)')::tid
            and case when nudge.later then 2 else 1 end <= $12
          limit $3
          for update of nudge skip locked
        ), wanted as (
          -- A run may have been nudged many times.
          select
            run_id, shard_id, max(due_at) as due_at, max(level) as level, bool_and(later) as later
          from (
            select run_id, shard_id, due_at, priority as level, null as later from chosen
            union all
            select run_id, shard_id, null, null, later from heard
          ) as each
          group by run_id, shard_id
        ), locked as materialized (
          -- Run by run through the key: a lock inside keeps the planner from joining whole tables.
          select run.*, wanted.due_at as claimed_due_at, wanted.level, wanted.later
          from wanted
          cross join lateral (
            select run.*
            from engine.run
            where run.run_id = wanted.run_id
              and run.shard_id = wanted.shard_id
            for no key update skip locked
          ) as run
        ), ready as (
          delete from engine.due
          using chosen
          where due.ctid = chosen.row_id
            and due.shard_id + 0 = chosen.shard_id
            -- The second is never so, unless somebody deleted a run by hand.
            and (chosen.run_id in (select run_id from locked)
              or (
                select run.status from engine.run
                where run.run_id = chosen.run_id and run.shard_id = chosen.shard_id) is null)
        ), signalled as (
          delete from engine.nudge
          using heard
          where nudge.ctid = heard.row_id
            and nudge.shard_id + 0 = heard.shard_id
            and (heard.run_id in (select run_id from locked)
              or (
                select run.status from engine.run
                where run.run_id = heard.run_id and run.shard_id = heard.shard_id) is null)
        ), taken as (
          update engine.run
          set
            epoch = run.epoch + case when run.worker_id is null then 1 else 0 end,
            nudged = run.worker_id is not null,
            worker_id = coalesce(run.worker_id, $1),
            status = 1
          -- By a list and without a join: with one, each row of it would be held against the whole
          -- list, or, in a plan that was made while there were no runs, all runs be read. Not through
          -- a ctid: it would miss a run that was settled since the snapshot.
          where run.run_id = any ((
            select array_agg(run_id) from locked where status in (0, 1, 2, 3, 4, 6)
          )::uuid[])
            and run.shard_id + 0 = any ((
              select array_agg(distinct shard_id) from locked
            )::integer[])
          returning run.run_id, run.shard_id, run.nudged
        ), booked as (
          insert into engine.claimed (worker_id, batch, run_ids, shard_ids)
          select $1, $2, array_agg(run_id), array_agg(shard_id)
          from taken
          where not nudged
          having count(*) > 0
        ), forgotten as (
          -- Batches of which nothing is held any more.
          delete from engine.claimed
          where worker_id = $1
            and batch = any($13)
        )
        select
          locked.run_id as "run_id: RunId",
          locked.shard_id as "shard_id: ShardId",
          locked.tenant_id as "tenant_id: TenantId",
          locked.workflow,
          locked.key,
          locked.version,
          locked.epoch + 1 as "epoch!: Epoch",
          locked.visit,
          locked.attempt,
          locked.losses,
          locked.entered,
          locked.state,
          locked.data,
          locked.deadlines,
          locked.error,
          locked.clock_id as "clock_id: ClockId",
          locked.closes,
          locked.undo,
          locked.begun,
          locked.priority,
          -- Later if all that woke it is.
          case
            when not locked.later then locked.priority
            when locked.level is not null then locked.level
            when locked.later then least(locked.priority + 1, 5)::smallint
            else locked.priority
          end as "level!",
          locked.started_at,
          (select engine.now()) as "now!",
          coalesce(test_clock.now_at, (select engine.now())) as "tenant_now!",
          locked.status = 6 or exists (select from engine.pause) as "gated!",
          locked.claimed_due_at as "due_at?",
          (select min(oldest.due_at) from oldest) as oldest_due_at
        from locked
        left join engine.test_clock on test_clock.clock_id = locked.clock_id
        where locked.run_id in (select run_id from taken where not nudged)
        "#,
        worker.0,
        batch,
        limit,
        FAIRNESS_WINDOW,
        CLAIM_SLOT,
        most.up_to(),
        &tenants,
        &weights,
        BLIND,
        floor.due_at,
        floor.nudge_page,
        hears(most),
        finished,
    )
    .fetch_all(conn)
    .await?;
    let oldest_due_at = rows.first().and_then(|row| row.oldest_due_at);
    let runs = rows
        .into_iter()
        .map(|row| ClaimedRun {
            key: RunKey {
                run_id: row.run_id,
                shard_id: row.shard_id,
            },
            tenant_id: row.tenant_id,
            workflow: row.workflow,
            run_key: row.key,
            version: row.version,
            epoch: row.epoch,
            visit: row.visit,
            attempt: row.attempt,
            losses: row.losses,
            entered: row.entered,
            state: row.state,
            data: row.data,
            deadlines: decode_deadlines(row.deadlines),
            error: decode_error(row.error),
            clock_id: row.clock_id,
            closes: row.closes,
            begun: row.begun,
            priority: Priority::from_code(row.priority),
            level: Priority::from_code(row.level),
            started_at: row.started_at,
            undo: None,
            stored_undo: row.undo,
            keys: TenantKeys::default(),
            now: row.now,
            tenant_now: row.tenant_now,
            gated: row.gated,
            due_at: row.due_at,
        })
        .collect();
    Ok(Claim {
        runs,
        oldest_due_at,
    })
}

pub(crate) fn decode_error(stored: Option<Value>) -> Option<StoredError> {
    stored.and_then(|value| serde_json::from_value(value).ok())
}

/// What lies ahead of an idle worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    /// The earliest instant at which a run becomes due.
    pub(crate) due_at: Option<DateTime<Utc>>,
    /// The earliest instant at which a schedule wants a look.
    pub(crate) look_at: Option<DateTime<Utc>>,
    /// The earliest instant at which somebody who is blocked may pass.
    pub(crate) gate_at: Option<DateTime<Utc>>,
    pub(crate) now: DateTime<Utc>,
    /// Whether nudges wait: more than one claim takes, or of a run that somebody had locked.
    pub(crate) nudged: bool,
}

/// Finds what comes next: of all runs, and of the schedules of the given workflows. One statement,
/// because an idle worker asks for little else.
pub(crate) async fn find_ahead(
    conn: &mut PgConnection,
    workflows: &[String],
    floor: Floor,
) -> sqlx::Result<Ahead> {
    sqlx::query_as!(
        Ahead,
        r#"
        select
          (
            select min(first.due_at)
            from unnest($2::smallint[]) as level (priority)
            cross join lateral (
              select due.due_at
              from engine.due
              where due.priority = level.priority
                and due.due_at >= coalesce($3::timestamptz, '-infinity')
              order by due.due_at
              limit 1
            ) as first
          ) as due_at,
          (select min(look_at) from engine.schedule where workflow = any($1)) as look_at,
          least(
            (select min(wake_at) from engine.bucket),
            (select min(probe_at) from engine.breaker)
          ) as gate_at,
          engine.now() as "now!",
          exists (
            select
            from engine.nudge
            where nudge.ctid >= ('(' || $4::bigint || ',0)')::tid
          ) as "nudged!"
        "#,
        workflows,
        Priority::Lowest.up_to(),
        floor.due_at,
        floor.nudge_page,
    )
    .fetch_one(conn)
    .await
}

/// Which nudges a claim up to a level hears: none, those that are as urgent as most runs, or all, those too
/// that follow from what a deadline woke.
pub(crate) const fn hears(most: Priority) -> i32 {
    match most {
        Priority::Highest | Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low | Priority::Lowest => 2,
    }
}

/// Whether a claim up to a level would take something.
pub(crate) async fn is_due(
    conn: &mut PgConnection,
    most: Priority,
    floor: Floor,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
          select
          from unnest($1::smallint[]) as level (priority)
          cross join lateral (
            select
            from engine.due
            where due.priority = level.priority
              and due.due_at <= engine.now()
              and due.due_at >= coalesce($2::timestamptz, '-infinity')
            limit 1
          ) as due
        ) or exists (
          select
          from engine.nudge
          where nudge.ctid >= ('(' || $3::bigint || ',0)')::tid
            and case when nudge.later then 2 else 1 end <= $4
        ) as "is_due!"
        "#,
        most.up_to(),
        floor.due_at,
        floor.nudge_page,
        hears(most),
    )
    .fetch_one(conn)
    .await
}

/// Loads the pending messages of the given runs, in the order of handling.
pub(crate) async fn list_pending(
    conn: &mut PgConnection,
    runs: &[RunKey],
) -> sqlx::Result<Vec<InboxItem>> {
    let (run_ids, shard_ids) = split(runs);
    let rows = sqlx::query!(
        r#"
        select
          inbox.run_id as "run_id: RunId",
          inbox.signal_id,
          inbox.kind,
          inbox.name,
          inbox.payload,
          inbox.received_at
        from unnest($1::uuid[], $2::smallint[]) as wanted (run_id, shard_id)
        cross join lateral (
          select *
          from engine.inbox
          where inbox.run_id = wanted.run_id
            and inbox.shard_id = wanted.shard_id
            and inbox.outcome is null
          order by inbox.recorded_at, inbox.position, inbox.signal_id
          limit $3
        ) as inbox
        order by inbox.recorded_at, inbox.position, inbox.signal_id
        "#,
        &run_ids,
        &shard_ids,
        INBOX_PAGE as i64,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| InboxItem {
            run_id: row.run_id,
            signal_id: row.signal_id,
            kind: InboxKind::from_code(row.kind),
            name: row.name,
            payload: row.payload,
            received_at: row.received_at,
        })
        .collect())
}

/// Loads the journals of the current visits of the given runs: run, pinned event, entry.
pub(crate) async fn list_journal(
    conn: &mut PgConnection,
    runs: &[(RunKey, i64)],
) -> sqlx::Result<Vec<(RunId, Option<String>, Entry)>> {
    let keys: Vec<RunKey> = runs.iter().map(|(key, _)| *key).collect();
    let visits: Vec<i64> = runs.iter().map(|(_, visit)| *visit).collect();
    let (run_ids, shard_ids) = split(&keys);
    let rows = sqlx::query!(
        r#"
        select
          step.run_id as "run_id: RunId",
          step.seq,
          step.name,
          step.failed,
          step.event,
          step.answer
        from unnest($1::uuid[], $2::smallint[], $3::bigint[]) as wanted (run_id, shard_id, visit)
        join engine.step using (run_id, shard_id, visit)
        "#,
        &run_ids,
        &shard_ids,
        &visits,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let entry = Entry {
                seq: row.seq,
                name: row.name,
                failed: row.failed,
                answer: row.answer,
            };
            (row.run_id, row.event, entry)
        })
        .collect())
}

pub(crate) fn split(runs: &[RunKey]) -> (Vec<uuid::Uuid>, Vec<i16>) {
    runs.iter()
        .map(|key| (key.run_id.0, key.shard_id.0))
        .unzip()
}
