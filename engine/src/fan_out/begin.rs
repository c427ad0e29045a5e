//! Starts fan-outs, and their children batch by batch, inside the transaction of a settlement.

use std::borrow::Cow;

use serde_json::Value;
use sqlx::PgConnection;

use super::handler::{GOING, State, VERSION, encode};
use super::{Ended, FanOut, Going, NAME};
use crate::error::ErrorRecord;
use crate::follow::{self, CHILD_CYCLE, FollowError};
use crate::id::RunId;
use crate::plan::Settlement;
use crate::run::{InboxKind, Status};
use crate::seal::open_in_place;
use crate::start::{self, Origin};
use crate::store;
use crate::store::fan_out::StoredItem;
use crate::store::inbox::NewMessage;
use crate::store::run::NewRun;
use crate::transition::{ClosePolicy, FanBatch};
use crate::workflow::FinishedRun;

/// Starts a fan-out's run and writes its items. The visit is in its key: a parent may fan out under
/// the same name again and again.
pub(crate) async fn begin(
    conn: &mut PgConnection,
    settlement: &Settlement,
    fan_out: &FanOut,
) -> Result<(), FollowError> {
    let parent = settlement.run.key;
    let going = Going {
        workflow: fan_out.workflow.to_owned(),
        total: u32::try_from(fan_out.items.len()).unwrap_or(u32::MAX),
        at_most: fan_out.at_most,
        join: fan_out.join,
        close: fan_out.close,
        started: 0,
        ended: Ended::default(),
    };
    let key = format!(
        "{}/{}/{}",
        parent.run_id, settlement.run.visit, fan_out.name
    );
    start::check_key(NAME, &key)?;
    let data = encode(&State::Going(going));
    let new = NewRun {
        run_id: RunId::new(parent.shard_id),
        key,
        workflow: Cow::Borrowed(NAME),
        version: VERSION,
        state: GOING.to_owned(),
        input_digest: start::digest(&data),
        priority: settlement.run.priority,
        starts_at: None,
        data,
        attributes: None,
    };
    let run_id = new.run_id;
    let origin = Origin {
        parent: Some(parent.run_id),
        close: fan_out.close,
        gathered: false,
        later: settlement.run.woken_by_deadline(),
    };
    let place = follow::place(settlement);
    store::run::insert(conn, settlement.tenant_id(), &place, origin, &[new]).await?;
    store::fan_out::insert_items(
        conn,
        run_id,
        parent.shard_id,
        settlement.tenant_id(),
        &fan_out.items,
        &settlement.run.keys,
    )
    .await?;
    Ok(())
}

/// Starts the children of a batch. They hold their input until a worker that knows their workflow
/// makes the first state of it: whoever carries the fan-out on need not know it.
pub(crate) async fn start_batch(
    conn: &mut PgConnection,
    settlement: &Settlement,
    batch: &FanBatch,
) -> Result<(), FollowError> {
    let fan_out = settlement.run.key;
    let mut items =
        store::fan_out::list_items(conn, fan_out.run_id, fan_out.shard_id, &batch.items).await?;
    for item in &mut items {
        let opened = open_in_place(&settlement.run.keys, &mut item.input);
        opened.map_err(|error| FollowError::Unreadable(error.to_string()))?;
    }
    // Keys are locked as they are inserted: in one order, whatever the items' is.
    items.sort_by(|one, other| one.key.cmp(&other.key));
    let children: Vec<NewRun> = items
        .iter()
        .map(|item| NewRun {
            run_id: RunId::new(fan_out.shard_id),
            key: item.key.clone(),
            workflow: Cow::Owned(batch.workflow.clone()),
            version: start::FROM_INPUT,
            state: start::STARTING.to_owned(),
            input_digest: start::digest(&item.input),
            priority: settlement.run.priority,
            starts_at: None,
            data: item.input.clone(),
            attributes: None,
        })
        .collect();
    let origin = Origin {
        parent: Some(fan_out.run_id),
        close: batch.close,
        gathered: true,
        later: settlement.run.woken_by_deadline(),
    };
    let (tenant, place) = (settlement.tenant_id(), follow::place(settlement));
    let started = store::run::insert(conn, tenant, &place, origin, &children).await?;
    if started.len() == children.len() {
        return Ok(());
    }
    for (item, child) in items.iter().zip(&children) {
        if !started.contains(&child.run_id) {
            adopt(conn, settlement, item, child).await?;
        }
    }
    Ok(())
}

/// A key that is taken: its run is watched, or the item refused.
async fn adopt(
    conn: &mut PgConnection,
    settlement: &Settlement,
    item: &StoredItem,
    child: &NewRun,
) -> Result<(), FollowError> {
    let fan_out = settlement.run.key;
    let (tenant, shard) = (settlement.tenant_id(), fan_out.shard_id);
    let holder = store::run::find_by_key(conn, tenant, shard, &child.workflow, &child.key).await?;
    let Some(holder) = holder else {
        // Its key was freed between the two statements: the whole batch is tried again.
        return Err(FollowError::NoRun(child.run_id));
    };
    let error = if holder.input_digest == child.input_digest {
        match follow::adopt(conn, settlement, holder.run_id).await {
            Err(error @ FollowError::ChildCycle(_)) => ErrorRecord {
                code: CHILD_CYCLE.to_owned(),
                message: error.to_string(),
            },
            adopted => return adopted,
        }
    } else {
        ErrorRecord {
            code: "key_taken".to_owned(),
            message: format!(
                "the key {:?} belongs to a run with another input",
                child.key
            ),
        }
    };
    store::fan_out::refuse(conn, fan_out.run_id, shard, item.position, &error.code).await?;
    let finished = FinishedRun {
        run_id: holder.run_id,
        workflow: child.workflow.to_string(),
        key: child.key.clone(),
        status: Status::Failed,
        output: Value::Null,
        error: Some(error),
    };
    let payload = encode(&finished);
    let message = NewMessage {
        run_id: fan_out.run_id,
        shard_id: shard,
        tenant_id: tenant,
        clock_id: settlement.run.clock_id,
        kind: InboxKind::RunFinished,
        position: item.position,
        signal_id: &format!("refused:{}", item.position),
        name: &child.workflow,
        payload: &settlement.run.keys.seal(payload),
    };
    store::inbox::insert(conn, &message).await?;
    Ok(())
}

impl FanBatch {
    pub(crate) fn closes(&self) -> bool {
        self.close != ClosePolicy::Leave
    }
}
