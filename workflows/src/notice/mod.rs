//! A notice: one mail, written once and handed over until the server has it.
//!
//! The run's key is what must be told once only, so a repeated launch is no second mail. The words
//! are kept as they were sent. A mail that has become moot is kept too, as suppressed.

mod store;
mod text;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tenure_engine::{
    Context, Event, ResultExt as _, RetryPolicy, StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use crate::calendar;
use crate::door::DoorError;
use crate::environment::Environment;
use crate::money::Money;
use crate::ports::mail::Mail;
use crate::tenant;

// Input.

/// What a mail is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The trial ends soon.
    TrialEnding {
        /// The plan's name.
        plan: String,
        /// What it costs from then on.
        price: Money,
        /// When it ends.
        ends_at: DateTime<Utc>,
    },
    /// An invoice was paid.
    Receipt {
        /// The invoice's number.
        number: String,
        /// What was paid.
        total: Money,
        /// When.
        paid_at: DateTime<Utc>,
    },
    /// An attempt failed.
    PaymentFailed {
        /// The invoice; once it is paid, the mail is moot.
        invoice_id: Uuid,
        /// Why, in the provider's word.
        code: String,
        /// When it is tried again, if it is.
        next_attempt_at: Option<DateTime<Utc>>,
        /// When all ends, if this was the last attempt.
        ends_at: Option<DateTime<Utc>>,
    },
    /// Nothing is owed any more.
    Recovered {},
    /// The ladder has ended.
    Final {},
    /// A subscription has ended.
    Cancelled {
        /// The plan's name.
        plan: String,
        /// When.
        ended_at: DateTime<Utc>,
        /// Whether for want of payment.
        unpaid: bool,
    },
}

impl Input {
    /// The stored word for what it is about.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TrialEnding { .. } => "trial_ending",
            Self::Receipt { .. } => "receipt",
            Self::PaymentFailed { .. } => "payment_failed",
            Self::Recovered {} => "recovered",
            Self::Final {} => "final_notice",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

/// A mail, as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct NoticeRow {
    /// Identity.
    pub notice_id: Uuid,
    /// The tenant.
    pub tenant_id: TenantId,
    /// What it is about.
    pub kind: String,
    /// The address.
    pub recipient: String,
    /// The subject line.
    pub subject: String,
    /// The text part.
    pub body_text: String,
    /// queued, sent or suppressed.
    pub status: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was handed over.
    pub sent_at: Option<DateTime<Utc>>,
}

// States and signals.

/// Where a mail is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// About to be written and handed over.
    Sending {
        /// What it is about.
        about: Input,
    },
}

/// A mail is told nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {}

/// What became of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The server has it.
    Sent,
    /// It had become moot.
    Suppressed,
}

/// The workflow.
pub struct NoticeWorkflow {
    environment: Environment,
}

impl NoticeWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

// Handle.

impl Workflow for NoticeWorkflow {
    const NAME: &'static str = "notice";
    const VERSION: i32 = 1;
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Output;

    fn start(&self, about: Input) -> State {
        State::Sending { about }
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Sending { about }, Event::Entered) => self.send(cx, &about).await,
            (_, Event::CancelRequested) => Ok(Transition::cancelled()),
            (
                state,
                Event::Signal(_)
                | Event::Deadline(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => Ok(Transition::stay(state)),
        }
    }
}

// Steps.

const WRITE_MAIL: &str = "write-mail";
const SEND_MAIL: &str = "send-mail";
const MARK_SENT: &str = "mark-sent";

/// Mail servers are away for a while now and then: about an hour of attempts.
const MAIL_POLICY: RetryPolicy = RetryPolicy {
    cap: std::time::Duration::from_secs(600),
    max_attempts: 16,
    dependency: Some("smtp"),
    ..RetryPolicy::DEFAULT
};

/// A written mail, as the journal keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Written {
    recipient: String,
    subject: String,
    text: String,
    moot: bool,
}

impl NoticeWorkflow {
    async fn send(&self, cx: &Context, about: &Input) -> Result<Transition<Self>, StepError> {
        let notice_id = cx.uuid();
        let written = write(cx, about, notice_id).await?;
        if written.moot {
            return Ok(Transition::complete(Output::Suppressed));
        }
        cx.step(SEND_MAIL, &MAIL_POLICY, async |_| {
            let mail = Mail {
                id: notice_id.to_string(),
                to: &written.recipient,
                subject: &written.subject,
                text: &written.text,
                html: &text::html(&written.text),
            };
            self.environment.mailer().send(&mail).await
        })
        .await?;
        let (shard, now) = (cx.shard_id(), cx.now());
        cx.transact(MARK_SENT, async |tx| {
            Ok(store::apply_sent(tx, notice_id, shard, now).await?)
        })
        .await?;
        Ok(Transition::complete(Output::Sent))
    }
}

async fn write(cx: &Context, about: &Input, notice_id: Uuid) -> Result<Written, StepError> {
    let (tenant_id, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
    cx.transact(WRITE_MAIL, async |tx| {
        let profile = tenant::store::find_profile(tx, tenant_id).await?;
        let zone = calendar::zone(&profile.zone).terminal("unknown_zone")?;
        let words = text::write(about, &profile.name, zone);
        let moot = match about {
            Input::PaymentFailed { invoice_id, .. } => {
                !store::is_open(tx, *invoice_id, shard).await?
            }
            _ => false,
        };
        let row = NoticeRow {
            notice_id,
            tenant_id,
            kind: about.kind().to_owned(),
            recipient: profile.email,
            subject: words.subject,
            body_text: words.text,
            status: if moot { "suppressed" } else { "queued" }.to_owned(),
            created_at: now,
            sent_at: None,
        };
        let html = text::html(&row.body_text);
        store::insert(tx, tenant_id, shard, cx.key(), &html, &row, now).await?;
        Ok(Written {
            recipient: row.recipient,
            subject: row.subject,
            text: row.body_text,
            moot,
        })
    })
    .await
}

// Doors.

/// Lists mails, newest first: of the tenant that the transaction acts as, or of all when it acts
/// as control.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    tenant: Option<TenantId>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<NoticeRow>, DoorError> {
    Ok(store::list(conn, tenant, after, limit).await?)
}
