//! What comes after a payment: limits to waiting, late money, refunds that come back, disputes, events
//! that nobody could be found for or that never came. Through the API, against the Stripe sandbox.

use serde_json::json;
use stripe_sandbox::WebhookMode;
use tenure_client::{
    ActOnInvoice, AssignDunningPolicy, Dispute, DunningScope, GrantCredit, HoldFilter, HoldKind,
    IdempotencyKey, Invoice, InvoiceStatus, LoadDunningPolicy, Money, NewCreditNote,
    ReplayWebhookEvent, RunFilter, SendSignal, Service, SubscriptionStatus, WebhookEvent,
    WebhookEventFilter,
};

use crate::support::app::{Subscriber, TestApp};
use crate::support::eventually;

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

fn money(amount: &str, currency: &str) -> Money {
    Money {
        amount: amount.parse().unwrap(),
        currency: currency.to_owned(),
    }
}

/// An app whose tenants go by a policy that ends late, with what a story adds.
pub(crate) async fn app_with(more: serde_json::Value) -> TestApp {
    let app = TestApp::new().await;
    let mut document = json!({
        "ladders": { "soft": { "days": [1, 3, 5, 7] } },
        "end": { "day": 200, "action": "leave" },
    });
    let (whole, more) = (document.as_object_mut().unwrap(), more.as_object().unwrap());
    whole.extend(more.clone());
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

/// A customer on the team plan who has paid June, and whose method is this one for July.
async fn july<'a>(app: &'a TestApp, method: &str) -> Subscriber<'a> {
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    customer.attach(method).await;
    customer.advance("30d").await;
    customer
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

/// The provider's id of the charge that paid an invoice.
pub(crate) fn paid_charge(app: &TestApp, invoice: &Invoice) -> String {
    let id = invoice.invoice_id.to_string();
    let charges = app.sandbox.control().charges(&[("invoice", &id)]);
    charges.into_iter().find(|one| one.paid).unwrap().id
}

pub(crate) async fn balance(customer: &Subscriber<'_>) -> String {
    let credit = customer.client.credit(customer.tenant.tenant_id).await;
    let balances = credit.unwrap().balances;
    balances
        .first()
        .map_or("none".to_owned(), |balance| balance.amount.to_string())
}

pub(crate) async fn service(customer: &Subscriber<'_>) -> Service {
    let filter = HoldFilter {
        subscription_id: Some(customer.subscription),
        past: None,
    };
    let tenant = customer.tenant.tenant_id;
    let holds = customer.client.list_holds(tenant, &filter).await.unwrap();
    if holds.service != Service::On {
        assert_eq!(holds.holds[0].kind, HoldKind::DebtSuspension);
    }
    holds.service
}

pub(crate) async fn owes(customer: &Subscriber<'_>) -> bool {
    customer.subscription().await.status == SubscriptionStatus::PastDue
}

async fn disputes(customer: &Subscriber<'_>) -> Vec<Dispute> {
    let tenant = customer.tenant.tenant_id;
    customer.client.list_disputes(tenant).await.unwrap()
}

async fn events(app: &TestApp, status: &str) -> Vec<WebhookEvent> {
    let filter = WebhookEventFilter {
        status: Some(status.to_owned()),
    };
    app.client.list_webhook_events(&filter).await.unwrap()
}

/// Lets the watch over webhooks look now: it follows real time, and would look within minutes.
async fn look(app: &TestApp) {
    let filter = RunFilter {
        workflow: Some("webhook-watch".to_owned()),
        ..RunFilter::default()
    };
    let run = app.client.list_runs(&filter).await.unwrap();
    let signal = SendSignal {
        id: tenure_engine::random_uuid().to_string(),
        name: None,
        signal: json!("Look"),
        reason: Some("a story".to_owned()),
    };
    let run = run.items[0].run_id;
    app.client.send_signal(run, &signal, &key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_does_not_confirm_in_time_has_not_paid() {
    let app = app_with(json!({})).await;
    let customer = july(&app, "pm_sandbox_requires_action").await;
    let waiting = customer.invoices().await.remove(1);
    let asked = intent(&app, &waiting).await;
    // Asked at midnight, eight hours ago.
    customer.advance("14h").await;
    assert!(!owes(&customer).await, "there is an hour left");
    customer.advance("1h").await;
    assert!(owes(&customer).await);
    // Confirmed too late: there is nothing to confirm any more.
    let control = app.sandbox.control();
    assert!(control.complete_authentication(&asked).is_err());
    // The rung of the next day asks anew, and this time the customer is there.
    customer.advance("24h").await;
    let again = intent(&app, &waiting).await;
    assert_ne!(again, asked);
    control.complete_authentication(&again).unwrap();
    customer.advance("1h").await;
    assert_eq!(customer.invoices().await[1].status, InvoiceStatus::Paid);
    assert!(!owes(&customer).await);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_payment_that_is_never_confirmed_frees_its_invoice() {
    let app = app_with(json!({ "waiting": { "action_hours": 2 } })).await;
    let customer = july(&app, "pm_sandbox_requires_action").await;
    customer.advance("3h").await;
    let owed = customer.invoices().await.remove(1);
    let act = ActOnInvoice {
        reason: "given up".to_owned(),
        dry_run: false,
    };
    let tenant = customer.tenant.tenant_id;
    let once = key();
    let void = app
        .client
        .act_on_invoice(tenant, owed.invoice_id, "void", &act, &once);
    void.await.unwrap();
    customer.advance("0h").await;
    assert_eq!(customer.invoices().await[1].status, InvoiceStatus::Void);
    assert!(!owes(&customer).await);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_settles_after_its_time_brings_credit_and_that_pays_what_is_open() {
    let app = app_with(json!({ "waiting": { "processing_days": 5 } })).await;
    let customer = july(&app, "pm_sandbox_processing").await;
    let waiting = customer.invoices().await.remove(1);
    let debit = intent(&app, &waiting).await;
    customer.advance("4d").await;
    assert!(!owes(&customer).await, "the bank has a day left");
    customer.advance("1d").await;
    assert!(owes(&customer).await);
    // The bank cannot be stopped any more; it may pay after all, so it is not charged again.
    customer.advance("5d").await;
    let still = customer.invoices().await.remove(1);
    assert_eq!((still.status, still.attempts), (InvoiceStatus::Open, 1));
    app.sandbox.control().settle_payment(&debit, None).unwrap();
    customer.advance("1d").await;
    let paid = customer.invoices().await.remove(1);
    assert_eq!(paid.status, InvoiceStatus::Paid);
    assert_eq!(paid.balance_applied, paid.total);
    assert!(!owes(&customer).await);
    assert_eq!(balance(&customer).await, "0.00");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_comes_late_for_what_was_paid_by_another_way_stays_credit() {
    let app = app_with(json!({ "waiting": { "processing_days": 1 } })).await;
    let customer = july(&app, "pm_sandbox_processing").await;
    let debit = intent(&app, &customer.invoices().await[1]).await;
    customer.advance("1d").await;
    assert!(owes(&customer).await);
    customer.attach("pm_card_visa").await;
    assert_eq!(customer.invoices().await[1].status, InvoiceStatus::Paid);
    app.sandbox.control().settle_payment(&debit, None).unwrap();
    customer.advance("1d").await;
    assert_eq!(balance(&customer).await, "54.00");
    // Told once more, it is not credited once more.
    let told = events(&app, "mapped").await;
    let told = told
        .iter()
        .find(|one| one.event_type == "payment_intent.succeeded")
        .unwrap();
    let replay = ReplayWebhookEvent {
        reason: "to see".to_owned(),
    };
    let id = told.event_id.as_str();
    let played = app.client.replay_webhook_event(id, &replay, &key()).await;
    assert_eq!(played.unwrap().tries, 1);
    customer.advance("1d").await;
    assert_eq!(balance(&customer).await, "54.00");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_fails_after_it_succeeded_is_credit_once() {
    let app = app_with(json!({})).await;
    let make = app.customer();
    let customer = make.team("pm_card_refundFail").await;
    let tenant = customer.tenant.tenant_id;
    let invoice = customer.invoices().await.remove(0);
    let note = NewCreditNote {
        amount: Some(money("10.00", "USD")),
        refund: true,
        reason: "an outage".to_owned(),
        dry_run: false,
    };
    let given = app
        .client
        .give_credit_note(tenant, invoice.invoice_id, &note, &key())
        .await;
    assert_eq!(given.unwrap().to_refund, money("10.00", "USD"));
    customer.advance("1h").await;
    let notes = app.client.list_credit_notes(tenant).await.unwrap();
    assert_eq!(notes[0].refund_status.as_deref(), Some("succeeded"));
    assert_eq!(balance(&customer).await, "none");
    customer.advance("6d").await;
    let notes = app.client.list_credit_notes(tenant).await.unwrap();
    assert_eq!(notes[0].refund_status.as_deref(), Some("failed"));
    assert_eq!(balance(&customer).await, "10.00");
    customer.advance("6d").await;
    assert_eq!(balance(&customer).await, "10.00");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_holds_as_the_policy_says_and_its_end_lifts_or_keeps_it() {
    let disputes_hold = json!({ "disputes": { "open": "suspend", "lost": "suspend" } });
    let app = app_with(disputes_hold).await;
    for won in [true, false] {
        let make = app.customer();
        let customer = make.team("pm_card_visa").await;
        let tenant = customer.tenant.tenant_id;
        let invoice = customer.invoices().await.remove(0);
        let control = app.sandbox.control();
        let charge = paid_charge(&app, &invoice);
        control
            .open_dispute(&charge, "fraudulent", Some(2000), false)
            .unwrap();
        customer.advance("1h").await;
        eventually("the dispute is known", async || {
            !disputes(&customer).await.is_empty()
        })
        .await;
        customer.advance("0h").await;
        let open = disputes(&customer).await.remove(0);
        assert_eq!(open.standing, "open");
        assert_eq!(
            (open.amount, open.fee),
            (money("20.00", "USD"), money("0.00", "USD"))
        );
        assert_eq!(open.invoice_id, invoice.invoice_id);
        assert_eq!(service(&customer).await, Service::Off);
        // What the bank withdrew cannot be given back as well.
        let note = NewCreditNote {
            amount: None,
            refund: true,
            reason: "too much".to_owned(),
            dry_run: false,
        };
        let whole = invoice.invoice_id;
        let once = key();
        let given = app.client.give_credit_note(tenant, whole, &note, &once);
        if won {
            control.close_dispute(&open.dispute_id, true).unwrap();
            customer.advance("1h").await;
            assert_eq!(disputes(&customer).await[0].standing, "won");
            assert_eq!(service(&customer).await, Service::On);
            assert_eq!(given.await.unwrap().to_refund.amount, invoice.total.amount);
        } else {
            control.close_dispute(&open.dispute_id, false).unwrap();
            customer.advance("1h").await;
            assert_eq!(disputes(&customer).await[0].standing, "lost");
            assert_eq!(service(&customer).await, Service::Off);
            let given = given.await.unwrap();
            assert_eq!(given.to_debt, money("20.00", "USD"));
            assert_eq!(
                given.to_refund.amount,
                invoice.total.amount - given.to_debt.amount
            );
            customer.advance("0h").await;
            assert_eq!(service(&customer).await, Service::On, "it is written off");
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_that_opens_before_its_charge_is_written_down_finds_it_later() {
    let app = app_with(json!({ "disputes": { "open": "suspend" } })).await;
    let make = app.customer();
    let customer = make.team("pm_card_createDispute").await;
    eventually("the dispute is known", async || {
        look(&app).await;
        !disputes(&customer).await.is_empty()
    })
    .await;
    customer.advance("0h").await;
    assert_eq!(service(&customer).await, Service::Off);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_came_is_found_in_the_providers_list() {
    let app = app_with(json!({ "disputes": { "open": "suspend" } })).await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let control = app.sandbox.control();
    control.set_webhook_mode(WebhookMode::Never).unwrap();
    let charge = paid_charge(&app, &customer.invoices().await[0]);
    control
        .open_dispute(&charge, "fraudulent", None, false)
        .unwrap();
    customer.advance("1h").await;
    assert!(disputes(&customer).await.is_empty(), "nobody told");
    look(&app).await;
    eventually("the dispute is known", async || {
        !disputes(&customer).await.is_empty()
    })
    .await;
    customer.advance("0h").await;
    assert_eq!(service(&customer).await, Service::Off);
    let found = events(&app, "mapped").await;
    let found: Vec<_> = found
        .iter()
        .filter(|one| one.event_type == "charge.dispute.created")
        .collect();
    assert_eq!(found.len(), 1);
    assert!(found[0].listed);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disputes_end_alike_however_their_events_come() {
    let app = app_with(json!({ "disputes": { "lost": "suspend" } })).await;
    let control = app.sandbox.control();
    let mut ends = Vec::new();
    for mode in [
        WebhookMode::Normal,
        WebhookMode::Twice,
        WebhookMode::Reversed {
            window_milliseconds: 50,
        },
        WebhookMode::Never,
    ] {
        control.set_webhook_mode(mode).unwrap();
        let make = app.customer();
        let customer = make.team("pm_card_visa").await;
        let charge = paid_charge(&app, &customer.invoices().await[0]);
        let opened = control.open_dispute(&charge, "fraudulent", None, false);
        let id = opened.unwrap();
        customer.advance("1d").await;
        control.close_dispute(&id, false).unwrap();
        customer.advance("1d").await;
        eventually("the dispute has ended", async || {
            look(&app).await;
            let known = disputes(&customer).await;
            known.first().is_some_and(|one| one.standing == "lost")
        })
        .await;
        customer.advance("0h").await;
        let end = disputes(&customer).await.remove(0);
        ends.push((
            end.standing,
            end.amount,
            service(&customer).await,
            balance(&customer).await,
        ));
    }
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_credit_pays_the_oldest_open_invoice_first() {
    let app = app_with(json!({})).await;
    let customer = july(&app, "pm_sandbox_stolen_card").await;
    customer.advance("31d").await;
    let owed = customer.invoices().await;
    assert_eq!(owed.len(), 3);
    assert!(
        owed[1..]
            .iter()
            .all(|one| one.status == InvoiceStatus::Open)
    );
    let tenant = customer.tenant.tenant_id;
    let grant = GrantCredit {
        amount: money("60.00", "USD"),
        reason: "a bank transfer".to_owned(),
        dry_run: false,
    };
    app.client
        .grant_credit(tenant, &grant, &key())
        .await
        .unwrap();
    customer.advance("0h").await;
    let now = customer.invoices().await;
    assert_eq!(now[1].status, InvoiceStatus::Paid);
    assert_eq!(now[1].balance_applied, money("54.00", "USD"));
    assert_eq!(now[2].status, InvoiceStatus::Open);
    assert_eq!(now[2].amount_due, money("48.00", "USD"));
    assert_eq!(balance(&customer).await, "0.00");
    assert!(owes(&customer).await);
    // The rest comes in two parts.
    for amount in ["8.00", "40.00"] {
        let grant = GrantCredit {
            amount: money(amount, "USD"),
            reason: "another".to_owned(),
            dry_run: false,
        };
        app.client
            .grant_credit(tenant, &grant, &key())
            .await
            .unwrap();
        customer.advance("0h").await;
    }
    assert_eq!(customer.invoices().await[2].status, InvoiceStatus::Paid);
    assert!(!owes(&customer).await);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_off_by_hand_ends_the_debt_at_once() {
    let app =
        app_with(json!({ "steps": [{ "name": "shut", "day": 1, "action": "suspend" }] })).await;
    let customer = july(&app, "pm_sandbox_stolen_card").await;
    customer.advance("2d").await;
    assert_eq!(service(&customer).await, Service::Off);
    let owed = customer.invoices().await.remove(1);
    let act = ActOnInvoice {
        reason: "they are right".to_owned(),
        dry_run: false,
    };
    let tenant = customer.tenant.tenant_id;
    let once = key();
    let sent = app
        .client
        .act_on_invoice(tenant, owed.invoice_id, "write-off", &act, &once);
    sent.await.unwrap();
    customer.advance("0h").await;
    assert_eq!(
        customer.invoices().await[1].status,
        InvoiceStatus::Uncollectible
    );
    assert!(!owes(&customer).await);
    assert_eq!(service(&customer).await, Service::On);
    app.finish().await;
}
