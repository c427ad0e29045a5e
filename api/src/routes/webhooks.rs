//! The webhook door: verified on the raw bytes, stored, answered at once.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use tenure_client::Problem;
use tenure_engine::SYSTEM_TENANT;
use tenure_workflows::ports::signature;
use tenure_workflows::webhook::{self, Received};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;
use crate::metrics;
use crate::state::AppState;

/// The most bytes of a delivery.
const MAX_DELIVERY_BYTES: usize = 256 * 1024;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(stripe))
        .layer(DefaultBodyLimit::max(MAX_DELIVERY_BYTES))
}

/// Take a delivery of Stripe's. Repeats and disorder are harmless.
#[utoipa::path(post, path = "/v1/webhooks/stripe", tag = "Webhooks", security(()),
    request_body(content = String, content_type = "application/json"), responses(
    (status = 200, description = "Stored, now or before"), (status = 400, body = Problem),
    (status = 413, body = Problem), (status = 503, body = Problem)))]
async fn stripe(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let received = take(&state, &headers, body).await;
    let outcome = match &received {
        Ok(Received::Mapped) => "mapped",
        Ok(Received::Repeated) => "repeated",
        Ok(Received::Ignored) => "ignored",
        Ok(Received::Quarantined(_)) => "quarantined",
        Err(error) if error.blames_caller() => "refused",
        Err(_) => "failed",
    };
    metrics::webhook_event(outcome, 1);
    match received? {
        Received::Mapped => state.client().ring(),
        Received::Quarantined(reason) => {
            tracing::warn!(reason, "a webhook event was quarantined");
        }
        Received::Repeated | Received::Ignored => {}
    }
    Ok(StatusCode::OK)
}

/// Verifies a delivery and stores it.
async fn take(
    state: &AppState,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Received, ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge(MAX_DELIVERY_BYTES),
        _ => crate::extract::body_error(&rejection),
    })?;
    let mut tx = state.begin().await?;
    // The system tenant follows real time, by the database's clock.
    let now = tenure_engine::tenant::now(&mut tx, SYSTEM_TENANT).await?;
    let header = headers.get("stripe-signature");
    let header = header
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    signature::verify(header, &body, state.webhook_secrets(), now).map_err(|error| {
        ApiError::BadRequest {
            code: "bad_signature",
            detail: error.to_string(),
        }
    })?;
    let received = webhook::receive(state.client(), &mut tx, &body).await?;
    tx.commit().await?;
    Ok(received)
}
