//! Forgetting a tenant: its runs are brought to an end, then all that the engine has of them goes.
//!
//! ```text
//! tenant::close ─ nothing new from outside
//!    live, end_live ─ asked to end, and terminated if they do not
//!       drop_page (runs, logs, audit, …) ─ a page a transaction, until none is left
//!          count ─ what is still there
//!             seal::destroy ─ its keys; the row in the directory stays, closed for ever
//! ```
//!
//! What runs left behind in the logs of other tenants' runs is nothing: runs of two tenants do not
//! talk. The directory's row stays, with an id that says nothing, so that the tenant can never be
//! started for again; and so do its keys' rows, without the keys.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::client::Sender;
use crate::context::Context;
use crate::error::EngineError;
use crate::id::{RunId, ShardId, TenantId};
use crate::operator::{self, Act, Verb};
use crate::store;

/// The tables of the engine that hold a tenant's rows and are emptied of them.
pub const TABLES: [&str; 17] = [
    "run",
    "due",
    "nudge",
    "clocked",
    "parked",
    "inbox",
    "transition",
    "audit",
    "schedule",
    "slot",
    "waiter",
    "bulk",
    "bulk_run",
    "fan_item",
    "progress",
    "gathering",
    "tenant_weight",
];

/// The tables that keep a row of a tenant that was forgotten, and why.
pub const KEPT: [(&str, &str); 4] = [
    (
        "tenant",
        "the id and the shard, so that nothing is ever started for it again",
    ),
    (
        "data_key",
        "that there were keys, and when they were destroyed; the keys are gone",
    ),
    (
        "control_audit",
        "who did what to it, when and why; what that was about is emptied",
    ),
    (
        "legal_hold",
        "a hold stands in the way of forgetting, so there is none",
    ),
];

/// What is dropped together, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shelf {
    /// Schedules and their slots.
    Schedules,
    /// Runs with their messages, journals and logs.
    Runs,
    /// Logs of runs that were dropped before.
    Logs,
    /// What people did to its runs.
    Audit,
    /// What is small.
    Rest,
}

impl Shelf {
    /// All of them, in the order in which they are emptied.
    pub const ALL: [Self; 5] = [
        Self::Schedules,
        Self::Runs,
        Self::Logs,
        Self::Audit,
        Self::Rest,
    ];

    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Schedules => "schedules",
            Self::Runs => "runs",
            Self::Logs => "logs",
            Self::Audit => "audit",
            Self::Rest => "rest",
        }
    }
}

/// What a page came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Rows, or runs with all that hangs on them.
    pub rows: i64,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<Uuid>,
}

/// The runs of a tenant that have not ended, by workflow. The transaction must act as the engine.
///
/// # Errors
/// When the database does not answer.
pub async fn live(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<Vec<(String, i64)>, EngineError> {
    let shard = shard_of(conn, tenant).await?;
    Ok(store::forget::count_live(conn, tenant, shard).await?)
}

/// The reason of a legal hold that stands on the tenant or on a run of it.
///
/// # Errors
/// [`EngineError::UnknownTenant`].
pub async fn held(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<Option<String>, EngineError> {
    let shard = shard_of(conn, tenant).await?;
    Ok(store::forget::find_hold(conn, tenant, shard).await?)
}

/// Asks the live runs of a tenant to end, or ends them; how many took it. A run that is just changing
/// is left for the next time. For workflows, which are handed the context.
///
/// # Errors
/// When the database does not answer.
pub async fn end_live(
    cx: &Context,
    tenant: TenantId,
    verb: &Verb,
    reason: &str,
) -> Result<u64, EngineError> {
    let mut conn = cx.pool().acquire().await?;
    let shard = shard_of(&mut conn, tenant).await?;
    let mut after = RunId(Uuid::nil());
    let mut done = 0;
    loop {
        let page = store::forget::list_live(&mut conn, tenant, shard, after, PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(done);
        };
        after = *last;
        for (run, revision) in page {
            done += u64::from(end(cx, (run, revision), verb, reason).await?);
        }
    }
}

/// A live run of the system tenant that is about another tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The run.
    pub run_id: RunId,
    /// The name of its state.
    pub state: String,
    /// Its revision.
    pub revision: i64,
}

/// The live runs of the system tenant that are about a tenant: their key begins with its id, or is one
/// of these. The transaction must act as the engine.
///
/// # Errors
/// When the database does not answer.
pub async fn about(
    conn: &mut PgConnection,
    tenant: TenantId,
    keys: &[String],
) -> Result<Vec<About>, EngineError> {
    Ok(store::forget::list_about(conn, tenant, keys).await?)
}

/// Asks a run that is about a tenant to end, or ends it, as [`end_live`]; whether it took that.
///
/// # Errors
/// When the database does not answer.
pub async fn end_about(
    cx: &Context,
    one: &About,
    verb: &Verb,
    reason: &str,
) -> Result<bool, EngineError> {
    end(cx, (one.run_id, one.revision), verb, reason).await
}

/// Asks one run to end, or ends it; whether it took it.
async fn end(
    cx: &Context,
    (run, revision): (RunId, i64),
    verb: &Verb,
    reason: &str,
) -> Result<bool, EngineError> {
    let act = Act {
        actor: "tenure".to_owned(),
        role: "system".to_owned(),
        reason: reason.to_owned(),
        revision,
    };
    let mut tx = crate::pool::begin(cx.pool()).await?;
    match operator::intervene(&mut tx, cx.registry(), run, verb, &act).await {
        Ok(_) => {
            tx.commit().await?;
            Ok(true)
        }
        Err(EngineError::Database(error)) => Err(error.into()),
        // It has moved on, or has heard of it already.
        Err(_) => {
            tx.rollback().await?;
            Ok(false)
        }
    }
}

/// How many runs are looked at at once.
const PAGE: i64 = 200;

/// Signals a run of another tenant, with an audit row, as [`operator::signal`], and as the workflow's own
/// door. For workflows of the system tenant, which are handed the context. A run that has ended keeps it as late.
///
/// # Errors
/// As [`operator::signal`].
pub async fn signal(
    cx: &Context,
    run: RunId,
    (signal_id, signal): (&str, &Value),
    act: &Act,
) -> Result<(), EngineError> {
    let mut tx = crate::pool::begin(cx.pool()).await?;
    let what = (signal_id, signal);
    match operator::send(&mut tx, cx.registry(), run, what, act, Sender::Workflow).await {
        Ok(()) | Err(EngineError::RunFinished { .. }) => Ok(tx.commit().await?),
        Err(error) => Err(error),
    }
}

/// Drops a page of a shelf. Nothing of a tenant that is held, or has live runs, goes. The transaction
/// must act as the engine, and is the caller's, so that its own count of what went is as true as the
/// deletion itself.
///
/// # Errors
/// [`EngineError::NotAllowed`] while a legal hold stands, a run has not ended, or the tenant is open;
/// [`EngineError::UnknownTenant`].
pub async fn drop_page(
    conn: &mut PgConnection,
    tenant: TenantId,
    shelf: Shelf,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Dropped, EngineError> {
    let place = store::run::find_place(conn, tenant).await?;
    let place = place.ok_or(EngineError::UnknownTenant(tenant))?;
    let shard = place.shard_id;
    let obstacle = match place.closing {
        false => Some("the tenant is open; close it first"),
        true => store::data_key::find_obstacle(conn, tenant, shard).await?,
    };
    if let Some(obstacle) = obstacle {
        return Err(EngineError::NotAllowed {
            verb: "forget",
            reason: obstacle.to_owned(),
        });
    }
    let after = after.unwrap_or(Uuid::nil());
    let page = match shelf {
        Shelf::Schedules => store::forget::drop_schedules(conn, tenant, shard, limit).await?,
        Shelf::Runs => store::forget::drop_runs(conn, tenant, shard, limit).await?,
        Shelf::Logs => store::forget::drop_logs(conn, tenant, after, limit).await?,
        Shelf::Audit => store::forget::drop_audit(conn, tenant, after, limit).await?,
        Shelf::Rest => store::forget::drop_rest(conn, tenant).await?,
    };
    Ok(Dropped {
        rows: page.dropped,
        next: page.last,
    })
}

/// Empties what the audit of acts says of a tenant and of what is its own. Who acted, when and why stays.
/// How many lines were emptied. The transaction must act as the engine.
///
/// # Errors
/// When the database does not answer.
pub async fn minimise_acts(conn: &mut PgConnection, tenant: TenantId) -> Result<i64, EngineError> {
    Ok(store::forget::minimise_acts(conn, tenant).await?)
}

/// Counts what the engine has of a tenant, by table of [`TABLES`]. It reads whole tables.
///
/// # Errors
/// When the database does not answer.
pub async fn count(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<Vec<(String, i64)>, EngineError> {
    Ok(store::forget::count(conn, tenant).await?)
}

async fn shard_of(conn: &mut PgConnection, tenant: TenantId) -> Result<ShardId, EngineError> {
    let place = store::run::find_place(conn, tenant).await?;
    let place = place.ok_or(EngineError::UnknownTenant(tenant))?;
    Ok(place.shard_id)
}
