//! Dunning and its mails, through the API, on test clocks, against the Stripe sandbox.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use stripe_sandbox::{Failure, FailureKind};
use tenure_client::{
    ActOnInvoice, AssignDunningPolicy, CancelSubscription, Debt, DebtState, DunningPolicyFilter,
    DunningScope, ExemptFromDunning, HoldFilter, HoldKind, Holds, IdempotencyKey, InvoiceStatus,
    LiftExemption, LoadDunningPolicy, MailStatus, NewSubscription, NewTenant, NoticePreviewFilter,
    RunFilter, RunSummary, Service, SubscriptionStatus, When,
};
use tenure_engine::testkit::Play;
use uuid::Uuid;

use crate::fault_matrix::{arrive, facts, give, scene, subscribe};
use crate::support::app::{Subscriber, TestApp, for_a_story};
use crate::support::process::tenure;

/// Grace on day 2, suspension on day 4, the end on day 14, each at ten.
fn patient() -> Value {
    json!({
        "ladders": { "soft": { "days": [1, 3, 5, 7] } },
        "steps": [
            { "name": "time to pay", "day": 2, "action": "grace" },
            { "name": "shut", "day": 4, "action": "suspend" },
        ],
        "end": { "day": 14, "action": "cancel" },
    })
}

async fn load(app: &TestApp, policy: &str, document: Value) -> i32 {
    let load = LoadDunningPolicy {
        document,
        reason: "a story".to_owned(),
    };
    let key = IdempotencyKey::generate();
    let loaded = app.client.load_dunning_policy(policy, &load, &key).await;
    loaded.unwrap().version
}

async fn assign(app: &TestApp, scope: DunningScope, subject: &str, policy: Option<&str>) {
    let assign = AssignDunningPolicy {
        scope,
        subject: subject.to_owned(),
        policy: policy.map(str::to_owned),
        reason: "a story".to_owned(),
    };
    let key = IdempotencyKey::generate();
    app.client
        .assign_dunning_policy(&assign, &key)
        .await
        .unwrap();
}

/// An app whose tenants all go by a policy.
async fn app_with(document: Value) -> TestApp {
    let app = TestApp::new().await;
    load(&app, "story", document).await;
    assign(&app, DunningScope::Default, "", Some("story")).await;
    app
}

/// A customer on the team plan who has paid June, and whose card fails on 1 July at midnight UTC.
async fn owing<'a>(app: &'a TestApp, card: &str) -> Subscriber<'a> {
    let customer = paid(app).await;
    customer.attach(card).await;
    customer.advance("30d").await;
    customer
}

/// A customer on the team plan who has paid June.
async fn paid(app: &TestApp) -> Subscriber<'_> {
    let make = app.customer();
    make.team("pm_card_visa").await
}

/// Moves the clock to an instant.
async fn until(customer: &Subscriber<'_>, to: &str) {
    let to: chrono::DateTime<chrono::Utc> = to.parse().unwrap();
    let hours = (to - customer.now().await).num_hours();
    customer.advance(&format!("{hours}h")).await;
    assert_eq!(customer.now().await, to);
}

async fn debt(customer: &Subscriber<'_>) -> Debt {
    let tenant = customer.tenant.tenant_id;
    customer.client.list_debts(tenant).await.unwrap().remove(0)
}

async fn holds(customer: &Subscriber<'_>, subscription: Uuid, past: bool) -> Holds {
    let filter = HoldFilter {
        subscription_id: Some(subscription),
        past: Some(past),
    };
    let tenant = customer.tenant.tenant_id;
    customer.client.list_holds(tenant, &filter).await.unwrap()
}

async fn service(customer: &Subscriber<'_>) -> Service {
    holds(customer, customer.subscription, false).await.service
}

fn count(mails: &[String], kind: &str) -> usize {
    mails.iter().filter(|mail| *mail == kind).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_then_suspension_and_a_payment_lifts_the_holds() {
    let app = app_with(patient()).await;
    let customer = owing(&app, "pm_sandbox_insufficient_funds").await;
    let owed = debt(&customer).await;
    assert_eq!(owed.state, DebtState::PastDue);
    assert_eq!(owed.owed.to_string(), "54.00 USD");
    assert_eq!(owed.since, Some("2027-07-01T00:00:00Z".parse().unwrap()));
    assert_eq!(
        (owed.policy.as_deref(), owed.policy_version),
        (Some("story"), Some(1))
    );
    assert_eq!(owed.next_step.as_deref(), Some("time to pay"));
    assert_eq!(owed.ends_at, Some("2027-07-15T10:00:00Z".parse().unwrap()));
    assert_eq!(service(&customer).await, Service::On);

    until(&customer, "2027-07-03T09:00:00Z").await;
    assert_eq!(debt(&customer).await.state, DebtState::PastDue);
    until(&customer, "2027-07-03T10:00:00Z").await;
    let owed = debt(&customer).await;
    assert_eq!(
        (owed.state, owed.step.as_deref()),
        (DebtState::Grace, Some("time to pay"))
    );
    assert_eq!(service(&customer).await, Service::ReadOnly);
    until(&customer, "2027-07-05T10:00:00Z").await;
    assert_eq!(debt(&customer).await.state, DebtState::Suspended);
    let shut = holds(&customer, customer.subscription, false).await;
    assert_eq!((shut.service, shut.holds.len()), (Service::Off, 1));
    assert_eq!(shut.holds[0].kind, HoldKind::DebtSuspension);
    assert_eq!(shut.holds[0].source.as_deref(), Some("dunning/USD"));
    assert_eq!(shut.holds[0].subscription_id, Some(customer.subscription));
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::PastDue
    );

    customer.attach("pm_card_mastercard").await;
    let owed = debt(&customer).await;
    assert_eq!((owed.state, owed.unpaid.len()), (DebtState::Clear, 0));
    assert_eq!(service(&customer).await, Service::On);
    let past = holds(&customer, customer.subscription, true).await;
    let lifted: Vec<(HoldKind, Option<&str>)> = past
        .holds
        .iter()
        .map(|hold| (hold.kind, hold.lifted_by.as_deref()))
        .collect();
    assert_eq!(
        lifted,
        [
            (HoldKind::DebtSuspension, Some("dunning/USD")),
            (HoldKind::DebtGrace, Some("dunning/USD")),
        ]
    );
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Active
    );
    let mails = customer.mails().await;
    for kind in ["grace", "suspended", "recovered"] {
        assert_eq!(count(&mails, kind), 1, "{kind}: {mails:?}");
    }
    // 1 July, and the rungs of 2 and 4 July.
    assert_eq!(count(&mails, "payment_failed"), 3, "{mails:?}");
    assert_eq!(count(&mails, "final_notice"), 0, "{mails:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_decline_waits_for_a_method_and_says_so() {
    let app = app_with(patient()).await;
    let customer = owing(&app, "pm_sandbox_stolen_card").await;
    let owed = debt(&customer).await;
    assert_eq!(owed.next_attempt_at, None);
    let last = owed.last_decline.unwrap();
    assert_eq!(
        (last.code.as_str(), last.class.as_str()),
        ("stolen_card", "hard")
    );
    until(&customer, "2027-07-10T10:00:00Z").await;
    assert_eq!(customer.invoices().await[1].attempts, 1);
    assert_eq!(
        service(&customer).await,
        Service::Off,
        "the steps come all the same"
    );
    let mails = app
        .client
        .list_tenant_mails(customer.tenant.tenant_id)
        .await
        .unwrap();
    let failed = mails
        .iter()
        .find(|mail| mail.kind == "payment_failed")
        .unwrap();
    assert!(
        failed
            .body_text
            .contains("We do not try this payment method again"),
        "{failed:?}"
    );
    assert!(
        failed.body_text.contains("we give up on 15 July 2027"),
        "{failed:?}"
    );
    assert!(!failed.body_text.contains("stolen"), "{failed:?}");
    customer.attach("pm_card_visa").await;
    assert_eq!(customer.invoices().await[1].status, InvoiceStatus::Paid);
    assert_eq!(service(&customer).await, Service::On);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_for_a_while_is_no_decline() {
    let app = app_with(patient()).await;
    let customer = paid(&app).await;
    for kind in [FailureKind::ErrorBefore, FailureKind::DropAfter] {
        let mut failure = Failure::new(kind, 1);
        failure.method = Some("POST".to_owned());
        failure.path = Some("/v1/payment_intents".to_owned());
        app.sandbox.control().fail_next(failure);
    }
    customer.advance("30d").await;
    let invoice = customer.invoices().await.remove(1);
    assert_eq!((invoice.status, invoice.attempts), (InvoiceStatus::Paid, 1));
    let debts = app
        .client
        .list_debts(customer.tenant.tenant_id)
        .await
        .unwrap();
    assert!(debts.is_empty(), "{debts:?}");
    assert_eq!(customer.mails().await, ["receipt", "receipt"]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_provider_has_a_ladder_of_its_own_and_charges_once() {
    let scene = scene().await;
    let mut play = Play::open(scene.database, scene.workflows).await.unwrap();
    arrive(&mut play, "pm_card_visa", None).await.unwrap();
    // Two rounds of the step's own attempts.
    play.fail("charge", 24);
    subscribe(&play, "team-monthly").await.unwrap();
    let seen = facts(&play, &scene.outside).await.unwrap();
    assert_eq!(seen.subscriptions, ["Active"], "nothing was declined");
    assert_eq!(seen.charges, [0]);
    assert!(seen.notices.is_empty(), "{:?}", seen.notices);
    play.advance(Duration::from_secs(299));
    play.settle().await.unwrap();
    assert_eq!(facts(&play, &scene.outside).await.unwrap().charges, [0]);
    play.advance(Duration::from_secs(2));
    play.settle().await.unwrap();
    assert_eq!(
        facts(&play, &scene.outside).await.unwrap().charges,
        [0],
        "failed again"
    );
    play.advance(Duration::from_secs(601));
    play.settle().await.unwrap();
    let paid = facts(&play, &scene.outside).await.unwrap();
    assert_eq!(paid.charges, [1]);
    assert_eq!(paid.notices, ["receipt sent"]);
    play.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_keeps_its_method_though_another_is_given_during_an_outage() {
    let scene = scene().await;
    let mut play = Play::open(scene.database, scene.workflows).await.unwrap();
    arrive(&mut play, "pm_card_visa", None).await.unwrap();
    play.fail("charge", 12);
    subscribe(&play, "team-monthly").await.unwrap();
    give(&play, "pm_sandbox_insufficient_funds").await.unwrap();
    play.advance(Duration::from_secs(301));
    play.settle().await.unwrap();
    let seen = facts(&play, &scene.outside).await.unwrap();
    assert_eq!(seen.charges, [1], "with the card that it was written for");
    assert_eq!(seen.notices, ["receipt sent"]);
    play.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exemption_spares_a_tenant_until_it_is_over_or_taken_back() {
    let app = app_with(patient()).await;
    let customer = owing(&app, "pm_sandbox_insufficient_funds").await;
    let tenant = customer.tenant.tenant_id;
    until(&customer, "2027-07-05T10:00:00Z").await;
    assert_eq!(service(&customer).await, Service::Off);
    let mut exempt = ExemptFromDunning {
        currency: None,
        ends_at: "2027-07-10T00:00:00Z".parse().unwrap(),
        reason: "pays by bank transfer".to_owned(),
    };
    let fresh = IdempotencyKey::generate;
    let granted = app
        .client
        .exempt_from_dunning(tenant, &exempt, &fresh())
        .await;
    let granted = granted.unwrap();
    customer.advance("0h").await;
    let spared = debt(&customer).await;
    assert_eq!(spared.state, DebtState::PastDue);
    assert_eq!(spared.exemption, Some(granted.clone()));
    assert_eq!(spared.next_step_at, Some(granted.ends_at));
    assert_eq!(
        service(&customer).await,
        Service::On,
        "what was held is not any more"
    );
    // Attempts go on.
    until(&customer, "2027-07-06T10:00:00Z").await;
    assert_eq!(customer.invoices().await[1].attempts, 4);
    until(&customer, "2027-07-10T00:00:00Z").await;
    assert_eq!(
        debt(&customer).await.state,
        DebtState::Suspended,
        "it is over"
    );
    assert_eq!(service(&customer).await, Service::Off);

    exempt.ends_at = "2027-08-01T00:00:00Z".parse().unwrap();
    let granted = app
        .client
        .exempt_from_dunning(tenant, &exempt, &fresh())
        .await;
    let granted = granted.unwrap().exemption_id;
    customer.advance("0h").await;
    assert_eq!(service(&customer).await, Service::On);
    let lift = LiftExemption {
        reason: "they did not".to_owned(),
    };
    let lifted = app
        .client
        .lift_exemption(tenant, granted, &lift, &fresh())
        .await;
    assert_eq!(lifted.unwrap().lifted_by.as_deref(), Some("suite admin"));
    customer.advance("0h").await;
    assert_eq!(service(&customer).await, Service::Off);
    let all = app.client.list_exemptions(tenant).await.unwrap();
    assert_eq!(all.len(), 2);
    exempt.ends_at = "2027-07-01T00:00:00Z".parse().unwrap();
    let refused = app
        .client
        .exempt_from_dunning(tenant, &exempt, &fresh())
        .await;
    assert_eq!(
        refused.unwrap_err().problem().unwrap().errors[0].pointer,
        "/ends_at"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_own_policy_comes_before_its_plans_and_that_before_the_default() {
    let app = TestApp::new().await;
    let step = |name: &str| {
        let mut document = patient();
        document["steps"] = json!([{ "name": name, "day": 1, "action": "grace" }]);
        document
    };
    for name in ["of-all", "of-plan", "of-tenant"] {
        assert_eq!(load(&app, name, step(name)).await, 1);
    }
    let customer = owing(&app, "pm_sandbox_insufficient_funds").await;
    let tenant = customer.tenant.tenant_id.to_string();
    assert_eq!(
        debt(&customer).await.policy,
        None,
        "the one that is built in"
    );
    let goes_by = async || {
        // Another look: at the next deadline, or at once for a tenant of its own.
        let debt = debt(&customer).await;
        (debt.policy, debt.step)
    };
    let named = |name: &str| (Some(name.to_owned()), Some(name.to_owned()));
    assign(&app, DunningScope::Default, "", Some("of-all")).await;
    until(&customer, "2027-07-02T10:00:00Z").await;
    assert_eq!(goes_by().await, named("of-all"));
    assign(&app, DunningScope::Plan, "team-monthly", Some("of-plan")).await;
    until(&customer, "2027-07-04T10:00:00Z").await;
    assert_eq!(goes_by().await, named("of-plan"));
    assign(&app, DunningScope::Tenant, &tenant, Some("of-tenant")).await;
    customer.advance("0h").await;
    assert_eq!(goes_by().await, named("of-tenant"));
    // A new version counts at the next look; the same again is no new version.
    assert_eq!(load(&app, "of-tenant", step("of-tenant")).await, 1);
    assert_eq!(load(&app, "of-tenant", step("anew")).await, 2);
    until(&customer, "2027-07-06T10:00:00Z").await;
    assert_eq!(
        goes_by().await,
        (Some("of-tenant".to_owned()), Some("anew".to_owned()))
    );
    assign(&app, DunningScope::Tenant, &tenant, None).await;
    customer.advance("0h").await;
    assert_eq!(goes_by().await, named("of-plan"));
    let filter = DunningPolicyFilter {
        policy: Some("of-tenant".to_owned()),
    };
    let versions = app.client.list_dunning_policies(&filter).await.unwrap();
    let versions: Vec<i32> = versions.iter().map(|row| row.version).collect();
    assert_eq!(versions, [2, 1]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_hours_are_the_tenants_and_what_is_moot_by_then_is_not_sent() {
    let mut document = patient();
    document["notices"] = json!({ "quiet": { "from": 20, "to": 8 } });
    let app = app_with(document).await;
    let make = app.customer();
    let start = "2027-06-01T08:00:00Z";
    let zone = "America/New_York";
    let mut sent = Vec::new();
    for pays in [false, true] {
        let customer = make
            .subscribe(start, zone, "team-monthly", "USD", "pm_card_visa")
            .await;
        customer.attach("pm_sandbox_insufficient_funds").await;
        // In New York July begins at four in UTC.
        until(&customer, "2027-07-01T04:00:00Z").await;
        assert_eq!(debt(&customer).await.state, DebtState::PastDue);
        let mails = async || {
            let tenant = customer.tenant.tenant_id;
            let mut mails = app.client.list_tenant_mails(tenant).await.unwrap();
            mails.retain(|mail| mail.kind != "receipt");
            mails
        };
        assert!(mails().await.is_empty(), "it is midnight");
        if pays {
            customer.attach("pm_card_visa").await;
        }
        until(&customer, "2027-07-01T11:00:00Z").await;
        assert!(mails().await.is_empty(), "it is seven");
        until(&customer, "2027-07-01T12:00:00Z").await;
        let told = mails().await;
        let told = told
            .iter()
            .map(|mail| (mail.kind.clone(), mail.status, mail.sent_at));
        sent.push(told.collect::<Vec<_>>());
    }
    let eight = Some("2027-07-01T12:00:00Z".parse().unwrap());
    assert_eq!(
        sent[0],
        [("payment_failed".to_owned(), MailStatus::Sent, eight)]
    );
    sent[1].sort_by_key(|(kind, ..)| kind.clone());
    assert_eq!(
        sent[1],
        [
            ("payment_failed".to_owned(), MailStatus::Suppressed, None),
            ("recovered".to_owned(), MailStatus::Sent, eight),
        ]
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_paid_for_keeps_access_while_another_is_shut() {
    let app = app_with(patient()).await;
    let customer = paid(&app).await;
    customer.attach("pm_sandbox_insufficient_funds").await;
    let second = NewSubscription {
        plan: "team-monthly".to_owned(),
        currency: "USD".to_owned(),
        ..NewSubscription::default()
    };
    let (tenant, key) = (customer.tenant.tenant_id, IdempotencyKey::generate());
    let second = app.client.subscribe(tenant, &second, &key).await;
    let second = second.unwrap().subscription_id;
    until(&customer, "2027-06-06T10:00:00Z").await;
    assert_eq!(debt(&customer).await.state, DebtState::Suspended);
    assert_eq!(holds(&customer, second, false).await.service, Service::Off);
    assert_eq!(service(&customer).await, Service::On);
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Active
    );
    let shut = app.client.subscription(tenant, second).await.unwrap();
    assert_eq!(shut.subscription.status, SubscriptionStatus::PastDue);
    // The end takes what is unpaid, and nothing else.
    until(&customer, "2027-06-15T10:00:00Z").await;
    let ended = app.client.subscription(tenant, second).await.unwrap();
    assert_eq!(ended.subscription.status, SubscriptionStatus::Ended);
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Active
    );
    assert_eq!(debt(&customer).await.state, DebtState::Exhausted);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_says_how_it_ends() {
    let app = TestApp::new().await;
    let cases = [
        (
            "suspend",
            InvoiceStatus::Open,
            SubscriptionStatus::PastDue,
            Service::Off,
        ),
        (
            "cancel",
            InvoiceStatus::Uncollectible,
            SubscriptionStatus::Ended,
            Service::On,
        ),
        (
            "uncollectible",
            InvoiceStatus::Uncollectible,
            SubscriptionStatus::Active,
            Service::On,
        ),
        (
            "leave",
            InvoiceStatus::Open,
            SubscriptionStatus::PastDue,
            Service::On,
        ),
    ];
    for (action, invoice, subscription, serves) in cases {
        let document = json!({
            "ladders": { "soft": { "days": [1] } },
            "end": { "day": 2, "action": action },
        });
        load(&app, action, document).await;
        assign(&app, DunningScope::Default, "", Some(action)).await;
        let customer = owing(&app, "pm_sandbox_insufficient_funds").await;
        until(&customer, "2027-07-03T10:00:00Z").await;
        assert_eq!(
            debt(&customer).await.state,
            DebtState::Exhausted,
            "{action}"
        );
        assert_eq!(customer.invoices().await[1].status, invoice, "{action}");
        assert_eq!(
            customer.subscription().await.status,
            subscription,
            "{action}"
        );
        assert_eq!(service(&customer).await, serves, "{action}");
        assert_eq!(
            count(&customer.mails().await, "final_notice"),
            1,
            "{action}"
        );
        // What is still open is paid by another method even then.
        customer.attach("pm_card_visa").await;
        let open = invoice == InvoiceStatus::Open;
        let paid = customer.invoices().await[1].status == InvoiceStatus::Paid;
        assert_eq!(paid, open, "{action}");
        if open {
            assert_eq!(debt(&customer).await.state, DebtState::Clear, "{action}");
            assert_eq!(service(&customer).await, Service::On, "{action}");
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_is_not_tried_more_often_than_the_ceiling_allows() {
    let mut document = patient();
    document["ceiling"] = json!({ "attempts": 2, "days": 30 });
    let app = app_with(document).await;
    let customer = owing(&app, "pm_sandbox_insufficient_funds").await;
    until(&customer, "2027-07-09T10:00:00Z").await;
    assert_eq!(
        customer.invoices().await[1].attempts,
        3,
        "the first, and two of four rungs"
    );
    customer.attach("pm_sandbox_generic_decline").await;
    assert_eq!(
        customer.invoices().await[1].attempts,
        4,
        "another method has its own"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn charges_that_succeed_leave_the_ceiling_to_retries() {
    let app = TestApp::new().await;
    let catalog = json!({"plans": {"daily": {
        "name": "Daily", "product": "Projects", "interval": "day", "prices": {"EUR": "2.00"},
    }}});
    let publish = for_a_story();
    let fresh = IdempotencyKey::generate;
    let published = app
        .client
        .publish_catalog(&catalog, &publish, &fresh())
        .await;
    published.unwrap();
    let (start, card) = ("2027-06-01T08:00:00Z", "pm_card_visa");
    let make = app.customer();
    let customer = make.subscribe(start, "UTC", "daily", "EUR", card).await;
    // Twenty days, twenty charges: more than the fifteen retries that networks bear in thirty.
    until(&customer, "2027-06-20T20:00:00Z").await;
    assert_eq!(customer.invoices().await.len(), 20);
    let tenant = customer.tenant.tenant_id;
    let methods = app.client.list_payment_methods(tenant).await.unwrap();
    let behaves = |how: &str| {
        let control = app.sandbox.control();
        control
            .set_card_behaviour(&methods[0].provider_id, how)
            .unwrap();
    };
    behaves("declines:insufficient_funds");
    until(&customer, "2027-06-21T20:00:00Z").await;
    let owed = debt(&customer).await;
    assert_eq!(owed.unpaid.len(), 1);
    // The next day's is declined, too; at ten both are tried again.
    until(&customer, "2027-06-22T09:00:00Z").await;
    assert_eq!(debt(&customer).await.unpaid.len(), 2);
    behaves("pays");
    until(&customer, "2027-06-22T10:00:00Z").await;
    assert_eq!(debt(&customer).await.state, DebtState::Clear);
    let invoices = customer.invoices().await;
    let attempts: Vec<i32> = invoices[20..].iter().map(|one| one.attempts).collect();
    assert_eq!(attempts, [2, 2]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ceiling_is_of_a_method_and_an_amount_whoever_asks() {
    let mut document = patient();
    document["ceiling"] = json!({ "attempts": 2, "days": 30 });
    let app = app_with(document).await;
    let customer = owing(&app, "pm_sandbox_insufficient_funds").await;
    let tenant = customer.tenant.tenant_id;
    let owed = customer.invoices().await.remove(1);
    let collect = ActOnInvoice {
        reason: "they say that there is money".to_owned(),
        dry_run: false,
    };
    let fresh = IdempotencyKey::generate;
    let (id, verb) = (owed.invoice_id, "collect");
    let acted = app
        .client
        .act_on_invoice(tenant, id, verb, &collect, &fresh())
        .await;
    acted.unwrap();
    customer.advance("0h").await;
    assert_eq!(customer.invoices().await[1].attempts, 2);
    // Another amount on the same card is no retry of that one, and has a ceiling of its own.
    let second = NewSubscription {
        plan: "team-monthly".to_owned(),
        currency: "USD".to_owned(),
        seats: Some(6),
        ..NewSubscription::default()
    };
    let second = app.client.subscribe(tenant, &second, &fresh()).await;
    second.unwrap();
    until(&customer, "2027-07-09T10:00:00Z").await;
    let invoices = customer.invoices().await;
    let attempts: Vec<i32> = invoices[1..3].iter().map(|one| one.attempts).collect();
    assert_eq!(attempts, [3, 3], "one rung of four, and two");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_end_of_two_debts_is_told_once_however_late_one_is_written_off() {
    let app = TestApp::new().await;
    let customer = owing(&app, "pm_sandbox_insufficient_funds").await;
    let tenant = customer.tenant.tenant_id;
    until(&customer, "2027-07-03T08:00:00Z").await;
    let second = NewSubscription {
        plan: "team-monthly".to_owned(),
        currency: "USD".to_owned(),
        ..NewSubscription::default()
    };
    let key = IdempotencyKey::generate();
    let second = app.client.subscribe(tenant, &second, &key).await;
    let second = second.unwrap().subscription_id;
    until(&customer, "2027-07-10T09:00:00Z").await;
    let younger = customer.invoices().await.remove(2);
    let filter = RunFilter {
        workflow: Some("invoice".to_owned()),
        tenant_id: Some(tenant),
        ..RunFilter::default()
    };
    let runs = app.client.list_runs(&filter).await.unwrap().items;
    let of_younger = |run: &&RunSummary| run.key == younger.invoice_id.to_string();
    let run = runs.iter().find(of_younger).unwrap().run_id;
    app.act_on_run(run, "pause").await;
    // The older one is written off, and dunning looks again while the younger one is open still.
    until(&customer, "2027-07-10T11:00:00Z").await;
    let ended = app.client.subscription(tenant, second).await.unwrap();
    assert_eq!(ended.subscription.status, SubscriptionStatus::Ended);
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Ended
    );
    let statuses = async || {
        let invoices = customer.invoices().await;
        [invoices[1].status, invoices[2].status]
    };
    let (open, lost) = (InvoiceStatus::Open, InvoiceStatus::Uncollectible);
    assert_eq!(statuses().await, [lost, open]);
    assert_eq!(debt(&customer).await.state, DebtState::Exhausted);
    app.act_on_run(run, "resume").await;
    customer.advance("20d").await;
    assert_eq!(statuses().await, [lost, lost]);
    assert_eq!(debt(&customer).await.state, DebtState::Exhausted);
    let mails = customer.mails().await;
    assert_eq!(count(&mails, "final_notice"), 1, "{mails:?}");
    assert_eq!(count(&mails, "recovered"), 0, "{mails:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_go_by_the_policy_of_the_plan_that_they_are_about() {
    let app = TestApp::new().await;
    let mut document = patient();
    document["notices"] = json!({
        "quiet": { "from": 20, "to": 8 },
        "card_expiring_days": 40,
        "renewal_days": 30,
        "billing_link": "https://team.example/pay/{invoice}",
    });
    load(&app, "of-plan", document).await;
    for plan in ["team-monthly", "team-yearly"] {
        assign(&app, DunningScope::Plan, plan, Some("of-plan")).await;
    }
    let make = app.customer();
    // The card's last day is 31 August; it is given before there is a subscription.
    let customer = make.team("pm_sandbox_expires_2027_08").await;
    let told = async |kind: &str| {
        let tenant = customer.tenant.tenant_id;
        let mails = app.client.list_tenant_mails(tenant).await.unwrap();
        mails.into_iter().find(|mail| mail.kind == kind)
    };
    until(&customer, "2027-07-01T07:00:00Z").await;
    let receipts = customer.mails().await;
    assert_eq!(
        count(&receipts, "receipt"),
        1,
        "July's waits for the morning"
    );
    until(&customer, "2027-07-01T08:00:00Z").await;
    assert_eq!(count(&customer.mails().await, "receipt"), 2);
    until(&customer, "2027-07-23T08:00:00Z").await;
    assert_eq!(told("card_expiring").await, None);
    until(&customer, "2027-07-23T09:00:00Z").await;
    assert!(told("card_expiring").await.is_some());
    customer.attach("pm_sandbox_insufficient_funds").await;
    until(&customer, "2027-08-01T07:00:00Z").await;
    assert_eq!(told("payment_failed").await, None);
    until(&customer, "2027-08-01T08:00:00Z").await;
    let failed = told("payment_failed").await.unwrap();
    let link = format!(
        "https://team.example/pay/{}",
        customer.invoices().await[2].invoice_id
    );
    assert!(failed.body_text.contains(&link), "{}", failed.body_text);
    // Grace begins at ten, in no quiet hour, with the same page.
    until(&customer, "2027-08-03T10:00:00Z").await;
    let grace = told("grace").await.unwrap();
    assert!(
        grace.body_text.contains("https://team.example/pay/"),
        "{}",
        grace.body_text
    );

    let (start, card) = ("2027-06-01T08:00:00Z", "pm_card_visa");
    let yearly = make
        .subscribe(start, "UTC", "team-yearly", "EUR", card)
        .await;
    until(&yearly, "2028-05-02T08:00:00Z").await;
    assert_eq!(count(&yearly.mails().await, "renewal_coming"), 0);
    until(&yearly, "2028-05-02T09:00:00Z").await;
    assert_eq!(count(&yearly.mails().await, "renewal_coming"), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_needs_the_customer_asks_for_them_with_a_link() {
    let mut document = patient();
    document["notices"] =
        json!({ "billing_link": "https://shop.example/pay/{invoice}?of={tenant}" });
    let app = app_with(document).await;
    let customer = owing(&app, "pm_card_authenticationRequired").await;
    let tenant = customer.tenant.tenant_id;
    let mails = app.client.list_tenant_mails(tenant).await.unwrap();
    let asked = mails
        .iter()
        .find(|mail| mail.kind == "action_needed")
        .unwrap();
    let invoice = customer.invoices().await[1].invoice_id;
    let link = format!("https://shop.example/pay/{invoice}?of={tenant}");
    assert!(asked.body_text.contains(&link), "{}", asked.body_text);
    assert_eq!(count(&customer.mails().await, "payment_failed"), 0);
    assert_eq!(
        debt(&customer).await.next_attempt_at,
        None,
        "time does not help"
    );
    app.finish().await;
}

/// A clocked tenant that reads German, with a good card and no subscription yet.
async fn german(app: &TestApp, plan: Option<&str>) -> (Uuid, Uuid, Option<Uuid>) {
    let new = NewTenant {
        name: "Bäckerei Ada".to_owned(),
        email: "ada@bakery.example".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        locale: Some("de-DE".to_owned()),
        test_clock: Some("2027-06-01T08:00:00Z".parse().unwrap()),
        legal_entity: None,
    };
    let fresh = IdempotencyKey::generate;
    let tenant = app.client.create_tenant(&new, &fresh()).await.unwrap();
    let of = Subscriber {
        client: &app.client,
        clock: tenant.test_clock_id.unwrap(),
        tenant: tenant.clone(),
        subscription: Uuid::nil(),
    };
    of.attach("pm_card_visa").await;
    let mut made = None;
    if let Some(plan) = plan {
        let new = NewSubscription {
            plan: plan.to_owned(),
            currency: "EUR".to_owned(),
            ..NewSubscription::default()
        };
        let subscribed = app.client.subscribe(tenant.tenant_id, &new, &fresh()).await;
        made = Some(subscribed.unwrap().subscription_id);
        of.advance("0h").await;
    }
    (tenant.tenant_id, of.clock, made)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yearly_renewal_is_told_a_week_ahead_in_the_tenants_language_unless_it_ends() {
    let app = TestApp::new().await;
    for cancelled in [false, true] {
        let (tenant_id, clock, subscription) = german(&app, Some("team-yearly")).await;
        let tenant = app.client.tenant(tenant_id).await.unwrap();
        let customer = Subscriber {
            client: &app.client,
            clock,
            tenant,
            subscription: subscription.unwrap(),
        };
        if cancelled {
            let cancel = CancelSubscription {
                when: When::PeriodEnd,
                ..CancelSubscription::default()
            };
            let key = IdempotencyKey::generate();
            let id = customer.subscription;
            let sent = app.client.cancel_subscription(tenant_id, id, &cancel, &key);
            sent.await.unwrap();
        }
        until(&customer, "2028-05-25T06:00:00Z").await;
        let told = async || {
            let mails = app.client.list_tenant_mails(tenant_id).await.unwrap();
            mails.into_iter().find(|mail| mail.kind == "renewal_coming")
        };
        assert_eq!(told().await, None);
        until(&customer, "2028-05-25T07:00:00Z").await;
        let mail = told().await.unwrap();
        if cancelled {
            assert_eq!(mail.status, MailStatus::Suppressed);
        } else {
            assert_eq!(mail.status, MailStatus::Sent);
            assert_eq!(mail.subject, "Team, yearly verlängert sich am 1. Juni 2028");
            assert!(
                mail.body_text.starts_with("Guten Tag Bäckerei Ada,"),
                "{}",
                mail.body_text
            );
            assert!(mail.body_text.contains("490,00 EUR"), "{}", mail.body_text);
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_expires_is_told_of_unless_another_is_charged() {
    let app = TestApp::new().await;
    // The sandbox's cards expire at the end of 2040.
    for replaced in [false, true] {
        let (tenant_id, clock, _) = german(&app, None).await;
        let tenant = app.client.tenant(tenant_id).await.unwrap();
        let customer = Subscriber {
            client: &app.client,
            clock,
            tenant,
            subscription: Uuid::nil(),
        };
        // A clock moves by ten years at most.
        until(&customer, "2037-01-01T00:00:00Z").await;
        until(&customer, "2040-12-18T07:00:00Z").await;
        assert!(customer.mails().await.is_empty());
        if replaced {
            customer.attach("pm_card_mastercard").await;
        }
        until(&customer, "2040-12-18T08:00:00Z").await;
        let mails = app.client.list_tenant_mails(tenant_id).await.unwrap();
        assert_eq!(mails.len(), 1, "one card of the two");
        let brand = if replaced { "mastercard" } else { "visa" };
        assert!(
            mails[0]
                .body_text
                .contains(&format!("Ihre Karte ({brand} ")),
            "{mails:?}"
        );
        assert!(
            mails[0].body_text.contains("31. Dezember 2040"),
            "{mails:?}"
        );
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_does_not_fit_is_refused_at_its_place() {
    let app = TestApp::new().await;
    let mut document = patient();
    document["steps"][1]["day"] = json!(99);
    let load = LoadDunningPolicy {
        document,
        reason: "a slip".to_owned(),
    };
    let fresh = IdempotencyKey::generate;
    let refused = app
        .client
        .load_dunning_policy("story", &load, &fresh())
        .await;
    let problem = refused.unwrap_err().problem().unwrap().clone();
    assert_eq!(problem.status, 422);
    assert_eq!(problem.errors[0].pointer, "/document/steps/1/day");
    let detail = problem.detail.unwrap();
    assert!(detail.contains("the ladder ends on day 14"), "{detail}");
    for (scope, subject, status) in [
        (DunningScope::Default, "", 404),
        (DunningScope::Plan, "no-plan", 422),
        (DunningScope::Tenant, "nobody", 422),
        (
            DunningScope::Tenant,
            "00000000-0000-7000-8000-000000000000",
            404,
        ),
    ] {
        let assign = AssignDunningPolicy {
            scope,
            subject: subject.to_owned(),
            policy: Some("never-loaded".to_owned()),
            reason: "a slip".to_owned(),
        };
        let refused = app.client.assign_dunning_policy(&assign, &fresh()).await;
        let status_of = refused.unwrap_err().problem().unwrap().status;
        assert_eq!(status_of, status, "{scope:?} {subject}");
    }
    app.finish().await;
}

/// Runs the command line, with the app's address and token.
async fn command(app: &TestApp, args: &[&str], api: bool) -> (bool, String, String) {
    let mut command = Command::new(tenure());
    command.args(args);
    if api {
        command.args(["--url", &app.url, "--token", &app.token, "--json"]);
    }
    let done = tokio::task::spawn_blocking(move || command.output()).await;
    let done = done.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.success(), text(done.stdout), text(done.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_checks_loads_assigns_and_shows_policies_debts_and_mails() {
    let app = TestApp::new().await;
    let customer = owing(&app, "pm_sandbox_insufficient_funds").await;
    let tenant = customer.tenant.tenant_id.to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patient.toml");
    let toml = "[ladders.soft]\ndays = [1, 3]\n[[steps]]\nname = \"grace\"\nday = 1\n\
                action = \"grace\"\n[end]\nday = 9\naction = \"leave\"\n";
    std::fs::write(&file, toml.replace("1, 3", "3, 1")).unwrap();
    let path = file.to_str().unwrap();
    let (fits, _, told) = command(&app, &["dunning-policy", "check", path], false).await;
    assert!(!fits && told.contains("/ladders/soft/days/1"), "{told}");
    std::fs::write(&file, toml).unwrap();
    let (fits, _, told) = command(&app, &["dunning-policy", "check", path], false).await;
    assert!(fits, "{told}");
    let run = async |args: &[&str]| {
        let (done, out, told) = command(&app, args, true).await;
        assert!(done, "{args:?}: {told}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let why = ["--reason", "a story"];
    let loaded = run(&["dunning-policy", "load", "patient", path, why[0], why[1]]).await;
    assert_eq!(loaded["version"], 1);
    let assign = [
        "dunning-policy",
        "assign",
        "patient",
        "--tenant",
        &tenant,
        why[0],
        why[1],
    ];
    assert_eq!(run(&assign).await[0]["subject"], tenant);
    let shown = run(&["dunning-policy", "show", "patient"]).await;
    assert_eq!(shown["document"]["end"]["action"], "leave");
    until(&customer, "2027-07-02T10:00:00Z").await;
    let owed = run(&["tenant", "debt", &tenant]).await;
    assert_eq!(
        (&owed[0]["state"], &owed[0]["step"]),
        (&json!("grace"), &json!("grace"))
    );
    let grant = [
        "tenant",
        "exempt",
        "grant",
        &tenant,
        "--until",
        "2027-07-20T00:00:00Z",
    ];
    let granted = run(&[&grant[..], &why[..]].concat()).await;
    let id = granted["exemption_id"].as_str().unwrap();
    let lifted = run(&["tenant", "exempt", "lift", &tenant, id, why[0], why[1]]).await;
    assert_eq!(lifted["lift_reason"], "a story");
    let preview = run(&["notice", "preview", "grace", "--locale", "de"]).await;
    assert_eq!(preview["subject"], "Ihre Zahlung ist überfällig");
    customer.advance("0h").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_mail_can_be_looked_at_beforehand() {
    let app = TestApp::new().await;
    for kind in tenure_workflows::notice::KINDS {
        for (asked, written) in [("de-AT", "de"), ("fr", "en")] {
            let filter = NoticePreviewFilter {
                kind: kind.to_owned(),
                locale: Some(asked.to_owned()),
            };
            let preview = app.client.preview_notice(&filter).await.unwrap();
            assert_eq!(preview.locale, written, "{kind}");
            let html = format!("<!doctype html><html lang=\"{written}\">");
            assert!(preview.html.starts_with(&html), "{}", preview.html);
        }
    }
    let filter = NoticePreviewFilter {
        kind: "spam".to_owned(),
        locale: None,
    };
    let refused = app.client.preview_notice(&filter).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().errors[0].pointer, "/kind");
    app.finish().await;
}
