//! A payment: one attempt at an invoice, charged once.
//!
//! # Charging once
//!
//! The intent is written before the charge is sent, and the idempotency key is (invoice,
//! generation), whichever run or operator sends it. Providers forget keys: a charge that may have
//! been sent before is therefore looked up by its metadata first, and only sent when there is none.
//!
//! # When the provider cannot be asked
//!
//! That is no decline: nothing is known of the card. The same attempt is made again, under the same
//! key, on a ladder of its own (Kill Bill's: five minutes, doubling, eight times), and dunning hears
//! nothing of it. Only then does a person have to look.
//!
//! # When it is too small
//!
//! A provider takes no charge below a minimum that it alone knows. That is no decline either: nothing
//! was asked of the customer, so nobody is dunned or mailed and the method is as good as before. The
//! invoice carries the rest over ([`invoice`]). So it does with thousandths that a provider does not take:
//! the attempt charges what can be charged.
//!
//! # When it is too large
//!
//! A provider takes no charge above a maximum either, by no method. There is nothing that the customer
//! could do: it is a decline of a class of its own, after which dunning waits for an operator.
//!
//! # When somebody else takes too long
//!
//! A customer who does not confirm, or a bank that does not settle, has a limit (the policy's
//! `waiting`). Then the attempt is cancelled at the provider and counts as failed. A bank debit that
//! can no longer be cancelled is handed to a [`charge`] run, which hears what becomes
//! of it: late money is credit.

pub mod rules;
pub(crate) mod store;

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::{
    Context, Event, Exhausted, Limit, Need, Rate, Reception, ResultExt as _, RetryPolicy, ShardId,
    StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use crate::calendar;
use crate::charge::{self, ChargeWorkflow};
use crate::dunning::policy::Gateway;
use crate::dunning::{self, DunningWorkflow};
use crate::environment::Environment;
use crate::invoice;
use crate::money::Money;
use crate::notice::{self, NoticeWorkflow};
use crate::ports::stripe::{Cancelled, Charge, Charged, STRIPE, may_pass, smallest_part};
use crate::tenant::{self, methods};
use rules::{DeclineClass, NOT_CONFIRMED, NOT_SETTLED, classify};

/// The key of the run that makes an attempt.
#[must_use]
pub fn key(invoice: Uuid, generation: i32) -> String {
    format!("{invoice}/{generation}")
}

// Input.

/// Which attempt at which invoice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// The invoice.
    pub invoice_id: Uuid,
    /// Counts attempts from 1.
    pub generation: i32,
}

// States and signals.

/// Where an attempt is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// About to be charged.
    Charging {
        /// Which attempt.
        of: Input,
        /// How often the provider could not be asked before.
        #[serde(default)]
        waits: u32,
    },
    /// The provider could not be asked; the same attempt is made again.
    Unreachable {
        /// Which attempt.
        of: Input,
        /// How often it could not be asked.
        waits: u32,
        /// In how many minutes it is asked again.
        minutes: u32,
    },
    /// The provider waits for the customer or for the bank.
    Pending {
        /// Which attempt.
        of: Input,
        /// The provider's id of the charge.
        intent: String,
        /// For whom, and until when; not known of runs that version 2 left here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait: Option<Wait>,
    },
}

/// What a pending attempt waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// For whom.
    pub whom: Whom,
    /// Until when.
    pub until: DateTime<Utc>,
}

/// For whom an attempt waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// The customer confirms (3-D Secure).
    Customer,
    /// The bank settles.
    Bank,
}

/// What an attempt may be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// The provider says that something happened to the charge: fetch it.
    ProviderEvent {
        /// The provider's name for it.
        kind: String,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Paid.
    Succeeded,
    /// Refused.
    Declined {
        /// In the provider's word.
        code: String,
        /// What a retry could change.
        class: DeclineClass,
    },
    /// The provider takes no charge so small: nothing was asked of the customer.
    TooSmall,
}

/// The workflow.
pub struct PaymentWorkflow {
    environment: Environment,
}

impl PaymentWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

const LOOK: &str = "look";
const ASK_AGAIN: &str = "ask-again";
const GIVE_UP: &str = "give-up";

impl Whom {
    /// Webhooks can be lost: the charge is looked at this often anyway. Banks take days.
    const fn look_every(self) -> Duration {
        match self {
            Self::Customer => Duration::from_secs(3600),
            Self::Bank => Duration::from_secs(6 * 3600),
        }
    }
}

/// Charges are retried for some minutes; after that the policy's gateway ladder follows, and at its
/// end a person.
const CHARGE_POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 12,
    dependency: Some(STRIPE),
    ..RetryPolicy::DEFAULT
};

/// Stripe allows 100 writing requests a second to a live account (docs.stripe.com/rate-limits); some
/// are left for the customers' own doings.
const CHARGES: Limit = Limit::named("stripe-charges").rate(Rate::per_second(80));

// Handle.

impl Workflow for PaymentWorkflow {
    const NAME: &'static str = "payment";
    const VERSION: i32 = 3;
    const QUEUE: &'static str = "payments";
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Output;
    const LIMITS: &'static [Limit] = &[CHARGES];

    fn start(&self, of: Input) -> State {
        State::Charging { of, waits: 0 }
    }

    /// Version 1 did not wait for a provider that could not be asked; version 2 waited without a limit,
    /// and finds its limit at the next look.
    fn migrate(&self, _from_version: i32, state: Value) -> Result<Value, String> {
        Ok(state)
    }

    fn needs(&self, state: &State) -> Vec<Need> {
        match state {
            State::Charging { .. } => vec![CHARGES.shared()],
            State::Unreachable { .. } | State::Pending { .. } => Vec::new(),
        }
    }

    fn receive(&self, state: &State, _signal: &Signal) -> Reception {
        match state {
            State::Charging { .. } | State::Unreachable { .. } => Reception::Defer,
            State::Pending { .. } => Reception::Accept,
        }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Charging { of, waits }, Event::Entered) => self.charge(cx, of, waits).await,
            (state @ State::Unreachable { minutes, .. }, Event::Entered) => {
                let wait = Duration::from_secs(60 * u64::from(minutes));
                Ok(Transition::stay(state).after(ASK_AGAIN, wait))
            }
            (State::Unreachable { of, waits, .. }, Event::Deadline(_)) => {
                Ok(Transition::go(State::Charging { of, waits }))
            }
            (state @ State::Pending { wait, .. }, Event::Entered) => {
                let whom = wait.map_or(Whom::Customer, |wait| wait.whom);
                let stays = Transition::stay(state).after(LOOK, whom.look_every());
                Ok(match wait {
                    Some(wait) => stays.at(GIVE_UP, wait.until),
                    None => stays,
                })
            }
            (State::Pending { of, intent, wait }, Event::Deadline(name)) if name == GIVE_UP => {
                self.give_up(cx, of, &intent, wait).await
            }
            (State::Pending { of, intent, wait }, Event::Signal(_) | Event::Deadline(_)) => {
                let charged = self.fetch(cx, &intent).await?;
                settle(cx, of, charged, wait).await
            }
            (
                state,
                Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline
                | Event::CancelRequested,
            ) => Ok(Transition::stay(state)),
        }
    }
}

// Steps.

const WRITE_INTENT: &str = "write-intent";
const CHARGE: &str = "charge";
const FETCH_CHARGE: &str = "fetch-charge";
const CANCEL_CHARGE: &str = "cancel-charge";
const STORE_OUTCOME: &str = "store-outcome";
const READ_CURRENCY: &str = "read-currency";

/// What is charged, as it stood when the intent was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Intent {
    customer: String,
    method: Option<String>,
    money: Money,
    /// Nobody had written it down before, so nobody can have sent it.
    first: bool,
    /// How long the provider is asked again when it cannot be reached.
    #[serde(default)]
    gateway: Gateway,
}

impl PaymentWorkflow {
    async fn charge(
        &self,
        cx: &Context,
        of: Input,
        waits: u32,
    ) -> Result<Transition<Self>, StepError> {
        let intent = write_intent(cx, &of).await?;
        if intent.money.is_zero() {
            // A credit note came in between: nothing is owed any more.
            return Ok(Transition::complete(Output::Succeeded));
        }
        let gateway = intent.gateway;
        let last = waits >= gateway.attempts;
        let charged = self.send(cx, &of, intent, last).await;
        match charged {
            Err(error) if may_pass(&error) => {
                let minutes = ask_again_in(&gateway, waits);
                let waits = waits + 1;
                Ok(Transition::go(State::Unreachable { of, waits, minutes }))
            }
            charged => settle(cx, of, charged?, None).await,
        }
    }

    /// Sends the charge, unless it is found to have been sent. An error comes back when the provider
    /// could not be asked and this was not the last time.
    async fn send(
        &self,
        cx: &Context,
        of: &Input,
        intent: Intent,
        last: bool,
    ) -> Result<Charged, StepError> {
        if intent.money.amount() < smallest_part(intent.money.currency()) {
            // There is no such charge, whatever the provider's minimum is.
            return Ok(Charged::TooSmall);
        }
        let Some(method) = intent.method else {
            return Ok(Charged::Declined {
                intent: None,
                code: "no_payment_method".to_owned(),
                advice: None,
            });
        };
        let charge = Charge {
            customer: intent.customer,
            method,
            money: intent.money,
            key: format!("invoice-{}-{}", of.invoice_id, of.generation),
            metadata: HashMap::from([
                ("tenant".to_owned(), cx.tenant_id().to_string()),
                ("run".to_owned(), cx.run_id().to_string()),
                ("invoice".to_owned(), of.invoice_id.to_string()),
                ("generation".to_owned(), of.generation.to_string()),
            ]),
        };
        let policy = RetryPolicy {
            exhausted: if last {
                Exhausted::Stuck
            } else {
                Exhausted::Return
            },
            ..CHARGE_POLICY
        };
        cx.step(CHARGE, &policy, async |step| {
            let stripe = self.environment.stripe();
            // A repeat, another visit or another run may have sent it; the provider may have
            // forgotten the key by now.
            if (step.repeated || !intent.first)
                && let Some(known) = stripe.find_charge(&charge).await?
            {
                return Ok(known);
            }
            stripe.charge(&charge).await
        })
        .await
    }

    /// The time is over: the attempt is cancelled at the provider, unless it has an end meanwhile, and
    /// counts as failed.
    async fn give_up(
        &self,
        cx: &Context,
        of: Input,
        intent: &str,
        wait: Option<Wait>,
    ) -> Result<Transition<Self>, StepError> {
        let policy = RetryPolicy::DEFAULT.on(STRIPE);
        let cancelled: Cancelled = cx
            .step(CANCEL_CHARGE, &policy, async |_| {
                self.environment.stripe().cancel_charge(intent).await
            })
            .await?;
        let bank = wait.is_some_and(|wait| wait.whom == Whom::Bank);
        let code = if bank { NOT_SETTLED } else { NOT_CONFIRMED };
        let too_late = Charged::Declined {
            intent: Some(intent.to_owned()),
            code: code.to_owned(),
            advice: None,
        };
        match cancelled {
            Cancelled::Done => settle(cx, of, too_late, wait).await,
            Cancelled::Ended(charged) => settle(cx, of, charged, wait).await,
            Cancelled::Refused => {
                let key = key(of.invoice_id, of.generation);
                let watched = charge::Input {
                    invoice_id: of.invoice_id,
                    generation: of.generation,
                };
                let failed = settle(cx, of, too_late, wait).await?;
                Ok(failed.launch::<ChargeWorkflow>(key, &watched))
            }
        }
    }

    async fn fetch(&self, cx: &Context, intent: &str) -> Result<Charged, StepError> {
        cx.step(FETCH_CHARGE, &RetryPolicy::DEFAULT.on(STRIPE), async |_| {
            self.environment.stripe().fetch_charge(intent).await
        })
        .await
    }
}

async fn write_intent(cx: &Context, of: &Input) -> Result<Intent, StepError> {
    let (tenant_id, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
    cx.transact(WRITE_INTENT, async |tx| {
        let customer = tenant::store::find_customer(tx, tenant_id, shard).await?;
        // The tenant is being provisioned still: try again shortly.
        let customer = customer.ok_or_else(|| {
            StepError::retryable("no_customer", "the tenant is not provisioned yet")
        })?;
        let rows = invoice::store::list(tx, tenant_id, shard, Some(of.invoice_id)).await?;
        let invoice = rows.into_iter().next();
        let invoice = invoice.ok_or_else(|| StepError::terminal("no_invoice", of.invoice_id))?;
        let finals = DeclineClass::finals();
        let methods =
            tenant::store::list_methods(tx, tenant_id, shard, Some(of.invoice_id), &finals).await?;
        let profile = tenant::store::find_profile(tx, tenant_id).await?;
        let zone = calendar::zone(&profile.zone).terminal("unknown_zone")?;
        let chosen = methods::choose(&methods, calendar::local_day(now, zone));
        let attempt = store::NewAttempt {
            invoice: of.invoice_id,
            generation: of.generation,
            method: chosen.map(|chosen| chosen.offered),
            part: smallest_part(invoice.total.currency()),
        };
        let first = store::insert(tx, tenant_id, shard, &attempt, now).await?;
        // What was written first holds, whatever is charged by now: under the same key the provider
        // takes nothing but the same charge.
        let (amount, method) = store::find(tx, of.invoice_id, of.generation, shard).await?;
        let of = Some(invoice.subscription_id);
        let chosen = dunning::store::find_policy_for(tx, tenant_id, shard, of).await?;
        Ok(Intent {
            customer: customer.provider_customer_id,
            method,
            money: Money::new(amount, invoice.total.currency()),
            first,
            gateway: chosen.policy.ladders.gateway,
        })
    })
    .await
}

/// Records how the charge stands, and ends or waits.
async fn settle(
    cx: &Context,
    of: Input,
    charged: Charged,
    wait: Option<Wait>,
) -> Result<Transition<PaymentWorkflow>, StepError> {
    let now: DateTime<Utc> = cx.now();
    let class = match &charged {
        Charged::Declined { code, advice, .. } => Some(classify(code, advice.as_deref())),
        _ => None,
    };
    let whom = whom(&charged);
    let known = wait.filter(|wait| Some(wait.whom) == whom);
    let outcome = outcome(&charged, class, now);
    let (tenant, shard) = (cx.tenant_id(), cx.shard_id());
    // Version 2 answered nothing here.
    let until: Option<DateTime<Utc>> = cx
        .transact(STORE_OUTCOME, async |tx| {
            store::apply(tx, of.invoice_id, of.generation, shard, outcome).await?;
            match (known, whom) {
                (Some(wait), _) => Ok(Some(wait.until)),
                (None, Some(whom)) => Ok(Some(limit(tx, tenant, shard, &of, whom, now).await?)),
                (None, None) => Ok(None),
            }
        })
        .await?;
    let wait = whom.zip(until).map(|(whom, until)| Wait { whom, until });
    // What was declined before is dunning's: it stands still from now on.
    let owed = if known.is_none() && wait.is_some() && of.generation > 1 {
        Some(read_currency(cx, &of).await?)
    } else {
        None
    };
    let key = key(of.invoice_id, of.generation);
    let transition = match charged {
        Charged::Succeeded { .. } => Transition::complete(Output::Succeeded),
        Charged::Declined { code, .. } => {
            let class = class.unwrap_or(DeclineClass::Soft);
            Transition::complete(Output::Declined { code, class })
        }
        Charged::RequiresAction { intent, link } => {
            let (invoice_id, generation) = (of.invoice_id, of.generation);
            let mail = notice::Input::ActionNeeded { invoice_id, link };
            let key = format!("action-needed/{invoice_id}/{generation}");
            Transition::go(State::Pending { of, intent, wait }).launch::<NoticeWorkflow>(key, &mail)
        }
        Charged::Processing { intent } => Transition::go(State::Pending { of, intent, wait }),
        Charged::TooSmall => Transition::complete(Output::TooSmall),
    };
    Ok(match owed {
        Some(currency) => transition.signal_key::<DunningWorkflow>(
            currency,
            format!("waits:{key}:{}", cx.uuid()),
            &dunning::Signal::Reevaluate,
        ),
        None => transition,
    })
}

async fn read_currency(cx: &Context, of: &Input) -> Result<String, StepError> {
    let (tenant, shard, id) = (cx.tenant_id(), cx.shard_id(), of.invoice_id);
    cx.transact(READ_CURRENCY, async |tx| {
        let rows = invoice::store::list(tx, tenant, shard, Some(id)).await?;
        let row = rows.into_iter().next();
        let row = row.ok_or_else(|| StepError::terminal("no_invoice", id))?;
        Ok(row.total.currency().to_string())
    })
    .await
}

/// Until when an attempt may wait, by the policy that its subscription goes by.
async fn limit(
    tx: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    of: &Input,
    whom: Whom,
    now: DateTime<Utc>,
) -> sqlx::Result<DateTime<Utc>> {
    let subscription = invoice::store::find_subscription(tx, of.invoice_id, shard).await?;
    let chosen = dunning::store::find_policy_for(tx, tenant, shard, subscription).await?;
    let waiting = &chosen.policy.waiting;
    Ok(match whom {
        Whom::Customer => now + TimeDelta::hours(i64::from(waiting.action_hours)),
        Whom::Bank => {
            let rail = store::find_rail(tx, of.invoice_id, of.generation, shard).await?;
            let days = waiting.days_of(rail.as_deref());
            now + TimeDelta::days(i64::from(days))
        }
    })
}

// Rules.

/// For whom a charge waits, if it does.
const fn whom(charged: &Charged) -> Option<Whom> {
    match charged {
        Charged::RequiresAction { .. } => Some(Whom::Customer),
        Charged::Processing { .. } => Some(Whom::Bank),
        Charged::Succeeded { .. } | Charged::Declined { .. } | Charged::TooSmall => None,
    }
}

/// In how many minutes a provider is asked again that could not be asked `waits` times before.
fn ask_again_in(gateway: &Gateway, waits: u32) -> u32 {
    let doubled = 2_u32.saturating_pow(waits);
    gateway
        .first_minutes
        .saturating_mul(doubled)
        .min(gateway.cap_minutes)
}

fn outcome<'a>(
    charged: &'a Charged,
    class: Option<DeclineClass>,
    now: DateTime<Utc>,
) -> store::Outcome<'a> {
    let (status, intent) = match charged {
        Charged::Succeeded { intent } => ("succeeded", Some(intent.as_str())),
        Charged::Declined { intent, .. } => ("declined", intent.as_deref()),
        Charged::RequiresAction { intent, .. } => ("requires_action", Some(intent.as_str())),
        Charged::Processing { intent } => ("processing", Some(intent.as_str())),
        Charged::TooSmall => ("too_small", None),
    };
    let decline = match (charged, class) {
        (Charged::Declined { code, .. }, Some(class)) => Some((code.as_str(), class.word())),
        _ => None,
    };
    store::Outcome {
        status,
        intent,
        decline,
        settled_at: matches!(status, "succeeded" | "declined" | "too_small").then_some(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_provider_is_asked_again_at_doubling_intervals_up_to_a_cap() {
        let mut gateway = Gateway::default();
        let waits = |gateway: &Gateway| -> Vec<u32> {
            (0..8).map(|waits| ask_again_in(gateway, waits)).collect()
        };
        assert_eq!(waits(&gateway), [5, 10, 20, 40, 80, 160, 320, 640]);
        gateway.cap_minutes = 60;
        assert_eq!(waits(&gateway), [5, 10, 20, 40, 60, 60, 60, 60]);
        assert_eq!(ask_again_in(&gateway, u32::MAX), 60);
    }
}
