//! The routes: one file a resource, each offering `router()`.

mod actions;
mod audit;
mod backfills;
mod bulk;
mod deletions;
mod dunning;
mod entitlements;
mod exports;
mod filter;
mod flow;
mod health;
mod holds;
mod invoices;
mod keeping;
mod keys;
mod mails;
mod placements;
mod plans;
mod retention;
mod reveal;
mod runs;
mod runs_view;
mod schedules;
mod subscriptions;
mod tenants;
mod test_clocks;
mod usage;
mod webhooks;
mod whoami;
mod workflows;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tenure_client::Page;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::field::Empty;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use crate::error::{ApiError, DatabaseAway};
use crate::extract::MAX_BODY_BYTES;
use crate::idempotency;
use crate::state::AppState;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a request may take; the database's own limits are shorter.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tenure",
        description = "Durable lifecycles of SaaS products: tenants, subscriptions, invoices, runs. \
                       Every unsafe request takes an Idempotency-Key. Errors are problem documents \
                       (RFC 9457).",
        license(name = "MIT OR Apache-2.0")
    ),
    components(schemas(tenure_client::Problem)),
    security(("bearer" = []))
)]
struct Document;

fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(whoami::router())
        .merge(plans::router())
        .merge(tenants::router())
        .merge(holds::router())
        .merge(dunning::router())
        .merge(subscriptions::router())
        .merge(entitlements::router())
        .merge(usage::router())
        .merge(invoices::router())
        .merge(mails::router())
        .merge(test_clocks::router())
        .merge(workflows::router())
        .merge(runs::router())
        .merge(runs_view::router())
        .merge(actions::router())
        .merge(reveal::router())
        .merge(bulk::router())
        .merge(schedules::router())
        .merge(flow::router())
        .merge(keys::router())
        .merge(audit::router())
        .merge(retention::router())
        .merge(placements::router())
        .merge(backfills::router())
        .merge(keeping::router())
        .merge(exports::router())
        .merge(deletions::router())
        .merge(webhooks::router())
        .merge(health::router())
}

/// The API's description, as `/openapi.json` serves it and `docs/openapi.json` keeps it.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (_, mut document) = routes().split_for_parts();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    idempotency::describe(&mut document);
    document
}

/// Puts the API together.
pub fn app(state: AppState) -> Router {
    let (router, _) = routes().split_for_parts();
    let document = axum::Json(openapi());
    let middleware = ServiceBuilder::new()
        .layer(middleware::from_fn(crate::hear_out::hear_out))
        .layer(middleware::from_fn(crate::metrics::count_request))
        .layer(SetRequestIdLayer::new(REQUEST_ID, NewRequestId))
        // An error is logged once, where it becomes an answer.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_failure(()),
        )
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(middleware::from_fn(crate::trace::tell_request))
        .layer(middleware::from_fn_with_state(state.clone(), shed_broken))
        .layer(middleware::from_fn(finish_problems))
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::Internal.into_response()
        }))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            TIMEOUT,
        ))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    router
        .route(
            "/openapi.json",
            axum::routing::get(async move || document.clone()),
        )
        .fallback(async || ApiError::NotFound("no such path; see /openapi.json".to_owned()))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(middleware)
        .with_state(state)
}

fn span(request: &Request) -> tracing::Span {
    let id = request
        .extensions()
        .get::<RequestId>()
        .and_then(|id| id.header_value().to_str().ok())
        .unwrap_or_default();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched", MatchedPath::as_str);
    let traceparent = request.headers().get("traceparent");
    let span = tracing::info_span!(
        "request",
        request.id = id,
        http.request.method = %request.method(),
        http.route = route,
        traceparent = traceparent.and_then(|value| value.to_str().ok()),
        tenant.id = Empty,
        run.id = Empty,
    );
    crate::trace::continue_trace(&span, request.headers());
    span
}

#[derive(Clone)]
struct NewRequestId;

impl MakeRequestId for NewRequestId {
    fn make_request_id<B>(&mut self, _request: &axum::http::Request<B>) -> Option<RequestId> {
        let id = tenure_engine::random_uuid().to_string();
        id.parse().ok().map(RequestId::new)
    }
}

/// After the first request that meets a connection that broke, none that comes later meets another
/// of the same outage.
async fn shed_broken(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.extensions().get::<DatabaseAway>().is_some() {
        state.shed_broken();
    }
    response
}

/// Writes request id and path into problem documents, and turns bare errors into them.
async fn finish_problems(request: Request, next: Next) -> Response {
    let id = request
        .extensions()
        .get::<RequestId>()
        .and_then(|id| id.header_value().to_str().ok())
        .map(str::to_owned);
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status();
    if status.is_success() || status.is_informational() || status.is_redirection() {
        return response;
    }
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"));
    let response = if is_problem {
        response
    } else {
        bare_error(status).into_response()
    };
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        return ApiError::Internal.into_response();
    };
    let Ok(mut problem) = serde_json::from_slice::<tenure_client::Problem>(&bytes) else {
        return ApiError::Internal.into_response();
    };
    problem.request_id = id;
    problem.instance = Some(path);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body.into())
}

/// What a layer below answered without a problem document.
fn bare_error(status: StatusCode) -> ApiError {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge(MAX_BODY_BYTES),
        StatusCode::METHOD_NOT_ALLOWED => ApiError::MethodNotAllowed,
        StatusCode::NOT_FOUND => ApiError::NotFound("no such path".to_owned()),
        StatusCode::SERVICE_UNAVAILABLE => ApiError::Database(sqlx::Error::PoolTimedOut),
        status if status.is_client_error() => ApiError::BadRequest {
            code: "bad_request",
            detail: format!("the request cannot be read ({status})"),
        },
        _ => ApiError::Internal,
    }
}

/// The most items of a page.
const MAX_PAGE: u32 = 200;

/// Checks a page's size; 50 when none is given.
fn page_size(limit: Option<u32>) -> Result<i64, ApiError> {
    match limit.unwrap_or(50) {
        limit @ 1..=MAX_PAGE => Ok(i64::from(limit)),
        limit => Err(ApiError::BadRequest {
            code: "invalid_query",
            detail: format!("limit is {limit}; a page has 1 to {MAX_PAGE} items"),
        }),
    }
}

/// A page of a list. One that is full may have another after it, whose cursor is `last`.
fn page<T>(items: Vec<T>, last: Option<String>, limit: i64) -> Page<T> {
    let full = i64::try_from(items.len()).is_ok_and(|count| count == limit);
    Page {
        next_cursor: last.filter(|_| full),
        items,
    }
}

/// Reads a cursor, which is the id of the last item of the page before.
fn cursor<T: std::str::FromStr>(cursor: Option<&str>) -> Result<Option<T>, ApiError> {
    cursor
        .map(|text| {
            text.parse().map_err(|_| ApiError::BadRequest {
                code: "invalid_query",
                detail: "cursor: take it from next_cursor of the page before".to_owned(),
            })
        })
        .transpose()
}
