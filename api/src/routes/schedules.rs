//! Schedules: cron entries whose slots start runs.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use sqlx::PgConnection;
use tenure_client::{
    ActOnSchedule, AllowedAction, CatchUpPolicy, ChangeSchedule, NewSchedule, OverlapPolicy, Page,
    Problem, Role, Schedule, ScheduleDeleted, ScheduleDetail, ScheduleFilter, ScheduleRunStarted,
    Slot, SlotOutcome,
};
use tenure_engine::schedule::{self, CatchUp, Overlap, ScheduleChange};
use tenure_engine::{ScheduleId, TenantId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::actions::VerbRow;
use super::runs_view::{allowed, status};
use super::{cursor, page, page_size, tenants};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Fingerprint, Key, once};
use crate::state::{AppState, as_engine, see_as};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, delete))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(run_now))
}

/// List schedules, newest first.
#[utoipa::path(get, path = "/v1/schedules", tag = "Schedules", params(ScheduleFilter), responses(
    (status = 200, body = Page<Schedule>), (status = 400, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(filter): Query<ScheduleFilter>,
) -> Result<Json<Page<Schedule>>, ApiError> {
    let limit = page_size(filter.limit)?;
    let after = cursor::<ScheduleId>(filter.cursor.as_deref())?;
    let wanted = schedule::ScheduleFilter {
        tenant_id: filter.tenant_id.map(TenantId),
        workflow: filter.workflow,
        name: filter.name,
        paused: filter.paused,
    };
    let mut tx = state.begin_for(&caller).await?;
    let rows = schedule::list(&mut tx, &wanted, after, limit).await?;
    let last = rows.last().map(|row| row.schedule_id.to_string());
    let owners: Vec<TenantId> = rows.iter().map(|row| row.tenant_id).collect();
    let names = tenants::names(&mut tx, &caller, &owners).await?;
    let items = rows.into_iter().map(|row| {
        let name = names.get(&row.tenant_id).cloned();
        let row = answer(&state, row);
        Schedule {
            tenant_name: name.or(row.tenant_name),
            ..row
        }
    });
    Ok(Json(page(items.collect(), last, limit)))
}

/// Make a schedule. Its first slot is the first one after now.
#[utoipa::path(post, path = "/v1/schedules", tag = "Schedules", request_body = NewSchedule, responses(
    (status = 201, body = Schedule), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<NewSchedule>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    let tenant = TenantId(body.value.tenant_id);
    caller.sees(tenant)?;
    let asked = body.value;
    let new = schedule::NewSchedule {
        name: asked.name,
        workflow: asked.workflow,
        input: asked.input,
        cron: asked.cron,
        zone: asked.zone,
        overlap: overlap(asked.overlap)?,
        catch_up: catch_up(asked.catch_up)?,
        jitter_seconds: asked.jitter_seconds,
    };
    let act = caller.act(asked.reason, 0);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        as_engine(conn).await?;
        let registry = state.client().registry();
        let made = schedule::create(conn, registry, tenant, &new, &act).await?;
        Ok(Done::created(answer(&state, made)))
    })
    .await
}

/// Show a schedule, its coming slots and what became of the last ones.
#[utoipa::path(get, path = "/v1/schedules/{schedule_id}", tag = "Schedules",
    params(("schedule_id" = Uuid, Path)),
    responses((status = 200, body = ScheduleDetail), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(schedule_id): Path<ScheduleId>,
) -> Result<Json<ScheduleDetail>, ApiError> {
    let mut tx = state.begin_for(&caller).await?;
    let found = schedule::detail(&mut tx, schedule_id).await?;
    Ok(Json(ScheduleDetail {
        allowed_actions: allowed_actions(&found.schedule, &caller),
        schedule: answer(&state, found.schedule),
        coming: found.coming,
        slots: found.slots.into_iter().map(slot).collect(),
    }))
}

/// Change a schedule. Refused when it moved on from the revision seen.
#[utoipa::path(patch, path = "/v1/schedules/{schedule_id}", tag = "Schedules",
    params(("schedule_id" = Uuid, Path)), request_body = ChangeSchedule, responses(
    (status = 200, body = Schedule), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    Path(schedule_id): Path<ScheduleId>,
    key: Key,
    body: Body<ChangeSchedule>,
) -> Result<Response, ApiError> {
    let asked = body.value;
    let change = ScheduleChange {
        input: asked.input,
        cron: asked.cron,
        zone: asked.zone,
        overlap: asked.overlap.map(overlap).transpose()?,
        catch_up: asked.catch_up.map(catch_up).transpose()?,
        jitter_seconds: asked.jitter_seconds,
    };
    let act = caller.act(asked.reason, asked.revision);
    let request = Request {
        state: &state,
        caller: &caller,
        schedule_id,
        key: &key,
        fingerprint: &body.fingerprint,
    };
    request
        .act(async |conn| {
            let registry = state.client().registry();
            let after = schedule::update(conn, registry, schedule_id, &change, &act).await?;
            Ok(answer(&state, after))
        })
        .await
}

/// Take a schedule away. Runs that it started stay and go on.
#[utoipa::path(delete, path = "/v1/schedules/{schedule_id}", tag = "Schedules",
    params(("schedule_id" = Uuid, Path), ActOnSchedule), responses(
    (status = 200, body = ScheduleDeleted), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    Path(schedule_id): Path<ScheduleId>,
    key: Key,
    Query(asked): Query<ActOnSchedule>,
) -> Result<Response, ApiError> {
    let path = format!("/v1/schedules/{schedule_id}");
    let said = format!("{} {}", asked.revision, asked.reason);
    let fingerprint = Fingerprint::of("DELETE", &path, said.as_bytes());
    let act = caller.act(asked.reason, asked.revision);
    let request = Request {
        state: &state,
        caller: &caller,
        schedule_id,
        key: &key,
        fingerprint: &fingerprint,
    };
    request
        .act(async |conn| {
            schedule::delete(conn, state.client().registry(), schedule_id, &act).await?;
            Ok(ScheduleDeleted {
                schedule_id: schedule_id.0,
            })
        })
        .await
}

/// Pause a schedule: no slot comes about, none is made up. Runs that were started go on.
#[utoipa::path(post, path = "/v1/schedules/{schedule_id}/actions/pause", tag = "Schedules",
    params(("schedule_id" = Uuid, Path)), request_body = ActOnSchedule, responses(
    (status = 200, body = Schedule), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn pause(
    State(state): State<AppState>,
    caller: Caller,
    Path(schedule_id): Path<ScheduleId>,
    key: Key,
    body: Body<ActOnSchedule>,
) -> Result<Response, ApiError> {
    let request = Request::of(&state, &caller, schedule_id, &key, &body);
    let act = caller.act(body.value.reason.clone(), body.value.revision);
    request
        .act(async |conn| {
            let registry = state.client().registry();
            let after = schedule::pause(conn, registry, schedule_id, &act).await?;
            Ok(answer(&state, after))
        })
        .await
}

/// Resume a paused schedule with its first slot after now.
#[utoipa::path(post, path = "/v1/schedules/{schedule_id}/actions/resume", tag = "Schedules",
    params(("schedule_id" = Uuid, Path)), request_body = ActOnSchedule, responses(
    (status = 200, body = Schedule), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn resume(
    State(state): State<AppState>,
    caller: Caller,
    Path(schedule_id): Path<ScheduleId>,
    key: Key,
    body: Body<ActOnSchedule>,
) -> Result<Response, ApiError> {
    let request = Request::of(&state, &caller, schedule_id, &key, &body);
    let act = caller.act(body.value.reason.clone(), body.value.revision);
    request
        .act(async |conn| {
            let registry = state.client().registry();
            let after = schedule::resume(conn, registry, schedule_id, &act).await?;
            Ok(answer(&state, after))
        })
        .await
}

/// Start an extra run of a schedule at once, whatever its policies and a pause say.
#[utoipa::path(post, path = "/v1/schedules/{schedule_id}/actions/run-now", tag = "Schedules",
    params(("schedule_id" = Uuid, Path)), request_body = ActOnSchedule, responses(
    (status = 200, body = ScheduleRunStarted), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn run_now(
    State(state): State<AppState>,
    caller: Caller,
    Path(schedule_id): Path<ScheduleId>,
    key: Key,
    body: Body<ActOnSchedule>,
) -> Result<Response, ApiError> {
    let request = Request::of(&state, &caller, schedule_id, &key, &body);
    let act = caller.act(body.value.reason.clone(), body.value.revision);
    request
        .act(async |conn| {
            let registry = state.client().registry();
            let started = schedule::run_now(conn, registry, schedule_id, &act).await?;
            Ok(ScheduleRunStarted {
                schedule_id: schedule_id.0,
                run_id: started.run_id.0,
            })
        })
        .await
}

/// An act on a schedule, as it was asked for.
struct Request<'a> {
    state: &'a AppState,
    caller: &'a Caller,
    schedule_id: ScheduleId,
    key: &'a Key,
    fingerprint: &'a Fingerprint,
}

impl<'a> Request<'a> {
    fn of<T>(
        state: &'a AppState,
        caller: &'a Caller,
        schedule_id: ScheduleId,
        key: &'a Key,
        body: &'a Body<T>,
    ) -> Self {
        Self {
            state,
            caller,
            schedule_id,
            key,
            fingerprint: &body.fingerprint,
        }
    }

    /// Acts once per key, in one transaction, on a schedule that the caller sees.
    async fn act<T: Serialize>(
        self,
        act: impl AsyncFnOnce(&mut PgConnection) -> Result<T, ApiError>,
    ) -> Result<Response, ApiError> {
        self.caller.require(Role::Operator)?;
        let (state, caller) = (self.state, self.caller);
        once(state, caller, self.key, self.fingerprint, async |conn| {
            // Seen as the caller, so that another tenant's schedule is not found; done as the engine.
            see_as(conn, caller).await?;
            schedule::find(conn, self.schedule_id).await?;
            as_engine(conn).await?;
            Ok(Done::ok(act(conn).await?))
        })
        .await
    }
}

fn allowed_actions(found: &schedule::Schedule, caller: &Caller) -> Vec<AllowedAction> {
    let (pause, resume) = if found.paused {
        (Err("it is paused"), Ok(()))
    } else {
        (Ok(()), Err("it is not paused"))
    };
    let verbs = [
        ("update", Ok(()), "Changes when and how it starts runs."),
        (
            "pause",
            pause,
            "Stops its slots from coming about and waiting ones from starting.",
        ),
        (
            "resume",
            resume,
            "Goes on with the first slot after now and makes nothing up.",
        ),
        (
            "run-now",
            Ok(()),
            "Starts an extra run, whatever policies and a pause say.",
        ),
        ("delete", Ok(()), "Takes the schedule away; its runs stay."),
    ];
    verbs
        .into_iter()
        .map(|(verb, sensible, help)| {
            let row = VerbRow {
                word: verb,
                role: Role::Operator,
                args: &[],
                help,
                dry_run: false,
            };
            allowed(&row, sensible.map_err(str::to_owned), caller)
        })
        .collect()
}

fn overlap(asked: OverlapPolicy) -> Result<Overlap, ApiError> {
    match asked {
        OverlapPolicy::Skip => Ok(Overlap::Skip),
        OverlapPolicy::Queue => Ok(Overlap::Queue),
        OverlapPolicy::Allow => Ok(Overlap::Allow),
        OverlapPolicy::Replace => Ok(Overlap::Replace),
        OverlapPolicy::Unknown => Err(ApiError::Invalid {
            pointer: "/overlap".to_owned(),
            detail: "overlap is skip, queue, allow or replace".to_owned(),
        }),
    }
}

fn catch_up(asked: CatchUpPolicy) -> Result<CatchUp, ApiError> {
    match asked {
        CatchUpPolicy::None => Ok(CatchUp::None),
        CatchUpPolicy::One => Ok(CatchUp::One),
        CatchUpPolicy::All => Ok(CatchUp::All),
        CatchUpPolicy::Unknown => Err(ApiError::Invalid {
            pointer: "/catch_up".to_owned(),
            detail: "catch_up is none, one or all".to_owned(),
        }),
    }
}

fn answer(state: &AppState, found: schedule::Schedule) -> Schedule {
    let private = state.client().registry().private(&found.workflow);
    Schedule {
        schedule_id: found.schedule_id.0,
        tenant_id: found.tenant_id.0,
        tenant_name: tenants::system_name(found.tenant_id),
        test_clock_id: found.clock_id.map(|clock| clock.0),
        name: found.name,
        workflow: found.workflow,
        input: private.mask(found.input),
        cron: found.cron,
        zone: found.zone,
        overlap: match found.overlap {
            Overlap::Skip => OverlapPolicy::Skip,
            Overlap::Queue => OverlapPolicy::Queue,
            Overlap::Allow => OverlapPolicy::Allow,
            Overlap::Replace => OverlapPolicy::Replace,
        },
        catch_up: match found.catch_up {
            CatchUp::None => CatchUpPolicy::None,
            CatchUp::One => CatchUpPolicy::One,
            CatchUp::All => CatchUpPolicy::All,
        },
        jitter_seconds: found.jitter_seconds,
        paused: found.paused,
        revision: found.revision,
        next_slot: found.next_slot,
        created_at: found.created_at,
        changed_at: found.changed_at,
    }
}

fn slot(line: schedule::SlotLine) -> Slot {
    Slot {
        slot: line.slot,
        until: line.until,
        outcome: match line.outcome {
            schedule::SlotOutcome::Started => SlotOutcome::Started,
            schedule::SlotOutcome::Queued => SlotOutcome::Queued,
            schedule::SlotOutcome::Skipped => SlotOutcome::Skipped,
        },
        reason: line.reason,
        run_id: line.run_id.map(|run| run.0),
        run_status: line.status.map(status),
        key: line.key,
        decided_at: line.decided_at,
    }
}
