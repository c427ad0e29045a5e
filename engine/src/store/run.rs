//! Starting runs, and finding them.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::choose::RUN_START;
use crate::id::{ClockId, RunId, ShardId, TenantId};
use crate::priority::Priority;
use crate::run::Deadline;
use crate::run::{RunKey, Status, StoredError};
use crate::seal::TenantKeys;
use crate::start::Origin;
use crate::store::claim::decode_error;

/// A run to insert.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub(crate) run_id: RunId,
    pub(crate) key: String,
    pub(crate) workflow: Cow<'static, str>,
    pub(crate) version: i32,
    pub(crate) state: String,
    pub(crate) data: Vec<u8>,
    pub(crate) input_digest: Uuid,
    pub(crate) priority: Priority,
    /// When it starts, in the tenant's time; at once otherwise.
    pub(crate) starts_at: Option<DateTime<Utc>>,
    /// What it is found by, if its workflow declares that.
    pub(crate) attributes: Option<Value>,
}

/// The run that holds a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder {
    pub(crate) run_id: RunId,
    pub(crate) input_digest: Uuid,
    pub(crate) status: Status,
}

/// Where a tenant lives and which clock it follows.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) shard_id: ShardId,
    pub(crate) clock_id: Option<ClockId>,
    /// Whether the tenant is closing: nothing new is started for it from outside.
    pub(crate) closing: bool,
    /// What its payloads are sealed with.
    pub(crate) keys: TenantKeys,
}

/// Finds a tenant's place in the directory; its keys are not looked for.
pub(crate) async fn find_place(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Option<Place>> {
    let row = sqlx::query!(
        r#"
        select shard_id as "shard_id: ShardId", clock_id as "clock_id: ClockId",
          closing_since is not null as "closing!"
        from engine.tenant
        where tenant_id = $1
        "#,
        tenant.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Place {
        shard_id: row.shard_id,
        clock_id: row.clock_id,
        closing: row.closing,
        keys: TenantKeys::default(),
    }))
}

/// Says since when a tenant is closing, or that it is not; whether that changed anything.
pub(crate) async fn apply_closing(
    conn: &mut PgConnection,
    tenant: TenantId,
    closing: bool,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update engine.tenant
        set closing_since = case when $2 then engine.now() end
        where tenant_id = $1
          and (closing_since is not null) <> $2
        "#,
        tenant.0,
        closing,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes a tenant into the directory; a repeat changes nothing.
pub(crate) async fn insert_tenant(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    clock: Option<ClockId>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.tenant (tenant_id, shard_id, clock_id)
        values ($1, $2, $3)
        on conflict (tenant_id) do nothing
        "#,
        tenant.0,
        shard.0,
        clock.map(|clock| clock.0),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What keeps a run from starting before its time.
pub(crate) fn start_deadline(at: DateTime<Utc>) -> Value {
    let deadline = Deadline {
        name: RUN_START.to_owned(),
        at,
        relative: false,
        whole: false,
    };
    serde_json::json!([deadline])
}

/// Inserts runs of one tenant, due at once or at their time; returns those whose key was free.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(crate) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    place: &Place,
    origin: Origin,
    runs: &[NewRun],
) -> sqlx::Result<Vec<RunId>> {
    let ids: Vec<Uuid> = runs.iter().map(|run| run.run_id.0).collect();
    let keys: Vec<&str> = runs.iter().map(|run| run.key.as_str()).collect();
    let workflows: Vec<&str> = runs.iter().map(|run| &*run.workflow).collect();
    let versions: Vec<i32> = runs.iter().map(|run| run.version).collect();
    let states: Vec<&str> = runs.iter().map(|run| run.state.as_str()).collect();
    let data: Vec<_> = runs.iter().map(|run| place.keys.seal(&run.data)).collect();
    let data: Vec<&[u8]> = data.iter().map(|data| &**data).collect();
    let attributes: Vec<Option<&Value>> = runs.iter().map(|run| run.attributes.as_ref()).collect();
    let starts: Vec<Option<DateTime<Utc>>> = runs.iter().map(|run| run.starts_at).collect();
    let deadlines: Vec<Option<Value>> = starts.iter().map(|at| at.map(start_deadline)).collect();
    let priorities: Vec<i16> = runs.iter().map(|run| run.priority.code()).collect();
    let digests: Vec<Uuid> = runs.iter().map(|run| run.input_digest).collect();
    sqlx::query_scalar!(
        r#"
        with started as (
          insert into engine.run
            (run_id, shard_id, status, entered, nudged, version, attempt, losses, tenant_id, clock_id,
             parent_run_id, close_policy, input_digest, epoch, visit, started_at, changed_at, workflow, key, state, data,
             attributes, gathered, priority, next_at, deadlines)
          select
            t.run_id, $2, case when t.starts_at is null then 0 else 2 end, false, false, t.version, 0, 0, $1, $3,
            $4, $12, t.input_digest, 0, 0, coalesce(test_clock.now_at, (select engine.now())), (select engine.now()),
            t.workflow, t.key, t.state, t.data, t.attributes, $14, t.priority,
            t.starts_at, t.deadlines
          from unnest(
            $5::uuid[], $6::text[], $7::text[], $8::integer[], $9::text[], $10::bytea[], $11::uuid[],
            $13::jsonb[], $15::smallint[], $16::timestamptz[], $17::jsonb[]
          ) as t (
            run_id, key, workflow, version, state, data, input_digest, attributes, priority, starts_at,
            deadlines
          )
          left join engine.test_clock on test_clock.clock_id = $3
          on conflict (key, workflow, tenant_id, shard_id) do nothing
          returning run_id, priority, next_at
        ), armed as (
          insert into engine.due (run_id, shard_id, due_at, tenant_id, priority)
          select run_id, $2,
            case
              when $3::uuid is null and next_at is not null then next_at
              else coalesce($18::timestamptz - interval '1 microsecond', (select engine.now()))
            end,
            $1, case when next_at is null and $18 is null then priority else least(priority + 1, 5) end
          from started
          left join engine.test_clock on test_clock.clock_id = $3
          where $3::uuid is null or next_at is null or next_at <= test_clock.now_at
        ), clocked as (
          insert into engine.clocked (run_id, shard_id, clock_id, due_at, tenant_id)
          select started.run_id, $2, $3, started.next_at, $1
          from started
          join engine.test_clock on test_clock.clock_id = $3
          where started.next_at > test_clock.now_at
        )
        select run_id as "run_id!: RunId"
        from started
        "#,
        tenant.0,
        place.shard_id.0,
        place.clock_id.map(|clock| clock.0),
        origin.parent.map(|parent| parent.0),
        &ids,
        &keys as &[&str],
        &workflows as &[&str],
        &versions,
        &states as &[&str],
        &data as &[&[u8]],
        &digests,
        origin.close.code(),
        &attributes as &[Option<&Value>],
        origin.gathered,
        &priorities,
        &starts as &[Option<DateTime<Utc>>],
        &deadlines as &[Option<Value>],
        origin.later,
    )
    .fetch_all(conn)
    .await
}

/// Finds the run that holds a key. The comparison of the whole key adds nothing but that only its own index
/// serves it: in a plan that was made while there were no runs, all of the tenant would be read.
pub(crate) async fn find_by_key(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    workflow: &str,
    key: &str,
) -> sqlx::Result<Option<Holder>> {
    let row = sqlx::query!(
        r#"
        select run_id as "run_id: RunId", input_digest, status
        from engine.run
        where key = $1
          and workflow = $2
          and tenant_id = $3
          and shard_id = $4
          and (key, workflow, tenant_id, shard_id) >= ($1, $2, $3, $4)
        "#,
        key,
        workflow,
        tenant.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Holder {
        run_id: row.run_id,
        input_digest: row.input_digest,
        status: Status::from_code(row.status).unwrap_or(Status::Stuck),
    }))
}

/// Who a run is, for a caller that knows its id only.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) tenant_id: TenantId,
    pub(crate) workflow: String,
    pub(crate) key: String,
    pub(crate) status: Status,
    pub(crate) output: Option<Vec<u8>>,
    pub(crate) error: Option<StoredError>,
}

/// Finds a run by id.
pub(crate) async fn find_identity(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Option<Identity>> {
    let row = sqlx::query!(
        r#"
        select tenant_id as "tenant_id: TenantId", workflow, key, status, output, error
        from engine.run
        where run_id = $1
          and shard_id = $2
        "#,
        run.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Identity {
        tenant_id: row.tenant_id,
        workflow: row.workflow,
        key: row.key,
        status: Status::from_code(row.status).unwrap_or(Status::Stuck),
        output: row.output,
        error: decode_error(row.error),
    }))
}

/// What is stored of where a run is.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) tenant_id: TenantId,
    pub(crate) workflow: String,
    pub(crate) version: i32,
    pub(crate) entered: bool,
    pub(crate) data: Vec<u8>,
}

/// Finds where a run is, as it is stored.
pub(crate) async fn find_stored(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"
        select tenant_id as "tenant_id: TenantId", workflow, version, entered, data
        from engine.run
        where run_id = $1
          and shard_id = $2
        "#,
        run.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await
}

/// Asks to hear of a live run's end; false when no live run of the tenant has the id. Written into
/// the run's own row, so that whoever ends it at this moment sees it.
pub(crate) async fn add_watcher(
    conn: &mut PgConnection,
    watched: RunId,
    shard: ShardId,
    watcher: RunId,
    tenant: TenantId,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update engine.run
        set watchers = array_append(array_remove(watchers, $3), $3)
        where run_id = $1
          and shard_id = $2
          and tenant_id = $4
          and status < 10
        "#,
        watched.0,
        shard.0,
        watcher.0,
        tenant.0,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps a run that has ended from being dropped until the transaction ends; false when it has been.
/// A live run needs none of this: nothing drops it.
pub(crate) async fn keep(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
    tenant: TenantId,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select engine.keep_run($1, $2, $3) as "kept!""#,
        run.0,
        shard.0,
        tenant.0,
    )
    .fetch_one(conn)
    .await
}

/// A tenant's time; none where there is no such tenant.
pub(crate) async fn find_now_of(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        r#"
        select coalesce(test_clock.now_at, engine.now()) as "now!"
        from engine.tenant
        left join engine.test_clock on test_clock.clock_id = tenant.clock_id
        where tenant.tenant_id = $1
        "#,
        tenant.0,
    )
    .fetch_optional(conn)
    .await
}

/// The time of a clock; without one, real time.
pub(crate) async fn find_tenant_now(
    conn: &mut PgConnection,
    clock: Option<ClockId>,
) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(
        r#"
        select coalesce(
          (select now_at from engine.test_clock where clock_id = $1),
          engine.now()
        ) as "now!"
        "#,
        clock.map(|clock| clock.0),
    )
    .fetch_one(conn)
    .await
}

/// Wakes a run that is not held: whoever claims looks at it.
pub(crate) async fn nudge(
    conn: &mut PgConnection,
    run: RunKey,
    tenant_id: TenantId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into engine.nudge (run_id, shard_id, tenant_id) values ($1, $2, $3)",
        run.run_id.0,
        run.shard_id.0,
        tenant_id.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}
