//! What is left of an invoice and is too small to charge: through the API, on test clocks, against the
//! Stripe sandbox, which refuses it as Stripe does.

use rust_decimal::Decimal;
use serde_json::json;
use tenure_client::{
    ActOnInvoice, ChangeSubscription, ClientError, CreditNote, GrantCredit, IdempotencyKey,
    Invoice, InvoiceAct, InvoiceStatus, Money, NewCreditNote, NewSubscription, NewTenant, Service,
    SubscriptionStatus, When,
};
use uuid::Uuid;

use crate::aftermath::{app_with, balance, owes, paid_charge, service};
use crate::support::app::{Subscriber, TestApp, for_a_story};

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

fn money(amount: &str, currency: &str) -> Money {
    Money {
        amount: amount.parse().unwrap(),
        currency: currency.to_owned(),
    }
}

fn euros(amount: &str) -> Money {
    money(amount, "EUR")
}

/// The team plan for 49.00 EUR a month, from 1 June 2027 in UTC; June is paid.
async fn june(app: &TestApp) -> Subscriber<'_> {
    let start = "2027-06-01T00:00:00Z";
    let card = "pm_card_visa";
    let customer = app.customer();
    customer
        .subscribe(start, "UTC", "team-monthly", "EUR", card)
        .await
}

/// The same a month later: of July 0.30 EUR was carried over.
async fn july(app: &TestApp) -> Subscriber<'_> {
    let customer = june(app).await;
    grant(&customer, "48.70").await;
    customer.advance("31d").await;
    assert_eq!(balance(&customer).await, "-0.30");
    customer
}

async fn grant(customer: &Subscriber<'_>, amount: &str) {
    grant_money(customer, euros(amount)).await;
}

async fn grant_money(customer: &Subscriber<'_>, amount: Money) {
    let grant = GrantCredit {
        amount,
        reason: "a gift".to_owned(),
        dry_run: false,
    };
    let tenant = customer.tenant.tenant_id;
    let granted = customer.client.grant_credit(tenant, &grant, &key()).await;
    granted.unwrap();
    customer.advance("0h").await;
}

/// What the provider took for an invoice and did not give back, in cents.
fn charged(app: &TestApp, invoice: &Invoice) -> i64 {
    let id = invoice.invoice_id.to_string();
    let charges = app.sandbox.control().charges(&[("invoice", &id)]);
    let paid = charges.iter().filter(|charge| charge.paid);
    paid.map(|charge| charge.amount - charge.amount_refunded)
        .sum()
}

/// The rows of a table of docs/billing.md, by the head of its first column.
fn table(head: &str) -> Vec<[String; 6]> {
    let docs = include_str!("../docs/billing.md");
    let (_, table) = docs.split_once(&format!("| {head} |")).unwrap();
    let rows = table.lines().skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells = line.trim_matches('|').split('|');
        let cells: Vec<String> = cells.map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap()
    };
    rows.map(row).collect()
}

/// A clocked tenant with a card that has bought nothing yet, and a plan of that price.
async fn offered<'a>(
    app: &'a TestApp,
    plan: &str,
    (price, currency): (&str, &str),
) -> Subscriber<'a> {
    let catalog = json!({"plans": {plan: {
        "name": "Docs", "product": "Projects", "interval": "month", "prices": {currency: price},
    }}});
    let publish = for_a_story();
    let published = app.client.publish_catalog(&catalog, &publish, &key()).await;
    published.unwrap();
    let new = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: Some("2027-06-01T00:00:00Z".parse().unwrap()),
        legal_entity: None,
    };
    let tenant = app.client.create_tenant(&new, &key()).await.unwrap();
    let customer = Subscriber {
        client: &app.client,
        clock: tenant.test_clock_id.unwrap(),
        tenant,
        subscription: Uuid::nil(),
    };
    customer.attach("pm_card_visa").await;
    customer
}

async fn buy(customer: &mut Subscriber<'_>, plan: &str, currency: &str) {
    let new = NewSubscription {
        plan: plan.to_owned(),
        currency: currency.to_owned(),
        ..NewSubscription::default()
    };
    let tenant = customer.tenant.tenant_id;
    let made = customer.client.subscribe(tenant, &new, &key()).await;
    customer.subscription = made.unwrap().subscription_id;
    customer.advance("0h").await;
}

/// What became of an invoice, in the words of the tables.
async fn told(app: &TestApp, customer: &Subscriber<'_>, invoice: &Invoice) -> [String; 4] {
    let carried = invoice.carried_over.as_ref().map(|rest| rest.amount);
    let carried = carried.unwrap_or_default();
    let balances = customer.client.credit(customer.tenant.tenant_id).await;
    let balances = balances.unwrap().balances;
    let left = balances.first().map(|balance| balance.amount);
    let currency = &invoice.total.currency;
    let decimals = if currency == "KWD" { 3 } else { 2 };
    let amounts = [
        invoice.balance_applied.amount - carried,
        Decimal::new(charged(app, invoice), decimals),
        carried,
        left.unwrap_or_default(),
    ];
    let places = usize::try_from(decimals).unwrap();
    amounts.map(|amount| format!("{amount:.places$} {currency}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_small_is_carried_over_as_the_docs_say() {
    let app = TestApp::new().await;
    for (price, currency) in [("49.00", "EUR"), ("0.15", "EUR"), ("12.345", "KWD")] {
        let plan = format!("docs-{}", price.replace('.', "-"));
        let mut customer = offered(&app, &plan, (price, currency)).await;
        let rows = table(&format!("{price} {currency} a month"));
        assert!(rows.len() >= 4);
        for (month, row) in rows.iter().enumerate() {
            let granted = money(row[1].split(' ').next().unwrap(), currency);
            if !granted.amount.is_zero() {
                grant_money(&customer, granted).await;
            }
            if month == 0 {
                buy(&mut customer, &plan, currency).await;
            } else {
                customer.advance("31d").await;
            }
            let invoices = customer.invoices().await;
            assert_eq!(invoices.len(), month + 1);
            let invoice = &invoices[month];
            assert_eq!(invoice.status, InvoiceStatus::Paid, "{row:?}");
            assert_eq!(told(&app, &customer, invoice).await, row[2..], "{row:?}");
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_that_is_too_small_to_charge_is_collected_by_the_next_invoice() {
    let app = TestApp::new().await;
    let customer = july(&app).await;
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let small = customer.invoices().await.remove(1);
    assert_eq!(small.status, InvoiceStatus::Paid);
    assert_eq!(small.carried_over, Some(euros("0.30")));
    assert_eq!(small.amount_due, euros("0.00"));
    assert_eq!(charged(&app, &small), 0);
    // Nobody failed to pay.
    let subscription = customer.subscription().await;
    assert_eq!(subscription.status, SubscriptionStatus::Active);
    let mails = customer.mails().await;
    assert!(!mails.contains(&"payment_failed".to_owned()), "{mails:?}");
    let methods = client.list_payment_methods(tenant).await.unwrap();
    assert_eq!(methods.len(), 1);
    // What is bought meanwhile tells that it is collected, before it is done.
    let asked = ChangeSubscription {
        seats: Some(6),
        when: When::Now,
        dry_run: true,
        ..ChangeSubscription::default()
    };
    let id = customer.subscription;
    let preview = client.change_subscription(tenant, id, &asked, &key()).await;
    let preview = preview.unwrap();
    // 30 of 31 days of 9.00.
    assert_eq!(preview.total, euros("8.71"));
    assert_eq!(preview.balance_applied, euros("-0.30"));
    assert_eq!(preview.amount_due, euros("9.01"));
    let words = preview.words(&chrono::Utc).join("\n");
    let says = "0.30 EUR carried over from earlier invoices, 9.01 EUR to be paid";
    assert!(words.contains(says), "{words}");

    customer.advance("31d").await;
    let next = customer.invoices().await.remove(2);
    assert_eq!(next.status, InvoiceStatus::Paid);
    assert_eq!(next.balance_applied, euros("-0.30"));
    assert_eq!(charged(&app, &next), 4930);
    assert_eq!(balance(&customer).await, "0.00");
    for (invoice, told) in [
        (
            &small,
            "Carried over to the next invoice</th><td class=\"amount\">−0.30 EUR",
        ),
        (
            &small,
            "from your balance</th><td class=\"amount\">−48.70 EUR",
        ),
        (
            &next,
            "Carried over from earlier invoices</th><td class=\"amount\">0.30 EUR",
        ),
    ] {
        let page = client.invoice_page(tenant, invoice.invoice_id).await;
        let page = page.unwrap();
        assert!(page.contains(told), "{told} is not in {page}");
    }
    let credit = client.credit(tenant).await.unwrap();
    let reasons: Vec<&str> = credit.entries.iter().map(|one| &*one.reason).collect();
    assert_eq!(reasons, ["collected", "carried_over", "applied", "granted"]);
    app.finish().await;
}

/// Gives an invoice back, all that is left of it or an amount.
async fn give_back(
    customer: &Subscriber<'_>,
    invoice: &Invoice,
    refund: bool,
    amount: Option<&str>,
) -> Result<CreditNote, ClientError> {
    let note = NewCreditNote {
        amount: amount.map(|amount| money(amount, &invoice.total.currency)),
        refund,
        reason: "an outage".to_owned(),
        dry_run: false,
    };
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let of = invoice.invoice_id;
    let given = client.give_credit_note(tenant, of, &note, &key()).await;
    customer.advance("0h").await;
    given
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_carried_over_is_never_refunded_and_what_was_collected_only_once() {
    let app = TestApp::new().await;
    let customer = july(&app).await;
    // No method paid anything of July; as credit all of it comes back, and meets what is owed.
    let small = customer.invoices().await.remove(1);
    let refused = give_back(&customer, &small, true, None).await.unwrap_err();
    let told = refused.to_string();
    assert!(told.contains("0.00 EUR is owed or was paid"), "{told}");
    let given = give_back(&customer, &small, false, None).await.unwrap();
    assert_eq!(given.to_balance, euros("49.00"));
    assert_eq!(balance(&customer).await, "48.70");
    customer.advance("31d").await;
    assert_eq!(balance(&customer).await, "-0.30");

    customer.advance("31d").await;
    let collected = customer.invoices().await.remove(3);
    assert_eq!(charged(&app, &collected), 4930);
    let given = give_back(&customer, &collected, true, None).await.unwrap();
    assert_eq!(given.to_refund, euros("49.00"));
    // What is left paid for August.
    assert_eq!(charged(&app, &collected), 30);
    let refused = give_back(&customer, &collected, true, Some("0.01")).await;
    assert_eq!(refused.unwrap_err().status(), Some(422));
    assert_eq!(balance(&customer).await, "0.00");
    app.finish().await;
}

async fn act(
    customer: &Subscriber<'_>,
    invoice: &Invoice,
    verb: &str,
    dry_run: bool,
) -> InvoiceAct {
    let asked = ActOnInvoice {
        reason: "ticket 19".to_owned(),
        dry_run,
    };
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let of = invoice.invoice_id;
    let done = client
        .act_on_invoice(tenant, of, verb, &asked, &key())
        .await;
    let done = done.unwrap();
    customer.advance("0h").await;
    done
}

/// The invoice of the next month, which collected what was carried over and is not paid.
async fn next_unpaid(customer: &Subscriber<'_>) -> Invoice {
    customer.advance("31d").await;
    let invoice = customer.invoices().await.pop().unwrap();
    assert_eq!(invoice.status, InvoiceStatus::Open);
    assert_eq!(invoice.amount_due, euros("49.30"));
    assert_eq!(balance(customer).await, "0.00");
    assert!(owes(customer).await);
    invoice
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_unpaid_invoice_collected_goes_on_to_the_next_one() {
    let app = app_with(json!({})).await;
    let customer = july(&app).await;
    customer.attach("pm_sandbox_insufficient_funds").await;

    // All of its own is given back: the rest is nobody's debt.
    let unpaid = next_unpaid(&customer).await;
    let given = give_back(&customer, &unpaid, false, None).await.unwrap();
    assert_eq!(given.to_debt, euros("49.00"));
    let settled = customer.invoices().await.pop().unwrap();
    assert_eq!(settled.status, InvoiceStatus::Paid);
    assert_eq!(settled.carried_over, Some(euros("0.30")));
    assert_eq!(balance(&customer).await, "-0.30");
    assert!(!owes(&customer).await);

    let unpaid = next_unpaid(&customer).await;
    let told = act(&customer, &unpaid, "void", true).await;
    assert_eq!(told.dropped, euros("49.00"));
    let words = [
        "49.00 EUR is not owed any more.",
        "0.30 EUR of earlier invoices is left to the next one.",
    ];
    assert_eq!(told.words(), words);
    assert_eq!(
        act(&customer, &unpaid, "void", false).await.dropped,
        told.dropped
    );
    assert_eq!(balance(&customer).await, "-0.30");
    assert!(!owes(&customer).await);

    let unpaid = next_unpaid(&customer).await;
    let told = act(&customer, &unpaid, "write-off", false).await;
    assert_eq!(told.dropped, euros("49.30"));
    assert_eq!(balance(&customer).await, "0.00");
    assert!(!owes(&customer).await);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debt_that_credit_lowers_so_far_ends_with_its_next_attempt() {
    let app = app_with(json!({})).await;
    let customer = june(&app).await;
    customer.attach("pm_sandbox_insufficient_funds").await;
    customer.advance("31d").await;
    grant(&customer, "48.70").await;
    let open = customer.invoices().await.remove(1);
    assert_eq!(open.amount_due, euros("0.30"));
    assert!(owes(&customer).await);
    act(&customer, &open, "collect", false).await;
    let settled = customer.invoices().await.remove(1);
    assert_eq!(settled.status, InvoiceStatus::Paid);
    assert_eq!(settled.carried_over, Some(euros("0.30")));
    assert!(!owes(&customer).await);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_with_nothing_to_pay_collects_nothing() {
    let app = TestApp::new().await;
    let mut customer = offered(&app, "small", ("0.30", "EUR")).await;
    buy(&mut customer, "small", "EUR").await;
    assert_eq!(balance(&customer).await, "-0.30");
    grant(&customer, "0.10").await;
    assert_eq!(balance(&customer).await, "-0.20");
    let catalog = json!({"plans": {"free": {
        "name": "Free", "product": "Projects", "interval": "month", "prices": {"EUR": "0.00"},
    }}});
    let publish = for_a_story();
    let published = app.client.publish_catalog(&catalog, &publish, &key()).await;
    published.unwrap();
    buy(&mut customer, "free", "EUR").await;
    let free = customer.invoices().await.pop().unwrap();
    assert_eq!(
        (free.status, free.total),
        (InvoiceStatus::Paid, euros("0.00"))
    );
    assert_eq!(balance(&customer).await, "-0.20");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_dispute_holds_nothing_for_what_was_collected() {
    let app = app_with(json!({ "disputes": { "lost": "suspend" } })).await;
    let customer = july(&app).await;
    customer.advance("31d").await;
    let collected = customer.invoices().await.remove(2);
    let control = app.sandbox.control();
    let charge = paid_charge(&app, &collected);
    let dispute = control.open_dispute(&charge, "fraudulent", None, false);
    control.close_dispute(&dispute.unwrap(), false).unwrap();
    customer.advance("1d").await;
    assert_eq!(service(&customer).await, Service::Off);
    let given = give_back(&customer, &collected, false, None).await.unwrap();
    assert_eq!(given.to_debt, euros("49.00"));
    assert_eq!(service(&customer).await, Service::On);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_thousandths_whole_hundredths_are_refunded_and_the_rest_is_credit() {
    let app = TestApp::new().await;
    let mut customer = offered(&app, "dinars", ("12.345", "KWD")).await;
    buy(&mut customer, "dinars", "KWD").await;
    let june = customer.invoices().await.remove(0);
    assert_eq!(june.carried_over, Some(money("0.005", "KWD")));
    assert_eq!(charged(&app, &june), 12340);
    let given = give_back(&customer, &june, true, Some("3.333")).await;
    let given = given.unwrap();
    assert_eq!(given.to_refund, money("3.330", "KWD"));
    assert_eq!(given.to_balance, money("0.003", "KWD"));
    assert_eq!(charged(&app, &june), 9010);
    let given = give_back(&customer, &june, true, Some("9.010")).await;
    assert_eq!(given.unwrap().to_refund, money("9.010", "KWD"));
    assert_eq!(charged(&app, &june), 0);
    // With the rest all of it is given back, and what was carried over is owed by nobody.
    assert_eq!(balance(&customer).await, "-0.002");
    let given = give_back(&customer, &june, false, None).await.unwrap();
    assert_eq!(given.to_balance, money("0.002", "KWD"));
    assert_eq!(balance(&customer).await, "0.000");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_charge_waits_for_an_operator_and_not_for_the_customer() {
    let app = TestApp::new().await;
    let mut customer = offered(&app, "fleet", ("1000000.00", "EUR")).await;
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    buy(&mut customer, "fleet", "EUR").await;
    // The ladder of what a customer could pay would have ended.
    customer.advance("25d").await;
    let large = customer.invoices().await.remove(0);
    assert_eq!((large.status, large.attempts), (InvoiceStatus::Open, 1));
    let owed = client.list_debts(tenant).await.unwrap().remove(0);
    let last = owed.last_decline.unwrap();
    assert_eq!((&*last.code, &*last.class), ("amount_too_large", "amount"));
    assert_eq!(owed.unpaid[0].waits_for.as_deref(), Some("operator"));
    assert!(owed.unpaid[0].waits_since.is_some());
    let coming = [owed.next_attempt_at, owed.next_step_at, owed.ends_at];
    assert_eq!(coming, [None; 3]);
    assert_eq!(service(&customer).await, Service::On);
    // Another method would help as little, and is not charged.
    customer.attach("pm_card_mastercard").await;
    customer.advance("1h").await;
    assert_eq!(customer.invoices().await[0].attempts, 1);
    let given = give_back(&customer, &large, false, Some("0.01")).await;
    assert_eq!(given.unwrap().to_debt, euros("0.01"));
    act(&customer, &large, "collect", false).await;
    let paid = customer.invoices().await.remove(0);
    assert_eq!((paid.status, paid.attempts), (InvoiceStatus::Paid, 2));
    assert_eq!(charged(&app, &paid), 99_999_999);
    assert!(!owes(&customer).await);
    // It heard of what it bought and paid, and of no debt.
    let mails = customer.mails().await;
    for told in ["payment_failed", "final_notice", "recovered"] {
        assert!(!mails.contains(&told.to_owned()), "{mails:?}");
    }
    app.finish().await;
}
