//! What is acted on, and what may be done to it.

use crate::form::Form;
use chrono::{DateTime, Utc};
use tenure_client::{
    AllowedAction, Backfill, BackfillRange, Breaker, BulkOperation, BulkStatus, DataArchive,
    DataHold, Deletion, DunningExemption, FlowLimit, Hold, Invoice, LegalHold, Pause, Placement,
    RetentionPolicy, Role, RunDetail, Schedule, SubscriptionDetail, TenantWeight, Whoami,
};
use uuid::Uuid;

/// What is acted on, as the person saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// A run at a revision.
    Run(Uuid, i64),
    /// A schedule.
    Schedule(Box<Schedule>),
    /// A run that is to start.
    NewRun,
    /// A schedule that is to be made.
    NewSchedule,
    /// Flow control, where the verb names what.
    Flow,
    /// A limit.
    Limit(Box<FlowLimit>),
    /// A pause.
    Pause(Box<Pause>),
    /// A breaker.
    Breaker(Box<Breaker>),
    /// How many turns a tenant has for one of another's.
    Weight(TenantWeight),
    /// All runs that pass a filter.
    Many(String),
    /// A verb to many runs.
    Bulk(Box<BulkOperation>),
    /// How long runs are kept.
    Policy(Box<RetentionPolicy>),
    /// What a hold is to be placed on, where the verb names it.
    Holds,
    /// A legal hold.
    Hold(Box<LegalHold>),
    /// The keys of a tenant, so many versions of them.
    Keys(Uuid, usize),
    /// The keys of all tenants.
    AllKeys,
    /// A tenant.
    Tenant(Uuid),
    /// A subscription.
    Subscription(Box<SubscriptionDetail>),
    /// An invoice of a tenant.
    Invoice(Uuid, Box<Invoice>),
    /// What stops a tenant's service.
    ServiceHold(Box<Hold>),
    /// What spares a tenant the steps of dunning.
    Exemption(Uuid, Box<DunningExemption>),
    /// A feature of a tenant that support has set.
    Override(Uuid, String),
    /// A backfill.
    Backfill(Box<Backfill>),
    /// A range of a backfill.
    Range(Uuid, Box<BackfillRange>),
    /// Where a tenant's rows are.
    Placement(Box<Placement>),
    /// A deletion of a tenant.
    Deletion(Box<Deletion>),
    /// What the product keeps of a tenant.
    Data(Uuid),
    /// What keeps rows of a tenant in the product.
    DataHold(Box<DataHold>),
    /// Rows of a tenant that a sweep took out.
    Archive(Uuid, Box<DataArchive>),
}

impl Target {
    /// The word for its kind.
    pub(crate) const fn noun(&self) -> &'static str {
        match self {
            Self::Run(..) | Self::NewRun => "run",
            Self::Schedule(..) | Self::NewSchedule => "schedule",
            Self::Flow => "flow",
            Self::Limit(_) => "limit",
            Self::Pause(_) => "pause",
            Self::Breaker(_) => "breaker",
            Self::Weight(_) => "weight",
            Self::Many(_) => "selection",
            Self::Bulk(_) => "operation",
            Self::Policy(_) => "policy",
            Self::Holds | Self::Hold(_) => "hold",
            Self::Keys(..) | Self::AllKeys => "key",
            Self::Tenant(_) => "tenant",
            Self::Subscription(_) => "subscription",
            Self::Invoice(..) => "invoice",
            Self::ServiceHold(_) => "hold",
            Self::Exemption(..) => "exemption",
            Self::Override(..) => "override",
            Self::Backfill(_) => "backfill",
            Self::Range(..) => "range",
            Self::Placement(_) => "placement",
            Self::Deletion(_) => "deletion",
            Self::Data(_) => "data",
            Self::DataHold(_) => "hold",
            Self::Archive(..) => "archive",
        }
    }

    /// Names it in full, so that it can be looked up, with how it was seen.
    pub(crate) fn identity(&self) -> String {
        let noun = self.noun();
        match self {
            Self::Run(id, revision) => format!("{noun} {id}, revision {revision}"),
            Self::Schedule(one) => {
                format!("{noun} {}, revision {}", one.schedule_id, one.revision)
            }
            Self::Limit(limit) => format!("{noun} {}, {}", limit.name, self.seen()),
            Self::Breaker(breaker) => format!("{noun} {}, {}", breaker.name, self.seen()),
            Self::Pause(pause) => {
                let scope = pause.scope.as_str();
                format!("{noun} of {scope} {}, {}", pause.name, self.seen())
            }
            Self::Weight(one) => format!("{noun} of tenant {}, {}", one.tenant_id, self.seen()),
            Self::Bulk(bulk) => format!("{noun} {}, {}", bulk.bulk_operation_id, self.seen()),
            Self::Policy(policy) => format!("{noun} of {}, {}", policy.workflow, self.seen()),
            Self::Hold(hold) => format!("{noun} {}", hold.hold_id),
            Self::Many(filter) => format!("all runs that pass {filter}"),
            Self::Keys(tenant, _) | Self::Tenant(tenant) => format!("tenant {tenant}"),
            Self::Subscription(one) => {
                format!(
                    "{noun} {}, {}",
                    one.subscription.subscription_id,
                    self.seen()
                )
            }
            Self::Invoice(_, one) => format!("{noun} {}, {}", one.invoice_id, self.seen()),
            Self::ServiceHold(one) => format!("{noun} {}", one.hold_id),
            Self::Exemption(_, one) => format!("{noun} {}", one.exemption_id),
            Self::Override(tenant, feature) => format!("{feature} of tenant {tenant}"),
            Self::Backfill(one) => format!("{noun} {}, {}", one.name, self.seen()),
            Self::Range(_, one) => format!("{noun} {}, {}", one.range_id, self.seen()),
            Self::Placement(one) => format!("tenant {}, {}", one.tenant_id, self.seen()),
            Self::Deletion(one) => format!("{noun} {}, {}", one.deletion_id, self.seen()),
            Self::Data(tenant) => format!("{noun} of tenant {tenant}"),
            Self::DataHold(one) => format!("{noun} {}", one.hold_id),
            Self::Archive(_, one) => format!("{noun} {}, {}", one.archive_id, self.seen()),
            Self::NewRun | Self::NewSchedule | Self::Flow | Self::Holds | Self::AllKeys => {
                String::new()
            }
        }
    }

    /// What tells one state of it from another: acting on it is refused once this is different.
    pub(crate) fn seen(&self) -> String {
        match self {
            Self::Run(_, revision) => revision.to_string(),
            Self::Schedule(one) => one.revision.to_string(),
            Self::Limit(limit) => since("set", Some(limit.changed_at)),
            Self::Breaker(breaker) => since(&breaker.state, Some(breaker.changed_at)),
            Self::Pause(pause) => since("paused", Some(pause.since)),
            Self::Weight(one) => one.weight.to_string(),
            Self::Bulk(bulk) => bulk.status.as_str().to_owned(),
            Self::Policy(policy) => {
                let days = policy.keep_days.map(|days| format!(" after {days} days"));
                let words = format!("{}{}", policy.action.as_str(), days.unwrap_or_default());
                since(&words, policy.changed_at)
            }
            Self::Keys(_, versions) => format!("{versions} versions"),
            Self::Hold(_)
            | Self::ServiceHold(_)
            | Self::Exemption(..)
            | Self::Override(..)
            | Self::DataHold(_) => "it stands".to_owned(),
            Self::Backfill(one) => {
                let paused = if one.paused { ", paused" } else { "" };
                let (phase, status, read) = (&one.phase, &one.status, one.percent_reading);
                format!("{phase} {status}{paused}, {read} % read")
            }
            Self::Range(_, one) => one.status.clone(),
            Self::Placement(one) => format!("revision {}", one.revision),
            Self::Deletion(one) => one.state.replace('_', " "),
            Self::Archive(_, one) => one.status.clone(),
            Self::Subscription(one) => seen_subscription(one),
            Self::Invoice(_, one) => format!("{:?}, {} due", one.status, one.amount_due),
            Self::NewRun
            | Self::NewSchedule
            | Self::Flow
            | Self::Many(_)
            | Self::Holds
            | Self::AllKeys
            | Self::Tenant(_)
            | Self::Data(_) => String::new(),
        }
    }

    /// Whether this and another are one and the same thing, in whatever state.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Run(one, _), Self::Run(two, _)) | (Self::Keys(one, _), Self::Keys(two, _)) => {
                one == two
            }
            (Self::Schedule(one), Self::Schedule(two)) => one.schedule_id == two.schedule_id,
            (Self::Limit(one), Self::Limit(two)) => one.name == two.name,
            (Self::Breaker(one), Self::Breaker(two)) => one.name == two.name,
            (Self::Pause(one), Self::Pause(two)) => {
                (one.scope, &one.name) == (two.scope, &two.name)
            }
            (Self::Weight(one), Self::Weight(two)) => one.tenant_id == two.tenant_id,
            (Self::Bulk(one), Self::Bulk(two)) => one.bulk_operation_id == two.bulk_operation_id,
            (Self::Policy(one), Self::Policy(two)) => one.workflow == two.workflow,
            (Self::Hold(one), Self::Hold(two)) => one.hold_id == two.hold_id,
            (Self::Tenant(one), Self::Tenant(two)) => one == two,
            (Self::Subscription(one), Self::Subscription(two)) => {
                one.subscription.subscription_id == two.subscription.subscription_id
            }
            (Self::Invoice(_, one), Self::Invoice(_, two)) => one.invoice_id == two.invoice_id,
            (Self::ServiceHold(one), Self::ServiceHold(two)) => one.hold_id == two.hold_id,
            (Self::Exemption(_, one), Self::Exemption(_, two)) => {
                one.exemption_id == two.exemption_id
            }
            (Self::Override(_, one), Self::Override(_, two)) => one == two,
            (Self::Backfill(one), Self::Backfill(two)) => one.backfill_id == two.backfill_id,
            (Self::Range(_, one), Self::Range(_, two)) => one.range_id == two.range_id,
            (Self::Placement(one), Self::Placement(two)) => one.tenant_id == two.tenant_id,
            (Self::Deletion(one), Self::Deletion(two)) => one.deletion_id == two.deletion_id,
            (Self::Data(one), Self::Data(two)) => one == two,
            (Self::DataHold(one), Self::DataHold(two)) => one.hold_id == two.hold_id,
            (Self::Archive(_, one), Self::Archive(_, two)) => one.archive_id == two.archive_id,
            _ => false,
        }
    }
}

/// What of a subscription an act on it hangs on.
fn seen_subscription(one: &SubscriptionDetail) -> String {
    let (known, intents) = (&one.subscription, one.intents.len());
    let period = known.period_end.map(|at| at.format(", period to %d %b %Y"));
    let period = period.map_or_else(String::new, |period| period.to_string());
    let pending = match intents {
        0 => String::new(),
        count => format!(", {count} to come"),
    };
    let (status, plan, price) = (known.status.as_str(), &known.plan, &known.price);
    format!("{status}, {plan} at {price}{period}{pending}")
}

fn since(words: &str, at: Option<DateTime<Utc>>) -> String {
    let at = at.map(|at| format!(" since {}", at.format("%d %b %Y %H:%M:%S")));
    format!("{words}{}", at.unwrap_or_default())
}

/// What is acted on, with its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subject {
    /// What it is.
    pub(crate) target: Target,
    /// What a person calls it.
    pub(crate) title: String,
}

impl Subject {
    /// A target with its name.
    pub(crate) fn new(target: Target, title: impl Into<String>) -> Self {
        Self {
            target,
            title: title.into(),
        }
    }
}

/// A verb that a place offers, on what, and why it is refused if it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offer {
    /// What it asks for.
    pub(crate) form: Form,
    /// What it is done to.
    pub(crate) subject: Subject,
    /// Why it cannot be done now.
    pub(crate) refused: Option<String>,
}

impl Offer {
    /// A verb that the server describes.
    pub(crate) fn of_server(
        action: &AllowedAction,
        subject: &Subject,
        run: Option<&RunDetail>,
    ) -> Self {
        Self {
            form: Form::of_server(action, run),
            subject: subject.clone(),
            refused: (!action.allowed).then(|| why_not(action).to_owned()),
        }
    }

    /// A verb that the console knows; the server checks the role again.
    pub(crate) fn of_role(form: Form, subject: &Subject, who: &Whoami, needs: Needs) -> Self {
        Self {
            form,
            subject: subject.clone(),
            refused: needs.refusal(who),
        }
    }

    /// The same, unless something else stands in its way.
    pub(crate) fn unless(mut self, hindered: bool, why: &str) -> Self {
        if hindered {
            self.refused = self.refused.or_else(|| Some(why.to_owned()));
        }
        self
    }
}

/// What a token needs for a verb.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// At least this role.
    pub(crate) role: Role,
    /// That it is not bound to one tenant.
    pub(crate) sees_all: bool,
}

impl Needs {
    /// A role, whichever tenant the token is bound to.
    pub(crate) const fn role(role: Role) -> Self {
        Self {
            role,
            sees_all: false,
        }
    }

    /// A role, and no bond to a tenant.
    pub(crate) const fn all(role: Role) -> Self {
        Self {
            role,
            sees_all: true,
        }
    }

    fn refusal(self, who: &Whoami) -> Option<String> {
        if who.role < self.role {
            return Some(format!("needs role {}", self.role.as_str()));
        }
        let is_bound = self.sees_all && who.tenant_id.is_some();
        is_bound.then(|| "needs a token that is not bound to a tenant".to_owned())
    }
}

/// Why an act is refused, in the server's words where it gave some.
pub(crate) fn why_not(action: &AllowedAction) -> &str {
    let reason = action.reason.as_deref();
    reason.unwrap_or("the server does not allow it")
}

/// Whether an operation may still be ended.
pub(crate) fn is_open(status: BulkStatus) -> bool {
    matches!(status, BulkStatus::Prepared | BulkStatus::Acting)
}
