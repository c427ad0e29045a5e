//! What mails say, read as they were sent: through the API, on test clocks, against the Stripe
//! sandbox. When they are sent is told in `dunning.rs`.

use serde_json::{Value, json};
use tenure_client::{
    AssignDunningPolicy, CancelSubscription, ChangeSubscription, Client, DunningScope,
    IdempotencyKey, LoadDunningPolicy, Mail, MailStatus, Money, NewCreditNote, NewSubscription,
    NewTenant, ReportUsage, Role, SetOverride, TenantFilter, Usage, When,
};
use tenure_engine::TenantId;
use uuid::Uuid;

use crate::support::app::{Subscriber, TestApp, token};
use crate::support::connect;

fn fresh() -> IdempotencyKey {
    IdempotencyKey::generate()
}

/// Mails of a tenant, oldest first, of a kind.
async fn of_kind(customer: &Subscriber<'_>, kind: &str) -> Vec<Mail> {
    let tenant = customer.tenant.tenant_id;
    let mut mails = customer.client.list_tenant_mails(tenant).await.unwrap();
    mails.retain(|mail| mail.kind == kind);
    mails.reverse();
    mails
}

/// An app whose tenants all go by a policy.
async fn app_with(document: Value) -> TestApp {
    let app = TestApp::new().await;
    let reason = "a story".to_owned();
    let load = LoadDunningPolicy { document, reason };
    let loaded = app
        .client
        .load_dunning_policy("story", &load, &fresh())
        .await;
    loaded.unwrap();
    let assign = AssignDunningPolicy {
        scope: DunningScope::Default,
        subject: String::new(),
        policy: Some("story".to_owned()),
        reason: load.reason,
    };
    let assigned = app.client.assign_dunning_policy(&assign, &fresh()).await;
    assigned.unwrap();
    app
}

/// An app whose mails name a page to pay on.
async fn app_with_page() -> TestApp {
    app_with(json!({
        "ladders": { "soft": { "days": [2, 4] } },
        "steps": [{ "name": "time to pay", "day": 3, "action": "grace" }],
        "end": { "day": 9, "action": "cancel" },
        "notices": { "billing_link": "https://shop.example/{tenant}/pay/{invoice}" },
    }))
    .await
}

/// An app whose tenants are written to between six in the evening and eight in the morning.
async fn quiet_by_day() -> TestApp {
    app_with(json!({
        "ladders": { "soft": { "days": [2, 4] } },
        "steps": [],
        "end": { "day": 9, "action": "cancel" },
        "notices": { "quiet": { "from": 8, "to": 18 } },
    }))
    .await
}

/// A customer that reads German, on a plan.
async fn german<'a>(app: &'a TestApp, plan: &str, card: Option<&str>) -> Subscriber<'a> {
    let new = NewTenant {
        name: "Bäckerei Ada".to_owned(),
        email: "rechnung@ada.example".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        locale: Some("de-DE".to_owned()),
        test_clock: Some("2027-06-01T08:00:00Z".parse().unwrap()),
        legal_entity: None,
    };
    let tenant = app.client.create_tenant(&new, &fresh()).await.unwrap();
    let mut customer = Subscriber {
        client: &app.client,
        clock: tenant.test_clock_id.unwrap(),
        tenant,
        subscription: Uuid::nil(),
    };
    if let Some(card) = card {
        customer.attach(card).await;
    }
    let new = NewSubscription {
        plan: plan.to_owned(),
        currency: "EUR".to_owned(),
        ..NewSubscription::default()
    };
    let tenant = customer.tenant.tenant_id;
    let made = app.client.subscribe(tenant, &new, &fresh()).await;
    customer.subscription = made.unwrap().subscription_id;
    customer.advance("0h").await;
    customer
}

fn has(mail: &Mail, words: &[&str]) {
    for word in words {
        assert!(mail.body_text.contains(word), "{word}: {}", mail.body_text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_payment_names_invoice_amount_next_date_and_page() {
    let app = app_with_page().await;
    let customer = app.customer().team("pm_sandbox_insufficient_funds").await;
    let tenant = customer.tenant.tenant_id;
    let invoices = app.client.list_invoices(tenant).await.unwrap();
    let page = format!(
        "https://shop.example/{tenant}/pay/{}",
        invoices[0].invoice_id
    );
    let failed = of_kind(&customer, "payment_failed").await.remove(0);
    assert_eq!(
        failed.subject,
        "Your payment of 54.00 USD for invoice INV-00001 failed"
    );
    let refused =
        "payment of 54.00 USD for invoice INV-00001 was refused: there was not enough money";
    has(&failed, &[refused, "We try again on 3 June 2027.", &page]);
    // Part of it is credited meanwhile: the next mail names what is left.
    let note = NewCreditNote {
        amount: Some(Money {
            amount: "4.00".parse().unwrap(),
            currency: "USD".to_owned(),
        }),
        refund: false,
        reason: "an apology".to_owned(),
        dry_run: false,
    };
    let id = invoices[0].invoice_id;
    let given = app
        .client
        .give_credit_note(tenant, id, &note, &fresh())
        .await;
    given.unwrap();
    customer.advance("80h").await;
    let again = of_kind(&customer, "payment_failed").await;
    has(
        &again[1],
        &[
            "payment of 50.00 USD for invoice INV-00001",
            "on 5 June 2027",
        ],
    );
    let grace = of_kind(&customer, "grace").await.remove(0);
    has(&grace, &["We could not collect what you owe, 50.00 USD."]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_payment_is_told_in_german_and_a_confirmation_names_its_invoice() {
    let app = app_with_page().await;
    let card = Some("pm_sandbox_insufficient_funds");
    let customer = german(&app, "team-monthly", card).await;
    let failed = of_kind(&customer, "payment_failed").await.remove(0);
    let subject = "Ihre Zahlung über 49,00 EUR zur Rechnung INV-00001 ist fehlgeschlagen";
    assert_eq!(failed.subject, subject);
    has(&failed, &["Wir versuchen es am 3. Juni 2027 noch einmal"]);
    let bank = app.customer().team("pm_card_threeDSecure2Required").await;
    let asked = of_kind(&bank, "action_needed").await.remove(0);
    assert_eq!(asked.subject, "Please confirm your payment of 54.00 USD");
    has(
        &asked,
        &["54.00 USD to us, for invoice INV-00001", "https://"],
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_says_what_follows_how_often_and_how_it_is_paid() {
    let app = TestApp::new().await;
    let customer = app.customer().starter().await;
    customer.advance("12d").await;
    let ending = of_kind(&customer, "trial_ending").await.remove(0);
    has(
        &ending,
        &[
            "From then on it costs 19.00 EUR a month.",
            "charged to your payment method",
        ],
    );
    let without = german(&app, "starter-monthly", None).await;
    without.advance("12d").await;
    let ending = of_kind(&without, "trial_ending").await.remove(0);
    has(
        &ending,
        &[
            "Danach kostet es 19,00 EUR je Monat.",
            "noch keine Zahlungsart gegeben",
        ],
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_names_the_price_of_then_and_what_was_sent_is_kept() {
    let app = TestApp::new().await;
    let customer = german(&app, "team-yearly", Some("pm_card_visa")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    // Two more seats now, and another two from the next period on.
    for (seats, when) in [(7, When::Now), (9, When::PeriodEnd)] {
        let change = ChangeSubscription {
            seats: Some(seats),
            when,
            ..ChangeSubscription::default()
        };
        let changed = app
            .client
            .change_subscription(tenant, id, &change, &fresh())
            .await;
        changed.unwrap();
        customer.advance("0h").await;
    }
    customer.advance("360d").await;
    let mail = of_kind(&customer, "renewal_coming").await.remove(0);
    // 490.00 and four seats of 90.00 beyond those that are included.
    let told = "verlängert sich am 1. Juni 2028 um ein weiteres Jahr für 850,00 EUR";
    has(&mail, &[told]);
    let kept = app.client.mail(tenant, mail.notice_id).await.unwrap();
    assert_eq!(kept.mail, mail);
    assert!(kept.body_html.contains(told), "{}", kept.body_html);
    assert!(kept.dedupe_key.starts_with(&format!("renewal/{id}/")));
    let other = app.client.mail(tenant, Uuid::nil()).await.unwrap_err();
    assert_eq!(other.problem().unwrap().status, 404);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_was_cancelled_in_the_quiet_hours_is_not_told_of() {
    let app = quiet_by_day().await;
    let customer = app.customer().starter().await;
    // Three days ahead at nine, which is a quiet hour.
    customer.advance("265h").await;
    assert!(of_kind(&customer, "trial_ending").await.is_empty());
    let cancel = CancelSubscription {
        when: When::PeriodEnd,
        ..CancelSubscription::default()
    };
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let sent = app
        .client
        .cancel_subscription(tenant, id, &cancel, &fresh())
        .await;
    sent.unwrap();
    customer.advance("24h").await;
    let told = of_kind(&customer, "trial_ending").await;
    let statuses: Vec<MailStatus> = told.iter().map(|mail| mail.status).collect();
    assert_eq!(statuses, [MailStatus::Suppressed]);
    app.finish().await;
}

async fn report(customer: &Subscriber<'_>, level: u64) -> Usage {
    let tenant = customer.tenant.tenant_id;
    let report = ReportUsage { level };
    let reported = customer
        .client
        .report_usage(tenant, "projects", &report, &fresh())
        .await;
    let reported = reported.unwrap();
    customer.advance("0h").await;
    reported
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from its beginning to its end"
)]
async fn a_limit_is_told_when_it_is_near_and_when_it_is_reached_once_a_period() {
    let app = TestApp::new().await;
    // Ten projects, on a trial until 14 February; then periods from the fourteenth.
    let customer = app.customer().starter().await;
    let tenant = customer.tenant.tenant_id;
    let told = async || {
        let mails = of_kind(&customer, "limit").await;
        let sent = mails.into_iter().map(|mail| mail.subject);
        sent.collect::<Vec<_>>()
    };
    let used = report(&customer, 7).await;
    assert_eq!((used.limit, used.percent), (Some(10), Some(70)));
    assert_eq!(told().await, [""; 0]);
    let used = report(&customer, 8).await;
    assert_eq!((used.percent, used.told_percent), (Some(80), Some(80)));
    let near = "projects: 8 of 10 used";
    assert_eq!(told().await, [near]);
    // The same again, and less and more again, is no news.
    report(&customer, 9).await;
    report(&customer, 3).await;
    report(&customer, 8).await;
    assert_eq!(told().await, [near]);
    report(&customer, 12).await;
    let reached = "projects: 12 of 10 used";
    assert_eq!(told().await, [near, reached]);
    let last = of_kind(&customer, "limit").await.remove(1);
    has(&last, &["nothing of it is left. To go on"]);
    report(&customer, 11).await;
    assert_eq!(told().await.len(), 2);

    // The next period: it is news again, and what was reached is told, not what came before.
    customer.advance("15d").await;
    report(&customer, 10).await;
    assert_eq!(told().await[2..], ["projects: 10 of 10 used"]);
    // More is bought: the limit is another.
    let change = ChangeSubscription {
        plan: Some("team-monthly".to_owned()),
        ..ChangeSubscription::default()
    };
    let id = customer.subscription;
    let changed = app
        .client
        .change_subscription(tenant, id, &change, &fresh())
        .await;
    changed.unwrap();
    customer.advance("0h").await;
    assert_eq!(report(&customer, 10).await.percent, Some(10));
    assert_eq!(told().await.len(), 3);
    report(&customer, 80).await;
    assert_eq!(told().await[3..], ["projects: 80 of 100 used"]);

    // What nothing limits is kept and told of to nobody; what support took away, neither.
    let other = ReportUsage { level: 4 };
    let reported = app
        .client
        .report_usage(tenant, "logins", &other, &fresh())
        .await;
    assert_eq!(reported.unwrap().limit, None);
    let none = SetOverride {
        value: json!(0),
        expires_at: None,
        reason: "abuse".to_owned(),
    };
    let set = app
        .client
        .set_override(tenant, "projects", &none, &fresh())
        .await;
    set.unwrap();
    let used = report(&customer, 80).await;
    assert_eq!((used.limit, used.percent), (Some(0), None));
    assert_eq!(told().await.len(), 4);
    let listed = app.client.list_usage(tenant).await.unwrap();
    let features: Vec<&str> = listed.iter().map(|one| one.feature.as_str()).collect();
    assert_eq!(features, ["logins", "projects"]);
    let wrong = app
        .client
        .report_usage(tenant, "No Key", &other, &fresh())
        .await;
    let wrong = wrong.unwrap_err();
    assert_eq!(wrong.problem().unwrap().errors[0].pointer, "/feature");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_free_again_before_morning_is_not_told() {
    let app = quiet_by_day().await;
    let customer = app.customer().starter().await;
    report(&customer, 9).await;
    report(&customer, 2).await;
    customer.advance("24h").await;
    let told = of_kind(&customer, "limit").await;
    let statuses: Vec<MailStatus> = told.iter().map(|mail| mail.status).collect();
    assert_eq!(statuses, [MailStatus::Suppressed]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_found_by_what_the_provider_calls_it() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let other = app.customer().team("pm_card_visa").await;
    let wanted = customer.tenant.tenant_id;
    let tenant = app.client.tenant(wanted).await.unwrap();
    let method = tenant.default_payment_method.unwrap().provider_id;
    let id = wanted.to_string();
    let charges = app.sandbox.control().charges(&[("tenant", &id)]);
    let found = async |client: &Client, q: &str| {
        let filter = TenantFilter {
            q: Some(q.to_owned()),
            ..TenantFilter::default()
        };
        let page = client.list_tenants(&filter).await.unwrap();
        let ids = page.items.iter().map(|tenant| tenant.tenant_id);
        ids.collect::<Vec<_>>()
    };
    let charge = charges[0].payment_intent.clone();
    let customer_id = tenant.provider_customer_id.unwrap();
    for q in [&id, &method, &customer_id, &charge] {
        assert_eq!(found(&app.client, q).await, [wanted], "{q}");
    }
    assert!(found(&app.client, "cus_nobody").await.is_empty());
    // A tenant's own token finds nobody else's customer.
    let mut conn = connect(&app.options).await;
    let to_it = Some(TenantId(other.tenant.tenant_id));
    let token = token(&mut conn, Role::Viewer, to_it).await;
    let own = Client::new(&app.url, &token).unwrap();
    assert!(found(&own, &customer_id).await.is_empty());
    app.finish().await;
}
