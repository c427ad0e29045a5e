//! Stripe's webhook signatures, checked on the raw bytes.
//!
//! Stripe's page "Verify webhook signatures": header `t=…,v1=…`, where each `v1` is the
//! hexadecimal HMAC-SHA256 of `t.body` under a secret of the endpoint. While a secret rolls there
//! are two secrets and two signatures; any pair that fits is enough.

use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// How old a signature may be, in seconds; the official libraries' default.
const TOLERANCE_SECONDS: i64 = 300;

/// Why a delivery is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// The header is missing or not of the form `t=…,v1=…`.
    #[error("the Stripe-Signature header is missing or malformed")]
    Malformed,
    /// No signature fits any secret.
    #[error("no signature fits: check the endpoint's secret, and that the body arrives unchanged")]
    Mismatch,
    /// The timestamp is too far from now.
    #[error("the signature's timestamp is more than {TOLERANCE_SECONDS} s from now")]
    Stale,
}

/// Checks a delivery against a set of secrets at the instant `now`.
///
/// # Errors
/// [`BadSignature`]; in constant time per signature.
pub fn verify(
    header: &str,
    body: &[u8],
    secrets: &[String],
    now: DateTime<Utc>,
) -> Result<(), BadSignature> {
    let mut timestamp = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=') {
            Some(("t", value)) => timestamp = value.parse::<i64>().ok(),
            Some(("v1", value)) => signatures.extend(hex::decode(value)),
            _ => {}
        }
    }
    let timestamp = timestamp.ok_or(BadSignature::Malformed)?;
    if signatures.is_empty() {
        return Err(BadSignature::Malformed);
    }
    let signed_at = DateTime::from_timestamp(timestamp, 0).ok_or(BadSignature::Malformed)?;
    let fits = secrets.iter().any(|secret| {
        signatures
            .iter()
            .any(|signature| fits(secret, timestamp, body, signature))
    });
    if !fits {
        return Err(BadSignature::Mismatch);
    }
    if (now - signed_at).abs() > TimeDelta::seconds(TOLERANCE_SECONDS) {
        return Err(BadSignature::Stale);
    }
    Ok(())
}

fn fits(secret: &str, timestamp: i64, body: &[u8], signature: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return false;
    };
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.verify_slice(signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"id\":\"evt_1\"}";

    fn sign(secret: &str, timestamp: i64) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{timestamp}.").as_bytes());
        mac.update(BODY);
        hex::encode(mac.finalize().into_bytes())
    }

    fn check(header: &str, secrets: &[&str]) -> Result<(), BadSignature> {
        let secrets: Vec<String> = secrets.iter().map(ToString::to_string).collect();
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        verify(header, BODY, &secrets, now)
    }

    #[test]
    fn any_signature_under_any_secret_is_enough() {
        let at = 1_800_000_000;
        let header = format!("t={at},v1={},v1={}", sign("new", at), sign("old", at));
        assert_eq!(check(&header, &["old"]), Ok(()));
        assert_eq!(check(&header, &["x", "new"]), Ok(()));
        assert_eq!(check(&header, &["x"]), Err(BadSignature::Mismatch));
        assert_eq!(check(&header, &[]), Err(BadSignature::Mismatch));
    }

    #[test]
    fn age_is_bounded_both_ways_and_form_is_checked() {
        for (offset, expected) in [
            (-300, Ok(())),
            (300, Ok(())),
            (-301, Err(BadSignature::Stale)),
            (301, Err(BadSignature::Stale)),
        ] {
            let at = 1_800_000_000 + offset;
            let header = format!("t={at},v1={}", sign("s", at));
            assert_eq!(check(&header, &["s"]), expected, "{offset}");
        }
        for header in ["", "t=1", "v1=00", "t=x,v1=00", "t=1,v0=00"] {
            assert_eq!(
                check(header, &["s"]),
                Err(BadSignature::Malformed),
                "{header}"
            );
        }
    }
}
