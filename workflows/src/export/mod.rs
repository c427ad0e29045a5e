//! An export: all that the product and Tenure keep of a tenant, for the tenant to take along (GDPR
//! Art. 15, 20).
//!
//! ```text
//! Writing ─ a chunk a visit, each a sealed part ─ WritingOwn ─ Tenure's own rows, too ─ Sealing ─ read back
//!   ─ Ready ─ its link ends ─ destroyed
//! ```
//!
//! Every table of the data map that holds tenants' rows is walked by its primary key; each row is as it
//! was when its chunk was read. Parts are JSON Lines, compressed; the manifest, which has checksums and
//! the shape of each table, comes last.
//!
//! **Who can read it.** Each export has a key of its own, and its parts lie sealed in the store. The
//! link's token is made when the export is asked for, is told once, and is kept nowhere: the row has its
//! digest, and the export's key sealed under a key that the token gives. While parts are written the key
//! stands in the row, too, because the run has to survive a restart; it is taken out in the statement
//! that says *ready*. From then on neither the database nor the store, nor both, can read the export
//! without the link, and who has the link needs no account. A key in an envelope of the server's would
//! have left the server able to read it, and an archive sealed with a password would have asked for one
//! more channel.
//!
//! An export whose tenant moves to another source begins anew at the new place.
//!
//! A row that leads to another tenant (a key that the map calls unguarded) halts the export as
//! `crosses_tenants`: `skip` leaves such rows out, `include` gives them, because their own column says
//! whose they are.

mod door;
mod link;
pub mod own;
pub(crate) mod rows;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tenure_engine::{
    Context, Event, Guard, GuardNeed, Reception, StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

pub use door::{Asked, NewExport, Opened, ask, find, list, open, read_part, start};
pub use link::Token;
pub use rows::ExportRow;

use crate::archive::{FORMAT, Key, Kind, Manifest, Part, TableShape};
use crate::data_map::Belongs;
use crate::environment::Environment;
use crate::keeping::place;
use crate::keeping::store;
use crate::keeping::sweep::{POLICY, VERIFY, door_error, file_name, product_error};
use crate::product::Site;

// Input.

/// Which export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The export.
    pub export_id: Uuid,
    /// Whose data.
    pub tenant_id: TenantId,
    /// The product's database.
    pub source: String,
    /// The version of its data map.
    pub map_version: i32,
    /// For so many days its link works.
    pub link_days: u32,
}

// States and signals.

/// Where an export is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// About to look for rows that lead to other tenants.
    Planning {
        /// The export.
        of: Input,
    },
    /// Writes parts.
    Writing {
        /// Where it is.
        at: Walk,
    },
    /// Writes parts of what Tenure itself keeps.
    WritingOwn {
        /// Where it is.
        at: Walk,
    },
    /// Completes the archive and reads it back.
    Sealing {
        /// The export.
        of: Input,
        /// Parts that were written.
        parts: u32,
    },
    /// Its link works.
    Ready {
        /// The export.
        of: Input,
        /// What is in it.
        output: Output,
        /// When the link ends.
        expires_at: DateTime<Utc>,
    },
    /// It cannot go on by itself.
    Halted {
        /// A stable code.
        code: String,
        /// For people.
        detail: String,
        /// Where it goes on.
        then: Box<State>,
    },
}

/// Where an export that is being written is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Walk {
    /// The export.
    pub of: Input,
    /// Tables: the product's in the order of their names, then ours in that of [`own::TABLES`].
    pub tables: Vec<String>,
    /// The one that is being written.
    pub table: usize,
    /// Parts of it so far.
    pub part_of_table: u32,
    /// The key behind which the next chunk begins.
    pub after: Option<Vec<String>>,
    /// Parts so far.
    pub parts: u32,
    /// Per table, the keys over which rows lead to another tenant and are left out.
    pub left_out: BTreeMap<String, Vec<String>>,
}

/// What a person says to an export that is halted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// The trouble is mended: try again.
    Resume,
    /// Leave out the rows that lead to other tenants.
    Skip,
    /// Give them.
    Include,
}

/// What is in an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Rows.
    pub rows: u64,
    /// Bytes of its parts.
    pub bytes: u64,
}

/// The workflow.
pub struct ExportWorkflow {
    environment: Environment,
}

impl ExportWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

const LOOK: &str = "look";
/// The code of rows that lead to another tenant.
const CROSSES: &str = "crosses_tenants";
/// What may pass by itself is tried again after this long.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(600);

// Handle.

impl Workflow for ExportWorkflow {
    const NAME: &'static str = "data-export";
    const VERSION: i32 = 1;
    const GUARD: Guard = Guard {
        start: GuardNeed::Door("POST /v1/tenants/{tenant_id}/exports (tenure export start)"),
        signals: &[
            ("Resume", GuardNeed::Operator),
            ("Skip", GuardNeed::Operator),
            ("Include", GuardNeed::Operator),
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

    fn receive(&self, state: &State, signal: &Signal) -> Reception {
        match (state, signal) {
            (State::Halted { code, .. }, Signal::Skip | Signal::Include) if code != CROSSES => {
                Reception::Reject("there is nothing to skip; mend what it says and resume")
            }
            (State::Halted { .. }, _) => Reception::Accept,
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
            (State::Planning { of }, Event::Entered) => self.plan(cx, of).await,
            (State::Writing { at }, Event::Entered) => self.write(cx, at).await,
            (State::WritingOwn { at }, Event::Entered) => self.write_own(cx, at).await,
            (State::Sealing { of, parts }, Event::Entered) => self.seal(cx, of, parts).await,
            (
                State::Ready {
                    of,
                    output,
                    expires_at,
                },
                Event::Entered,
            ) => {
                let ready = State::Ready {
                    of,
                    output,
                    expires_at,
                };
                return Ok(Transition::stay(ready).at(LOOK, expires_at));
            }
            (State::Ready { of, output, .. }, Event::Deadline(_)) => {
                self.end(cx, &of).await?;
                return Ok(Transition::complete(output));
            }
            (State::Halted { code, then, .. }, Event::Entered) if code == place::MOVED => {
                return self.begin_anew(cx, then.input().clone()).await;
            }
            (State::Halted { code, detail, then }, Event::Entered) => {
                let stays = [CROSSES, "does_not_fit", place::GONE];
                let passes = !stays.contains(&code.as_str());
                let stay = Transition::stay(State::Halted { code, detail, then });
                return Ok(if passes {
                    stay.after(LOOK, LOOK_EVERY)
                } else {
                    stay
                });
            }
            (State::Halted { then, code, .. }, Event::Signal(said)) => {
                return Ok(Transition::go(resume(*then, &code, &said)));
            }
            (State::Halted { then, .. }, Event::Deadline(_)) => return Ok(Transition::go(*then)),
            (state, Event::CancelRequested) => {
                self.end(cx, state.input()).await?;
                return Ok(Transition::cancelled());
            }
            (
                state,
                Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => return Ok(Transition::stay(state)),
        };
        match next {
            Err(error) if error.is_terminal() => Ok(Transition::go(halted(at, &error))),
            next => next,
        }
    }
}

impl State {
    fn input(&self) -> &Input {
        match self {
            Self::Planning { of } | Self::Sealing { of, .. } | Self::Ready { of, .. } => of,
            Self::Writing { at } | Self::WritingOwn { at } => &at.of,
            Self::Halted { then, .. } => then.input(),
        }
    }
}

/// Where an export goes on.
fn resume(then: State, code: &str, said: &Signal) -> State {
    match (then, said) {
        (State::Writing { mut at }, Signal::Include) if code == CROSSES => {
            at.left_out.clear();
            State::Writing { at }
        }
        // What crosses may have been mended: look again.
        (State::Writing { at }, Signal::Resume) if code == CROSSES => State::Planning { of: at.of },
        (then, _) => then,
    }
}

/// What follows when a step has failed for good. An archive that is not what it was is written anew.
fn halted(at: State, error: &StepError) -> State {
    let then = match at {
        State::Sealing { of, .. } if error.code() == "archive_damaged" => State::Planning { of },
        at => at,
    };
    State::Halted {
        code: error.code().to_owned(),
        detail: error.message().to_owned(),
        then: Box::new(then),
    }
}

// Steps.

const FIND_PLACE: &str = "find-place";
const PLAN: &str = "plan";
const WRITE: &str = "write-part";
const WRITE_OWN: &str = "write-own-part";
const SEAL: &str = "write-manifest";
const READ_BACK: &str = "read-back";
const READY: &str = "say-ready";
const END: &str = "end";

/// What a plan found.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    tables: Vec<String>,
    crossing: BTreeMap<String, Vec<String>>,
}

/// A part of our own rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OwnPart {
    /// Which of the walk's tables.
    table: usize,
    /// Where the next one goes on.
    after: Vec<String>,
}

/// The archive, complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sealed {
    sha256: String,
    rows: u64,
    bytes: u64,
}

impl ExportWorkflow {
    /// Begins anew where the tenant is by now: its tables may have other names there. Parts are written
    /// over, and what is left of the others goes with the archive.
    async fn begin_anew(&self, cx: &Context, of: Input) -> Result<Transition<Self>, StepError> {
        let find = async |_| {
            let site = place::open_present(&self.environment, of.tenant_id);
            let site = site.await.map_err(place::no_place)?;
            let map = site.map();
            Ok((map.source.clone(), map.version))
        };
        match cx.step(FIND_PLACE, &POLICY, find).await {
            Ok((source, map_version)) => Ok(Transition::go(State::Planning {
                of: Input {
                    source,
                    map_version,
                    ..of
                },
            })),
            Err(error) if error.is_terminal() => {
                Ok(Transition::go(halted(State::Planning { of }, &error)))
            }
            Err(error) => Err(error),
        }
    }

    async fn plan(&self, cx: &Context, of: Input) -> Result<Transition<Self>, StepError> {
        let plan = cx.step(PLAN, &POLICY, async |_| self.look_around(&of).await);
        let plan = plan.await?;
        let told = place::told(&plan.crossing);
        let crosses = !plan.crossing.is_empty();
        let then = State::Writing {
            at: Walk {
                of,
                tables: plan.tables,
                table: 0,
                part_of_table: 0,
                after: None,
                parts: 0,
                left_out: plan.crossing,
            },
        };
        Ok(Transition::go(match crosses {
            false => then,
            true => State::Halted {
                code: CROSSES.to_owned(),
                detail: format!("rows lead to a row that is not this tenant's: {told}"),
                then: Box::new(then),
            },
        }))
    }

    async fn look_around(&self, of: &Input) -> Result<Plan, StepError> {
        let site = self.open(of).await?;
        let look = async || {
            let mut tx = site.begin().await?;
            store::enter(&mut tx).await?;
            let mut plan = Plan {
                tables: tables(&site),
                crossing: BTreeMap::new(),
            };
            for name in &plan.tables {
                let table = store::look(&mut tx, &site, name, None).await?;
                let crossing = place::crossing(&mut tx, &site, &table).await?;
                if !crossing.is_empty() {
                    plan.crossing.insert(name.clone(), crossing);
                }
            }
            tx.rollback().await?;
            Ok(plan)
        };
        look().await.map_err(product_error)
    }

    async fn write(&self, cx: &Context, mut at: Walk) -> Result<Transition<Self>, StepError> {
        let Some(name) = at.tables.get(at.table).cloned() else {
            at.tables = own::TABLES.iter().map(ToString::to_string).collect();
            at.table = 0;
            return Ok(Transition::go(State::WritingOwn { at }));
        };
        let write = async |_| self.write_part(&at, &name).await;
        let last: Option<Vec<String>> = cx.step(WRITE, &POLICY, write).await?;
        match last {
            Some(last) => {
                at.after = Some(last);
                at.parts += 1;
                at.part_of_table += 1;
            }
            None => {
                at.after = None;
                at.table += 1;
                at.part_of_table = 0;
            }
        }
        Ok(Transition::go(State::Writing { at }))
    }

    async fn write_own(&self, cx: &Context, mut at: Walk) -> Result<Transition<Self>, StepError> {
        let write = async |_| self.write_own_part(&at).await;
        let part: Option<OwnPart> = cx.step(WRITE_OWN, &POLICY, write).await?;
        let Some(part) = part else {
            let (of, parts) = (at.of, at.parts);
            return Ok(Transition::go(State::Sealing { of, parts }));
        };
        if part.table != at.table {
            (at.table, at.part_of_table) = (part.table, 0);
        }
        at.after = Some(part.after);
        at.parts += 1;
        at.part_of_table += 1;
        Ok(Transition::go(State::WritingOwn { at }))
    }

    /// Writes the next chunk of our own rows as a part, past tables that have none (left).
    async fn write_own_part(&self, at: &Walk) -> Result<Option<OwnPart>, StepError> {
        let mut after = at.after.as_deref();
        let mut number = at.part_of_table + 1;
        for (table, name) in at.tables.iter().enumerate().skip(at.table) {
            let tenant = at.of.tenant_id;
            let read = place::speak(&self.environment, tenant, async |conn, tenant, shard| {
                Ok(own::read(conn, tenant, shard, name, after).await)
            });
            let page = read.await.map_err(door_error)?.map_err(product_error)?;
            if let Some(last) = page.last {
                let shown = own::manifest_name(name);
                let file = own::part_name(name, number);
                self.put(at, (&file, &shown), &page.lines).await?;
                return Ok(Some(OwnPart { table, after: last }));
            }
            (after, number) = (None, 1);
        }
        Ok(None)
    }

    /// Writes the next chunk as a part, and down that it was; where the next one goes on.
    async fn write_part(&self, at: &Walk, name: &str) -> Result<Option<Vec<String>>, StepError> {
        let site = self.open(&at.of).await?;
        let read = async || {
            let mut tx = site.begin().await?;
            store::enter(&mut tx).await?;
            let table = store::look(&mut tx, &site, name, None).await?;
            let left_out = at.left_out.get(name).map_or(&[][..], Vec::as_slice);
            let page = store::read_all(&mut tx, &table, left_out, at.after.as_deref()).await?;
            tx.rollback().await?;
            Ok(page)
        };
        let page = read().await.map_err(product_error)?;
        if page.last.is_some() {
            let file = format!("{}-{:05}.jsonl.gz", file_name(name), at.part_of_table + 1);
            self.put(at, (&file, name), &page.lines).await?;
        }
        Ok(page.last)
    }

    /// Writes a part into the store, sealed, and down that it was.
    async fn put(
        &self,
        at: &Walk,
        (file, table): (&str, &str),
        lines: &[String],
    ) -> Result<(), StepError> {
        let key = self.writing_key(&at.of).await?;
        let archive = self.environment.archive().map_err(|error| error.step())?;
        let written = archive.write_part(at.of.place(), file, table, lines, Some(&key));
        let part = written.await.map_err(|error| error.step())?;
        let (export, seq) = (at.of.export_id, at.parts);
        place::speak(
            &self.environment,
            at.of.tenant_id,
            async |conn, tenant, shard| {
                rows::put_part(conn, tenant, shard, export, seq, &part).await
            },
        )
        .await
        .map_err(door_error)
    }

    async fn seal(
        &self,
        cx: &Context,
        of: Input,
        parts: u32,
    ) -> Result<Transition<Self>, StepError> {
        let now = cx.now();
        let seal = async |_| self.write_manifest(&of, parts, now).await;
        let sealed: Sealed = cx.step(SEAL, &VERIFY, seal).await?;
        let read_back = async |_| {
            let key = self.writing_key(&of).await?;
            let archive = self.environment.archive().map_err(|error| error.step())?;
            let read = archive.verify(of.place(), &sealed.sha256, Some(&key)).await;
            read.map(drop).map_err(|error| error.step())
        };
        cx.step(READ_BACK, &VERIFY, read_back).await?;
        let expires_at = now + TimeDelta::days(i64::from(of.link_days));
        let ready = rows::Ready {
            export_id: of.export_id,
            manifest_sha256: sealed.sha256.clone(),
            rows: sealed.rows,
            bytes: sealed.bytes,
            ready_at: now,
            expires_at,
        };
        let say = async |_| {
            place::speak(&self.environment, of.tenant_id, async |conn, _, shard| {
                rows::say_ready(conn, shard, &ready).await
            })
            .await
            .map_err(door_error)
        };
        cx.step(READY, &POLICY, say).await?;
        let output = Output {
            rows: sealed.rows,
            bytes: sealed.bytes,
        };
        Ok(Transition::go(State::Ready {
            of,
            output,
            expires_at,
        }))
    }

    async fn write_manifest(
        &self,
        of: &Input,
        parts: u32,
        made_at: DateTime<Utc>,
    ) -> Result<Sealed, StepError> {
        let export = of.export_id;
        let parts: Vec<Part> =
            place::speak(&self.environment, of.tenant_id, async |conn, _, shard| {
                rows::list_parts(conn, shard, export, parts).await
            })
            .await
            .map_err(door_error)?;
        let manifest = Manifest {
            format: FORMAT,
            archive_id: export,
            kind: Kind::Export,
            tenant_id: of.tenant_id.0,
            data_map: format!("{} version {}", of.source, of.map_version),
            made_at,
            sealed_with: Some("XChaCha20-Poly1305".to_owned()),
            rows: parts.iter().map(|part| part.rows).sum(),
            tables: self.shapes(of).await?,
            parts,
        };
        let archive = self.environment.archive().map_err(|error| error.step())?;
        let sha256 = archive.write_manifest(&manifest).await;
        Ok(Sealed {
            sha256: sha256.map_err(|error| error.step())?,
            rows: manifest.rows,
            bytes: manifest.parts.iter().map(|part| part.bytes).sum(),
        })
    }

    async fn shapes(&self, of: &Input) -> Result<Vec<TableShape>, StepError> {
        let site = self.open(of).await?;
        let look = async || {
            let mut tx = site.begin().await?;
            let mut shapes = Vec::new();
            for name in tables(&site) {
                shapes.push(store::look(&mut tx, &site, &name, None).await?.shape());
            }
            tx.rollback().await?;
            Ok(shapes)
        };
        let mut shapes = look().await.map_err(product_error)?;
        let ours = place::speak(
            &self.environment,
            of.tenant_id,
            async |conn, tenant, shard| Ok(own::shapes(conn, tenant, shard).await),
        );
        shapes.extend(ours.await.map_err(door_error)?.map_err(product_error)?);
        Ok(shapes)
    }

    /// The key, as long as the export is being written.
    async fn writing_key(&self, of: &Input) -> Result<Key, StepError> {
        let export = of.export_id;
        let key = place::speak(&self.environment, of.tenant_id, async |conn, _, shard| {
            rows::find_writing_key(conn, shard, export).await
        })
        .await
        .map_err(door_error)?;
        key.map(Key::new)
            .ok_or_else(|| StepError::terminal("ended", "the export was ended meanwhile"))
    }

    /// Ends the link, then destroys the archive.
    async fn end(&self, cx: &Context, of: &Input) -> Result<(), StepError> {
        let end = async |_| {
            let export = of.export_id;
            place::speak(&self.environment, of.tenant_id, async |conn, _, shard| {
                rows::end(conn, shard, export).await
            })
            .await
            .map_err(door_error)?;
            let archive = self.environment.archive().map_err(|error| error.step())?;
            let destroyed = archive.destroy(of.place()).await;
            destroyed.map(drop).map_err(|error| error.step())
        };
        cx.step(END, &VERIFY, end).await
    }

    async fn open(&self, of: &Input) -> Result<Site, StepError> {
        let (tenant, source) = (of.tenant_id, &of.source);
        let site = place::open(&self.environment, tenant, source, None, of.map_version);
        site.await.map_err(place::no_place)
    }
}

impl Input {
    /// Where its archive lies.
    fn place(&self) -> (Uuid, Uuid) {
        (self.tenant_id.0, self.export_id)
    }
}

/// The tables of the map that hold tenants' rows.
fn tables(site: &Site) -> Vec<String> {
    let tables = site.map().map.tables.iter();
    let tables = tables.filter(|(_, rule)| !matches!(rule.belongs, Belongs::Nobody(_)));
    tables.map(|(name, _)| name.clone()).collect()
}
