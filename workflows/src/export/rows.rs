//! The rows of exports.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use crate::archive::Part;

/// An export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRow {
    /// Identity.
    pub export_id: Uuid,
    /// writing, ready or ended.
    pub status: String,
    /// Who asked for it.
    pub asked_by: String,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub asked_at: DateTime<Utc>,
    /// For so many days its link works.
    pub link_days: i32,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Option<String>,
    /// Rows in it.
    pub rows: i64,
    /// Bytes of its parts.
    pub bytes: i64,
    /// When it was ready.
    pub ready_at: Option<DateTime<Utc>>,
    /// When its link ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// How often it was fetched.
    pub downloads: i32,
    /// When it was last fetched.
    pub last_download_at: Option<DateTime<Utc>>,
}

/// The secrets of an export to insert.
pub(super) struct Secrets {
    pub(super) token_digest: [u8; 32],
    pub(super) sealed_key: Vec<u8>,
    pub(super) writing_key: [u8; 32],
}

pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    row: &ExportRow,
    secrets: &Secrets,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.data_export
          (export_id, shard_id, tenant_id, status, asked_by, reason, asked_at, link_days, token_digest,
           sealed_key, writing_key, row_count, bytes, downloads)
        values ($1, $2, $3, 'writing', $4, $5, $6, $7, $8, $9, $10, 0, 0, 0)
        "#,
        row.export_id,
        shard.0,
        tenant.0,
        row.asked_by,
        row.reason,
        row.asked_at,
        row.link_days,
        secrets.token_digest.as_slice(),
        secrets.sealed_key,
        secrets.writing_key.as_slice(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    export: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<ExportRow>> {
    sqlx::query_as!(
        ExportRow,
        r#"
        select export_id, status, asked_by, reason, asked_at, link_days, manifest_sha256, row_count as "rows",
          bytes, ready_at, expires_at, downloads, last_download_at
        from app.data_export
        where tenant_id = $1
          and shard_id = $2
          and ($3::uuid is null or export_id = $3)
        order by export_id desc
        limit $4
        "#,
        tenant.0,
        shard.0,
        export,
        limit,
    )
    .fetch_all(conn)
    .await
}

pub(super) async fn find_writing_key(
    conn: &mut PgConnection,
    shard: ShardId,
    export: Uuid,
) -> sqlx::Result<Option<[u8; 32]>> {
    let key = sqlx::query_scalar!(
        r#"
        select writing_key
        from app.data_export
        where export_id = $1
          and shard_id = $2
        "#,
        export,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(key.flatten().and_then(|key| key.try_into().ok()))
}

/// Writes down a part, over what was written down in its place.
pub(super) async fn put_part(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    archive: Uuid,
    seq: u32,
    part: &Part,
) -> sqlx::Result<()> {
    let part = serde_json::to_value(part).unwrap_or_default();
    sqlx::query!(
        r#"
        insert into app.data_part (archive_id, seq, shard_id, tenant_id, part)
        values ($1, $2, $3, $4, $5)
        on conflict (archive_id, seq, shard_id)
          do update set part = excluded.part
        "#,
        archive,
        i32::try_from(seq).unwrap_or(i32::MAX),
        shard.0,
        tenant.0,
        part,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The first so many parts.
pub(super) async fn list_parts(
    conn: &mut PgConnection,
    shard: ShardId,
    archive: Uuid,
    parts: u32,
) -> sqlx::Result<Vec<Part>> {
    let rows: Vec<Value> = sqlx::query_scalar!(
        r#"
        select part
        from app.data_part
        where archive_id = $1
          and shard_id = $2
          and seq < $3
        order by seq
        "#,
        archive,
        shard.0,
        i32::try_from(parts).unwrap_or(i32::MAX),
    )
    .fetch_all(conn)
    .await?;
    let parts = rows.into_iter().map(serde_json::from_value);
    parts
        .collect::<Result<_, _>>()
        .map_err(|error| sqlx::Error::Decode(error.into()))
}

/// An export that is ready.
pub(super) struct Ready {
    pub(super) export_id: Uuid,
    pub(super) manifest_sha256: String,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) ready_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
}

/// Says that an export is ready, and forgets its key and what was written down of its parts.
pub(super) async fn say_ready(
    conn: &mut PgConnection,
    shard: ShardId,
    ready: &Ready,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.data_export
        set status = 'ready', writing_key = null, manifest_sha256 = $3, row_count = $4, bytes = $5,
          ready_at = $6, expires_at = $7
        where export_id = $1
          and shard_id = $2
          and status = 'writing'
        "#,
        ready.export_id,
        shard.0,
        ready.manifest_sha256,
        i64::try_from(ready.rows).unwrap_or(i64::MAX),
        i64::try_from(ready.bytes).unwrap_or(i64::MAX),
        ready.ready_at,
        ready.expires_at,
    )
    .execute(&mut *conn)
    .await?;
    drop_parts(conn, shard, ready.export_id).await
}

async fn drop_parts(conn: &mut PgConnection, shard: ShardId, archive: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        delete from app.data_part
        where archive_id = $1
          and shard_id = $2
        "#,
        archive,
        shard.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends an export: from now on nothing opens it.
pub(crate) async fn end(conn: &mut PgConnection, shard: ShardId, export: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.data_export
        set status = 'ended', writing_key = null, sealed_key = null
        where export_id = $1
          and shard_id = $2
        "#,
        export,
        shard.0,
    )
    .execute(&mut *conn)
    .await?;
    drop_parts(conn, shard, export).await
}

/// What a link opens.
pub(super) struct Behind {
    pub(super) export_id: Uuid,
    pub(super) tenant_id: TenantId,
    pub(super) status: String,
    pub(super) sealed_key: Option<Vec<u8>>,
    pub(super) manifest_sha256: Option<String>,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) is_over: bool,
}

/// Finds what a link opens, and counts that it was asked for while it works. The link names export and
/// tenant, so that its shard is known; the token's digest decides.
pub(super) async fn find_behind(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    export: Uuid,
    digest: &[u8],
) -> sqlx::Result<Option<Behind>> {
    let row = sqlx::query!(
        r#"
        select status, sealed_key, manifest_sha256, expires_at,
          coalesce(expires_at <= engine.now(), false) as "is_over!"
        from app.data_export
        where export_id = $1
          and shard_id = $2
          and tenant_id = $3
          and token_digest = $4
        "#,
        export,
        shard.0,
        tenant.0,
        digest,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Behind {
        export_id: export,
        tenant_id: tenant,
        status: row.status,
        sealed_key: row.sealed_key,
        manifest_sha256: row.manifest_sha256,
        expires_at: row.expires_at,
        is_over: row.is_over,
    }))
}

pub(super) async fn count_download(
    conn: &mut PgConnection,
    shard: ShardId,
    export: Uuid,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.data_export
        set downloads = downloads + 1, last_download_at = engine.now()
        where export_id = $1
          and shard_id = $2
        "#,
        export,
        shard.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}
