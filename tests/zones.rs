//! A tenant moves to another zone in mid-life, through the public door, on test clocks.

use chrono::{DateTime, Utc};
use tenure_client::{
    ChangeZone, ClientError, IdempotencyKey, Invoice, InvoiceStatus, NewSubscription,
    PauseSubscription, ResumeSubscription, SubscriptionStatus, When, ZoneChange,
};
use uuid::Uuid;

use crate::support;
use crate::support::app::{Subscriber, TestApp};

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn to(zone: &str) -> ChangeZone {
    ChangeZone {
        zone: zone.to_owned(),
        reason: Some("they moved".to_owned()),
        dry_run: false,
    }
}

async fn moves(customer: &Subscriber<'_>, zone: &str) -> ZoneChange {
    let tenant = customer.tenant.tenant_id;
    let told = customer.client.change_zone(tenant, &to(zone), &key()).await;
    customer.advance("0h").await;
    told.unwrap()
}

/// On the team plan from 1 June 2027, eight in the morning UTC.
async fn team<'a>(app: &'a TestApp, zone: &str) -> Subscriber<'a> {
    app.customer()
        .subscribe(
            "2027-06-01T08:00:00Z",
            zone,
            "team-monthly",
            "USD",
            "pm_card_visa",
        )
        .await
}

fn spans(invoices: &[Invoice]) -> Vec<String> {
    let span = |one: &Invoice| {
        let day = |at: DateTime<Utc>| at.format("%m-%dT%H").to_string();
        let (start, end) = (day(one.period_start), day(one.period_end));
        format!("{start}..{end} {} {:?}", one.total.amount, one.status)
    };
    invoices.iter().map(span).collect()
}

/// The move stands in the audit, once, with its reason.
async fn assert_audited(app: &TestApp, tenant: Uuid) {
    let mut conn = support::connect(&app.options).await;
    let audited: Vec<(String, String)> =
        sqlx::query_as("select action, reason from engine.control_audit where subject = $1")
            .bind(tenant.to_string())
            .fetch_all(&mut conn)
            .await
            .unwrap();
    let wanted = ("change zone of tenant".to_owned(), "they moved".to_owned());
    assert_eq!(audited, [wanted]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_for_stays_and_renewals_come_at_the_new_midnight() {
    let app = TestApp::new().await;
    let customer = team(&app, "Europe/Berlin").await;
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    customer.advance("10d").await;
    let asked = ChangeZone {
        reason: None,
        dry_run: true,
        ..to("America/New_York")
    };
    let told = client.change_zone(tenant, &asked, &key()).await.unwrap();
    assert_eq!(told.signal_id, None);
    let dates = &told.subscriptions[0];
    assert_eq!(dates.status, SubscriptionStatus::Active);
    let berlin = ["06-30T22", "07-31T22", "08-31T22", "09-30T22"];
    let new_york = ["06-30T22", "08-01T04", "09-01T04", "10-01T04"];
    let brief = |all: &[DateTime<Utc>]| -> Vec<String> {
        all.iter()
            .map(|at| at.format("%m-%dT%H").to_string())
            .collect()
    };
    assert_eq!(brief(&dates.before), berlin);
    assert_eq!(brief(&dates.after), new_york);
    assert_eq!(client.tenant(tenant).await.unwrap().zone, "Europe/Berlin");

    // Once, however often it is asked for.
    let (key, asked) = (key(), to("America/New_York"));
    let moved = client.change_zone(tenant, &asked, &key).await.unwrap();
    let again = client.change_zone(tenant, &asked, &key).await.unwrap();
    assert_eq!(moved, again);
    assert_eq!(moved.subscriptions, told.subscriptions);
    assert!(moved.signal_id.is_some());
    assert_eq!(
        client.tenant(tenant).await.unwrap().zone,
        "America/New_York"
    );
    assert_audited(&app, tenant).await;

    customer.advance("0h").await;
    assert_eq!(
        customer.subscription().await.period_end,
        Some(at("2027-06-30T22:00:00Z"))
    );
    customer.advance("100d").await;
    let invoices = customer.invoices().await;
    let wanted = [
        "06-01T08..06-30T22 54.00 Paid",
        "06-30T22..08-01T04 54.00 Paid",
        "08-01T04..09-01T04 54.00 Paid",
        "09-01T04..10-01T04 54.00 Paid",
    ];
    assert_eq!(spans(&invoices), wanted);
    for pair in invoices.windows(2) {
        assert_eq!(
            pair[0].period_end, pair[1].period_start,
            "no gap, nothing twice"
        );
    }
    let charges = app
        .sandbox
        .control()
        .charges(&[("tenant", &tenant.to_string())]);
    assert_eq!(charges.iter().filter(|charge| charge.paid).count(), 4);
    // Printed dates are those of the zone that an invoice was drafted in.
    let page = async |one: &Invoice| client.invoice_page(tenant, one.invoice_id).await.unwrap();
    let first = page(&invoices[0]).await;
    assert!(first.contains("1 June 2027 – 30 June 2027"), "{first}");
    let last = page(&invoices[3]).await;
    assert!(
        last.contains("1 September 2027 – 30 September 2027"),
        "{last}"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_with_moves_across_the_date_line_is_the_same_at_once_and_month_by_month() {
    let app = TestApp::new().await;
    let acts = async |customer: &Subscriber<'_>| {
        customer.advance("9d").await;
        moves(customer, "America/Adak").await;
        customer.advance("31d").await;
        moves(customer, "Europe/Berlin").await;
        moves(customer, "Pacific/Kiritimati").await;
    };
    let stepwise = team(&app, "Pacific/Kiritimati").await;
    acts(&stepwise).await;
    for _ in 0..13 {
        stepwise.advance("1mo").await;
    }
    let at_once = team(&app, "Pacific/Kiritimati").await;
    acts(&at_once).await;
    at_once.begin_advance("13mo").await;
    support::eventually("the year is over", async || {
        at_once.is_ready().await.unwrap()
    })
    .await;
    let now = stepwise.now().await;
    let to = tenure_client::AdvanceTestClock {
        to: Some(now),
        by: None,
    };
    if at_once.now().await < now {
        app.client
            .advance_test_clock(at_once.clock, &to, &key())
            .await
            .unwrap();
        support::eventually("both are as late", async || {
            at_once.is_ready().await.unwrap()
        })
        .await;
    }
    let ledger = at_once.ledger().await;
    assert_eq!(ledger, stepwise.ledger().await);
    assert!(ledger.len() >= 14, "{ledger:#?}");
    let invoices = at_once.invoices().await;
    for pair in invoices.windows(2) {
        assert_eq!(pair[0].period_end, pair[1].period_start, "{ledger:#?}");
    }
    // June ends in Kiritimati, July in Adak, August in Kiritimati again, where it lacks a day.
    let ends: Vec<_> = invoices.iter().take(3).map(|one| one.period_end).collect();
    let wanted = [
        "2027-06-30T10:00:00Z",
        "2027-08-01T09:00:00Z",
        "2027-08-31T10:00:00Z",
    ];
    assert_eq!(ends, wanted.map(at));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_keeps_its_end_and_is_told_of_at_nine_of_the_new_zone() {
    let app = TestApp::new().await;
    let customer = app.customer().starter().await;
    let trial_ends = customer.subscription().await.trial_ends_at;
    assert_eq!(trial_ends, Some(at("2027-02-14T00:00:00Z")));
    moves(&customer, "Asia/Tokyo").await;
    customer.advance("10d").await;
    customer.advance("14h").await;
    // The eleventh, eight o'clock in Tokyo: an hour before.
    assert_eq!(customer.now().await, at("2027-02-10T23:00:00Z"));
    assert!(!customer.mails().await.contains(&"trial_ending".to_owned()));
    customer.advance("1h").await;
    assert!(customer.mails().await.contains(&"trial_ending".to_owned()));
    customer.advance("30d").await;
    let mails = customer.mails().await;
    let told = mails.iter().filter(|kind| *kind == "trial_ending");
    assert_eq!(told.count(), 1, "{mails:?}");
    let invoices = customer.invoices().await;
    assert_eq!(invoices[0].period_start, at("2027-02-14T00:00:00Z"));
    assert_eq!(invoices[0].period_end, at("2027-03-13T15:00:00Z"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_paused_goes_on_in_the_new_zone_and_dated_intents_keep_their_instant() {
    let app = TestApp::new().await;
    let customer = team(&app, "Europe/Berlin").await;
    let (client, tenant, id) = (
        customer.client,
        customer.tenant.tenant_id,
        customer.subscription,
    );
    let until = at("2027-07-10T12:00:00Z");
    let pause = PauseSubscription {
        reason: None,
        when: When::At(at("2027-06-20T12:00:00Z")),
        until: Some(until),
        dry_run: false,
    };
    client
        .pause_subscription(tenant, id, &pause, &key())
        .await
        .unwrap();
    customer.advance("25d").await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Paused
    );
    let told = moves(&customer, "America/New_York").await;
    assert!(told.subscriptions[0].after.is_empty(), "{told:?}");
    let found = client.subscription(tenant, id).await.unwrap();
    assert_eq!(found.intents[0].at, until);
    let resume = ResumeSubscription {
        reason: None,
        when: When::At(until),
        dry_run: true,
    };
    let told = client
        .resume_subscription(tenant, id, &resume, &key())
        .await
        .unwrap();
    customer.advance("20d").await;
    let invoices = customer.invoices().await;
    let last = invoices.last().unwrap();
    // The day of the resume begins at midnight in New York, and 22 of 31 days are left of July.
    assert_eq!(last.period_start, at("2027-07-10T04:00:00Z"));
    assert_eq!(last.period_end, at("2027-08-01T04:00:00Z"));
    assert_eq!(last.total.amount, "38.32".parse().unwrap());
    assert_eq!(told.total, last.total, "what was shown is what is done");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dunning_climbs_at_ten_of_the_new_zone() {
    let app = TestApp::new().await;
    let customer = team(&app, "UTC").await;
    customer.attach("pm_card_chargeCustomerFail").await;
    customer.advance("30d").await;
    let tenant = customer.tenant.tenant_id;
    let next = async || {
        let debts = customer.client.list_debts(tenant).await.unwrap();
        debts[0].next_attempt_at
    };
    assert_eq!(next().await, Some(at("2027-07-02T10:00:00Z")));
    moves(&customer, "America/New_York").await;
    // It counts from the local day of the failure, which was the last of June there.
    assert_eq!(next().await, Some(at("2027-07-01T14:00:00Z")));
    customer.attach("pm_card_visa").await;
    customer.advance("0h").await;
    let july = &customer.invoices().await[1];
    assert_eq!(july.status, InvoiceStatus::Paid);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_subscribes_beside_a_move_is_in_the_new_zone() {
    let app = TestApp::new().await;
    let customer = team(&app, "Europe/Berlin").await;
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let one_more = async || {
        let new = NewSubscription {
            plan: "team-monthly".to_owned(),
            currency: "USD".to_owned(),
            ..NewSubscription::default()
        };
        client.subscribe(tenant, &new, &key()).await.unwrap();
    };
    let asked = to("Asia/Tokyo");
    let change = async || client.change_zone(tenant, &asked, &key()).await.unwrap();
    tokio::join!(one_more(), one_more(), change(), one_more(), one_more());
    customer.advance("65d").await;
    let all = client.list_subscriptions(tenant).await.unwrap();
    assert_eq!(all.len(), 5);
    for one in all {
        // The midnight of 1 September in Tokyo; in Berlin it is seven hours later.
        assert_eq!(one.period_end, Some(at("2027-08-31T15:00:00Z")), "{one:?}");
    }
    app.finish().await;
}

fn refused(asked: Result<ZoneChange, ClientError>) -> (u16, Option<String>, String) {
    let error = asked.unwrap_err();
    let problem = error.problem().unwrap_or_else(|| panic!("{error}")).clone();
    let pointer = problem.errors.first().map(|one| one.pointer.clone());
    (problem.status, pointer, error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_nowhere_is_refused_and_changes_nothing() {
    let app = TestApp::new().await;
    let customer = team(&app, "Europe/Berlin").await;
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let ask = async |asked: ChangeZone| refused(client.change_zone(tenant, &asked, &key()).await);
    let (status, pointer, words) = ask(to("Europe/Atlantis")).await;
    assert_eq!(
        (status, pointer.as_deref()),
        (422, Some("/zone")),
        "{words}"
    );
    let (status, _, words) = ask(to("Europe/Berlin")).await;
    assert_eq!(status, 409, "{words}");
    assert!(words.contains("already"), "{words}");
    let no_reason = ChangeZone {
        reason: None,
        ..to("Asia/Tokyo")
    };
    let (status, pointer, words) = ask(no_reason).await;
    assert_eq!(
        (status, pointer.as_deref()),
        (422, Some("/reason")),
        "{words}"
    );
    let nobody = client
        .change_zone(Uuid::nil(), &to("Asia/Tokyo"), &key())
        .await;
    assert_eq!(refused(nobody).0, 404);

    let mut conn = support::connect(&app.options).await;
    let close = "update engine.tenant set closing_since = now() where tenant_id = $1";
    sqlx::query(close)
        .bind(tenant)
        .execute(&mut conn)
        .await
        .unwrap();
    for dry_run in [true, false] {
        let asked = ChangeZone {
            dry_run,
            ..to("Asia/Tokyo")
        };
        let (status, _, words) = ask(asked).await;
        assert_eq!(status, 409, "{words}");
        assert!(
            words.contains("deleted") || words.contains("closing"),
            "{words}"
        );
    }
    assert_eq!(client.tenant(tenant).await.unwrap().zone, "Europe/Berlin");
    app.finish().await;
}
