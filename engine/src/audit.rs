//! The audit, for those who keep more under the engine's roof than runs: what a person did to it,
//! and why. What people do to runs is audited where it is done.

use serde_json::Value;
use sqlx::PgConnection;

use crate::error::EngineError;
use crate::flow::{Author, check_reason};
use crate::id;
use crate::store::control::{self, ControlAct};

/// What somebody did to what is no run.
#[derive(Debug, Clone)]
pub struct Deed<'a> {
    /// The verb, such as "place hold".
    pub action: &'a str,
    /// What it was done to.
    pub subject: &'a str,
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
    let act = ControlAct {
        action: deed.action,
        subject: deed.subject,
        before: deed.before.clone(),
        after: deed.after.clone(),
    };
    Ok(control::insert(conn, id::random_uuid(), author, &act).await?)
}
