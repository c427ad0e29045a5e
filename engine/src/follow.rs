//! What a transition sends on: children, watches, signals, in the transaction of its settlement.
//!
//! Parent and child, sender and receiver belong to one tenant, hence to one shard: the whole is
//! one transaction. It does not join the group commit, because it locks rows of other runs.

use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use crate::error::{EngineError, StepError};
use crate::fan_out;
use crate::id::{RunId, WorkerId};
use crate::plan::Settlement;
use crate::registry::Registry;
use crate::ring::{self, Ring};
use crate::run::{InboxKind, RunKey, Status};
use crate::seal::TenantKeys;
use crate::start::{self, Origin, StartOptions, StartRequest};
use crate::store;
use crate::store::inbox::NewMessage;
use crate::store::run::{Identity, Place};
use crate::store::settle::{Settled, why_failed};
use crate::tally;
use crate::transition::{ChildStart, SignalOut, SignalTarget};
use crate::workflow::FinishedRun;

/// The code of a settlement that the database refused, or that has nobody to be sent to.
pub(crate) const NOT_SETTLEABLE: &str = "not_settleable";
/// The code of a start that would let runs wait for each other for ever.
pub(crate) const CHILD_CYCLE: &str = "child_cycle";

/// Why a follow-up could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Engine(EngineError),
    #[error("an item of a fan-out: {0}")]
    Unreadable(String),
    #[error("no {workflow} run holds the key {key:?}")]
    NoReceiver { workflow: &'static str, key: String },
    #[error("run {0} does not exist or belongs to another tenant")]
    NoRun(RunId),
    #[error("a child whose key is taken waits for its parent: {0}")]
    ChildCycle(Ring),
}

impl FollowError {
    /// What the visit failed with: a ring stays one however often it is tried, the rest may pass.
    pub(crate) fn into_step_error(self) -> StepError {
        match self {
            Self::ChildCycle(_) => StepError::terminal(CHILD_CYCLE, self),
            _ => StepError::retryable(NOT_SETTLEABLE, self),
        }
    }
}

impl From<EngineError> for FollowError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Database(error) => Self::Database(error),
            other => Self::Engine(other),
        }
    }
}

pub(crate) fn has_follow_up(settlement: &Settlement) -> bool {
    let follow = &settlement.follow;
    let sends =
        !(follow.children.is_empty() && follow.watches.is_empty() && follow.signals.is_empty());
    let fans = !follow.fan_outs.is_empty() || follow.fan_batch.is_some();
    sends || fans || closes_children(settlement)
}

/// Whether the run ends and children of it end with it.
fn closes_children(settlement: &Settlement) -> bool {
    settlement.run.closes && settlement.status.is_finished()
}

/// Settles the run and everything that its transition sends on; `None` when fenced.
pub(crate) async fn settle(
    pool: &PgPool,
    registry: &Registry,
    worker: WorkerId,
    slot: i16,
    settlement: &Settlement,
) -> Result<Option<Settled>, FollowError> {
    let mut tx = crate::pool::begin(pool).await?;
    let applied = store::settle::apply(&mut tx, worker, slot, &[settlement]).await?;
    let Some(settled) = applied.into_values().next() else {
        return Ok(None);
    };
    let follow = &settlement.follow;
    // Keys are locked as they are inserted: in one order, whatever the transition's is.
    let mut children: Vec<&ChildStart> = follow.children.iter().collect();
    children.sort_by_key(|child| (child.workflow, child.key.as_str()));
    for child in children {
        start_child(&mut tx, registry, settlement, child).await?;
    }
    for fan_out in &follow.fan_outs {
        fan_out::begin(&mut tx, settlement, fan_out).await?;
    }
    if let Some(batch) = &follow.fan_batch {
        fan_out::start_batch(&mut tx, settlement, batch).await?;
    }
    for watched in &follow.watches {
        watch(&mut tx, settlement, *watched).await?;
    }
    for (position, signal) in follow.signals.iter().enumerate() {
        send(&mut tx, registry, settlement, signal, position).await?;
    }
    if closes_children(settlement) {
        store::operator::close_children(&mut tx, settlement.run.key).await?;
    }
    tx.commit().await?;
    Ok(Some(settled))
}

pub(crate) fn place(settlement: &Settlement) -> Place {
    Place {
        closing: false,
        shard_id: settlement.run.key.shard_id,
        clock_id: settlement.run.clock_id,
        keys: settlement.run.keys.clone(),
    }
}

async fn start_child(
    conn: &mut PgConnection,
    registry: &Registry,
    settlement: &Settlement,
    child: &ChildStart,
) -> Result<(), FollowError> {
    let started = start::start(
        conn,
        registry,
        settlement.tenant_id(),
        &place(settlement),
        StartRequest {
            workflow: child.workflow,
            key: &child.key,
            input: &child.input,
            origin: Origin {
                parent: child.watched.then_some(settlement.run.key.run_id),
                close: child.close,
                gathered: false,
                later: settlement.run.woken_by_deadline(),
            },
            options: StartOptions::default(),
        },
    )
    .await;
    let started = match started {
        // A launch whose key is taken has been made before, whatever its input was.
        Err(EngineError::KeyTaken { .. }) if !child.watched => return Ok(()),
        started => started?,
    };
    if child.watched && !started.created {
        adopt(conn, settlement, started.run_id).await?;
    }
    Ok(())
}

/// Waits for a run that lives already as for a child, unless that waits for this one.
pub(crate) async fn adopt(
    conn: &mut PgConnection,
    settlement: &Settlement,
    child: RunId,
) -> Result<(), FollowError> {
    let parent = settlement.run.key;
    let locked = RunKey {
        run_id: child,
        shard_id: parent.shard_id,
    };
    store::ring::lock(conn, locked).await?;
    if let Some(ring) = ring::closed_by(conn, parent, child).await? {
        return Err(FollowError::ChildCycle(ring));
    }
    watch(conn, settlement, child).await
}

pub(crate) async fn watch(
    conn: &mut PgConnection,
    settlement: &Settlement,
    watched: RunId,
) -> Result<(), FollowError> {
    let shard = settlement.run.key.shard_id;
    let (watcher, tenant) = (settlement.run.key.run_id, settlement.tenant_id());
    if store::run::add_watcher(conn, watched, shard, watcher, tenant).await? {
        return Ok(());
    }
    let identity = store::run::find_identity(conn, watched, shard)
        .await?
        .filter(|identity| identity.tenant_id == settlement.tenant_id())
        .ok_or(FollowError::NoRun(watched))?;
    let keys = &settlement.run.keys;
    let payload = finished(watched, &identity, keys);
    let payload = serde_json::to_vec(&payload).unwrap_or_default();
    let signal_id = format!("finished:{watched}");
    let message = NewMessage {
        run_id: settlement.run.key.run_id,
        shard_id: shard,
        tenant_id: settlement.tenant_id(),
        clock_id: settlement.run.clock_id,
        kind: InboxKind::RunFinished,
        position: 0,
        signal_id: &signal_id,
        name: &identity.workflow,
        payload: &keys.seal(payload),
    };
    store::inbox::insert(conn, &message).await?;
    Ok(())
}

pub(crate) fn finished(run_id: RunId, identity: &Identity, keys: &TenantKeys) -> FinishedRun {
    let output = identity.output.as_deref();
    FinishedRun {
        run_id,
        workflow: identity.workflow.clone(),
        key: identity.key.clone(),
        status: identity.status,
        output: output.map_or(Value::Null, |bytes| keys.show(bytes)),
        error: why_failed(identity.status, identity.error.as_ref()),
    }
}

async fn send(
    conn: &mut PgConnection,
    registry: &Registry,
    settlement: &Settlement,
    signal: &SignalOut,
    position: usize,
) -> Result<(), FollowError> {
    let Some(run_id) = receiver(conn, registry, settlement, signal).await? else {
        return Ok(());
    };
    let payload = serde_json::to_vec(&signal.signal).unwrap_or_default();
    let message = NewMessage {
        run_id,
        shard_id: settlement.run.key.shard_id,
        tenant_id: settlement.tenant_id(),
        clock_id: settlement.run.clock_id,
        kind: InboxKind::Signal,
        position: i32::try_from(position).unwrap_or(i32::MAX),
        signal_id: &signal.signal_id,
        name: &signal.name,
        payload: &settlement.run.keys.seal(payload),
    };
    let created = store::inbox::insert(conn, &message).await?;
    tally::signalled(created);
    Ok(())
}

/// Who gets the signal; a run that has ended keeps it as late.
async fn receiver(
    conn: &mut PgConnection,
    registry: &Registry,
    settlement: &Settlement,
    signal: &SignalOut,
) -> Result<Option<RunId>, FollowError> {
    let tenant = settlement.tenant_id();
    let shard = settlement.run.key.shard_id;
    match &signal.target {
        SignalTarget::Run(run) => {
            let identity = store::run::find_identity(conn, *run, shard)
                .await?
                .filter(|identity| identity.tenant_id == tenant)
                .ok_or(FollowError::NoRun(*run))?;
            keep(conn, settlement, *run, identity.status).await
        }
        SignalTarget::Key(key) => {
            let workflow = signal.workflow;
            let holder = store::run::find_by_key(conn, tenant, shard, workflow, key).await?;
            match holder {
                Some(holder) => keep(conn, settlement, holder.run_id, holder.status).await,
                None => Err(FollowError::NoReceiver {
                    workflow,
                    key: key.clone(),
                }),
            }
        }
        SignalTarget::StartKey { key, input } => {
            let workflow = signal.workflow;
            let holder = store::run::find_by_key(conn, tenant, shard, workflow, key).await?;
            if let Some(holder) = holder {
                return keep(conn, settlement, holder.run_id, holder.status).await;
            }
            let request = StartRequest {
                workflow,
                key,
                input,
                origin: Origin::default(),
                options: StartOptions::default(),
            };
            let place = place(settlement);
            let started = start::start(conn, registry, tenant, &place, request).await?;
            Ok(Some(started.run_id))
        }
    }
}

/// A receiver that has ended is not dropped under the message that is kept with it.
async fn keep(
    conn: &mut PgConnection,
    settlement: &Settlement,
    run: RunId,
    status: Status,
) -> Result<Option<RunId>, FollowError> {
    let (shard, tenant) = (settlement.run.key.shard_id, settlement.tenant_id());
    if status.is_finished() && !store::run::keep(conn, run, shard, tenant).await? {
        return Err(FollowError::NoRun(run));
    }
    Ok(Some(run))
}
