//! What is foretold is what is done: a dry run tells the lines and the amounts of what comes about, on
//! whatever day that is.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use tenure_client::{
    CancelSubscription, ChangeSubscription, ChangeTax, ClientError, CreditPolicy, GrantCredit,
    IdempotencyKey, Invoice, InvoiceLine, Money, MoveAnchor, NewSubscription, NewTenant,
    PauseSubscription, ResumeSubscription, SubscriptionAct, TaxRate, When,
};
use uuid::Uuid;

use crate::support::app::{Subscriber, TestApp, for_a_story};

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

fn at(day: &str) -> DateTime<Utc> {
    format!("{day}T00:00:00Z").parse().unwrap()
}

fn on(day: &str) -> When {
    When::At(at(day))
}

/// What may be asked of a subscription.
#[derive(Debug, Clone, Copy)]
enum Does {
    To(&'static str),
    Seats(u32),
    Storage(u32),
    Cancel(CreditPolicy),
    Pause(Option<&'static str>),
    Resume,
    Anchor(u32),
}

/// What is asked for on which day.
type Asked = (&'static str, Does, When);

impl Does {
    async fn ask(
        self,
        customer: &Subscriber<'_>,
        when: When,
        dry_run: bool,
    ) -> Result<SubscriptionAct, ClientError> {
        let (client, key) = (customer.client, key());
        let (tenant, id) = (customer.tenant.tenant_id, customer.subscription);
        let change = ChangeSubscription {
            when,
            dry_run,
            ..ChangeSubscription::default()
        };
        match self {
            Self::To(plan) => {
                let plan = Some(plan.to_owned());
                let asked = ChangeSubscription { plan, ..change };
                client.change_subscription(tenant, id, &asked, &key).await
            }
            Self::Seats(seats) => {
                let seats = Some(seats);
                let asked = ChangeSubscription { seats, ..change };
                client.change_subscription(tenant, id, &asked, &key).await
            }
            Self::Storage(many) => {
                let add_ons = Some(BTreeMap::from([("extra-storage".to_owned(), many)]));
                let asked = ChangeSubscription { add_ons, ..change };
                client.change_subscription(tenant, id, &asked, &key).await
            }
            Self::Cancel(credit) => {
                let asked = CancelSubscription {
                    credit,
                    when,
                    dry_run,
                    reason: None,
                };
                client.cancel_subscription(tenant, id, &asked, &key).await
            }
            Self::Pause(until) => {
                let asked = PauseSubscription {
                    until: until.map(at),
                    when,
                    dry_run,
                    reason: None,
                };
                client.pause_subscription(tenant, id, &asked, &key).await
            }
            Self::Resume => {
                let asked = ResumeSubscription {
                    when,
                    dry_run,
                    reason: None,
                };
                client.resume_subscription(tenant, id, &asked, &key).await
            }
            Self::Anchor(day) => {
                let asked = MoveAnchor {
                    day,
                    when,
                    dry_run,
                    reason: None,
                };
                client.move_anchor(tenant, id, &asked, &key).await
            }
        }
    }
}

/// A clocked tenant in UTC from 1 June 2027, with a card, subscribed as `new` says.
async fn subscribed<'a>(app: &'a TestApp, new: &NewSubscription, taxed: bool) -> Subscriber<'a> {
    let mut customer = arrived(app, taxed).await;
    let tenant = customer.tenant.tenant_id;
    let made = app.client.subscribe(tenant, new, &key()).await.unwrap();
    customer.subscription = made.subscription_id;
    customer.advance("0h").await;
    customer
}

/// A clocked tenant in UTC from 1 June 2027, with a card.
async fn arrived(app: &TestApp, taxed: bool) -> Subscriber<'_> {
    let tenant = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: Some(at("2027-06-01")),
        legal_entity: None,
    };
    let tenant = app.client.create_tenant(&tenant, &key()).await.unwrap();
    let customer = Subscriber {
        client: &app.client,
        clock: tenant.test_clock_id.unwrap(),
        tenant,
        subscription: Uuid::nil(),
    };
    customer.attach("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    if taxed {
        let tax = TaxRate {
            name: "VAT".to_owned(),
            percent: Decimal::from(19),
            inclusive: false,
        };
        let change = ChangeTax {
            tax: Some(tax),
            reason: Some("registered".to_owned()),
            dry_run: false,
        };
        app.client
            .change_tax(tenant, &change, &key())
            .await
            .unwrap();
    }
    customer
}

fn line(line: &InvoiceLine) -> String {
    format!(
        "{} x{} at {} {}/{} {} -{} ={} +{} {:?}..{:?}",
        line.item,
        line.quantity.normalize(),
        line.unit_price,
        line.units,
        line.units_of,
        line.subtotal,
        line.discount,
        line.amount,
        line.tax,
        line.period_start,
        line.period_end
    )
}

/// What was told beforehand.
fn foretold(told: &SubscriptionAct) -> Vec<String> {
    let mut all: Vec<String> = told.lines.iter().map(line).collect();
    all.extend(told.credits.iter().map(|one| {
        let (debt, balance, refund) = (&one.to_debt, &one.to_balance, &one.to_refund);
        format!(
            "back {} tax {} {debt} {balance} {refund}",
            one.total, one.tax
        )
    }));
    all.sort();
    let sums = [
        &told.tax,
        &told.total,
        &told.balance_applied,
        &told.amount_due,
    ];
    all.push(format!("{:?}", sums.map(|one| one.amount.normalize())));
    all
}

/// The invoices and credit notes of a tenant, by which it is seen what came since.
async fn seen(customer: &Subscriber<'_>) -> (Vec<Invoice>, Vec<tenure_client::CreditNote>) {
    let tenant = customer.tenant.tenant_id;
    let notes = customer.client.list_credit_notes(tenant).await.unwrap();
    (customer.invoices().await, notes)
}

/// What was done since.
async fn done(
    customer: &Subscriber<'_>,
    before: &(Vec<Invoice>, Vec<tenure_client::CreditNote>),
) -> Vec<String> {
    let tenant = customer.tenant.tenant_id;
    let (invoices, notes) = seen(customer).await;
    let known = |id: Uuid| before.0.iter().any(|one| one.invoice_id == id);
    let mut all = Vec::new();
    let mut sums = [Decimal::ZERO; 4];
    for invoice in invoices.iter().filter(|one| !known(one.invoice_id)) {
        let detail = customer.client.invoice(tenant, invoice.invoice_id).await;
        all.extend(detail.unwrap().lines.iter().map(line));
        let paid = invoice.total.amount - invoice.balance_applied.amount;
        let of = [
            invoice.tax.amount,
            invoice.total.amount,
            invoice.balance_applied.amount,
            paid,
        ];
        for (sum, one) in sums.iter_mut().zip(of) {
            *sum += one;
        }
    }
    let known = |id: Uuid| before.1.iter().any(|one| one.credit_note_id == id);
    for note in notes.iter().filter(|one| !known(one.credit_note_id)) {
        let (debt, balance, refund) = (&note.to_debt, &note.to_balance, &note.to_refund);
        all.push(format!(
            "back {} tax {} {debt} {balance} {refund}",
            note.total, note.tax
        ));
    }
    all.sort();
    all.push(format!("{:?}", sums.map(|one| one.normalize())));
    all
}

/// A life: what it is subscribed to, what was asked for before, and what is foretold.
#[derive(Clone)]
struct Life {
    plan: &'static str,
    coupon: Option<&'static str>,
    before: Vec<Asked>,
    asks: Asked,
}

fn life(plan: &'static str, before: Vec<Asked>, asks: Asked) -> Life {
    Life {
        plan,
        coupon: None,
        before,
        asks,
    }
}

fn with(coupon: &'static str, life: Life) -> Life {
    Life {
        coupon: Some(coupon),
        ..life
    }
}

/// Plays a life, and compares what was told of its last act with what it came to.
async fn play(app: &TestApp, life: Life, taxed: bool) -> Vec<String> {
    let Life {
        plan,
        coupon,
        before,
        asks: (day, does, when),
    } = life;
    let what = format!("{plan} {coupon:?} {before:?}, on {day} {does:?} {when:?}");
    let new = NewSubscription {
        plan: plan.to_owned(),
        currency: "EUR".to_owned(),
        coupon: coupon.map(str::to_owned),
        ..NewSubscription::default()
    };
    let customer = subscribed(app, &new, taxed).await;
    for (day, does, when) in before {
        customer.advance_to(at(day)).await;
        does.ask(&customer, when, false).await.unwrap();
        customer.advance("0h").await;
    }
    customer.advance_to(at(day)).await;
    let told = does.ask(&customer, when, true).await.unwrap();
    let now = customer.now().await;
    let mut before = seen(&customer).await;
    let asked = does.ask(&customer, when, false).await.unwrap();
    assert_eq!(foretold(&asked), foretold(&told), "{what}");
    customer.advance("0h").await;
    if told.at > now {
        customer.advance_to(told.at - TimeDelta::seconds(1)).await;
        before = seen(&customer).await;
        customer.advance_to(told.at).await;
    }
    let (told, done) = (foretold(&told), done(&customer, &before).await);
    assert_eq!(told, done, "{what}");
    told
}

const NOW: When = When::Now;
const END: When = When::PeriodEnd;

/// Plans with a trial of a week, free and paid, and a set-up fee, and one in arrears that goes on.
async fn publish(app: &TestApp) {
    let catalog = serde_json::json!({"plans": {
        "tried": {
            "name": "Tried", "product": "Projects", "interval": "month", "trial": {"days": 7},
            "prices": {"EUR": "30.00"}, "setup_fee": {"EUR": "12.00"},
        },
        "paid-trial": {
            "name": "Paid", "product": "Projects", "interval": "month",
            "trial": {"days": 7, "prices": {"EUR": "1.00"}},
            "prices": {"EUR": "30.00"}, "setup_fee": {"EUR": "12.00"},
        },
        "used": {
            "name": "Used", "product": "Projects", "interval": "month", "billing": "in_arrears",
            "prices": {"EUR": "29.99"}, "setup_fee": {"EUR": "7.00"},
        },
    }});
    let publish = for_a_story();
    app.client
        .publish_catalog(&catalog, &publish, &key())
        .await
        .unwrap();
}

fn beyond_the_period() -> Vec<Life> {
    use Does::{Anchor, Cancel, Pause, To};
    let none = CreditPolicy::None;
    let credit = CreditPolicy::Credit;
    let refund = CreditPolicy::Refund;
    vec![
        life(
            "team-monthly",
            vec![],
            ("2027-06-01", To("scale-monthly"), on("2027-07-15")),
        ),
        life(
            "team-monthly",
            vec![],
            ("2027-06-01", To("team-yearly"), on("2027-08-20")),
        ),
        life(
            "team-monthly",
            vec![],
            ("2027-06-03", Cancel(credit), on("2027-07-09")),
        ),
        life(
            "team-monthly",
            vec![],
            ("2027-06-03", Cancel(refund), on("2027-08-09")),
        ),
        life(
            "paid-trial",
            vec![],
            ("2027-06-03", Cancel(credit), on("2027-06-20")),
        ),
        life(
            "team-monthly",
            vec![],
            ("2027-06-03", Cancel(none), on("2027-07-09")),
        ),
        life(
            "team-monthly",
            vec![],
            ("2027-06-03", Pause(None), on("2027-07-20")),
        ),
        life(
            "team-monthly",
            vec![],
            ("2027-06-03", Anchor(15), on("2027-07-20")),
        ),
        life(
            "used",
            vec![],
            ("2027-06-03", Cancel(none), on("2027-07-11")),
        ),
        life(
            "used",
            vec![],
            ("2027-06-03", To("team-monthly"), on("2027-07-11")),
        ),
        life(
            "starter-monthly",
            vec![],
            ("2027-06-03", To("team-monthly"), on("2027-07-11")),
        ),
    ]
}

fn beyond_the_period_with_a_coupon() -> Vec<Life> {
    use Does::{Seats, Storage};
    vec![
        with(
            "five-off",
            life(
                "team-monthly",
                vec![],
                ("2027-06-01", Seats(9), on("2027-07-15")),
            ),
        ),
        with(
            "welcome-20",
            life(
                "team-monthly",
                vec![],
                ("2027-06-01", Storage(3), on("2027-09-15")),
            ),
        ),
    ]
}

fn after_another() -> Vec<Life> {
    use Does::{Cancel, Pause, To};
    let credit = CreditPolicy::Credit;
    vec![
        life(
            "team-monthly",
            vec![("2027-06-02", To("scale-monthly"), on("2027-06-20"))],
            ("2027-06-05", Cancel(credit), on("2027-07-10")),
        ),
        life(
            "team-monthly",
            vec![("2027-06-02", Pause(Some("2027-07-05")), on("2027-06-20"))],
            ("2027-06-05", To("scale-monthly"), on("2027-07-10")),
        ),
    ]
}

fn after_a_pause() -> Vec<Life> {
    use Does::{Pause, Resume};
    vec![
        life(
            "paid-trial",
            vec![("2027-06-03", Pause(None), NOW)],
            ("2027-06-05", Resume, on("2027-06-20")),
        ),
        life(
            "tried",
            vec![("2027-06-03", Pause(None), NOW)],
            ("2027-06-05", Resume, NOW),
        ),
        life(
            "tried",
            vec![("2027-06-03", Pause(None), NOW)],
            ("2027-06-20", Resume, NOW),
        ),
        life(
            "tried",
            vec![("2027-06-03", Pause(None), NOW)],
            ("2027-06-04", Resume, on("2027-06-20")),
        ),
        with(
            "five-off",
            life(
                "team-monthly",
                vec![("2027-06-10", Pause(None), NOW)],
                ("2027-07-20", Resume, NOW),
            ),
        ),
        with(
            "five-off",
            life(
                "team-monthly",
                vec![("2027-06-10", Pause(None), NOW)],
                ("2027-06-21", Resume, NOW),
            ),
        ),
        life(
            "pilot-quarter",
            vec![("2027-06-10", Pause(None), NOW)],
            ("2027-09-20", Resume, NOW),
        ),
    ]
}

fn with_the_period() -> Vec<Life> {
    use Does::{Anchor, Cancel, Pause, To};
    let none = CreditPolicy::None;
    vec![
        with(
            "five-off",
            life("team-monthly", vec![], ("2027-06-10", Anchor(15), END)),
        ),
        with(
            "five-off",
            life(
                "team-monthly",
                vec![],
                ("2027-06-10", To("scale-monthly"), END),
            ),
        ),
        life("used", vec![], ("2027-06-10", To("team-monthly"), END)),
        life("used", vec![], ("2027-06-10", Cancel(none), END)),
        life("used", vec![], ("2027-06-10", Pause(None), END)),
        life("tried", vec![], ("2027-06-03", Pause(None), END)),
        life("paid-trial", vec![], ("2027-06-03", Pause(None), END)),
        life(
            "paid-trial",
            vec![("2027-06-02", To("team-monthly"), NOW)],
            ("2027-06-03", To("scale-monthly"), END),
        ),
        life("tried", vec![], ("2027-06-03", To("team-monthly"), END)),
    ]
}

fn later() -> Vec<Life> {
    [
        beyond_the_period(),
        beyond_the_period_with_a_coupon(),
        after_another(),
        after_a_pause(),
        with_the_period(),
    ]
    .concat()
}

fn at_once() -> Vec<Life> {
    use Does::{Anchor, Cancel, Pause, Seats, To};
    let credit = CreditPolicy::Credit;
    let mut all = Vec::new();
    for day in ["2027-06-01", "2027-06-11", "2027-06-30", "2027-07-01"] {
        for does in [
            To("scale-monthly"),
            To("team-yearly"),
            Seats(8),
            Cancel(credit),
            Pause(None),
            Anchor(20),
        ] {
            all.push(with(
                "five-off",
                life("team-monthly", vec![], (day, does, NOW)),
            ));
        }
    }
    all.push(life(
        "used",
        vec![],
        ("2027-06-20", To("team-monthly"), NOW),
    ));
    all.push(life("used", vec![], ("2027-06-20", Anchor(5), NOW)));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_what_is_to_come_tells_what_it_comes_to() {
    let app = TestApp::new().await;
    publish(&app).await;
    for (turn, life) in later().into_iter().enumerate() {
        play(&app, life, turn % 2 == 1).await;
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_what_is_done_at_once_tells_what_it_comes_to() {
    let app = TestApp::new().await;
    publish(&app).await;
    for (turn, life) in at_once().into_iter().enumerate() {
        play(&app, life, turn % 2 == 0).await;
    }
    app.finish().await;
}

/// What is subscribed to on 20 August, and when it begins.
fn beginnings() -> Vec<NewSubscription> {
    let plain = |plan: &str, start: Option<&str>| NewSubscription {
        plan: plan.to_owned(),
        currency: "EUR".to_owned(),
        start_at: start.map(at),
        ..NewSubscription::default()
    };
    let coupon = Some("five-off".to_owned());
    let more = NewSubscription {
        seats: Some(9),
        add_ons: BTreeMap::from([("extra-storage".to_owned(), 2)]),
        coupon: coupon.clone(),
        ..plain("team-monthly", None)
    };
    vec![
        plain("team-monthly", None),
        NewSubscription {
            start_at: Some(at("2027-06-10")),
            ..more.clone()
        },
        more,
        NewSubscription {
            anchor_day: Some(5),
            ..plain("team-monthly", None)
        },
        plain("team-monthly", Some("2027-06-25")),
        plain("team-monthly", Some("2027-09-10")),
        plain("scale-monthly", None),
        plain("starter-monthly", None),
        plain("tried", Some("2027-08-01")),
        plain("paid-trial", None),
        plain("paid-trial", Some("2027-09-10")),
        NewSubscription {
            coupon,
            ..plain("paid-trial", Some("2027-07-01"))
        },
        plain("used", None),
        plain("used", Some("2027-06-10")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_subscription_tells_what_it_comes_to_and_leaves_nothing() {
    let app = TestApp::new().await;
    publish(&app).await;
    for (turn, new) in beginnings().into_iter().enumerate() {
        let mut customer = arrived(&app, turn % 2 == 1).await;
        let tenant = customer.tenant.tenant_id;
        customer.advance_to(at("2027-08-20")).await;
        let amount = Money {
            amount: Decimal::from(20),
            currency: "EUR".to_owned(),
        };
        let grant = GrantCredit {
            amount,
            reason: "a welcome".to_owned(),
            dry_run: false,
        };
        let granted = app.client.grant_credit(tenant, &grant, &key()).await;
        granted.unwrap();
        let (what, key) = (format!("{new:?}"), key());
        let told = app.client.preview_subscription(tenant, &new, &key).await;
        let told = told.unwrap();
        assert_eq!((told.run_id, &told.signal_id), (None, &None));
        assert_eq!(told.at, new.start_at.unwrap_or(at("2027-08-20")), "{what}");
        customer.advance("0h").await;
        let stands = app.client.list_subscriptions(tenant).await.unwrap();
        assert!(stands.is_empty(), "a dry run makes none");
        let before = seen(&customer).await;
        assert!(before.0.is_empty(), "a dry run bills nothing");
        // Nor does it use up its key.
        let made = app.client.subscribe(tenant, &new, &key).await.unwrap();
        assert_eq!(made.price, told.price, "{what}");
        customer.subscription = made.subscription_id;
        customer.advance("0h").await;
        if told.at > customer.now().await {
            assert!(seen(&customer).await.0.is_empty(), "{what}");
            customer.advance_to(told.at).await;
        }
        assert_eq!(foretold(&told), done(&customer, &before).await, "{what}");
        let stands = customer.subscription().await;
        let period = (stands.period_start, stands.period_end);
        assert_eq!((told.period_start, told.period_end), period, "{what}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_subscription_is_refused_as_it_would_be() {
    let app = TestApp::new().await;
    let customer = arrived(&app, false).await;
    let tenant = customer.tenant.tenant_id;
    let new = NewSubscription {
        plan: "team-monthly".to_owned(),
        currency: "EUR".to_owned(),
        key: Some("first".to_owned()),
        ..NewSubscription::default()
    };
    app.client.subscribe(tenant, &new, &key()).await.unwrap();
    customer.advance("0h").await;
    let again = app.client.preview_subscription(tenant, &new, &key()).await;
    let again = again.unwrap();
    assert!(again.lines.is_empty() && again.total.amount.is_zero());
    let refusals = [
        ("first", "scale-monthly", "EUR", None, 409),
        ("second", "unknown", "EUR", None, 422),
        ("second", "team-monthly", "SEK", None, 422),
        ("second", "team-monthly", "EUR", Some("2027-05-01"), 422),
    ];
    for (name, plan, currency, start, status) in refusals {
        let new = NewSubscription {
            key: Some(name.to_owned()),
            plan: plan.to_owned(),
            currency: currency.to_owned(),
            start_at: start.map(at),
            ..NewSubscription::default()
        };
        let told = app.client.preview_subscription(tenant, &new, &key()).await;
        let told = told.unwrap_err();
        let made = app
            .client
            .subscribe(tenant, &new, &key())
            .await
            .unwrap_err();
        assert_eq!(told.status(), Some(status), "{told}");
        assert_eq!(told.to_string(), made.to_string());
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_foretold_for_more_than_ten_years() {
    let app = TestApp::new().await;
    let new = NewSubscription {
        plan: "team-monthly".to_owned(),
        currency: "EUR".to_owned(),
        ..NewSubscription::default()
    };
    let customer = subscribed(&app, &new, false).await;
    let end = Does::Cancel(CreditPolicy::None);
    let far = end
        .ask(&customer, on("2037-07-01"), true)
        .await
        .unwrap_err();
    assert_eq!(far.status(), Some(422));
    assert!(far.to_string().contains("ten years"), "{far}");
    end.ask(&customer, on("2037-05-01"), true).await.unwrap();
    app.finish().await;
}
