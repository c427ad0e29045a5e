//! Payloads: JSON in, bytes out, with a bound on their size. The one room that encodes and decodes.

use serde::Serialize;
use serde_json::Value;

use crate::error::EngineError;

/// The most bytes that one payload may have, unless configured otherwise.
pub const DEFAULT_PAYLOAD_LIMIT: usize = 1024 * 1024;

pub(crate) fn to_value<T: Serialize>(
    what: &'static str,
    workflow: &str,
    payload: &T,
) -> Result<Value, EngineError> {
    serde_json::to_value(payload).map_err(|error| EngineError::Malformed {
        what,
        workflow: workflow.to_owned(),
        detail: error.to_string(),
    })
}

/// Encodes within the limit.
pub(crate) fn to_bytes<T: Serialize>(
    what: &'static str,
    payload: &T,
    limit: usize,
) -> Result<Vec<u8>, EngineError> {
    let bytes = serde_json::to_vec(payload).map_err(|error| EngineError::Malformed {
        what,
        workflow: String::new(),
        detail: error.to_string(),
    })?;
    if bytes.len() > limit {
        return Err(EngineError::PayloadTooLarge {
            what,
            bytes: bytes.len(),
            limit,
        });
    }
    Ok(bytes)
}

/// The variant's name of an externally tagged enum: `"Name"` or `{"Name": …}`.
pub(crate) fn variant_name(value: &Value) -> &str {
    match value {
        Value::String(name) => name,
        Value::Object(map) => map.keys().next().map_or("", String::as_str),
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_named_with_and_without_data() {
        assert_eq!(variant_name(&serde_json::json!("Idle")), "Idle");
        assert_eq!(variant_name(&serde_json::json!({"Busy": {"n": 1}})), "Busy");
        assert_eq!(variant_name(&serde_json::json!(3)), "");
    }

    #[test]
    fn a_payload_over_the_limit_is_refused_with_its_size() {
        let error = to_bytes("answer", &"x".repeat(20), 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the answer has 22 bytes; the limit is 10"
        );
    }
}
