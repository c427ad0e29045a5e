//! What follows a retired plan: whoever has it is moved there with a renewal of their own, unless they
//! asked for something else.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenure_client::{
    CancelSubscription, ChangeSubscription, Client, CreditPolicy, IdempotencyKey, MoveAnchor,
    PauseSubscription, SubscriptionDetail, SubscriptionStatus, When,
};

use tenure_engine::WorkerConfig;

use crate::late::let_time_pass;
use crate::support::app::{Subscriber, TestApp, for_a_story};

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

fn at(day: &str) -> DateTime<Utc> {
    format!("{day}T00:00:00Z").parse().unwrap()
}

/// A plan by the month with seats and an add-on, and a dearer one.
fn catalog() -> Value {
    json!({
        "plans": {
            "old": {
                "name": "Old", "interval": "month", "prices": {"EUR": "31.00"}, "add_ons": ["more"],
                "seats": {"included": 1, "most": 5, "prices": {"EUR": "6.00"}},
            },
            "new": {
                "name": "New", "interval": "month", "prices": {"EUR": "40.00"}, "add_ons": ["more"],
                "seats": {"included": 2, "most": 9, "prices": {"EUR": "8.00"}},
            },
        },
        "add_ons": {"more": {"name": "More", "prices": {"EUR": "5.00"}}},
    })
}

/// The same, with `old` retired and `new` after it.
fn retired(from: &str) -> Value {
    let mut catalog = catalog();
    let old = &mut catalog["plans"]["old"];
    old["retired"] = json!(true);
    old["successor"] = json!({"plan": "new", "from": from});
    // Who has the add-on keeps what it was sold at.
    catalog["add_ons"]["more"]["prices"]["EUR"] = json!("7.00");
    catalog
}

async fn publish(client: &Client, catalog: &Value) {
    let publish = for_a_story();
    let published = client.publish_catalog(catalog, &publish, &key()).await;
    published.unwrap();
}

/// A tenant in UTC with a card, subscribed to a plan from 1 June 2027.
async fn subscribed<'a>(app: &'a TestApp, plan: &str) -> Subscriber<'a> {
    let (start, card) = ("2027-06-01T00:00:00Z", "pm_card_visa");
    let customer = app.customer();
    customer.subscribe(start, "UTC", plan, "EUR", card).await
}

async fn detail(customer: &Subscriber<'_>) -> SubscriptionDetail {
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    customer.client.subscription(tenant, id).await.unwrap()
}

async fn totals(customer: &Subscriber<'_>) -> Vec<String> {
    let invoices = customer.invoices().await.into_iter();
    invoices.map(|one| one.total.amount.to_string()).collect()
}

async fn change(customer: &Subscriber<'_>, asked: &ChangeSubscription) {
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let client = customer.client;
    let sent = client.change_subscription(tenant, id, asked, &key()).await;
    sent.unwrap();
    customer.advance("0h").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_plan_gives_way_to_its_successor_with_a_renewal() {
    let app = TestApp::new().await;
    publish(&app.client, &catalog()).await;
    let customer = subscribed(&app, "old").await;
    let more = ChangeSubscription {
        seats: Some(3),
        add_ons: Some([("more".to_owned(), 1)].into()),
        ..ChangeSubscription::default()
    };
    change(&customer, &more).await;
    assert_eq!(detail(&customer).await.successor, None);
    publish(&app.client, &retired("2027-07-15")).await;
    let comes = detail(&customer).await.successor.unwrap();
    assert_eq!((&*comes.plan, &*comes.name), ("new", "New"));
    // Not with July, which begins before it holds; the third seat, and the add-on as it was sold.
    assert_eq!(comes.at, at("2027-08-01"));
    assert_eq!(comes.price.to_string(), "53.00 EUR");
    let page = app
        .client
        .list_plan_versions("old")
        .await
        .unwrap()
        .remove(0);
    assert_eq!(page.successor.unwrap().plan, "new");

    customer.advance_to(at("2027-07-02")).await;
    assert_eq!(totals(&customer).await, ["31.00", "17.00", "48.00"]);
    assert_eq!(customer.subscription().await.plan, "old");
    let end = |dry_run| CancelSubscription {
        when: When::At(at("2027-08-11")),
        credit: CreditPolicy::Credit,
        reason: None,
        dry_run,
    };
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let (asked, once) = (end(true), key());
    let told = app.client.cancel_subscription(tenant, id, &asked, &once);
    let told = told.await.unwrap();
    // 21 of August's 31 days: 27.10, 5.42 and 3.39.
    assert_eq!(told.credits[0].total.to_string(), "35.91 EUR");
    assert_eq!(told.price, comes.price);
    let (asked, once) = (end(false), key());
    let sent = app.client.cancel_subscription(tenant, id, &asked, &once);
    sent.await.unwrap();

    customer.advance_to(at("2027-08-01")).await;
    let moved = detail(&customer).await;
    assert_eq!(moved.subscription.plan, "new");
    assert_eq!(moved.subscription.seats, Some(3));
    assert_eq!(moved.succeeds.as_deref(), Some("old"));
    assert_eq!(moved.successor, None);
    assert_eq!(totals(&customer).await[3], "53.00");
    // A wish to end on a later day stands.
    customer.advance_to(at("2027-08-11")).await;
    let notes = app.client.list_credit_notes(tenant).await.unwrap();
    assert_eq!(notes[0].total.to_string(), "35.91 EUR");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_goes_before_a_successor() {
    let app = TestApp::new().await;
    publish(&app.client, &catalog()).await;
    let changes = subscribed(&app, "old").await;
    let ends = subscribed(&app, "old").await;
    let pauses = subscribed(&app, "old").await;
    let moves = subscribed(&app, "old").await;
    publish(&app.client, &retired("2027-07-01")).await;
    let other = ChangeSubscription {
        plan: Some("team-monthly".to_owned()),
        when: When::PeriodEnd,
        ..ChangeSubscription::default()
    };
    change(&changes, &other).await;
    assert_eq!(detail(&changes).await.successor, None);
    let end = CancelSubscription {
        when: When::PeriodEnd,
        ..CancelSubscription::default()
    };
    let (tenant, id) = (ends.tenant.tenant_id, ends.subscription);
    let once = key();
    let sent = app.client.cancel_subscription(tenant, id, &end, &once);
    sent.await.unwrap();
    let pause = PauseSubscription {
        when: When::PeriodEnd,
        until: Some(at("2027-07-11")),
        ..PauseSubscription::default()
    };
    let (tenant, id) = (pauses.tenant.tenant_id, pauses.subscription);
    let once = key();
    let sent = app.client.pause_subscription(tenant, id, &pause, &once);
    sent.await.unwrap();
    for customer in [&changes, &ends, &pauses, &moves] {
        customer.advance("0h").await;
        customer.advance_to(at("2027-07-20")).await;
    }
    assert_eq!(changes.subscription().await.plan, "team-monthly");
    assert_eq!(totals(&changes).await, ["31.00", "49.00"]);
    let ended = ends.subscription().await;
    assert_eq!(ended.status, SubscriptionStatus::Ended);
    assert_eq!(totals(&ends).await, ["31.00"]);
    // What is left of July when the pause ends is no renewal: 21 of 31 days.
    assert_eq!(totals(&pauses).await, ["31.00", "21.00"]);
    assert_eq!(pauses.subscription().await.plan, "old");
    pauses.advance_to(at("2027-08-01")).await;
    assert_eq!(pauses.subscription().await.plan, "new");
    assert_eq!(totals(&moves).await, ["31.00", "40.00"]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_term_runs_to_its_end_and_a_trial_is_no_renewal() {
    let app = TestApp::new().await;
    let mut sold = catalog();
    sold["plans"]["old"]["periods"] = json!(2);
    sold["plans"]["old"]["trial"] = json!({"days": 14});
    publish(&app.client, &sold).await;
    let term = subscribed(&app, "old").await;
    let (mut endless, mut gone) = (sold, retired("2027-06-10"));
    endless["plans"]["old"]
        .as_object_mut()
        .unwrap()
        .remove("periods");
    publish(&app.client, &endless).await;
    let tried = subscribed(&app, "old").await;
    gone["plans"]["old"]["trial"] = json!({"days": 14});
    publish(&app.client, &gone).await;
    assert_eq!(detail(&term).await.successor, None);
    assert_eq!(detail(&tried).await.successor.unwrap().at, at("2027-07-15"));
    for customer in [&term, &tried] {
        customer.advance_to(at("2027-08-16")).await;
    }
    assert_eq!(totals(&term).await, ["31.00", "31.00"]);
    let ended = term.subscription().await;
    assert_eq!(ended.end_reason.as_deref(), Some("expired"));
    assert_eq!(totals(&tried).await, ["31.00", "40.00", "40.00"]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_of_a_renewal_names_the_price_of_the_successor() {
    let app = TestApp::new().await;
    let mut by_year = catalog();
    for plan in ["old", "new"] {
        by_year["plans"][plan]["interval"] = json!("year");
    }
    publish(&app.client, &by_year).await;
    let customer = subscribed(&app, "old").await;
    let mut gone = retired("2028-01-01");
    for plan in ["old", "new"] {
        gone["plans"][plan]["interval"] = json!("year");
    }
    publish(&app.client, &gone).await;
    customer.advance("360d").await;
    let tenant = customer.tenant.tenant_id;
    let mut mails = app.client.list_tenant_mails(tenant).await.unwrap();
    mails.retain(|mail| mail.kind == "renewal_coming");
    let text = &mails[0].body_text;
    assert!(text.contains("40.00 EUR") && text.contains("New"), "{text}");
    customer.advance_to(at("2028-06-01")).await;
    assert_eq!(totals(&customer).await, ["31.00", "40.00"]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one case a line")]
async fn a_successor_that_does_not_fit_is_refused_with_its_place() {
    let app = TestApp::new().await;
    let client = &app.client;
    let try_it = async |catalog: &Value| {
        let publish = for_a_story();
        client.publish_catalog(catalog, &publish, &key()).await
    };
    let with = |plan: &str, field: &str, value: Value| {
        let mut catalog = retired("2027-07-01");
        catalog["plans"][plan][field] = value;
        catalog
    };
    let cases = [
        (with("old", "retired", json!(false)), "", "only a plan with"),
        (
            with(
                "old",
                "successor",
                json!({"plan": "newer", "from": "2027-07-01"}),
            ),
            "/plan",
            "no plan \"newer\" stands beside it",
        ),
        (
            with("old", "successor", json!({"plan": "new", "from": "soon"})),
            "/from",
            "\"soon\" is no day; one is written 2028-01-01",
        ),
        (
            with("new", "retired", json!(true)),
            "/plan",
            "\"new\" is retired itself",
        ),
        (
            with("new", "interval", json!("year")),
            "/plan",
            "a period of it is one year",
        ),
        (
            with("new", "billing", json!("in_arrears")),
            "/plan",
            "the other in arrears",
        ),
        (
            with("new", "periods", json!(2)),
            "/plan",
            "for a fixed term",
        ),
        (
            with("new", "add_ons", json!([])),
            "/plan",
            "add-on \"more\" does not go",
        ),
        (
            with("old", "prices", json!({"EUR": "31.00", "USD": "33.00"})),
            "/plan",
            "this plan is sold in USD, and it is not",
        ),
        (
            with(
                "new",
                "seats",
                json!({"included": 2, "most": 4, "prices": {"EUR": "8.00"}}),
            ),
            "/plan",
            "it has at most 4 seats, this plan 5",
        ),
    ];
    for (catalog, place, expected) in cases {
        let mut catalog = catalog;
        if catalog["plans"]["old"]["prices"]["USD"] != json!(null) {
            catalog["plans"]["old"]["seats"]["prices"]["USD"] = json!("6.00");
        }
        let refused = try_it(&catalog).await.unwrap_err();
        let problem = refused.problem().unwrap();
        let pointer = format!("/plans/old/successor{place}");
        assert_eq!(problem.errors[0].pointer, pointer, "{expected}");
        let detail = problem.detail.as_deref().unwrap();
        assert!(detail.contains(expected), "{detail}");
    }

    // Who has an older version is asked, too; and what others are moved to is not taken from them.
    let mut earlier = catalog();
    earlier["plans"]["old"]["prices"]["USD"] = json!("33.00");
    earlier["plans"]["old"]["seats"]["prices"]["USD"] = json!("6.00");
    try_it(&earlier).await.unwrap();
    let refused = try_it(&retired("2027-07-01"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("version 1: this plan is sold in USD"),
        "{refused}"
    );
    let mut both = retired("2027-07-01");
    both["plans"]["new"]["prices"]["USD"] = json!("44.00");
    both["plans"]["new"]["seats"]["prices"]["USD"] = json!("8.00");
    try_it(&both).await.unwrap();
    let mut alone = both.clone();
    alone["plans"].as_object_mut().unwrap().remove("old");
    alone["plans"]["new"]["retired"] = json!(true);
    let refused = try_it(&alone).await.unwrap_err().to_string();
    assert!(refused.contains("\"new\" is retired itself"), "{refused}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_for_a_later_day_is_one_of_the_successor_then() {
    let app = TestApp::new().await;
    publish(&app.client, &catalog()).await;
    let customer = subscribed(&app, "old").await;
    let three = |when| ChangeSubscription {
        seats: Some(3),
        when,
        ..ChangeSubscription::default()
    };
    change(&customer, &three(When::At(at("2027-07-10")))).await;
    publish(&app.client, &retired("2027-07-01")).await;
    let comes = detail(&customer).await.successor.unwrap();
    assert_eq!((comes.at, &*comes.plan), (at("2027-07-01"), "new"));
    assert_eq!(comes.price.to_string(), "40.00 EUR");
    customer.advance_to(at("2027-07-10")).await;
    let moved = detail(&customer).await;
    assert_eq!(
        (&*moved.subscription.plan, moved.subscription.seats),
        ("new", Some(3))
    );
    // One seat more than are included, for 22 of 31 days: 5.68.
    assert_eq!(totals(&customer).await, ["31.00", "40.00", "5.68"]);
    // It goes on to tell why it was moved, and is just that already.
    assert_eq!(moved.succeeds.as_deref(), Some("old"));
    let (tenant, id, once) = (customer.tenant.tenant_id, customer.subscription, key());
    let again = three(When::Now);
    let refused = app.client.change_subscription(tenant, id, &again, &once);
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.status(), Some(409), "{refused}");
    assert!(
        refused.to_string().contains("just that already"),
        "{refused}"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_foretold_of_a_successor_is_what_comes() {
    let app = TestApp::new().await;
    publish(&app.client, &catalog()).await;
    let moves = subscribed(&app, "old").await;
    let pauses = subscribed(&app, "old").await;
    publish(&app.client, &retired("2027-07-10")).await;
    let day = MoveAnchor {
        day: 15,
        when: When::PeriodEnd,
        ..MoveAnchor::default()
    };
    let (tenant, id, once) = (moves.tenant.tenant_id, moves.subscription, key());
    let sent = app.client.move_anchor(tenant, id, &day, &once);
    sent.await.unwrap();
    let pause = PauseSubscription {
        when: When::At(at("2027-07-20")),
        until: Some(at("2027-08-20")),
        ..PauseSubscription::default()
    };
    let (tenant, id, once) = (pauses.tenant.tenant_id, pauses.subscription, key());
    let sent = app.client.pause_subscription(tenant, id, &pause, &once);
    sent.await.unwrap();
    // The bridge to the fifteenth ends with a renewal; of a period in a pause nothing does.
    for (customer, day) in [(&moves, "2027-07-15"), (&pauses, "2027-09-01")] {
        customer.advance("0h").await;
        let comes = detail(customer).await.successor.unwrap();
        assert_eq!(comes.at, at(day));
        customer.advance_to(at(day) - TimeDelta::hours(1)).await;
        assert_eq!(customer.subscription().await.plan, "old", "{day}");
        customer.advance_to(at(day)).await;
        assert_eq!(customer.subscription().await.plan, "new", "{day}");
    }
    app.finish().await;
}

/// Made of what was before, it would take the subscription back to its old plan.
#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_taken_while_a_late_renewal_is_to_move_it() {
    let app = TestApp::new().await;
    publish(&app.client, &catalog()).await;
    let customer = subscribed(&app, "old").await;
    publish(&app.client, &retired("2027-07-01")).await;
    app.restart(None).await;
    let_time_pass(&app, &customer, at("2027-07-02")).await;
    let more = ChangeSubscription {
        seats: Some(2),
        ..ChangeSubscription::default()
    };
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let once = key();
    let refused = app.client.change_subscription(tenant, id, &more, &once);
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.status(), Some(409), "{refused}");
    assert!(
        refused.to_string().contains("it is moved to \"new\""),
        "{refused}"
    );
    app.restart(Some(WorkerConfig::default())).await;
    customer.advance("0h").await;
    assert_eq!(totals(&customer).await, ["31.00", "40.00"]);
    app.finish().await;
}
