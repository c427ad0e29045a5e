//! What handlers take out of a request, with errors that are problem documents.

use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use chrono::{DateTime, Utc};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::ApiError;
use crate::idempotency::Fingerprint;

/// The most bytes of a request's body.
pub(crate) const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A JSON body, and what its request is known by.
pub(crate) struct Body<T> {
    pub(crate) value: T,
    pub(crate) fingerprint: Fingerprint,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let is_json = content_type
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/json"));
        if !is_json {
            return Err(ApiError::UnsupportedMediaType);
        }
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| body_error(&rejection))?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = read(&mut json, &bytes)?;
        json.end().map_err(|error| malformed(&error))?;
        Ok(Self {
            value,
            fingerprint: Fingerprint::of(method.as_str(), &path, &bytes),
        })
    }
}

/// The raw body, for signatures.
pub(crate) fn body_error(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::TooLarge(MAX_BODY_BYTES)
    } else {
        ApiError::BadRequest {
            code: "unreadable_body",
            detail: "the body could not be read to its end".to_owned(),
        }
    }
}

/// Reads a value; a part that does not fit is told with the pointer to it.
fn read<'de, T: DeserializeOwned>(
    json: &mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>,
    bytes: &[u8],
) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        let pointer = pointer(error.path());
        let error = error.into_inner();
        if error.is_data() {
            let detail = error.to_string();
            let detail = of_instant(bytes, &pointer, &detail).unwrap_or(detail);
            let pointer = pointer + &missing(&detail);
            ApiError::Invalid { pointer, detail }
        } else if is_no_choice(bytes, &error) {
            let detail = "one of its choices is wanted here, and that one alone".to_owned();
            ApiError::Invalid { pointer, detail }
        } else {
            malformed(&error)
        }
    })
}

/// Whether more than one choice was given, or something that is none: of that `serde_json` says, as of
/// a text that breaks off, that it had expected a value there.
fn is_no_choice(bytes: &[u8], refusal: &serde_json::Error) -> bool {
    let is_json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    is_json && refusal.to_string().starts_with("expected value")
}

/// What a text should have been, when it was refused as an instant: chrono's words name neither the
/// text nor the form, and are known by its saying them of this very text.
fn of_instant(bytes: &[u8], pointer: &str, refusal: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let text = body.pointer(pointer)?.as_str()?;
    no_instant(text, |words| refusal.starts_with(words))
}

/// The same of a query's parameter.
fn of_parameter(uri: &Uri, refusal: &str) -> Option<String> {
    let given = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    given.0.iter().find_map(|(name, text)| {
        let told = no_instant(text, |words| refusal == format!("{name}: {words}"))?;
        Some(format!("{name}: {told}"))
    })
}

fn no_instant(text: &str, was_refused: impl FnOnce(&str) -> bool) -> Option<String> {
    let refused = text.parse::<DateTime<Utc>>().err()?;
    was_refused(&refused.to_string()).then(|| {
        format!("{text:?} is no instant; write it as RFC 3339 does, such as 2027-01-31T09:00:00Z")
    })
}

/// The rest of the pointer to a field that is not there: the path ends at what should hold it.
fn missing(refusal: &str) -> String {
    let field = refusal.strip_prefix("missing field `");
    field
        .and_then(|rest| rest.split_once('`'))
        .map_or(String::new(), |(name, _)| format!("/{name}"))
}

/// A path as a JSON Pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => "/?".to_owned(),
        })
        .collect()
}

fn malformed(error: &serde_json::Error) -> ApiError {
    ApiError::BadRequest {
        code: "malformed_json",
        detail: format!("the body is no JSON: {error}"),
    }
}

/// The query's parameters.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let detail = without_prefix(
                    rejection.body_text(),
                    "Failed to deserialize query string: ",
                );
                Err(ApiError::BadRequest {
                    code: "invalid_query",
                    detail: of_parameter(&parts.uri, &detail).unwrap_or(detail),
                })
            }
        }
    }
}

/// The path's parameters. What is no id names nothing.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::NotFound(format!(
                "the path names nothing: {}",
                unfit(&rejection)
            ))),
        }
    }
}

/// What of a path does not fit; nearly always an id.
fn unfit(rejection: &PathRejection) -> String {
    if let PathRejection::FailedToDeserializePathParams(failed) = rejection
        && let ErrorKind::DeserializeError { key, value, .. } = failed.kind()
        && key.ends_with("_id")
    {
        return format!("{key} {value:?} is no id, such as {EXAMPLE_ID}");
    }
    without_prefix(rejection.body_text(), "Invalid URL: ")
}

/// An id, for people to compare with.
const EXAMPLE_ID: &str = "01a2254c-0921-7642-9a84-7e2e332652f7";

/// What a library says, without its word on what it was about.
fn without_prefix(text: String, prefix: &str) -> String {
    text.strip_prefix(prefix)
        .map_or(text.clone(), str::to_owned)
}
