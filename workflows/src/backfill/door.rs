//! The doors to backfills: plan, start, look, and what a person may say to one.
//!
//! Each changes the role of the caller's transaction as it needs, and leaves it as the engine's.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::audit::{self, Deed};
use tenure_engine::flow::Author;
use tenure_engine::{Client, RunRef, SYSTEM_TENANT, TenantId, inspect, new_uuid, random_uuid};
use uuid::Uuid;

use super::definition::Definition;
use super::job::{Change, Input};
use super::pace::DEFAULT_LOAD;
use super::phase::{Facts, Phase, refusals};
use super::progress::{Eta, Rate, eta, percent};
use super::rows::{self, Counts, NewBackfill, SHARD, Wanted};
use super::{
    Backfill, BackfillWorkflow, Range, RangeStatus, RangeWorkflow, Status, Target, Trouble, job,
    range, reads_new, store, trouble, unseen,
};
use crate::data_map::{Belongs, Model};
use crate::door::{DoorError, as_control, as_tenant};
use crate::product::{self, ProductError, Site, Sources, maps};

/// How many tenants a plan looks at; more are reckoned from those.
const PLANNED_TENANTS: i64 = 200;
/// Rows a second that a plan reckons with at the default load when nothing was measured: a slow and a fast
/// database.
const ROWS_PER_SECOND: (u64, u64) = (3_000, 30_000);

/// What a backfill would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What it is for.
    pub targets: Vec<Target>,
    /// How many tenants have a place there.
    pub tenants: i64,
    /// How many rows they have, as the planner believes.
    pub estimated_rows: u64,
    /// How long the fill would take, from and to, in seconds.
    pub seconds: (u64, u64),
    /// The statements of each source, by phase, as one of its tenants would have them.
    pub statements: Vec<(String, Vec<(Phase, String)>)>,
    /// What stands in the way.
    pub obstacles: Vec<(String, Trouble)>,
    /// What one should know.
    pub warnings: Vec<String>,
}

/// How far a backfill is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Ranges: all, and those that are filled or skipped.
    pub ranges: (i64, i64),
    /// Ranges that are held.
    pub held: i64,
    /// Ranges that were skipped.
    pub skipped: i64,
    /// Ranges whose tenant is no more, or where the backfill does not reach.
    pub gone: i64,
    /// Rows: believed in, looked at, and written.
    pub estimated_rows: i64,
    /// Rows that were looked at.
    pub done_rows: i64,
    /// Rows of them that were written.
    pub written_rows: i64,
    /// Of a hundred, never all while something is left.
    pub percent: f64,
    /// Rows a second, while it fills.
    pub rows_per_second: Option<f64>,
    /// Between when and when the fill ends.
    pub eta: Option<Eta>,
    /// What throttles how many ranges, in words.
    pub throttled: Vec<(String, i64)>,
    /// What is to throttle and cannot, because a login does not see it: a source and a code each.
    pub unseen: Vec<String>,
    /// What somebody may let begin, and what speaks against it.
    pub next: Option<(Phase, Vec<String>)>,
}

async fn as_engine(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("set local role tenure_engine")
        .execute(conn)
        .await?;
    Ok(())
}

fn malformed(field: &'static str, detail: impl Into<String>) -> DoorError {
    DoorError::Malformed {
        field,
        detail: detail.into(),
    }
}

/// The sources that a definition is for, each with its newest map and the table's name in it.
async fn targets(
    conn: &mut PgConnection,
    sources: &Sources,
    of: &Definition,
) -> Result<Vec<Target>, DoorError> {
    as_control(conn).await?;
    let wanted: Vec<&str> = match of.sources.is_empty() {
        true => sources.names().collect(),
        false => of.sources.iter().map(String::as_str).collect(),
    };
    let mut targets = Vec::new();
    for name in wanted {
        sources.get(name)?;
        let map = match maps::current(conn, name).await {
            Ok(map) => map,
            Err(ProductError::NoMap(_)) if of.sources.is_empty() => continue,
            Err(error) => return Err(error.into()),
        };
        let mut tables = map.map.tables.iter().filter(|(table, _)| {
            **table == of.table
                || table
                    .rsplit_once('.')
                    .is_some_and(|(_, bare)| bare == of.table)
        });
        let found = tables.next();
        if tables.next().is_some() {
            let detail = format!(
                "several tables of source {name} are called {:?}: name the schema",
                of.table
            );
            return Err(malformed("table", detail));
        }
        match found {
            None if of.sources.is_empty() => {}
            None => {
                let detail = format!("the data map of source {name} has no table {:?}", of.table);
                return Err(malformed("table", detail));
            }
            Some((table, rule)) => {
                if map.map.model == Model::Shared && matches!(rule.belongs, Belongs::Nobody(_)) {
                    let detail =
                        format!("{table} holds nothing of tenants, whose rows a backfill fills");
                    return Err(malformed("table", detail));
                }
                targets.push(Target {
                    source: name.to_owned(),
                    map_version: map.version,
                    table: table.clone(),
                });
            }
        }
    }
    if targets.is_empty() {
        let detail = format!("no source's data map has a table {:?}", of.table);
        return Err(malformed("table", detail));
    }
    Ok(targets)
}

fn check(of: &Definition) -> Result<(), DoorError> {
    of.check()
        .map_err(|misfit| malformed("definition", misfit.to_string()))
}

/// Says what a backfill would do, and does nothing: the catalog and the planner are asked, no row is
/// read.
///
/// # Errors
/// [`DoorError::Malformed`] for a definition that does not fit; [`DoorError::Product`].
pub async fn plan(
    conn: &mut PgConnection,
    sources: &Sources,
    of: &Definition,
) -> Result<Plan, DoorError> {
    check(of)?;
    let targets = targets(conn, sources, of).await?;
    let names: Vec<String> = targets.iter().map(|target| target.source.clone()).collect();
    let nobody = Uuid::nil();
    let tenants = rows::count_uncovered(conn, nobody, &names).await?;
    let looked_at = rows::list_uncovered(conn, nobody, &names, None, PLANNED_TENANTS).await?;
    let mut plan = Plan {
        targets,
        tenants,
        estimated_rows: 0,
        seconds: (0, 0),
        statements: Vec::new(),
        obstacles: Vec::new(),
        warnings: warnings(of),
    };
    let looked = i64::try_from(looked_at.len()).unwrap_or(i64::MAX);
    for tenant in looked_at {
        look_at(conn, sources, of, tenant, &mut plan).await?;
    }
    if looked < tenants && looked > 0 {
        let all = plan.estimated_rows as f64 * tenants as f64 / looked as f64;
        plan.estimated_rows = all as u64;
    }
    // Rests are longer where less load may be made; what never rests is some four times as fast.
    let load = of.pace.load_percent.unwrap_or(100).min(100);
    let at_load = |rows: u64| (rows * u64::from(load) / u64::from(DEFAULT_LOAD)).max(1);
    let (slow, fast) = (at_load(ROWS_PER_SECOND.0), at_load(ROWS_PER_SECOND.1));
    plan.seconds = (
        plan.estimated_rows / fast,
        plan.estimated_rows.div_ceil(slow),
    );
    as_engine(conn).await?;
    Ok(plan)
}

fn warnings(of: &Definition) -> Vec<String> {
    let mut warnings = Vec::new();
    if !of.leads_back() {
        warnings.push(
            "nothing says how old columns follow from new ones: once new code writes only the new ones, \
             going back loses what it wrote"
                .to_owned(),
        );
    }
    if of.drop.is_empty() && of.sql.contract.is_empty() {
        warnings.push("the contract drops no column: it only takes the trigger away".to_owned());
    }
    if of.clean_for_seconds < 3_600 {
        warnings.push(
            "less than an hour of clean verification is asked for before the contract".to_owned(),
        );
    }
    warnings
}

async fn look_at(
    conn: &mut PgConnection,
    sources: &Sources,
    of: &Definition,
    tenant: TenantId,
    plan: &mut Plan,
) -> Result<(), DoorError> {
    let placement = product::door::find(conn, tenant).await?;
    let source = &placement.place.source;
    let Some(target) = plan
        .targets
        .iter()
        .find(|target| target.source == *source)
        .cloned()
    else {
        return Ok(());
    };
    let map = maps::find(conn, source, target.map_version).await?;
    let looked = async {
        let site = Site::open(sources, &placement, &map).await?;
        let mut tx = site.begin().await?;
        let shape = store::shape(&mut tx, &site, of, &target.table).await?;
        let rows = store::estimate(&mut tx, &shape).await?;
        let obstacle = store::find_obstacle(&mut tx, &shape, of).await?;
        let (readings, _) = store::readings(&mut tx, &shape.table, None).await?;
        Ok::<_, ProductError>((rows, shape, obstacle, readings))
    };
    match looked.await {
        Ok((rows, shape, obstacle, readings)) => {
            plan.estimated_rows = plan.estimated_rows.saturating_add(rows);
            if plan.statements.iter().all(|(known, _)| known != source) {
                let unseen = unseen(&readings, &of.throttle);
                if !unseen.is_empty() {
                    plan.warnings.push(format!(
                        "the login of source {source} does not see {}, which so throttle nothing: grant it \
                         pg_read_all_stats, or pg_monitor",
                        unseen.join(", ")
                    ));
                }
                plan.statements.push((source.clone(), shape.all(of)));
                plan.obstacles
                    .extend(obstacle.map(|why| (source.clone(), why)));
            }
        }
        Err(error) => match trouble::judge(&error) {
            trouble::Verdict::Hold(why) => plan.obstacles.push((source.clone(), why)),
            _ => return Err(error.into()),
        },
    }
    Ok(())
}

/// Starts a backfill. Call [`Client::ring`] after the commit.
///
/// # Errors
/// [`DoorError::Malformed`] for a definition that does not fit; [`DoorError::Conflict`] while one of
/// its name is under way, or when something stands in the way; [`DoorError::Product`].
pub async fn start(
    conn: &mut PgConnection,
    client: &Client,
    sources: &Sources,
    of: &Definition,
    author: &Author,
) -> Result<Backfill, DoorError> {
    let plan = plan(conn, sources, of).await?;
    let left = find_terminated(conn, &of.name).await?;
    if let Some((source, why)) = plan.obstacles.first() {
        let by = left.as_ref().map(|left| {
            let id = left.backfill_id;
            format!(
                "; backfill {id} of that name was terminated: tenure backfill back {id} --to undone takes \
                 away what it left"
            )
        });
        return Err(DoorError::Conflict(format!(
            "source {source}: {}: {}{}",
            why.kind.word(),
            why.detail,
            by.unwrap_or_default()
        )));
    }
    if let Some(left) = left {
        free_name(conn, &left).await?;
    }
    as_tenant(conn, SYSTEM_TENANT).await?;
    let backfill_id = new_uuid(SHARD);
    let key = backfill_id.to_string();
    let started = client
        .start::<BackfillWorkflow>(conn, SYSTEM_TENANT, &key, &Input::Whole(backfill_id))
        .await?;
    let new = NewBackfill {
        backfill_id,
        definition: of,
        targets: &plan.targets,
        run_id: started.run_id,
        author: &author.actor,
        reason: author.reason.trim(),
    };
    if !rows::insert(conn, &new).await? {
        return Err(DoorError::Conflict(format!(
            "a backfill called {:?} is under way",
            of.name
        )));
    }
    let backfill = must_find(conn, backfill_id).await?;
    note(conn, author, "start backfill", None, &backfill).await?;
    Ok(backfill)
}

async fn must_find(conn: &mut PgConnection, id: Uuid) -> Result<Backfill, DoorError> {
    let found = rows::find(conn, id).await?;
    found.ok_or_else(|| DoorError::not_found("backfill", id))
}

async fn note(
    conn: &mut PgConnection,
    author: &Author,
    action: &str,
    before: Option<&Backfill>,
    after: &Backfill,
) -> Result<(), DoorError> {
    let shape = |of: &Backfill| {
        serde_json::json!({
            "phase": of.phase.word(),
            "status": of.status.word(),
            "percent": of.percent,
            "paused": of.paused,
        })
    };
    as_engine(conn).await?;
    let deed = Deed {
        action,
        subject: &after.definition.name,
        tenant: None,
        before: before.map(shape).unwrap_or_default(),
        after: shape(after),
    };
    Ok(audit::note(conn, author, &deed).await?)
}

/// Finds a backfill by its id or its name; of several of a name the newest.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(conn: &mut PgConnection, name: &str) -> Result<Backfill, DoorError> {
    as_tenant(conn, SYSTEM_TENANT).await?;
    let found = match name.parse() {
        Ok(id) => rows::find(conn, id).await?,
        Err(_) => rows::list(conn, Some(name), None, 1).await?.pop(),
    };
    as_engine(conn).await?;
    let found = found.ok_or_else(|| DoorError::not_found("backfill", name))?;
    as_found(conn, found).await
}

/// The newest of a name, if its run was terminated and left something.
async fn find_terminated(
    conn: &mut PgConnection,
    name: &str,
) -> Result<Option<Backfill>, DoorError> {
    as_tenant(conn, SYSTEM_TENANT).await?;
    let newest = rows::list(conn, Some(name), None, 1).await?.pop();
    as_engine(conn).await?;
    let Some(newest) = newest else {
        return Ok(None);
    };
    let found = as_found(conn, newest).await?;
    Ok(Some(found).filter(|found| found.status == Status::Terminated))
}

/// Notes that one that was terminated has ended, so that another may have its name.
async fn free_name(conn: &mut PgConnection, of: &Backfill) -> Result<(), DoorError> {
    if of.ended_at.is_none() {
        as_tenant(conn, SYSTEM_TENANT).await?;
        let (id, why) = (of.backfill_id, of.trouble.as_ref());
        rows::move_to(conn, id, of.phase, Status::Ended, why).await?;
    }
    Ok(())
}

/// A backfill as somebody finds it: its row knows nothing of a run that was terminated. The transaction
/// must act as the engine.
async fn as_found(conn: &mut PgConnection, mut of: Backfill) -> Result<Backfill, DoorError> {
    if of.ended_at.is_none() && inspect::has_ended(conn, of.run_id).await? {
        // What waits for somebody's word before its phase has not begun it.
        let begun = of.status != Status::Waiting || of.phase != Phase::Contract;
        of.phase = if begun { of.phase } else { Phase::Switch };
        of.trouble = Some(Trouble::new(
            trouble::Kind::Terminated,
            format!(
                "its run was terminated in {}: {}",
                of.phase.word(),
                left_in(of.phase)
            ),
        ));
        of.status = Status::Terminated;
    }
    let why = of.trouble.as_ref().map(|why| why.kind);
    if of.status == Status::Ended && why == Some(trouble::Kind::Terminated) {
        of.status = Status::Terminated;
    }
    Ok(of)
}

/// What a run that is terminated in a phase leaves in the products' tables.
const fn left_in(phase: Phase) -> &'static str {
    match phase {
        Phase::Expand => "new columns stay at the places that it came to",
        Phase::DualWrite => {
            "new columns stay, and so do the triggers that write them, at the places that it came to"
        }
        Phase::Fill | Phase::Verify | Phase::Switch => {
            "new columns stay with what was filled, and so do the triggers that write them; ranges that \
             were not filled are not filled any more"
        }
        Phase::Contract => {
            "triggers and old columns are gone at the places that it came to, and stay at the others"
        }
        Phase::Undone => {
            "triggers and new columns are gone at the places that it came to, and stay at the others"
        }
        Phase::Done => "all is done but that the products' ledgers remember it",
    }
}

/// Lists backfills, newest first; `after` is the last one of the page before.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Backfill>, DoorError> {
    as_tenant(conn, SYSTEM_TENANT).await?;
    let rows = rows::list(conn, None, after, limit).await?;
    as_engine(conn).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        found.push(as_found(conn, row).await?);
    }
    Ok(found)
}

/// Lists the ranges of a backfill, those in a status if one is given.
///
/// # Errors
/// When the database does not answer.
pub async fn ranges(
    conn: &mut PgConnection,
    backfill: Uuid,
    status: Option<RangeStatus>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Range>, DoorError> {
    as_tenant(conn, SYSTEM_TENANT).await?;
    let wanted = Wanted {
        status,
        after,
        ..Wanted::default()
    };
    let found = rows::list_ranges(conn, backfill, wanted, limit).await?;
    as_engine(conn).await?;
    Ok(found)
}

/// Says how far a backfill is.
///
/// # Errors
/// When the database does not answer.
pub async fn progress(conn: &mut PgConnection, of: &Backfill) -> Result<Progress, DoorError> {
    as_control(conn).await?;
    let counts = rows::count(conn, of.backfill_id).await?;
    let rates = rows::rates(conn, of.backfill_id).await?;
    let uncovered = rows::count_uncovered(conn, of.backfill_id, &of.sources()).await?;
    let throttled = throttled(conn, of.backfill_id).await?;
    let unseen = rows::list_unseen(conn, of.backfill_id).await?;
    as_engine(conn).await?;
    let now = tenure_engine::tenant::now(conn, SYSTEM_TENANT).await?;
    let filling = of.phase == Phase::Fill && of.status == Status::Working;
    let rate = rate(of, &counts, &rates, now).filter(|_| filling);
    let finished = of.phase > Phase::Fill && counts.finished == counts.ranges;
    let number = |count: i64| u64::try_from(count).unwrap_or_default();
    let (estimated, done) = (number(believed(&counts, uncovered)), number(counts.done));
    Ok(Progress {
        ranges: (counts.ranges, counts.finished),
        held: counts.held,
        skipped: counts.skipped,
        gone: counts.gone,
        estimated_rows: believed(&counts, uncovered),
        done_rows: counts.done,
        written_rows: counts.written,
        percent: percent(estimated, done, finished),
        rows_per_second: rate.map(|rate| rate.mean),
        eta: rate.and_then(|rate| eta(estimated, done, rate)),
        throttled,
        unseen,
        next: next(of, &counts, uncovered, now),
    })
}

/// How many rows there are, tenants whose turn has not come taken for like the others.
fn believed(counts: &Counts, uncovered: i64) -> i64 {
    let each = counts.estimated.checked_div(counts.ranges).unwrap_or(0);
    counts
        .estimated
        .saturating_add(each.saturating_mul(uncovered))
}

/// The rate of what goes on, or where every range is over in a moment, of the whole.
fn rate(of: &Backfill, counts: &Counts, rates: &[Rate], now: DateTime<Utc>) -> Option<Rate> {
    let sum = Rate::sum(rates.iter().copied());
    if sum.count >= 2 && sum.mean > 0.0 {
        return Some(sum);
    }
    let seconds = (now - of.started_at).num_milliseconds() as f64 / 1_000.0;
    if counts.finished < 3 || seconds <= 0.0 {
        return None;
    }
    let mean = counts.done as f64 / seconds;
    // Nothing is known of how even it is: a third is allowed for.
    let spread = mean / 6.0;
    Some(Rate {
        mean,
        variance: spread * spread,
        count: u32::try_from(counts.finished).unwrap_or(u32::MAX),
    })
}

/// What throttles ranges, in words, each with how many.
async fn throttled(
    conn: &mut PgConnection,
    backfill: Uuid,
) -> Result<Vec<(String, i64)>, DoorError> {
    let wanted = Wanted {
        status: Some(RangeStatus::Throttled),
        ..Wanted::default()
    };
    let found = rows::list_ranges(conn, backfill, wanted, 200).await?;
    let mut reasons = BTreeMap::new();
    for range in found {
        let read = range
            .detail
            .map(serde_json::from_value::<Vec<super::Reason>>);
        for reason in read.and_then(Result::ok).unwrap_or_default() {
            *reasons
                .entry(format!("{}: {}", reason.code, reason.detail))
                .or_insert(0) += 1;
        }
    }
    Ok(reasons.into_iter().collect())
}

fn next(
    of: &Backfill,
    counts: &Counts,
    uncovered: i64,
    now: DateTime<Utc>,
) -> Option<(Phase, Vec<String>)> {
    let into = match (of.status, of.phase) {
        (Status::Waiting, phase) => phase,
        (Status::Working, Phase::Switch) => Phase::Contract,
        _ => return None,
    };
    let facts = Facts {
        now,
        held: counts.held,
        skipped: counts.skipped,
        uncovered,
        mismatches: of.mismatches,
        clean_since: of.clean_since,
        percent: of.percent,
    };
    Some((into, refusals(into, &of.definition, &facts)))
}

/// Lets the next phase begin.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when it waits for nobody's word, or with all that
/// speaks against it.
pub async fn advance(
    conn: &mut PgConnection,
    client: &Client,
    name: &str,
    author: &Author,
) -> Result<Backfill, DoorError> {
    let of = lock(conn, name).await?;
    let progress = progress(conn, &of).await?;
    let Some((into, against)) = progress.next else {
        return Err(refused(&of, "it waits for nobody's word"));
    };
    if !against.is_empty() {
        let detail = format!("{} is refused: {}", into.word(), against.join("; "));
        return Err(refused(&of, &detail));
    }
    tell(
        conn,
        client,
        &of,
        author,
        "advance backfill",
        &job::Signal::Advance,
    )
    .await
}

/// Lets so many tenants of a hundred read the new columns.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Malformed`]; [`DoorError::Conflict`] when reads have not
/// switched.
pub async fn roll_out(
    conn: &mut PgConnection,
    client: &Client,
    name: &str,
    percent: i16,
    author: &Author,
) -> Result<Backfill, DoorError> {
    if !(0..=100).contains(&percent) {
        return Err(malformed("percent", "0 to 100"));
    }
    let of = lock(conn, name).await?;
    if (of.phase, of.status) != (Phase::Switch, Status::Working) {
        return Err(refused(&of, "reads have not switched"));
    }
    let signal = job::Signal::RollOut { percent };
    tell(conn, client, &of, author, "roll out backfill", &signal).await
}

/// Goes back to an earlier phase, or to how all was before; one that was terminated only to that. Nobody
/// reads the new columns from then on.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Malformed`] for a phase that nobody goes back to;
/// [`DoorError::Conflict`] when there is no way back any more.
pub async fn back(
    conn: &mut PgConnection,
    client: &Client,
    name: &str,
    to: Phase,
    author: &Author,
) -> Result<Backfill, DoorError> {
    if !to.can_be_gone_back_to() {
        return Err(malformed(
            "to",
            "expand, dual-write, fill, verify or undone",
        ));
    }
    let of = lock(conn, name).await?;
    let over = matches!(of.phase, Phase::Contract | Phase::Done | Phase::Undone);
    let waits = of.status == Status::Waiting && of.phase == Phase::Contract;
    if over && !waits {
        return Err(refused(&of, "there is no way back any more"));
    }
    if of.status == Status::Terminated {
        if to != Phase::Undone {
            return Err(refused(
                &of,
                "what it left is taken away as a whole: undone",
            ));
        }
        let undo = Change::Undo { cancelled: false };
        return clear(conn, client, &of, undo, author, "take back backfill").await;
    }
    if of.status == Status::Stopping {
        return Err(refused(&of, "it goes back already"));
    }
    if to != Phase::Undone && to > of.phase {
        return Err(refused(&of, &format!("{} lies ahead", to.word())));
    }
    tell(
        conn,
        client,
        &of,
        author,
        "take back backfill",
        &job::Signal::Back { to },
    )
    .await
}

/// Goes on where it was held, or fills again what was found wrong or was skipped; one that was terminated
/// where there is no way back is brought to its end.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when nothing is to be done again.
pub async fn retry(
    conn: &mut PgConnection,
    client: &Client,
    name: &str,
    author: &Author,
) -> Result<Backfill, DoorError> {
    let of = lock(conn, name).await?;
    if of.status == Status::Terminated {
        let doing = match of.phase {
            Phase::Contract => Change::Contract,
            Phase::Undone => Change::Undo { cancelled: false },
            Phase::Done => Change::Forget {
                done: true,
                cancelled: false,
            },
            _ => return Err(refused(&of, "back --to undone takes away what it left")),
        };
        return clear(conn, client, &of, doing, author, "retry backfill").await;
    }
    let waits = of.status == Status::Waiting && of.phase >= Phase::Verify;
    let rests = waits || (of.status, of.phase) == (Status::Working, Phase::Switch);
    if of.status != Status::Held && !rests {
        return Err(refused(
            &of,
            "nothing of it is held; a range is retried by itself",
        ));
    }
    tell(
        conn,
        client,
        &of,
        author,
        "retry backfill",
        &job::Signal::Retry,
    )
    .await
}

/// Compares all rows again.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when it does not rest after its fill.
pub async fn verify(
    conn: &mut PgConnection,
    client: &Client,
    name: &str,
    author: &Author,
) -> Result<Backfill, DoorError> {
    let of = lock(conn, name).await?;
    let waits = of.status == Status::Waiting && of.phase >= Phase::Switch;
    if !waits && (of.status, of.phase) != (Status::Working, Phase::Switch) {
        return Err(refused(&of, "it does not rest after its fill"));
    }
    tell(
        conn,
        client,
        &of,
        author,
        "verify backfill",
        &job::Signal::Verify,
    )
    .await
}

/// Lets its ranges rest after the batch that they are in, or go on.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when it has ended.
pub async fn set_paused(
    conn: &mut PgConnection,
    name: &str,
    paused: bool,
    author: &Author,
) -> Result<Backfill, DoorError> {
    let of = lock(conn, name).await?;
    if matches!(of.status, Status::Ended | Status::Terminated) {
        return Err(refused(&of, "it has ended"));
    }
    as_tenant(conn, SYSTEM_TENANT).await?;
    rows::set_paused(conn, of.backfill_id, paused).await?;
    let after = must_find(conn, of.backfill_id).await?;
    let action = match paused {
        true => "pause backfill",
        false => "resume backfill",
    };
    note(conn, author, action, Some(&of), &after).await?;
    Ok(after)
}

/// What a person may say to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeVerb {
    /// Go on where it was held.
    Retry,
    /// Leave it as it is: the contract is refused while rows of it are wrong.
    Skip,
}

/// Retries a range that is held, or skips one that is held or being filled.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when the range is not so, with what is allowed.
pub async fn tell_range(
    conn: &mut PgConnection,
    client: &Client,
    name: &str,
    range_id: Uuid,
    verb: RangeVerb,
    author: &Author,
) -> Result<Range, DoorError> {
    let of = lock(conn, name).await?;
    as_tenant(conn, SYSTEM_TENANT).await?;
    let wanted = Wanted {
        range: Some(range_id),
        ..Wanted::default()
    };
    let found = rows::list_ranges(conn, of.backfill_id, wanted, 1)
        .await?
        .pop();
    let found = found.ok_or_else(|| DoorError::not_found("range", range_id))?;
    let (signal, action) = match verb {
        RangeVerb::Retry => (range::Signal::Retry, "retry range"),
        RangeVerb::Skip => {
            let signal = range::Signal::Skip {
                by: author.actor.clone(),
                reason: author.reason.clone(),
            };
            (signal, "skip range")
        }
    };
    let against = against(&of, &found, verb);
    let run = found.run_id.filter(|_| against.is_none()).ok_or_else(|| {
        let allowed = against.unwrap_or("no run works on it");
        DoorError::Conflict(format!("the range is {}: {allowed}", found.status.word()))
    })?;
    let id = random_uuid().to_string();
    client
        .signal::<RangeWorkflow>(conn, SYSTEM_TENANT, RunRef::Id(run), &id, &signal)
        .await?;
    note(conn, author, action, Some(&of), &of).await?;
    Ok(found)
}

/// What speaks against a word to a range, and what may be said instead.
fn against(of: &Backfill, range: &Range, verb: RangeVerb) -> Option<&'static str> {
    let fills = of.phase == Phase::Fill;
    if of.status == Status::Terminated {
        return Some("its backfill was terminated, and works on no range any more");
    }
    match (range.status, verb) {
        (RangeStatus::Held, _) => None,
        (RangeStatus::Filling | RangeStatus::Throttled | RangeStatus::Paused, RangeVerb::Skip)
            if fills =>
        {
            None
        }
        (
            RangeStatus::Filling
            | RangeStatus::Verifying
            | RangeStatus::Throttled
            | RangeStatus::Paused,
            _,
        ) => Some(match fills {
            true => "it goes on by itself; it can be skipped",
            false => "it is compared, and goes on by itself; the backfill can be taken back",
        }),
        (RangeStatus::Planned, _) => Some("its turn has not come"),
        (RangeStatus::Gone, _) => {
            Some("its tenant is where the backfill does not reach, and nothing is to be done")
        }
        (RangeStatus::Skipped | RangeStatus::Filled, _) => {
            Some("it is done; retry of the backfill fills again what is wrong or was skipped")
        }
    }
}

/// Whether a tenant reads the new columns of a backfill.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn reads(
    conn: &mut PgConnection,
    name: &str,
    tenant: TenantId,
) -> Result<(Backfill, bool), DoorError> {
    let of = find(conn, name).await?;
    let new = match of.phase {
        Phase::Done => true,
        Phase::Undone => false,
        _ => reads_new(&of.definition.name, tenant.0, of.percent),
    };
    Ok((of, new))
}

async fn lock(conn: &mut PgConnection, name: &str) -> Result<Backfill, DoorError> {
    let found = find(conn, name).await?;
    as_tenant(conn, SYSTEM_TENANT).await?;
    rows::lock(conn, found.backfill_id).await?;
    let locked = must_find(conn, found.backfill_id).await?;
    as_engine(conn).await?;
    as_found(conn, locked).await
}

/// Starts another run of a backfill that was terminated, which brings to an end what that one left.
async fn clear(
    conn: &mut PgConnection,
    client: &Client,
    of: &Backfill,
    doing: Change,
    author: &Author,
    action: &str,
) -> Result<Backfill, DoorError> {
    let backfill_id = of.backfill_id;
    let newest = find_terminated(conn, &of.definition.name).await?;
    if let Some(newest) = newest.filter(|newest| newest.backfill_id != backfill_id) {
        free_name(conn, &newest).await?;
    }
    as_tenant(conn, SYSTEM_TENANT).await?;
    // Ranges of before end with the pass; nobody reads what is taken away.
    let pass = rows::raise_pass(conn, backfill_id).await?;
    if doing.phase() == Phase::Undone {
        rows::set_percent(conn, backfill_id, 0).await?;
        rows::forget_verification(conn, backfill_id).await?;
    }
    let key = format!("{backfill_id}/{pass}");
    let input = Input::Rest { backfill_id, doing };
    let started = client
        .start::<BackfillWorkflow>(conn, SYSTEM_TENANT, &key, &input)
        .await?;
    if !rows::resume(conn, backfill_id, started.run_id, doing.phase()).await? {
        return Err(DoorError::Conflict(format!(
            "another backfill called {:?} is under way",
            of.definition.name
        )));
    }
    let after = must_find(conn, backfill_id).await?;
    note(conn, author, action, Some(of), &after).await?;
    Ok(after)
}

fn refused(of: &Backfill, detail: &str) -> DoorError {
    DoorError::Conflict(format!(
        "the backfill is {} in {}: {detail}",
        of.status.word(),
        of.phase.word()
    ))
}

async fn tell(
    conn: &mut PgConnection,
    client: &Client,
    of: &Backfill,
    author: &Author,
    action: &str,
    signal: &job::Signal,
) -> Result<Backfill, DoorError> {
    as_tenant(conn, SYSTEM_TENANT).await?;
    let id = random_uuid().to_string();
    let run = RunRef::Id(of.run_id);
    client
        .signal::<BackfillWorkflow>(conn, SYSTEM_TENANT, run, &id, signal)
        .await?;
    note(conn, author, action, Some(of), of).await?;
    Ok(of.clone())
}
