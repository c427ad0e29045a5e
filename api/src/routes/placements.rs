//! A product's databases: their data maps, and where each tenant's rows are.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use sqlx::PgConnection;
use tenure_client::{
    ApplyMigration, BackOutPlacement, DataMapVersion, LoadDataMap, MigrationOutcome,
    MigrationPlace, MovePlacement, Page, Place, Placement, PlacementFilter, PlacementStatus,
    Problem, ProductMigration, ProductSource, ProvisionPlacement, Role, SetPlacement, TenancyModel,
};
use tenure_engine::TenantId;
use tenure_engine::flow::Author;
use tenure_workflows::data_map::Model;
use tenure_workflows::placement::{self, door as act};
use tenure_workflows::product::{self, ProductError, door, maps};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::audit::note;
use super::flow::author;
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
        .routes(routes!(provision))
        .routes(routes!(begin_move))
        .routes(routes!(back_out))
        .routes(routes!(list_migrations, migrate))
        .routes(routes!(find_migration))
        .routes(routes!(list_migration_places))
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
    params(("tenant_id" = Uuid, Path)), request_body = SetPlacement, responses(
    (status = 200, body = Placement), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn set(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant): Path<Uuid>,
    key: Key,
    body: Body<SetPlacement>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let SetPlacement { place, reason } = body.value;
    let place = read_place(place, "/place")?;
    let (sources, author) = (state.products(), author(&caller, &reason));
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_control(conn).await?;
        let set = placement(door::set(conn, sources, TenantId(tenant), &place).await?);
        note_placement(conn, &author, "set placement", &set).await?;
        Ok(Done::ok(set))
    })
    .await
}

/// Make a place for a tenant that has none, with the product's own SQL; or take one that is there.
/// It becomes the tenant's once it is as its data map says.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/placement/provision", tag = "Placements",
    params(("tenant_id" = Uuid, Path)), request_body = ProvisionPlacement, responses(
    (status = 202, body = Placement), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn provision(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant): Path<Uuid>,
    key: Key,
    body: Body<ProvisionPlacement>,
) -> Result<Response, ApiError> {
    let ProvisionPlacement { place, sql, reason } = body.value;
    allow(&caller, sql.is_some())?;
    let place = read_place(place, "/place")?;
    let (client, sources) = (state.client(), state.products());
    let author = author(&caller, &reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let (wanted, sql) = ((TenantId(tenant), &place), sql.as_deref());
        let made = act::provision(client, conn, sources, wanted, sql, &author.actor).await?;
        let made = placement(made);
        note_placement(conn, &author, "provision placement", &made).await?;
        Ok(Done::accepted(made))
    })
    .await
}

/// SQL of the caller's is run in the product's database, which only admins may do.
fn allow(caller: &Caller, brings_sql: bool) -> Result<(), ApiError> {
    let least = if brings_sql {
        Role::Admin
    } else {
        Role::Operator
    };
    caller.require(least)?;
    caller.sees_all()
}

/// Begin to move a tenant to another place, while it works. It is read only for the last part of
/// it, until it has switched.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/placement/move", tag = "Placements",
    params(("tenant_id" = Uuid, Path)), request_body = MovePlacement, responses(
    (status = 202, body = Placement), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn begin_move(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant): Path<Uuid>,
    key: Key,
    body: Body<MovePlacement>,
) -> Result<Response, ApiError> {
    let asked = body.value;
    allow(&caller, asked.sql.is_some())?;
    let author = author(&caller, &asked.reason);
    let new = act::NewMove {
        to: read_place(asked.to, "/to")?,
        sql: asked.sql,
        keep_hours: asked.keep_hours.unwrap_or(24),
        batch: asked.batch.unwrap_or(500),
        author: caller.name.clone(),
        reason: asked.reason,
    };
    let (client, sources) = (state.client(), state.products());
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let moving = act::begin_move(client, conn, sources, TenantId(tenant), &new).await?;
        let moving = placement(moving);
        note_placement(conn, &author, "move placement", &moving).await?;
        Ok(Done::accepted(moving))
    })
    .await
}

/// Ask a move to leave the tenant where it is. It can be, until it has switched.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/placement/back-out", tag = "Placements",
    params(("tenant_id" = Uuid, Path)), request_body = BackOutPlacement, responses(
    (status = 202, body = Placement), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn back_out(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant): Path<Uuid>,
    key: Key,
    body: Body<BackOutPlacement>,
) -> Result<Response, ApiError> {
    allow(&caller, false)?;
    let (client, author) = (state.client(), author(&caller, &body.value.reason));
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let moving = placement(act::back_out(client, conn, TenantId(tenant)).await?);
        note_placement(conn, &author, "back out of move", &moving).await?;
        Ok(Done::accepted(moving))
    })
    .await
}

/// Notes in the audit what became of where a tenant's rows are.
async fn note_placement(
    conn: &mut PgConnection,
    author: &Author,
    action: &str,
    after: &Placement,
) -> Result<(), ApiError> {
    let of = (Some(TenantId(after.tenant_id)), after.tenant_id);
    note(conn, author, action, of, None, after).await
}

/// List the product's migrations, newest first.
#[utoipa::path(get, path = "/v1/product-migrations", tag = "Placements", responses(
    (status = 200, body = Vec<ProductMigration>), (status = 401, body = Problem)))]
async fn list_migrations(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<ProductMigration>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_control().await?;
    let rows = act::list_migrations(&mut tx, MOST).await?;
    Ok(Json(rows.into_iter().map(migration).collect()))
}

/// The most migrations, or places of one, that are listed.
const MOST: i64 = 1_000;

/// Begin to apply a migration of the product at every place that a tenant's rows are in, some at a
/// time. Asked for again, it is applied where it is not; one place's failure stops no other.
#[utoipa::path(post, path = "/v1/product-migrations", tag = "Placements",
    request_body = ApplyMigration, responses(
    (status = 202, body = ProductMigration), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn migrate(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<ApplyMigration>,
) -> Result<Response, ApiError> {
    allow(&caller, true)?;
    let asked = body.value;
    let author = author(&caller, &asked.reason);
    let new = placement::Migration {
        version: asked.version,
        sql: asked.sql,
        sources: asked.sources,
        at_most: asked.at_most.unwrap_or(8),
        author: caller.name.clone(),
        reason: asked.reason,
    };
    let (client, sources) = (state.client(), state.products());
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let begun = migration(act::migrate(client, conn, sources, &new).await?);
        let of = (None, &begun.version);
        note(conn, &author, "apply migration", of, None, &begun).await?;
        Ok(Done::accepted(begun))
    })
    .await
}

/// Tell how far a migration is.
#[utoipa::path(get, path = "/v1/product-migrations/{version}", tag = "Placements",
    params(("version" = String, Path)), responses(
    (status = 200, body = ProductMigration), (status = 404, body = Problem)))]
async fn find_migration(
    State(state): State<AppState>,
    caller: Caller,
    Path(version): Path<String>,
) -> Result<Json<ProductMigration>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_control().await?;
    Ok(Json(migration(
        act::find_migration(&mut tx, &version).await?,
    )))
}

/// List what came of a migration at its places, what is not applied first; of more than a thousand,
/// the first.
#[utoipa::path(get, path = "/v1/product-migrations/{version}/places", tag = "Placements",
    params(("version" = String, Path)), responses(
    (status = 200, body = Vec<MigrationPlace>), (status = 404, body = Problem)))]
async fn list_migration_places(
    State(state): State<AppState>,
    caller: Caller,
    Path(version): Path<String>,
) -> Result<Json<Vec<MigrationPlace>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_control().await?;
    let rows = act::migration_places(&mut tx, &version, MOST).await?;
    let places = rows.into_iter().map(|row| MigrationPlace {
        source: row.source,
        place: row.place,
        tenant_id: row.tenant.map(|tenant| tenant.0),
        outcome: match row.outcome {
            placement::Outcome::Pending => MigrationOutcome::Pending,
            placement::Outcome::Applied => MigrationOutcome::Applied,
            placement::Outcome::Refused => MigrationOutcome::Refused,
        },
        detail: row.detail,
        changed_at: row.changed_at,
    });
    Ok(Json(places.collect()))
}

fn migration(row: placement::MigrationRow) -> ProductMigration {
    ProductMigration {
        version: row.version,
        hash: row.hash,
        author: row.author,
        reason: row.reason,
        run_id: row.run.0,
        loaded_at: row.loaded_at,
        pending: row.pending,
        applied: row.applied,
        refused: row.refused,
    }
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
