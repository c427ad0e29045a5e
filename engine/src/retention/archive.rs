//! The archive: finished runs as JSON Lines, compressed, with a manifest beside each file.
//!
//! A folder a month, a file a batch: `2027-01/<batch>.jsonl.gz`, one run a line with its messages,
//! steps, visits and audit as the tables had them, and `2027-01/<batch>.json` with the file's
//! SHA-256, size and number of runs. A file is written under another name, brought to the disk,
//! renamed, and the folder brought to the disk; the manifest after it in the same way. So a file
//! that has its manifest is whole. A batch keeps its name, so writing it again replaces it.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::id::RunId;

/// The form of files and manifests.
const FORMAT: u32 = 1;
/// How columns of bytes begin in a line.
const HEX: &str = "\\x";

/// What stands beside a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form, 1.
    pub format: u32,
    /// The file's name.
    pub file: String,
    /// SHA-256 of the file as it lies there, in hexadecimal.
    pub sha256: String,
    /// Bytes of the file as it lies there.
    pub bytes: u64,
    /// Lines, one a run.
    pub runs: u64,
    /// Their workflows.
    pub workflows: Vec<String>,
    /// When the first of them ended, in real time.
    pub first_ended_at: Option<DateTime<Utc>>,
    /// When the last of them ended, in real time.
    pub last_ended_at: Option<DateTime<Utc>>,
}

/// Counts and digests what passes.
struct Seen<W> {
    inner: W,
    digest: Sha256,
    bytes: u64,
}

impl<W> Seen<W> {
    fn over(inner: W) -> Self {
        Self {
            inner,
            digest: Sha256::new(),
            bytes: 0,
        }
    }
}

impl<W: Write> Write for Seen<W> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(part)?;
        self.digest.update(&part[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file of the archive that is being written.
pub(crate) struct Writing {
    folder: PathBuf,
    batch: Uuid,
    encoder: GzEncoder<Seen<File>>,
    manifest: Manifest,
}

impl Writing {
    /// Begins a file, in the folder of the month that its batch was made in.
    pub(crate) fn begin(archive: &Path, batch: Uuid) -> io::Result<Self> {
        let folder = archive.join(month_of(batch));
        fs::create_dir_all(&folder)?;
        sync(archive)?;
        let file = format!("{batch}.jsonl.gz");
        let seen = Seen::over(File::create(folder.join(part_of(&file)))?);
        Ok(Self {
            folder,
            batch,
            encoder: GzEncoder::new(seen, Compression::default()),
            manifest: Manifest {
                format: FORMAT,
                file,
                sha256: String::new(),
                bytes: 0,
                runs: 0,
                workflows: Vec::new(),
                first_ended_at: None,
                last_ended_at: None,
            },
        })
    }

    pub(crate) fn add(&mut self, workflow: &str, at: DateTime<Utc>, json: &str) -> io::Result<()> {
        let manifest = &mut self.manifest;
        manifest.runs += 1;
        if !manifest.workflows.iter().any(|known| known == workflow) {
            manifest.workflows.push(workflow.to_owned());
            manifest.workflows.sort();
        }
        let (first, last) = (&mut manifest.first_ended_at, &mut manifest.last_ended_at);
        *first = Some(first.map_or(at, |known| known.min(at)));
        *last = Some(last.map_or(at, |known| known.max(at)));
        self.encoder.write_all(json.as_bytes())?;
        self.encoder.write_all(b"\n")
    }

    /// Brings file and manifest to the disk.
    pub(crate) fn finish(self) -> io::Result<Manifest> {
        let seen = self.encoder.finish()?;
        let mut manifest = self.manifest;
        manifest.sha256 = hex(&seen.digest.finalize());
        manifest.bytes = seen.bytes;
        settle(&self.folder, &manifest.file, &seen.inner)?;
        let name = format!("{}.json", self.batch);
        let mut file = File::create(self.folder.join(part_of(&name)))?;
        serde_json::to_writer_pretty(&mut file, &manifest)?;
        file.write_all(b"\n")?;
        settle(&self.folder, &name, &file)?;
        Ok(manifest)
    }
}

/// Reads one run out of a file: its columns as the tables had them, with payloads as JSON where they
/// are. `None` when the file does not have it; the last line of it when it has several.
///
/// # Errors
/// When the file cannot be read, does not fit its manifest, or holds something else.
pub fn find(file: &Path, run: RunId) -> io::Result<Option<Value>> {
    check(file)?;
    let decoder = MultiGzDecoder::new(BufReader::new(File::open(file)?));
    let wanted = run.to_string();
    let mut found = None;
    for line in BufReader::new(decoder).lines() {
        let line = line?;
        if !line.contains(&wanted) {
            continue;
        }
        let value: Value = serde_json::from_str(&line)?;
        if value["run"]["run_id"] == wanted {
            found = Some(readable(value));
        }
    }
    Ok(found)
}

/// Compares a file with the manifest beside it.
fn check(file: &Path) -> io::Result<()> {
    let name = file.file_name().and_then(|name| name.to_str());
    let batch = name.and_then(|name| name.strip_suffix(".jsonl.gz"));
    let batch = batch.ok_or_else(|| io::Error::other("a file of the archive ends in .jsonl.gz"))?;
    let manifest = File::open(file.with_file_name(format!("{batch}.json")))?;
    let manifest: Manifest = serde_json::from_reader(BufReader::new(manifest))?;
    if manifest.format != FORMAT {
        return Err(io::Error::other(
            "the file is of a form that is not known here",
        ));
    }
    let mut seen = Seen::over(io::sink());
    io::copy(&mut File::open(file)?, &mut seen)?;
    if hex(&seen.digest.finalize()) != manifest.sha256 {
        return Err(io::Error::other("the file is not what its manifest says"));
    }
    Ok(())
}

/// Turns columns of bytes that hold JSON into that JSON.
fn readable(value: Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix(HEX).and_then(from_hex) {
            Some(bytes) => serde_json::from_slice(&bytes).unwrap_or(Value::String(text)),
            None => Value::String(text),
        },
        Value::Array(items) => items.into_iter().map(readable).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            members
                .map(|(name, value)| (name, readable(value)))
                .collect()
        }
        other => other,
    }
}

/// Year and month of a batch's id.
fn month_of(batch: Uuid) -> String {
    let made = batch.get_timestamp().map(|time| time.to_unix().0);
    let made = made.and_then(|seconds| i64::try_from(seconds).ok());
    let made = made.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    made.unwrap_or_default().format("%Y-%m").to_string()
}

fn part_of(name: &str) -> String {
    format!("{name}.part")
}

/// Brings a written file to the disk, under its name.
fn settle(folder: &Path, name: &str, file: &File) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(folder.join(part_of(name)), folder.join(name))?;
    sync(folder)
}

/// Brings the names in a folder to the disk.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{from_hex, hex, readable};
    use serde_json::json;

    #[test]
    fn bytes_are_read_back() {
        assert_eq!(from_hex(&hex(b"{\x00\xff")).unwrap(), b"{\x00\xff");
        assert_eq!(from_hex("7"), None);
        assert_eq!(from_hex("zz"), None);
    }

    #[test]
    fn payloads_are_shown_as_json_and_all_else_as_it_is() {
        let line = json!({"data": "\\x7b2261223a317d", "sealed": "\\x00ff", "key": "k", "n": [1]});
        let shown = json!({"data": {"a": 1}, "sealed": "\\x00ff", "key": "k", "n": [1]});
        assert_eq!(readable(line), shown);
    }
}
