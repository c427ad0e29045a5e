//! What humans do to runs: each verb with a reason, the revision that was seen, and an audit row.

use serde_json::json;
use sqlx::PgConnection;

use crate::error::EngineError;
use crate::id::{self, RunId};
use crate::run::Status;
use crate::store;

/// Who intervenes, why, and what they saw.
#[derive(Debug, Clone)]
pub struct Act {
    /// From the token, never from the request.
    pub actor: String,
    /// The role in which they act.
    pub role: String,
    /// The verb.
    pub action: &'static str,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
    /// The revision of the run or schedule that they saw.
    pub revision: i64,
}

/// Whether *retry now* makes sense in a status, or why not.
///
/// # Errors
/// The reason, in words for the operator.
pub fn may_retry(status: Status) -> Result<(), &'static str> {
    match status {
        Status::Stuck | Status::Retrying | Status::NoHandler => Ok(()),
        Status::Due | Status::Running => Err("it is being worked on already"),
        Status::Waiting => Err("nothing failed: it waits for a signal or a deadline"),
        Status::Undoing | Status::Paused | Status::Blocked => Err("it is held back on purpose"),
        Status::Completed | Status::Failed | Status::Cancelled | Status::Terminated => {
            Err("it has ended")
        }
    }
}

/// Checks that somebody said why.
pub(crate) fn check_reason(reason: &str) -> Result<(), EngineError> {
    if reason.trim().is_empty() || reason.chars().count() > 2000 {
        return Err(EngineError::Malformed {
            what: "reason",
            workflow: String::new(),
            detail: "a reason has 1 to 2,000 characters".to_owned(),
        });
    }
    Ok(())
}

/// Tries again now, with the attempts forgotten. Answered steps of the visit stay answered.
///
/// # Errors
/// [`EngineError::Moved`] when the run is not as the operator saw it, [`EngineError::NotAllowed`]
/// when there is nothing to retry, [`EngineError::RunNotFound`].
pub async fn retry(conn: &mut PgConnection, run: RunId, act: &Act) -> Result<(), EngineError> {
    check_reason(&act.reason)?;
    let shard = run.shard();
    let locked = store::operator::lock(conn, run, shard)
        .await?
        .ok_or_else(|| EngineError::RunNotFound(run.to_string()))?;
    let current = locked.epoch + locked.visit;
    if current != act.revision {
        return Err(EngineError::Moved {
            seen: act.revision,
            current,
        });
    }
    may_retry(locked.status).map_err(|reason| EngineError::NotAllowed {
        verb: "retry",
        reason: reason.to_owned(),
    })?;
    store::operator::make_due(conn, run, shard).await?;
    let before = json!({
        "status": locked.status, "state": locked.state, "revision": current,
    });
    let after = json!({
        "status": Status::Due, "state": locked.state, "revision": current + 1,
    });
    let audit_id = id::new_uuid(shard);
    store::operator::insert_audit(
        conn,
        audit_id,
        run,
        shard,
        locked.tenant_id,
        act,
        &before,
        &after,
    )
    .await?;
    Ok(())
}
