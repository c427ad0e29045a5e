//! Tenants: the paying organisations, and how they pay.

use std::fmt::Display;

use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::subscription::SubscriptionStatus;

/// Body of `POST /v1/tenants`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// Name of the organisation.
    pub name: String,
    /// Where its mails go.
    pub email: String,
    /// IANA time zone in which its business dates are computed.
    #[schema(example = "Europe/Berlin")]
    pub zone: String,
    /// BCP 47 language of its mails and invoices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Binds the tenant to a new test clock that stands at this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_clock: Option<DateTime<Utc>>,
    /// The legal entity that issues its invoices, by the catalogue's key; the catalogue's default when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "de")]
    pub legal_entity: Option<String>,
}

/// Query of `GET /v1/tenants`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TenantFilter {
    /// Text that name, mail address or id must contain; or the provider's id of the tenant's customer,
    /// its payment method or a charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Tenants per page, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A paying organisation, whose data is kept apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// The tenant.
    pub tenant_id: Uuid,
    /// Name of the organisation.
    pub name: String,
    /// Where its mails go.
    pub email: String,
    /// IANA time zone in which its business dates are computed.
    pub zone: String,
    /// The language of its mails, a BCP 47 tag.
    #[serde(default)]
    #[schema(example = "de-AT")]
    pub locale: String,
    /// The shard that holds its rows, 0 to 1023.
    pub shard_id: i16,
    /// The test clock it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_clock_id: Option<Uuid>,
    /// The first of its payment methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_payment_method: Option<PaymentMethod>,
    /// What the payment provider calls it; absent in lists, and until it has a payment method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "cus_Q2xV1")]
    pub provider_customer_id: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// The legal entity that issues its invoices; absent for the seller without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "de")]
    pub legal_entity: Option<String>,
    /// Why the provider refused the payment method that was given last; the one before it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "resource_missing")]
    pub payment_method_error: Option<String>,
}

/// A card, as much of it as may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PaymentMethod {
    /// The card's brand.
    #[schema(example = "visa")]
    pub brand: String,
    /// Its last four digits.
    #[schema(example = "4242")]
    pub last4: String,
    /// Its id at the payment provider.
    pub provider_id: String,
    /// The last day on which it can be charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_on: Option<NaiveDate>,
}

/// Body of `POST /v1/tenants/{id}/payment-methods`; the tenant's run attaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachPaymentMethod {
    /// The payment method's id at the provider.
    #[schema(example = "pm_card_visa")]
    pub payment_method: String,
    /// Its place in the tenant's order, from 1; behind all others when there are not so many. Without
    /// one it takes the place of the method that is charged first, which is charged no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub position: Option<u32>,
}

/// Body of `PUT /v1/tenants/{id}/payment-methods`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderPaymentMethods {
    /// The provider's ids of the tenant's methods, each once; the first is charged first.
    pub payment_methods: Vec<String>,
}

/// Body of `POST /v1/tenants/{id}/zone`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeZone {
    /// IANA time zone in which its days begin from then on.
    #[schema(example = "America/New_York")]
    pub zone: String,
    /// Why; kept in the audit. A dry run needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a tenant's move to another zone comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ZoneChange {
    /// The tenant.
    pub tenant_id: Uuid,
    /// The zone that it was in.
    pub zone_before: String,
    /// The zone that it is in from then on.
    pub zone: String,
    /// The signal that its runs are told by; absent when it was only tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_id: Option<String>,
    /// Its subscriptions that have not ended, newest first.
    pub subscriptions: Vec<ZoneChangeDates>,
}

/// When a subscription is billed next, before and after its tenant's move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ZoneChangeDates {
    /// The subscription.
    pub subscription_id: Uuid,
    /// Its plan.
    pub plan: String,
    /// How it stands.
    pub status: SubscriptionStatus,
    /// Its next boundaries if the tenant stayed; none while it is paused.
    pub before: Vec<DateTime<Utc>>,
    /// Its next boundaries: the first is that of what is paid for, or of the trial, and stays.
    pub after: Vec<DateTime<Utc>>,
}

/// Body of `POST /v1/tenants/{id}/legal-entity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeLegalEntity {
    /// The legal entity that issues its invoices from then on, by the catalogue's key.
    #[schema(example = "us")]
    pub legal_entity: String,
    /// Why; kept in the audit. A dry run needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only tell what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a change of a tenant's legal entity comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LegalEntityChange {
    /// The tenant.
    pub tenant_id: Uuid,
    /// The legal entity that issued its invoices; absent for the seller without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_entity_before: Option<String>,
    /// The legal entity that issues them from then on.
    pub legal_entity: String,
    /// The number that its next invoice gets there.
    #[schema(example = "US-INV-00001")]
    pub next_number: String,
    /// Whether it was only tried.
    pub dry_run: bool,
}

impl LegalEntityChange {
    /// What it comes to, in words.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let before = match &self.legal_entity_before {
            Some(before) => format!("not by {before}"),
            None => "not by the seller without a name".to_owned(),
        };
        let (are, is) = if self.dry_run {
            ("would be", "would be")
        } else {
            ("are", "is")
        };
        vec![
            format!(
                "Its invoices {are} issued by {}, {before}.",
                self.legal_entity
            ),
            format!("The next one {is} {}.", self.next_number),
            "What is finalised stays as it is, with its credit notes.".to_owned(),
        ]
    }
}

impl ZoneChange {
    /// What it comes to, in words: the dates before in the old zone, those after in the new.
    pub fn words<Z: TimeZone>(&self, before: &Z, after: &Z) -> Vec<String>
    where
        Z::Offset: Display,
    {
        let dates = |all: &[DateTime<Utc>], zone: &Z| {
            let one = |at: &DateTime<Utc>| {
                let at = at.with_timezone(zone);
                at.format("%d %b %Y %H:%M %Z").to_string()
            };
            let all: Vec<String> = all.iter().map(one).collect();
            all.join(", ")
        };
        let (from, to) = (&self.zone_before, &self.zone);
        let begin = if self.signal_id.is_some() {
            "begin"
        } else {
            "would begin"
        };
        let mut words = vec![format!("Its days {begin} in {to}, not in {from}.")];
        for one in &self.subscriptions {
            if one.after.is_empty() {
                words.push(format!(
                    "{} is paused: it enters the zone when it goes on.",
                    one.plan
                ));
                continue;
            }
            words.push(format!(
                "{}, till now: {}.",
                one.plan,
                dates(&one.before, before)
            ));
            words.push(format!(
                "{}, from now on: {}.",
                one.plan,
                dates(&one.after, after)
            ));
        }
        words.push("Nothing is charged or given back for that.".to_owned());
        words
    }
}
