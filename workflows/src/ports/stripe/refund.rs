//! Giving money back.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use stripe::{StripeError, StripeRequest as _};
use stripe_core::refund::{CreateRefund, ListRefund, RetrieveRefund};
use stripe_shared::{ApiErrors, ApiErrorsType, Refund};
use tenure_engine::StepError;

use super::{LOOK_UP, Stripe, failure, strategy};
use crate::money::Money;

/// The name in the metadata that finds a refund again.
pub const CREDIT_NOTE: &str = "credit_note";

/// What is to be given back, and for what.
#[derive(Debug, Clone)]
pub struct RefundOrder {
    /// Stripe's id of the payment intent that took the money.
    pub intent: String,
    /// How much, in the currency of the charge.
    pub money: Money,
    /// The idempotency key: the same for every try of the same refund.
    pub key: String,
    /// What finds the refund again: tenant, run, credit note.
    pub metadata: HashMap<String, String>,
}

/// What came of a refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refunded {
    /// The money has left. It may still come back: `refund.failed` tells.
    Succeeded {
        /// Stripe's id of the refund.
        refund: String,
    },
    /// The money has left our balance and is on its way; a webhook tells the end.
    Pending {
        /// Stripe's id of the refund.
        refund: String,
    },
    /// The money has come back.
    Failed {
        /// Stripe's id of the refund.
        refund: String,
        /// Why, in Stripe's word.
        reason: String,
    },
    /// Stripe gives nothing back: all or too much was given back already, a dispute withdrew it,
    /// or it was never taken.
    Refused {
        /// The error's code; `amount_too_large` where Stripe gives none.
        code: String,
    },
}

/// Codes of refusals that the caller can do something about.
const REFUSALS: [&str; 3] = [
    "charge_already_refunded",
    "charge_disputed",
    "charge_not_refundable",
];

impl Stripe {
    /// Gives back part or all of a charge.
    ///
    /// # Errors
    /// Retryable: the outcome is not known, and the same key must be used again. Terminal when
    /// Stripe refuses the request as wrong.
    pub async fn refund(&self, order: &RefundOrder) -> Result<Refunded, StepError> {
        let amount = order
            .money
            .minor_units()
            .ok_or_else(|| StepError::terminal("amount_out_of_range", order.money))?;
        let answer = CreateRefund::new()
            .payment_intent(order.intent.as_str())
            .amount(amount)
            .metadata(order.metadata.clone())
            .customize()
            .request_strategy(strategy(&order.key)?)
            .send(&self.client)
            .await;
        match answer {
            Ok(refund) => Ok(read(&refund)),
            Err(error) => match refusal(&error) {
                Some(code) => Ok(Refunded::Refused { code }),
                None => Err(failure(&error)),
            },
        }
    }
}

impl Stripe {
    /// Looks a refund up by its credit note among the charge's latest ones: it may have been sent
    /// before, and the provider may have forgotten the key by now.
    ///
    /// # Errors
    /// Retryable.
    pub async fn find_refund(&self, order: &RefundOrder) -> Result<Option<Refunded>, StepError> {
        let list = ListRefund::new()
            .payment_intent(order.intent.as_str())
            .limit(LOOK_UP)
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        let wanted = order.metadata.get(CREDIT_NOTE);
        let same = |made: &&Refund| {
            let metadata = made.metadata.as_ref();
            wanted.is_some() && metadata.and_then(|metadata| metadata.get(CREDIT_NOTE)) == wanted
        };
        Ok(list.data.iter().find(same).map(read))
    }

    /// Fetches a refund: webhooks only say that something happened, this says what is.
    ///
    /// # Errors
    /// Retryable unless Stripe does not know the refund.
    pub async fn fetch_refund(&self, refund: &str) -> Result<Refunded, StepError> {
        let refund = RetrieveRefund::new(refund)
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        Ok(read(&refund))
    }
}

fn refusal(error: &StripeError) -> Option<String> {
    let StripeError::Stripe(error, 400) = error else {
        return None;
    };
    let ApiErrors {
        type_: ApiErrorsType::InvalidRequestError,
        code,
        param,
        ..
    } = &**error
    else {
        return None;
    };
    match code.as_ref().map(|code| code.as_str()) {
        Some(code) if REFUSALS.contains(&code) => Some(code.to_owned()),
        // More than is left has no code of its own.
        None if param.as_deref() == Some("amount") => Some("amount_too_large".to_owned()),
        _ => None,
    }
}

fn read(refund: &Refund) -> Refunded {
    let id = refund.id.to_string();
    match refund.status.as_deref() {
        Some("succeeded") => Refunded::Succeeded { refund: id },
        Some("failed" | "canceled") => Refunded::Failed {
            refund: id,
            reason: refund
                .failure_reason
                .clone()
                .unwrap_or_else(|| "unknown".to_owned()),
        },
        _ => Refunded::Pending { refund: id },
    }
}
