//! Subscriptions of a tenant.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::{InvoiceLine, Money};
use chrono::{DateTime, TimeZone, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Body of `POST /v1/tenants/{tenant_id}/subscriptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSubscription {
    /// Code of the plan.
    pub plan: String,
    /// ISO 4217 code of a currency the plan is sold in.
    pub currency: String,
    /// Business key of the run; made by the server when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many seats; those that the plan includes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
    /// Add-ons by key, and how many of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add_ons: BTreeMap<String, u32>,
    /// A coupon to redeem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupon: Option<String>,
    /// When it begins, in the tenant's time: now when absent; later, or earlier back to when the
    /// tenant was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<DateTime<Utc>>,
    /// The day of the month on which its periods begin, 1 to 31; that of its start when absent. The
    /// time until the first such day is charged as its part of a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor_day: Option<u32>,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// What asking for a subscription came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Subscribed {
    /// It stands.
    Made(Box<Subscription>),
    /// What it would come to.
    Told(Box<SubscriptionAct>),
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
    /// The version of the plan that it was sold at.
    pub plan_version: i32,
    /// How many seats, where the plan has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
    /// How often it renews: `month`, or `2 weeks`.
    #[schema(example = "month")]
    pub interval: String,
    /// What one period costs, before discounts and tax.
    pub price: Money,
    /// The coupon, while it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupon: Option<String>,
    /// When a fixed term ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term_ends_at: Option<DateTime<Utc>>,
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
    /// Begins later.
    Scheduled,
    /// Neither used nor billed.
    Paused,
}

/// A subscription with what it has and what will become of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionDetail {
    /// The fields a list shows.
    #[serde(flatten)]
    pub subscription: Subscription,
    /// What it has so many of.
    pub items: Vec<SubscriptionItem>,
    /// What will come about, soonest first.
    pub intents: Vec<SubscriptionIntent>,
    /// Where it is moved with one of its renewals, for its plan is retired; absent while something else
    /// is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<SubscriptionSuccessor>,
    /// The retired plan that its own followed: why it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeds: Option<String>,
}

/// Where a subscription to a retired plan is moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionSuccessor {
    /// Code of the plan.
    pub plan: String,
    /// Its name for people.
    pub name: String,
    /// With which renewal.
    pub at: DateTime<Utc>,
    /// What a period costs from then on, before discounts and tax.
    pub price: Money,
}

/// Something that a subscription has so many of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionItem {
    /// `plan`, `seats`, or an add-on's key.
    pub item: String,
    /// For people.
    pub name: String,
    /// How many.
    pub quantity: u32,
    /// Of one for a period.
    pub unit_price: Money,
}

/// What will become of a subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionIntent {
    /// Of which kind.
    pub kind: IntentKind,
    /// When it comes about.
    pub at: DateTime<Utc>,
    /// Whether it follows the end of the period when that moves.
    pub with_period: bool,
    /// What exactly.
    pub details: serde_json::Value,
}

/// The kinds of what may become of a subscription: at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntentKind {
    /// Another plan, other seats, other add-ons.
    Change,
    /// The end.
    Cancel,
    /// No use and no billing.
    Pause,
    /// It goes on.
    Resume,
    /// Periods begin on another day of the month.
    MoveAnchor,
}

/// When something comes about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// At once.
    #[default]
    Now,
    /// At the end of what is paid for, or of the trial.
    PeriodEnd,
    /// At an instant of the tenant's time.
    At(DateTime<Utc>),
}

/// What is given back of what was paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CreditPolicy {
    /// Nothing.
    #[default]
    None,
    /// Unused time lowers the debt, then adds to the balance.
    Credit,
    /// Unused time lowers the debt, then goes back to the payment method as far as that paid, then
    /// adds to the balance.
    Refund,
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
            Self::Scheduled => "scheduled",
            Self::Paused => "paused",
        }
    }
}

/// Body of `POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/cancel`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelSubscription {
    /// When the subscription shall end.
    pub when: When,
    /// What is given back when it ends before what was paid for does.
    #[serde(default)]
    pub credit: CreditPolicy,
    /// Why; a person's act is kept in the audit with it. A product that does what its customer asks
    /// for leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/change`. What is not said
/// stays as it was sold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSubscription {
    /// Another plan, in its current version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The current version, with its prices and features, also of the plan and the add-ons that it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub newest: bool,
    /// How many seats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
    /// All add-ons that it has from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_ons: Option<BTreeMap<String, u32>>,
    /// When. A smaller plan is mostly wanted with `period_end`.
    pub when: When,
    /// Why; a person's act is kept in the audit with it. A product that does what its customer asks
    /// for leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/pause`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseSubscription {
    /// When.
    pub when: When,
    /// When it goes on by itself; when somebody resumes it, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Why; a person's act is kept in the audit with it. A product that does what its customer asks
    /// for leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/resume`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeSubscription {
    /// When.
    pub when: When,
    /// Why; a person's act is kept in the audit with it. A product that does what its customer asks
    /// for leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/move-anchor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveAnchor {
    /// The day of the month, 1 to 31; in shorter months their last.
    pub day: u32,
    /// When.
    pub when: When,
    /// Why; a person's act is kept in the audit with it. A product that does what its customer asks
    /// for leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/undo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UndoIntent {
    /// What shall not come about.
    pub intent: IntentKind,
    /// Why; a person's act is kept in the audit with it. A product that does what its customer asks
    /// for leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an act on a subscription comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionAct {
    /// The run that does it; absent while there is none, as of a subscription that is only tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
    /// The signal that asks it to; absent when it was only tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_id: Option<String>,
    /// When it comes about.
    pub at: DateTime<Utc>,
    /// What is given back.
    pub credits: Vec<CreditPreview>,
    /// What is charged.
    pub lines: Vec<InvoiceLine>,
    /// Tax of what is charged.
    pub tax: Money,
    /// What is charged, in all.
    pub total: Money,
    /// What the tenant's balance pays of it, with what is given back; below zero, what is collected with
    /// it for earlier invoices.
    pub balance_applied: Money,
    /// What is left to be paid.
    pub amount_due: Money,
    /// What a whole period costs from then on, before discounts and tax.
    pub price: Money,
    /// First instant of the period that it is in from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_start: Option<DateTime<Utc>>,
    /// First instant after that period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_end: Option<DateTime<Utc>>,
}

impl SubscriptionAct {
    /// What it comes to, a sentence a line, for people who read dates in a zone: the tenant's.
    pub fn words<Z: TimeZone>(&self, zone: &Z) -> Vec<String>
    where
        Z::Offset: Display,
    {
        let day = |at: DateTime<Utc>| at.with_timezone(zone).format("%d %b %Y").to_string();
        let at = self.at.with_timezone(zone);
        let at = at.format("%d %b %Y %H:%M %Z");
        let mut words = vec![format!("It comes about {at}.")];
        words.extend(self.credits.iter().map(CreditPreview::words));
        words.extend(self.lines.iter().map(|line| {
            let (from, to) = (line.period_start.map(day), line.period_end.map(day));
            let span = from.zip(to).map(|(from, to)| format!(", {from} to {to}"));
            format!(
                "Charges {}: {} x {}{} ({} of {}).",
                line.amount,
                line.quantity,
                line.description,
                span.unwrap_or_default(),
                line.units,
                line.units_of
            )
        }));
        if self.total.amount.is_zero() {
            words.push("Nothing is charged.".to_owned());
        } else {
            let (balance, currency) = (self.balance_applied.amount, &self.total.currency);
            let from = if balance < Decimal::ZERO {
                "carried over from earlier invoices"
            } else {
                "from the balance"
            };
            words.push(format!(
                "In all {} (tax {}), {} {currency} {from}, {} to be paid.",
                self.total,
                self.tax,
                balance.abs(),
                self.amount_due
            ));
        }
        let period = self.period_start.zip(self.period_end);
        let period = period.map(|(from, to)| format!("; it is in {} to {}", day(from), day(to)));
        words.push(format!(
            "From then on a period costs {}{}.",
            self.price,
            period.unwrap_or_default()
        ));
        words
    }
}

impl CreditPreview {
    fn words(&self) -> String {
        let of = self
            .invoice_id
            .map_or("an invoice to come".to_owned(), |id| {
                format!("invoice {id}")
            });
        format!(
            "Gives back {} of {of}: {} off the debt, {} to the balance, {} to the method.",
            self.total, self.to_debt, self.to_balance, self.to_refund
        )
    }
}

/// What would be given back of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreditPreview {
    /// The invoice; none while that is still to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoice_id: Option<Uuid>,
    /// In all, with tax.
    pub total: Money,
    /// Tax of it.
    pub tax: Money,
    /// What lowers the debt.
    pub to_debt: Money,
    /// What adds to the balance.
    pub to_balance: Money,
    /// What goes back to the payment method.
    pub to_refund: Money,
}
