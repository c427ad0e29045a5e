//! Bank debits and cards over time: what falls due by a customer's clock.

use stripe_core::payment_intent::{CreatePaymentIntent, RetrievePaymentIntent};
use stripe_payment::payment_method::{
    ListPaymentMethod, ListPaymentMethodType, RetrievePaymentMethod,
};
use stripe_sandbox::{SandboxConfig, WebhookMode};
use stripe_shared::{PaymentIntent, PaymentIntentStatus};
use stripe_types::Currency;

use super::shop::{KEY, Shop, refusal};
use super::webhooks::{quiet, shop_with_listener};

const START: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

async fn intent(shop: &Shop, id: &str) -> PaymentIntent {
    RetrievePaymentIntent::new(id)
        .expand(["latest_charge".to_owned()])
        .send(&shop.client)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_debit_is_on_its_way_for_days_of_the_clock_and_then_paid_or_given_back() {
    let (shop, listener) = shop_with_listener().await;
    let clock = shop.clock(START).await;
    let good = shop.clocked(&clock, "pm_success_de").await;
    let poor = shop.clocked(&clock, "pm_insufficientFunds_at").await;
    let slow = shop.clocked(&clock, "pm_successDelayed_de").await;
    assert_eq!(good.1.type_.as_str(), "sepa_debit");
    assert_eq!(
        poor.1.sepa_debit.as_ref().unwrap().country.as_deref(),
        Some("AT")
    );
    let mut made = Vec::new();
    for (wallet, name) in [(&good, "good"), (&poor, "poor"), (&slow, "slow")] {
        let intent = shop.charge(wallet, name, name).await.unwrap();
        assert_eq!(intent.status, PaymentIntentStatus::Processing, "{name}");
        made.push(intent.id.to_string());
    }
    assert_eq!(shop.control().charges(&[])[0].status, "pending");
    assert!(shop.control().ledger(None).is_empty(), "no money has moved");

    shop.advance(&clock, START + 5 * DAY - 1).await;
    for id in &made {
        assert_eq!(
            intent(&shop, id).await.status,
            PaymentIntentStatus::Processing
        );
    }
    quiet(&shop).await;
    let before = listener.types().len();
    shop.advance(&clock, START + 9 * DAY).await;
    let paid = intent(&shop, &made[0]).await;
    let charge = paid.latest_charge.unwrap();
    let charge = charge.as_object().unwrap();
    assert_eq!(paid.status, PaymentIntentStatus::Succeeded);
    assert!(charge.paid && charge.id.as_str().starts_with("py_"));
    let failed = intent(&shop, &made[1]).await;
    assert_eq!(failed.status, PaymentIntentStatus::RequiresPaymentMethod);
    let error = failed.last_payment_error.unwrap();
    assert_eq!(error.decline_code.as_deref(), Some("insufficient_funds"));
    assert_eq!(error.advice_code, None, "a bank gives no advice");
    assert_eq!(
        intent(&shop, &made[2]).await.status,
        PaymentIntentStatus::Processing
    );
    quiet(&shop).await;
    assert_eq!(
        listener.types()[before..],
        [
            "charge.succeeded",
            "payment_intent.succeeded",
            "charge.failed",
            "payment_intent.payment_failed"
        ]
    );
    assert_eq!(shop.ledger(&good.0).net, 4900);
    shop.advance(&clock, START + 400 * DAY).await;
    assert_eq!(shop.paid("slow"), 1);
    assert_eq!(shop.paid("poor"), 0);
}

#[tokio::test]
async fn what_falls_due_happens_at_its_own_instant_and_in_order() {
    let shop = Shop::open().await;
    let clock = shop.clock(START).await;
    let late = shop.clocked(&clock, "pm_successDelayed_de").await;
    let disputed = shop.clocked(&clock, "pm_disputed_de").await;
    shop.charge(&late, "late", "1").await.unwrap();
    shop.charge(&disputed, "disputed", "2").await.unwrap();
    let told = shop.told(0).await.len();
    shop.advance(&clock, START + 100 * DAY).await;
    assert_eq!(
        shop.told(told).await,
        [
            "charge.succeeded",
            "payment_intent.succeeded",
            "charge.dispute.created",
            "charge.dispute.funds_withdrawn",
            "charge.dispute.closed",
            "charge.succeeded",
            "payment_intent.succeeded"
        ],
        "the debit of day 5 and its dispute come before the one of day 14"
    );
    let dispute = shop.raw("GET", "v1/disputes", "").await.body["data"][0].clone();
    assert_eq!(dispute["created"], START + 5 * DAY);
    assert_eq!(dispute["status"], "lost", "a debit's dispute has no answer");
    assert_eq!(shop.ledger(&disputed.0).net, 0);
}

#[tokio::test]
async fn debits_survive_a_restart_and_end_with_their_clock() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = SandboxConfig::new(KEY);
    config.journal = Some(folder.path().join("sandbox.jsonl"));
    let shop = Shop::with(config.clone()).await;
    let clock = shop.clock(START).await;
    let wallet = shop.clocked(&clock, "pm_success_de").await;
    shop.charge(&wallet, "in_1", "1").await.unwrap();
    shop.sandbox.shutdown().await;
    for _ in 0..2 {
        Shop::with(config.clone()).await.sandbox.shutdown().await;
    }
    let shop = Shop::with(config.clone()).await;
    shop.advance(&clock, START + 5 * DAY).await;
    assert_eq!(shop.paid("in_1"), 1);
    shop.charge(&wallet, "in_2", "2").await.unwrap();
    let path = format!("v1/test_helpers/test_clocks/{clock}");
    assert_eq!(shop.raw("DELETE", &path, "").await.body["deleted"], true);
    assert_eq!(shop.paid("in_2"), 0);
}

#[tokio::test]
async fn a_debit_by_real_time_is_settled_when_it_is_due() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_usBankAccount_accountClosed").await;
    let refused = refusal(shop.charge(&wallet, "in_1", "1").await);
    assert_eq!(refused.1.param.as_deref(), Some("currency"), "euros");
    let pay = CreatePaymentIntent::new(4900, Currency::USD)
        .customer(wallet.0.id.as_str())
        .payment_method(wallet.1.id.as_str())
        .confirm(true);
    let made = pay.send(&shop.client).await.unwrap();
    assert_eq!(made.status, PaymentIntentStatus::Processing);
    // The account's story is days long; one that takes none is due at once.
    let method = wallet.1.id.as_str();
    let behaviour = "debits:0:no_account";
    shop.control()
        .set_card_behaviour(method, behaviour)
        .unwrap();
    let made = pay.send(&shop.client).await.unwrap();
    crate::support::eventually("the debit came back", async || {
        intent(&shop, &made.id).await.status == PaymentIntentStatus::RequiresPaymentMethod
    })
    .await;
    let charge = intent(&shop, &made.id).await.latest_charge.unwrap();
    let charge = charge.as_object().unwrap();
    assert_eq!(charge.failure_code.as_deref(), Some("no_account"));
}

#[tokio::test]
async fn accounts_are_made_from_test_numbers_and_take_one_currency() {
    let shop = Shop::open().await;
    let body = "type=sepa_debit&sepa_debit[iban]=AT61%201904%203002%203457%203202\
                &billing_details[name]=Acme&billing_details[address][city]=Vienna";
    let made = shop.raw("POST", "v1/payment_methods", body).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.body["sepa_debit"]["last4"], "3202");
    assert_eq!(made.body["billing_details"]["address"]["city"], "Vienna");
    for (body, param) in [
        ("type=sepa_debit&sepa_debit[iban]=AT6", "sepa_debit"),
        ("type=sepa_debit", "sepa_debit"),
        ("type=card&card[number]=4242424242424242", "card[number]"),
        ("type=card&card[token]=tok_nonsense", "card"),
        ("type=paypal", "type"),
    ] {
        let refused = shop.raw("POST", "v1/payment_methods", body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert_eq!(refused.body["error"]["param"], param, "{body}");
    }
    let id = made.body["id"].as_str().unwrap();
    let body = format!("amount=4900&currency=eur&payment_method={id}&payment_method_types[]=card");
    let refused = shop.raw("POST", "v1/payment_intents", &body).await;
    assert_eq!(refused.body["error"]["param"], "payment_method");
}

#[tokio::test]
async fn a_card_expires_by_the_customers_clock_and_the_network_may_renew_it() {
    let (shop, listener) = shop_with_listener().await;
    // 31 March 2027, a quarter of an hour before midnight in UTC.
    let clock = shop.clock(1_806_536_700).await;
    let wallet = shop.clocked(&clock, "pm_sandbox_expires_2027_03").await;
    let card = wallet.1.card.as_ref().unwrap();
    assert_eq!((card.exp_year, card.exp_month), (2027, 3));
    shop.charge(&wallet, "march", "1").await.unwrap();
    shop.advance(&clock, 1_806_537_600).await;
    let (_, error) = refusal(shop.charge(&wallet, "april", "2").await);
    assert_eq!(error.decline_code.as_deref(), Some("expired_card"));
    assert_eq!(error.advice_code.as_deref(), Some("confirm_card_data"));

    let id = wallet.1.id.as_str();
    assert!(shop.control().update_card(id, 13, 2030).is_err());
    shop.control().update_card(id, 3, 2030).unwrap();
    quiet(&shop).await;
    let heard = listener.heard();
    let last: serde_json::Value = serde_json::from_str(&heard.last().unwrap().body).unwrap();
    assert_eq!(last["type"], "payment_method.automatically_updated");
    assert_eq!(last["data"]["object"]["card"]["exp_year"], 2030);
    assert_eq!(
        last["data"]["previous_attributes"],
        serde_json::json!({ "card": { "exp_year": 2027 } })
    );
    shop.charge(&wallet, "april", "3").await.unwrap();

    let path = format!("v1/payment_methods/{id}");
    let changed = shop.raw("POST", &path, "card[exp_month]=12").await;
    assert_eq!(changed.body["card"]["exp_month"], 12);
    let refused = shop.raw("POST", &path, "card[exp_month]=0").await;
    assert_eq!(refused.body["error"]["code"], "invalid_expiry_month");
    quiet(&shop).await;
    assert_eq!(listener.types().last().unwrap(), "payment_method.updated");
}

#[tokio::test]
async fn a_customer_has_several_methods_and_loses_one_alone() {
    let shop = Shop::open().await;
    shop.control().set_webhook_mode(WebhookMode::Never).unwrap();
    let (customer, first) = shop.customer_with("pm_card_visa").await;
    let second = shop.attach(&customer, "pm_card_amex").await.unwrap();
    shop.attach(&customer, "pm_success_de").await.unwrap();
    let list = || ListPaymentMethod::new().customer(customer.id.as_str());
    assert_eq!(list().send(&shop.client).await.unwrap().data.len(), 3);
    let cards = list().type_(ListPaymentMethodType::Card);
    let cards = cards.send(&shop.client).await.unwrap();
    assert_eq!(cards.data[0].id, second.id, "the newest comes first");
    let path = format!("v1/payment_methods/{}/detach", first.id);
    assert!(shop.raw("POST", &path, "").await.body["customer"].is_null());
    assert_eq!(list().send(&shop.client).await.unwrap().data.len(), 2);
    let kept = RetrievePaymentMethod::new(second.id.as_str());
    assert!(kept.send(&shop.client).await.unwrap().customer.is_some());
    let path = |id: &str| format!("v1/customers/{}/payment_methods/{id}", customer.id);
    assert_eq!(shop.raw("GET", &path(&second.id), "").await.status, 200);
    assert_eq!(shop.raw("GET", &path(&first.id), "").await.status, 404);
}
