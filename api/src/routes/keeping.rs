//! How long a product's rows are kept: policies, holds, sweeps, archives, restores.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use tenure_client::{
    DataArchive, DataArchiveFilter, DataHold, DataHoldFilter, DataJob, KeepingPolicy, LiftDataHold,
    LoadKeepingPolicy, Page, PlaceDataHold, Problem, Role, StartRestore, StartSweep,
};
use tenure_engine::TenantId;
use tenure_workflows::keeping::hold::{self, NewDataHold, Scope};
use tenure_workflows::keeping::{self, ArchiveFilter, ArchiveRow, PolicyRow};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::audit::note;
use super::flow::{author, author_unless};
use super::{cursor, page, page_size};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Key, once};
use crate::state::{AppState, as_engine};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(show_policy, load_policy))
        .routes(routes!(list_holds, place))
        .routes(routes!(lift))
        .routes(routes!(sweep))
        .routes(routes!(list_archives))
        .routes(routes!(restore))
}

/// Show how long the rows of a source are kept: the newest policy.
#[utoipa::path(get, path = "/v1/sources/{source}/retention-policy", tag = "Retention of data",
    params(("source" = String, Path)), responses(
    (status = 200, body = KeepingPolicy), (status = 404, body = Problem)))]
async fn show_policy(
    State(state): State<AppState>,
    caller: Caller,
    Path(source): Path<String>,
) -> Result<Json<KeepingPolicy>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_control().await?;
    let found = keeping::find_policy(&mut tx, &source).await?;
    Ok(Json(policy(found)))
}

/// Load how long the rows of a source are kept, as its next version. It is held against the source's
/// data map. Sweeps that are under way keep the version that they began with.
#[utoipa::path(post, path = "/v1/sources/{source}/retention-policy", tag = "Retention of data",
    params(("source" = String, Path)), request_body = LoadKeepingPolicy, responses(
    (status = 201, body = KeepingPolicy), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn load_policy(
    State(state): State<AppState>,
    caller: Caller,
    Path(source): Path<String>,
    key: Key,
    body: Body<LoadKeepingPolicy>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    state.products().get(&source)?;
    let LoadKeepingPolicy { document, reason } = body.value;
    let author = author(&caller, &reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_control(conn).await?;
        let (by, why) = (&author.actor, &author.reason);
        let loaded = keeping::load_policy(conn, &source, &document, by, why).await?;
        let loaded = policy(loaded);
        let of = (None, &source);
        note(conn, &author, "load retention policy", of, None, &loaded).await?;
        Ok(Done::created(loaded))
    })
    .await
}

/// List what holds a tenant's rows in the product, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/data-holds", tag = "Retention of data",
    params(("tenant_id" = Uuid, Path), DataHoldFilter), responses(
    (status = 200, body = Vec<DataHold>), (status = 404, body = Problem)))]
async fn list_holds(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    Query(filter): Query<DataHoldFilter>,
) -> Result<Json<Vec<DataHold>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let holds = hold::list(&mut tx, tenant_id, filter.past.unwrap_or(false)).await?;
    Ok(Json(holds.into_iter().map(data_hold).collect()))
}

/// Hold rows of a tenant in the product: all that is its, a table's, or those that have certain values.
/// From the answer on none of it is deleted, whatever a policy says; it tells how many rows that are.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/data-holds", tag = "Retention of data",
    params(("tenant_id" = Uuid, Path)), request_body = PlaceDataHold, responses(
    (status = 201, body = DataHold), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn place(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<PlaceDataHold>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let asked = body.value;
    let scope = Scope::of(asked.table, asked.matches).map_err(|detail| ApiError::Invalid {
        pointer: "/table".to_owned(),
        detail,
    })?;
    let new = NewDataHold {
        scope,
        case: asked.case,
        reason: asked.reason,
        expires_at: asked.expires_at,
    };
    let author = author(&caller, &new.reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let (products, by) = (state.products(), &author.actor);
        let (placed, rows) = hold::place(conn, products, tenant_id, &new, by).await?;
        let placed = DataHold {
            rows,
            ..data_hold(placed)
        };
        let of = (Some(tenant_id), placed.hold_id);
        note(conn, &author, "place data hold", of, None, &placed).await?;
        Ok(Done::created(placed))
    })
    .await
}

/// Lift a hold. What is past its time by then goes with the next sweep.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/data-holds/{hold_id}/lift",
    tag = "Retention of data", params(("tenant_id" = Uuid, Path), ("hold_id" = Uuid, Path)),
    request_body = LiftDataHold, responses(
    (status = 200, body = DataHold), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn lift(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, hold_id)): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<LiftDataHold>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let author = author(&caller, &body.value.reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let (actor, reason) = (&author.actor, &author.reason);
        let lifted = hold::lift(conn, tenant_id, hold_id, actor, reason).await?;
        let lifted = data_hold(lifted);
        let of = (Some(tenant_id), hold_id);
        note(conn, &author, "lift data hold", of, None, &lifted).await?;
        Ok(Done::ok(lifted))
    })
    .await
}

/// What the audit keeps of a job.
#[derive(Serialize)]
struct Job<T> {
    tenant_id: Uuid,
    run_id: Uuid,
    asked: T,
}

/// Sweep a tenant's rows in the product by the newest policy, or count what a sweep would take. What
/// came of it is the output of its run.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/sweeps", tag = "Retention of data",
    params(("tenant_id" = Uuid, Path)), request_body = StartSweep, responses(
    (status = 202, body = DataJob), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn sweep(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<StartSweep>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let asked = body.value;
    let author = author_unless(asked.dry_run, &caller, asked.reason.as_deref())?;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_control(conn).await?;
        let (as_of, dry_run) = (asked.as_of, asked.dry_run);
        let input = keeping::prepare_sweep(conn, tenant_id, as_of, dry_run).await?;
        as_engine(conn).await?;
        let started = keeping::start_sweep(state.client(), conn, &input).await?;
        let run_id = started.run_id.0;
        if !dry_run {
            let job = Job {
                tenant_id: tenant_id.0,
                run_id,
                asked: &asked,
            };
            let of = (Some(tenant_id), run_id);
            note(conn, &author, "sweep", of, None, &job).await?;
        }
        Ok(Done::accepted(DataJob { run_id }))
    })
    .await
}

/// List what was taken out of a tenant's rows in the product, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/archives", tag = "Retention of data",
    params(("tenant_id" = Uuid, Path), DataArchiveFilter), responses(
    (status = 200, body = Page<DataArchive>), (status = 404, body = Problem)))]
async fn list_archives(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    Query(asked): Query<DataArchiveFilter>,
) -> Result<Json<Page<DataArchive>>, ApiError> {
    caller.sees_all()?;
    let limit = page_size(asked.limit)?;
    let after = cursor::<Uuid>(asked.cursor.as_deref())?;
    let filter = ArchiveFilter {
        sweep_id: asked.sweep_id,
        archive_id: None,
    };
    let mut tx = state.begin_tenant(tenant_id).await?;
    let rows = keeping::list_archives(&mut tx, tenant_id, &filter, after, limit).await?;
    let last = rows.last().map(|row| row.archive_id.to_string());
    let items = rows.into_iter().map(archive).collect();
    Ok(Json(page(items, last, limit)))
}

/// Bring rows back into the product as they were, of a sweep or of one archive. A row whose key is
/// taken again stays as it is now. What was destroyed cannot come back.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/restores", tag = "Retention of data",
    params(("tenant_id" = Uuid, Path)), request_body = StartRestore, responses(
    (status = 202, body = DataJob), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn restore(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<StartRestore>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let asked = body.value;
    let filter = ArchiveFilter {
        sweep_id: asked.sweep_id,
        archive_id: asked.archive_id,
    };
    let author = author(&caller, &asked.reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let archives = keeping::find_restorable(conn, tenant_id, &filter).await?;
        tenure_workflows::as_control(conn).await?;
        let input = keeping::prepare_restore(conn, tenant_id, archives).await?;
        as_engine(conn).await?;
        let started = keeping::start_restore(state.client(), conn, &input).await?;
        let run_id = started.run_id.0;
        let job = Job {
            tenant_id: tenant_id.0,
            run_id,
            asked: &asked,
        };
        let of = (Some(tenant_id), run_id);
        note(conn, &author, "restore", of, None, &job).await?;
        Ok(Done::accepted(DataJob { run_id }))
    })
    .await
}

fn policy(row: PolicyRow) -> KeepingPolicy {
    KeepingPolicy {
        source: row.source,
        version: row.version,
        document: row.document,
        author: row.author,
        reason: row.reason,
        loaded_at: row.loaded_at,
    }
}

fn data_hold(found: hold::DataHold) -> DataHold {
    let (lifted_at, lifted_by) = match found.lifted {
        Some((at, by, _)) => (Some(at), Some(by)),
        None => (None, None),
    };
    DataHold {
        hold_id: found.hold_id,
        tenant_id: found.tenant_id.0,
        case: found.case,
        table: found.scope.table().map(ToOwned::to_owned),
        matches: found.scope.matches().cloned(),
        reason: found.reason,
        author: found.author,
        placed_at: found.placed_at,
        expires_at: found.expires_at,
        lifted_at,
        lifted_by,
        rows: None,
    }
}

fn archive(row: ArchiveRow) -> DataArchive {
    DataArchive {
        archive_id: row.archive_id,
        sweep_id: row.sweep_id,
        table: row.table,
        status: row.status,
        rows: row.rows,
        bytes: row.bytes,
        manifest_sha256: row.manifest_sha256,
        made_at: row.made_at,
        destroy_at: row.destroy_at,
        destroyed_at: row.destroyed_at,
        restored_at: row.restored_at,
    }
}
