//! What a mail tells that stands in rows, read when it is written: it may have waited for its hour,
//! and what was paid or credited meanwhile counts.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::{Input, store};
use crate::calendar::Interval;
use crate::money::{Currency, Money};
use crate::ports::stripe::Method;
use crate::subscription::{self, intent::Act};
use crate::{dunning, invoice, tenant, usage};

/// What is known when a mail is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The invoice that it is about.
    pub(super) invoice: Option<Owed>,
    /// All that is owed in the currency that it is about.
    pub(super) owed: Option<Money>,
    /// Whether there is a payment method to charge.
    pub(super) has_method: bool,
    /// What the subscription that it is about will be sold at by then.
    pub(super) sold: Option<Sold>,
    /// Whether what it tells of is not so any more.
    pub(super) moot: bool,
}

/// What a subscription is sold at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sold {
    /// The plan's name, as far as it is known.
    pub(super) plan: Option<String>,
    /// What a period costs.
    pub(super) price: Money,
    /// How long one is.
    pub(super) every: Interval,
}

impl Sold {
    fn of(offer: subscription::terms::Offer, currency: Currency) -> Self {
        Self {
            price: offer.price(currency),
            plan: Some(offer.plan_name),
            every: offer.interval,
        }
    }
}

/// An invoice that is not paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owed {
    /// Its number, as it is printed.
    pub(super) number: String,
    /// What is owed of it.
    pub(super) due: Money,
}

/// Finds the subscription whose policy a mail goes by: the one that it is about, by itself, its invoice
/// or the oldest of a debt; where it is about the tenant, the oldest that lives.
pub(super) async fn subscription(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    about: &Input,
) -> sqlx::Result<Option<Uuid>> {
    let invoice = match about {
        Input::RenewalComing {
            subscription_id, ..
        } => return Ok(Some(*subscription_id)),
        Input::TrialEnding {
            subscription_id: Some(id),
            ..
        }
        | Input::Cancelled {
            subscription_id: Some(id),
            ..
        }
        | Input::Grace {
            subscription_id: Some(id),
            ..
        }
        | Input::Suspended {
            subscription_id: Some(id),
            ..
        }
        | Input::Recovered {
            subscription_id: Some(id),
            ..
        }
        | Input::Final {
            subscription_id: Some(id),
            ..
        } => return Ok(Some(*id)),
        Input::PaymentFailed { invoice_id, .. }
        | Input::ActionNeeded { invoice_id, .. }
        | Input::Receipt {
            invoice_id: Some(invoice_id),
            ..
        } => *invoice_id,
        Input::TrialEnding { .. }
        | Input::Receipt { .. }
        | Input::CardExpiring { .. }
        | Input::Grace { .. }
        | Input::Suspended { .. }
        | Input::Recovered { .. }
        | Input::Final { .. }
        | Input::Cancelled { .. }
        | Input::Limit { .. } => {
            return subscription::store::find_oldest(conn, tenant, shard).await;
        }
    };
    invoice::store::find_subscription(conn, invoice, shard).await
}

/// Whether an attempt at an invoice of which one was declined is under way.
async fn is_tried(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: Currency,
    invoice: Uuid,
) -> sqlx::Result<bool> {
    let unpaid = dunning::store::list_unpaid(conn, tenant, shard, currency).await?;
    let tried = unpaid.iter().filter(|one| one.under_way().is_some());
    Ok(tried.map(|one| one.invoice_id).any(|id| id == invoice))
}

/// Looks up what a mail tells, and whether it is to be told still.
pub(super) async fn look(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    about: &Input,
) -> sqlx::Result<Facts> {
    let mut facts = Facts::default();
    match about {
        Input::PaymentFailed { invoice_id, .. } | Input::ActionNeeded { invoice_id, .. } => {
            let found = store::find_owed(conn, *invoice_id, shard).await?;
            facts.moot = !matches!(found, Some((_, true)));
            facts.invoice = found.map(|(owed, _)| owed);
            if let (Input::PaymentFailed { .. }, Some(owed)) = (about, &facts.invoice) {
                // What comes of the attempt that is under way by now is told.
                let currency = owed.due.currency();
                facts.moot |= is_tried(conn, tenant, shard, currency, *invoice_id).await?;
            }
        }
        Input::TrialEnding {
            subscription_id,
            ends_at,
            ..
        } => {
            facts.has_method = find_method(conn, tenant, shard).await?.is_some();
            if let Some(id) = subscription_id {
                facts.sold = sold_at(conn, *id, shard, *ends_at).await?;
                facts.moot = facts.sold.is_none();
            }
        }
        Input::RenewalComing {
            subscription_id,
            renews_at,
            ..
        } => {
            facts.sold = renewed_at(conn, *subscription_id, shard, *renews_at).await?;
            facts.moot = facts.sold.is_none();
        }
        Input::CardExpiring { method_id, .. } => {
            let method = find_method(conn, tenant, shard).await?;
            facts.moot = method.is_none_or(|method| method.id != *method_id);
        }
        Input::Grace { currency, .. } | Input::Suspended { currency, .. } => {
            look_at_debt(conn, tenant, shard, about, *currency, &mut facts).await?;
        }
        Input::Recovered {
            currency: Some(currency),
            since,
            ..
        } => {
            facts.moot = !is_recovered(conn, tenant, shard, *currency, *since).await?;
        }
        // What has ended is told whatever came after; what only waits may have been paid.
        Input::Final {
            currency: Some(currency),
            ends: false,
            ..
        } => {
            let state = store::find_debt_state(conn, tenant, shard, *currency).await?;
            facts.moot = state.as_deref() == Some("clear");
        }
        Input::Limit {
            feature,
            limit,
            percent,
            ..
        } => {
            let level = usage::find_level(conn, tenant, shard, feature).await?;
            let below = |level| !usage::rules::reaches(level, *limit, *percent);
            facts.moot = level.is_none_or(below);
        }
        Input::Receipt { .. }
        | Input::Recovered { currency: None, .. }
        | Input::Final { .. }
        | Input::Cancelled { .. } => {}
    }
    Ok(facts)
}

/// Whether nothing is owed any more, and something was paid since it was.
async fn is_recovered(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: Currency,
    since: Option<DateTime<Utc>>,
) -> sqlx::Result<bool> {
    let state = store::find_debt_state(conn, tenant, shard, currency).await?;
    if state.is_some_and(|state| state != "clear") {
        return Ok(false);
    }
    match since {
        Some(since) => store::is_paid_since(conn, tenant, shard, currency, since).await,
        None => Ok(true),
    }
}

/// Looks at a debt that stands as the mail says.
async fn look_at_debt(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    about: &Input,
    currency: Currency,
    facts: &mut Facts,
) -> sqlx::Result<()> {
    let state = store::find_debt_state(conn, tenant, shard, currency).await?;
    let unpaid = dunning::store::list_unpaid(conn, tenant, shard, currency).await?;
    let asked = unpaid.iter().any(|one| one.under_way().is_none());
    facts.moot = state.as_deref() != Some(about.kind()) || !(asked || unpaid.is_empty());
    let owed = unpaid.iter().map(|one| one.total.amount()).sum();
    facts.owed = (!unpaid.is_empty()).then(|| Money::new(owed, currency));
    Ok(())
}

/// The payment method that is charged.
async fn find_method(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Option<Method>> {
    let customer = tenant::store::find_customer(conn, tenant, shard).await?;
    Ok(customer.and_then(|customer| customer.method))
}

/// What a subscription will be sold at from its renewal at an instant on, also where that moves it to what
/// follows its retired plan.
async fn renewed_at(
    conn: &mut PgConnection,
    id: Uuid,
    shard: ShardId,
    at: DateTime<Utc>,
) -> sqlx::Result<Option<Sold>> {
    let Some(sold) = sold_at(conn, id, shard, at).await? else {
        return Ok(None);
    };
    let next = subscription::store::find_next(conn, shard, id, at).await?;
    let next = next.map(|offer| Sold::of(offer, sold.price.currency()));
    Ok(Some(next.unwrap_or(sold)))
}

/// What a subscription will be sold at from an instant on, after what is planned until then; `None`
/// when it is not billed then.
async fn sold_at(
    conn: &mut PgConnection,
    id: Uuid,
    shard: ShardId,
    at: DateTime<Utc>,
) -> sqlx::Result<Option<Sold>> {
    let Some(mut sold) = store::find_sold(conn, id, shard).await? else {
        return Ok(None);
    };
    let intents = subscription::store::list_intents(conn, shard, id).await?;
    for intent in intents.into_iter().filter(|intent| intent.at <= at) {
        match intent.act {
            Act::Cancel { .. } | Act::Pause { .. } => return Ok(None),
            Act::Change { offer } => sold = Sold::of(offer, sold.price.currency()),
            Act::Resume | Act::MoveAnchor { .. } => {}
        }
    }
    Ok(Some(sold))
}
