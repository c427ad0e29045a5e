//! Holds through the API, the client and the command line.

use std::process::Command;

use serde_json::Value;
use tenure_client::{
    Client, HoldBlocks, HoldFilter, HoldKind, Holds, IdempotencyKey, LiftHold, NewSubscription,
    PlaceHold, Role, Service,
};
use tenure_engine::TenantId;
use uuid::Uuid;

use crate::support;
use crate::support::app::{Subscriber, TestApp, token};
use crate::support::process::tenure;

fn fraud(subscription_id: Option<Uuid>) -> PlaceHold {
    PlaceHold {
        kind: HoldKind::Fraud,
        subscription_id,
        starts_at: None,
        ends_at: None,
        blocks: None,
        reason: "ticket 17".to_owned(),
    }
}

async fn holds(customer: &Subscriber<'_>, subscription_id: Option<Uuid>, past: bool) -> Holds {
    let filter = HoldFilter {
        subscription_id,
        past: Some(past),
    };
    let tenant = customer.tenant.tenant_id;
    customer.client.list_holds(tenant, &filter).await.unwrap()
}

async fn place(customer: &Subscriber<'_>, hold: &PlaceHold) -> Uuid {
    let (tenant, key) = (customer.tenant.tenant_id, IdempotencyKey::generate());
    let placed = customer.client.place_hold(tenant, hold, &key).await;
    placed.unwrap().hold_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_shuts_what_it_is_on_from_its_start_to_its_end_or_until_it_is_lifted() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let second = NewSubscription {
        plan: "starter-monthly".to_owned(),
        currency: "USD".to_owned(),
        ..NewSubscription::default()
    };
    let (tenant, key) = (customer.tenant.tenant_id, IdempotencyKey::generate());
    let second = app.client.subscribe(tenant, &second, &key).await;
    let second = second.unwrap().subscription_id;
    let first = customer.subscription;
    let services = async || {
        let mut services = Vec::new();
        for of in [Some(first), Some(second), None] {
            services.push(holds(&customer, of, false).await.service);
        }
        services
    };
    assert_eq!(services().await, [Service::On; 3]);

    let on_first = place(&customer, &fraud(Some(first))).await;
    assert_eq!(services().await, [Service::Off, Service::On, Service::On]);
    // Three days of a legal hold on everything, from the day after tomorrow on.
    let legal = PlaceHold {
        kind: HoldKind::Legal,
        starts_at: Some("2027-06-03T00:00:00Z".parse().unwrap()),
        ends_at: Some("2027-06-06T00:00:00Z".parse().unwrap()),
        ..fraud(None)
    };
    let legal = place(&customer, &legal).await;
    assert_eq!(services().await, [Service::Off, Service::On, Service::On]);
    customer.advance("2d").await;
    let shut = [Service::Off, Service::ReadOnly, Service::ReadOnly];
    assert_eq!(services().await, shut);
    let found = holds(&customer, Some(first), false).await;
    assert_eq!(found.access_blocked_by, Some(on_first));
    assert_eq!(found.changes_blocked_by, Some(on_first), "the older of two");
    assert_eq!(
        holds(&customer, Some(second), false)
            .await
            .changes_blocked_by,
        Some(legal)
    );
    customer.advance("3d").await;
    assert_eq!(services().await, [Service::Off, Service::On, Service::On]);

    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifted_hold_says_who_lifted_it_and_so_does_the_audit() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let on_first = place(&customer, &fraud(None)).await;
    let lift = LiftHold {
        reason: "a false alarm".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let lifted = app.client.lift_hold(tenant, on_first, &lift, &key).await;
    let lifted = lifted.unwrap();
    assert_eq!(lifted.lifted_by.as_deref(), Some("suite admin"));
    assert_eq!(lifted.lifted_at, Some(customer.now().await));
    let of = customer.subscription;
    assert_eq!(holds(&customer, Some(of), false).await.service, Service::On);
    let again = IdempotencyKey::generate();
    let again = app.client.lift_hold(tenant, on_first, &lift, &again).await;
    assert_eq!(again.unwrap_err().problem().unwrap().status, 409);
    assert!(holds(&customer, None, false).await.holds.is_empty());
    let past: Vec<Uuid> = holds(&customer, None, true)
        .await
        .holds
        .iter()
        .map(|hold| hold.hold_id)
        .collect();
    assert_eq!(past, [on_first]);
    let mut conn = support::connect(&app.options).await;
    let audit: Vec<(String, String, String)> = sqlx::query_as(
        "select action, actor, reason from engine.control_audit where subject = $1 order by at",
    )
    .bind(on_first.to_string())
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let line = |action: &str, reason: &str| {
        (
            action.to_owned(),
            "suite admin".to_owned(),
            reason.to_owned(),
        )
    };
    assert_eq!(
        audit,
        [
            line("place hold", "ticket 17"),
            line("lift hold", "a false alarm")
        ]
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_does_not_fit_is_refused_by_name() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let early = Some("2027-05-01T00:00:00Z".parse().unwrap());
    let none = Some(HoldBlocks::default());
    let of_kind = |kind| PlaceHold {
        kind,
        ..fraud(None)
    };
    let mut ended = fraud(None);
    ended.ends_at = early;
    let mut idle = fraud(None);
    idle.blocks = none;
    let mut mute = fraud(None);
    mute.reason = " ".to_owned();
    let cases = [
        (of_kind(HoldKind::DebtGrace), 422, "/kind"),
        (of_kind(HoldKind::TenantDeletion), 422, "/kind"),
        (of_kind(HoldKind::Unknown), 422, "/kind"),
        (ended, 422, "/ends_at"),
        (idle, 422, "/blocks"),
        (mute, 422, "/reason"),
        (fraud(Some(Uuid::nil())), 404, ""),
    ];
    for (hold, status, pointer) in cases {
        let key = IdempotencyKey::generate();
        let refused = app
            .client
            .place_hold(tenant, &hold, &key)
            .await
            .unwrap_err();
        let problem = refused.problem().unwrap();
        assert_eq!(problem.status, status, "{hold:?}: {problem:?}");
        let told = problem
            .errors
            .first()
            .map_or("", |error| error.pointer.as_str());
        assert_eq!(told, pointer, "{hold:?}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_for_support_and_a_tenant_sees_its_own() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let mut conn = support::connect(&app.options).await;
    let own = token(&mut conn, Role::Operator, Some(TenantId(tenant))).await;
    let own = Client::new(&app.url, &own).unwrap();
    let key = IdempotencyKey::generate();
    let refused = own
        .place_hold(tenant, &fraud(None), &key)
        .await
        .unwrap_err();
    assert_eq!(refused.problem().unwrap().status, 404, "not of its own");
    let viewer = token(&mut conn, Role::Viewer, None).await;
    let viewer = Client::new(&app.url, &viewer).unwrap();
    let key = IdempotencyKey::generate();
    let refused = viewer.place_hold(tenant, &fraud(None), &key).await;
    assert_eq!(refused.unwrap_err().problem().unwrap().status, 403);
    // It sees its own, and another tenant does not.
    place(&customer, &fraud(None)).await;
    let mine = own
        .list_holds(tenant, &HoldFilter::default())
        .await
        .unwrap();
    assert_eq!((mine.service, mine.holds.len()), (Service::Off, 1));
    let other = make.team("pm_card_visa").await.tenant.tenant_id;
    let others = own.list_holds(other, &HoldFilter::default()).await;
    assert_eq!(others.unwrap_err().problem().unwrap().status, 404);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_places_shows_and_lifts_holds() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id.to_string();
    let run = async |args: Vec<String>| {
        let mut command = Command::new(tenure());
        command.args(["tenant", "hold"]).args(args);
        command.args(["--url", &app.url, "--token", &app.token, "--json"]);
        let done = tokio::task::spawn_blocking(move || command.output()).await;
        let done = done.unwrap().unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{told}");
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let placed = run(words(&format!(
        "place {tenant} --kind legal --block access,billing --reason case-9"
    )))
    .await;
    assert_eq!(
        placed["blocks"],
        serde_json::json!({"changes": false, "access": true, "billing": true})
    );
    let listed = run(words(&format!("list {tenant}"))).await;
    assert_eq!(listed["service"], "off");
    assert_eq!(listed["holds"][0]["hold_id"], placed["hold_id"]);
    let hold = placed["hold_id"].as_str().unwrap();
    let lifted = run(words(&format!("lift {tenant} {hold} --reason over"))).await;
    assert_eq!(lifted["lift_reason"], "over");
    let listed = run(words(&format!("list {tenant}"))).await;
    assert_eq!(listed["service"], "on");
    app.finish().await;
}
