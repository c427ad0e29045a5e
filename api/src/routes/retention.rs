//! Retention of finished runs, and legal holds.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use sqlx::PgConnection;
use tenure_client::{
    LegalHold, LegalHoldFilter, LiftLegalHold, Page, PlaceLegalHold, Problem, PutRetention,
    RetentionAction, RetentionPolicy, Role,
};
use tenure_engine::retention::{self, Hold, HoldFilter, Policy, Retention, Scope};
use tenure_engine::{RunId, TenantId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{cursor, page, page_size};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Fingerprint, Key, once};
use crate::state::{AppState, as_engine};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put))
        .routes(routes!(list_holds, place))
        .routes(routes!(lift))
}

/// List how long the finished runs of each workflow are kept.
#[utoipa::path(get, path = "/v1/retention", tag = "Retention", responses(
    (status = 200, body = Vec<RetentionPolicy>), (status = 401, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<RetentionPolicy>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_for(&caller).await?;
    let found = retention::policies(&mut tx, state.client().registry()).await?;
    Ok(Json(found.into_iter().map(answer).collect()))
}

/// Decide how long the finished runs of a workflow are kept, over what its code declares. What is
/// past its time by then goes within hours.
#[utoipa::path(put, path = "/v1/retention/{workflow}", tag = "Retention",
    params(("workflow" = String, Path)), request_body = PutRetention, responses(
    (status = 200, body = RetentionPolicy), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn put(
    State(state): State<AppState>,
    caller: Caller,
    Path(workflow): Path<String>,
    key: Key,
    body: Body<PutRetention>,
) -> Result<Response, ApiError> {
    let asked = body.value;
    let retention = Retention::from_parts(asked.action.as_str(), asked.keep_days);
    let retention = retention.map_err(|detail| ApiError::Invalid {
        pointer: "/keep_days".to_owned(),
        detail,
    })?;
    let act = caller.act(asked.reason, 0);
    decide(&state, &caller, &key, &body.fingerprint, async |conn| {
        let registry = state.client().registry();
        let decided = retention::decide(conn, registry, &workflow, retention, &act).await?;
        Ok(Done::ok(answer(decided)))
    })
    .await
}

/// List legal holds, newest first.
#[utoipa::path(get, path = "/v1/legal-holds", tag = "Retention", params(LegalHoldFilter), responses(
    (status = 200, body = Page<LegalHold>), (status = 400, body = Problem)))]
async fn list_holds(
    State(state): State<AppState>,
    caller: Caller,
    Query(filter): Query<LegalHoldFilter>,
) -> Result<Json<Page<LegalHold>>, ApiError> {
    let limit = page_size(filter.limit)?;
    let after = cursor::<Uuid>(filter.cursor.as_deref())?;
    let wanted = HoldFilter {
        tenant_id: filter.tenant_id.map(TenantId),
        run_id: filter.run_id.map(RunId),
    };
    let mut tx = state.begin_for(&caller).await?;
    let rows = retention::holds(&mut tx, &wanted, after, limit).await?;
    let last = rows.last().map(|row| row.hold_id.to_string());
    let items = rows.into_iter().map(hold).collect();
    Ok(Json(page(items, last, limit)))
}

/// Place a legal hold on a tenant or a run: from the answer on nothing of it is dropped.
#[utoipa::path(post, path = "/v1/legal-holds", tag = "Retention", request_body = PlaceLegalHold,
    responses((status = 201, body = LegalHold), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn place(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<PlaceLegalHold>,
) -> Result<Response, ApiError> {
    let asked = body.value;
    let scope = match (asked.tenant_id, asked.run_id) {
        (Some(tenant), None) => Scope::Tenant(TenantId(tenant)),
        (None, Some(run)) => Scope::Run(RunId(run)),
        _ => {
            return Err(ApiError::Invalid {
                pointer: "/tenant_id".to_owned(),
                detail: "give either tenant_id or run_id".to_owned(),
            });
        }
    };
    let act = caller.act(asked.reason, 0);
    decide(&state, &caller, &key, &body.fingerprint, async |conn| {
        let placed = retention::place(conn, scope, &act).await?;
        Ok(Done::created(hold(placed)))
    })
    .await
}

/// Lift a legal hold. What is past its time by then goes within hours.
#[utoipa::path(delete, path = "/v1/legal-holds/{hold_id}", tag = "Retention",
    params(("hold_id" = Uuid, Path), LiftLegalHold), responses(
    (status = 200, body = LegalHold), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn lift(
    State(state): State<AppState>,
    caller: Caller,
    Path(hold_id): Path<Uuid>,
    key: Key,
    Query(asked): Query<LiftLegalHold>,
) -> Result<Response, ApiError> {
    let path = format!("/v1/legal-holds/{hold_id}");
    let fingerprint = Fingerprint::of("DELETE", &path, asked.reason.as_bytes());
    let act = caller.act(asked.reason, 0);
    decide(&state, &caller, &key, &fingerprint, async |conn| {
        let lifted = retention::lift(conn, hold_id, &act).await?;
        Ok(Done::ok(hold(lifted)))
    })
    .await
}

/// Decides on what stays, once per key. A tenant does not decide on what is kept of it.
async fn decide<T: Serialize>(
    state: &AppState,
    caller: &Caller,
    key: &Key,
    fingerprint: &Fingerprint,
    act: impl AsyncFnOnce(&mut PgConnection) -> Result<Done<T>, ApiError>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    once(state, caller, key, fingerprint, async |conn| {
        as_engine(conn).await?;
        act(conn).await
    })
    .await
}

fn answer(found: Policy) -> RetentionPolicy {
    let (changed_by, changed_at, reason) = match found.decided {
        Some(one) => (Some(one.by), Some(one.at), Some(one.reason)),
        None => (None, None, None),
    };
    RetentionPolicy {
        workflow: found.workflow,
        action: match found.retention {
            Retention::Keep => RetentionAction::Keep,
            Retention::Drop(_) => RetentionAction::Drop,
            Retention::Archive(_) => RetentionAction::Archive,
        },
        keep_days: found.retention.days(),
        changed_by,
        changed_at,
        reason,
    }
}

/// A hold as the API shows it.
pub(super) fn hold(found: Hold) -> LegalHold {
    LegalHold {
        hold_id: found.hold_id,
        tenant_id: found.tenant_id.0,
        run_id: found.run_id.map(|run| run.0),
        since: found.since,
        author: found.author,
        reason: found.reason,
    }
}
