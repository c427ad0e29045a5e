//! A restore: rows of archives are brought back into the product, as they were.
//!
//! Archives come back in the opposite order in which they were made, so that what is referred to is
//! there before what refers to it. A row whose key is taken again stays as it is now. An archive that
//! was destroyed cannot be restored: that is its point of no return, and the database decides which of
//! the two came first.
//!
//! Rows come back to where the tenant is now, whatever the model was when they were archived: a table is
//! found by its name, whose a row is says the tenant's own key, and columns that came later have their
//! defaults. Where the archive holds values of a column that is gone, a person decides: the column comes
//! back, or the rows do without it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenure_engine::{
    Context, Event, Guard, GuardNeed, Reception, StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use super::place;
use super::rows::{self, ArchiveRow};
use super::store::{self, Fit};
use super::sweep::{Halt, LOOK, LOOK_EVERY, POLICY, Signal, Skip, door_error, product_error};
use crate::archive::{ArchiveError, Manifest, Part};
use crate::environment::Environment;
use crate::product::{OnceKey, ProductError, Site};

// Input.

/// Which archives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Whose rows.
    pub tenant_id: TenantId,
    /// The product's database when it was asked for.
    pub source: String,
    /// The version of its data map then.
    pub map_version: i32,
    /// In the order in which they come back.
    pub archives: Vec<Uuid>,
}

// States and signals.

/// Where a restore is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// Brings back a part at a time.
    Restoring {
        /// The restore.
        of: Input,
        /// Archives that are done.
        archive: usize,
        /// Parts of the next one that are done.
        part: usize,
        /// What came of the tables so far.
        done: BTreeMap<String, Restored>,
        /// Per table, the columns that are gone and without which a person lets its rows come back.
        #[serde(default)]
        without: BTreeMap<String, BTreeSet<String>>,
        /// Whether a person lets it leave the next part out.
        #[serde(default)]
        leave: bool,
    },
    /// It cannot go on by itself.
    Halted {
        /// Why.
        why: Halt,
        /// Where it goes on.
        then: Box<State>,
    },
}

/// What came of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Rows that came back.
    pub restored: u64,
    /// Rows whose key is taken again.
    pub there: u64,
    /// Rows of parts that a person let it skip.
    pub skipped: u64,
    /// Columns that are gone, and whose values stay in the archive.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<String>,
}

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// By table.
    pub tables: BTreeMap<String, Restored>,
}

/// The workflow.
pub struct RestoreWorkflow {
    environment: Environment,
}

impl RestoreWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

// Handle.

impl Workflow for RestoreWorkflow {
    const NAME: &'static str = "data-restore";
    const VERSION: i32 = 1;
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
        State::Restoring {
            of,
            archive: 0,
            part: 0,
            done: BTreeMap::new(),
            without: BTreeMap::new(),
            leave: false,
        }
    }

    fn receive(&self, state: &State, _signal: &Signal) -> Reception {
        match state {
            State::Halted { .. } => Reception::Accept,
            State::Restoring { .. } => Reception::Reject("it is not halted"),
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (
                State::Restoring {
                    of,
                    archive,
                    part,
                    done,
                    without,
                    leave,
                },
                Event::Entered,
            ) => {
                let at = Walk {
                    of,
                    archive,
                    part,
                    done,
                    without,
                    leave,
                };
                match self.restore(cx, at.clone()).await {
                    Err(error) if error.is_terminal() => {
                        Ok(Transition::go(halted(&error, at.state())))
                    }
                    done => done,
                }
            }
            (State::Halted { why, then }, Event::Entered) => {
                let passes = why.passes();
                let stay = Transition::stay(State::Halted { why, then });
                Ok(match passes {
                    true => stay.after(LOOK, LOOK_EVERY),
                    false => stay,
                })
            }
            (State::Halted { then, .. }, Event::Signal(Signal::Resume) | Event::Deadline(_)) => {
                Ok(Transition::go(*then))
            }
            (State::Halted { why, then }, Event::Signal(Signal::Skip)) => {
                Ok(Transition::go(skip(why, *then)))
            }
            (state, Event::CancelRequested) => self.cancel(cx, state).await,
            (
                state,
                Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => Ok(Transition::stay(state)),
        }
    }
}

/// Where a restore is, taken apart.
#[derive(Clone)]
struct Walk {
    of: Input,
    archive: usize,
    part: usize,
    done: BTreeMap<String, Restored>,
    without: BTreeMap<String, BTreeSet<String>>,
    leave: bool,
}

impl Walk {
    fn state(self) -> State {
        State::Restoring {
            of: self.of,
            archive: self.archive,
            part: self.part,
            done: self.done,
            without: self.without,
            leave: self.leave,
        }
    }

    fn next_part(self) -> Self {
        Self {
            part: self.part + 1,
            leave: false,
            ..self
        }
    }

    fn next_archive(self) -> Self {
        Self {
            archive: self.archive + 1,
            part: 0,
            leave: false,
            ..self
        }
    }
}

/// The code of columns that the archive has values of and the table has no more.
const COLUMNS_GONE: &str = "columns_gone";

fn halted(error: &StepError, then: State) -> State {
    let code = match error.code() {
        "still_referenced" => "parent_missing",
        code => code,
    };
    State::Halted {
        why: Halt {
            code: code.to_owned(),
            detail: error.message().to_owned(),
            skip: Some(Skip::Part),
        },
        then: Box::new(then),
    }
}

/// Goes on without the columns that are gone, without the part that troubles it, or behind the archive
/// that is gone.
fn skip(why: Halt, then: State) -> State {
    let State::Restoring {
        of,
        archive,
        part,
        done,
        without,
        ..
    } = then
    else {
        return then;
    };
    let mut at = Walk {
        of,
        archive,
        part,
        done,
        without,
        leave: false,
    };
    match why.skip {
        Some(Skip::Columns(columns)) => {
            for (table, gone) in columns {
                at.without.entry(table).or_default().extend(gone);
            }
        }
        _ if why.code == DESTROYED => at = at.next_archive(),
        _ => at.leave = true,
    }
    at.state()
}

// Steps.

/// The code of what cannot be undone any more.
const DESTROYED: &str = "past_the_point_of_no_return";
const BEGIN: &str = "begin-archive";
const RESTORE: &str = "restore-part";
const LEAVE: &str = "leave-part";
const END: &str = "end-archive";
const FORGET: &str = "forget";

/// What came of a part.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Back {
    table: String,
    rows: u64,
    restored: u64,
    /// Columns that are gone; nothing came back while nobody has decided about one of them.
    #[serde(default)]
    gone: BTreeSet<String>,
}

impl RestoreWorkflow {
    async fn restore(&self, cx: &Context, at: Walk) -> Result<Transition<Self>, StepError> {
        let of = &at.of;
        let Some(archive_id) = of.archives.get(at.archive).copied() else {
            let job = cx.run_id().0;
            let forget = async |_| {
                let site = self.open(of).await?;
                site.forget(job).await.map_err(product_error)
            };
            cx.step(FORGET, &POLICY, forget).await?;
            return Ok(Transition::complete(Output { tables: at.done }));
        };
        let begin = async |_| self.begin(of, archive_id).await;
        let manifest_sha256: String = cx.step(BEGIN, &POLICY, begin).await?;
        if at.leave {
            let leave = async |_| self.leave(&at, archive_id, &manifest_sha256).await;
            let left: Option<(String, u64)> = cx.step(LEAVE, &POLICY, leave).await?;
            return Ok(Transition::go(leave_out(at, left)));
        }
        let key = OnceKey::new(cx.run_id().0, format!("restore/{archive_id}/{}", at.part));
        let restore = async |_| self.part(&at, archive_id, &manifest_sha256, &key).await;
        let back: Option<Back> = cx.step(RESTORE, &POLICY, restore).await?;
        let Some(back) = back else {
            let now = cx.now();
            let end = async |_| self.mark(of, archive_id, "restored", Some(now)).await;
            cx.step(END, &POLICY, end).await?;
            return Ok(Transition::go(at.next_archive().state()));
        };
        Ok(Transition::go(came_back(at, back)))
    }

    /// The table and the rows of the part that is left out; `None` when the manifest tells nothing of it.
    async fn leave(
        &self,
        at: &Walk,
        archive_id: Uuid,
        sha256: &str,
    ) -> Result<Option<(String, u64)>, StepError> {
        let archive = self.environment.archive().map_err(|error| error.step())?;
        let place = (at.of.tenant_id.0, archive_id);
        let manifest = match archive.read_manifest(place, sha256).await {
            Err(ArchiveError::Damaged(_) | ArchiveError::NotFound(_)) => return Ok(None),
            read => read.map_err(|error| error.step())?,
        };
        let part = manifest.parts.get(at.part);
        Ok(part.map(|part| (part.table.clone(), part.rows)))
    }

    /// Where the tenant is now.
    async fn open(&self, of: &Input) -> Result<Site, StepError> {
        let site = place::open_present(&self.environment, of.tenant_id);
        site.await.map_err(place::no_place)
    }

    /// Keeps the archive from being destroyed meanwhile; its manifest's SHA-256.
    async fn begin(&self, of: &Input, archive: Uuid) -> Result<String, StepError> {
        self.mark(of, archive, "restoring", None).await?;
        let found = place::speak(
            &self.environment,
            of.tenant_id,
            async |conn, tenant, shard| {
                rows::list_archives(conn, tenant, shard, None, Some(archive), None, 1).await
            },
        )
        .await
        .map_err(door_error)?;
        let found: Option<ArchiveRow> = found.into_iter().next();
        Ok(found.map(|row| row.manifest_sha256).unwrap_or_default())
    }

    async fn mark(
        &self,
        of: &Input,
        archive: Uuid,
        to: &str,
        at: Option<chrono::DateTime<chrono::Utc>>,
    ) -> Result<(), StepError> {
        let marked = place::speak(&self.environment, of.tenant_id, async |conn, _, shard| {
            rows::mark_archive(conn, archive, shard, to, at).await
        })
        .await
        .map_err(door_error)?;
        if !marked {
            return Err(StepError::terminal(
                DESTROYED,
                format!(
                    "archive {archive} was destroyed when its restore window ended; its rows cannot come back"
                ),
            ));
        }
        Ok(())
    }

    /// Brings a part back; `None` behind the last one.
    async fn part(
        &self,
        at: &Walk,
        archive_id: Uuid,
        sha256: &str,
        key: &OnceKey,
    ) -> Result<Option<Back>, StepError> {
        let archive = self.environment.archive().map_err(|error| error.step())?;
        let place = (at.of.tenant_id.0, archive_id);
        let manifest = archive.read_manifest(place, sha256).await;
        let manifest = manifest.map_err(|error| error.step())?;
        let Some(part) = manifest.parts.get(at.part) else {
            return Ok(None);
        };
        let lines = archive.read_part(place, part, None).await;
        let lines = lines.map_err(|error| error.step())?;
        let site = self.open(&at.of).await?;
        let (name, fit) = self.fit(&site, &manifest, part).await?;
        let gone = with_values(&fit.gone, &lines);
        let mut back = Back {
            table: part.table.clone(),
            rows: part.rows,
            restored: 0,
            gone,
        };
        if back.undecided(at).next().is_some() {
            return Ok(Some(back));
        }
        back.restored = site
            .once(key, async |conn| {
                store::enter(conn).await?;
                let table = store::look(conn, &site, &name, None).await?;
                store::restore(conn, &table, &fit, &lines).await
            })
            .await
            .map_err(product_error)?;
        Ok(Some(back))
    }

    /// What a part's table is called where the tenant is now, and how its rows fit.
    async fn fit(
        &self,
        site: &Site,
        manifest: &Manifest,
        part: &Part,
    ) -> Result<(String, Fit), StepError> {
        let was = place::map_of(&self.environment, manifest).await;
        let was = was.map_err(door_error)?;
        let shape = manifest.tables.iter().find(|one| one.name == part.table);
        let name = place::named_like(site.map(), &part.table);
        let (Some(shape), Some(name)) = (shape, name) else {
            return Err(product_error(ProductError::DoesNotFit(format!(
                "version {} of the data map of {} has no table like {}",
                site.map().version,
                site.map().source,
                part.table
            ))));
        };
        let look = async || {
            let mut tx = site.begin().await?;
            let table = store::look(&mut tx, site, name, None).await?;
            tx.rollback().await?;
            Ok(table)
        };
        let table = look().await.map_err(product_error)?;
        let columns = (
            place::tenant_column(&was, &part.table),
            place::tenant_column(site.map(), name),
        );
        Ok((name.to_owned(), Fit::of(shape, &table, columns)))
    }

    /// Ends where it is: what came back stays, and the archive is as it was.
    async fn cancel(&self, cx: &Context, state: State) -> Result<Transition<Self>, StepError> {
        let state = match state {
            State::Halted { then, .. } => *then,
            state => state,
        };
        if let State::Restoring { of, archive, .. } = state
            && let Some(archive_id) = of.archives.get(archive).copied()
        {
            let end = async |_| match self.mark(&of, archive_id, "complete", None).await {
                Err(error) if error.code() == DESTROYED => Ok(()),
                done => done,
            };
            cx.step(END, &POLICY, end).await?;
        }
        Ok(Transition::cancelled())
    }
}

impl Back {
    /// The columns that are gone and about which nobody has decided.
    fn undecided<'a>(&'a self, at: &'a Walk) -> impl Iterator<Item = &'a String> {
        let known = at.without.get(&self.table);
        let gone = self.gone.iter();
        gone.filter(move |name| known.is_none_or(|known| !known.contains(*name)))
    }
}

/// Where it goes on behind a part, or waits for somebody's word on the columns that are gone.
fn came_back(mut at: Walk, back: Back) -> State {
    let undecided: Vec<String> = back.undecided(&at).cloned().collect();
    if !undecided.is_empty() {
        let why = Halt {
            code: COLUMNS_GONE.to_owned(),
            detail: format!(
                "the archive has values of {} of {}, which the table has no more",
                undecided.join(", "),
                back.table
            ),
            skip: Some(Skip::Columns(BTreeMap::from([(back.table, undecided)]))),
        };
        let then = Box::new(at.state());
        return State::Halted { why, then };
    }
    let table = at.done.entry(back.table).or_default();
    table.restored += back.restored;
    table.there += back.rows - back.restored;
    table.without.extend(back.gone);
    at.next_part().state()
}

/// Where it goes on behind a part that is left out. An archive of which nothing can be read is left out
/// as a whole.
fn leave_out(mut at: Walk, left: Option<(String, u64)>) -> State {
    let Some((table, rows)) = left else {
        return at.next_archive().state();
    };
    at.done.entry(table).or_default().skipped += rows;
    at.next_part().state()
}

/// The columns of which a line has a value.
fn with_values(columns: &[String], lines: &[String]) -> BTreeSet<String> {
    if columns.is_empty() {
        return BTreeSet::new();
    }
    let rows = lines.iter();
    let rows = rows.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut found = BTreeSet::new();
    for row in rows {
        let with = |name: &&String| row.get(*name).is_some_and(|value| !value.is_null());
        found.extend(columns.iter().filter(with).cloned());
    }
    found
}
