//! The run that acts: some runs a second, until none is left, too many refused, or somebody aborts.
//!
//! Its visits keep no journal: what was done stands in the selection's lines, each written in the
//! transaction of its verb. A visit that is repeated goes on where the lines end.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection, PgPool};

use super::{Action, Bulk, BulkOutcome, BulkStatus};
use crate::committer::is_lost;
use crate::context::Context;
use crate::error::{EngineError, StepError};
use crate::id::{BulkId, RunId};
use crate::operator::{self, Act};
use crate::registry::Registry;
use crate::store;
use crate::transition::Transition;
use crate::workflow::{Event, Workflow};

/// The workflow of operations; a registry that confirms operations must have it.
pub struct BulkWorkflow;

/// Where an operation's run is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum State {
    /// It acts.
    Acting {
        /// The operation.
        bulk_id: BulkId,
    },
}

/// An operation is told nothing: to end it, abort it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {}

const TICK: &str = "tick";
const TICK_EVERY: Duration = Duration::from_secs(1);

impl Workflow for BulkWorkflow {
    const NAME: &'static str = "bulk";
    const VERSION: i32 = 1;
    type Input = BulkId;
    type State = State;
    type Signal = Signal;
    type Output = ();

    fn start(&self, bulk_id: BulkId) -> State {
        State::Acting { bulk_id }
    }

    async fn handle(
        &self,
        cx: &Context,
        State::Acting { bulk_id }: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        if matches!(event, Event::CancelRequested) {
            let mut conn = cx.pool().acquire().await?;
            store::bulk::end(&mut conn, bulk_id, BulkStatus::Aborted).await?;
            return Ok(Transition::cancelled());
        }
        if act_for_a_second(cx.pool(), cx.registry(), bulk_id).await? {
            return Ok(Transition::stay(State::Acting { bulk_id }).after(TICK, TICK_EVERY));
        }
        Ok(Transition::complete(()))
    }
}

/// Acts on as many runs as the pace allows; whether there is more to do.
async fn act_for_a_second(
    pool: &PgPool,
    registry: &Registry,
    bulk_id: BulkId,
) -> Result<bool, StepError> {
    let mut conn = pool.acquire().await?;
    let conn = &mut *conn;
    let bulk = super::find(conn, bulk_id).await?;
    let mut refused = bulk.refused;
    for _ in 0..bulk.pace {
        // Asked each time, so that an abort is heard before the next run.
        if !store::bulk::is_acting(conn, bulk_id).await? {
            return Ok(false);
        }
        if bulk
            .stop_after
            .is_some_and(|stop| refused >= i64::from(stop))
        {
            store::bulk::end(conn, bulk_id, BulkStatus::Stopped).await?;
            return Ok(false);
        }
        match act_on_next(pool, registry, &bulk).await? {
            Some(outcome) => refused += i64::from(outcome == BulkOutcome::Refused),
            None => {
                store::bulk::end(conn, bulk_id, BulkStatus::Done).await?;
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Does the verb to the next run of the selection, and writes down what came of it.
async fn act_on_next(
    pool: &PgPool,
    registry: &Registry,
    bulk: &Bulk,
) -> Result<Option<BulkOutcome>, StepError> {
    let mut tx = crate::pool::begin(pool).await?;
    let Some(next) = store::bulk::lock_next(&mut tx, bulk.bulk_id).await? else {
        return Ok(None);
    };
    let act = Act {
        actor: bulk.actor.clone(),
        role: bulk.role.clone(),
        reason: format!("{} (bulk operation {})", bulk.reason, bulk.bulk_id),
        revision: next.revision,
    };
    let mut attempt = tx.begin().await?;
    let done = act_on(&mut attempt, registry, next.run_id, bulk, &act).await;
    let (outcome, detail) = match done {
        Ok(()) => {
            attempt.commit().await?;
            (BulkOutcome::Done, None)
        }
        Err(EngineError::Database(error)) if is_lost(&error) => return Err(error.into()),
        Err(refused) => {
            attempt.rollback().await?;
            let outcome = match refused {
                EngineError::Moved { .. } => BulkOutcome::Moved,
                _ => BulkOutcome::Refused,
            };
            (outcome, Some(refused.to_string()))
        }
    };
    store::bulk::record(
        &mut tx,
        bulk.bulk_id,
        next.run_id,
        outcome,
        detail.as_deref(),
    )
    .await?;
    tx.commit().await?;
    Ok(Some(outcome))
}

/// Does what the operation is for to one run, if it is still as it was seen.
async fn act_on(
    conn: &mut PgConnection,
    registry: &Registry,
    run: RunId,
    bulk: &Bulk,
    act: &Act,
) -> Result<(), EngineError> {
    match &bulk.action {
        Action::Verb(verb) => {
            operator::intervene(conn, registry, run, verb, act).await?;
        }
        Action::Signal { signal } => {
            operator::hold(conn, registry, run, act).await?;
            let id = format!("bulk:{}", bulk.bulk_id);
            operator::signal(conn, registry, run, &id, signal, act).await?;
        }
        Action::Restart { from } => {
            let old = operator::hold(conn, registry, run, act).await?;
            let key = format!("{old}/{}", bulk.bulk_id);
            operator::restart(conn, registry, run, &key, from, act).await?;
        }
    }
    Ok(())
}
