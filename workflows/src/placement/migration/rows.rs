//! The rows of migrations: their texts, and what came of them at each place.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{RunId, TenantId};
use uuid::Uuid;

use super::Target;
use crate::product::Place;

/// A migration to load.
#[derive(Debug, Clone)]
pub struct Migration {
    /// The product's own name of it.
    pub version: String,
    /// What is run at each place.
    pub sql: String,
    /// The sources whose places it is for; all, if there are none.
    pub sources: Vec<String>,
    /// How many places at a time.
    pub at_most: u32,
    /// Who asks for it.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// A migration, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationRow {
    /// The product's own name of it.
    pub version: String,
    /// SHA-256 of its text, in hexadecimal digits.
    pub hash: String,
    /// Who loaded it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// The run that applies it.
    pub run: RunId,
    /// When it was loaded.
    pub loaded_at: DateTime<Utc>,
    /// Places where it waits.
    pub pending: i64,
    /// Places where it is applied.
    pub applied: i64,
    /// Places that refused it.
    pub refused: i64,
}

/// What came of a migration at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It waits.
    Pending,
    /// It is applied.
    Applied,
    /// The place refused it.
    Refused,
}

impl Outcome {
    const WORDS: [(&'static str, Self); 3] = [
        ("pending", Self::Pending),
        ("applied", Self::Applied),
        ("refused", Self::Refused),
    ];
}

/// A migration at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationPlace {
    /// The source.
    pub source: String,
    /// `schema/name`, `database/name`, or `database` for the source's own.
    pub place: String,
    /// The tenant, where it is one's.
    pub tenant: Option<TenantId>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it was refused.
    pub detail: Option<String>,
    /// Since when that is so.
    pub changed_at: DateTime<Utc>,
}

/// How many places there are of each outcome.
pub(in crate::placement) struct Counts {
    pub(in crate::placement) applied: i64,
    pub(in crate::placement) refused: i64,
}

/// A place in the rows.
pub(super) fn place_name(place: &Place) -> String {
    match (&place.schema, &place.database) {
        (Some(schema), _) => format!("schema/{schema}"),
        (None, Some(database)) => format!("database/{database}"),
        (None, None) => "database".to_owned(),
    }
}

/// Inserts a migration, or lets another run apply it again; `None` when its text was another.
pub(in crate::placement) async fn insert(
    conn: &mut PgConnection,
    new: &Migration,
    hash: &str,
    run: RunId,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into app.product_migration (version, sql, hash, author, reason, run_id, loaded_at)
        values ($1, $2, $3, $4, $5, $6, engine.now())
        on conflict (version) do update set run_id = excluded.run_id
        where product_migration.hash = excluded.hash
        "#,
        new.version,
        new.sql,
        hash,
        new.author,
        new.reason,
        run.0,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The versions that are loaded.
pub(in crate::placement) async fn contained(conn: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("select version from app.product_migration order by loaded_at, version")
        .fetch_all(conn)
        .await
}

/// Finds a migration's text.
pub(super) async fn find_sql(conn: &mut PgConnection, version: &str) -> sqlx::Result<String> {
    sqlx::query_scalar!(
        "select sql from app.product_migration where version = $1",
        version
    )
    .fetch_one(conn)
    .await
}

struct Row {
    version: String,
    hash: String,
    author: String,
    reason: String,
    run_id: Uuid,
    loaded_at: DateTime<Utc>,
    pending: i64,
    applied: i64,
    refused: i64,
}

impl From<Row> for MigrationRow {
    fn from(row: Row) -> Self {
        Self {
            version: row.version,
            hash: row.hash,
            author: row.author,
            reason: row.reason,
            run: RunId(row.run_id),
            loaded_at: row.loaded_at,
            pending: row.pending,
            applied: row.applied,
            refused: row.refused,
        }
    }
}

/// Lists migrations, newest first; one of them when `version` names it.
pub(in crate::placement) async fn list(
    conn: &mut PgConnection,
    version: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<MigrationRow>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select version, hash, author, reason, run_id, loaded_at,
          (select count(*) from app.product_migration_place p
           where p.version = m.version and outcome = 'pending') as "pending!",
          (select count(*) from app.product_migration_place p
           where p.version = m.version and outcome = 'applied') as "applied!",
          (select count(*) from app.product_migration_place p
           where p.version = m.version and outcome = 'refused') as "refused!"
        from app.product_migration m
        where $1::text is null or version = $1
        order by loaded_at desc, version desc
        limit $2
        "#,
        version,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(MigrationRow::from).collect())
}

/// Finds a migration.
pub(in crate::placement) async fn find(
    conn: &mut PgConnection,
    version: &str,
) -> sqlx::Result<Option<MigrationRow>> {
    Ok(list(conn, Some(version), 1).await?.into_iter().next())
}

/// Counts the places of a migration.
pub(in crate::placement) async fn counts(
    conn: &mut PgConnection,
    version: &str,
) -> sqlx::Result<Counts> {
    sqlx::query_as!(
        Counts,
        r#"
        select count(*) filter (where outcome = 'applied') as "applied!",
          count(*) filter (where outcome = 'refused') as "refused!"
        from app.product_migration_place
        where version = $1
        "#,
        version,
    )
    .fetch_one(conn)
    .await
}

/// Lists the places of a migration, those that are not applied first.
pub(in crate::placement) async fn places(
    conn: &mut PgConnection,
    version: &str,
    limit: i64,
) -> sqlx::Result<Vec<MigrationPlace>> {
    let rows = sqlx::query!(
        r#"
        select source, place, tenant_id as "tenant_id: TenantId", outcome, detail, changed_at
        from app.product_migration_place
        where version = $1
        order by outcome = 'refused' desc, outcome = 'pending' desc, source, place
        limit $2
        "#,
        version,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let places = rows.into_iter().map(|row| {
        let mut words = Outcome::WORDS.into_iter();
        let outcome = words.find(|(word, _)| *word == row.outcome);
        let unknown = || sqlx::Error::Decode(format!("{:?} is no outcome", row.outcome).into());
        Ok(MigrationPlace {
            source: row.source.clone(),
            place: row.place.clone(),
            tenant: row.tenant_id,
            outcome: outcome.ok_or_else(unknown)?.1,
            detail: row.detail.clone(),
            changed_at: row.changed_at,
        })
    });
    places.collect()
}

/// Notes the places, those that refused it before as pending; which of all wait for it.
pub(in crate::placement) async fn reopen(
    conn: &mut PgConnection,
    version: &str,
    targets: &[Target],
) -> sqlx::Result<BTreeSet<(String, String)>> {
    let sources: Vec<String> = targets.iter().map(|one| one.place.source.clone()).collect();
    let places: Vec<String> = targets.iter().map(|one| place_name(&one.place)).collect();
    let tenants: Vec<Option<Uuid>> = targets
        .iter()
        .map(|one| one.tenant.map(|tenant| tenant.0))
        .collect();
    sqlx::query!(
        r#"
        insert into app.product_migration_place (version, source, place, tenant_id, outcome, changed_at)
        select $1, wanted.source, wanted.place, wanted.tenant_id, 'pending', engine.now()
        from unnest($2::text[], $3::text[], $4::uuid[]) as wanted (source, place, tenant_id)
        on conflict (version, source, place) do update
          set outcome = 'pending', detail = null, changed_at = excluded.changed_at
          where product_migration_place.outcome = 'refused'
        "#,
        version,
        &sources,
        &places,
        &tenants as &[Option<Uuid>],
    )
    .execute(&mut *conn)
    .await?;
    let open = sqlx::query!(
        "select source, place from app.product_migration_place where version = $1 and outcome = 'pending'",
        version
    )
    .fetch_all(conn)
    .await?;
    Ok(open
        .into_iter()
        .map(|row| (row.source, row.place))
        .collect())
}

/// Notes what came of a migration at a place.
pub(super) async fn note(
    conn: &mut PgConnection,
    target: &Target,
    refused: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.product_migration_place
        set outcome = $4, detail = $5, changed_at = engine.now()
        where version = $1 and source = $2 and place = $3
        "#,
        target.version,
        target.place.source,
        place_name(&target.place),
        if refused.is_some() {
            "refused"
        } else {
            "applied"
        },
        refused,
    )
    .execute(conn)
    .await?;
    Ok(())
}
