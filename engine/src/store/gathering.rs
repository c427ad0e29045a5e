//! Which run the starts of a key go into.

use chrono::{DateTime, Utc};

use serde_json::Value;
use sqlx::PgConnection;

use crate::gather::Call;
use crate::id::RunId;
use crate::store::run::{NewRun, start_deadline};

/// The run that is open for a key.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) run_id: RunId,
    pub(crate) inputs: i32,
    pub(crate) bytes: i64,
    pub(crate) until: DateTime<Utc>,
}

/// Locks the row of a key, made for `new` if there is none.
pub(crate) async fn hold(
    conn: &mut PgConnection,
    call: &Call<'_>,
    new: &NewRun,
    until: DateTime<Utc>,
) -> sqlx::Result<Open> {
    sqlx::query_as!(
        Open,
        r#"
        insert into engine.gathering (key, workflow, tenant_id, shard_id, run_id, inputs, bytes, until)
        values ($1, $2, $3, $4, $5, 0, 0, $6)
        on conflict (key, workflow, tenant_id, shard_id) do update set inputs = gathering.inputs
        returning run_id as "run_id: RunId", inputs, bytes, until
        "#,
        call.key,
        call.workflow,
        call.tenant.0,
        call.place.shard_id.0,
        new.run_id.0,
        until,
    )
    .fetch_one(conn)
    .await
}

/// Points the row of a key to a new run, with its first input.
pub(crate) async fn open(
    conn: &mut PgConnection,
    call: &Call<'_>,
    new: &NewRun,
    until: DateTime<Utc>,
    bytes: usize,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.gathering
        set run_id = $5, inputs = 1, bytes = $7, until = $6
        where key = $1
          and workflow = $2
          and tenant_id = $3
          and shard_id = $4
        "#,
        call.key,
        call.workflow,
        call.tenant.0,
        call.place.shard_id.0,
        new.run_id.0,
        until,
        i64::try_from(bytes).unwrap_or(i64::MAX),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts one more input; a row whose run is full is dropped.
pub(crate) async fn count(
    conn: &mut PgConnection,
    call: &Call<'_>,
    bytes: i64,
    closed: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with closed as (
          delete from engine.gathering
          where key = $1 and workflow = $2 and tenant_id = $3 and shard_id = $4 and $6
        )
        update engine.gathering
        set inputs = gathering.inputs + 1, bytes = $5
        where key = $1 and workflow = $2 and tenant_id = $3 and shard_id = $4 and not $6
        "#,
        call.key,
        call.workflow,
        call.tenant.0,
        call.place.shard_id.0,
        bytes,
        closed,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Changes when a run starts, and with `content` what with, if it waits and no worker has had it;
/// whether it did.
pub(crate) async fn change(
    conn: &mut PgConnection,
    call: &Call<'_>,
    run: RunId,
    content: Option<&NewRun>,
    at: DateTime<Utc>,
    now: bool,
) -> sqlx::Result<bool> {
    let data = content.map(|new| call.place.keys.seal(&new.data));
    let changed = sqlx::query_scalar!(
        r#"
        with changed as (
          update engine.run
          set
            epoch = run.epoch + 1,
            next_at = $3,
            deadlines = $4,
            changed_at = engine.now(),
            version = coalesce($5, run.version),
            state = coalesce($6, run.state),
            data = coalesce($7, run.data),
            input_digest = coalesce($8, run.input_digest),
            attributes = case when $5::integer is null then run.attributes else $9 end
          where run.run_id = $1
            and run.shard_id = $2
            and run.status = 2
            and run.visit = 0
            and not run.entered
            and run.deadlines @> '[{"name": "run-start"}]'
          returning run.run_id, run.shard_id, run.tenant_id, run.priority, run.clock_id,
            $10::boolean as at_once
        ), armed as (
          insert into engine.due (run_id, shard_id, due_at, tenant_id, priority)
          select run_id, shard_id, case when clock_id is null then $3 else engine.now() end, tenant_id,
            case when at_once then priority else least(priority + 1, 5) end
          from changed
          where clock_id is null or at_once
          on conflict (run_id, shard_id) do update set due_at = excluded.due_at, priority = excluded.priority
        ), unclocked as (
          delete from engine.clocked
          using changed
          where clocked.run_id = changed.run_id
            and clocked.shard_id = $2
            and changed.at_once
        ), clocked as (
          update engine.clocked
          set due_at = $3
          from changed
          where clocked.run_id = changed.run_id
            and clocked.shard_id = $2
            and not changed.at_once
        )
        select run_id as "run_id: RunId"
        from changed
        "#,
        run.0,
        call.place.shard_id.0,
        at,
        start_deadline(at),
        content.map(|new| new.version),
        content.map(|new| new.state.as_str()),
        data.as_deref(),
        content.map(|new| new.input_digest),
        content.and_then(|new| new.attributes.as_ref()) as Option<&Value>,
        now,
    )
    .fetch_optional(conn)
    .await?;
    Ok(changed.is_some())
}

/// Adds an input to a batch.
pub(crate) async fn append(
    conn: &mut PgConnection,
    call: &Call<'_>,
    run: RunId,
    position: i32,
    input: &[u8],
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.fan_item (run_id, shard_id, position, tenant_id, key, input)
        values ($1, $2, $3, $4, '', $5)
        "#,
        run.0,
        call.place.shard_id.0,
        position,
        call.tenant.0,
        &*call.place.keys.seal(input),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Drops rows whose run has long begun.
pub(crate) async fn delete_over(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let done =
        sqlx::query!("delete from engine.gathering where until < engine.now() - interval '1 day'")
            .execute(conn)
            .await?;
    Ok(done.rows_affected())
}
