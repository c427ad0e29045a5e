//! The catalogue's one table: versions that are only ever added.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use super::{Entry, NewEntry, Published};

struct Row {
    kind: String,
    key: String,
    version: i32,
    retired: bool,
    published_at: DateTime<Utc>,
    terms: Value,
}

fn published(row: Row) -> sqlx::Result<Published> {
    let entry = Entry::from_terms(&row.kind, row.terms)
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Published {
        key: row.key,
        version: row.version,
        retired: row.retired,
        published_at: row.published_at,
        entry,
    })
}

/// Lets one publication after the other decide what the next version is.
pub(super) async fn lock(conn: &mut PgConnection) -> sqlx::Result<()> {
    // Not the table's lock: a plan cannot be asked for of `lock table`, so the suite could not judge it.
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('app.catalogue_entry', 0))")
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps others from publishing until the transaction ends.
pub(super) async fn share(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtextextended('app.catalogue_entry', 0))")
        .execute(conn)
        .await?;
    Ok(())
}

/// Adds a version.
pub(super) async fn insert(
    conn: &mut PgConnection,
    new: &NewEntry,
    version: i32,
) -> sqlx::Result<()> {
    let terms = new
        .entry
        .to_terms()
        .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query!(
        r#"
        insert into app.catalogue_entry (kind, key, version, retired, published_at, terms)
        values ($1, $2, $3, $4, engine.now(), $5)
        "#,
        new.entry.kind(),
        new.key,
        version,
        new.retired,
        terms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the newest version of each entry.
pub(super) async fn list_current(conn: &mut PgConnection) -> sqlx::Result<Vec<Published>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select distinct on (kind, key) kind, key, version, retired, published_at, terms
        from app.catalogue_entry
        order by kind, key, version desc
        "#
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(published).collect()
}

/// Lists the newest version of each entry of a kind.
pub(super) async fn list_of_kind(
    conn: &mut PgConnection,
    kind: &str,
) -> sqlx::Result<Vec<Published>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select distinct on (key) kind, key, version, retired, published_at, terms
        from app.catalogue_entry
        where kind = $1
        order by key, version desc
        "#,
        kind,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(published).collect()
}

/// Finds the newest version of an entry.
pub(super) async fn find_current(
    conn: &mut PgConnection,
    kind: &str,
    key: &str,
) -> sqlx::Result<Option<Published>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select kind, key, version, retired, published_at, terms
        from app.catalogue_entry
        where kind = $1
          and key = $2
        order by version desc
        limit 1
        "#,
        kind,
        key,
    )
    .fetch_optional(conn)
    .await?;
    row.map(published).transpose()
}

/// Lists all versions of an entry, newest first.
pub(super) async fn list_versions(
    conn: &mut PgConnection,
    kind: &str,
    key: &str,
) -> sqlx::Result<Vec<Published>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select kind, key, version, retired, published_at, terms
        from app.catalogue_entry
        where kind = $1
          and key = $2
        order by version desc
        "#,
        kind,
        key,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(published).collect()
}

/// Finds a version of an entry.
pub(super) async fn find_version(
    conn: &mut PgConnection,
    kind: &str,
    key: &str,
    version: i32,
) -> sqlx::Result<Option<Published>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select kind, key, version, retired, published_at, terms
        from app.catalogue_entry
        where kind = $1
          and key = $2
          and version = $3
        "#,
        kind,
        key,
        version,
    )
    .fetch_optional(conn)
    .await?;
    row.map(published).transpose()
}
