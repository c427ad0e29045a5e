//! Runs, for looking: lists, details, steps, transitions, signals.

use axum::Json;
use axum::extract::State;
use tenure_client::{
    ActionArg, AllowedAction, Deadline, DeadlineClock, Evidence, Page, Problem, Progress, RunCount,
    RunCountFilter, RunDetail, RunFilter, RunPriority, RunStatus, RunSummary, Signal, SignalKind,
    SignalOutcome, SignalReception, Step, Transition, Why,
};
use tenure_engine::{Priority, Reception, Registry, RunId, Status, TenantId, inspect, search};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::filter::understand;
use super::{actions, cursor, page, page_size, retention, tenants};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(count))
        .routes(routes!(show))
        .routes(routes!(steps))
        .routes(routes!(transitions))
        .routes(routes!(signals))
}

/// List runs, newest first.
#[utoipa::path(get, path = "/v1/runs", tag = "Runs", params(RunFilter), responses(
    (status = 200, body = Page<RunSummary>), (status = 400, body = Problem), (status = 401, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(filter): Query<RunFilter>,
) -> Result<Json<Page<RunSummary>>, ApiError> {
    let limit = page_size(filter.limit)?;
    let after = cursor::<RunId>(filter.cursor.as_deref())?;
    let mut tx = state.begin_for(&caller).await?;
    let understood = understand(&state, &caller, &mut tx, filter).await?;
    let rows = search::list(&mut tx, &understood.wanted, after, limit).await?;
    if rows.is_empty() {
        understood.check_names()?;
    }
    let last = rows.last().map(|row| row.run_id.to_string());
    let owners: Vec<TenantId> = rows.iter().map(|row| row.tenant_id).collect();
    let names = tenants::names(&mut tx, &caller, &owners).await?;
    let items = rows.into_iter().map(|row| {
        let name = names.get(&row.tenant_id).cloned();
        let row = summary(row);
        RunSummary {
            tenant_name: name.or(row.tenant_name),
            ..row
        }
    });
    Ok(Json(page(items.collect(), last, limit)))
}

/// Count the runs that a filter finds, up to 100,000.
#[utoipa::path(get, path = "/v1/runs/count", tag = "Runs", params(RunCountFilter), responses(
    (status = 200, body = RunCount), (status = 400, body = Problem), (status = 401, body = Problem)))]
async fn count(
    State(state): State<AppState>,
    caller: Caller,
    Query(asked): Query<RunCountFilter>,
) -> Result<Json<RunCount>, ApiError> {
    let mut tx = state.begin_for(&caller).await?;
    let filter = RunFilter {
        filter: asked.filter,
        ..RunFilter::default()
    };
    let understood = understand(&state, &caller, &mut tx, filter).await?;
    let count = search::count(&mut tx, &understood.wanted).await?;
    if count.runs == 0 {
        understood.check_names()?;
    }
    Ok(Json(RunCount {
        runs: count.runs,
        more: count.more,
    }))
}

/// Show one run: state, deadlines, why it is where it is, what may be done.
#[utoipa::path(get, path = "/v1/runs/{run_id}", tag = "Runs", params(("run_id" = Uuid, Path)),
    responses((status = 200, body = RunDetail), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(run_id): Path<RunId>,
) -> Result<Json<RunDetail>, ApiError> {
    let mut tx = state.begin_for(&caller).await?;
    let found = inspect::detail(&mut tx, state.client().registry(), run_id).await?;
    Ok(Json(detail(found, state.client().registry(), &caller)))
}

/// List a run's answered steps, oldest first; the latest 500.
#[utoipa::path(get, path = "/v1/runs/{run_id}/steps", tag = "Runs", params(("run_id" = Uuid, Path)),
    responses((status = 200, body = Vec<Step>), (status = 404, body = Problem)))]
async fn steps(
    State(state): State<AppState>,
    caller: Caller,
    Path(run_id): Path<RunId>,
) -> Result<Json<Vec<Step>>, ApiError> {
    let mut tx = state.begin_for(&caller).await?;
    let registry = state.client().registry();
    let private = inspect::private_of(&mut tx, registry, run_id).await?;
    let lines = inspect::steps(&mut tx, state.keyring(), run_id).await?;
    let lines = lines.into_iter().rev().map(|line| Step {
        visit: line.visit,
        seq: line.seq,
        name: line.name,
        answer: line.answer.map(|answer| private.mask(answer)),
        error: line
            .error
            .and_then(|error| serde_json::to_value(error).ok()),
        recorded_at: line.recorded_at,
    });
    Ok(Json(lines.collect()))
}

/// List a run's visits, oldest first; the latest 500.
#[utoipa::path(get, path = "/v1/runs/{run_id}/transitions", tag = "Runs",
    params(("run_id" = Uuid, Path)),
    responses((status = 200, body = Vec<Transition>), (status = 404, body = Problem)))]
async fn transitions(
    State(state): State<AppState>,
    caller: Caller,
    Path(run_id): Path<RunId>,
) -> Result<Json<Vec<Transition>>, ApiError> {
    let mut tx = state.begin_for(&caller).await?;
    inspect::tenant_of(&mut tx, run_id).await?;
    let lines = inspect::transitions(&mut tx, run_id).await?;
    let lines = lines.into_iter().rev().map(|line| Transition {
        visit: line.visit,
        at: line.at,
        tenant_at: line.tenant_at,
        event: line.event,
        from_state: Some(line.from_state),
        to_state: Some(line.to_state),
        outcome: line.outcome,
        detail: line.detail.map(serde_json::Value::String),
        actor: None,
    });
    Ok(Json(lines.collect()))
}

/// List a run's messages, oldest first; the latest 500.
#[utoipa::path(get, path = "/v1/runs/{run_id}/signals", tag = "Runs", params(("run_id" = Uuid, Path)),
    responses((status = 200, body = Vec<Signal>), (status = 404, body = Problem)))]
async fn signals(
    State(state): State<AppState>,
    caller: Caller,
    Path(run_id): Path<RunId>,
) -> Result<Json<Vec<Signal>>, ApiError> {
    let mut tx = state.begin_for(&caller).await?;
    let run = inspect::detail(&mut tx, state.client().registry(), run_id)
        .await?
        .summary;
    let lines = inspect::signals(&mut tx, state.keyring(), run_id).await?;
    let registry = state.client().registry();
    let lines = lines.into_iter().rev().map(|line| Signal {
        payload: line.private(registry, &run.workflow).mask(line.payload),
        signal_id: line.signal_id,
        name: line.name,
        received_at: line.recorded_at,
        tenant_received_at: run.clock_id.map(|_| line.received_at),
        outcome: match line.outcome {
            tenure_engine::SignalOutcome::Pending => SignalOutcome::Pending,
            tenure_engine::SignalOutcome::Accepted => SignalOutcome::Accepted,
            tenure_engine::SignalOutcome::Rejected => SignalOutcome::Rejected,
            tenure_engine::SignalOutcome::Late => SignalOutcome::Late,
        },
        reason: line.reason,
    });
    Ok(Json(lines.collect()))
}

/// What a run may be sent, and which of it its workflow keeps to doors of its own; nothing once it has
/// ended.
fn signal_kinds(
    found: &inspect::RunDetail,
    registry: &Registry,
    caller: &Caller,
) -> Vec<SignalKind> {
    let run = &found.summary;
    if run.status.is_finished() {
        return Vec::new();
    }
    let kinds = registry.signals(&run.workflow, run.version, &found.data);
    let guard = registry.guard(&run.workflow);
    let role = Some(caller.role.as_str());
    let told = kinds.into_iter().map(|kind| {
        let (reception, reason) = match kind.reception {
            Some(Reception::Accept) => (Some(SignalReception::Accept), None),
            Some(Reception::Defer) => (Some(SignalReception::Defer), None),
            Some(Reception::Reject(why)) => (Some(SignalReception::Reject), Some(why.to_owned())),
            None => (None, None),
        };
        let (reception, reason) = match guard.may_signal(&run.workflow, kind.name, role) {
            Ok(()) => (reception, reason),
            Err(refused) => (Some(SignalReception::Reject), Some(refused.to_string())),
        };
        SignalKind {
            name: kind.name.to_owned(),
            sketch: kind.sketch,
            reception,
            reason,
        }
    });
    told.collect()
}

pub(super) fn detail(found: inspect::RunDetail, registry: &Registry, caller: &Caller) -> RunDetail {
    let clock = if found.summary.clock_id.is_some() {
        DeadlineClock::Tenant
    } else {
        DeadlineClock::Real
    };
    let actions = actions::VERBS.iter();
    let (guard, role) = (
        registry.guard(&found.summary.workflow),
        caller.role.as_str(),
    );
    let private = registry.private(&found.summary.workflow);
    let may = |word: &str| -> Result<(), String> {
        found.may(word)?;
        let refused = guard.may_do(&found.summary.workflow, word, role);
        refused.map_err(|refused| refused.to_string())
    };
    let allowed_actions = actions
        .map(|verb| allowed(verb, may(verb.word), caller))
        .collect();
    RunDetail {
        signals: signal_kinds(&found, registry, caller),
        revision: found.summary.revision(),
        allowed_actions,
        summary: summary(found.summary),
        data: private.mask(found.data),
        deadlines: found
            .deadlines
            .into_iter()
            .map(|deadline| Deadline {
                name: deadline.name,
                at: deadline.at,
                clock,
            })
            .collect(),
        why: Why {
            kind: found.why.kind.to_owned(),
            summary: found.why.summary,
            evidence: found
                .why
                .evidence
                .into_iter()
                .map(|(label, value)| Evidence {
                    label: label.to_owned(),
                    value,
                })
                .collect(),
        },
        parent_run_id: found.parent_run_id.map(|run| run.0),
        priority: priority(found.priority),
        output: found.output.map(|output| private.mask(output)),
        // One that was declared before its name was private may still be stored.
        attributes: found.attributes.map(|found| private.mask(found)),
        progress: found
            .progress
            .into_iter()
            .map(|line| Progress {
                step: line.step,
                value: private.mask(line.value),
                reported_at: line.reported_at,
            })
            .collect(),
        legal_holds: found.holds.into_iter().map(retention::hold).collect(),
    }
}

pub(super) fn allowed(
    verb: &actions::VerbRow,
    sensible: Result<(), String>,
    caller: &Caller,
) -> AllowedAction {
    let reason = match sensible {
        Err(reason) => Some(reason),
        Ok(()) if caller.role < verb.role => Some(format!("needs role {}", verb.role.as_str())),
        Ok(()) => None,
    };
    let args = verb.args.iter().map(|(name, kind, required)| ActionArg {
        name: (*name).to_owned(),
        kind: *kind,
        required: *required,
    });
    AllowedAction {
        action: verb.word.to_owned(),
        help: verb.help.to_owned(),
        args: args.collect(),
        dry_run: verb.dry_run,
        allowed: reason.is_none(),
        reason,
    }
}

fn priority(found: Priority) -> RunPriority {
    match found {
        Priority::Highest => RunPriority::Highest,
        Priority::High => RunPriority::High,
        Priority::Normal => RunPriority::Normal,
        Priority::Low => RunPriority::Low,
        Priority::Lowest => RunPriority::Lowest,
    }
}

fn summary(row: inspect::RunSummary) -> RunSummary {
    let finished = row.status.is_finished();
    let next_clock = if row.next_is_on_test_clock() {
        DeadlineClock::Tenant
    } else {
        DeadlineClock::Real
    };
    RunSummary {
        started_at: row.made_at(),
        tenant_started_at: row.clock_id.map(|_| row.started_at),
        next_clock: row.next_at.map(|_| next_clock),
        run_id: row.run_id.0,
        tenant_id: row.tenant_id.0,
        tenant_name: tenants::system_name(row.tenant_id),
        workflow: row.workflow,
        key: row.key,
        version: row.version,
        status: status(row.status),
        state: row.state,
        epoch: row.epoch,
        visit: row.visit,
        next_at: row.next_at,
        attempt: row.attempt,
        stuck_kind: row.stuck,
        stuck_reason: row
            .error
            .filter(|_| row.status == Status::Stuck)
            .map(|error| error.message),
        changed_at: row.changed_at,
        finished_at: finished.then_some(row.changed_at),
    }
}

pub(super) fn status(status: Status) -> RunStatus {
    match status {
        Status::Due => RunStatus::Due,
        Status::Running => RunStatus::Running,
        Status::Waiting => RunStatus::Waiting,
        Status::Retrying => RunStatus::Retrying,
        Status::Undoing => RunStatus::Undoing,
        Status::Paused => RunStatus::Paused,
        Status::Blocked => RunStatus::Blocked,
        Status::NoHandler => RunStatus::NoHandler,
        Status::Stuck => RunStatus::Stuck,
        Status::Completed => RunStatus::Completed,
        Status::Failed => RunStatus::Failed,
        Status::Cancelled => RunStatus::Cancelled,
        Status::Terminated => RunStatus::Terminated,
    }
}

pub(super) fn engine_status(wanted: RunStatus) -> Option<Status> {
    Status::ALL
        .into_iter()
        .find(|known| status(*known) == wanted)
}
