//! What the sweep of retention looks at and drops.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::id::{RunId, ShardId};
use crate::retention::Policies;
use crate::run::RunKey;
use crate::store::claim::split;

/// How long a turn lasts from its last sign of life.
const TURN_SECONDS: i32 = 120;

/// Takes the turn, if a pass may begin and nobody else has it.
pub(crate) async fn take_turn(conn: &mut PgConnection, holder: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update engine.sweep
        set holder = $1, until = engine.now() + $2 * interval '1 second'
        where name = 'retention'
          and next_at <= engine.now()
          and (holder is null or until <= engine.now())
        "#,
        holder,
        f64::from(TURN_SECONDS),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Where the sweep stands.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) after_run: Uuid,
    pub(crate) months: Vec<NaiveDate>,
    pub(crate) batch: Option<Batch>,
}

/// Runs that go into one file of the archive.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) batch_id: Uuid,
    pub(crate) runs: Vec<Uuid>,
    pub(crate) shards: Vec<i16>,
}

/// Locks the sweep until the transaction ends; `None` when the turn is another's by now.
pub(crate) async fn lock(conn: &mut PgConnection, holder: Uuid) -> sqlx::Result<Option<Stand>> {
    let row = sqlx::query!(
        r#"
        select after_run, months, batch_id, batch_runs, batch_shards
        from engine.sweep
        where name = 'retention'
          and holder = $1
        for update
        "#,
        holder,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Stand {
        after_run: row.after_run,
        months: row.months,
        batch: row.batch_id.map(|batch_id| Batch {
            batch_id,
            runs: row.batch_runs.unwrap_or_default(),
            shards: row.batch_shards.unwrap_or_default(),
        }),
    }))
}

/// Writes down where the locked sweep stands, and prolongs the turn.
pub(crate) async fn save(conn: &mut PgConnection, stand: &Stand) -> sqlx::Result<()> {
    let batch = stand.batch.as_ref();
    sqlx::query!(
        r#"
        update engine.sweep
        set after_run = $1, months = $2, batch_id = $3, batch_runs = $4, batch_shards = $5,
          until = engine.now() + $6 * interval '1 second'
        where name = 'retention'
        "#,
        stand.after_run,
        &stand.months,
        batch.map(|batch| batch.batch_id),
        batch.map(|batch| batch.runs.as_slice()),
        batch.map(|batch| batch.shards.as_slice()),
        f64::from(TURN_SECONDS),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives the turn back. After a whole pass the next one begins after `rest`.
pub(crate) async fn give_back(
    conn: &mut PgConnection,
    holder: Uuid,
    rest: Option<Duration>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.sweep
        set holder = null, until = null,
          next_at = case when $2::float8 is null then next_at
            else engine.now() + $2 * interval '1 second' end,
          after_run = case when $2 is null then after_run else $3 end,
          months = case when $2 is null then months else '{}' end
        where name = 'retention'
          and holder = $1
        "#,
        holder,
        rest.map(|rest| rest.as_secs_f64()),
        Uuid::nil(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A page of runs, as the sweep sees it.
#[derive(Debug)]
pub(crate) struct Sight {
    /// How many runs it has, and the last of them.
    pub(crate) looked: i64,
    pub(crate) last: Option<Uuid>,
    /// Those whose time is up, and whether they are archived first.
    pub(crate) expired: Vec<(RunKey, bool)>,
    /// Months before the cutoff in which an open visit or a held run has lines.
    pub(crate) months: Vec<NaiveDate>,
}

/// Looks at the runs after a place, in the order of their ids. A run's id carries no promise about
/// time here: every run is looked at, and its row says whether its time is up.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(crate) async fn look(
    conn: &mut PgConnection,
    after: Uuid,
    limit: i64,
    policies: &Policies,
    logs_before: NaiveDate,
) -> sqlx::Result<Sight> {
    let row = sqlx::query!(
        r#"
        with page as materialized (
          select run.run_id, run.shard_id, run.workflow, run.status, run.changed_at, run.visit,
            run.begun or run.status = 1 as begun,
            exists (
              select from engine.legal_hold
              where legal_hold.tenant_id = run.tenant_id
                and legal_hold.shard_id = run.shard_id
                and (legal_hold.run_id is null or legal_hold.run_id = run.run_id)
            ) as held
          from engine.run
          where run.run_id > $1
          order by run.run_id
          limit $2
        ), expired as (
          select page.run_id, page.shard_id, policy.archived
          from page
          join unnest($3::text[], $4::integer[], $5::boolean[])
            as policy (workflow, keep_days, archived) using (workflow)
          where page.status >= 10
            and not page.held
            and page.changed_at <= engine.now() - policy.keep_days * interval '1 day'
          order by page.run_id
        ), line as (
          -- The journal of an open visit, and all lines of what is held. Run by run (offset 0): a
          -- join might read a whole month for a handful of them.
          select step.at
          from page
          cross join lateral (
            select step.recorded_at as at
            from engine.step
            where step.run_id = page.run_id
              and step.shard_id = page.shard_id
              and step.recorded_at < $6::date::timestamp at time zone 'UTC'
              and (page.held or step.visit = page.visit)
            offset 0
          ) as step
          where page.held or (page.status < 10 and page.begun)
          union all
          select transition.at
          from page
          cross join lateral (
            select transition.at
            from engine.transition
            where transition.run_id = page.run_id
              and transition.shard_id = page.shard_id
              and transition.at < $6::date::timestamp at time zone 'UTC'
            offset 0
          ) as transition
          where page.held
        )
        select
          (select count(*) from page) as "looked!",
          (select run_id from page order by run_id desc limit 1) as last,
          array(select run_id from expired) as "runs!",
          array(select shard_id from expired) as "shards!",
          array(select archived from expired) as "archived!",
          array(select distinct date_trunc('month', at at time zone 'UTC')::date from line) as "months!"
        "#,
        after,
        limit,
        &policies.workflows,
        &policies.days,
        &policies.archived,
        logs_before,
    )
    .fetch_one(conn)
    .await?;
    let runs: Vec<Uuid> = row.runs;
    let shards: Vec<i16> = row.shards;
    let archived: Vec<bool> = row.archived;
    let keys = runs.into_iter().zip(shards);
    let keys = keys.map(|(run, shard)| key_of(run, shard));
    Ok(Sight {
        looked: row.looked,
        last: row.last,
        expired: keys.zip(archived).collect(),
        months: row.months,
    })
}

/// A run's key from its columns.
pub(crate) fn key_of(run: Uuid, shard: i16) -> RunKey {
    RunKey {
        run_id: RunId(run),
        shard_id: ShardId(shard),
    }
}

/// A line of the archive, and what tells whether the run is still as it was written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) key: RunKey,
    pub(crate) messages: Option<i64>,
}

impl Written {
    /// A run that is dropped without being written anywhere.
    pub(crate) fn unwritten(key: RunKey) -> Self {
        Self {
            key,
            messages: None,
        }
    }
}

/// Locks runs that are to be dropped, and passes over those that somebody else has locked: whoever
/// keeps a late signal with one. A statement of its own, so that the one that drops them sees what came
/// before the lock.
pub(crate) async fn lock_runs(
    conn: &mut PgConnection,
    keys: &[RunKey],
) -> sqlx::Result<HashSet<RunId>> {
    let (run_ids, shard_ids) = split(keys);
    let rows = sqlx::query_scalar!(
        r#"
        select run.run_id as "run_id: RunId"
        from unnest($1::uuid[], $2::smallint[]) as wanted (run_id, shard_id)
        cross join lateral (
          select run.run_id
          from engine.run
          where run.run_id = wanted.run_id
            and run.shard_id = wanted.shard_id
            and run.status >= 10
          for update skip locked
        ) as run
        "#,
        &run_ids,
        &shard_ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Drops locked runs with their messages, if their time is up and nothing holds them; how many. What was
/// archived stays if a message has come since. Goes too: the news of a run's end that lies with a
/// parent or watcher that is no longer kept.
pub(crate) async fn drop_runs(
    conn: &mut PgConnection,
    runs: &[Written],
    policies: &Policies,
) -> sqlx::Result<i64> {
    let keys: Vec<RunKey> = runs.iter().map(|run| run.key).collect();
    let (run_ids, shard_ids) = split(&keys);
    let messages: Vec<Option<i64>> = runs.iter().map(|run| run.messages).collect();
    sqlx::query_scalar!(
        r#"
        with gone as (
          delete from engine.run
          using unnest($1::uuid[], $2::smallint[], $3::bigint[]) as wanted (run_id, shard_id, messages),
            unnest($4::text[], $5::integer[]) as policy (workflow, keep_days)
          where run.run_id = wanted.run_id
            and run.shard_id = wanted.shard_id
            and run.workflow = policy.workflow
            and run.status >= 10
            and run.changed_at <= engine.now() - policy.keep_days * interval '1 day'
            and not exists (
              select from engine.legal_hold
              where legal_hold.tenant_id = run.tenant_id
                and legal_hold.shard_id = run.shard_id
                and (legal_hold.run_id is null or legal_hold.run_id = run.run_id))
            and (wanted.messages is null or wanted.messages = (
              select count(*)
              from engine.inbox
              where inbox.run_id = wanted.run_id and inbox.shard_id = wanted.shard_id))
          returning run.run_id, run.shard_id, run.parent_run_id, run.watchers
        ), emptied as (
          delete from engine.inbox
          using gone
          where inbox.run_id = gone.run_id
            and inbox.shard_id = gone.shard_id
        ), unlisted as (
          delete from engine.fan_item
          using gone
          where fan_item.run_id = gone.run_id
            and fan_item.shard_id = gone.shard_id
        ), unreported as (
          delete from engine.progress
          using gone
          where progress.run_id = gone.run_id
            and progress.shard_id = gone.shard_id
        ), hearer as (
          select gone.parent_run_id as run_id, gone.shard_id, gone.run_id as ended
          from gone
          where gone.parent_run_id is not null
          union
          select watcher.run_id, gone.shard_id, gone.run_id
          from gone
          cross join lateral unnest(gone.watchers) as watcher (run_id)
        ), unheard as (
          delete from engine.inbox
          using hearer
          where inbox.run_id = hearer.run_id
            and inbox.shard_id = hearer.shard_id
            and inbox.signal_id = 'finished:' || hearer.ended
            and not exists (
              select from engine.run
              where run.run_id = hearer.run_id and run.shard_id = hearer.shard_id)
        )
        select count(*) as "gone!"
        from gone
        "#,
        &run_ids,
        &shard_ids,
        &messages as &[Option<i64>],
        &policies.workflows,
        &policies.days,
    )
    .fetch_one(conn)
    .await
}

/// Drops one partition of the logs; its name. `None` when there is none to drop.
pub(crate) async fn drop_partition(
    conn: &mut PgConnection,
    before: NaiveDate,
    kept: &[NaiveDate],
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("select engine.drop_log_partition($1, $2)", before, kept,)
        .fetch_one(conn)
        .await
}

/// The month from which on logs are kept.
pub(crate) async fn find_logs_before(
    conn: &mut PgConnection,
    months: u32,
) -> sqlx::Result<NaiveDate> {
    sqlx::query_scalar!(
        r#"
        select (date_trunc('month', engine.now() at time zone 'UTC') - make_interval(months => $1))::date
          as "before!"
        "#,
        i32::try_from(months).unwrap_or(i32::MAX),
    )
    .fetch_one(conn)
    .await
}

/// Drops some rows of the audit that are older than `days` and not held; how many.
pub(crate) async fn drop_audit(
    conn: &mut PgConnection,
    days: u32,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        with old as (
          select audit_id, shard_id
          from engine.audit
          where at <= engine.now() - $1 * interval '1 day'
            and not exists (
              select from engine.legal_hold
              where legal_hold.tenant_id = audit.tenant_id
                and legal_hold.shard_id = audit.shard_id
                and (legal_hold.run_id is null or legal_hold.run_id = audit.run_id))
          order by at
          limit $2
        )
        delete from engine.audit
        using old
        where audit.audit_id = old.audit_id
          and audit.shard_id = old.shard_id
        "#,
        f64::from(days),
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Ends operations that nobody has confirmed within `days`.
pub(crate) async fn abort_forgotten(conn: &mut PgConnection, days: u32) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update engine.bulk
        set status = 4, ended_at = engine.now()
        where status = 0
          and shard_id between 0 and 1023
          and created_at <= engine.now() - $1 * interval '1 day'
        "#,
        f64::from(days),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Drops some lines of operations that ended more than `days` ago and are not held; how many.
pub(crate) async fn drop_operation_lines(
    conn: &mut PgConnection,
    days: u32,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        with old as (
          select bulk_run.bulk_id, bulk_run.run_id, bulk_run.shard_id
          from engine.bulk
          join engine.bulk_run using (bulk_id)
          where bulk.ended_at <= engine.now() - $1 * interval '1 day'
            and not exists (
              select from engine.legal_hold
              where legal_hold.tenant_id = bulk_run.tenant_id
                and legal_hold.shard_id = bulk_run.shard_id
                and (legal_hold.run_id is null or legal_hold.run_id = bulk_run.run_id))
          limit $2
        )
        delete from engine.bulk_run
        using old
        where bulk_run.bulk_id = old.bulk_id
          and bulk_run.run_id = old.run_id
          and bulk_run.shard_id = old.shard_id
        "#,
        f64::from(days),
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Drops operations that ended more than `days` ago and have no line any more; how many.
pub(crate) async fn drop_operations(conn: &mut PgConnection, days: u32) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        delete from engine.bulk
        where ended_at <= engine.now() - $1 * interval '1 day'
          and shard_id between 0 and 1023
          and not exists (select from engine.bulk_run where bulk_run.bulk_id = bulk.bulk_id)
        "#,
        f64::from(days),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// A run as the archive keeps it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) run_id: Uuid,
    pub(crate) shard_id: i16,
    pub(crate) workflow: String,
    pub(crate) ended_at: DateTime<Utc>,
    pub(crate) messages: i64,
    pub(crate) json: String,
}

/// Reads runs with all that hangs on them, row by row as the tables have them: a column that is
/// added later is in the archive without a word here. One run at a time, because each may be large.
pub(crate) async fn find_line(
    conn: &mut PgConnection,
    run: Uuid,
    shard: i16,
) -> sqlx::Result<Option<Line>> {
    sqlx::query_as!(
        Line,
        r#"
        select run.run_id, run.shard_id, run.workflow, run.changed_at as ended_at,
          (select count(*) from engine.inbox where inbox.run_id = $1 and inbox.shard_id = $2) as "messages!",
          jsonb_build_object(
            'run', to_jsonb(run),
            'messages', array(
              select to_jsonb(inbox)
              from engine.inbox
              where inbox.run_id = $1 and inbox.shard_id = $2
              order by inbox.recorded_at, inbox.position),
            'steps', array(
              select to_jsonb(step)
              from engine.step
              where step.run_id = $1 and step.shard_id = $2
              order by step.visit, step.seq),
            'transitions', array(
              select to_jsonb(transition)
              from engine.transition
              where transition.run_id = $1 and transition.shard_id = $2
              order by transition.at, transition.visit),
            'audit', array(
              select to_jsonb(audit)
              from engine.audit
              where audit.run_id = $1 and audit.shard_id = $2
              order by audit.at)
          )::text as "json!"
        from engine.run
        where run.run_id = $1
          and run.shard_id = $2
        "#,
        run,
        shard,
    )
    .fetch_optional(conn)
    .await
}
