//! Stripe, through `async-stripe`: customers, payment methods, charges, look-ups; refunds, disputes
//! and the list of events are in files of their own.
//!
//! A refusal is an answer; only what may pass (a broken connection, a 5xx, a key in use) is a
//! retryable error. Requests carry our own idempotency keys; the crate never retries by itself.
//! Errors are told by code and status: their full text holds customers' data.

mod dispute;
mod event;
mod refund;

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Days, Months, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use stripe::{Client, ClientBuilder, IdempotencyKey, RequestStrategy, StripeError, StripeRequest};
use stripe_billing::test_helpers_test_clock::{
    AdvanceTestHelpersTestClock, CreateTestHelpersTestClock, RetrieveTestHelpersTestClock,
};
use stripe_core::customer::{
    CreateCustomer, DeleteCustomer, UpdateCustomer, UpdateCustomerInvoiceSettings,
};
use stripe_core::payment_intent::{
    CancelPaymentIntent, CreatePaymentIntent, CreatePaymentIntentOffSession, ListPaymentIntent,
    RetrievePaymentIntent,
};
use stripe_payment::payment_method::{AttachPaymentMethod, DetachPaymentMethod};
use stripe_shared::{
    ApiErrors, ApiErrorsCode, ApiErrorsType, PaymentIntent, PaymentIntentStatus, PaymentMethod,
    TestHelpersTestClock, TestHelpersTestClockStatus,
};
use tenure_engine::StepError;

use crate::money::{Currency, Money};

pub use dispute::{Disputed, Standing};
pub use event::{EventPage, EventQuery, EventsFrom, ListedEvent};
pub use refund::{CREDIT_NOTE, RefundOrder, Refunded};

/// What steps call the provider as a dependency: when it keeps failing, all of them wait.
pub const STRIPE: &str = "stripe";
/// Our own word: the provider does not know the method any more, or nobody has it.
pub const METHOD_GONE: &str = "payment_method_gone";
/// Stripe's word, also for methods of which it says so in the words of a malformed request.
pub const CURRENCY_NOT_SUPPORTED: &str = "currency_not_supported";
/// Stripe's word for more than it charges at once in a currency.
pub const AMOUNT_TOO_LARGE: &str = "amount_too_large";
/// Stripe's word for an amount that the currency does not have.
pub const INVALID_CHARGE_AMOUNT: &str = "invalid_charge_amount";
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How many of a customer's latest charges a look-up reads.
const LOOK_UP: i64 = 100;

/// The adapter.
#[derive(Clone)]
pub struct Stripe {
    client: Client,
}

/// A payment method as the customer knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// Stripe's id.
    pub id: String,
    /// Such as visa.
    pub brand: String,
    /// The last four digits.
    pub last4: String,
    /// A card's last day: the last one of the month that it bears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_on: Option<NaiveDate>,
}

/// What is to be charged, and for what.
#[derive(Debug, Clone)]
pub struct Charge {
    /// Stripe's id of the customer.
    pub customer: String,
    /// Stripe's id of the method.
    pub method: String,
    /// How much.
    pub money: Money,
    /// The idempotency key: the same for every try of the same attempt.
    pub key: String,
    /// What finds the charge again: tenant, run, invoice, generation.
    pub metadata: HashMap<String, String>,
}

/// What came of a charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charged {
    /// Paid.
    Succeeded {
        /// Stripe's id of the payment intent.
        intent: String,
    },
    /// Refused.
    Declined {
        /// Stripe's id of the payment intent, when one was made.
        intent: Option<String>,
        /// The decline code, or the error's code.
        code: String,
        /// What Stripe advises, if it does.
        advice: Option<String>,
    },
    /// The customer must act (3-D Secure).
    RequiresAction {
        /// Stripe's id of the payment intent.
        intent: String,
        /// Where the customer acts, if Stripe names a page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<String>,
    },
    /// Under way at an asynchronous rail.
    Processing {
        /// Stripe's id of the payment intent.
        intent: String,
    },
    /// Below what Stripe charges in that currency, or in the one that it pays out in: nothing was made.
    TooSmall,
}

/// What came of taking a charge back before it has an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// Nothing will be taken any more.
    Done,
    /// It had an end already.
    Ended(Charged),
    /// The bank has it: it may still be taken.
    Refused,
}

/// How a test clock of the provider's stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderClock {
    /// Its time, in whole seconds since the Unix epoch.
    pub seconds: i64,
    /// It has arrived, and in the sandbox all webhooks of its customers are delivered.
    pub ready: bool,
}

impl Stripe {
    /// An adapter for the API at `url` (ending in `/`) under `secret`.
    ///
    /// # Errors
    /// When the address or the key is malformed.
    pub fn new(url: &str, secret: &str) -> Result<Self, String> {
        let client = ClientBuilder::new(secret)
            .url(url)
            .timeout(TIMEOUT)
            .request_strategy(RequestStrategy::Once)
            .build()
            .map_err(|error| describe(&error))?;
        Ok(Self { client })
    }

    /// Creates a test clock that stands at `now`; returns its id. Only Stripe's test mode has them.
    ///
    /// # Errors
    /// Retryable unless Stripe refuses the request for good.
    pub async fn create_clock(
        &self,
        name: &str,
        now: DateTime<Utc>,
        key: &str,
    ) -> Result<String, StepError> {
        let clock = CreateTestHelpersTestClock::new(now.timestamp())
            .name(name)
            .customize()
            .request_strategy(strategy(key)?)
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        Ok(clock.id.to_string())
    }

    /// How a test clock stands.
    ///
    /// # Errors
    /// Retryable unless Stripe does not know the clock.
    pub async fn find_clock(&self, clock: &str) -> Result<ProviderClock, StepError> {
        let clock = RetrieveTestHelpersTestClock::new(clock)
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        Ok(read_clock(&clock))
    }

    /// Moves a test clock forward. Stripe may take a while: see [`ProviderClock::ready`].
    ///
    /// # Errors
    /// Retryable unless Stripe refuses the request for good.
    pub async fn advance_clock(
        &self,
        clock: &str,
        to: DateTime<Utc>,
    ) -> Result<ProviderClock, StepError> {
        let clock = AdvanceTestHelpersTestClock::new(clock, to.timestamp())
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        Ok(read_clock(&clock))
    }

    /// Creates the tenant's customer, living by `clock` if one is given; returns its id.
    ///
    /// # Errors
    /// Retryable unless Stripe refuses the request for good.
    pub async fn create_customer(
        &self,
        tenant: &str,
        name: &str,
        email: &str,
        clock: Option<&str>,
        key: &str,
    ) -> Result<String, StepError> {
        let mut create = CreateCustomer::new()
            .name(name)
            .email(email)
            .metadata(HashMap::from([("tenant".to_owned(), tenant.to_owned())]));
        if let Some(clock) = clock {
            create = create.test_clock(clock);
        }
        let customer = create
            .customize()
            .request_strategy(strategy(key)?)
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        Ok(customer.id.to_string())
    }

    /// Deletes a customer with its payment methods; what Stripe says of it. One that is gone already
    /// is as wanted.
    ///
    /// # Errors
    /// Retryable unless Stripe refuses the request for good.
    pub async fn delete_customer(&self, customer: &str) -> Result<String, StepError> {
        match DeleteCustomer::new(customer).send(&self.client).await {
            Ok(_) => Ok("deleted".to_owned()),
            Err(StripeError::Stripe(_, 404)) => Ok("no such customer".to_owned()),
            Err(error) => Err(failure(&error)),
        }
    }

    /// Attaches a method to a customer and makes it the default. `Err` inside is a refusal.
    ///
    /// # Errors
    /// Retryable unless Stripe refuses the request for good.
    pub async fn attach_method(
        &self,
        customer: &str,
        method: &str,
        key: &str,
    ) -> Result<Result<Method, String>, StepError> {
        let attached = AttachPaymentMethod::new(method)
            .customer(customer)
            .customize()
            .request_strategy(strategy(key)?)
            .send(&self.client)
            .await;
        let attached = match attached {
            Ok(attached) => attached,
            Err(StripeError::Stripe(error, 400..=404)) => {
                let code = error.decline_code.clone();
                let code =
                    code.or_else(|| error.code.as_ref().map(|code| code.as_str().to_owned()));
                return Ok(Err(code.unwrap_or_else(|| "refused".to_owned())));
            }
            Err(error) => return Err(failure(&error)),
        };
        let method = describe_method(&attached);
        let mut settings = UpdateCustomerInvoiceSettings::new();
        settings.default_payment_method = Some(method.id.clone());
        UpdateCustomer::new(customer)
            .invoice_settings(settings)
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        Ok(Ok(method))
    }

    /// Takes a method from its customer; one that nobody has any more is fine.
    ///
    /// # Errors
    /// Retryable unless Stripe refuses the request for good.
    pub async fn detach_method(&self, method: &str) -> Result<(), StepError> {
        match DetachPaymentMethod::new(method).send(&self.client).await {
            Ok(_) | Err(StripeError::Stripe(_, 400 | 404)) => Ok(()),
            Err(error) => Err(failure(&error)),
        }
    }

    /// Charges without the customer present.
    ///
    /// # Errors
    /// Retryable: the outcome is not known, and the same key must be used again.
    pub async fn charge(&self, charge: &Charge) -> Result<Charged, StepError> {
        let currency = charge.money.currency();
        let amount = charge
            .money
            .minor_units()
            .ok_or_else(|| StepError::terminal("amount_out_of_range", charge.money))?;
        let currency = currency
            .code()
            .to_lowercase()
            .parse::<stripe_types::Currency>()
            .map_err(|_| StepError::terminal("unknown_currency", currency))?;
        let answer = CreatePaymentIntent::new(amount, currency)
            .customer(charge.customer.as_str())
            .payment_method(charge.method.as_str())
            .off_session(CreatePaymentIntentOffSession::Bool(true))
            .confirm(true)
            .metadata(charge.metadata.clone())
            .customize()
            .request_strategy(strategy(&charge.key)?)
            .send(&self.client)
            .await;
        match answer {
            Ok(intent) => Ok(read(&intent)),
            Err(StripeError::Stripe(error, 402)) => Ok(Charged::Declined {
                intent: error
                    .payment_intent
                    .as_ref()
                    .map(|intent| intent.id.to_string()),
                code: error
                    .decline_code
                    .clone()
                    .or_else(|| error.code.as_ref().map(|code| code.as_str().to_owned()))
                    .unwrap_or_else(|| "generic_decline".to_owned()),
                advice: error.advice_code.clone(),
            }),
            Err(StripeError::Stripe(error, 400)) if is_too_small(&error) => Ok(Charged::TooSmall),
            Err(error) => match refused_method(&error).or(refused_amount(&error)) {
                Some(code) => Ok(Charged::Declined {
                    intent: None,
                    code: code.to_owned(),
                    advice: None,
                }),
                None => Err(failure(&error)),
            },
        }
    }

    /// Looks a charge up by its metadata among the customer's latest ones. Lists rather than
    /// searches: Stripe's search lags behind writes.
    ///
    /// # Errors
    /// Retryable.
    pub async fn find_charge(&self, charge: &Charge) -> Result<Option<Charged>, StepError> {
        let list = ListPaymentIntent::new()
            .customer(charge.customer.as_str())
            .limit(LOOK_UP)
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        let same = |intent: &&PaymentIntent| {
            ["invoice", "generation"]
                .iter()
                .all(|name| intent.metadata.get(*name) == charge.metadata.get(*name))
        };
        Ok(list.data.iter().find(same).map(read))
    }

    /// Fetches a charge: webhooks only say that something happened, this says what is.
    ///
    /// # Errors
    /// Retryable unless Stripe does not know the charge.
    pub async fn fetch_charge(&self, intent: &str) -> Result<Charged, StepError> {
        let intent = RetrievePaymentIntent::new(intent)
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        Ok(read(&intent))
    }

    /// Takes a charge back that waits for somebody.
    ///
    /// # Errors
    /// Retryable unless Stripe does not know the charge.
    pub async fn cancel_charge(&self, intent: &str) -> Result<Cancelled, StepError> {
        let answer = CancelPaymentIntent::new(intent).send(&self.client).await;
        match answer {
            Ok(_) => return Ok(Cancelled::Done),
            // It is in no state to be cancelled: what state that is, is fetched.
            Err(StripeError::Stripe(_, 400)) => {}
            Err(error) => return Err(failure(&error)),
        }
        let found = RetrievePaymentIntent::new(intent)
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        Ok(match (&found.status, read(&found)) {
            // An earlier try of this has done it.
            (PaymentIntentStatus::Canceled, _) => Cancelled::Done,
            (_, Charged::Processing { .. } | Charged::RequiresAction { .. }) => Cancelled::Refused,
            (_, ended) => Cancelled::Ended(ended),
        })
    }
}

/// The smallest part of a currency that Stripe charges and gives back. Of those with thousandths it takes
/// whole hundredths only (docs.stripe.com/currencies#three-decimal).
#[must_use]
pub fn smallest_part(currency: Currency) -> Decimal {
    Decimal::new(1, currency.decimals().min(2))
}

/// What Stripe charges of what is owed: whole smallest parts. All of it where that would be nothing.
#[must_use]
pub fn chargeable(owed: Money) -> Money {
    let amount = owed.amount();
    let charged = amount - amount % smallest_part(owed.currency());
    if charged.is_zero() {
        return owed;
    }
    Money::new(charged, owed.currency())
}

fn read(intent: &PaymentIntent) -> Charged {
    let id = intent.id.to_string();
    match &intent.status {
        PaymentIntentStatus::Succeeded => Charged::Succeeded { intent: id },
        PaymentIntentStatus::Processing => Charged::Processing { intent: id },
        PaymentIntentStatus::RequiresAction | PaymentIntentStatus::RequiresConfirmation => {
            let action = intent.next_action.as_ref();
            let page = action.and_then(|action| action.redirect_to_url.as_ref());
            Charged::RequiresAction {
                intent: id,
                link: page.and_then(|page| page.url.clone()),
            }
        }
        _ => {
            let error = intent.last_payment_error.as_deref();
            let code = error.and_then(|error| {
                let code = error.code.as_ref().map(|code| code.as_str().to_owned());
                error.decline_code.clone().or(code)
            });
            Charged::Declined {
                intent: Some(id),
                code: code.unwrap_or_else(|| "canceled".to_owned()),
                advice: error.and_then(|error| error.advice_code.clone()),
            }
        }
    }
}

fn read_clock(clock: &TestHelpersTestClock) -> ProviderClock {
    ProviderClock {
        seconds: clock.frozen_time,
        ready: clock.status == TestHelpersTestClockStatus::Ready,
    }
}

fn describe_method(method: &PaymentMethod) -> Method {
    let card = method.card.as_ref();
    Method {
        id: method.id.to_string(),
        brand: card.map_or_else(|| method.type_.to_string(), |card| card.brand.clone()),
        last4: card.map_or_else(|| "----".to_owned(), |card| card.last4.clone()),
        expires_on: card.and_then(|card| last_day(card.exp_year, card.exp_month)),
    }
}

/// The last day of a month.
fn last_day(year: i64, month: i64) -> Option<NaiveDate> {
    let first = NaiveDate::from_ymd_opt(year.try_into().ok()?, month.try_into().ok()?, 1)?;
    first
        .checked_add_months(Months::new(1))?
        .checked_sub_days(Days::new(1))
}

fn strategy(key: &str) -> Result<RequestStrategy, StepError> {
    IdempotencyKey::new(key)
        .map(RequestStrategy::Idempotent)
        .map_err(|error| StepError::terminal("bad_idempotency_key", error))
}

/// Codes of errors that never get better, whoever asks how often.
const FOR_GOOD: [&str; 4] = [
    "amount_out_of_range",
    "bad_idempotency_key",
    "stripe_refused",
    "unknown_currency",
];

/// Whether an error of this port may pass, also once a step has given up on it and it comes back as
/// final.
#[must_use]
pub fn may_pass(error: &StepError) -> bool {
    !FOR_GOOD.contains(&error.code())
}

/// Whether a request was refused for its amount only, which is below what Stripe charges.
fn is_too_small(error: &ApiErrors) -> bool {
    error.code == Some(ApiErrorsCode::AmountTooSmall)
}

/// What is wrong with the method of a charge whose request was refused as malformed: a decline, in one
/// word.
fn refused_method(error: &StripeError) -> Option<&'static str> {
    let StripeError::Stripe(error, 400 | 404) = error else {
        return None;
    };
    match error.param.as_deref()? {
        // It is nobody's any more: it was taken from its customer, here or there.
        "payment_method" => Some(METHOD_GONE),
        // A bank debit takes one currency, and not this one.
        "currency" => Some(CURRENCY_NOT_SUPPORTED),
        _ => None,
    }
}

/// Stripe's word for an amount that it takes of nobody, by no method.
fn refused_amount(error: &StripeError) -> Option<&'static str> {
    let StripeError::Stripe(error, 400) = error else {
        return None;
    };
    match error.code.as_ref()? {
        ApiErrorsCode::AmountTooLarge => Some(AMOUNT_TOO_LARGE),
        ApiErrorsCode::InvalidChargeAmount => Some(INVALID_CHARGE_AMOUNT),
        _ => None,
    }
}

/// What may pass is retryable; a request that Stripe refuses as wrong never gets better.
fn failure(error: &StripeError) -> StepError {
    match error {
        StripeError::Stripe(_, 409 | 429 | 500..) => {
            StepError::retryable("stripe_unavailable", describe(error))
        }
        StripeError::Stripe(api, _) if api.type_ == ApiErrorsType::ApiError => {
            StepError::retryable("stripe_unavailable", describe(error))
        }
        StripeError::Stripe(..) => StepError::terminal("stripe_refused", describe(error)),
        _ => StepError::retryable("stripe_unreachable", describe(error)),
    }
}

/// Code and status, without the customer's data.
fn describe(error: &StripeError) -> String {
    match error {
        StripeError::Stripe(api, status) => {
            let code = api.code.as_ref().map_or("none", |code| code.as_str());
            let param = api.param.as_deref().unwrap_or("none");
            format!("HTTP {status}, code {code}, parameter {param}")
        }
        StripeError::Timeout => format!("no answer within {TIMEOUT:?}"),
        StripeError::ClientError(_) => "the connection failed".to_owned(),
        StripeError::JSONDeserialize(_) => "the answer could not be read".to_owned(),
        _ => "the request could not be made".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_thousandth_only_whole_hundredths_are_charged() {
        for (owed, currency, charged) in [
            ("12.345", "KWD", "12.340"),
            ("12.340", "KWD", "12.340"),
            ("0.010", "KWD", "0.010"),
            ("0.009", "KWD", "0.009"),
            ("12.34", "EUR", "12.34"),
            ("1234", "JPY", "1234"),
        ] {
            let money = |text: &str| Money::new(text.parse().unwrap(), currency.parse().unwrap());
            assert_eq!(chargeable(money(owed)), money(charged), "{owed} {currency}");
        }
    }
}
