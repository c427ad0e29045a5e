//! What is given back: credit notes, the tenant's balance, refunds.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_engine::{ShardId, TenantId};
use uuid::Uuid;

use crate::invoice::credit::NewCreditNote;
use crate::invoice::{CreditEntryRow, CreditNoteRow};
use crate::money::Money;
use crate::subscription::money::Split;

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

/// Takes the next number of the credit notes that a legal entity gives the tenant.
pub(in crate::invoice) async fn claim_credit_number(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    legal_entity: &str,
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"
        insert into app.credit_series (tenant_id, shard_id, legal_entity, last_number)
        values ($1, $2, $3, 1)
        on conflict (tenant_id, shard_id, legal_entity) do update
        set last_number = credit_series.last_number + 1
        returning last_number
        "#,
        tenant.0,
        shard.0,
        legal_entity,
    )
    .fetch_one(conn)
    .await
}

/// A credit note to write down.
pub(in crate::invoice) struct CreditNote<'a> {
    pub(in crate::invoice) credit_note_id: Uuid,
    pub(in crate::invoice) number: i32,
    pub(in crate::invoice) legal_entity: &'a str,
    pub(in crate::invoice) currency: &'a str,
    pub(in crate::invoice) note: &'a NewCreditNote<'a>,
    pub(in crate::invoice) split: Split,
}

/// Inserts a credit note with its lines.
pub(in crate::invoice) async fn insert_credit_note(
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
           to_debt, to_balance, to_refund, created_at, legal_entity)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
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
        row.legal_entity,
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
    let all = row.note.lines.iter();
    let lines: Vec<_> = all.filter(|(_, line)| !line.amount.is_zero()).collect();
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
pub(in crate::invoice) async fn apply_credited(
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
        insert into app.credit_balance as balance (tenant_id, currency, shard_id, amount)
        values ($1, $2, $3, $4)
        on conflict (tenant_id, currency, shard_id) do update
        set amount = balance.amount + excluded.amount
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
pub(in crate::invoice) async fn lock_balance(
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

/// Notes what the balance paid of an invoice; below zero, what the invoice collected.
pub(in crate::invoice) async fn apply_balance(
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
pub(in crate::invoice) struct NewRefund<'a> {
    pub(in crate::invoice) credit_note_id: Uuid,
    pub(in crate::invoice) invoice_id: Uuid,
    pub(in crate::invoice) currency: &'a str,
    pub(in crate::invoice) amount: Decimal,
    pub(in crate::invoice) payment: &'a Refundable,
}

/// Writes a refund down before it is sent.
pub(in crate::invoice) async fn insert_refund(
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

/// Sums what older open invoices of the same currency can still take of the tenant's balance: those
/// that are not being collected just now.
pub(in crate::invoice) async fn sum_older_due(
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
          and (older.finalized_at, older.number, older.invoice_id)
            < (invoice.finalized_at, invoice.number, invoice.invoice_id)
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
pub(in crate::invoice) async fn list_credit_notes(
    conn: &mut PgConnection,
    tenant: TenantId,
    shard: ShardId,
    note: Option<Uuid>,
) -> sqlx::Result<Vec<CreditNoteRow>> {
    let rows = sqlx::query!(
        r#"
        select note.credit_note_id, note.number, note.invoice_id, note.currency, note.reason, note.author,
          note.tax, note.total, note.to_debt, note.to_balance, note.to_refund, note.created_at,
          invoice.seller->>'prefix' as prefix,
          (select min(refund.status)
           from app.refund
           where refund.credit_note_id = note.credit_note_id
             and refund.shard_id = $2) as refund_status
        from app.credit_note as note
        join app.invoice
          on invoice.invoice_id = note.invoice_id
          and invoice.shard_id = $2
        where note.tenant_id = $1
          and note.shard_id = $2
          and ($3::uuid is null or note.credit_note_id = $3)
        order by note.created_at desc, note.number desc, note.credit_note_id desc
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
                prefix: row.prefix,
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
pub(in crate::invoice) async fn list_balances(
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
pub(in crate::invoice) async fn list_entries(
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
