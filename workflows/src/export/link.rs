//! The link of an export: a token that is told once, and what follows from it. Pure but for chance.

use sha2::{Digest as _, Sha256};

use crate::archive::Key;

/// What a token begins with, so that one that is found somewhere is known for what it is.
const PREFIX: &str = "tenure_export_";
/// Random bytes of a token.
const BYTES: usize = 32;

/// A link's token.
pub struct Token(String);

impl Token {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        let bytes: [u8; BYTES] = rand::random();
        Self(format!("{PREFIX}{}", hex::encode(bytes)))
    }

    /// Reads what somebody came with; `None` when it cannot be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let bytes = hex::decode(digits).ok()?;
        (bytes.len() == BYTES).then(|| Self(text.to_owned()))
    }

    /// As it stands in the link.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.derive("digest")
    }

    /// The key that it gives, which opens the export's own. Nobody can tell it from the digest.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(self.derive("key"))
    }

    fn derive(&self, what: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(format!("tenure export {what}\n"));
        digest.update(self.0.as_bytes());
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_made_and_gives_two_secrets() {
        let token = Token::generate();
        let read = Token::parse(token.as_str()).unwrap();
        assert_eq!(read.digest(), token.digest());
        assert_eq!(read.key().bytes(), token.key().bytes());
        assert_ne!(&token.digest(), token.key().bytes());
        assert_ne!(Token::generate().digest(), token.digest());
    }

    #[test]
    fn what_is_no_token_is_none() {
        let token = Token::generate();
        for text in [
            "",
            "tenure_export_",
            "tenure_export_00ff",
            &token.as_str()[1..],
        ] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }
}
