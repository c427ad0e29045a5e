//! Invoices, credit notes, the tenant's balance and its tax.

use axum::Json;
use axum::extract::State;
use axum::response::{Html, Response};
use serde_json::json;
use sqlx::PgConnection;
use tenure_client::{
    ActOnInvoice, ChangeTax, Credit, CreditEntry, CreditNote, CreditPays, Dispute, GrantCredit,
    Invoice, InvoiceAct, InvoiceDetail, InvoiceLine, InvoiceStatus, Money, NewCreditNote, Problem,
    Role, Seller, TaxChange, TaxRate,
};
use tenure_engine::TenantId;
use tenure_workflows::charge::{self, DisputeRow};
use tenure_workflows::invoice::{self, CreditNoteRow, InvoiceRow, Verb};
use tenure_workflows::money::{Currency, Money as Amount};
use tenure_workflows::pricing::Tax;
use tenure_workflows::tenant::{self, TaxMove};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::audit::note;
use super::flow::{author, author_unless};
use super::plans::money;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path};
use crate::idempotency::{Done, Key, once};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(page))
        .routes(routes!(give))
        .routes(routes!(act))
        .routes(routes!(list_notes))
        .routes(routes!(list_disputes))
        .routes(routes!(show_credit, grant))
        .routes(routes!(show_tax, change_tax))
}

/// List a tenant's invoices, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/invoices", tag = "Invoices",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<Invoice>), (status = 404, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<Invoice>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let rows = invoice::list(&mut tx, tenant_id).await?;
    Ok(Json(rows.iter().map(to_json).collect()))
}

/// Show one invoice with its lines.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/invoices/{invoice_id}", tag = "Invoices",
    params(("tenant_id" = Uuid, Path), ("invoice_id" = Uuid, Path)), responses(
    (status = 200, body = InvoiceDetail), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, invoice_id)): Path<(TenantId, Uuid)>,
) -> Result<Json<InvoiceDetail>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let (row, lines) = invoice::find(&mut tx, tenant_id, invoice_id).await?;
    let currency = row.total.currency();
    let amount = |amount| money(Amount::new(amount, currency));
    let lines = lines.into_iter().map(|line| InvoiceLine {
        item: line.item,
        description: line.description,
        quantity: line.quantity,
        unit_price: amount(line.unit_price),
        units: line.units,
        units_of: line.units_of,
        subtotal: amount(line.subtotal),
        discount: amount(line.discount),
        amount: amount(line.amount),
        tax: amount(line.tax),
        period_start: Some(line.period_start),
        period_end: Some(line.period_end),
    });
    Ok(Json(InvoiceDetail {
        invoice: to_json(&row),
        tax_rate: row.tax_rate.map(tax_to_json),
        seller: row.seller.map(|seller| Seller {
            legal_entity: seller.legal_entity,
            name: seller.name,
            address: seller.address,
            country: seller.country,
            tax_id: seller.tax_id,
            prefix: seller.prefix,
        }),
        lines: lines.collect(),
        priced_hash: row.priced_hash,
    }))
}

/// Show one invoice as a page, in the tenant's language.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/invoices/{invoice_id}/html", tag = "Invoices",
    params(("tenant_id" = Uuid, Path), ("invoice_id" = Uuid, Path)), responses(
    (status = 200, body = String, content_type = "text/html"), (status = 404, body = Problem)))]
async fn page(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, invoice_id)): Path<(TenantId, Uuid)>,
) -> Result<Html<String>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    Ok(Html(invoice::page(&mut tx, tenant_id, invoice_id).await?))
}

/// Collect, take back (`void`) or give up (`write-off`) an open invoice. With `dry_run` it only tells
/// what it would come to.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/invoices/{invoice_id}/{verb}", tag = "Invoices",
    params(("tenant_id" = Uuid, Path), ("invoice_id" = Uuid, Path), ("verb" = String, Path)),
    request_body = ActOnInvoice, responses((status = 202, body = InvoiceAct),
    (status = 200, body = InvoiceAct),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn act(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, invoice_id, verb)): Path<(TenantId, Uuid, String)>,
    key: Key,
    body: Body<ActOnInvoice>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees_all()?;
    let verb = match verb.as_str() {
        "collect" => Verb::Collect,
        "void" => Verb::Void,
        "write-off" => Verb::WriteOff,
        other => {
            let detail = format!("{other:?} is no verb of an invoice (collect, void, write-off)");
            return Err(ApiError::NotFound(detail));
        }
    };
    let author = author(&caller, &body.value.reason);
    let dry_run = body.value.dry_run;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let (client, id) = (state.client(), invoice_id);
        let preview = invoice::preview_act(client, conn, tenant_id, id, verb).await?;
        let mut answer = InvoiceAct {
            run_id: preview.run_id.0,
            signal_id: None,
            charged: money(preview.charged),
            dropped: money(preview.dropped),
            to_balance: money(preview.to_balance),
        };
        if dry_run {
            return Ok(Done::Undone(answer));
        }
        let signal_id = tenure_engine::random_uuid().to_string();
        let sent = invoice::act(client, conn, tenant_id, id, &signal_id, verb).await?;
        let after = json!({ "run_id": sent.run_id });
        let action = match verb {
            Verb::Collect => "collect invoice",
            Verb::Void => "void invoice",
            Verb::WriteOff => "write off invoice",
        };
        let of = (Some(tenant_id), invoice_id);
        note(conn, &author, action, of, None, &after).await?;
        answer.signal_id = Some(signal_id);
        Ok(Done::accepted(answer))
    })
    .await
}

/// Give something back of an invoice: off the debt first, then to the balance or the method. With
/// `dry_run` it only tells what it would come to.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/invoices/{invoice_id}/credit-notes",
    tag = "Invoices", params(("tenant_id" = Uuid, Path), ("invoice_id" = Uuid, Path)),
    request_body = NewCreditNote, responses((status = 201, body = CreditNote),
    (status = 200, body = CreditNote),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn give(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, invoice_id)): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<NewCreditNote>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees_all()?;
    let author = author(&caller, &body.value.reason);
    let dry_run = body.value.dry_run;
    let amount = body.value.amount.as_ref().map(read_money).transpose()?;
    let wanted = invoice::Wanted {
        amount,
        refund: body.value.refund,
        reason: body.value.reason.clone(),
        author: author.actor.clone(),
    };
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let (client, id) = (state.client(), invoice_id);
        let row = invoice::give_credit_note(client, conn, tenant_id, id, &wanted).await?;
        let answer = note_to_json(row);
        if dry_run {
            return Ok(Done::Undone(answer));
        }
        let of = (Some(tenant_id), invoice_id);
        note(conn, &author, "give credit note", of, None, &answer).await?;
        Ok(Done::created(answer))
    })
    .await
}

/// List a tenant's credit notes, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/credit-notes", tag = "Invoices",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<CreditNote>), (status = 404, body = Problem)))]
async fn list_notes(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<CreditNote>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let rows = invoice::list_credit_notes(&mut tx, tenant_id).await?;
    Ok(Json(rows.into_iter().map(note_to_json).collect()))
}

/// List the payments of a tenant that its bank was asked to take back, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/disputes", tag = "Invoices",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<Dispute>), (status = 404, body = Problem)))]
async fn list_disputes(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<Dispute>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let rows = charge::list_disputes(&mut tx, tenant_id).await?;
    Ok(Json(rows.into_iter().map(dispute_to_json).collect()))
}

/// Show what a tenant has in credit, and how it came about.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/credit", tag = "Invoices",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Credit), (status = 404, body = Problem)))]
async fn show_credit(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Credit>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    Ok(Json(find_credit(&mut tx, tenant_id).await?))
}

/// Grant a tenant credit: its next invoices are paid with it first. With `dry_run` it only tells what
/// it would come to.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/credit", tag = "Invoices",
    params(("tenant_id" = Uuid, Path)), request_body = GrantCredit, responses(
    (status = 201, body = Credit), (status = 200, body = Credit), (status = 404, body = Problem),
    (status = 422, body = Problem)))]
async fn grant(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<GrantCredit>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees_all()?;
    let author = author(&caller, &body.value.reason);
    let amount = read_money(&body.value.amount)?;
    let dry_run = body.value.dry_run;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let (actor, reason) = (&author.actor, &author.reason);
        let client = state.client();
        let pays = invoice::grant_credit(client, conn, tenant_id, amount, reason, actor).await?;
        let mut answer = find_credit(conn, tenant_id).await?;
        let pays = pays.into_iter().map(|one| CreditPays {
            invoice_id: one.invoice_id,
            amount: money(one.amount),
        });
        answer.pays = pays.collect();
        if dry_run {
            return Ok(Done::Undone(answer));
        }
        let after = json!({ "granted": amount.to_string() });
        let of = (Some(tenant_id), tenant_id);
        note(conn, &author, "grant credit", of, None, &after).await?;
        Ok(Done::created(answer))
    })
    .await
}

/// Show the tax on what a tenant is billed; `null` for none.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/tax", tag = "Invoices",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Option<TaxRate>), (status = 404, body = Problem)))]
async fn show_tax(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Option<TaxRate>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let tax = tenant::find_tax(&mut tx, tenant_id).await?;
    Ok(Json(tax.map(tax_to_json)))
}

/// Set the tax on what a tenant is billed from now on; `null` takes it away. What was billed stays. With `dry_run` it only tells what it would come to.
#[utoipa::path(put, path = "/v1/tenants/{tenant_id}/tax", tag = "Invoices",
    params(("tenant_id" = Uuid, Path)), request_body = ChangeTax, responses(
    (status = 200, body = TaxChange), (status = 404, body = Problem), (status = 409, body = Problem),
    (status = 422, body = Problem)))]
async fn change_tax(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<ChangeTax>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    let asked = &body.value;
    let author = author_unless(asked.dry_run, &caller, asked.reason.as_deref())?;
    let tax = asked.tax.clone().map(|tax| Tax {
        name: tax.name,
        percent: tax.percent,
        inclusive: tax.inclusive,
    });
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        if asked.dry_run {
            let told = tenant::preview_tax(conn, tenant_id, tax.clone()).await?;
            return Ok(Done::Undone(tax_change_to_json(tenant_id, told, true)));
        }
        let changed = tenant::change_tax(conn, tenant_id, tax.clone()).await?;
        let answer = tax_change_to_json(tenant_id, changed, false);
        let before = Some(&answer.tax_before);
        let action = "change tax of tenant";
        let of = (Some(tenant_id), tenant_id);
        note(conn, &author, action, of, before, &answer.tax).await?;
        Ok(Done::ok(answer))
    })
    .await
}

async fn find_credit(conn: &mut PgConnection, tenant_id: TenantId) -> Result<Credit, ApiError> {
    let (balances, entries) = invoice::find_credit(conn, tenant_id).await?;
    let entries = entries.into_iter().map(|entry| CreditEntry {
        amount: money(entry.amount),
        reason: entry.reason,
        reference: entry.reference,
        note: entry.note,
        author: entry.author,
        created_at: entry.created_at,
    });
    Ok(Credit {
        balances: balances.into_iter().map(money).collect(),
        entries: entries.collect(),
        pays: Vec::new(),
    })
}

fn read_money(said: &Money) -> Result<Amount, ApiError> {
    let currency = said.currency.parse().map_err(|error| ApiError::Invalid {
        pointer: "/amount/currency".to_owned(),
        detail: format!("{error}"),
    });
    let currency: Currency = currency?;
    let read = Amount::new(said.amount, currency);
    if read.amount() != said.amount {
        return Err(ApiError::Invalid {
            pointer: "/amount/amount".to_owned(),
            detail: format!("{currency} has {} decimals", currency.decimals()),
        });
    }
    Ok(read)
}

fn tax_to_json(tax: Tax) -> TaxRate {
    TaxRate {
        name: tax.name,
        percent: tax.percent,
        inclusive: tax.inclusive,
    }
}

fn tax_change_to_json(tenant_id: TenantId, moved: TaxMove, dry_run: bool) -> TaxChange {
    TaxChange {
        tenant_id: tenant_id.0,
        tax_before: moved.from.map(tax_to_json),
        tax: moved.to.map(tax_to_json),
        dry_run,
    }
}

fn dispute_to_json(row: DisputeRow) -> Dispute {
    let money = |amount| Money {
        amount,
        currency: row.currency.clone(),
    };
    Dispute {
        amount: money(row.amount),
        fee: money(row.fee),
        dispute_id: row.dispute_id,
        invoice_id: row.invoice_id,
        reason: row.reason,
        standing: row.standing,
        evidence_due_at: row.evidence_due_at,
        opened_at: row.opened_at,
        settled_at: row.settled_at,
    }
}

fn note_to_json(row: CreditNoteRow) -> CreditNote {
    CreditNote {
        credit_note_id: row.credit_note_id,
        number: row.printed_number(),
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
    }
}

fn to_json(row: &InvoiceRow) -> Invoice {
    let status = match row.status.as_str() {
        "draft" => InvoiceStatus::Draft,
        "open" => InvoiceStatus::Open,
        "paid" => InvoiceStatus::Paid,
        "void" => InvoiceStatus::Void,
        _ => InvoiceStatus::Uncollectible,
    };
    Invoice {
        invoice_id: row.invoice_id,
        number: row.printed_number(),
        legal_entity: row.legal_entity.clone().filter(|key| !key.is_empty()),
        status,
        reason: row.reason.clone(),
        subtotal: money(row.subtotal),
        discount: money(row.discount),
        tax: money(row.tax),
        total: money(row.total),
        credited: money(row.credited),
        balance_applied: money(row.balance_applied),
        carried_over: Some(row.carried_over)
            .filter(|rest| !rest.is_zero())
            .map(money),
        amount_due: money(row.due()),
        period_start: row.period_start,
        period_end: row.period_end,
        finalized_at: row.finalized_at,
        paid_at: row.paid_at,
        attempts: row.attempts,
    }
}
