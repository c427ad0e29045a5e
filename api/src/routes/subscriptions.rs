//! Subscriptions.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use tenure_client::{
    CancelSubscription, CancelWhen, NewSubscription, Problem, Role, SignalAccepted, Subscription,
    SubscriptionStatus,
};
use tenure_engine::TenantId;
use tenure_workflows::subscription::rules::DisplayStatus;
use tenure_workflows::subscription::{self, SubscriptionRow};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::plans::money;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path};
use crate::idempotency::{Done, Key, once};
use crate::state::AppState;
use crate::trace;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show))
        .routes(routes!(cancel))
}

/// Subscribe a tenant to a plan. The same `key` again returns the first subscription.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/subscriptions", tag = "Subscriptions",
    params(("tenant_id" = Uuid, Path)), request_body = NewSubscription, responses(
    (status = 201, body = Subscription), (status = 200, body = Subscription),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<NewSubscription>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    let new = subscription::NewSubscription {
        plan: body.value.plan,
        currency: body.value.currency,
        key: body.value.key,
    };
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let (row, status, created) =
            subscription::create(state.client(), conn, tenant_id, &new).await?;
        trace::tell_run(tenant_id, row.run_id);
        let answer = to_json(row, status);
        Ok(if created {
            Done::created(answer)
        } else {
            Done::ok(answer)
        })
    })
    .await
}

/// List a tenant's subscriptions, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/subscriptions", tag = "Subscriptions",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<Subscription>), (status = 404, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<Subscription>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let rows = subscription::list(&mut tx, tenant_id).await?;
    let rows = rows.into_iter().map(|(row, status)| to_json(row, status));
    Ok(Json(rows.collect()))
}

/// Show one subscription.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/subscriptions/{subscription_id}",
    tag = "Subscriptions", params(("tenant_id" = Uuid, Path), ("subscription_id" = Uuid, Path)),
    responses((status = 200, body = Subscription), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, subscription_id)): Path<(TenantId, Uuid)>,
) -> Result<Json<Subscription>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let (row, status) = subscription::find(&mut tx, tenant_id, subscription_id).await?;
    Ok(Json(to_json(row, status)))
}

/// End a subscription, now or with what is paid for.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/cancel",
    tag = "Subscriptions", params(("tenant_id" = Uuid, Path), ("subscription_id" = Uuid, Path)),
    request_body = CancelSubscription, responses((status = 202, body = SignalAccepted),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, subscription_id)): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<CancelSubscription>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    let when = match body.value.when {
        CancelWhen::PeriodEnd => subscription::CancelWhen::PeriodEnd,
        CancelWhen::Now => subscription::CancelWhen::Now,
    };
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let signal_id = tenure_engine::random_uuid().to_string();
        let sent = subscription::cancel(
            state.client(),
            conn,
            tenant_id,
            subscription_id,
            &signal_id,
            when,
        )
        .await?;
        Ok(Done::accepted(SignalAccepted {
            run_id: sent.run_id.0,
            signal_id,
        }))
    })
    .await
}

fn to_json(row: SubscriptionRow, status: DisplayStatus) -> Subscription {
    Subscription {
        subscription_id: row.subscription_id,
        run_id: row.run_id.0,
        tenant_id: row.tenant_id.0,
        plan: row.plan,
        status: match status {
            DisplayStatus::Incomplete => SubscriptionStatus::Incomplete,
            DisplayStatus::Trialing => SubscriptionStatus::Trialing,
            DisplayStatus::Active => SubscriptionStatus::Active,
            DisplayStatus::PastDue => SubscriptionStatus::PastDue,
            DisplayStatus::Ending => SubscriptionStatus::Ending,
            DisplayStatus::Ended => SubscriptionStatus::Ended,
        },
        price: money(row.price),
        trial_ends_at: row.trial_ends_at,
        period_start: row.period.map(|period| period.start),
        period_end: row.period.map(|period| period.end),
        cancel_at: row.cancel_at,
        ended_at: row.ended_at,
        end_reason: row.end_reason,
    }
}
