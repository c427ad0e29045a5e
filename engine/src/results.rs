//! What other runs left behind, read during a visit from their own rows.
//!
//! A run that has ended changes no more, so a repeated visit reads the same of it; of one that goes on
//! it may read more. Nothing is copied into the reader's state or journal.

use crate::context::Context;
use crate::error::StepError;
use crate::fan_out::{ChildResult, Joined};
use crate::follow;
use crate::id::RunId;
use crate::store;
use crate::store::fan_out::ChildPage;
use crate::workflow::{FinishedRun, Workflow};

/// The most children that one call reads.
const PAGE: u32 = 500;

impl Context {
    /// Reads children of a fan-out, in the order of its items, from place `from` on: at most `limit`,
    /// and at most 500. `C` is the workflow that it started.
    ///
    /// # Errors
    /// Retryable, when the database does not answer.
    pub async fn child_results<C: Workflow>(
        &self,
        joined: &Joined,
        from: u32,
        limit: u32,
    ) -> Result<Vec<ChildResult>, StepError> {
        let page = ChildPage {
            fan_out: joined.run_id,
            shard_id: self.shard_id(),
            tenant_id: self.tenant_id(),
            workflow: C::NAME,
            from,
            limit: limit.min(PAGE),
        };
        let mut conn = self.pool().acquire().await?;
        Ok(store::fan_out::list_children(&mut conn, &page, self.keys()).await?)
    }

    /// Reads how a run of the same tenant ended; `None` while it goes on, or when there is none.
    ///
    /// # Errors
    /// Retryable, when the database does not answer.
    pub async fn result(&self, run: RunId) -> Result<Option<FinishedRun>, StepError> {
        let mut conn = self.pool().acquire().await?;
        let identity = store::run::find_identity(&mut conn, run, self.shard_id()).await?;
        Ok(identity
            .filter(|found| found.tenant_id == self.tenant_id() && found.status.is_finished())
            .map(|found| follow::finished(run, &found, self.keys())))
    }
}
