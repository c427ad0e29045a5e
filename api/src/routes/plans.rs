//! The catalogue.

use axum::Json;
use axum::extract::State;
use tenure_client::{Money, Plan, Problem};
use tenure_workflows::catalog::{self, Entry, Published};
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

/// List the plans that can be subscribed to, with their prices.
#[utoipa::path(get, path = "/v1/plans", tag = "Catalogue", responses(
    (status = 200, body = Vec<Plan>), (status = 401, body = Problem)))]
async fn list(State(state): State<AppState>, _caller: Caller) -> Result<Json<Vec<Plan>>, ApiError> {
    let mut tx = state.begin_control().await?;
    let entries = catalog::list(&mut tx).await?;
    Ok(Json(entries.into_iter().filter_map(plan).collect()))
}

fn plan(published: Published) -> Option<Plan> {
    let Entry::Plan(terms) = published.entry else {
        return None;
    };
    let price = |(currency, amount)| money(tenure_workflows::money::Money::new(amount, currency));
    (!published.retired).then(|| Plan {
        plan: published.key,
        version: published.version,
        name: terms.name,
        interval: terms.interval.to_string(),
        trial_days: i32::try_from(terms.trial.days).unwrap_or(i32::MAX),
        prices: terms.prices.into_iter().map(price).collect(),
    })
}
