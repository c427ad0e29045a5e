//! Limits and their token buckets.
//!
//! Room is given and taken back under the lock of the limit's row; the rules are in `gate/rules.rs`.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::flow::{Author, LimitLine, Numbers};
use crate::gate::{Bucket, Door, LimitRow};
use crate::limit::{Limit, Rate};

/// Adds the limits that the code names, with its numbers; one that is known keeps its own.
pub(crate) async fn insert_missing(conn: &mut PgConnection, limits: &[Limit]) -> sqlx::Result<()> {
    let names: Vec<&str> = limits.iter().map(|limit| limit.name).collect();
    let number = |value: Option<u32>| value.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    let concurrency: Vec<_> = limits.iter().map(|one| number(one.concurrency)).collect();
    let rates = || limits.iter().map(|limit| limit.rate);
    let counts: Vec<_> = rates().map(|rate| number(rate.map(|r| r.count))).collect();
    let periods: Vec<_> = rates()
        .map(|rate| number(rate.map(|r| r.period_seconds)))
        .collect();
    let bursts: Vec<_> = rates().map(|rate| number(rate.map(|r| r.burst))).collect();
    sqlx::query!(
        r#"
        insert into engine.flow_limit
          (name, concurrency, rate, period_seconds, burst, changed_at, changed_by, reason)
        select t.name, t.concurrency, t.rate, t.period_seconds, t.burst, engine.now(), null, null
        from unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::integer[])
          as t (name, concurrency, rate, period_seconds, burst)
        order by t.name
        on conflict (name) do nothing
        "#,
        &names as &[&str],
        &concurrency as &[Option<i32>],
        &counts as &[Option<i32>],
        &periods as &[Option<i32>],
        &bursts as &[Option<i32>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks limits in the order of their names: room under them is given by one at a time.
pub(crate) async fn lock(conn: &mut PgConnection, names: &[&str]) -> sqlx::Result<Vec<LimitRow>> {
    sqlx::query_as!(
        LimitRow,
        r#"
        select name, concurrency, rate, period_seconds, burst, engine.now() as "now!"
        from engine.flow_limit
        where name = any($1)
        order by name
        for update
        "#,
        names as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Writes the buckets down as they stand now.
pub(crate) async fn store_buckets(conn: &mut PgConnection, buckets: &[Bucket]) -> sqlx::Result<()> {
    let names: Vec<&str> = buckets.iter().map(|one| one.place.name.as_str()).collect();
    let keys: Vec<&str> = buckets.iter().map(|one| one.place.key.as_str()).collect();
    let tokens: Vec<f64> = buckets.iter().map(|one| one.tokens).collect();
    let wakes: Vec<Option<DateTime<Utc>>> = buckets.iter().map(|one| one.wake_at).collect();
    sqlx::query!(
        r#"
        insert into engine.bucket (name, key, tokens, refilled_at, wake_at)
        select t.name, t.key, t.tokens, engine.now(), t.wake_at
        from unnest($1::text[], $2::text[], $3::double precision[], $4::timestamptz[])
          as t (name, key, tokens, wake_at)
        on conflict (name, key) do update
        set
          tokens = excluded.tokens,
          refilled_at = excluded.refilled_at,
          wake_at = excluded.wake_at
        "#,
        &names as &[&str],
        &keys as &[&str],
        &tokens,
        &wakes as &[Option<DateTime<Utc>>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the limits' buckets that have a token by now for who waits, and the breakers whose probe
/// is due.
pub(crate) async fn list_due(conn: &mut PgConnection) -> sqlx::Result<Vec<Door>> {
    let rows = sqlx::query!(
        r#"
        select 'limit' as "gate!", name as "name!", key as "key!"
        from engine.bucket
        where wake_at <= engine.now()
        union all
        select 'breaker', name, ''
        from engine.breaker
        where probe_at <= engine.now()
        "#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Door::decode(&row.gate, row.name, row.key))
        .collect())
}

/// Forgets the buckets that are full again and that nobody uses or waits for.
pub(crate) async fn delete_full_buckets(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        delete from engine.bucket
        using engine.flow_limit
        where flow_limit.name = bucket.name
          and bucket.wake_at is null
          and (flow_limit.rate is null
            or bucket.refilled_at < engine.now()
              - (flow_limit.burst::double precision * flow_limit.period_seconds / flow_limit.rate)
                * interval '1 second')
        "#
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the limits with what is in use and who waits.
pub(crate) async fn list(conn: &mut PgConnection) -> sqlx::Result<Vec<LimitLine>> {
    let rows = sqlx::query!(
        r#"
        select
          name, concurrency, rate, period_seconds, burst, changed_at, changed_by, reason,
          (select count(*) from engine.permit where permit.name = flow_limit.name) as "in_use!",
          (select count(*) from engine.waiter
            where waiter.gate = 'limit' and waiter.name = flow_limit.name) as "waiting!"
        from engine.flow_limit
        order by name
        "#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let rate = (row.rate, row.period_seconds, row.burst);
            LimitLine {
                name: row.name,
                numbers: numbers(row.concurrency, rate),
                in_use: row.in_use,
                waiting: row.waiting,
                changed_at: row.changed_at,
                changed_by: row.changed_by,
                reason: row.reason,
            }
        })
        .collect())
}

/// A limit's numbers as they are stored: visits at once; count, period and burst.
pub(crate) fn numbers(
    concurrency: Option<i32>,
    (count, period, burst): (Option<i32>, Option<i32>, Option<i32>),
) -> Numbers {
    let rate = unsigned(count).zip(unsigned(period)).zip(unsigned(burst));
    Numbers {
        concurrency: unsigned(concurrency),
        rate: rate.map(|((count, period_seconds), burst)| Rate {
            count,
            period_seconds,
            burst,
        }),
    }
}

fn unsigned(value: Option<i32>) -> Option<u32> {
    value.and_then(|n| u32::try_from(n).ok())
}

/// Sets a limit's numbers.
pub(crate) async fn update(
    conn: &mut PgConnection,
    name: &str,
    numbers: Numbers,
    author: &Author,
) -> sqlx::Result<()> {
    let number = |value: Option<u32>| value.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    sqlx::query!(
        r#"
        update engine.flow_limit
        set
          concurrency = $2,
          rate = $3,
          period_seconds = $4,
          burst = $5,
          changed_at = engine.now(),
          changed_by = $6,
          reason = $7
        where name = $1
        "#,
        name,
        number(numbers.concurrency),
        number(numbers.rate.map(|rate| rate.count)),
        number(numbers.rate.map(|rate| rate.period_seconds)),
        number(numbers.rate.map(|rate| rate.burst)),
        author.actor,
        author.reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}
