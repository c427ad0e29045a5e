//! Showing one private field of a run to a person who says why.

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{Act, check_reason, malformed};
use crate::error::EngineError;
use crate::id::{self, RunId};
use crate::inspect::{self, RunDetail};
use crate::private::{Found, Private, path_of, pointer};
use crate::registry::Registry;
use crate::seal::TenantKeys;
use crate::store;
use crate::store::operator::Audit;

/// Shows a private field, and writes into the audit who saw which field and why, but not what it holds.
/// The transaction must act as the engine. `act.revision` says nothing here.
///
/// `field` is a JSON Pointer (RFC 6901) that begins with what the field is in: `/data`, `/output`,
/// `/progress/{step}/value`, `/steps/{visit}/{seq}/answer` or `/signals/{signal id}/payload`; of steps and
/// signals the latest 500 are known.
///
/// # Errors
/// [`EngineError::Malformed`] for a bad reason, or when there is no such field or it is not private;
/// [`EngineError::RunNotFound`].
pub async fn reveal(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
    field: &str,
    act: &Act,
) -> Result<Value, EngineError> {
    check_reason(&act.reason)?;
    let found = inspect::detail(conn, registry, run).await?;
    let refused = |detail: String| malformed("field", "", detail);
    let path = path_of(field).ok_or_else(|| {
        refused(format!(
            "{field:?} is no JSON Pointer, such as /data/Open/email"
        ))
    })?;
    let Some((private, payload, rest)) = find_payload(conn, registry, &found, &path).await? else {
        return Err(refused(format!("there is no {field}")));
    };
    let value = match private.find(&payload, rest) {
        Found::Private(value) => value.clone(),
        Found::Shown => {
            return Err(refused(format!(
                "{field} is not private: it is shown as it is"
            )));
        }
        Found::Nowhere => return Err(refused(format!("there is no {field}"))),
        Found::Inside(names) => {
            let whole = pointer(&path[..path.len() - rest.len() + names]);
            return Err(refused(format!("{whole} is revealed as a whole")));
        }
    };
    let seen = Act {
        revision: found.summary.revision(),
        ..act.clone()
    };
    let keys = match registry.keyring().of(found.summary.tenant_id).await {
        Err(EngineError::KeysDestroyed(_)) => TenantKeys::default(),
        keys => keys?,
    };
    let row = Audit {
        audit_id: id::new_uuid(run.shard()),
        subject: run,
        shard_id: run.shard(),
        tenant_id: found.summary.tenant_id,
        action: "reveal",
        before: &Value::Null,
        after: &keys.seal_json(&json!({ "field": field })),
    };
    store::operator::insert_audit(conn, &seen, &row).await?;
    Ok(value)
}

/// The payload that a field is in, what of it is private, and the way to the field in it.
async fn find_payload<'a>(
    conn: &mut PgConnection,
    registry: &Registry,
    found: &RunDetail,
    path: &'a [String],
) -> Result<Option<(Private, Value, &'a [String])>, EngineError> {
    let (run, workflow) = (found.summary.run_id, found.summary.workflow.as_str());
    let private = registry.private(workflow);
    let Some((first, rest)) = path.split_first() else {
        return Ok(None);
    };
    let names: Vec<&str> = rest.iter().map(String::as_str).collect();
    Ok(match (first.as_str(), names.as_slice()) {
        ("data", _) => Some((private, found.data.clone(), rest)),
        ("output", _) => found.output.clone().map(|output| (private, output, rest)),
        ("progress", [step, "value", ..]) => {
            let line = found.progress.iter().find(|line| line.step == *step);
            line.map(|line| (private, line.value.clone(), &rest[2..]))
        }
        ("steps", [visit, seq, "answer", ..]) => {
            let lines = inspect::steps(conn, registry.keyring(), run).await?;
            let mut lines = lines.into_iter();
            let line =
                lines.find(|line| line.visit.to_string() == *visit && line.seq.to_string() == *seq);
            line.and_then(|line| Some((private, line.answer?, &rest[3..])))
        }
        ("signals", [signal_id, "payload", ..]) => {
            let lines = inspect::signals(conn, registry.keyring(), run).await?;
            let line = lines.into_iter().find(|line| line.signal_id == *signal_id);
            line.map(|line| {
                let private = line.private(registry, workflow);
                (private, line.payload, &rest[2..])
            })
        }
        _ => None,
    })
}
