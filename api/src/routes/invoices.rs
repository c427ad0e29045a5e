//! Invoices: look only.

use axum::Json;
use axum::extract::State;
use rust_decimal::Decimal;
use tenure_client::{Invoice, InvoiceDetail, InvoiceLine, InvoiceStatus, Money, Problem};
use tenure_engine::TenantId;
use tenure_workflows::invoice::{self, InvoiceRow};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::plans::money;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::Path;
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
}

/// List a tenant's invoices, newest period first.
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
    let currency = row.total.currency().to_string();
    let lines = lines.into_iter().map(|line| InvoiceLine {
        description: line.description,
        quantity: line.quantity,
        amount: Money {
            amount: line.amount,
            currency: currency.clone(),
        },
        period_start: Some(line.period_start),
        period_end: Some(line.period_end),
    });
    Ok(Json(InvoiceDetail {
        invoice: to_json(&row),
        lines: lines.collect(),
    }))
}

fn to_json(row: &InvoiceRow) -> Invoice {
    let status = match row.status.as_str() {
        "draft" => InvoiceStatus::Draft,
        "open" => InvoiceStatus::Open,
        "paid" => InvoiceStatus::Paid,
        "void" => InvoiceStatus::Void,
        _ => InvoiceStatus::Uncollectible,
    };
    let total = money(row.total);
    let due = match status {
        InvoiceStatus::Draft | InvoiceStatus::Open => total.amount,
        _ => Decimal::ZERO,
    };
    Invoice {
        invoice_id: row.invoice_id,
        number: row.printed_number(),
        status,
        amount_due: money(tenure_workflows::money::Money::new(
            due,
            row.total.currency(),
        )),
        total,
        period_start: row.period_start,
        period_end: row.period_end,
        finalized_at: row.finalized_at,
        paid_at: row.paid_at,
        attempts: row.attempts,
    }
}
