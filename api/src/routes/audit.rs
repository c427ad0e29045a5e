//! The audit of what people do to what is no run.

use serde::Serialize;
use sqlx::PgConnection;
use tenure_engine::audit::{self, Deed};
use tenure_engine::flow::Author;

use crate::error::ApiError;
use crate::state::as_engine;

/// Notes in the audit what was done; the transaction acts as the engine afterwards.
pub(super) async fn note<T: Serialize>(
    conn: &mut PgConnection,
    author: &Author,
    action: &str,
    subject: &str,
    before: Option<&T>,
    after: &T,
) -> Result<(), ApiError> {
    let json = |value| serde_json::to_value(value).map_err(|_| ApiError::Internal);
    let deed = Deed {
        action,
        subject,
        before: json(before)?,
        after: json(Some(after))?,
    };
    as_engine(conn).await?;
    Ok(audit::note(conn, author, &deed).await?)
}
