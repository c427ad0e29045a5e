//! Retention of finished runs, and legal holds.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
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

use super::{cursor, page_size};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Key, Seen, look_up};
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
    let request = Request {
        state: &state,
        caller: &caller,
        key: &key,
        method_path: &body.method_path,
        digest: &body.digest,
    };
    request
        .once(StatusCode::OK, async |conn| {
            let registry = state.client().registry();
            let decided = retention::decide(conn, registry, &workflow, retention, &act).await?;
            Ok(answer(decided))
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
    let full = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
    let last = rows.last().map(|row| row.hold_id.to_string());
    Ok(Json(Page {
        next_cursor: last.filter(|_| full),
        items: rows.into_iter().map(hold).collect(),
    }))
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
    let request = Request {
        state: &state,
        caller: &caller,
        key: &key,
        method_path: &body.method_path,
        digest: &body.digest,
    };
    request
        .once(StatusCode::CREATED, async |conn| {
            Ok(hold(retention::place(conn, scope, &act).await?))
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
    let digest = Sha256::digest(&asked.reason).into();
    let act = caller.act(asked.reason, 0);
    let request = Request {
        state: &state,
        caller: &caller,
        key: &key,
        method_path: &format!("DELETE /v1/legal-holds/{hold_id}"),
        digest: &digest,
    };
    request
        .once(StatusCode::OK, async |conn| {
            Ok(hold(retention::lift(conn, hold_id, &act).await?))
        })
        .await
}

/// A decision on what stays, as it was asked for.
struct Request<'a> {
    state: &'a AppState,
    caller: &'a Caller,
    key: &'a Key,
    method_path: &'a str,
    digest: &'a [u8; 32],
}

impl Request<'_> {
    /// Decides once per key, in one transaction. A tenant does not decide on what is kept of it.
    async fn once<T: Serialize>(
        self,
        status: StatusCode,
        act: impl AsyncFnOnce(&mut PgConnection) -> Result<T, ApiError>,
    ) -> Result<Response, ApiError> {
        self.caller.require(Role::Operator)?;
        self.caller.sees_all()?;
        let mut tx = self.state.begin().await?;
        let (caller, key) = (self.caller, self.key);
        let fresh = match look_up(&mut tx, caller, key, self.method_path, self.digest).await? {
            Seen::Before(answer) => return Ok(answer),
            Seen::Not(fresh) => fresh,
        };
        as_engine(&mut tx).await?;
        let answer = act(&mut tx).await?;
        let response = fresh.answer(&mut tx, status, &answer).await?;
        tx.commit().await?;
        Ok(response)
    }
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
