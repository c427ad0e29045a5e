//! The webhook door: verified on the raw bytes, stored, answered at once. And what came through it,
//! for people to look at and to play again.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tenure_client::{Problem, ReplayWebhookEvent, Role, WebhookEvent, WebhookEventFilter};
use tenure_engine::SYSTEM_TENANT;
use tenure_workflows::ports::signature;
use tenure_workflows::webhook::{self, EventRow, Received};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::audit::note;
use super::flow::author;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Key, once};
use crate::metrics;
use crate::state::AppState;

/// The most bytes of a delivery.
const MAX_DELIVERY_BYTES: usize = 256 * 1024;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(stripe))
        .layer(DefaultBodyLimit::max(MAX_DELIVERY_BYTES))
        .routes(routes!(list))
        .routes(routes!(replay))
}

/// The most events of a list.
const MOST_EVENTS: i64 = 200;

/// List what the payment provider told, the latest first; at most 200.
#[utoipa::path(get, path = "/v1/webhook-events", tag = "Webhooks", params(WebhookEventFilter),
    responses((status = 200, body = Vec<WebhookEvent>), (status = 403, body = Problem),
    (status = 422, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(filter): Query<WebhookEventFilter>,
) -> Result<Json<Vec<WebhookEvent>>, ApiError> {
    caller.require(Role::Support)?;
    caller.sees_all()?;
    let status = filter.status.as_deref();
    let known = ["mapped", "ignored", "quarantined"];
    if let Some(unknown) = status.filter(|status| !known.contains(status)) {
        return Err(ApiError::Invalid {
            pointer: "/status".to_owned(),
            detail: format!(
                "{unknown:?} is no status of an event; it is one of {}",
                known.join(", ")
            ),
        });
    }
    let mut tx = state.begin().await?;
    let rows = webhook::list(&mut tx, status, MOST_EVENTS).await?;
    Ok(Json(rows.into_iter().map(to_json).collect()))
}

/// Play an event again, as if it came now: whoever it is for looks once more.
#[utoipa::path(post, path = "/v1/webhook-events/{event_id}/replay", tag = "Webhooks",
    params(("event_id" = String, Path)), request_body = ReplayWebhookEvent, responses(
    (status = 200, body = WebhookEvent), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn replay(
    State(state): State<AppState>,
    caller: Caller,
    Path(event_id): Path<String>,
    key: Key,
    body: Body<ReplayWebhookEvent>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees_all()?;
    let author = author(&caller, &body.value.reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let (before, after) = webhook::replay(state.client(), conn, &event_id).await?;
        let (before, after) = (to_json(before), to_json(after));
        let of = (None, &event_id);
        note(
            conn,
            &author,
            "replay webhook event",
            of,
            Some(&before),
            &after,
        )
        .await?;
        Ok(Done::ok(after))
    })
    .await
}

fn to_json(row: EventRow) -> WebhookEvent {
    WebhookEvent {
        event_id: row.event_id,
        event_type: row.event_type,
        status: row.status,
        reason: row.reason,
        deliveries: row.deliveries,
        listed: row.listed,
        tries: row.tries,
        next_try_at: row.next_try_at,
        received_at: row.received_at,
    }
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
