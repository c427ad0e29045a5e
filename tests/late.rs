//! Late work never changes what is owed: what is asked for while nobody works comes about as of then.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use tenure_client::{
    CancelSubscription, ChangeSubscription, Client, CreditPolicy, HoldBlocks, HoldKind,
    IdempotencyKey, LiftHold, MoveAnchor, NewSubscription, NewTenant, PauseSubscription, PlaceHold,
};
use tenure_engine::{ClockId, WorkerConfig, test_clock};
use uuid::Uuid;

use crate::support;
use crate::support::app::{Subscriber, TestApp};

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

/// What is asked for at once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Asks {
    Cancel,
    Change,
    ChangeInterval,
    Pause,
    MoveAnchor,
    /// Billing is held until it is lifted.
    LiftHold,
}

const ALL: [Asks; 6] = [
    Asks::Cancel,
    Asks::Change,
    Asks::ChangeInterval,
    Asks::Pause,
    Asks::MoveAnchor,
    Asks::LiftHold,
];

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// In Berlin, on the team plan from 1 June 2027.
async fn subscribed(client: &Client) -> Subscriber<'_> {
    let new = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        locale: None,
        test_clock: Some(at("2027-05-31T22:00:00Z")),
        legal_entity: None,
    };
    let tenant = client.create_tenant(&new, &key()).await.unwrap();
    let mut customer = Subscriber {
        client,
        clock: tenant.test_clock_id.unwrap(),
        tenant,
        subscription: Uuid::nil(),
    };
    customer.attach("pm_card_visa").await;
    let new = NewSubscription {
        plan: "team-monthly".to_owned(),
        currency: "EUR".to_owned(),
        ..NewSubscription::default()
    };
    let key = key();
    let made = client.subscribe(customer.tenant.tenant_id, &new, &key);
    customer.subscription = made.await.unwrap().subscription_id;
    customer.advance("0h").await;
    customer
}

/// Asks for it, and says no more than that it was asked for.
async fn ask(customer: &Subscriber<'_>, asks: Asks, hold: Option<Uuid>) {
    let (client, tenant, id) = (
        customer.client,
        customer.tenant.tenant_id,
        customer.subscription,
    );
    let change = |plan: &str| ChangeSubscription {
        plan: Some(plan.to_owned()),
        ..ChangeSubscription::default()
    };
    match asks {
        Asks::Cancel => {
            let cancel = CancelSubscription {
                credit: CreditPolicy::Credit,
                ..CancelSubscription::default()
            };
            let sent = client
                .cancel_subscription(tenant, id, &cancel, &key())
                .await;
            assert!(!sent.unwrap().credits.is_empty());
        }
        Asks::Change => {
            let asked = change("scale-monthly");
            client
                .change_subscription(tenant, id, &asked, &key())
                .await
                .unwrap();
        }
        Asks::ChangeInterval => {
            let asked = change("team-yearly");
            client
                .change_subscription(tenant, id, &asked, &key())
                .await
                .unwrap();
        }
        Asks::Pause => {
            let pause = PauseSubscription::default();
            client
                .pause_subscription(tenant, id, &pause, &key())
                .await
                .unwrap();
        }
        Asks::MoveAnchor => {
            let day = MoveAnchor {
                day: 20,
                ..MoveAnchor::default()
            };
            client.move_anchor(tenant, id, &day, &key()).await.unwrap();
        }
        Asks::LiftHold => {
            let lift = LiftHold {
                reason: "a false alarm".to_owned(),
            };
            client
                .lift_hold(tenant, hold.unwrap(), &lift, &key())
                .await
                .unwrap();
        }
    }
}

async fn hold_billing(customer: &Subscriber<'_>) -> Uuid {
    let hold = PlaceHold {
        kind: HoldKind::Legal,
        subscription_id: Some(customer.subscription),
        starts_at: None,
        ends_at: None,
        blocks: Some(HoldBlocks {
            changes: false,
            access: false,
            billing: true,
        }),
        reason: "ticket 21".to_owned(),
    };
    let tenant = customer.tenant.tenant_id;
    let placed = customer.client.place_hold(tenant, &hold, &key()).await;
    placed.unwrap().hold_id
}

/// All that is owed, was given back and was charged, whenever it was written down.
async fn books(app: &TestApp, customer: &Subscriber<'_>) -> Vec<String> {
    let tenant = customer.tenant.tenant_id;
    let mut told = Vec::new();
    for invoice in customer.invoices().await {
        let (start, end) = (invoice.period_start, invoice.period_end);
        told.push(format!(
            "{} {} {:?} {start}..{end}",
            invoice.reason, invoice.total, invoice.status
        ));
    }
    let notes = app.client.list_credit_notes(tenant).await.unwrap();
    told.extend(notes.iter().map(|note| format!("back {}", note.total)));
    told.sort();
    let credit = app.client.credit(tenant).await.unwrap();
    let balance: Decimal = credit.balances.iter().map(|one| one.amount).sum();
    told.push(format!("balance {}", balance.normalize()));
    let of = tenant.to_string();
    let charges = app.sandbox.control().charges(&[("tenant", &of)]);
    let paid = charges.iter().filter(|charge| charge.paid);
    let paid: i64 = paid.map(|one| one.amount - one.amount_refunded).sum();
    told.push(format!("charged {paid}"));
    let found = customer.subscription().await;
    told.push(format!(
        "{:?} {} {:?}..{:?} ended {:?}",
        found.status, found.plan, found.period_start, found.period_end, found.ended_at
    ));
    told
}

/// Moves a clock while nobody works.
pub(crate) async fn let_time_pass(app: &TestApp, customer: &Subscriber<'_>, to: DateTime<Utc>) {
    let mut conn = support::connect(&app.options).await;
    let clock = ClockId(customer.clock);
    // From deadline to deadline, each of which is due from then on.
    loop {
        let moved = test_clock::move_to_next(&mut conn, clock, to).await;
        if moved.unwrap().arrived {
            return;
        }
    }
}

/// Asks on time, and while nobody works until `back`; both must come to the same.
async fn compare(asked: DateTime<Utc>, back: DateTime<Utc>, lifted: DateTime<Utc>) {
    let app = TestApp::new().await;
    let moment = |asks| {
        if asks == Asks::LiftHold {
            lifted
        } else {
            asked
        }
    };
    let mut on_time = Vec::new();
    let mut late = Vec::new();
    for asks in ALL {
        for (twins, hand) in [(&mut on_time, true), (&mut late, false)] {
            let customer = subscribed(&app.client).await;
            customer.advance_to(asked - TimeDelta::days(2)).await;
            let hold = match asks {
                Asks::LiftHold => Some(hold_billing(&customer).await),
                _ => None,
            };
            if hand {
                customer.advance_to(moment(asks)).await;
                ask(&customer, asks, hold).await;
                customer.advance("0h").await;
                customer.advance_to(back).await;
            }
            twins.push((asks, customer, hold));
        }
    }
    app.restart(None).await;
    for (asks, customer, hold) in &late {
        let_time_pass(&app, customer, moment(*asks)).await;
        ask(customer, *asks, *hold).await;
        let_time_pass(&app, customer, back).await;
    }
    app.restart(Some(WorkerConfig::default())).await;
    for ((asks, twin, _), (_, customer, _)) in on_time.iter().zip(&late) {
        customer.advance("0h").await;
        let (twin, late) = (books(&app, twin).await, books(&app, customer).await);
        assert_eq!(late, twin, "{asks:?}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_while_nobody_works_comes_about_as_of_then() {
    let (asked, back) = (at("2027-06-15T09:00:00Z"), at("2027-07-02T09:00:00Z"));
    compare(asked, back, back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_before_a_local_midnight_counts_from_that_day() {
    let (asked, back) = (at("2027-06-14T21:59:00Z"), at("2027-06-14T22:01:00Z"));
    compare(asked, back, asked).await;
}
