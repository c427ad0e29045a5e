//! The doors to subscriptions: create, find, ask for a change, see beforehand what it comes to.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_engine::{Client, EngineError, RunRef, Signalled, TenantId};
use uuid::Uuid;

use super::intent::{Act, Intent, Kind, When};
use super::money::{self, CreditPolicy, GiveBack, Outcome, split};
use super::rules::{DisplayStatus, display_status, trial_end};
use super::terms::{AddOn, Offer, PLAN, SEATS, Terms, offer, redeem};
use super::{Lifecycle, Signal, SubscriptionRow, SubscriptionWorkflow, store};
use crate::calendar::{self, Period};
use crate::catalog;
use crate::door::DoorError;
use crate::money::{Currency, Money};
use crate::pricing::{Line, Totals};
use crate::{hold, invoice, tenant};

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
    /// What it is sold at now.
    pub terms: Terms,
    /// What is to be done.
    pub act: Act,
    /// Whether with the period, or at an instant.
    pub when: When,
    /// The instant.
    pub at: DateTime<Utc>,
    /// The tenant's time.
    pub now: DateTime<Utc>,
}

/// What an act comes to, before it is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// When it comes about.
    pub at: DateTime<Utc>,
    /// What is given back, and where it goes.
    pub credits: Vec<(GiveBack, money::Split)>,
    /// What is charged.
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

/// Creates a subscription and its run. The transaction must act as the tenant.
///
/// Returns the row, its display status, and whether it was created now.
///
/// # Errors
/// [`DoorError::UnknownPlan`], [`DoorError::Retired`], [`DoorError::UnknownCurrency`],
/// [`DoorError::NotSoldIn`], [`DoorError::Malformed`] with the field; [`DoorError::NotFound`] for the
/// tenant; [`DoorError::Conflict`] while a hold blocks changes; [`EngineError::KeyTaken`] when the key
/// belongs to a subscription of another plan or currency.
pub async fn create(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    new: &NewSubscription,
) -> Result<(SubscriptionRow, DisplayStatus, bool), DoorError> {
    let currency: Currency = new.currency.parse()?;
    let plan = catalog::find_plan(conn, &new.plan).await?;
    let add_ons = find_add_ons(conn, &new.add_ons).await?;
    let offer = offer(&plan, currency, new.seats, &add_ons)?;
    // What it begins with is the zone that the tenant is in when this is committed.
    tenant::store::share_zone(conn, tenant_id).await?;
    let tenant = tenant::find(conn, tenant_id).await?;
    let subscription_id = tenure_engine::new_uuid(tenant.shard_id);
    let key = new
        .key
        .clone()
        .unwrap_or_else(|| subscription_id.to_string());
    if let Some(holder) = find_by_key(client, conn, &tenant, &key, &offer, currency).await? {
        return Ok((holder.0, holder.1, false));
    }
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    refuse_held(conn, &tenant, None, now).await?;
    let zone = calendar::zone(&tenant.zone)?;
    let started_at = start_of(new, &tenant, now)?;
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
    let term_ends_at = plan.terms.periods.map(|periods| {
        let over = calendar::boundary(first_day, offer.interval, periods);
        calendar::start_of_day(over, zone)
    });
    let terms = Terms {
        subscription_id,
        offer,
        currency,
        zone: tenant.zone.clone(),
        next_zone: None,
        anchor_on,
        started_at,
        ahead: started_at > now,
        trial_ends_at,
        without_method: plan.terms.trial.without_method,
        activation: plan.terms.activation,
        term_ends_at,
        setup_fee,
        coupon,
    };
    let started = client
        .start::<SubscriptionWorkflow>(conn, tenant_id, &key, &terms)
        .await?;
    store::insert(conn, tenant_id, tenant.shard_id, started.run_id, &terms).await?;
    let (row, status) = find(conn, tenant_id, subscription_id).await?;
    Ok((row, status, true))
}

fn bad_day(day: u32) -> DoorError {
    DoorError::Malformed {
        field: "anchor_day",
        detail: format!("{day} is no day of the month (1 to 31; in shorter months their last)"),
    }
}

/// When it begins: not before its tenant did, and not more than a year ahead.
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
    if start > now + chrono::TimeDelta::days(3653) {
        return malformed("at most ten years ahead".to_owned());
    }
    Ok(start)
}

async fn find_add_ons(
    conn: &mut PgConnection,
    wanted: &[(String, u32)],
) -> Result<Vec<AddOn>, DoorError> {
    let mut found: Vec<AddOn> = Vec::with_capacity(wanted.len());
    for (key, quantity) in wanted {
        if found.iter().any(|known| known.key == *key) {
            return Err(DoorError::Malformed {
                field: "add_ons",
                detail: format!("{key:?} is named twice"),
            });
        }
        found.push(AddOn {
            key: key.clone(),
            terms: catalog::find_add_on(conn, key).await?,
            quantity: *quantity,
        });
    }
    Ok(found)
}

/// The subscription that holds the key, if it is of the same plan and currency.
async fn find_by_key(
    client: &Client,
    conn: &mut PgConnection,
    tenant: &tenant::TenantRow,
    key: &str,
    offer: &Offer,
    currency: Currency,
) -> Result<Option<(SubscriptionRow, DisplayStatus)>, DoorError> {
    let holder = client
        .find_by_key::<SubscriptionWorkflow>(conn, tenant.tenant_id, key)
        .await?;
    let Some(run_id) = holder else {
        return Ok(None);
    };
    let all = store::list(conn, tenant.tenant_id, tenant.shard_id, None).await?;
    let same = |row: &SubscriptionRow| row.plan == offer.plan && row.price.currency() == currency;
    match all.into_iter().find(|(row, _)| row.run_id == run_id) {
        Some((row, owes)) if same(&row) => {
            let status = display_status(&row, owes);
            Ok(Some((row, status)))
        }
        _ => Err(DoorError::Engine(EngineError::KeyTaken {
            key: key.to_owned(),
            run_id,
        })),
    }
}

/// Refuses what a hold blocks, and names it.
async fn refuse_held(
    conn: &mut PgConnection,
    tenant: &tenant::TenantRow,
    subscription: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<(), DoorError> {
    let holds = hold::store::list(conn, tenant.tenant_id, tenant.shard_id, false, None).await?;
    let own = subscription.map(|id| format!("subscription/{id}"));
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
            terms.boundaries(row.period.as_ref(), row.started_at, most)
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
    let mut terms = store::find_terms(conn, row.shard_id, subscription).await?;
    terms.expect_zone(tenant.zone.clone());
    let intents = store::list_intents(conn, row.shard_id, subscription).await?;
    let act = match wanted {
        Wanted::Change {
            plan,
            seats,
            add_ons,
        } => {
            refuse_held(conn, &tenant, Some(subscription), now).await?;
            if store::is_paying(conn, row.shard_id, subscription).await? {
                return conflict(
                    "a payment is under way; change it when that has succeeded or failed"
                        .to_owned(),
                );
            }
            let offer =
                new_offer(conn, &terms, plan.as_deref(), *seats, add_ons.as_deref()).await?;
            // For how long its plan is sold is no matter of the rows, and of no change either.
            let periods = terms.offer.periods;
            let same = Offer {
                periods,
                set_up: terms.offer.set_up,
                ..offer.clone()
            };
            if same == terms.offer {
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
        terms,
        act,
        when,
        at,
        now,
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
        When::At(at) => Ok(at),
        When::PeriodEnd => Ok(match row.lifecycle {
            Lifecycle::Scheduled => row.started_at,
            Lifecycle::Trialing => row.trial_ends_at.unwrap_or(now),
            Lifecycle::Active | Lifecycle::Incomplete => {
                row.period.map_or(now, |period| period.end)
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

/// The offer that a change leads to: what is not said stays as it was sold.
async fn new_offer(
    conn: &mut PgConnection,
    terms: &Terms,
    plan: Option<&str>,
    seats: Option<u32>,
    add_ons: Option<&[(String, u32)]>,
) -> Result<Offer, DoorError> {
    let now = &terms.offer;
    let (plan, moved) = match plan {
        Some(key) if key != now.plan => (catalog::find_plan(conn, key).await?, true),
        _ => {
            let version = now.plan_version;
            (
                catalog::find_version(conn, &now.plan, version).await?,
                false,
            )
        }
    };
    let kept: Vec<(String, u32)> = now
        .items
        .iter()
        .filter(|item| item.item != PLAN && item.item != SEATS)
        .filter(|item| plan.terms.add_ons.contains(&item.item))
        .map(|item| (item.item.clone(), item.quantity))
        .collect();
    let wanted = add_ons.map_or(kept, <[_]>::to_vec);
    let add_ons = find_add_ons(conn, &wanted).await?;
    let seats = match (seats, &plan.terms.seats) {
        (Some(seats), _) => Some(seats),
        (None, Some(offered)) => now.seats.map(|seats| seats.max(offered.included)),
        (None, None) => None,
    };
    let mut offer = offer(&plan, terms.currency, seats, &add_ons)?;
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
/// # Errors
/// As [`act`].
pub async fn preview(
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: Uuid,
    wanted: &Wanted,
    when: When,
) -> Result<Preview, DoorError> {
    let asked = ask(conn, tenant, subscription, wanted, when).await?;
    let (shard, currency) = (asked.row.shard_id, asked.terms.currency);
    let from = asked.row.period.map_or(asked.at, |period| period.start);
    let facts = store::facts(conn, tenant, shard, subscription, from.min(asked.at)).await?;
    let (outcome, terms, period) = come_to(&asked, &facts)?;
    let policy = match (&asked.act, asked.when) {
        (Act::Cancel { credit }, _) => *credit,
        _ => CreditPolicy::Credit,
    };
    let mut credits = Vec::new();
    let mut balance = invoice::store::find_balance(conn, tenant, shard, currency.code()).await?;
    if policy != CreditPolicy::None {
        for give in outcome.credits {
            let standing = invoice::store::find_standing(conn, give.invoice_id, shard).await?;
            let due = standing.map_or(Decimal::ZERO, |standing| standing.due());
            let paid = invoice::store::list_refundable(conn, give.invoice_id, shard).await?;
            let paid = paid.iter().map(|payment| payment.left).sum();
            let split = split(give.total, due, paid, policy);
            balance += split.to_balance;
            credits.push((give, split));
        }
    }
    let lines = outcome.bill.as_ref().map(crate::pricing::Bill::price);
    let lines = lines.unwrap_or_default();
    let totals = outcome.bill.as_ref().map(|bill| bill.totals(&lines));
    let total = totals.map_or(Decimal::ZERO, |totals| totals.total);
    let applied = invoice::balance::taken(balance, total);
    Ok(Preview {
        at: asked.at,
        credits,
        lines,
        totals,
        balance_applied: Money::new(applied, currency),
        due: Money::new(total - applied, currency),
        price: terms.offer.price(currency),
        period,
    })
}

/// What an act comes to, and the terms and the period from then on.
fn come_to(
    asked: &Asked,
    facts: &money::Facts,
) -> Result<(Outcome, Terms, Option<Period>), DoorError> {
    let Asked {
        row,
        terms,
        act,
        at,
        ..
    } = asked;
    let zone = terms.zone()?;
    let tax = facts.tax.as_ref();
    let billed_now = row.lifecycle == Lifecycle::Active;
    let ends_with_period = row.period.is_some_and(|period| period.end == *at);
    let period = row.period.filter(|_| billed_now);
    let mut next = terms.clone();
    Ok(match (act, period) {
        (Act::Cancel { .. }, Some(period)) => {
            let (_, outcome) = money::stop(terms, &period, *at, zone, facts);
            (outcome, next, None)
        }
        (Act::Pause { .. }, Some(period)) => {
            let (_, outcome) = money::stop(terms, &period, *at, zone, facts);
            (outcome, next, None)
        }
        (Act::Change { offer }, Some(period)) if ends_with_period => {
            next.pass_period();
            let index = if next.offer.restarts(offer) {
                next.anchor_on = calendar::local_day(*at, zone);
                0
            } else {
                period.index + 1
            };
            next.sell(offer.clone(), index, zone);
            next.keep_coupon_time(terms, period.index + 1);
            let (period, entered) = next.begin(Some(index), *at, zone);
            let outcome = Outcome {
                credits: Vec::new(),
                bill: money::open(&next, &period, entered, tax).filter(|_| !facts.is_blocked(*at)),
            };
            (outcome, next, Some(period))
        }
        (Act::Change { offer }, Some(period)) => {
            let changed = money::change(terms, &period, offer, *at, zone, facts);
            (changed.outcome, changed.terms, Some(changed.period))
        }
        (Act::MoveAnchor { day }, Some(period)) => {
            let changed = money::move_anchor(terms, &period, *day, *at, zone, facts);
            (changed.outcome, changed.terms, Some(changed.period))
        }
        (Act::Resume, _) => {
            let ended = facts.held.iter().filter_map(|held| held.to);
            let used_until = ended.max().unwrap_or(DateTime::<Utc>::MIN_UTC);
            let entered = next.enter_zone(zone);
            let (period, bill) = money::resume(&next, used_until, *at, entered, facts);
            let outcome = Outcome {
                credits: Vec::new(),
                bill,
            };
            (outcome, next, Some(period))
        }
        (Act::Change { offer }, None) => {
            next.offer = offer.clone();
            (Outcome::default(), next, None)
        }
        (Act::Cancel { .. } | Act::Pause { .. } | Act::MoveAnchor { .. }, None) => {
            (Outcome::default(), next, None)
        }
    })
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
