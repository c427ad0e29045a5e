//! A restore: rows of archives are brought back into the product, as they were.
//!
//! Archives come back in the opposite order in which they were made, so that what is referred to is
//! there before what refers to it. A row whose key is taken again stays as it is now. An archive that
//! was destroyed cannot be restored: that is its point of no return, and the database decides which of
//! the two came first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tenure_engine::{Context, Event, Reception, StepError, TenantId, Transition, Workflow};
use uuid::Uuid;

use super::place;
use super::rows::{self, ArchiveRow};
use super::store;
use super::sweep::{Halt, POLICY, Signal, Skip, door_error, product_error};
use crate::environment::Environment;
use crate::product::OnceKey;

// Input.

/// Which archives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Whose rows.
    pub tenant_id: TenantId,
    /// The product's database.
    pub source: String,
    /// The version of its data map.
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
                },
                Event::Entered,
            ) => {
                let then = State::Restoring {
                    of: of.clone(),
                    archive,
                    part,
                    done: done.clone(),
                };
                match self.restore(cx, of, archive, part, done).await {
                    Err(error) if error.is_terminal() => Ok(Transition::go(halted(&error, then))),
                    done => done,
                }
            }
            (State::Halted { then, .. }, Event::Signal(Signal::Resume)) => {
                Ok(Transition::go(*then))
            }
            (State::Halted { why, then }, Event::Signal(Signal::Skip)) => {
                Ok(Transition::go(skip(&why, *then)))
            }
            (state, Event::CancelRequested) => self.cancel(cx, state).await,
            (
                state,
                Event::Entered
                | Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => Ok(Transition::stay(state)),
        }
    }
}

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

/// Goes on behind the part that troubles it, or behind the archive that is gone.
fn skip(why: &Halt, then: State) -> State {
    match then {
        State::Restoring {
            of,
            archive,
            part,
            done,
        } if why.code != DESTROYED => State::Restoring {
            of,
            archive,
            part: part + 1,
            done,
        },
        State::Restoring {
            of, archive, done, ..
        } => State::Restoring {
            of,
            archive: archive + 1,
            part: 0,
            done,
        },
        then @ State::Halted { .. } => then,
    }
}

// Steps.

/// The code of what cannot be undone any more.
const DESTROYED: &str = "past_the_point_of_no_return";
const BEGIN: &str = "begin-archive";
const RESTORE: &str = "restore-part";
const END: &str = "end-archive";
const FORGET: &str = "forget";

/// What came of a part.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Back {
    table: String,
    rows: u64,
    restored: u64,
}

impl RestoreWorkflow {
    async fn restore(
        &self,
        cx: &Context,
        of: Input,
        archive: usize,
        part: usize,
        mut done: BTreeMap<String, Restored>,
    ) -> Result<Transition<Self>, StepError> {
        let Some(archive_id) = of.archives.get(archive).copied() else {
            let job = cx.run_id().0;
            let forget = async |_| {
                let site = place::open(&self.environment, of.tenant_id, &of.source, of.map_version);
                let site = site.await.map_err(door_error)?;
                site.forget(job).await.map_err(product_error)
            };
            cx.step(FORGET, &POLICY, forget).await?;
            return Ok(Transition::complete(Output { tables: done }));
        };
        let begin = async |_| self.begin(&of, archive_id).await;
        let manifest_sha256: String = cx.step(BEGIN, &POLICY, begin).await?;
        let key = OnceKey::new(cx.run_id().0, format!("restore/{archive_id}/{part}"));
        let restore = async |_| {
            self.part(&of, archive_id, &manifest_sha256, part, &key)
                .await
        };
        let back: Option<Back> = cx.step(RESTORE, &POLICY, restore).await?;
        let Some(back) = back else {
            let now = cx.now();
            let end = async |_| self.mark(&of, archive_id, "restored", Some(now)).await;
            cx.step(END, &POLICY, end).await?;
            return Ok(Transition::go(State::Restoring {
                of,
                archive: archive + 1,
                part: 0,
                done,
            }));
        };
        let table = done.entry(back.table).or_default();
        table.restored += back.restored;
        table.there += back.rows - back.restored;
        let part = part + 1;
        Ok(Transition::go(State::Restoring {
            of,
            archive,
            part,
            done,
        }))
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
        of: &Input,
        archive_id: Uuid,
        sha256: &str,
        part: usize,
        key: &OnceKey,
    ) -> Result<Option<Back>, StepError> {
        let archive = self.environment.archive().map_err(|error| error.step())?;
        let at = (of.tenant_id.0, archive_id);
        let manifest = archive.read_manifest(at, sha256).await;
        let manifest = manifest.map_err(|error| error.step())?;
        let Some(part) = manifest.parts.get(part) else {
            return Ok(None);
        };
        let lines = archive.read_part(at, part, None).await;
        let lines = lines.map_err(|error| error.step())?;
        let site = place::open(&self.environment, of.tenant_id, &of.source, of.map_version);
        let site = site.await.map_err(door_error)?;
        let restored = site
            .once(key, async |conn| {
                store::enter(conn).await?;
                let table = store::look(conn, &site, &part.table, None).await?;
                store::restore(conn, &table, &lines).await
            })
            .await
            .map_err(product_error)?;
        Ok(Some(Back {
            table: part.table.clone(),
            rows: part.rows,
            restored,
        }))
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
