//! Trials: free and paid, with and without a first payment, and what is asked for within them.

use tenure_client::{
    CancelSubscription, CreditPolicy, HoldKind, InvoiceStatus, LiftHold, NewSubscription,
    PlaceHold, SubscriptionStatus, When,
};

use super::{
    arrived, brief, cancel, change, charged, hold_billing, key, money, on, pause, plan, resume,
    status, subscribe, subscribed, to,
};
use crate::support::app::{TestApp, for_a_story};

/// A plan with a trial of a week, a set-up fee, and a first payment that it begins with if wanted.
async fn publish_tried(app: &TestApp, activation: &str) {
    let catalog = serde_json::json!({"plans": {"tried": {
        "name": "Tried", "product": "Projects", "interval": "month", "activation": activation,
        "trial": {"days": 7}, "prices": {"EUR": "30.00"}, "setup_fee": {"EUR": "12.00"},
    }}});
    let publish = for_a_story();
    let published = app.client.publish_catalog(&catalog, &publish, &key()).await;
    published.unwrap();
}

/// A plan with a trial of two weeks for a euro, as the example of the docs.
async fn publish_paid_trial(app: &TestApp, activation: &str) {
    let catalog = serde_json::json!({"plans": {"paid-trial": {
        "name": "Team", "product": "Projects", "interval": "month", "activation": activation,
        "trial": {"days": 14, "prices": {"EUR": "1.00"}, "without_method": "pause"},
        "prices": {"EUR": "49.00"}, "setup_fee": {"EUR": "12.00"},
    }}});
    let publish = for_a_story();
    let published = app.client.publish_catalog(&catalog, &publish, &key()).await;
    published.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_trial_is_charged_as_it_begins_and_the_first_period_as_it_ends() {
    let app = TestApp::new().await;
    publish_paid_trial(&app, "start").await;
    let plans = app.client.list_plans().await.unwrap();
    let shown = plans.iter().find(|plan| plan.plan == "paid-trial").unwrap();
    assert_eq!(shown.trial_prices, [money("1.00 EUR")]);
    // A coupon comes off periods, and a trial is none.
    let new = NewSubscription {
        coupon: Some("welcome-20".to_owned()),
        ..plan("paid-trial")
    };
    let customer = subscribed(&app, "pm_card_visa", new).await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Trialing);
    let trial = ["start 1.00 -0 -0 paid"];
    assert_eq!(brief(&customer.invoices().await), trial);
    let tenant = customer.tenant.tenant_id;
    let invoice = customer.invoices().await.remove(0);
    let detail = app.client.invoice(tenant, invoice.invoice_id).await;
    let lines = detail.unwrap().lines;
    assert_eq!(lines[0].item, "trial");
    assert_eq!(lines[0].description, "Trial of Team");
    let days = "2027-06-01T00:00:00Z..2027-06-15T00:00:00Z";
    let (from, until) = (invoice.period_start, invoice.period_end);
    assert_eq!(format!("{from:?}..{until:?}"), days);
    customer.advance("13d").await;
    assert_eq!(brief(&customer.invoices().await), trial);
    customer.advance("1d").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Active);
    let both = ["start 1.00 -0 -0 paid", "cycle 48.80 -0 -0 paid"];
    assert_eq!(brief(&customer.invoices().await), both);
    assert_eq!(charged(&app, &customer), 4980);

    // What was paid for a trial is not given back when it is ended, paused, or changed in.
    let second = subscribe(arrived(&app, "pm_card_visa").await, plan("paid-trial")).await;
    second.advance("2d").await;
    let changed = change(&second, &to("team-monthly", When::Now)).await;
    assert!(changed.credits.is_empty() && changed.lines.is_empty());
    let asked = CancelSubscription {
        when: When::Now,
        credit: CreditPolicy::Refund,
        ..CancelSubscription::default()
    };
    let (tenant, id) = (second.tenant.tenant_id, second.subscription);
    let key = key();
    let told = app
        .client
        .cancel_subscription(tenant, id, &asked, &key)
        .await;
    assert!(told.unwrap().credits.is_empty());
    second.advance("30d").await;
    assert_eq!(brief(&second.invoices().await), trial);
    assert_eq!(charged(&app, &second), 100);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_trial_begins_with_its_first_payment_where_its_plan_does() {
    let app = TestApp::new().await;
    publish_paid_trial(&app, "first_payment").await;
    let card = "pm_sandbox_insufficient_funds";
    let customer = subscribed(&app, card, plan("paid-trial")).await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Incomplete);
    customer.advance("5h").await;
    customer.attach("pm_card_visa").await;
    customer.advance("1h").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Trialing);
    assert_eq!(charged(&app, &customer), 100);
    // The first period is no first payment any more: it may be owed for.
    customer.attach(card).await;
    customer
        .advance_to("2027-06-15T00:00:00Z".parse().unwrap())
        .await;
    customer.advance("1h").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::PastDue);

    let late = subscribed(&app, card, plan("paid-trial")).await;
    late.advance("24h").await;
    let ended = late.subscription().await;
    assert_eq!(ended.end_reason.as_deref(), Some("incomplete_expired"));
    assert_eq!(late.invoices().await[0].status, InvoiceStatus::Void);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_trial_costs_nothing_while_billing_is_held() {
    let app = TestApp::new().await;
    publish_paid_trial(&app, "first_payment").await;
    let customer = arrived(&app, "pm_card_visa").await;
    // It lies ahead, and billing is held when it comes.
    let new = NewSubscription {
        start_at: Some("2027-06-05T00:00:00Z".parse().unwrap()),
        ..plan("paid-trial")
    };
    let customer = subscribe(customer, new).await;
    hold_billing(&customer, Some("2027-06-10T00:00:00Z")).await;
    customer.advance("6d").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Trialing);
    assert!(customer.invoices().await.is_empty());
    customer
        .advance_to("2027-06-19T01:00:00Z".parse().unwrap())
        .await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Active);
    let first = ["start 61.00 -0 -0 paid"];
    assert_eq!(brief(&customer.invoices().await), first);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_at_the_end_of_a_trial_comes_before_the_first_charge() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("starter-monthly")).await;
    pause(&customer, When::PeriodEnd).await;
    customer.advance("20d").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Paused);
    assert!(customer.invoices().await.is_empty());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_payment_has_its_time_after_a_trial_and_from_far_back() {
    let app = TestApp::new().await;
    publish_tried(&app, "first_payment").await;
    let customer = subscribed(&app, "pm_card_visa", plan("tried")).await;
    // What was asked for in the trial is not forgotten while the payment is waited for.
    cancel(&customer, on("2027-06-20")).await;
    customer.advance("8d").await;
    assert_eq!(
        brief(&customer.invoices().await),
        ["start 42.00 -0 -0 paid"]
    );
    assert_eq!(status(&customer).await, SubscriptionStatus::Ending);
    customer.advance("12d").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Ended);
    let back = NewSubscription {
        start_at: Some("2027-06-01T00:00:00Z".parse().unwrap()),
        ..plan("scale-monthly")
    };
    let customer = subscribe(customer, back).await;
    customer.advance("1h").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Active);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_after_its_trial_was_paused_begins_with_its_first_payment() {
    let app = TestApp::new().await;
    publish_tried(&app, "first_payment").await;
    let card = "pm_sandbox_insufficient_funds";
    let customer = subscribed(&app, card, plan("tried")).await;
    customer.advance("2d").await;
    pause(&customer, When::Now).await;
    customer.advance("10d").await;
    resume(&customer, When::Now).await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Incomplete);
    customer.attach("pm_card_visa").await;
    customer.advance("1h").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Active);
    customer.advance("30d").await;
    let reasons: Vec<String> = customer
        .invoices()
        .await
        .into_iter()
        .map(|one| one.reason)
        .collect();
    assert_eq!(reasons, ["start", "cycle"]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_up_fee_that_a_hold_kept_back_comes_with_the_next_invoice() {
    let app = TestApp::new().await;
    publish_tried(&app, "start").await;
    let customer = subscribed(&app, "pm_card_visa", plan("tried")).await;
    let tenant = customer.tenant.tenant_id;
    let hold = PlaceHold {
        kind: HoldKind::Fraud,
        subscription_id: None,
        starts_at: None,
        ends_at: None,
        blocks: None,
        reason: "ticket 18".to_owned(),
    };
    let placed = app.client.place_hold(tenant, &hold, &key()).await.unwrap();
    customer.advance("10d").await;
    assert!(customer.invoices().await.is_empty());
    let lift = LiftHold {
        reason: "a false alarm".to_owned(),
    };
    let lifted = app
        .client
        .lift_hold(tenant, placed.hold_id, &lift, &key())
        .await;
    lifted.unwrap();
    customer.advance("30d").await;
    assert_eq!(
        brief(&customer.invoices().await),
        ["cycle 42.00 -0 -0 paid"]
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_the_trial_brings_the_set_up_fee_of_its_plan() {
    let app = TestApp::new().await;
    publish_tried(&app, "start").await;
    let customer = subscribed(&app, "pm_card_visa", plan("tried")).await;
    change(&customer, &to("team-monthly", When::Now)).await;
    customer.advance("8d").await;
    let first = customer.invoices().await.remove(0);
    assert_eq!(first.total, money("49.00 EUR"), "which has none");
    let customer = subscribed(&app, "pm_card_visa", plan("starter-monthly")).await;
    change(&customer, &to("tried", When::Now)).await;
    customer.advance("15d").await;
    let first = customer.invoices().await.remove(0);
    assert_eq!(first.total, money("42.00 EUR"), "30.00 and 12.00 once");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_comes_with_the_end_of_a_trial_keeps_its_day_in_a_pause() {
    let app = TestApp::new().await;
    // Nobody resumes.
    let customer = subscribed(&app, "pm_card_visa", plan("starter-monthly")).await;
    cancel(&customer, When::PeriodEnd).await;
    customer.advance("3d").await;
    pause(&customer, When::Now).await;
    customer.advance("17d").await;
    let ended = customer.subscription().await;
    assert_eq!(ended.status, SubscriptionStatus::Ended);
    assert_eq!(
        ended.ended_at.unwrap().to_rfc3339(),
        "2027-06-15T00:00:00+00:00"
    );
    assert!(customer.invoices().await.is_empty());
    // A change is made on its day, and brings the set-up fee of its plan to what begins later.
    publish_tried(&app, "start").await;
    let customer = subscribed(&app, "pm_card_visa", plan("starter-monthly")).await;
    change(&customer, &to("tried", When::PeriodEnd)).await;
    customer.advance("3d").await;
    pause(&customer, When::Now).await;
    customer.advance("10d").await;
    assert_eq!(customer.subscription().await.plan, "starter-monthly");
    customer.advance("2d").await;
    assert_eq!(customer.subscription().await.plan, "tried");
    resume(&customer, When::Now).await;
    let first = customer.invoices().await.remove(0);
    // 16 June to 15 July is 29 of 30 days of 30.00, and 12.00.
    assert_eq!(first.total, money("41.00 EUR"));
    // Resumed in time it ends with its trial.
    let customer = subscribed(&app, "pm_card_visa", plan("starter-monthly")).await;
    cancel(&customer, When::PeriodEnd).await;
    customer.advance("3d").await;
    pause(&customer, When::Now).await;
    customer.advance("2d").await;
    resume(&customer, When::Now).await;
    customer.advance("12d").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Ended);
    assert!(customer.invoices().await.is_empty());
    app.finish().await;
}
