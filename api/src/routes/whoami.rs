//! Who asks.

use axum::Json;
use axum::extract::State;
use tenure_client::{Problem, Whoami};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(whoami))
}

/// Say whose token this is and what it may do.
#[utoipa::path(get, path = "/v1/whoami", tag = "Tokens", responses(
    (status = 200, body = Whoami), (status = 401, body = Problem)))]
async fn whoami(State(state): State<AppState>, caller: Caller) -> Json<Whoami> {
    Json(Whoami {
        token_name: caller.name,
        role: caller.role,
        tenant_id: caller.tenant.map(|tenant| tenant.0),
        environment: state.environment().to_owned(),
    })
}
