//! Dunning: how debts stand, policies, and who is exempt.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::Money;

/// How a debt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DebtState {
    /// Nothing is owed.
    Clear,
    /// Something is owed.
    PastDue,
    /// And a step of the policy gives time to pay.
    Grace,
    /// And a step has suspended what is unpaid.
    Suspended,
    /// And the ladder has ended.
    Exhausted,
    /// Something that is newer than this client.
    #[serde(other)]
    Unknown,
}

impl DebtState {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::PastDue => "past_due",
            Self::Grace => "grace",
            Self::Suspended => "suspended",
            Self::Exhausted => "exhausted",
            Self::Unknown => "unknown",
        }
    }
}

/// A tenant's debt in a currency, as of dunning's last look, with what it follows from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Debt {
    /// ISO 4217 code.
    #[schema(example = "EUR")]
    pub currency: String,
    /// How it stands.
    pub state: DebtState,
    /// What is owed.
    pub owed: Money,
    /// Since the first failure of what is unpaid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// The policy's step that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// When is tried again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The step that comes next if nothing is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// When it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step_at: Option<DateTime<Utc>>,
    /// When the ladder ends if nothing is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<DateTime<Utc>>,
    /// The policy that it goes by; absent for the one that is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Its version at the last look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_version: Option<i32>,
    /// What is unpaid, the oldest first.
    pub unpaid: Vec<UnpaidInvoice>,
    /// The last decline of what is unpaid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_decline: Option<LastDecline>,
    /// The exemption that spares the tenant now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemption: Option<DunningExemption>,
}

/// An invoice that is open and was declined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnpaidInvoice {
    /// The invoice.
    pub invoice_id: Uuid,
    /// What it is for.
    pub subscription_id: Uuid,
    /// What is owed.
    pub total: Money,
    /// When it first failed.
    pub failed_at: DateTime<Utc>,
    /// For whom an attempt at it waits that is under way: `bank` to settle, `customer` to confirm,
    /// `provider` to take it. Nothing comes of it by dunning until that has ended. Or `operator`: the
    /// provider takes no charge of that amount, by no method; a credit note and another attempt, or
    /// taking it back, goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "bank")]
    pub waits_for: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_since: Option<DateTime<Utc>>,
}

/// A decline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastDecline {
    /// In the provider's word.
    #[schema(example = "insufficient_funds")]
    pub code: String,
    /// What a retry could change: `hard` (nothing), `data` (corrected data), `soft` (time may),
    /// `amount` (nothing of the customer's: what is owed must change).
    #[schema(example = "soft")]
    pub class: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// For how long a tenant is spared the steps and the end of dunning; attempts go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DunningExemption {
    /// Identity.
    pub exemption_id: Uuid,
    /// Of what is owed in this currency; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Until when, exclusive, in the tenant's time.
    pub ends_at: DateTime<Utc>,
    /// Who granted it.
    pub author: String,
    /// Why, in their words.
    pub reason: String,
    /// When, in the tenant's time.
    pub placed_at: DateTime<Utc>,
    /// When it was taken back, in the tenant's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted_at: Option<DateTime<Utc>>,
    /// Who took it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted_by: Option<String>,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lift_reason: Option<String>,
}

/// Body of `POST /v1/tenants/{id}/dunning-exemptions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExemptFromDunning {
    /// Of what is owed in this currency; of all when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Until when, in the tenant's time; at most a year ahead.
    pub ends_at: DateTime<Utc>,
    /// Why; kept with it and in the audit, never empty.
    pub reason: String,
}

/// Body of `POST /v1/tenants/{id}/dunning-exemptions/{exemption_id}/lift`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LiftExemption {
    /// Why; kept with it and in the audit, never empty.
    pub reason: String,
}

/// A version of a dunning policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DunningPolicy {
    /// Its key.
    #[schema(example = "patient")]
    pub policy: String,
    /// Counts from 1.
    pub version: i32,
    /// What it says, with all that it left out.
    pub document: Value,
    /// Who loaded it.
    pub author: String,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub loaded_at: DateTime<Utc>,
}

/// Query of `GET /v1/dunning-policies`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DunningPolicyFilter {
    /// The versions of this one; of all when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// Body of `PUT /v1/dunning-policies/{policy}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadDunningPolicy {
    /// What it says; see *Dunning* in docs/operating.md.
    pub document: Value,
    /// Why; kept with it and in the audit, never empty.
    pub reason: String,
}

/// Who goes by a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DunningScope {
    /// Whoever no other assignment names.
    Default,
    /// Debts whose oldest unpaid invoice is for a plan.
    Plan,
    /// A tenant.
    Tenant,
    /// Something that is newer than this client.
    #[serde(other)]
    Unknown,
}

impl DunningScope {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Plan => "plan",
            Self::Tenant => "tenant",
            Self::Unknown => "unknown",
        }
    }
}

/// Who goes by which policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DunningAssignment {
    /// Who.
    pub scope: DunningScope,
    /// The plan's key or the tenant's id; empty for the default.
    pub subject: String,
    /// The policy.
    pub policy: String,
    /// Who assigned it.
    pub author: String,
    /// Why, in their words.
    pub reason: String,
    /// When.
    pub assigned_at: DateTime<Utc>,
}

/// Body of `PUT /v1/dunning-assignments`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignDunningPolicy {
    /// Who.
    pub scope: DunningScope,
    /// The plan's key or the tenant's id; nothing for the default.
    #[serde(default)]
    pub subject: String,
    /// Goes by which policy; nothing takes the assignment away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Why; kept with it and in the audit, never empty.
    pub reason: String,
}
