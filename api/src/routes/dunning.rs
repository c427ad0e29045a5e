//! Dunning: debts, exemptions, policies and who goes by them.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use tenure_client::{
    AssignDunningPolicy, Debt, DebtState, DunningAssignment, DunningExemption, DunningPolicy,
    DunningPolicyFilter, DunningScope, ExemptFromDunning, LastDecline, LiftExemption,
    LoadDunningPolicy, Problem, Role, UnpaidInvoice,
};
use tenure_engine::TenantId;
use tenure_workflows::dunning::{
    self, Assignment, AssignmentScope, DebtView, ExemptionRow, NewExemption, PolicyRow,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::audit::note;
use super::flow::author;
use super::plans::money;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path, Query};
use crate::idempotency::{Done, Key, once};
use crate::state::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(debts))
        .routes(routes!(exemptions, exempt))
        .routes(routes!(lift))
        .routes(routes!(policies))
        .routes(routes!(load))
        .routes(routes!(assignments, assign))
}

/// Show how a tenant's debts stand, by currency, and what they follow from.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/debt", tag = "Dunning",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<Debt>), (status = 404, body = Problem)))]
async fn debts(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<Debt>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let views = dunning::debts(&mut tx, tenant_id).await?;
    Ok(Json(views.into_iter().map(debt).collect()))
}

/// List a tenant's exemptions from dunning, newest first, those that are over too.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/dunning-exemptions", tag = "Dunning",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<DunningExemption>), (status = 404, body = Problem)))]
async fn exemptions(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<DunningExemption>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let rows = dunning::exemptions(&mut tx, tenant_id).await?;
    Ok(Json(rows.into_iter().map(exemption).collect()))
}

/// Spare a tenant the steps and the end of dunning until an instant. Attempts go on. What was held
/// by then is lifted at once.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/dunning-exemptions", tag = "Dunning",
    params(("tenant_id" = Uuid, Path)), request_body = ExemptFromDunning, responses(
    (status = 201, body = DunningExemption), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn exempt(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<ExemptFromDunning>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees_all()?;
    let new = NewExemption {
        currency: body.value.currency,
        ends_at: body.value.ends_at,
        reason: body.value.reason,
    };
    let author = author(&caller, &new.reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let client = state.client();
        let row = dunning::exempt(client, conn, tenant_id, &new, &author.actor).await?;
        let placed = exemption(row);
        let of = (Some(tenant_id), placed.exemption_id);
        note(conn, &author, "exempt from dunning", of, None, &placed).await?;
        Ok(Done::created(placed))
    })
    .await
}

/// Take an exemption back. What the policy holds by now is held again.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/dunning-exemptions/{exemption_id}/lift",
    tag = "Dunning", params(("tenant_id" = Uuid, Path), ("exemption_id" = Uuid, Path)),
    request_body = LiftExemption, responses((status = 200, body = DunningExemption),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
    (status = 422, body = Problem)))]
async fn lift(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, exemption_id)): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<LiftExemption>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees_all()?;
    let author = author(&caller, &body.value.reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let (client, actor, reason) = (state.client(), &author.actor, &author.reason);
        let row =
            dunning::lift_exemption(client, conn, tenant_id, exemption_id, actor, reason).await?;
        let before = exemption(ExemptionRow {
            lifted: None,
            ..row.clone()
        });
        let lifted = exemption(row);
        let action = "lift dunning exemption";
        let of = (Some(tenant_id), exemption_id);
        note(conn, &author, action, of, Some(&before), &lifted).await?;
        Ok(Done::ok(lifted))
    })
    .await
}

/// List the versions of dunning policies, newest first.
#[utoipa::path(get, path = "/v1/dunning-policies", tag = "Dunning", params(DunningPolicyFilter),
    responses((status = 200, body = Vec<DunningPolicy>), (status = 404, body = Problem)))]
async fn policies(
    State(state): State<AppState>,
    caller: Caller,
    Query(filter): Query<DunningPolicyFilter>,
) -> Result<Json<Vec<DunningPolicy>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_control().await?;
    let rows = dunning::policies(&mut tx, filter.policy.as_deref()).await?;
    Ok(Json(rows.into_iter().map(policy).collect()))
}

/// Load a dunning policy as its next version; one that says the same as the newest is that one.
/// Debts go by it at their next look.
#[utoipa::path(put, path = "/v1/dunning-policies/{policy}", tag = "Dunning",
    params(("policy" = String, Path)), request_body = LoadDunningPolicy, responses(
    (status = 200, body = DunningPolicy), (status = 403, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn load(
    State(state): State<AppState>,
    caller: Caller,
    Path(name): Path<String>,
    key: Key,
    body: Body<LoadDunningPolicy>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let author = author(&caller, &body.value.reason);
    let document = body.value.document;
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_control(conn).await?;
        let known = dunning::policies(conn, None).await?;
        let before = known.into_iter().find(|row| row.policy == name);
        let (actor, reason) = (&author.actor, &author.reason);
        let row = dunning::load_policy(conn, &name, document, actor, reason).await?;
        let (before, loaded) = (before.map(policy), policy(row));
        let of = (None, &name);
        note(
            conn,
            &author,
            "load dunning policy",
            of,
            before.as_ref(),
            &loaded,
        )
        .await?;
        Ok(Done::ok(loaded))
    })
    .await
}

/// List who goes by which dunning policy.
#[utoipa::path(get, path = "/v1/dunning-assignments", tag = "Dunning", responses(
    (status = 200, body = Vec<DunningAssignment>), (status = 404, body = Problem)))]
async fn assignments(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Vec<DunningAssignment>>, ApiError> {
    caller.sees_all()?;
    let mut tx = state.begin_control().await?;
    let rows = dunning::assignments(&mut tx).await?;
    Ok(Json(rows.into_iter().map(assignment).collect()))
}

/// Say who goes by a dunning policy: all, a plan or a tenant. A tenant's debts are looked at at
/// once, others at their next look.
#[utoipa::path(put, path = "/v1/dunning-assignments", tag = "Dunning",
    request_body = AssignDunningPolicy, responses((status = 200, body = Vec<DunningAssignment>),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn assign(
    State(state): State<AppState>,
    caller: Caller,
    key: Key,
    body: Body<AssignDunningPolicy>,
) -> Result<Response, ApiError> {
    caller.require(Role::Operator)?;
    caller.sees_all()?;
    let asked = body.value;
    let scope = AssignmentScope::from_words(asked.scope.as_str(), asked.subject.trim());
    let scope = scope.ok_or_else(|| ApiError::Invalid {
        pointer: "/subject".to_owned(),
        detail: "scope default has no subject, plan a plan's key, tenant a tenant's id".to_owned(),
    })?;
    let author = author(&caller, &asked.reason);
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_control(conn).await?;
        let listed = async |conn: &mut sqlx::PgConnection| -> Result<Vec<_>, ApiError> {
            let rows = dunning::assignments(conn).await?;
            Ok(rows.into_iter().map(assignment).collect())
        };
        let before = listed(conn).await?;
        let (actor, reason) = (&author.actor, &author.reason);
        dunning::assign(conn, &scope, asked.policy.as_deref(), actor, reason).await?;
        let after = listed(conn).await?;
        if let AssignmentScope::Tenant(tenant) = scope {
            tenure_workflows::as_tenant(conn, tenant).await?;
            dunning::reevaluate(state.client(), conn, tenant).await?;
        }
        let subject = format!("{} {}", scope.word(), scope.subject());
        let action = "assign dunning policy";
        let tenant = match scope {
            AssignmentScope::Tenant(tenant) => Some(tenant),
            _ => None,
        };
        let of = (tenant, subject.trim());
        note(conn, &author, action, of, Some(&before), &after).await?;
        Ok(Done::ok(after))
    })
    .await
}

fn debt(view: DebtView) -> Debt {
    let DebtView { row, .. } = view;
    let (next_step, next_step_at) = row.next_step.unzip();
    let (policy, policy_version) = row.policy.unzip();
    Debt {
        currency: row.currency.to_string(),
        state: match row.state.as_str() {
            "clear" => DebtState::Clear,
            "past_due" => DebtState::PastDue,
            "grace" => DebtState::Grace,
            "suspended" => DebtState::Suspended,
            "exhausted" => DebtState::Exhausted,
            _ => DebtState::Unknown,
        },
        owed: money(view.owed),
        since: row.since,
        step: row.step,
        next_attempt_at: row.next_attempt_at,
        next_step,
        next_step_at,
        ends_at: row.ends_at,
        policy,
        policy_version,
        unpaid: view
            .unpaid
            .into_iter()
            .map(|one| UnpaidInvoice {
                invoice_id: one.invoice_id,
                subscription_id: one.subscription_id,
                total: money(one.total),
                failed_at: one.failed_at,
                waits_for: one.under_way.map(|one| one.waits_for.word().to_owned()),
                waits_since: one.under_way.and_then(|one| one.since),
            })
            .collect(),
        last_decline: view.last_decline.map(|last| LastDecline {
            code: last.code,
            class: last.class.word().to_owned(),
            at: last.at,
        }),
        exemption: view.exemption.map(exemption),
    }
}

fn exemption(row: ExemptionRow) -> DunningExemption {
    let (lifted_at, lifted_by, lift_reason) = match row.lifted {
        Some(lifted) => (Some(lifted.at), Some(lifted.by), Some(lifted.reason)),
        None => (None, None, None),
    };
    DunningExemption {
        exemption_id: row.exemption_id,
        currency: row.currency.map(|currency| currency.to_string()),
        ends_at: row.ends_at,
        author: row.author,
        reason: row.reason,
        placed_at: row.placed_at,
        lifted_at,
        lifted_by,
        lift_reason,
    }
}

fn policy(row: PolicyRow) -> DunningPolicy {
    DunningPolicy {
        policy: row.policy,
        version: row.version,
        document: row.document,
        author: row.author,
        reason: row.reason,
        loaded_at: row.loaded_at,
    }
}

fn assignment(row: Assignment) -> DunningAssignment {
    DunningAssignment {
        scope: match row.scope {
            AssignmentScope::Default => DunningScope::Default,
            AssignmentScope::Plan(_) => DunningScope::Plan,
            AssignmentScope::Tenant(_) => DunningScope::Tenant,
        },
        subject: row.scope.subject(),
        policy: row.policy,
        author: row.author,
        reason: row.reason,
        assigned_at: row.assigned_at,
    }
}
