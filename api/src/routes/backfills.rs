//! Backfills: plan, start, look, and what a person may say to one.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use sqlx::PgConnection;
use tenure_client::{
    ActOnBackfill, ActOnBackfillRange, Backfill, BackfillFilter, BackfillObstacle, BackfillPlan,
    BackfillProgress, BackfillRange, BackfillRangeFilter, BackfillReads, BackfillStatement,
    BackfillTarget, BackfillThrottle, BackfillTrouble, Page, Problem, Role, StartBackfill,
};
use tenure_engine::TenantId;
use tenure_workflows::backfill::door::{self, Plan, Progress, RangeVerb};
use tenure_workflows::backfill::{self, Definition, Phase, RangeStatus, Reason, Target, Trouble};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::flow::author;
use super::{cursor, page, page_size};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Key, once};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, start))
        .routes(routes!(plan))
        .routes(routes!(find))
        .routes(routes!(act))
        .routes(routes!(ranges))
        .routes(routes!(act_on_range))
        .routes(routes!(reads))
}

/// Say what a backfill would do: its statements, how many rows, how long, what stands in the way.
/// The catalog and the planner are asked; no row is read and nothing is written.
#[utoipa::path(post, path = "/v1/backfills/plan", tag = "Backfills", request_body = StartBackfill,
    responses((status = 200, body = BackfillPlan), (status = 403, body = Problem),
    (status = 422, body = Problem)))]
async fn plan(
    State(state): State<AppState>,
    caller: Caller,
    body: Body<StartBackfill>,
) -> Result<Json<BackfillPlan>, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let of = read(&body.value)?;
    let mut tx = state.begin().await?;
    let plan = door::plan(&mut tx, state.products(), &of).await?;
    Ok(Json(planned(&of, plan)))
}

/// Start a backfill. Its statements are run in the product's databases, so it takes an admin.
#[utoipa::path(post, path = "/v1/backfills", tag = "Backfills", request_body = StartBackfill,
    responses((status = 201, body = Backfill), (status = 403, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn start(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<StartBackfill>,
) -> Result<Response, ApiError> {
    caller.require(Role::Admin)?;
    caller.sees_all()?;
    let of = read(&body.value)?;
    let author = author(&caller, &body.value.reason);
    let sources = state.products();
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let started = door::start(conn, state.client(), sources, &of, &author).await?;
        Ok(Done::created(answer(conn, started).await?))
    })
    .await
}

fn read(asked: &StartBackfill) -> Result<Definition, ApiError> {
    backfill::parse(&asked.definition).map_err(|error| ApiError::Invalid {
        pointer: "/definition".to_owned(),
        detail: error.to_string(),
    })
}

/// List backfills, newest first.
#[utoipa::path(get, path = "/v1/backfills", tag = "Backfills", params(BackfillFilter), responses(
    (status = 200, body = Page<Backfill>), (status = 400, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(filter): Query<BackfillFilter>,
) -> Result<Json<Page<Backfill>>, ApiError> {
    caller.sees_all()?;
    let limit = page_size(filter.limit)?;
    let after = filter.cursor.as_deref();
    let after = cursor::<TenantId>(after)?.map(|after| after.0);
    let mut tx = state.begin().await?;
    let rows = door::list(&mut tx, after, limit).await?;
    let last = rows.last().map(|row| row.backfill_id.to_string());
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        items.push(answer(&mut tx, row).await?);
    }
    Ok(Json(page(items, last, limit)))
}

/// Show a backfill, by its name or its id: where it is, how fast, until when, and what speaks
/// against its next phase.
#[utoipa::path(get, path = "/v1/backfills/{name}", tag = "Backfills",
    params(("name" = String, Path)), responses(
    (status = 200, body = Backfill), (status = 404, body = Problem)))]
async fn find(
    State(state): State<AppState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Backfill>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin().await?;
    let found = door::find(&mut tx, &name).await?;
    Ok(Json(answer(&mut tx, found).await?))
}

/// Do a verb to a backfill: `advance` to its next phase, `roll-out` to a percentage of tenants, go
/// `back`, `retry`, `verify`, `pause` or `resume`. Refused with all that speaks against it.
#[utoipa::path(post, path = "/v1/backfills/{name}/actions/{verb}", tag = "Backfills",
    params(("name" = String, Path), ("verb" = String, Path)), request_body = ActOnBackfill, responses(
    (status = 200, body = Backfill), (status = 202, body = Backfill), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn act(
    State(state): State<AppState>,
    caller: Caller,
    Path((name, verb)): Path<(String, String)>,
    key: Key,
    body: Body<ActOnBackfill>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let asked = body.value;
    let author = author(&caller, &asked.reason);
    let dry_run = asked.dry_run;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let client = state.client();
        let acted = match verb.as_str() {
            "advance" => door::advance(conn, client, &name, &author).await?,
            "roll-out" => {
                let percent = asked.percent.ok_or_else(|| missing("percent"))?;
                door::roll_out(conn, client, &name, percent, &author).await?
            }
            "back" => {
                let to = asked.to.as_deref().ok_or_else(|| missing("to"))?;
                let to = Phase::from_word(to).ok_or_else(|| missing("to"))?;
                door::back(conn, client, &name, to, &author).await?
            }
            "retry" => door::retry(conn, client, &name, &author).await?,
            "verify" => door::verify(conn, client, &name, &author).await?,
            "pause" => door::set_paused(conn, &name, true, &author).await?,
            "resume" => door::set_paused(conn, &name, false, &author).await?,
            _ => return Err(ApiError::NotFound(format!("no verb is called {verb:?}"))),
        };
        let acted = answer(conn, acted).await?;
        Ok(match dry_run {
            true => Done::Undone(acted),
            false => Done::accepted(acted),
        })
    })
    .await
}

fn missing(field: &str) -> ApiError {
    let detail = match field {
        "percent" => "how many tenants of a hundred: 0 to 100",
        _ => "one of expand, dual-write, fill, verify, undone",
    };
    ApiError::Invalid {
        pointer: format!("/{field}"),
        detail: detail.to_owned(),
    }
}

/// List the ranges of a backfill: each tenant's rows, or parts of them.
#[utoipa::path(get, path = "/v1/backfills/{name}/ranges", tag = "Backfills",
    params(("name" = String, Path), BackfillRangeFilter), responses(
    (status = 200, body = Page<BackfillRange>), (status = 400, body = Problem),
    (status = 404, body = Problem)))]
async fn ranges(
    State(state): State<AppState>,
    caller: Caller,
    Path(name): Path<String>,
    Query(filter): Query<BackfillRangeFilter>,
) -> Result<Json<Page<BackfillRange>>, ApiError> {
    caller.sees_all()?;
    let limit = page_size(filter.limit)?;
    let after = filter.cursor.as_deref();
    let after = cursor::<TenantId>(after)?.map(|after| after.0);
    let status = filter.status.as_deref().map(|word| {
        RangeStatus::from_word(word).ok_or_else(|| ApiError::BadRequest {
            code: "bad_request",
            detail: format!("no range is {word:?}"),
        })
    });
    let mut tx = state.begin().await?;
    let found = door::find(&mut tx, &name).await?;
    let rows = door::ranges(
        &mut tx,
        found.backfill_id,
        status.transpose()?,
        after,
        limit,
    )
    .await?;
    let last = rows.last().map(|row| row.range_id.to_string());
    Ok(Json(page(
        rows.into_iter().map(range).collect(),
        last,
        limit,
    )))
}

/// Retry a range that is held, or `skip` one with a reason. What is skipped and wrong still speaks
/// against the contract.
#[utoipa::path(post, path = "/v1/backfills/{name}/ranges/{range_id}/actions/{verb}", tag = "Backfills",
    params(("name" = String, Path), ("range_id" = Uuid, Path), ("verb" = String, Path)),
    request_body = ActOnBackfillRange, responses(
    (status = 202, body = BackfillRange), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn act_on_range(
    State(state): State<AppState>,
    caller: Caller,
    Path((name, range_id, verb)): Path<(String, Uuid, String)>,
    key: Key,
    body: Body<ActOnBackfillRange>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let author = author(&caller, &body.value.reason);
    let verb = match verb.as_str() {
        "retry" => RangeVerb::Retry,
        "skip" => RangeVerb::Skip,
        _ => return Err(ApiError::NotFound(format!("no verb is called {verb:?}"))),
    };
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let client = state.client();
        let told = door::tell_range(conn, client, &name, range_id, verb, &author).await?;
        Ok(Done::accepted(range(told)))
    })
    .await
}

/// Tell whether a tenant reads the old columns or the new ones. Sticky: raising the percentage only
/// adds tenants.
#[utoipa::path(get, path = "/v1/backfills/{name}/reads/{tenant_id}", tag = "Backfills",
    params(("name" = String, Path), ("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = BackfillReads), (status = 404, body = Problem)))]
async fn reads(
    State(state): State<AppState>,
    caller: Caller,
    Path((name, tenant)): Path<(String, Uuid)>,
) -> Result<Json<BackfillReads>, ApiError> {
    let tenant = TenantId(tenant);
    caller.sees(tenant)?;
    let mut tx = state.begin().await?;
    let (found, new) = door::reads(&mut tx, &name, tenant).await?;
    let columns = match new {
        true => "new",
        false => "old",
    };
    Ok(Json(BackfillReads {
        tenant_id: tenant.0,
        columns: columns.to_owned(),
        bucket: backfill::bucket(&found.definition.name, tenant.0),
    }))
}

fn planned(of: &Definition, plan: Plan) -> BackfillPlan {
    let statements = plan.statements.into_iter().flat_map(|(source, texts)| {
        texts
            .into_iter()
            .map(move |(phase, sql)| BackfillStatement {
                source: source.clone(),
                phase: phase.word().to_owned(),
                sql,
            })
    });
    let obstacles = plan
        .obstacles
        .into_iter()
        .map(|(source, why)| BackfillObstacle {
            source,
            trouble: trouble(why),
        });
    BackfillPlan {
        name: of.name.clone(),
        targets: plan.targets.into_iter().map(target).collect(),
        tenants: plan.tenants,
        estimated_rows: plan.estimated_rows,
        earliest_seconds: plan.seconds.0,
        latest_seconds: plan.seconds.1,
        statements: statements.collect(),
        obstacles: obstacles.collect(),
        warnings: plan.warnings,
    }
}

fn target(target: Target) -> BackfillTarget {
    BackfillTarget {
        source: target.source,
        map_version: target.map_version,
        table: target.table,
    }
}

fn trouble(why: Trouble) -> BackfillTrouble {
    BackfillTrouble {
        kind: why.kind.word().to_owned(),
        detail: why.detail,
        key: why.key,
        remedy: why.kind.remedy().to_owned(),
    }
}

async fn answer(conn: &mut PgConnection, of: backfill::Backfill) -> Result<Backfill, ApiError> {
    let far = door::progress(conn, &of).await?;
    let (next, refusals) = match &far.next {
        Some((phase, refusals)) => (Some(phase.word().to_owned()), refusals.clone()),
        None => (None, Vec::new()),
    };
    Ok(Backfill {
        backfill_id: of.backfill_id,
        name: of.definition.name,
        targets: of.targets.into_iter().map(target).collect(),
        phase: of.phase.word().to_owned(),
        status: of.status.word().to_owned(),
        paused: of.paused,
        percent_reading: of.percent,
        trouble: of.trouble.map(trouble),
        progress: progress(far),
        mismatches: of.mismatches,
        verified_at: of.verified_at,
        clean_since: of.clean_since,
        next,
        refusals,
        run_id: of.run_id.0,
        started_by: of.started_by,
        reason: of.reason,
        started_at: of.started_at,
        ended_at: of.ended_at,
    })
}

fn progress(far: Progress) -> BackfillProgress {
    let throttled = far.throttled.into_iter();
    BackfillProgress {
        ranges: far.ranges.0,
        finished_ranges: far.ranges.1,
        held_ranges: far.held,
        skipped_ranges: far.skipped,
        gone_ranges: far.gone,
        estimated_rows: far.estimated_rows,
        done_rows: far.done_rows,
        written_rows: far.written_rows,
        percent: far.percent,
        rows_per_second: far.rows_per_second,
        earliest_seconds: far.eta.map(|eta| eta.earliest_seconds),
        latest_seconds: far.eta.and_then(|eta| eta.latest_seconds),
        throttled: throttled
            .map(|(reason, ranges)| BackfillThrottle { reason, ranges })
            .collect(),
        unseen: far.unseen,
    }
}

fn range(of: backfill::Range) -> BackfillRange {
    let held = of.status == RangeStatus::Held;
    let why = of.detail.clone().filter(|_| held);
    let why = why.and_then(|why| serde_json::from_value::<Trouble>(why).ok());
    BackfillRange {
        range_id: of.range_id,
        tenant_id: of.owner_id,
        part: of.part,
        status: of.status.word().to_owned(),
        after: of.after,
        to: of.to,
        cursor: of.cursor,
        estimated_rows: of.estimated_rows,
        done_rows: of.done_rows,
        written_rows: of.written_rows,
        batch_rows: of.batch_rows,
        trouble: why.map(trouble),
        detail: of
            .detail
            .filter(|_| !held)
            .and_then(|detail| in_words(&detail)),
        unseen: of.unseen,
        verified_rows: of.verified_rows,
        mismatches: of.mismatches,
        found_sum: of.found_sum,
        expected_sum: of.expected_sum,
        first_mismatch: of.first_mismatch,
        run_id: of.run_id.map(|run| run.0),
    }
}

/// What throttles a range, who skipped it and why, or why it is gone.
fn in_words(detail: &serde_json::Value) -> Option<String> {
    if let Ok(reasons) = serde_json::from_value::<Vec<Reason>>(detail.clone()) {
        let reasons = reasons.into_iter().map(|reason| reason.detail);
        return Some(reasons.collect::<Vec<_>>().join("; "));
    }
    let text = |key: &str| detail.get(key).and_then(serde_json::Value::as_str);
    let reason = text("reason")?;
    Some(match text("by") {
        Some(by) => format!("skipped by {by}: {reason}"),
        None => reason.to_owned(),
    })
}
