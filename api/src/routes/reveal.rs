//! Runs, for seeing what is private.

use axum::Json;
use axum::extract::State;
use tenure_client::{Problem, RevealField, RevealedField, Role};
use tenure_engine::{EngineError, RunId, inspect, operator};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path};
use crate::state::{AppState, as_engine};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(reveal))
}

/// Show one private field of a run, which everybody else is shown a mask for. Who saw which field and why
/// is written into the audit, each time; what it holds is kept nowhere.
#[utoipa::path(post, path = "/v1/runs/{run_id}/reveal", tag = "Runs", params(("run_id" = Uuid, Path)),
    request_body = RevealField, responses(
    (status = 200, body = RevealedField), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn reveal(
    State(state): State<AppState>,
    caller: Caller,
    Path(run_id): Path<RunId>,
    body: Body<RevealField>,
) -> Result<Json<RevealedField>, ApiError> {
    caller.require(Role::Support)?;
    let RevealField { field, reason } = body.value;
    let registry = state.client().registry();
    // Seen as the caller, so that another tenant's run is not found; noted as the engine.
    let mut tx = state.begin_for(&caller).await?;
    inspect::tenant_of(&mut tx, run_id).await?;
    as_engine(&mut tx).await?;
    let act = caller.act(reason, 0);
    let value = operator::reveal(&mut tx, registry, run_id, &field, &act).await;
    let value = value.map_err(|error| match &error {
        EngineError::Malformed { what: "field", .. } => ApiError::Invalid {
            pointer: "/field".to_owned(),
            detail: error.to_string(),
        },
        _ => error.into(),
    })?;
    tx.commit().await?;
    Ok(Json(RevealedField { field, value }))
}
