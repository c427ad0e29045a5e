//! The rows of subscriptions: what they are, what they have, what will become of them.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_engine::{RunId, ShardId, TenantId};
use uuid::Uuid;

use super::intent::{Act, Intent, Intents, Kind, When};
use super::money::{Billed, Blocked, Facts, Held};
use super::terms::{Offer, Redeemed, Terms, succeed};
use super::{Lifecycle, SubscriptionRow, life};
use crate::calendar::Period;
use crate::catalog::{self, Activation, Billing, Proration, WithoutMethod};
use crate::money::Money;
use crate::pricing::{Discount, Item};
use crate::{hold, invoice, tenant};

fn decode<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

const fn billing_word(billing: Billing) -> &'static str {
    match billing {
        Billing::InAdvance => "in_advance",
        Billing::InArrears => "in_arrears",
    }
}

const fn proration_word(proration: Proration) -> &'static str {
    match proration {
        Proration::Day => "day",
        Proration::Second => "second",
    }
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn period_of(
    index: Option<i32>,
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
) -> Option<Period> {
    Some(Period {
        index: index?.unsigned_abs(),
        start: start?,
        end: end?,
    })
}

fn coupon_off(terms: &Terms) -> sqlx::Result<Option<serde_json::Value>> {
    let coupon = terms.coupon.as_ref();
    coupon
        .map(|coupon| serde_json::to_value(coupon.discount.off))
        .transpose()
        .map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

/// Inserts a subscription that has not begun.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    run: RunId,
    terms: &Terms,
    asked: &serde_json::Value,
) -> sqlx::Result<()> {
    let offer = &terms.offer;
    sqlx::query!(
        r#"
        insert into app.subscription
          (subscription_id, shard_id, tenant_id, run_id, plan, plan_version, seats, billing_interval,
           billing, proration, currency, amount, zone, anchor_on, started_at, trial_ends_at,
           term_ends_at, coupon, coupon_left, coupon_off, lifecycle, asked)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
          $20, 'scheduled', $21)
        "#,
        terms.subscription_id,
        shard.0,
        tenant.0,
        run.0,
        offer.plan,
        offer.plan_version,
        offer.seats.map(count),
        offer.interval.to_string(),
        billing_word(offer.billing),
        proration_word(offer.proration),
        terms.currency.code(),
        offer.price(terms.currency).amount(),
        terms.zone,
        terms.anchor_on,
        terms.started_at,
        terms.trial_ends_at,
        terms.term_ends_at,
        terms.coupon.as_ref().map(|coupon| coupon.discount.coupon.as_str()),
        terms.coupon.as_ref().and_then(|coupon| coupon.left).map(count),
        coupon_off(terms)?,
        asked,
    )
    .execute(&mut *conn)
    .await?;
    apply_items(conn, tenant, shard, terms, terms.started_at).await
}

/// Finds the subscription of a run, and what its creation asked for.
pub(super) async fn find_asked(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    run: RunId,
) -> sqlx::Result<Option<(Uuid, Option<serde_json::Value>)>> {
    let row = sqlx::query!(
        r#"
        select subscription_id, asked
        from app.subscription
        where tenant_id = $1
          and shard_id = $2
          and run_id = $3
        "#,
        tenant.0,
        shard.0,
        run.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.subscription_id, row.asked)))
}

/// Finds the tenant's oldest subscription that lives.
pub(crate) async fn find_oldest(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        r#"
        select subscription_id
        from app.subscription
        where tenant_id = $1
          and shard_id = $2
          and lifecycle <> 'ended'
        order by started_at, subscription_id
        limit 1
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await
}

/// Lists the tenant's subscriptions, newest first, with whether something is owed for them: an
/// invoice of theirs is open and was declined. What is owed for another one is no matter of theirs
/// (killbill/killbill#1997). One of them when `subscription` names it.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Option<Uuid>,
) -> sqlx::Result<Vec<(SubscriptionRow, bool)>> {
    let rows = sqlx::query!(
        r#"
        select
          subscription.subscription_id, subscription.run_id as "run_id: RunId", subscription.plan,
          subscription.plan_version, subscription.succeeds, subscription.seats,
          subscription.billing_interval,
          subscription.currency, subscription.amount, subscription.zone, subscription.started_at,
          subscription.trial_ends_at, subscription.term_ends_at, subscription.coupon,
          subscription.lifecycle, subscription.period_index, subscription.period_start,
          subscription.period_end, subscription.ended_at, subscription.end_reason,
          intent.effective_at as "cancel_at?",
          exists (
            select from app.invoice
            join app.payment on payment.invoice_id = invoice.invoice_id and payment.shard_id = $2
            where invoice.subscription_id = subscription.subscription_id
              and invoice.shard_id = $2
              and invoice.status = 'open'
              and payment.status = 'declined') as "owes!"
        from app.subscription
        left join app.subscription_intent as intent
          on intent.subscription_id = subscription.subscription_id
          and intent.shard_id = subscription.shard_id
          and intent.kind = 'cancel'
        where subscription.tenant_id = $1
          and subscription.shard_id = $2
          and ($3::uuid is null or subscription.subscription_id = $3)
        order by subscription.subscription_id desc
        "#,
        tenant.0,
        shard.0,
        subscription,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let currency = row.currency.parse().map_err(decode)?;
            let period = period_of(row.period_index, row.period_start, row.period_end);
            let subscription = SubscriptionRow {
                subscription_id: row.subscription_id,
                shard_id: shard,
                tenant_id: tenant,
                run_id: row.run_id,
                plan: row.plan,
                plan_version: row.plan_version,
                succeeds: row.succeeds,
                seats: row.seats.map(i32::unsigned_abs),
                interval: row.billing_interval.parse().map_err(decode)?,
                price: Money::new(row.amount, currency),
                zone: row.zone,
                started_at: row.started_at,
                trial_ends_at: row.trial_ends_at,
                term_ends_at: row.term_ends_at,
                coupon: row.coupon,
                lifecycle: Lifecycle::from_word(&row.lifecycle)
                    .ok_or_else(|| decode(format!("{:?} is no lifecycle", row.lifecycle)))?,
                period,
                cancel_at: row.cancel_at,
                ended_at: row.ended_at,
                end_reason: row.end_reason,
            };
            Ok((subscription, row.owes))
        })
        .collect()
}

/// Finds what a subscription is sold at, as far as its rows tell: what only matters until the first
/// period (set-up fee, activation, a trial's price and what it leads to without a method) is the run's alone.
pub(super) async fn find_terms(
    conn: &mut PgConnection,
    shard: ShardId,
    subscription: Uuid,
) -> sqlx::Result<Terms> {
    let row = sqlx::query!(
        r#"
        select plan, plan_version, succeeds, seats, billing_interval, billing, proration, currency, zone,
          anchor_on, started_at, trial_ends_at, term_ends_at, coupon, coupon_left, coupon_off
        from app.subscription
        where subscription_id = $1
          and shard_id = $2
        "#,
        subscription,
        shard.0,
    )
    .fetch_one(&mut *conn)
    .await?;
    let sold = list_sold(conn, shard, subscription).await?;
    let versions = sold.iter();
    let versions = versions.filter_map(|(item, version)| Some((item.item.clone(), (*version)?)));
    let versions = versions.collect();
    let items: Vec<Item> = sold.into_iter().map(|(item, _)| item).collect();
    let coupon = match (row.coupon, row.coupon_off) {
        (Some(coupon), Some(off)) => Some(Redeemed {
            discount: Discount {
                coupon,
                off: serde_json::from_value(off).map_err(decode)?,
            },
            left: row.coupon_left.map(i32::unsigned_abs),
        }),
        _ => None,
    };
    let plan_name = items
        .iter()
        .find(|item| item.item == super::terms::PLAN)
        .map_or_else(|| row.plan.clone(), |item| item.name.clone());
    Ok(Terms {
        subscription_id: subscription,
        offer: Offer {
            plan: row.plan,
            plan_name,
            plan_version: row.plan_version,
            interval: row.billing_interval.parse().map_err(decode)?,
            billing: match row.billing.as_str() {
                "in_arrears" => Billing::InArrears,
                _ => Billing::InAdvance,
            },
            proration: match row.proration.as_str() {
                "second" => Proration::Second,
                _ => Proration::Day,
            },
            items,
            versions,
            seats: row.seats.map(i32::unsigned_abs),
            periods: None,
            set_up: None,
            succeeds: row.succeeds,
        },
        currency: row.currency.parse().map_err(decode)?,
        zone: row.zone,
        next_zone: None,
        anchor_on: row.anchor_on,
        started_at: row.started_at,
        ahead: false,
        trial_ends_at: row.trial_ends_at,
        trial_price: None,
        without_method: WithoutMethod::Bill,
        activation: Activation::Start,
        term_ends_at: row.term_ends_at,
        setup_fee: None,
        coupon,
    })
}

/// Finds what a subscription is sold at from its renewal at an instant on, if that is its retired plan's
/// successor.
pub(crate) async fn find_next(
    conn: &mut PgConnection,
    shard: ShardId,
    subscription: Uuid,
    at: DateTime<Utc>,
) -> sqlx::Result<Option<Offer>> {
    let mut terms = find_terms(conn, shard, subscription).await?;
    let mut intents = Intents(list_intents(conn, shard, subscription).await?);
    // A change on a day before then has been made by then.
    let before = |one: &Intent| one.act.kind() == Kind::Change && one.is_dated() && one.at < at;
    if let Some(Act::Change { offer }) = intents.take_if(before).map(|one| one.act) {
        terms.offer = offer;
    }
    let Some(next) = catalog::find_successor(conn, &terms.offer.plan).await? else {
        return Ok(None);
    };
    let zone = terms.zone().map_err(decode)?;
    let follows = life::may_follow(&terms, &intents, at);
    let followed = follows.then(|| succeed(&terms, &intents, at, zone, &next));
    Ok(followed.flatten().map(|followed| followed.offer))
}

/// Lists what a subscription has now, the plan first.
pub(super) async fn list_items(
    conn: &mut PgConnection,
    shard: ShardId,
    subscription: Uuid,
) -> sqlx::Result<Vec<Item>> {
    let sold = list_sold(conn, shard, subscription).await?;
    Ok(sold.into_iter().map(|(item, _)| item).collect())
}

/// Lists what a subscription has now, the plan first, with the versions of add-ons.
async fn list_sold(
    conn: &mut PgConnection,
    shard: ShardId,
    subscription: Uuid,
) -> sqlx::Result<Vec<(Item, Option<i32>)>> {
    let rows = sqlx::query!(
        r#"
        select distinct on (item) item, name, unit_price, quantity, version
        from app.subscription_item
        where subscription_id = $1
          and shard_id = $2
          and (valid_to is null or not exists (
            select 1
            from app.subscription_item as live
            where live.subscription_id = $1
              and live.shard_id = $2
              and live.valid_to is null))
        order by item, valid_from desc
        "#,
        subscription,
        shard.0,
    )
    .fetch_all(conn)
    .await?;
    let mut sold: Vec<(Item, Option<i32>)> = rows
        .into_iter()
        .map(|row| {
            let item = Item {
                item: row.item,
                name: row.name,
                unit_price: row.unit_price,
                quantity: row.quantity.unsigned_abs(),
            };
            (item, row.version)
        })
        .collect();
    sold.sort_by_key(|(item, _)| item.item != super::terms::PLAN);
    Ok(sold)
}

/// Whether a payment for one of its invoices is under way.
pub(super) async fn is_paying(
    conn: &mut PgConnection,
    shard: ShardId,
    subscription: Uuid,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
          select 1
          from app.invoice
          join app.payment
            on payment.invoice_id = invoice.invoice_id
            and payment.shard_id = invoice.shard_id
          where invoice.subscription_id = $1
            and invoice.shard_id = $2
            and payment.status in ('sent', 'processing', 'requires_action')) as "paying!"
        "#,
        subscription,
        shard.0,
    )
    .fetch_one(conn)
    .await
}

/// Sets the lifecycle, the terms and, with a paid period, the period.
pub(super) async fn apply(
    conn: &mut PgConnection,
    shard: ShardId,
    terms: &Terms,
    lifecycle: Lifecycle,
    period: Option<&Period>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.subscription
        set lifecycle = $3,
          period_index = coalesce($4, period_index),
          period_start = coalesce($5, period_start),
          period_end = coalesce($6, period_end)
        where subscription_id = $1
          and shard_id = $2
        "#,
        terms.subscription_id,
        shard.0,
        lifecycle.word(),
        period.map(|period| count(period.index)),
        period.map(|period| period.start),
        period.map(|period| period.end),
    )
    .execute(&mut *conn)
    .await?;
    apply_terms(conn, shard, terms).await
}

/// Sets the terms.
pub(super) async fn apply_terms(
    conn: &mut PgConnection,
    shard: ShardId,
    terms: &Terms,
) -> sqlx::Result<()> {
    let offer = &terms.offer;
    sqlx::query!(
        r#"
        update app.subscription
        set plan = case when $3 = '' then plan else $3 end,
          plan_version = $4, seats = $5, billing_interval = $6, billing = $7, proration = $8,
          amount = $9, anchor_on = $10, coupon = $11, coupon_left = $12, coupon_off = $13,
          term_ends_at = $14, zone = $15, succeeds = $16
        where subscription_id = $1
          and shard_id = $2
        "#,
        terms.subscription_id,
        shard.0,
        offer.plan,
        offer.plan_version,
        offer.seats.map(count),
        offer.interval.to_string(),
        billing_word(offer.billing),
        proration_word(offer.proration),
        offer.price(terms.currency).amount(),
        terms.anchor_on,
        terms
            .coupon
            .as_ref()
            .map(|coupon| coupon.discount.coupon.as_str()),
        terms
            .coupon
            .as_ref()
            .and_then(|coupon| coupon.left)
            .map(count),
        coupon_off(terms)?,
        terms.term_ends_at,
        terms.zone,
        offer.succeeds,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes what it has what the terms say, from an instant on: rows end and begin, none is edited.
#[expect(clippy::too_many_lines, reason = "two statements")]
pub(super) async fn apply_items(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    terms: &Terms,
    from: DateTime<Utc>,
) -> sqlx::Result<()> {
    let items = &terms.offer.items;
    let keys: Vec<String> = items.iter().map(|item| item.item.clone()).collect();
    let names: Vec<String> = items.iter().map(|item| item.name.clone()).collect();
    let prices: Vec<Decimal> = items.iter().map(|item| item.unit_price).collect();
    let quantities: Vec<i32> = items.iter().map(|item| count(item.quantity)).collect();
    let versions = items
        .iter()
        .map(|item| terms.offer.versions.get(&item.item));
    let versions: Vec<Option<i32>> = versions.map(Option::<&i32>::copied).collect();
    sqlx::query!(
        r#"
        update app.subscription_item as held
        set valid_to = greatest($3, held.valid_from)
        where held.subscription_id = $1
          and held.shard_id = $2
          and held.valid_to is null
          and not exists (
            select 1
            from unnest($4::text[], $5::text[], $6::numeric[], $7::integer[], $8::integer[])
              as wanted(item, name, unit_price, quantity, version)
            where wanted.item = held.item
              and wanted.name = held.name
              and wanted.unit_price = held.unit_price
              and wanted.quantity = held.quantity
              and (wanted.version is null or wanted.version = held.version))
        "#,
        terms.subscription_id,
        shard.0,
        from,
        &keys,
        &names,
        &prices,
        &quantities,
        &versions as _,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        r#"
        insert into app.subscription_item
          (subscription_id, item, valid_from, shard_id, tenant_id, name, unit_price, quantity, version)
        select $1, wanted.item, $3, $2, $8, wanted.name, wanted.unit_price, wanted.quantity,
          coalesce(wanted.version, (
            select known.version
            from app.subscription_item as known
            where known.subscription_id = $1
              and known.shard_id = $2
              and known.item = wanted.item
            order by known.valid_from desc
            limit 1))
        from unnest($4::text[], $5::text[], $6::numeric[], $7::integer[], $9::integer[])
          as wanted(item, name, unit_price, quantity, version)
        where not exists (
          select 1
          from app.subscription_item as held
          where held.subscription_id = $1
            and held.shard_id = $2
            and held.item = wanted.item
            and held.valid_to is null)
        on conflict (subscription_id, item, valid_from, shard_id) do update
        set name = excluded.name, unit_price = excluded.unit_price, quantity = excluded.quantity,
          version = excluded.version, valid_to = null
        "#,
        terms.subscription_id,
        shard.0,
        from,
        &keys,
        &names,
        &prices,
        &quantities,
        tenant.0,
        &versions as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends all that it has.
pub(super) async fn end_items(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Uuid,
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.subscription_item
        set valid_to = greatest($4, valid_from)
        where subscription_id = $1
          and shard_id = $2
          and tenant_id = $3
          and valid_to is null
        "#,
        subscription,
        shard.0,
        tenant.0,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes its intents these.
pub(super) async fn apply_intents(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Uuid,
    intents: &Intents,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let kinds: Vec<String> = intents
        .0
        .iter()
        .map(|intent| intent.act.kind().word().to_owned())
        .collect();
    sqlx::query!(
        r#"
        delete from app.subscription_intent
        where subscription_id = $1
          and shard_id = $2
          and tenant_id = $3
          and kind <> all($4::text[])
        "#,
        subscription,
        shard.0,
        tenant.0,
        &kinds,
    )
    .execute(&mut *conn)
    .await?;
    for (intent, kind) in intents.0.iter().zip(&kinds) {
        let details =
            serde_json::to_value(intent).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        sqlx::query!(
            r#"
            insert into app.subscription_intent
              (subscription_id, kind, shard_id, tenant_id, effective_at, details, requested_at)
            values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (subscription_id, kind, shard_id) do update
            set effective_at = excluded.effective_at, details = excluded.details,
              requested_at = excluded.requested_at
            where (subscription_intent.effective_at, subscription_intent.details)
              is distinct from (excluded.effective_at, excluded.details)
            "#,
            subscription,
            kind,
            shard.0,
            tenant.0,
            intent.at,
            details,
            now,
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Lists the intents of a subscription, soonest first.
pub(crate) async fn list_intents(
    conn: &mut PgConnection,
    shard: ShardId,
    subscription: Uuid,
) -> sqlx::Result<Vec<Intent>> {
    let rows = sqlx::query!(
        r#"
        select kind, effective_at, details
        from app.subscription_intent
        where subscription_id = $1
          and shard_id = $2
        order by effective_at, kind
        "#,
        subscription,
        shard.0,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| match serde_json::from_value::<Intent>(row.details) {
            Ok(intent) => Ok(Intent {
                at: row.effective_at,
                ..intent
            }),
            // Brought over from version 1, which knew one kind of wish to end.
            Err(_) if row.kind == "cancel" => Ok(Intent {
                act: super::intent::Act::Cancel {
                    credit: super::money::CreditPolicy::None,
                },
                when: When::PeriodEnd,
                at: row.effective_at,
            }),
            Err(error) => Err(decode(error)),
        })
        .collect()
}

/// Reads what an act on a subscription has to know: the tax, what was billed for time after `from`,
/// and what it had since.
pub(super) async fn facts(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Uuid,
    from: DateTime<Utc>,
) -> sqlx::Result<Facts> {
    let tax = tenant::store::find_tax(conn, tenant, shard).await?;
    let lines = invoice::store::list_billed(conn, shard, subscription, from).await?;
    let blocked = list_blocked(conn, tenant, shard, subscription).await?;
    let held = sqlx::query!(
        r#"
        select item, name, unit_price, quantity, valid_from, valid_to
        from app.subscription_item
        where subscription_id = $1
          and shard_id = $2
          and (valid_to is null or valid_to > $3)
          and (valid_to is null or valid_to > valid_from)
        order by valid_from, item
        "#,
        subscription,
        shard.0,
        from,
    )
    .fetch_all(conn)
    .await?;
    Ok(Facts {
        tax,
        blocked,
        billed: lines
            .into_iter()
            .map(|line| Billed {
                invoice_id: line.invoice_id,
                number: line.number,
                tax: line.tax,
                given: line.given,
            })
            .collect(),
        held: held
            .into_iter()
            .map(|row| Held {
                item: Item {
                    item: row.item,
                    name: row.name,
                    unit_price: row.unit_price,
                    quantity: row.quantity.unsigned_abs(),
                },
                from: row.valid_from,
                to: row.valid_to,
            })
            .collect(),
    })
}

/// Reads what the opening of a period has to know: the tax, and when billing is held.
pub(super) async fn opening_facts(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Uuid,
) -> sqlx::Result<Facts> {
    Ok(Facts {
        tax: tenant::store::find_tax(conn, tenant, shard).await?,
        blocked: list_blocked(conn, tenant, shard, subscription).await?,
        ..Facts::default()
    })
}

/// Whether the tenant has a payment method.
pub(super) async fn has_method(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<bool> {
    let customer = tenant::store::find_customer(conn, tenant, shard).await?;
    Ok(customer.is_some_and(|customer| customer.method.is_some()))
}

/// What a subscription's run places and lifts holds as.
pub(super) fn source_of(subscription: Uuid) -> String {
    format!("subscription/{subscription}")
}

/// When billing was or is held, of a subscription: by whatever but the pause that its own run placed,
/// which bills for itself.
async fn list_blocked(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Uuid,
) -> sqlx::Result<Vec<Blocked>> {
    let holds = hold::store::list(conn, tenant, shard, true, None).await?;
    let own = Some(source_of(subscription));
    let blocks = holds.into_iter().filter(|hold| {
        hold.blocks.billing && hold.source != own && hold::rules::is_on(hold, Some(subscription))
    });
    Ok(blocks
        .map(|hold| Blocked {
            from: hold.starts_at,
            to: [hold.ends_at, hold.lifted.map(|lifted| lifted.at)]
                .into_iter()
                .flatten()
                .min(),
        })
        .collect())
}

/// Locks a subscription's row, so that who asks for an act sees what was asked for before.
pub(super) async fn lock(
    conn: &mut PgConnection,
    tenant: TenantId,
    subscription: Uuid,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        select subscription_id
        from app.subscription
        where subscription_id = $1
          and shard_id = $2
        for update
        "#,
        subscription,
        tenant.shard().0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(())
}

/// Finds a change that was asked for and that the run has not read yet.
pub(super) async fn find_unread_change(
    conn: &mut PgConnection,
    run: RunId,
    shard: ShardId,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        r#"
        select signal_id
        from engine.inbox
        where run_id = $1
          and shard_id = $2
          and outcome is null
          and name = 'Change'
        order by recorded_at
        limit 1
        "#,
        run.0,
        shard.0,
    )
    .fetch_optional(conn)
    .await
}

/// Lifts the hold of a pause.
pub(super) async fn lift_pause(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Uuid,
    source: &str,
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.hold
        set lifted_at = greatest($5, starts_at), lifted_by = $4, lift_reason = 'the subscription goes on'
        where subscription_id = $1
          and shard_id = $2
          and tenant_id = $3
          and source = $4
          and kind = 'customer_pause'
          and lifted_at is null
        "#,
        subscription,
        shard.0,
        tenant.0,
        source,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends it: nothing is had and nothing comes about any more.
pub(super) async fn apply_end(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    subscription: Uuid,
    ended_at: DateTime<Utc>,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.subscription
        set lifecycle = 'ended', ended_at = $3, end_reason = $4
        where subscription_id = $1
          and shard_id = $2
        "#,
        subscription,
        shard.0,
        ended_at,
        reason,
    )
    .execute(&mut *conn)
    .await?;
    apply_intents(
        conn,
        tenant,
        shard,
        subscription,
        &Intents::default(),
        ended_at,
    )
    .await?;
    let source = source_of(subscription);
    lift_pause(conn, tenant, shard, subscription, &source, ended_at).await?;
    end_items(conn, tenant, shard, subscription, ended_at).await
}
