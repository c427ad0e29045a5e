//! What an operator's verb reads and changes, under the run's lock.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::id::{ClockId, RunId, ShardId, TenantId};
use crate::operator::Act;
use crate::run::{Deadline, RunKey, Status, StoredError, decode_deadlines};
use crate::seal::{Reader, TenantKeys};
use crate::store::claim::decode_error;
use crate::undo::Undo;
use crate::workflow::FinishedRun;

/// A run under its lock, as an operator's verb finds it.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) key: RunKey,
    pub(crate) tenant_id: TenantId,
    pub(crate) clock_id: Option<ClockId>,
    pub(crate) workflow: String,
    pub(crate) run_key: String,
    pub(crate) version: i32,
    pub(crate) status: Status,
    pub(crate) stuck: Option<String>,
    pub(crate) state: String,
    pub(crate) data: Vec<u8>,
    pub(crate) deadlines: Vec<Deadline>,
    pub(crate) entered: bool,
    pub(crate) epoch: i64,
    pub(crate) visit: i64,
    pub(crate) error: Option<StoredError>,
    pub(crate) paused_at: Option<DateTime<Utc>>,
    pub(crate) tenant_now: DateTime<Utc>,
    /// What it has left to reverse, if it is undoing.
    pub(crate) undo: Option<Undo>,
    /// The same as it is stored, until it is opened.
    pub(crate) stored_undo: Option<Vec<u8>>,
    /// What its payloads are sealed with.
    pub(crate) keys: TenantKeys,
    pub(crate) reader: Reader,
    /// The keys were destroyed: nothing new is stored of it.
    pub(crate) destroyed: bool,
    /// The visit's last step, if its answer is an error.
    pub(crate) failed_step: Option<String>,
}

/// Where a run rests after a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Due now: the next worker looks what there is to do.
    Due,
    /// Where it was.
    AsBefore,
    /// Out of the due index, with the reason.
    Parked(&'static str),
    /// Nowhere.
    Ended,
}

/// What a verb makes of a run.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) status: Status,
    pub(crate) rest: Rest,
    pub(crate) version: i32,
    pub(crate) state: String,
    pub(crate) data: Vec<u8>,
    pub(crate) deadlines: Vec<Deadline>,
    pub(crate) entered: bool,
    /// Whether the visit's answers are dropped, and with them the error of a live run.
    pub(crate) cut: bool,
    pub(crate) undo: Option<Undo>,
    pub(crate) paused_at: Option<DateTime<Utc>>,
    /// What it is found by from now on, if its workflow declares that and the state is another.
    pub(crate) attributes: Option<Value>,
}

/// A step's answer, given by hand.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) step: String,
    pub(crate) failed: bool,
    pub(crate) event: Option<String>,
    pub(crate) answer: Vec<u8>,
}

impl Locked {
    /// What the operator's act must have seen.
    pub(crate) fn revision(&self) -> i64 {
        self.epoch + self.visit
    }

    /// Opens what its keys open; the rest stays as it is stored.
    pub(crate) fn open(&mut self) {
        if let Ok(Cow::Owned(opened)) = self.reader.open(&self.data) {
            self.data = opened;
        }
        let stored = self.stored_undo.as_deref();
        let opened = stored.and_then(|stored| self.reader.open(stored).ok());
        self.undo = opened.and_then(|opened| Undo::decode(&opened));
        if self.undo.is_some() {
            self.stored_undo = None;
        }
    }

    /// A change that changes nothing yet.
    pub(crate) fn unchanged(&self) -> Change {
        Change {
            status: self.status,
            rest: Rest::AsBefore,
            version: self.version,
            state: self.state.clone(),
            data: self.data.clone(),
            deadlines: self.deadlines.clone(),
            entered: self.entered,
            cut: false,
            undo: self.undo.clone(),
            paused_at: self.paused_at,
            attributes: None,
        }
    }

    /// Due now.
    pub(crate) fn due_again(&self) -> Change {
        Change {
            status: Status::Due,
            rest: Rest::Due,
            paused_at: None,
            ..self.unchanged()
        }
    }
}

/// Locks a run for an intervention.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Option<Locked>> {
    let row = sqlx::query!(
        r#"
        select
          run.tenant_id as "tenant_id: TenantId", run.clock_id as "clock_id: ClockId",
          run.workflow, run.key, run.version, run.status, run.stuck, run.state, run.data,
          run.deadlines, run.entered, run.epoch, run.visit, run.error, run.paused_at,
          run.undo,
          coalesce(
            (select now_at from engine.test_clock where test_clock.clock_id = run.clock_id),
            engine.now()
          ) as "tenant_now!",
          (
            select case when step.failed then step.name end
            from engine.step
            where step.run_id = $1
              and step.shard_id = $2
              and step.visit = run.visit
            order by step.seq desc
            limit 1
          ) as failed_step
        from engine.run
        where run.run_id = $1
          and run.shard_id = $2
        for no key update of run
        "#,
        run.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Locked {
        key: RunKey {
            run_id: run,
            shard_id: shard,
        },
        tenant_id: row.tenant_id,
        clock_id: row.clock_id,
        workflow: row.workflow,
        run_key: row.key,
        version: row.version,
        status: Status::from_code(row.status).unwrap_or(Status::Stuck),
        stuck: row.stuck,
        state: row.state,
        data: row.data,
        deadlines: decode_deadlines(row.deadlines),
        entered: row.entered,
        epoch: row.epoch,
        visit: row.visit,
        error: decode_error(row.error),
        paused_at: row.paused_at,
        tenant_now: row.tenant_now,
        undo: None,
        stored_undo: row.undo,
        keys: TenantKeys::default(),
        reader: Reader::default(),
        destroyed: false,
        failed_step: row.failed_step,
    }))
}

/// Writes a change of a locked run and its place among what is due; returns the new revision.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(crate) async fn apply(
    conn: &mut PgConnection,
    locked: &Locked,
    change: &Change,
) -> sqlx::Result<i64> {
    let deadlines = (!change.deadlines.is_empty()).then_some(&change.deadlines);
    let deadlines = deadlines.and_then(|known| serde_json::to_value(known).ok());
    let parked = match change.rest {
        Rest::Parked(reason) => Some(reason),
        Rest::Due | Rest::AsBefore | Rest::Ended => None,
    };
    let undo = change.undo.as_ref().map(Undo::encode);
    let undo = undo.map(|undo| locked.keys.seal(undo).into_owned());
    let kept = locked.stored_undo.clone();
    let undo = undo.or(kept.filter(|_| !change.status.is_finished()));
    let stuck = (change.status == Status::Stuck).then_some(locked.stuck.as_deref());
    sqlx::query_scalar!(
        r#"
        with changed as (
          update engine.run
          set
            status = $3,
            stuck = $4,
            version = $5,
            state = $6,
            data = $7,
            deadlines = $8,
            entered = $9,
            visit = run.visit + case when $10 then 1 else 0 end,
            error = case when $11 then run.error end,
            paused_at = $12,
            undo = $16,
            begun = run.begun and not $10,
            attributes = coalesce($17, run.attributes),
            attempt = case when $13 then run.attempt else 0 end,
            losses = case when $13 then run.losses else 0 end,
            next_at = case when $13 then run.next_at end,
            epoch = run.epoch + 1,
            worker_id = null,
            nudged = false,
            pausing = false,
            changed_at = engine.now()
          where run.run_id = $1
            and run.shard_id = $2
          returning run.run_id, run.shard_id, run.tenant_id, run.workflow, run.status,
            run.epoch + run.visit as revision, $13::boolean as stays, $14::text as parked_for
        ), freed as (
          delete from engine.parked
          using changed
          where parked.run_id = changed.run_id
            and parked.shard_id = $2
            and not changed.stays
            and changed.parked_for is null
        ), parked as (
          insert into engine.parked (run_id, shard_id, status, tenant_id, workflow, reason, since)
          select run_id, shard_id, status, tenant_id, workflow, parked_for, engine.now()
          from changed
          where parked_for is not null
          on conflict (run_id, shard_id) do update
          set status = excluded.status, reason = excluded.reason, since = excluded.since
        ), armed as (
          insert into engine.nudge (run_id, shard_id, tenant_id)
          select run_id, shard_id, tenant_id
          from changed
          where $15
        ), disarmed as (
          delete from engine.due
          using changed
          where due.run_id = changed.run_id
            and due.shard_id = $2
            and not changed.stays
        ), unclocked as (
          delete from engine.clocked
          using changed
          where clocked.run_id = changed.run_id
            and clocked.shard_id = $2
            and not changed.stays
        )
        select revision as "revision!"
        from changed
        "#,
        locked.key.run_id.0,
        locked.key.shard_id.0,
        change.status.code(),
        stuck.flatten(),
        change.version,
        change.state,
        &*locked.keys.seal(&change.data),
        deadlines,
        change.entered,
        change.cut,
        !change.cut || change.status.is_finished(),
        change.paused_at,
        change.rest == Rest::AsBefore,
        parked,
        change.rest == Rest::Due,
        undo,
        change.attributes,
    )
    .fetch_one(conn)
    .await
}

/// Asks the worker that holds a locked run to pause it when the visit ends.
pub(crate) async fn mark_pausing(conn: &mut PgConnection, locked: &Locked) -> sqlx::Result<()> {
    sqlx::query!(
        "update engine.run set pausing = true where run_id = $1 and shard_id = $2",
        locked.key.run_id.0,
        locked.key.shard_id.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets the last answer of a locked run's visit if it is an error, so that the step is done again.
pub(crate) async fn delete_failed_step(
    conn: &mut PgConnection,
    locked: &Locked,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        delete from engine.step
        where run_id = $1
          and shard_id = $2
          and visit = $3
          and failed
          and seq = (
            select max(seq)
            from engine.step
            where run_id = $1
              and shard_id = $2
              and visit = $3
          )
        "#,
        locked.key.run_id.0,
        locked.key.shard_id.0,
        locked.visit,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Answers a step of the current visit of a locked run.
pub(crate) async fn insert_answer(
    conn: &mut PgConnection,
    locked: &Locked,
    answer: &Answer,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.step
          (run_id, shard_id, seq, visit, recorded_at, version, failed, name, event, answer)
        select $1, $2, coalesce(max(seq) + 1, 0), $3, engine.now(), $4, $5, $6,
          case when count(*) = 0 then $7::text end, $8
        from engine.step
        where run_id = $1
          and shard_id = $2
          and visit = $3
        "#,
        locked.key.run_id.0,
        locked.key.shard_id.0,
        locked.visit,
        locked.version,
        answer.failed,
        answer.step,
        answer.event,
        &*locked.keys.seal(&answer.answer),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes a line of the run's log about a verb.
pub(crate) async fn insert_log(
    conn: &mut PgConnection,
    locked: &Locked,
    change: &Change,
    verb: &str,
    detail: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.transition
          (run_id, shard_id, visit, at, tenant_id, event, from_state, to_state, outcome, tenant_at, detail)
        values ($1, $2, $3, engine.now(), $4, 'operator', $5, $6, $7, $8, $9)
        "#,
        locked.key.run_id.0,
        locked.key.shard_id.0,
        locked.visit,
        locked.tenant_id.0,
        locked.state,
        change.state,
        verb,
        locked.clock_id.map(|_| locked.tenant_now),
        detail,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Tells the parent and the watchers of a locked run that it was terminated.
pub(crate) async fn tell_finished(conn: &mut PgConnection, locked: &Locked) -> sqlx::Result<()> {
    let finished = FinishedRun {
        run_id: locked.key.run_id,
        workflow: locked.workflow.clone(),
        key: locked.run_key.clone(),
        status: Status::Terminated,
        output: Value::Null,
        error: None,
    };
    let payload = serde_json::to_vec(&finished).unwrap_or_default();
    let payload = locked.keys.seal(payload);
    sqlx::query!(
        r#"
        with hearer as (
          select parent_run_id as run_id, shard_id, tenant_id
          from engine.run
          where run_id = $1
            and shard_id = $2
            and parent_run_id is not null
          union
          select unnest(watchers), shard_id, tenant_id
          from engine.run
          where run_id = $1
            and shard_id = $2
        ), told as (
          insert into engine.inbox
            (run_id, shard_id, kind, received_at, recorded_at, position, tenant_id, signal_id, name, payload)
          select run_id, shard_id, 1, $3, engine.now(), 0, tenant_id, $4, $5, $6
          from hearer
          on conflict (run_id, shard_id, signal_id) do nothing
          returning run_id, shard_id, tenant_id
        )
        insert into engine.nudge (run_id, shard_id, tenant_id)
        select run_id, shard_id, tenant_id
        from told
        "#,
        locked.key.run_id.0,
        locked.key.shard_id.0,
        locked.tenant_now,
        format!("finished:{}", locked.key.run_id),
        locked.workflow,
        &*payload,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Cancels or terminates, as their policy says, the children of a run that has ended. Those that
/// lie out of the workers' reach are brought back, to hear of it.
pub(crate) async fn close_children(conn: &mut PgConnection, parent: RunKey) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        with child as materialized (
          select run_id, shard_id, tenant_id, status, close_policy, coalesce(
            (select now_at from engine.test_clock where test_clock.clock_id = run.clock_id),
            engine.now()) as tenant_now
          from engine.run
          where parent_run_id = $1
            and shard_id = $2
            and close_policy > 0
            and status < 10
          order by run_id
          for no key update
        ), told as (
          insert into engine.inbox
            (run_id, shard_id, kind, received_at, recorded_at, position, tenant_id, signal_id, name, payload)
          select run_id, shard_id, close_policy + 1, tenant_now, engine.now(), 0, tenant_id,
            case close_policy when 1 then 'cancel' else 'terminate' end,
            case close_policy when 1 then 'cancel' else 'terminate' end, 'null'
          from child
          on conflict (run_id, shard_id, signal_id) do nothing
        ), nudged as (
          insert into engine.nudge (run_id, shard_id, tenant_id)
          select run_id, shard_id, tenant_id
          from child
        ), freed as (
          delete from engine.parked
          using child
          where parked.run_id = child.run_id
            and parked.shard_id = $2
        ), woken as (
          update engine.run
          set status = 0, stuck = null, paused_at = null, attempt = 0, losses = 0, error = null,
            begun = false,
            next_at = null, epoch = run.epoch + 1, visit = run.visit + 1, changed_at = engine.now()
          from child
          where run.run_id = child.run_id
            and run.shard_id = $2
            and run.status in (5, 6, 7, 8)
        )
        select count(*) as "closed!"
        from child
        "#,
        parent.run_id.0,
        parent.shard_id.0,
    )
    .fetch_one(conn)
    .await?;
    Ok(done.closed.unsigned_abs())
}

/// One row of the audit, beside what the act tells.
#[derive(Debug)]
pub(crate) struct Audit<'a> {
    pub(crate) audit_id: Uuid,
    /// The run, or the schedule.
    pub(crate) subject: RunId,
    pub(crate) shard_id: ShardId,
    pub(crate) tenant_id: TenantId,
    pub(crate) action: &'static str,
    pub(crate) before: &'a Value,
    pub(crate) after: &'a Value,
}

/// Writes down who did what, and why.
pub(crate) async fn insert_audit(
    conn: &mut PgConnection,
    act: &Act,
    row: &Audit<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into engine.audit
          (audit_id, shard_id, run_id, tenant_id, at, actor, role, action, reason, epoch_seen, before, after)
        values ($1, $2, $3, $4, engine.now(), $5, $6, $7, $8, $9, $10, $11)
        "#,
        row.audit_id,
        row.shard_id.0,
        row.subject.0,
        row.tenant_id.0,
        act.actor,
        act.role,
        row.action,
        act.reason,
        act.revision,
        row.before,
        row.after,
    )
    .execute(conn)
    .await?;
    Ok(())
}
