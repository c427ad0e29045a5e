//! A sweep: one pass of retention over one tenant's rows in the product.
//!
//! ```text
//! Planning ─ Measuring                     a dry run: counts and bytes, nothing is touched
//!     └──── Archiving ─ Sealing ─ Deleting ─ … next volume, next table … ─ Window ─ destroyed
//! ```
//!
//! Tables go in the order of the data map: whoever refers goes before what it refers to, so a row whose
//! children are gone is free. A row that anything still refers to stays, and goes in a later sweep.
//!
//! A table is walked in chunks by its primary key. Chunks become the parts of a *volume*, an archive
//! with a manifest of its own; a volume is sealed, read back, and only then are its rows deleted, part
//! by part, each part read from the archive again: a row goes if it is still, to the last column, what
//! the archive has of it. So a row that was changed meanwhile stays, and nothing is ever deleted that
//! cannot be brought back. Volumes are small, so that a change in between is rare and a run's state has
//! a bound.
//!
//! A delete commits in the product together with its line in the ledger (`Site::once`), under the
//! shared lock of `app.keeping_turn`, after the holds were read. Where the tenant has a schema or a
//! database of its own, a partition that lies wholly beyond its time is archived like a table of its
//! own and dropped whole, if it still holds just what was archived.
//!
//! What cannot go on by itself is *halted*, with a code, and waits for a person: `resume`, or `skip`
//! where the trouble is with certain rows. A full or unreachable archive is tried again by itself, too.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::{
    Context, Event, Exhausted, Reception, RetryPolicy, StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use super::hold::{self, Scope, Standing};
use super::policy::{Action, Rule};
use super::store::{self, Counted, Past, Table, Tally};
use super::{place, rows};
use crate::archive::{FORMAT, Kind, Manifest, Part};
use crate::data_map::{self, Link};
use crate::door::{DoorError, as_tenant};
use crate::environment::Environment;
use crate::product::{OnceKey, ProductError, Site};

// Input.

/// Which sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Whose rows.
    pub tenant_id: TenantId,
    /// The product's database.
    pub source: String,
    /// The version of its data map.
    pub map_version: i32,
    /// The version of its policy.
    pub policy_version: i32,
    /// The instant that days are counted back from.
    pub as_of: DateTime<Utc>,
    /// Whether it only counts.
    pub dry_run: bool,
}

// States and signals.

/// Where a sweep is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// About to say what is to be done.
    Planning {
        /// The sweep.
        of: Input,
    },
    /// Counts, a chunk at a time.
    Measuring {
        /// The sweep.
        of: Sweep,
    },
    /// Writes parts of a volume, or deletes at once where nothing is kept.
    Archiving {
        /// The sweep.
        of: Sweep,
        /// The volume that is being written.
        volume: Volume,
    },
    /// Completes the volume and reads it back.
    Sealing {
        /// The sweep.
        of: Sweep,
        /// The volume.
        volume: Volume,
    },
    /// Deletes what the volume has, a part at a time.
    Deleting {
        /// The sweep.
        of: Sweep,
        /// The volume, sealed.
        volume: Volume,
        /// Parts that are done.
        next: usize,
    },
    /// All is swept; archives wait for the end of their restore window.
    Window {
        /// The sweep.
        of: Sweep,
    },
    /// It cannot go on by itself.
    Halted {
        /// Why.
        why: Halt,
        /// Where it goes on.
        then: Box<State>,
    },
}

/// A sweep under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sweep {
    /// What it is.
    pub input: Input,
    /// Tables and partitions, in the order in which they go.
    pub units: Vec<Unit>,
    /// The one that is being swept.
    pub unit: usize,
    /// The key behind which the next chunk begins.
    pub after: Option<Vec<String>>,
    /// Chunks of this sweep so far: names what is done once.
    pub chunk: u64,
    /// What was archived of a partition that is to be dropped.
    pub(crate) tally: Tally,
    /// What came of the tables so far.
    pub done: BTreeMap<String, Swept>,
    /// Per table, the keys over which rows lead to another tenant and are left alone.
    pub skipped: BTreeMap<String, Vec<String>>,
    /// When the first archive of it is destroyed.
    pub destroy_at: Option<DateTime<Utc>>,
    /// Archives that were destroyed.
    pub destroyed: u64,
}

/// A table, or one partition of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// What holds for the table.
    pub rule: Rule,
    /// The partition that is to be dropped whole, as SQL names it.
    pub partition: Option<String>,
}

/// A volume: an archive of some chunks of one unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Volume {
    /// Its archive.
    pub archive_id: Uuid,
    /// The key behind which its first chunk began.
    pub start: Option<Vec<String>>,
    /// What was archived of the partition before it.
    pub(crate) before: Tally,
    /// Its parts so far.
    pub parts: Vec<Part>,
    /// Whether it ends its unit.
    pub last: bool,
}

/// What came of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// In a dry run: what would go, and what stays.
    #[serde(default)]
    pub counted: Counted,
    /// Rows that were archived.
    #[serde(default)]
    pub archived: u64,
    /// Rows that were deleted.
    #[serde(default)]
    pub deleted: u64,
    /// Rows that were archived and stay, because they were changed, referred to or held meanwhile.
    #[serde(default)]
    pub left: u64,
    /// Bytes in the archive.
    #[serde(default)]
    pub archive_bytes: u64,
    /// Partitions that were dropped whole.
    #[serde(default)]
    pub partitions: u64,
    /// Why the whole table was left alone.
    #[serde(default)]
    pub kept: Option<String>,
}

/// Why a sweep does not go on, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// Stable: `held`, `crosses_tenants`, `still_referenced`, `archive_full`, `archive_unreachable`,
    /// `archive_damaged`, `place_busy`, `product_failed`, `does_not_fit`.
    pub code: String,
    /// For people.
    pub detail: String,
    /// What `skip` leaves alone; `None` when there is nothing to skip.
    pub skip: Option<Skip>,
}

/// What is left alone when a person says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skip {
    /// The rows that lead to another tenant, per table the keys over which they do.
    Keys(BTreeMap<String, Vec<String>>),
    /// The rows of the part that is being deleted.
    Part,
}

/// What a person says to a sweep that is halted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// The trouble is mended: try again.
    Resume,
    /// Leave the rows that trouble it alone, and go on.
    Skip,
}

/// What a sweep came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// By table.
    pub tables: BTreeMap<String, Swept>,
    /// Archives that were destroyed when their window ended.
    pub destroyed: u64,
}

/// The workflow.
pub struct SweepWorkflow {
    environment: Environment,
}

impl SweepWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

/// The most parts of a volume.
const VOLUME: usize = 32;
/// The most tables and partitions of one sweep.
const MAX_UNITS: usize = 2_000;
const LOOK: &str = "look";
/// What may pass by itself is tried again after this long.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// An archive that a hold keeps is looked at again after this long.
const HELD_EVERY: TimeDelta = TimeDelta::days(1);

/// Steps on archive and product: a few attempts, then a person sees it.
pub(crate) const POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 4,
    attempt_timeout: Duration::from_secs(120),
    exhausted: Exhausted::Return,
    ..RetryPolicy::DEFAULT
};

/// Reading a whole volume back takes longer.
pub(crate) const VERIFY: RetryPolicy = RetryPolicy {
    attempt_timeout: Duration::from_secs(900),
    ..POLICY
};

// Handle.

impl Workflow for SweepWorkflow {
    const NAME: &'static str = "data-retention";
    const VERSION: i32 = 1;
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Output;

    fn start(&self, of: Input) -> State {
        State::Planning { of }
    }

    fn receive(&self, state: &State, signal: &Signal) -> Reception {
        match (state, signal) {
            (State::Halted { .. }, Signal::Resume) => Reception::Accept,
            (State::Halted { why, .. }, Signal::Skip) if why.skip.is_some() => Reception::Accept,
            (State::Halted { .. }, Signal::Skip) => {
                Reception::Reject("there is nothing to skip; mend what it says and resume")
            }
            _ => Reception::Reject("it is not halted"),
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        let at = state.clone();
        let next = match (state, event) {
            (State::Halted { then, .. }, Event::Signal(Signal::Resume) | Event::Deadline(_)) => {
                return Ok(Transition::go(*then));
            }
            (State::Halted { why, then }, Event::Signal(Signal::Skip)) => {
                return Ok(Transition::go(skip(why, *then)));
            }
            (State::Halted { why, then }, Event::Entered) => return Ok(halted(why, then)),
            (State::Window { of }, Event::Entered) => return Ok(wait(of)),
            (State::Window { of }, Event::Deadline(_)) => self.end_window(cx, of).await,
            (state, Event::CancelRequested) => return self.cancel(cx, state).await,
            (
                state,
                Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => {
                return Ok(Transition::stay(state));
            }
            (State::Planning { of }, Event::Entered) => self.plan(cx, of).await,
            (State::Measuring { of }, Event::Entered) => self.measure(cx, of).await,
            (State::Archiving { of, volume }, Event::Entered) => self.archive(cx, of, volume).await,
            (State::Sealing { of, volume }, Event::Entered) => self.seal(cx, of, volume).await,
            (State::Deleting { of, volume, next }, Event::Entered) => {
                self.delete(cx, of, volume, next).await
            }
        };
        match next {
            Ok(transition) => Ok(transition),
            Err(error) if error.is_terminal() => Ok(halt(cx, at, &error)),
            Err(error) => Err(error),
        }
    }
}

/// Whoever refers goes before what it refers to. The map's order is that of a deletion, in which a table
/// that keeps its rows binds nobody; a sweep takes rows of such tables, too. In a ring the map decides.
fn children_first(mut swept: Vec<(Rule, Table)>) -> Vec<(Rule, Table)> {
    let names = swept.iter().map(|(rule, _)| rule.table.clone()).collect();
    let links = swept.iter().flat_map(|(rule, table)| {
        table.references().filter_map(|key| {
            let parent = swept.iter().find(|(_, parent)| key.leads_to(parent))?;
            Some(Link {
                child: rule.table.clone(),
                parent: parent.0.table.clone(),
                constraint: key.name.clone(),
                nullable: false,
            })
        })
    });
    let links: Vec<Link> = links.collect();
    let places = data_map::arrange(&names, &links).places;
    swept.sort_by_key(|(rule, _)| places.get(&rule.table).copied());
    swept
}

/// Where a sweep goes on that a person lets skip something.
fn skip(why: Halt, then: State) -> State {
    match (why.skip, then) {
        (Some(Skip::Keys(keys)), State::Measuring { mut of }) => {
            of.skipped = keys;
            State::Measuring { of }
        }
        (Some(Skip::Keys(keys)), State::Archiving { mut of, volume }) => {
            of.skipped = keys;
            State::Archiving { of, volume }
        }
        (
            Some(Skip::Part),
            State::Deleting {
                mut of,
                volume,
                next,
            },
        ) => {
            let rows = volume.parts.get(next).map_or(0, |part| part.rows);
            of.swept().left += rows;
            State::Deleting {
                of,
                volume,
                next: next + 1,
            }
        }
        (_, then) => then,
    }
}

/// Waits for a person, and for what may pass by itself.
fn halted(why: Halt, then: Box<State>) -> Transition<SweepWorkflow> {
    let passes = matches!(
        why.code.as_str(),
        "archive_full" | "archive_unreachable" | "place_busy" | "product_failed" | "product_busy"
    );
    let stay = Transition::stay(State::Halted { why, then });
    if passes {
        stay.after(LOOK, LOOK_EVERY)
    } else {
        stay
    }
}

/// What follows when a step has failed for good.
fn halt(cx: &Context, at: State, error: &StepError) -> Transition<SweepWorkflow> {
    let skip = match (&at, error.code()) {
        (State::Deleting { .. }, "still_referenced") => Some(Skip::Part),
        _ => None,
    };
    // A volume that is not what it was is written anew, in an archive of its own; what it had of rows
    // that are deleted already stays where it is.
    let then = match at {
        State::Sealing { mut of, volume } | State::Deleting { mut of, volume, .. }
            if error.code() == "archive_damaged" =>
        {
            let rows: u64 = volume.parts.iter().map(|part| part.rows).sum();
            let bytes: u64 = volume.parts.iter().map(|part| part.bytes).sum();
            let swept = of.swept();
            swept.archived -= rows;
            swept.archive_bytes -= bytes;
            (of.after, of.tally) = (volume.start, volume.before);
            let volume = Volume::next(cx.uuid(), &of);
            State::Archiving { of, volume }
        }
        at => at,
    };
    Transition::go(State::Halted {
        why: Halt {
            code: error.code().to_owned(),
            detail: error.message().to_owned(),
            skip,
        },
        then: Box::new(then),
    })
}

fn wait(of: Sweep) -> Transition<SweepWorkflow> {
    match of.destroy_at {
        Some(at) => Transition::stay(State::Window { of }).at(LOOK, at),
        None => Transition::complete(Output {
            tables: of.done,
            destroyed: 0,
        }),
    }
}

impl Volume {
    /// The next one, which begins where the sweep is.
    fn next(archive_id: Uuid, of: &Sweep) -> Self {
        Self {
            archive_id,
            start: of.after.clone(),
            before: of.tally.clone(),
            parts: Vec::new(),
            last: false,
        }
    }
}

impl Sweep {
    fn here(&self) -> Option<&Unit> {
        self.units.get(self.unit)
    }

    /// What came of the table that is being swept.
    fn swept(&mut self) -> &mut Swept {
        let table = self.here().map(|unit| unit.rule.table.clone());
        self.done.entry(table.unwrap_or_default()).or_default()
    }

    /// The table that is being swept is done.
    fn turn(&mut self) {
        self.unit += 1;
        self.after = None;
        self.tally = Tally::default();
    }

    fn cutoff(&self, rule: &Rule) -> DateTime<Utc> {
        let days = TimeDelta::days(i64::from(rule.after_days));
        self.input.as_of - days
    }

    fn skipped_of(&self, table: &str) -> &[String] {
        self.skipped.get(table).map_or(&[], Vec::as_slice)
    }

    fn once(&self, cx: &Context, what: &str) -> OnceKey {
        OnceKey::new(cx.run_id().0, format!("{what}/{}", self.chunk))
    }
}

// Steps.

const PLAN: &str = "plan";
const COUNT: &str = "count";
const ARCHIVE: &str = "archive-chunk";
const DELETE_AT_ONCE: &str = "delete-chunk";
const WRITE_MANIFEST: &str = "write-manifest";
const READ_BACK: &str = "read-back";
const RECORD: &str = "record-archive";
const DELETE: &str = "delete-part";
const DROP: &str = "drop-partition";
const FORGET: &str = "forget";
const CONDEMN: &str = "condemn";
const DESTROY: &str = "destroy";

/// What a plan found.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    units: Vec<Unit>,
    /// Tables that a hold keeps as a whole, and whose.
    kept: BTreeMap<String, String>,
    /// Tables with rows that lead to other tenants, and the keys over which they do.
    crossing: BTreeMap<String, Vec<String>>,
    /// All that is the tenant's is held.
    held: Option<Standing>,
}

/// A chunk that was archived.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Chunk {
    part: Part,
    last: Option<Vec<String>>,
    tally: Tally,
}

/// A chunk that was deleted at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Gone {
    rows: u64,
    deleted: u64,
    partitions: u64,
    last: Option<Vec<String>>,
}

impl Gone {
    /// A partition was dropped.
    const fn whole(rows: u64) -> Self {
        Self {
            rows,
            deleted: rows,
            partitions: 1,
            last: None,
        }
    }
}

impl SweepWorkflow {
    async fn plan(&self, cx: &Context, of: Input) -> Result<Transition<Self>, StepError> {
        let plan = cx
            .step(PLAN, &POLICY, async |_| {
                self.look_around(&of).await.map_err(door_error)
            })
            .await?;
        if let Some(held) = plan.held.filter(|_| !of.dry_run) {
            let why = Halt {
                code: "held".to_owned(),
                detail: format!(
                    "data hold {} ({}) keeps all that is the tenant's",
                    held.hold_id, held.case
                ),
                skip: None,
            };
            let then = Box::new(State::Planning { of });
            return Ok(Transition::go(State::Halted { why, then }));
        }
        let mut sweep = Sweep {
            input: of,
            units: plan.units,
            unit: 0,
            after: None,
            chunk: 0,
            tally: Tally::default(),
            done: BTreeMap::new(),
            skipped: BTreeMap::new(),
            destroy_at: None,
            destroyed: 0,
        };
        for (table, case) in plan.kept {
            let kept = Some(format!("held for {case}"));
            let swept = Swept {
                kept,
                ..Swept::default()
            };
            sweep.done.insert(table, swept);
        }
        let then = match sweep.input.dry_run {
            true => State::Measuring { of: sweep },
            false => {
                let volume = Volume::next(cx.uuid(), &sweep);
                State::Archiving { of: sweep, volume }
            }
        };
        if plan.crossing.is_empty() {
            return Ok(Transition::go(then));
        }
        let told = place::told(&plan.crossing);
        Ok(Transition::go(State::Halted {
            why: Halt {
                code: "crosses_tenants".to_owned(),
                detail: format!("rows lead to a row that is not this tenant's: {told}"),
                skip: Some(Skip::Keys(plan.crossing)),
            },
            then: Box::new(then),
        }))
    }

    /// Says what is to be done, without doing any of it.
    async fn look_around(&self, of: &Input) -> Result<Plan, DoorError> {
        let (site, rules) = self.open(of).await?;
        let holds = self.holds(of.tenant_id).await?;
        let of_all = |hold: &&Standing| hold.scope == Scope::Tenant;
        let mut plan = Plan {
            units: Vec::new(),
            kept: BTreeMap::new(),
            crossing: BTreeMap::new(),
            held: holds.iter().find(of_all).cloned(),
        };
        let mut tx = site.begin().await?;
        store::enter(&mut tx).await?;
        let mut swept = Vec::new();
        for rule in rules {
            let on_table = |hold: &&Standing| hold.scope == Scope::Table(rule.table.clone());
            if let Some(hold) = holds.iter().find(on_table) {
                plan.kept.insert(rule.table, hold.case.clone());
                continue;
            }
            let table = store::look(&mut tx, &site, &rule.table, None).await?;
            swept.push((rule, table));
        }
        for (rule, table) in children_first(swept) {
            let crossing = place::crossing(&mut tx, &site, &table).await?;
            if !crossing.is_empty() {
                plan.crossing.insert(rule.table.clone(), crossing);
            }
            let held_rows = holds
                .iter()
                .any(|hold| hold.scope.table() == Some(&rule.table));
            let whole = place::is_tenants_own(&site)
                && !held_rows
                && rule.age_of.is_empty()
                && !table.is_referred_to();
            if whole && !of.dry_run {
                let cutoff = of.as_of - TimeDelta::days(i64::from(rule.after_days));
                let past = store::list_past_partitions(&mut tx, &site, &rule, cutoff).await?;
                plan.units.extend(past.into_iter().map(|name| Unit {
                    rule: rule.clone(),
                    partition: Some(name),
                }));
            }
            plan.units.push(Unit {
                rule,
                partition: None,
            });
        }
        tx.rollback().await?;
        if plan.units.len() > MAX_UNITS {
            let count = plan.units.len();
            let detail =
                format!("there are {count} tables and partitions; a sweep takes {MAX_UNITS}");
            return Err(hold::malformed("tables", &detail));
        }
        Ok(plan)
    }

    async fn measure(&self, cx: &Context, mut of: Sweep) -> Result<Transition<Self>, StepError> {
        if of.here().is_none() {
            return Ok(Transition::complete(Output {
                tables: of.done,
                destroyed: 0,
            }));
        }
        let count = async |_| self.count(&of).await.map_err(door_error);
        let (counted, last) = cx.step(COUNT, &POLICY, count).await?;
        let total = &mut of.swept().counted;
        total.rows += counted.rows;
        total.bytes += counted.bytes;
        total.held += counted.held;
        total.referenced += counted.referenced;
        match last {
            Some(last) => of.after = Some(last),
            None => of.turn(),
        }
        Ok(Transition::go(State::Measuring { of }))
    }

    async fn count(&self, of: &Sweep) -> Result<(Counted, Option<Vec<String>>), DoorError> {
        let (site, _) = self.open(&of.input).await?;
        let holds = self.holds(of.input.tenant_id).await?;
        let mut tx = site.begin().await?;
        store::enter(&mut tx).await?;
        let mut earlier: Vec<(Table, Past)> = Vec::new();
        for unit in &of.units[..of.unit] {
            earlier.push(self.past(&mut tx, &site, of, unit, &holds).await?);
        }
        let unit = &of.units[of.unit];
        let (table, past) = self.past(&mut tx, &site, of, unit, &holds).await?;
        let after = of.after.as_deref();
        let counted = store::count_past(&mut tx, &table, &past, &earlier, after).await?;
        tx.rollback().await?;
        Ok(counted)
    }

    async fn past(
        &self,
        conn: &mut PgConnection,
        site: &Site,
        of: &Sweep,
        unit: &Unit,
        holds: &[Standing],
    ) -> Result<(Table, Past), ProductError> {
        let rule = &unit.rule;
        let table = store::look(conn, site, &rule.table, unit.partition.as_deref()).await?;
        let held = held_rows(holds, &rule.table);
        let skipped = of.skipped_of(&rule.table);
        let past = Past::of(conn, &table, rule, of.cutoff(rule), &held, skipped).await?;
        Ok((table, past))
    }

    async fn archive(
        &self,
        cx: &Context,
        mut of: Sweep,
        mut volume: Volume,
    ) -> Result<Transition<Self>, StepError> {
        let Some(unit) = of.here().cloned() else {
            return self.finish(cx, of).await;
        };
        if unit.rule.restore_days == Some(0) {
            return self.delete_at_once(cx, of, volume, &unit).await;
        }
        let write = async |_| self.write_chunk(&of, &unit, &volume).await;
        let chunk = cx.step(ARCHIVE, &POLICY, write).await?;
        of.chunk += 1;
        match chunk {
            Some(chunk) => {
                let swept = of.swept();
                swept.archived += chunk.part.rows;
                swept.archive_bytes += chunk.part.bytes;
                of.after = chunk.last;
                of.tally = chunk.tally;
                volume.parts.push(chunk.part);
            }
            None => volume.last = true,
        }
        let full = volume.parts.len() >= VOLUME || volume.last;
        Ok(Transition::go(match (volume.parts.is_empty(), full) {
            // An empty partition goes, too.
            (true, true) if unit.partition.is_some() => State::Deleting {
                of,
                volume,
                next: 0,
            },
            (true, true) => {
                of.turn();
                let volume = Volume::next(volume.archive_id, &of);
                State::Archiving { of, volume }
            }
            (false, true) => State::Sealing { of, volume },
            (_, false) => State::Archiving { of, volume },
        }))
    }

    /// Reads a chunk and writes its part; `None` when nothing is left.
    async fn write_chunk(
        &self,
        of: &Sweep,
        unit: &Unit,
        volume: &Volume,
    ) -> Result<Option<Chunk>, StepError> {
        let (site, _) = self.open(&of.input).await.map_err(door_error)?;
        let holds = self.holds(of.input.tenant_id).await.map_err(door_error)?;
        refuse_held(&holds, &unit.rule.table)?;
        let read = async || {
            let mut tx = site.begin().await?;
            store::enter(&mut tx).await?;
            let (table, past) = self.past(&mut tx, &site, of, unit, &holds).await?;
            let page = store::read_past(&mut tx, &table, &past, of.after.as_deref()).await?;
            let tally = store::add_up(&mut tx, &of.tally, &page.lines).await?;
            tx.rollback().await?;
            Ok((page, tally))
        };
        let (page, tally) = read().await.map_err(product_error)?;
        if page.lines.is_empty() {
            return Ok(None);
        }
        let number = volume.parts.len() + 1;
        let name = format!("{}-{number:05}.jsonl.gz", file_name(&unit.rule.table));
        let (place, table) = ((of.input.tenant_id.0, volume.archive_id), &unit.rule.table);
        let archive = self.environment.archive().map_err(|error| error.step())?;
        let part = archive
            .write_part(place, &name, table, &page.lines, None)
            .await;
        Ok(Some(Chunk {
            part: part.map_err(|error| error.step())?,
            last: page.last,
            tally,
        }))
    }

    /// Deletes a chunk of which nothing is kept.
    async fn delete_at_once(
        &self,
        cx: &Context,
        mut of: Sweep,
        volume: Volume,
        unit: &Unit,
    ) -> Result<Transition<Self>, StepError> {
        let key = of.once(cx, "delete");
        let delete = async |_| {
            self.while_unheld(&of.input, &unit.rule.table, async |site, holds| {
                site.once(&key, async |conn| {
                    store::enter(conn).await?;
                    let (table, past) = self.past(conn, site, &of, unit, holds).await?;
                    let held = held_rows(holds, &unit.rule.table);
                    if unit.partition.is_some() && held.is_empty() {
                        let dropped = store::drop_partition(conn, &table, None).await?;
                        return Ok(Gone::whole(dropped.unwrap_or_default()));
                    }
                    let page = store::read_past(conn, &table, &past, of.after.as_deref()).await?;
                    let deleted = store::delete(conn, &table, &held, &page.lines).await?;
                    Ok(Gone {
                        rows: page.lines.len() as u64,
                        deleted,
                        partitions: 0,
                        last: page.last,
                    })
                })
                .await
            })
            .await
        };
        let gone: Gone = cx.step(DELETE_AT_ONCE, &POLICY, delete).await?;
        of.chunk += 1;
        let swept = of.swept();
        swept.deleted += gone.deleted;
        swept.left += gone.rows - gone.deleted;
        swept.partitions += gone.partitions;
        match gone.last {
            Some(last) => of.after = Some(last),
            None => of.turn(),
        }
        Ok(Transition::go(State::Archiving { of, volume }))
    }

    async fn seal(
        &self,
        cx: &Context,
        mut of: Sweep,
        volume: Volume,
    ) -> Result<Transition<Self>, StepError> {
        let Some(unit) = of.here().cloned() else {
            return self.finish(cx, of).await;
        };
        let made_at = cx.now();
        let write = async |_| self.write_manifest(&of, &unit, &volume, made_at).await;
        let sha256 = cx.step(WRITE_MANIFEST, &POLICY, write).await?;
        let place = (of.input.tenant_id.0, volume.archive_id);
        let verify = async |_| {
            let archive = self.environment.archive().map_err(|error| error.step())?;
            let read = archive.verify(place, &sha256, None).await;
            read.map(drop).map_err(|error| error.step())
        };
        cx.step(READ_BACK, &VERIFY, verify).await?;
        let window = unit
            .rule
            .restore_days
            .filter(|_| unit.rule.action == Action::Delete);
        let destroy_at = window.map(|days| made_at + TimeDelta::days(i64::from(days)));
        let row = rows::NewArchive {
            archive_id: volume.archive_id,
            sweep_id: cx.run_id().0,
            table: unit.rule.table.clone(),
            manifest_sha256: sha256,
            rows: volume.parts.iter().map(|part| part.rows).sum(),
            bytes: volume.parts.iter().map(|part| part.bytes).sum(),
            made_at,
            destroy_at,
        };
        let record = async |_| {
            self.speak(of.input.tenant_id, async |conn, tenant, shard| {
                rows::insert_archive(conn, tenant, shard, &row).await
            })
            .await
        };
        cx.step(RECORD, &POLICY, record).await?;
        of.destroy_at = match (of.destroy_at, destroy_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let next = 0;
        Ok(Transition::go(State::Deleting { of, volume, next }))
    }

    async fn write_manifest(
        &self,
        of: &Sweep,
        unit: &Unit,
        volume: &Volume,
        made_at: DateTime<Utc>,
    ) -> Result<String, StepError> {
        let (site, _) = self.open(&of.input).await.map_err(door_error)?;
        let look = async || {
            let mut tx = site.begin().await?;
            let table = store::look(&mut tx, &site, &unit.rule.table, None).await?;
            tx.rollback().await?;
            Ok(table)
        };
        let table = look().await.map_err(product_error)?;
        let manifest = Manifest {
            format: FORMAT,
            archive_id: volume.archive_id,
            kind: Kind::Retention,
            tenant_id: of.input.tenant_id.0,
            data_map: format!("{} version {}", of.input.source, of.input.map_version),
            made_at,
            sealed_with: None,
            rows: volume.parts.iter().map(|part| part.rows).sum(),
            tables: vec![table.shape()],
            parts: volume.parts.clone(),
        };
        let archive = self.environment.archive().map_err(|error| error.step())?;
        let written = archive.write_manifest(&manifest).await;
        written.map_err(|error| error.step())
    }

    async fn delete(
        &self,
        cx: &Context,
        mut of: Sweep,
        volume: Volume,
        next: usize,
    ) -> Result<Transition<Self>, StepError> {
        let Some(unit) = of.here().cloned() else {
            return self.finish(cx, of).await;
        };
        if unit.partition.is_some() {
            return self.drop_whole(cx, of, volume, &unit).await;
        }
        let Some(part) = volume.parts.get(next) else {
            if volume.last {
                of.turn();
            }
            let volume = Volume::next(cx.uuid(), &of);
            return Ok(Transition::go(State::Archiving { of, volume }));
        };
        let key = OnceKey::new(cx.run_id().0, format!("{}/{next}", volume.archive_id));
        let place = (of.input.tenant_id.0, volume.archive_id);
        let delete = async |_| {
            let archive = self.environment.archive().map_err(|error| error.step())?;
            let lines = archive.read_part(place, part, None).await;
            let lines = lines.map_err(|error| error.step())?;
            let table = &unit.rule.table;
            self.while_unheld(&of.input, table, async |site, holds| {
                let held = held_rows(holds, table);
                site.once(&key, async |conn| {
                    store::enter(conn).await?;
                    let table = store::look(conn, site, table, None).await?;
                    store::delete(conn, &table, &held, &lines).await
                })
                .await
            })
            .await
        };
        let deleted: u64 = cx.step(DELETE, &POLICY, delete).await?;
        let rows = part.rows;
        let swept = of.swept();
        swept.deleted += deleted;
        swept.left += rows - deleted;
        let next = next + 1;
        Ok(Transition::go(State::Deleting { of, volume, next }))
    }

    /// Drops a partition of which all volumes are sealed.
    async fn drop_whole(
        &self,
        cx: &Context,
        mut of: Sweep,
        volume: Volume,
        unit: &Unit,
    ) -> Result<Transition<Self>, StepError> {
        if !volume.last {
            let volume = Volume::next(cx.uuid(), &of);
            return Ok(Transition::go(State::Archiving { of, volume }));
        }
        let key = of.once(cx, "drop");
        let drop = async |_| {
            self.while_unheld(&of.input, &unit.rule.table, async |site, holds| {
                let held = !held_rows(holds, &unit.rule.table).is_empty();
                site.once(&key, async |conn| {
                    store::enter(conn).await?;
                    let partition = unit.partition.as_deref();
                    let table = store::look(conn, site, &unit.rule.table, partition).await?;
                    if held {
                        return Ok(false);
                    }
                    let dropped = store::drop_partition(conn, &table, Some(&of.tally)).await?;
                    Ok(dropped.is_some())
                })
                .await
            })
            .await
        };
        let dropped: bool = cx.step(DROP, &POLICY, drop).await?;
        let rows = u64::try_from(of.tally.rows).unwrap_or_default();
        let swept = of.swept();
        if dropped {
            swept.deleted += rows;
            swept.partitions += 1;
        } else {
            swept.left += rows;
        }
        of.turn();
        let volume = Volume::next(cx.uuid(), &of);
        Ok(Transition::go(State::Archiving { of, volume }))
    }

    async fn finish(&self, cx: &Context, of: Sweep) -> Result<Transition<Self>, StepError> {
        let job = cx.run_id().0;
        let forget = async |_| {
            let (site, _) = self.open(&of.input).await.map_err(door_error)?;
            site.forget(job).await.map_err(product_error)
        };
        cx.step(FORGET, &POLICY, forget).await?;
        Ok(Transition::go(State::Window { of }))
    }

    /// Destroys the archives whose restore window has ended. They are condemned first: from that commit
    /// on there is no way back.
    async fn end_window(&self, cx: &Context, mut of: Sweep) -> Result<Transition<Self>, StepError> {
        let (tenant, sweep, now) = (of.input.tenant_id, cx.run_id().0, cx.now());
        let condemn = async |_| {
            self.speak(tenant, async |conn, tenant, shard| {
                hold::share_turn(conn, tenant).await.map_err(no_database)?;
                let holds = hold::standing(conn, tenant).await.map_err(no_database)?;
                let all = holds.iter().any(|hold| hold.scope == Scope::Tenant);
                let held = holds.iter().filter_map(|hold| hold.scope.table());
                let held: Vec<String> = held.map(ToOwned::to_owned).collect();
                let gone = match all {
                    true => Vec::new(),
                    false => rows::condemn(conn, sweep, shard, now, &held).await?,
                };
                Ok((gone, rows::find_next_destroy(conn, sweep, shard).await?))
            })
            .await
        };
        let (gone, next): (Vec<Uuid>, Option<DateTime<Utc>>) =
            cx.step(CONDEMN, &POLICY, condemn).await?;
        for archive_id in &gone {
            let destroy = async |_| {
                let archive = self.environment.archive().map_err(|error| error.step())?;
                let place = (tenant.0, *archive_id);
                let destroyed = archive.destroy(place).await;
                destroyed.map_err(|error| error.step())
            };
            cx.step(DESTROY, &POLICY, destroy).await?;
        }
        of.destroyed += gone.len() as u64;
        match next {
            Some(at) => {
                of.destroy_at = Some(if at > now { at } else { now + HELD_EVERY });
                Ok(Transition::go(State::Window { of }))
            }
            None => Ok(Transition::complete(Output {
                tables: of.done,
                destroyed: of.destroyed,
            })),
        }
    }

    /// Ends where it is. What was archived and not sealed is no archive, and goes; archives that have a
    /// restore window are waited for, because somebody has to destroy them.
    async fn cancel(&self, cx: &Context, state: State) -> Result<Transition<Self>, StepError> {
        let state = match state {
            State::Halted { then, .. } => *then,
            state => state,
        };
        let of = match state {
            State::Archiving { of, volume } | State::Sealing { of, volume } => {
                let place = (of.input.tenant_id.0, volume.archive_id);
                let destroy = async |_| {
                    let archive = self.environment.archive().map_err(|error| error.step())?;
                    let destroyed = archive.destroy(place).await;
                    destroyed.map_err(|error| error.step())
                };
                if !volume.parts.is_empty() {
                    cx.step(DESTROY, &POLICY, destroy).await?;
                }
                of
            }
            State::Deleting { of, .. } | State::Window { of } | State::Measuring { of } => of,
            State::Planning { .. } | State::Halted { .. } => return Ok(Transition::cancelled()),
        };
        Ok(match of.destroy_at {
            Some(_) => Transition::go(State::Window { of }),
            None => Transition::cancelled(),
        })
    }

    /// The tenant's place, and what holds for its tables.
    async fn open(&self, of: &Input) -> Result<(Site, Vec<Rule>), DoorError> {
        let opened =
            place::open(&self.environment, of.tenant_id, &of.source, of.map_version).await?;
        let rules = place::rules(&self.environment, &opened, of.policy_version).await?;
        Ok((opened, rules))
    }

    async fn holds(&self, tenant: TenantId) -> Result<Vec<Standing>, DoorError> {
        place::holds(&self.environment, tenant).await
    }

    /// Does something in the tenant's name in our own database.
    async fn speak<T>(
        &self,
        tenant: TenantId,
        work: impl AsyncFnOnce(&mut PgConnection, TenantId, tenure_engine::ShardId) -> sqlx::Result<T>,
    ) -> Result<T, StepError> {
        place::speak(&self.environment, tenant, work)
            .await
            .map_err(door_error)
    }

    /// Does something in the product while no hold can be placed, after those that stand were read; not
    /// where one is on the whole table.
    async fn while_unheld<T>(
        &self,
        of: &Input,
        table: &str,
        work: impl AsyncFnOnce(&Site, &[Standing]) -> Result<T, ProductError>,
    ) -> Result<T, StepError> {
        let (site, _) = self.open(of).await.map_err(door_error)?;
        let guarded = async || {
            let mut tx = tenure_engine::begin(self.environment.engine()).await?;
            as_tenant(&mut tx, of.tenant_id).await?;
            hold::share_turn(&mut tx, of.tenant_id).await?;
            let holds = hold::standing(&mut tx, of.tenant_id).await?;
            Ok((tx, holds))
        };
        let (tx, holds) = guarded().await.map_err(door_error)?;
        refuse_held(&holds, table)?;
        let done = work(&site, &holds).await.map_err(product_error);
        tx.rollback().await?;
        done
    }
}

/// The rows of a table that are held, as objects that they contain.
fn held_rows(holds: &[Standing], table: &str) -> Vec<Value> {
    let on_table = holds
        .iter()
        .filter(|hold| hold.scope.table() == Some(table));
    let matches = on_table.filter_map(|hold| hold.scope.matches());
    matches.cloned().map(Value::Object).collect()
}

/// Refuses where all that is the tenant's, or the whole table, is held.
fn refuse_held(holds: &[Standing], table: &str) -> Result<(), StepError> {
    let whole = |hold: &&Standing| match &hold.scope {
        Scope::Tenant => true,
        Scope::Table(held) => held == table,
        Scope::Rows { .. } => false,
    };
    match holds.iter().find(whole) {
        Some(hold) => Err(StepError::terminal(
            "held",
            format!("data hold {} ({}) keeps {table}", hold.hold_id, hold.case),
        )),
        None => Ok(()),
    }
}

/// A table's name as a file's.
pub(crate) fn file_name(table: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '.'
        }
    };
    table.chars().map(plain).collect()
}

fn no_database(error: DoorError) -> sqlx::Error {
    match error {
        DoorError::Database(error) => error,
        other => sqlx::Error::Protocol(other.to_string()),
    }
}

/// A door's error as a step fails with it.
pub(crate) fn door_error(error: DoorError) -> StepError {
    match error {
        DoorError::Product(error) => product_error(error),
        DoorError::Database(error) => error.into(),
        DoorError::Conflict(detail) => StepError::terminal("place_busy", detail),
        other => StepError::terminal("does_not_fit", other),
    }
}

/// An error of the product as a step fails with it.
pub(crate) fn product_error(error: ProductError) -> StepError {
    let ProductError::Database(cause) = &error else {
        return StepError::terminal("does_not_fit", error);
    };
    let Some(told) = cause.as_database_error() else {
        return StepError::retryable("product_failed", cause);
    };
    match told.code().as_deref() {
        // Foreign keys look past row-level security, so only they see another tenant's row.
        Some("23503" | "23001") => StepError::terminal(
            "still_referenced",
            format!(
                "a row that is not this tenant's, or that came meanwhile, refers to one of these by {}",
                told.constraint().unwrap_or("a foreign key")
            ),
        ),
        Some("55P03" | "57014" | "40P01") => {
            StepError::retryable("product_busy", "a lock or a statement took too long")
        }
        // Its words may hold a tenant's values.
        code => StepError::retryable(
            "product_failed",
            format!(
                "the product's database answered with SQLSTATE {}",
                code.unwrap_or("none")
            ),
        ),
    }
}
