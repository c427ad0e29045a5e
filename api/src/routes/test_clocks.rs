//! Test clocks.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use tenure_client::{AdvanceAccepted, AdvanceTestClock, Problem, Role, TestClock, TestClockStatus};
use tenure_engine::ClockId;
use tenure_workflows::{DoorError, clock};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path};
use crate::idempotency::{Done, Key, once};
use crate::state::{AppState, see_as};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(advance))
}

/// Show where a test clock stands.
#[utoipa::path(get, path = "/v1/test-clocks/{test_clock_id}", tag = "Test clocks",
    params(("test_clock_id" = Uuid, Path)), responses(
    (status = 200, body = TestClock), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(clock_id): Path<ClockId>,
) -> Result<Json<TestClock>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_for(&caller).await?;
    let clock = clock::find(&mut tx, clock_id).await?;
    Ok(Json(TestClock {
        test_clock_id: clock_id.0,
        now: clock.now,
        status: if clock.target.is_some() {
            TestClockStatus::Advancing
        } else {
            TestClockStatus::Ready
        },
        target: clock.target,
    }))
}

/// Move a test clock forward, deadline by deadline; it is ready again when all is quiet.
#[utoipa::path(post, path = "/v1/test-clocks/{test_clock_id}/advance", tag = "Test clocks",
    params(("test_clock_id" = Uuid, Path)), request_body = AdvanceTestClock, responses(
    (status = 202, body = AdvanceAccepted), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn advance(
    State(state): State<AppState>,
    caller: Caller,
    Path(clock_id): Path<ClockId>,
    key: Key,
    body: Body<AdvanceTestClock>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        see_as(conn, &caller).await?;
        let now = clock::find(conn, clock_id).await?.now;
        let target = target(&body.value, now)?;
        let started = clock::advance(state.client(), conn, clock_id, target).await;
        let started = started.map_err(|error| of_what_was_given(&body.value, error))?;
        Ok(Done::accepted(AdvanceAccepted {
            run_id: started.run_id.0,
            target,
        }))
    })
    .await
}

/// Points at `by` where the target that came of it does not fit.
fn of_what_was_given(advance: &AdvanceTestClock, error: DoorError) -> DoorError {
    match error {
        DoorError::Malformed {
            field: "to",
            detail,
        } if advance.by.is_some() => DoorError::Malformed {
            field: "by",
            detail,
        },
        error => error,
    }
}

fn target(advance: &AdvanceTestClock, now: DateTime<Utc>) -> Result<DateTime<Utc>, ApiError> {
    match (advance.to, &advance.by) {
        (Some(to), None) => Ok(to),
        (None, Some(by)) => Ok(clock::target_after(now, by)?),
        _ => Err(ApiError::Invalid {
            pointer: String::new(),
            detail: "give either `to` (an instant) or `by` (such as 14d or 1mo)".to_owned(),
        }),
    }
}
