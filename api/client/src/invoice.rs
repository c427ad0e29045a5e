//! Invoices of a tenant.

use crate::Money;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// An invoice as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invoice {
    /// The invoice.
    pub invoice_id: Uuid,
    /// Its number in the legal series; absent while it is a draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// Where it is.
    pub status: InvoiceStatus,
    /// The sum of its lines.
    pub total: Money,
    /// What is still to be paid.
    pub amount_due: Money,
    /// First instant of the period it bills.
    pub period_start: DateTime<Utc>,
    /// First instant after that period.
    pub period_end: DateTime<Utc>,
    /// When it became final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finalized_at: Option<DateTime<Utc>>,
    /// When it was paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<DateTime<Utc>>,
    /// Payments that were tried.
    pub attempts: i32,
}

/// An invoice with its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceDetail {
    /// The fields a list shows.
    #[serde(flatten)]
    pub invoice: Invoice,
    /// What is billed.
    pub lines: Vec<InvoiceLine>,
}

/// One line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceLine {
    /// What it is for, in the tenant's language.
    pub description: String,
    /// How many.
    #[serde(with = "rust_decimal::serde::str")]
    #[schema(value_type = String, example = "1")]
    pub quantity: Decimal,
    /// Quantity times unit price, with proration.
    pub amount: Money,
    /// First instant of the period it bills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_start: Option<DateTime<Utc>>,
    /// First instant after that period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_end: Option<DateTime<Utc>>,
}

/// Where an invoice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceStatus {
    /// May still change.
    Draft,
    /// Final, and waits for payment.
    Open,
    /// Paid in full.
    Paid,
    /// Taken back.
    Void,
    /// Given up.
    Uncollectible,
}
