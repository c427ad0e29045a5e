//! A product's databases: their data maps, and where each tenant's rows are.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use tenure_client::{
    DataMapVersion, LoadDataMap, Page, Place, Placement, PlacementFilter, PlacementStatus, Problem,
    ProductSource, Role, TenancyModel,
};
use tenure_engine::TenantId;
use tenure_workflows::data_map::Model;
use tenure_workflows::product::{self, ProductError, door, maps};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{cursor, page, page_size};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Key, once};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_sources))
        .routes(routes!(list_maps, load_map))
        .routes(routes!(list))
        .routes(routes!(find, set))
}

/// List the product's databases that the configuration names.
#[utoipa::path(get, path = "/v1/sources", tag = "Placements", responses(
    (status = 200, body = Vec<ProductSource>), (status = 401, body = Problem)))]
async fn list_sources(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<ProductSource>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_control().await?;
    let mut sources = Vec::new();
    for name in state.products().names() {
        let map = match maps::current(&mut tx, name).await {
            Ok(map) => Some(map),
            Err(ProductError::NoMap(_)) => None,
            Err(error) => return Err(error.into()),
        };
        sources.push(ProductSource {
            source: name.to_owned(),
            model: map.as_ref().map(|map| model(map.map.model)),
            map_version: map.map(|map| map.version),
        });
    }
    Ok(Json(sources))
}

/// List the versions of a source's data map, newest first.
#[utoipa::path(get, path = "/v1/sources/{source}/data-maps", tag = "Placements",
    params(("source" = String, Path)), responses(
    (status = 200, body = Vec<DataMapVersion>), (status = 404, body = Problem)))]
async fn list_maps(
    State(state): State<AppState>,
    caller: Caller,
    Path(source): Path<String>,
) -> Result<Json<Vec<DataMapVersion>>, ApiError> {
    caller.sees_all()?;
    state.products().get(&source)?;
    let mut tx = state.begin_control().await?;
    let versions = maps::list(&mut tx, &source).await?;
    Ok(Json(versions.into_iter().map(version).collect()))
}

/// Load a data map as the newest version of a source's, if it says what the database holds. Jobs
/// that are under way keep the version that they began with.
#[utoipa::path(post, path = "/v1/sources/{source}/data-maps", tag = "Placements",
    params(("source" = String, Path)), request_body = LoadDataMap, responses(
    (status = 200, body = DataMapVersion), (status = 201, body = DataMapVersion),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn load_map(
    State(state): State<AppState>,
    caller: Caller,
    Path(source): Path<String>,
    key: Key,
    body: Body<LoadDataMap>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let LoadDataMap { text, unchecked } = body.value;
    let sources = state.products();
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_control(conn).await?;
        let author = &caller.name;
        match maps::load(conn, sources, &source, &text, unchecked, author).await? {
            maps::Loaded::Version { version: made, new } => Ok(match new {
                true => Done::created(version(made)),
                false => Done::ok(version(made)),
            }),
            maps::Loaded::Findings(findings) => Err(ApiError::Invalid {
                pointer: "/text".to_owned(),
                detail: told(&findings),
            }),
        }
    })
    .await
}

/// The first findings; all of them are what `tenure data-map check` is for.
fn told(findings: &[tenure_workflows::data_map::Finding]) -> String {
    let some = findings.iter().take(10).map(|one| {
        let column = one.column.as_ref().map(|column| format!(".{column}"));
        format!(
            "{}{}: {}",
            one.table,
            column.unwrap_or_default(),
            one.detail
        )
    });
    let some: Vec<String> = some.collect();
    format!(
        "it does not say what the database holds, in {} places: {}; `tenure data-map check` tells all",
        findings.len(),
        some.join("; ")
    )
}

/// List placements, by tenant.
#[utoipa::path(get, path = "/v1/placements", tag = "Placements", params(PlacementFilter), responses(
    (status = 200, body = Page<Placement>), (status = 400, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(filter): Query<PlacementFilter>,
) -> Result<Json<Page<Placement>>, ApiError> {
    caller.sees_all()?;
    let limit = page_size(filter.limit)?;
    let after = cursor::<TenantId>(filter.cursor.as_deref())?;
    let mut tx = state.begin_control().await?;
    let rows = door::list(&mut tx, filter.source.as_deref(), after, limit).await?;
    let last = rows.last().map(|row| row.tenant.to_string());
    let items = rows.into_iter().map(placement).collect();
    Ok(Json(page(items, last, limit)))
}

/// Tell where a tenant's rows are, and what may be done with them. A product that routes its
/// requests by it writes nothing while the status is `frozen` or `provisioning`.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/placement", tag = "Placements",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Placement), (status = 404, body = Problem)))]
async fn find(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant): Path<Uuid>,
) -> Result<Json<Placement>, ApiError> {
    let tenant = TenantId(tenant);
    caller.sees(tenant)?;
    let mut tx = state.begin_tenant(tenant).await?;
    Ok(Json(placement(door::find(&mut tx, tenant).await?)))
}

/// Say where a tenant's rows are already. Nothing is made or moved.
#[utoipa::path(put, path = "/v1/tenants/{tenant_id}/placement", tag = "Placements",
    params(("tenant_id" = Uuid, Path)), request_body = Place, responses(
    (status = 200, body = Placement), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn set(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant): Path<Uuid>,
    key: Key,
    body: Body<Place>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let place = read_place(body.value, "")?;
    let sources = state.products();
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_control(conn).await?;
        let set = door::set(conn, sources, TenantId(tenant), &place).await?;
        Ok(Done::ok(placement(set)))
    })
    .await
}

/// A place as it was asked for; `under` is the pointer to it.
fn read_place(asked: Place, under: &str) -> Result<product::Place, ApiError> {
    let model = Model::from_word(asked.model.as_str()).ok_or_else(|| ApiError::Invalid {
        pointer: format!("{under}/model"),
        detail: "one of shared, schema, database".to_owned(),
    })?;
    Ok(product::Place {
        model,
        source: asked.source,
        database: asked.database,
        schema: asked.schema,
        key: asked.key,
    })
}

fn model(model: Model) -> TenancyModel {
    match model {
        Model::Shared => TenancyModel::Shared,
        Model::Schema => TenancyModel::Schema,
        Model::Database => TenancyModel::Database,
    }
}

fn place(place: product::Place) -> Place {
    Place {
        model: model(place.model),
        source: place.source,
        database: place.database,
        schema: place.schema,
        key: place.key,
    }
}

fn placement(found: product::Placement) -> Placement {
    Placement {
        tenant_id: found.tenant.0,
        place: place(found.place),
        status: match found.status {
            product::PlacementStatus::Provisioning => PlacementStatus::Provisioning,
            product::PlacementStatus::Active => PlacementStatus::Active,
            product::PlacementStatus::Moving => PlacementStatus::Moving,
            product::PlacementStatus::Frozen => PlacementStatus::Frozen,
            product::PlacementStatus::Cleaning => PlacementStatus::Cleaning,
        },
        other: found.other.map(place),
        run_id: found.held_by.map(|run| run.0),
        revision: found.revision,
        placed_at: found.placed_at,
    }
}

fn version(version: maps::MapVersion) -> DataMapVersion {
    DataMapVersion {
        source: version.source,
        version: version.version,
        hash: version.hash,
        loaded_by: version.loaded_by,
        loaded_at: version.loaded_at,
    }
}
