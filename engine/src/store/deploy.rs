//! What is stored of live runs, for the question what a build could do with it. Reads only, in
//! short statements that each look at a bounded number of rows, whatever they find; rows are
//! streamed, so that a page of large payloads is never in memory at once.

use futures_util::stream::{Stream, TryStreamExt as _};
use sqlx::PgConnection;

use crate::id::{RunId, ShardId, TenantId};
use crate::run::RunKey;
use crate::store::claim::split;

/// A run as it lies there.
#[derive(Debug)]
pub(crate) struct StoredRun {
    pub(crate) key: RunKey,
    pub(crate) tenant_id: TenantId,
    pub(crate) visit: i64,
    /// Its current visit may have a journal.
    pub(crate) begun: bool,
    pub(crate) workflow: String,
    pub(crate) version: i32,
    pub(crate) state: String,
    pub(crate) stuck: Option<String>,
    /// The state with its data; `None` for a run that has ended.
    pub(crate) data: Option<Vec<u8>>,
}

/// A message that waits, with the run that it waits for.
#[derive(Debug)]
pub(crate) struct StoredMessage {
    pub(crate) key: RunKey,
    pub(crate) tenant_id: TenantId,
    pub(crate) signal_id: String,
    pub(crate) name: String,
    pub(crate) workflow: String,
    pub(crate) version: i32,
    pub(crate) state: String,
    /// `None` for what is no signal of the workflow's own, or waits for a run that has ended.
    pub(crate) payload: Option<Vec<u8>>,
}

/// Lists every (workflow, version) that runs were ever written in. A loose scan of the index: as
/// many look-ups as there are pairs, however many runs.
pub(crate) async fn list_versions(conn: &mut PgConnection) -> sqlx::Result<Vec<(String, i32)>> {
    let rows = sqlx::query!(
        r#"
        with recursive pair as (
          (
            select run.workflow, run.version
            from engine.run
            order by run.workflow, run.version
            limit 1
          )
          union all
          select next.workflow, next.version
          from pair
          cross join lateral (
            select run.workflow, run.version
            from engine.run
            where (run.workflow, run.version) > (pair.workflow, pair.version)
            order by run.workflow, run.version
            limit 1
          ) as next
        )
        select workflow as "workflow!", version as "version!"
        from pair
        "#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.workflow, row.version))
        .collect())
}

/// Streams the live ones of the `limit` newest and the `limit` oldest runs of a pair.
pub(crate) fn sample<'a>(
    conn: &'a mut PgConnection,
    workflow: &'a str,
    version: i32,
    limit: i64,
) -> impl Stream<Item = sqlx::Result<StoredRun>> + 'a {
    sqlx::query!(
        r#"
        with looked_at as materialized (
          -- Not as two equalities: the planner would drop both columns from the order, and where
          -- most runs are of one workflow walk the primary key in search of another.
          (
            select run.run_id, run.shard_id
            from engine.run
            where (run.workflow, run.version) <= ($1, $2)
              and (run.workflow, run.version) >= ($1, $2)
            order by run.workflow desc, run.version desc, run.run_id desc
            limit $3
          )
          union
          (
            select run.run_id, run.shard_id
            from engine.run
            where (run.workflow, run.version) >= ($1, $2)
              and (run.workflow, run.version) <= ($1, $2)
            order by run.workflow, run.version, run.run_id
            limit $3
          )
        )
        select
          run.run_id as "run_id: RunId",
          run.shard_id as "shard_id: ShardId",
          run.tenant_id as "tenant_id: TenantId",
          run.visit,
          run.state,
          run.stuck,
          run.data
        from looked_at
        join engine.run using (run_id, shard_id)
        where run.status < 10
        "#,
        workflow,
        version,
        limit,
    )
    .fetch(conn)
    .map_ok(move |row| StoredRun {
        key: RunKey {
            run_id: row.run_id,
            shard_id: row.shard_id,
        },
        tenant_id: row.tenant_id,
        visit: row.visit,
        begun: false,
        workflow: workflow.to_owned(),
        version,
        state: row.state,
        stuck: row.stuck,
        data: Some(row.data),
    })
}

/// Streams the next `limit` runs behind a key, ended ones among them.
pub(crate) fn page(
    conn: &mut PgConnection,
    after: RunKey,
    limit: i64,
) -> impl Stream<Item = sqlx::Result<StoredRun>> + '_ {
    sqlx::query!(
        r#"
        select
          run.run_id as "run_id: RunId",
          run.shard_id as "shard_id: ShardId",
          run.tenant_id as "tenant_id: TenantId",
          run.visit,
          -- A first visit that is under way may be given back with its journal.
          run.begun or run.status = 1 as "begun!",
          run.workflow,
          run.version,
          run.state,
          run.stuck,
          case when run.status < 10 then run.data end as data
        from engine.run
        where (run.run_id, run.shard_id) > ($1, $2)
        order by run.run_id, run.shard_id
        limit $3
        "#,
        after.run_id.0,
        after.shard_id.0,
        limit,
    )
    .fetch(conn)
    .map_ok(|row| StoredRun {
        key: RunKey {
            run_id: row.run_id,
            shard_id: row.shard_id,
        },
        tenant_id: row.tenant_id,
        visit: row.visit,
        begun: row.begun,
        workflow: row.workflow,
        version: row.version,
        state: row.state,
        stuck: row.stuck,
        data: row.data,
    })
}

/// Lists which versions wrote the journals of visits.
pub(crate) async fn list_journals(
    conn: &mut PgConnection,
    visits: &[(RunKey, i64)],
) -> sqlx::Result<Vec<(RunId, i32)>> {
    let keys: Vec<RunKey> = visits.iter().map(|(key, _)| *key).collect();
    let (run_ids, shard_ids) = split(&keys);
    let visits: Vec<i64> = visits.iter().map(|(_, visit)| *visit).collect();
    let rows = sqlx::query!(
        r#"
        select distinct step.run_id as "run_id: RunId", step.version
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
        .map(|row| (row.run_id, row.version))
        .collect())
}

/// Streams the next `limit` pending messages behind one, in the order of their runs.
pub(crate) fn messages<'a>(
    conn: &'a mut PgConnection,
    after: RunKey,
    after_signal: &'a str,
    limit: i64,
) -> impl Stream<Item = sqlx::Result<StoredMessage>> + 'a {
    sqlx::query!(
        r#"
        with pending as materialized (
          select inbox.run_id, inbox.shard_id, inbox.signal_id, inbox.kind, inbox.name, inbox.payload
          from engine.inbox
          where inbox.outcome is null
            and (inbox.run_id, inbox.shard_id, inbox.signal_id) > ($1, $2, $3)
          order by inbox.run_id, inbox.shard_id, inbox.signal_id
          limit $4
        )
        select
          pending.run_id as "run_id: RunId",
          pending.shard_id as "shard_id: ShardId",
          run.tenant_id as "tenant_id: TenantId",
          pending.signal_id,
          pending.name,
          run.workflow,
          run.version,
          run.state,
          case when pending.kind = 0 and run.status < 10 then pending.payload end as payload
        from pending
        join engine.run using (run_id, shard_id)
        order by pending.run_id, pending.shard_id, pending.signal_id
        "#,
        after.run_id.0,
        after.shard_id.0,
        after_signal,
        limit,
    )
    .fetch(conn)
    .map_ok(|row| StoredMessage {
        key: RunKey {
            run_id: row.run_id,
            shard_id: row.shard_id,
        },
        tenant_id: row.tenant_id,
        signal_id: row.signal_id,
        name: row.name,
        workflow: row.workflow,
        version: row.version,
        state: row.state,
        payload: row.payload,
    })
}
