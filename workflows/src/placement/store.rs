//! The statements of a move over a product's tables, built from names that its catalog told; they
//! are run against the sample product in all three models by the suite. Rows travel as JSON, in
//! which Postgres writes every type so that it reads it back the same.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::shape::Fit;
use crate::product::{Site, quoted};

/// What marks our own writes for the guard of a frozen tenant.
const MOVER: &str = "tenure.mover";

fn joined(columns: &[String], alias: &str) -> String {
    let names = columns
        .iter()
        .map(|name| format!("{alias}.{}", quoted(name)));
    names.collect::<Vec<_>>().join(", ")
}

fn listed(columns: &[String]) -> String {
    let names: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    names.join(", ")
}

/// `t` and `s` are the same row.
fn same(key: &[String]) -> String {
    let pairs = key.iter().map(|name| {
        let name = quoted(name);
        format!("t.{name} = s.{name}")
    });
    pairs.collect::<Vec<_>>().join(" and ")
}

/// A text as SQL writes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An object of the key's columns.
fn key_object(key: &[String], alias: &str) -> String {
    let parts = key.iter().map(|name| {
        let column = quoted(name);
        format!("{}, {alias}.{column}", literal(name))
    });
    format!(
        "json_build_object({})::text",
        parts.collect::<Vec<_>>().join(", ")
    )
}

/// Makes two servers write the same value as the same text.
pub(super) async fn speak_alike(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(
        "select set_config('TimeZone', 'UTC', true), set_config('IntervalStyle', 'iso_8601', true),
           set_config('DateStyle', 'ISO, YMD', true), set_config('bytea_output', 'hex', true),
           set_config('extra_float_digits', '1', true)",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Some rows in the order of their keys, after a key: each row, and its key.
pub(super) async fn read_rows(
    conn: &mut PgConnection,
    site: &Site,
    name: &str,
    key: &[String],
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<(String, String)>> {
    let (table, own, keys) = (site.table(name), site.own(name), joined(key, "t"));
    let begin = match after {
        None => "$2::text is null".to_owned(),
        Some(_) => {
            let last = joined(key, "s");
            format!(
                "({keys}) > (select {last} from json_populate_record(null::{table}, $2::text::json) as s)"
            )
        }
    };
    let text = format!(
        "select row_to_json(t)::text, {} from {table} as t where {own} and {begin} \
         order by {keys} limit $1",
        key_object(key, "t")
    );
    let rows = sqlx::query(AssertSqlSafe(text))
        .bind(limit)
        .bind(after)
        .fetch_all(conn)
        .await?;
    rows.into_iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// Writes rows where they are new or differ, but for what closes rings; how many did.
pub(super) async fn write_rows(
    conn: &mut PgConnection,
    site: &Site,
    fit: &Fit,
    rows: &str,
) -> sqlx::Result<u64> {
    let table = site.table(&fit.to);
    let mut columns = fit.written.clone();
    let values = fit
        .written
        .iter()
        .map(|name| match fit.ring.contains(name) {
            true => "null".to_owned(),
            false => format!("s.{}", quoted(name)),
        });
    let mut values: Vec<String> = values.collect();
    if let Some(tenant) = &fit.tenant {
        columns.push(tenant.clone());
        values.push(format!(
            "(json_populate_record(null::{table}, json_build_object({}, \
             current_setting('tenure.tenant_key')))).{}",
            literal(tenant),
            quoted(tenant)
        ));
    }
    let changed = fit.written.iter();
    let changed = changed.filter(|name| !fit.primary.contains(name) && !fit.ring.contains(name));
    let changed: Vec<String> = changed
        .map(|name| format!("{0} = excluded.{0}", quoted(name)))
        .collect();
    let on_conflict = match changed.is_empty() {
        true => "do nothing".to_owned(),
        false => format!(
            "do update set {} where to_jsonb(t) - $2::text[] is distinct from \
             to_jsonb(excluded) - $2::text[]",
            changed.join(", ")
        ),
    };
    let text = format!(
        "insert into {table} as t ({}) overriding system value select {} \
         from json_populate_recordset(null::{table}, $1::text::json) as s where $2::text[] is not null \
         on conflict ({}) {on_conflict}",
        listed(&columns),
        values.join(", "),
        listed(&fit.primary)
    );
    let done = sqlx::query(AssertSqlSafe(text))
        .bind(rows)
        .bind(&fit.ring)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Writes what closes rings, where it differs; how many rows did.
pub(super) async fn write_rings(
    conn: &mut PgConnection,
    site: &Site,
    fit: &Fit,
    rows: &str,
) -> sqlx::Result<u64> {
    let (table, own, same) = (site.table(&fit.to), site.own(&fit.to), same(&fit.key));
    let set = fit
        .ring
        .iter()
        .map(|name| format!("{0} = s.{0}", quoted(name)));
    let text = format!(
        "update {table} as t set {} from json_populate_recordset(null::{table}, $1::text::json) as s \
         where {same} and {own} and row({}) is distinct from row({})",
        set.collect::<Vec<_>>().join(", "),
        joined(&fit.ring, "t"),
        joined(&fit.ring, "s")
    );
    let done = sqlx::query(AssertSqlSafe(text))
        .bind(rows)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Those of some keys that no row has.
pub(super) async fn missing(
    conn: &mut PgConnection,
    site: &Site,
    name: &str,
    key: &[String],
    keys: &str,
) -> sqlx::Result<Vec<String>> {
    let (table, own, same) = (site.table(name), site.own(name), same(key));
    let text = format!(
        "select {} from json_populate_recordset(null::{table}, $1::text::json) as s \
         where not exists (select from {table} as t where {own} and {same})",
        key_object(key, "s")
    );
    sqlx::query_scalar(AssertSqlSafe(text))
        .bind(keys)
        .fetch_all(conn)
        .await
}

/// Deletes the rows of some keys.
pub(super) async fn delete_keys(
    conn: &mut PgConnection,
    site: &Site,
    fit: &Fit,
    keys: &str,
) -> sqlx::Result<u64> {
    let (table, own, same) = (site.table(&fit.to), site.own(&fit.to), same(&fit.key));
    let text = format!(
        "delete from {table} as t using json_populate_recordset(null::{table}, $1::text::json) as s \
         where {same} and {own}"
    );
    let done = sqlx::query(AssertSqlSafe(text))
        .bind(keys)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// How many rows the tenant has in a table, and a digest of them that does not depend on where they
/// are. `hidden` are the columns that the other place has not.
pub(super) async fn digest(
    conn: &mut PgConnection,
    site: &Site,
    name: &str,
    hidden: &[String],
) -> sqlx::Result<(i64, String)> {
    let (table, own) = (site.table(name), site.own(name));
    let text = format!(
        "select count(*), md5(coalesce(string_agg(hash, '' order by hash collate \"C\"), '')) \
         from (select md5((to_jsonb(t) - $1::text[])::text) as hash from {table} as t where {own}) rows"
    );
    let row = sqlx::query(AssertSqlSafe(text))
        .bind(hidden)
        .fetch_one(conn)
        .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Whether the tenant has a row in a table.
pub(super) async fn has_rows(
    conn: &mut PgConnection,
    site: &Site,
    name: &str,
) -> sqlx::Result<bool> {
    let (table, own) = (site.table(name), site.own(name));
    let text = format!("select exists (select from {table} as t where {own})");
    sqlx::query_scalar(AssertSqlSafe(text))
        .fetch_one(conn)
        .await
}

/// Lets a transaction write although the tenant is frozen.
pub(super) async fn write_as_mover(conn: &mut PgConnection, job: &str) -> sqlx::Result<()> {
    sqlx::query("select set_config($1, $2, true)")
        .bind(MOVER)
        .bind(job)
        .execute(conn)
        .await?;
    Ok(())
}

/// Makes a table's rows of the tenant read only, whoever writes. The lock that a trigger is made
/// under waits for every transaction that has written the table, and lets readers pass: what is
/// read afterwards is the last that was written.
pub(super) async fn freeze(
    conn: &mut PgConnection,
    site: &Site,
    name: &str,
    job: &str,
    place: usize,
) -> sqlx::Result<()> {
    let (table, own) = (site.table(name), site.own_written_out(name));
    let (function, trigger) = guard(job, place);
    // The tag of the body's quotes is one that no name holds.
    let text = format!(
        "create or replace function {function}() returns trigger language plpgsql as $tenure_{job}$
         declare
           old_row {table};
           new_row {table};
         begin
           if current_setting('{MOVER}', true) is distinct from '{job}' then
             if tg_op <> 'INSERT' then
               old_row := jsonb_populate_record(null::{table}, to_jsonb(old));
             end if;
             if tg_op <> 'DELETE' then
               new_row := jsonb_populate_record(null::{table}, to_jsonb(new));
             end if;
             if tg_op <> 'INSERT' and exists (select from (select (old_row).*) as t where {own})
               or tg_op <> 'DELETE' and exists (select from (select (new_row).*) as t where {own})
             then
               raise exception using errcode = 'read_only_sql_transaction',
                 message = 'this tenant is being moved and is read only until it has switched',
                 hint = 'Ask Tenure for the tenant''s placement and try again there.';
             end if;
           end if;
           if tg_op = 'DELETE' then return old; end if;
           return new;
         end
         $tenure_{job}$;
         drop trigger if exists {trigger} on {table};
         create trigger {trigger} before insert or update or delete on {table}
           for each row execute function {function}();"
    );
    sqlx::raw_sql(AssertSqlSafe(text)).execute(conn).await?;
    Ok(())
}

/// Takes all guards of a job away.
pub(super) async fn thaw(conn: &mut PgConnection, job: &str) -> sqlx::Result<()> {
    let (_, trigger) = guard(job, 0);
    let asked = "select format('drop trigger %I on %s', tgname, tgrelid::regclass)
                 from pg_catalog.pg_trigger
                 where tgname = $1 and tgparentid = 0";
    let mut drops: Vec<String> = sqlx::query_scalar(asked)
        .bind(&trigger)
        .fetch_all(&mut *conn)
        .await?;
    let asked = "select format('drop function %s', p.oid::regprocedure)
                 from pg_catalog.pg_proc p
                 join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                 where n.nspname = 'tenure' and starts_with(p.proname, $1)";
    let functions = sqlx::query_scalar(asked).bind(format!("frozen_{job}_"));
    let functions: Vec<String> = functions.fetch_all(&mut *conn).await?;
    drops.extend(functions);
    sqlx::raw_sql(AssertSqlSafe(drops.join(";\n")))
        .execute(conn)
        .await?;
    Ok(())
}

/// Function and trigger that guard a table. `job` is hexadecimal digits.
fn guard(job: &str, place: usize) -> (String, String) {
    (
        format!("tenure.frozen_{job}_{place}"),
        format!("tenure_frozen_{job}"),
    )
}

/// Nulls what closes rings in some rows of the tenant; how many.
pub(super) async fn null_rings(
    conn: &mut PgConnection,
    site: &Site,
    name: &str,
    key: &[String],
    ring: &[String],
    limit: i64,
) -> sqlx::Result<u64> {
    let (table, own) = (site.table(name), site.own(name));
    let set = ring.iter().map(|name| format!("{} = null", quoted(name)));
    let (keys, ring) = (joined(key, "t"), joined(ring, "t"));
    let text = format!(
        "update {table} as t set {} where {own} and ({keys}) in \
         (select {keys} from {table} as t where {own} and num_nonnulls({ring}) > 0 limit $1)",
        set.collect::<Vec<_>>().join(", ")
    );
    let done = sqlx::query(AssertSqlSafe(text))
        .bind(limit)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Deletes some rows of the tenant; how many.
pub(super) async fn delete_rows(
    conn: &mut PgConnection,
    site: &Site,
    name: &str,
    key: &[String],
    limit: i64,
) -> sqlx::Result<u64> {
    let (table, own, keys) = (site.table(name), site.own(name), joined(key, "t"));
    let text = format!(
        "delete from {table} as t where {own} and ({keys}) in \
         (select {keys} from {table} as t where {own} limit $1)"
    );
    let done = sqlx::query(AssertSqlSafe(text))
        .bind(limit)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Whether there is such a schema.
pub(super) async fn schema_exists(conn: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let asked = "select exists (select from pg_catalog.pg_namespace where nspname = $1)";
    sqlx::query_scalar(asked).bind(name).fetch_one(conn).await
}

/// Whether there is such a database on the server.
pub(super) async fn database_exists(conn: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let asked = "select exists (select from pg_catalog.pg_database where datname = $1)";
    sqlx::query_scalar(asked).bind(name).fetch_one(conn).await
}

/// How many tables there are that are not ours and not Postgres' own.
pub(super) async fn count_tables(conn: &mut PgConnection) -> sqlx::Result<i64> {
    let asked = "select count(*)
         from pg_catalog.pg_class t
         join pg_catalog.pg_namespace n on n.oid = t.relnamespace
         where t.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema', 'tenure')
           and n.nspname !~ '^pg_'";
    sqlx::query_scalar(asked).fetch_one(conn).await
}

/// Makes a schema, and lets the transaction begin its search with it.
pub(super) async fn create_schema(conn: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    let text = format!("create schema {}", quoted(name));
    sqlx::raw_sql(AssertSqlSafe(text))
        .execute(&mut *conn)
        .await?;
    search_in(conn, &quoted(name)).await
}

/// Lets the transaction search in these schemas, quoted.
pub(super) async fn search_in(conn: &mut PgConnection, path: &str) -> sqlx::Result<()> {
    sqlx::query("select set_config('search_path', $1, true)")
        .bind(path)
        .execute(conn)
        .await?;
    Ok(())
}

/// Makes a database; outside of any transaction.
pub(super) async fn create_database(conn: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    let text = format!("create database {}", quoted(name));
    sqlx::raw_sql(AssertSqlSafe(text)).execute(conn).await?;
    Ok(())
}

/// Runs SQL of the product's owner in the transaction; `false` when it has ended that.
pub(super) async fn run_sql(conn: &mut PgConnection, sql: &str) -> sqlx::Result<bool> {
    let current = "select txid_current()";
    let before: i64 = sqlx::query_scalar(current).fetch_one(&mut *conn).await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut *conn)
        .await?;
    let after: i64 = sqlx::query_scalar(current).fetch_one(&mut *conn).await?;
    Ok(before == after)
}
