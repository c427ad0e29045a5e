//! Rows of failovers, and looking up again what had been acknowledged.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::failover::{Failover, Setup};
use crate::id::RunId;
use crate::memory::Ack;

/// What is there of an acknowledged commit, in the order in which they were asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) epoch: Option<i64>,
    pub(crate) visit: Option<i64>,
    /// Whether the step is recorded; of a settlement always false.
    pub(crate) recorded: bool,
}

/// Looks up what was acknowledged.
pub(crate) async fn look_up(conn: &mut PgConnection, acks: &[Ack]) -> sqlx::Result<Vec<Found>> {
    let run_ids: Vec<Uuid> = acks.iter().map(|ack| ack.key.run_id.0).collect();
    let shard_ids: Vec<i16> = acks.iter().map(|ack| ack.key.shard_id.0).collect();
    let visits: Vec<i64> = acks.iter().map(|ack| ack.visit).collect();
    let seqs: Vec<Option<i32>> = acks.iter().map(|ack| ack.seq).collect();
    sqlx::query_as!(
        Found,
        r#"
        select
          run.epoch as "epoch?",
          run.visit as "visit?",
          exists (
            select from engine.step
            where step.run_id = acked.run_id
              and step.shard_id = acked.shard_id
              and step.visit = acked.visit
              and step.seq = acked.seq
          ) as "recorded!"
        from unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::integer[])
          with ordinality as acked (run_id, shard_id, visit, seq, place)
        left join engine.run on run.run_id = acked.run_id and run.shard_id = acked.shard_id
        order by acked.place
        "#,
        &run_ids,
        &shard_ids,
        &visits,
        &seqs as &[Option<i32>],
    )
    .fetch_all(conn)
    .await
}

/// Writes a failover down.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    failover_id: Uuid,
    failover: &Failover,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.failover
          (failover_id, noticed_at, worker, timeline_before, timeline_after, checked, lost_commits,
           lost_rows, first_lost_run)
        values ($1, engine.now(), $2, $3, $4, $5, $6, $7, $8)
        "#,
        failover_id,
        failover.worker,
        failover.timeline_before,
        failover.timeline_after,
        failover.checked,
        failover.lost_commits,
        failover.lost_rows,
        failover.first_lost_run.map(|run| run.0),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The latest failovers, the newest first.
pub(crate) async fn list(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Failover>> {
    sqlx::query_as!(
        Failover,
        r#"
        select
          noticed_at as "noticed_at: DateTime<Utc>", worker, timeline_before, timeline_after, checked,
          lost_commits, lost_rows, first_lost_run as "first_lost_run: RunId"
        from engine.failover
        order by noticed_at desc
        limit $1
        "#,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// What the server says of durability. Columns of other sessions may be hidden; that they are there
/// is not.
pub(crate) async fn setup(conn: &mut PgConnection) -> sqlx::Result<Setup> {
    sqlx::query_as!(
        Setup,
        r#"
        select
          current_setting('fsync') = 'on' as "fsync!",
          current_setting('synchronous_commit') as "synchronous_commit!",
          current_setting('synchronous_standby_names') <> '' as "synchronous_standby!",
          (select count(*) from pg_stat_replication) as "replicas!"
        "#
    )
    .fetch_one(conn)
    .await
}
