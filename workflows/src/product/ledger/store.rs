//! The statements in a product's database that are the same in every product: the ledger, the
//! settings of a transaction, and a look into the catalog. They cannot be held against our own
//! schema at compile time; the suite runs them in all three models.

use serde_json::Value;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{Commit, OnceKey};
use crate::product::ProductError;

/// How long a statement waits for a lock, in milliseconds: the product goes first.
const LOCK_TIMEOUT: &str = "2000";
/// How long one statement may take, in milliseconds.
const STATEMENT_TIMEOUT: &str = "60000";
/// After how many milliseconds a transaction that its process left open ends.
const IDLE_TIMEOUT: &str = "60000";

/// Makes the ledger, unless it is there. The rights to make a schema are asked for only then.
pub(in crate::product) async fn install(conn: &mut PgConnection) -> Result<(), ProductError> {
    let there = "select to_regclass('tenure.done') is not null";
    if sqlx::query_scalar::<_, bool>(there)
        .fetch_one(&mut *conn)
        .await?
    {
        return Ok(());
    }
    // Two processes may come here at once: they take turns, and the second one finds it there.
    let made = r"
        begin;
        set local search_path = pg_catalog, pg_temp;
        select pg_advisory_xact_lock(hashtextextended('tenure.done', 0));
        create schema if not exists tenure;
        create table if not exists tenure.done (
          job uuid not null,
          subject text not null,
          name text not null,
          answer jsonb,
          done_at timestamptz not null default now(),
          primary key (job, subject, name)
        );
        comment on schema tenure is 'What Tenure keeps in this database. Drop it when Tenure is gone.';
        comment on table tenure.done is 'What Tenure did here, each once, with its answer.';
        commit";
    if let Err(error) = sqlx::raw_sql(made).execute(&mut *conn).await {
        sqlx::raw_sql("rollback").execute(&mut *conn).await?;
        return Err(error.into());
    }
    Ok(())
}

/// Sets the limits of a transaction.
pub(in crate::product) async fn set_limits(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(
        "select set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true),
           set_config('idle_in_transaction_session_timeout', $3, true)",
    )
    .bind(LOCK_TIMEOUT)
    .bind(STATEMENT_TIMEOUT)
    .bind(IDLE_TIMEOUT)
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets a transaction see one tenant only: the search path, the key that conditions read, and the
/// product's own setting, if it has one. Sets its limits, too, and whether its commit waits for the disk as
/// the server is set up to do.
pub(in crate::product) async fn narrow(
    conn: &mut PgConnection,
    search_path: &str,
    key: &str,
    setting: Option<&str>,
    commit: Commit,
) -> sqlx::Result<()> {
    sqlx::query(
        "select set_config('search_path', $1, true), set_config('tenure.tenant_key', $2, true),
           case when $3::text is not null then set_config($3, $2, true) end,
           case when not $4 then set_config('synchronous_commit', 'off', true) end,
           set_config('lock_timeout', $5, true), set_config('statement_timeout', $6, true),
           set_config('idle_in_transaction_session_timeout', $7, true)",
    )
    .bind(search_path)
    .bind(key)
    .bind(setting)
    .bind(commit == Commit::OnDisk)
    .bind(LOCK_TIMEOUT)
    .bind(STATEMENT_TIMEOUT)
    .bind(IDLE_TIMEOUT)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether row-level security does not bind who is connected.
pub(in crate::product) async fn bypasses_row_security(
    conn: &mut PgConnection,
) -> sqlx::Result<bool> {
    let asked =
        "select rolsuper or rolbypassrls from pg_catalog.pg_roles where rolname = current_user";
    sqlx::query_scalar(asked).fetch_one(conn).await
}

/// The type of a column of each table, as Postgres prints it; tables as `schema.table`.
pub(in crate::product) async fn column_types(
    conn: &mut PgConnection,
    tables: &[String],
    columns: &[String],
) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query(
        "select wanted.name, pg_catalog.format_type(a.atttypid, a.atttypmod)
         from unnest($1::text[], $2::text[]) as wanted (name, attname)
         join pg_catalog.pg_namespace n on starts_with(wanted.name, n.nspname || '.')
         join pg_catalog.pg_class t
           on t.relnamespace = n.oid and n.nspname || '.' || t.relname = wanted.name
         join pg_catalog.pg_attribute a
           on a.attrelid = t.oid and a.attname = wanted.attname and not a.attisdropped",
    )
    .bind(tables)
    .bind(columns)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// A foreign key: the parent as `schema.table`, the columns that refer, and those referred to.
pub(in crate::product) async fn parent_columns(
    conn: &mut PgConnection,
    table: &str,
    constraint: &str,
) -> sqlx::Result<Option<(String, Vec<String>, Vec<String>)>> {
    let row = sqlx::query(
        "select pn.nspname || '.' || p.relname,
           array(
             select c.attname::text
             from unnest(k.conkey) with ordinality as part (attnum, place)
             join pg_catalog.pg_attribute c on c.attrelid = t.oid and c.attnum = part.attnum
             order by part.place
           ),
           array(
             select c.attname::text
             from unnest(k.confkey) with ordinality as part (attnum, place)
             join pg_catalog.pg_attribute c on c.attrelid = p.oid and c.attnum = part.attnum
             order by part.place
           )
         from pg_catalog.pg_constraint k
         join pg_catalog.pg_class t on t.oid = k.conrelid
         join pg_catalog.pg_namespace n on n.oid = t.relnamespace
         join pg_catalog.pg_class p on p.oid = k.confrelid
         join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
         where k.contype = 'f' and k.conname = $2 and n.nspname || '.' || t.relname = $1",
    )
    .bind(table)
    .bind(constraint)
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .transpose()
}

/// Takes a key; `false` when it is taken. Waits for who holds it.
pub(super) async fn take(
    conn: &mut PgConnection,
    key: &OnceKey,
    subject: &str,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into tenure.done (job, subject, name) values ($1, $2, $3)
         on conflict (job, subject, name) do nothing",
    )
    .bind(key.job)
    .bind(subject)
    .bind(&key.name)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes the answer beside its key.
pub(super) async fn answer(
    conn: &mut PgConnection,
    key: &OnceKey,
    subject: &str,
    answer: &Value,
) -> sqlx::Result<()> {
    let done = sqlx::query(
        "update tenure.done set answer = $4 where job = $1 and subject = $2 and name = $3",
    )
    .bind(key.job)
    .bind(subject)
    .bind(&key.name)
    .bind(answer)
    .execute(conn)
    .await?;
    // The work itself must not have ended the transaction, or dropped its own key.
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}

/// Writes to those of the keys that are there; how many that are.
pub(super) async fn touch(
    conn: &mut PgConnection,
    job: Uuid,
    names: &[&str],
    subject: &str,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update tenure.done set done_at = done_at
         where job = $1 and subject = $2 and name = any($3::text[])",
    )
    .bind(job)
    .bind(subject)
    .bind(names)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// The answer under a key that is taken.
pub(super) async fn find(
    conn: &mut PgConnection,
    key: &OnceKey,
    subject: &str,
) -> sqlx::Result<Value> {
    let found = find_any(conn, key, subject).await?;
    found.ok_or(sqlx::Error::RowNotFound)
}

/// The answer under a key, if it is taken.
pub(super) async fn find_any(
    conn: &mut PgConnection,
    key: &OnceKey,
    subject: &str,
) -> sqlx::Result<Option<Value>> {
    let asked = "select coalesce(answer, 'null') from tenure.done
                 where job = $1 and subject = $2 and name = $3";
    sqlx::query_scalar(asked)
        .bind(key.job)
        .bind(subject)
        .bind(&key.name)
        .fetch_optional(conn)
        .await
}

/// Drops all keys of a job.
pub(super) async fn forget(conn: &mut PgConnection, job: Uuid) -> sqlx::Result<()> {
    sqlx::query("delete from tenure.done where job = $1")
        .bind(job)
        .execute(conn)
        .await?;
    Ok(())
}
