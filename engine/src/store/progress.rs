//! The last report of each step that reports.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::id::{Epoch, RunId, ShardId, TenantId, WorkerId};
use crate::inspect::ProgressLine;
use crate::run::RunKey;
use crate::seal::Reader;

/// Which step of which visit, under which claim.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) key: RunKey,
    pub(crate) tenant_id: TenantId,
    pub(crate) epoch: Epoch,
    pub(crate) visit: i64,
    pub(crate) seq: i32,
    pub(crate) step: &'static str,
}

/// A report to be kept.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) place: Place,
    pub(crate) value: Vec<u8>,
}

/// Keeps reports; returns the runs of those that were not fenced. A report of an older claim or visit
/// than the one that is kept says nothing any more.
pub(crate) async fn upsert(
    conn: &mut PgConnection,
    worker: WorkerId,
    slot: i16,
    reports: &[&Report],
) -> sqlx::Result<HashSet<RunId>> {
    let mut reports = reports.to_vec();
    // In one order, so that two statements meet in the same one; of each step the newest, because
    // one statement writes a row once.
    reports.sort_by_key(|report| (report.place.key.run_id, report.place.step));
    reports.reverse();
    reports.dedup_by_key(|report| (report.place.key.run_id, report.place.step));
    let places = || reports.iter().map(|report| &report.place);
    let run_ids: Vec<uuid::Uuid> = places().map(|place| place.key.run_id.0).collect();
    let shard_ids: Vec<i16> = places().map(|place| place.key.shard_id.0).collect();
    let tenant_ids: Vec<uuid::Uuid> = places().map(|place| place.tenant_id.0).collect();
    let epochs: Vec<i64> = places().map(|place| place.epoch.0).collect();
    let visits: Vec<i64> = places().map(|place| place.visit).collect();
    let seqs: Vec<i32> = places().map(|place| place.seq).collect();
    let steps: Vec<&str> = places().map(|place| place.step).collect();
    let values: Vec<&[u8]> = reports
        .iter()
        .map(|report| report.value.as_slice())
        .collect();
    let rows = sqlx::query_scalar!(
        r#"
        with lease as materialized (
          select from engine.lease
          where worker_id = $1
            and slot = $2
          for no key update
        )
        insert into engine.progress
          (run_id, shard_id, seq, visit, epoch, reported_at, tenant_id, step, value)
        select t.run_id, t.shard_id, t.seq, t.visit, t.epoch, engine.now(), t.tenant_id, t.step, t.value
        from lease
        cross join unnest(
          $3::uuid[], $4::smallint[], $5::uuid[], $6::bigint[], $7::bigint[], $8::integer[],
          $9::text[], $10::bytea[]
        ) as t (run_id, shard_id, tenant_id, epoch, visit, seq, step, value)
        on conflict (run_id, shard_id, step) do update
        set
          seq = excluded.seq,
          visit = excluded.visit,
          epoch = excluded.epoch,
          reported_at = excluded.reported_at,
          value = excluded.value
        where progress.epoch <= excluded.epoch
          and progress.visit <= excluded.visit
        returning run_id as "run_id: RunId"
        "#,
        worker.0,
        slot,
        &run_ids,
        &shard_ids,
        &tenant_ids,
        &epochs,
        &visits,
        &seqs,
        &steps as &[&str],
        &values as &[&[u8]],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Finds what was reported last of a step of a visit.
pub(crate) async fn find(conn: &mut PgConnection, place: &Place) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar!(
        r#"
        select value
        from engine.progress
        where run_id = $1
          and shard_id = $2
          and step = $3
          and visit = $4
          and seq = $5
        "#,
        place.key.run_id.0,
        place.key.shard_id.0,
        place.step,
        place.visit,
        place.seq,
    )
    .fetch_optional(conn)
    .await
}

/// Lists what unanswered steps of a run's visit reported last.
pub(crate) async fn list(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
    visit: i64,
    keys: &Reader,
) -> sqlx::Result<Vec<ProgressLine>> {
    let rows = sqlx::query!(
        r#"
        select step, value, reported_at
        from engine.progress
        where run_id = $1
          and shard_id = $2
          and visit = $3
          and not exists (
            select from engine.step as answered
            where answered.run_id = $1
              and answered.shard_id = $2
              and answered.visit = $3
              and answered.seq = progress.seq
          )
        order by reported_at desc
        "#,
        run.0,
        shard.0,
        visit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ProgressLine {
            step: row.step,
            value: keys.show(&row.value),
            reported_at: row.reported_at,
        })
        .collect())
}
