//! Tenants, and the payment method that is charged.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use tenure_client::{
    AttachPaymentMethod, NewTenant, Page, PaymentMethod, Problem, Role, SignalAccepted, Tenant,
    TenantFilter,
};
use tenure_engine::{SYSTEM_TENANT, TenantId};
use tenure_workflows::tenant::{self, Customer, TenantRow};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{cursor, page, page_size};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Key, once};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show))
        .routes(routes!(attach))
}

/// Create a tenant; with `test_clock` it follows a clock of its own that only an advance moves.
#[utoipa::path(post, path = "/v1/tenants", tag = "Tenants", request_body = NewTenant, responses(
    (status = 201, body = Tenant), (status = 401, body = Problem), (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<NewTenant>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let new = tenant::NewTenant {
        name: body.value.name,
        email: body.value.email,
        zone: body.value.zone,
        locale: body.value.locale,
        test_clock: body.value.test_clock,
    };
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        let row = tenant::create(state.client(), conn, &new).await?;
        Ok(Done::created(to_json(row, None)))
    })
    .await
}

/// List tenants, newest first.
#[utoipa::path(get, path = "/v1/tenants", tag = "Tenants", params(TenantFilter), responses(
    (status = 200, body = Page<Tenant>), (status = 400, body = Problem), (status = 401, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(filter): Query<TenantFilter>,
) -> Result<Json<Page<Tenant>>, ApiError> {
    let limit = page_size(filter.limit)?;
    let after = cursor::<TenantId>(filter.cursor.as_deref())?;
    let mut tx = match caller.tenant {
        Some(tenant) => state.begin_tenant(tenant).await?,
        None => state.begin_control().await?,
    };
    let rows = tenant::list(&mut tx, filter.q.as_deref(), after, limit).await?;
    let last = rows.last().map(|row| row.tenant_id.to_string());
    let items = rows.into_iter().map(|row| to_json(row, None)).collect();
    Ok(Json(page(items, last, limit)))
}

/// Show one tenant with the payment method that is charged.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}", tag = "Tenants",
    params(("tenant_id" = uuid::Uuid, Path)), responses(
    (status = 200, body = Tenant), (status = 401, body = Problem), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Tenant>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let row = tenant::find(&mut tx, tenant_id).await?;
    let customer = tenant::find_customer(&mut tx, tenant_id, row.shard_id).await?;
    Ok(Json(to_json(row, customer)))
}

/// Give a tenant a payment method; the tenant's run attaches it and makes it the default.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/payment-methods", tag = "Tenants",
    params(("tenant_id" = uuid::Uuid, Path)), request_body = AttachPaymentMethod, responses(
    (status = 202, body = SignalAccepted), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn attach(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<AttachPaymentMethod>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let signal_id = tenure_engine::random_uuid().to_string();
        let (client, method) = (state.client(), &body.value.payment_method);
        let sent = tenant::attach_method(client, conn, tenant_id, &signal_id, method).await?;
        Ok(Done::accepted(SignalAccepted {
            run_id: sent.run_id.0,
            signal_id,
        }))
    })
    .await
}

fn to_json(row: TenantRow, customer: Option<Customer>) -> Tenant {
    let provider_customer_id = customer
        .as_ref()
        .map(|customer| customer.provider_customer_id.clone());
    let (method, method_error) = customer.map_or((None, None), |customer| {
        (customer.method, customer.method_error)
    });
    Tenant {
        tenant_id: row.tenant_id.0,
        name: row.name,
        email: row.email,
        zone: row.zone,
        locale: row.locale,
        provider_customer_id,
        shard_id: row.shard_id.0,
        test_clock_id: row.test_clock_id.map(|clock| clock.0),
        default_payment_method: method.map(|method| PaymentMethod {
            brand: method.brand,
            last4: method.last4,
            provider_id: method.id,
            expires_on: method.expires_on,
        }),
        created_at: row.created_at,
        payment_method_error: method_error,
    }
}

/// The names of the owners of what a list shows, as far as the caller may see them.
pub(super) async fn names(
    conn: &mut sqlx::PgConnection,
    caller: &Caller,
    owners: &[TenantId],
) -> Result<HashMap<TenantId, String>, ApiError> {
    if caller.tenant.is_none() {
        tenure_workflows::as_control(conn).await?;
    }
    Ok(tenant::names(conn, owners).await?)
}

/// The name of the owner of what is no tenant's.
pub(super) fn system_name(owner: TenantId) -> Option<String> {
    (owner == SYSTEM_TENANT).then(|| "system".to_owned())
}
