//! Who hears of whose end, asked upwards: from a run to those that wait for it.

use sqlx::PgConnection;

use crate::id::{RunId, ShardId};
use crate::run::RunKey;
use crate::run::Status;
use crate::store::claim::split;

/// A live run, and who hears of its end.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) run_id: RunId,
    pub(crate) workflow: String,
    pub(crate) key: String,
    /// It waits, and no deadline ends that.
    pub(crate) rests: bool,
    /// Its parent and its watchers.
    pub(crate) hearers: Vec<RunId>,
}

/// Locks a run until the transaction ends, so that of two that would close a ring the later one sees
/// what the earlier one wrote.
pub(crate) async fn lock(conn: &mut PgConnection, run: RunKey) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        select run_id
        from engine.run
        where run_id = $1
          and shard_id = $2
        for no key update
        "#,
        run.run_id.0,
        run.shard_id.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(())
}

/// Lists those of the runs that live, with who hears of their end.
pub(crate) async fn list_heard(
    conn: &mut PgConnection,
    runs: &[RunId],
    shard: ShardId,
) -> sqlx::Result<Vec<Heard>> {
    let keys: Vec<RunKey> = runs
        .iter()
        .map(|run_id| RunKey {
            run_id: *run_id,
            shard_id: shard,
        })
        .collect();
    let (run_ids, shard_ids) = split(&keys);
    let rows = sqlx::query!(
        r#"
        select run.run_id as "run_id: RunId", run.workflow, run.key, run.status, run.next_at,
          array_remove(array_append(run.watchers, run.parent_run_id), null) as "hearers!"
        from unnest($1::uuid[], $2::smallint[]) as wanted (run_id, shard_id)
        -- Run by run through the key (offset 0): a join might read all runs for a handful of them.
        cross join lateral (
          select run.run_id, run.workflow, run.key, run.status, run.next_at, run.watchers, run.parent_run_id
          from engine.run
          where run.run_id = wanted.run_id
            and run.shard_id = wanted.shard_id
            and run.status < 10
          offset 0
        ) as run
        "#,
        &run_ids,
        &shard_ids,
    )
    .fetch_all(conn)
    .await?;
    let heard = rows.into_iter().map(|row| Heard {
        run_id: row.run_id,
        workflow: row.workflow,
        key: row.key,
        rests: row.status == Status::Waiting.code() && row.next_at.is_none(),
        hearers: row.hearers.into_iter().map(RunId).collect(),
    });
    Ok(heard.collect())
}
