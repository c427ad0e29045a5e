//! The key that signs certificates: a secret outside the database, behind a seam so that a key
//! service fits in.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// Bytes of a seed, and of a public key.
const KEY: usize = 32;

/// What a key's work will come to.
pub type Signing<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, SigningError>> + Send + 'a>>;

/// Signs with Ed25519. A key service (KMS) implements it with a call that never shows its key.
pub trait SigningKey: fmt::Debug + Send + Sync {
    /// The key's name, which certificates carry.
    fn id(&self) -> &str;

    /// The public half.
    fn public(&self) -> PublicKey;

    /// Signs.
    ///
    /// # Errors
    /// [`SigningError`].
    fn sign<'a>(&'a self, bytes: &'a [u8]) -> Signing<'a>;
}

/// Why a key did not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the signing key cannot be reached: {0}")]
pub struct SigningError(pub String);

/// A key that the process itself holds, from a file or an environment variable.
pub struct LocalSigningKey {
    id: String,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for LocalSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalSigningKey").field(&self.id).finish()
    }
}

impl LocalSigningKey {
    /// Reads `name:key`, the key 32 bytes in Base64.
    ///
    /// # Errors
    /// Says what does not fit; never shows the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (id, seed) = pair(text, "the signing key")?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| format!("the signing key {id:?} is none of Ed25519"))?;
        Ok(Self { id, pair })
    }

    /// A new pair, as [`LocalSigningKey::parse`] reads it.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(id: &str) -> Result<String, String> {
        let mut seed = [0; KEY];
        let filled = SystemRandom::new().fill(&mut seed);
        filled.map_err(|_| "the system gives no randomness".to_owned())?;
        let text = format!("{id}:{}", STANDARD.encode(seed));
        Self::parse(&text).map(|_| text)
    }
}

impl SigningKey for LocalSigningKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn public(&self) -> PublicKey {
        PublicKey {
            id: self.id.clone(),
            bytes: self.pair.public_key().as_ref().to_vec(),
        }
    }

    fn sign<'a>(&'a self, bytes: &'a [u8]) -> Signing<'a> {
        let signature = self.pair.sign(bytes).as_ref().to_vec();
        Box::pin(std::future::ready(Ok(signature)))
    }
}

/// The half that everybody may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: String,
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Reads `name:key`, the key 32 bytes in Base64.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (id, bytes) = pair(text, "the public key")?;
        Ok(Self {
            id,
            bytes: bytes.to_vec(),
        })
    }

    /// The key's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether a signature is this key's over these bytes.
    #[must_use]
    pub fn holds(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.bytes);
        key.verify(bytes, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, STANDARD.encode(&self.bytes))
    }
}

fn pair(text: &str, what: &str) -> Result<(String, [u8; KEY]), String> {
    let (id, key) = text
        .trim()
        .split_once(':')
        .ok_or_else(|| format!("{what} is no name:key"))?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if id.is_empty() || id.len() > 64 || !id.bytes().all(fits) {
        return Err(format!(
            "the name of {what} has 1 to 64 letters, digits, dots, underscores and dashes"
        ));
    }
    let bytes = STANDARD.decode(key).ok();
    let bytes: Option<[u8; KEY]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| {
        format!(
            "{what} {id:?} is not {KEY} bytes in Base64; `tenure certificate new-key` makes one"
        )
    })?;
    Ok((id.to_owned(), bytes))
}
