//! The catalogue.

use axum::Json;
use axum::extract::State;
use tenure_client::{Money, Plan, Problem};
use tenure_workflows::calendar::Interval;
use tenure_workflows::catalog;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

pub(super) fn money(money: tenure_workflows::money::Money) -> Money {
    Money {
        amount: money.amount(),
        currency: money.currency().to_string(),
    }
}

/// List the plans with their prices.
#[utoipa::path(get, path = "/v1/plans", tag = "Catalogue", responses(
    (status = 200, body = Vec<Plan>), (status = 401, body = Problem)))]
async fn list(State(state): State<AppState>, _caller: Caller) -> Result<Json<Vec<Plan>>, ApiError> {
    let mut tx = state.begin_control().await?;
    let plans = catalog::list(&mut tx).await?;
    Ok(Json(plans.into_iter().map(plan).collect()))
}

fn plan(plan: catalog::Plan) -> Plan {
    Plan {
        plan: plan.plan,
        name: plan.name,
        interval: match plan.interval {
            Interval::Month => tenure_client::Interval::Month,
            Interval::Year => tenure_client::Interval::Year,
        },
        trial_days: i32::try_from(plan.trial_days).unwrap_or(i32::MAX),
        prices: plan.prices.into_iter().map(money).collect(),
    }
}
