//! The runs that wait, and what each waits for.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::flow::Numbers;
use crate::gate::{Door, Waiting};
use crate::id::{RunId, ShardId};
use crate::run::{RunKey, Status};
use crate::store::claim::split;
use crate::store::limit::numbers;

/// Writes down what runs wait for. One that waited there before keeps its place.
pub(crate) async fn insert(conn: &mut PgConnection, waiting: &[Waiting]) -> sqlx::Result<()> {
    let runs: Vec<RunKey> = waiting.iter().map(|one| one.run).collect();
    let (run_ids, shard_ids) = split(&runs);
    let tenants: Vec<Uuid> = waiting.iter().map(|one| one.tenant_id.0).collect();
    let gates: Vec<&str> = waiting.iter().map(|one| one.door.gate()).collect();
    let names: Vec<&str> = waiting.iter().map(|one| one.door.name()).collect();
    let keys: Vec<&str> = waiting.iter().map(|one| one.door.key()).collect();
    let later: Vec<bool> = waiting.iter().map(|one| one.later).collect();
    sqlx::query!(
        r#"
        insert into engine.waiter (run_id, shard_id, tenant_id, gate, name, key, since, later)
        select t.run_id, t.shard_id, t.tenant_id, t.gate, t.name, t.key, engine.now(), t.later
        from unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::boolean[])
          as t (run_id, shard_id, tenant_id, gate, name, key, later)
        on conflict (run_id, shard_id) do update
        set gate = excluded.gate, name = excluded.name, key = excluded.key, since = excluded.since,
          later = excluded.later
        where (waiter.gate, waiter.name, waiter.key) <> (excluded.gate, excluded.name, excluded.key)
        "#,
        &run_ids,
        &shard_ids,
        &tenants,
        &gates as &[&str],
        &names as &[&str],
        &keys as &[&str],
        &later,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes runs off the list of those that wait.
pub(crate) async fn delete(conn: &mut PgConnection, runs: &[RunKey]) -> sqlx::Result<()> {
    let (run_ids, shard_ids) = split(runs);
    sqlx::query!(
        r#"
        delete from engine.waiter
        using unnest($1::uuid[], $2::smallint[]) as entered (run_id, shard_id)
        where waiter.run_id = entered.run_id
          and waiter.shard_id = entered.shard_id
        "#,
        &run_ids,
        &shard_ids,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A run taken from the head of the list.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) run: RunKey,
    /// It is blocked still, rather than ended or paused meanwhile.
    pub(crate) blocked: bool,
}

/// Takes the first that wait at a door off the list and wakes them.
pub(crate) async fn wake_first(
    conn: &mut PgConnection,
    door: &Door,
    most: i64,
) -> sqlx::Result<Vec<Taken>> {
    let rows = sqlx::query!(
        r#"
        with first as materialized (
          select run_id, shard_id
          from engine.waiter
          where gate = $1
            and name = $2
            and key = $3
          order by since, run_id
          limit $4
          for update
        ), gone as (
          delete from engine.waiter
          using first
          where waiter.run_id = first.run_id
            and waiter.shard_id = first.shard_id
          returning waiter.run_id, waiter.shard_id, waiter.tenant_id, waiter.later
        ), woken as (
          insert into engine.nudge (run_id, shard_id, tenant_id, later)
          select run_id, shard_id, tenant_id, later
          from gone
        )
        select
          gone.run_id as "run_id: RunId",
          gone.shard_id as "shard_id: ShardId",
          coalesce(run.status = $5, false) as "blocked!"
        from gone
        left join engine.run using (run_id, shard_id)
        "#,
        door.gate(),
        door.name(),
        door.key(),
        most,
        Status::Blocked.code(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Taken {
            run: RunKey {
                run_id: row.run_id,
                shard_id: row.shard_id,
            },
            blocked: row.blocked,
        })
        .collect())
}

/// Lists the doors that somebody waits at, with limits whose time has come first.
pub(crate) async fn list_doors(conn: &mut PgConnection) -> sqlx::Result<Vec<Door>> {
    let rows = sqlx::query!(
        r#"select distinct gate as "gate!", name as "name!", key as "key!" from engine.waiter"#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Door::decode(&row.gate, row.name, row.key))
        .collect())
}

/// What a blocked run waits for.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) door: Door,
    pub(crate) since: DateTime<Utc>,
    /// Runs that are woken before it.
    pub(crate) ahead: i64,
    /// Who paused or set the limit and why, or why the breaker is open.
    pub(crate) reason: Option<String>,
    /// What the limit lets through.
    pub(crate) allows: Option<Numbers>,
    /// When a breaker is tried again.
    pub(crate) probe_at: Option<DateTime<Utc>>,
}

/// Finds what a run waits for; `None` when it has been woken.
pub(crate) async fn find(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Option<Standing>> {
    let row = sqlx::query!(
        r#"
        select
          waiter.gate, waiter.name, waiter.key, waiter.since,
          engine.waiters_ahead(waiter.run_id) as "ahead!",
          -- What is decided about all tenants is not told to one.
          case when engine.current_tenant() is null or pause.scope = 'tenant' then coalesce(
            pause.paused_by || ': ' || pause.reason,
            breaker.reason,
            flow_limit.changed_by || ': ' || flow_limit.reason)
          end as reason,
          breaker.probe_at as "probe_at?",
          flow_limit.name is not null and engine.current_tenant() is null as "is_limit!",
          flow_limit.concurrency as "concurrency?",
          flow_limit.rate as "rate?",
          flow_limit.period_seconds as "period_seconds?",
          flow_limit.burst as "burst?"
        from engine.waiter
        left join engine.pause
          on waiter.gate = 'pause' and pause.scope = waiter.name and pause.name = waiter.key
        left join engine.breaker on waiter.gate = 'breaker' and breaker.name = waiter.name
        left join engine.flow_limit on waiter.gate = 'limit' and flow_limit.name = waiter.name
        where waiter.run_id = $1
          and waiter.shard_id = $2
        "#,
        run.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| {
        Some(Standing {
            door: Door::decode(&row.gate, row.name, row.key)?,
            since: row.since,
            ahead: row.ahead,
            reason: row.reason,
            probe_at: row.probe_at,
            allows: row.is_limit.then(|| {
                let rate = (row.rate, row.period_seconds, row.burst);
                numbers(row.concurrency, rate)
            }),
        })
    }))
}
