//! The doors to dunning: policies and who goes by them, exemptions, how debts stand.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use tenure_engine::{Client, EngineError, RunRef, TenantId};
use uuid::Uuid;

use super::policy::Policy;
use super::rules::UnderWay;
use super::{DunningWorkflow, Signal, store};
use crate::door::DoorError;
use crate::hold::Lifted;
use crate::money::{Currency, Money};
use crate::payment::rules::DeclineClass;
use crate::{catalog, tenant};

/// The longest reason, in characters.
const MAX_REASON: usize = 2_000;

/// A version of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRow {
    /// Its key.
    pub policy: String,
    /// Counts from 1.
    pub version: i32,
    /// What it says.
    pub document: Value,
    /// Who loaded it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When, in real time.
    pub loaded_at: DateTime<Utc>,
}

/// Who goes by a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignmentScope {
    /// Whoever no other assignment names.
    Default,
    /// Debts whose oldest unpaid invoice is for this plan.
    Plan(String),
    /// This tenant.
    Tenant(TenantId),
}

impl AssignmentScope {
    /// The stored word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Plan(_) => "plan",
            Self::Tenant(_) => "tenant",
        }
    }

    /// Whom it names; empty for the default.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Default => String::new(),
            Self::Plan(plan) => plan.clone(),
            Self::Tenant(tenant) => tenant.to_string(),
        }
    }

    /// Reads word and subject.
    #[must_use]
    pub fn from_words(word: &str, subject: &str) -> Option<Self> {
        match word {
            "default" => Some(Self::Default),
            "plan" => Some(Self::Plan(subject.to_owned())),
            "tenant" => subject.parse().ok().map(Self::Tenant),
            _ => None,
        }
    }
}

/// An assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Who.
    pub scope: AssignmentScope,
    /// Goes by which policy.
    pub policy: String,
    /// Who assigned it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When, in real time.
    pub assigned_at: DateTime<Utc>,
}

/// An exemption.
#[derive(Debug, Clone, PartialEq)]
pub struct ExemptionRow {
    /// Identity.
    pub exemption_id: Uuid,
    /// Of what is owed in this currency; `None` for all.
    pub currency: Option<Currency>,
    /// Until when, exclusive, in the tenant's time.
    pub ends_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// Who granted it.
    pub author: String,
    /// When, in the tenant's time.
    pub placed_at: DateTime<Utc>,
    /// How it was taken back, if it was.
    pub lifted: Option<Lifted>,
}

impl ExemptionRow {
    fn counts(&self, currency: Currency, now: DateTime<Utc>) -> bool {
        let of = self.currency.is_none_or(|own| own == currency);
        of && self.lifted.is_none() && self.ends_at > now
    }
}

/// An exemption to grant.
#[derive(Debug, Clone)]
pub struct NewExemption {
    /// Of what is owed in this currency; `None` for all.
    pub currency: Option<String>,
    /// Until when, exclusive, in the tenant's time.
    pub ends_at: DateTime<Utc>,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
}

/// A debt's row.
#[derive(Debug, Clone, PartialEq)]
pub struct DebtRow {
    /// The currency.
    pub currency: Currency,
    /// The word of its stage, such as `past_due`.
    pub state: String,
    /// Since when something is owed.
    pub since: Option<DateTime<Utc>>,
    /// When is tried again by itself.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The step that holds.
    pub step: Option<String>,
    /// The policy and its version at the last look; `None` for the one that is built in.
    pub policy: Option<(String, i32)>,
    /// The step that comes next, and when.
    pub next_step: Option<(String, DateTime<Utc>)>,
    /// When the ladder ends.
    pub ends_at: Option<DateTime<Utc>>,
}

/// A debt, with what it follows from.
#[derive(Debug, Clone, PartialEq)]
pub struct DebtView {
    /// How it stands.
    pub row: DebtRow,
    /// What is owed.
    pub owed: Money,
    /// What is unpaid, the oldest first.
    pub unpaid: Vec<UnpaidView>,
    /// The last decline.
    pub last_decline: Option<LastDeclineView>,
    /// The exemption that spares the tenant now and lasts longest.
    pub exemption: Option<ExemptionRow>,
}

/// An unpaid invoice.
#[derive(Debug, Clone, PartialEq)]
pub struct UnpaidView {
    /// The invoice.
    pub invoice_id: Uuid,
    /// What it is for.
    pub subscription_id: Uuid,
    /// What is owed.
    pub total: Money,
    /// When it first failed.
    pub failed_at: DateTime<Utc>,
    /// The attempt that is under way: dunning waits for its end.
    pub under_way: Option<UnderWay>,
}

/// The last decline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastDeclineView {
    /// In the provider's word.
    pub code: String,
    /// What a retry could change.
    pub class: DeclineClass,
    /// When.
    pub at: DateTime<Utc>,
}

/// Loads a policy as its next version; one that says the same as the newest is that one. Debts go
/// by it at their next look. The transaction must act as control.
///
/// # Errors
/// [`DoorError::BadPolicy`]; [`DoorError::Malformed`] for a bad key or reason;
/// [`DoorError::Conflict`] when somebody else loads it at the same time.
pub async fn load_policy(
    conn: &mut PgConnection,
    policy: &str,
    document: Value,
    author: &str,
    reason: &str,
) -> Result<PolicyRow, DoorError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if policy.is_empty() || policy.len() > 60 || !policy.chars().all(fits) {
        return Err(malformed("policy", "a key has 1 to 60 of a-z, 0-9 and -"));
    }
    check_reason(reason)?;
    let read = Policy::parse(document)?;
    let document =
        serde_json::to_value(read).map_err(|error| malformed("document", &error.to_string()))?;
    let known = store::list_policies(conn, Some(policy)).await?;
    let newest = known.into_iter().next();
    let version = newest.as_ref().map_or(1, |newest| newest.version + 1);
    if let Some(newest) = newest.filter(|newest| newest.document == document) {
        return Ok(newest);
    }
    let loaded = store::insert_policy(conn, policy, version, &document, author, reason).await?;
    let loaded_at = loaded.ok_or_else(|| {
        DoorError::Conflict(format!("somebody else loads {policy:?} at the same time"))
    })?;
    Ok(PolicyRow {
        policy: policy.to_owned(),
        version,
        document,
        author: author.to_owned(),
        reason: reason.to_owned(),
        loaded_at,
    })
}

/// Lists the versions of policies, by key and newest first: all, or those of one. The transaction
/// must act as control.
///
/// # Errors
/// [`DoorError::NotFound`] for one that was never loaded.
pub async fn policies(
    conn: &mut PgConnection,
    policy: Option<&str>,
) -> Result<Vec<PolicyRow>, DoorError> {
    let found = store::list_policies(conn, policy).await?;
    match policy {
        Some(policy) if found.is_empty() => Err(DoorError::not_found("dunning policy", policy)),
        _ => Ok(found),
    }
}

/// Says who goes by a policy; with `None`, that nobody of the scope does any more. Returns whether
/// anything stands there now. The transaction must act as control.
///
/// # Errors
/// [`DoorError::NotFound`] for policy or tenant, [`DoorError::UnknownPlan`],
/// [`DoorError::Malformed`] for a bad reason.
pub async fn assign(
    conn: &mut PgConnection,
    scope: &AssignmentScope,
    policy: Option<&str>,
    author: &str,
    reason: &str,
) -> Result<(), DoorError> {
    check_reason(reason)?;
    match scope {
        AssignmentScope::Default => {}
        AssignmentScope::Plan(plan) => {
            match catalog::list_versions(conn, plan).await {
                Err(DoorError::NotFound { .. }) => {
                    return Err(DoorError::UnknownPlan(plan.clone()));
                }
                known => known?,
            };
        }
        AssignmentScope::Tenant(tenant) => {
            tenant::find(conn, *tenant).await?;
        }
    }
    let Some(policy) = policy else {
        store::delete_assignment(conn, scope).await?;
        return Ok(());
    };
    policies(conn, Some(policy)).await?;
    store::put_assignment(conn, scope, policy, author, reason).await?;
    Ok(())
}

/// Lists who goes by which policy. The transaction must act as control.
///
/// # Errors
/// When the database does not answer.
pub async fn assignments(conn: &mut PgConnection) -> Result<Vec<Assignment>, DoorError> {
    Ok(store::list_assignments(conn).await?)
}

/// Asks the tenant's dunning to look again at what it owes: after a refund, a chargeback, a credit,
/// another policy. The transaction must act as the tenant.
///
/// # Errors
/// When the database does not answer.
pub async fn reevaluate(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
) -> Result<(), DoorError> {
    let tenant = tenant::find(conn, tenant_id).await?;
    for debt in store::list_debts(conn, tenant_id, tenant.shard_id).await? {
        let id = format!("look:{}", tenure_engine::new_uuid(tenant.shard_id));
        let run = RunRef::Key(debt.currency.code());
        let sent = client
            .signal::<DunningWorkflow>(conn, tenant_id, run, &id, &Signal::Reevaluate)
            .await;
        match sent {
            // Its run was cancelled by hand, or dropped: nobody looks after the debt any more.
            Err(EngineError::RunNotFound(_) | EngineError::RunFinished { .. }) => {}
            sent => {
                sent?;
            }
        }
    }
    Ok(())
}

/// Spares a tenant the steps and the end of dunning for a while. The transaction must act as the
/// tenant.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::UnknownCurrency`]; [`DoorError::Malformed`] for a bad
/// reason, or an end that has passed or lies more than a year ahead.
pub async fn exempt(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    new: &NewExemption,
    author: &str,
) -> Result<ExemptionRow, DoorError> {
    check_reason(&new.reason)?;
    let tenant = tenant::find(conn, tenant_id).await?;
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    if new.ends_at <= now || new.ends_at > now + chrono::TimeDelta::days(366) {
        return Err(malformed("ends_at", "it ends after now, and within a year"));
    }
    let row = ExemptionRow {
        exemption_id: tenure_engine::new_uuid(tenant.shard_id),
        currency: new.currency.as_deref().map(str::parse).transpose()?,
        ends_at: new.ends_at,
        reason: new.reason.trim().to_owned(),
        author: author.to_owned(),
        placed_at: now,
        lifted: None,
    };
    store::insert_exemption(conn, tenant_id, tenant.shard_id, &row).await?;
    reevaluate(client, conn, tenant_id).await?;
    Ok(row)
}

/// Takes an exemption back. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when that was done before;
/// [`DoorError::Malformed`] for a bad reason.
pub async fn lift_exemption(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    exemption_id: Uuid,
    author: &str,
    reason: &str,
) -> Result<ExemptionRow, DoorError> {
    check_reason(reason)?;
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    let all = store::list_exemptions(conn, tenant_id, shard).await?;
    let found = all.into_iter().find(|row| row.exemption_id == exemption_id);
    let mut row = found.ok_or_else(|| DoorError::not_found("exemption", exemption_id))?;
    let lifted = Lifted {
        at: tenure_engine::tenant::now(conn, tenant_id).await?,
        by: author.to_owned(),
        reason: reason.trim().to_owned(),
    };
    if !store::apply_exemption_lift(conn, exemption_id, shard, &lifted).await? {
        return Err(DoorError::Conflict(format!(
            "exemption {exemption_id} was taken back before"
        )));
    }
    row.lifted = Some(lifted);
    reevaluate(client, conn, tenant_id).await?;
    Ok(row)
}

/// Lists the tenant's exemptions, newest first, those that are over too. The transaction must act
/// as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn exemptions(
    conn: &mut PgConnection,
    tenant_id: TenantId,
) -> Result<Vec<ExemptionRow>, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    Ok(store::list_exemptions(conn, tenant_id, shard).await?)
}

/// Shows how the tenant's debts stand, by currency. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn debts(
    conn: &mut PgConnection,
    tenant_id: TenantId,
) -> Result<Vec<DebtView>, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    let exemptions = store::list_exemptions(conn, tenant_id, shard).await?;
    let mut views = Vec::new();
    for row in store::list_debts(conn, tenant_id, shard).await? {
        let currency = row.currency;
        let unpaid = store::list_unpaid(conn, tenant_id, shard, currency).await?;
        let last = store::find_last_decline(conn, tenant_id, shard, currency).await?;
        let counting = exemptions.iter().filter(|one| one.counts(currency, now));
        views.push(DebtView {
            owed: Money::new(unpaid.iter().map(|one| one.total.amount()).sum(), currency),
            unpaid: unpaid
                .into_iter()
                .map(|one| UnpaidView {
                    invoice_id: one.invoice_id,
                    subscription_id: one.subscription_id,
                    total: one.total,
                    failed_at: one.failed_at,
                    under_way: one.under_way(),
                })
                .collect(),
            last_decline: last.map(|last| LastDeclineView {
                code: last.code,
                class: last.last.class,
                at: last.at,
            }),
            exemption: counting.max_by_key(|one| one.ends_at).cloned(),
            row,
        });
    }
    Ok(views)
}

fn check_reason(reason: &str) -> Result<(), DoorError> {
    match reason.trim().chars().count() {
        1..=MAX_REASON if !reason.contains('\0') => Ok(()),
        _ => Err(malformed(
            "reason",
            "it has 1 to 2,000 characters and no NUL",
        )),
    }
}

fn malformed(field: &'static str, detail: &str) -> DoorError {
    DoorError::Malformed {
        field,
        detail: detail.to_owned(),
    }
}
