//! Entitlements, and what support gives in place of them.

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sqlx::PgConnection;
use tenure_client::{
    ClearOverride, EntitlementOverride, Entitlements, FeatureEntitlement, Problem, Role,
    SetOverride,
};
use tenure_engine::TenantId;
use tenure_engine::audit::{self, Deed};
use tenure_engine::flow::Author;
use tenure_workflows::entitlement::{self, NewOverride, Override};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::flow::author;
use crate::auth::{Caller, Presented};
use crate::entitlements::{Tagged, answer, to_json};
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Fingerprint, Key, once};
use crate::state::{AppState, as_engine};

/// Whoever keeps an answer asks whether it still is the same before each use.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(list_overrides))
        .routes(routes!(set, clear))
}

/// Tell which features and limits a tenant has now, and why. With `If-None-Match` and the `ETag` of
/// an earlier answer it is 304 while nothing is different.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/entitlements", tag = "Entitlements",
    params(("tenant_id" = Uuid, Path), ("if-none-match" = Option<String>, Header)), responses(
    (status = 200, body = Entitlements, headers(("etag" = String))), (status = 304),
    (status = 401, body = Problem), (status = 404, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    token: Presented,
    Path(tenant_id): Path<TenantId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let answer = answer(&state, &token, tenant_id).await?;
    Ok(respond(&headers, answer.body.clone()))
}

/// Tell what a tenant has of one feature. One that nothing names is not refused: its value is null,
/// and its reason `DEFAULT`.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/entitlements/{feature}", tag = "Entitlements",
    params(("tenant_id" = Uuid, Path), ("feature" = String, Path),
    ("if-none-match" = Option<String>, Header)), responses(
    (status = 200, body = FeatureEntitlement, headers(("etag" = String))), (status = 304),
    (status = 401, body = Problem), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    token: Presented,
    Path((tenant_id, feature)): Path<(TenantId, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let answer = answer(&state, &token, tenant_id).await?;
    let entitled = &answer.entitled;
    let found = entitled.features.get(&feature).cloned();
    let told = Tagged::json(&FeatureEntitlement {
        feature,
        entitlement: found.unwrap_or_else(|| to_json(entitlement::Entitlement::none())),
        valid_until: entitled.valid_until,
    })?;
    Ok(respond(&headers, told))
}

/// The answer, or that it is the one that the caller has.
fn respond(asked: &HeaderMap, told: Tagged) -> Response {
    let known = asked.get_all(header::IF_NONE_MATCH).iter();
    let known = known.filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|tags| tags.split(',')).map(str::trim);
    // A weak tag is as good here (RFC 9110, 13.1.2).
    let is_this = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == told.etag;
    let mut response = if known.any(is_this) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], HttpBody::from(told.body)).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, told.etag);
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    response
}

/// List what support gives a tenant in place of what it has bought, also what has expired.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/overrides", tag = "Entitlements",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<EntitlementOverride>), (status = 404, body = Problem)))]
async fn list_overrides(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<EntitlementOverride>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let found = entitlement::list(&mut tx, tenant_id).await?;
    Ok(Json(found.into_iter().map(of_override).collect()))
}

/// Give a tenant a value of a feature in place of what it has bought, for a time or until it is
/// cleared. It counts at once.
#[utoipa::path(put, path = "/v1/tenants/{tenant_id}/overrides/{feature}", tag = "Entitlements",
    params(("tenant_id" = Uuid, Path), ("feature" = String, Path)), request_body = SetOverride,
    responses((status = 200, body = EntitlementOverride), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn set(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, feature)): Path<(TenantId, String)>,
    key: Key,
    body: Body<SetOverride>,
) -> Result<Response, ApiError> {
    may_override(&caller)?;
    let asked = body.value;
    let author = author(&caller, &asked.reason);
    let new = NewOverride {
        feature,
        value: asked.value,
        reason: asked.reason,
        expires_at: asked.expires_at,
    };
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let before = entitlement::find(conn, tenant_id, &new.feature).await?;
        let set = entitlement::set(conn, tenant_id, &new, &author.actor).await?;
        let change = Change {
            before: before.map(of_override),
            after: Some(of_override(set.clone())),
        };
        note(conn, &author, tenant_id, &change).await?;
        Ok(Done::ok(of_override(set)))
    })
    .await
}

/// Take an override away: what the tenant has bought counts again, at once.
#[utoipa::path(delete, path = "/v1/tenants/{tenant_id}/overrides/{feature}", tag = "Entitlements",
    params(("tenant_id" = Uuid, Path), ("feature" = String, Path), ClearOverride), responses(
    (status = 200, body = EntitlementOverride), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn clear(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, feature)): Path<(TenantId, String)>,
    key: Key,
    Query(asked): Query<ClearOverride>,
) -> Result<Response, ApiError> {
    may_override(&caller)?;
    let path = format!("/v1/tenants/{tenant_id}/overrides/{feature}");
    let fingerprint = Fingerprint::of("DELETE", &path, asked.reason.as_bytes());
    let author = author(&caller, &asked.reason);
    once(&state, &caller, &key, &fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let cleared = entitlement::clear(conn, tenant_id, &feature).await?;
        let change = Change {
            before: Some(of_override(cleared.clone())),
            after: None,
        };
        note(conn, &author, tenant_id, &change).await?;
        Ok(Done::ok(of_override(cleared)))
    })
    .await
}

/// Support decides, and no tenant on its own.
fn may_override(caller: &Caller) -> Result<(), ApiError> {
    caller.require(Role::Support)?;
    caller.sees_all()
}

/// How an override stood, and how it stands.
struct Change {
    before: Option<EntitlementOverride>,
    after: Option<EntitlementOverride>,
}

/// Notes a change in the audit; the transaction acts as the engine afterwards.
async fn note(
    conn: &mut PgConnection,
    author: &Author,
    tenant: TenantId,
    change: &Change,
) -> Result<(), ApiError> {
    let json = |one: &Option<EntitlementOverride>| {
        serde_json::to_value(one).map_err(|_| ApiError::Internal)
    };
    let action = match change.after {
        Some(_) => "set override",
        None => "clear override",
    };
    let deed = Deed {
        action,
        subject: &tenant.to_string(),
        tenant: Some(tenant),
        before: json(&change.before)?,
        after: json(&change.after)?,
    };
    as_engine(conn).await?;
    Ok(audit::note(conn, author, &deed).await?)
}

fn of_override(one: Override) -> EntitlementOverride {
    EntitlementOverride {
        feature: one.feature,
        value: one.value,
        reason: one.reason,
        author: one.author,
        set_at: one.set_at,
        expires_at: one.expires_at,
    }
}
