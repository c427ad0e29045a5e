//! A notice: one mail, written once and handed over until the server has it.
//!
//! The run's key is what must be told once only, so a repeated launch is no second mail. It is
//! written when its time has come: some days ahead of what it tells of, and outside the quiet hours
//! of the tenant's zone, as the policy says that what it is about goes by. What has become moot by then is suppressed.
//! The words are kept as they were sent; a mail that was suppressed is kept, too.

mod facts;
pub(crate) mod rules;
mod store;
mod template;
mod text;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::{
    Context, Event, ResultExt as _, RetryPolicy, StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use crate::calendar::{self, Interval};
use crate::door::DoorError;
use crate::dunning;
use crate::environment::Environment;
use crate::money::{Currency, Money};
use crate::ports::mail::Mail;
use crate::tenant;
use rules::Verdict;
use template::Locale;
use text::Reader;

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
        /// For how long that is; version 2 did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        every: Option<Interval>,
        /// The subscription; once it is to end, the mail is moot. Version 2 did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subscription_id: Option<Uuid>,
        /// When it ends.
        ends_at: DateTime<Utc>,
    },
    /// A long period ends soon and another follows.
    RenewalComing {
        /// The subscription; once it is to end, the mail is moot.
        subscription_id: Uuid,
        /// The plan's name.
        plan: String,
        /// What the next period costs.
        price: Money,
        /// How long it is.
        #[serde(default = "year")]
        every: Interval,
        /// When it begins.
        renews_at: DateTime<Utc>,
    },
    /// An invoice was paid.
    Receipt {
        /// The invoice; older versions did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invoice_id: Option<Uuid>,
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
        /// Whether the same method is not tried again.
        #[serde(default)]
        hard: bool,
    },
    /// The customer must confirm a payment (3-D Secure).
    ActionNeeded {
        /// The invoice; once it is paid, the mail is moot.
        invoice_id: Uuid,
        /// Where; the policy's page when the provider names none.
        link: Option<String>,
    },
    /// The card that is charged expires soon.
    CardExpiring {
        /// The method; once another is charged, the mail is moot.
        method_id: String,
        /// Its brand.
        brand: String,
        /// Its last four digits.
        last4: String,
        /// Its last day.
        expires_on: NaiveDate,
    },
    /// A debt is in grace.
    Grace {
        /// Its currency.
        currency: Currency,
        /// When something follows.
        until: Option<DateTime<Utc>>,
        /// What the oldest of it is for, whose policy it goes by; older versions did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subscription_id: Option<Uuid>,
    },
    /// What is unpaid is suspended.
    Suspended {
        /// Its currency.
        currency: Currency,
        /// When something follows.
        until: Option<DateTime<Utc>>,
        /// What the oldest of it is for, whose policy it goes by; older versions did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subscription_id: Option<Uuid>,
    },
    /// Nothing is owed any more.
    Recovered {
        /// In which currency; owed anew, the mail is moot. Version 2 did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        currency: Option<Currency>,
        /// Since when it was owed: where nothing has been paid since, but was void or written off, the mail is
        /// moot. Older versions did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<DateTime<Utc>>,
        /// What the oldest of it is for, whose policy it goes by; older versions did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subscription_id: Option<Uuid>,
    },
    /// The ladder has ended.
    Final {
        /// Its currency; version 2 did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        currency: Option<Currency>,
        /// Whether the subscription has ended, too.
        #[serde(default = "ends")]
        ends: bool,
        /// What the oldest of it is for, whose policy it goes by; older versions did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subscription_id: Option<Uuid>,
    },
    /// A subscription has ended.
    Cancelled {
        /// The plan's name.
        plan: String,
        /// When.
        ended_at: DateTime<Utc>,
        /// Whether for want of payment.
        unpaid: bool,
        /// The subscription, whose policy it goes by; older versions did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subscription_id: Option<Uuid>,
    },
    /// Much of what a plan limits is used, or all of it.
    Limit {
        /// The feature.
        feature: String,
        /// How much was used when it was noticed.
        level: u64,
        /// How much there is.
        limit: u64,
        /// The share of it, in per cent, at which this is told; below it again, the mail is moot.
        percent: u32,
    },
}

const fn ends() -> bool {
    true
}

const fn year() -> Interval {
    Interval::YEAR
}

/// The words of all kinds of mail.
pub const KINDS: [&str; 12] = [
    "trial_ending",
    "renewal_coming",
    "receipt",
    "payment_failed",
    "action_needed",
    "card_expiring",
    "grace",
    "suspended",
    "final_notice",
    "cancelled",
    "recovered",
    "limit",
];

impl Input {
    /// The stored word for what it is about.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TrialEnding { .. } => "trial_ending",
            Self::RenewalComing { .. } => "renewal_coming",
            Self::Receipt { .. } => "receipt",
            Self::PaymentFailed { .. } => "payment_failed",
            Self::ActionNeeded { .. } => "action_needed",
            Self::CardExpiring { .. } => "card_expiring",
            Self::Grace { .. } => "grace",
            Self::Suspended { .. } => "suspended",
            Self::Recovered { .. } => "recovered",
            Self::Final { .. } => "final_notice",
            Self::Cancelled { .. } => "cancelled",
            Self::Limit { .. } => "limit",
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

/// A mail with all that was kept of it.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptNotice {
    /// What a list shows.
    pub row: NoticeRow,
    /// The HTML part.
    pub body_html: String,
    /// What is told once only by: its run's key.
    pub dedupe_key: String,
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
    /// Its hour has not come.
    Waiting {
        /// What it is about.
        about: Input,
        /// When it has.
        until: DateTime<Utc>,
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
    const VERSION: i32 = 3;
    const QUEUE: &'static str = "mails";
    /// Of a written mail; whoever may see mails sees them among the mails.
    const PRIVATE: &'static [&'static str] = &["recipient", "text", "html"];
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Output;

    fn start(&self, about: Input) -> State {
        State::Sending { about }
    }

    /// Version 1 knew no waiting; both older ones knew fewer kinds and told less of them. What they
    /// wrote is read as it is.
    fn migrate(&self, _from_version: i32, state: Value) -> Result<Value, String> {
        Ok(state)
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (State::Sending { about }, Event::Entered) => self.send(cx, about).await,
            (State::Waiting { about, until }, Event::Entered) => {
                Ok(Transition::stay(State::Waiting { about, until }).at(HOUR_COMES, until))
            }
            (State::Waiting { about, .. }, Event::Deadline(_)) => {
                Ok(Transition::go(State::Sending { about }))
            }
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

const HOUR_COMES: &str = "hour";
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Written {
    recipient: String,
    subject: String,
    text: String,
    moot: bool,
    /// The HTML part; version 1 made it of the text.
    #[serde(default)]
    html: Option<String>,
    /// It was not written: its hour comes then.
    #[serde(default)]
    later: Option<DateTime<Utc>>,
}

impl NoticeWorkflow {
    async fn send(&self, cx: &Context, about: Input) -> Result<Transition<Self>, StepError> {
        let notice_id = cx.uuid();
        let written = write(cx, &about, notice_id).await?;
        if let Some(until) = written.later {
            return Ok(Transition::go(State::Waiting { about, until }));
        }
        if written.moot {
            return Ok(Transition::complete(Output::Suppressed));
        }
        let html = written.html.as_ref();
        let html = html.map_or_else(|| template::escape(&written.text), Clone::clone);
        cx.step(SEND_MAIL, &MAIL_POLICY, async |_| {
            let mail = Mail {
                id: notice_id.to_string(),
                to: &written.recipient,
                subject: &written.subject,
                text: &written.text,
                html: &html,
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

/// Writes the mail, unless its hour has not come.
async fn write(cx: &Context, about: &Input, notice_id: Uuid) -> Result<Written, StepError> {
    let (tenant_id, shard, now) = (cx.tenant_id(), cx.shard_id(), cx.now());
    cx.transact(WRITE_MAIL, async |tx| {
        let profile = tenant::store::find_profile(tx, tenant_id).await?;
        let zone = calendar::zone(&profile.zone).terminal("unknown_zone")?;
        let of = facts::subscription(tx, tenant_id, shard, about).await?;
        let chosen = dunning::store::find_policy_for(tx, tenant_id, shard, of).await?;
        let notices = chosen.policy.notices;
        let verdict = rules::when(about, &notices, now, zone);
        if let Verdict::At(later) = verdict {
            return Ok(Written {
                later: Some(later),
                ..Written::default()
            });
        }
        let link = notices.billing_link.as_deref();
        let link = link.map(|link| fill_link(link, tenant_id, about));
        let facts = facts::look(tx, tenant_id, shard, about).await?;
        let words = text::write(
            about,
            &facts,
            Reader {
                name: &profile.name,
                zone,
                locale: Locale::of_tag(&profile.locale),
                link: link.as_deref(),
            },
        );
        let moot = verdict == Verdict::Never || facts.moot;
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
        store::insert(tx, tenant_id, shard, cx.key(), &words.html, &row, now).await?;
        Ok(Written {
            recipient: row.recipient,
            subject: row.subject,
            text: row.body_text,
            html: Some(words.html),
            moot,
            later: None,
        })
    })
    .await
}

// Rules.

/// The page on which a tenant pays; an invoice's own where the mail is about one.
fn fill_link(link: &str, tenant: TenantId, about: &Input) -> String {
    let invoice = match about {
        Input::PaymentFailed { invoice_id, .. } | Input::ActionNeeded { invoice_id, .. } => {
            invoice_id.to_string()
        }
        _ => String::new(),
    };
    link.replace("{tenant}", &tenant.to_string())
        .replace("{invoice}", &invoice)
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

/// Finds one mail of a tenant with all that was kept of it. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    notice: Uuid,
) -> Result<KeptNotice, DoorError> {
    let shard = tenant::find(conn, tenant).await?.shard_id;
    let found = store::find(conn, notice, shard).await?;
    found.ok_or_else(|| DoorError::not_found("mail", notice))
}

/// A mail as it could be, to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The language that it is written in: the one that was asked for, or English.
    pub locale: &'static str,
    /// The subject line.
    pub subject: String,
    /// The text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
}

/// Writes a mail of a kind with made-up facts, in the language of a BCP 47 tag.
///
/// # Errors
/// [`DoorError::Malformed`] for what is no kind.
pub fn preview(kind: &str, locale: &str) -> Result<Preview, DoorError> {
    let (sample, facts) = text::sample(kind).ok_or_else(|| DoorError::Malformed {
        field: "kind",
        detail: format!(
            "{kind:?} is no kind of mail; there are {}",
            KINDS.join(", ")
        ),
    })?;
    let locale = Locale::of_tag(locale);
    let reader = Reader {
        name: "Acme",
        zone: chrono_tz::UTC,
        locale,
        link: Some("https://shop.example/billing"),
    };
    let words = text::write(&sample, &facts, reader);
    Ok(Preview {
        locale: locale.tag(),
        subject: words.subject,
        text: words.text,
        html: words.html,
    })
}
