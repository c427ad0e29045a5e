//! The master key: the one secret outside the database, behind a seam so that a key service fits in.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use futures_util::future::BoxFuture;

use super::{KEY, NONCE, cipher};

/// Wraps and unwraps data keys. A key service (KMS) implements it with calls that never show its key.
pub trait MasterKey: fmt::Debug + Send + Sync {
    /// The name of the key that wraps now; kept with what it wrapped.
    fn id(&self) -> &str;

    /// Wraps a data key, bound to `context`.
    ///
    /// # Errors
    /// [`MasterKeyError::Unavailable`].
    fn wrap<'a>(
        &'a self,
        key: &'a [u8],
        context: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<u8>, MasterKeyError>>;

    /// Unwraps what the master key of that name wrapped.
    ///
    /// # Errors
    /// [`MasterKeyError`].
    fn unwrap<'a>(
        &'a self,
        id: &'a str,
        wrapped: &'a [u8],
        context: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<u8>, MasterKeyError>>;
}

/// Why a master key did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// None is configured here.
    #[error("no master key is configured here; set TENURE_MASTER_KEY")]
    Missing,
    /// The one that is asked for is not configured here.
    #[error("the master key {0:?} is not configured here")]
    Unknown(String),
    /// It is not the one that wrapped the key, or what was wrapped was changed.
    #[error("the master key {0:?} does not open what it is said to have wrapped")]
    Broken(String),
    /// It cannot be reached just now.
    #[error("the master key cannot be reached: {0}")]
    Unavailable(String),
}

/// Master keys held by the process itself, from a file or an environment variable.
pub struct LocalMasterKey {
    keys: Vec<(String, XChaCha20Poly1305)>,
}

impl fmt::Debug for LocalMasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|(id, _)| id).collect();
        f.debug_tuple("LocalMasterKey").field(&ids).finish()
    }
}

impl LocalMasterKey {
    /// Reads `name:key` pairs, separated by lines or commas, each key 32 bytes in Base64. The first
    /// wraps; the others only open what they wrapped, until it is wrapped anew.
    ///
    /// # Errors
    /// Says which pair does not fit; never shows a key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<(String, XChaCha20Poly1305)> = Vec::new();
        let pairs = text.split(['\n', ',']).map(str::trim);
        for (place, pair) in pairs.filter(|pair| !pair.is_empty()).enumerate() {
            let place = place + 1;
            let (id, key) = pair
                .split_once(':')
                .ok_or_else(|| format!("master key {place} is no name:key"))?;
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if id.is_empty() || id.len() > 64 || !id.bytes().all(fits) {
                return Err(format!(
                    "the name of master key {place} has 1 to 64 letters, digits, dots, underscores and dashes"
                ));
            }
            if keys.iter().any(|(known, _)| known == id) {
                return Err(format!("two master keys are called {id:?}"));
            }
            let bytes = STANDARD.decode(key).ok();
            let bytes: Option<[u8; KEY]> = bytes.and_then(|bytes| bytes.try_into().ok());
            let bytes = bytes.ok_or_else(|| {
                format!(
                    "master key {id:?} is not {KEY} bytes in Base64; `tenure key new` makes one"
                )
            })?;
            keys.push((id.to_owned(), cipher(&bytes)));
        }
        if keys.is_empty() {
            return Err("no master key is given".to_owned());
        }
        Ok(Self { keys })
    }

    /// A new pair, as [`LocalMasterKey::parse`] reads it.
    #[must_use]
    pub fn generate(id: &str) -> String {
        format!("{id}:{}", STANDARD.encode(rand::random::<[u8; KEY]>()))
    }

    fn unwrap_now(
        &self,
        id: &str,
        wrapped: &[u8],
        context: &[u8],
    ) -> Result<Vec<u8>, MasterKeyError> {
        let known = self.keys.iter().find(|(known, _)| known == id);
        let (_, cipher) = known.ok_or_else(|| MasterKeyError::Unknown(id.to_owned()))?;
        let broken = || MasterKeyError::Broken(id.to_owned());
        let (nonce, sealed) = wrapped.split_at_checked(NONCE).ok_or_else(broken)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| broken())?;
        let payload = Payload {
            msg: sealed,
            aad: context,
        };
        cipher
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| broken())
    }
}

impl MasterKey for LocalMasterKey {
    fn id(&self) -> &str {
        &self.keys[0].0
    }

    fn wrap<'a>(
        &'a self,
        key: &'a [u8],
        context: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<u8>, MasterKeyError>> {
        Box::pin(async move {
            let nonce: [u8; NONCE] = rand::random();
            let payload = Payload {
                msg: key,
                aad: context,
            };
            let sealed = self.keys[0].1.encrypt(&XNonce::from(nonce), payload);
            let sealed = sealed.map_err(|error| MasterKeyError::Unavailable(error.to_string()))?;
            Ok([&nonce[..], &sealed].concat())
        })
    }

    fn unwrap<'a>(
        &'a self,
        id: &'a str,
        wrapped: &'a [u8],
        context: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<u8>, MasterKeyError>> {
        Box::pin(async move { self.unwrap_now(id, wrapped, context) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_master_key_opens_what_the_old_one_wrapped_while_that_is_given_too() {
        let old = LocalMasterKey::generate("2025");
        let new = LocalMasterKey::generate("2026");
        let before = LocalMasterKey::parse(&old).unwrap();
        let wrapped = before.wrap(&[3; KEY], b"tenant").await.unwrap();
        let both = LocalMasterKey::parse(&format!("{new}\n{old}\n")).unwrap();
        assert_eq!(both.id(), "2026");
        let opened = both.unwrap("2025", &wrapped, b"tenant").await.unwrap();
        assert_eq!(opened, [3; KEY]);
        let other = both.unwrap("2025", &wrapped, b"other").await;
        assert_eq!(other, Err(MasterKeyError::Broken("2025".to_owned())));
        let alone = LocalMasterKey::parse(&new).unwrap();
        let missing = alone.unwrap("2025", &wrapped, b"tenant").await;
        assert_eq!(missing, Err(MasterKeyError::Unknown("2025".to_owned())));
    }

    #[test]
    fn what_is_no_master_key_is_refused_and_not_shown() {
        let good = LocalMasterKey::generate("a");
        for (text, says) in [
            ("", "no master key is given"),
            ("secret", "master key 1 is no name:key"),
            (":AAAA", "the name of master key 1"),
            ("a:c2hvcnQ=", "master key \"a\" is not 32 bytes"),
            ("a:?", "master key \"a\" is not 32 bytes"),
            (
                &format!("{good},{good}"),
                "two master keys are called \"a\"",
            ),
        ] {
            let error = LocalMasterKey::parse(text).unwrap_err();
            assert!(error.starts_with(says), "{text:?}: {error}");
            assert!(!error.contains("c2hvcnQ"), "{error}");
        }
    }
}
