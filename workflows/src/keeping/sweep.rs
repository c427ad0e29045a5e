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
//! own, and dropped whole if nobody has written to it since the first of it was read: a trigger that is
//! made before tells, so that nothing is read under the lock that a drop takes.
//!
//! A sweep whose tenant moves ends where it is, and says so: what it has archived is destroyed when its
//! window ends, and the next sweep begins at the new place.
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
    Context, Event, Exhausted, Guard, GuardNeed, Reception, RetryPolicy, StepError, TenantId,
    Transition, Workflow,
};
use uuid::Uuid;

use super::hold::{self, Scope, Standing};
use super::policy::{Action, Rule};
use super::store::{self, Counted, Past, Table};
use super::{place, rows};
use crate::archive::{FORMAT, Kind, Manifest, Part};
use crate::data_map::{self, Link};
use crate::door::DoorError;
use crate::environment::Environment;
use crate::product::{OnceKey, Place, ProductError, Site};

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
    /// Where the rows are.
    #[serde(default)]
    pub place: Option<Place>,
    /// Rows that were archived of a partition that is to be dropped.
    #[serde(default)]
    pub whole: u64,
    /// What came of the tables so far.
    pub done: BTreeMap<String, Swept>,
    /// Per table, the keys over which rows lead to another tenant and are left alone.
    pub skipped: BTreeMap<String, Vec<String>>,
    /// When the first archive of it is destroyed.
    pub destroy_at: Option<DateTime<Utc>>,
    /// Archives that were destroyed.
    pub destroyed: u64,
    /// Why it ended before all was swept.
    #[serde(default)]
    pub ended: Option<String>,
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
    /// Rows that were archived of the partition before it.
    #[serde(default)]
    pub rows_before: u64,
    /// Its parts so far.
    pub parts: Vec<Part>,
    /// Whether it ends its unit.
    pub last: bool,
    /// An archive that was damaged before it was sealed: it goes before this one is written.
    #[serde(default)]
    pub spoilt: Option<Uuid>,
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
    /// `archive_damaged`, `place_busy`, `moved`, `place_gone`, `columns_gone`, `refused_by_a_check`,
    /// `product_busy`, `product_failed`, `does_not_fit`.
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
    /// The rows of the part that is being deleted, or restored.
    Part,
    /// The values of columns that are gone, per table; the rows come back without.
    Columns(BTreeMap<String, Vec<String>>),
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
    /// Why it ended before all was swept; the next sweep takes what is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
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
pub(super) const LOOK: &str = "look";
/// What may pass by itself is tried again after this long.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(600);
/// An archive that a hold keeps is looked at again after this long.
const HELD_EVERY: TimeDelta = TimeDelta::days(1);

/// Steps on archive and product: a few attempts, then a person sees it.
pub(crate) const POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 4,
    attempt_timeout: Duration::from_secs(120),
    exhausted: Exhausted::Return,
    ..RetryPolicy::DEFAULT
};

/// A partition's lock is asked for briefly, and so more often.
const PATIENT: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(250),
    cap: Duration::from_secs(4),
    max_attempts: 10,
    ..POLICY
};

const fn patience(unit: &Unit) -> &'static RetryPolicy {
    match unit.partition {
        Some(_) => &PATIENT,
        None => &POLICY,
    }
}

/// Reading a whole volume back takes longer.
pub(crate) const VERIFY: RetryPolicy = RetryPolicy {
    attempt_timeout: Duration::from_secs(900),
    ..POLICY
};

// Handle.

impl Workflow for SweepWorkflow {
    const NAME: &'static str = "data-retention";
    const VERSION: i32 = 2;
    const GUARD: Guard = Guard {
        signals: &[
            ("Resume", GuardNeed::Operator),
            ("Skip", GuardNeed::Operator),
        ],
        ..Guard::OPEN
    };
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Output;

    fn start(&self, of: Input) -> State {
        State::Planning { of }
    }

    /// The first version summed what it archived of a partition. One that it had begun with is watched
    /// by nobody, and so stays for the next sweep.
    fn migrate(&self, _from_version: i32, state: Value) -> Result<Value, String> {
        Ok(state)
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
            (State::Halted { why, then }, Event::Entered) if has_left(&why) => {
                return self.end_where_it_is(cx, *then, Some(&why)).await;
            }
            (State::Halted { why, then }, Event::Entered) => return Ok(halted(why, then)),
            (State::Window { of }, Event::Entered) => return Ok(wait(of)),
            (State::Window { of }, Event::Deadline(_)) => self.end_window(cx, of).await,
            (state, Event::CancelRequested) => {
                return self.end_where_it_is(cx, state, None).await;
            }
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

/// Puts what is to be swept into a plan.
async fn look_at(
    plan: &mut Plan,
    of: &Input,
    site: &Site,
    rules: Vec<Rule>,
    holds: &[Standing],
) -> Result<(), ProductError> {
    let mut tx = site.begin().await?;
    store::enter(&mut tx).await?;
    let mut swept = Vec::new();
    for rule in rules {
        let table = store::look(&mut tx, site, &rule.table, None).await?;
        swept.push((rule, table));
    }
    for (rule, table) in children_first(swept) {
        let crossing = place::crossing(&mut tx, site, &table).await?;
        if !crossing.is_empty() {
            plan.crossing.insert(rule.table.clone(), crossing);
        }
        let held_rows = holds.iter().any(|hold| hold.scope.is_on(&rule.table));
        let whole = place::is_tenants_own(site)
            && !held_rows
            && rule.age_of.is_empty()
            && !table.is_referred_to();
        if whole && !of.dry_run {
            let cutoff = of.as_of - TimeDelta::days(i64::from(rule.after_days));
            let past = store::list_past_partitions(&mut tx, site, &rule, cutoff).await?;
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
    Ok(())
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

impl Halt {
    /// Whether it may pass by itself.
    pub(super) fn passes(&self) -> bool {
        matches!(
            self.code.as_str(),
            "archive_full"
                | "archive_unreachable"
                | "place_busy"
                | "product_failed"
                | "product_busy"
        )
    }
}

/// Whether the tenant's rows are elsewhere by now, or nowhere.
fn has_left(why: &Halt) -> bool {
    [place::MOVED, place::GONE].contains(&why.code.as_str())
}

/// Waits for a person, and for what may pass by itself.
fn halted(why: Halt, then: Box<State>) -> Transition<SweepWorkflow> {
    let passes = why.passes();
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
    // A volume that is not what it was is written anew, in an archive of its own. What it had of rows
    // that are deleted already stays where it is; before it was sealed nothing is, and it goes.
    let spoilt = match &at {
        State::Sealing { volume, .. } => Some(volume.archive_id),
        _ => None,
    };
    let then = match at {
        State::Sealing { mut of, volume } | State::Deleting { mut of, volume, .. }
            if error.code() == "archive_damaged" =>
        {
            let rows: u64 = volume.parts.iter().map(|part| part.rows).sum();
            let bytes: u64 = volume.parts.iter().map(|part| part.bytes).sum();
            let swept = of.swept();
            swept.archived -= rows;
            swept.archive_bytes -= bytes;
            (of.after, of.whole) = (volume.start, volume.rows_before);
            let volume = Volume {
                spoilt,
                ..Volume::next(cx.uuid(), &of)
            };
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
            ended: of.ended,
        }),
    }
}

impl Volume {
    /// The next one, which begins where the sweep is.
    fn next(archive_id: Uuid, of: &Sweep) -> Self {
        Self {
            archive_id,
            start: of.after.clone(),
            rows_before: of.whole,
            parts: Vec::new(),
            last: false,
            spoilt: None,
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
        self.whole = 0;
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
const UNWATCH: &str = "unwatch-partition";
const FORGET: &str = "forget";
const CONDEMN: &str = "condemn";
const DESTROY: &str = "destroy";

/// What a plan found.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    /// Where the rows are.
    #[serde(default)]
    place: Option<Place>,
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
        let look = async |_| self.look_around(&of).await;
        let plan = cx.step(PLAN, &POLICY, look).await?;
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
            place: plan.place,
            whole: 0,
            done: BTreeMap::new(),
            skipped: BTreeMap::new(),
            destroy_at: None,
            destroyed: 0,
            ended: None,
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
    async fn look_around(&self, of: &Input) -> Result<Plan, StepError> {
        let (site, rules) = self.open(of, None).await?;
        let holds = self.holds(of.tenant_id).await?;
        let of_all = |hold: &&Standing| hold.scope == Scope::Tenant;
        let mut plan = Plan {
            place: Some(site.place().clone()),
            units: Vec::new(),
            kept: BTreeMap::new(),
            crossing: BTreeMap::new(),
            held: holds.iter().find(of_all).cloned(),
        };
        let mut free = Vec::new();
        for rule in rules {
            let on_table = |hold: &&Standing| {
                matches!(hold.scope, Scope::Table(_)) && hold.scope.is_on(&rule.table)
            };
            match holds.iter().find(on_table) {
                Some(hold) => {
                    plan.kept.insert(rule.table, hold.case.clone());
                }
                None => free.push(rule),
            }
        }
        let look = look_at(&mut plan, of, &site, free, &holds);
        look.await.map_err(product_error)?;
        if plan.units.len() > MAX_UNITS {
            let count = plan.units.len();
            let detail =
                format!("there are {count} tables and partitions; a sweep takes {MAX_UNITS}");
            return Err(door_error(hold::malformed("tables", &detail)));
        }
        Ok(plan)
    }

    async fn measure(&self, cx: &Context, mut of: Sweep) -> Result<Transition<Self>, StepError> {
        if of.here().is_none() {
            return Ok(wait(of));
        }
        let count = async |_| self.count(&of).await;
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

    async fn count(&self, of: &Sweep) -> Result<(Counted, Option<Vec<String>>), StepError> {
        let site = self.at(of).await?;
        let holds = self.holds(of.input.tenant_id).await?;
        let count = async || {
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
        };
        count().await.map_err(product_error)
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
        if let Some(spoilt) = volume.spoilt.take() {
            self.destroy(cx, &of, spoilt).await?;
            return Ok(Transition::go(State::Archiving { of, volume }));
        }
        if unit.rule.restore_days == Some(0) {
            return self.delete_at_once(cx, of, volume, &unit).await;
        }
        let job = cx.run_id().0;
        let write = async |_| self.write_chunk(job, &of, &unit, &volume).await;
        let chunk = cx.step(ARCHIVE, patience(&unit), write).await?;
        of.chunk += 1;
        match chunk {
            Some(chunk) => {
                let swept = of.swept();
                swept.archived += chunk.part.rows;
                swept.archive_bytes += chunk.part.bytes;
                of.after = chunk.last;
                if unit.partition.is_some() {
                    of.whole += chunk.part.rows;
                }
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

    /// Reads a chunk and writes its part; `None` when nothing is left. Of a partition all is read, from
    /// when it is watched on.
    async fn write_chunk(
        &self,
        job: Uuid,
        of: &Sweep,
        unit: &Unit,
        volume: &Volume,
    ) -> Result<Option<Chunk>, StepError> {
        let site = self.at(of).await?;
        let holds = self.holds(of.input.tenant_id).await?;
        refuse_held(&holds, &unit.rule.table)?;
        let after = of.after.as_deref();
        let read = async || {
            if unit.partition.is_some() && after.is_none() {
                watch(&site, job, of, unit).await?;
            }
            let mut tx = site.begin().await?;
            store::enter(&mut tx).await?;
            let (table, past) = self.past(&mut tx, &site, of, unit, &holds).await?;
            let page = match unit.partition {
                Some(_) => store::read_all(&mut tx, &table, &[], after).await?,
                None => store::read_past(&mut tx, &table, &past, after).await?,
            };
            tx.rollback().await?;
            Ok(page)
        };
        let page = read().await.map_err(product_error)?;
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
            let rows = self.size_up(&of, unit).await?;
            self.while_unheld(&of, &unit.rule.table, async |site, holds| {
                site.once(&key, async |conn| {
                    store::enter(conn).await?;
                    let (table, past) = self.past(conn, site, &of, unit, holds).await?;
                    let held = held_rows(holds, &unit.rule.table);
                    if unit.partition.is_some() && held.is_empty() {
                        store::drop_partition(conn, &table, None).await?;
                        return Ok(Gone::whole(rows));
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
        let gone: Gone = cx.step(DELETE_AT_ONCE, patience(unit), delete).await?;
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

    /// How many rows a partition has that is dropped with nothing kept of it.
    async fn size_up(&self, of: &Sweep, unit: &Unit) -> Result<u64, StepError> {
        let Some(partition) = &unit.partition else {
            return Ok(0);
        };
        let site = self.at(of).await?;
        let count = async || {
            let mut tx = site.begin().await?;
            let table = store::look(&mut tx, &site, &unit.rule.table, Some(partition)).await?;
            tx.rollback().await?;
            store::size_up(&site, &table).await
        };
        count().await.map_err(product_error)
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
        let site = self.at(of).await?;
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
            self.while_unheld(&of, table, async |site, holds| {
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
        let (key, job) = (of.once(cx, "drop"), cx.run_id().0);
        let drop = async |_| {
            self.while_unheld(&of, &unit.rule.table, async |site, holds| {
                let held = !held_rows(holds, &unit.rule.table).is_empty();
                site.once(&key, async |conn| {
                    store::enter(conn).await?;
                    let partition = unit.partition.as_deref();
                    let table = store::look(conn, site, &unit.rule.table, partition).await?;
                    if held {
                        store::unwatch(conn, &table, job).await?;
                        return Ok(false);
                    }
                    store::drop_partition(conn, &table, Some(job)).await
                })
                .await
            })
            .await
        };
        let dropped: bool = cx.step(DROP, &PATIENT, drop).await?;
        let rows = of.whole;
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
            let site = self.at(&of).await?;
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
                let held: Vec<String> = held.map(|table| hold::bare(table).to_owned()).collect();
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
            self.destroy(cx, &of, *archive_id).await?;
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
                ended: of.ended,
            })),
        }
    }

    async fn destroy(&self, cx: &Context, of: &Sweep, archive_id: Uuid) -> Result<(), StepError> {
        let destroy = async |_| {
            let archive = self.environment.archive().map_err(|error| error.step())?;
            let place = (of.input.tenant_id.0, archive_id);
            let destroyed = archive.destroy(place).await;
            destroyed.map_err(|error| error.step())
        };
        cx.step(DESTROY, &POLICY, destroy).await.map(drop)
    }

    /// Ends where it is, cancelled or because the tenant has left. What was archived and not sealed is
    /// no archive, and goes; archives that have a restore window are waited for, because somebody has to
    /// destroy them.
    async fn end_where_it_is(
        &self,
        cx: &Context,
        state: State,
        left: Option<&Halt>,
    ) -> Result<Transition<Self>, StepError> {
        let state = match state {
            State::Halted { then, .. } => *then,
            state => state,
        };
        let ended = left.map(|why| format!("{}: {}", why.code, why.detail));
        let mut of = match state {
            State::Archiving { of, volume } | State::Sealing { of, volume } => {
                let begun = Some(volume.archive_id).filter(|_| !volume.parts.is_empty());
                for archive_id in volume.spoilt.into_iter().chain(begun) {
                    self.destroy(cx, &of, archive_id).await?;
                }
                of
            }
            State::Deleting { of, .. } | State::Window { of } | State::Measuring { of } => of,
            State::Planning { .. } | State::Halted { .. } => {
                return Ok(match ended {
                    None => Transition::cancelled(),
                    ended => Transition::complete(Output {
                        tables: BTreeMap::new(),
                        destroyed: 0,
                        ended,
                    }),
                });
            }
        };
        if left.is_none() && of.here().is_some_and(|unit| unit.partition.is_some()) {
            let job = cx.run_id().0;
            let unwatch = async |_| self.unwatch(job, &of).await;
            // A trigger that stays does no harm: what it writes goes with the ledger.
            match cx.step(UNWATCH, &PATIENT, unwatch).await {
                Err(error) if !error.is_terminal() => return Err(error),
                _ => {}
            }
        }
        Ok(match (of.destroy_at, &ended) {
            (None, None) => Transition::cancelled(),
            _ => {
                of.ended = ended.or(of.ended);
                Transition::go(State::Window { of })
            }
        })
    }

    /// Watches the partition no longer that it has come to, if it is there.
    async fn unwatch(&self, job: Uuid, of: &Sweep) -> Result<(), StepError> {
        let site = match self.at(of).await {
            Err(error) if error.is_terminal() => return Ok(()),
            site => site?,
        };
        let Some(unit) = of.here() else {
            return Ok(());
        };
        let drop = async || {
            let mut tx = site.begin().await?;
            let partition = unit.partition.as_deref();
            let table = store::look(&mut tx, &site, &unit.rule.table, partition).await?;
            store::unwatch(&mut tx, &table, job).await?;
            tx.commit().await?;
            Ok(())
        };
        drop().await.map_err(product_error)
    }

    /// The tenant's place, and what holds for its tables.
    async fn open(
        &self,
        of: &Input,
        known: Option<&Place>,
    ) -> Result<(Site, Vec<Rule>), StepError> {
        let (tenant, source) = (of.tenant_id, &of.source);
        let opened = place::open(&self.environment, tenant, source, known, of.map_version);
        let opened = opened.await.map_err(place::no_place)?;
        let rules = place::rules(&self.environment, &opened, of.policy_version).await;
        Ok((opened, rules.map_err(door_error)?))
    }

    /// Where the sweep began, if the tenant is there still.
    async fn at(&self, of: &Sweep) -> Result<Site, StepError> {
        let (site, _) = self.open(&of.input, of.place.as_ref()).await?;
        Ok(site)
    }

    async fn holds(&self, tenant: TenantId) -> Result<Vec<Standing>, StepError> {
        let holds = place::holds(&self.environment, tenant).await;
        holds.map_err(door_error)
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
        of: &Sweep,
        table: &str,
        work: impl AsyncFnOnce(&Site, &[Standing]) -> Result<T, ProductError>,
    ) -> Result<T, StepError> {
        let (site, tenant) = (self.at(of).await?, of.input.tenant_id);
        let guarded = async || {
            let mut tx = tenure_engine::begin_for(self.environment.engine(), tenant).await?;
            hold::share_turn(&mut tx, tenant).await?;
            let holds = hold::standing(&mut tx, tenant).await?;
            Ok((tx, holds))
        };
        let (tx, holds) = guarded().await.map_err(door_error)?;
        refuse_held(&holds, table)?;
        let done = work(&site, &holds).await.map_err(product_error);
        tx.rollback().await?;
        done
    }
}

/// Lets a partition be watched by a job, once.
async fn watch(site: &Site, job: Uuid, of: &Sweep, unit: &Unit) -> Result<(), ProductError> {
    let key = OnceKey::new(job, format!("watch/{}", of.unit));
    site.once(&key, async |conn| {
        let partition = unit.partition.as_deref();
        let table = store::look(conn, site, &unit.rule.table, partition).await?;
        store::watch(conn, &table, job).await
    })
    .await
}

/// The rows of a table that are held, as objects that they contain.
fn held_rows(holds: &[Standing], table: &str) -> Vec<Value> {
    let on_table = holds.iter().filter(|hold| hold.scope.is_on(table));
    let matches = on_table.filter_map(|hold| hold.scope.matches());
    matches.cloned().map(Value::Object).collect()
}

/// Refuses where all that is the tenant's, or the whole table, is held.
fn refuse_held(holds: &[Standing], table: &str) -> Result<(), StepError> {
    let whole = |hold: &&Standing| match &hold.scope {
        Scope::Tenant => true,
        Scope::Table(_) => hold.scope.is_on(table),
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
        Some("23502" | "23514" | "22P02") => StepError::terminal(
            "refused_by_a_check",
            format!(
                "{} refuses a row as it is in the archive",
                told.constraint()
                    .unwrap_or("a column's type, or that it is to have a value,")
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
