//! Refunds that take their time or come back, and the ledger that knows to the cent.

use stripe::StripeRequest;
use stripe_core::balance_transaction::ListBalanceTransaction;
use stripe_core::refund::{CreateRefund, RetrieveRefund};
use stripe_shared::Refund;

use super::shop::{Shop, keyed, refusal};

const START: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

async fn refund(shop: &Shop, intent: &str, amount: i64, key: &str) -> Refund {
    CreateRefund::new()
        .payment_intent(intent)
        .amount(amount)
        .customize()
        .request_strategy(keyed(key))
        .send(&shop.client)
        .await
        .unwrap()
}

async fn status(shop: &Shop, refund: &Refund) -> String {
    let found = RetrieveRefund::new(refund.id.as_str());
    found.send(&shop.client).await.unwrap().status.unwrap()
}

#[tokio::test]
async fn a_pending_refund_arrives_after_days_of_the_clock() {
    let shop = Shop::open().await;
    let clock = shop.clock(START).await;
    let wallet = shop.clocked(&clock, "pm_card_pendingRefund").await;
    let intent = shop.charge(&wallet, "in_1", "1").await.unwrap();
    let made = refund(&shop, &intent.id, 900, "r").await;
    assert_eq!(made.status.as_deref(), Some("pending"));
    assert_eq!(made.created, START);
    let told = shop.told(0).await.len();
    shop.advance(&clock, START + 4 * DAY).await;
    assert_eq!(status(&shop, &made).await, "pending");
    shop.advance(&clock, START + 5 * DAY).await;
    assert_eq!(status(&shop, &made).await, "succeeded");
    let arrived = ["refund.updated", "charge.refund.updated"];
    assert_eq!(shop.told(told).await, arrived);
    assert_eq!(shop.ledger(&wallet.0).refunds, 900);
}

#[tokio::test]
async fn a_refund_that_fails_later_gives_the_money_back_to_be_refunded_again() {
    let shop = Shop::open().await;
    let clock = shop.clock(START).await;
    let wallet = shop.clocked(&clock, "pm_card_refundFail").await;
    let intent = shop.charge(&wallet, "in_1", "1").await.unwrap();
    let made = refund(&shop, &intent.id, 4900, "r1").await;
    assert_eq!(made.status.as_deref(), Some("succeeded"));
    assert!(shop.control().charges(&[])[0].amount_refunded == 4900);
    let told = shop.told(0).await.len();
    shop.advance(&clock, START + 5 * DAY).await;
    assert_eq!(status(&shop, &made).await, "failed");
    assert_eq!(
        shop.told(told).await,
        ["refund.updated", "charge.refund.updated", "refund.failed"]
    );
    let ledger = shop.ledger(&wallet.0);
    assert_eq!(
        (ledger.refunds, ledger.failed_refunds, ledger.net),
        (4900, 4900, 4900)
    );
    assert_eq!(shop.control().charges(&[])[0].amount_refunded, 0);

    let method = wallet.1.id.as_str();
    shop.control().set_refunds(method, "succeed").unwrap();
    refund(&shop, &intent.id, 4900, "r2").await;
    assert_eq!(shop.ledger(&wallet.0).net, 0);
    assert!(shop.control().set_refunds(method, "vanish").is_err());
}

#[tokio::test]
async fn refunds_pend_and_fail_on_command() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_visa").await;
    let method = wallet.1.id.as_str();
    let path = format!("payment_methods/{method}");
    let told = shop.door(&path, r#"{"refunds":"pend"}"#).await;
    assert_eq!(told.status, 200, "{}", told.body);
    let intent = shop.charge(&wallet, "in_1", "1").await.unwrap();
    let lost = refund(&shop, &intent.id, 100, "a").await;
    let good = refund(&shop, &intent.id, 200, "b").await;
    let path = |refund: &Refund| format!("refunds/{}/settle", refund.id);
    let failed = r#"{"failure_reason":"lost_or_stolen_card"}"#;
    assert_eq!(shop.door(&path(&lost), failed).await.status, 200);
    assert_eq!(shop.door(&path(&good), "{}").await.status, 200);
    let found = RetrieveRefund::new(lost.id.as_str());
    let found = found.send(&shop.client).await.unwrap();
    assert_eq!(found.failure_reason.as_deref(), Some("lost_or_stolen_card"));
    assert!(found.failure_balance_transaction.is_some());
    assert_eq!(status(&shop, &good).await, "succeeded");

    let again = shop.door(&path(&lost), "{}").await;
    assert_eq!(again.status, 400, "what failed stays failed");
    let unknown = r#"{"failure_reason":"boredom"}"#;
    assert_eq!(shop.door(&path(&good), unknown).await.status, 400);
    // One that has arrived may still come back.
    assert_eq!(shop.door(&path(&good), failed).await.status, 200);
    assert_eq!(status(&shop, &good).await, "failed");
    assert_eq!(shop.ledger(&wallet.0).net, 4900);
}

#[tokio::test]
async fn the_ledger_adds_up_to_the_cent_per_customer_and_currency() {
    let shop = Shop::open().await;
    let clock = shop.clock(START).await;
    let card = shop.clocked(&clock, "pm_card_visa").await;
    let bank = shop.clocked(&clock, "pm_success_de").await;
    let paid = shop.charge(&card, "in_1", "1").await.unwrap();
    shop.charge(&bank, "in_2", "2").await.unwrap();
    let body = format!(
        "amount=1234&currency=usd&customer={}&payment_method={}&confirm=true",
        card.0.id, card.1.id
    );
    let dollars = shop.raw("POST", "v1/payment_intents", &body).await.body;
    assert_eq!(dollars["status"], "succeeded", "{dollars}");
    refund(&shop, &paid.id, 901, "r").await;
    let charge = dollars["latest_charge"].as_str().unwrap();
    let dispute = shop
        .control()
        .open_dispute(charge, "duplicate", Some(234), false);
    let dispute = dispute.unwrap();
    shop.advance(&clock, START + 6 * DAY).await;

    let lines = shop.control().ledger(Some(card.0.id.as_str()));
    let sums: Vec<_> = lines
        .iter()
        .map(|line| {
            let currency = line.currency.as_str();
            (
                currency,
                line.charges,
                line.refunds,
                line.disputes,
                line.net,
            )
        })
        .collect();
    assert_eq!(
        sums,
        [("eur", 4900, 901, 0, 3999), ("usd", 1234, 0, 234, 1000)]
    );
    assert!(lines.iter().all(|line| line.fees == 0));
    assert_eq!(shop.ledger(&bank.0).charges, 4900);
    shop.control().close_dispute(&dispute, true).unwrap();
    let told = shop
        .door(&format!("ledger?customer={}", card.0.id), "")
        .await;
    assert_eq!(told.body["ledger"][1]["won_disputes"], 234);
    assert_eq!(told.body["ledger"][1]["net"], 1234);

    // Stripe's own list of what moved says the same.
    let moved = ListBalanceTransaction::new().limit(100);
    let moved = moved.send(&shop.client).await.unwrap().data;
    let total: i64 = moved.iter().map(|moved| moved.net).sum();
    let known: i64 = shop
        .control()
        .ledger(None)
        .iter()
        .map(|line| line.net)
        .sum();
    assert_eq!((total, known), (3999 + 1234 + 4900, total));
    assert_eq!(moved.len(), 6);
}

#[tokio::test]
async fn a_refund_of_nothing_or_of_too_much_is_refused_in_stripes_shape() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_sandbox_lost_card").await;
    let declined = refusal(shop.charge(&wallet, "in_1", "1").await).1;
    let charge = declined.charge.unwrap();
    let refund = CreateRefund::new().charge(charge.as_str()).amount(100);
    let (status, error) = refusal(refund.send(&shop.client).await);
    assert_eq!(status, 400);
    assert_eq!(error.code.unwrap().as_str(), "charge_not_refundable");
    assert!(shop.control().ledger(None).is_empty());
}
