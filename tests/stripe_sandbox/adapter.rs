//! The product's own adapter, on what a charge may lead to: refunds, disputes, missed events.

use std::collections::HashMap;

use chrono::DateTime;
use stripe_sandbox::{Failure, FailureKind, WebhookMode};
use tenure_workflows::money::Money;
use tenure_workflows::ports::stripe::{
    EventQuery, EventsFrom, RefundOrder, Refunded, Standing, Stripe,
};

use super::shop::{KEY, Shop};
use super::webhooks::{quiet, shop_with_listener};

const START: i64 = 1_800_000_000;

fn adapter(shop: &Shop) -> Stripe {
    Stripe::new(shop.sandbox.url(), KEY).unwrap()
}

fn euros(amount: &str) -> Money {
    Money::new(amount.parse().unwrap(), "EUR".parse().unwrap())
}

fn order(intent: &str, amount: &str, key: &str) -> RefundOrder {
    RefundOrder {
        intent: intent.to_owned(),
        money: euros(amount),
        key: key.to_owned(),
        metadata: HashMap::from([("invoice".to_owned(), "in_1".to_owned())]),
    }
}

#[tokio::test]
async fn the_adapter_gives_money_back_once_and_no_more_than_was_paid() {
    let shop = Shop::open().await;
    let stripe = adapter(&shop);
    let wallet = shop.customer_with("pm_card_visa").await;
    let intent = shop.charge(&wallet, "in_1", "1").await.unwrap();
    let part = order(&intent.id, "19.00", "refund:1");
    // The answer is lost after the work: the same key finds the same refund.
    shop.control()
        .fail_next(Failure::new(FailureKind::DropAfter, 1));
    let lost = stripe.refund(&part).await.unwrap_err();
    assert!(!lost.is_terminal());
    let first = stripe.refund(&part).await.unwrap();
    assert_eq!(stripe.refund(&part).await.unwrap(), first);
    assert!(matches!(first, Refunded::Succeeded { .. }));
    assert_eq!(shop.ledger(&wallet.0).refunds, 1900);
    let refused = |code: &str| Refunded::Refused { code: code.into() };
    let too_much = order(&intent.id, "30.01", "refund:2");
    assert_eq!(
        stripe.refund(&too_much).await.unwrap(),
        refused("amount_too_large")
    );
    let rest = order(&intent.id, "30.00", "refund:3");
    stripe.refund(&rest).await.unwrap();
    let nothing_left = order(&intent.id, "0.01", "refund:4");
    assert_eq!(
        stripe.refund(&nothing_left).await.unwrap(),
        refused("charge_already_refunded")
    );
    let confused = order(&intent.id, "1.00", "refund:1");
    let confused = stripe.refund(&confused).await.unwrap_err();
    assert!(
        confused.is_terminal(),
        "one key, two amounts: a bug of ours"
    );
    assert!(
        stripe
            .refund(&order("pi_none", "1.00", "refund:5"))
            .await
            .unwrap_err()
            .is_terminal()
    );
    assert_eq!(shop.ledger(&wallet.0).net, 0);
}

#[tokio::test]
async fn the_adapter_tells_a_refund_on_its_way_from_one_that_arrived() {
    let shop = Shop::open().await;
    let stripe = adapter(&shop);
    let wallet = shop.customer_with("pm_card_pendingRefund").await;
    let intent = shop.charge(&wallet, "in_1", "1").await.unwrap();
    let made = stripe.refund(&order(&intent.id, "1.00", "a")).await;
    assert!(matches!(made.unwrap(), Refunded::Pending { .. }));
}

#[tokio::test]
async fn the_adapter_finds_a_dispute_and_where_it_stands() {
    let shop = Shop::open().await;
    let stripe = adapter(&shop);
    let clock = shop.clock(START).await;
    let wallet = shop.clocked(&clock, "pm_card_visa").await;
    let intent = shop.charge(&wallet, "in_1", "1").await.unwrap();
    assert_eq!(stripe.find_dispute(&intent.id).await.unwrap(), None);
    let charge = intent.latest_charge.unwrap().id().to_string();
    let control = shop.control();
    let id = control.open_dispute(&charge, "duplicate", Some(1900), true);
    let id = id.unwrap();
    let find = async || stripe.find_dispute(&intent.id).await.unwrap().unwrap();
    let found = find().await;
    assert_eq!((found.dispute, found.charge), (id.clone(), charge.clone()));
    assert_eq!(found.money, euros("19.00"));
    assert_eq!(found.reason, "duplicate");
    assert_eq!(found.standing, Standing::Inquiry);
    assert!(found.evidence_due.unwrap().timestamp() > START);
    control.escalate_inquiry(&id).unwrap();
    assert_eq!(find().await.standing, Standing::Open);
    let refused = stripe.refund(&order(&intent.id, "1.00", "r")).await;
    let code = "charge_disputed".to_owned();
    assert_eq!(refused.unwrap(), Refunded::Refused { code });
    control.close_dispute(&id, true).unwrap();
    assert_eq!(find().await.standing, Standing::Won);
    let again = control.open_dispute(&charge, "fraudulent", None, false);
    control.close_dispute(&again.unwrap(), false).unwrap();
    let latest = find().await;
    assert_eq!(
        (latest.standing, latest.money),
        (Standing::Lost, euros("49.00"))
    );
}

#[tokio::test]
async fn the_adapter_reads_every_event_that_no_webhook_brought() {
    let (shop, listener) = shop_with_listener().await;
    let stripe = adapter(&shop);
    let wallet = shop.customer_with("pm_card_visa").await;
    quiet(&shop).await;
    let all = |from| EventQuery {
        from,
        kinds: Vec::new(),
        undelivered: false,
    };
    let begin = EventsFrom::Since(DateTime::from_timestamp(START - 400_000_000, 0).unwrap());
    let first = stripe.list_events(&all(begin.clone())).await.unwrap();
    assert_eq!((first.events.len(), first.has_more), (2, false));
    assert_eq!(first.events[0].kind, "customer.created");

    shop.control().set_webhook_mode(WebhookMode::Never).unwrap();
    for number in 0..70 {
        let key = number.to_string();
        shop.charge(&wallet, &key, &key).await.unwrap();
    }
    // 210 events more: three pages, oldest first, each one once.
    let mut last = first.events[1].id.clone();
    let mut read = Vec::new();
    loop {
        let page = stripe
            .list_events(&all(EventsFrom::After(last)))
            .await
            .unwrap();
        last = page.events.last().unwrap().id.clone();
        read.extend(page.events);
        if !page.has_more {
            break;
        }
    }
    assert_eq!(read.len(), 210);
    let invoices: Vec<String> = read
        .iter()
        .filter(|event| event.kind == "payment_intent.succeeded")
        .map(|event| {
            let body: serde_json::Value = serde_json::from_str(&event.body).unwrap();
            assert_eq!(body["id"], event.id);
            let invoice = &body["data"]["object"]["metadata"]["invoice"];
            invoice.as_str().unwrap().to_owned()
        })
        .collect();
    let expected: Vec<String> = (0..70).map(|number| number.to_string()).collect();
    assert_eq!(invoices, expected);

    let oldest = stripe.list_events(&all(begin.clone())).await.unwrap();
    assert!(oldest.has_more);
    assert_eq!(oldest.events[0], first.events[0]);
    let missed = EventQuery {
        from: begin,
        kinds: vec!["charge.succeeded".to_owned()],
        undelivered: true,
    };
    assert_eq!(stripe.list_events(&missed).await.unwrap().events.len(), 70);
    assert_eq!(listener.types().len(), 2, "none of them came by webhook");
    let forgotten = all(EventsFrom::After("evt_none".to_owned()));
    assert!(
        stripe
            .list_events(&forgotten)
            .await
            .unwrap_err()
            .is_terminal()
    );
}
