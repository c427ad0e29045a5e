//! Permits: the room that runs have.

use sqlx::PgConnection;

use crate::gate::{Grant, Place, Use};
use crate::id::{Epoch, RunId};
use crate::run::RunKey;
use crate::store::claim::split;

/// Reads how much of some limits is in use, per key.
pub(crate) async fn list_uses(conn: &mut PgConnection, places: &[Place]) -> sqlx::Result<Vec<Use>> {
    let pairs = places
        .iter()
        .map(|place| (place.name.as_str(), place.key.as_str()));
    let (names, keys): (Vec<&str>, Vec<&str>) = pairs.unzip();
    let rows = sqlx::query!(
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
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Use {
            place: Place {
                name: row.name,
                key: row.key,
            },
            in_use: row.in_use,
            awaited: row.awaited,
            tokens: row.tokens,
            refilled_at: row.refilled_at,
        })
        .collect())
}

/// Reads the permits that runs have: run, limit, key.
pub(crate) async fn list(
    conn: &mut PgConnection,
    runs: &[RunKey],
) -> sqlx::Result<Vec<(RunId, Place)>> {
    let (run_ids, _) = split(runs);
    let rows = sqlx::query!(
        r#"select run_id as "run_id: RunId", name, key from engine.permit where run_id = any($1)"#,
        &run_ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let place = Place {
                name: row.name,
                key: row.key,
            };
            (row.run_id, place)
        })
        .collect())
}

/// Writes permits down; one that is known gets its new hold.
pub(crate) async fn insert(conn: &mut PgConnection, grants: &[Grant]) -> sqlx::Result<()> {
    let names: Vec<&str> = grants
        .iter()
        .map(|grant| grant.place.name.as_str())
        .collect();
    let keys: Vec<&str> = grants
        .iter()
        .map(|grant| grant.place.key.as_str())
        .collect();
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
pub(crate) async fn delete(
    conn: &mut PgConnection,
    holds: &[(RunKey, Epoch)],
) -> sqlx::Result<Vec<Place>> {
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
pub(crate) async fn delete_of(
    conn: &mut PgConnection,
    runs: &[RunKey],
) -> sqlx::Result<Vec<Place>> {
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
pub(crate) async fn delete_stale(
    conn: &mut PgConnection,
    patience_seconds: f64,
) -> sqlx::Result<Vec<Place>> {
    let rows = sqlx::query!(
        r#"
        delete from engine.permit
        using engine.permit as known
        -- One by one through the key: a plan that was made while there were few runs would read them all.
        left join lateral (
          select run.epoch, run.worker_id
          from engine.run
          where run.run_id = known.run_id
            and run.shard_id = known.shard_id
          limit 1
        ) as run on true
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

fn distinct(rows: impl Iterator<Item = (String, String)>) -> Vec<Place> {
    let mut all: Vec<_> = rows.map(|(name, key)| Place { name, key }).collect();
    all.sort();
    all.dedup();
    all
}
