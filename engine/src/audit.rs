//! The audit: what people did, to what, when and why.
//!
//! It is kept in two tables: `engine.audit` for what is a tenant's (runs, schedules, operations on
//! many runs, legal holds), `engine.control_audit` for all else. What people do to runs is written
//! where it is done; [`note`] is for those who keep more under the engine's roof, and [`list`] reads
//! both tables as one.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::EngineError;
use crate::flow::{Author, check_reason};
use crate::id::{self, RunId, TenantId};
use crate::seal::{self, Keyring};
use crate::store;
use crate::store::audit::AuditRow;
use crate::store::control::{self, ActRow};

/// What somebody did to what is no run.
#[derive(Debug, Clone)]
pub struct Deed<'a> {
    /// The verb, such as "place hold".
    pub action: &'a str,
    /// What it was done to.
    pub subject: &'a str,
    /// Whose that is: the tenant itself, or the one that has it. None for what is no tenant's.
    pub tenant: Option<TenantId>,
    /// How it stood before.
    pub before: Value,
    /// How it stands after.
    pub after: Value,
}

/// Writes a deed into the audit. The transaction must act as the engine.
///
/// # Errors
/// [`EngineError::Malformed`] for a reason that is empty or has more than 2,000 characters.
pub async fn note(
    conn: &mut PgConnection,
    author: &Author,
    deed: &Deed<'_>,
) -> Result<(), EngineError> {
    check_reason(author)?;
    Ok(control::insert(conn, id::random_uuid(), author, deed).await?)
}

/// Which lines are wanted; every part that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// What was done to this run.
    pub run: Option<RunId>,
    /// What was done to this tenant, or to what is its own.
    pub tenant: Option<TenantId>,
    /// By whom.
    pub actor: Option<String>,
    /// The verb.
    pub action: Option<String>,
    /// What it was done to: an id or a name.
    pub subject: Option<String>,
    /// At this instant or later, in real time.
    pub from: Option<DateTime<Utc>>,
    /// Before this instant, in real time.
    pub to: Option<DateTime<Utc>>,
}

/// What somebody did.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Identity.
    pub audit_id: Uuid,
    /// When, in real time.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// In which role.
    pub role: String,
    /// The verb.
    pub action: String,
    /// Why, in the actor's words.
    pub reason: String,
    /// The run it was done to.
    pub run_id: Option<RunId>,
    /// Whose that is, where the line tells it.
    pub tenant_id: Option<TenantId>,
    /// What it was done to, where that is no run.
    pub subject: Option<String>,
    /// The revision that the actor saw, of what has revisions.
    pub revision: Option<i64>,
    /// How it stood before. What is sealed and cannot be opened says why.
    pub before: Value,
    /// How it stands after, likewise.
    pub after: Value,
}

/// A page of the list: what follows a line, and how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// The last line of the page before.
    pub(crate) before: Option<(DateTime<Utc>, Uuid)>,
    pub(crate) limit: i64,
}

/// Lists what people did, newest first. `before` is when the last line of the page before was
/// written, and its id. Which lines are seen is up to the connection's role: a tenant's sees what was
/// done to its runs, schedules and operations, and to the tenant itself. The connection must be in a
/// transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    keyring: &Keyring,
    query: &Query,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<Line>, EngineError> {
    store::search::plan_for_values(conn).await?;
    let page = Page { before, limit };
    let mut lines = of_tenants(conn, keyring, query, page).await?;
    // A run is never what a line of the other table is about.
    if query.run.is_none() {
        let rows = control::list(conn, query, page).await?;
        lines.extend(rows.into_iter().map(of_control));
    }
    // Each table gave the newest of its own: the newest of both are among them.
    lines.sort_by_key(|line| Reverse((line.at, line.audit_id)));
    lines.truncate(usize::try_from(limit).unwrap_or_default());
    Ok(lines)
}

/// Lists what was done to what is a tenant's.
async fn of_tenants(
    conn: &mut PgConnection,
    keyring: &Keyring,
    query: &Query,
    page: Page,
) -> Result<Vec<Line>, EngineError> {
    let named = query.subject.as_deref().map(Uuid::parse_str).transpose();
    // What is a tenant's has an id: a name is that of something else.
    let Ok(named) = named else {
        return Ok(Vec::new());
    };
    let run = query.run.map(|run| run.0);
    if named.is_some() && run.is_some() && named != run {
        return Ok(Vec::new());
    }
    let shard = match (query.run, query.tenant) {
        (Some(run), _) => Some(run.shard()),
        (None, Some(tenant)) => {
            let place = store::run::find_place(conn, tenant).await?;
            place.map(|place| place.shard_id)
        }
        (None, None) => None,
    };
    let rows = store::audit::list(conn, query, (run.or(named), shard), page).await?;
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        let before = open(keyring, row.tenant_id, &row.before).await?;
        let after = open(keyring, row.tenant_id, &row.after).await?;
        lines.push(of_tenant(row, before, after));
    }
    Ok(lines)
}

/// Opens what a line keeps, if it is sealed.
async fn open(keyring: &Keyring, tenant: TenantId, kept: &Value) -> Result<Value, EngineError> {
    match sealed(kept) {
        Some(payload) => Ok(keyring.reader(tenant).await?.show(&payload)),
        None => Ok(kept.clone()),
    }
}

/// What was sealed, of what was kept as JSON.
fn sealed(kept: &Value) -> Option<Vec<u8>> {
    let fields = kept.as_object().filter(|fields| fields.len() == 1)?;
    let payload = hex::decode(fields.get("sealed")?.as_str()?).ok()?;
    seal::is_sealed(&payload).then_some(payload)
}

/// The column that names the run names what else was acted on, too.
fn of_tenant(row: AuditRow, before: Value, after: Value) -> Line {
    let on_schedule = row.action.starts_with("schedule ");
    let on_operation = row.action.starts_with("bulk-");
    let on_tenant = row.run_id == row.tenant_id.0;
    let on_run = !(on_schedule || on_operation || on_tenant);
    let is_hold = matches!(row.action.as_str(), "hold" | "lift hold");
    let has_revision = on_schedule || (on_run && !is_hold);
    Line {
        audit_id: row.audit_id,
        at: row.at,
        actor: row.actor,
        role: row.role,
        action: row.action,
        reason: row.reason,
        run_id: on_run.then_some(RunId(row.run_id)),
        tenant_id: Some(row.tenant_id),
        subject: (!on_run).then(|| row.run_id.to_string()),
        revision: has_revision.then_some(row.epoch_seen),
        before,
        after,
    }
}

fn of_control(row: ActRow) -> Line {
    Line {
        audit_id: row.act_id,
        at: row.at,
        actor: row.actor,
        role: row.role,
        action: row.action,
        reason: row.reason,
        run_id: None,
        tenant_id: row.tenant_id,
        subject: Some(row.subject),
        revision: None,
        before: row.before,
        after: row.after,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_sealed_is_taken_for_sealed() {
        assert_eq!(sealed(&json!({ "sealed": "01ff" })), Some(vec![1, 0xff]));
        for clear in [
            json!(null),
            json!("01ff"),
            json!({}),
            json!({ "sealed": true }),
            json!({ "sealed": "yes" }),
            json!({ "sealed": "7b7d" }),
            json!({ "sealed": "01ff", "state": "Open" }),
        ] {
            assert_eq!(sealed(&clear), None, "{clear}");
        }
    }

    #[test]
    fn a_line_is_about_a_run_or_names_what_else_it_is_about() {
        let (id, tenant) = (Uuid::from_u128(7), TenantId(Uuid::from_u128(9)));
        for (action, acted_on, run, revision) in [
            ("retry", id, true, true),
            ("hold", id, true, false),
            ("hold", tenant.0, false, false),
            ("retention", tenant.0, false, false),
            ("schedule pause", id, false, true),
            ("bulk-confirm", id, false, false),
        ] {
            let row = AuditRow {
                audit_id: Uuid::nil(),
                at: DateTime::<Utc>::UNIX_EPOCH,
                actor: "maria".to_owned(),
                role: "operator".to_owned(),
                action: action.to_owned(),
                reason: "because".to_owned(),
                run_id: acted_on,
                tenant_id: tenant,
                epoch_seen: 3,
                before: Value::Null,
                after: Value::Null,
            };
            let line = of_tenant(row, Value::Null, Value::Null);
            assert_eq!(line.run_id, run.then_some(RunId(acted_on)), "{action}");
            let subject = (!run).then(|| acted_on.to_string());
            assert_eq!(line.subject, subject, "{action}");
            assert_eq!(line.revision, revision.then_some(3), "{action}");
        }
    }
}
