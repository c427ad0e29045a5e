//! The catalogue.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use tenure_client::{
    CatalogChange, CatalogEntry, CatalogPublished, Money, Plan, PlanSeats, PlanSuccessor, Problem,
    PublishCatalog, Role,
};
use tenure_workflows::catalog::{self, Change, Entry, PlanTerms, Prices, Published};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::audit::note;
use super::flow::author_unless;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Key, once};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_versions))
        .routes(routes!(show, publish))
}

pub(super) fn money(money: tenure_workflows::money::Money) -> Money {
    Money {
        amount: money.amount(),
        currency: money.currency().to_string(),
    }
}

/// List the plans that can be subscribed to, with all that they offer.
#[utoipa::path(get, path = "/v1/plans", tag = "Catalogue", responses(
    (status = 200, body = Vec<Plan>), (status = 401, body = Problem)))]
async fn list(State(state): State<AppState>, _caller: Caller) -> Result<Json<Vec<Plan>>, ApiError> {
    let mut tx = state.begin_control().await?;
    let entries = catalog::list(&mut tx).await?;
    let offered = entries.into_iter().filter(|entry| !entry.retired);
    Ok(Json(offered.filter_map(plan).collect()))
}

/// List all versions of a plan, newest first. Subscriptions keep the one that they were made at.
#[utoipa::path(get, path = "/v1/plans/{plan}/versions", tag = "Catalogue",
    params(("plan" = String, Path)), responses(
    (status = 200, body = Vec<Plan>), (status = 401, body = Problem), (status = 404, body = Problem)))]
async fn list_versions(
    State(state): State<AppState>,
    _caller: Caller,
    Path(key): Path<String>,
) -> Result<Json<Vec<Plan>>, ApiError> {
    let mut tx = state.begin_control().await?;
    let versions = catalog::list_versions(&mut tx, &key).await?;
    Ok(Json(versions.into_iter().filter_map(plan).collect()))
}

/// Show the current version of every plan, add-on, coupon and legal entity, also of those that are
/// retired.
#[utoipa::path(get, path = "/v1/catalog", tag = "Catalogue", responses(
    (status = 200, body = Vec<CatalogEntry>), (status = 401, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<CatalogEntry>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_control().await?;
    let entries = catalog::list(&mut tx).await?;
    let entries = entries.into_iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Json(entries))
}

/// Publish a catalogue: what differs from its current version becomes a new one, and what is not
/// named stays as it is. An entry is retired by publishing it with `"retired": true`; a legal entity
/// only once no tenant has it.
#[utoipa::path(post, path = "/v1/catalog", tag = "Catalogue", params(PublishCatalog),
    request_body(content = Object, description = "A catalogue, as its file holds it"), responses(
    (status = 200, body = CatalogPublished), (status = 403, body = Problem),
    (status = 422, body = Problem)))]
async fn publish(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    Query(asked): Query<PublishCatalog>,
    body: Body<Value>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let entries = catalog::from_value(body.value)?;
    let dry_run = asked.dry_run.unwrap_or(false);
    let author = author_unless(dry_run, &caller, asked.reason.as_deref())?;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_control(conn).await?;
        let changes = catalog::publish(conn, &entries).await?;
        let published = CatalogPublished {
            dry_run,
            entries: changes.into_iter().map(change).collect(),
        };
        if dry_run {
            return Ok(Done::Undone(published));
        }
        let changed = published.entries.iter().filter(|entry| entry.new);
        let changed: Vec<&CatalogChange> = changed.collect();
        if !changed.is_empty() {
            let of = (None, "catalogue");
            note(conn, &author, "publish catalogue", of, None, &changed).await?;
        }
        Ok(Done::ok(published))
    })
    .await
}

fn change(change: Change) -> CatalogChange {
    CatalogChange {
        kind: change.kind.to_owned(),
        key: change.key,
        version: change.version,
        new: change.new,
        retired: change.retired,
        changed: change.changed,
    }
}

fn entry(published: Published) -> Result<CatalogEntry, ApiError> {
    Ok(CatalogEntry {
        kind: published.entry.kind().to_owned(),
        terms: (published.entry.to_terms()).map_err(|_| ApiError::Internal)?,
        key: published.key,
        version: published.version,
        retired: published.retired,
        published_at: published.published_at,
    })
}

fn plan(published: Published) -> Option<Plan> {
    let Entry::Plan(terms) = published.entry else {
        return None;
    };
    let PlanTerms { trial, seats, .. } = terms;
    Some(Plan {
        plan: published.key,
        name: terms.name,
        version: published.version,
        retired: published.retired,
        published_at: published.published_at,
        product: terms.product,
        interval: terms.interval.to_string(),
        billing: word(terms.billing),
        activation: word(terms.activation),
        proration: word(terms.proration),
        periods: terms.periods,
        trial_days: i32::try_from(trial.days).unwrap_or(i32::MAX),
        trial_without_method: word(trial.without_method),
        trial_prices: amounts(trial.prices),
        prices: amounts(terms.prices),
        seats: seats.map(|seats| PlanSeats {
            included: seats.included,
            most: seats.most,
            prices: amounts(seats.prices),
        }),
        setup_fee: amounts(terms.setup_fee),
        add_ons: terms.add_ons,
        features: terms.features,
        successor: terms.successor.map(|successor| PlanSuccessor {
            plan: successor.plan,
            from: successor.from,
        }),
    })
}

fn amounts(prices: Prices) -> Vec<Money> {
    prices
        .into_iter()
        .map(|(currency, amount)| money(tenure_workflows::money::Money::new(amount, currency)))
        .collect()
}

/// The word that a choice has in a catalogue's file.
fn word(choice: impl Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}
