//! Putting messages into inboxes. Append only: locks no run, so a caller's transaction stalls nobody.

use sqlx::PgConnection;

use crate::id::{ClockId, RunId, ShardId, TenantId};
use crate::run::InboxKind;

/// A message to insert.
#[derive(Debug)]
pub(crate) struct NewMessage<'a> {
    pub(crate) run_id: RunId,
    pub(crate) shard_id: ShardId,
    pub(crate) tenant_id: TenantId,
    pub(crate) clock_id: Option<ClockId>,
    pub(crate) kind: InboxKind,
    pub(crate) position: i32,
    pub(crate) signal_id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) payload: &'a [u8],
}

/// Inserts a message and nudges its run; false when the id was there already.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    message: &NewMessage<'_>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        with told as (
          insert into engine.inbox
            (run_id, shard_id, kind, received_at, recorded_at, position, tenant_id, signal_id, name, payload)
          select $1, $2, $3,
            coalesce((select now_at from engine.test_clock where clock_id = $4), engine.now()),
            engine.now(), $5, $6, $7, $8, $9
          on conflict (run_id, shard_id, signal_id) do nothing
          returning run_id, shard_id, tenant_id
        )
        insert into engine.nudge (run_id, shard_id, tenant_id)
        select run_id, shard_id, tenant_id
        from told
        "#,
        message.run_id.0,
        message.shard_id.0,
        message.kind.code(),
        message.clock_id.map(|clock| clock.0),
        message.position,
        message.tenant_id.0,
        message.signal_id,
        message.name,
        message.payload,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
