//! The key that lets a request be sent twice and done once.

use uuid::Uuid;

/// Names one intended change. Send the same key again after a lost answer, a new one for a new wish.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The header that carries the key.
    pub const HEADER: &'static str = "idempotency-key";

    /// Makes a key that nobody used before.
    pub fn generate() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the client's one source of fresh keys; it must not link the engine"
        )]
        let uuid = Uuid::new_v4();
        Self(uuid.to_string())
    }

    /// Takes a key the caller made: at most 255 visible ASCII characters, or the server refuses it.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Uuid> for IdempotencyKey {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.to_string())
    }
}
