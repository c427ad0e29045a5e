//! Archives: rows as compressed JSON Lines with a manifest, in a folder or an S3-compatible store.
//!
//! ```text
//! <tenant>/<archive>/<table>-00001.jsonl.gz …   parts: each is whole or not there
//! <tenant>/<archive>/manifest.json              last: without it there is no archive
//! ```
//!
//! A part is a few megabytes at most, made in memory and sent as one object, so memory is bounded
//! whatever the table holds. Both kinds of store show an object only when all of it is there: a folder
//! by another name until it is on the disk and renamed, S3 by itself. Writing the same part again
//! replaces it, so a step that is repeated does no harm.
//!
//! Nothing may be deleted by whoever archives until [`Archive::verify`] has read back the manifest and
//! every part. Destroying begins with the manifest, so what is half destroyed is no archive either.
//!
//! The engine archives its finished runs in files of its own (`engine/src/retention`): those have one
//! file a batch and need no store but a folder; the checksums are of the same kind.

mod format;
mod store;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use sha2::{Digest as _, Sha256};
use tenure_engine::StepError;
use uuid::Uuid;

pub use format::{ColumnShape, FORMAT, Key, Kind, Manifest, Part, TableShape};
pub use store::{ArchiveConfig, S3Config};

/// The manifest's name in its folder.
const MANIFEST: &str = "manifest.json";
/// The most bytes of an object that is read.
const MAX_OBJECT: u64 = 512 << 20;

/// What can go wrong with an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// No store was configured.
    #[error("no archive is configured: set --archive to a folder or an S3 bucket")]
    NotConfigured,
    /// There is no room left in the store.
    #[error("the archive is full")]
    Full(#[source] object_store::Error),
    /// The store does not answer, or refuses.
    #[error("the archive cannot be reached")]
    Unreachable(#[source] object_store::Error),
    /// There is no such archive: its manifest is not there.
    #[error("there is no archive {0}: it has no manifest")]
    NotFound(Uuid),
    /// Something in it is not what its manifest says.
    #[error("{0} in the archive is not what its manifest says")]
    Damaged(String),
}

impl ArchiveError {
    /// The code that is stored with a run.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotConfigured => "archive_not_configured",
            Self::Full(_) => "archive_full",
            Self::Unreachable(_) => "archive_unreachable",
            Self::NotFound(_) => "archive_not_found",
            Self::Damaged(_) => "archive_damaged",
        }
    }

    /// As a step fails with it: what may pass is tried again.
    #[must_use]
    pub fn step(self) -> StepError {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(&self);
        while let Some(one) = cause {
            text = format!("{text}: {one}");
            cause = one.source();
        }
        match self {
            Self::Full(_) | Self::Unreachable(_) => StepError::retryable(self.code(), text),
            Self::NotConfigured | Self::NotFound(_) | Self::Damaged(_) => {
                StepError::terminal(self.code(), text)
            }
        }
    }

    fn of(error: object_store::Error) -> Self {
        if is_full(&error) {
            Self::Full(error)
        } else {
            Self::Unreachable(error)
        }
    }
}

/// Whether the cause behind an error is that there is no room.
fn is_full(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            let full = [
                std::io::ErrorKind::StorageFull,
                std::io::ErrorKind::QuotaExceeded,
            ];
            if full.contains(&io.kind()) {
                return true;
            }
        }
        cause = error.source();
    }
    false
}

/// A store of archives.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl Archive {
    /// Opens the store that a configuration names. It is not asked yet.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn open(config: &ArchiveConfig) -> Result<Self, String> {
        let (store, root) = store::open(config)?;
        Ok(Self { store, root })
    }

    fn folder(&self, tenant: Uuid, archive: Uuid) -> Path {
        let tenant = self.root.clone().join(tenant.to_string());
        tenant.join(archive.to_string())
    }

    async fn put(&self, at: &Path, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        let put = self.store.put(at, PutPayload::from(bytes)).await;
        put.map(drop).map_err(ArchiveError::of)
    }

    /// The bytes of an object; `None` when it is not there.
    async fn get(&self, at: &Path) -> Result<Option<Vec<u8>>, ArchiveError> {
        let found = match self.store.get(at).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(ArchiveError::of(error)),
        };
        if found.meta.size > MAX_OBJECT {
            return Err(ArchiveError::Damaged(at.to_string()));
        }
        let bytes = found.bytes().await.map_err(ArchiveError::of)?;
        Ok(Some(bytes.to_vec()))
    }

    /// Writes a part, over one of the same name.
    ///
    /// # Errors
    /// [`ArchiveError::Full`], [`ArchiveError::Unreachable`].
    pub async fn write_part(
        &self,
        (tenant, archive): (Uuid, Uuid),
        name: &str,
        table: &str,
        lines: &[String],
        key: Option<&Key>,
    ) -> Result<Part, ArchiveError> {
        let packed = format::pack(name, table, lines, key);
        let (part, bytes) = packed.map_err(|_| ArchiveError::Damaged(name.to_owned()))?;
        let at = self.folder(tenant, archive).join(name);
        self.put(&at, bytes).await?;
        Ok(part)
    }

    /// A part's compressed lines, compared with its checksum, and opened where it is sealed.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`] when it is gone or changed.
    pub async fn read_packed(
        &self,
        (tenant, archive): (Uuid, Uuid),
        part: &Part,
        key: Option<&Key>,
    ) -> Result<Vec<u8>, ArchiveError> {
        let at = self.folder(tenant, archive).join(part.name.as_str());
        let stored = self.get(&at).await?;
        let stored = stored.ok_or_else(|| ArchiveError::Damaged(part.name.clone()))?;
        format::open(part, stored, key)
    }

    /// A part's lines, compared with all its checksums.
    ///
    /// # Errors
    /// As [`Archive::read_packed`].
    pub async fn read_part(
        &self,
        place: (Uuid, Uuid),
        part: &Part,
        key: Option<&Key>,
    ) -> Result<Vec<String>, ArchiveError> {
        let packed = self.read_packed(place, part, key).await?;
        format::unpack(part, &packed)
    }

    /// Writes the manifest: from now on there is an archive. Its SHA-256.
    ///
    /// # Errors
    /// [`ArchiveError::Full`], [`ArchiveError::Unreachable`].
    pub async fn write_manifest(&self, manifest: &Manifest) -> Result<String, ArchiveError> {
        let text = print(manifest);
        let sha256 = hex::encode(Sha256::digest(text.as_bytes()));
        let folder = self.folder(manifest.tenant_id, manifest.archive_id);
        self.put(&folder.join(MANIFEST), text.into_bytes()).await?;
        Ok(sha256)
    }

    /// Reads the manifest of an archive, and compares it with the SHA-256 that is known of it.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Damaged`].
    pub async fn read_manifest(
        &self,
        (tenant, archive): (Uuid, Uuid),
        sha256: &str,
    ) -> Result<Manifest, ArchiveError> {
        let at = self.folder(tenant, archive).join(MANIFEST);
        let text = self.get(&at).await?;
        let text = text.ok_or(ArchiveError::NotFound(archive))?;
        let damaged = || ArchiveError::Damaged(MANIFEST.to_owned());
        if hex::encode(Sha256::digest(&text)) != sha256 {
            return Err(damaged());
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|_| damaged())?;
        let known = manifest.format == FORMAT && manifest.archive_id == archive;
        known.then_some(manifest).ok_or_else(damaged)
    }

    /// Reads back the manifest and each part, and compares them with their checksums.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Damaged`], naming the first that does not fit.
    pub async fn verify(
        &self,
        place: (Uuid, Uuid),
        sha256: &str,
        key: Option<&Key>,
    ) -> Result<Manifest, ArchiveError> {
        let manifest = self.read_manifest(place, sha256).await?;
        for part in &manifest.parts {
            self.read_part(place, part, key).await?;
        }
        Ok(manifest)
    }

    /// Destroys an archive, or what there is of one. Its manifest goes first.
    ///
    /// # Errors
    /// [`ArchiveError::Unreachable`]; what is left is no archive, and goes when this is called again.
    pub async fn destroy(&self, (tenant, archive): (Uuid, Uuid)) -> Result<u64, ArchiveError> {
        let folder = self.folder(tenant, archive);
        let mut gone = 0;
        self.delete(&folder.clone().join(MANIFEST)).await?;
        let objects = self.store.list(Some(&folder));
        let objects: Vec<Path> = objects
            .map(|found| found.map(|object| object.location))
            .try_collect()
            .await
            .map_err(ArchiveError::of)?;
        for object in objects {
            self.delete(&object).await?;
            gone += 1;
        }
        Ok(gone)
    }

    /// Which archives of a tenant lie there, or parts of them.
    ///
    /// # Errors
    /// [`ArchiveError::Unreachable`].
    pub async fn archives(&self, tenant: Uuid) -> Result<BTreeSet<Uuid>, ArchiveError> {
        let folder = self.root.clone().join(tenant.to_string());
        let mut objects = self.store.list(Some(&folder));
        let mut found = BTreeSet::new();
        while let Some(object) = objects.try_next().await.map_err(ArchiveError::of)? {
            let beneath = object.location.prefix_match(&folder);
            let name = beneath.and_then(|mut parts| parts.next());
            found.extend(name.and_then(|name| name.as_ref().parse::<Uuid>().ok()));
        }
        Ok(found)
    }

    async fn delete(&self, at: &Path) -> Result<(), ArchiveError> {
        match self.store.delete(at).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(ArchiveError::of(error)),
        }
    }
}

/// A manifest as it is stored.
#[must_use]
pub fn print(manifest: &Manifest) -> String {
    let text = serde_json::to_string_pretty(manifest);
    let mut text = text.expect("a manifest is texts and numbers");
    text.push('\n');
    text
}
