//! Tenants, and the payment method that is charged.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use tenure_client::{
    AttachPaymentMethod, ChangeLegalEntity, ChangeZone, LegalEntityChange, NewTenant,
    OrderPaymentMethods, Page, PaymentMethod, Problem, Role, SignalAccepted, Tenant, TenantFilter,
    ZoneChange, ZoneChangeDates,
};
use tenure_engine::{SYSTEM_TENANT, TenantId};
use tenure_workflows::ports::stripe::Method;
use tenure_workflows::tenant::{self, Customer, TenantRow};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::audit::note;
use super::flow::author_unless;
use super::subscriptions::status_json;
use super::{cursor, page, page_size};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Fingerprint, Key, once};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show))
        .routes(routes!(methods, attach, order))
        .routes(routes!(remove))
        .routes(routes!(change_zone))
        .routes(routes!(change_legal_entity))
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
        legal_entity: body.value.legal_entity,
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

/// List a tenant's payment methods in its order: the first that is usable is charged.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/payment-methods", tag = "Tenants",
    params(("tenant_id" = uuid::Uuid, Path)), responses(
    (status = 200, body = Vec<PaymentMethod>), (status = 404, body = Problem)))]
async fn methods(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<PaymentMethod>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let methods = tenant::list_methods(&mut tx, tenant_id).await?;
    Ok(Json(methods.into_iter().map(method_json).collect()))
}

/// Give a tenant a payment method, at a place in its order or instead of its first; its run attaches it.
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
        let (client, asked) = (state.client(), &body.value);
        let (method, at) = (&asked.payment_method, asked.position);
        let sent = tenant::attach_method(client, conn, tenant_id, &signal_id, method, at).await?;
        Ok(Done::accepted(SignalAccepted {
            run_id: sent.run_id.0,
            signal_id,
        }))
    })
    .await
}

/// Charge a tenant's payment methods in another order, which names each of them once.
#[utoipa::path(put, path = "/v1/tenants/{tenant_id}/payment-methods", tag = "Tenants",
    params(("tenant_id" = uuid::Uuid, Path)), request_body = OrderPaymentMethods, responses(
    (status = 202, body = SignalAccepted), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn order(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<OrderPaymentMethods>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let signal_id = tenure_engine::random_uuid().to_string();
        let (client, wanted) = (state.client(), &body.value.payment_methods);
        let sent = tenant::order_methods(client, conn, tenant_id, &signal_id, wanted).await?;
        Ok(Done::accepted(SignalAccepted {
            run_id: sent.run_id.0,
            signal_id,
        }))
    })
    .await
}

/// Take a payment method from a tenant, here and at the provider.
#[utoipa::path(delete, path = "/v1/tenants/{tenant_id}/payment-methods/{method}", tag = "Tenants",
    params(("tenant_id" = uuid::Uuid, Path), ("method" = String, Path)), responses(
    (status = 202, body = SignalAccepted), (status = 404, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, method)): Path<(TenantId, String)>,
    key: Key,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    let path = format!("/v1/tenants/{tenant_id}/payment-methods/{method}");
    let fingerprint = Fingerprint::of("DELETE", &path, &[]);
    once(&state, &caller, &key, &fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let signal_id = tenure_engine::random_uuid().to_string();
        let client = state.client();
        let sent = tenant::remove_method(client, conn, tenant_id, &signal_id, &method).await?;
        Ok(Done::accepted(SignalAccepted {
            run_id: sent.run_id.0,
            signal_id,
        }))
    })
    .await
}

/// Let a tenant's days begin in another zone: what is paid for stays as it is, and its subscriptions enter the zone at their next boundary. With `dry_run` it only tells their dates.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/zone", tag = "Tenants",
    params(("tenant_id" = uuid::Uuid, Path)), request_body = ChangeZone, responses(
    (status = 200, body = ZoneChange), (status = 404, body = Problem), (status = 409, body = Problem),
    (status = 422, body = Problem)))]
async fn change_zone(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<ChangeZone>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    let asked = &body.value;
    let author = author_unless(asked.dry_run, &caller, asked.reason.as_deref())?;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        if asked.dry_run {
            let told = tenant::preview_zone(conn, tenant_id, &asked.zone).await?;
            return Ok(Done::Undone(zone_json(tenant_id, told, None)));
        }
        let signal_id = tenure_engine::random_uuid().to_string();
        let (client, zone) = (state.client(), &asked.zone);
        let moved = tenant::change_zone(client, conn, tenant_id, &signal_id, zone).await?;
        let answer = zone_json(tenant_id, moved, Some(signal_id));
        let of = (Some(tenant_id), tenant_id);
        note(conn, &author, "change zone of tenant", of, None, &answer).await?;
        Ok(Done::ok(answer))
    })
    .await
}

fn zone_json(
    tenant_id: TenantId,
    moved: tenant::ZoneMove,
    signal_id: Option<String>,
) -> ZoneChange {
    let dates = moved.subscriptions.into_iter().map(|one| ZoneChangeDates {
        subscription_id: one.subscription_id,
        plan: one.plan,
        status: status_json(one.status),
        before: one.before,
        after: one.after,
    });
    ZoneChange {
        tenant_id: tenant_id.0,
        zone_before: moved.from,
        zone: moved.to,
        signal_id,
        subscriptions: dates.collect(),
    }
}

/// Let another legal entity issue a tenant's invoices: those that are finalised from then on, and their credit notes. With `dry_run` it only tells the next number.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/legal-entity", tag = "Tenants",
    params(("tenant_id" = uuid::Uuid, Path)), request_body = ChangeLegalEntity, responses(
    (status = 200, body = LegalEntityChange), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn change_legal_entity(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<ChangeLegalEntity>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    let asked = &body.value;
    let author = author_unless(asked.dry_run, &caller, asked.reason.as_deref())?;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let to = &asked.legal_entity;
        if asked.dry_run {
            let told = tenant::preview_legal_entity(conn, tenant_id, to).await?;
            return Ok(Done::Undone(entity_json(tenant_id, told, true)));
        }
        let moved = tenant::change_legal_entity(conn, tenant_id, to).await?;
        let answer = entity_json(tenant_id, moved, false);
        let action = "change legal entity of tenant";
        let of = (Some(tenant_id), tenant_id);
        note(conn, &author, action, of, None, &answer).await?;
        Ok(Done::ok(answer))
    })
    .await
}

fn entity_json(
    tenant_id: TenantId,
    moved: tenant::LegalEntityMove,
    dry_run: bool,
) -> LegalEntityChange {
    LegalEntityChange {
        tenant_id: tenant_id.0,
        legal_entity_before: Some(moved.from).filter(|key| !key.is_empty()),
        legal_entity: moved.to,
        next_number: moved.next_number,
        dry_run,
    }
}

fn method_json(method: Method) -> PaymentMethod {
    PaymentMethod {
        brand: method.brand,
        last4: method.last4,
        provider_id: method.id,
        expires_on: method.expires_on,
    }
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
        default_payment_method: method.map(method_json),
        created_at: row.created_at,
        legal_entity: Some(row.legal_entity).filter(|key| !key.is_empty()),
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
