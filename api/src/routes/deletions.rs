//! Deletions of tenants: two people, and a certificate.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use tenure_client::{
    Deletion, DeletionAct, DeletionCertificate, DeletionDetail, DeletionFilter, DeletionPreview,
    DeletionStep, Page, Problem, RequestDeletion, Role,
};
use tenure_engine::TenantId;
use tenure_workflows::deletion::door::{self, NewDeletion, Verb};
use tenure_workflows::deletion::rules::Planned;
use tenure_workflows::deletion::{DeletionRow, Unit};
use tenure_workflows::export::Token;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::audit::note;
use super::flow::author;
use super::{cursor, exports, page, page_size};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Key, once};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, request))
        .routes(routes!(show))
        .routes(routes!(preview))
        .routes(routes!(certificate))
        .routes(routes!(approve))
        .routes(routes!(cancel))
        .routes(routes!(retry))
        .routes(routes!(accept))
}

/// List deletions, newest first.
#[utoipa::path(get, path = "/v1/deletions", tag = "Deletions", params(DeletionFilter), responses(
    (status = 200, body = Page<Deletion>), (status = 403, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(filter): Query<DeletionFilter>,
) -> Result<Json<Page<Deletion>>, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let limit = page_size(filter.limit)?;
    let after = cursor(filter.cursor.as_deref())?;
    let mut tx = state.begin_control().await?;
    let subject = filter.tenant_id.map(TenantId);
    let rows = door::list(&mut tx, subject, after, limit).await?;
    let last = rows.last().map(|row| row.deletion_id.to_string());
    let deletions = rows.into_iter().map(answer).collect();
    Ok(Json(page(deletions, last, limit)))
}

/// Ask for the deletion of a tenant. Nothing is done until a second person approves it.
#[utoipa::path(post, path = "/v1/deletions", tag = "Deletions", request_body = RequestDeletion,
    responses((status = 201, body = Deletion), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn request(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<RequestDeletion>,
) -> Result<Response, ApiError> {
    caller.require(Role::Admin)?;
    caller.sees_all()?;
    let new = NewDeletion {
        subject: TenantId(body.value.tenant_id),
        cooling_off_days: body.value.cooling_off_days,
        backup_days: body.value.backup_days,
        reason: body.value.reason,
        export_link_days: body.value.export_link_days,
    };
    if new.export_link_days.is_some() {
        state.archive()?;
    }
    let token = Token::generate();
    let mut first = None;
    let author = author(&caller, &new.reason);
    let response = once(&state, &caller, &key, &body.fingerprint, async |conn| {
        crate::state::as_engine(conn).await?;
        let signs = state.signs();
        let row = door::request(state.client(), conn, &new, signs, (&author.actor, &token)).await?;
        let made = answer(row);
        let of = (Some(new.subject), made.deletion_id);
        note(conn, &author, "request deletion", of, None, &made).await?;
        first = Some(made.clone());
        Ok(Done::created(made))
    })
    .await?;
    state.client().ring();
    // What is kept for the same request has no link; so only the first answer has it.
    let Some((mut made, export_id)) = first.and_then(|made| Some((made.clone(), made.export_id?)))
    else {
        return Ok(response);
    };
    made.export_link = Some(exports::link(new.subject, export_id, &token));
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    exports::no_store(&mut response);
    Ok(response)
}

/// Show a deletion with its steps and the chain of what was done.
#[utoipa::path(get, path = "/v1/deletions/{deletion_id}", tag = "Deletions",
    params(("deletion_id" = Uuid, Path)), responses((status = 200, body = DeletionDetail),
    (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(deletion_id): Path<Uuid>,
) -> Result<Json<DeletionDetail>, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let mut tx = state.begin_control().await?;
    let row = door::find(&mut tx, deletion_id).await?;
    let (units, records) = door::progress(&mut tx, deletion_id).await?;
    let records: Result<Vec<_>, _> = records.iter().map(serde_json::to_value).collect();
    Ok(Json(DeletionDetail {
        deletion: answer(row),
        steps: units.into_iter().map(step).collect(),
        records: records.map_err(|_| ApiError::Internal)?,
    }))
}

/// Tell what the deletion of a tenant would do, table by table, and what stands in its way. Changes
/// nothing.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/deletion-preview", tag = "Deletions",
    params(("tenant_id" = Uuid, Path)), responses((status = 200, body = DeletionPreview),
    (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn preview(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<DeletionPreview>, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let engine = state.client().pool();
    let found = door::preview(engine, state.products(), state.archive().ok(), tenant_id).await?;
    Ok(Json(DeletionPreview {
        steps: found.steps.into_iter().map(would).collect(),
        obstacles: found.obstacles,
        live_runs: found.live.iter().map(|(_, count)| count).sum(),
    }))
}

/// Give the signed certificate of a deletion.
#[utoipa::path(get, path = "/v1/deletions/{deletion_id}/certificate", tag = "Deletions",
    params(("deletion_id" = Uuid, Path)), responses((status = 200, body = DeletionCertificate),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn certificate(
    State(state): State<AppState>,
    caller: Caller,
    Path(deletion_id): Path<Uuid>,
) -> Result<Json<DeletionCertificate>, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let mut tx = state.begin_control().await?;
    let certificate = door::certificate(&mut tx, deletion_id).await?;
    let certificate = serde_json::from_value(certificate).map_err(|_| ApiError::Internal)?;
    Ok(Json(certificate))
}

/// Approve a deletion, as a second person.
#[utoipa::path(post, path = "/v1/deletions/{deletion_id}/approve", tag = "Deletions",
    params(("deletion_id" = Uuid, Path)), request_body = DeletionAct,
    responses((status = 200, body = Deletion), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn approve(
    State(state): State<AppState>,
    caller: Caller,
    Path(deletion_id): Path<Uuid>,
    key: Key,
    body: Body<DeletionAct>,
) -> Result<Response, ApiError> {
    caller.require(Role::Admin)?;
    tell(&state, &caller, (deletion_id, Verb::Approve), &key, body).await
}

/// Take a deletion back: the tenant is as before. Refused once the point of no return has passed.
#[utoipa::path(post, path = "/v1/deletions/{deletion_id}/cancel", tag = "Deletions",
    params(("deletion_id" = Uuid, Path)), request_body = DeletionAct,
    responses((status = 200, body = Deletion), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Path(deletion_id): Path<Uuid>,
    key: Key,
    body: Body<DeletionAct>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    tell(&state, &caller, (deletion_id, Verb::Cancel), &key, body).await
}

/// Let a deletion go on that failed or is held, after what it names was mended.
#[utoipa::path(post, path = "/v1/deletions/{deletion_id}/retry", tag = "Deletions",
    params(("deletion_id" = Uuid, Path)), request_body = DeletionAct,
    responses((status = 200, body = Deletion), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn retry(
    State(state): State<AppState>,
    caller: Caller,
    Path(deletion_id): Path<Uuid>,
    key: Key,
    body: Body<DeletionAct>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    tell(&state, &caller, (deletion_id, Verb::Retry), &key, body).await
}

/// Accept what was found after erasing. The certificate says what, who accepted it, and why.
#[utoipa::path(post, path = "/v1/deletions/{deletion_id}/accept", tag = "Deletions",
    params(("deletion_id" = Uuid, Path)), request_body = DeletionAct,
    responses((status = 200, body = Deletion), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn accept(
    State(state): State<AppState>,
    caller: Caller,
    Path(deletion_id): Path<Uuid>,
    key: Key,
    body: Body<DeletionAct>,
) -> Result<Response, ApiError> {
    caller.require(Role::Admin)?;
    tell(&state, &caller, (deletion_id, Verb::Accept), &key, body).await
}

async fn tell(
    state: &AppState,
    caller: &Caller,
    (deletion_id, verb): (Uuid, Verb),
    key: &Key,
    body: Body<DeletionAct>,
) -> Result<Response, ApiError> {
    caller.sees_all()?;
    let author = author(caller, &body.value.reason);
    let action = match verb {
        Verb::Approve => "approve deletion",
        Verb::Cancel => "cancel deletion",
        Verb::Retry => "retry deletion",
        Verb::Accept => "accept leftovers of deletion",
    };
    let response = once(state, caller, key, &body.fingerprint, async |conn| {
        tenure_workflows::as_control(conn).await?;
        let who = (author.actor.as_str(), author.reason.as_str());
        let row = door::tell(state.client(), conn, deletion_id, verb, who).await?;
        let of = (Some(row.subject), deletion_id);
        let seen = answer(row);
        note(conn, &author, action, of, None, &seen).await?;
        Ok(Done::ok(seen))
    })
    .await?;
    state.client().ring();
    Ok(response)
}

fn answer(row: DeletionRow) -> Deletion {
    Deletion {
        deletion_id: row.deletion_id,
        tenant_id: row.subject.0,
        run_id: row.run_id.0,
        state: row.state,
        detail: row.detail,
        reason: row.reason,
        requested_by: row.requested_by,
        requested_at: row.requested_at,
        due_at: row.due_at,
        cooling_off_days: row.cooling_off_days,
        backup_days: row.backup_days,
        approved_by: row.approved_by,
        cools_until: row.cools_until,
        final_at: row.final_at,
        ended_at: row.ended_at,
        alerts: row.alerts,
        export_id: row.export_id,
        export_link: None,
    }
}

fn step(unit: Unit) -> DeletionStep {
    DeletionStep {
        masked: unit.masked,
        kept: unit.kept,
        done_at: unit.done_at,
        ..would((unit.planned, unit.erased))
    }
}

fn would((planned, rows): (Planned, i64)) -> DeletionStep {
    DeletionStep {
        realm: planned.realm.word().to_owned(),
        name: planned.name,
        action: planned.action.word().to_owned(),
        rows,
        masked: 0,
        kept: 0,
        basis: planned.basis,
        done_at: None,
    }
}
