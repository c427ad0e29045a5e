//! Subscriptions.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use tenure_client::{
    CancelSubscription, ChangeSubscription, CreditPolicy, CreditPreview, IntentKind, InvoiceLine,
    MoveAnchor, NewSubscription, PauseSubscription, Problem, ResumeSubscription, Role,
    SignalAccepted, Subscribed, Subscription, SubscriptionAct, SubscriptionDetail,
    SubscriptionIntent, SubscriptionItem, SubscriptionStatus, SubscriptionSuccessor, UndoIntent,
    When,
};
use tenure_engine::TenantId;
use tenure_engine::flow::Author;
use tenure_workflows::money::Money as Amount;
use tenure_workflows::subscription::intent::Kind;
use tenure_workflows::subscription::rules::DisplayStatus;
use tenure_workflows::subscription::{self, Preview, SubscriptionRow, Wanted};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::audit::note;
use super::flow::author;
use super::plans::money;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Body, Path};
use crate::idempotency::{Done, Fingerprint, Key, once};
use crate::state::AppState;
use crate::trace;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show))
        .routes(routes!(change))
        .routes(routes!(cancel))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(move_anchor))
        .routes(routes!(undo))
}

/// Subscribe a tenant to a plan. The same `key` again returns the first subscription. With `dry_run` it only tells what it would come to.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/subscriptions", tag = "Subscriptions",
    params(("tenant_id" = Uuid, Path)), request_body = NewSubscription, responses(
    (status = 201, body = Subscription), (status = 200, body = Subscribed),
    (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
    key: Key,
    body: Body<NewSubscription>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    let dry_run = body.value.dry_run;
    let new = subscription::NewSubscription {
        plan: body.value.plan,
        currency: body.value.currency,
        key: body.value.key,
        seats: body.value.seats,
        add_ons: body.value.add_ons.into_iter().collect(),
        coupon: body.value.coupon,
        start_at: body.value.start_at,
        anchor_day: body.value.anchor_day,
    };
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let client = state.client();
        if dry_run {
            let preview = subscription::preview_new(client, conn, tenant_id, &new).await?;
            let told = preview_to_json(None, preview);
            return Ok(Done::Undone(Subscribed::Told(Box::new(told))));
        }
        let (row, status, created) = subscription::create(client, conn, tenant_id, &new).await?;
        trace::tell_run(tenant_id, row.run_id);
        let answer = Subscribed::Made(Box::new(to_json(row, status)));
        Ok(if created {
            Done::created(answer)
        } else {
            Done::ok(answer)
        })
    })
    .await
}

/// List a tenant's subscriptions, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/subscriptions", tag = "Subscriptions",
    params(("tenant_id" = Uuid, Path)), responses(
    (status = 200, body = Vec<Subscription>), (status = 404, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Path(tenant_id): Path<TenantId>,
) -> Result<Json<Vec<Subscription>>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let rows = subscription::list(&mut tx, tenant_id).await?;
    let rows = rows.into_iter().map(|(row, status)| to_json(row, status));
    Ok(Json(rows.collect()))
}

/// Show one subscription, with what it has and what will become of it.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/subscriptions/{subscription_id}",
    tag = "Subscriptions", params(("tenant_id" = Uuid, Path), ("subscription_id" = Uuid, Path)),
    responses((status = 200, body = SubscriptionDetail), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, subscription_id)): Path<(TenantId, Uuid)>,
) -> Result<Json<SubscriptionDetail>, ApiError> {
    caller.sees(tenant_id)?;
    let mut tx = state.begin_tenant(tenant_id).await?;
    let (row, status) = subscription::find(&mut tx, tenant_id, subscription_id).await?;
    let (intents, items) = subscription::list_intents(&mut tx, &row).await?;
    let follows = subscription::find_follows(state.client(), &mut tx, &row).await?;
    let currency = row.price.currency();
    let items = items.into_iter().map(|item| SubscriptionItem {
        item: item.item,
        name: item.name,
        quantity: item.quantity,
        unit_price: money(Amount::new(item.unit_price, currency)),
    });
    let intents = intents.into_iter().map(|intent| {
        Ok(SubscriptionIntent {
            kind: kind_to_json(intent.act.kind()),
            at: intent.at,
            with_period: !intent.is_dated(),
            details: serde_json::to_value(&intent.act).map_err(|_| ApiError::Internal)?,
        })
    });
    Ok(Json(SubscriptionDetail {
        items: items.collect(),
        intents: intents.collect::<Result<_, ApiError>>()?,
        successor: follows.map(|follows| SubscriptionSuccessor {
            plan: follows.plan,
            name: follows.name,
            at: follows.at,
            price: money(follows.price),
        }),
        succeeds: row.succeeds.clone(),
        subscription: to_json(row, status),
    }))
}

/// Change a subscription's plan, seats or add-ons. With `dry_run` it only tells what it would come to.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/change",
    tag = "Subscriptions", params(("tenant_id" = Uuid, Path), ("subscription_id" = Uuid, Path)),
    request_body = ChangeSubscription, responses((status = 202, body = SubscriptionAct),
    (status = 200, body = SubscriptionAct), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    Path(of): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<ChangeSubscription>,
) -> Result<Response, ApiError> {
    let asked = &body.value;
    let wanted = Wanted::Change {
        plan: asked.plan.clone(),
        newest: asked.newest,
        seats: asked.seats,
        add_ons: asked.add_ons.clone().map(|all| all.into_iter().collect()),
    };
    let act = Act {
        wanted,
        when: moment(asked.when),
        author: asked.reason.as_deref().map(|why| author(&caller, why)),
        dry_run: asked.dry_run,
    };
    perform(&state, &caller, of, &key, &body.fingerprint, &act).await
}

/// End a subscription, now, with what is paid for, or on a day. With `dry_run` it only tells what it would come to.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/cancel",
    tag = "Subscriptions", params(("tenant_id" = Uuid, Path), ("subscription_id" = Uuid, Path)),
    request_body = CancelSubscription, responses((status = 202, body = SubscriptionAct),
    (status = 200, body = SubscriptionAct), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    Path(of): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<CancelSubscription>,
) -> Result<Response, ApiError> {
    let asked = &body.value;
    let wanted = Wanted::Cancel {
        credit: policy(asked.credit),
    };
    let act = Act {
        wanted,
        when: moment(asked.when),
        author: asked.reason.as_deref().map(|why| author(&caller, why)),
        dry_run: asked.dry_run,
    };
    perform(&state, &caller, of, &key, &body.fingerprint, &act).await
}

/// Pause a subscription: no use and no billing; unused time becomes credit. With `dry_run` it only tells what it would come to.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/pause",
    tag = "Subscriptions", params(("tenant_id" = Uuid, Path), ("subscription_id" = Uuid, Path)),
    request_body = PauseSubscription, responses((status = 202, body = SubscriptionAct),
    (status = 200, body = SubscriptionAct), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn pause(
    State(state): State<AppState>,
    caller: Caller,
    Path(of): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<PauseSubscription>,
) -> Result<Response, ApiError> {
    let asked = &body.value;
    let wanted = Wanted::Pause { until: asked.until };
    let act = Act {
        wanted,
        when: moment(asked.when),
        author: asked.reason.as_deref().map(|why| author(&caller, why)),
        dry_run: asked.dry_run,
    };
    perform(&state, &caller, of, &key, &body.fingerprint, &act).await
}

/// Let a paused subscription go on. With `dry_run` it only tells what it would come to.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/resume",
    tag = "Subscriptions", params(("tenant_id" = Uuid, Path), ("subscription_id" = Uuid, Path)),
    request_body = ResumeSubscription, responses((status = 202, body = SubscriptionAct),
    (status = 200, body = SubscriptionAct), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn resume(
    State(state): State<AppState>,
    caller: Caller,
    Path(of): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<ResumeSubscription>,
) -> Result<Response, ApiError> {
    let asked = &body.value;
    let wanted = Wanted::Resume;
    let act = Act {
        wanted,
        when: moment(asked.when),
        author: asked.reason.as_deref().map(|why| author(&caller, why)),
        dry_run: asked.dry_run,
    };
    perform(&state, &caller, of, &key, &body.fingerprint, &act).await
}

/// Let a subscription's periods begin on another day of the month. With `dry_run` it only tells what it would come to.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/move-anchor",
    tag = "Subscriptions", params(("tenant_id" = Uuid, Path), ("subscription_id" = Uuid, Path)),
    request_body = MoveAnchor, responses((status = 202, body = SubscriptionAct),
    (status = 200, body = SubscriptionAct), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn move_anchor(
    State(state): State<AppState>,
    caller: Caller,
    Path(of): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<MoveAnchor>,
) -> Result<Response, ApiError> {
    let asked = &body.value;
    let wanted = Wanted::MoveAnchor { day: asked.day };
    let act = Act {
        wanted,
        when: moment(asked.when),
        author: asked.reason.as_deref().map(|why| author(&caller, why)),
        dry_run: asked.dry_run,
    };
    perform(&state, &caller, of, &key, &body.fingerprint, &act).await
}

/// Take back what was to become of a subscription, before it comes about.
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/subscriptions/{subscription_id}/undo",
    tag = "Subscriptions", params(("tenant_id" = Uuid, Path), ("subscription_id" = Uuid, Path)),
    request_body = UndoIntent, responses((status = 202, body = SignalAccepted),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn undo(
    State(state): State<AppState>,
    caller: Caller,
    Path((tenant_id, subscription_id)): Path<(TenantId, Uuid)>,
    key: Key,
    body: Body<UndoIntent>,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    let intent = match body.value.intent {
        IntentKind::Change => Kind::Change,
        IntentKind::Cancel => Kind::Cancel,
        IntentKind::Pause => Kind::Pause,
        IntentKind::Resume => Kind::Resume,
        IntentKind::MoveAnchor => Kind::MoveAnchor,
    };
    let why = body.value.reason.as_deref();
    let author = why.map(|why| author(&caller, why));
    once(&state, &caller, &key, &body.fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let signal_id = tenure_engine::random_uuid().to_string();
        let (client, id) = (state.client(), subscription_id);
        let sent = subscription::undo(client, conn, tenant_id, id, &signal_id, intent).await?;
        let answer = SignalAccepted {
            run_id: sent.run_id.0,
            signal_id,
        };
        if let Some(author) = &author {
            let action = format!("undo {}", intent.word());
            let of = (Some(tenant_id), id);
            note(conn, author, &action, of, None, &answer).await?;
        }
        Ok(Done::accepted(answer))
    })
    .await
}

/// What is asked of a subscription, and when.
struct Act {
    wanted: Wanted,
    when: subscription::intent::When,
    /// The person who asks, if one does.
    author: Option<Author>,
    dry_run: bool,
}

/// Tells what an act comes to and, unless it is only tried, asks for it.
async fn perform(
    state: &AppState,
    caller: &Caller,
    (tenant_id, subscription_id): (TenantId, Uuid),
    key: &Key,
    fingerprint: &Fingerprint,
    act: &Act,
) -> Result<Response, ApiError> {
    caller.require(Role::Support)?;
    caller.sees(tenant_id)?;
    once(state, caller, key, fingerprint, async |conn| {
        tenure_workflows::as_tenant(conn, tenant_id).await?;
        let (row, _) = subscription::find(conn, tenant_id, subscription_id).await?;
        let (client, id) = (state.client(), subscription_id);
        let (wanted, when) = (&act.wanted, act.when);
        let preview = subscription::preview(client, conn, tenant_id, id, wanted, when).await?;
        let mut answer = preview_to_json(Some(row.run_id.0), preview);
        if act.dry_run {
            return Ok(Done::Undone(answer));
        }
        let signal_id = tenure_engine::random_uuid().to_string();
        subscription::act(client, conn, tenant_id, id, &signal_id, wanted, when).await?;
        trace::tell_run(tenant_id, row.run_id);
        answer.signal_id = Some(signal_id);
        if let Some(author) = &act.author {
            let of = (Some(tenant_id), subscription_id);
            note(conn, author, verb(wanted), of, None, &answer).await?;
        }
        Ok(Done::accepted(answer))
    })
    .await
}

/// What an act is called in the audit.
const fn verb(wanted: &Wanted) -> &'static str {
    match wanted {
        Wanted::Change { .. } => "change subscription",
        Wanted::Cancel { .. } => "cancel subscription",
        Wanted::Pause { .. } => "pause subscription",
        Wanted::Resume => "resume subscription",
        Wanted::MoveAnchor { .. } => "move anchor of subscription",
    }
}

fn moment(when: When) -> subscription::intent::When {
    match when {
        When::Now => subscription::intent::When::Now,
        When::PeriodEnd => subscription::intent::When::PeriodEnd,
        When::At(at) => subscription::intent::When::At(at),
    }
}

fn policy(credit: CreditPolicy) -> subscription::money::CreditPolicy {
    match credit {
        CreditPolicy::None => subscription::money::CreditPolicy::None,
        CreditPolicy::Credit => subscription::money::CreditPolicy::Credit,
        CreditPolicy::Refund => subscription::money::CreditPolicy::Refund,
    }
}

fn kind_to_json(kind: Kind) -> IntentKind {
    match kind {
        Kind::Change => IntentKind::Change,
        Kind::Cancel => IntentKind::Cancel,
        Kind::Pause => IntentKind::Pause,
        Kind::Resume => IntentKind::Resume,
        Kind::MoveAnchor => IntentKind::MoveAnchor,
    }
}

fn preview_to_json(run_id: Option<Uuid>, preview: Preview) -> SubscriptionAct {
    let currency = preview.price.currency();
    let amount = |amount| money(Amount::new(amount, currency));
    let credits = preview.credits.into_iter().map(|give| CreditPreview {
        invoice_id: give.invoice_id,
        total: amount(give.total),
        tax: amount(give.tax),
        to_debt: amount(give.split.to_debt),
        to_balance: amount(give.split.to_balance),
        to_refund: amount(give.split.to_refund),
    });
    let lines = preview.lines.into_iter().map(|line| InvoiceLine {
        item: line.charge.item.item,
        description: line.charge.item.name,
        quantity: line.charge.item.quantity.into(),
        unit_price: amount(line.charge.item.unit_price),
        units: line.charge.span.units,
        units_of: line.charge.span.of,
        subtotal: amount(line.subtotal),
        discount: amount(line.discount),
        amount: amount(line.amount),
        tax: amount(line.tax),
        period_start: Some(line.charge.span.start),
        period_end: Some(line.charge.span.end),
    });
    let zero = rust_decimal::Decimal::ZERO;
    SubscriptionAct {
        run_id,
        signal_id: None,
        at: preview.at,
        credits: credits.collect(),
        lines: lines.collect(),
        tax: amount(preview.totals.map_or(zero, |totals| totals.tax)),
        total: amount(preview.totals.map_or(zero, |totals| totals.total)),
        balance_applied: money(preview.balance_applied),
        amount_due: money(preview.due),
        price: money(preview.price),
        period_start: preview.period.map(|period| period.start),
        period_end: preview.period.map(|period| period.end),
    }
}

pub(super) const fn status_json(status: DisplayStatus) -> SubscriptionStatus {
    match status {
        DisplayStatus::Scheduled => SubscriptionStatus::Scheduled,
        DisplayStatus::Paused => SubscriptionStatus::Paused,
        DisplayStatus::Incomplete => SubscriptionStatus::Incomplete,
        DisplayStatus::Trialing => SubscriptionStatus::Trialing,
        DisplayStatus::Active => SubscriptionStatus::Active,
        DisplayStatus::PastDue => SubscriptionStatus::PastDue,
        DisplayStatus::Ending => SubscriptionStatus::Ending,
        DisplayStatus::Ended => SubscriptionStatus::Ended,
    }
}

fn to_json(row: SubscriptionRow, status: DisplayStatus) -> Subscription {
    Subscription {
        subscription_id: row.subscription_id,
        run_id: row.run_id.0,
        tenant_id: row.tenant_id.0,
        plan: row.plan,
        status: status_json(status),
        plan_version: row.plan_version,
        seats: row.seats,
        interval: row.interval.to_string(),
        price: money(row.price),
        coupon: row.coupon,
        term_ends_at: row.term_ends_at,
        trial_ends_at: row.trial_ends_at,
        period_start: row.period.map(|period| period.start),
        period_end: row.period.map(|period| period.end),
        cancel_at: row.cancel_at,
        ended_at: row.ended_at,
        end_reason: row.end_reason,
    }
}
