//! `Idempotency-Key`: an unsafe request that comes again is answered as the first time.
//!
//! After the IETF draft "The Idempotency-Key HTTP Header Field": a missing key is 400, the same key
//! with another body 422, the same key while the first is under way 409. The answer is committed
//! with its effect, so a request that failed leaves no key and may be sent again.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Required};
use uuid::Uuid;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::state::AppState;

const HEADER: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const MAX_KEY_BYTES: usize = 255;
/// Unsafe operations whose handlers take no [`Key`], for they change nothing, are told apart by what they
/// say, or answer what is not to be kept.
const WITHOUT_KEY: [&str; 3] = [
    "/v1/backfills/plan",
    "/v1/runs/{run_id}/reveal",
    "/v1/webhooks/stripe",
];
/// What the header is called among the parameters of the API's description.
const PARAMETER: &str = "IdempotencyKey";

/// Declares the header in the API's description, wherever a request without it is refused.
pub(crate) fn describe(document: &mut utoipa::openapi::OpenApi) {
    let header = RefOr::T(parameter());
    let components = document.components.get_or_insert_default();
    components.parameters.insert(PARAMETER.to_owned(), header);
    let paths = document.paths.paths.iter_mut();
    for (_, item) in paths.filter(|(path, _)| !WITHOUT_KEY.contains(&path.as_str())) {
        let methods = [
            &mut item.post,
            &mut item.put,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in methods.into_iter().flatten() {
            let declared = operation.parameters.get_or_insert_default();
            let there = format!("#/components/parameters/{PARAMETER}");
            declared.push(RefOr::Ref(Ref::new(there)));
        }
    }
}

fn parameter() -> Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_KEY_BYTES));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some(
            "A new one per request; the same one when the same request is sent again, which is \
             answered as the first time. With another body it is refused.",
        ))
        .schema(Some(text))
        .build()
}

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

/// What a request is known by besides its key: its method and path, and the digest of what it says.
pub(crate) struct Fingerprint {
    method_path: String,
    digest: [u8; 32],
}

impl Fingerprint {
    pub(crate) fn of(method: &str, path: &str, said: &[u8]) -> Self {
        Self {
            method_path: format!("{method} {path}"),
            digest: Sha256::digest(said).into(),
        }
    }
}

/// What an unsafe request came to.
pub(crate) enum Done<T> {
    /// It is done; the answer is kept with it.
    Kept(StatusCode, T),
    /// It was only tried: nothing stays, and the key may be used again.
    Undone(T),
    /// It is refused, and that it was asked for stays.
    Refused(ApiError),
}

impl<T> Done<T> {
    pub(crate) fn ok(answer: T) -> Self {
        Self::Kept(StatusCode::OK, answer)
    }

    /// Something new stands.
    pub(crate) fn created(answer: T) -> Self {
        Self::Kept(StatusCode::CREATED, answer)
    }

    /// Something will come of it.
    pub(crate) fn accepted(answer: T) -> Self {
        Self::Kept(StatusCode::ACCEPTED, answer)
    }
}

/// Acts once per key. What is done and the answer are committed in one transaction, in which `act`
/// says for whom it speaks before it touches anything; then workers hear of it.
pub(crate) async fn once<T: Serialize>(
    state: &AppState,
    caller: &Caller,
    key: &Key,
    fingerprint: &Fingerprint,
    act: impl AsyncFnOnce(&mut PgConnection) -> Result<Done<T>, ApiError>,
) -> Result<Response, ApiError> {
    let mut tx = state.begin_control().await?;
    let asked = Asked {
        token: caller.token_id,
        fingerprint,
        key: &key.0,
    };
    if let Some(answer) = asked.find(&mut tx).await? {
        return Ok(answer);
    }
    match act(&mut tx).await? {
        Done::Kept(status, answer) => {
            let response = asked.answer(&mut tx, status, &answer).await?;
            tx.commit().await?;
            state.client().ring();
            Ok(response)
        }
        Done::Undone(answer) => {
            tx.rollback().await?;
            Ok(Json(answer).into_response())
        }
        Done::Refused(error) => {
            tx.commit().await?;
            Err(error)
        }
    }
}

/// A request as it is known by.
struct Asked<'a> {
    token: Uuid,
    fingerprint: &'a Fingerprint,
    key: &'a str,
}

impl Asked<'_> {
    /// Finds the answer of the first time, and keeps others with the key out until the transaction,
    /// which acts as control, ends.
    async fn find(&self, conn: &mut PgConnection) -> Result<Option<Response>, ApiError> {
        let method_path = &self.fingerprint.method_path;
        let scope = format!("{}\n{method_path}\n{}", self.token, self.key);
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
            self.token,
            method_path,
            self.key,
        )
        .fetch_optional(conn)
        .await?;
        let Some(known) = known else {
            return Ok(None);
        };
        if known.fingerprint != self.fingerprint.digest {
            return Err(ApiError::KeyReused);
        }
        let status = u16::try_from(known.status).ok();
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let mut response = json_response(status.unwrap_or(StatusCode::OK), known.body);
        let replayed = HeaderValue::from_static("true");
        response.headers_mut().insert(REPLAYED, replayed);
        Ok(Some(response))
    }

    /// Keeps the answer in the transaction of its effect, and gives it.
    async fn answer<T: Serialize>(
        &self,
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
            self.token,
            self.fingerprint.method_path,
            self.key,
            self.fingerprint.digest.as_slice(),
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
