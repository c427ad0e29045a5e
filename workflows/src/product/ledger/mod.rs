//! The ledger in a product's database: what was done there, and its answer.
//!
//! ```text
//! begin ─ insert the key ─┬─ new ────── the work ─ its answer beside the key ─ commit
//!                         └─ taken ──── the answer that stands there; nothing is done
//! ```
//!
//! The insert waits for another transaction that holds the same key, up to the lock timeout: of two
//! processes that do the same, the second one reads what the first has committed, or does the work
//! if that one was rolled back.

mod store;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::ProductError;

pub(super) use store::{
    bypasses_row_security, column_types, install, narrow, parent_columns, set_limits,
};

/// What is to be done once: for a job, under a name that a retry would give it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnceKey {
    /// The run whose work it is.
    pub job: Uuid,
    /// What of it: the same for the same work, such as `batch/17`.
    pub name: String,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// What the server is set up to wait for.
    OnDisk,
    /// Nothing.
    InMemory,
}

impl OnceKey {
    /// The work `name` of a job.
    #[must_use]
    pub fn new(job: Uuid, name: impl Into<String>) -> Self {
        Self {
            job,
            name: name.into(),
        }
    }

    /// What is done once whatever job asks for it, and never forgotten.
    #[must_use]
    pub fn lasting(name: impl Into<String>) -> Self {
        Self::new(Uuid::nil(), name)
    }
}

/// Does `work` in the transaction, or reads what came of it before. `subject` is the tenant or the
/// source that it is done to.
pub(super) async fn once<T, F>(
    mut tx: Transaction<'static, Postgres>,
    key: &OnceKey,
    subject: &str,
    work: F,
) -> Result<T, ProductError>
where
    T: Serialize + DeserializeOwned,
    F: AsyncFnOnce(&mut PgConnection) -> Result<T, ProductError>,
{
    let other = |error| ProductError::OtherAnswer(key.name.clone(), error);
    if !store::take(&mut tx, key, subject).await? {
        let answer = store::find(&mut tx, key, subject).await?;
        tx.rollback().await?;
        return serde_json::from_value(answer).map_err(other);
    }
    let done = work(&mut tx).await?;
    let answer = serde_json::to_value(&done).map_err(other)?;
    store::answer(&mut tx, key, subject, &answer).await?;
    tx.commit().await?;
    Ok(done)
}

/// Writes down that something is done, in a transaction that knows it is.
pub(crate) async fn mark(
    conn: &mut PgConnection,
    key: &OnceKey,
    subject: &str,
    answer: &Value,
) -> Result<(), ProductError> {
    if store::take(conn, key, subject).await? {
        store::answer(conn, key, subject, answer).await?;
    }
    Ok(())
}

/// Writes to what stands under the keys of a job, so that the commit of the transaction waits until
/// theirs are on disk, too.
pub(super) async fn flush(
    conn: &mut PgConnection,
    job: Uuid,
    keys: &[OnceKey],
    subject: &str,
) -> Result<(), ProductError> {
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    let found = store::touch(conn, job, &names, subject).await?;
    match (names.len() as u64).saturating_sub(found) {
        0 => Ok(()),
        lost => Err(ProductError::LostCommits(lost)),
    }
}

/// What the ledger says of a key, if it is there.
pub(super) async fn look(
    conn: &mut PgConnection,
    key: &OnceKey,
    subject: &str,
) -> Result<Option<Value>, ProductError> {
    Ok(store::find_any(conn, key, subject).await?)
}

/// Drops what is kept of a job; nothing of what lasts.
pub(super) async fn forget(conn: &mut PgConnection, job: Uuid) -> Result<(), ProductError> {
    if !job.is_nil() {
        store::forget(conn, job).await?;
    }
    Ok(())
}
