//! Usage: what the product reports of it.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use tenure_client::{
    Entitlement, EntitlementSource, Entitlements, Problem, ReportUsage, Role, Usage,
};
use tenure_engine::TenantId;
use tenure_workflows::usage::{self, Limit, Report, UsageRow};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{Caller, Presented};
use crate::entitlements::answer;
use crate::error::ApiError;
use crate::extract::{Body, Path};
use crate::idempotency::{Done, Key, once};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(report))
}

/// List how much of what it has a tenant uses, as its product reported it.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/usage", tag = "Entitlements",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<Usage>), (status = 404, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    token: Presented,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<Usage>>, ApiError> {
    caller.sees(tenant_id)?;
    let answer = answer(&state, &token, tenant_id).await?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let rows = usage::list(&mut tx, tenant_id).await?;
    let told = |row: UsageRow| {
        let limit = limit_of(&answer.entitled, &row.feature);
        to_json(row, limit)
    };
    Ok(Json(rows.into_iter().map(told).collect()))
}

/// Report how much of a feature a tenant uses now. At 80 and at 100 per cent of what it has, it is told
/// by mail, once in a period.
#[utoipa::path(put, path = "/v1/tenants/{tenant_id}/usage/{feature}", tag = "Entitlements",
    params(("tenant_id" = Uuid, Path), ("feature" = String, Path)), request_body = ReportUsage,
    responses((status = 200, body = Usage), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn report(
    State(state): State<AppState>,
    caller: Caller,
    token: Presented,
    Path((tenant_id, feature)): Path<(TenantId, String)>,
    key: Key,
    body: Body<ReportUsage>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    let answer = answer(&state, &token, tenant_id).await?;
    let limit = limit_of(&answer.entitled, &feature);
    let report = Report {
        feature,
        level: body.value.level,
        limit,
    };
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let row = usage::report(state.client(), conn, tenant_id, &report).await?;
        Ok(Done::ok(to_json(row, limit)))
    })
    .await
}

/// How much a tenant has of a feature, where that is a number.
fn limit_of(entitled: &Entitlements, feature: &str) -> Option<Limit> {
    let one: &Entitlement = entitled.features.get(feature)?;
    Some(Limit {
        limit: one.value.as_u64()?,
        subscription_id: match &one.source {
            Some(
                EntitlementSource::Plan {
                    subscription_id, ..
                }
                | EntitlementSource::AddOn {
                    subscription_id, ..
                },
            ) => Some(*subscription_id),
            _ => None,
        },
    })
}

fn to_json(row: UsageRow, limit: Option<Limit>) -> Usage {
    let level = u64::try_from(row.level).unwrap_or_default();
    let limit = limit.map(|limit| limit.limit);
    let share = |limit: u64| {
        let share = (u128::from(level) * 100).checked_div(u128::from(limit))?;
        u64::try_from(share).ok()
    };
    Usage {
        feature: row.feature,
        level,
        limit,
        percent: limit.and_then(share),
        reported_at: row.reported_at,
        told_percent: row.told.map(|told| told.percent),
        told_limit: row.told.map(|told| told.limit),
        told_period: row.told.map(|told| told.period),
    }
}
