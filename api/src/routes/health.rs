//! Whether the process lives, and whether it can serve.

use axum::extract::State;
use axum::http::StatusCode;
use tenure_client::Problem;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
}

/// Say that the process lives.
#[utoipa::path(get, path = "/livez", tag = "Health", security(()), responses(
    (status = 200, description = "It lives")))]
async fn livez() -> StatusCode {
    StatusCode::OK
}

/// Say whether requests can be served: the database answers and the process is not draining.
#[utoipa::path(get, path = "/readyz", tag = "Health", security(()), responses(
    (status = 200, description = "It can"), (status = 503, body = Problem)))]
async fn readyz(State(state): State<AppState>) -> Result<StatusCode, ApiError> {
    if state.is_draining() {
        return Err(ApiError::Draining);
    }
    let mut tx = state.begin().await?;
    tenure_engine::tenant::now(&mut tx, tenure_engine::SYSTEM_TENANT).await?;
    Ok(StatusCode::OK)
}
