//! Invoices of a tenant.

use crate::Money;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};
use utoipa::ToSchema;
use uuid::Uuid;

/// An invoice as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invoice {
    /// The invoice.
    pub invoice_id: Uuid,
    /// Its number in the series that its legal entity has for the tenant; absent while it is a draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "DE-INV-00001")]
    pub number: Option<String>,
    /// The legal entity that issues it; absent while it is a draft, and for the seller without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "de")]
    pub legal_entity: Option<String>,
    /// Where it is.
    pub status: InvoiceStatus,
    /// What it was drafted for: `start`, `cycle`, `change`, `resume` or `final`.
    pub reason: String,
    /// The sum of its lines before discounts.
    pub subtotal: Money,
    /// What came off.
    pub discount: Money,
    /// Added to the amounts, or held by them.
    pub tax: Money,
    /// What it is for, in all.
    pub total: Money,
    /// What credit notes took off the debt.
    pub credited: Money,
    /// What the tenant's balance paid, with what was carried over to it; below zero, what the invoice
    /// collected for earlier ones of which it had been carried over.
    pub balance_applied: Money,
    /// What of that was carried over, because the provider takes no charge so small: the next invoice
    /// collects it. Absent when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_over: Option<Money>,
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

impl Invoice {
    /// What it had to do with the balance, for people.
    pub fn balance_words(&self) -> Vec<String> {
        let carried = self.carried_over.as_ref().map(|rest| rest.amount);
        let carried = carried.unwrap_or_default();
        let paid = self.balance_applied.amount - carried;
        let told = [
            (-paid, "carried over from earlier invoices"),
            (paid, "paid by the balance"),
            (carried, "carried over to the next invoice"),
        ];
        let told = told.iter().filter(|(amount, _)| *amount > Decimal::ZERO);
        told.map(|(amount, words)| format!("{words} {amount} {}", self.total.currency))
            .collect()
    }
}

/// An invoice with its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceDetail {
    /// The fields a list shows.
    #[serde(flatten)]
    pub invoice: Invoice,
    /// The tax, as it was given when the invoice was drafted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_rate: Option<TaxRate>,
    /// The legal entity that issues it, as the catalogue named it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seller: Option<Seller>,
    /// What is billed.
    pub lines: Vec<InvoiceLine>,
    /// SHA-256 of what the lines were computed of, and of who issues it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priced_hash: Option<String>,
}

/// The legal entity that issues an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Seller {
    /// Its key in the catalogue.
    #[schema(example = "de")]
    pub legal_entity: String,
    /// As it is named on the invoice.
    #[schema(example = "Acme Software GmbH")]
    pub name: String,
    /// The lines of its address.
    pub address: Vec<String>,
    /// ISO 3166-1 alpha-2 code of its country.
    #[schema(example = "DE")]
    pub country: String,
    /// What the tax office calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
    /// What its numbers begin with.
    #[schema(example = "DE")]
    pub prefix: String,
}

/// A tax, as it is given from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaxRate {
    /// For invoices.
    #[schema(example = "VAT")]
    pub name: String,
    /// In per cent, 0 to 100.
    #[serde(with = "rust_decimal::serde::str")]
    #[schema(value_type = String, example = "19")]
    pub percent: Decimal,
    /// Whether prices hold it already.
    #[serde(default)]
    pub inclusive: bool,
}

impl Display for TaxRate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} %", self.name, self.percent.normalize())?;
        if self.inclusive {
            f.write_str(", held by prices")?;
        }
        Ok(())
    }
}

/// Body of `PUT /v1/tenants/{tenant_id}/tax`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeTax {
    /// The tax on what is drafted from then on; `null` for none. It must be said.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
    pub tax: Option<TaxRate>,
    /// Why; kept in the audit. A dry run needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a change of a tenant's tax comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaxChange {
    /// The tenant.
    pub tenant_id: Uuid,
    /// The tax that was on its bills; `null` for none.
    #[schema(required = true)]
    pub tax_before: Option<TaxRate>,
    /// The tax on what is drafted from then on; `null` for none.
    #[schema(required = true)]
    pub tax: Option<TaxRate>,
    /// Whether it was only tried.
    pub dry_run: bool,
}

impl TaxChange {
    /// What it comes to, in words.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let said = |tax: &Option<TaxRate>| {
            tax.as_ref()
                .map_or_else(|| "no tax".to_owned(), ToString::to_string)
        };
        let is = if self.dry_run { "would be" } else { "is" };
        let (now, before) = (said(&self.tax), said(&self.tax_before));
        vec![
            format!("It {is} billed with {now} from now on. Until now: {before}."),
            "What is drafted or finalised stays as it is, with its credit notes.".to_owned(),
        ]
    }
}

/// A credit note: what was given back of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreditNote {
    /// The credit note.
    pub credit_note_id: Uuid,
    /// Its number in the series that the invoice's legal entity has for the tenant.
    #[schema(example = "DE-CN-00001")]
    pub number: String,
    /// The invoice.
    pub invoice_id: Uuid,
    /// Why.
    pub reason: String,
    /// Who gave it.
    pub author: String,
    /// Tax of it.
    pub tax: Money,
    /// In all, with tax.
    pub total: Money,
    /// What lowered the debt.
    pub to_debt: Money,
    /// What was added to the balance.
    pub to_balance: Money,
    /// What goes back to the payment method.
    pub to_refund: Money,
    /// How that stands: `sent`, `pending`, `succeeded` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_status: Option<String>,
    /// When, in the tenant's time.
    pub created_at: DateTime<Utc>,
}

/// Body of `POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/credit-notes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCreditNote {
    /// How much, with tax; all that is left of the invoice when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    /// Whether what was paid goes back to the payment method; to the balance otherwise.
    #[serde(default)]
    pub refund: bool,
    /// Why, for the audit and the tenant.
    pub reason: String,
    /// Only tell what it would come to; nothing is given, and no number is taken.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/{collect,void,write-off}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActOnInvoice {
    /// Why, for the audit.
    pub reason: String,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an act on an invoice comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceAct {
    /// The run that does it.
    pub run_id: Uuid,
    /// The signal that asks it to; absent when it was only tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_id: Option<String>,
    /// What is charged now: all that is due, when it is collected.
    pub charged: Money,
    /// What is not owed any more, when it is taken back or given up.
    pub dropped: Money,
    /// What goes back to the tenant's balance, when it is taken back; below zero, what it had collected
    /// for earlier invoices, which is owed on.
    pub to_balance: Money,
}

impl InvoiceAct {
    /// What it comes to, a sentence a line, for people.
    pub fn words(&self) -> Vec<String> {
        let told = [
            (
                &self.charged,
                "is charged now, to the tenant's payment method.",
            ),
            (&self.dropped, "is not owed any more."),
            (&self.to_balance, "goes back to the tenant's balance."),
        ];
        let above = |amount: &Money| amount.amount > Decimal::ZERO;
        let told = told.iter().filter(|(amount, _)| above(amount));
        let mut words: Vec<String> = told
            .map(|(amount, words)| format!("{amount} {words}"))
            .collect();
        if self.to_balance.amount < Decimal::ZERO {
            let (rest, currency) = (-self.to_balance.amount, &self.to_balance.currency);
            words.push(format!(
                "{rest} {currency} of earlier invoices is left to the next one."
            ));
        }
        words
    }
}

impl CreditNote {
    /// What it comes to, a sentence a line, for people.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![format!(
            "Credit note {} gives back {} (tax {}).",
            self.number, self.total, self.tax
        )];
        let told = [
            (&self.to_debt, "comes off what is owed."),
            (&self.to_balance, "is added to the tenant's balance."),
            (&self.to_refund, "goes back to the payment method."),
        ];
        let told = told.iter().filter(|(amount, _)| !amount.amount.is_zero());
        words.extend(told.map(|(amount, words)| format!("{amount} {words}")));
        words
    }
}

/// What a tenant has in credit; below zero, what was carried over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Credit {
    /// In each currency in which there is, or was, any. Below zero is what was carried over of invoices,
    /// because the provider takes no charge so small; the next invoice collects it.
    pub balances: Vec<Money>,
    /// How it came about, newest first, at most 200.
    pub entries: Vec<CreditEntry>,
    /// In the answer to a grant: the open invoices that the balance pays of next, the oldest first. One
    /// that is being collected just now is left to its payment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pays: Vec<CreditPays>,
}

/// What credit pays of an open invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreditPays {
    /// The invoice.
    pub invoice_id: Uuid,
    /// How much of what is due.
    pub amount: Money,
}

impl Credit {
    /// What a balance is, for people: to be said after its amount.
    pub fn words(balance: &Money) -> &'static str {
        if balance.amount < Decimal::ZERO {
            "carried over: the next invoice collects it"
        } else {
            "in credit"
        }
    }
}

/// An entry of a tenant's balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreditEntry {
    /// What it adds; below zero, what it takes.
    pub amount: Money,
    /// `credit_note`, `applied`, `overpaid`, `granted`, `released`, `refund_failed`, `late_payment`,
    /// `dispute_won`; `carried_over` of an invoice, or `collected` by a later one.
    pub reason: String,
    /// The credit note, the invoice, or the grant itself.
    pub reference: Uuid,
    /// Why, in the author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Who added it.
    pub author: String,
    /// When, in the tenant's time.
    pub created_at: DateTime<Utc>,
}

/// Body of `POST /v1/tenants/{tenant_id}/credit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantCredit {
    /// How much; above zero.
    pub amount: Money,
    /// Why, for the audit and the tenant.
    pub reason: String,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// A payment that its customer disputes at the bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dispute {
    /// The provider's id.
    pub dispute_id: String,
    /// The invoice that was paid.
    pub invoice_id: Uuid,
    /// What is disputed; it may be less than the payment.
    pub amount: Money,
    /// What the provider took for it so far.
    pub fee: Money,
    /// Why, in the provider's word, such as `fraudulent`.
    pub reason: String,
    /// `inquiry`: the bank only asks; `open`: the money is withdrawn; `won`; `lost`; `closed`: no money
    /// ever moved.
    pub standing: String,
    /// Until when evidence is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_due_at: Option<DateTime<Utc>>,
    /// When we heard of it, in the tenant's time.
    pub opened_at: DateTime<Utc>,
    /// When we heard of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<DateTime<Utc>>,
}

/// One line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceLine {
    /// `plan`, `seats`, `setup-fee`, `trial`, or an add-on's key.
    pub item: String,
    /// What it is for, for people.
    pub description: String,
    /// How many.
    #[serde(with = "rust_decimal::serde::str")]
    #[schema(value_type = String, example = "1")]
    pub quantity: Decimal,
    /// Of one for a natural period.
    pub unit_price: Money,
    /// How long the service period is, in days or seconds.
    pub units: i64,
    /// How long the natural period is that it is a part of.
    pub units_of: i64,
    /// Before discounts.
    pub subtotal: Money,
    /// What came off.
    pub discount: Money,
    /// Quantity times unit price, with proration, after discounts.
    pub amount: Money,
    /// Added to the amount, or held by it.
    pub tax: Money,
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
