//! Tenants: the paying organisations, and how they pay.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

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
