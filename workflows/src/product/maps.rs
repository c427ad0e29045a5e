//! Versions of data maps: loaded, never changed, and pinned by the jobs that began with them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use super::source::{Source, Sources};
use super::{ProductError, store};
use crate::data_map::{self, DataMap, Finding, Model};
use crate::door::DoorError;

/// The longest map, in bytes.
const MAX_TEXT: usize = 900 << 10;

/// One version of a source's map, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// The source that goes by it.
    pub source: String,
    /// The version.
    pub version: i32,
    /// What it says.
    pub map: DataMap,
}

/// What is known of a version without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapVersion {
    /// The source that goes by it.
    pub source: String,
    /// The version, from 1.
    pub version: i32,
    /// SHA-256 of its text, in hexadecimal digits.
    pub hash: String,
    /// Who loaded it.
    pub loaded_by: String,
    /// When.
    pub loaded_at: DateTime<Utc>,
}

/// What came of loading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// It is the source's newest version.
    Version {
        /// Which.
        version: MapVersion,
        /// Whether it is new; a text that is the newest version already makes no other.
        new: bool,
    },
    /// It does not say what the database holds, so nothing was loaded.
    Findings(Vec<Finding>),
}

/// Loads a map as the newest version of a source's, if it says what the database holds. Where each
/// tenant has a database beside the source's, `schema` and the source's own database may lack the
/// tables; then `unchecked` leaves the comparison out. The transaction must act as control.
///
/// # Errors
/// [`DoorError::Malformed`] for what is no map; [`DoorError::Product`].
pub async fn load(
    conn: &mut PgConnection,
    sources: &Sources,
    source: &str,
    text: &str,
    unchecked: bool,
    author: &str,
) -> Result<Loaded, DoorError> {
    let named = sources.get(source)?;
    if text.len() > MAX_TEXT {
        return Err(malformed("900 KiB at most"));
    }
    let map = data_map::parse(text).map_err(|error| malformed(&error.to_string()))?;
    if !unchecked {
        let findings = hold_against(named, &map).await?;
        if !findings.is_empty() {
            return Ok(Loaded::Findings(findings));
        }
    }
    let hash = hex::encode(Sha256::digest(text));
    store::lock_maps(conn, source).await?;
    let newest = store::list_maps(conn, source, 1).await?.into_iter().next();
    if let Some(newest) = &newest
        && newest.hash == hash
    {
        return Ok(Loaded::Version {
            version: newest.clone(),
            new: false,
        });
    }
    let next = newest.map_or(1, |newest| newest.version + 1);
    let version = store::insert_map(conn, source, next, text, &hash, author).await?;
    Ok(Loaded::Version { version, new: true })
}

fn malformed(detail: &str) -> DoorError {
    DoorError::Malformed {
        field: "text",
        detail: detail.to_owned(),
    }
}

async fn hold_against(source: &Source, map: &DataMap) -> Result<Vec<Finding>, ProductError> {
    let mut conn = source.connect().await?;
    let schemas: Vec<String> = match map.model {
        Model::Schema => map.schemas.iter().take(1).cloned().collect(),
        Model::Shared | Model::Database => map.schemas.clone(),
    };
    let snapshot = data_map::read(&mut conn, map.model, &schemas).await?;
    Ok(data_map::check(map, &snapshot))
}

/// A source's newest map. The transaction must act as control.
///
/// # Errors
/// [`ProductError::NoMap`]; [`ProductError::BadMap`]; [`ProductError::Database`].
pub async fn current(conn: &mut PgConnection, source: &str) -> Result<Arc<Map>, ProductError> {
    let newest = store::list_maps(conn, source, 1).await?.into_iter().next();
    let newest = newest.ok_or_else(|| ProductError::NoMap(source.to_owned()))?;
    find(conn, source, newest.version).await
}

/// One version of a source's map, as a job has pinned it. The transaction must act as control.
///
/// # Errors
/// [`ProductError::UnknownVersion`]; [`ProductError::BadMap`]; [`ProductError::Database`].
pub async fn find(
    conn: &mut PgConnection,
    source: &str,
    version: i32,
) -> Result<Arc<Map>, ProductError> {
    let text = store::find_map_text(conn, source, version).await?;
    let text = text.ok_or_else(|| ProductError::UnknownVersion(source.to_owned(), version))?;
    let bad = |error| ProductError::BadMap {
        source_name: source.to_owned(),
        version,
        error,
    };
    Ok(Arc::new(Map {
        source: source.to_owned(),
        version,
        map: data_map::parse(&text).map_err(bad)?,
    }))
}

/// The versions of a source's map, newest first. The transaction must act as control.
///
/// # Errors
/// When the database does not answer.
pub async fn list(conn: &mut PgConnection, source: &str) -> Result<Vec<MapVersion>, DoorError> {
    Ok(store::list_maps(conn, source, 1_000).await?)
}
