//! What humans do to runs: each verb with a reason, the revision that was seen, and an audit row.
//!
//! One verb is one transaction under the run's lock: look, decide purely, write the run, its place
//! among what is due, a line of the log and the audit row. Whoever only wants to know what would
//! happen rolls the transaction back.
//!
//! A run in a worker's hands is never changed under its feet: a pause waits for the visit to end,
//! a cancel waits in the inbox. Only *terminate* takes the run away; it raises epoch and visit, so
//! that what the worker still writes belongs to a visit that nobody reads.

mod decide;
mod reveal;
mod verb;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;

pub use reveal::reveal;
pub use verb::{Verb, may};

use self::decide::{decide, describe, not_allowed, unmasked};
use crate::client::{self, Sender};
use crate::error::EngineError;
use crate::id::{self, RunId};
use crate::payload;
use crate::registry::Registry;
use crate::start::{self, Started};
use crate::store;
use crate::store::inbox::NewMessage;
use crate::store::operator::{Audit, Locked};
use crate::store::run::Place;

/// The longest reason, in characters.
const MAX_REASON: usize = 2_000;

/// Who intervenes, why, and what they saw.
#[derive(Debug, Clone)]
pub struct Act {
    /// From the token, never from the request.
    pub actor: String,
    /// The role in which they act.
    pub role: String,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
    /// The revision of the run or schedule that they saw.
    pub revision: i64,
}

/// What an intervention did, or would have done.
#[derive(Debug, Clone, PartialEq)]
pub struct Intervention {
    /// The run.
    pub run_id: RunId,
    /// Its revision afterwards.
    pub revision: i64,
    /// Status, state and whatever the verb touched, before.
    pub before: Value,
    /// The same, afterwards.
    pub after: Value,
    /// What follows, in words.
    pub effects: Vec<String>,
}

/// Where a restarted run begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RestartFrom {
    /// In the state in which the old run ended.
    LastState,
    /// In a given state, as the workflow encodes it.
    State(Value),
    /// At the start, with a given input.
    Input(Value),
}

/// Does one verb to one run, in the caller's transaction; roll it back for a dry run.
/// The transaction must act as the engine.
///
/// # Errors
/// [`EngineError::Moved`] when the run is not as the operator saw it, [`EngineError::NotAllowed`]
/// when the verb makes no sense, [`EngineError::OwnDoor`] and [`EngineError::NeedsRole`] when it would
/// go round what the workflow decides at doors of its own, [`EngineError::Malformed`] for a bad reason,
/// state or answer, [`EngineError::RunNotFound`].
pub async fn intervene(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
    verb: &Verb,
    act: &Act,
) -> Result<Intervention, EngineError> {
    let locked = lock(conn, registry, run, act).await?;
    may_go_round(registry, &locked, verb.word(), act)?;
    may(verb.word(), locked.status).map_err(|reason| not_allowed(verb.word(), reason))?;
    let plan = decide(registry, &locked, verb)?;
    if locked.destroyed && plan.stores(&locked) {
        return Err(EngineError::KeysDestroyed(locked.tenant_id));
    }
    if plan.forgets_failure {
        store::operator::delete_failed_step(conn, &locked).await?;
    }
    if let Some(answer) = &plan.answer {
        store::operator::insert_answer(conn, &locked, answer).await?;
    }
    if let Some(kind) = plan.message {
        let message = NewMessage {
            run_id: run,
            shard_id: locked.key.shard_id,
            tenant_id: locked.tenant_id,
            clock_id: locked.clock_id,
            kind,
            position: 0,
            signal_id: verb.word(),
            name: verb.word(),
            payload: b"null",
        };
        store::inbox::insert(conn, &message).await?;
    }
    let mut revision = act.revision;
    match &plan.change {
        Some(change) => {
            revision = store::operator::apply(conn, &locked, change).await?;
            let detail = format!("{}: {}", act.actor, act.reason);
            store::operator::insert_log(conn, &locked, change, verb.word(), &detail).await?;
        }
        None if plan.pausing => store::operator::mark_pausing(conn, &locked).await?,
        None => {}
    }
    if plan
        .change
        .as_ref()
        .is_some_and(|change| change.status.is_finished())
    {
        store::operator::tell_finished(conn, &locked).await?;
        store::operator::close_children(conn, locked.key).await?;
    }
    let intervention = Intervention {
        run_id: run,
        revision,
        before: describe(registry, &locked, act.revision),
        after: plan.after(registry, &locked, revision),
        effects: plan.effects,
    };
    audit(conn, &locked, verb.word(), act, &intervention).await?;
    Ok(intervention)
}

/// Starts a new run after one that has ended, under a key of its own.
/// The transaction must act as the engine.
///
/// # Errors
/// As [`intervene`], and [`EngineError::KeyTaken`].
pub async fn restart(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
    key: &str,
    from: &RestartFrom,
    act: &Act,
) -> Result<Started, EngineError> {
    let locked = lock(conn, registry, run, act).await?;
    may_go_round(registry, &locked, "restart", act)?;
    may("restart", locked.status).map_err(|reason| not_allowed("restart", reason))?;
    if locked.destroyed {
        return Err(EngineError::KeysDestroyed(locked.tenant_id));
    }
    let home = store::run::find_place(conn, locked.tenant_id).await?;
    if home.is_some_and(|home| home.closing) {
        return Err(EngineError::TenantClosing(locked.tenant_id));
    }
    let place = Place {
        closing: false,
        shard_id: locked.key.shard_id,
        clock_id: locked.clock_id,
        keys: locked.keys.clone(),
    };
    let place = &place;
    let (workflow, tenant) = (locked.workflow.as_str(), locked.tenant_id);
    let new = match from {
        RestartFrom::Input(input) => {
            registry.refuse_masks(workflow, "input", input)?;
            start::prepare(registry, place, workflow, key, input)?
        }
        RestartFrom::State(state) => {
            let state = unmasked(registry, &locked, state)?;
            start::prepare_in(registry, place, workflow, key, &state)?
        }
        RestartFrom::LastState => {
            let state = serde_json::from_slice(&locked.data)
                .map_err(|error| malformed("state", workflow, error))?;
            start::prepare_in(registry, place, workflow, key, &state)?
        }
    };
    let started = start::insert(conn, tenant, place, start::Origin::default(), new).await?;
    let intervention = Intervention {
        run_id: run,
        revision: act.revision,
        before: describe(registry, &locked, act.revision),
        after: json!({ "started": started.run_id, "key": key }),
        effects: Vec::new(),
    };
    audit(conn, &locked, "restart", act, &intervention).await?;
    Ok(started)
}

/// Sends a signal in a person's name: as [`crate::Client::signal_named`], with an audit row.
/// The transaction must act as the engine.
///
/// # Errors
/// As [`crate::Client::signal_named`], and [`EngineError::Malformed`] for a bad reason.
pub async fn signal(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
    signal_id: &str,
    signal: &Value,
    act: &Act,
) -> Result<(), EngineError> {
    let sender = Sender::Person(&act.role);
    send(conn, registry, run, (signal_id, signal), act, sender).await
}

/// Sends a signal with an audit row.
pub(crate) async fn send(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
    (signal_id, signal): (&str, &Value),
    act: &Act,
    sender: Sender<'_>,
) -> Result<(), EngineError> {
    check_reason(&act.reason)?;
    let locked = find_locked(conn, registry, run).await?;
    let (tenant, what) = (locked.tenant_id, (run, signal_id));
    client::send_named(conn, registry, tenant, what, signal, sender).await?;
    let seen = Act {
        revision: locked.revision(),
        ..act.clone()
    };
    let intervention = Intervention {
        run_id: run,
        revision: seen.revision,
        before: describe(registry, &locked, seen.revision),
        after: json!({ "signal": payload::variant_name(signal), "signal_id": signal_id }),
        effects: Vec::new(),
    };
    audit(conn, &locked, "signal", &seen, &intervention).await
}

/// Refuses a verb that would go round what the run's workflow decides at doors of its own.
fn may_go_round(
    registry: &Registry,
    locked: &Locked,
    verb: &str,
    act: &Act,
) -> Result<(), EngineError> {
    let guard = registry.guard(&locked.workflow);
    guard.may_do(&locked.workflow, verb, &act.role)
}

/// Holds a run as it was seen; its owner's name for it.
pub(crate) async fn hold(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
    act: &Act,
) -> Result<String, EngineError> {
    Ok(lock(conn, registry, run, act).await?.run_key)
}

async fn lock(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
    act: &Act,
) -> Result<Locked, EngineError> {
    check_reason(&act.reason)?;
    let locked = find_locked(conn, registry, run).await?;
    if locked.revision() != act.revision {
        return Err(EngineError::Moved {
            seen: act.revision,
            current: locked.revision(),
        });
    }
    Ok(locked)
}

/// Locks a run, with its payloads open as far as they can be.
async fn find_locked(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
) -> Result<Locked, EngineError> {
    let mut locked = store::operator::lock(conn, run, run.shard())
        .await?
        .ok_or_else(|| EngineError::RunNotFound(run.to_string()))?;
    match registry.keyring().of(locked.tenant_id).await {
        Ok(keys) => locked.keys = keys,
        Err(EngineError::KeysDestroyed(_)) => locked.destroyed = true,
        Err(error) => return Err(error),
    }
    locked.reader = registry.keyring().reader(locked.tenant_id).await?;
    locked.open();
    Ok(locked)
}

/// Checks that somebody said why.
pub(crate) fn check_reason(reason: &str) -> Result<(), EngineError> {
    if reason.trim().is_empty() || reason.chars().count() > MAX_REASON {
        return Err(EngineError::Malformed {
            what: "reason",
            workflow: String::new(),
            detail: format!("a reason has 1 to {MAX_REASON} characters"),
        });
    }
    Ok(())
}

fn malformed(what: &'static str, workflow: &str, error: impl std::fmt::Display) -> EngineError {
    EngineError::Malformed {
        what,
        workflow: workflow.to_owned(),
        detail: error.to_string(),
    }
}

async fn audit(
    conn: &mut PgConnection,
    locked: &Locked,
    action: &'static str,
    act: &Act,
    done: &Intervention,
) -> Result<(), EngineError> {
    let row = Audit {
        audit_id: id::new_uuid(locked.key.shard_id),
        subject: locked.key.run_id,
        shard_id: locked.key.shard_id,
        tenant_id: locked.tenant_id,
        action,
        before: &locked.keys.seal_json(&done.before),
        after: &locked.keys.seal_json(&done.after),
    };
    Ok(store::operator::insert_audit(conn, act, &row).await?)
}
