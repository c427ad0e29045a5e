//! Starting a run: input to first state, one insert, and what a taken key means.
//!
//! The one path for the client, for children and for signal-with-start.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::EngineError;
use crate::id::{RunId, TenantId};
use crate::payload;
use crate::priority::Priority;
use crate::registry::{Beginning, Registry};
use crate::store;
use crate::store::run::{NewRun, Place};
use crate::transition::ClosePolicy;

/// What came of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The run that holds the key.
    pub run_id: RunId,
    /// False when the key was taken by an earlier start with the same input.
    pub created: bool,
}

/// How a run is started, beyond its key and input. A repeated start changes none of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// How urgent it is; as its workflow says otherwise.
    pub priority: Option<Priority>,
    /// When it starts, in the tenant's time; at once otherwise, or when that has passed. Until then it
    /// is *waiting* with the deadline `run-start`, which operators can move or fire; signals are kept,
    /// and a cancel ends it.
    pub at: Option<DateTime<Utc>>,
}

/// A start with the workflow's types erased.
#[derive(Debug)]
pub(crate) struct StartRequest<'a> {
    pub(crate) workflow: &'a str,
    pub(crate) key: &'a str,
    pub(crate) input: &'a Value,
    pub(crate) origin: Origin,
    pub(crate) options: StartOptions,
}

/// Who starts a run, and what the end of that one means for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    pub(crate) parent: Option<RunId>,
    pub(crate) close: ClosePolicy,
    /// A fan-out starts it: it is told how the run ended, not what it left behind.
    pub(crate) gathered: bool,
    /// What a deadline woke starts it: it is due a level later, just before what else was due at that
    /// deadline, so that what has been begun is finished before more is begun. What a message woke
    /// after that has no such instant, and what it starts is due now.
    pub(crate) later: Option<DateTime<Utc>>,
}

/// The version of a run whose data is its input: a worker makes the first state of it.
pub(crate) const FROM_INPUT: i32 = 0;
/// What such a run has for the name of a state.
pub(crate) const STARTING: &str = "starting";

/// The longest key, in bytes: it leads a unique index.
pub(crate) const MAX_KEY_BYTES: usize = 255;

/// How often a start is tried whose key is taken and then free.
const ATTEMPTS: usize = 3;

pub(crate) async fn start(
    conn: &mut PgConnection,
    registry: &Registry,
    tenant: TenantId,
    place: &Place,
    request: StartRequest<'_>,
) -> Result<Started, EngineError> {
    let StartRequest {
        workflow,
        key,
        input,
        origin,
        options,
    } = request;
    let mut new = prepare(registry, place, workflow, key, input)?;
    new.priority = options.priority.unwrap_or(new.priority);
    new.starts_at = options.at;
    insert(conn, tenant, place, origin, new).await
}

/// Inserts a run that was prepared; a taken key returns the run that holds it.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    place: &Place,
    origin: Origin,
    new: NewRun,
) -> Result<Started, EngineError> {
    let (run_id, digest, name) = (new.run_id, new.input_digest, new.workflow.clone());
    let runs = [new];
    let key = runs[0].key.as_str();
    let holder = 'found: {
        for _ in 0..ATTEMPTS {
            let inserted = store::run::insert(conn, tenant, place, origin, &runs).await?;
            if !inserted.is_empty() {
                return Ok(Started {
                    run_id,
                    created: true,
                });
            }
            // Retention may drop the holder between the two; then its key is free.
            let holder = store::run::find_by_key(conn, tenant, place.shard_id, &name, key).await?;
            if let Some(holder) = holder {
                break 'found holder;
            }
        }
        return Err(EngineError::RunNotFound(key.to_owned()));
    };
    if holder.input_digest == digest {
        Ok(Started {
            run_id: holder.run_id,
            created: false,
        })
    } else {
        Err(EngineError::KeyTaken {
            key: key.to_owned(),
            run_id: holder.run_id,
        })
    }
}

/// Checks a start and makes its row.
pub(crate) fn prepare(
    registry: &Registry,
    place: &Place,
    workflow: &str,
    key: &str,
    input: &Value,
) -> Result<NewRun, EngineError> {
    check_key(workflow, key)?;
    let handler = registry.require(workflow)?;
    let limit = registry.payload_limit();
    let input_bytes = payload::to_bytes("input", input, limit)?;
    let Beginning { state, attributes } = handler.start(input.clone())?;
    Ok(NewRun {
        run_id: RunId::new(place.shard_id),
        key: key.to_owned(),
        workflow: Cow::Borrowed(handler.name()),
        version: handler.version(),
        state: payload::variant_name(&state).to_owned(),
        data: payload::to_bytes("state", &state, limit)?,
        input_digest: digest(&input_bytes),
        priority: handler.priority(),
        starts_at: None,
        attributes,
    })
}

/// Checks a start in the middle, in a given state, and makes its row.
pub(crate) fn prepare_in(
    registry: &Registry,
    place: &Place,
    workflow: &str,
    key: &str,
    state: &Value,
) -> Result<NewRun, EngineError> {
    check_key(workflow, key)?;
    let handler = registry.require(workflow)?;
    let attributes = handler.check_state(state)?;
    let data = payload::to_bytes("state", state, registry.payload_limit())?;
    Ok(NewRun {
        run_id: RunId::new(place.shard_id),
        key: key.to_owned(),
        workflow: Cow::Borrowed(handler.name()),
        version: handler.version(),
        state: payload::variant_name(state).to_owned(),
        input_digest: digest(&data),
        priority: handler.priority(),
        starts_at: None,
        data,
        attributes,
    })
}

pub(crate) fn check_key(workflow: &str, key: &str) -> Result<(), EngineError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES || key.contains('\0') {
        return Err(EngineError::Malformed {
            what: "key",
            workflow: workflow.to_owned(),
            detail: format!(
                "a key has 1 to {MAX_KEY_BYTES} bytes and no NUL; this one has {}",
                key.len()
            ),
        });
    }
    Ok(())
}

/// The first half of the SHA-256 of an input, in its canonical encoding (`serde_json` sorts keys).
pub(crate) fn digest(input: &[u8]) -> Uuid {
    let hash = Sha256::digest(input);
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    Uuid::from_bytes(half)
}
