//! A fan-out's items, and what became of its children.

use std::ops::Range;

use serde_json::Value;
use sqlx::PgConnection;

use crate::error::ErrorRecord;
use crate::fan_out::{ChildResult, Item};
use crate::follow::CHILD_CYCLE;
use crate::id::{RunId, ShardId, TenantId};
use crate::run::{RunKey, Status};
use crate::seal::TenantKeys;
use crate::store::claim::decode_error;

/// How many items one statement writes.
const ITEMS_PER_STATEMENT: usize = 1_000;

/// An item that has no child yet.
#[derive(Debug)]
pub(crate) struct StoredItem {
    pub(crate) position: i32,
    pub(crate) key: String,
    pub(crate) input: Vec<u8>,
}

/// Writes the items of a fan-out, in their order.
pub(crate) async fn insert_items(
    conn: &mut PgConnection,
    fan_out: RunId,
    shard: ShardId,
    tenant: TenantId,
    items: &[Item],
    sealing: &TenantKeys,
) -> sqlx::Result<()> {
    for (page, items) in items.chunks(ITEMS_PER_STATEMENT).enumerate() {
        let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
        let inputs: Vec<_> = items.iter().map(|item| sealing.seal(&item.input)).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(|input| &**input).collect();
        let first = i32::try_from(page * ITEMS_PER_STATEMENT).unwrap_or(i32::MAX);
        sqlx::query!(
            r#"
            insert into engine.fan_item (run_id, shard_id, position, tenant_id, key, input)
            select $1, $2, $4 + (t.place - 1)::integer, $3, t.key, t.input
            from unnest($5::text[], $6::bytea[]) with ordinality as t (key, input, place)
            "#,
            fan_out.0,
            shard.0,
            tenant.0,
            first,
            &keys as &[&str],
            &inputs as &[&[u8]],
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Lists a range of items.
pub(crate) async fn list_items(
    conn: &mut PgConnection,
    fan_out: RunId,
    shard: ShardId,
    range: &Range<u32>,
) -> sqlx::Result<Vec<StoredItem>> {
    sqlx::query_as!(
        StoredItem,
        r#"
        select position, key, input
        from engine.fan_item
        where run_id = $1
          and shard_id = $2
          and position >= $3
          and position < $4
        "#,
        fan_out.0,
        shard.0,
        place(range.start),
        place(range.end),
    )
    .fetch_all(conn)
    .await
}

/// Lists the inputs of a batch, in the order in which they came.
pub(crate) async fn list_inputs(
    conn: &mut PgConnection,
    run: RunKey,
) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        r#"
        select input
        from engine.fan_item
        where run_id = $1
          and shard_id = $2
        order by position
        "#,
        run.run_id.0,
        run.shard_id.0,
    )
    .fetch_all(conn)
    .await
}

/// Says of an item why it has no child.
pub(crate) async fn refuse(
    conn: &mut PgConnection,
    fan_out: RunId,
    shard: ShardId,
    position: i32,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.fan_item
        set refused = $4
        where run_id = $1
          and shard_id = $2
          and position = $3
        "#,
        fan_out.0,
        shard.0,
        position,
        reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Which children are asked for.
#[derive(Debug)]
pub(crate) struct ChildPage<'a> {
    pub(crate) fan_out: RunId,
    pub(crate) shard_id: ShardId,
    pub(crate) tenant_id: TenantId,
    pub(crate) workflow: &'a str,
    /// The first place.
    pub(crate) from: u32,
    pub(crate) limit: u32,
}

/// Lists children in the order of their items, each as its own row has it.
pub(crate) async fn list_children(
    conn: &mut PgConnection,
    page: &ChildPage<'_>,
    keys: &TenantKeys,
) -> sqlx::Result<Vec<ChildResult>> {
    let rows = sqlx::query!(
        r#"
        select
          item.position, item.key, item.refused,
          run.run_id as "run_id?: RunId", run.status as "status?", run.output as "output?",
          run.error as "error?"
        from engine.fan_item as item
        left join lateral (
          -- One by one through the key; the whole of it as in `run::find_by_key`.
          select run.run_id, run.status, run.output, run.error
          from engine.run
          where run.key = item.key
            and run.workflow = $4
            and run.tenant_id = $3
            and run.shard_id = $2
            and (run.key, run.workflow, run.tenant_id, run.shard_id) >= (item.key, $4, $3, $2)
          limit 1
        ) as run on item.refused is null
        where item.run_id = $1
          and item.shard_id = $2
          and item.tenant_id = $3
          and item.position >= $5
        order by item.position
        limit $6
        "#,
        page.fan_out.0,
        page.shard_id.0,
        page.tenant_id.0,
        page.workflow,
        place(page.from),
        i64::from(page.limit),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let refused = row.refused.map(|code| {
                let why = match code.as_str() {
                    CHILD_CYCLE => "the key belongs to a run that waits for this one",
                    _ => "the key belongs to a run that was started with another input",
                };
                ErrorRecord {
                    message: why.to_owned(),
                    code,
                }
            });
            let ended_badly = decode_error(row.error).map(|error| ErrorRecord {
                code: error.code,
                message: error.message,
            });
            let output = row.output.as_deref();
            ChildResult {
                position: row.position.unsigned_abs(),
                key: row.key,
                run_id: row.run_id,
                status: row.status.and_then(Status::from_code),
                output: output.map_or(Value::Null, |bytes| keys.show(bytes)),
                error: refused.or(ended_badly),
            }
        })
        .collect())
}

fn place(position: u32) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}
