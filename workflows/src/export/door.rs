//! The doors to exports: ask for one, look at it, open its link.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{Client, SYSTEM_TENANT, Started, TenantId};
use uuid::Uuid;

use super::link::Token;
use super::rows::{self, ExportRow, Secrets};
use super::{ExportWorkflow, Input};
use crate::archive::{Archive, ArchiveError, Key, Manifest, Part};
use crate::deletion;
use crate::door::DoorError;
use crate::keeping::hold::{MAX_REASON, check_text, malformed};
use crate::keeping::rows::find_now;
use crate::product::{self, maps};
use crate::tenant;

/// The longest time that a link works, in days.
const MAX_LINK_DAYS: u32 = 90;

/// An export to ask for.
#[derive(Debug, Clone)]
pub struct NewExport {
    /// For so many days after it is ready its link works, 1 to 90.
    pub link_days: u32,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
}

/// An export that was asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// As it stands.
    pub row: ExportRow,
    /// What its run is started with.
    pub input: Input,
}

/// Asks for an export whose link has `token`. The transaction must act as the tenant, who sees its own
/// placement; `map_version` is the newest of its source, which control sees.
///
/// # Errors
/// [`DoorError::NotFound`] for a tenant without a placement; [`DoorError::Malformed`];
/// [`DoorError::Conflict`] when the tenant is being deleted.
pub async fn ask(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    new: &NewExport,
    token: &Token,
    author: &str,
) -> Result<Asked, DoorError> {
    check_text("reason", &new.reason, MAX_REASON)?;
    if !(1..=MAX_LINK_DAYS).contains(&new.link_days) {
        return Err(malformed("link_days", "1 to 90 days"));
    }
    crate::door::as_control(conn).await?;
    deletion::door::refuse_shut(conn, tenant_id).await?;
    let source = product::door::find(conn, tenant_id).await?.place.source;
    let map_version = maps::current(conn, &source).await?.version;
    crate::door::as_tenant(conn, tenant_id).await?;
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    let row = ExportRow {
        export_id: tenure_engine::new_uuid(shard),
        status: "writing".to_owned(),
        asked_by: author.to_owned(),
        reason: new.reason.trim().to_owned(),
        asked_at: find_now(conn).await?,
        link_days: i32::try_from(new.link_days).unwrap_or(i32::MAX),
        manifest_sha256: None,
        rows: 0,
        bytes: 0,
        ready_at: None,
        expires_at: None,
        downloads: 0,
        last_download_at: None,
    };
    let key = Key::generate();
    let secrets = Secrets {
        token_digest: token.digest(),
        sealed_key: token.key().seal(key.bytes(), &row.export_id.to_string()),
        writing_key: *key.bytes(),
    };
    rows::insert(conn, tenant_id, shard, &row, &secrets).await?;
    let input = Input {
        export_id: row.export_id,
        tenant_id,
        source,
        map_version,
        link_days: new.link_days,
    };
    Ok(Asked { row, input })
}

/// Starts the run of an export that was asked for, as the system tenant. The transaction must act as
/// the engine.
///
/// # Errors
/// When the engine refuses.
pub async fn start(
    client: &Client,
    conn: &mut PgConnection,
    input: &Input,
) -> Result<Started, DoorError> {
    let key = input.export_id.to_string();
    let started = client.start::<ExportWorkflow>(conn, SYSTEM_TENANT, &key, input);
    Ok(started.await?)
}

/// Lists a tenant's exports, newest first. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn list(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    limit: i64,
) -> Result<Vec<ExportRow>, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    Ok(rows::list(conn, tenant_id, shard, None, limit).await?)
}

/// Finds an export. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    export_id: Uuid,
) -> Result<ExportRow, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    let found = rows::list(conn, tenant_id, shard, Some(export_id), 1).await?;
    let found = found.into_iter().next();
    found.ok_or_else(|| DoorError::not_found("export", export_id))
}

/// An export that its link has opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Where its archive lies.
    place: (Uuid, Uuid),
    key: Key,
    /// What is in it.
    pub manifest: Manifest,
    /// When the link ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Opens an export by its link, and counts it. The transaction must act as the tenant that the link
/// names.
///
/// # Errors
/// [`DoorError::NotFound`] for another token, without telling which part is wrong;
/// [`DoorError::Conflict`] while it is being written, and when it has ended.
pub async fn open(
    conn: &mut PgConnection,
    archive: &Archive,
    tenant_id: TenantId,
    export_id: Uuid,
    token: &Token,
) -> Result<Opened, DoorError> {
    let unknown = || DoorError::not_found("export", export_id);
    let shard = tenant::find(conn, tenant_id).await.map_err(|_| unknown())?;
    let shard = shard.shard_id;
    let found = rows::find_behind(conn, tenant_id, shard, export_id, &token.digest()).await?;
    let found = found.ok_or_else(unknown)?;
    if found.status == "writing" {
        return Err(DoorError::Conflict(
            "the export is being written; come back later".to_owned(),
        ));
    }
    let (Some(sealed), Some(sha256), false) =
        (found.sealed_key, found.manifest_sha256, found.is_over)
    else {
        return Err(DoorError::Conflict(
            "the link has ended; ask for another export".to_owned(),
        ));
    };
    let key = token.key().open(&sealed, &export_id.to_string());
    let key: Option<[u8; 32]> = key.and_then(|key| key.try_into().ok());
    let key = Key::new(key.ok_or_else(unknown)?);
    let place = (found.tenant_id.0, found.export_id);
    let manifest = archive.read_manifest(place, &sha256).await;
    let manifest = manifest.map_err(|error| DoorError::Conflict(error.to_string()))?;
    rows::count_download(conn, shard, export_id).await?;
    Ok(Opened {
        place,
        key,
        manifest,
        expires_at: found.expires_at,
    })
}

/// A part of an opened export: its compressed lines, compared with its checksum.
///
/// # Errors
/// As [`Archive::read_packed`].
pub async fn read_part(
    archive: &Archive,
    opened: &Opened,
    part: &Part,
) -> Result<Vec<u8>, ArchiveError> {
    archive
        .read_packed(opened.place, part, Some(&opened.key))
        .await
}
