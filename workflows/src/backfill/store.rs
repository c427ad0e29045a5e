//! The statements in a product's database. They cannot be held against our own schema at compile
//! time; the suite runs them in all three models.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::definition::Definition;
use super::sql::{Ends, KeyColumn, Shape};
use super::throttle::Readings;
use super::trouble::{Kind, Trouble};
use crate::data_map::Belongs;
use crate::product::{ProductError, Site, quoted};

/// A key, each of its columns as text.
pub(super) type Key = Vec<String>;

/// A part of a table, in the order of its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'a> {
    /// It begins after this key.
    pub(super) after: Option<&'a Key>,
    /// It reaches up to this one.
    pub(super) to: Option<&'a Key>,
}

/// What a batch did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Filled {
    /// The last key; none when there was no row left.
    pub(super) last: Option<Key>,
    /// Rows that it covered.
    pub(super) rows: u32,
    /// Whether there were fewer than it was to cover: the end. Kept with the answer, because whoever finds that
    /// in the ledger may have come with another size.
    #[serde(default)]
    pub(super) short: bool,
    /// Rows that it wrote.
    pub(super) written: u64,
    pub(super) ms: f64,
    pub(super) wal_bytes: f64,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Compared {
    pub(super) last: Option<Key>,
    pub(super) rows: i64,
    pub(super) wrong: i64,
    pub(super) found: i128,
    pub(super) expected: i128,
    pub(super) first_wrong: Option<Key>,
    pub(super) ms: f64,
}

/// Reads the shape of the table at a place.
pub(super) async fn shape(
    conn: &mut PgConnection,
    site: &Site,
    of: &Definition,
    table: &str,
) -> Result<Shape, ProductError> {
    if !site.map().map.tables.contains_key(table) {
        let detail = format!("the data map has no table {table:?}");
        return Err(ProductError::DoesNotFit(detail));
    }
    let name = site.table(table);
    let (schema, _) = split(site, table);
    let tenant = match site.map().map.tables.get(table).map(|rule| &rule.belongs) {
        Some(Belongs::Column(column)) => Some(column.as_str()),
        _ => None,
    };
    let key = key_columns(conn, &name, &of.key, tenant).await?;
    Ok(Shape {
        table: name,
        schema: quoted(&schema),
        own: site.own(table),
        key,
    })
}

/// The schema and the name of a table of the map at a place.
pub(super) fn split(site: &Site, table: &str) -> (String, String) {
    let place = site.place();
    match (&place.schema, table.split_once('.')) {
        (Some(schema), _) => (schema.clone(), table.to_owned()),
        (None, Some((schema, table))) => (schema.to_owned(), table.to_owned()),
        (None, None) => ("public".to_owned(), table.to_owned()),
    }
}

/// The columns that rows are walked by: those that are wanted, or the primary key's. The tenant's
/// column is the same in all rows of a tenant.
async fn key_columns(
    conn: &mut PgConnection,
    table: &str,
    wanted: &[String],
    tenant: Option<&str>,
) -> Result<Vec<KeyColumn>, ProductError> {
    let rows = sqlx::query(
        "select a.attname::text, format_type(a.atttypid, a.atttypmod)
         from pg_catalog.pg_attribute a
         left join pg_catalog.pg_index i on i.indrelid = a.attrelid and i.indisprimary
         where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
           and case when cardinality($2::text[]) > 0 then a.attname = any($2)
             else a.attnum = any(i.indkey) and a.attname is distinct from $3 end
         order by case when cardinality($2::text[]) > 0 then array_position($2, a.attname::text)
           else array_position(i.indkey::int2[], a.attnum) end",
    )
    .bind(table)
    .bind(wanted)
    .bind(tenant)
    .fetch_all(&mut *conn)
    .await?;
    let key = rows.into_iter().map(|row| {
        Ok(KeyColumn {
            name: row.try_get(0)?,
            data_type: row.try_get(1)?,
        })
    });
    let key = key.collect::<sqlx::Result<Vec<_>>>()?;
    if key.is_empty() || (!wanted.is_empty() && key.len() != wanted.len()) {
        return Err(ProductError::Refused(format!(
            "{table} has no primary key beside the tenant's column, or not the key that the definition names"
        )));
    }
    if !wanted.is_empty() && !tells_apart(conn, table, wanted, tenant).await? {
        return Err(ProductError::Refused(format!(
            "the key that the definition names would pass over rows of {table}: its columns are to be not null, and \
             unique, by an index, for a tenant"
        )));
    }
    Ok(key)
}

/// Whether a walk by these columns meets each row of a tenant: none is null, and no two rows are alike.
async fn tells_apart(
    conn: &mut PgConnection,
    table: &str,
    key: &[String],
    tenant: Option<&str>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select bool_and(a.attnotnull) and exists (
           select from pg_catalog.pg_index i
           where i.indrelid = $1::text::regclass and i.indisunique and i.indisvalid and i.indpred is null
             and i.indexprs is null
             and not exists (
               select from unnest((i.indkey::int2[])[0 : i.indnkeyatts - 1]) as part (attnum)
               join pg_catalog.pg_attribute c on c.attrelid = i.indrelid and c.attnum = part.attnum
               where c.attname <> all($2) and c.attname is distinct from $3))
         from pg_catalog.pg_attribute a
         where a.attrelid = $1::text::regclass and a.attname = any($2)",
    )
    .bind(table)
    .bind(key)
    .bind(tenant)
    .fetch_one(conn)
    .await
}

/// Which of these columns the table has.
pub(super) async fn columns_there(
    conn: &mut PgConnection,
    table: &str,
    names: &[String],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select attname::text from pg_catalog.pg_attribute
         where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attname = any($2)",
    )
    .bind(table)
    .bind(names)
    .fetch_all(conn)
    .await
}

/// Whether the trigger is there and fires.
pub(super) async fn trigger_fires(
    conn: &mut PgConnection,
    table: &str,
    name: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from pg_catalog.pg_trigger
         where tgrelid = $1::text::regclass and tgname = $2 and tgenabled in ('O', 'A'))",
    )
    .bind(table)
    .bind(name.trim_matches('"'))
    .fetch_one(conn)
    .await
}

/// How many rows the planner believes that the tenant has.
pub(super) async fn estimate(conn: &mut PgConnection, shape: &Shape) -> sqlx::Result<u64> {
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(shape.estimate()))
        .fetch_one(conn)
        .await?;
    let rows = plan.pointer("/0/Plan/Plan Rows").and_then(Value::as_f64);
    // A planner's guess, and no negative number.
    Ok(rows.unwrap_or_default().max(0.0) as u64)
}

/// Keys that part the tenant's rows into so many ranges; fewer where a sample cannot tell.
pub(super) async fn bounds(
    conn: &mut PgConnection,
    shape: &Shape,
    rows: u64,
    parts: u32,
) -> sqlx::Result<Vec<Key>> {
    let wanted = f64::from(parts) * 200.0;
    let share = (100.0 * wanted / (rows.max(1) as f64)).clamp(0.01, 100.0);
    sqlx::query_scalar(AssertSqlSafe(shape.sample()))
        .bind(share as f32)
        .bind(i64::from(parts))
        .fetch_all(conn)
        .await
}

/// Fills the next rows of a span.
pub(super) async fn fill(
    conn: &mut PgConnection,
    shape: &Shape,
    of: &Definition,
    span: Span<'_>,
    rows: u32,
) -> Result<Filled, ProductError> {
    let began = meter(conn, of.pace.timeout_ms).await?;
    let Some((count, last)) = page(conn, shape, span, rows).await? else {
        return Ok(Filled {
            last: None,
            rows: 0,
            short: true,
            written: 0,
            ms: 0.0,
            wal_bytes: 0.0,
        });
    };
    let ends = Ends {
        after: span.after.is_some(),
        to: true,
    };
    let mut query = sqlx::query(AssertSqlSafe(shape.fill(of, ends)));
    for text in span.after.into_iter().flatten().chain(&last) {
        query = query.bind(text);
    }
    let written = query.execute(&mut *conn).await?.rows_affected();
    let (ms, wal_bytes) = read_meter(conn, &began).await?;
    Ok(Filled {
        last: Some(last),
        rows: u32::try_from(count).unwrap_or(u32::MAX),
        short: count < i64::from(rows),
        written,
        ms,
        wal_bytes,
    })
}

/// How many rows the next batch has, and the last key of it; none when there are none.
pub(super) async fn page(
    conn: &mut PgConnection,
    shape: &Shape,
    span: Span<'_>,
    rows: u32,
) -> sqlx::Result<Option<(i64, Key)>> {
    let mut query = sqlx::query(AssertSqlSafe(shape.page(ends(span))));
    for text in span.after.into_iter().chain(span.to).flatten() {
        query = query.bind(text);
    }
    let row = query.bind(i64::from(rows)).fetch_optional(conn).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .transpose()
}

fn ends(span: Span<'_>) -> Ends {
    Ends {
        after: span.after.is_some(),
        to: span.to.is_some(),
    }
}

/// Compares the next rows of a span.
pub(super) async fn compare(
    conn: &mut PgConnection,
    shape: &Shape,
    of: &Definition,
    span: Span<'_>,
    rows: u32,
) -> Result<Compared, ProductError> {
    let began = meter(conn, of.pace.timeout_ms).await?;
    let mut query = sqlx::query(AssertSqlSafe(shape.verify(of, ends(span))));
    for text in span.after.into_iter().chain(span.to).flatten() {
        query = query.bind(text);
    }
    let row = query.bind(i64::from(rows)).fetch_one(&mut *conn).await?;
    let (ms, _) = read_meter(conn, &began).await?;
    Ok(Compared {
        rows: row.try_get(0)?,
        wrong: row.try_get(1)?,
        found: sum(&row, 2)?,
        expected: sum(&row, 3)?,
        last: row.try_get(4)?,
        first_wrong: row.try_get(5)?,
        ms,
    })
}

fn sum(row: &PgRow, at: usize) -> sqlx::Result<i128> {
    let text: String = row.try_get(at)?;
    text.parse()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Where time and WAL stand.
struct Meter {
    lsn: String,
    seconds: f64,
}

/// Sets what a statement of a batch may take, tells the product's trigger whose it is, and reads the meter.
async fn meter(conn: &mut PgConnection, timeout_ms: u64) -> sqlx::Result<Meter> {
    let row = sqlx::query(
        "select pg_current_wal_insert_lsn()::text, extract(epoch from clock_timestamp())::float8,
           set_config('statement_timeout', $1, true), set_config('tenure.backfill', 'on', true)",
    )
    .bind(timeout_ms.to_string())
    .fetch_one(conn)
    .await?;
    Ok(Meter {
        lsn: row.try_get(0)?,
        seconds: row.try_get(1)?,
    })
}

/// Milliseconds and bytes of WAL since.
async fn read_meter(conn: &mut PgConnection, began: &Meter) -> sqlx::Result<(f64, f64)> {
    let row = sqlx::query(
        "select (extract(epoch from clock_timestamp())::float8 - $1) * 1000,
           pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $2::text::pg_lsn)::float8",
    )
    .bind(began.seconds)
    .bind(&began.lsn)
    .fetch_one(conn)
    .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Runs statements of a phase, in the caller's transaction.
pub(super) async fn run_all(
    conn: &mut PgConnection,
    statements: &[String],
) -> Result<(), ProductError> {
    for text in statements {
        sqlx::raw_sql(AssertSqlSafe(text.as_str()))
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// What a database said of its WAL, to tell a rate from the next time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WalMark {
    lsn: String,
    seconds: f64,
}

/// Within less than this a rate of WAL says nothing.
const RATE_SECONDS: f64 = 0.2;

/// Reads how busy a database is. What the login may not see stays unread.
pub(super) async fn readings(
    conn: &mut PgConnection,
    table: &str,
    before: Option<&WalMark>,
) -> Result<(Readings, WalMark), ProductError> {
    let row = sqlx::query(
        "select
           (select max(extract(epoch from coalesce(replay_lag, write_lag)) * 1000)::int8
            from pg_catalog.pg_stat_replication),
           (select max(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn))::int8
            from pg_catalog.pg_replication_slots where restart_lsn is not null),
           exists (select from pg_catalog.pg_stat_progress_vacuum v
            where v.datname = current_database() and v.relid in (
              select relid from pg_partition_tree($1::text::regclass)
              union all select $1::text::regclass)),
           (select age(datfrozenxid)::int8 from pg_catalog.pg_database where datname = current_database()),
           (select count(*) from pg_catalog.pg_locks where not granted),
           (select max(extract(epoch from clock_timestamp() - xact_start) * 1000)::int8
            from pg_catalog.pg_stat_activity
            where pid <> pg_backend_pid() and backend_type = 'client backend'
              and datname = current_database() and application_name <> 'tenure'),
           pg_current_wal_insert_lsn()::text,
           extract(epoch from clock_timestamp())::float8,
           case when $2::text is not null
             then pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $2::text::pg_lsn)::float8 end,
           pg_has_role('pg_read_all_stats', 'usage')",
    )
    .bind(table)
    .bind(before.map(|mark| mark.lsn.as_str()))
    .fetch_one(conn)
    .await?;
    let number = |at: usize| -> sqlx::Result<Option<u64>> {
        let read: Option<i64> = row.try_get(at)?;
        Ok(read.and_then(|read| u64::try_from(read).ok()))
    };
    let mark = WalMark {
        lsn: row.try_get(6)?,
        seconds: row.try_get(7)?,
    };
    let written: Option<f64> = row.try_get(8)?;
    let (rate, mark) = match before.zip(written) {
        Some((before, written)) if written >= 0.0 => {
            let seconds = mark.seconds - before.seconds;
            match seconds > RATE_SECONDS {
                true => (Some((written / seconds) as u64), mark),
                // Looks may come faster than that: they are told from the same mark on.
                false => (None, before.clone()),
            }
        }
        _ => (None, mark),
    };
    let readings = Readings {
        replica_lag_ms: number(0)?,
        slot_bytes: number(1)?,
        wal_rate_bytes: rate,
        vacuuming: row.try_get(2)?,
        xid_age: number(3)?,
        lock_waiters: number(4)?,
        longest_transaction_ms: number(5)?,
        sees_others: row.try_get(9)?,
    };
    Ok((readings, mark))
}

/// What is wrong with the table before anything begins: the columns that are missing, or in the way.
pub(super) async fn find_obstacle(
    conn: &mut PgConnection,
    shape: &Shape,
    of: &Definition,
) -> Result<Option<Trouble>, ProductError> {
    let new: Vec<String> = of
        .columns
        .iter()
        .map(|column| column.name.clone())
        .collect();
    if let Some(taken) = columns_there(conn, &shape.table, &new).await?.first() {
        let detail = format!("{} has a column {taken:?} already", shape.table);
        return Ok(Some(Trouble::new(Kind::NameTaken, detail)));
    }
    let back = of.back.iter().map(|back| &back.column);
    let mut old: Vec<String> = of
        .reads
        .iter()
        .chain(&of.drop)
        .chain(back)
        .cloned()
        .collect();
    old.sort();
    old.dedup();
    let there = columns_there(conn, &shape.table, &old).await?;
    if let Some(gone) = old.iter().find(|name| !there.contains(name)) {
        let detail = format!("{} has no column {gone:?}", shape.table);
        return Ok(Some(Trouble::new(Kind::ColumnGone, detail)));
    }
    Ok(None)
}
