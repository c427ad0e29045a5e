//! The statements that erase rows: over a product's tables and over our own, built from names that the
//! catalog or our own map told, quoted; values are bound. They cannot be held against one schema at
//! compile time; the suite runs them in all three models.
//!
//! A chunk finds its rows by their place on the page (`ctid`) and asks again whose they are, so that a
//! row that moved meanwhile is at worst left for the next chunk, and another tenant's is never met.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::look::{Seen, Sought};
use crate::product::{ProductError, quoted};

/// A table with the condition that a row, under the alias `t`, is the tenant's.
#[derive(Debug, Clone)]
pub(in crate::deletion) struct Rows {
    /// Its name, quoted.
    pub(in crate::deletion) table: String,
    pub(in crate::deletion) own: String,
}

/// What a chunk came to.
#[derive(Debug, Clone, Default)]
pub(in crate::deletion) struct Walked {
    pub(in crate::deletion) rows: i64,
    pub(in crate::deletion) changed: i64,
    /// The key of the last row; `None` when there was none.
    pub(in crate::deletion) last: Option<Vec<String>>,
}

/// A column of a key, with its type as Postgres prints it.
#[derive(Debug, Clone)]
pub(in crate::deletion) struct KeyColumn {
    pub(in crate::deletion) name: String,
    pub(in crate::deletion) data_type: String,
}

/// The milliseconds since the transaction's statement began, by the database's clock.
pub(in crate::deletion) async fn took_ms(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select (extract(epoch from clock_timestamp() - now()) * 1000)::bigint")
        .fetch_one(conn)
        .await
}

/// Counts the tenant's rows.
pub(in crate::deletion) async fn count(
    conn: &mut PgConnection,
    rows: &Rows,
    bound: Option<uuid::Uuid>,
) -> sqlx::Result<i64> {
    let Rows { table, own } = rows;
    let sql = format!("select count(*) from {table} as t where {own}");
    let query = sqlx::query_scalar(AssertSqlSafe(sql));
    match bound {
        Some(tenant) => query.bind(tenant).fetch_one(conn).await,
        None => query.fetch_one(conn).await,
    }
}

/// Counts the tenant's rows, but no further than to a limit.
pub(in crate::deletion) async fn count_up_to(
    conn: &mut PgConnection,
    rows: &Rows,
    limit: i64,
) -> sqlx::Result<i64> {
    let Rows { table, own } = rows;
    let sql =
        format!("select count(*) from (select from {table} as t where {own} limit $1) as few");
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(limit);
    query.fetch_one(conn).await
}

/// Sets how long a chunk may wait for a lock and how long it may take, in milliseconds.
pub(in crate::deletion) async fn limit_chunk(
    conn: &mut PgConnection,
    lock_ms: u64,
    chunk_ms: u128,
) -> sqlx::Result<()> {
    let limits =
        "select set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)";
    sqlx::query(limits)
        .bind(lock_ms.to_string())
        .bind(chunk_ms.to_string())
        .execute(conn)
        .await?;
    Ok(())
}

/// Nulls columns that close a ring, in a chunk of rows where one of them is not null.
pub(in crate::deletion) async fn null_columns(
    conn: &mut PgConnection,
    rows: &Rows,
    columns: &[String],
    limit: i64,
) -> sqlx::Result<i64> {
    let Rows { table, own } = rows;
    let columns: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let set: Vec<String> = columns
        .iter()
        .map(|name| format!("{name} = null"))
        .collect();
    let filled: Vec<String> = columns
        .iter()
        .map(|name| format!("t.{name} is not null"))
        .collect();
    let (set, filled) = (set.join(", "), filled.join(" or "));
    let sql = format!(
        "update {table} as t set {set}
         where t.ctid = any(array(
             select t.ctid from {table} as t where {own} and ({filled}) limit $1))
           and {own} and ({filled})"
    );
    let done = sqlx::query(AssertSqlSafe(sql)).bind(limit).execute(conn);
    Ok(count_of(done.await?.rows_affected()))
}

/// Deletes a chunk of the tenant's rows of a product's table.
pub(in crate::deletion) async fn delete(
    conn: &mut PgConnection,
    rows: &Rows,
    limit: i64,
) -> sqlx::Result<i64> {
    let Rows { table, own } = rows;
    let sql = format!(
        "delete from {table} as t
         where t.ctid = any(array(select t.ctid from {table} as t where {own} limit $1))
           and {own}"
    );
    let done = sqlx::query(AssertSqlSafe(sql)).bind(limit).execute(conn);
    Ok(count_of(done.await?.rows_affected()))
}

/// Gives columns of a chunk of rows, in the order of the primary key, their new values: `set` names
/// each with the SQL of what it becomes.
pub(in crate::deletion) async fn mask(
    conn: &mut PgConnection,
    rows: &Rows,
    key: &[KeyColumn],
    set: &[(String, String)],
    after: Option<&[String]>,
    limit: i64,
) -> sqlx::Result<Walked> {
    let Rows { table, own } = rows;
    let names: Vec<String> = key.iter().map(|column| quoted(&column.name)).collect();
    let list = |of: &str| -> String {
        let parts: Vec<String> = names.iter().map(|name| format!("{of}{name}")).collect();
        parts.join(", ")
    };
    let beyond = match after {
        None => String::new(),
        Some(_) => format!(" and ({}) > ({})", list("t."), cast(key, "$2")),
    };
    let same: Vec<String> = names
        .iter()
        .map(|name| format!("t.{name} = page.{name}"))
        .collect();
    let changes: Vec<String> = set
        .iter()
        .map(|(column, becomes)| format!("{} = {becomes}", quoted(column)))
        .collect();
    let texts: Vec<String> = names.iter().map(|name| format!("{name}::text")).collect();
    let down: Vec<String> = names.iter().map(|name| format!("{name} desc")).collect();
    let sql = format!(
        "with page as materialized (
           select {keys} from {table} as t where {own}{beyond} order by {keys} limit $1
         ), changed as (
           update {table} as t set {changes} from page where {same} and {own} returning 1
         )
         select (select count(*) from page), (select count(*) from changed),
           (select array[{texts}] from page order by {down} limit 1)",
        keys = list("t."),
        changes = changes.join(", "),
        same = same.join(" and "),
        texts = texts.join(", "),
        down = down.join(", "),
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(limit);
    let row = match after {
        Some(after) => query.bind(after.to_vec()).fetch_one(conn).await?,
        None => query.fetch_one(conn).await?,
    };
    Ok(Walked {
        rows: row.try_get(0)?,
        changed: row.try_get(1)?,
        last: row.try_get(2)?,
    })
}

/// Gives columns of all the tenant's rows their new values, where a table has no key to walk by.
pub(in crate::deletion) async fn mask_all(
    conn: &mut PgConnection,
    rows: &Rows,
    set: &[(String, String)],
) -> sqlx::Result<i64> {
    let Rows { table, own } = rows;
    let changes: Vec<String> = set
        .iter()
        .map(|(column, becomes)| format!("{} = {becomes}", quoted(column)))
        .collect();
    let sql = format!("update {table} as t set {} where {own}", changes.join(", "));
    let done = sqlx::query(AssertSqlSafe(sql)).execute(conn).await?;
    Ok(count_of(done.rows_affected()))
}

/// Whether a table is there.
pub(super) async fn has_table(conn: &mut PgConnection, table: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(table)
        .fetch_one(conn)
        .await
}

/// Drops a table that is the tenant's alone, with the foreign keys that refer to it from the same
/// schemas. With `None` all of the database goes. A key from elsewhere is somebody
/// else's, whose rows would lead nowhere, and nothing of theirs is locked; whatever else depends on the
/// table stands in the way, too.
pub(in crate::deletion) async fn drop_table(
    conn: &mut PgConnection,
    table: &str,
    schemas: Option<&[String]>,
) -> Result<(), ProductError> {
    let keys: Vec<(String, String, bool)> = sqlx::query_as(
        "select k.conrelid::regclass::text, k.conname::text,
           $2::text[] is null or n.nspname = any($2)
         from pg_catalog.pg_constraint k
         join pg_catalog.pg_class c on c.oid = k.conrelid
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where k.contype = 'f' and k.confrelid = to_regclass($1) and k.conrelid <> k.confrelid
           and k.conparentid = 0
         order by 3, 1, 2",
    )
    .bind(table)
    .bind(schemas)
    .fetch_all(&mut *conn)
    .await?;
    if let Some((child, key, _)) = keys.iter().find(|(.., own)| !own) {
        return Err(ProductError::ReferredTo(format!(
            "{child} refers to {table} by {key}, and is not the tenant's"
        )));
    }
    for (child, key, _) in keys {
        let sql = format!("alter table {child} drop constraint {}", quoted(&key));
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *conn).await?;
    }
    let sql = format!("drop table {table}");
    sqlx::query(AssertSqlSafe(sql)).execute(conn).await?;
    Ok(())
}

/// Drops a schema whose tables are gone. What is left in it, functions and types, is the tenant's.
pub(in crate::deletion) async fn drop_schema(
    conn: &mut PgConnection,
    schema: &str,
) -> sqlx::Result<()> {
    let tables: i64 = sqlx::query_scalar(
        "select count(*) from pg_catalog.pg_class c
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relkind in ('r', 'p', 'f', 'm')",
    )
    .bind(schema)
    .fetch_one(&mut *conn)
    .await?;
    let how = if tables == 0 { "cascade" } else { "restrict" };
    let sql = format!("drop schema if exists {} {how}", quoted(schema));
    sqlx::query(AssertSqlSafe(sql)).execute(conn).await?;
    Ok(())
}

/// Drops a database beside the one that is connected to, whoever is still in it.
pub(in crate::deletion) async fn drop_database(
    conn: &mut PgConnection,
    database: &str,
) -> sqlx::Result<()> {
    let sql = format!("drop database if exists {} with (force)", quoted(database));
    sqlx::query(AssertSqlSafe(sql)).execute(conn).await?;
    Ok(())
}

/// Whether a database of this name is there.
pub(in crate::deletion) async fn has_database(
    conn: &mut PgConnection,
    database: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from pg_catalog.pg_database where datname = $1)")
        .bind(database)
        .fetch_one(conn)
        .await
}

/// The tables of some schemas, partitions left out, quoted.
pub(in crate::deletion) async fn list_tables(
    conn: &mut PgConnection,
    schemas: &[String],
) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as(
        "select n.nspname::text, c.relname::text
         from pg_catalog.pg_class c
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = any($1)
           and c.relkind in ('r', 'p')
           and not c.relispartition
         order by 1, 2",
    )
    .bind(schemas)
    .fetch_all(conn)
    .await
}

/// Some values of a column of the tenant's rows, of six characters at least.
pub(in crate::deletion) async fn list_values(
    conn: &mut PgConnection,
    rows: &Rows,
    column: &str,
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    let (Rows { table, own }, column) = (rows, quoted(column));
    let sql = format!(
        "select distinct v.text
         from (select t.{column}::text as text from {table} as t
               where {own} and length(t.{column}::text) between 6 and 200 limit 200) as v
         order by 1 limit $1"
    );
    sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(limit)
        .fetch_all(conn)
        .await
}

/// The condition that a row holds one of the values, which are `$1`.
fn holds(sought: Option<Sought<'_>>) -> String {
    let Some(sought) = sought else {
        return "cardinality($1::text[]) > 0".to_owned();
    };
    let text = match sought.columns {
        None => "t::text".to_owned(),
        Some(columns) => {
            let parts: Vec<String> = columns
                .iter()
                .map(|name| format!("t.{}::text", quoted(name)))
                .collect();
            format!("concat_ws(' ', {})", parts.join(", "))
        }
    };
    format!(
        "exists (
           select from unnest($1::text[]) as known (value)
           where position(lower(known.value) in lower({text})) > 0)"
    )
}

/// Looks through a chunk of the tenant's rows in the order of the primary key; what it saw, and the last
/// key.
pub(super) async fn look_along(
    conn: &mut PgConnection,
    rows: &Rows,
    key: &[KeyColumn],
    sought: Option<Sought<'_>>,
    after: Option<&[String]>,
    limit: i64,
) -> sqlx::Result<(Seen, Option<Vec<String>>)> {
    let Rows { table, own } = rows;
    let names: Vec<String> = key
        .iter()
        .map(|column| format!("t.{}", quoted(&column.name)))
        .collect();
    let keys = names.join(", ");
    let texts: Vec<String> = names.iter().map(|name| format!("{name}::text")).collect();
    let beyond = match after {
        None => String::new(),
        Some(_) => format!(" and ({keys}) > ({})", cast(key, "$3")),
    };
    let (texts, holds) = (texts.join(", "), holds(sought));
    let sql = format!(
        "with page as materialized (
           select row_number() over (order by {keys}) as place, array[{texts}] as key, {holds} as holds
           from {table} as t where {own}{beyond} order by {keys} limit $2
         )
         select count(*), count(*) filter (where holds),
           (select key from page order by place desc limit 1)
         from page"
    );
    let values = sought.map_or(&[][..], |sought| sought.values);
    let query = sqlx::query(AssertSqlSafe(sql)).bind(values).bind(limit);
    let row = match after {
        Some(after) => query.bind(after.to_vec()).fetch_one(conn).await?,
        None => query.fetch_one(conn).await?,
    };
    let seen = Seen {
        rows: row.try_get(0)?,
        holding: row.try_get(1)?,
    };
    Ok((seen, row.try_get(2)?))
}

/// A key that is bound as texts, in the types of its columns.
fn cast(key: &[KeyColumn], bound: &str) -> String {
    let one = |(place, column): (usize, &KeyColumn)| {
        format!("({bound}::text[])[{}]::{}", place + 1, column.data_type)
    };
    let all: Vec<String> = key.iter().enumerate().map(one).collect();
    all.join(", ")
}

/// How many pages a table has, or the largest of its partitions.
pub(super) async fn count_pages(conn: &mut PgConnection, table: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(max(pg_relation_size(part)), 0) / current_setting('block_size')::bigint
         from (
           select to_regclass($1)::oid
           union select relid::oid from pg_partition_tree(to_regclass($1))
         ) as parts (part)",
    )
    .bind(table)
    .fetch_one(conn)
    .await
}

/// Looks through the tenant's rows on some pages.
pub(super) async fn look_at_pages(
    conn: &mut PgConnection,
    rows: &Rows,
    sought: Option<Sought<'_>>,
    (first, until): (i64, i64),
) -> sqlx::Result<Seen> {
    let (Rows { table, own }, holds) = (rows, holds(sought));
    let sql = format!(
        "select count(*), count(*) filter (where {holds})
         from {table} as t
         where t.ctid >= '({first},0)'::tid and t.ctid < '({until},0)'::tid and {own}"
    );
    let values = sought.map_or(&[][..], |sought| sought.values);
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(values)
        .fetch_one(conn)
        .await?;
    Ok(Seen {
        rows: row.try_get(0)?,
        holding: row.try_get(1)?,
    })
}

/// Deletes a chunk of the tenant's rows of one of our tables.
pub(in crate::deletion) async fn delete_own(
    conn: &mut PgConnection,
    rows: &Rows,
    tenant: uuid::Uuid,
    limit: i64,
) -> sqlx::Result<i64> {
    let Rows { table, own } = rows;
    let sql = format!(
        "delete from {table} as t
         where t.ctid = any(array(select t.ctid from {table} as t where {own} limit $2))
           and {own}"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant).bind(limit);
    Ok(count_of(query.execute(conn).await?.rows_affected()))
}

/// Deletes what the provider told of its customer, after that was deleted there.
pub(super) async fn delete_told(conn: &mut PgConnection, customer: &str) -> sqlx::Result<i64> {
    let done = sqlx::query!(
        "delete from app.webhook_event where position(convert_to($1, 'UTF8') in body) > 0",
        customer,
    )
    .execute(conn)
    .await?;
    Ok(count_of(done.rows_affected()))
}

/// Empties personal columns of a chunk of the tenant's rows of one of our tables, where they are not
/// empty yet.
pub(in crate::deletion) async fn minimise_own(
    conn: &mut PgConnection,
    rows: &Rows,
    columns: &[(&str, &str)],
    tenant: uuid::Uuid,
    limit: i64,
) -> sqlx::Result<i64> {
    let Rows { table, own } = rows;
    let set: Vec<String> = columns
        .iter()
        .map(|(column, becomes)| format!("{column} = {becomes}"))
        .collect();
    let differs: Vec<String> = columns
        .iter()
        .map(|(column, becomes)| format!("t.{column} is distinct from {becomes}"))
        .collect();
    let (set, differs) = (set.join(", "), differs.join(" or "));
    let sql = format!(
        "update {table} as t set {set}
         where t.ctid = any(array(
             select t.ctid from {table} as t where {own} and ({differs}) limit $2))
           and {own} and ({differs})"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant).bind(limit);
    Ok(count_of(query.execute(conn).await?.rows_affected()))
}

/// How many rows of one of our tables that the transaction sees hold one of the values.
pub(in crate::deletion) async fn count_holding_own(
    conn: &mut PgConnection,
    table: &str,
    values: &[String],
) -> sqlx::Result<i64> {
    let sql = format!(
        "select count(*) from app.{table} as t
         where exists (
           select from unnest($1::text[]) as known (value)
           where position(lower(known.value) in lower(to_jsonb(t)::text)) > 0)"
    );
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(values);
    query.fetch_one(conn).await
}

fn count_of(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
