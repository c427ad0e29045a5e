//! The committer's one statement: step records and settlements of many runs, in one commit.
//!
//! The fence is in two parts, and both are locks. The worker's lease row (per committer slot) is
//! locked first; recovery deletes it first, so either this statement is before the recovery and
//! recovery sees what it wrote, or it finds no lease and writes nothing. A settlement besides
//! updates the run on its epoch and visit. Rows that are not returned were fenced.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::ErrorRecord;
use crate::id::{RunId, WorkerId};
use crate::plan::Settlement;
use crate::run::{RunKey, Status, StoredError};
use crate::store::step::StepRecord;
use crate::undo::Undo;
use crate::workflow::FinishedRun;

/// What a settlement came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    /// A signal came in while the run was held, and the worker still holds it.
    pub(crate) nudged: bool,
    /// The worker still holds the run: it was to keep it, and nobody asked for a pause.
    pub(crate) held: bool,
    /// It is due now, perhaps because a signal came in while it was held.
    pub(crate) due: bool,
    /// It has ended, and a parent or a watcher has been told.
    pub(crate) told: bool,
    /// The database's time, real and the tenant's.
    pub(crate) now: DateTime<Utc>,
    pub(crate) tenant_now: DateTime<Utc>,
}

/// Records of steps, column by column.
#[derive(Default)]
struct Steps<'a> {
    run_id: Vec<Uuid>,
    shard_id: Vec<i16>,
    seq: Vec<i32>,
    visit: Vec<i64>,
    version: Vec<i32>,
    failed: Vec<bool>,
    name: Vec<&'a str>,
    event: Vec<Option<&'a str>>,
    answer: Vec<&'a [u8]>,
}

impl<'a> Steps<'a> {
    fn of(records: &[&'a StepRecord]) -> Self {
        let mut columns = Self::default();
        for record in records {
            columns.run_id.push(record.key.run_id.0);
            columns.shard_id.push(record.key.shard_id.0);
            columns.seq.push(record.seq);
            columns.visit.push(record.visit);
            columns.version.push(record.version);
            columns.failed.push(record.failed);
            columns.name.push(&record.name);
            columns.event.push(record.event.as_deref());
            columns.answer.push(&record.answer);
        }
        columns
    }
}

/// Records steps; returns which were written, by run and place.
pub(crate) async fn record(
    conn: &mut PgConnection,
    worker: WorkerId,
    slot: i16,
    records: &[&StepRecord],
) -> sqlx::Result<HashSet<(RunId, i32)>> {
    let steps = Steps::of(records);
    let rows = sqlx::query!(
        r#"
        with lease as materialized (
          select from engine.lease
          where worker_id = $1
            and slot = $2
          for no key update
        )
        insert into engine.step
          (run_id, shard_id, seq, visit, recorded_at, version, failed, name, event, answer)
        select t.run_id, t.shard_id, t.seq, t.visit, (select engine.now()), t.version, t.failed, t.name, t.event, t.answer
        from lease
        cross join unnest(
          $3::uuid[], $4::smallint[], $5::integer[], $6::bigint[], $7::integer[], $8::boolean[],
          $9::text[], $10::text[], $11::bytea[]
        ) as t (run_id, shard_id, seq, visit, version, failed, name, event, answer)
        returning run_id as "run_id: RunId", seq
        "#,
        worker.0,
        slot,
        &steps.run_id,
        &steps.shard_id,
        &steps.seq,
        &steps.visit,
        &steps.version,
        &steps.failed,
        &steps.name as &[&str],
        &steps.event as &[Option<&str>],
        &steps.answer as &[&[u8]],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.run_id, row.seq)).collect())
}

/// The settlements of one batch, column by column, as the statement takes them.
#[derive(Default)]
struct Columns<'a> {
    run_id: Vec<Uuid>,
    shard_id: Vec<i16>,
    epoch: Vec<i64>,
    visit: Vec<i64>,
    cut: Vec<bool>,
    status: Vec<i16>,
    keep: Vec<bool>,
    had_due: Vec<bool>,
    entered: Vec<bool>,
    version: Vec<i32>,
    attempt: Vec<i32>,
    losses: Vec<i32>,
    state: Vec<&'a str>,
    data: Vec<Cow<'a, [u8]>>,
    deadlines: Vec<Option<Value>>,
    due_at: Vec<Option<DateTime<Utc>>>,
    delay_us: Vec<Option<i64>>,
    clocked_at: Vec<Option<DateTime<Utc>>>,
    next_at: Vec<Option<DateTime<Utc>>>,
    stuck: Vec<Option<&'a str>>,
    error: Vec<Option<Value>>,
    output: Vec<Option<Cow<'a, [u8]>>>,
    finished: Vec<Option<Vec<u8>>>,
    event: Vec<&'a str>,
    from_state: Vec<&'a str>,
    outcome: Vec<&'a str>,
    detail: Vec<Option<&'a str>>,
    tenant_now: Vec<DateTime<Utc>>,
    closes: Vec<bool>,
    undo: Vec<Option<Vec<u8>>>,
    begun: Vec<bool>,
    attributes: Vec<Option<&'a Value>>,
    later: Vec<bool>,
    mark_run: Vec<Uuid>,
    mark_signal: Vec<&'a str>,
    mark_outcome: Vec<Option<i16>>,
    mark_reason: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    fn of(settlements: &[&'a Settlement]) -> Self {
        let mut columns = Self::default();
        // In one order, so that statements that lock several runs do so in the same one.
        let mut settlements = settlements.to_vec();
        settlements.sort_by_key(|settlement| settlement.run.key.run_id);
        for settlement in settlements {
            columns.push(settlement);
        }
        columns
    }

    fn push(&mut self, settlement: &'a Settlement) {
        let run = &settlement.run;
        self.run_id.push(run.key.run_id.0);
        self.shard_id.push(run.key.shard_id.0);
        self.epoch.push(run.epoch.0);
        self.visit.push(run.visit);
        self.cut.push(settlement.cut);
        self.status.push(settlement.status.code());
        self.keep.push(settlement.keep);
        self.had_due.push(settlement.had_due);
        self.entered.push(run.entered);
        self.version.push(run.version);
        self.attempt.push(run.attempt);
        self.losses.push(run.losses);
        self.state.push(&run.state);
        self.data.push(run.keys.seal(&run.data));
        let deadlines = (!run.deadlines.is_empty()).then_some(&run.deadlines);
        self.deadlines
            .push(deadlines.and_then(|known| serde_json::to_value(known).ok()));
        self.due_at.push(settlement.due_at);
        let delay = settlement.delay.map(|delay| delay.as_micros());
        self.delay_us
            .push(delay.map(|micros| i64::try_from(micros).unwrap_or(i64::MAX)));
        self.clocked_at.push(settlement.clocked_at);
        self.next_at.push(settlement.next_at);
        self.stuck.push(settlement.stuck);
        let error = run.error.as_ref();
        self.error
            .push(error.and_then(|error| serde_json::to_value(error).ok()));
        let output = settlement.output.as_deref();
        self.output.push(output.map(|output| run.keys.seal(output)));
        self.finished.push(finished_payload(settlement));
        self.event.push(&settlement.log.event);
        self.from_state.push(&settlement.log.from_state);
        self.outcome.push(settlement.log.outcome);
        self.detail.push(settlement.log.detail.as_deref());
        self.tenant_now.push(run.tenant_now);
        self.closes.push(run.closes);
        let undo = run.undo.as_ref().map(Undo::encode);
        let undo = undo.map(|undo| run.keys.seal(undo).into_owned());
        self.undo.push(undo.or_else(|| run.stored_undo.clone()));
        self.begun.push(run.begun && !settlement.cut);
        self.attributes.push(settlement.attributes.as_ref());
        self.later.push(run.is_later());
        for mark in &settlement.marks {
            self.mark_run.push(run.key.run_id.0);
            self.mark_signal.push(&mark.signal_id);
            self.mark_outcome.push(mark.outcome.code());
            self.mark_reason.push(mark.reason.as_deref());
        }
    }
}

/// What a parent or watcher hears when the run has ended.
fn finished_payload(settlement: &Settlement) -> Option<Vec<u8>> {
    settlement.status.is_finished().then(|| {
        let output = settlement.output.as_deref();
        let finished = FinishedRun {
            run_id: settlement.run.key.run_id,
            workflow: settlement.run.workflow.clone(),
            key: settlement.run.run_key.clone(),
            status: settlement.status,
            output: output
                .and_then(|bytes| serde_json::from_slice(bytes).ok())
                .unwrap_or_default(),
            error: why_failed(settlement.status, settlement.run.error.as_ref()),
        };
        let payload = serde_json::to_vec(&finished).unwrap_or_default();
        settlement.run.keys.seal(payload).into_owned()
    })
}

/// What is told of a failed run's error.
pub(crate) fn why_failed(status: Status, error: Option<&StoredError>) -> Option<ErrorRecord> {
    let error = error.filter(|_| status == Status::Failed)?;
    Some(ErrorRecord {
        code: error.code.clone(),
        message: error.message.clone(),
    })
}

/// Applies settlements; returns what each one that was not fenced came to.
pub(crate) async fn apply(
    conn: &mut PgConnection,
    worker: WorkerId,
    slot: i16,
    settlements: &[&Settlement],
) -> sqlx::Result<HashMap<RunId, Settled>> {
    let (_, applied) = apply_with(conn, worker, slot, (&[], settlements)).await?;
    Ok(applied)
}

/// Applies settlements and records steps, of the same runs or others; as [`apply`] and [`record`].
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(crate) async fn apply_with(
    conn: &mut PgConnection,
    worker: WorkerId,
    slot: i16,
    (records, settlements): (&[&StepRecord], &[&Settlement]),
) -> sqlx::Result<(HashSet<(RunId, i32)>, HashMap<RunId, Settled>)> {
    let (c, steps) = (Columns::of(settlements), Steps::of(records));
    let data: Vec<&[u8]> = c.data.iter().map(|data| &**data).collect();
    let output: Vec<Option<&[u8]>> = c.output.iter().map(Option::as_deref).collect();
    let rows = sqlx::query!(
        r#"
        with lease as materialized (
          select from engine.lease
          where worker_id = $1
            and slot = $2
          for no key update
        ), recorded as (
          insert into engine.step
            (run_id, shard_id, seq, visit, recorded_at, version, failed, name, event, answer)
          select t.run_id, t.shard_id, t.seq, t.visit, (select engine.now()), t.version, t.failed, t.name, t.event, t.answer
          from lease
          cross join unnest(
            $40::uuid[], $41::smallint[], $42::integer[], $43::bigint[], $44::integer[], $45::boolean[],
            $46::text[], $47::text[], $48::bytea[]
          ) as t (run_id, shard_id, seq, visit, version, failed, name, event, answer)
        ), input as materialized (
          select t.*
          from lease
          cross join unnest(
            $3::uuid[], $4::smallint[], $5::bigint[], $6::bigint[], $7::boolean[], $8::smallint[],
            $9::boolean[], $10::boolean[], $11::boolean[], $12::integer[], $13::integer[],
            $14::integer[], $15::text[], $16::bytea[], $17::jsonb[], $18::timestamptz[],
            $19::bigint[], $20::timestamptz[], $21::timestamptz[], $22::text[], $23::jsonb[],
            $24::bytea[], $25::bytea[], $26::text[], $27::text[], $28::text[], $29::text[],
            $34::timestamptz[], $35::boolean[], $36::bytea[], $37::boolean[], $38::jsonb[], $39::boolean[]
          ) as t (
            run_id, shard_id, epoch, visit, cut, status, keep, had_due, entered, version, attempt,
            losses, state, data, deadlines, due_at, delay_us, clocked_at, next_at, stuck, error,
            output, finished, event, from_state, outcome, detail, tenant_now, closes, undo, begun, attributes, later
          )
        ), settled as (
          update engine.run
          set
            -- A pause that was asked for meanwhile is due now; a signal that came in keeps a
            -- resting or blocked run awake.
            status = case
              when run.pausing and input.status in (0, 1, 2, 3, 4, 6) then 5
              when run.nudged and input.status in (2, 6) then 0
              else input.status
            end,
            closes = input.closes,
            undo = input.undo,
            begun = input.begun,
            pausing = false,
            paused_at = case when run.pausing and input.status in (0, 1, 2, 3, 4, 6)
              then input.tenant_now end,
            worker_id = case when input.keep and not run.pausing then run.worker_id end,
            nudged = run.nudged and input.keep and not run.pausing,
            entered = input.entered,
            version = input.version,
            attempt = input.attempt,
            losses = input.losses,
            visit = input.visit + case when input.cut then 1 else 0 end,
            changed_at = (select engine.now()),
            next_at = input.next_at,
            state = input.state,
            data = input.data,
            deadlines = input.deadlines,
            stuck = input.stuck,
            error = input.error,
            output = input.output,
            attributes = coalesce(input.attributes, run.attributes)
          from input
          where run.run_id = input.run_id
            and run.shard_id = input.shard_id
            and run.epoch = input.epoch
            and run.visit = input.visit
            and run.worker_id = $1
          returning
            run.run_id, run.shard_id, run.tenant_id, run.workflow, run.clock_id, run.parent_run_id, run.watchers,
            run.nudged, run.status, run.key, run.gathered, run.priority, run.worker_id is not null as held, input.visit, input.had_due, input.later,
            case when run.status <> 5 then input.clocked_at end as clocked_at, input.stuck, input.finished, input.event, input.from_state, run.state, input.outcome,
            input.detail,
            case
              when run.status in (1, 5) then null
              when run.status = 0 then (select engine.now())
              when input.delay_us is not null
                then (select engine.now()) + input.delay_us * interval '1 microsecond'
              else input.due_at
            end as due_at
        ), armed as (
          insert into engine.due (run_id, shard_id, due_at, tenant_id, priority)
          -- What a deadline wakes, a level later; and what follows from it, until it rests.
          select run_id, shard_id, due_at, tenant_id,
            case when status = 2 or later then least(priority + 1, 5) else priority end
          from settled
          where due_at is not null
          on conflict (run_id, shard_id) do update set due_at = excluded.due_at, priority = excluded.priority
        ), disarmed as (
          delete from engine.due
          using settled
          where due.run_id = settled.run_id
            and due.shard_id = settled.shard_id
            and settled.due_at is null
            and settled.had_due
        ), clocked as (
          insert into engine.clocked (run_id, shard_id, clock_id, due_at, tenant_id)
          select run_id, shard_id, clock_id, clocked_at, tenant_id
          from settled
          where clocked_at is not null
            and clock_id is not null
          on conflict (run_id, shard_id) do update set due_at = excluded.due_at
        ), unclocked as (
          delete from engine.clocked
          using settled
          where clocked.run_id = settled.run_id
            and clocked.shard_id = settled.shard_id
            and settled.clock_id is not null
            and settled.clocked_at is null
        ), parked as (
          insert into engine.parked (run_id, shard_id, status, tenant_id, workflow, reason, since)
          select run_id, shard_id, status, tenant_id, workflow,
            case when status = 5 then 'paused' else coalesce(stuck, outcome) end, (select engine.now())
          from settled
          where status in (5, 7, 8)
          on conflict (run_id, shard_id) do nothing
        ), logged as (
          insert into engine.transition
            (run_id, shard_id, visit, at, tenant_id, event, from_state, to_state, outcome, tenant_at, detail)
          select
            settled.run_id, settled.shard_id, settled.visit, (select engine.now()), settled.tenant_id,
            settled.event, settled.from_state, settled.state, settled.outcome,
            test_clock.now_at, settled.detail
          from settled
          left join engine.test_clock on test_clock.clock_id = settled.clock_id
          where settled.outcome <> 'rested'
        ), marked as (
          update engine.inbox
          set outcome = mark.outcome, reason = mark.reason
          from unnest($30::uuid[], $31::text[], $32::smallint[], $33::text[])
            as mark (run_id, signal_id, outcome, reason)
          join settled on settled.run_id = mark.run_id
          where inbox.run_id = settled.run_id
            and inbox.shard_id = settled.shard_id
            and inbox.signal_id = mark.signal_id
        ), hearer as (
          select
            parent_run_id as hearer_id, settled.run_id, shard_id, tenant_id, workflow,
            -- A fan-out counts: outputs of thousands stay where they are.
            case when gathered then convert_to(json_build_object(
              'run_id', settled.run_id, 'workflow', workflow, 'key', key,
              'status', case status
                when 10 then 'completed' when 11 then 'failed' when 12 then 'cancelled'
                else 'terminated' end)::text, 'UTF8')
              else finished end as finished,
            clock_id, later
          from settled
          where finished is not null
            and parent_run_id is not null
          union
          select unnest(watchers), settled.run_id, shard_id, tenant_id, workflow, finished, clock_id, later
          from settled
          where finished is not null
            and watchers is not null
        ), told as (
          insert into engine.inbox
            (run_id, shard_id, kind, received_at, recorded_at, position, tenant_id, signal_id, name, payload)
          select
            hearer.hearer_id, hearer.shard_id, 1, coalesce(test_clock.now_at, (select engine.now())),
            (select engine.now()), 0, hearer.tenant_id, 'finished:' || hearer.run_id, hearer.workflow,
            hearer.finished
          from hearer
          left join engine.test_clock on test_clock.clock_id = hearer.clock_id
          on conflict (run_id, shard_id, signal_id) do nothing
          returning run_id, shard_id, tenant_id, signal_id
        ), nudged as (
          insert into engine.nudge (run_id, shard_id, tenant_id, later)
          select told.run_id, told.shard_id, told.tenant_id, hearer.later
          from told
          join hearer on hearer.hearer_id = told.run_id
            and told.signal_id = 'finished:' || hearer.run_id
        )
        -- A row without a run says that the lease is held, though all were fenced.
        select
          settled.run_id as "run_id?: RunId",
          coalesce(settled.nudged, false) as "nudged!",
          coalesce(settled.held, false) as "held!",
          coalesce(settled.status = 0, false) as "due!",
          settled.finished is not null and (settled.parent_run_id is not null or settled.watchers is not null)
            as "told!",
          (select engine.now()) as "now!",
          coalesce(test_clock.now_at, (select engine.now())) as "tenant_now!"
        from lease
        left join settled on true
        left join engine.test_clock on test_clock.clock_id = settled.clock_id
        "#,
        worker.0,
        slot,
        &c.run_id,
        &c.shard_id,
        &c.epoch,
        &c.visit,
        &c.cut,
        &c.status,
        &c.keep,
        &c.had_due,
        &c.entered,
        &c.version,
        &c.attempt,
        &c.losses,
        &c.state as &[&str],
        &data as &[&[u8]],
        &c.deadlines as &[Option<Value>],
        &c.due_at as &[Option<DateTime<Utc>>],
        &c.delay_us as &[Option<i64>],
        &c.clocked_at as &[Option<DateTime<Utc>>],
        &c.next_at as &[Option<DateTime<Utc>>],
        &c.stuck as &[Option<&str>],
        &c.error as &[Option<Value>],
        &output as &[Option<&[u8]>],
        &c.finished as &[Option<Vec<u8>>],
        &c.event as &[&str],
        &c.from_state as &[&str],
        &c.outcome as &[&str],
        &c.detail as &[Option<&str>],
        &c.mark_run,
        &c.mark_signal as &[&str],
        &c.mark_outcome as &[Option<i16>],
        &c.mark_reason as &[Option<&str>],
        &c.tenant_now,
        &c.closes,
        &c.undo as &[Option<Vec<u8>>],
        &c.begun,
        &c.attributes as &[Option<&Value>],
        &c.later,
        &steps.run_id,
        &steps.shard_id,
        &steps.seq,
        &steps.visit,
        &steps.version,
        &steps.failed,
        &steps.name as &[&str],
        &steps.event as &[Option<&str>],
        &steps.answer as &[&[u8]],
    )
    .fetch_all(conn)
    .await?;
    let held = !rows.is_empty();
    let written = records.iter().filter(|_| held);
    let applied = rows.into_iter().filter_map(|row| {
        let settled = Settled {
            nudged: row.nudged,
            held: row.held,
            due: row.due,
            told: row.told,
            now: row.now,
            tenant_now: row.tenant_now,
        };
        Some((row.run_id?, settled))
    });
    Ok((
        written.map(|row| (row.key.run_id, row.seq)).collect(),
        applied.collect(),
    ))
}

/// Where a run stands, to tell what became of a commit whose answer was lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) epoch: i64,
    pub(crate) visit: i64,
    pub(crate) status: Status,
    pub(crate) held_by: Option<Uuid>,
}

/// Reads where a run stands.
pub(crate) async fn find_standing(
    conn: &mut PgConnection,
    key: RunKey,
) -> sqlx::Result<Option<Standing>> {
    let row = sqlx::query!(
        r#"
        select epoch, visit, status, worker_id
        from engine.run
        where run_id = $1
          and shard_id = $2
        "#,
        key.run_id.0,
        key.shard_id.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Standing {
        epoch: row.epoch,
        visit: row.visit,
        status: Status::from_code(row.status).unwrap_or(Status::Stuck),
        held_by: row.worker_id,
    }))
}

/// Which steps of a visit are recorded, to tell what became of a lost commit.
pub(crate) async fn list_recorded(
    conn: &mut PgConnection,
    key: RunKey,
    visit: i64,
) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!(
        r#"
        select seq
        from engine.step
        where run_id = $1
          and shard_id = $2
          and visit = $3
        "#,
        key.run_id.0,
        key.shard_id.0,
        visit,
    )
    .fetch_all(conn)
    .await
}
