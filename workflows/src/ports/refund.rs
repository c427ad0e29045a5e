//! Refunds at Stripe: sent once, looked up before they are sent again, fetched when told of.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use stripe::{StripeError, StripeRequest};
use stripe_core::refund::{CreateRefund, ListRefund, RetrieveRefund};
use tenure_engine::StepError;

use super::stripe::{Stripe, failure, strategy};
use crate::money::Money;

/// How many of a charge's latest refunds a look-up reads.
const LOOK_UP: i64 = 100;

/// What is to be given back, and of what.
#[derive(Debug, Clone)]
pub struct Refund {
    /// Stripe's id of the payment intent.
    pub intent: String,
    /// How much.
    pub money: Money,
    /// The idempotency key: the same for every try of the same refund.
    pub key: String,
    /// What finds the refund again: tenant, run, credit note.
    pub metadata: HashMap<String, String>,
}

/// How a refund stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refunded {
    /// It was given back.
    Succeeded {
        /// Stripe's id of the refund.
        refund: String,
    },
    /// It is under way at the bank.
    Pending {
        /// Stripe's id of the refund.
        refund: String,
    },
    /// It was refused, or came back.
    Failed {
        /// Stripe's id of the refund, when one was made.
        refund: Option<String>,
        /// Why, in Stripe's word.
        code: String,
    },
}

impl Stripe {
    /// Gives back. A refusal is an answer.
    ///
    /// # Errors
    /// Retryable: the outcome is not known, and the same key must be used again.
    pub async fn refund(&self, refund: &Refund) -> Result<Refunded, StepError> {
        let amount = refund.money.minor_units();
        let amount =
            amount.ok_or_else(|| StepError::terminal("amount_out_of_range", refund.money))?;
        let answer = CreateRefund::new()
            .payment_intent(refund.intent.as_str())
            .amount(amount)
            .metadata(refund.metadata.clone())
            .customize()
            .request_strategy(strategy(&refund.key)?)
            .send(self.client())
            .await;
        match answer {
            Ok(made) => Ok(read(&made)),
            Err(StripeError::Stripe(error, 400 | 402)) => Ok(Refunded::Failed {
                refund: None,
                code: error
                    .code
                    .as_ref()
                    .map_or("refused", |code| code.as_str())
                    .to_owned(),
            }),
            Err(error) => Err(failure(&error)),
        }
    }

    /// Looks a refund up by its metadata among the charge's latest ones.
    ///
    /// # Errors
    /// Retryable.
    pub async fn find_refund(&self, refund: &Refund) -> Result<Option<Refunded>, StepError> {
        let list = ListRefund::new()
            .payment_intent(refund.intent.as_str())
            .limit(LOOK_UP)
            .send(self.client())
            .await
            .map_err(|error| failure(&error))?;
        let wanted = refund.metadata.get("credit_note");
        let same = |made: &&stripe_shared::Refund| {
            let metadata = made.metadata.as_ref();
            wanted.is_some() && metadata.and_then(|metadata| metadata.get("credit_note")) == wanted
        };
        Ok(list.data.iter().find(same).map(read))
    }

    /// Fetches a refund.
    ///
    /// # Errors
    /// Retryable unless Stripe does not know the refund.
    pub async fn fetch_refund(&self, refund: &str) -> Result<Refunded, StepError> {
        let refund = RetrieveRefund::new(refund)
            .send(self.client())
            .await
            .map_err(|error| failure(&error))?;
        Ok(read(&refund))
    }
}

fn read(refund: &stripe_shared::Refund) -> Refunded {
    let id = refund.id.to_string();
    match refund.status.as_deref() {
        Some("succeeded") => Refunded::Succeeded { refund: id },
        Some("failed" | "canceled") => Refunded::Failed {
            refund: Some(id),
            code: refund
                .failure_reason
                .clone()
                .unwrap_or_else(|| "unknown".to_owned()),
        },
        _ => Refunded::Pending { refund: id },
    }
}
