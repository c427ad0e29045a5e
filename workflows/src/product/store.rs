//! The rows of ours about a product's databases: versions of maps, and placements.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{RunId, TenantId};
use uuid::Uuid;

use super::maps::MapVersion;
use super::{Place, Placement, PlacementStatus};
use crate::data_map::Model;

/// Lets one load of a source's map after the other decide what the next version is.
pub(super) async fn lock_maps(conn: &mut PgConnection, source: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('app.data_map ' || $1, 0))",
        source
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds a version.
pub(super) async fn insert_map(
    conn: &mut PgConnection,
    source: &str,
    version: i32,
    text: &str,
    hash: &str,
    author: &str,
) -> sqlx::Result<MapVersion> {
    sqlx::query_as!(
        MapVersion,
        r#"
        insert into app.data_map (source, version, text, hash, loaded_by, loaded_at)
        values ($1, $2, $3, $4, $5, engine.now())
        returning source, version, hash, loaded_by, loaded_at
        "#,
        source,
        version,
        text,
        hash,
        author,
    )
    .fetch_one(conn)
    .await
}

/// Lists a source's versions, newest first.
pub(super) async fn list_maps(
    conn: &mut PgConnection,
    source: &str,
    limit: i64,
) -> sqlx::Result<Vec<MapVersion>> {
    sqlx::query_as!(
        MapVersion,
        r#"
        select source, version, hash, loaded_by, loaded_at
        from app.data_map
        where source = $1
        order by version desc
        limit $2
        "#,
        source,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Finds the text of a version.
pub(super) async fn find_map_text(
    conn: &mut PgConnection,
    source: &str,
    version: i32,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select text from app.data_map where source = $1 and version = $2",
        source,
        version,
    )
    .fetch_optional(conn)
    .await
}

struct Row {
    tenant_id: TenantId,
    model: String,
    source: String,
    database_name: Option<String>,
    schema_name: Option<String>,
    tenant_key: String,
    status: String,
    other: Option<serde_json::Value>,
    held_by: Option<Uuid>,
    revision: i64,
    placed_at: DateTime<Utc>,
}

fn decode(row: Row) -> sqlx::Result<Placement> {
    let bad = |word: &str| sqlx::Error::Decode(format!("{word:?} is unknown").into());
    let other = row.other.map(serde_json::from_value).transpose();
    Ok(Placement {
        tenant: row.tenant_id,
        place: Place {
            model: Model::from_word(&row.model).ok_or_else(|| bad(&row.model))?,
            source: row.source,
            database: row.database_name,
            schema: row.schema_name,
            key: row.tenant_key,
        },
        status: PlacementStatus::from_word(&row.status).ok_or_else(|| bad(&row.status))?,
        other: other.map_err(|error| sqlx::Error::Decode(error.into()))?,
        held_by: row.held_by.map(RunId),
        revision: row.revision,
        placed_at: row.placed_at,
    })
}

/// Lets one change of placements after the other find out whose place is whose.
pub(crate) async fn lock_places(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('app.placement', 0))")
        .execute(conn)
        .await?;
    Ok(())
}

/// Finds a tenant's placement.
pub(crate) async fn find_placement(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Option<Placement>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select tenant_id as "tenant_id: TenantId", model, source, database_name, schema_name,
          tenant_key, status, other, held_by, revision, placed_at
        from app.placement
        where tenant_id = $1
          and shard_id = $2
        "#,
        tenant.0,
        tenant.shard().0,
    )
    .fetch_optional(conn)
    .await?;
    row.map(decode).transpose()
}

/// Lists placements by tenant, those that a source is part of, after the cursor.
pub(super) async fn list_placements(
    conn: &mut PgConnection,
    source: Option<&str>,
    after: Option<TenantId>,
    limit: i64,
) -> sqlx::Result<Vec<Placement>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select tenant_id as "tenant_id: TenantId", model, source, database_name, schema_name,
          tenant_key, status, other, held_by, revision, placed_at
        from app.placement
        where ($1::text is null or source = $1 or other ->> 'source' = $1)
          and ($2::uuid is null or tenant_id > $2)
        order by tenant_id
        limit $3
        "#,
        source,
        after.map(|after| after.0),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(decode).collect()
}

/// Inserts a placement; `false` when the tenant has one.
pub(crate) async fn insert_placement(
    conn: &mut PgConnection,
    tenant: TenantId,
    place: &Place,
    status: PlacementStatus,
    held_by: Option<RunId>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into app.placement
          (tenant_id, shard_id, model, source, database_name, schema_name, tenant_key, status, held_by,
           revision, placed_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, engine.now())
        on conflict (tenant_id, shard_id) do nothing
        "#,
        tenant.0,
        tenant.shard().0,
        place.model.word(),
        place.source,
        place.database,
        place.schema,
        place.key,
        status.word(),
        held_by.map(|run| run.0),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Changes a placement that is as it was seen; `false` when it has moved on.
pub(crate) async fn update_placement(
    conn: &mut PgConnection,
    seen: &Placement,
    next: &Placement,
) -> sqlx::Result<bool> {
    let other = next.other.as_ref().map(serde_json::to_value).transpose();
    let other = other.map_err(|error| sqlx::Error::Encode(error.into()))?;
    let moved = seen.place != next.place;
    let done = sqlx::query!(
        r#"
        update app.placement
        set model = $4, source = $5, database_name = $6, schema_name = $7, tenant_key = $8, status = $9,
          other = $10, held_by = $11, revision = revision + 1,
          placed_at = case when $12 then engine.now() else placed_at end
        where tenant_id = $1
          and shard_id = $2
          and revision = $3
        "#,
        seen.tenant.0,
        seen.tenant.shard().0,
        seen.revision,
        next.place.model.word(),
        next.place.source,
        next.place.database,
        next.place.schema,
        next.place.key,
        next.status.word(),
        other,
        next.held_by.map(|run| run.0),
        moved,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes a placement that is as it was seen; `false` when it has moved on.
pub(crate) async fn delete_placement(
    conn: &mut PgConnection,
    seen: &Placement,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        delete from app.placement
        where tenant_id = $1
          and shard_id = $2
          and revision = $3
        "#,
        seen.tenant.0,
        seen.tenant.shard().0,
        seen.revision,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
