//! Certificates of deletion: what was done, bound by hashes, signed, and verified by anybody.
//!
//! Pure but for the signature, which a key service may make. A certificate is a document and a
//! signature over its canonical bytes: JSON with the keys of each object in order, without space,
//! numbers whole. Its records are a chain: the hash of each covers the hash before it and its own
//! canonical body, so that none can be taken out, put in or moved. What it says of tables is not a
//! second truth: it has to be what the records come to, and [`verify`] adds them up.
//!
//! It names no person but those who asked and approved: the tenant is an id that says nothing.

mod key;
#[cfg(test)]
mod tests;

pub use key::{LocalSigningKey, PublicKey, Signing, SigningError, SigningKey};

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The hash before the first record.
pub const ROOT: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The version of the document's shape.
const VERSION: u64 = 1;
const ALGORITHM: &str = "ed25519";

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place, from 1.
    pub seq: i32,
    /// What was done: `kind`, and what belongs to it.
    pub body: Value,
    /// Binds it to the one before.
    pub hash: String,
}

/// What became of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// product, tenure, engine or keys.
    pub realm: String,
    /// Its name.
    pub name: String,
    /// What was done.
    pub action: String,
    /// Rows that were met.
    pub found: i64,
    /// Rows that are gone.
    pub erased: i64,
    /// Rows that stay with their personal fields emptied.
    pub masked: i64,
    /// Rows that stay as they are.
    pub kept: i64,
    /// Why rows stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
}

/// A signed document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// What is certified.
    pub document: Value,
    /// Who says so.
    pub signature: Signature,
}

/// A signature over the document's canonical bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// ed25519.
    pub algorithm: String,
    /// The key's name.
    pub key: String,
    /// In Base64.
    pub value: String,
}

/// What a certificate that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The key that signed it.
    pub key: String,
    /// The deletion.
    pub deletion: String,
    /// The tenant.
    pub subject: String,
    /// How many records the chain has.
    pub records: usize,
    /// What became of each table.
    pub tables: Vec<Table>,
}

/// Why a certificate does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// It is no certificate.
    #[error("this is no certificate of deletion: {0}")]
    Unreadable(String),
    /// Another key is said to have signed it.
    #[error("it is signed with key {signed:?}, and you gave the public key of {given:?}")]
    OtherKey {
        /// The key that it names.
        signed: String,
        /// The key that was given.
        given: String,
    },
    /// The signature is not that key's over this document.
    #[error("the signature does not hold: the document was changed, or another key signed it")]
    Signature,
    /// A record is not bound to the one before.
    #[error("the chain breaks at record {0}: it was changed, or one is missing before it")]
    Chain(i32),
    /// The table is not what the records come to.
    #[error("what it says of {0} is not what its records come to")]
    Table(String),
}

/// The canonical bytes of JSON: keys in order, no space.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, &Value> = fields.iter().collect();
            text.push('{');
            for (place, (key, value)) in fields.into_iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                let _ = write!(text, "{}:", Value::from(key.as_str()));
                write(text, value);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write(text, item);
            }
            text.push(']');
        }
        plain => {
            let _ = write!(text, "{plain}");
        }
    }
}

/// The hash of a record with this body, after the record of this hash.
#[must_use]
pub fn link(before: &str, body: &Value) -> String {
    let mut hash = Sha256::new();
    hash.update(before.as_bytes());
    hash.update(b"\n");
    hash.update(canonical(body).as_bytes());
    hex::encode(hash.finalize())
}

/// Puts a document together. `facts` is what it says besides the tables and the chain.
#[must_use]
pub fn document(facts: Value, tables: &[Table], records: &[Record]) -> Value {
    let mut document = facts;
    let chain = records.last().map_or(ROOT, |record| &record.hash);
    if let Value::Object(fields) = &mut document {
        fields.insert("version".to_owned(), json!(VERSION));
        fields.insert("tables".to_owned(), json!(tables));
        fields.insert("records".to_owned(), json!(records));
        fields.insert("chain".to_owned(), json!(chain));
    }
    document
}

/// Signs a document.
///
/// # Errors
/// [`SigningError`].
pub async fn sign(document: Value, key: &dyn SigningKey) -> Result<Certificate, SigningError> {
    let signature = key.sign(canonical(&document).as_bytes()).await?;
    Ok(Certificate {
        document,
        signature: Signature {
            algorithm: ALGORITHM.to_owned(),
            key: key.id().to_owned(),
            value: STANDARD.encode(signature),
        },
    })
}

/// Holds a certificate against a public key: the signature, the chain, and that what it says of the
/// tables is what its records come to. Needs nothing but the two.
///
/// # Errors
/// [`Broken`].
pub fn verify(text: &str, key: &PublicKey) -> Result<Verified, Broken> {
    let unreadable = |error: serde_json::Error| Broken::Unreadable(error.to_string());
    let Certificate {
        document,
        signature,
    } = serde_json::from_str(text).map_err(unreadable)?;
    if signature.algorithm != ALGORITHM || document["version"] != json!(VERSION) {
        let words = "another version or another kind of signature".to_owned();
        return Err(Broken::Unreadable(words));
    }
    if signature.key != key.id() {
        return Err(Broken::OtherKey {
            signed: signature.key,
            given: key.id().to_owned(),
        });
    }
    let value = STANDARD.decode(&signature.value);
    let value = value.map_err(|_| Broken::Signature)?;
    if !key.holds(canonical(&document).as_bytes(), &value) {
        return Err(Broken::Signature);
    }
    let part = |name: &str| document[name].clone();
    let records: Vec<Record> = serde_json::from_value(part("records")).map_err(unreadable)?;
    let tables: Vec<Table> = serde_json::from_value(part("tables")).map_err(unreadable)?;
    check_chain(&records, &document["chain"])?;
    check_tables(&tables, &records)?;
    let word = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    Ok(Verified {
        key: signature.key,
        deletion: word("deletion_id"),
        subject: word("subject"),
        records: records.len(),
        tables,
    })
}

fn check_chain(records: &[Record], end: &Value) -> Result<(), Broken> {
    let mut before = ROOT.to_owned();
    for (place, record) in (1..).zip(records) {
        if record.seq != place || record.hash != link(&before, &record.body) {
            return Err(Broken::Chain(place));
        }
        before.clone_from(&record.hash);
    }
    match end.as_str() == Some(&before) {
        true => Ok(()),
        false => Err(Broken::Chain(
            i32::try_from(records.len()).unwrap_or(i32::MAX),
        )),
    }
}

/// Each table has one record, and says the same.
fn check_tables(tables: &[Table], records: &[Record]) -> Result<(), Broken> {
    let done: Vec<Table> = records
        .iter()
        .filter(|record| record.body["kind"] == "table")
        .map(|record| serde_json::from_value(record.body.clone()))
        .collect::<Result<_, _>>()
        .map_err(|error| Broken::Unreadable(error.to_string()))?;
    for (place, table) in tables.iter().enumerate() {
        if done.get(place) != Some(table) {
            return Err(Broken::Table(table.name.clone()));
        }
    }
    match done.get(tables.len()) {
        Some(more) => Err(Broken::Table(more.name.clone())),
        None => Ok(()),
    }
}
