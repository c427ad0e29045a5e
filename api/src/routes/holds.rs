//! Holds on tenants and their subscriptions.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use tenure_client::{
    Hold, HoldBlocks, HoldFilter, HoldKind, Holds, LiftHold, PlaceHold, Problem, Role, Service,
};
use tenure_engine::TenantId;
use tenure_workflows::hold::{self, Blocks, Filter, HoldRow, Kind, NewHold, rules};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::audit::note;
use super::flow::author;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Key, once};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, place))
        .routes(routes!(lift))
}

/// List a tenant's holds, newest first, and whether its service is on.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/holds", tag = "Holds",
    params(("tenant_id" = Uuid, Path), HoldFilter), responses(
    (status = 200, body = Holds), (status = 404, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    Query(filter): Query<HoldFilter>,
) -> Result<Json<Holds>, ApiError> {
    caller.sees(tenant_id)?;
    let filter = Filter {
        subscription_id: filter.subscription_id,
        past: filter.past.unwrap_or(false),
    };
    let mut tx = state.begin_tenant(tenant_id).await?;
    let (holds, standing) = hold::list(&mut tx, tenant_id, &filter).await?;
    Ok(Json(Holds {
        service: match standing.service() {
            rules::Service::On => Service::On,
            rules::Service::ReadOnly => Service::ReadOnly,
            rules::Service::Off => Service::Off,
        },
        changes_blocked_by: standing.changes,
        access_blocked_by: standing.access,
        billing_blocked_by: standing.billing,
        holds: holds.into_iter().map(answer).collect(),
    }))
}

/// Place a hold on a tenant or one of its subscriptions. It counts at once, or from its start on.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/holds", tag = "Holds",
    params(("tenant_id" = Uuid, Path)), request_body = PlaceHold, responses(
    (status = 201, body = Hold), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 422, body = Problem)))]
async fn place(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<PlaceHold>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees_all()?;
    let asked = body.value;
    let kind = Kind::from_word(asked.kind.as_str()).ok_or_else(|| ApiError::Invalid {
        pointer: "/kind".to_owned(),
        detail: "customer_pause, fraud or legal".to_owned(),
    })?;
    let new = NewHold {
        subscription_id: asked.subscription_id,
        kind,
        starts_at: asked.starts_at,
        ends_at: asked.ends_at,
        blocks: asked
            .blocks
            .map(|blocks| Blocks::new(blocks.changes, blocks.access, blocks.billing)),
        reason: asked.reason,
    };
    let author = author(&caller, &new.reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let placed = answer(hold::place(conn, tenant_id, &new, &author.actor).await?);
        let of = (Some(tenant_id), placed.hold_id);
        note(conn, &author, "place hold", of, None, &placed).await?;
        Ok(Done::created(placed))
    })
    .await
}

/// Lift a hold that a person placed. What a run placed, it lifts by itself.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/holds/{hold_id}/lift", tag = "Holds",
    params(("tenant_id" = Uuid, Path), ("hold_id" = Uuid, Path)), request_body = LiftHold,
    responses((status = 200, body = Hold), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn lift(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, hold_id)): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<LiftHold>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees_all()?;
    let author = author(&caller, &body.value.reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let (actor, reason) = (&author.actor, &author.reason);
        let lifted = hold::lift(conn, tenant_id, hold_id, actor, reason).await?;
        let before = answer(HoldRow {
            lifted: None,
            ..lifted.clone()
        });
        let lifted = answer(lifted);
        let of = (Some(tenant_id), lifted.hold_id);
        note(conn, &author, "lift hold", of, Some(&before), &lifted).await?;
        Ok(Done::ok(lifted))
    })
    .await
}

fn answer(row: HoldRow) -> Hold {
    let (lifted_at, lifted_by, lift_reason) = match row.lifted {
        Some(lifted) => (Some(lifted.at), Some(lifted.by), Some(lifted.reason)),
        None => (None, None, None),
    };
    Hold {
        hold_id: row.hold_id,
        tenant_id: row.tenant_id.0,
        subscription_id: row.subscription_id,
        kind: match row.kind {
            Kind::CustomerPause => HoldKind::CustomerPause,
            Kind::DebtGrace => HoldKind::DebtGrace,
            Kind::DebtSuspension => HoldKind::DebtSuspension,
            Kind::Fraud => HoldKind::Fraud,
            Kind::Legal => HoldKind::Legal,
            Kind::TenantDeletion => HoldKind::TenantDeletion,
        },
        source: row.source,
        starts_at: row.starts_at,
        ends_at: row.ends_at,
        blocks: HoldBlocks {
            changes: row.blocks.changes,
            access: row.blocks.access,
            billing: row.blocks.billing,
        },
        author: row.author,
        reason: row.reason,
        placed_at: row.placed_at,
        lifted_at,
        lifted_by,
        lift_reason,
    }
}
