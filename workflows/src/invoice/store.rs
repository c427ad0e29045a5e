//! Invoices, their lines, and the number series.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use super::credit::NewCreditNote;
use super::{CreditEntryRow, CreditNoteRow, Draft, InvoiceRow, LineRow};
use crate::money::Money;
use crate::pricing::{Bill, Charge, Given, Item, Line, Span, Tax};
use crate::subscription::money::Split;

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
           created_at, priced, priced_hash)
        values ($1, $2, $3, $4, 'draft', $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, $14, $15, $16, $17,
          $18)
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
          given.used_until as "used_until?"
        from app.invoice
        join app.invoice_line as line
          on line.invoice_id = invoice.invoice_id
          and line.shard_id = $1
        left join lateral (
          select sum(note.amount) as amount, sum(note.tax) as tax,
            min(note.period_start) filter (where note.units > 0) as used_until
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
                until: row.used_until.unwrap_or(row.period_end),
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

/// A payment that can be given back, as far as it has not been.
#[derive(Debug, Clone)]
pub(crate) struct Refundable {
    pub(crate) generation: i32,
    pub(crate) provider_intent_id: String,
    pub(crate) left: Decimal,
}

/// Lists what was paid by a method for an invoice and not given back, latest first.
pub(crate) async fn list_refundable(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
) -> sqlx::Result<Vec<Refundable>> {
    sqlx::query_as!(
        Refundable,
        r#"
        select payment.generation, payment.provider_intent_id as "provider_intent_id!",
          greatest(0, payment.amount - coalesce(given.amount, 0) - coalesce(withdrawn.amount, 0)) as "left!"
        from app.payment
        left join lateral (
          select sum(refund.amount) as amount
          from app.refund
          where refund.invoice_id = payment.invoice_id
            and refund.shard_id = $2
            and refund.generation = payment.generation
            and refund.status <> 'failed'
        ) as given on true
        left join lateral (
          select sum(dispute.amount) as amount
          from app.dispute
          where dispute.invoice_id = payment.invoice_id
            and dispute.shard_id = $2
            and dispute.generation = payment.generation
            and dispute.standing in ('open', 'lost')
        ) as withdrawn on true
        where payment.invoice_id = $1
          and payment.shard_id = $2
          and payment.status = 'succeeded'
          and payment.provider_intent_id is not null
        order by payment.generation desc
        "#,
        invoice,
        shard.0,
    )
    .fetch_all(conn)
    .await
}

/// Takes the next number of the tenant's credit notes.
pub(super) async fn claim_credit_number(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"
        insert into app.credit_series (tenant_id, shard_id, last_number)
        values ($1, $2, 1)
        on conflict (tenant_id, shard_id) do update
        set last_number = credit_series.last_number + 1
        returning last_number
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_one(conn)
    .await
}

/// A credit note to write down.
pub(super) struct CreditNote<'a> {
    pub(super) credit_note_id: Uuid,
    pub(super) number: i32,
    pub(super) currency: &'a str,
    pub(super) note: &'a NewCreditNote<'a>,
    pub(super) split: Split,
}

/// Inserts a credit note with its lines.
pub(super) async fn insert_credit_note(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    row: &CreditNote<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let CreditNote { note, split, .. } = row;
    sqlx::query!(
        r#"
        insert into app.credit_note
          (credit_note_id, shard_id, tenant_id, invoice_id, number, currency, reason, author, tax, total,
           to_debt, to_balance, to_refund, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        "#,
        row.credit_note_id,
        shard.0,
        tenant.0,
        note.invoice_id,
        row.number,
        row.currency,
        note.reason,
        note.author,
        note.tax,
        note.total,
        split.to_debt,
        split.to_balance,
        split.to_refund,
        now,
    )
    .execute(&mut *conn)
    .await?;
    insert_credit_lines(conn, tenant, shard, row).await
}

/// Inserts the lines of a credit note, all in one statement.
async fn insert_credit_lines(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    row: &CreditNote<'_>,
) -> sqlx::Result<()> {
    let lines = row.note.lines;
    let of: Vec<i32> = lines.iter().map(|(of, _)| *of).collect();
    let units: Vec<i64> = lines.iter().map(|(_, line)| line.units).collect();
    let amounts: Vec<Decimal> = lines.iter().map(|(_, line)| line.amount).collect();
    let taxes: Vec<Decimal> = lines.iter().map(|(_, line)| line.tax).collect();
    let starts: Vec<DateTime<Utc>> = lines.iter().map(|(_, line)| line.start).collect();
    let ends: Vec<DateTime<Utc>> = lines.iter().map(|(_, line)| line.end).collect();
    sqlx::query!(
        r#"
        insert into app.credit_note_line
          (credit_note_id, line, shard_id, tenant_id, invoice_id, invoice_line, units, amount, tax,
           period_start, period_end)
        select $1, line.number, $2, $3, $4, line.invoice_line, line.units, line.amount, line.tax,
          line.period_start, line.period_end
        from unnest($5::integer[], $6::bigint[], $7::numeric[], $8::numeric[], $9::timestamptz[],
          $10::timestamptz[]) with ordinality
          as line (invoice_line, units, amount, tax, period_start, period_end, number)
        "#,
        row.credit_note_id,
        shard.0,
        tenant.0,
        row.note.invoice_id,
        &of,
        &units,
        &amounts,
        &taxes,
        &starts,
        &ends,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes something off what is owed for an invoice.
pub(super) async fn apply_credited(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    amount: Decimal,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.invoice
        set credited = credited + $3
        where invoice_id = $1
          and shard_id = $2
        "#,
        invoice,
        shard.0,
        amount,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An entry of a tenant's balance.
pub(crate) struct Entry<'a> {
    pub(crate) currency: &'a str,
    pub(crate) amount: Decimal,
    pub(crate) reason: &'a str,
    pub(crate) reference: Uuid,
    pub(crate) note: Option<&'a str>,
    pub(crate) author: &'a str,
}

/// Adds an entry to the tenant's balance, and moves the balance with it. What was added before, for
/// the same reference and reason, is not added again; only an invoice takes what it can more than once.
pub(crate) async fn add_entry(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    entry: &Entry<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let added = sqlx::query!(
        r#"
        insert into app.credit_entry
          (entry_id, shard_id, tenant_id, currency, amount, reason, reference, note, author, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        on conflict (reference, reason, tenant_id, shard_id) where reason <> 'applied' do nothing
        "#,
        tenure_engine::new_uuid(shard),
        shard.0,
        tenant.0,
        entry.currency,
        entry.amount,
        entry.reason,
        entry.reference,
        entry.note,
        entry.author,
        now,
    )
    .execute(&mut *conn)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into app.credit_balance (tenant_id, currency, shard_id, amount)
        values ($1, $2, $3, 0)
        on conflict (tenant_id, currency, shard_id) do nothing
        "#,
        tenant.0,
        entry.currency,
        shard.0,
    )
    .execute(&mut *conn)
    .await?;
    // Apart from the insert: its check would refuse what takes before it is added to what is there.
    sqlx::query!(
        r#"
        update app.credit_balance
        set amount = amount + $4
        where tenant_id = $1
          and currency = $2
          and shard_id = $3
        "#,
        tenant.0,
        entry.currency,
        shard.0,
        entry.amount,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Reads the tenant's balance in a currency.
pub(crate) async fn find_balance(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: &str,
) -> sqlx::Result<Decimal> {
    let found = sqlx::query_scalar!(
        r#"
        select amount
        from app.credit_balance
        where tenant_id = $1
          and currency = $2
          and shard_id = $3
        "#,
        tenant.0,
        currency,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.unwrap_or_default())
}

/// Locks the tenant's balance in a currency and reads it.
pub(super) async fn lock_balance(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    currency: &str,
) -> sqlx::Result<Decimal> {
    let found = sqlx::query_scalar!(
        r#"
        select amount
        from app.credit_balance
        where tenant_id = $1
          and currency = $2
          and shard_id = $3
        for update
        "#,
        tenant.0,
        currency,
        shard.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.unwrap_or_default())
}

/// Notes what the balance paid of an invoice.
pub(super) async fn apply_balance(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    amount: Decimal,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update app.invoice
        set balance_applied = balance_applied + $3
        where invoice_id = $1
          and shard_id = $2
        "#,
        invoice,
        shard.0,
        amount,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What goes back to a payment method.
pub(super) struct NewRefund<'a> {
    pub(super) credit_note_id: Uuid,
    pub(super) invoice_id: Uuid,
    pub(super) currency: &'a str,
    pub(super) amount: Decimal,
    pub(super) payment: &'a Refundable,
}

/// Writes a refund down before it is sent.
pub(super) async fn insert_refund(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    refund: &NewRefund<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into app.refund
          (credit_note_id, generation, shard_id, tenant_id, invoice_id, currency, amount,
           provider_intent_id, status, sent_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, 'sent', $9)
        "#,
        refund.credit_note_id,
        refund.payment.generation,
        shard.0,
        tenant.0,
        refund.invoice_id,
        refund.currency,
        refund.amount,
        refund.payment.provider_intent_id,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the next number of the tenant's series.
pub(super) async fn claim_number(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"
        insert into app.invoice_series (tenant_id, shard_id, last_number)
        values ($1, $2, 1)
        on conflict (tenant_id, shard_id) do update
        set last_number = invoice_series.last_number + 1
        returning last_number
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_one(conn)
    .await
}

/// Finalises a draft: it has its number and is open from here on. Returns its total.
pub(super) async fn apply_final(
    conn: &mut PgConnection,
    invoice: Uuid,
    shard: ShardId,
    number: i32,
    now: DateTime<Utc>,
) -> sqlx::Result<Decimal> {
    sqlx::query_scalar!(
        r#"
        update app.invoice
        set status = 'open', number = $3, finalized_at = $4
        where invoice_id = $1
          and shard_id = $2
          and status = 'draft'
        returning total
        "#,
        invoice,
        shard.0,
        number,
        now,
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
          period_start, period_end, created_at, finalized_at, paid_at, priced_hash
        from app.invoice
        where tenant_id = $1
          and shard_id = $2
          and ($3::uuid is null or invoice_id = $3)
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
                subtotal: Money::new(row.subtotal, currency),
                discount: Money::new(row.discount, currency),
                tax: Money::new(row.tax, currency),
                tax_rate: tax(row.tax_name, row.tax_percent, row.tax_inclusive),
                total: Money::new(row.total, currency),
                credited: Money::new(row.credited, currency),
                balance_applied: Money::new(row.balance_applied, currency),
                attempts: row.attempts,
                period_start: row.period_start,
                period_end: row.period_end,
                finalized_at: row.finalized_at,
                paid_at: row.paid_at,
                priced_hash: row.priced_hash,
            })
        })
        .collect()
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
        order by number
        "#,
        tenant.0,
        shard.0,
        currency,
    )
    .fetch_all(conn)
    .await
}

/// Sums what older open invoices of the same currency can still take of the tenant's balance: those
/// that are not being collected just now.
pub(super) async fn sum_older_due(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    invoice: Uuid,
) -> sqlx::Result<Decimal> {
    sqlx::query_scalar!(
        r#"
        select coalesce(sum(older.total - older.credited - older.balance_applied), 0) as "due!"
        from app.invoice
        join app.invoice as older
          on older.tenant_id = invoice.tenant_id
          and older.shard_id = $2
          and older.currency = invoice.currency
          and older.number < invoice.number
        where invoice.invoice_id = $3
          and invoice.tenant_id = $1
          and invoice.shard_id = $2
          and older.status = 'open'
          and older.attempts > 0
          and not exists (
            select
            from app.payment
            where payment.invoice_id = older.invoice_id
              and payment.shard_id = $2
              and payment.status in ('sent', 'processing', 'requires_action'))
        "#,
        tenant.0,
        shard.0,
        invoice,
    )
    .fetch_one(conn)
    .await
}

/// Lists the tenant's credit notes, newest first; one of them when `note` names it.
pub(super) async fn list_credit_notes(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    note: Option<Uuid>,
) -> sqlx::Result<Vec<CreditNoteRow>> {
    let rows = sqlx::query!(
        r#"
        select note.credit_note_id, note.number, note.invoice_id, note.currency, note.reason, note.author,
          note.tax, note.total, note.to_debt, note.to_balance, note.to_refund, note.created_at,
          (select min(refund.status)
           from app.refund
           where refund.credit_note_id = note.credit_note_id
             and refund.shard_id = $2) as refund_status
        from app.credit_note as note
        where note.tenant_id = $1
          and note.shard_id = $2
          and ($3::uuid is null or note.credit_note_id = $3)
        order by note.number desc
        "#,
        tenant.0,
        shard.0,
        note,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let currency = row
                .currency
                .parse()
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            let money = |amount| Money::new(amount, currency);
            Ok(CreditNoteRow {
                credit_note_id: row.credit_note_id,
                number: row.number,
                invoice_id: row.invoice_id,
                reason: row.reason,
                author: row.author,
                tax: money(row.tax),
                total: money(row.total),
                to_debt: money(row.to_debt),
                to_balance: money(row.to_balance),
                to_refund: money(row.to_refund),
                refund_status: row.refund_status,
                created_at: row.created_at,
            })
        })
        .collect()
}

/// Lists the tenant's balances, by currency.
pub(super) async fn list_balances(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
) -> sqlx::Result<Vec<Money>> {
    let rows = sqlx::query!(
        r#"
        select currency, amount
        from app.credit_balance
        where tenant_id = $1
          and shard_id = $2
        order by currency
        "#,
        tenant.0,
        shard.0,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let currency = row.currency.parse();
            let currency = currency.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok(Money::new(row.amount, currency))
        })
        .collect()
}

/// Lists the latest entries of the tenant's balances, newest first.
pub(super) async fn list_entries(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    limit: i64,
) -> sqlx::Result<Vec<CreditEntryRow>> {
    let rows = sqlx::query!(
        r#"
        select currency, amount, reason, reference, note, author, created_at
        from app.credit_entry
        where tenant_id = $1
          and shard_id = $2
        order by entry_id desc
        limit $3
        "#,
        tenant.0,
        shard.0,
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let currency = row.currency.parse();
            let currency = currency.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok(CreditEntryRow {
                amount: Money::new(row.amount, currency),
                reason: row.reason,
                reference: row.reference,
                note: row.note,
                author: row.author,
                created_at: row.created_at,
            })
        })
        .collect()
}
