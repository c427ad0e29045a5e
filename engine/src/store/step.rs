//! The journal's rows.

use sqlx::PgConnection;

use crate::id::{Epoch, WorkerId};
use crate::run::RunKey;

/// One answered step, to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct StepRecord {
    pub(crate) key: RunKey,
    pub(crate) visit: i64,
    pub(crate) seq: i32,
    pub(crate) version: i32,
    pub(crate) failed: bool,
    pub(crate) name: String,
    pub(crate) event: Option<String>,
    pub(crate) answer: Vec<u8>,
}

/// Goes back to the engine's role, within the same transaction.
pub(crate) async fn leave_tenant(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("set local role tenure_engine")
        .execute(conn)
        .await?;
    Ok(())
}

/// Records steps inside the caller's transaction, fenced by who holds the run and its epoch under its row
/// lock; false when the run was taken away. Comes last in the transaction, so that the lock is short.
///
/// The epoch alone is no fence: two workers may have claimed under the same one, if the first claim is gone
/// with a failover to a standby that was behind.
pub(crate) async fn record_in_transaction(
    conn: &mut PgConnection,
    (worker, epoch): (WorkerId, Epoch),
    records: &[StepRecord],
) -> sqlx::Result<bool> {
    let Some(first) = records.first() else {
        return Ok(true);
    };
    let seqs: Vec<i32> = records.iter().map(|record| record.seq).collect();
    let failed: Vec<bool> = records.iter().map(|record| record.failed).collect();
    let names: Vec<String> = records.iter().map(|record| record.name.clone()).collect();
    let events: Vec<Option<String>> = records.iter().map(|record| record.event.clone()).collect();
    let answers: Vec<Vec<u8>> = records.iter().map(|record| record.answer.clone()).collect();
    let done = sqlx::query!(
        r#"
        with fence as materialized (
          select run.run_id, run.shard_id
          from engine.run
          where run.run_id = $1
            and run.shard_id = $2
            and run.epoch = $3
            and run.worker_id = $11
          for no key update
        )
        insert into engine.step
          (run_id, shard_id, seq, visit, recorded_at, version, failed, name, event, answer)
        select fence.run_id, fence.shard_id, t.seq, $4, engine.now(), $5, t.failed, t.name, t.event, t.answer
        from fence
        cross join unnest($6::integer[], $7::boolean[], $8::text[], $9::text[], $10::bytea[])
          as t (seq, failed, name, event, answer)
        "#,
        first.key.run_id.0,
        first.key.shard_id.0,
        epoch.0,
        first.visit,
        first.version,
        &seqs,
        &failed,
        &names,
        &events as &[Option<String>],
        &answers,
        worker.0,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == records.len() as u64)
}
