//! Flow control: limits, pauses of more than one run, breakers.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use sqlx::PgConnection;
use tenure_client::{
    ActOnBreaker, ActOnPause, Breaker, BreakerSeen, FlowLimit, FlowRate, Pause, PauseScope,
    PauseSeen, Problem, Role, SetFlowLimit, SetTenantWeight, TenantWeight,
};
use tenure_engine::flow::{self, Author, BreakerLine, LimitLine, Numbers, PauseLine, Scope};
use tenure_engine::{Rate, TenantId, weight};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path};
use crate::idempotency::{Done, Key, once};
use crate::state::{AppState, as_engine};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(limits))
        .routes(routes!(set_limit))
        .routes(routes!(pauses, pause))
        .routes(routes!(lift))
        .routes(routes!(weights, set_weight))
        .routes(routes!(breakers))
        .routes(routes!(open_breaker))
        .routes(routes!(close_breaker))
}

/// List the limits, with the room that is taken and the runs that wait.
#[utoipa::path(get, path = "/v1/limits", tag = "Flow", responses(
    (status = 200, body = Vec<FlowLimit>), (status = 404, body = Problem)))]
async fn limits(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<FlowLimit>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_for(&caller).await?;
    let lines = flow::limits(&mut tx).await?;
    Ok(Json(lines.into_iter().map(limit).collect()))
}

/// Set a limit's numbers. They count at once, also for who waits. Refused when they are not those that
/// were seen, where that is said.
#[utoipa::path(post, path = "/v1/limits/{name}/actions/set", tag = "Flow",
    params(("name" = String, Path)), request_body = SetFlowLimit, responses(
    (status = 200, body = FlowLimit), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn set_limit(
    State(state): State<AppState>,
    caller: Caller,
    Path(name): Path<String>,
    key: Key,
    body: Body<SetFlowLimit>,
) -> Result<Response, ApiError> {
    let author = author(&caller, &body.value.reason);
    let asked = numbers(body.value.concurrency, body.value.rate);
    let seen = body.value.seen;
    decide(&state, &caller, &key, &body, async |conn| {
        if let Some(seen) = seen {
            let seen = numbers(seen.concurrency, seen.rate);
            flow::expect_limit(conn, &name, seen).await?;
        }
        flow::set_limit(conn, &name, asked, &author).await?;
        let lines = flow::limits(conn).await?;
        let line = lines.into_iter().find(|line| line.name == name);
        line.map(limit).ok_or(ApiError::Internal)
    })
    .await
}

fn numbers(concurrency: Option<u32>, rate: Option<FlowRate>) -> Numbers {
    Numbers {
        concurrency,
        rate: rate.map(|rate| Rate {
            count: rate.count,
            period_seconds: rate.period_seconds,
            burst: rate.burst,
        }),
    }
}

/// List the pauses of workflows, queues and tenants.
#[utoipa::path(get, path = "/v1/pauses", tag = "Flow", responses(
    (status = 200, body = Vec<Pause>), (status = 404, body = Problem)))]
async fn pauses(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<Pause>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_for(&caller).await?;
    Ok(Json(listed(&mut tx).await?))
}

/// Pause a workflow, a queue or a tenant: what becomes due is blocked, visits under way end as they
/// would. A pause that stands keeps its author and reason.
#[utoipa::path(post, path = "/v1/pauses", tag = "Flow", request_body = ActOnPause, responses(
    (status = 200, body = Vec<Pause>), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 422, body = Problem)))]
async fn pause(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<ActOnPause>,
) -> Result<Response, ApiError> {
    let author = author(&caller, &body.value.reason);
    let (scope, name) = (scope(body.value.scope), body.value.name.clone());
    let seen = body.value.seen.is_some();
    decide(&state, &caller, &key, &body, async |conn| {
        if seen {
            return Err(ApiError::Invalid {
                pointer: "/seen".to_owned(),
                detail: "a pause that stands keeps its author and reason; only to lift one, say \
                         which was seen"
                    .to_owned(),
            });
        }
        flow::pause(conn, state.client(), scope, &name, &author).await?;
        listed(conn).await
    })
    .await
}

/// Lift a pause: what was blocked under it goes on. Refused when another stands than was seen, where
/// that is said.
#[utoipa::path(post, path = "/v1/pauses/actions/lift", tag = "Flow", request_body = ActOnPause,
    responses((status = 200, body = Vec<Pause>), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn lift(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<ActOnPause>,
) -> Result<Response, ApiError> {
    let author = author(&caller, &body.value.reason);
    let (scope, name) = (scope(body.value.scope), body.value.name.clone());
    let seen = body.value.seen.as_ref().map(pause_seen);
    decide(&state, &caller, &key, &body, async |conn| {
        if let Some(seen) = &seen {
            flow::expect_pause(conn, scope, &name, seen).await?;
        }
        flow::lift(conn, scope, &name, &author).await?;
        listed(conn).await
    })
    .await
}

fn pause_seen(seen: &PauseSeen) -> flow::PauseSeen {
    flow::PauseSeen {
        since: seen.since,
        paused_by: seen.paused_by.clone(),
        reason: seen.reason.clone(),
    }
}

/// List the tenants whose weight is not 1, the heaviest first.
#[utoipa::path(get, path = "/v1/weights", tag = "Flow", responses(
    (status = 200, body = Vec<TenantWeight>), (status = 404, body = Problem)))]
async fn weights(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<TenantWeight>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_for(&caller).await?;
    as_engine(&mut tx).await?;
    Ok(Json(heavy(&mut tx).await?))
}

/// Give a tenant more turns than others when all have work due, or as many again. Workers hear of it
/// within seconds. Refused when its weight is not what was seen, where that is said.
#[utoipa::path(post, path = "/v1/weights", tag = "Flow", request_body = SetTenantWeight, responses(
    (status = 200, body = Vec<TenantWeight>), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn set_weight(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<SetTenantWeight>,
) -> Result<Response, ApiError> {
    let author = author(&caller, &body.value.reason);
    let (tenant, asked) = (TenantId(body.value.tenant_id), body.value.weight);
    let seen = body.value.seen;
    decide(&state, &caller, &key, &body, async |conn| {
        weight::set(conn, tenant, asked, seen, &author).await?;
        heavy(conn).await
    })
    .await
}

async fn heavy(conn: &mut PgConnection) -> Result<Vec<TenantWeight>, ApiError> {
    let found = weight::list(conn).await?;
    let shown = found.into_iter().map(|(tenant, weight)| TenantWeight {
        tenant_id: tenant.0,
        weight,
    });
    Ok(shown.collect())
}

/// List the breakers of outside dependencies that failed at least once.
#[utoipa::path(get, path = "/v1/breakers", tag = "Flow", responses(
    (status = 200, body = Vec<Breaker>), (status = 404, body = Problem)))]
async fn breakers(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<Breaker>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_for(&caller).await?;
    let lines = flow::breakers(&mut tx).await?;
    Ok(Json(lines.into_iter().map(breaker).collect()))
}

/// Hold a breaker open: steps on the dependency wait until it is closed by hand. Refused when it is not
/// as it was seen, where that is said.
#[utoipa::path(post, path = "/v1/breakers/{name}/actions/open", tag = "Flow",
    params(("name" = String, Path)), request_body = ActOnBreaker, responses(
    (status = 200, body = Breaker), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn open_breaker(
    State(state): State<AppState>,
    caller: Caller,
    Path(name): Path<String>,
    key: Key,
    body: Body<ActOnBreaker>,
) -> Result<Response, ApiError> {
    set_breaker(&state, &caller, &key, &body, (&name, true)).await
}

/// Close a breaker: who waits for the dependency goes on. Refused when it is not as it was seen, where
/// that is said.
#[utoipa::path(post, path = "/v1/breakers/{name}/actions/close", tag = "Flow",
    params(("name" = String, Path)), request_body = ActOnBreaker, responses(
    (status = 200, body = Breaker), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn close_breaker(
    State(state): State<AppState>,
    caller: Caller,
    Path(name): Path<String>,
    key: Key,
    body: Body<ActOnBreaker>,
) -> Result<Response, ApiError> {
    set_breaker(&state, &caller, &key, &body, (&name, false)).await
}

async fn set_breaker(
    state: &AppState,
    caller: &Caller,
    key: &Key,
    body: &Body<ActOnBreaker>,
    (name, open): (&str, bool),
) -> Result<Response, ApiError> {
    let author = author(caller, &body.value.reason);
    let seen = body.value.seen.as_ref().map(breaker_seen);
    decide(state, caller, key, body, async |conn| {
        if let Some(seen) = &seen {
            flow::expect_breaker(conn, name, seen).await?;
        }
        flow::set_breaker(conn, name, open, &author).await?;
        let lines = flow::breakers(conn).await?;
        let line = lines.into_iter().find(|line| line.name == name);
        line.map(breaker).ok_or(ApiError::Internal)
    })
    .await
}

fn breaker_seen(seen: &BreakerSeen) -> flow::BreakerSeen {
    flow::BreakerSeen {
        state: seen.state.clone(),
        forced: seen.forced,
        changed_by: seen.changed_by.clone(),
    }
}

/// Acts once per key in one transaction, then wakes whoever may go on.
async fn decide<B, T: Serialize>(
    state: &AppState,
    caller: &Caller,
    key: &Key,
    body: &Body<B>,
    act: impl AsyncFnOnce(&mut PgConnection) -> Result<T, ApiError>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let response = once(state, caller, key, &body.fingerprint, async |conn| {
        as_engine(conn).await?;
        Ok(Done::ok(act(conn).await?))
    })
    .await?;
    if let Err(error) = flow::open(state.client()).await {
        tracing::warn!(error = %error, "blocked runs are woken by the next sweep");
    }
    Ok(response)
}

pub(super) fn author(caller: &Caller, reason: &str) -> Author {
    Author {
        actor: caller.name.clone(),
        role: caller.role.as_str().to_owned(),
        reason: reason.to_owned(),
    }
}

/// Who does what changes something unless it is a dry run, which alone needs no reason.
pub(super) fn author_unless(
    dry_run: bool,
    caller: &Caller,
    reason: Option<&str>,
) -> Result<Author, ApiError> {
    let reason = reason.unwrap_or_default();
    if !dry_run && reason.trim().is_empty() {
        return Err(ApiError::Invalid {
            pointer: "/reason".to_owned(),
            detail: "say why; only a dry run needs no reason".to_owned(),
        });
    }
    Ok(author(caller, reason))
}

async fn listed(conn: &mut PgConnection) -> Result<Vec<Pause>, ApiError> {
    let lines = flow::pauses(conn).await?;
    Ok(lines.into_iter().filter_map(one_pause).collect())
}

fn one_pause(line: PauseLine) -> Option<Pause> {
    Some(Pause {
        scope: PauseScope::parse(&line.scope)?,
        name: line.name,
        since: line.since,
        paused_by: line.paused_by,
        reason: line.reason,
        waiting: line.waiting,
    })
}

fn scope(asked: PauseScope) -> Scope {
    match asked {
        PauseScope::Workflow => Scope::Workflow,
        PauseScope::Queue => Scope::Queue,
        PauseScope::Tenant => Scope::Tenant,
    }
}

fn limit(line: LimitLine) -> FlowLimit {
    FlowLimit {
        name: line.name,
        concurrency: line.numbers.concurrency,
        rate: line.numbers.rate.map(|rate| FlowRate {
            count: rate.count,
            period_seconds: rate.period_seconds,
            burst: rate.burst,
        }),
        in_use: line.in_use,
        waiting: line.waiting,
        changed_at: line.changed_at,
        changed_by: line.changed_by,
        reason: line.reason,
    }
}

fn breaker(line: BreakerLine) -> Breaker {
    Breaker {
        name: line.name,
        state: line.state.to_owned(),
        forced: line.forced,
        changed_at: line.changed_at,
        probe_at: line.probe_at,
        reason: line.reason,
        changed_by: line.changed_by,
        waiting: line.waiting,
    }
}
