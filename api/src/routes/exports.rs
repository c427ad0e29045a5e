//! Exports: all that the product keeps of a tenant, for it to take along.

use axum::Json;
use axum::body::{Body as Answer, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tenure_client::{DataExport, ExportStarted, Problem, Role, StartExport};
use tenure_engine::TenantId;
use tenure_workflows::archive::{self, Archive, ArchiveError};
use tenure_workflows::export::{self, ExportRow, NewExport, Opened, Token};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::audit::note;
use super::flow::author;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path};
use crate::idempotency::{Done, Key, once};
use crate::state::{AppState, as_engine};
use crate::tar;

/// For so many days a link works unless somebody says otherwise.
const LINK_DAYS: u32 = 7;
/// The most exports of a list.
const MANY: i64 = 200;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, start))
        .routes(routes!(show))
        .routes(routes!(download))
}

/// List a tenant's exports, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/exports", tag = "Exports",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<DataExport>), (status = 404, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<DataExport>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let rows = export::list(&mut tx, tenant_id, MANY).await?;
    Ok(Json(rows.into_iter().map(answer).collect()))
}

/// Show an export: whether it is ready, and until when its link works.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/exports/{export_id}", tag = "Exports",
    params(("tenant_id" = Uuid, Path), ("export_id" = Uuid, Path)), responses(
    (status = 200, body = DataExport), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, export_id)): Path<(TenantId, Uuid)>,
) -> Result<Json<DataExport>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let found = export::find(&mut tx, tenant_id, export_id).await?;
    Ok(Json(answer(found)))
}

/// Put together all that the product keeps of a tenant. The answer has the link, this once: what is
/// kept of it opens nothing.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/exports", tag = "Exports",
    params(("tenant_id" = Uuid, Path)), request_body = StartExport, responses(
    (status = 202, body = ExportStarted), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn start(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<StartExport>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    state.archive()?;
    let new = NewExport {
        link_days: body.value.link_days.unwrap_or(LINK_DAYS),
        reason: body.value.reason,
    };
    let author = author(&caller, &new.reason);
    let token = Token::generate();
    let mut made = None;
    let response = once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let asked = export::ask(conn, tenant_id, &new, &token, &author.actor).await?;
        as_engine(conn).await?;
        let started = export::start(state.client(), conn, &asked.input).await?;
        let started = ExportStarted {
            export: answer(asked.row),
            run_id: started.run_id.0,
            link: None,
        };
        let of = (Some(tenant_id), started.export.export_id);
        note(conn, &author, "start export", of, None, &started).await?;
        made = Some(started.clone());
        Ok(Done::accepted(started))
    })
    .await?;
    // What is kept for the same request has no link; so only the first answer has it.
    let Some(mut started) = made else {
        return Ok(response);
    };
    let export_id = started.export.export_id;
    started.link = Some(link(tenant_id, export_id, &token));
    let mut response = (StatusCode::ACCEPTED, Json(started)).into_response();
    no_store(&mut response);
    Ok(response)
}

/// The path of an export's link.
pub(super) fn link(tenant_id: TenantId, export_id: Uuid, token: &Token) -> String {
    format!("/v1/exports/{tenant_id}/{export_id}/{}", token.as_str())
}

/// Fetch an export by its link: a tar of compressed JSON Lines, one file or more a table, and a
/// `manifest.json` with checksums and the shape of each table. No token is asked for but the link's.
#[utoipa::path(get, path = "/v1/exports/{tenant_id}/{export_id}/{link_token}", tag = "Exports",
    params(("tenant_id" = Uuid, Path), ("export_id" = Uuid, Path), ("link_token" = String, Path)),
    security(()), responses(
    (status = 200, content_type = "application/x-tar"), (status = 404, body = Problem),
    (status = 409, body = Problem)))]
async fn download(
    State(state): State<AppState>,
    Path((tenant_id, export_id, link_token)): Path<(TenantId, Uuid, String)>,
) -> Result<Response, ApiError> {
    let archive = state.archive()?.clone();
    let unknown = || ApiError::NotFound(format!("no export {export_id} exists"));
    let token = Token::parse(&link_token).ok_or_else(unknown)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let opened = export::open(&mut tx, &archive, tenant_id, export_id, &token).await?;
    tx.commit().await?;
    let files = stream::try_unfold(Files::of(archive, opened), Files::next);
    let mut response = Answer::from_stream(files).into_response();
    no_store(&mut response);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-tar"),
    );
    let name = format!("attachment; filename=\"export-{export_id}.tar\"");
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

pub(super) fn no_store(response: &mut Response) {
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, never);
}

/// The files of a tar, one at a time: no more than one part is in memory.
struct Files {
    archive: Archive,
    opened: Opened,
    next: usize,
}

impl Files {
    const fn of(archive: Archive, opened: Opened) -> Self {
        Self {
            archive,
            opened,
            next: 0,
        }
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>, ArchiveError> {
        let parts = &self.opened.manifest.parts;
        let at = self.opened.manifest.made_at;
        let bytes = match self.next.checked_sub(1) {
            // The manifest first, so that who reads the tar as it comes knows what to expect.
            None => tar::file(
                "manifest.json",
                at,
                archive::print(&self.opened.manifest).as_bytes(),
            ),
            Some(place) if place < parts.len() => {
                let part = &parts[place];
                let lines = export::read_part(&self.archive, &self.opened, part).await?;
                tar::file(&part.name, at, &lines)
            }
            Some(place) if place == parts.len() => tar::end(),
            Some(_) => return Ok(None),
        };
        self.next += 1;
        Ok(Some((bytes.into(), self)))
    }
}

fn answer(row: ExportRow) -> DataExport {
    DataExport {
        export_id: row.export_id,
        status: row.status,
        asked_by: row.asked_by,
        reason: row.reason,
        asked_at: row.asked_at,
        link_days: row.link_days,
        rows: row.rows,
        bytes: row.bytes,
        ready_at: row.ready_at,
        expires_at: row.expires_at,
        downloads: row.downloads,
        last_download_at: row.last_download_at,
    }
}
