//! One verb to many runs: prepared over a filter, confirmed by its number, watched, aborted.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use sqlx::PgConnection;
use tenure_client::{
    AbortBulk, ActionArgs, AllowedAction, BulkFilter, BulkOperation, BulkOutcome, BulkResult,
    BulkResultFilter, BulkStatus, ConfirmBulk, Page, PrepareBulk, Problem, RunFilter,
};
use tenure_engine::bulk::{self, Action, Bulk, BulkLine, NewBulk};
use tenure_engine::{BulkId, RunId, SYSTEM_TENANT, TenantId, search};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::actions::{REVEAL, VERBS, VerbRow, check_args, invalid, needed, restart_from, verb_of};
use super::filter::understand;
use super::runs_view::allowed;
use super::{cursor, page, page_size, tenants};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Key, once};
use crate::state::{AppState, as_engine, see_as};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(verbs))
        .routes(routes!(list, prepare))
        .routes(routes!(show))
        .routes(routes!(results))
        .routes(routes!(confirm))
        .routes(routes!(abort))
}

/// List what can be done to many runs at once: what each verb takes, and whether the asker may.
#[utoipa::path(get, path = "/v1/bulk-verbs", tag = "Runs", responses(
    (status = 200, body = Vec<AllowedAction>), (status = 401, body = Problem)))]
async fn verbs(caller: Caller) -> Json<Vec<AllowedAction>> {
    let verbs = for_many().map(|verb| {
        let mut action = allowed(verb, Ok(()), &caller);
        // A restarted run's key is made from the old one.
        action.args.retain(|arg| arg.name != "key");
        // What it would do is told run by run, or not at all.
        action.dry_run = false;
        action
    });
    Json(verbs.collect())
}

/// Freeze the runs that a filter finds, to do one verb to each. Nothing is done until the number of
/// them is confirmed.
#[utoipa::path(post, path = "/v1/bulk-operations", tag = "Runs", request_body = PrepareBulk, responses(
    (status = 201, body = BulkOperation), (status = 400, body = Problem),
    (status = 403, body = Problem), (status = 422, body = Problem)))]
async fn prepare(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<PrepareBulk>,
) -> Result<Response, ApiError> {
    let known = row_of(&body.value.verb)?;
    caller.require(known.role)?;
    check_args(known, &body.value.args)?;
    if body.value.filter.trim().is_empty() {
        return Err(ApiError::Invalid {
            pointer: "/filter".to_owned(),
            detail: "say which runs are meant, such as status:stuck workflow:invoice".to_owned(),
        });
    }
    let PrepareBulk {
        filter,
        args,
        reason,
        pace,
        stop_after,
        ..
    } = body.value;
    let new = NewBulk {
        action: action_of(known.word, args)?,
        filter,
        pace,
        stop_after,
    };
    let act = caller.act(reason, 0);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        // Found as the caller, so that another tenant's runs are not; frozen as the engine.
        see_as(conn, &caller).await?;
        let asked = RunFilter {
            filter: Some(new.filter.clone()),
            ..RunFilter::default()
        };
        let understood = understand(&state, &caller, conn, asked).await?;
        let runs = search::find(conn, &understood.wanted, None, search::MAX_FOUND + 1).await?;
        if runs.is_empty() {
            understood.check_names()?;
        }
        as_engine(conn).await?;
        let owner = caller.tenant.unwrap_or(SYSTEM_TENANT);
        let made = bulk::prepare(conn, owner, &new, &runs, &act).await?;
        Ok(Done::created(answer(made)))
    })
    .await
}

/// The verbs that can be done to many runs at once.
fn for_many() -> impl Iterator<Item = &'static VerbRow> {
    VERBS.iter().filter(|row| row.word != REVEAL)
}

fn row_of(word: &str) -> Result<&'static VerbRow, ApiError> {
    for_many()
        .find(|row| row.word == word)
        .ok_or_else(|| ApiError::Invalid {
            pointer: "/verb".to_owned(),
            detail: format!(
                "no verb for many runs is called {word:?}; there are {}",
                Action::words().collect::<Vec<_>>().join(", ")
            ),
        })
}

/// What is done to each run, which for a restart has a key of its own: the old one and the
/// operation's id.
fn action_of(word: &str, args: ActionArgs) -> Result<Action, ApiError> {
    Ok(match word {
        "signal" => Action::Signal {
            signal: needed("signal", args.signal)?,
        },
        "restart" if args.key.is_some() => {
            return Err(invalid(
                "key",
                "each new run has the old key and the operation's id",
            ));
        }
        "restart" => Action::Restart {
            from: restart_from(args.state, args.input)?,
        },
        word => Action::Verb(verb_of(word, args)?),
    })
}

/// List operations on many runs, newest first.
#[utoipa::path(get, path = "/v1/bulk-operations", tag = "Runs", params(BulkFilter), responses(
    (status = 200, body = Page<BulkOperation>), (status = 400, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(asked): Query<BulkFilter>,
) -> Result<Json<Page<BulkOperation>>, ApiError> {
    let limit = page_size(asked.limit)?;
    let after = cursor::<BulkId>(asked.cursor.as_deref())?;
    let mut tx = state.begin_for(&caller).await?;
    let rows = bulk::list(&mut tx, after, limit).await?;
    let last = rows.last().map(|row| row.bulk_id.to_string());
    let items = rows.into_iter().map(answer).collect();
    Ok(Json(page(items, last, limit)))
}

/// Show an operation: where it is, and how many runs came to what.
#[utoipa::path(get, path = "/v1/bulk-operations/{bulk_operation_id}", tag = "Runs",
    params(("bulk_operation_id" = Uuid, Path)),
    responses((status = 200, body = BulkOperation), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(bulk_id): Path<BulkId>,
) -> Result<Json<BulkOperation>, ApiError> {
    let mut tx = state.begin_for(&caller).await?;
    Ok(Json(answer(bulk::find(&mut tx, bulk_id).await?)))
}

/// List the runs of an operation and what came of each, in the order in which they are acted on.
#[utoipa::path(get, path = "/v1/bulk-operations/{bulk_operation_id}/results", tag = "Runs",
    params(("bulk_operation_id" = Uuid, Path), BulkResultFilter),
    responses((status = 200, body = Page<BulkResult>), (status = 404, body = Problem)))]
async fn results(
    State(state): State<AppState>,
    caller: Caller,
    Path(bulk_id): Path<BulkId>,
    Query(asked): Query<BulkResultFilter>,
) -> Result<Json<Page<BulkResult>>, ApiError> {
    let limit = page_size(asked.limit)?;
    let after = cursor::<RunId>(asked.cursor.as_deref())?;
    let wanted = bulk::LineFilter {
        outcome: asked.outcome.map(engine_outcome),
        after,
    };
    let mut tx = state.begin_for(&caller).await?;
    bulk::find(&mut tx, bulk_id).await?;
    let rows = bulk::lines(&mut tx, bulk_id, &wanted, limit).await?;
    let last = rows.last().map(|row| row.run_id.to_string());
    let owners: Vec<TenantId> = rows.iter().map(|row| row.tenant_id).collect();
    let names = tenants::names(&mut tx, &caller, &owners).await?;
    let items = rows.into_iter().map(|row| {
        let name = names.get(&row.tenant_id).cloned();
        BulkResult {
            tenant_name: name.or_else(|| tenants::system_name(row.tenant_id)),
            ..result(row)
        }
    });
    Ok(Json(page(items.collect(), last, limit)))
}

/// Confirm how many runs an operation acts on, and let it begin. Another number than the frozen one
/// is refused.
#[utoipa::path(post, path = "/v1/bulk-operations/{bulk_operation_id}/confirm", tag = "Runs",
    params(("bulk_operation_id" = Uuid, Path)), request_body = ConfirmBulk, responses(
    (status = 202, body = BulkOperation), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn confirm(
    State(state): State<AppState>,
    caller: Caller,
    Path(bulk_id): Path<BulkId>,
    key: Key,
    body: Body<ConfirmBulk>,
) -> Result<Response, ApiError> {
    let act = caller.act(body.value.reason, 0);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        may_act(conn, &caller, bulk_id).await?;
        let begun = bulk::confirm(conn, state.client(), bulk_id, body.value.runs, &act).await?;
        Ok(Done::accepted(answer(begun)))
    })
    .await
}

/// End an operation before its time. What was done stays done; the rest is left alone.
#[utoipa::path(post, path = "/v1/bulk-operations/{bulk_operation_id}/abort", tag = "Runs",
    params(("bulk_operation_id" = Uuid, Path)), request_body = AbortBulk, responses(
    (status = 202, body = BulkOperation), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn abort(
    State(state): State<AppState>,
    caller: Caller,
    Path(bulk_id): Path<BulkId>,
    key: Key,
    body: Body<AbortBulk>,
) -> Result<Response, ApiError> {
    let act = caller.act(body.value.reason, 0);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        may_act(conn, &caller, bulk_id).await?;
        let ended = bulk::abort(conn, bulk_id, &act).await?;
        Ok(Done::accepted(answer(ended)))
    })
    .await
}

/// Lets through who sees the operation and may do its verb. The transaction acts as the engine
/// afterwards.
async fn may_act(conn: &mut PgConnection, caller: &Caller, bulk: BulkId) -> Result<(), ApiError> {
    see_as(conn, caller).await?;
    let found = bulk::find(conn, bulk).await?;
    caller.require(row_of(found.action.word())?.role)?;
    as_engine(conn).await
}

fn answer(bulk: Bulk) -> BulkOperation {
    BulkOperation {
        bulk_operation_id: bulk.bulk_id.0,
        status: match bulk.status {
            bulk::BulkStatus::Prepared => BulkStatus::Prepared,
            bulk::BulkStatus::Acting => BulkStatus::Acting,
            bulk::BulkStatus::Done => BulkStatus::Done,
            bulk::BulkStatus::Stopped => BulkStatus::Stopped,
            bulk::BulkStatus::Aborted => BulkStatus::Aborted,
        },
        verb: bulk.action.word().to_owned(),
        filter: bulk.filter,
        pace: bulk.pace,
        stop_after: bulk.stop_after,
        selected: bulk.selected,
        done: bulk.done,
        moved: bulk.moved,
        refused: bulk.refused,
        actor: bulk.actor,
        reason: bulk.reason,
        created_at: bulk.created_at,
        confirmed_at: bulk.confirmed_at,
        ended_at: bulk.ended_at,
    }
}

fn result(line: BulkLine) -> BulkResult {
    BulkResult {
        run_id: line.run_id.0,
        tenant_id: line.tenant_id.0,
        tenant_name: None,
        workflow: line.workflow,
        key: line.key,
        outcome: match line.outcome {
            bulk::BulkOutcome::Pending => BulkOutcome::Pending,
            bulk::BulkOutcome::Done => BulkOutcome::Done,
            bulk::BulkOutcome::Moved => BulkOutcome::Moved,
            bulk::BulkOutcome::Refused => BulkOutcome::Refused,
        },
        detail: line.detail,
        acted_at: line.acted_at,
    }
}

fn engine_outcome(outcome: BulkOutcome) -> bulk::BulkOutcome {
    match outcome {
        BulkOutcome::Pending => bulk::BulkOutcome::Pending,
        BulkOutcome::Done => bulk::BulkOutcome::Done,
        BulkOutcome::Moved => bulk::BulkOutcome::Moved,
        BulkOutcome::Refused => bulk::BulkOutcome::Refused,
    }
}
