//! A tenant's payment methods in their order, through the API, on test clocks, against the Stripe
//! sandbox.

use serde_json::json;
use stripe::ClientBuilder;
use stripe_payment::payment_method::{DetachPaymentMethod, ListPaymentMethod};
use tenure_client::{
    ClientError, DebtState, IdempotencyKey, InvoiceStatus, LoadDunningPolicy, OrderPaymentMethods,
};

use crate::support::app::{SANDBOX_KEY, Subscriber, TestApp};

/// The next method only at the next rung.
async fn on_the_ladder(app: &TestApp) {
    let load = LoadDunningPolicy {
        document: json!({
            "next_method": "ladder",
            "ladders": { "soft": { "days": [2] } },
            "end": { "day": 14, "action": "cancel" },
        }),
        reason: "a story".to_owned(),
    };
    let fresh = IdempotencyKey::generate;
    let loaded = app
        .client
        .load_dunning_policy("patient", &load, &fresh())
        .await;
    loaded.unwrap();
    let assign = tenure_client::AssignDunningPolicy {
        scope: tenure_client::DunningScope::Default,
        subject: String::new(),
        policy: Some("patient".to_owned()),
        reason: "a story".to_owned(),
    };
    app.client
        .assign_dunning_policy(&assign, &fresh())
        .await
        .unwrap();
}

/// The provider's ids of a customer's methods, in its order.
async fn methods(customer: &Subscriber<'_>) -> Vec<String> {
    let tenant = customer.tenant.tenant_id;
    let methods = customer.client.list_payment_methods(tenant).await.unwrap();
    methods.into_iter().map(|one| one.provider_id).collect()
}

/// Which of the methods each attempt at an invoice charged, and what came of it.
async fn attempts(
    app: &TestApp,
    customer: &Subscriber<'_>,
    invoice: usize,
) -> Vec<(String, String)> {
    let invoice = customer.invoices().await[invoice].invoice_id;
    let mut conn = crate::support::connect(&app.options).await;
    sqlx::query_as(
        "select coalesce(method_id, 'none'), coalesce(decline_code, status) from app.payment
         where invoice_id = $1 order by generation",
    )
    .bind(invoice)
    .fetch_all(&mut conn)
    .await
    .unwrap()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(method, end): &(&str, &str)| ((*method).to_owned(), (*end).to_owned());
    expected.iter().map(owned).collect()
}

async fn debt(customer: &Subscriber<'_>) -> tenure_client::Debt {
    let tenant = customer.tenant.tenant_id;
    customer.client.list_debts(tenant).await.unwrap().remove(0)
}

fn at_the_provider(app: &TestApp) -> stripe::Client {
    let client = ClientBuilder::new(SANDBOX_KEY).url(app.sandbox.url());
    client.build().unwrap()
}

fn refused(error: ClientError) -> (u16, Option<String>, String) {
    match error {
        ClientError::Problem(problem) => {
            let errors = problem.errors;
            let pointer = errors.first().map(|error| error.pointer.clone());
            let said = errors.first().map(|error| error.detail.clone());
            (problem.status, pointer, said.unwrap_or_default())
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_is_refused_for_good_gives_way_to_the_next_at_once() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    customer.attach_at("pm_sandbox_lost_card", Some(1)).await;
    customer.attach_at("pm_sandbox_expired_card", Some(2)).await;
    let [lost, expired, visa] = methods(&customer).await.try_into().unwrap();
    customer.advance("30d").await;
    let july = &customer.invoices().await[1];
    assert_eq!((july.status, july.attempts), (InvoiceStatus::Paid, 3));
    assert_eq!(
        july.paid_at,
        Some("2027-07-01T00:00:00Z".parse().unwrap()),
        "on its day"
    );
    let expected = [
        (lost.as_str(), "lost_card"),
        (expired.as_str(), "expired_card"),
        (visa.as_str(), "succeeded"),
    ];
    assert_eq!(attempts(&app, &customer, 1).await, pairs(&expected));
    assert_eq!(debt(&customer).await.state, DebtState::Clear);
    // It was paid on its day: nobody is told of trouble, nor of its end.
    let mails = customer.mails().await;
    let trouble = ["payment_failed", "recovered"];
    assert!(
        !mails.iter().any(|mail| trouble.contains(&mail.as_str())),
        "{mails:?}"
    );
    // What was refused for one invoice is tried anew for the next.
    customer.advance("31d").await;
    assert_eq!(attempts(&app, &customer, 2).await, pairs(&expected));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_method_waits_for_the_ladder_where_the_policy_says_so() {
    let app = TestApp::new().await;
    on_the_ladder(&app).await;
    let customer = app.customer().team("pm_card_visa").await;
    customer.attach_at("pm_sandbox_lost_card", Some(1)).await;
    customer.advance("30d").await;
    let owed = debt(&customer).await;
    assert_eq!(owed.state, DebtState::PastDue);
    assert_eq!(
        owed.next_attempt_at,
        Some("2027-07-03T10:00:00Z".parse().unwrap())
    );
    customer.advance("60h").await;
    let [lost, visa] = methods(&customer).await.try_into().unwrap();
    let expected = [(lost.as_str(), "lost_card"), (visa.as_str(), "succeeded")];
    assert_eq!(attempts(&app, &customer, 1).await, pairs(&expected));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_method_is_left_the_tenant_is_told_once_and_one_more_is_tried_at_once() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    customer.attach("pm_sandbox_lost_card").await;
    customer.attach_at("pm_sandbox_stolen_card", Some(2)).await;
    let [lost, stolen] = methods(&customer).await.try_into().unwrap();
    customer.advance("32d").await;
    let mut expected = vec![
        (lost.as_str(), "lost_card"),
        (stolen.as_str(), "stolen_card"),
    ];
    assert_eq!(attempts(&app, &customer, 1).await, pairs(&expected));
    let owed = debt(&customer).await;
    assert_eq!(
        (owed.state, owed.next_attempt_at),
        (DebtState::PastDue, None)
    );
    let failed = |mails: Vec<String>| mails.iter().filter(|one| *one == "payment_failed").count();
    assert_eq!(failed(customer.mails().await), 1);
    // Behind the others is soon enough: they are of no use.
    customer.attach_at("pm_card_visa", Some(9)).await;
    let visa = methods(&customer).await.remove(2);
    expected.push((visa.as_str(), "succeeded"));
    assert_eq!(attempts(&app, &customer, 1).await, pairs(&expected));
    assert_eq!(debt(&customer).await.state, DebtState::Clear);
    assert!(customer.mails().await.contains(&"recovered".to_owned()));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_has_expired_is_passed_over_and_time_may_mend_a_soft_decline() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_sandbox_expires_2027_06").await;
    customer
        .attach_at("pm_sandbox_insufficient_funds", Some(2))
        .await;
    customer.attach_at("pm_card_visa", Some(3)).await;
    let [june, poor, _] = methods(&customer).await.try_into().unwrap();
    assert_eq!(
        attempts(&app, &customer, 0).await,
        pairs(&[(june.as_str(), "succeeded")])
    );
    customer.advance("30d").await;
    let mut expected = vec![(poor.as_str(), "insufficient_funds")];
    assert_eq!(attempts(&app, &customer, 1).await, pairs(&expected));
    customer.advance("34h").await;
    expected.push((poor.as_str(), "insufficient_funds"));
    assert_eq!(attempts(&app, &customer, 1).await, pairs(&expected));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_are_put_in_order_and_taken_away() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    customer.attach_at("pm_card_mastercard", Some(5)).await;
    customer.attach_at("pm_card_amex", Some(2)).await;
    let [visa, amex, master] = methods(&customer).await.try_into().unwrap();
    let brands = client.list_payment_methods(tenant).await.unwrap();
    let brands: Vec<&str> = brands.iter().map(|one| one.brand.as_str()).collect();
    assert_eq!(brands, ["visa", "amex", "mastercard"]);

    let fresh = IdempotencyKey::generate;
    let order = |ids: &[&String]| OrderPaymentMethods {
        payment_methods: ids.iter().map(|id| (*id).clone()).collect(),
    };
    for wrong in [
        order(&[&amex]),
        order(&[&amex, &amex, &visa]),
        order(&[&amex, &visa, &master, &"pm_nobodys".to_owned()]),
    ] {
        let answer = client.order_payment_methods(tenant, &wrong, &fresh()).await;
        let (status, pointer, said) = refused(answer.unwrap_err());
        assert_eq!(
            (status, pointer.as_deref()),
            (422, Some("/payment_methods"))
        );
        assert!(said.contains(&visa), "{said}");
    }
    let wanted = order(&[&master, &amex, &visa]);
    let sent = client
        .order_payment_methods(tenant, &wanted, &fresh())
        .await;
    sent.unwrap();
    customer.advance("0h").await;
    assert_eq!(methods(&customer).await, wanted.payment_methods);
    let shown = client.tenant(tenant).await.unwrap().default_payment_method;
    assert_eq!(shown.unwrap().provider_id, master);

    let removed = client
        .remove_payment_method(tenant, &master, &fresh())
        .await;
    removed.unwrap();
    customer.advance("0h").await;
    assert_eq!(methods(&customer).await, [amex.clone(), visa.clone()]);
    let gone = client
        .remove_payment_method(tenant, &master, &fresh())
        .await;
    assert_eq!(refused(gone.unwrap_err()).0, 404);
    // The provider has let go of it, too.
    let stripe = at_the_provider(&app);
    let known = client.tenant(tenant).await.unwrap().provider_customer_id;
    let theirs = ListPaymentMethod::new()
        .customer(known.unwrap())
        .send(&stripe)
        .await
        .unwrap();
    let theirs: Vec<String> = theirs.data.iter().map(|one| one.id.to_string()).collect();
    assert!(theirs.contains(&visa) && !theirs.contains(&master));
    // A place that there is not, by its name.
    let nowhere = tenure_client::AttachPaymentMethod {
        payment_method: "pm_card_visa".to_owned(),
        position: Some(0),
    };
    let answer = client
        .attach_payment_method(tenant, &nowhere, &fresh())
        .await;
    let (status, pointer, _) = refused(answer.unwrap_err());
    assert_eq!((status, pointer.as_deref()), (422, Some("/position")));

    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_first_method_is_tried_at_once_where_something_is_owed() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    customer.attach("pm_sandbox_insufficient_funds").await;
    customer.advance("30d").await;
    customer.attach_at("pm_card_visa", Some(2)).await;
    let [poor, visa] = methods(&customer).await.try_into().unwrap();
    let mut expected = vec![(poor.as_str(), "insufficient_funds")];
    assert_eq!(
        attempts(&app, &customer, 1).await,
        pairs(&expected),
        "time may mend it: what comes behind waits"
    );
    let wanted = OrderPaymentMethods {
        payment_methods: vec![visa.clone(), poor.clone()],
    };
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let key = IdempotencyKey::generate();
    let sent = client.order_payment_methods(tenant, &wanted, &key).await;
    sent.unwrap();
    customer.advance("0h").await;
    expected.push((visa.as_str(), "succeeded"));
    assert_eq!(attempts(&app, &customer, 1).await, pairs(&expected));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_was_taken_away_at_the_provider_gives_way_to_the_next() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_amex").await;
    customer.attach_at("pm_card_visa", Some(2)).await;
    let [amex, visa] = methods(&customer).await.try_into().unwrap();
    DetachPaymentMethod::new(amex.as_str())
        .send(&at_the_provider(&app))
        .await
        .unwrap();
    customer.advance("30d").await;
    let expected = [
        (amex.as_str(), "payment_method_gone"),
        (visa.as_str(), "succeeded"),
    ];
    assert_eq!(attempts(&app, &customer, 1).await, pairs(&expected));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_that_does_not_take_the_currency_gives_way_to_the_next() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    customer.attach_at("pm_success_de", Some(1)).await;
    let [debit, visa] = methods(&customer).await.try_into().unwrap();
    customer.advance("30d").await;
    // The invoice is in dollars.
    let expected = [
        (debit.as_str(), "currency_not_supported"),
        (visa.as_str(), "succeeded"),
    ];
    assert_eq!(attempts(&app, &customer, 1).await, pairs(&expected));
    app.finish().await;
}
