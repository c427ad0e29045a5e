//! Payloads sealed at rest: what runs know of the world is unreadable without a key.
//!
//! Envelope encryption. A master key, which never enters the database, wraps one data key per tenant
//! (`engine.data_key`); a data key seals the tenant's payloads: states, outputs, step answers,
//! signals, what is left to undo, inputs of fan-outs, reports of progress, and what the audit keeps of
//! a state. Names of states, keys of runs, search attributes, errors, inputs of schedules and
//! arguments of operations on many runs stay in clear.
//!
//! A sealed payload is one byte that no JSON begins with, the version of the data key, a nonce, and
//! the payload under XChaCha20-Poly1305 (its nonces are long enough to be drawn at random for any
//! number of payloads), bound to tenant and version. Whatever does not begin with that byte is in
//! clear, so a database may be sealed from any day on: what is there is read as before and sealed when
//! it is next written. SQL has no keys: what `engine.start_run` and `engine.send_signal` write is in
//! clear until a worker settles the run; a signal stays so until it is dropped.
//!
//! *Rotation* makes a new version of a tenant's key. Processes read keys again after [`FRESH`], so a
//! new version seals only [`LEAD`] after it was made, when every process has read it; old ones still
//! open. *Rewrapping* puts all data keys under the current master key. *Destroying* deletes the wrapped
//! keys of a tenant: nothing that they sealed can be read any more, and nothing new is stored for it;
//! processes forget within [`FRESH`]. A backup from before still holds the wrapped keys: who has both
//! it and the master key reads it until it expires, so a promise of erasure names that day.
//!
//! When a key cannot be had just now (a key service is away), a run goes back to what is due and no
//! attempt is spent. When it never can (destroyed, another master key), the run is stuck as
//! *undecodable* with its payloads as they were.

mod keyring;
mod master;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use serde_json::{Value, json};

pub use keyring::{DataKey, Keyring, destroy, list, rewrap, rotate};
pub use master::{LocalMasterKey, MasterKey, MasterKeyError};

use crate::id::TenantId;

/// How long a process trusts what it read of a tenant's keys.
pub const FRESH: Duration = Duration::from_secs(60);
/// How long before it seals anything a new version of a key is made.
pub const LEAD: Duration = Duration::from_secs(120);

/// The first byte of a sealed payload.
const SEALED: u8 = 1;
const NONCE: usize = 24;
const HEADER: usize = 1 + 4 + NONCE;
/// Bytes of a data key.
const KEY: usize = 32;

/// Why a payload cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is sealed, and this process has no master key")]
    NoMasterKey,
    #[error("it is sealed: {0}")]
    Away(String),
    #[error(
        "it is sealed with version {0} of its tenant's key, which is not there or was destroyed"
    )]
    NoKey(u32),
    #[error("it is sealed, and was changed or cut since")]
    Broken,
}

/// Opens a tenant's payloads.
#[derive(Clone, Default)]
pub(crate) enum Reader {
    /// There is no master key.
    #[default]
    Without,
    /// The keys cannot be had just now.
    Away(Arc<str>),
    With(Arc<Ring>),
}

/// Seals and opens a tenant's payloads; does neither when no master key is configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct TenantKeys(Option<Arc<Sealing>>);

/// A tenant's keys, as far as a process has read them.
pub(crate) struct Ring {
    tenant: TenantId,
    ciphers: BTreeMap<u32, XChaCha20Poly1305>,
}

/// The keys with the one that seals.
#[derive(Debug)]
struct Sealing {
    reader: Reader,
    tenant: TenantId,
    version: u32,
    cipher: XChaCha20Poly1305,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Without => f.write_str("Without"),
            Self::Away(why) => f.debug_tuple("Away").field(why).finish(),
            Self::With(ring) => f.debug_tuple("With").field(&ring.ciphers.keys()).finish(),
        }
    }
}

impl TenantKeys {
    /// Keys whose version `version` seals.
    fn new(ring: &Arc<Ring>, version: u32) -> Option<Self> {
        let cipher = ring.ciphers.get(&version)?.clone();
        Some(Self(Some(Arc::new(Sealing {
            reader: Reader::With(ring.clone()),
            tenant: ring.tenant,
            version,
            cipher,
        }))))
    }

    /// Seals a payload; one that is sealed already stays as it is.
    pub(crate) fn seal<'a>(&self, payload: impl Into<Cow<'a, [u8]>>) -> Cow<'a, [u8]> {
        let payload = payload.into();
        let Some(keys) = self.0.as_deref().filter(|_| !is_sealed(&payload)) else {
            return payload;
        };
        let nonce: [u8; NONCE] = rand::random();
        let bound = Payload {
            msg: &payload,
            aad: &context(keys.tenant, keys.version),
        };
        let sealed = keys
            .cipher
            .encrypt(&XNonce::from(nonce), bound)
            .expect("a payload is shorter than 256 GiB");
        let mut bytes = Vec::with_capacity(HEADER + sealed.len());
        bytes.push(SEALED);
        bytes.extend(keys.version.to_be_bytes());
        bytes.extend(nonce);
        bytes.extend(sealed);
        Cow::Owned(bytes)
    }

    /// Seals what is kept as JSON.
    pub(crate) fn seal_json(&self, value: &Value) -> Value {
        if self.0.is_none() {
            return value.clone();
        }
        let bytes = value.to_string().into_bytes();
        json!({ "sealed": hex::encode(self.seal(bytes)) })
    }

    /// As [`Reader::open`].
    pub(crate) fn open<'a>(&self, payload: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
        match self.0.as_deref() {
            Some(keys) => keys.reader.open(payload),
            None => Reader::default().open(payload),
        }
    }

    /// As [`Reader::show`].
    pub(crate) fn show(&self, payload: &[u8]) -> Value {
        match self.0.as_deref() {
            Some(keys) => keys.reader.show(payload),
            None => Reader::default().show(payload),
        }
    }
}

impl Reader {
    /// Opens a payload; one in clear is as it is.
    pub(crate) fn open<'a>(&self, payload: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
        if !is_sealed(payload) {
            return Ok(Cow::Borrowed(payload));
        }
        let ring = match self {
            Self::Without => return Err(Unreadable::NoMasterKey),
            Self::Away(why) => return Err(Unreadable::Away(why.to_string())),
            Self::With(ring) => ring,
        };
        let header = payload.split_at_checked(HEADER);
        let (header, sealed) = header.ok_or(Unreadable::Broken)?;
        let (version, nonce) = header[1..].split_at(4);
        let version = version.try_into().map_err(|_| Unreadable::Broken)?;
        let version = u32::from_be_bytes(version);
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| Unreadable::Broken)?;
        let cipher = ring.ciphers.get(&version);
        let cipher = cipher.ok_or(Unreadable::NoKey(version))?;
        let bound = Payload {
            msg: sealed,
            aad: &context(ring.tenant, version),
        };
        let opened = cipher.decrypt(&XNonce::from(nonce), bound);
        opened.map(Cow::Owned).map_err(|_| Unreadable::Broken)
    }

    /// Opens what is JSON, for people: what cannot be read says why.
    pub(crate) fn show(&self, payload: &[u8]) -> Value {
        match self.open(payload) {
            Ok(opened) => serde_json::from_slice(&opened).unwrap_or_default(),
            Err(unreadable) => json!({ "unreadable": unreadable.to_string() }),
        }
    }
}

/// Opens in place; what cannot be read stays as it is.
pub(crate) fn open_in_place(keys: &TenantKeys, payload: &mut Vec<u8>) -> Result<(), Unreadable> {
    let opened = match keys.open(payload)? {
        Cow::Owned(opened) => opened,
        Cow::Borrowed(_) => return Ok(()),
    };
    *payload = opened;
    Ok(())
}

/// What a sealed payload, or a wrapped key, is bound to.
fn context(tenant: TenantId, version: u32) -> [u8; 20] {
    let mut context = [0; 20];
    context[..16].copy_from_slice(tenant.0.as_bytes());
    context[16..].copy_from_slice(&version.to_be_bytes());
    context
}

/// Whether a payload is sealed, by whatever key.
pub(crate) fn is_sealed(payload: &[u8]) -> bool {
    payload.first() == Some(&SEALED)
}

fn cipher(key: &[u8; KEY]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(tenant: u128, versions: &[(u32, u8)], current: u32) -> TenantKeys {
        let ciphers = versions.iter().map(|(n, byte)| (*n, cipher(&[*byte; KEY])));
        let ring = Ring {
            tenant: TenantId(uuid::Uuid::from_u128(tenant)),
            ciphers: ciphers.collect(),
        };
        TenantKeys::new(&Arc::new(ring), current).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_and_says_nothing() {
        let keys = keys(1, &[(1, 7)], 1);
        let clear = br#"{"card":"4242"}"#.as_slice();
        let sealed = keys.seal(clear);
        assert!(!sealed.windows(4).any(|four| four == b"4242"));
        assert_eq!(sealed.len(), clear.len() + HEADER + 16);
        assert_eq!(*keys.open(&sealed).unwrap(), *clear);
        assert_ne!(keys.seal(clear), sealed, "a nonce is used once");
        assert_eq!(keys.seal(&*sealed), sealed, "not sealed twice");
        assert_eq!(*keys.open(clear).unwrap(), *clear, "what was in clear is");
    }

    #[test]
    fn nothing_opens_with_another_key_or_for_another_tenant_or_when_it_was_changed() {
        let mine = keys(1, &[(1, 7), (2, 8)], 2);
        let sealed = mine.seal(b"1".as_slice()).into_owned();
        let rotated = keys(1, &[(1, 7), (2, 8), (3, 9)], 3);
        assert_eq!(*rotated.open(&sealed).unwrap(), *b"1");
        let others = keys(2, &[(1, 7), (2, 8)], 2);
        assert_eq!(others.open(&sealed), Err(Unreadable::Broken));
        let gone = keys(1, &[(3, 9)], 3);
        assert_eq!(gone.open(&sealed), Err(Unreadable::NoKey(2)));
        let none = TenantKeys::default();
        assert_eq!(none.open(&sealed), Err(Unreadable::NoMasterKey));
        for place in 1..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(mine.open(&changed).is_err(), "byte {place}");
        }
        for length in 1..sealed.len() {
            assert!(mine.open(&sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn without_keys_nothing_changes() {
        let none = TenantKeys::default();
        assert_eq!(*none.seal(b"1".as_slice()), *b"1");
        assert_eq!(none.seal_json(&json!(1)), json!(1));
        assert_eq!(none.show(b"{\"a\":1}"), json!({"a": 1}));
    }
}
