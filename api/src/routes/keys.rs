//! Keys that seal tenants' payloads.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use sqlx::PgConnection;
use tenure_client::{DataKey, DestroyKeys, KeysRewrapped, Problem, RewrapKeys, Role, RotateKey};
use tenure_engine::TenantId;
use tenure_engine::seal;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::flow::author;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Fingerprint, Key, once};
use crate::state::{AppState, as_engine};

/// The most keys that one call wraps anew.
const MAX_REWRAPPED: u32 = 1_000;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, rotate, destroy))
        .routes(routes!(rewrap))
}

/// List the versions of the key that seals a tenant's payloads, oldest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/keys", tag = "Keys",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<DataKey>), (status = 403, body = Problem),
    (status = 404, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<Uuid>,
) -> Result<Json<Vec<DataKey>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_for(&caller).await?;
    as_engine(&mut tx).await?;
    let found = seal::list(&mut tx, TenantId(tenant_id)).await?;
    Ok(Json(found.into_iter().map(answer).collect()))
}

/// Make a new version of a tenant's key. It seals two minutes later, when every process has read it.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/keys", tag = "Keys",
    params(("tenant_id" = Uuid, Path)), request_body = RotateKey, responses(
    (status = 201, body = Vec<DataKey>), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn rotate(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<Uuid>,
    key: Key,
    body: Body<RotateKey>,
) -> Result<Response, ApiError> {
    let tenant = TenantId(tenant_id);
    let author = author(&caller, &body.value.reason);
    act_once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let keyring = state.client().registry().keyring();
        seal::rotate(conn, keyring, tenant, &author).await?;
        let found = seal::list(conn, tenant).await?;
        Ok(Done::created(
            found.into_iter().map(answer).collect::<Vec<_>>(),
        ))
    })
    .await
}

/// Destroy all versions of a tenant's key: nothing that they sealed can be read any more. Refused
/// while runs of the tenant have not ended or a legal hold stands on it. There is no way back.
#[utoipa::path(delete, path = "/v1/tenants/{tenant_id}/keys", tag = "Keys",
    params(("tenant_id" = Uuid, Path), DestroyKeys), responses(
    (status = 200, body = Vec<DataKey>), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn destroy(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<Uuid>,
    key: Key,
    Query(asked): Query<DestroyKeys>,
) -> Result<Response, ApiError> {
    let path = format!("/v1/tenants/{tenant_id}/keys");
    let fingerprint = Fingerprint::of("DELETE", &path, asked.reason.as_bytes());
    let tenant = TenantId(tenant_id);
    let author = author(&caller, &asked.reason);
    act_once(&state, &caller, &key, &fingerprint, async |conn| {
        seal::destroy(conn, tenant, &author).await?;
        let found = seal::list(conn, tenant).await?;
        Ok(Done::ok(found.into_iter().map(answer).collect::<Vec<_>>()))
    })
    .await
}

/// Wrap keys anew that another master key than the current one wraps. Call it until it says none;
/// then the old master key can go.
#[utoipa::path(post, path = "/v1/keys/actions/rewrap", tag = "Keys", request_body = RewrapKeys,
    responses((status = 200, body = KeysRewrapped), (status = 403, body = Problem),
    (status = 422, body = Problem), (status = 503, body = Problem)))]
async fn rewrap(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<RewrapKeys>,
) -> Result<Response, ApiError> {
    let limit = body.value.limit;
    if !(1..=MAX_REWRAPPED).contains(&limit) {
        return Err(ApiError::Invalid {
            pointer: "/limit".to_owned(),
            detail: format!("1 to {MAX_REWRAPPED} at a time"),
        });
    }
    let author = author(&caller, &body.value.reason);
    act_once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let keyring = state.client().registry().keyring();
        let rewrapped = seal::rewrap(conn, keyring, limit, &author).await?;
        Ok(Done::ok(KeysRewrapped { rewrapped }))
    })
    .await
}

/// Does something to keys, once per idempotency key. A tenant does not do it to its own.
async fn act_once<T: Serialize>(
    state: &AppState,
    caller: &Caller,
    key: &Key,
    fingerprint: &Fingerprint,
    act: impl AsyncFnOnce(&mut PgConnection) -> Result<Done<T>, ApiError>,
) -> Result<Response, ApiError> {
    caller.require(Role::Admin)?;
    caller.sees_all()?;
    once(state, caller, key, fingerprint, async |conn| {
        as_engine(conn).await?;
        act(conn).await
    })
    .await
}

fn answer(found: seal::DataKey) -> DataKey {
    DataKey {
        version: found.version,
        master_key: found.master_key,
        created_at: found.created_at,
        usable_at: found.usable_at,
        destroyed_at: found.destroyed_at,
    }
}
