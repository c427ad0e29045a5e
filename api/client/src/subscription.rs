//! Subscriptions of a tenant.

use crate::Money;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Body of `POST /v1/tenants/{tenant_id}/subscriptions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSubscription {
    /// Code of the plan.
    pub plan: String,
    /// ISO 4217 code of a currency the plan is sold in.
    pub currency: String,
    /// Business key of the run; made by the server when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A tenant's subscription to a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    /// The subscription.
    pub subscription_id: Uuid,
    /// The run that owns it.
    pub run_id: Uuid,
    /// Its tenant.
    pub tenant_id: Uuid,
    /// Code of the plan.
    pub plan: String,
    /// Where it is, for display.
    pub status: SubscriptionStatus,
    /// What one period costs.
    pub price: Money,
    /// When the trial ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_ends_at: Option<DateTime<Utc>>,
    /// First instant of the current period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_start: Option<DateTime<Utc>>,
    /// First instant after the current period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_end: Option<DateTime<Utc>>,
    /// When it will end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<String>,
}

/// Where a subscription is, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionStatus {
    /// In its trial.
    Trialing,
    /// Paid, or its payment is not yet due.
    Active,
    /// A payment is overdue; the grace is running.
    PastDue,
    /// Will end at `cancel_at`.
    Ending,
    /// Over.
    Ended,
    /// The first payment has not succeeded yet.
    Incomplete,
}

impl SubscriptionStatus {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Ending => "ending",
            Self::Ended => "ended",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Body of `POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelSubscription {
    /// When the subscription shall end.
    pub when: CancelWhen,
}

/// When a cancelled subscription ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CancelWhen {
    /// With the period that is paid.
    PeriodEnd,
    /// At once.
    Now,
}
