//! An attempt that takes days: dunning stands still for what it is at, and looks again when it has
//! ended. Through the API, on test clocks, against the Stripe sandbox.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenure_client::{
    AssignDunningPolicy, Debt, DebtState, DunningScope, HoldFilter, IdempotencyKey, Invoice,
    InvoiceStatus, LoadDunningPolicy, NewSubscription, RunFilter, Service, SubscriptionStatus,
};
use uuid::Uuid;

use crate::support::app::{Subscriber, TestApp};

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

/// An app whose tenants go by a policy.
async fn app_with(document: Value) -> TestApp {
    let app = TestApp::new().await;
    let load = LoadDunningPolicy {
        document,
        reason: "a story".to_owned(),
    };
    app.client
        .load_dunning_policy("story", &load, &key())
        .await
        .unwrap();
    let assign = AssignDunningPolicy {
        scope: DunningScope::Default,
        subject: String::new(),
        policy: Some("story".to_owned()),
        reason: "a story".to_owned(),
    };
    app.client
        .assign_dunning_policy(&assign, &key())
        .await
        .unwrap();
    app
}

/// Grace on day 2, suspension on day 4, the end on day 14; banks have a month, customers two days.
fn patient() -> Value {
    json!({
        "ladders": { "soft": { "days": [1, 3, 5, 7] } },
        "steps": [
            { "name": "time to pay", "day": 2, "action": "grace" },
            { "name": "shut", "day": 4, "action": "suspend" },
        ],
        "end": { "day": 14, "action": "cancel" },
        "waiting": { "action_hours": 48, "processing_days": 30 },
    })
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

/// For whom dunning waits, and whether nothing comes by itself meanwhile.
async fn waits_for(customer: &Subscriber<'_>) -> (Option<String>, bool) {
    let owed = debt(customer).await;
    let coming = [owed.next_attempt_at, owed.next_step_at, owed.ends_at];
    let whom = owed.unpaid[0].waits_for.clone();
    assert_eq!(whom.is_some(), owed.unpaid[0].waits_since.is_some());
    (whom, coming.iter().all(Option::is_none))
}

fn whom(name: &str) -> (Option<String>, bool) {
    (Some(name.to_owned()), true)
}

async fn service(customer: &Subscriber<'_>) -> Service {
    let filter = HoldFilter {
        subscription_id: Some(customer.subscription),
        past: None,
    };
    let tenant = customer.tenant.tenant_id;
    let holds = customer.client.list_holds(tenant, &filter).await;
    holds.unwrap().service
}

async fn count(customer: &Subscriber<'_>, kind: &str) -> usize {
    let mails = customer.mails().await;
    mails.iter().filter(|mail| *mail == kind).count()
}

/// What the method that is charged does from now on.
async fn behaves(app: &TestApp, customer: &Subscriber<'_>, how: &str) {
    let tenant = customer.tenant.tenant_id;
    let method = customer.client.list_payment_methods(tenant).await.unwrap();
    let control = app.sandbox.control();
    control
        .set_card_behaviour(&method[0].provider_id, how)
        .unwrap();
}

/// The provider's id of the latest intent of an invoice.
async fn intent(app: &TestApp, invoice: &Invoice) -> String {
    let mut conn = crate::support::connect(&app.options).await;
    sqlx::query_scalar(
        "select provider_intent_id from app.payment where invoice_id = $1
         order by generation desc limit 1",
    )
    .bind(invoice.invoice_id)
    .fetch_one(&mut conn)
    .await
    .unwrap()
}

/// A customer on the team plan who has paid June, and whose card fails on 1 July at midnight UTC.
async fn owing(app: &TestApp) -> Subscriber<'_> {
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    customer.attach("pm_sandbox_insufficient_funds").await;
    customer.advance("30d").await;
    customer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_that_a_bank_weighs_beyond_the_end_of_the_ladder_pays_and_ends_nothing() {
    let app = TestApp::new().await;
    let make = app.customer();
    let start = "2027-06-01T08:00:00Z";
    let customer = make
        .subscribe(start, "UTC", "team-monthly", "EUR", "pm_card_visa")
        .await;
    customer.attach("pm_insufficientFunds_de").await;
    // Five days after 1 July the bank says no.
    until(&customer, "2027-07-06T08:00:00Z").await;
    let owed = debt(&customer).await;
    assert_eq!(owed.state, DebtState::PastDue);
    let (next, end) = (owed.next_attempt_at.unwrap(), owed.ends_at.unwrap());
    assert_eq!(end - next, TimeDelta::days(8));
    behaves(&app, &customer, "processes").await;
    customer.advance_to(next + TimeDelta::hours(2)).await;
    assert_eq!(waits_for(&customer).await, whom("bank"));
    let filter = RunFilter {
        workflow: Some("dunning".to_owned()),
        tenant_id: Some(customer.tenant.tenant_id),
        ..RunFilter::default()
    };
    let run = app.client.list_runs(&filter).await.unwrap().items[0].run_id;
    let run = app.client.run(run).await.unwrap();
    assert_eq!(run.summary.state, "UnderWay");
    assert_eq!(run.why.kind, "waiting_for_signal");
    // The ladder would have ended.
    customer.advance_to(end + TimeDelta::days(3)).await;
    let july = customer.invoices().await.remove(1);
    assert_eq!((july.status, july.attempts), (InvoiceStatus::Open, 2));
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::PastDue
    );
    let debit = intent(&app, &july).await;
    app.sandbox.control().settle_payment(&debit, None).unwrap();
    customer.advance("1d").await;
    assert_eq!(customer.invoices().await[1].status, InvoiceStatus::Paid);
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Active
    );
    assert_eq!(debt(&customer).await.state, DebtState::Clear);
    for (kind, times) in [("payment_failed", 1), ("final_notice", 0), ("recovered", 1)] {
        assert_eq!(count(&customer, kind).await, times, "{kind}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_comes_while_a_bank_weighs_and_after_its_no_the_ladder_goes_on_from_there() {
    let app = app_with(patient()).await;
    let customer = owing(&app).await;
    until(&customer, "2027-07-04T09:00:00Z").await;
    assert_eq!(debt(&customer).await.state, DebtState::Grace);
    behaves(&app, &customer, "processes").await;
    // The rung of the third day; the next ones and the suspension pass by.
    until(&customer, "2027-07-10T09:00:00Z").await;
    assert_eq!(debt(&customer).await.state, DebtState::Grace);
    assert_eq!(waits_for(&customer).await, whom("bank"));
    assert_eq!(service(&customer).await, Service::ReadOnly, "as it was");
    let july = customer.invoices().await.remove(1);
    assert_eq!(july.attempts, 3);
    assert_eq!(count(&customer, "suspended").await, 0);
    let debit = intent(&app, &july).await;
    let refused = Some("insufficient_funds");
    app.sandbox
        .control()
        .settle_payment(&debit, refused)
        .unwrap();
    customer.advance("1h").await;
    // Six days it took: what lay ahead on the 4th lies as far ahead on the 10th.
    let owed = debt(&customer).await;
    let on = |day: &str| Some(format!("2027-07-{day}T10:00:00Z").parse().unwrap());
    assert_eq!(owed.state, DebtState::Grace);
    assert_eq!(owed.since, Some("2027-07-01T00:00:00Z".parse().unwrap()));
    assert_eq!(owed.next_step_at, on("11"), "the suspension of the 5th");
    assert_eq!(owed.next_attempt_at, on("12"), "the rung of the 6th");
    assert_eq!(owed.ends_at, on("21"), "the end of the 15th");
    assert_eq!(customer.invoices().await[1].attempts, 3);
    assert_eq!(count(&customer, "payment_failed").await, 3);
    behaves(&app, &customer, "declines:insufficient_funds").await;
    until(&customer, "2027-07-12T11:00:00Z").await;
    assert_eq!(debt(&customer).await.state, DebtState::Suspended);
    assert_eq!(service(&customer).await, Service::Off);
    assert_eq!(customer.invoices().await[1].attempts, 4);
    assert_eq!(count(&customer, "suspended").await, 1);
    until(&customer, "2027-07-21T09:00:00Z").await;
    assert_ne!(
        customer.subscription().await.status,
        SubscriptionStatus::Ended
    );
    until(&customer, "2027-07-21T10:00:00Z").await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Ended
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_comes_while_a_customer_may_confirm_and_another_card_is_not_charged_as_well() {
    let app = app_with(patient()).await;
    let customer = owing(&app).await;
    until(&customer, "2027-07-04T09:00:00Z").await;
    behaves(&app, &customer, "asks").await;
    until(&customer, "2027-07-05T12:00:00Z").await;
    assert_eq!(debt(&customer).await.state, DebtState::Grace, "not shut");
    assert_eq!(waits_for(&customer).await, whom("customer"));
    customer.attach("pm_card_visa").await;
    assert_eq!(customer.invoices().await[1].attempts, 3);
    // Asked on the 4th at ten; after two days it counts as failed, and the new card is charged at once.
    until(&customer, "2027-07-06T09:00:00Z").await;
    assert_eq!(waits_for(&customer).await, whom("customer"));
    until(&customer, "2027-07-06T10:00:00Z").await;
    let july = customer.invoices().await.remove(1);
    assert_eq!((july.status, july.attempts), (InvoiceStatus::Paid, 4));
    assert_eq!(
        count(&customer, "payment_failed").await,
        2,
        "before it asked"
    );
    assert_eq!(service(&customer).await, Service::On);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_debt_goes_its_way_to_the_end_while_a_bank_weighs_the_first() {
    let document = json!({
        "ladders": { "soft": { "days": [1] } },
        "end": { "day": 9, "action": "cancel" },
        "waiting": { "processing_days": 30 },
    });
    let app = app_with(document).await;
    let customer = owing(&app).await;
    let tenant = customer.tenant.tenant_id;
    behaves(&app, &customer, "processes").await;
    until(&customer, "2027-07-03T12:00:00Z").await;
    assert_eq!(waits_for(&customer).await, whom("bank"));
    behaves(&app, &customer, "declines:insufficient_funds").await;
    let second = NewSubscription {
        plan: "team-monthly".to_owned(),
        currency: "USD".to_owned(),
        ..NewSubscription::default()
    };
    let second = app.client.subscribe(tenant, &second, &key()).await;
    let second = second.unwrap().subscription_id;
    customer.advance("0h").await;
    let owed = debt(&customer).await;
    assert_eq!(owed.unpaid.len(), 2);
    assert_eq!(
        owed.ends_at,
        Some("2027-07-12T10:00:00Z".parse().unwrap()),
        "from its own failure on"
    );
    let status = async |id: Uuid| {
        let found = app.client.subscription(tenant, id).await.unwrap();
        found.subscription.status
    };
    until(&customer, "2027-07-12T10:00:00Z").await;
    assert_eq!(status(second).await, SubscriptionStatus::Ended);
    assert_eq!(
        status(customer.subscription).await,
        SubscriptionStatus::PastDue
    );
    assert_eq!(waits_for(&customer).await, whom("bank"));
    let july = customer.invoices().await.remove(1);
    assert_eq!(july.status, InvoiceStatus::Open);
    let debit = intent(&app, &july).await;
    app.sandbox.control().settle_payment(&debit, None).unwrap();
    customer.advance("1d").await;
    assert_eq!(
        status(customer.subscription).await,
        SubscriptionStatus::Active
    );
    assert_eq!(debt(&customer).await.state, DebtState::Clear);
    assert_eq!(count(&customer, "final_notice").await, 1);
    app.finish().await;
}
