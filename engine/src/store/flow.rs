//! Limits, breakers, pauses, and the runs that wait at them.
//!
//! Room is given and taken back under the lock of the limit's, the breaker's or the pause's row;
//! the rules are in `gate.rs`.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::flow::{Author, LimitLine, Numbers, PauseLine};
use crate::gate::{Bucket, Door, Grant, LimitRow, PauseRow, Use, Waiting};
use crate::id::{Epoch, RunId, ShardId};
use crate::limit::{Limit, Rate};
use crate::run::{RunKey, Status};
use crate::store::claim::split;

/// Adds the limits that the code names, with its numbers; one that is known keeps its own.
pub(crate) async fn insert_limits(conn: &mut PgConnection, limits: &[Limit]) -> sqlx::Result<()> {
    let names: Vec<&str> = limits.iter().map(|limit| limit.name).collect();
    let number = |value: Option<u32>| value.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    let concurrency: Vec<_> = limits.iter().map(|one| number(one.concurrency)).collect();
    let rates = || limits.iter().map(|limit| limit.rate);
    let counts: Vec<_> = rates().map(|rate| number(rate.map(|r| r.count))).collect();
    let periods: Vec<_> = rates()
        .map(|rate| number(rate.map(|r| r.period_seconds)))
        .collect();
    let bursts: Vec<_> = rates().map(|rate| number(rate.map(|r| r.burst))).collect();
    sqlx::query!(
        r#"
        insert into engine.flow_limit
          (name, concurrency, rate, period_seconds, burst, changed_at, changed_by, reason)
        select t.name, t.concurrency, t.rate, t.period_seconds, t.burst, engine.now(), null, null
        from unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::integer[])
          as t (name, concurrency, rate, period_seconds, burst)
        order by t.name
        on conflict (name) do nothing
        "#,
        &names as &[&str],
        &concurrency as &[Option<i32>],
        &counts as &[Option<i32>],
        &periods as &[Option<i32>],
        &bursts as &[Option<i32>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks limits in the order of their names: room under them is given by one at a time.
pub(crate) async fn lock_limits(
    conn: &mut PgConnection,
    names: &[&str],
) -> sqlx::Result<Vec<LimitRow>> {
    sqlx::query_as!(
        LimitRow,
        r#"
        select name, concurrency, rate, period_seconds, burst, engine.now() as "now!"
        from engine.flow_limit
        where name = any($1)
        order by name
        for update
        "#,
        names as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Reads the pauses, and keeps them from being lifted before the caller's transaction ends: who
/// parks under a pause is seen by who lifts it.
pub(crate) async fn hold_pauses(conn: &mut PgConnection) -> sqlx::Result<Vec<PauseRow>> {
    sqlx::query_as!(
        PauseRow,
        "select scope, name from engine.pause order by scope, name for share"
    )
    .fetch_all(conn)
    .await
}

/// Reads how much of some limits is in use, per key.
pub(crate) async fn list_uses(
    conn: &mut PgConnection,
    needs: &[(&str, &str)],
) -> sqlx::Result<Vec<Use>> {
    let (names, keys): (Vec<&str>, Vec<&str>) = needs.iter().copied().unzip();
    sqlx::query_as!(
        Use,
        r#"
        select
          wanted.name as "name!",
          wanted.key as "key!",
          (select count(*) from engine.permit
            where permit.name = wanted.name and permit.key = wanted.key) as "in_use!",
          exists (select from engine.waiter
            where waiter.gate = 'limit'
              and waiter.name = wanted.name
              and waiter.key = wanted.key) as "awaited!",
          bucket.tokens as "tokens?",
          bucket.refilled_at as "refilled_at?"
        from unnest($1::text[], $2::text[]) as wanted (name, key)
        left join engine.bucket on bucket.name = wanted.name and bucket.key = wanted.key
        "#,
        &names as &[&str],
        &keys as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Reads the permits that runs have: run, limit, key.
pub(crate) async fn list_permits(
    conn: &mut PgConnection,
    runs: &[RunKey],
) -> sqlx::Result<Vec<(RunId, String, String)>> {
    let (run_ids, _) = split(runs);
    let rows = sqlx::query!(
        r#"select run_id as "run_id: RunId", name, key from engine.permit where run_id = any($1)"#,
        &run_ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.run_id, row.name, row.key))
        .collect())
}

/// Writes permits down; one that is known gets its new hold.
pub(crate) async fn insert_permits(conn: &mut PgConnection, grants: &[Grant]) -> sqlx::Result<()> {
    let names: Vec<&str> = grants.iter().map(|grant| grant.name.as_str()).collect();
    let keys: Vec<&str> = grants.iter().map(|grant| grant.key.as_str()).collect();
    let runs: Vec<RunKey> = grants.iter().map(|grant| grant.run).collect();
    let (run_ids, shard_ids) = split(&runs);
    let epochs: Vec<Option<i64>> = grants
        .iter()
        .map(|grant| grant.epoch.map(|epoch| epoch.0))
        .collect();
    sqlx::query!(
        r#"
        insert into engine.permit (name, key, run_id, shard_id, epoch, granted_at)
        select t.name, t.key, t.run_id, t.shard_id, t.epoch, engine.now()
        from unnest($1::text[], $2::text[], $3::uuid[], $4::smallint[], $5::bigint[])
          as t (name, key, run_id, shard_id, epoch)
        on conflict (name, key, run_id, shard_id) do update
        set epoch = excluded.epoch, granted_at = excluded.granted_at
        "#,
        &names as &[&str],
        &keys as &[&str],
        &run_ids,
        &shard_ids,
        &epochs as &[Option<i64>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes permits back from runs, each under the hold that it was used for; whose room that gives.
pub(crate) async fn delete_permits(
    conn: &mut PgConnection,
    holds: &[(RunKey, Epoch)],
) -> sqlx::Result<Vec<(String, String)>> {
    let runs: Vec<RunKey> = holds.iter().map(|(key, _)| *key).collect();
    let (run_ids, shard_ids) = split(&runs);
    let epochs: Vec<i64> = holds.iter().map(|(_, epoch)| epoch.0).collect();
    let rows = sqlx::query!(
        r#"
        delete from engine.permit
        using unnest($1::uuid[], $2::smallint[], $3::bigint[]) as hold (run_id, shard_id, epoch)
        where permit.run_id = hold.run_id
          and permit.shard_id = hold.shard_id
          and permit.epoch = hold.epoch
        returning permit.name, permit.key
        "#,
        &run_ids,
        &shard_ids,
        &epochs,
    )
    .fetch_all(conn)
    .await?;
    Ok(distinct(rows.into_iter().map(|row| (row.name, row.key))))
}

/// Takes back the permits of runs that need none any more.
pub(crate) async fn delete_permits_of(
    conn: &mut PgConnection,
    runs: &[RunKey],
) -> sqlx::Result<Vec<(String, String)>> {
    let (run_ids, shard_ids) = split(runs);
    let rows = sqlx::query!(
        r#"
        delete from engine.permit
        using unnest($1::uuid[], $2::smallint[]) as idle (run_id, shard_id)
        where permit.run_id = idle.run_id
          and permit.shard_id = idle.shard_id
        returning permit.name, permit.key
        "#,
        &run_ids,
        &shard_ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(distinct(rows.into_iter().map(|row| (row.name, row.key))))
}

/// Takes back what lost workers and ended runs left: permits whose visit is over, and those that
/// were reserved for a run that did not come for them within `patience_seconds`.
pub(crate) async fn delete_stale_permits(
    conn: &mut PgConnection,
    patience_seconds: f64,
) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!(
        r#"
        delete from engine.permit
        using engine.permit as known
        left join engine.run on run.run_id = known.run_id and run.shard_id = known.shard_id
        where permit.name = known.name
          and permit.key = known.key
          and permit.run_id = known.run_id
          and permit.shard_id = known.shard_id
          and case
            when known.epoch is not null
              then run.epoch is distinct from known.epoch or run.worker_id is null
            else known.granted_at < engine.now() - $1::double precision * interval '1 second'
              and run.worker_id is null
          end
        returning permit.name, permit.key
        "#,
        patience_seconds,
    )
    .fetch_all(conn)
    .await?;
    Ok(distinct(rows.into_iter().map(|row| (row.name, row.key))))
}

fn distinct(rows: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut all: Vec<_> = rows.collect();
    all.sort();
    all.dedup();
    all
}

/// Writes the buckets down as they stand now.
pub(crate) async fn store_buckets(conn: &mut PgConnection, buckets: &[Bucket]) -> sqlx::Result<()> {
    let names: Vec<&str> = buckets.iter().map(|one| one.name.as_str()).collect();
    let keys: Vec<&str> = buckets.iter().map(|one| one.key.as_str()).collect();
    let tokens: Vec<f64> = buckets.iter().map(|one| one.tokens).collect();
    let wakes: Vec<Option<DateTime<Utc>>> = buckets.iter().map(|one| one.wake_at).collect();
    sqlx::query!(
        r#"
        insert into engine.bucket (name, key, tokens, refilled_at, wake_at)
        select t.name, t.key, t.tokens, engine.now(), t.wake_at
        from unnest($1::text[], $2::text[], $3::double precision[], $4::timestamptz[])
          as t (name, key, tokens, wake_at)
        on conflict (name, key) do update
        set
          tokens = excluded.tokens,
          refilled_at = excluded.refilled_at,
          wake_at = excluded.wake_at
        "#,
        &names as &[&str],
        &keys as &[&str],
        &tokens,
        &wakes as &[Option<DateTime<Utc>>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes down what runs wait for. One that waited there before keeps its place.
pub(crate) async fn insert_waiters(
    conn: &mut PgConnection,
    waiting: &[Waiting],
) -> sqlx::Result<()> {
    let runs: Vec<RunKey> = waiting.iter().map(|one| one.run).collect();
    let (run_ids, shard_ids) = split(&runs);
    let tenants: Vec<Uuid> = waiting.iter().map(|one| one.tenant_id.0).collect();
    let gates: Vec<&str> = waiting.iter().map(|one| one.door.gate()).collect();
    let names: Vec<&str> = waiting.iter().map(|one| one.door.name()).collect();
    let keys: Vec<&str> = waiting.iter().map(|one| one.door.key()).collect();
    sqlx::query!(
        r#"
        insert into engine.waiter (run_id, shard_id, tenant_id, gate, name, key, since)
        select t.run_id, t.shard_id, t.tenant_id, t.gate, t.name, t.key, engine.now()
        from unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::text[])
          as t (run_id, shard_id, tenant_id, gate, name, key)
        on conflict (run_id, shard_id) do update
        set gate = excluded.gate, name = excluded.name, key = excluded.key, since = excluded.since
        where (waiter.gate, waiter.name, waiter.key) <> (excluded.gate, excluded.name, excluded.key)
        "#,
        &run_ids,
        &shard_ids,
        &tenants,
        &gates as &[&str],
        &names as &[&str],
        &keys as &[&str],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes runs off the list of those that wait.
pub(crate) async fn delete_waiters(conn: &mut PgConnection, runs: &[RunKey]) -> sqlx::Result<()> {
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
          returning waiter.run_id, waiter.shard_id, waiter.tenant_id
        ), woken as (
          insert into engine.nudge (run_id, shard_id, tenant_id)
          select run_id, shard_id, tenant_id
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
pub(crate) async fn list_awaited(conn: &mut PgConnection) -> sqlx::Result<Vec<Door>> {
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

/// Lists the limits' buckets that have a token by now for who waits, and the breakers whose probe
/// is due.
pub(crate) async fn list_due(conn: &mut PgConnection) -> sqlx::Result<Vec<Door>> {
    let rows = sqlx::query!(
        r#"
        select 'limit' as "gate!", name as "name!", key as "key!"
        from engine.bucket
        where wake_at <= engine.now()
        union all
        select 'breaker', name, ''
        from engine.breaker
        where probe_at <= engine.now()
        "#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Door::decode(&row.gate, row.name, row.key))
        .collect())
}

/// Forgets the buckets that are full again and that nobody uses or waits for.
pub(crate) async fn delete_full_buckets(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        delete from engine.bucket
        using engine.flow_limit
        where flow_limit.name = bucket.name
          and bucket.wake_at is null
          and (flow_limit.rate is null
            or bucket.refilled_at < engine.now()
              - (flow_limit.burst::double precision * flow_limit.period_seconds / flow_limit.rate)
                * interval '1 second')
        "#
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a pause still stands.
pub(crate) async fn is_paused(
    conn: &mut PgConnection,
    scope: &str,
    name: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
          select from engine.pause where scope = $1 and name = $2
        ) as "paused!"
        "#,
        scope,
        name,
    )
    .fetch_one(conn)
    .await
}

fn unsigned(value: Option<i32>) -> Option<u32> {
    value.and_then(|n| u32::try_from(n).ok())
}

/// Lists the limits with what is in use and who waits.
pub(crate) async fn list_limits(conn: &mut PgConnection) -> sqlx::Result<Vec<LimitLine>> {
    let rows = sqlx::query!(
        r#"
        select
          name, concurrency, rate, period_seconds, burst, changed_at, changed_by, reason,
          (select count(*) from engine.permit where permit.name = flow_limit.name) as "in_use!",
          (select count(*) from engine.waiter
            where waiter.gate = 'limit' and waiter.name = flow_limit.name) as "waiting!"
        from engine.flow_limit
        order by name
        "#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let rate = unsigned(row.rate)
                .zip(unsigned(row.period_seconds))
                .zip(unsigned(row.burst));
            LimitLine {
                name: row.name,
                numbers: Numbers {
                    concurrency: unsigned(row.concurrency),
                    rate: rate.map(|((count, period_seconds), burst)| Rate {
                        count,
                        period_seconds,
                        burst,
                    }),
                },
                in_use: row.in_use,
                waiting: row.waiting,
                changed_at: row.changed_at,
                changed_by: row.changed_by,
                reason: row.reason,
            }
        })
        .collect())
}

/// Sets a limit's numbers.
pub(crate) async fn set_limit(
    conn: &mut PgConnection,
    name: &str,
    numbers: Numbers,
    author: &Author,
) -> sqlx::Result<()> {
    let number = |value: Option<u32>| value.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    sqlx::query!(
        r#"
        update engine.flow_limit
        set
          concurrency = $2,
          rate = $3,
          period_seconds = $4,
          burst = $5,
          changed_at = engine.now(),
          changed_by = $6,
          reason = $7
        where name = $1
        "#,
        name,
        number(numbers.concurrency),
        number(numbers.rate.map(|rate| rate.count)),
        number(numbers.rate.map(|rate| rate.period_seconds)),
        number(numbers.rate.map(|rate| rate.burst)),
        author.actor,
        author.reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the pauses with who waits under each.
pub(crate) async fn list_pauses(conn: &mut PgConnection) -> sqlx::Result<Vec<PauseLine>> {
    sqlx::query_as!(
        PauseLine,
        r#"
        select
          scope, name, since, paused_by, reason,
          (select count(*) from engine.waiter
            where waiter.gate = 'pause'
              and waiter.name = pause.scope
              and waiter.key = pause.name) as "waiting!"
        from engine.pause
        order by scope, name
        "#
    )
    .fetch_all(conn)
    .await
}

/// Pauses a scope; false when it was paused already.
pub(crate) async fn insert_pause(
    conn: &mut PgConnection,
    scope: &str,
    name: &str,
    author: &Author,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into engine.pause (scope, name, since, paused_by, reason)
        values ($1, $2, engine.now(), $3, $4)
        on conflict (scope, name) do nothing
        "#,
        scope,
        name,
        author.actor,
        author.reason,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lifts a pause; waits for those who are beginning to wait under it.
pub(crate) async fn delete_pause(
    conn: &mut PgConnection,
    scope: &str,
    name: &str,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "delete from engine.pause where scope = $1 and name = $2",
        scope,
        name,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// An act on what is not one run's.
#[derive(Debug)]
pub(crate) struct ControlAct<'a> {
    pub(crate) action: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) before: Value,
    pub(crate) after: Value,
}

/// Writes an act into the audit.
pub(crate) async fn insert_act(
    conn: &mut PgConnection,
    act_id: Uuid,
    author: &Author,
    act: &ControlAct<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.control_audit (act_id, at, actor, role, action, subject, reason, before, after)
        values ($1, engine.now(), $2, $3, $4, $5, $6, $7, $8)
        "#,
        act_id,
        author.actor,
        author.role,
        act.action,
        act.subject,
        author.reason,
        act.before,
        act.after,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a blocked run waits for.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) door: Door,
    pub(crate) since: DateTime<Utc>,
    /// Runs that are woken before it.
    pub(crate) ahead: i64,
    /// Who paused, or why the breaker is open.
    pub(crate) reason: Option<String>,
    /// When a breaker is tried again.
    pub(crate) probe_at: Option<DateTime<Utc>>,
}

/// Finds what a run waits for; `None` when it has been woken.
pub(crate) async fn find_place(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Option<Place>> {
    let row = sqlx::query!(
        r#"
        select
          waiter.gate, waiter.name, waiter.key, waiter.since,
          engine.waiters_ahead(waiter.run_id) as "ahead!",
          coalesce(pause.paused_by || ': ' || pause.reason, breaker.reason) as reason,
          breaker.probe_at as "probe_at?"
        from engine.waiter
        left join engine.pause
          on waiter.gate = 'pause' and pause.scope = waiter.name and pause.name = waiter.key
        left join engine.breaker on waiter.gate = 'breaker' and breaker.name = waiter.name
        where waiter.run_id = $1
          and waiter.shard_id = $2
        "#,
        run.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| {
        Some(Place {
            door: Door::decode(&row.gate, row.name, row.key)?,
            since: row.since,
            ahead: row.ahead,
            reason: row.reason,
            probe_at: row.probe_at,
        })
    }))
}
