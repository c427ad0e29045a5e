//! `Idempotency-Key`: an unsafe request that comes again is answered as the first time.
//!
//! After the IETF draft "The Idempotency-Key HTTP Header Field": a missing key is 400, the same key
//! with another body 422, the same key while the first is under way 409. The answer is committed
//! with its effect, so a request that failed leaves no key and may be sent again.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sqlx::PgConnection;

use crate::auth::Caller;
use crate::error::ApiError;

const HEADER: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const MAX_KEY_BYTES: usize = 255;

/// The request's key.
pub(crate) struct Key(String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let header = parts
            .headers
            .get(HEADER)
            .and_then(|value| value.to_str().ok());
        let key = header.unwrap_or_default().trim().trim_matches('"');
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(ApiError::BadRequest {
                code: "idempotency_key_required",
                detail: "send an Idempotency-Key of 1 to 255 characters, a new one per request; \
                         the same one when you send the same request again"
                    .to_owned(),
            });
        }
        Ok(Self(key.to_owned()))
    }
}

/// A request that has not been answered before.
pub(crate) struct Fresh<'a> {
    caller: &'a Caller,
    method_path: &'a str,
    key: &'a str,
    digest: &'a [u8; 32],
}

/// What a key says of a request.
pub(crate) enum Seen<'a> {
    Before(Response),
    Not(Fresh<'a>),
}

/// Looks a request up, and keeps others with its key out until the transaction ends. The
/// transaction acts as control afterwards.
pub(crate) async fn look_up<'a>(
    conn: &mut PgConnection,
    caller: &'a Caller,
    key: &'a Key,
    method_path: &'a str,
    digest: &'a [u8; 32],
) -> Result<Seen<'a>, ApiError> {
    tenure_workflows::as_control(conn).await?;
    let scope = format!("{}\n{method_path}\n{}", caller.token_id, key.0);
    let locked = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as "locked!""#,
        scope,
    )
    .fetch_one(&mut *conn)
    .await?;
    if !locked {
        return Err(ApiError::Conflict {
            code: "idempotency_key_in_use",
            detail: "a request with this Idempotency-Key is under way; send it again shortly"
                .to_owned(),
        });
    }
    let known = sqlx::query!(
        r#"
        select fingerprint, status, body
        from app.idempotency
        where token_id = $1
          and method_path = $2
          and key = $3
        "#,
        caller.token_id,
        method_path,
        key.0,
    )
    .fetch_optional(conn)
    .await?;
    let Some(known) = known else {
        return Ok(Seen::Not(Fresh {
            caller,
            method_path,
            key: &key.0,
            digest,
        }));
    };
    if known.fingerprint != digest {
        return Err(ApiError::Invalid {
            pointer: String::new(),
            detail: "this Idempotency-Key was used with another body; use a new key".to_owned(),
        });
    }
    let status = u16::try_from(known.status).ok();
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = json_response(status.unwrap_or(StatusCode::OK), known.body);
    let replayed = HeaderValue::from_static("true");
    response.headers_mut().insert(REPLAYED, replayed);
    Ok(Seen::Before(response))
}

impl Fresh<'_> {
    /// Keeps the answer in the transaction of its effect, and gives it.
    pub(crate) async fn answer<T: Serialize>(
        self,
        conn: &mut PgConnection,
        status: StatusCode,
        answer: &T,
    ) -> Result<Response, ApiError> {
        let body = serde_json::to_vec(answer).map_err(|_| ApiError::Internal)?;
        tenure_workflows::as_control(conn).await?;
        sqlx::query!(
            r#"
            insert into app.idempotency
              (token_id, method_path, key, fingerprint, status, body, created_at)
            values ($1, $2, $3, $4, $5, $6, engine.now())
            "#,
            self.caller.token_id,
            self.method_path,
            self.key,
            self.digest,
            i32::from(status.as_u16()),
            body,
        )
        .execute(conn)
        .await?;
        Ok(json_response(status, body))
    }
}

fn json_response(status: StatusCode, body: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(axum::http::header::CONTENT_TYPE, json)], body).into_response()
}
