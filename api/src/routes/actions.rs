//! Runs, for intervening: one path for all verbs of a person.

use axum::extract::State;
use axum::response::Response;
use serde_json::Value;
use tenure_client::{ActOnRun, ActionAccepted, ActionArgs, ArgKind, Problem, Role};
use tenure_engine::operator::{self, Act, Intervention, RestartFrom, Verb};
use tenure_engine::{EngineError, RunId, inspect};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path};
use crate::idempotency::{Done, Key, once};
use crate::state::{AppState, as_engine, see_as};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(act))
}

/// A verb, who may do it, what it takes, and what it does.
pub(super) struct VerbRow {
    pub(super) word: &'static str,
    pub(super) role: Role,
    pub(super) args: &'static [ArgRow],
    pub(super) help: &'static str,
    /// Whether it can be told beforehand what it would do.
    pub(super) dry_run: bool,
}

/// A member of [`ActionArgs`]: its kind, and whether the verb needs it.
pub(super) type ArgRow = (&'static str, ArgKind, bool);

const fn row(
    word: &'static str,
    role: Role,
    args: &'static [ArgRow],
    help: &'static str,
) -> VerbRow {
    VerbRow {
        word,
        role,
        args,
        help,
        dry_run: true,
    }
}

const STATE: ArgRow = ("state", ArgKind::Json, true);
const NAME: ArgRow = ("name", ArgKind::Text, true);

/// What shows a private field: it has a path of its own, and is done to one run only.
pub(super) const REVEAL: &str = "reveal";

/// All verbs of a person, in the order in which they are shown. `signal` and [`REVEAL`] have paths of their
/// own.
#[rustfmt::skip] // A table is read by its columns.
pub(super) const VERBS: [VerbRow; 14] = [
    row("retry", Role::Operator, &[],
        "Tries again now; answered steps stay answered, except the error that it is stuck on."),
    VerbRow { dry_run: false, ..row("signal", Role::Support, &[("signal", ArgKind::Json, true)],
        "Puts a message into its inbox; what its state does with it is the workflow's to say. It cannot be taken back.") },
    row("skip-step", Role::Operator, &[("answer", ArgKind::Json, true)],
        "Answers the failed step by hand, and goes on behind it; while undoing, counts the reverse as done."),
    row("fail-step", Role::Operator, &[("code", ArgKind::Text, true), ("message", ArgKind::Text, true)],
        "The failed step fails for good, and the workflow may branch."),
    row("pause", Role::Operator, &[],
        "Holds it: signals wait, relative deadlines are frozen, absolute ones are not."),
    row("resume", Role::Operator, &[],
        "Lets it go on from where it was paused."),
    row("edit-state", Role::Operator, &[STATE],
        "Replaces the data of its state."),
    row("move", Role::Operator, &[STATE],
        "Enters another state."),
    row("move-deadline", Role::Operator, &[NAME, ("at", ArgKind::Time, true)],
        "Gives a deadline another time, which is read on the tenant's clock."),
    row("fire-deadline", Role::Operator, &[NAME],
        "Lets a deadline pass now."),
    row("cancel", Role::Operator, &[],
        "The workflow hears of it, cleans up and ends as it sees fit; a failing visit gives way."),
    row("terminate", Role::Operator, &[],
        "Ends it at once and cleans nothing up."),
    row("restart", Role::Operator, &[("key", ArgKind::Text, true), ("state", ArgKind::Json, false), ("input", ArgKind::Json, false)],
        "Starts a new run under another key: in the last state, in the one given, or anew with an input."),
    VerbRow { dry_run: false, ..row(REVEAL, Role::Support, &[("field", ArgKind::Text, true)],
        "Shows a private field, such as /data/Open/email. That you saw it and why is written into the audit.") },
];

/// Do a verb to a run: retry, skip-step, fail-step, pause, resume, edit-state, move, move-deadline,
/// fire-deadline, cancel, terminate or restart. Refused when the run moved on from the revision seen.
/// With `dry_run` it says what would happen and does nothing.
#[utoipa::path(post, path = "/v1/runs/{run_id}/actions/{verb}", tag = "Runs",
    params(("run_id" = Uuid, Path), ("verb" = String, Path)), request_body = ActOnRun, responses(
    (status = 202, body = ActionAccepted), (status = 200, body = ActionAccepted),
    (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn act(
    State(state): State<AppState>,
    caller: Caller,
    Path((run_id, word)): Path<(RunId, String)>,
    key: Key,
    body: Body<ActOnRun>,
) -> Result<Response, ApiError> {
    let elsewhere = ["signal", REVEAL];
    let here = VERBS.iter().filter(|verb| !elsewhere.contains(&verb.word));
    let known = here.clone().find(|verb| verb.word == word);
    let known = known.ok_or_else(|| {
        let words: Vec<_> = here.map(|verb| verb.word).collect();
        ApiError::NotFound(format!(
            "no verb is called {word:?}; there are {}",
            words.join(", ")
        ))
    })?;
    caller.require(known.role)?;
    check_args(known, &body.value.args)?;
    let ActOnRun {
        reason,
        revision,
        dry_run,
        args,
    } = body.value;
    let act = caller.act(reason, revision);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        // Seen as the caller, so that another tenant's run is not found; done as the engine.
        see_as(conn, &caller).await?;
        inspect::tenant_of(conn, run_id).await?;
        as_engine(conn).await?;
        let mut answer = do_verb(&state, conn, run_id, known.word, args, &act).await?;
        if dry_run {
            answer.dry_run = true;
            answer.started_run_id = None;
            return Ok(Done::Undone(answer));
        }
        Ok(Done::accepted(answer))
    })
    .await
}

async fn do_verb(
    state: &AppState,
    conn: &mut sqlx::PgConnection,
    run_id: RunId,
    word: &'static str,
    args: ActionArgs,
    act: &Act,
) -> Result<ActionAccepted, ApiError> {
    if word == "restart" {
        return restart(state, conn, run_id, args, act).await;
    }
    let registry = state.client().registry();
    let verb = verb_of(word, args)?;
    let done = operator::intervene(conn, registry, run_id, &verb, act)
        .await
        .map_err(of_args)?;
    Ok(to_json(done))
}

/// The engine's verb of a word; a restart is none, because it makes another run.
pub(super) fn verb_of(word: &str, args: ActionArgs) -> Result<Verb, ApiError> {
    Ok(match word {
        "retry" => Verb::Retry,
        "skip-step" => Verb::Skip {
            answer: needed("answer", args.answer)?,
        },
        "fail-step" => Verb::FailStep {
            code: needed("code", args.code)?,
            message: needed("message", args.message)?,
        },
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "edit-state" => Verb::Edit {
            state: needed("state", args.state)?,
        },
        "move" => Verb::Move {
            state: needed("state", args.state)?,
        },
        "move-deadline" => Verb::MoveDeadline {
            name: needed("name", args.name)?,
            at: needed("at", args.at)?,
        },
        "fire-deadline" => Verb::FireDeadline {
            name: needed("name", args.name)?,
        },
        "cancel" => Verb::Cancel,
        "terminate" => Verb::Terminate,
        _ => return Err(ApiError::NotFound(format!("no verb is called {word:?}"))),
    })
}

async fn restart(
    state: &AppState,
    conn: &mut sqlx::PgConnection,
    run_id: RunId,
    args: ActionArgs,
    act: &Act,
) -> Result<ActionAccepted, ApiError> {
    let registry = state.client().registry();
    let key = needed("key", args.key)?;
    let from = restart_from(args.state, args.input)?;
    let started = operator::restart(conn, registry, run_id, &key, &from, act)
        .await
        .map_err(of_args)?;
    Ok(ActionAccepted {
        run_id: run_id.0,
        revision: act.revision,
        dry_run: false,
        before: Value::Null,
        after: Value::Null,
        effects: vec![format!("A new run starts under the key {key:?}.")],
        started_run_id: Some(started.run_id.0),
    })
}

/// Where a restarted run begins.
pub(super) fn restart_from(
    state: Option<Value>,
    input: Option<Value>,
) -> Result<RestartFrom, ApiError> {
    match (state, input) {
        (Some(_), Some(_)) => Err(invalid("input", "give a state or an input")),
        (Some(state), None) => Ok(RestartFrom::State(state)),
        (None, Some(input)) => Ok(RestartFrom::Input(input)),
        (None, None) => Ok(RestartFrom::LastState),
    }
}

/// Points into the arguments where one of them does not fit.
fn of_args(error: EngineError) -> ApiError {
    match &error {
        EngineError::Malformed { what, .. } if *what != "reason" => ApiError::Invalid {
            pointer: format!("/args/{what}"),
            detail: error.to_string(),
        },
        _ => error.into(),
    }
}

fn to_json(done: Intervention) -> ActionAccepted {
    ActionAccepted {
        run_id: done.run_id.0,
        revision: done.revision,
        dry_run: false,
        before: done.before,
        after: done.after,
        effects: done.effects,
        started_run_id: None,
    }
}

/// Refuses what the verb does not take, so that a misspelt wish is not half met.
pub(super) fn check_args(verb: &VerbRow, args: &ActionArgs) -> Result<(), ApiError> {
    let given = serde_json::to_value(args).unwrap_or_default();
    let members = given
        .as_object()
        .into_iter()
        .flat_map(serde_json::Map::keys);
    for member in members {
        if !verb.args.iter().any(|(name, ..)| name == member) {
            let names: Vec<_> = verb.args.iter().map(|(name, ..)| *name).collect();
            let takes = if names.is_empty() {
                "nothing".to_owned()
            } else {
                names.join(", ")
            };
            return Err(invalid(member, &format!("{} takes {takes}", verb.word)));
        }
    }
    Ok(())
}

pub(super) fn needed<T>(name: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| invalid(name, "the verb needs it"))
}

pub(super) fn invalid(member: &str, detail: &str) -> ApiError {
    ApiError::Invalid {
        pointer: format!("/args/{member}"),
        detail: detail.to_owned(),
    }
}
