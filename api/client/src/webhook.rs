//! What the payment provider told.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// An event of the payment provider's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookEvent {
    /// The provider's id.
    pub event_id: String,
    /// The provider's name for what happened.
    pub event_type: String,
    /// mapped, ignored or quarantined: nobody could be found whom it is for.
    pub status: String,
    /// Why, unless it was mapped.
    pub reason: Option<String>,
    /// How often it came.
    pub deliveries: i32,
    /// It never came, and was found in the provider's list.
    pub listed: bool,
    /// How often it was tried again.
    pub tries: i32,
    /// When it is tried again by itself.
    pub next_try_at: Option<DateTime<Utc>>,
    /// When it first came, in real time.
    pub received_at: DateTime<Utc>,
}

/// Query of `GET /v1/webhook-events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WebhookEventFilter {
    /// mapped, ignored or quarantined; all when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// Body of `POST /v1/webhook-events/{event_id}/replay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayWebhookEvent {
    /// Why, for the audit.
    pub reason: String,
}
