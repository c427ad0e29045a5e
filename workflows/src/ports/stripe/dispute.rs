//! What a bank says about a charge that its customer disputes.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use stripe_core::dispute::ListDispute;
use stripe_shared::{Dispute, DisputeStatus};
use tenure_engine::StepError;

use super::{Stripe, failure};
use crate::money::{Currency, Money};

/// A dispute of a charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disputed {
    /// Stripe's id.
    pub dispute: String,
    /// Stripe's id of the charge.
    pub charge: String,
    /// How much is disputed; it may be less than the charge.
    pub money: Money,
    /// What Stripe took for it so far, less what came back.
    #[serde(default)]
    pub fee: Decimal,
    /// Why, in Stripe's word, such as fraudulent.
    pub reason: String,
    /// Where it stands.
    pub standing: Standing,
    /// Until when evidence is taken.
    pub evidence_due: Option<DateTime<Utc>>,
}

/// Where a dispute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The bank only asks; the money is still here.
    Inquiry,
    /// The money is withdrawn, and evidence is awaited or weighed.
    Open,
    /// The money has come back.
    Won,
    /// The money is gone.
    Lost,
    /// The inquiry, or what was prevented, ended without any money moving.
    Closed,
}

impl Stripe {
    /// Finds the latest dispute of a charge by its payment intent.
    ///
    /// # Errors
    /// Retryable unless Stripe refuses the request for good; terminal when the currency is not one
    /// that Tenure knows.
    pub async fn find_dispute(&self, intent: &str) -> Result<Option<Disputed>, StepError> {
        let list = ListDispute::new()
            .payment_intent(intent)
            .limit(1)
            .send(&self.client)
            .await
            .map_err(|error| failure(&error))?;
        list.data.first().map(read).transpose()
    }
}

fn read(dispute: &Dispute) -> Result<Disputed, StepError> {
    let currency = dispute
        .currency
        .to_string()
        .to_uppercase()
        .parse::<Currency>()
        .map_err(|error| StepError::terminal("unknown_currency", error))?;
    let decimals = currency.decimals();
    let fees = dispute.balance_transactions.iter().map(|moved| moved.fee);
    Ok(Disputed {
        dispute: dispute.id.to_string(),
        charge: dispute.charge.id().to_string(),
        money: Money::new(Decimal::new(dispute.amount, decimals), currency),
        fee: Decimal::new(fees.sum(), decimals),
        reason: dispute.reason.clone(),
        standing: standing(&dispute.status),
        evidence_due: dispute
            .evidence_details
            .due_by
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
    })
}

fn standing(status: &DisputeStatus) -> Standing {
    match status {
        DisputeStatus::WarningNeedsResponse | DisputeStatus::WarningUnderReview => {
            Standing::Inquiry
        }
        DisputeStatus::Won => Standing::Won,
        DisputeStatus::Lost => Standing::Lost,
        DisputeStatus::WarningClosed | DisputeStatus::Prevented => Standing::Closed,
        // A status that is yet to be invented is not taken for an end.
        _ => Standing::Open,
    }
}
