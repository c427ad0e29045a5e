//! The audit: what people did, for looking; and noting what they do to what is no run.

use std::fmt::Display;

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use tenure_client::{AuditLine, AuditQuery, Page, Problem};
use tenure_engine::audit::{self, Deed, Line};
use tenure_engine::flow::Author;
use tenure_engine::{RunId, TenantId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{cursor, page, page_size};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::Query;
use crate::state::{AppState, as_engine};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// List what people did to runs and to anything else, newest first. A token of one tenant sees what
/// was done to that tenant, its runs and its schedules.
#[utoipa::path(get, path = "/v1/audit", tag = "Audit", params(AuditQuery), responses(
    (status = 200, body = Page<AuditLine>), (status = 400, body = Problem),
    (status = 401, body = Problem), (status = 422, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(asked): Query<AuditQuery>,
) -> Result<Json<Page<AuditLine>>, ApiError> {
    let limit = page_size(asked.limit)?;
    let before = cursor::<Place>(asked.cursor.as_deref())?;
    let wanted = understand(asked, &caller)?;
    let mut tx = state.begin_for(&caller).await?;
    let before = before.map(|place| (place.at, place.audit_id));
    let lines = audit::list(&mut tx, state.keyring(), &wanted, before, limit).await?;
    let last = lines.last().map(|line| Place::of(line).to_string());
    let items = lines.into_iter().map(answer).collect();
    Ok(Json(page(items, last, limit)))
}

/// What is asked for, as the engine takes it.
fn understand(asked: AuditQuery, caller: &Caller) -> Result<audit::Query, ApiError> {
    let invalid = |field: &str, detail: &str| ApiError::Invalid {
        pointer: format!("/{field}"),
        detail: detail.to_owned(),
    };
    let texts = [
        ("actor", &asked.actor),
        ("action", &asked.action),
        ("subject", &asked.subject),
    ];
    for (field, text) in texts {
        if text.as_ref().is_some_and(|text| text.contains('\0')) {
            return Err(invalid(field, "no line has a NUL in it"));
        }
    }
    if let (Some(from), Some(to)) = (asked.from, asked.to)
        && to <= from
    {
        return Err(invalid("to", "it is not later than from"));
    }
    // Nothing was done before 1970, and Postgres does not know every year that chrono does.
    let known = |at: DateTime<Utc>| at.max(DateTime::UNIX_EPOCH);
    Ok(audit::Query {
        run: asked.run_id.map(RunId),
        tenant: asked.tenant_id.map(TenantId).or(caller.tenant),
        actor: asked.actor,
        action: asked.action,
        subject: asked.subject,
        from: asked.from.map(known),
        to: asked.to.map(known),
    })
}

/// The place of a line in the list, as a cursor: microseconds since 1970, and its id.
struct Place {
    at: DateTime<Utc>,
    audit_id: Uuid,
}

impl Place {
    fn of(line: &Line) -> Self {
        Self {
            at: line.at,
            audit_id: line.audit_id,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.at.timestamp_micros(), self.audit_id)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, audit_id) = text.split_once('.').ok_or(())?;
        let micros = at.parse::<i64>().ok().filter(|micros| *micros >= 0);
        let at = micros.and_then(DateTime::from_timestamp_micros);
        Ok(Self {
            at: at.ok_or(())?,
            audit_id: audit_id.parse().map_err(|_| ())?,
        })
    }
}

fn answer(line: Line) -> AuditLine {
    AuditLine {
        audit_id: line.audit_id,
        at: line.at,
        actor: line.actor,
        role: line.role,
        action: line.action,
        reason: line.reason,
        run_id: line.run_id.map(|run| run.0),
        tenant_id: line.tenant_id.map(|tenant| tenant.0),
        subject: line.subject,
        revision: line.revision,
        before: line.before,
        after: line.after,
    }
}

/// Notes in the audit what was done to what, and whose that is; the transaction acts as the engine afterwards.
pub(super) async fn note<T: Serialize>(
    conn: &mut PgConnection,
    author: &Author,
    action: &str,
    (tenant, subject): (Option<TenantId>, impl Display),
    before: Option<&T>,
    after: &T,
) -> Result<(), ApiError> {
    let json = |value| serde_json::to_value(value).map_err(|_| ApiError::Internal);
    let deed = Deed {
        action,
        subject: &subject.to_string(),
        tenant,
        before: json(before)?,
        after: json(Some(after))?,
    };
    as_engine(conn).await?;
    Ok(audit::note(conn, author, &deed).await?)
}
