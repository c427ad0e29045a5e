//! The commercial story, through the API, on a test clock, against the Stripe sandbox.

use std::collections::BTreeMap;

use stripe_sandbox::{Failure, FailureKind, WebhookMode};
use tenure_client::{
    ActOnBreaker, ActOnRun, CancelSubscription, IdempotencyKey, InvoiceStatus, RunFilter,
    RunStatus, SubscriptionStatus, When,
};

use crate::support::app::{Subscriber, TestApp};
use crate::support::eventually;

async fn cancel(customer: &Subscriber<'_>, when: When) {
    let cancel = CancelSubscription {
        when,
        ..CancelSubscription::default()
    };
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let key = IdempotencyKey::generate();
    let sent = customer
        .client
        .cancel_subscription(tenant, id, &cancel, &key);
    sent.await.unwrap();
    customer.advance("0h").await;
}

/// How many charges succeeded at the provider, per invoice.
fn charges(app: &TestApp, customer: &Subscriber<'_>) -> BTreeMap<String, usize> {
    let tenant = customer.tenant.tenant_id.to_string();
    let mut paid = BTreeMap::new();
    for charge in app.sandbox.control().charges(&[("tenant", &tenant)]) {
        if charge.paid {
            *paid.entry(charge.metadata["invoice"].clone()).or_default() += 1;
        }
    }
    paid
}

#[tokio::test(flavor = "multi_thread")]
async fn thirteen_months_at_once_are_the_same_as_month_by_month() {
    let app = TestApp::new().await;
    let make = app.customer();
    let start = "2027-01-31T09:00:00Z";
    let args = (
        start,
        "Europe/Berlin",
        "starter-monthly",
        "EUR",
        "pm_card_visa",
    );
    let at_once = make.subscribe(args.0, args.1, args.2, args.3, args.4).await;
    let stepwise = make.subscribe(args.0, args.1, args.2, args.3, args.4).await;
    at_once.advance("13mo").await;
    for month in 1..=13 {
        let target =
            tenure_workflows::clock::target_after(start.parse().unwrap(), &format!("{month}mo"));
        let hours = (target.unwrap() - stepwise.now().await).num_hours();
        stepwise.advance(&format!("{hours}h")).await;
    }
    assert_eq!(at_once.now().await, stepwise.now().await);
    let ledger = at_once.ledger().await;
    assert_eq!(ledger, stepwise.ledger().await);
    assert_eq!(ledger.len(), 13);
    assert_eq!(at_once.mails().await, stepwise.mails().await);
    // The trial ends on 14 February; every period begins at midnight in Berlin on the 14th.
    assert_eq!(
        ledger[0],
        "INV-00001 Paid 19.00 EUR 2027-02-13 23:00:00 UTC..2027-03-13 23:00:00 UTC \
         paid Some(2027-02-13T23:00:00Z) after 1"
    );
    assert_eq!(
        ledger[3],
        "INV-00004 Paid 19.00 EUR 2027-05-13 22:00:00 UTC..2027-06-13 22:00:00 UTC \
         paid Some(2027-05-13T22:00:00Z) after 1"
    );
    let paid = charges(&app, &at_once);
    assert_eq!(paid.len(), 13);
    assert!(paid.values().all(|count| *count == 1), "{paid:?}");
    // The provider's test clock went along: what is charged bears the tenant's time.
    let tenant = at_once.tenant.tenant_id.to_string();
    let mut charged = app.sandbox.control().charges(&[("tenant", &tenant)]);
    charged.sort_by_key(|charge| charge.created);
    let first = chrono::DateTime::from_timestamp(charged[0].created, 0).unwrap();
    assert_eq!(first.to_rfc3339(), "2027-02-13T23:00:00+00:00");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advance_has_arrived_only_when_the_providers_webhooks_have() {
    let app = TestApp::new().await;
    let late = WebhookMode::Late { milliseconds: 300 };
    app.sandbox.control().set_webhook_mode(late).unwrap();
    let make = app.customer();
    let customer = make.starter().await;
    customer.advance("15d").await;
    let deliveries = app.sandbox.control().deliveries();
    let under_way = |state: &str| ["waiting", "held"].contains(&state);
    assert!(!deliveries.is_empty());
    for delivery in deliveries {
        let state = delivery["state"].as_str().unwrap();
        assert!(!under_way(state), "{delivery}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_at_the_months_end_returns_and_yen_have_no_cents() {
    let app = TestApp::new().await;
    let customer = app
        .customer()
        .subscribe(
            "2027-01-31T03:00:00Z",
            "Asia/Tokyo",
            "team-monthly",
            "JPY",
            "pm_card_visa",
        )
        .await;
    customer.advance("4mo").await;
    let starts: Vec<String> = customer
        .invoices()
        .await
        .iter()
        .map(|invoice| format!("{} {}", invoice.period_start, invoice.total))
        .collect();
    assert_eq!(
        starts,
        [
            "2027-01-31 03:00:00 UTC 6900 JPY",
            "2027-02-27 15:00:00 UTC 6900 JPY",
            "2027-03-30 15:00:00 UTC 6900 JPY",
            "2027-04-29 15:00:00 UTC 6900 JPY",
            "2027-05-30 15:00:00 UTC 6900 JPY",
        ]
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_climbs_the_ladder_and_ends_unpaid() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    customer.attach("pm_sandbox_insufficient_funds").await;
    customer.advance("30d").await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::PastDue
    );
    // 1 July, and retries on the days 1, 3, 5 and 7 after it at ten.
    let attempts = async || customer.invoices().await[1].attempts;
    assert_eq!(attempts().await, 1);
    for (by, expected) in [("1d", 1), ("2h", 2), ("2d", 3), ("2d", 4), ("2d", 5)] {
        customer.advance(by).await;
        assert_eq!(attempts().await, expected, "after {by}");
    }
    customer.advance("2d").await;
    let ended = customer.subscription().await;
    assert_eq!(ended.status, SubscriptionStatus::Ended);
    assert_eq!(ended.end_reason.as_deref(), Some("unpaid"));
    let invoices = customer.invoices().await;
    assert_eq!(invoices[1].status, InvoiceStatus::Uncollectible);
    assert_eq!(invoices[1].attempts, 5);
    let mails = customer.mails().await;
    let count = |kind: &str| mails.iter().filter(|mail| *mail == kind).count();
    assert_eq!(count("payment_failed"), 5, "{mails:?}");
    assert_eq!(
        (count("final_notice"), count("cancelled")),
        (1, 1),
        "{mails:?}"
    );
    assert_eq!(charges(&app, &customer).len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_decline_is_not_tried_again_until_the_method_changes() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_sandbox_lost_card").await;
    customer.advance("4d").await;
    let invoice = customer.invoices().await.remove(0);
    assert_eq!((invoice.status, invoice.attempts), (InvoiceStatus::Open, 1));
    customer.attach("pm_card_visa").await;
    let invoice = customer.invoices().await.remove(0);
    assert_eq!((invoice.status, invoice.attempts), (InvoiceStatus::Paid, 2));
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Active
    );
    assert!(customer.mails().await.contains(&"recovered".to_owned()));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_in_the_trial_costs_nothing_and_now_ends_at_once() {
    let app = TestApp::new().await;
    let make = app.customer();
    let start = "2027-01-01T12:00:00Z";
    let trial = make
        .subscribe(start, "UTC", "starter-monthly", "EUR", "pm_card_visa")
        .await;
    cancel(&trial, When::PeriodEnd).await;
    assert_eq!(
        trial.subscription().await.status,
        SubscriptionStatus::Ending
    );
    trial.advance("1mo").await;
    let ended = trial.subscription().await;
    assert_eq!(ended.status, SubscriptionStatus::Ended);
    assert_eq!(
        ended.ended_at,
        Some("2027-01-15T00:00:00Z".parse().unwrap())
    );
    assert!(trial.invoices().await.is_empty());

    let paying = make
        .subscribe(start, "UTC", "team-monthly", "EUR", "pm_card_visa")
        .await;
    paying.advance("3d").await;
    cancel(&paying, When::Now).await;
    let ended = paying.subscription().await;
    assert_eq!(
        ended.ended_at,
        Some("2027-01-04T12:00:00Z".parse().unwrap())
    );
    paying.advance("2mo").await;
    assert_eq!(
        paying.invoices().await.len(),
        1,
        "nothing is charged after the end"
    );
    let again = paying
        .client
        .cancel_subscription(
            paying.tenant.tenant_id,
            paying.subscription,
            &CancelSubscription {
                when: When::Now,
                ..CancelSubscription::default()
            },
            &IdempotencyKey::generate(),
        )
        .await;
    assert_eq!(again.unwrap_err().problem().unwrap().status, 409);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_payment_method_nothing_is_charged_and_a_method_pays_at_once() {
    let app = TestApp::new().await;
    let customer = app
        .customer()
        .subscribe(
            "2027-06-01T08:00:00Z",
            "UTC",
            "team-yearly",
            "EUR",
            "pm_sandbox_nonsense",
        )
        .await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::PastDue
    );
    assert!(charges(&app, &customer).is_empty());
    customer.attach("pm_card_mastercard").await;
    let invoice = customer.invoices().await.remove(0);
    assert_eq!(invoice.status, InvoiceStatus::Paid);
    assert_eq!(invoice.total.to_string(), "490.00 EUR");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_retry_looks_a_charge_up_before_it_is_sent_again() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.starter().await;
    let control = app.sandbox.control();
    // The charge is made, its answer is lost, and nobody can look it up for now.
    for (kind, method, count) in [
        (FailureKind::DropAfter, "POST", 1),
        (FailureKind::DropBefore, "GET", 10_000),
    ] {
        let mut failure = Failure::new(kind, count);
        failure.method = Some(method.to_owned());
        failure.path = Some("/v1/payment_intents".to_owned());
        control.fail_next(failure);
    }
    customer.begin_advance("15d").await;
    let payments = RunFilter {
        workflow: Some("payment".to_owned()),
        tenant_id: Some(customer.tenant.tenant_id),
        ..RunFilter::default()
    };
    let payment = async || {
        let page = app.client.list_runs(&payments).await.unwrap();
        page.items.into_iter().next()
    };
    eventually("the payment is being retried", async || {
        payment().await.is_some_and(|run| run.attempt > 1)
    })
    .await;
    let run = payment().await.unwrap().run_id;
    // The operator's retry makes the engine forget the attempts, and the provider its keys.
    control.forget_idempotency_keys(None).unwrap();
    eventually("the operator has caught it at rest", async || {
        let seen = app.client.run(run).await.unwrap();
        let reason = "the provider is up again".to_owned();
        let key = IdempotencyKey::generate();
        if seen.summary.status == RunStatus::Blocked {
            // The provider failed so often that nobody asks it any more.
            let close = ActOnBreaker { reason, seen: None };
            let closed = app.client.close_breaker("stripe", &close, &key).await;
            assert!(closed.is_ok(), "{closed:?}");
            return false;
        }
        let act = ActOnRun {
            reason,
            revision: seen.revision,
            ..ActOnRun::default()
        };
        let done = app.client.act_on_run(run, "retry", &act, &key).await;
        seen.summary.status == RunStatus::Retrying && done.is_ok()
    })
    .await;
    control.forget_failures();
    eventually("the clock is ready", async || {
        customer.is_ready().await.unwrap()
    })
    .await;
    let paid = charges(&app, &customer);
    assert_eq!(paid.len(), 1);
    assert!(paid.values().all(|count| *count == 1), "{paid:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_card_given_again_is_tried_at_once() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    customer.attach("pm_sandbox_insufficient_funds").await;
    customer.advance("30d").await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::PastDue
    );
    let tenant = app.client.tenant(customer.tenant.tenant_id).await.unwrap();
    let card = tenant.default_payment_method.unwrap().provider_id;
    customer.attach(&card).await;
    assert_eq!(
        customer.invoices().await[1].attempts,
        2,
        "news, but no money"
    );
    let control = app.sandbox.control();
    control.set_card_behaviour(&card, "pays").unwrap();
    customer.attach(&card).await;
    assert_eq!(customer.invoices().await[1].status, InvoiceStatus::Paid);
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Active
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_come_twice_in_disorder_or_never_change_nothing() {
    let app = TestApp::new().await;
    let make = app.customer();
    let mut ledgers = Vec::new();
    for mode in [
        WebhookMode::Normal,
        WebhookMode::Twice,
        WebhookMode::Reversed {
            window_milliseconds: 50,
        },
        WebhookMode::Never,
    ] {
        app.sandbox.control().set_webhook_mode(mode).unwrap();
        let customer = make.starter().await;
        customer.advance("3mo").await;
        let paid = charges(&app, &customer);
        assert!(paid.values().all(|count| *count == 1), "{paid:?}");
        ledgers.push((customer.ledger().await, customer.mails().await));
    }
    assert_eq!(ledgers[0].0.len(), 3);
    assert!(ledgers.iter().all(|ledger| *ledger == ledgers[0]));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_under_way_is_paid_when_the_providers_webhook_says_so() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make
        .subscribe(
            "2027-01-31T09:00:00Z",
            "UTC",
            "starter-monthly",
            "EUR",
            "pm_sandbox_processing",
        )
        .await;
    customer.advance("16d").await;
    let invoice = &customer.invoices().await[0];
    assert_eq!((invoice.status, invoice.attempts), (InvoiceStatus::Open, 1));
    let payments = RunFilter {
        workflow: Some("payment".to_owned()),
        tenant_id: Some(customer.tenant.tenant_id),
        ..RunFilter::default()
    };
    let run = app
        .client
        .list_runs(&payments)
        .await
        .unwrap()
        .items
        .remove(0);
    let steps = app.client.list_steps(run.run_id).await.unwrap();
    let charge = steps.iter().find(|step| step.name == "charge").unwrap();
    let intent = &charge.answer.as_ref().unwrap()["processing"]["intent"];
    let control = app.sandbox.control();
    control
        .settle_payment(intent.as_str().unwrap(), None)
        .unwrap();
    customer.advance("1h").await;
    assert_eq!(customer.invoices().await[0].status, InvoiceStatus::Paid);
    assert_eq!(charges(&app, &customer).len(), 1);
    app.finish().await;
}
