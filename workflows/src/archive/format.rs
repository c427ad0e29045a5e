//! What lies in an archive: parts and their manifest. Pure.
//!
//! A part is JSON Lines, one row a line, compressed with gzip, and sealed where the archive has a key.
//! Its checksums are those of the lines (what somebody who unpacks it can compare) and of the bytes as
//! they lie there (what is read back before anything is deleted).

use std::io::{Read as _, Write as _};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::ArchiveError;

/// The form of manifests.
pub const FORMAT: u32 = 1;
/// The most bytes of lines that a part is unpacked to; more is no part of ours.
const MAX_UNPACKED: u64 = 256 << 20;
const NONCE: usize = 24;

/// A key that seals the parts of one archive.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// From its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Its bytes, to be kept somewhere safe.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals bytes, bound to what they are.
    ///
    /// # Panics
    /// Never: a part is shorter than 256 GiB.
    #[must_use]
    pub fn seal(&self, bytes: &[u8], what: &str) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let cipher = XChaCha20Poly1305::new((&self.0).into());
        let bound = Payload {
            msg: bytes,
            aad: what.as_bytes(),
        };
        let sealed = cipher.encrypt(&XNonce::from(nonce), bound);
        let sealed = sealed.expect("a part is shorter than 256 GiB");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens what this key sealed as the same thing; `None` when it did not.
    #[must_use]
    pub fn open(&self, bytes: &[u8], what: &str) -> Option<Vec<u8>> {
        let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
        let nonce: [u8; NONCE] = nonce.try_into().ok()?;
        let cipher = XChaCha20Poly1305::new((&self.0).into());
        let bound = Payload {
            msg: sealed,
            aad: what.as_bytes(),
        };
        cipher.decrypt(&XNonce::from(nonce), bound).ok()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What an archive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Rows that retention took out of the product.
    Retention,
    /// What a tenant is given.
    Export,
}

/// A part, as its manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The object's name in the archive's folder.
    pub name: String,
    /// The table, as the data map names it.
    pub table: String,
    /// Lines, one a row.
    pub rows: u64,
    /// Bytes of the lines.
    pub lines_bytes: u64,
    /// SHA-256 of the lines, in hexadecimal.
    pub lines_sha256: String,
    /// Bytes as they lie there.
    pub bytes: u64,
    /// SHA-256 of the bytes as they lie there, in hexadecimal.
    pub sha256: String,
}

/// A column of an archived table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnShape {
    /// Its name.
    pub name: String,
    /// Its type, as Postgres writes it.
    #[serde(rename = "type")]
    pub data_type: String,
}

/// The shape of an archived table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableShape {
    /// As the data map names it.
    pub name: String,
    /// Its primary key, in order.
    pub primary_key: Vec<String>,
    /// Its columns.
    pub columns: Vec<ColumnShape>,
}

/// What makes a folder of parts an archive. It is written last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form, 1.
    pub format: u32,
    /// Which archive.
    pub archive_id: Uuid,
    /// What it is for.
    pub kind: Kind,
    /// Whose rows.
    pub tenant_id: Uuid,
    /// The data map that the tables were read by.
    pub data_map: String,
    /// When it was begun.
    pub made_at: DateTime<Utc>,
    /// How the parts are sealed; absent when they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_with: Option<String>,
    /// Rows of all parts.
    pub rows: u64,
    /// The tables.
    pub tables: Vec<TableShape>,
    /// The parts, in order.
    pub parts: Vec<Part>,
}

/// Compresses the lines of a part, and seals it; the bytes to store.
///
/// # Errors
/// Never in memory.
pub(super) fn pack(
    name: &str,
    table: &str,
    lines: &[String],
    key: Option<&Key>,
) -> std::io::Result<(Part, Vec<u8>)> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let (mut digest, mut lines_bytes) = (Sha256::new(), 0);
    for line in lines {
        for piece in [line.as_bytes(), b"\n"] {
            encoder.write_all(piece)?;
            digest.update(piece);
            lines_bytes += piece.len() as u64;
        }
    }
    let packed = encoder.finish()?;
    let packed = match key {
        Some(key) => key.seal(&packed, name),
        None => packed,
    };
    let part = Part {
        name: name.to_owned(),
        table: table.to_owned(),
        rows: lines.len() as u64,
        lines_bytes,
        lines_sha256: hex::encode(digest.finalize()),
        bytes: packed.len() as u64,
        sha256: hex::encode(Sha256::digest(&packed)),
    };
    Ok((part, packed))
}

/// Compares stored bytes with what the manifest says and gives back the compressed lines.
pub(super) fn open(
    part: &Part,
    stored: Vec<u8>,
    key: Option<&Key>,
) -> Result<Vec<u8>, ArchiveError> {
    let damaged = || ArchiveError::Damaged(part.name.clone());
    if hex::encode(Sha256::digest(&stored)) != part.sha256 {
        return Err(damaged());
    }
    match key {
        Some(key) => key.open(&stored, &part.name).ok_or_else(damaged),
        None => Ok(stored),
    }
}

/// The lines of a part, compared with what the manifest says.
pub(super) fn unpack(part: &Part, packed: &[u8]) -> Result<Vec<String>, ArchiveError> {
    let damaged = || ArchiveError::Damaged(part.name.clone());
    if part.lines_bytes > MAX_UNPACKED {
        return Err(damaged());
    }
    let mut text = String::new();
    let mut decoder = MultiGzDecoder::new(packed).take(part.lines_bytes + 1);
    decoder.read_to_string(&mut text).map_err(|_| damaged())?;
    let digest = hex::encode(Sha256::digest(text.as_bytes()));
    let lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    if digest != part.lines_sha256 || lines.len() as u64 != part.rows {
        return Err(damaged());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<String> {
        vec!["{\"a\": 1}".to_owned(), "{\"a\": \"ü\"}".to_owned()]
    }

    #[test]
    fn a_part_is_read_as_it_was_written() {
        for key in [None, Some(Key::generate())] {
            let (part, stored) = pack("p", "t", &lines(), key.as_ref()).unwrap();
            assert_eq!((part.rows, part.bytes), (2, stored.len() as u64));
            let packed = open(&part, stored, key.as_ref()).unwrap();
            assert_eq!(unpack(&part, &packed).unwrap(), lines());
        }
    }

    #[test]
    fn any_changed_byte_is_found() {
        let (part, stored) = pack("p", "t", &lines(), None).unwrap();
        for at in 0..stored.len() {
            let mut changed = stored.clone();
            changed[at] ^= 1;
            let opened = open(&part, changed, None);
            assert!(matches!(opened, Err(ArchiveError::Damaged(_))), "byte {at}");
        }
    }

    #[test]
    fn another_key_and_another_name_open_nothing() {
        let key = Key::generate();
        let sealed = key.seal(b"rows", "p1");
        assert_eq!(key.open(&sealed, "p1").as_deref(), Some(&b"rows"[..]));
        assert_eq!(key.open(&sealed, "p2"), None);
        assert_eq!(Key::generate().open(&sealed, "p1"), None);
        assert_eq!(key.open(&sealed[..7], "p1"), None);
        assert!(!String::from_utf8_lossy(&sealed).contains("rows"));
    }

    #[test]
    fn a_manifest_that_lies_about_its_lines_is_refused() {
        let (part, stored) = pack("p", "t", &lines(), None).unwrap();
        let fewer = Part {
            rows: 1,
            ..part.clone()
        };
        let shorter = Part {
            lines_bytes: 3,
            ..part.clone()
        };
        for lie in [fewer, shorter] {
            assert!(unpack(&lie, &stored).is_err(), "{lie:?}");
        }
        assert!(unpack(&part, &stored).is_ok());
    }
}
