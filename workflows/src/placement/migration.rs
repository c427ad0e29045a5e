//! A migration of the product: one SQL text, applied once at every place, some places at a time.
//!
//! ```text
//! MigrationWorkflow ─ lists the places ─ fan-out ─┬─ MigrateWorkflow: applied, noted
//!                                                 ├─ refused: noted, and its run has failed
//!                                                 └─ a lock that is not given: tried again, then stuck
//! ```
//!
//! Each place has a run of its own, so the failure of one stops no other. What was applied stands in
//! the ledger of the product's database, committed with the change itself: asked for again, the
//! migration is applied where it was refused or where tenants have come since, and nowhere twice.

mod rows;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tenure_engine::{
    Context, Event, FanOut, Guard, GuardNeed, RetryPolicy, StepError, TenantId, Transition,
    Workflow,
};

pub use rows::{Migration, MigrationPlace, MigrationRow, Outcome};
pub(super) use rows::{contained, counts, find, insert, list, places, reopen};

use super::provision::told;
use super::{control, make, store};
use crate::data_map::Model;
use crate::environment::Environment;
use crate::product::{Place, PlacementStatus, ProductError, maps, quoted};

/// The most places of one migration.
pub(super) const MAX_PLACES: usize = tenure_engine::MAX_FAN_OUT;

/// A lock that the product does not give is asked for during some minutes.
const APPLY_POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 12,
    attempt_timeout: std::time::Duration::from_secs(300),
    cap: std::time::Duration::from_secs(30),
    ..RetryPolicy::DEFAULT
};

// Input.

/// Which migration, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MigrationInput {
    /// Its version.
    pub version: String,
    /// The sources whose places it is for.
    pub sources: Vec<String>,
    /// How many places are migrated at a time.
    pub at_most: u32,
}

/// One place of a migration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// Which migration.
    pub version: String,
    /// Where.
    pub place: Place,
    /// The schemas of the map, for a place without one of its own.
    pub schemas: Vec<String>,
    /// The tenant, where it is one's.
    pub tenant: Option<TenantId>,
}

// States.

/// Where a migration of all places is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// The places are listed.
    Listing {
        /// Which.
        of: MigrationInput,
    },
    /// They are migrated.
    Applying {
        /// Which.
        of: MigrationInput,
    },
}

/// Where a migration of one place is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PlaceState {
    /// It is applied.
    Applying {
        /// Which, and where.
        of: Box<Target>,
    },
}

/// A migration is told nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {}

/// What a migration leaves behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Output {
    /// Places where it is applied, also by runs before.
    pub applied: i64,
    /// Places that refused it.
    pub refused: i64,
}

/// The workflow of all places.
pub struct MigrationWorkflow {
    environment: Environment,
}

/// The workflow of one place.
pub struct MigrateWorkflow {
    environment: Environment,
}

impl MigrationWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

impl MigrateWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

const PLACES: &str = "places";
const COUNT: &str = "count";
const APPLY: &str = "apply";
const NOTE: &str = "note";

// Handle.

impl Workflow for MigrationWorkflow {
    const NAME: &'static str = "product-migration";
    const VERSION: i32 = 1;
    const GUARD: Guard = Guard {
        start: GuardNeed::Door("POST /v1/product-migrations (tenure placement migrate)"),
        ..Guard::OPEN
    };
    type Input = MigrationInput;
    type State = State;
    type Signal = Signal;
    type Output = Output;

    fn start(&self, of: MigrationInput) -> State {
        State::Listing { of }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Listing { of }, Event::Entered) => {
                let targets = self.list(&of).await?;
                if targets.is_empty() {
                    return self.count(cx, &of).await;
                }
                let run = cx.run_id();
                let items = targets.into_iter().map(|target| {
                    let Place { source, .. } = &target.place;
                    let place = rows::place_name(&target.place);
                    (format!("{}/{source}/{place}/{run}", target.version), target)
                });
                let fan_out = FanOut::of::<MigrateWorkflow>(PLACES, items).at_most(of.at_most);
                Ok(Transition::stay(State::Applying { of }).fan_out(fan_out))
            }
            (State::Applying { of }, Event::Joined(_)) => self.count(cx, &of).await,
            (_, Event::CancelRequested) => Ok(Transition::cancelled()),
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

impl Workflow for MigrateWorkflow {
    const NAME: &'static str = "product-migration-place";
    const VERSION: i32 = 1;
    const GUARD: Guard = Guard {
        start: GuardNeed::Door("POST /v1/product-migrations (tenure placement migrate)"),
        ..Guard::OPEN
    };
    type Input = Target;
    type State = PlaceState;
    type Signal = Signal;
    type Output = ();

    fn start(&self, of: Target) -> PlaceState {
        PlaceState::Applying { of: Box::new(of) }
    }

    async fn handle(
        &self,
        cx: &Context,
        PlaceState::Applying { of }: PlaceState,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match event {
            Event::Entered => {
                let refused = self.apply(cx, &of).await?;
                self.note(cx, &of, refused.as_deref()).await?;
                Ok(match refused {
                    Some(refused) => Transition::fail("refused", refused),
                    None => Transition::complete(()),
                })
            }
            Event::CancelRequested => Ok(Transition::cancelled()),
            Event::Signal(_)
            | Event::Deadline(_)
            | Event::RunFinished(_)
            | Event::Joined(_)
            | Event::RunDeadline => Ok(Transition::stay(PlaceState::Applying { of })),
        }
    }
}

// Steps.

impl MigrationWorkflow {
    /// The places that it is not applied at. What is listed is noted again by a repeated visit, so
    /// its answer is not kept.
    async fn list(&self, of: &MigrationInput) -> Result<Vec<Target>, StepError> {
        let mut tx = control(&self.environment).await?;
        let mut targets = Vec::new();
        for source in &of.sources {
            let map = maps::current(&mut tx, source).await?;
            let target = |place: Place, tenant| Target {
                version: of.version.clone(),
                place,
                schemas: map.map.schemas.clone(),
                tenant,
            };
            if map.map.model == Model::Shared {
                let place = Place {
                    model: Model::Shared,
                    source: source.clone(),
                    database: None,
                    schema: None,
                    key: String::new(),
                };
                targets.push(target(place, None));
                continue;
            }
            let mut after = None;
            loop {
                let page = crate::product::door::list(&mut tx, Some(source), after, 1_000).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.tenant);
                let here = page.into_iter().filter(|one| one.place.source == *source);
                for one in here.filter(|one| one.status != PlacementStatus::Provisioning) {
                    targets.push(target(one.place, Some(one.tenant)));
                }
            }
        }
        let open = reopen(&mut tx, &of.version, &targets).await?;
        tx.commit().await?;
        targets.retain(|target| {
            let place = rows::place_name(&target.place);
            open.contains(&(target.place.source.clone(), place))
        });
        if targets.len() > MAX_PLACES {
            let words = format!(
                "{} places; at most {MAX_PLACES} at a time: name fewer sources",
                targets.len()
            );
            return Err(StepError::terminal("too_many_places", words));
        }
        Ok(targets)
    }

    async fn count(
        &self,
        cx: &Context,
        of: &MigrationInput,
    ) -> Result<Transition<Self>, StepError> {
        let output = cx
            .step(COUNT, &RetryPolicy::DEFAULT, async |_| {
                let mut tx = control(&self.environment).await?;
                let counted = counts(&mut tx, &of.version).await?;
                Ok(Output {
                    applied: counted.applied,
                    refused: counted.refused,
                })
            })
            .await?;
        Ok(Transition::complete(output))
    }
}

impl MigrateWorkflow {
    /// Applies it, unless it is; why it cannot be, if so.
    async fn apply(&self, cx: &Context, of: &Target) -> Result<Option<String>, StepError> {
        cx.step(APPLY, &APPLY_POLICY, async |_| {
            let mut tx = control(&self.environment).await?;
            let sql = rows::find_sql(&mut tx, &of.version).await?;
            tx.rollback().await?;
            let sources = self.environment.products();
            let schemas = match &of.place.schema {
                Some(schema) => std::slice::from_ref(schema),
                None => &of.schemas,
            };
            let path: Vec<String> = schemas.iter().map(|name| quoted(name)).collect();
            let path = path.join(", ");
            let applied = async {
                let source = sources.get(&of.place.source)?;
                let (database, subject) = (of.place.database.as_deref(), make::subject(&of.place));
                let key = make::migration_key(&of.version);
                let applied = source
                    .once_at(database, &subject, &key, async |conn| {
                        store::search_in(conn, &path).await?;
                        match store::run_sql(conn, &sql).await? {
                            true => Ok(json!({"applied": true})),
                            false => Err(make::ends_transaction()),
                        }
                    })
                    .await;
                applied.map(|_| ())
            };
            let applied: Result<(), ProductError> = applied.await;
            told(applied)
        })
        .await
    }

    async fn note(
        &self,
        cx: &Context,
        of: &Target,
        refused: Option<&str>,
    ) -> Result<(), StepError> {
        cx.step(NOTE, &RetryPolicy::DEFAULT, async |_| {
            let mut tx = control(&self.environment).await?;
            rows::note(&mut tx, of, refused).await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }
}
