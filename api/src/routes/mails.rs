//! Mails, as they were sent.

use axum::Json;
use axum::extract::State;
use tenure_client::{
    Mail, MailDetail, MailFilter, MailStatus, NoticePreview, NoticePreviewFilter, Page, Problem,
};
use tenure_engine::TenantId;
use tenure_workflows::notice::{self, NoticeRow};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{MAX_PAGE, cursor, page, page_size};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_of_tenant))
        .routes(routes!(show))
        .routes(routes!(preview))
}

/// List the mails to all tenants, newest first.
#[utoipa::path(get, path = "/v1/mails", tag = "Mails", params(MailFilter), responses(
    (status = 200, body = Page<Mail>), (status = 400, body = Problem), (status = 404, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(filter): Query<MailFilter>,
) -> Result<Json<Page<Mail>>, ApiError> {
    caller.sees_all()?;
    let limit = page_size(filter.limit)?;
    let after = cursor::<Uuid>(filter.cursor.as_deref())?;
    let mut tx = state.begin_control().await?;
    let rows = notice::list(&mut tx, None, after, limit).await?;
    let last = rows.last().map(|row| row.notice_id.to_string());
    let items = rows.into_iter().map(to_json).collect();
    Ok(Json(page(items, last, limit)))
}

/// List the mails to a tenant, newest first; the latest 200.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/mails", tag = "Mails",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<Mail>), (status = 404, body = Problem)))]
async fn list_of_tenant(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<Mail>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    tenure_workflows::tenant::find(&mut tx, tenant_id).await?;
    let rows = notice::list(&mut tx, Some(tenant_id), None, i64::from(MAX_PAGE)).await?;
    Ok(Json(rows.into_iter().map(to_json).collect()))
}

/// Show one mail to a tenant as it was sent, with its HTML part.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/mails/{notice_id}", tag = "Mails",
    params(("tenant_id" = Uuid, Path), ("notice_id" = Uuid, Path)), responses(
    (status = 200, body = MailDetail), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, notice_id)): Path<(TenantId, Uuid)>,
) -> Result<Json<MailDetail>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let kept = notice::find(&mut tx, tenant_id, notice_id).await?;
    Ok(Json(MailDetail {
        created_at: kept.row.created_at,
        mail: to_json(kept.row),
        body_html: kept.body_html,
        dedupe_key: kept.dedupe_key,
    }))
}

/// Look at a mail of a kind with made-up facts, in a language.
#[utoipa::path(get, path = "/v1/notices/preview", tag = "Mails", params(NoticePreviewFilter),
    responses((status = 200, body = NoticePreview), (status = 401, body = Problem),
    (status = 422, body = Problem)))]
async fn preview(
    _caller: Caller,
    Query(filter): Query<NoticePreviewFilter>,
) -> Result<Json<NoticePreview>, ApiError> {
    let locale = filter.locale.as_deref().unwrap_or("en");
    let written = notice::preview(&filter.kind, locale)?;
    Ok(Json(NoticePreview {
        kind: filter.kind,
        locale: written.locale.to_owned(),
        subject: written.subject,
        text: written.text,
        html: written.html,
    }))
}

fn to_json(row: NoticeRow) -> Mail {
    Mail {
        notice_id: row.notice_id,
        tenant_id: row.tenant_id.0,
        kind: row.kind,
        to: row.recipient,
        subject: row.subject,
        status: match row.status.as_str() {
            "sent" => MailStatus::Sent,
            "suppressed" => MailStatus::Suppressed,
            _ => MailStatus::Queued,
        },
        sent_at: row.sent_at,
        body_text: row.body_text,
    }
}
