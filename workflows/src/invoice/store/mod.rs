//! Invoices, their lines, and the number series. What is given back is in a file of its own.

mod credit;

pub(super) use credit::{
    CreditNote, NewRefund, apply_balance, apply_credited, claim_credit_number, insert_credit_note,
    insert_refund, list_balances, list_credit_notes, list_entries, lock_balance, sum_older_due,
};
pub(crate) use credit::{Entry, add_entry, find_balance, list_refundable};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use sqlx::PgConnection;
use sqlx::types::Json;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::issuer::Issuer;
use super::{Draft, InvoiceRow, LineRow};
use crate::catalog::Seller;
use crate::money::Money;
use crate::pricing::{Bill, Charge, CreditLine, Given, Item, Line, Span, Tax};

/// Inserts a draft with its lines, and keeps what they were computed of.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    draft: &Draft<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let lines = draft.bill.price();
    let totals = draft.bill.totals(&lines);
    let priced = draft
        .bill
        .to_text()
        .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let tax = draft.bill.tax.as_ref();
    sqlx::query!(
        r#"
        insert into app.invoice
          (invoice_id, shard_id, tenant_id, subscription_id, status, reason, currency, subtotal, discount,
           tax, tax_name, tax_percent, tax_inclusive, total, attempts, period_start, period_end,
           created_at, priced, priced_hash, zone)
        values ($1, $2, $3, $4, 'draft', $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, $14, $15, $16, $17,
          $18, $19)
        "#,
        draft.invoice_id,
        shard.0,
        tenant.0,
        draft.subscription_id,
        draft.reason.word(),
        draft.bill.currency.code(),
        totals.subtotal,
        totals.discount,
        totals.tax,
        tax.map(|tax| tax.name.as_str()),
        tax.map(|tax| tax.percent),
        tax.is_some_and(|tax| tax.inclusive),
        totals.total,
        draft.start,
        draft.end,
        now,
        priced,
        Bill::hash(&priced),
        draft.zone,
    )
    .execute(&mut *conn)
    .await?;
    insert_lines(conn, tenant, shard, draft.invoice_id, &lines).await
}

/// Inserts the lines of a draft, all in one statement.
async fn insert_lines(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    invoice: Uuid,
    lines: &[Line],
) -> sqlx::Result<()> {
    let item = |of: fn(&Item) -> String| -> Vec<String> {
        lines.iter().map(|line| of(&line.charge.item)).collect()
    };
    let amount = |of: fn(&Line) -> Decimal| -> Vec<Decimal> { lines.iter().map(of).collect() };
    let length = |of: fn(&Span) -> i64| -> Vec<i64> {
        lines.iter().map(|line| of(&line.charge.span)).collect()
    };
    let instant = |of: fn(&Span) -> DateTime<Utc>| -> Vec<DateTime<Utc>> {
        lines.iter().map(|line| of(&line.charge.span)).collect()
    };
    sqlx::query!(
        r#"
        insert into app.invoice_line
          (invoice_id, line, shard_id, tenant_id, item, description, quantity, unit_price, units,
           units_of, subtotal, discount, percent_off, amount, tax, period_start, period_end)
        select $1, line.number, $2, $3, line.item, line.description, line.quantity, line.unit_price,
          line.units, line.units_of, line.subtotal, line.discount, line.percent_off, line.amount, line.tax,
          line.period_start, line.period_end
        from unnest($4::text[], $5::text[], $6::numeric[], $7::numeric[], $8::bigint[], $9::bigint[],
          $10::numeric[], $11::numeric[], $12::numeric[], $13::numeric[], $14::numeric[],
          $15::timestamptz[], $16::timestamptz[]) with ordinality
          as line (item, description, quantity, unit_price, units, units_of, subtotal, discount,
            percent_off, amount, tax, period_start, period_end, number)
        "#,
        invoice,
        shard.0,
        tenant.0,
        &item(|item| item.item.clone()),
        &item(|item| item.name.clone()),
        &amount(|line| Decimal::from(line.charge.item.quantity)),
        &amount(|line| line.charge.item.unit_price),
        &length(|span| span.units),
        &length(|span| span.of),
        &amount(|line| line.subtotal),
        &amount(|line| line.discount),
        &amount(|line| line.percent_off),
        &amount(|line| line.amount),
        &amount(|line| line.tax),
        &instant(|span| span.start),
        &instant(|span| span.end),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A line that was billed, with what was given back of it.
pub(crate) struct BilledLine {
    pub(crate) invoice_id: Uuid,
    pub(crate) number: i32,
    pub(crate) tax: Option<Tax>,
    pub(crate) given: Given,
}

/// Lists what was billed of a subscription for time after `from`, of invoices that count.
pub(crate) async fn list_billed(
    conn: &mut PgConnection,
    shard: ShardId,
    subscription: Uuid,
    from: DateTime<Utc>,
) -> sqlx::Result<Vec<BilledLine>> {
    list_given(conn, shard, Some(subscription), None, from).await
}

/// Lists the lines of an invoice with what was given back of them.
pub(super) async fn list_lines_given(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Vec<BilledLine>> {
    list_given(conn, shard, None, Some(invoice), DateTime::UNIX_EPOCH).await
}

/// Notes from when on lines are not used of which nothing is given back; the others' credit notes say so.
pub(crate) async fn end_lines(
    conn: &mut PgConnection,
    shard: ShardId,
    invoice: Uuid,
    lines: &[(i32, CreditLine)],
) -> sqlx::Result<()> {
    let nothing = lines.iter().filter(|(_, line)| line.amount.is_zero());
    let (numbers, starts): (Vec<i32>, Vec<DateTime<Utc>>) =
        nothing.map(|(number, line)| (*number, line.start)).unzip();
    if numbers.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        update app.invoice_line as line
        set unused_from = least(line.unused_from, ended.start)
        from unnest($3::integer[], $4::timestamptz[]) as ended (number, start)
        where line.invoice_id = $1
          and line.shard_id = $2
          and line.line = ended.number
        "#,
        invoice,
        shard.0,
        &numbers,
        &starts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn list_given(
    conn: &mut PgConnection,
    shard: ShardId,
    subscription: Option<Uuid>,
    invoice: Option<Uuid>,
    from: DateTime<Utc>,
) -> sqlx::Result<Vec<BilledLine>> {
    let rows = sqlx::query!(
        r#"
        select line.invoice_id, line.line, line.item, line.description, line.quantity, line.unit_price,
          line.units, line.units_of, line.subtotal, line.discount, line.percent_off, line.amount,
          line.tax, line.period_start, line.period_end,
          invoice.tax_name, invoice.tax_percent, invoice.tax_inclusive,
          coalesce(given.amount, 0) as "given_amount!", coalesce(given.tax, 0) as "given_tax!",
          least(line.unused_from, given.unused_from) as unused_from
        from app.invoice
        join app.invoice_line as line
          on line.invoice_id = invoice.invoice_id
          and line.shard_id = $1
        left join lateral (
          select sum(note.amount) as amount, sum(note.tax) as tax,
            min(note.period_start) filter (where note.units > 0) as unused_from
          from app.credit_note_line as note
          where note.invoice_id = line.invoice_id
            and note.shard_id = $1
            and note.invoice_line = line.line
        ) as given on true
        where invoice.shard_id = $1
          and (invoice.subscription_id = $2 or invoice.invoice_id = $3)
          and invoice.status <> 'void'
          and line.period_end > $4
        order by invoice.invoice_id, line.line
        "#,
        shard.0,
        subscription,
        invoice,
        from,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| BilledLine {
            invoice_id: row.invoice_id,
            number: row.line,
            tax: tax(row.tax_name, row.tax_percent, row.tax_inclusive),
            given: Given {
                amount: row.given_amount,
                tax: row.given_tax,
                until: row.unused_from.unwrap_or(row.period_end),
                line: Line {
                    charge: Charge {
                        item: Item {
                            item: row.item,
                            name: row.description,
                            unit_price: row.unit_price,
                            quantity: row.quantity.to_u32().unwrap_or(0),
                        },
                        span: Span {
                            start: row.period_start,
                            end: row.period_end,
                            units: row.units,
                            of: row.units_of,
                        },
                    },
                    subtotal: row.subtotal,
                    discount: row.discount,
                    amount: row.amount,
                    tax: row.tax,
                    percent_off: row.percent_off,
                },
            },
        })
        .collect())
}

fn tax(name: Option<String>, percent: Option<Decimal>, inclusive: bool) -> Option<Tax> {
    Some(Tax {
        name: name?,
        percent: percent?,
        inclusive,
    })
}

/// How an invoice stands, as whoever locked its row reads it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) status: String,
    pub(crate) currency: String,
    pub(crate) total: Decimal,
    pub(crate) credited: Decimal,
    pub(crate) balance_applied: Decimal,
    /// What payments brought, less what was too much and what a dispute withdrew.
    pub(crate) kept: Decimal,
    /// What a dispute withdrew.
    pub(crate) withdrawn: Decimal,
}

impl Standing {
    /// What is still owed: of a paid invoice, what a dispute withdrew.
    pub(crate) fn due(&self) -> Decimal {
        match self.status.as_str() {
            "void" => Decimal::ZERO,
            "paid" => self.withdrawn - self.credited_of_withdrawn(),
            _ => self.total - self.credited - self.balance_applied,
        }
    }

    /// What credit notes took off what a dispute withdrew.
    pub(crate) fn credited_of_withdrawn(&self) -> Decimal {
        let settled = self.credited + self.balance_applied + self.kept + self.withdrawn;
        (settled - self.total).clamp(Decimal::ZERO, self.withdrawn)
    }
}

/// Locks an invoice.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<Standing>> {
    let locked = sqlx::query_scalar!(
        r#"
        select invoice_id
        from app.invoice
        where invoice_id = $1
          and shard_id = $2
        for update
        "#,
        invoice,
        shard.0,
    )
    .fetch_optional(&mut *conn)
    .await?;
    match locked {
        // Read once it is locked: what others wrote meanwhile counts.
        Some(_) => find_standing(conn, invoice, shard).await,
        None => Ok(None),
    }
}

/// Reads how an invoice stands, for who only looks.
pub(crate) async fn find_standing(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<Standing>> {
    sqlx::query_as!(
        Standing,
        r#"
        select invoice.status, invoice.currency, invoice.total, invoice.credited, invoice.balance_applied,
          coalesce(paid.amount, 0) - coalesce(over.amount, 0) - coalesce(withdrawn.amount, 0) as "kept!",
          coalesce(withdrawn.amount, 0) as "withdrawn!"
        from app.invoice
        left join lateral (
          select sum(payment.amount) as amount
          from app.payment
          where payment.invoice_id = invoice.invoice_id
            and payment.shard_id = $2
            and payment.status = 'succeeded'
        ) as paid on true
        left join lateral (
          select sum(entry.amount) as amount
          from app.credit_entry as entry
          where entry.reference = invoice.invoice_id
            and entry.reason = 'overpaid'
            and entry.tenant_id = invoice.tenant_id
            and entry.shard_id = $2
        ) as over on true
        left join lateral (
          select sum(dispute.amount) as amount
          from app.dispute
          where dispute.invoice_id = invoice.invoice_id
            and dispute.shard_id = $2
            and dispute.standing in ('open', 'lost')
        ) as withdrawn on true
        where invoice.invoice_id = $1
          and invoice.shard_id = $2
        "#,
        invoice,
        shard.0,
    )
    .fetch_optional(conn)
    .await
}

/// Finds what an invoice is for.
pub(crate) async fn find_subscription(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select subscription_id from app.invoice where invoice_id = $1 and shard_id = $2",
        invoice,
        shard.0,
    )
    .fetch_optional(conn)
    .await
}

/// Takes the next number of the series that a legal entity has for the tenant.
pub(super) async fn claim_number(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    legal_entity: &str,
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"
        insert into app.invoice_series (tenant_id, shard_id, legal_entity, last_number)
        values ($1, $2, $3, 1)
        on conflict (tenant_id, shard_id, legal_entity) do update
        set last_number = invoice_series.last_number + 1
        returning last_number
        "#,
        tenant.0,
        shard.0,
        legal_entity,
    )
    .fetch_one(conn)
    .await
}

/// Reads the last number that a legal entity gave an invoice of the tenant; 0 before the first.
pub(crate) async fn find_last_number(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    legal_entity: &str,
) -> sqlx::Result<i32> {
    let found = sqlx::query_scalar!(
        r#"
        select last_number
        from app.invoice_series
        where tenant_id = $1
          and shard_id = $2
          and legal_entity = $3
        "#,
        tenant.0,
        shard.0,
        legal_entity,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.unwrap_or_default())
}

/// Who issues an invoice, and what its lines were computed of.
pub(super) struct Issued {
    pub(super) legal_entity: Option<String>,
    pub(super) seller: Option<Json<Seller>>,
    pub(super) priced: Option<String>,
}

/// Locks an invoice and reads who issues it; nobody yet while it is a draft of which nothing was given
/// back.
pub(super) async fn lock_issued(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Issued> {
    sqlx::query_as!(
        Issued,
        r#"
        select legal_entity, seller as "seller: Json<Seller>", priced
        from app.invoice
        where invoice_id = $1
          and shard_id = $2
        for update
        "#,
        invoice,
        shard.0,
    )
    .fetch_one(conn)
    .await
}

/// Keeps with a draft who issues it, also among what it was computed of.
pub(super) async fn apply_issuer(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    issuer: &Issuer,
) -> sqlx::Result<()> {
    let priced = issuer.priced.as_deref();
    sqlx::query!(
        r#"
        update app.invoice
        set legal_entity = $3, seller = $4, priced = coalesce($5, priced),
          priced_hash = coalesce($6, priced_hash)
        where invoice_id = $1
          and shard_id = $2
        "#,
        invoice,
        shard.0,
        issuer.legal_entity,
        issuer.seller.as_ref().map(Json) as _,
        priced,
        priced.map(Bill::hash),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Finalises a draft: it has its number, keeps who issues it and is open from here on. Returns its total.
pub(super) async fn apply_final(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    issuer: &Issuer,
    number: i32,
    now: DateTime<Utc>,
) -> sqlx::Result<Decimal> {
    let priced = issuer.priced.as_deref();
    sqlx::query_scalar!(
        r#"
        update app.invoice
        set status = 'open', number = $3, finalized_at = $4, legal_entity = $5, seller = $6,
          priced = coalesce($7, priced), priced_hash = coalesce($8, priced_hash)
        where invoice_id = $1
          and shard_id = $2
          and status = 'draft'
        returning total
        "#,
        invoice,
        shard.0,
        number,
        now,
        issuer.legal_entity,
        issuer.seller.as_ref().map(Json) as _,
        priced,
        priced.map(Bill::hash),
    )
    .fetch_one(conn)
    .await
}

/// Notes that a payment is attempted.
pub(super) async fn apply_attempt(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    generation: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update app.invoice set attempts = $3 where invoice_id = $1 and shard_id = $2",
        invoice,
        shard.0,
        generation,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks an open invoice paid.
pub(super) async fn apply_paid(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.invoice
        set status = 'paid', paid_at = $3
        where invoice_id = $1
          and shard_id = $2
          and status = 'open'
        "#,
        invoice,
        shard.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes an invoice back: nothing is owed for it.
pub(super) async fn apply_void(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.invoice
        set status = 'void', closed_at = $3
        where invoice_id = $1
          and shard_id = $2
          and status in ('draft', 'open')
        "#,
        invoice,
        shard.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes an open invoice off.
pub(super) async fn apply_uncollectible(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.invoice
        set status = 'uncollectible', closed_at = $3
        where invoice_id = $1
          and shard_id = $2
          and status = 'open'
        "#,
        invoice,
        shard.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the tenant's invoices, newest period first; one of them when `invoice` names it.
pub(crate) async fn list(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    invoice: Option<Uuid>,
) -> sqlx::Result<Vec<InvoiceRow>> {
    let rows = sqlx::query!(
        r#"
        select invoice_id, subscription_id, status, reason, number, currency, subtotal, discount, tax,
          tax_name, tax_percent, tax_inclusive, total, credited, balance_applied, attempts,
          period_start, period_end, created_at, finalized_at, paid_at, priced_hash, zone, legal_entity,
          seller as "seller: Json<Seller>",
          coalesce((
            select -entry.amount
            from app.credit_entry as entry
            where entry.reference = invoice.invoice_id
              and entry.reason = 'carried_over'
              and entry.tenant_id = $1
              and entry.shard_id = $2), 0) as "carried_over!"
        from app.invoice
        where tenant_id = $1
          and shard_id = $2
          -- A span, so that a plan for any values goes along the tenant's to the one or to all.
          and invoice_id >= coalesce($3::uuid, '00000000-0000-0000-0000-000000000000')
          and invoice_id <= coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        order by created_at desc, invoice_id desc
        "#,
        tenant.0,
        shard.0,
        invoice,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let currency = row
                .currency
                .parse()
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok(InvoiceRow {
                invoice_id: row.invoice_id,
                subscription_id: row.subscription_id,
                status: row.status,
                reason: row.reason,
                number: row.number,
                legal_entity: row.legal_entity,
                seller: row.seller.map(|seller| seller.0),
                subtotal: Money::new(row.subtotal, currency),
                discount: Money::new(row.discount, currency),
                tax: Money::new(row.tax, currency),
                tax_rate: tax(row.tax_name, row.tax_percent, row.tax_inclusive),
                total: Money::new(row.total, currency),
                credited: Money::new(row.credited, currency),
                balance_applied: Money::new(row.balance_applied, currency),
                carried_over: Money::new(row.carried_over, currency),
                attempts: row.attempts,
                period_start: row.period_start,
                period_end: row.period_end,
                finalized_at: row.finalized_at,
                paid_at: row.paid_at,
                priced_hash: row.priced_hash,
                zone: row.zone,
            })
        })
        .collect()
}

/// Lets invoices that know no zone of their own keep the one that their tenant leaves.
pub(crate) async fn keep_zone(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    zone: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.invoice
        set zone = $3
        where tenant_id = $1
          and shard_id = $2
          and zone is null
        "#,
        tenant.0,
        shard.0,
        zone,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the lines of an invoice.
pub(super) async fn list_lines(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Vec<LineRow>> {
    sqlx::query_as!(
        LineRow,
        r#"
        select line, item, description, quantity, unit_price, units, units_of, subtotal, discount, amount,
          tax, period_start, period_end
        from app.invoice_line
        where invoice_id = $1
          and shard_id = $2
        order by line
        "#,
        invoice,
        shard.0,
    )
    .fetch_all(conn)
    .await
}

/// Lists the tenant's open invoices in a currency, oldest first.
pub(crate) async fn list_open(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: &str,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        select invoice_id
        from app.invoice
        where tenant_id = $1
          and shard_id = $2
          and currency = $3
          and status = 'open'
          and attempts > 0
        order by finalized_at, number, invoice_id
        "#,
        tenant.0,
        shard.0,
        currency,
    )
    .fetch_all(conn)
    .await
}
