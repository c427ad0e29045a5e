//! The doors to invoices: look, collect, take back, give back.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use tenure_engine::{Client, EngineError, RunId, RunRef, Signalled, TenantId};
use uuid::Uuid;

use super::credit::{self, GivenCreditNote, NewCreditNote};
use super::print;
use super::{
    CreditEntryRow, CreditNoteRow, InvoiceRow, InvoiceWorkflow, LineRow, Signal, State, balance,
    store,
};
use crate::door::DoorError;
use crate::money::{Currency, Money};
use crate::pricing::CreditLine;
use crate::refund::{self, RefundWorkflow};
use crate::subscription::money::CreditPolicy;
use crate::tenant::{self, TenantRow};
use crate::{calendar, dunning};

/// Lists the tenant's invoices, newest first. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn list(conn: &mut PgConnection, tenant: TenantId) -> Result<Vec<InvoiceRow>, DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    Ok(store::list(conn, tenant.tenant_id, tenant.shard_id, None).await?)
}

/// Finds one invoice with its lines. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    invoice: Uuid,
) -> Result<(InvoiceRow, Vec<LineRow>), DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    let rows = store::list(conn, tenant.tenant_id, tenant.shard_id, Some(invoice)).await?;
    let row = rows
        .into_iter()
        .next()
        .ok_or_else(|| DoorError::not_found("invoice", invoice))?;
    let lines = store::list_lines(conn, invoice, tenant.shard_id).await?;
    Ok((row, lines))
}

/// Writes an invoice as a page, in the tenant's language and the zone that it was drafted in. The transaction must act as the
/// tenant.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn page(
    conn: &mut PgConnection,
    tenant: TenantId,
    invoice: Uuid,
) -> Result<String, DoorError> {
    let (row, lines) = find(conn, tenant, invoice).await?;
    let tenant = tenant::find(conn, tenant).await?;
    let to = print::Addressee {
        zone: calendar::zone(row.zone.as_ref().unwrap_or(&tenant.zone))?,
        name: tenant.name,
        email: tenant.email,
        locale: tenant.locale,
    };
    Ok(print::page(&row, &lines, &to))
}

/// What becomes of an invoice because somebody said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Try to collect it now.
    Collect,
    /// Take it back.
    Void,
    /// Give it up.
    WriteOff,
}

/// What an act on an invoice comes to.
#[derive(Debug, Clone)]
pub struct ActPreview {
    /// The run that does it.
    pub run_id: RunId,
    /// What is charged now.
    pub charged: Money,
    /// What is not owed any more.
    pub dropped: Money,
    /// What goes back to the tenant's balance; below zero, what it had collected and is owed on.
    pub to_balance: Money,
}

/// Tells what an act on an invoice comes to. The transaction must act as the tenant.
///
/// # Errors
/// As [`act`].
pub async fn preview_act(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    invoice: Uuid,
    verb: Verb,
) -> Result<ActPreview, DoorError> {
    let (row, _) = find(conn, tenant, invoice).await?;
    check_open(&row)?;
    let shard = tenant::find(conn, tenant).await?.shard_id;
    let standing = store::lock(conn, invoice, shard).await?;
    let standing = standing.ok_or_else(|| DoorError::not_found("invoice", invoice))?;
    let lines = store::list_lines_given(conn, invoice, shard).await?;
    let (due, none) = (row.due(), Money::zero(row.total.currency()));
    let held = super::held(&standing, &lines);
    let key = invoice.to_string();
    let run = client.find_by_key::<InvoiceWorkflow>(conn, tenant, &key);
    Ok(ActPreview {
        run_id: run
            .await?
            .ok_or_else(|| DoorError::not_found("run of invoice", &key))?,
        charged: if verb == Verb::Collect { due } else { none },
        dropped: match verb {
            Verb::Collect => none,
            // What it collected for earlier ones is owed on.
            Verb::Void => Money::new(due.amount() + held.min(Decimal::ZERO), due.currency()),
            Verb::WriteOff => due,
        },
        to_balance: match verb {
            Verb::Void => Money::new(held, due.currency()),
            Verb::Collect | Verb::WriteOff => none,
        },
    })
}

fn check_open(row: &InvoiceRow) -> Result<(), DoorError> {
    if row.status == "open" {
        return Ok(());
    }
    Err(DoorError::Conflict(format!(
        "invoice {} is {}; only an open invoice is collected, taken back or given up",
        row.invoice_id, row.status
    )))
}

/// Asks an invoice's run to do something. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] unless the invoice is open.
pub async fn act(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    invoice: Uuid,
    signal_id: &str,
    verb: Verb,
) -> Result<Signalled, DoorError> {
    let (row, _) = find(conn, tenant, invoice).await?;
    check_open(&row)?;
    let signal = match verb {
        Verb::Collect => Signal::Collect,
        Verb::Void => Signal::Void,
        Verb::WriteOff => Signal::WriteOff,
    };
    let key = invoice.to_string();
    let run = RunRef::Key(&key);
    Ok(client
        .signal::<InvoiceWorkflow>(conn, tenant, run, signal_id, &signal)
        .await?)
}

/// Lists the tenant's credit notes, newest first. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn list_credit_notes(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<Vec<CreditNoteRow>, DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    Ok(store::list_credit_notes(conn, tenant.tenant_id, tenant.shard_id, None).await?)
}

/// What is to be given back of an invoice by a person.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// How much, with tax; all that is left when none is said.
    pub amount: Option<Money>,
    /// Whether what was paid goes back to the payment method.
    pub refund: bool,
    /// Why.
    pub reason: String,
    /// Who gives.
    pub author: String,
}

/// Gives something back of an invoice, spread over its lines by what is left of them. The transaction
/// must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] for a draft or what was taken back;
/// [`DoorError::Malformed`] for more than is left, or more than was paid.
pub async fn give_credit_note(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    invoice: Uuid,
    wanted: &Wanted,
) -> Result<CreditNoteRow, DoorError> {
    let tenant = tenant::find(conn, tenant_id).await?;
    let shard = tenant.shard_id;
    if wanted.reason.trim().is_empty() || wanted.reason.chars().count() > 2000 {
        return Err(malformed("reason", "1 to 2000 characters".to_owned()));
    }
    let standing = store::lock(conn, invoice, shard).await?;
    let standing = standing.ok_or_else(|| DoorError::not_found("invoice", invoice))?;
    if matches!(standing.status.as_str(), "draft" | "void") {
        return Err(DoorError::Conflict(format!(
            "invoice {invoice} is {}; nothing can be given back of it",
            standing.status
        )));
    }
    let billed = store::list_lines_given(conn, invoice, shard).await?;
    let inclusive = billed
        .iter()
        .any(|line| line.tax.as_ref().is_some_and(|tax| tax.inclusive));
    let currency: Currency = standing.currency.parse()?;
    let lefts: Vec<Left> = billed
        .iter()
        .map(|line| Left::of(line, inclusive))
        .collect();
    let left: Decimal = lefts.iter().map(|left| left.gross).sum();
    let amount = check_amount(wanted, currency, left)?;
    let paid = store::list_refundable(conn, invoice, shard).await?;
    let paid: Decimal = paid.iter().map(|payment| payment.left).sum();
    let due = standing.due();
    if wanted.refund && amount > due + paid {
        let most = Money::new(due + paid, currency);
        let detail = format!("{most} is owed or was paid by a method, and no more can go back");
        return Err(malformed("amount", detail));
    }
    let lines = spread(&lefts, amount, left, currency);
    let note = NewCreditNote {
        invoice_id: invoice,
        tax: lines.iter().map(|(_, line)| line.tax).sum(),
        total: amount,
        lines: &lines,
        policy: if wanted.refund {
            CreditPolicy::Refund
        } else {
            CreditPolicy::Credit
        },
        reason: wanted.reason.trim(),
        author: &wanted.author,
    };
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    let given = credit::give(conn, tenant_id, shard, &note, now).await;
    let given = given.map_err(|error| DoorError::Conflict(error.to_string()))?;
    let id = given.credit_note_id;
    follow(client, conn, tenant_id, invoice, &given).await?;
    if given.split.to_debt > Decimal::ZERO && standing.status == "paid" {
        // It took off what a dispute withdrew: dunning holds nothing for that any more.
        dunning::reevaluate(client, conn, tenant_id).await?;
    }
    if given.split.to_balance > Decimal::ZERO {
        let cause = format!("note:{id}");
        tell_open(client, conn, &tenant, currency, &cause).await?;
    }
    let rows = store::list_credit_notes(conn, tenant_id, shard, Some(id)).await?;
    let row = rows.into_iter().next();
    row.ok_or_else(|| DoorError::not_found("credit note", id))
}

/// Lets the runs know that a credit note is for: the invoice's, and the refund's.
async fn follow(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    invoice: Uuid,
    given: &GivenCreditNote,
) -> Result<(), DoorError> {
    let id = given.credit_note_id;
    if given.split.to_debt > Decimal::ZERO {
        let key = invoice.to_string();
        let signal_id = format!("credited:{id}");
        let sent = client
            .signal::<InvoiceWorkflow>(
                conn,
                tenant_id,
                RunRef::Key(&key),
                &signal_id,
                &Signal::Credited,
            )
            .await;
        match sent {
            // Written off before: what was given back is no debt that anybody waits for.
            Ok(_) | Err(EngineError::RunFinished { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if given.split.to_refund > Decimal::ZERO {
        let input = refund::Input { credit_note_id: id };
        client
            .start::<RefundWorkflow>(conn, tenant_id, &id.to_string(), &input)
            .await?;
    }
    Ok(())
}

fn malformed(field: &'static str, detail: String) -> DoorError {
    DoorError::Malformed { field, detail }
}

fn check_amount(wanted: &Wanted, currency: Currency, left: Decimal) -> Result<Decimal, DoorError> {
    let most = Money::new(left, currency);
    let amount = match wanted.amount {
        None => most,
        Some(amount) => amount,
    };
    if amount.currency() != currency {
        let detail = format!("the invoice is in {currency}, not in {}", amount.currency());
        return Err(malformed("amount", detail));
    }
    if amount.amount() <= Decimal::ZERO || amount.amount() > left {
        let detail = format!("{amount}; above zero, and at most the {most} that are left");
        return Err(malformed("amount", detail));
    }
    Ok(amount.amount())
}

/// What is left of a line.
struct Left {
    number: i32,
    end: DateTime<Utc>,
    gross: Decimal,
    tax: Decimal,
    inclusive: bool,
}

impl Left {
    fn of(line: &store::BilledLine, inclusive: bool) -> Self {
        let amount = line.given.line.amount - line.given.amount;
        let tax = line.given.line.tax - line.given.tax;
        Self {
            number: line.number,
            end: line.given.until,
            gross: if inclusive { amount } else { amount + tax },
            tax,
            inclusive,
        }
    }
}

/// Spreads an amount over what is left of lines: by size, the last takes the rounding.
fn spread(
    lefts: &[Left],
    amount: Decimal,
    all: Decimal,
    currency: Currency,
) -> Vec<(i32, CreditLine)> {
    let mut rest = amount;
    let mut lines = Vec::with_capacity(lefts.len());
    let live: Vec<&Left> = lefts
        .iter()
        .filter(|left| left.gross > Decimal::ZERO)
        .collect();
    let mut room: Decimal = all;
    for left in live {
        room -= left.gross;
        let share = Money::new(amount * left.gross / all, currency).amount();
        // Enough that the lines behind can take the rest, and never more than the line.
        let share = share.max(rest - room).min(left.gross).min(rest);
        rest -= share;
        if share <= Decimal::ZERO {
            continue;
        }
        let tax = Money::new(share * left.tax / left.gross, currency)
            .amount()
            .min(left.tax);
        let line = CreditLine {
            start: left.end,
            end: left.end,
            units: 0,
            amount: if left.inclusive { share } else { share - tax },
            tax,
        };
        lines.push((left.number, line));
    }
    lines
}

/// What a tenant has in credit, and how it came about. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn find_credit(
    conn: &mut PgConnection,
    tenant: TenantId,
) -> Result<(Vec<Money>, Vec<CreditEntryRow>), DoorError> {
    let tenant = tenant::find(conn, tenant).await?;
    let balances = store::list_balances(conn, tenant.tenant_id, tenant.shard_id).await?;
    let entries = store::list_entries(conn, tenant.tenant_id, tenant.shard_id, 200).await?;
    Ok((balances, entries))
}

/// What credit pays of an open invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pays {
    /// The invoice.
    pub invoice_id: Uuid,
    /// How much of what is due.
    pub amount: Money,
}

/// Grants a tenant credit, and tells which open invoices it pays of, the oldest first; one that is
/// being collected just now is left to its payment. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant; [`DoorError::Malformed`].
pub async fn grant_credit(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    amount: Money,
    reason: &str,
    author: &str,
) -> Result<Vec<Pays>, DoorError> {
    let tenant = tenant::find(conn, tenant_id).await?;
    if amount.amount() <= Decimal::ZERO {
        return Err(malformed("amount", format!("{amount} is not above zero")));
    }
    if reason.trim().is_empty() || reason.chars().count() > 2000 {
        return Err(malformed("reason", "1 to 2000 characters".to_owned()));
    }
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    let grant = tenure_engine::new_uuid(tenant.shard_id);
    let entry = store::Entry {
        currency: amount.currency().code(),
        amount: amount.amount(),
        reason: "granted",
        reference: grant,
        note: Some(reason.trim()),
        author,
    };
    store::add_entry(conn, tenant_id, tenant.shard_id, &entry, now).await?;
    let pays = list_pays(client, conn, &tenant, amount.currency()).await?;
    let cause = format!("grant:{grant}");
    tell_open(client, conn, &tenant, amount.currency(), &cause).await?;
    Ok(pays)
}

/// What a balance pays of open invoices that nobody collects just now.
async fn list_pays(
    client: &Client,
    conn: &mut PgConnection,
    tenant: &TenantRow,
    currency: Currency,
) -> Result<Vec<Pays>, DoorError> {
    let (id, shard) = (tenant.tenant_id, tenant.shard_id);
    let balance = store::find_balance(conn, id, shard, currency.code()).await?;
    let mut pays = Vec::new();
    for invoice_id in store::list_open(conn, id, shard, currency.code()).await? {
        let key = invoice_id.to_string();
        let run = client.find_by_key::<InvoiceWorkflow>(conn, id, &key);
        let Some(run) = run.await? else { continue };
        let position = client.find_position::<InvoiceWorkflow>(conn, run).await?;
        let standing = store::find_standing(conn, invoice_id, shard).await?;
        let (State::Open { .. }, Some(standing)) = (position.state, standing) else {
            continue;
        };
        let older = store::sum_older_due(conn, id, shard, invoice_id).await?;
        let amount = Money::new(balance::share(balance, older, standing.due()), currency);
        if !amount.is_zero() {
            pays.push(Pays { invoice_id, amount });
        }
    }
    Ok(pays)
}

/// There is new credit: lets open invoices take of it.
async fn tell_open(
    client: &Client,
    conn: &mut PgConnection,
    tenant: &TenantRow,
    currency: Currency,
    cause: &str,
) -> Result<(), DoorError> {
    let (id, shard) = (tenant.tenant_id, tenant.shard_id);
    for invoice in store::list_open(conn, id, shard, currency.code()).await? {
        let key = invoice.to_string();
        let signal_id = format!("credit:{cause}");
        let (run, signal) = (RunRef::Key(&key), Signal::Credited);
        let sent = client
            .signal::<InvoiceWorkflow>(conn, id, run, &signal_id, &signal)
            .await;
        match sent {
            Ok(_) | Err(EngineError::RunFinished { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
