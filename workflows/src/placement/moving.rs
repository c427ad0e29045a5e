//! A tenant's move to another place, while it works.
//!
//! ```text
//! Preparing ─ Copying ─ Freezing ─ CatchingUp ─ Verifying ─ Switching ─ Kept ─ Cleaning ─ Thawing
//!     the tenant works  └──── read only, guarded by triggers ───┘ └── it works at the new place ──
//! any of the first five ─ a cancel, or what cannot be ─ BackingOut: as it was
//! ```
//!
//! Until the switch the old place holds every row and the new one nothing that counts; from the
//! switch on it is the other way round, and the old rows stay, guarded against stray writers, until
//! they are compared once more and deleted. The switch is one update of the placement.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tenure_engine::{Context, Event, Guard, GuardNeed, StepError, TenantId, Transition, Workflow};

use super::copy::{
    At, Batch, Digest, Emptying, Next, Pair, STRIDE, Walk, batch_key, empty_some, goes_on, read,
};
use super::provision::told;
use super::{POLICY, change, make, pinned, refusal, release, shape, store};
use crate::data_map::Belongs;
use crate::environment::Environment;
use crate::product::{OnceKey, Place, PlacementStatus, ProductError, Site};

// Input.

/// Which tenant, from where to where, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MoveInput {
    /// The tenant.
    pub tenant: TenantId,
    /// Where its rows are.
    pub from: Place,
    /// The version of the map there.
    pub from_map: i32,
    /// Where they will be.
    pub to: Place,
    /// The version of the map there.
    pub to_map: i32,
    /// The product's SQL that makes the new place; none for one that is there and empty.
    pub sql: Option<String>,
    /// The product's migrations that the SQL contains.
    pub contained: Vec<String>,
    /// For how many hours the old rows stay after the switch.
    pub keep_hours: u32,
    /// How many rows are copied at a time.
    pub batch: u32,
    /// Who asked for it.
    pub author: String,
    /// Why.
    pub reason: String,
}

// States.

/// Where a move is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// The new place is made, held against its map, and found empty.
    Preparing {
        /// Which move.
        of: Box<MoveInput>,
    },
    /// Rows are copied while the tenant works.
    Copying {
        /// Which move.
        of: Box<MoveInput>,
        /// How far.
        walk: Walk,
    },
    /// The tenant becomes read only.
    Freezing {
        /// Which move.
        of: Box<MoveInput>,
        /// How far the copy came.
        walk: Walk,
    },
    /// What changed while it was copied is copied again.
    CatchingUp {
        /// Which move.
        of: Box<MoveInput>,
        /// How far.
        walk: Walk,
    },
    /// Both places are compared.
    Verifying {
        /// Which move.
        of: Box<MoveInput>,
        /// How far the copy came.
        walk: Walk,
    },
    /// The placement becomes the new place.
    Switching {
        /// Which move.
        of: Box<MoveInput>,
        /// What was found at both places.
        found: Vec<Digest>,
    },
    /// The tenant works at the new place; the old rows are kept for a while.
    Kept {
        /// Which move.
        of: Box<MoveInput>,
        /// What the old place must still hold when it is cleaned.
        found: Vec<Digest>,
    },
    /// The old rows are deleted.
    Cleaning {
        /// Which move.
        of: Box<MoveInput>,
        /// What was moved.
        found: Vec<Digest>,
        /// The table, children first: once to loosen its rings, once to delete.
        table: usize,
        /// The number of the batch.
        batch: u64,
    },
    /// The guards of the old place go.
    Thawing {
        /// Which move.
        of: Box<MoveInput>,
        /// What was moved.
        found: Vec<Digest>,
    },
    /// The tenant stays where it was.
    BackingOut {
        /// Which move.
        of: Box<MoveInput>,
        /// How far the copy came; none if nothing was copied.
        walk: Option<Walk>,
        /// Why; none when somebody asked for it.
        refused: Option<String>,
        /// The table of the new place that is emptied, children first.
        table: usize,
        /// The number of the batch.
        batch: u64,
    },
}

/// A move is told nothing: to back out, cancel it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {}

/// What a move leaves behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MoveOutput {
    /// What was found at both places before the switch.
    pub moved: Vec<Digest>,
}

/// The workflow.
pub struct MoveWorkflow {
    environment: Environment,
}

impl MoveWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

const CLEAN: &str = "clean";
const PREPARE: &str = "prepare";
const COPY: &str = "copy";
const FREEZE: &str = "freeze";
const CATCH_UP: &str = "catch-up";
const VERIFY: &str = "verify";
const SWITCH: &str = "switch";
const COMPARE: &str = "compare";
const DELETE: &str = "delete";
const THAW: &str = "thaw";
const RELEASE: &str = "release";
const BACK_OUT: &str = "back-out";
const SHUT: &str = "shut";
const EMPTY: &str = "empty";

// Handle.

impl Workflow for MoveWorkflow {
    const NAME: &'static str = "tenant-move";
    const VERSION: i32 = 1;
    const GUARD: Guard = Guard {
        start: GuardNeed::Door(
            "POST /v1/tenants/{tenant_id}/placement/move (tenure placement move)",
        ),
        ..Guard::OPEN
    };
    type Input = MoveInput;
    type State = State;
    type Signal = Signal;
    type Output = MoveOutput;

    fn start(&self, of: MoveInput) -> State {
        State::Preparing { of: Box::new(of) }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match event {
            Event::Entered | Event::Deadline(_) => self.go_on(cx, state).await,
            Event::CancelRequested => Ok(cancelled(state)),
            Event::Signal(_) | Event::RunFinished(_) | Event::Joined(_) | Event::RunDeadline => {
                Ok(Transition::stay(state))
            }
        }
    }
}

/// Before the switch the tenant stays where it is; after it, what is left to do is done.
fn cancelled(state: State) -> Transition<MoveWorkflow> {
    match state {
        State::Preparing { of } => Transition::go(back_out(of, None, None)),
        State::Copying { of, walk }
        | State::Freezing { of, walk }
        | State::CatchingUp { of, walk }
        | State::Verifying { of, walk } => Transition::go(back_out(of, Some(walk), None)),
        kept @ State::Kept { .. } => Transition::stay(kept),
        // The switch may have happened in a visit that was cut off.
        switched @ (State::Switching { .. }
        | State::Cleaning { .. }
        | State::Thawing { .. }
        | State::BackingOut { .. }) => Transition::go(switched),
    }
}

fn back_out(of: Box<MoveInput>, walk: Option<Walk>, refused: Option<String>) -> State {
    State::BackingOut {
        of,
        walk,
        refused,
        table: 0,
        batch: 1,
    }
}

impl MoveWorkflow {
    #[expect(clippy::too_many_lines, reason = "one arm a state")]
    async fn go_on(&self, cx: &Context, state: State) -> Result<Transition<Self>, StepError> {
        Ok(match state {
            State::Preparing { of } => match self.prepare(cx, &of).await? {
                Some(refused) => Transition::go(back_out(of, None, Some(refused))),
                None => {
                    let walk = Walk::first();
                    Transition::go(State::Copying { of, walk })
                }
            },
            State::Copying { of, walk } => match self.copy(cx, COPY, &of, &walk, false).await? {
                Ok(Next::Batch(walk)) => Transition::go(State::Copying { of, walk }),
                Ok(Next::Done(walk)) => Transition::go(State::Freezing { of, walk }),
                Err(refused) => Transition::go(back_out(of, Some(walk), Some(refused))),
            },
            State::Freezing { of, walk } => match self.freeze(cx, &of).await? {
                Some(refused) => Transition::go(back_out(of, Some(walk), Some(refused))),
                None => {
                    let walk = walk.again();
                    Transition::go(State::CatchingUp { of, walk })
                }
            },
            State::CatchingUp { of, walk } => {
                match self.copy(cx, CATCH_UP, &of, &walk, true).await? {
                    Ok(Next::Batch(walk)) => Transition::go(State::CatchingUp { of, walk }),
                    Ok(Next::Done(walk)) => Transition::go(State::Verifying { of, walk }),
                    Err(refused) => Transition::go(back_out(of, Some(walk), Some(refused))),
                }
            }
            State::Verifying { of, walk } => match self.verify(cx, &of).await? {
                Ok(found) => Transition::go(State::Switching { of, found }),
                Err(refused) => Transition::go(back_out(of, Some(walk), Some(refused))),
            },
            State::Switching { of, found } => {
                self.switch(cx, &of).await?;
                let keep = std::time::Duration::from_secs(u64::from(of.keep_hours) * 3_600);
                Transition::stay(State::Kept { of, found }).after(CLEAN, keep)
            }
            State::Kept { of, found } => {
                self.compare(cx, &of, &found).await?;
                let (table, batch) = (0, 1);
                Transition::go(State::Cleaning {
                    of,
                    found,
                    table,
                    batch,
                })
            }
            State::Cleaning {
                of,
                found,
                table,
                batch,
            } => match self
                .empty(cx, DELETE, &of, At::From, (table, batch))
                .await?
            {
                Some((table, batch)) => Transition::go(State::Cleaning {
                    of,
                    found,
                    table,
                    batch,
                }),
                None => Transition::go(State::Thawing { of, found }),
            },
            State::Thawing { of, found } => {
                self.finish(cx, &of).await?;
                Transition::complete(MoveOutput { moved: found })
            }
            State::BackingOut {
                of,
                walk,
                refused,
                table,
                batch,
            } => return self.back_out(cx, of, walk, refused, (table, batch)).await,
        })
    }
}

// Steps.

/// A step's answer, or why it is refused for good.
type Answer<T> = Result<T, String>;

fn answered<T>(done: Result<T, ProductError>) -> Result<Answer<T>, StepError> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(error) => Ok(Err(refusal(error)?)),
    }
}

impl MoveWorkflow {
    async fn site(&self, of: &MoveInput, at: At) -> Result<Site, StepError> {
        let (place, version) = match at {
            At::From => (&of.from, of.from_map),
            At::To => (&of.to, of.to_map),
        };
        let map = pinned(&self.environment, &place.source, version).await?;
        Ok(Site::at(self.environment.products(), of.tenant.0, place, &map).await?)
    }

    async fn pair(&self, of: &MoveInput) -> Result<Result<Pair, ProductError>, StepError> {
        let sources = self.environment.products();
        let old = pinned(&self.environment, &of.from.source, of.from_map).await?;
        let new = pinned(&self.environment, &of.to.source, of.to_map).await?;
        Ok(Pair::open(sources, of.tenant.0, (&of.from, &old), (&of.to, &new)).await)
    }

    /// Makes the new place ready; why it cannot be, if so.
    async fn prepare(&self, cx: &Context, of: &MoveInput) -> Result<Option<String>, StepError> {
        let job = cx.run_id().0;
        cx.step(PREPARE, &POLICY, async |_| {
            let sources = self.environment.products();
            if let Some(sql) = &of.sql {
                let made = async {
                    let source = sources.get(&of.to.source)?;
                    make::make(source, &of.to, job, sql, &of.contained).await
                };
                if let Some(refused) = told(made.await)? {
                    return Ok(Some(refused));
                }
            }
            let pair = self.pair(of).await?;
            let ready = async {
                let pair = pair?;
                make::hold_against_map(&pair.from).await?;
                make::hold_against_map(&pair.to).await?;
                match pair.first_full().await? {
                    Some(table) => Err(ProductError::Refused(format!(
                        "{table} holds rows where the tenant moves to"
                    ))),
                    None => Ok(()),
                }
            };
            told(ready.await)
        })
        .await
    }

    async fn copy(
        &self,
        cx: &Context,
        name: &'static str,
        of: &MoveInput,
        walk: &Walk,
        frozen: bool,
    ) -> Result<Answer<Next>, StepError> {
        let job = cx.run_id().0;
        cx.step(name, &POLICY, async |_| {
            let pair = self.pair(of).await?;
            let copied = async {
                let pair = pair?;
                pair.stride(job, walk.clone(), of.batch, frozen).await
            };
            answered(copied.await)
        })
        .await
    }

    /// Tells the product, and sets the guards; why it cannot be, if so.
    async fn freeze(&self, cx: &Context, of: &MoveInput) -> Result<Option<String>, StepError> {
        let run = cx.run_id();
        cx.step(FREEZE, &POLICY, async |_| {
            change(&self.environment, of.tenant, run, |placement| {
                placement.status = PlacementStatus::Frozen;
            })
            .await?;
            let pair = self.pair(of).await?;
            let frozen = async {
                let pair = pair?;
                for (place, fit) in pair.fits.iter().enumerate() {
                    let key = OnceKey::new(run.0, format!("freeze/{}", fit.from));
                    let (site, job) = (&pair.from, job_of(run.0));
                    site.once(&key, async |conn| {
                        Ok(store::freeze(conn, site, &fit.from, &job, place).await?)
                    })
                    .await?;
                }
                Ok(())
            };
            told(frozen.await)
        })
        .await
    }

    async fn verify(&self, cx: &Context, of: &MoveInput) -> Result<Answer<Vec<Digest>>, StepError> {
        cx.step(VERIFY, &POLICY, async |_| {
            let pair = self.pair(of).await?;
            let compared = async {
                let pair = pair?;
                let (old, new) = (pair.digests(At::From).await?, pair.digests(At::To).await?);
                match differ(&old, &new) {
                    Some(differs) => Err(ProductError::Refused(differs)),
                    None => Ok(new),
                }
            };
            answered(compared.await)
        })
        .await
    }

    async fn switch(&self, cx: &Context, of: &MoveInput) -> Result<(), StepError> {
        cx.step(SWITCH, &POLICY, async |_| {
            change(&self.environment, of.tenant, cx.run_id(), |placement| {
                placement.place = of.to.clone();
                placement.other = Some(of.from.clone());
                placement.status = PlacementStatus::Cleaning;
            })
            .await
        })
        .await
    }

    /// Whether the old place holds what was moved, and nothing else: otherwise somebody has written
    /// there past the guards, and nothing is deleted.
    async fn compare(
        &self,
        cx: &Context,
        of: &MoveInput,
        found: &[Digest],
    ) -> Result<(), StepError> {
        cx.step(COMPARE, &POLICY, async |_| {
            let pair = self.pair(of).await??;
            let old = pair.digests(At::From).await?;
            match differ(&old, found) {
                None => Ok(()),
                Some(differs) => Err(StepError::terminal(
                    "written_after_the_switch",
                    format!("{differs}; save what was written there before it is deleted"),
                )),
            }
        })
        .await
    }

    /// Deletes some of the tenant's rows at a place; the table and the batch to go on with.
    async fn empty(
        &self,
        cx: &Context,
        name: &'static str,
        of: &MoveInput,
        at: At,
        from: (usize, u64),
    ) -> Result<Option<(usize, u64)>, StepError> {
        let job = cx.run_id().0;
        cx.step(name, &POLICY, async |_| {
            let site = self.site(of, at).await?;
            let snapshot = read(&site).await?;
            let tables = site.map().map.tables.iter();
            let tables = tables.filter(|(_, rule)| !matches!(rule.belongs, Belongs::Nobody(_)));
            let names: BTreeSet<String> = tables.map(|(name, _)| name.clone()).collect();
            let order = shape::parents_first(&snapshot, &names);
            let mut order = order.map_err(ProductError::DoesNotFit)?;
            order.reverse();
            let (mut table, mut batch) = from;
            for _ in 0..STRIDE {
                // All rings are loosened before anything is deleted.
                let (what, place) = match table.checked_sub(order.len()) {
                    None => (Emptying::Loosen, table),
                    Some(place) => (Emptying::Delete, place),
                };
                let Some((name, ring)) = order.get(place) else {
                    return Ok(None);
                };
                let primary = snapshot.table(name).map(|table| table.primary_key.clone());
                let primary = primary.unwrap_or_default();
                let key = OnceKey::new(job, format!("empty/{batch}"));
                let size = i64::from(of.batch);
                let done = site
                    .once(&key, async |conn| {
                        store::write_as_mover(conn, &job_of(job)).await?;
                        empty_some(conn, &site, name, (&primary, ring), what, size).await
                    })
                    .await?;
                table += usize::from(!goes_on(&done));
                batch += 1;
            }
            Ok(Some((table, batch)))
        })
        .await
    }

    /// Takes the guards away, also where the tables have changed since.
    async fn thaw(&self, job: uuid::Uuid, of: &MoveInput) -> Result<(), StepError> {
        let site = self.site(of, At::From).await?;
        let mut tx = site.begin().await?;
        store::thaw(&mut tx, &job_of(job)).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn finish(&self, cx: &Context, of: &MoveInput) -> Result<(), StepError> {
        let job = cx.run_id();
        cx.step(THAW, &POLICY, async |_| self.thaw(job.0, of).await)
            .await?;
        cx.step(RELEASE, &POLICY, async |_| {
            release(&self.environment, of.tenant, job, |_| {}).await?;
            self.site(of, At::From).await?.forget(job.0).await?;
            self.site(of, At::To).await?.forget(job.0).await?;
            Ok(())
        })
        .await
    }

    /// The tenant works again at once; then the new place is emptied of what was copied there.
    async fn back_out(
        &self,
        cx: &Context,
        of: Box<MoveInput>,
        walk: Option<Walk>,
        refused: Option<String>,
        (table, batch): (usize, u64),
    ) -> Result<Transition<Self>, StepError> {
        let job = cx.run_id();
        if batch == 1 {
            cx.step(BACK_OUT, &POLICY, async |_| {
                self.thaw(job.0, &of).await?;
                release(&self.environment, of.tenant, job, |_| {}).await
            })
            .await?;
        }
        if let Some(copied) = &walk {
            if batch == 1 {
                cx.step(SHUT, &POLICY, async |_| {
                    // A process that was only thought to be dead finds its batches taken.
                    let site = self.site(&of, At::To).await?;
                    for batch in copied.batch..copied.batch + STRIDE {
                        let nothing = async |_: &mut sqlx::PgConnection| Ok(None);
                        let key = batch_key(job.0, batch);
                        let _: Option<Batch> = site.once(&key, nothing).await?;
                    }
                    Ok(())
                })
                .await?;
            }
            let emptied = self.empty(cx, EMPTY, &of, At::To, (table, batch)).await?;
            if let Some((table, batch)) = emptied {
                return Ok(Transition::go(State::BackingOut {
                    of,
                    walk,
                    refused,
                    table,
                    batch,
                }));
            }
        }
        Ok(match refused {
            Some(refused) => Transition::fail("backed_out", refused),
            None => Transition::cancelled(),
        })
    }
}

// Rules.

/// The first table that is not the same at both places.
fn differ(old: &[Digest], new: &[Digest]) -> Option<String> {
    let table = |digest: &Digest| {
        digest
            .table
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let mut pairs = old.iter().zip(new);
    let pair = pairs.find(|(old, new)| (old.rows, &old.digest) != (new.rows, &new.digest));
    pair.map(|(old, new)| match old.rows == new.rows {
        false => format!(
            "{}: {} rows where the tenant was, {} where it moves to",
            table(new),
            old.rows,
            new.rows
        ),
        true => format!("{}: a row is not the same at both places", table(new)),
    })
}

/// A job as names in a database hold it.
fn job_of(job: uuid::Uuid) -> String {
    job.simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(table: &str, rows: i64, digest: &str) -> Digest {
        Digest {
            table: table.to_owned(),
            rows,
            digest: digest.to_owned(),
        }
    }

    #[test]
    fn what_differs_is_told_by_table() {
        let old = [digest("work.task", 2, "a"), digest("work.comment", 3, "b")];
        assert_eq!(differ(&old, &old), None);
        let fewer = [digest("task", 2, "a"), digest("comment", 2, "b")];
        let told = differ(&old, &fewer).unwrap();
        assert_eq!(
            told,
            "comment: 3 rows where the tenant was, 2 where it moves to"
        );
        let other = [digest("task", 2, "x"), digest("comment", 3, "b")];
        assert!(
            differ(&old, &other)
                .unwrap()
                .starts_with("task: a row is not the same")
        );
    }
}
