//! A tenant: its customer at the payment provider, and the methods that are charged.
//!
//! One run per tenant, for as long as the tenant is. It is provisioned once, then rests and hears
//! of payment methods; a new method during dunning makes dunning try at once.

mod door;
mod legal_entity;
pub(crate) mod methods;
pub(crate) mod store;
mod tax;
mod zone;

pub use door::{
    NewTenant, attach_method, create, find, find_customer, find_named, list, list_methods, names,
    order_methods, remove_method,
};
pub use legal_entity::{LegalEntityMove, change_legal_entity, preview_legal_entity};
pub use store::Customer;
pub use tax::{TaxMove, change_tax, find_tax, preview_tax};
pub use zone::{MovedDates, ZoneMove, change_zone, preview_zone};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tenure_engine::{
    ClockId, Context, Event, Reception, ResultExt as _, RetryPolicy, ShardId, StepError, TenantId,
    Transition, Workflow,
};

use crate::calendar;
use crate::dunning::{self, policy::MAX_CARD_EXPIRING_DAYS};
use crate::environment::Environment;
use crate::notice::{self, NoticeWorkflow};
use crate::ports::stripe::{Method, STRIPE};
use crate::subscription;

/// The one key of a tenant's run.
pub const KEY: &str = "tenant";

// Input.

/// Nothing: the run's tenant says it all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {}

/// The directory entry.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantRow {
    /// Identity.
    pub tenant_id: TenantId,
    /// The shard of all its rows.
    pub shard_id: ShardId,
    /// The test clock that it is bound to.
    pub test_clock_id: Option<ClockId>,
    /// For people.
    pub name: String,
    /// Where its mails go.
    pub email: String,
    /// In which zone its days begin.
    pub zone: String,
    /// The language of its mails.
    pub locale: String,
    /// When it was created, in its own time.
    pub created_at: DateTime<Utc>,
    /// Who issues its invoices, by the catalogue's key; empty for the seller without a name.
    pub legal_entity: String,
}

/// What mails and invoices need of a tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    /// For people.
    pub name: String,
    /// Where its mails go.
    pub email: String,
    /// In which zone its days begin.
    pub zone: String,
    /// Whether it is bound to a test clock.
    #[serde(default)]
    pub clocked: bool,
    /// The language of its mails.
    #[serde(default = "english")]
    pub locale: String,
}

fn english() -> String {
    "en".to_owned()
}

// States and signals.

/// Where a tenant's run is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// The provider's customer is being made.
    Provisioning,
    /// The tenant can be charged.
    Ready,
}

/// What a tenant's run may be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// Attach a payment method.
    AttachMethod {
        /// The provider's id of the method.
        method: String,
        /// Its place in the order, from 1; in place of the one that was charged first when none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<u32>,
    },
    /// Charge the methods in another order.
    OrderMethods {
        /// The provider's ids, the first first.
        methods: Vec<String>,
    },
    /// Charge a method no more.
    RemoveMethod {
        /// The provider's id of the method.
        method: String,
    },
    /// Its days begin in another zone.
    ZoneMoved,
    /// The provider says that something happened to the customer.
    ProviderEvent {
        /// The provider's name for it.
        kind: String,
    },
}

/// The workflow.
pub struct TenantWorkflow {
    environment: Environment,
}

impl TenantWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

// Handle.

impl Workflow for TenantWorkflow {
    const NAME: &'static str = "tenant";
    const VERSION: i32 = 1;
    /// Of the profile that the provider's customer is made of.
    const PRIVATE: &'static [&'static str] = &["name", "email"];
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = ();

    fn start(&self, _input: Input) -> State {
        State::Provisioning
    }

    fn receive(&self, state: &State, _signal: &Signal) -> Reception {
        match state {
            State::Provisioning => Reception::Defer,
            State::Ready => Reception::Accept,
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Provisioning, Event::Entered) => self.provision(cx).await,
            (State::Ready, Event::Signal(Signal::AttachMethod { method, position })) => {
                self.attach(cx, &method, position).await
            }
            (State::Ready, Event::Signal(Signal::OrderMethods { methods })) => {
                order(cx, &methods).await
            }
            (State::Ready, Event::Signal(Signal::RemoveMethod { method })) => {
                self.remove(cx, &method).await
            }
            (State::Ready, Event::Signal(Signal::ZoneMoved)) => zone_moved(cx).await,
            (State::Ready, Event::Deadline(name)) if name == CARD_EXPIRING => {
                card_expiring(cx).await
            }
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

// Steps.

const READ_PROFILE: &str = "read-profile";
const CREATE_CLOCK: &str = "create-clock";
const CREATE_CUSTOMER: &str = "create-customer";
const STORE_CUSTOMER: &str = "store-customer";
const READ_CUSTOMER: &str = "read-customer";
const ATTACH_METHOD: &str = "attach-method";
const STORE_METHOD: &str = "store-method";
const STORE_ORDER: &str = "store-order";
const DETACH_METHOD: &str = "detach-method";
const READ_DEBTS: &str = "read-debts";
const PLAN_CARD_NOTICE: &str = "plan-card-notice";
const READ_METHOD: &str = "read-method";

/// When the tenant is told that its card expires.
const CARD_EXPIRING: &str = "card-expiring";

impl TenantWorkflow {
    async fn provision(&self, cx: &Context) -> Result<Transition<Self>, StepError> {
        let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
        let profile: Profile = cx
            .transact(READ_PROFILE, async |tx| {
                Ok(store::find_profile(tx, tenant).await?)
            })
            .await?;
        let stripe = self.environment.stripe();
        let tenant_name = tenant.to_string();
        let clock: Option<String> = if profile.clocked {
            let now = cx.now();
            let made = cx
                .step(
                    CREATE_CLOCK,
                    &RetryPolicy::DEFAULT.on(STRIPE),
                    async |step| stripe.create_clock(&tenant_name, now, &step.key).await,
                )
                .await?;
            Some(made)
        } else {
            None
        };
        let clock = clock.as_deref();
        let customer: String = cx
            .step(
                CREATE_CUSTOMER,
                &RetryPolicy::DEFAULT.on(STRIPE),
                async |step| {
                    let Profile { name, email, .. } = &profile;
                    stripe
                        .create_customer(&tenant_name, name, email, clock, &step.key)
                        .await
                },
            )
            .await?;
        cx.transact(STORE_CUSTOMER, async |tx| {
            Ok(store::insert_customer(tx, tenant, shard, &customer, clock).await?)
        })
        .await?;
        Ok(Transition::go(State::Ready))
    }

    async fn attach(
        &self,
        cx: &Context,
        method: &str,
        position: Option<u32>,
    ) -> Result<Transition<Self>, StepError> {
        let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
        let customer: String = cx
            .transact(READ_CUSTOMER, async |tx| {
                let customer = store::find_customer(tx, tenant, shard).await?;
                customer
                    .map(|customer| customer.provider_customer_id)
                    .ok_or_else(|| StepError::terminal("no_customer", "not provisioned"))
            })
            .await?;
        let attached: Result<Method, String> = cx
            .step(
                ATTACH_METHOD,
                &RetryPolicy::DEFAULT.on(STRIPE),
                async |step| {
                    let stripe = self.environment.stripe();
                    stripe.attach_method(&customer, method, &step.key).await
                },
            )
            .await?;
        let debts: Vec<String> = cx
            .transact(STORE_METHOD, async |tx| match &attached {
                Ok(method) => {
                    let order = store::lock_methods(tx, tenant, shard).await?;
                    store::put_method(tx, tenant, shard, method).await?;
                    let order = methods::place(&order, &method.id, position);
                    store::apply_order(tx, tenant, shard, &order).await?;
                    Ok(store::list_debts(tx, tenant, shard).await?)
                }
                Err(error) => {
                    store::apply_method_error(tx, tenant, shard, error).await?;
                    Ok(Vec::new())
                }
            })
            .await?;
        let Ok(method) = attached else {
            return Ok(Transition::stay(State::Ready));
        };
        // The same method again is news: there may be money on it now. What is given for when the
        // first is refused is tried only then.
        let news = if position.is_none_or(|position| position <= 1) {
            dunning::Signal::MethodChanged
        } else {
            dunning::Signal::Reevaluate
        };
        let signal_id = format!("method:{}:{}", method.id, cx.uuid());
        let transition = tell_debts(debts, &signal_id, &news);
        plan_card_notice(cx, transition).await
    }

    /// Forgets a method, here and at the provider. An attempt that is on its way with it is refused
    /// there, and so goes to the next one.
    async fn remove(&self, cx: &Context, method: &str) -> Result<Transition<Self>, StepError> {
        let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
        let debts: Vec<String> = cx
            .transact(STORE_ORDER, async |tx| {
                let mut order = store::lock_methods(tx, tenant, shard).await?;
                order.retain(|known| known != method);
                store::apply_order(tx, tenant, shard, &order).await?;
                Ok(store::list_debts(tx, tenant, shard).await?)
            })
            .await?;
        let policy = RetryPolicy::DEFAULT.on(STRIPE);
        cx.step(DETACH_METHOD, &policy, async |_| {
            self.environment.stripe().detach_method(method).await
        })
        .await?;
        let signal_id = format!("removed:{method}:{}", cx.uuid());
        let transition = tell_debts(debts, &signal_id, &dunning::Signal::Reevaluate);
        plan_card_notice(cx, transition).await
    }
}

/// Puts the methods into another order. Another first one is tried at once where something is owed.
async fn order(cx: &Context, wanted: &[String]) -> Result<Transition<TenantWorkflow>, StepError> {
    let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
    let (first_changed, debts): (bool, Vec<String>) = cx
        .transact(STORE_ORDER, async |tx| {
            let before = store::lock_methods(tx, tenant, shard).await?;
            let after = methods::reorder(&before, wanted);
            store::apply_order(tx, tenant, shard, &after).await?;
            let debts = store::list_debts(tx, tenant, shard).await?;
            Ok((before.first() != after.first(), debts))
        })
        .await?;
    let news = if first_changed {
        dunning::Signal::MethodChanged
    } else {
        dunning::Signal::Reevaluate
    };
    let transition = tell_debts(debts, &format!("order:{}", cx.uuid()), &news);
    plan_card_notice(cx, transition).await
}

/// Its days begin elsewhere: what comes at a local hour is planned anew.
async fn zone_moved(cx: &Context) -> Result<Transition<TenantWorkflow>, StepError> {
    let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
    let debts: Vec<String> = cx
        .transact(READ_DEBTS, async |tx| {
            Ok(store::list_debts(tx, tenant, shard).await?)
        })
        .await?;
    let signal_id = format!("zone:{}", cx.uuid());
    let transition = tell_debts(debts, &signal_id, &dunning::Signal::Reevaluate);
    plan_card_notice(cx, transition).await
}

/// Dunning hears of it in each currency in which something is owed.
fn tell_debts(
    debts: Vec<String>,
    signal_id: &str,
    news: &dunning::Signal,
) -> Transition<TenantWorkflow> {
    let stays = Transition::stay(State::Ready);
    debts.into_iter().fold(stays, |transition, currency| {
        transition.signal_key::<dunning::DunningWorkflow>(currency, signal_id.to_owned(), news)
    })
}

/// Sets when the tenant is to be told that the card which is charged first expires; never for what
/// does not.
async fn plan_card_notice(
    cx: &Context,
    transition: Transition<TenantWorkflow>,
) -> Result<Transition<TenantWorkflow>, StepError> {
    Ok(match card_notice_at(cx).await? {
        Some(at) => transition.at(CARD_EXPIRING, at),
        None => transition.clear(CARD_EXPIRING),
    })
}

async fn card_notice_at(cx: &Context) -> Result<Option<DateTime<Utc>>, StepError> {
    let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
    cx.transact(PLAN_CARD_NOTICE, async |tx| {
        let now = tenure_engine::tenant::now(tx, tenant).await?;
        let customer = store::find_customer(tx, tenant, shard).await?;
        let method = customer.and_then(|customer| customer.method);
        let Some(expires_on) = method.and_then(|method| method.expires_on) else {
            return Ok(None);
        };
        let profile = store::find_profile(tx, tenant).await?;
        let zone = calendar::zone(&profile.zone).terminal("unknown_zone")?;
        let end = calendar::start_of_day(calendar::add_days(expires_on, 1), zone);
        // Which policy counts may change until then: it is asked on the first day that any can name.
        let first = notice::rules::ahead_of(end, MAX_CARD_EXPIRING_DAYS, zone);
        if first.is_some_and(|first| first > now) {
            return Ok(first);
        }
        let of = subscription::store::find_oldest(tx, tenant, shard).await?;
        let chosen = dunning::store::find_policy_for(tx, tenant, shard, of).await?;
        let days = chosen.policy.notices.card_expiring_days;
        Ok((days > 0)
            .then(|| notice::rules::ahead_of(end, days, zone))
            .flatten())
    })
    .await
}

/// The card that is charged expires soon, or it is time to ask the policy when that is to be told.
async fn card_expiring(cx: &Context) -> Result<Transition<TenantWorkflow>, StepError> {
    let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
    let method: Option<Method> = cx
        .transact(READ_METHOD, async |tx| {
            let customer = store::find_customer(tx, tenant, shard).await?;
            Ok(customer.and_then(|customer| customer.method))
        })
        .await?;
    let transition = Transition::stay(State::Ready);
    match card_notice_at(cx).await? {
        None => return Ok(transition),
        Some(at) if at > cx.now() => return Ok(transition.at(CARD_EXPIRING, at)),
        Some(_) => {}
    }
    let Some((method, expires_on)) = method.and_then(|method| {
        let expires_on = method.expires_on?;
        Some((method, expires_on))
    }) else {
        return Ok(transition);
    };
    let key = format!("card-expiring/{}/{expires_on}", method.id);
    let mail = notice::Input::CardExpiring {
        method_id: method.id,
        brand: method.brand,
        last4: method.last4,
        expires_on,
    };
    Ok(transition.launch::<NoticeWorkflow>(key, &mail))
}
