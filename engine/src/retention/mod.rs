//! Retention: how long finished runs and logs are kept, and what must not be forgotten.
//!
//! A workflow declares how long its finished runs are kept ([`Workflow::RETENTION`]); operators may
//! decide otherwise at run time. A legal hold on a tenant or a run outranks both. `sweep.rs` does
//! the work in a worker's upkeep, `archive.rs` writes and reads the files; here are the doors.
//!
//! Every decision here waits for what is being dropped at that moment, and whatever is dropped after
//! it sees the decision: when a door has answered and its transaction is committed, it holds.
//!
//! [`Workflow::RETENTION`]: crate::Workflow::RETENTION

pub mod archive;
mod policy;
mod sweep;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub(crate) use policy::{Override, Policies};
pub use policy::{Retention, RetentionConfig};
pub(crate) use sweep::keep_sweeping;
pub use sweep::{Swept, sweep};

use crate::error::EngineError;
use crate::id::{self, RunId, SYSTEM_TENANT, ShardId, TenantId};
use crate::operator::{self, Act};
use crate::registry::Registry;
use crate::store;
use crate::store::operator::Audit;

/// A workflow's retention, and whence it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The workflow.
    pub workflow: String,
    /// What holds.
    pub retention: Retention,
    /// What the code declares; `None` for a workflow that this process does not know.
    pub declared: Option<Retention>,
    /// Who decided otherwise, when, and why.
    pub decided: Option<Decision>,
}

/// Who decided on a workflow's retention.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// When, in real time.
    pub at: DateTime<Utc>,
    /// Who.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
}

/// A reason why nothing of a tenant or a run is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Identity.
    pub hold_id: Uuid,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The run; `None` holds all that is the tenant's.
    pub run_id: Option<RunId>,
    /// Since when, in real time.
    pub since: DateTime<Utc>,
    /// Who placed it.
    pub author: String,
    /// Why, in their words.
    pub reason: String,
}

/// Which holds are wanted; nothing set means all.
#[derive(Debug, Clone, Default)]
pub struct HoldFilter {
    /// On this tenant, or on a run of it.
    pub tenant_id: Option<TenantId>,
    /// On this run itself.
    pub run_id: Option<RunId>,
}

/// What a hold is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All runs of a tenant.
    Tenant(TenantId),
    /// One run.
    Run(RunId),
}

/// Lists what holds for each workflow that this process knows or operators decided on.
///
/// # Errors
/// When the database does not answer.
pub async fn policies(
    conn: &mut PgConnection,
    registry: &Registry,
) -> Result<Vec<Policy>, EngineError> {
    let declared = registry.retentions().into_iter();
    let mut all: BTreeMap<String, Policy> = declared
        .map(|(workflow, retention)| {
            let policy = Policy {
                workflow: workflow.to_owned(),
                retention,
                declared: Some(retention),
                decided: None,
            };
            (workflow.to_owned(), policy)
        })
        .collect();
    for one in store::retention::list_overrides(conn).await? {
        let policy = all.entry(one.workflow.clone()).or_insert(Policy {
            workflow: one.workflow,
            retention: one.retention,
            declared: None,
            decided: None,
        });
        policy.retention = one.retention;
        policy.decided = Some(Decision {
            at: one.changed_at,
            by: one.changed_by,
            reason: one.reason,
        });
    }
    Ok(all.into_values().collect())
}

/// Decides on the retention of a workflow's runs, over what its code declares.
/// The transaction must act as the engine.
///
/// # Errors
/// [`EngineError::UnknownWorkflow`], [`EngineError::Malformed`] for a bad reason.
pub async fn decide(
    conn: &mut PgConnection,
    registry: &Registry,
    workflow: &str,
    retention: Retention,
    act: &Act,
) -> Result<Policy, EngineError> {
    operator::check_reason(&act.reason)?;
    let find = |policies: Vec<Policy>| policies.into_iter().find(|one| one.workflow == workflow);
    let unknown = || EngineError::UnknownWorkflow(workflow.to_owned());
    store::retention::restart_pass(conn).await?;
    let before = find(policies(conn, registry).await?).ok_or_else(unknown)?;
    store::retention::put_override(conn, workflow, retention, act).await?;
    let after = find(policies(conn, registry).await?).ok_or_else(unknown)?;
    let subject = Subject::tenant(SYSTEM_TENANT, SYSTEM_TENANT.shard());
    let shape = |policy: &Policy| json!({ "workflow": workflow, "retention": policy.retention });
    audit(
        conn,
        subject,
        "retention",
        act,
        [shape(&before), shape(&after)],
    )
    .await?;
    Ok(after)
}

/// Places a hold. The transaction must act as the engine.
///
/// # Errors
/// [`EngineError::NotAllowed`] when the same is held already; [`EngineError::UnknownTenant`],
/// [`EngineError::RunNotFound`], [`EngineError::Malformed`] for a bad reason.
pub async fn place(conn: &mut PgConnection, scope: Scope, act: &Act) -> Result<Hold, EngineError> {
    operator::check_reason(&act.reason)?;
    store::retention::restart_pass(conn).await?;
    let (tenant, run, shard) = match scope {
        Scope::Tenant(tenant) => {
            let place = store::run::find_place(conn, tenant).await?;
            let place = place.ok_or(EngineError::UnknownTenant(tenant))?;
            (tenant, None, place.shard_id)
        }
        Scope::Run(run) => {
            let found = store::run::find_identity(conn, run, run.shard()).await?;
            let found = found.ok_or_else(|| EngineError::RunNotFound(run.to_string()))?;
            (found.tenant_id, Some(run), run.shard())
        }
    };
    let hold_id = id::new_uuid(shard);
    let hold = store::retention::insert_hold(conn, hold_id, shard, tenant, run, act)
        .await?
        .ok_or_else(|| EngineError::NotAllowed {
            verb: "hold",
            reason: "the same is held already".to_owned(),
        })?;
    let subject = Subject::of(&hold, shard);
    audit(conn, subject, "hold", act, [Value::Null, shape(&hold)]).await?;
    Ok(hold)
}

/// Lifts a hold. The transaction must act as the engine.
///
/// # Errors
/// [`EngineError::HoldNotFound`], [`EngineError::Malformed`] for a bad reason.
pub async fn lift(conn: &mut PgConnection, hold_id: Uuid, act: &Act) -> Result<Hold, EngineError> {
    operator::check_reason(&act.reason)?;
    store::retention::restart_pass(conn).await?;
    let shard = RunId(hold_id).shard();
    let hold = store::retention::delete_hold(conn, hold_id, shard)
        .await?
        .ok_or(EngineError::HoldNotFound(hold_id))?;
    let subject = Subject::of(&hold, shard);
    audit(conn, subject, "lift hold", act, [shape(&hold), Value::Null]).await?;
    Ok(hold)
}

/// Lists holds, newest first. `after` is the last hold of the page before. Which tenants' are seen
/// is up to the connection's role.
///
/// # Errors
/// When the database does not answer.
pub async fn holds(
    conn: &mut PgConnection,
    filter: &HoldFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Hold>, EngineError> {
    Ok(store::retention::list_holds(conn, filter, after, limit).await?)
}

/// Whom an audit row is about.
struct Subject {
    id: Uuid,
    tenant: TenantId,
    shard: ShardId,
}

impl Subject {
    fn tenant(tenant: TenantId, shard: ShardId) -> Self {
        Self {
            id: tenant.0,
            tenant,
            shard,
        }
    }

    fn of(hold: &Hold, shard: ShardId) -> Self {
        Self {
            id: hold.run_id.map_or(hold.tenant_id.0, |run| run.0),
            tenant: hold.tenant_id,
            shard,
        }
    }
}

fn shape(hold: &Hold) -> Value {
    json!({ "hold_id": hold.hold_id, "since": hold.since, "reason": hold.reason })
}

async fn audit(
    conn: &mut PgConnection,
    subject: Subject,
    action: &'static str,
    act: &Act,
    [before, after]: [Value; 2],
) -> Result<(), EngineError> {
    let row = Audit {
        audit_id: id::new_uuid(subject.shard),
        subject: RunId(subject.id),
        shard_id: subject.shard,
        tenant_id: subject.tenant,
        action,
        before: &before,
        after: &after,
    };
    Ok(store::operator::insert_audit(conn, act, &row).await?)
}
