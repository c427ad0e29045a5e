//! Provisioning: a place is made, held against the map, and becomes the tenant's.

use serde::{Deserialize, Serialize};
use tenure_engine::{Context, Event, Guard, GuardNeed, StepError, TenantId, Transition, Workflow};

use super::{POLICY, control, make, pinned, refusal, release};
use crate::environment::Environment;
use crate::product::{self, Place, ProductError, Site};

// Input.

/// Which place, and how it is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProvisionInput {
    /// The tenant.
    pub tenant: TenantId,
    /// Where its rows will be.
    pub place: Place,
    /// The version of the source's map.
    pub map: i32,
    /// The product's SQL that makes what a tenant needs; none for a place that is there.
    pub sql: Option<String>,
    /// The product's migrations that the SQL contains.
    pub contained: Vec<String>,
    /// Who asked for it.
    pub author: String,
}

// States.

/// Where a provisioning is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// The place is being made.
    Making {
        /// Which.
        of: Box<ProvisionInput>,
    },
    /// It will not be: the tenant is placed nowhere again.
    GivingUp {
        /// Which.
        of: Box<ProvisionInput>,
        /// Why; none when somebody cancelled it.
        refused: Option<String>,
    },
}

/// A provisioning is told nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {}

/// The workflow.
pub struct ProvisionWorkflow {
    environment: Environment,
}

impl ProvisionWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

// Handle.

const MAKE: &str = "make";
const PLACE: &str = "place";
const GIVE_UP: &str = "give-up";

impl Workflow for ProvisionWorkflow {
    const NAME: &'static str = "tenant-provision";
    const VERSION: i32 = 1;
    const GUARD: Guard = Guard {
        start: GuardNeed::Door(
            "POST /v1/tenants/{tenant_id}/placement/provision (tenure placement provision)",
        ),
        ..Guard::OPEN
    };
    type Input = ProvisionInput;
    type State = State;
    type Signal = Signal;
    type Output = ();

    fn start(&self, of: ProvisionInput) -> State {
        State::Making { of: Box::new(of) }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Making { of }, Event::Entered) => {
                if let Some(refused) = self.make(cx, &of).await? {
                    let refused = Some(refused);
                    return Ok(Transition::go(State::GivingUp { of, refused }));
                }
                cx.step(PLACE, &POLICY, async |_| {
                    release(&self.environment, of.tenant, cx.run_id(), |_| {}).await
                })
                .await?;
                Ok(Transition::complete(()))
            }
            (State::Making { of }, Event::CancelRequested) => {
                Ok(Transition::go(State::GivingUp { of, refused: None }))
            }
            (State::GivingUp { of, refused }, Event::Entered | Event::CancelRequested) => {
                self.give_up(cx, &of).await?;
                Ok(match refused {
                    Some(refused) => Transition::fail("refused", refused),
                    None => Transition::cancelled(),
                })
            }
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

// Steps.

impl ProvisionWorkflow {
    /// Makes the place; why it cannot be, if so.
    async fn make(&self, cx: &Context, of: &ProvisionInput) -> Result<Option<String>, StepError> {
        cx.step(MAKE, &POLICY, async |_| {
            let map = pinned(&self.environment, &of.place.source, of.map).await?;
            let sources = self.environment.products();
            let made = async {
                if let Some(sql) = &of.sql {
                    let source = sources.get(&of.place.source)?;
                    make::make(source, &of.place, cx.run_id().0, sql, &of.contained).await?;
                }
                let site = Site::at(sources, of.tenant.0, &of.place, &map).await?;
                make::hold_against_map(&site).await
            };
            told(made.await)
        })
        .await
    }

    async fn give_up(&self, cx: &Context, of: &ProvisionInput) -> Result<(), StepError> {
        cx.step(GIVE_UP, &POLICY, async |_| {
            let mut tx = control(&self.environment).await?;
            let found = product::store::find_placement(&mut tx, of.tenant).await?;
            if let Some(found) = found.filter(|found| found.held_by == Some(cx.run_id())) {
                product::store::delete_placement(&mut tx, &found).await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }
}

/// What was done, or why it is refused for good.
pub(super) fn told(done: Result<(), ProductError>) -> Result<Option<String>, StepError> {
    match done {
        Ok(()) => Ok(None),
        Err(error) => refusal(error).map(Some),
    }
}
