//! The rows of backfills and their ranges, in our own database. Unless said otherwise the
//! transaction must act as the system tenant.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use tenure_engine::{RunId, SYSTEM_TENANT, TenantId};
use uuid::Uuid;

use super::definition::Definition;
use super::progress::Rate;
use super::store::Key;
use super::{Backfill, Range, RangeStatus, Status, Target};

/// The shard of the system tenant, whose rows they are.
pub(super) const SHARD: tenure_engine::ShardId = tenure_engine::ShardId(0);

/// A backfill to insert.
pub(super) struct NewBackfill<'a> {
    pub(super) backfill_id: Uuid,
    pub(super) definition: &'a Definition,
    pub(super) targets: &'a [Target],
    pub(super) run_id: RunId,
    pub(super) author: &'a str,
    pub(super) reason: &'a str,
}

/// Adds a backfill; `false` when one of its name is under way.
pub(super) async fn insert(conn: &mut PgConnection, new: &NewBackfill<'_>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into app.backfill
          (backfill_id, shard_id, tenant_id, name, definition, targets, phase, status, pass, percent,
           paused, run_id, started_by, reason, started_at)
        values ($1, $2, $3, $4, $5, $6, 'expand', 'working', 1, 0, false, $7, $8, $9, engine.now())
        on conflict (name, tenant_id, shard_id) where ended_at is null do nothing
        "#,
        new.backfill_id,
        SHARD.0,
        SYSTEM_TENANT.0,
        new.definition.name,
        Json(new.definition) as _,
        Json(new.targets) as _,
        new.run_id.0,
        new.author,
        new.reason,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

struct BackfillColumns {
    backfill_id: Uuid,
    definition: Value,
    targets: Value,
    phase: String,
    status: String,
    pass: i32,
    percent: i16,
    paused: bool,
    trouble: Option<Value>,
    mismatches: Option<i64>,
    verified_at: Option<DateTime<Utc>>,
    clean_since: Option<DateTime<Utc>>,
    run_id: Uuid,
    started_by: String,
    reason: String,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl BackfillColumns {
    fn read(self) -> sqlx::Result<Backfill> {
        let unread = |what: &str| sqlx::Error::Decode(format!("app.backfill.{what}").into());
        Ok(Backfill {
            backfill_id: self.backfill_id,
            definition: read_json(self.definition)?,
            targets: read_json(self.targets)?,
            phase: super::Phase::from_word(&self.phase).ok_or_else(|| unread("phase"))?,
            status: Status::from_word(&self.status).ok_or_else(|| unread("status"))?,
            pass: self.pass,
            percent: self.percent,
            paused: self.paused,
            trouble: self.trouble.map(read_json).transpose()?,
            mismatches: self.mismatches,
            verified_at: self.verified_at,
            clean_since: self.clean_since,
            run_id: RunId(self.run_id),
            started_by: self.started_by,
            reason: self.reason,
            started_at: self.started_at,
            ended_at: self.ended_at,
        })
    }
}

fn read_json<T: serde::de::DeserializeOwned>(value: Value) -> sqlx::Result<T> {
    serde_json::from_value(value).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Finds a backfill by its id. As the system tenant, or as control.
pub(super) async fn find(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Backfill>> {
    let found = sqlx::query_as!(
        BackfillColumns,
        r#"
        select backfill_id, definition, targets, phase, status, pass, percent, paused, trouble, mismatches,
          verified_at, clean_since, run_id, started_by, reason, started_at, ended_at
        from app.backfill
        where backfill_id = $1
          and shard_id = $2
        "#,
        id,
        SHARD.0,
    )
    .fetch_optional(conn)
    .await?;
    found.map(BackfillColumns::read).transpose()
}

/// Lists backfills, newest first; with a name those of that name. As the system tenant, or as control.
pub(super) async fn list(
    conn: &mut PgConnection,
    name: Option<&str>,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Backfill>> {
    let found = sqlx::query_as!(
        BackfillColumns,
        r#"
        select backfill_id, definition, targets, phase, status, pass, percent, paused, trouble, mismatches,
          verified_at, clean_since, run_id, started_by, reason, started_at, ended_at
        from app.backfill
        where shard_id = $1
          and ($2::text is null or name = $2)
          and ($3::uuid is null or backfill_id < $3)
        order by backfill_id desc
        limit $4
        "#,
        SHARD.0,
        name,
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    found.into_iter().map(BackfillColumns::read).collect()
}

/// Locks a backfill for whoever changes what a person wishes of it.
pub(super) async fn lock(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "select from app.backfill where backfill_id = $1 and shard_id = $2 for update",
        id,
        SHARD.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(())
}

/// Says that its ranges rest, or go on.
pub(super) async fn set_paused(
    conn: &mut PgConnection,
    id: Uuid,
    paused: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update app.backfill set paused = $3 where backfill_id = $1 and shard_id = $2",
        id,
        SHARD.0,
        paused,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Says where it is.
pub(super) async fn move_to(
    conn: &mut PgConnection,
    id: Uuid,
    phase: super::Phase,
    status: Status,
    trouble: Option<&super::Trouble>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.backfill
        set phase = $3,
          status = $4,
          trouble = $5,
          ended_at = case when $4 = 'ended' then coalesce(ended_at, engine.now()) end
        where backfill_id = $1
          and shard_id = $2
        "#,
        id,
        SHARD.0,
        phase.word(),
        status.word(),
        trouble.map(Json) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Hands a backfill that was terminated to another run; `false` when another of its name is under way.
pub(super) async fn resume(
    conn: &mut PgConnection,
    id: Uuid,
    run: RunId,
    phase: super::Phase,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        update app.backfill
        set run_id = $3, phase = $4, status = 'working', trouble = null, ended_at = null
        where backfill_id = $1
          and shard_id = $2
          and not exists (
            select from app.backfill as other
            where other.name = backfill.name
              and other.tenant_id = backfill.tenant_id
              and other.shard_id = $2
              and other.ended_at is null
              and other.backfill_id <> $1)
        "#,
        id,
        SHARD.0,
        run.0,
        phase.word(),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Raises the pass, so that ranges of an older one end; the new one.
pub(super) async fn raise_pass(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"
        update app.backfill
        set pass = pass + 1
        where backfill_id = $1
          and shard_id = $2
        returning pass
        "#,
        id,
        SHARD.0,
    )
    .fetch_one(conn)
    .await
}

/// Says how many tenants of a hundred read the new columns.
pub(super) async fn set_percent(
    conn: &mut PgConnection,
    id: Uuid,
    percent: i16,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update app.backfill set percent = $3 where backfill_id = $1 and shard_id = $2",
        id,
        SHARD.0,
        percent,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sums up a verification of all ranges; the rows that were wrong. `begun` is when it began: from
/// then on a clean one counts.
pub(super) async fn close_verification(
    conn: &mut PgConnection,
    id: Uuid,
    begun: DateTime<Utc>,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        with found as (
          select coalesce(sum(coalesce(mismatches, 1)), 0)::int8 as wrong
          from app.backfill_range
          where backfill_id = $1
            and shard_id = $2
            and status <> 'gone'
        )
        update app.backfill
        set mismatches = found.wrong,
          verified_at = engine.now(),
          clean_since = case when found.wrong = 0 then coalesce(clean_since, $3) end
        from found
        where backfill_id = $1
          and shard_id = $2
        returning mismatches as "mismatches!"
        "#,
        id,
        SHARD.0,
        begun,
    )
    .fetch_one(conn)
    .await
}

/// Says that what was verified does not count any more.
pub(super) async fn forget_verification(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.backfill
        set mismatches = null, clean_since = null
        where backfill_id = $1
          and shard_id = $2
        "#,
        id,
        SHARD.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How its ranges stand, counted. As the system tenant, or as control.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) ranges: i64,
    pub(super) finished: i64,
    pub(super) held: i64,
    pub(super) skipped: i64,
    pub(super) gone: i64,
    pub(super) throttled: i64,
    pub(super) estimated: i64,
    pub(super) done: i64,
    pub(super) written: i64,
}

/// Counts them.
pub(super) async fn count(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Counts> {
    sqlx::query_as!(
        Counts,
        r#"
        select count(*) as "ranges!",
          count(*) filter (where status in ('filled', 'skipped', 'gone')) as "finished!",
          count(*) filter (where status = 'held') as "held!",
          count(*) filter (where status = 'skipped') as "skipped!",
          count(*) filter (where status = 'gone') as "gone!",
          count(*) filter (where status = 'throttled') as "throttled!",
          -- What is filled, or gone, has as many rows as were counted, whatever was believed.
          coalesce(sum(case when status in ('filled', 'gone') then done_rows
            else greatest(estimated_rows, done_rows) end), 0)::int8 as "estimated!",
          coalesce(sum(done_rows), 0)::int8 as "done!",
          coalesce(sum(written_rows), 0)::int8 as "written!"
        from app.backfill_range
        where backfill_id = $1
          and shard_id = $2
        "#,
        id,
        SHARD.0,
    )
    .fetch_one(conn)
    .await
}

/// How many of its ranges work or are about to, `own` among them, up to `most`: while one is planned, as
/// many work as may. As the system tenant, or as control.
pub(super) async fn count_at_work(
    conn: &mut PgConnection,
    id: Uuid,
    own: Uuid,
    most: u32,
) -> sqlx::Result<u32> {
    let others = sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from (
          select
          from app.backfill_range
          where backfill_id = $1
            and shard_id = $2
            and status in ('planned', 'filling', 'verifying')
            and range_id <> $3
          limit $4
        ) as other
        "#,
        id,
        SHARD.0,
        own,
        i64::from(most),
    )
    .fetch_one(conn)
    .await?;
    let at_work = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
    Ok(at_work.min(most))
}

/// The rates of the ranges that are being filled. As the system tenant, or as control.
pub(super) async fn rates(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Vec<Rate>> {
    let found = sqlx::query_scalar!(
        r#"
        select rate as "rate!"
        from app.backfill_range
        where backfill_id = $1
          and shard_id = $2
          and status in ('filling', 'throttled', 'paused')
          and rate is not null
        "#,
        id,
        SHARD.0,
    )
    .fetch_all(conn)
    .await?;
    found.into_iter().map(read_json).collect()
}

/// A tenant without a range yet, after the last one. The transaction must act as control.
pub(super) async fn list_uncovered(
    conn: &mut PgConnection,
    id: Uuid,
    sources: &[String],
    after: Option<TenantId>,
    limit: i64,
) -> sqlx::Result<Vec<TenantId>> {
    let found = sqlx::query_scalar!(
        r#"
        select tenant_id
        from app.placement as placement
        where source = any($2)
          and status <> 'provisioning'
          and ($3::uuid is null or tenant_id > $3)
          and not exists (
            select
            from app.backfill_range as known
            where known.backfill_id = $1
              and known.owner_id = placement.tenant_id
              and known.status <> 'gone'
              and known.shard_id = $4)
        order by tenant_id
        limit $5
        "#,
        id,
        sources,
        after.map(|after| after.0),
        SHARD.0,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(found.into_iter().map(TenantId).collect())
}

/// A tenant whose table is at the next place: each schema, each database, once. The transaction must
/// act as control.
pub(super) async fn next_place(
    conn: &mut PgConnection,
    sources: &[String],
    after: Option<&super::At>,
) -> sqlx::Result<Option<TenantId>> {
    let (source, database, schema) = match after {
        Some(at) => (Some(&*at.source), Some(&*at.database), Some(&*at.schema)),
        None => (None, None, None),
    };
    let found = sqlx::query_scalar!(
        r#"
        select tenant_id
        from app.placement
        where source = any($1)
          and status <> 'provisioning'
          and ($2::text is null or
            (source, coalesce(database_name, ''), coalesce(schema_name, '')) > ($2, $3::text, $4::text))
        order by source, coalesce(database_name, ''), coalesce(schema_name, ''), tenant_id
        limit 1
        "#,
        sources,
        source,
        database,
        schema,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.map(TenantId))
}

/// How many tenants have a place and no range. The transaction must act as control.
pub(super) async fn count_uncovered(
    conn: &mut PgConnection,
    id: Uuid,
    sources: &[String],
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from app.placement as placement
        where source = any($2)
          and not exists (
            select
            from app.backfill_range as known
            where known.backfill_id = $1
              and known.owner_id = placement.tenant_id
              and known.status <> 'gone'
              and known.shard_id = $3)
        "#,
        id,
        sources,
        SHARD.0,
    )
    .fetch_one(conn)
    .await
}

/// A range to insert.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct NewRange {
    pub(super) range_id: Uuid,
    pub(super) owner_id: Uuid,
    pub(super) part: i32,
    pub(super) after: Option<Key>,
    pub(super) to: Option<Key>,
    pub(super) estimated: i64,
}

/// Adds a range; one that is there stays, unless its tenant was gone and is back.
pub(super) async fn insert_range(
    conn: &mut PgConnection,
    backfill: Uuid,
    pass: i32,
    new: &NewRange,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.backfill_range
          (range_id, shard_id, tenant_id, backfill_id, owner_id, part, after_key, to_key, estimated_rows, pass,
           status)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'planned')
        on conflict (range_id, shard_id) do update
          set after_key = excluded.after_key, to_key = excluded.to_key, estimated_rows = excluded.estimated_rows,
            pass = excluded.pass, status = 'planned', detail = null
          where backfill_range.status = 'gone'
        "#,
        new.range_id,
        SHARD.0,
        SYSTEM_TENANT.0,
        backfill,
        new.owner_id,
        new.part,
        new.after.as_deref(),
        new.to.as_deref(),
        new.estimated,
        pass,
    )
    .execute(conn)
    .await?;
    Ok(())
}

struct RangeColumns {
    range_id: Uuid,
    owner_id: Uuid,
    part: i32,
    after_key: Option<Vec<String>>,
    to_key: Option<Vec<String>>,
    estimated_rows: i64,
    pass: i32,
    run_id: Option<Uuid>,
    status: String,
    cursor_key: Option<Vec<String>>,
    done_rows: i64,
    written_rows: i64,
    batch_rows: i32,
    rate: Option<Value>,
    detail: Option<Value>,
    unseen: Vec<String>,
    verified_rows: Option<i64>,
    mismatches: Option<i64>,
    found_sum: Option<String>,
    expected_sum: Option<String>,
    first_mismatch: Option<Vec<String>>,
    verified_at: Option<DateTime<Utc>>,
    noted_at: Option<DateTime<Utc>>,
}

impl RangeColumns {
    fn read(self) -> sqlx::Result<Range> {
        let unread = || sqlx::Error::Decode("app.backfill_range.status".into());
        Ok(Range {
            range_id: self.range_id,
            owner_id: self.owner_id,
            part: self.part,
            after: self.after_key,
            to: self.to_key,
            estimated_rows: self.estimated_rows,
            pass: self.pass,
            run_id: self.run_id.map(RunId),
            status: RangeStatus::from_word(&self.status).ok_or_else(unread)?,
            cursor: self.cursor_key,
            done_rows: self.done_rows,
            written_rows: self.written_rows,
            batch_rows: self.batch_rows,
            rate: self.rate.map(read_json).transpose()?,
            detail: self.detail,
            unseen: self.unseen,
            verified_rows: self.verified_rows,
            mismatches: self.mismatches,
            found_sum: self.found_sum,
            expected_sum: self.expected_sum,
            first_mismatch: self.first_mismatch,
            verified_at: self.verified_at,
            noted_at: self.noted_at,
        })
    }
}

/// Which ranges are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Only this one.
    pub(super) range: Option<Uuid>,
    /// Only those whose tenant is where the backfill reaches.
    pub(super) here: bool,
    /// Only those that verification found wrong, or that were skipped.
    pub(super) unright: bool,
    /// Only those in this status.
    pub(super) status: Option<RangeStatus>,
    /// After this one.
    pub(super) after: Option<Uuid>,
}

/// Lists ranges by their ids. As the system tenant, or as control.
pub(super) async fn list_ranges(
    conn: &mut PgConnection,
    backfill: Uuid,
    wanted: Wanted,
    limit: i64,
) -> sqlx::Result<Vec<Range>> {
    let found = sqlx::query_as!(
        RangeColumns,
        r#"
        select range_id, owner_id, part, after_key, to_key, estimated_rows, pass, run_id, status, cursor_key,
          done_rows, written_rows, batch_rows, rate, detail, unseen, verified_rows, mismatches,
          found_sum, expected_sum, first_mismatch, verified_at, noted_at
        from app.backfill_range
        where backfill_id = $1
          and shard_id = $2
          and ($3::uuid is null or range_id = $3)
          and (not $4 or mismatches > 0 or status = 'skipped')
          and ($5::text is null or status = $5)
          and ($6::uuid is null or range_id > $6)
          and (not $7 or status <> 'gone')
        order by range_id
        limit $8
        "#,
        backfill,
        SHARD.0,
        wanted.range,
        wanted.unright,
        wanted.status.map(RangeStatus::word),
        wanted.after,
        wanted.here,
        limit,
    )
    .fetch_all(conn)
    .await?;
    found.into_iter().map(RangeColumns::read).collect()
}

/// What a range's run writes down after a visit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Note<'a> {
    pub(super) pass: i32,
    pub(super) run_id: RunId,
    pub(super) status: RangeStatus,
    pub(super) cursor: Option<&'a Key>,
    pub(super) done: i64,
    pub(super) written: i64,
    pub(super) batch_rows: u32,
    pub(super) detail: Option<Value>,
    pub(super) unseen: &'a [String],
    /// Whether rows were done, so that a rate can be told.
    pub(super) rows: u32,
    /// Whether a pass begins, and no rate is known yet.
    pub(super) first: bool,
}

/// Writes it. The time between two notes that did rows, throttled time included, tells the rate.
pub(super) async fn note(
    conn: &mut PgConnection,
    range: Uuid,
    note: &Note<'_>,
) -> sqlx::Result<()> {
    let before = sqlx::query!(
        r#"
        select rate, extract(epoch from engine.now() - noted_at)::float8 as seconds
        from app.backfill_range
        where range_id = $1
          and shard_id = $2
        for update
        "#,
        range,
        SHARD.0,
    )
    .fetch_one(&mut *conn)
    .await?;
    let known = before.rate.map(read_json::<Rate>).transpose()?;
    let known = known.filter(|_| !note.first).unwrap_or_default();
    let rate = match before.seconds {
        Some(seconds) if note.rows > 0 && seconds > 0.0 && !note.first => {
            known.with(f64::from(note.rows) / seconds)
        }
        _ => known,
    };
    sqlx::query!(
        r#"
        update app.backfill_range
        set pass = $3,
          run_id = $4,
          status = $5,
          cursor_key = $6,
          done_rows = $7,
          written_rows = $8,
          batch_rows = $9,
          detail = $10,
          rate = $11,
          noted_at = case when $12 then engine.now() else noted_at end,
          unseen = $13
        where range_id = $1
          and shard_id = $2
        "#,
        range,
        SHARD.0,
        note.pass,
        note.run_id.0,
        note.status.word(),
        note.cursor.map(Vec::as_slice),
        note.done,
        note.written,
        i32::try_from(note.batch_rows).unwrap_or(i32::MAX),
        note.detail,
        Json(rate) as _,
        note.rows > 0 || note.first,
        note.unseen,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a comparison of a whole range found.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Tally {
    pub(super) rows: i64,
    pub(super) wrong: i64,
    /// Sums as text: they may be larger than JSON's numbers.
    pub(super) found: String,
    pub(super) expected: String,
    pub(super) first_wrong: Option<Key>,
}

/// Writes it. A range that was skipped stays so.
pub(super) async fn note_verified(
    conn: &mut PgConnection,
    range: Uuid,
    status: RangeStatus,
    tally: &Tally,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.backfill_range
        set status = $3,
          verified_rows = $4,
          mismatches = $5,
          found_sum = $6,
          expected_sum = $7,
          first_mismatch = $8,
          verified_at = engine.now(),
          detail = case when $3 = 'skipped' then detail end
        where range_id = $1
          and shard_id = $2
        "#,
        range,
        SHARD.0,
        status.word(),
        tally.rows,
        tally.wrong,
        tally.found,
        tally.expected,
        tally.first_wrong.as_deref(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Says how a range stands while it is verified; its fill stays as it was.
pub(super) async fn note_status(
    conn: &mut PgConnection,
    range: Uuid,
    run_id: RunId,
    status: RangeStatus,
    detail: Option<Value>,
    unseen: &[String],
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.backfill_range
        set status = $3, run_id = $4, detail = coalesce($5, detail), unseen = $6
        where range_id = $1
          and shard_id = $2
        "#,
        range,
        SHARD.0,
        status.word(),
        run_id.0,
        detail,
        unseen,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Says that a range leaves the verification without having been compared: what was known of its rows
/// does not count any more.
pub(super) async fn note_left(
    conn: &mut PgConnection,
    range: Uuid,
    run_id: RunId,
    status: RangeStatus,
    detail: &Value,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.backfill_range
        set status = $3, run_id = $4, detail = $5, verified_rows = null, mismatches = null, found_sum = null,
          expected_sum = null, first_mismatch = null, verified_at = null
        where range_id = $1
          and shard_id = $2
        "#,
        range,
        SHARD.0,
        status.word(),
        run_id.0,
        detail,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What is to throttle ranges of a backfill and cannot, because a login does not see it; a source and a
/// code each. As the system tenant, or as control.
pub(super) async fn list_unseen(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        select distinct unnest(unseen) as "unseen!"
        from app.backfill_range
        where backfill_id = $1
          and shard_id = $2
        order by 1
        "#,
        id,
        SHARD.0,
    )
    .fetch_all(conn)
    .await
}
