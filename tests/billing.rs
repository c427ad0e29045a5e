//! The commercial rules through the public door, on test clocks: changes with their money, pauses,
//! credit, refunds, taxes, coupons, fixed terms, arrears.

use std::collections::BTreeMap;

use tenure_client::{
    CancelSubscription, ChangeSubscription, CreditPolicy, GrantCredit, HoldKind, IdempotencyKey,
    IntentKind, Invoice, InvoiceStatus, LiftHold, Money, MoveAnchor, NewCreditNote,
    NewSubscription, NewTenant, PauseSubscription, PlaceHold, ResumeSubscription, RunFilter,
    SubscriptionAct, SubscriptionStatus, UndoIntent, When,
};
use uuid::Uuid;

use crate::support::app::{Subscriber, TestApp, for_a_story};

mod coupons;
mod trials;

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

fn money(text: &str) -> Money {
    let (amount, currency) = text.split_once(' ').unwrap();
    Money {
        amount: amount.parse().unwrap(),
        currency: currency.to_owned(),
    }
}

/// A clocked tenant in UTC from 1 June 2027, with a card, subscribed as `new` says.
async fn subscribed<'a>(app: &'a TestApp, card: &str, new: NewSubscription) -> Subscriber<'a> {
    let customer = arrived(app, card).await;
    subscribe(customer, new).await
}

async fn arrived<'a>(app: &'a TestApp, card: &str) -> Subscriber<'a> {
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
    customer.attach(card).await;
    customer
}

async fn subscribe<'a>(mut customer: Subscriber<'a>, new: NewSubscription) -> Subscriber<'a> {
    let tenant = customer.tenant.tenant_id;
    let made = customer.client.subscribe(tenant, &new, &key()).await;
    customer.subscription = made.unwrap().subscription_id;
    customer.advance("0h").await;
    customer
}

fn plan(plan: &str) -> NewSubscription {
    NewSubscription {
        plan: plan.to_owned(),
        currency: "EUR".to_owned(),
        ..NewSubscription::default()
    }
}

fn to(plan: &str, when: When) -> ChangeSubscription {
    ChangeSubscription {
        plan: Some(plan.to_owned()),
        when,
        ..ChangeSubscription::default()
    }
}

async fn change(customer: &Subscriber<'_>, asked: &ChangeSubscription) -> SubscriptionAct {
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let sent = customer
        .client
        .change_subscription(tenant, id, asked, &key())
        .await;
    let answer = sent.unwrap();
    customer.advance("0h").await;
    answer
}

/// Reason, total, what credit and balance took, and status of each invoice, oldest first.
fn brief(invoices: &[Invoice]) -> Vec<String> {
    invoices
        .iter()
        .map(|one| {
            let status = format!("{:?}", one.status).to_lowercase();
            let credited = one.credited.amount.normalize();
            let balance = one.balance_applied.amount.normalize();
            format!(
                "{} {} -{credited} -{balance} {status}",
                one.reason, one.total.amount
            )
        })
        .collect()
}

async fn balance(customer: &Subscriber<'_>) -> String {
    let credit = customer
        .client
        .credit(customer.tenant.tenant_id)
        .await
        .unwrap();
    let balance = credit.balances.first();
    balance.map_or("none".to_owned(), |balance| balance.amount.to_string())
}

/// All that reached the provider, in minor units, less what went back.
fn charged(app: &TestApp, customer: &Subscriber<'_>) -> i64 {
    let tenant = customer.tenant.tenant_id.to_string();
    let charges = app.sandbox.control().charges(&[("tenant", &tenant)]);
    let paid = charges.iter().filter(|charge| charge.paid);
    paid.map(|charge| charge.amount - charge.amount_refunded)
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_gives_back_the_rest_and_charges_the_rest_as_its_preview_said() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    customer.advance("10d").await;
    let asked = ChangeSubscription {
        dry_run: true,
        ..to("scale-monthly", When::Now)
    };
    let told = change(&customer, &asked).await;
    // 20 of 30 days of 49.00 back, 20 of 30 days of 199.00 on.
    assert_eq!(told.credits[0].total, money("32.67 EUR"));
    assert_eq!(told.credits[0].to_balance, money("32.67 EUR"));
    assert_eq!(told.total, money("132.67 EUR"));
    assert_eq!(told.amount_due, money("100.00 EUR"));
    assert_eq!(told.signal_id, None);
    assert_eq!(customer.invoices().await.len(), 1);
    let done = change(&customer, &to("scale-monthly", When::Now)).await;
    assert_eq!((done.amount_due, done.lines), (told.amount_due, told.lines));
    let expected = ["cycle 49.00 -0 -0 paid", "change 132.67 -0 -32.67 paid"];
    assert_eq!(brief(&customer.invoices().await), expected);
    assert_eq!(charged(&app, &customer), 4900 + 10000);
    assert_eq!(balance(&customer).await, "0.00");
    // The period goes on, at the new price from the next one on.
    customer.advance("20d").await;
    let last = customer.invoices().await.pop().unwrap();
    assert_eq!(last.total, money("199.00 EUR"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_and_down_on_one_day_costs_nothing() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    customer.advance("13d").await;
    change(&customer, &to("scale-monthly", When::Now)).await;
    change(&customer, &to("team-monthly", When::Now)).await;
    let paid = charged(&app, &customer);
    let credit = app.client.credit(customer.tenant.tenant_id).await.unwrap();
    let left: i64 = (credit.balances[0].amount * rust_decimal::Decimal::ONE_HUNDRED)
        .try_into()
        .unwrap();
    assert_eq!(paid - left, 4900, "{credit:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_waits_for_the_period_and_can_be_taken_back() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("scale-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let told = change(&customer, &to("team-monthly", When::PeriodEnd)).await;
    assert_eq!(told.amount_due, money("49.00 EUR"));
    let shown = app.client.subscription(tenant, id).await.unwrap();
    assert_eq!(shown.intents[0].kind, IntentKind::Change);
    assert_eq!(
        shown.intents[0].at.to_rfc3339(),
        "2027-07-01T00:00:00+00:00"
    );
    assert_eq!(shown.subscription.plan, "scale-monthly");
    let undo = UndoIntent {
        reason: None,
        intent: IntentKind::Change,
    };
    app.client
        .undo_intent(tenant, id, &undo, &key())
        .await
        .unwrap();
    customer.advance("0h").await;
    let again = app.client.undo_intent(tenant, id, &undo, &key()).await;
    assert_eq!(again.unwrap_err().status(), Some(409));
    change(&customer, &to("team-monthly", When::PeriodEnd)).await;
    customer.advance("31d").await;
    let shown = app.client.subscription(tenant, id).await.unwrap();
    assert_eq!(shown.subscription.plan, "team-monthly");
    assert!(shown.intents.is_empty());
    // The set-up fee came once, with the first invoice.
    let expected = ["start 449.00 -0 -0 paid", "cycle 49.00 -0 -0 paid"];
    assert_eq!(brief(&customer.invoices().await), expected);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_and_add_ons_change_alone_and_keep_what_they_were_sold_at() {
    let app = TestApp::new().await;
    let new = NewSubscription {
        seats: Some(7),
        add_ons: BTreeMap::from([("extra-storage".to_owned(), 2)]),
        ..plan("team-monthly")
    };
    let customer = subscribed(&app, "pm_card_visa", new).await;
    assert_eq!(customer.subscription().await.price, money("87.00 EUR"));
    customer.advance("15d").await;
    let more = ChangeSubscription {
        seats: Some(9),
        ..ChangeSubscription::default()
    };
    let told = change(&customer, &more).await;
    // Two seats of 9.00 back for 15 of 30 days, four on; plan and storage are left alone.
    assert_eq!(told.credits[0].total, money("9.00 EUR"));
    assert_eq!(told.total, money("18.00 EUR"));
    assert_eq!(told.lines.len(), 1);
    let none = ChangeSubscription {
        add_ons: Some(BTreeMap::new()),
        when: When::PeriodEnd,
        ..ChangeSubscription::default()
    };
    change(&customer, &none).await;
    customer.advance("16d").await;
    let last = customer.invoices().await.pop().unwrap();
    assert_eq!(last.total, money("85.00 EUR"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_interval_begins_a_period_of_its_own() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    customer.advance("9d").await;
    let told = change(&customer, &to("team-yearly", When::Now)).await;
    assert_eq!(told.credits[0].total, money("34.30 EUR"));
    assert_eq!(told.total, money("490.00 EUR"));
    let found = customer.subscription().await;
    assert_eq!(
        found.period_end.unwrap().to_rfc3339(),
        "2028-06-10T00:00:00+00:00"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_gives_unused_time_back_and_a_resume_charges_the_rest() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    customer.advance("10d").await;
    let pause = PauseSubscription {
        until: Some("2027-06-21T00:00:00Z".parse().unwrap()),
        ..PauseSubscription::default()
    };
    let told = app
        .client
        .pause_subscription(tenant, id, &pause, &key())
        .await
        .unwrap();
    assert_eq!(told.credits[0].to_balance, money("32.67 EUR"));
    customer.advance("0h").await;
    let shown = app.client.subscription(tenant, id).await.unwrap();
    assert_eq!(shown.subscription.status, SubscriptionStatus::Paused);
    assert_eq!(shown.intents[0].kind, IntentKind::Resume);
    assert_eq!(balance(&customer).await, "32.67");
    let twice = app
        .client
        .pause_subscription(tenant, id, &pause, &key())
        .await;
    assert_eq!(twice.unwrap_err().status(), Some(409));
    // It goes on by itself on its day: 10 of 30 days, paid with what was given back.
    customer.advance("12d").await;
    let expected = ["cycle 49.00 -0 -0 paid", "resume 16.33 -0 -16.33 paid"];
    assert_eq!(brief(&customer.invoices().await), expected);
    assert_eq!(balance(&customer).await, "16.34");
    let found = customer.subscription().await;
    assert_eq!(found.status, SubscriptionStatus::Active);
    assert_eq!(
        found.period_end.unwrap().to_rfc3339(),
        "2027-07-01T00:00:00+00:00"
    );
    // The anchor is kept.
    customer.advance("10d").await;
    let last = customer.invoices().await.pop().unwrap();
    assert_eq!(last.period_start.to_rfc3339(), "2027-07-01T00:00:00+00:00");
    assert_eq!(last.balance_applied, money("16.34 EUR"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_without_an_end_lasts_until_somebody_resumes() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let pause = PauseSubscription {
        when: When::PeriodEnd,
        ..PauseSubscription::default()
    };
    app.client
        .pause_subscription(tenant, id, &pause, &key())
        .await
        .unwrap();
    customer.advance("75d").await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Paused
    );
    assert_eq!(customer.invoices().await.len(), 1);
    let resume = ResumeSubscription::default();
    let told = app
        .client
        .resume_subscription(tenant, id, &resume, &key())
        .await
        .unwrap();
    // 15 August: 17 of 31 days.
    assert_eq!(told.total, money("26.87 EUR"));
    customer.advance("0h").await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Active
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_now_gives_back_nothing_credit_or_money() {
    let app = TestApp::new().await;
    for (credit, paid, kept) in [
        (CreditPolicy::None, 4900, "none"),
        (CreditPolicy::Credit, 4900, "32.67"),
        (CreditPolicy::Refund, 1633, "none"),
    ] {
        let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
        let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
        customer.advance("10d").await;
        let cancel = CancelSubscription {
            credit,
            ..CancelSubscription::default()
        };
        app.client
            .cancel_subscription(tenant, id, &cancel, &key())
            .await
            .unwrap();
        customer.advance("0h").await;
        assert_eq!(
            customer.subscription().await.status,
            SubscriptionStatus::Ended
        );
        assert_eq!(charged(&app, &customer), paid, "{credit:?}");
        assert_eq!(balance(&customer).await, kept, "{credit:?}");
        let notes = app.client.list_credit_notes(tenant).await.unwrap();
        assert_eq!(notes.len(), usize::from(credit != CreditPolicy::None));
        if credit == CreditPolicy::Refund {
            assert_eq!(notes[0].refund_status.as_deref(), Some("succeeded"));
            assert_eq!(notes[0].number, "CN-00001");
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_of_an_unpaid_invoice_lowers_the_debt() {
    let app = TestApp::new().await;
    let card = "pm_sandbox_insufficient_funds";
    let customer = subscribed(&app, card, plan("team-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let cancel = CancelSubscription {
        credit: CreditPolicy::Refund,
        ..CancelSubscription::default()
    };
    let told = app
        .client
        .cancel_subscription(tenant, id, &cancel, &key())
        .await
        .unwrap();
    assert_eq!(told.credits[0].to_debt, money("49.00 EUR"));
    customer.advance("1h").await;
    let invoice = customer.invoices().await.remove(0);
    assert_eq!(
        (invoice.status, invoice.amount_due),
        (InvoiceStatus::Paid, money("0.00 EUR"))
    );
    assert_eq!(charged(&app, &customer), 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_anchor_is_bridged() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let asked = MoveAnchor {
        day: 15,
        when: When::PeriodEnd,
        ..MoveAnchor::default()
    };
    app.client
        .move_anchor(tenant, id, &asked, &key())
        .await
        .unwrap();
    customer.advance("45d").await;
    let dates: Vec<String> = customer
        .invoices()
        .await
        .iter()
        .map(|one| {
            format!(
                "{} {} {}",
                one.period_start.date_naive(),
                one.period_end.date_naive(),
                one.total.amount
            )
        })
        .collect();
    // The bridge of 14 days is a part of the 30 days from 15 June.
    assert_eq!(
        dates,
        [
            "2027-06-01 2027-07-01 49.00",
            "2027-07-01 2027-07-15 22.87",
            "2027-07-15 2027-08-15 49.00"
        ]
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_day_of_its_own_begins_with_a_part_of_a_period() {
    let app = TestApp::new().await;
    let new = NewSubscription {
        anchor_day: Some(15),
        ..plan("team-monthly")
    };
    let customer = subscribed(&app, "pm_card_visa", new).await;
    customer.advance("20d").await;
    let totals = customer.invoices().await;
    // 14 of the 31 days from 15 May.
    assert_eq!(
        brief(&totals),
        ["cycle 22.13 -0 -0 paid", "cycle 49.00 -0 -0 paid"]
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrears_are_billed_for_what_was_had_and_a_fixed_term_ends() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("pilot-quarter")).await;
    assert!(customer.invoices().await.is_empty());
    customer.advance("92d").await;
    let expected = ["cycle 29.00 -0 -0 paid"; 3];
    assert_eq!(brief(&customer.invoices().await), expected);
    let ended = customer.subscription().await;
    assert_eq!(ended.status, SubscriptionStatus::Ended);
    assert_eq!(ended.end_reason.as_deref(), Some("expired"));
    assert_eq!(
        ended.ended_at.unwrap().to_rfc3339(),
        "2027-09-01T00:00:00+00:00"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_payment_that_does_not_come_lets_the_subscription_expire() {
    let app = TestApp::new().await;
    let card = "pm_sandbox_insufficient_funds";
    let customer = subscribed(&app, card, plan("scale-monthly")).await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Incomplete
    );
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let refused = app
        .client
        .change_subscription(tenant, id, &to("team-monthly", When::Now), &key())
        .await;
    assert_eq!(refused.unwrap_err().status(), Some(409));
    customer.advance("24h").await;
    let ended = customer.subscription().await;
    assert_eq!(ended.end_reason.as_deref(), Some("incomplete_expired"));
    assert_eq!(customer.invoices().await[0].status, InvoiceStatus::Void);
    // Another card in time, and it begins.
    let second = subscribed(&app, card, plan("scale-monthly")).await;
    second.advance("5h").await;
    second.attach("pm_card_visa").await;
    second.advance("1h").await;
    assert_eq!(
        second.subscription().await.status,
        SubscriptionStatus::Active
    );
    assert_eq!(charged(&app, &second), 44900);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_payment_by_a_bank_is_waited_for_as_long_as_the_bank_weighs_it() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_success_de", plan("scale-monthly")).await;
    customer.advance("30h").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Incomplete);
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let refused = app
        .client
        .change_subscription(tenant, id, &to("team-monthly", When::Now), &key())
        .await;
    assert_eq!(refused.unwrap_err().status(), Some(409), "it is under way");
    customer.advance("5d").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Active);
    assert_eq!(customer.invoices().await[0].status, InvoiceStatus::Paid);
    assert_eq!(charged(&app, &customer), 44900);
    let credit = app.client.credit(tenant).await.unwrap();
    assert!(credit.balances.is_empty(), "{credit:?}");

    // After some days the bank says no; from then there are 23 hours.
    let late = subscribed(&app, "pm_insufficientFunds_de", plan("scale-monthly")).await;
    late.advance("4d").await;
    let mut hours = 0;
    while app
        .client
        .list_debts(late.tenant.tenant_id)
        .await
        .unwrap()
        .is_empty()
    {
        assert!(hours < 48, "the bank has not said no");
        late.advance("1h").await;
        hours += 1;
    }
    late.advance("20h").await;
    assert_eq!(status(&late).await, SubscriptionStatus::Incomplete);
    late.advance("4h").await;
    // The ladder has sent the next debit, which the bank weighs as well: that prolongs nothing.
    assert_eq!(late.invoices().await[0].attempts, 2);
    let ended = late.subscription().await;
    assert_eq!(ended.end_reason.as_deref(), Some("incomplete_expired"));
    late.advance("30d").await;
    assert_eq!(late.invoices().await[0].status, InvoiceStatus::Void);
    assert_eq!(charged(&app, &late), 0);

    let other = subscribed(&app, "pm_insufficientFunds_de", plan("scale-monthly")).await;
    other.advance("5d").await;
    other.advance("6h").await;
    other.attach("pm_card_visa").await;
    other.advance("1h").await;
    assert_eq!(status(&other).await, SubscriptionStatus::Active);
    assert_eq!(charged(&app, &other), 44900);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_goes_back_to_a_method_than_it_paid() {
    let app = TestApp::new().await;
    let customer = arrived(&app, "pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let grant = GrantCredit {
        amount: money("20.00 EUR"),
        reason: "a welcome".to_owned(),
        dry_run: false,
    };
    let granted = app.client.grant_credit(tenant, &grant, &key()).await;
    granted.unwrap();
    let customer = subscribe(customer, plan("team-monthly")).await;
    let invoice = customer.invoices().await.remove(0);
    assert_eq!(charged(&app, &customer), 2900);
    let mut note = NewCreditNote {
        amount: Some(money("29.01 EUR")),
        refund: true,
        reason: "an outage".to_owned(),
        dry_run: false,
    };
    let id = invoice.invoice_id;
    let refused = app.client.give_credit_note(tenant, id, &note, &key()).await;
    let refused = refused.unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!(problem.errors[0].pointer, "/amount");
    let said = &problem.errors[0].detail;
    assert!(said.contains("29.00 EUR is owed or was paid"), "{said}");
    note.amount = Some(money("29.00 EUR"));
    let given = app.client.give_credit_note(tenant, id, &note, &key()).await;
    assert_eq!(given.unwrap().to_refund, money("29.00 EUR"));
    customer.advance("1h").await;
    assert_eq!(charged(&app, &customer), 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_may_lie_ahead_or_back_but_not_before_the_tenant() {
    let app = TestApp::new().await;
    let customer = arrived(&app, "pm_card_visa").await;
    customer.advance("40d").await;
    let tenant = customer.tenant.tenant_id;
    let early = NewSubscription {
        start_at: Some("2027-05-31T00:00:00Z".parse().unwrap()),
        ..plan("team-monthly")
    };
    let refused = app
        .client
        .subscribe(tenant, &early, &key())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("exists since"), "{refused}");
    let back = NewSubscription {
        start_at: Some("2027-06-05T00:00:00Z".parse().unwrap()),
        ..plan("team-monthly")
    };
    let customer = subscribe(customer, back).await;
    assert_eq!(customer.invoices().await.len(), 2);
    let ahead = NewSubscription {
        start_at: Some("2027-08-01T00:00:00Z".parse().unwrap()),
        ..plan("starter-monthly")
    };
    let customer = subscribe(customer, ahead).await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Scheduled
    );
    customer.advance("30d").await;
    assert_eq!(
        customer.subscription().await.status,
        SubscriptionStatus::Trialing
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn support_gives_back_grants_and_takes_back() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    let tenant = customer.tenant.tenant_id;
    let invoice = customer.invoices().await.remove(0);
    let note = |amount: Option<&str>, refund| NewCreditNote {
        dry_run: false,
        amount: amount.map(money),
        refund,
        reason: "an outage".to_owned(),
    };
    let give = async |note: NewCreditNote| {
        app.client
            .give_credit_note(tenant, invoice.invoice_id, &note, &key())
            .await
    };
    for (wrong, says) in [
        (note(Some("49.01 EUR"), false), "at most the 49.00 EUR"),
        (note(Some("1.00 USD"), false), "the invoice is in EUR"),
        (note(Some("0.00 EUR"), true), "above zero"),
    ] {
        let error = give(wrong).await.unwrap_err();
        assert_eq!(error.status(), Some(422));
        assert!(error.to_string().contains(says), "{error}");
    }
    let given = give(note(Some("10.00 EUR"), false)).await.unwrap();
    assert_eq!(given.to_balance, money("10.00 EUR"));
    let given = give(note(Some("30.00 EUR"), true)).await.unwrap();
    assert_eq!(given.to_refund, money("30.00 EUR"));
    customer.advance("0h").await;
    assert_eq!(charged(&app, &customer), 1900);
    let error = give(note(Some("10.00 EUR"), true)).await.unwrap_err();
    assert!(
        error.to_string().contains("at most the 9.00 EUR"),
        "{error}"
    );
    let grant = GrantCredit {
        amount: money("100.00 EUR"),
        reason: "a gift".to_owned(),
        dry_run: false,
    };
    app.client
        .grant_credit(tenant, &grant, &key())
        .await
        .unwrap();
    customer.advance("31d").await;
    // The next invoice is paid with it.
    assert_eq!(
        customer.invoices().await.pop().unwrap().balance_applied,
        money("49.00 EUR")
    );
    assert_eq!(balance(&customer).await, "61.00");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_credit_tells_beforehand_what_it_pays() {
    let app = TestApp::new().await;
    let card = "pm_sandbox_insufficient_funds";
    let customer = subscribed(&app, card, plan("team-monthly")).await;
    let tenant = customer.tenant.tenant_id;
    let invoice = customer.invoices().await.remove(0).invoice_id;
    let grant = |amount: &str, dry_run| GrantCredit {
        amount: money(amount),
        reason: "an outage".to_owned(),
        dry_run,
    };
    let pays = |credit: &tenure_client::Credit| {
        let pays = credit.pays.iter();
        let pays: Vec<_> = pays
            .map(|one| (one.invoice_id, one.amount.to_string()))
            .collect();
        pays
    };
    for (amount, paid, left) in [
        ("20.00 EUR", "20.00", "0.00"),
        ("50.00 EUR", "29.00", "21.00"),
    ] {
        let before = app.client.credit(tenant).await.unwrap();
        let key = key();
        let (tried, asked) = (grant(amount, true), grant(amount, false));
        let told = app.client.grant_credit(tenant, &tried, &key).await.unwrap();
        assert_eq!(pays(&told), [(invoice, format!("{paid} EUR"))]);
        assert_eq!(told.balances, [money(amount)]);
        customer.advance("0h").await;
        let credit = app.client.credit(tenant).await.unwrap();
        assert_eq!(credit, before, "a dry run leaves nothing");
        // Nor does it use up its key.
        let granted = app.client.grant_credit(tenant, &asked, &key).await.unwrap();
        assert_eq!(
            (pays(&granted), &granted.balances),
            (pays(&told), &told.balances)
        );
        customer.advance("0h").await;
        assert_eq!(balance(&customer).await, left);
    }
    assert_eq!(
        brief(&customer.invoices().await),
        ["cycle 49.00 -0 -49 paid"]
    );
    let (nothing, key) = (grant("0.00 EUR", true), key());
    let wrong = app.client.grant_credit(tenant, &nothing, &key).await;
    assert_eq!(wrong.unwrap_err().status(), Some(422));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_what_can_and_changes_nothing() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let client = &app.client;
    let before = client.subscription(tenant, id).await.unwrap();
    let asked = |seats, add_on: Option<(&str, u32)>| ChangeSubscription {
        seats,
        add_ons: add_on.map(|(key, quantity)| BTreeMap::from([(key.to_owned(), quantity)])),
        ..ChangeSubscription::default()
    };
    let cases = [
        (to("team-monthly", When::Now), 409, "is just that already"),
        (to("nowhere", When::Now), 422, "no plan is called"),
        (asked(Some(0), None), 422, "0 seats"),
        (
            asked(None, Some(("extra-storage", 51))),
            422,
            "1 to 50 can be had",
        ),
        (
            asked(None, Some(("nothing", 1))),
            422,
            "no add-on is called",
        ),
        (
            to(
                "scale-monthly",
                When::At("2027-05-01T00:00:00Z".parse().unwrap()),
            ),
            422,
            "is past",
        ),
    ];
    for (asked, status, says) in cases {
        let error = client
            .change_subscription(tenant, id, &asked, &key())
            .await
            .unwrap_err();
        assert_eq!(error.status(), Some(status), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let asked = ResumeSubscription::default();
    let resume = client.resume_subscription(tenant, id, &asked, &key()).await;
    assert!(resume.unwrap_err().to_string().contains("is not paused"));
    let day = MoveAnchor {
        day: 32,
        ..MoveAnchor::default()
    };
    let moved = client
        .move_anchor(tenant, id, &day, &key())
        .await
        .unwrap_err();
    assert_eq!(moved.status(), Some(422));
    let coupon = NewSubscription {
        coupon: Some("nothing".to_owned()),
        ..plan("team-monthly")
    };
    let error = client.subscribe(tenant, &coupon, &key()).await.unwrap_err();
    assert!(error.to_string().contains("no coupon is called"), "{error}");
    customer.advance("0h").await;
    assert_eq!(client.subscription(tenant, id).await.unwrap(), before);
    assert_eq!(customer.invoices().await.len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_work_changes_nothing_of_what_is_owed() {
    let app = TestApp::new().await;
    let acts = async |customer: &Subscriber<'_>| {
        let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
        let at = |text: &str| When::At(format!("{text}T00:00:00Z").parse().unwrap());
        let asked = to("scale-monthly", at("2027-06-12"));
        app.client
            .change_subscription(tenant, id, &asked, &key())
            .await
            .unwrap();
        let pause = PauseSubscription {
            reason: None,
            when: at("2027-07-05"),
            until: Some("2027-08-20T00:00:00Z".parse().unwrap()),
            dry_run: false,
        };
        app.client
            .pause_subscription(tenant, id, &pause, &key())
            .await
            .unwrap();
        customer.advance("0h").await;
    };
    let stepwise = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    acts(&stepwise).await;
    for _ in 0..20 {
        stepwise.advance("5d").await;
    }
    let at_once = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    acts(&at_once).await;
    at_once.advance("100d").await;
    assert_eq!(at_once.ledger().await, stepwise.ledger().await);
    assert_eq!(balance(&at_once).await, balance(&stepwise).await);
    assert_eq!(charged(&app, &at_once), charged(&app, &stepwise));
    assert!(at_once.ledger().await.len() >= 4);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_refuses_changes_and_stops_billing_until_it_is_lifted() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let hold = PlaceHold {
        kind: HoldKind::Fraud,
        subscription_id: None,
        starts_at: None,
        ends_at: None,
        blocks: None,
        reason: "ticket 17".to_owned(),
    };
    let placed = app.client.place_hold(tenant, &hold, &key()).await.unwrap();
    let asked = to("scale-monthly", When::Now);
    let refused = app
        .client
        .change_subscription(tenant, id, &asked, &key())
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.status(), Some(409));
    assert!(refused.to_string().contains("blocks changes"), "{refused}");
    let new = app
        .client
        .subscribe(tenant, &plan("team-monthly"), &key())
        .await;
    assert_eq!(new.unwrap_err().status(), Some(409));
    customer.advance("35d").await;
    assert_eq!(customer.invoices().await.len(), 1);
    let lift = LiftHold {
        reason: "a false alarm".to_owned(),
    };
    let lifted = app
        .client
        .lift_hold(tenant, placed.hold_id, &lift, &key())
        .await;
    lifted.unwrap();
    customer.advance("30d").await;
    let last = customer.invoices().await.pop().unwrap();
    assert_eq!(last.period_start.to_rfc3339(), "2027-08-01T00:00:00+00:00");
    assert_eq!(customer.invoices().await.len(), 2);
    app.finish().await;
}

fn on(day: &str) -> When {
    When::At(format!("{day}T00:00:00Z").parse().unwrap())
}

async fn cancel(customer: &Subscriber<'_>, when: When) {
    let asked = CancelSubscription {
        when,
        ..CancelSubscription::default()
    };
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let sent = customer
        .client
        .cancel_subscription(tenant, id, &asked, &key())
        .await;
    sent.unwrap();
    customer.advance("0h").await;
}

async fn pause(customer: &Subscriber<'_>, when: When) {
    let asked = PauseSubscription {
        when,
        ..PauseSubscription::default()
    };
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let sent = customer
        .client
        .pause_subscription(tenant, id, &asked, &key())
        .await;
    sent.unwrap();
    customer.advance("0h").await;
}

async fn resume(customer: &Subscriber<'_>, when: When) {
    let asked = ResumeSubscription {
        when,
        ..ResumeSubscription::default()
    };
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let sent = customer
        .client
        .resume_subscription(tenant, id, &asked, &key())
        .await;
    sent.unwrap();
    customer.advance("0h").await;
}

async fn status(customer: &Subscriber<'_>) -> SubscriptionStatus {
    customer.subscription().await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_on_the_day_of_a_period_in_arrears_bills_that_period() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("pilot-quarter")).await;
    cancel(&customer, on("2027-07-01")).await;
    customer.advance("31d").await;
    let expected = ["cycle 29.00 -0 -0 paid"];
    assert_eq!(brief(&customer.invoices().await), expected);
    assert_eq!(status(&customer).await, SubscriptionStatus::Ended);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_end_with_the_period_is_met_though_it_is_paused_by_then() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    cancel(&customer, When::PeriodEnd).await;
    customer.advance("10d").await;
    pause(&customer, When::Now).await;
    customer.advance("22d").await;
    let ended = customer.subscription().await;
    assert_eq!(ended.status, SubscriptionStatus::Ended);
    assert_eq!(
        ended.ended_at.unwrap().to_rfc3339(),
        "2027-07-01T00:00:00+00:00"
    );
    assert_eq!(customer.invoices().await.len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_on_a_day_is_kept_before_its_pause_has_begun() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    pause(&customer, on("2027-06-20")).await;
    resume(&customer, on("2027-06-26")).await;
    let shown = app.client.subscription(tenant, id).await.unwrap();
    let kinds: Vec<IntentKind> = shown.intents.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [IntentKind::Pause, IntentKind::Resume]);
    customer.advance("26d").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Active);
    // 5 of 30 days.
    let last = customer.invoices().await.pop().unwrap();
    assert_eq!(last.total, money("8.17 EUR"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_to_go_on_that_met_no_pause_is_not_shown_for_ever() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    pause(&customer, on("2027-06-20")).await;
    resume(&customer, on("2027-06-26")).await;
    let undo = UndoIntent {
        reason: None,
        intent: IntentKind::Pause,
    };
    let undone = app.client.undo_intent(tenant, id, &undo, &key()).await;
    undone.unwrap();
    customer.advance("27d").await;
    let shown = app.client.subscription(tenant, id).await.unwrap();
    assert!(shown.intents.is_empty(), "{:?}", shown.intents);
    assert_eq!(customer.invoices().await.len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_term_that_ran_out_in_a_pause_is_not_billed_again() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("pilot-quarter")).await;
    customer.advance("10d").await;
    pause(&customer, When::Now).await;
    let billed = customer.invoices().await.len();
    customer.advance("95d").await;
    resume(&customer, When::Now).await;
    let ended = customer.subscription().await;
    assert_eq!(ended.end_reason.as_deref(), Some("expired"));
    customer.advance("30d").await;
    assert_eq!(customer.invoices().await.len(), billed);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_credit_note_gave_while_a_payment_was_under_way_is_not_given_twice() {
    let app = TestApp::new().await;
    let card = "pm_sandbox_processing";
    let customer = subscribed(&app, card, plan("scale-monthly")).await;
    let tenant = customer.tenant.tenant_id;
    let invoice = customer.invoices().await.remove(0);
    let note = NewCreditNote {
        dry_run: false,
        amount: Some(money("100.00 EUR")),
        refund: false,
        reason: "a discount".to_owned(),
    };
    let given = app
        .client
        .give_credit_note(tenant, invoice.invoice_id, &note, &key())
        .await
        .unwrap();
    assert_eq!(given.to_debt, money("100.00 EUR"));
    cancel(&customer, When::Now).await;
    let payments = RunFilter {
        workflow: Some("payment".to_owned()),
        tenant_id: Some(tenant),
        ..RunFilter::default()
    };
    let mut runs = app.client.list_runs(&payments).await.unwrap().items;
    let steps = app.client.list_steps(runs.remove(0).run_id).await.unwrap();
    let charge = steps.iter().find(|step| step.name == "charge").unwrap();
    let intent = &charge.answer.as_ref().unwrap()["processing"]["intent"];
    let control = app.sandbox.control();
    control
        .settle_payment(intent.as_str().unwrap(), None)
        .unwrap();
    customer.advance("1h").await;
    // 449.00 was paid, and nothing had.
    assert_eq!(charged(&app, &customer), 44900);
    assert_eq!(balance(&customer).await, "449.00");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_term_is_its_plans_and_goes_and_comes_with_it() {
    let app = TestApp::new().await;
    // From a pilot to an open end, with the end of its last month.
    let customer = subscribed(&app, "pm_card_visa", plan("pilot-quarter")).await;
    customer.advance("80d").await;
    change(&customer, &to("team-monthly", When::PeriodEnd)).await;
    customer.advance("45d").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Active);
    assert_eq!(customer.subscription().await.term_ends_at, None);
    // And from an open end to a pilot, which is over after three months.
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    customer.advance("9d").await;
    change(&customer, &to("pilot-quarter", When::Now)).await;
    customer.advance("95d").await;
    let ended = customer.subscription().await;
    assert_eq!(ended.end_reason.as_deref(), Some("expired"));
    assert_eq!(
        ended.ended_at.unwrap().to_rfc3339(),
        "2027-09-10T00:00:00+00:00"
    );
    app.finish().await;
}

/// Places a hold that blocks billing and nothing else.
async fn hold_billing(customer: &Subscriber<'_>, ends_at: Option<&str>) -> Uuid {
    hold_billing_as(customer, HoldKind::Legal, ends_at).await
}

async fn hold_billing_as(customer: &Subscriber<'_>, kind: HoldKind, ends_at: Option<&str>) -> Uuid {
    let hold = PlaceHold {
        kind,
        subscription_id: Some(customer.subscription),
        starts_at: None,
        ends_at: ends_at.map(|at| at.parse().unwrap()),
        blocks: Some(tenure_client::HoldBlocks {
            changes: false,
            access: false,
            billing: true,
        }),
        reason: "ticket 19".to_owned(),
    };
    let tenant = customer.tenant.tenant_id;
    let placed = customer.client.place_hold(tenant, &hold, &key()).await;
    placed.unwrap().hold_id
}

#[tokio::test(flavor = "multi_thread")]
async fn while_billing_is_held_a_change_moves_no_money() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    hold_billing(&customer, Some("2027-06-20T00:00:00Z")).await;
    customer.advance("10d").await;
    let told = change(&customer, &to("scale-monthly", When::Now)).await;
    assert_eq!(told.amount_due, money("0.00 EUR"));
    assert!(told.credits.is_empty() && told.lines.is_empty());
    assert_eq!(customer.subscription().await.plan, "scale-monthly");
    assert_eq!(customer.invoices().await.len(), 1);
    assert_eq!(balance(&customer).await, "none");
    customer.advance("20d").await;
    let last = customer.invoices().await.pop().unwrap();
    assert_eq!(last.total, money("199.00 EUR"), "from the next period on");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_billing_is_held_a_resume_is_not_charged() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    customer.advance("10d").await;
    pause(&customer, When::Now).await;
    hold_billing(&customer, Some("2027-06-25T00:00:00Z")).await;
    customer.advance("5d").await;
    resume(&customer, When::Now).await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Active);
    assert_eq!(customer.invoices().await.len(), 1);
    customer.advance("15d").await;
    assert_eq!(customer.invoices().await.len(), 2);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn days_on_which_billing_was_held_are_left_out_of_a_period_in_arrears() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("pilot-quarter")).await;
    customer.advance("10d").await;
    hold_billing(&customer, Some("2027-06-21T00:00:00Z")).await;
    customer.advance("20d").await;
    let june = customer.invoices().await.remove(0);
    // Twice 10 of 30 days of 29.00, each rounded.
    assert_eq!(june.total, money("19.34 EUR"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_change_waits_until_the_first_is_made() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let seats = ChangeSubscription {
        seats: Some(9),
        when: When::PeriodEnd,
        ..ChangeSubscription::default()
    };
    let storage = ChangeSubscription {
        add_ons: Some(BTreeMap::from([("extra-storage".to_owned(), 2)])),
        when: When::PeriodEnd,
        ..ChangeSubscription::default()
    };
    // Held by hand, the run reads nothing: the first change stays unread.
    let filter = RunFilter {
        workflow: Some("subscription".to_owned()),
        tenant_id: Some(tenant),
        ..RunFilter::default()
    };
    let run = app.client.list_runs(&filter).await.unwrap().items.remove(0);
    app.act_on_run(run.run_id, "pause").await;
    let once = key();
    let first = app.client.change_subscription(tenant, id, &seats, &once);
    first.await.unwrap();
    let once = key();
    let second = app.client.change_subscription(tenant, id, &storage, &once);
    let second = second.await.unwrap_err();
    assert_eq!(second.status(), Some(409));
    assert!(second.to_string().contains("another change"), "{second}");
    app.act_on_run(run.run_id, "resume").await;
    customer.advance("0h").await;
    let shown = app.client.subscription(tenant, id).await.unwrap();
    assert_eq!(shown.intents.len(), 1, "the first is made");
    app.client
        .change_subscription(tenant, id, &storage, &key())
        .await
        .unwrap();
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_made_now_leaves_a_wish_to_end() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    cancel(&customer, When::PeriodEnd).await;
    change(&customer, &to("scale-monthly", When::Now)).await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Ending);
    customer.advance("30d").await;
    assert_eq!(status(&customer).await, SubscriptionStatus::Ended);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_term_ends_on_its_day_though_the_anchor_was_moved() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("pilot-quarter")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    customer.advance("5d").await;
    let asked = MoveAnchor {
        day: 16,
        when: When::Now,
        dry_run: false,
        reason: None,
    };
    app.client
        .move_anchor(tenant, id, &asked, &key())
        .await
        .unwrap();
    customer.advance("100d").await;
    let ended = customer.subscription().await;
    assert_eq!(ended.end_reason.as_deref(), Some("expired"));
    assert_eq!(
        ended.ended_at.unwrap().to_rfc3339(),
        "2027-09-01T00:00:00+00:00"
    );
    // The last part: 16 of the 31 days from 16 August on.
    let last = customer.invoices().await.pop().unwrap();
    assert_eq!(last.total, money("14.97 EUR"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_a_person_placed_as_a_hold_stops_billing_as_any_hold_does() {
    let app = TestApp::new().await;
    let kind = HoldKind::CustomerPause;
    let customer = subscribed(&app, "pm_card_visa", plan("pilot-quarter")).await;
    customer.advance("10d").await;
    hold_billing_as(&customer, kind, Some("2027-06-21T00:00:00Z")).await;
    customer.advance("20d").await;
    let june = customer.invoices().await.remove(0);
    assert_eq!(june.total, money("19.34 EUR"));
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    hold_billing_as(&customer, kind, Some("2027-06-20T00:00:00Z")).await;
    customer.advance("5d").await;
    let told = change(&customer, &to("scale-monthly", When::Now)).await;
    assert!(told.credits.is_empty() && told.lines.is_empty());
    pause(&customer, When::Now).await;
    customer.advance("2d").await;
    resume(&customer, When::Now).await;
    assert_eq!(customer.invoices().await.len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_of_the_anchor_that_falls_into_a_pause_comes_with_the_next_end() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let asked = MoveAnchor {
        day: 15,
        when: on("2027-06-20"),
        ..MoveAnchor::default()
    };
    let sent = app.client.move_anchor(tenant, id, &asked, &key()).await;
    sent.unwrap();
    customer.advance("10d").await;
    pause(&customer, When::Now).await;
    customer.advance("15d").await;
    let shown = app.client.subscription(tenant, id).await.unwrap();
    assert_eq!(shown.intents[0].kind, IntentKind::MoveAnchor);
    resume(&customer, When::Now).await;
    let shown = app.client.subscription(tenant, id).await.unwrap();
    assert_eq!(
        shown.intents[0].at.to_rfc3339(),
        "2027-07-01T00:00:00+00:00"
    );
    customer.advance("6d").await;
    let found = customer.subscription().await;
    assert_eq!(
        found.period_end.unwrap().to_rfc3339(),
        "2027-07-15T00:00:00+00:00"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_wish() {
    let app = TestApp::new().await;
    let customer = arrived(&app, "pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let named = NewSubscription {
        key: Some("order-7".to_owned()),
        seats: Some(6),
        ..plan("team-monthly")
    };
    let first = app.client.subscribe(tenant, &named, &key()).await.unwrap();
    let again = app.client.subscribe(tenant, &named, &key()).await.unwrap();
    assert_eq!(again.subscription_id, first.subscription_id);
    let others = [
        NewSubscription {
            seats: Some(7),
            ..named.clone()
        },
        NewSubscription {
            add_ons: BTreeMap::from([("extra-storage".to_owned(), 1)]),
            ..named.clone()
        },
        NewSubscription {
            coupon: Some("five-off".to_owned()),
            ..named.clone()
        },
        NewSubscription {
            plan: "scale-monthly".to_owned(),
            seats: None,
            ..named.clone()
        },
    ];
    for other in others {
        let refused = app.client.subscribe(tenant, &other, &key()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.status(), Some(409), "{other:?}");
        assert!(refused.to_string().contains("order-7"), "{refused}");
    }
    // What became of it since is no matter of the key.
    let mut customer = customer;
    customer.subscription = first.subscription_id;
    customer.advance("0h").await;
    change(&customer, &to("scale-monthly", When::Now)).await;
    let again = app.client.subscribe(tenant, &named, &key()).await.unwrap();
    assert_eq!(again.subscription_id, first.subscription_id);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_not_cancelled_again() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("team-monthly")).await;
    cancel(&customer, When::Now).await;
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let asked = CancelSubscription::default();
    let key = key();
    let again = app.client.cancel_subscription(tenant, id, &asked, &key);
    let again = again.await.unwrap_err();
    assert_eq!(again.status(), Some(409));
    assert!(again.to_string().contains("start a new one"), "{again}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_keeps_its_version_until_it_is_moved() {
    let app = TestApp::new().await;
    let customer = subscribed(&app, "pm_card_visa", plan("starter-monthly")).await;
    let newest = |when| ChangeSubscription {
        newest: true,
        when,
        ..ChangeSubscription::default()
    };
    let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
    let asked = newest(When::Now);
    let fresh = key();
    let refused = app.client.change_subscription(tenant, id, &asked, &fresh);
    let refused = refused.await.unwrap_err();
    assert!(refused.to_string().contains("just that"), "{refused}");
    let catalog = serde_json::json!({"plans": {"starter-monthly": {
        "name": "Starter, monthly", "product": "Projects", "interval": "month",
        "prices": {"EUR": "25.00"}, "features": {"projects": 20},
    }}});
    let publish = for_a_story();
    let published = app.client.publish_catalog(&catalog, &publish, &key()).await;
    published.unwrap();
    customer.advance("14d").await;
    assert_eq!(customer.invoices().await[0].total, money("19.00 EUR"));
    let told = change(&customer, &newest(When::PeriodEnd)).await;
    assert_eq!(told.total, money("25.00 EUR"));
    customer.advance("30d").await;
    assert_eq!(customer.invoices().await[1].total, money("25.00 EUR"));
    let projects = app.client.entitlement(tenant, "projects").await.unwrap();
    assert_eq!(projects.entitlement.value, 20);
    app.finish().await;
}
