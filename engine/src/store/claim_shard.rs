//! Claims of one shard, for a schema that is distributed by shard, and which shards have work.
//!
//! The statement is the one of `claim`, which tells the protocol, with the shard at each of its
//! tables: then it is one node's business, locks included. A test holds the two together.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::floor::Floor;
use crate::id::{ClockId, Epoch, RunId, ShardId, TenantId, WorkerId};
use crate::priority::Priority;
use crate::run::{ClaimedRun, RunKey, decode_deadlines};
use crate::seal::TenantKeys;
use crate::store::claim::{BLIND, CLAIM_SLOT, Claim, FAIRNESS_WINDOW, decode_error, hears};

/// How many due runs, and nudges, are looked at to find the shards that they are in.
const LOOK: i64 = 1_000;

/// The shards of what is due, the one that has waited longest first. One cheap look at all shards;
/// what lies behind a flood is found when the flood's shards have been gone round.
pub(crate) async fn find_shards(conn: &mut PgConnection) -> sqlx::Result<Vec<ShardId>> {
    sqlx::query_scalar!(
        r#"
        with oldest as (
          select first.shard_id, first.due_at
          from unnest($1::smallint[]) as level (priority)
          cross join lateral (
            select due.shard_id, due.due_at
            from engine.due
            where due.priority = level.priority
              and due.due_at <= engine.now()
            order by due.due_at
            limit $2
          ) as first
        ), newest as (
          -- Whoever came after a flood.
          select last.shard_id, last.due_at
          from unnest($1::smallint[]) as level (priority)
          cross join lateral (
            select due.shard_id, due.due_at
            from engine.due
            where due.priority = level.priority
              and due.due_at <= engine.now()
            order by due.due_at desc
            limit $2
          ) as last
        ), heard as (
          select nudge.shard_id
          from engine.nudge
          limit $2
        ), at_work as (
          select shard_id, due_at from oldest
          union all
          select shard_id, due_at from newest
          union all
          select shard_id, engine.now() from heard
        )
        select shard_id as "shard_id!: ShardId"
        from at_work
        group by shard_id
        order by min(due_at)
        "#,
        Priority::Lowest.up_to(),
        LOOK,
    )
    .fetch_all(conn)
    .await
}

/// Claims up to `limit` due runs of a shard and up to `limit` nudged ones.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(crate) async fn claim(
    conn: &mut PgConnection,
    worker: WorkerId,
    (shard, batch, limit, most): (ShardId, i64, i64, Priority),
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
              and due.shard_id = $14
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
              and due.shard_id = $14
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
              and due.shard_id = $14
            for update skip locked
          ) as due
          limit $3
        ), heard as materialized (
          select nudge.ctid as row_id, nudge.run_id, nudge.shard_id, nudge.later
          from lease
          cross join engine.nudge
          where nudge.ctid >= ('(' || $11::bigint || ',0)')::tid
            and case when nudge.later then 2 else 1 end <= $12
            and nudge.shard_id = $14
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
              and run.shard_id = $14
            for no key update skip locked
          ) as run
        ), ready as (
          delete from engine.due
          using chosen
          where due.ctid = chosen.row_id
            and due.shard_id + 0 = chosen.shard_id
            and due.shard_id = $14
            -- The second is never so, unless somebody deleted a run by hand.
            and (chosen.run_id in (select run_id from locked)
              or (
                select run.status from engine.run
                where run.run_id = chosen.run_id and run.shard_id = chosen.shard_id and run.shard_id = $14) is null)
        ), signalled as (
          delete from engine.nudge
          using heard
          where nudge.ctid = heard.row_id
            and nudge.shard_id + 0 = heard.shard_id
            and nudge.shard_id = $14
            and (heard.run_id in (select run_id from locked)
              or (
                select run.status from engine.run
                where run.run_id = heard.run_id and run.shard_id = heard.shard_id and run.shard_id = $14) is null)
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
            and run.shard_id = $14
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
        shard.0,
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
