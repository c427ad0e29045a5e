//! The doors to subscriptions: create, find, ask for a change, see beforehand what it comes to.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tenure_engine::{Client, EngineError, Position, RunRef, ShardId, Signalled, TenantId};
use uuid::Uuid;

use super::course::{Course, Happening};
use super::intent::{Act, Intent, Kind, When};
use super::money::{CreditPolicy, Split, split};
use super::rules::{DisplayStatus, display_status, trial_end};
use super::terms::{AddOn, Offer, PLAN, SEATS, Terms, offer, redeem};
use super::{Lifecycle, Signal, State, SubscriptionRow, SubscriptionWorkflow, store};
use crate::calendar::{self, Period};
use crate::catalog;
use crate::door::DoorError;
use crate::money::{Currency, Money};
use crate::ports::stripe::smallest_part;
use crate::pricing::{Line, Totals};
use crate::{hold, invoice, tenant};

/// How far ahead something can be asked for.
const MOST_AHEAD: TimeDelta = TimeDelta::days(3653);

/// A subscription to create.
#[derive(Debug, Clone, Default)]
pub struct NewSubscription {
    /// The plan's key.
    pub plan: String,
    /// ISO 4217 code.
    pub currency: String,
    /// The caller's name for it: the same key again returns the first. A new one if none is given.
    pub key: Option<String>,
    /// How many seats; those that the plan includes when none is said.
    pub seats: Option<u32>,
    /// Add-ons, by key, and how many.
    pub add_ons: Vec<(String, u32)>,
    /// A coupon to redeem.
    pub coupon: Option<String>,
    /// When it begins, in the tenant's time: now, later, or earlier.
    pub start_at: Option<DateTime<Utc>>,
    /// The day of the month on which its periods begin; that of its start when none is said.
    pub anchor_day: Option<u32>,
}

/// What is wanted of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// Another plan, other seats, other add-ons; what is not said stays.
    Change {
        /// The plan's key; its current version is taken.
        plan: Option<String>,
        /// The current version, also of the plan and the add-ons that it has.
        newest: bool,
        /// How many seats.
        seats: Option<u32>,
        /// All add-ons from then on.
        add_ons: Option<Vec<(String, u32)>>,
    },
    /// The end.
    Cancel {
        /// What is given back of what was paid for.
        credit: CreditPolicy,
    },
    /// No use and no billing.
    Pause {
        /// When it goes on by itself.
        until: Option<DateTime<Utc>>,
    },
    /// It goes on.
    Resume,
    /// Periods begin on another day of the month.
    MoveAnchor {
        /// 1 to 31.
        day: u32,
    },
}

/// What was asked for, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The subscription.
    pub row: SubscriptionRow,
    /// What is to be done.
    pub act: Act,
    /// Whether with the period, or at an instant.
    pub when: When,
    /// The instant.
    pub at: DateTime<Utc>,
    /// The tenant's time.
    pub now: DateTime<Utc>,
    /// The tenant's zone.
    pub zone: String,
}

/// What an act comes to, before it is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// When it comes about.
    pub at: DateTime<Utc>,
    /// What is given back, and where it goes.
    pub credits: Vec<GivenBack>,
    /// What is charged, of all invoices that are drafted then.
    pub lines: Vec<Line>,
    /// The sums of what is charged.
    pub totals: Option<Totals>,
    /// What the tenant's balance pays of it; below zero, what is collected with it for earlier
    /// invoices.
    pub balance_applied: Money,
    /// What is left to be paid by its method.
    pub due: Money,
    /// What a whole period costs from then on, before discounts and tax.
    pub price: Money,
    /// The period that it is in from then on; none when it is paused or over.
    pub period: Option<Period>,
}

/// What is given back of an invoice.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenBack {
    /// The invoice; none while that is still to come.
    pub invoice_id: Option<Uuid>,
    /// In all, with tax.
    pub total: Decimal,
    /// Of the tax.
    pub tax: Decimal,
    /// Where it goes.
    pub split: Split,
}

/// Creates a subscription and its run. The transaction must act as the tenant.
///
/// Returns the row, its display status, and whether it was created now.
///
/// # Errors
/// [`DoorError::UnknownPlan`], [`DoorError::Retired`], [`DoorError::UnknownCurrency`],
/// [`DoorError::NotSoldIn`], [`DoorError::Malformed`] with the field; [`DoorError::NotFound`] for the
/// tenant; [`DoorError::Conflict`] while a hold blocks changes; [`EngineError::KeyTaken`] when the key
/// belongs to a subscription that was asked for otherwise.
pub async fn create(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    new: &NewSubscription,
) -> Result<(SubscriptionRow, DisplayStatus, bool), DoorError> {
    // What it begins with is the zone that the tenant is in when this is committed.
    tenant::store::share_zone(conn, tenant_id).await?;
    let tenant = tenant::find(conn, tenant_id).await?;
    let subscription_id = tenure_engine::new_uuid(tenant.shard_id);
    let key = new
        .key
        .clone()
        .unwrap_or_else(|| subscription_id.to_string());
    if let Some(holder) = find_by_key(client, conn, &tenant, &key, new).await? {
        return Ok((holder.0, holder.1, false));
    }
    let terms = terms_of(conn, &tenant, subscription_id, new).await?;
    let started = client
        .start::<SubscriptionWorkflow>(conn, tenant_id, &key, &terms)
        .await?;
    let (run, shard) = (started.run_id, tenant.shard_id);
    store::insert(conn, tenant_id, shard, run, &terms, &new.asked()).await?;
    let (row, status) = find(conn, tenant_id, subscription_id).await?;
    Ok((row, status, true))
}

/// What a new subscription is sold at, checked.
async fn terms_of(
    conn: &mut PgConnection,
    tenant: &tenant::TenantRow,
    subscription_id: Uuid,
    new: &NewSubscription,
) -> Result<Terms, DoorError> {
    let currency: Currency = new.currency.parse()?;
    let plan = catalog::find_plan(conn, &new.plan).await?;
    let add_ons = find_add_ons(conn, &new.add_ons, None).await?;
    let offer = offer(&plan, currency, new.seats, &add_ons)?;
    let now = tenure_engine::tenant::now(conn, tenant.tenant_id).await?;
    refuse_held(conn, tenant, None, now).await?;
    let zone = calendar::zone(&tenant.zone)?;
    let started_at = start_of(new, tenant, now)?;
    let trial_ends_at = trial_end(started_at, plan.terms.trial.days, zone);
    let first_day = calendar::local_day(trial_ends_at.unwrap_or(started_at), zone);
    let anchor_on = match new.anchor_day {
        None => first_day,
        Some(day) => calendar::anchor_before(first_day, day).ok_or_else(|| bad_day(day))?,
    };
    let coupon = match &new.coupon {
        None => None,
        Some(key) => {
            let day = calendar::local_day(now, zone);
            Some(redeem(
                key,
                &catalog::find_coupon(conn, key, day).await?,
                currency,
            )?)
        }
    };
    let setup_fee = plan.terms.setup_fee.get(&currency).copied();
    let trial_price = plan.terms.trial.prices.get(&currency).copied();
    let term_ends_at = plan.terms.periods.map(|periods| {
        let over = calendar::boundary(first_day, offer.interval, periods);
        calendar::start_of_day(over, zone)
    });
    Ok(Terms {
        subscription_id,
        offer,
        currency,
        zone: tenant.zone.clone(),
        next_zone: None,
        anchor_on,
        started_at,
        ahead: started_at > now,
        trial_ends_at,
        trial_price,
        without_method: plan.terms.trial.without_method,
        activation: plan.terms.activation,
        term_ends_at,
        setup_fee,
        coupon,
    })
}

/// Tells what creating a subscription comes to, and does nothing: what is charged and given back from
/// its start until now, or with its start where that lies ahead. The transaction must act as the tenant.
///
/// # Errors
/// As [`create`].
pub async fn preview_new(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    new: &NewSubscription,
) -> Result<Preview, DoorError> {
    let tenant = tenant::find(conn, tenant_id).await?;
    if let Some(key) = &new.key
        && let Some((row, _)) = find_by_key(client, conn, &tenant, key, new).await?
    {
        // It stands already: asking again comes to nothing.
        return Ok(Preview::nothing(row.started_at, row.price, row.period));
    }
    let shard = tenant.shard_id;
    let id = tenure_engine::new_uuid(shard);
    let terms = terms_of(conn, &tenant, id, new).await?;
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    let at = terms.started_at;
    let facts = store::opening_facts(conn, tenant_id, shard, id).await?;
    let has_method = store::has_method(conn, tenant_id, shard).await?;
    let state = State::Starting { terms };
    let mut course = Course::new(state, false, facts, has_method, at.min(now));
    let happenings = course.play(at.max(now))?;
    tell(conn, tenant_id, shard, &course, at, happenings).await
}

fn bad_day(day: u32) -> DoorError {
    DoorError::Malformed {
        field: "anchor_day",
        detail: format!("{day} is no day of the month (1 to 31; in shorter months their last)"),
    }
}

/// When it begins: not before its tenant did, and not more than ten years ahead.
fn start_of(
    new: &NewSubscription,
    tenant: &tenant::TenantRow,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, DoorError> {
    let start = new.start_at.unwrap_or(now);
    let malformed = |detail: String| {
        Err(DoorError::Malformed {
            field: "start_at",
            detail,
        })
    };
    if start < tenant.created_at {
        let since = tenant.created_at.to_rfc3339();
        return malformed(format!(
            "the tenant exists since {since}; nothing begins before that"
        ));
    }
    if start > now + MOST_AHEAD {
        return malformed("at most ten years ahead".to_owned());
    }
    Ok(start)
}

/// Finds add-ons; of those that `sold` has, the versions that it was sold.
async fn find_add_ons(
    conn: &mut PgConnection,
    wanted: &[(String, u32)],
    sold: Option<&Offer>,
) -> Result<Vec<AddOn>, DoorError> {
    let mut found: Vec<AddOn> = Vec::with_capacity(wanted.len());
    for (key, quantity) in wanted {
        if found.iter().any(|known| known.key == *key) {
            return Err(DoorError::Malformed {
                field: "add_ons",
                detail: format!("{key:?} is named twice"),
            });
        }
        let version = sold.and_then(|offer| offer.versions.get(key)).copied();
        let (terms, version) = catalog::find_add_on(conn, key, version).await?;
        found.push(AddOn {
            key: key.clone(),
            version,
            terms,
            quantity: *quantity,
        });
    }
    Ok(found)
}

impl NewSubscription {
    /// What is asked for under a key.
    fn asked(&self) -> Value {
        let mut add_ons = self.add_ons.clone();
        add_ons.sort();
        json!({
            "plan": self.plan,
            "currency": self.currency,
            "seats": self.seats,
            "add_ons": add_ons,
            "coupon": self.coupon,
            "start_at": self.start_at,
            "anchor_day": self.anchor_day,
        })
    }

    /// Whether a subscription is what is asked for, as far as is known of one of before 0135.
    fn is(&self, row: &SubscriptionRow, asked: Option<&Value>) -> bool {
        match asked {
            Some(asked) => *asked == self.asked(),
            None => row.plan == self.plan && row.price.currency().code() == self.currency,
        }
    }
}

/// The subscription that holds the key, if it was asked for in the same way.
async fn find_by_key(
    client: &Client,
    conn: &mut PgConnection,
    tenant: &tenant::TenantRow,
    key: &str,
    new: &NewSubscription,
) -> Result<Option<(SubscriptionRow, DisplayStatus)>, DoorError> {
    let (tenant_id, shard) = (tenant.tenant_id, tenant.shard_id);
    let holder = client
        .find_by_key::<SubscriptionWorkflow>(conn, tenant_id, key)
        .await?;
    let Some(run_id) = holder else {
        return Ok(None);
    };
    if let Some((id, asked)) = store::find_asked(conn, tenant_id, shard, run_id).await? {
        let found = find(conn, tenant_id, id).await?;
        if new.is(&found.0, asked.as_ref()) {
            return Ok(Some(found));
        }
    }
    Err(DoorError::Engine(EngineError::KeyTaken {
        key: key.to_owned(),
        run_id,
    }))
}

/// Refuses what a hold blocks, and names it.
async fn refuse_held(
    conn: &mut PgConnection,
    tenant: &tenant::TenantRow,
    subscription: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<(), DoorError> {
    let holds = hold::store::list(conn, tenant.tenant_id, tenant.shard_id, false, None).await?;
    let own = subscription.map(store::source_of);
    // A pause of its own is ended by the very acts that this would refuse.
    let others: Vec<hold::HoldRow> = holds
        .into_iter()
        .filter(|hold| own.is_none() || hold.source != own)
        .collect();
    let standing = hold::rules::standing(&others, subscription, now);
    let Some(id) = standing.changes else {
        return Ok(());
    };
    let hold = others.iter().find(|hold| hold.hold_id == id);
    let kind = hold.map_or("hold", |hold| hold.kind.word());
    Err(DoorError::Conflict(format!(
        "hold {id} ({kind}) blocks changes; it has to be lifted first"
    )))
}

/// Lists the tenant's subscriptions, newest first. The transaction must act as the tenant.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<Vec<(SubscriptionRow, DisplayStatus)>, DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    let rows = store::list(conn, tenant.tenant_id, tenant.shard_id, None).await?;
    Ok(rows
        .into_iter()
        .map(|(row, owes)| {
            let status = display_status(&row, owes);
            (row, status)
        })
        .collect())
}

/// Finds one subscription. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: Uuid,
) -> Result<(SubscriptionRow, DisplayStatus), DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    let rows = store::list(conn, tenant.tenant_id, tenant.shard_id, Some(subscription)).await?;
    let (row, owes) = rows
        .into_iter()
        .next()
        .ok_or_else(|| DoorError::not_found("subscription", subscription))?;
    let status = display_status(&row, owes);
    Ok((row, status))
}

/// When a subscription will be billed next, for as many boundaries as `most`. None while it is paused: nothing is billed then.
pub(crate) async fn coming(
    conn: &mut PgConnection,
    row: &SubscriptionRow,
    zone: &str,
    most: usize,
) -> Result<Vec<DateTime<Utc>>, DoorError> {
    let mut terms = store::find_terms(conn, row.shard_id, row.subscription_id).await?;
    terms.expect_zone(zone.to_owned());
    let mut all = match row.lifecycle {
        Lifecycle::Paused | Lifecycle::Ended => Vec::new(),
        Lifecycle::Scheduled | Lifecycle::Trialing => {
            let from = terms.trial_ends_at.unwrap_or(terms.started_at);
            terms.boundaries(None, from, most)
        }
        Lifecycle::Incomplete | Lifecycle::Active => {
            // Without a period it waits for the first payment of its trial.
            let from = row.trial_ends_at.unwrap_or(row.started_at);
            terms.boundaries(row.period.as_ref(), from, most)
        }
    };
    if let Some(ends) = row.cancel_at {
        all.retain(|at| *at <= ends);
    }
    Ok(all)
}

/// Tells all runs of a tenant's subscriptions that its days begin in another zone.
pub(crate) async fn move_zone(
    client: &Client,
    conn: &mut PgConnection,
    rows: &[SubscriptionRow],
    signal_id: &str,
    zone: &str,
) -> Result<(), DoorError> {
    let signal = Signal::MoveZone {
        zone: zone.to_owned(),
    };
    for row in rows {
        let run = RunRef::Id(row.run_id);
        let sent = client
            .signal::<SubscriptionWorkflow>(conn, row.tenant_id, run, signal_id, &signal)
            .await;
        match sent {
            // It has ended meanwhile: nothing of it is billed any more.
            Ok(_) | Err(EngineError::RunFinished { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Lists what will come about, soonest first, and what the subscription has now.
///
/// # Errors
/// When the database does not answer.
pub async fn list_intents(
    conn: &mut PgConnection,
    row: &SubscriptionRow,
) -> Result<(Vec<Intent>, Vec<crate::pricing::Item>), DoorError> {
    let intents = store::list_intents(conn, row.shard_id, row.subscription_id).await?;
    let items = store::list_items(conn, row.shard_id, row.subscription_id).await?;
    Ok((intents, items))
}

/// Checks what is wanted of a subscription. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] with what is allowed instead;
/// [`DoorError::Malformed`] with the field.
#[expect(
    clippy::too_many_lines,
    reason = "one arm for each thing that can be wanted, each checked where it stands"
)]
async fn ask(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    subscription: Uuid,
    wanted: &Wanted,
    when: When,
) -> Result<Asked, DoorError> {
    let tenant = tenant::find(conn, tenant_id).await?;
    let (row, _) = find(conn, tenant_id, subscription).await?;
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    let conflict = |detail: String| Err(DoorError::Conflict(detail));
    refuse_by_lifecycle(&row, wanted)?;
    let at = instant(&row, when, now)?;
    let terms = store::find_terms(conn, row.shard_id, subscription).await?;
    let intents = store::list_intents(conn, row.shard_id, subscription).await?;
    let act = match wanted {
        Wanted::Change {
            plan,
            newest,
            seats,
            add_ons,
        } => {
            refuse_held(conn, &tenant, Some(subscription), now).await?;
            refuse_amid_succession(conn, &row, now).await?;
            if store::is_paying(conn, row.shard_id, subscription).await? {
                return conflict(
                    "a payment is under way; change it when that has succeeded or failed"
                        .to_owned(),
                );
            }
            let plan = plan.as_deref().unwrap_or(&terms.offer.plan);
            let plan = if *newest || *plan != *terms.offer.plan {
                Some(catalog::find_plan(conn, plan).await?)
            } else {
                None
            };
            let offer = new_offer(conn, &terms, plan, *seats, add_ons.as_deref()).await?;
            // For how long its plan is sold is no matter of the rows, and of no change either.
            let periods = terms.offer.periods;
            let same = Offer {
                periods,
                set_up: terms.offer.set_up,
                ..offer.clone()
            };
            if same.is_same(&terms.offer) {
                return conflict("the subscription is just that already".to_owned());
            }
            Act::Change { offer }
        }
        Wanted::Cancel { credit } => Act::Cancel { credit: *credit },
        Wanted::Pause { until } => {
            check_pause(&row, &intents, at, *until)?;
            refuse_held(conn, &tenant, Some(subscription), now).await?;
            Act::Pause { until: *until }
        }
        Wanted::Resume => {
            let pauses = intents
                .iter()
                .any(|one| one.act.kind() == Kind::Pause && one.at < at);
            if row.lifecycle != Lifecycle::Paused && !pauses {
                return conflict("the subscription is not paused".to_owned());
            }
            Act::Resume
        }
        Wanted::MoveAnchor { day } => {
            if !(1..=31).contains(day) {
                return Err(bad_day(*day));
            }
            if row.lifecycle != Lifecycle::Active {
                return conflict(
                    "only a subscription in a paid period has a day to move".to_owned(),
                );
            }
            refuse_held(conn, &tenant, Some(subscription), now).await?;
            Act::MoveAnchor { day: *day }
        }
    };
    Ok(Asked {
        row,
        act,
        when,
        at,
        now,
        zone: tenant.zone,
    })
}

/// A change tells all that the subscription has from then on. A second one that is asked for before
/// the first is done would be made of what was before, and take the first back unseen.
async fn refuse_second_change(
    conn: &mut PgConnection,
    asked: &Asked,
    signal_id: &str,
) -> Result<(), DoorError> {
    if asked.act.kind() != Kind::Change {
        return Ok(());
    }
    let (run, shard) = (asked.row.run_id, asked.row.shard_id);
    match store::find_unread_change(conn, run, shard).await? {
        None => Ok(()),
        // The same wish again.
        Some(signal) if signal == signal_id => Ok(()),
        Some(signal) => Err(DoorError::Conflict(format!(
            "another change ({signal}) is being made just now; ask again when it is done"
        ))),
    }
}

/// A renewal that is late may move it to what follows its retired plan: a change that is asked for before
/// it has would be made of what was before, and take it back to that plan.
async fn refuse_amid_succession(
    conn: &mut PgConnection,
    row: &SubscriptionRow,
    now: DateTime<Utc>,
) -> Result<(), DoorError> {
    let renews = row.period.filter(|period| period.end <= now);
    let Some(period) = renews.filter(|_| row.lifecycle == Lifecycle::Active) else {
        return Ok(());
    };
    let next = store::find_next(conn, row.shard_id, row.subscription_id, period.end).await?;
    match next {
        None => Ok(()),
        Some(next) => Err(DoorError::Conflict(format!(
            "its plan is retired, and with the renewal that is being made just now it is moved to {:?}; \
             ask again when it is done",
            next.plan
        ))),
    }
}

/// Refuses what a subscription cannot do where it is in its life.
fn refuse_by_lifecycle(row: &SubscriptionRow, wanted: &Wanted) -> Result<(), DoorError> {
    let conflict = |detail: &str| Err(DoorError::Conflict(detail.to_owned()));
    match row.lifecycle {
        Lifecycle::Ended => conflict(&format!(
            "subscription {} has ended; start a new one instead",
            row.subscription_id
        )),
        Lifecycle::Incomplete if !matches!(wanted, Wanted::Cancel { .. }) => conflict(
            "the first payment has not come yet: it can be cancelled, or paid by attaching another \
             payment method",
        ),
        _ => Ok(()),
    }
}

/// The instant at which something comes about.
fn instant(
    row: &SubscriptionRow,
    when: When,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, DoorError> {
    match when {
        When::Now => Ok(now),
        When::At(at) if at < now => Err(DoorError::Malformed {
            field: "when",
            detail: format!("{} is past; it is {}", at.to_rfc3339(), now.to_rfc3339()),
        }),
        When::At(at) if at > now + MOST_AHEAD => Err(DoorError::Malformed {
            field: "when",
            detail: "at most ten years ahead".to_owned(),
        }),
        When::At(at) => Ok(at),
        When::PeriodEnd => Ok(match row.lifecycle {
            Lifecycle::Scheduled => row.started_at,
            Lifecycle::Trialing => row.trial_ends_at.unwrap_or(now),
            Lifecycle::Active | Lifecycle::Incomplete => {
                let end = row.period.map(|period| period.end);
                end.or(row.trial_ends_at).unwrap_or(now)
            }
            Lifecycle::Paused | Lifecycle::Ended => now,
        }),
    }
}

fn check_pause(
    row: &SubscriptionRow,
    intents: &[Intent],
    at: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
) -> Result<(), DoorError> {
    if row.lifecycle == Lifecycle::Paused {
        return Err(DoorError::Conflict(
            "the subscription is paused already; resume it, now or on a day".to_owned(),
        ));
    }
    if row.lifecycle == Lifecycle::Scheduled {
        return Err(DoorError::Conflict(
            "the subscription has not begun; cancel it, or let it begin".to_owned(),
        ));
    }
    if until.is_some_and(|until| until <= at) {
        return Err(DoorError::Malformed {
            field: "until",
            detail: "a pause ends after it begins".to_owned(),
        });
    }
    let ends = intents.iter().find(|one| one.act.kind() == Kind::Cancel);
    match ends {
        Some(ends) if ends.at <= at => Err(DoorError::Conflict(format!(
            "the subscription ends at {}, before that; undo the cancellation first",
            ends.at.to_rfc3339()
        ))),
        _ => Ok(()),
    }
}

/// The offer that a change leads to: what is not said stays as it was sold, also the versions unless a
/// plan is moved to.
async fn new_offer(
    conn: &mut PgConnection,
    terms: &Terms,
    plan: Option<catalog::Plan>,
    seats: Option<u32>,
    add_ons: Option<&[(String, u32)]>,
) -> Result<Offer, DoorError> {
    let now = &terms.offer;
    let moved = plan.is_some();
    let plan = match plan {
        Some(plan) => plan,
        None => catalog::find_version(conn, &now.plan, now.plan_version).await?,
    };
    let kept: Vec<(String, u32)> = now
        .items
        .iter()
        .filter(|item| item.item != PLAN && item.item != SEATS)
        .filter(|item| plan.terms.add_ons.contains(&item.item))
        .map(|item| (item.item.clone(), item.quantity))
        .collect();
    let wanted = add_ons.map_or(kept, <[_]>::to_vec);
    let add_ons = find_add_ons(conn, &wanted, (!moved).then_some(now)).await?;
    let seats = match (seats, &plan.terms.seats) {
        (Some(seats), _) => Some(seats),
        (None, Some(offered)) => now.seats.map(|seats| seats.max(offered.included)),
        (None, None) => None,
    };
    let mut offer = offer(&plan, terms.currency, seats, &add_ons)?;
    if offer.plan == now.plan {
        offer.succeeds.clone_from(&now.succeeds);
    }
    if !moved {
        // Add-ons that it has keep the price that they were sold at.
        for item in &mut offer.items {
            if let Some(known) = now.items.iter().find(|known| known.item == item.item) {
                item.unit_price = known.unit_price;
                item.name.clone_from(&known.name);
            }
        }
    }
    Ok(offer)
}

/// Tells what an act comes to, and does nothing. The transaction must act as the tenant.
///
/// The subscription is played forward from where its run is, by what the run itself goes by; so an act
/// that comes about later tells what is given back and charged then.
///
/// # Errors
/// As [`act`].
pub async fn preview(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: Uuid,
    wanted: &Wanted,
    when: When,
) -> Result<Preview, DoorError> {
    let Asked {
        row,
        act,
        now,
        zone,
        ..
    } = ask(conn, tenant, subscription, wanted, when).await?;
    let mut course = course(client, conn, &row, zone, now).await?;
    let (at, happenings) = course.ask(act, when)?;
    tell(conn, tenant, row.shard_id, &course, at, happenings).await
}

/// A subscription from where its run is on.
async fn course(
    client: &Client,
    conn: &mut PgConnection,
    row: &SubscriptionRow,
    zone: String,
    now: DateTime<Utc>,
) -> Result<Course, DoorError> {
    let (tenant, shard) = (row.tenant_id, row.shard_id);
    let mut position = client
        .find_position::<SubscriptionWorkflow>(conn, row.run_id)
        .await?;
    if let Some(terms) = position.state.terms_mut() {
        // A move of the tenant's that the run may not have heard of yet.
        terms.expect_zone(zone);
    }
    let from = position.state.began().unwrap_or(now).min(now);
    let facts = store::facts(conn, tenant, shard, row.subscription_id, from).await?;
    let has_method = store::has_method(conn, tenant, shard).await?;
    let Position { state, entered } = position;
    let intents = state.intents().map_or(&[][..], |all| &all.0);
    let successions = list_successions(conn, &state.terms().offer.plan, intents).await?;
    Ok(Course::new(state, entered, facts, has_method, now).knowing(successions))
}

/// What follows the plans that a subscription has or is to have.
async fn list_successions(
    conn: &mut PgConnection,
    plan: &str,
    intents: &[Intent],
) -> Result<Vec<catalog::Succession>, DoorError> {
    let coming = intents.iter().filter_map(|intent| match &intent.act {
        Act::Change { offer } => Some(&*offer.plan),
        _ => None,
    });
    let mut all = Vec::new();
    for plan in std::iter::once(plan).chain(coming) {
        all.extend(catalog::find_successor(conn, plan).await?);
    }
    Ok(all)
}

/// What a subscription to a retired plan is moved to with one of its renewals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follows {
    /// The plan's key.
    pub plan: String,
    /// Its name.
    pub name: String,
    /// With which renewal.
    pub at: DateTime<Utc>,
    /// What a period costs from then on, before discounts and tax.
    pub price: Money,
}

/// Looks what a subscription is moved to, and when, if its plan is retired: as its run would go on by
/// itself. None where that cannot be read. The transaction must act as the tenant.
///
/// # Errors
/// When the database does not answer.
pub async fn find_follows(
    client: &Client,
    conn: &mut PgConnection,
    row: &SubscriptionRow,
) -> Result<Option<Follows>, DoorError> {
    let intents = store::list_intents(conn, row.shard_id, row.subscription_id).await?;
    let successions = list_successions(conn, &row.plan, &intents).await?;
    if successions.is_empty() || row.lifecycle == Lifecycle::Ended {
        return Ok(None);
    }
    let zone = tenant::find(conn, row.tenant_id).await?.zone;
    let now = tenure_engine::tenant::now(conn, row.tenant_id).await?;
    let mut course = match course(client, conn, row, zone, now).await {
        Ok(course) => course,
        Err(DoorError::Engine(EngineError::Malformed { .. } | EngineError::RunNotFound(_))) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let currency = row.price.currency();
    let followed = course.find_followed(now + MOST_AHEAD)?;
    Ok(followed.map(|(at, offer)| Follows {
        price: offer.price(currency),
        plan: offer.plan,
        name: offer.plan_name,
        at,
    }))
}

/// Tells what comes about at an instant, and where its money comes from and goes: that depends on what
/// comes about before it.
async fn tell(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    course: &Course,
    at: DateTime<Utc>,
    happenings: Vec<Happening>,
) -> Result<Preview, DoorError> {
    let terms = course.state().terms();
    let currency = terms.currency;
    let period = match course.state() {
        State::Active { period, .. } => Some(*period),
        _ => None,
    };
    let mut balance = invoice::store::find_balance(conn, tenant, shard, currency.code()).await?;
    // What methods have paid of invoices that are still to come.
    let mut paid: HashMap<Uuid, Decimal> = HashMap::new();
    let mut told = Preview::nothing(at, terms.offer.price(currency), period);
    for happening in happenings {
        // A start that lies back brings all that has come since.
        let is_told = happening.at >= at;
        let credits = happening.credits.into_iter();
        for give in credits.filter(|give| !give.total.is_zero()) {
            let (due, refundable) = match paid.get(&give.invoice_id) {
                Some(paid) => (Decimal::ZERO, *paid),
                None => standing_of(conn, shard, give.invoice_id).await?,
            };
            let part = smallest_part(currency);
            let split = split(give.total, due, refundable, happening.policy, part);
            balance += split.to_balance;
            let invoice_id = match paid.get_mut(&give.invoice_id) {
                Some(paid) => {
                    *paid -= split.to_refund;
                    None
                }
                None => Some(give.invoice_id),
            };
            if is_told {
                told.credits.push(GivenBack {
                    invoice_id,
                    total: give.total,
                    tax: give.tax,
                    split,
                });
            }
        }
        if let Some((id, bill)) = happening.bill {
            let lines = bill.price();
            let totals = bill.totals(&lines);
            let applied = invoice::balance::taken(balance, totals.total);
            balance -= applied;
            paid.insert(id, totals.total - applied);
            if is_told {
                told.add(lines, totals, applied);
            }
        }
    }
    Ok(told)
}

/// What is still owed for an invoice, and what can go back to the methods that paid it.
async fn standing_of(
    conn: &mut PgConnection,
    shard: ShardId,
    invoice_id: Uuid,
) -> Result<(Decimal, Decimal), DoorError> {
    let standing = invoice::store::find_standing(conn, invoice_id, shard).await?;
    let due = standing.map_or(Decimal::ZERO, |standing| standing.due());
    let payments = invoice::store::list_refundable(conn, invoice_id, shard).await?;
    Ok((due, payments.iter().map(|payment| payment.left).sum()))
}

impl Preview {
    /// Neither charged nor given back.
    fn nothing(at: DateTime<Utc>, price: Money, period: Option<Period>) -> Self {
        let nothing = Money::zero(price.currency());
        Self {
            at,
            credits: Vec::new(),
            lines: Vec::new(),
            totals: None,
            balance_applied: nothing,
            due: nothing,
            price,
            period,
        }
    }

    /// Adds an invoice.
    fn add(&mut self, lines: Vec<Line>, totals: Totals, applied: Decimal) {
        let currency = self.price.currency();
        let due = totals.total - applied;
        self.balance_applied = Money::new(self.balance_applied.amount() + applied, currency);
        self.due = Money::new(self.due.amount() + due, currency);
        self.lines.extend(lines);
        self.totals = Some(self.totals.map_or(totals, |known| Totals {
            subtotal: known.subtotal + totals.subtotal,
            discount: known.discount + totals.discount,
            tax: known.tax + totals.tax,
            total: known.total + totals.total,
        }));
    }
}

/// Asks for an act on a subscription. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`], with what is allowed instead, when it has ended,
/// is that already, is held, pays just now, or waits for its first payment; [`DoorError::Malformed`],
/// [`DoorError::NotSoldIn`], [`DoorError::UnknownPlan`] and [`DoorError::Retired`] for what cannot be
/// had.
pub async fn act(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: Uuid,
    signal_id: &str,
    wanted: &Wanted,
    when: When,
) -> Result<(Signalled, Asked), DoorError> {
    // One after the other: what was asked for and not done yet is seen by who asks next.
    store::lock(conn, tenant, subscription).await?;
    let asked = ask(conn, tenant, subscription, wanted, when).await?;
    refuse_second_change(conn, &asked, signal_id).await?;
    let signal = Signal::asking(asked.act.clone(), when);
    let run = RunRef::Id(asked.row.run_id);
    let sent = client
        .signal::<SubscriptionWorkflow>(conn, tenant, run, signal_id, &signal)
        .await?;
    Ok((sent, asked))
}

/// Takes an intent back before it comes about. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when there is no such intent.
pub async fn undo(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: Uuid,
    signal_id: &str,
    intent: Kind,
) -> Result<Signalled, DoorError> {
    let (row, _) = find(conn, tenant, subscription).await?;
    let intents = store::list_intents(conn, row.shard_id, subscription).await?;
    if !intents.iter().any(|one| one.act.kind() == intent) {
        let known: Vec<&str> = intents.iter().map(|one| one.act.kind().word()).collect();
        let known = if known.is_empty() {
            "nothing".to_owned()
        } else {
            known.join(", ")
        };
        return Err(DoorError::Conflict(format!(
            "no {} is to come about; what is: {known}",
            intent.word()
        )));
    }
    let signal = Signal::Undo { intent };
    let run = RunRef::Id(row.run_id);
    Ok(client
        .signal::<SubscriptionWorkflow>(conn, tenant, run, signal_id, &signal)
        .await?)
}
