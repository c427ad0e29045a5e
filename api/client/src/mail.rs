//! Mails that tenants were sent.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// One mail to a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mail {
    /// The notice that sends it.
    pub notice_id: Uuid,
    /// The tenant it is for.
    pub tenant_id: Uuid,
    /// Which of the product's mails it is.
    pub kind: String,
    /// Where it goes.
    pub to: String,
    /// Its subject.
    pub subject: String,
    /// Where it is.
    pub status: MailStatus,
    /// When it was handed to the mail server, in the tenant's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<DateTime<Utc>>,
    /// Its text.
    pub body_text: String,
}

/// One mail with all that was kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MailDetail {
    /// The fields a list shows.
    #[serde(flatten)]
    pub mail: Mail,
    /// Its HTML part.
    pub body_html: String,
    /// What it is told once only by: the key of its run.
    #[schema(example = "payment-failed/01a209f6-4762-727e-b736-2430e0a79587/1")]
    pub dedupe_key: String,
    /// When it was written, in the tenant's time.
    pub created_at: DateTime<Utc>,
}

/// Where a mail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailStatus {
    /// Not sent yet.
    Queued,
    /// The mail server took it.
    Sent,
    /// Will not be sent: what it tells of was not so any more when its hour came.
    Suppressed,
}

/// Query of `GET /v1/mails`, newest first across tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct MailFilter {
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Mails per page, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Query of `GET /v1/notices/preview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct NoticePreviewFilter {
    /// Which of the product's mails, such as `receipt`.
    pub kind: String,
    /// BCP 47 language; English when none is given, and where there is no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
}

/// A mail with made-up facts, as it would be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoticePreview {
    /// Which of the product's mails it is.
    pub kind: String,
    /// The language that it is written in.
    pub locale: String,
    /// Its subject.
    pub subject: String,
    /// Its text part.
    pub text: String,
    /// Its HTML part.
    pub html: String,
}
