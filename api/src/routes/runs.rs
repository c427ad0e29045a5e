//! Runs, for acting: start and signal.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use tenure_client::{
    GatherStarts, Problem, Role, RunDetail, RunPriority, SendSignal, SignalAccepted, StartRun,
};
use tenure_engine::{
    EngineError, Gather, Priority, RunId, StartOptions, TenantId, inspect, operator,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::runs_view::detail;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path};
use crate::idempotency::{Done, Key, once};
use crate::state::{AppState, as_engine, see_as};
use crate::trace;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(signal))
}

/// Start a run of any workflow. The same key with the same input returns the first run.
#[utoipa::path(post, path = "/v1/runs", tag = "Runs", request_body = StartRun, responses(
    (status = 201, body = RunDetail), (status = 200, body = RunDetail), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 413, body = Problem), (status = 422, body = Problem)))]
async fn start(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<StartRun>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    let tenant = TenantId(body.value.tenant_id);
    caller.sees(tenant)?;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant).await?;
        let StartRun {
            workflow,
            key,
            input,
            priority,
            start_at,
            gather,
            ..
        } = &body.value;
        if gather.is_some() && (priority.is_some() || start_at.is_some()) {
            return Err(ApiError::Invalid {
                pointer: "/gather".to_owned(),
                detail: "starts that are gathered have their workflow's priority and a time of their own"
                    .to_owned(),
            });
        }
        let options = StartOptions {
            priority: priority.map(priority_of),
            at: *start_at,
        };
        let (client, name) = (state.client(), (workflow.as_str(), key.as_str()));
        let started = match gather {
            Some(gather) => {
                as_engine(conn).await?;
                let gather = gather_of(gather);
                let started = client.start_gathered_named(conn, tenant, name, input, gather);
                started.await?
            }
            None => client.start_named(conn, tenant, name, input, options).await?,
        };
        trace::tell_run(tenant, started.run_id);
        let found = inspect::detail(conn, state.client().registry(), started.run_id).await?;
        let answer = detail(found, state.client().registry(), &caller);
        Ok(if started.created {
            Done::created(answer)
        } else {
            Done::ok(answer)
        })
    })
    .await
}

fn gather_of(asked: &GatherStarts) -> Gather {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    match *asked {
        GatherStarts::Debounce {
            quiet_seconds,
            at_most_seconds,
        } => Gather::Debounce {
            quiet: seconds(quiet_seconds),
            at_most: seconds(at_most_seconds),
        },
        GatherStarts::Batch {
            size,
            at_most_seconds,
        } => Gather::Batch {
            size,
            at_most: seconds(at_most_seconds),
        },
    }
}

fn priority_of(asked: RunPriority) -> Priority {
    match asked {
        RunPriority::Highest => Priority::Highest,
        RunPriority::High => Priority::High,
        RunPriority::Normal => Priority::Normal,
        RunPriority::Low => Priority::Low,
        RunPriority::Lowest => Priority::Lowest,
    }
}

/// Send a run a signal; the run takes each signal id once. With a reason it is a person's act, and
/// recorded as one.
#[utoipa::path(post, path = "/v1/runs/{run_id}/signals", tag = "Runs",
    params(("run_id" = Uuid, Path)), request_body = SendSignal, responses(
    (status = 202, body = SignalAccepted), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn signal(
    State(state): State<AppState>,
    caller: Caller,
    Path(run_id): Path<RunId>,
    key: Key,
    body: Body<SendSignal>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        see_as(conn, &caller).await?;
        let tenant = inspect::tenant_of(conn, run_id).await?;
        let SendSignal {
            id, signal, reason, ..
        } = &body.value;
        let client = state.client();
        let sent = match reason {
            Some(reason) => {
                as_engine(conn).await?;
                let act = caller.act(reason.clone(), 0);
                operator::signal(conn, client.registry(), run_id, id, signal, &act).await
            }
            None => {
                let sent = client.signal_named(conn, tenant, run_id, id, signal);
                sent.await.map(drop)
            }
        };
        match sent {
            Ok(()) => Ok(Done::accepted(SignalAccepted {
                run_id: run_id.0,
                signal_id: id.clone(),
            })),
            // Kept where people can see it.
            Err(late @ EngineError::RunFinished { .. }) => Ok(Done::Refused(late.into())),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
