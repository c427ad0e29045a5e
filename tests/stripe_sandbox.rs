//! The Stripe sandbox, driven by the real Stripe client: what Tenure relies on holds in it.

mod adapter;
mod alone;
mod challenge;
mod disputes;
mod faults;
mod official;
mod rails;
mod refunds;
mod shop;
mod webhooks;

use std::collections::HashMap;

use shop::{KEY, Shop, keyed, refusal};
use stripe::StripeRequest;
use stripe_core::customer::{
    DeleteCustomer, ListCustomer, RetrieveCustomer, RetrieveCustomerReturned, UpdateCustomer,
    UpdateCustomerInvoiceSettings,
};
use stripe_core::payment_intent::{
    CancelPaymentIntent, ConfirmPaymentIntent, CreatePaymentIntent, ListPaymentIntent,
    RetrievePaymentIntent, SearchPaymentIntent,
};
use stripe_core::refund::{CreateRefund, ListRefund};
use stripe_payment::payment_method::{DetachPaymentMethod, ListPaymentMethod};
use stripe_shared::{ApiErrorsType, PaymentIntentStatus};
use stripe_types::Currency;

#[tokio::test]
async fn a_customer_has_a_default_card_and_leaves_a_stub() {
    let shop = Shop::open().await;
    let (customer, method) = shop.customer_with("pm_card_visa").await;
    assert_ne!(
        method.id, "pm_card_visa",
        "a magic id becomes a card of its own"
    );
    let card = method.card.as_ref().unwrap();
    assert_eq!((card.brand.as_str(), card.last4.as_str()), ("visa", "4242"));

    let mut settings = UpdateCustomerInvoiceSettings::new();
    settings.default_payment_method = Some(method.id.to_string());
    let updated = UpdateCustomer::new(customer.id.as_str())
        .invoice_settings(settings)
        .metadata(HashMap::from([("tenant".to_owned(), String::new())]))
        .expand(["invoice_settings.default_payment_method".to_owned()])
        .send(&shop.client)
        .await
        .unwrap();
    let default = updated
        .invoice_settings
        .unwrap()
        .default_payment_method
        .unwrap();
    assert!(default.is_object());
    assert!(
        updated.metadata.unwrap().is_empty(),
        "an empty text removes a key"
    );

    let found = ListCustomer::new()
        .email("billing@acme.example")
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(found.data.len(), 1);
    let cards = ListPaymentMethod::new()
        .customer(customer.id.as_str())
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(cards.data.len(), 1);

    DetachPaymentMethod::new(method.id.as_str())
        .send(&shop.client)
        .await
        .unwrap();
    let again = refusal(shop.attach(&customer, method.id.as_str()).await);
    assert_eq!(again.0, 400, "a detached card is not taken again");

    DeleteCustomer::new(customer.id.as_str())
        .send(&shop.client)
        .await
        .unwrap();
    let stub = RetrieveCustomer::new(customer.id.as_str())
        .send(&shop.client)
        .await
        .unwrap();
    assert!(matches!(stub, RetrieveCustomerReturned::DeletedCustomer(_)));
}

#[tokio::test]
async fn the_same_key_charges_once_until_it_is_forgotten() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_visa").await;
    let first = shop.charge(&wallet, "in_1", "charge:in_1:1").await.unwrap();
    assert_eq!(first.status, PaymentIntentStatus::Succeeded);
    assert_eq!(first.amount_received, 4900);
    let again = shop.charge(&wallet, "in_1", "charge:in_1:1").await.unwrap();
    assert_eq!(again.id, first.id);
    assert_eq!(
        again.latest_charge.unwrap().id(),
        first.latest_charge.unwrap().id()
    );
    assert_eq!(shop.paid("in_1"), 1);
    assert_eq!(shop.control().requests_per_key()["charge:in_1:1"], 2);

    let other = refusal(shop.charge(&wallet, "in_2", "charge:in_1:1").await);
    assert_eq!(
        (other.0, other.1.type_),
        (400, ApiErrorsType::IdempotencyError)
    );

    shop.control().forget_idempotency_keys(None).unwrap();
    let found = SearchPaymentIntent::new("metadata['invoice']:'in_1' AND status:'succeeded'")
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(found.data.len(), 1, "the charge is found without its key");
    assert_eq!(found.data[0].id, first.id);
    let listed = ListPaymentIntent::new()
        .customer(wallet.0.id.as_str())
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(listed.data[0].metadata["invoice"], "in_1");
    let second = shop.charge(&wallet, "in_1", "charge:in_1:1").await.unwrap();
    assert_ne!(second.id, first.id, "who does not look charges twice");
    assert_eq!(shop.paid("in_1"), 2);
}

/// A card, and the code, the decline code and the advice of its declines.
type Decline = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
);

const DECLINES: &[Decline] = &[
    (
        "pm_card_chargeCustomerFail",
        "card_declined",
        "generic_decline",
        Some("try_again_later"),
    ),
    (
        "pm_sandbox_insufficient_funds",
        "card_declined",
        "insufficient_funds",
        Some("try_again_later"),
    ),
    (
        "pm_sandbox_expired_card",
        "expired_card",
        "expired_card",
        Some("confirm_card_data"),
    ),
    (
        "pm_sandbox_lost_card",
        "card_declined",
        "lost_card",
        Some("do_not_try_again"),
    ),
    (
        "pm_sandbox_processing_error",
        "processing_error",
        "processing_error",
        Some("try_again_later"),
    ),
    (
        "pm_card_authenticationRequired",
        "authentication_required",
        "authentication_required",
        None,
    ),
];

#[tokio::test]
async fn a_decline_tells_its_code_and_its_advice() {
    let shop = Shop::open().await;
    for (card, code, decline_code, advice) in DECLINES.iter().copied() {
        let wallet = shop.customer_with(card).await;
        let (status, error) = refusal(shop.charge(&wallet, card, card).await);
        assert_eq!(
            (status, &error.type_),
            (402, &ApiErrorsType::CardError),
            "{card}"
        );
        assert_eq!(error.code.unwrap().as_str(), code, "{card}");
        assert_eq!(error.decline_code.as_deref(), Some(decline_code), "{card}");
        assert_eq!(error.advice_code.as_deref(), advice, "{card}");
        let intent = error.payment_intent.unwrap();
        assert_eq!(intent.status, PaymentIntentStatus::RequiresPaymentMethod);
        assert_eq!(
            intent.latest_charge.unwrap().id().as_str(),
            error.charge.unwrap()
        );
        let kept = RetrievePaymentIntent::new(intent.id.as_str())
            .send(&shop.client)
            .await
            .unwrap();
        assert_eq!(
            kept.last_payment_error.unwrap().decline_code.as_deref(),
            Some(decline_code)
        );
        let replayed = refusal(shop.charge(&wallet, card, card).await);
        assert_eq!(
            replayed.1.payment_intent.unwrap().id,
            intent.id,
            "a decline is replayed too"
        );
        assert_eq!(shop.paid(card), 0);
    }
}

#[tokio::test]
async fn a_card_that_got_money_pays_on_the_next_attempt() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_sandbox_insufficient_funds").await;
    refusal(shop.charge(&wallet, "in_1", "1").await);
    let method = wallet.1.id.as_str();
    shop.control().set_card_behaviour(method, "pays").unwrap();
    shop.charge(&wallet, "in_1", "2").await.unwrap();
    assert_eq!(shop.paid("in_1"), 1);
}

#[tokio::test]
async fn stripes_declining_numbers_are_refused_at_attach() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    for (card, decline_code) in [
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            "insufficient_funds",
        ),
        ("pm_card_chargeDeclinedStolenCard", "stolen_card"),
        (
            "pm_card_chargeDeclinedVelocityLimitExceeded",
            "card_velocity_exceeded",
        ),
    ] {
        let (status, error) = refusal(shop.attach(&customer, card).await);
        assert_eq!(
            (status, error.decline_code.as_deref()),
            (402, Some(decline_code))
        );
    }
    let (status, error) = refusal(shop.attach(&customer, "pm_sandbox_nonsense").await);
    assert_eq!(
        (status, error.code.unwrap().as_str()),
        (404, "resource_missing")
    );
}

#[tokio::test]
async fn a_present_customer_is_asked_and_may_agree() {
    let shop = Shop::open().await;
    let (customer, method) = shop.customer_with("pm_card_authenticationRequired").await;
    let create = || {
        CreatePaymentIntent::new(4900, Currency::EUR)
            .customer(customer.id.as_str())
            .payment_method(method.id.as_str())
            .customize()
            .send(&shop.client)
    };
    let intent = create().await.unwrap();
    assert_eq!(intent.status, PaymentIntentStatus::RequiresConfirmation);
    let confirm = |id: &str| {
        ConfirmPaymentIntent::new(id)
            .return_url("https://t.example/back")
            .customize()
    };
    let asked = confirm(&intent.id).send(&shop.client).await.unwrap();
    assert_eq!(asked.status, PaymentIntentStatus::RequiresAction);
    assert_eq!(asked.next_action.unwrap().type_, "redirect_to_url");
    shop.control().settle_payment(&intent.id, None).unwrap();
    let settled = RetrievePaymentIntent::new(intent.id.as_str())
        .expand(["latest_charge".to_owned()])
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(settled.status, PaymentIntentStatus::Succeeded);
    assert!(settled.latest_charge.unwrap().as_object().unwrap().paid);
    assert_eq!(refusal(confirm(&intent.id).send(&shop.client).await).0, 400);

    let left = create().await.unwrap();
    let canceled = CancelPaymentIntent::new(left.id.as_str())
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(canceled.status, PaymentIntentStatus::Canceled);
}

#[tokio::test]
async fn a_slow_payment_is_processing_until_it_is_settled() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_sandbox_processing").await;
    let intent = shop.charge(&wallet, "in_1", "1").await.unwrap();
    assert_eq!(intent.status, PaymentIntentStatus::Processing);
    shop.control()
        .settle_payment(&intent.id, Some("insufficient_funds"))
        .unwrap();
    let failed = RetrievePaymentIntent::new(intent.id.as_str())
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(failed.status, PaymentIntentStatus::RequiresPaymentMethod);
    assert!(shop.control().settle_payment(&intent.id, None).is_err());
}

#[tokio::test]
async fn refunds_never_exceed_what_was_paid() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_visa").await;
    let intent = shop.charge(&wallet, "in_1", "1").await.unwrap();
    let refund = |amount: i64, key: &str| {
        CreateRefund::new()
            .payment_intent(intent.id.as_str())
            .amount(amount)
            .customize()
            .request_strategy(keyed(key))
            .send(&shop.client)
    };
    let first = refund(4000, "a").await.unwrap();
    assert_eq!(
        refund(4000, "a").await.unwrap().id,
        first.id,
        "one key, one refund"
    );
    assert_eq!(
        refusal(refund(901, "b").await).1.param.as_deref(),
        Some("amount")
    );
    refund(900, "c").await.unwrap();
    let (_, error) = refusal(refund(1, "d").await);
    assert_eq!(error.code.unwrap().as_str(), "charge_already_refunded");
    let listed = ListRefund::new()
        .payment_intent(intent.id.as_str())
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(listed.data.len(), 2);
    assert_eq!(shop.control().charges(&[])[0].amount_refunded, 4900);
}

/// Method, path and body of a request, and the status and code of its refusal.
type Refused = (
    &'static str,
    &'static str,
    &'static str,
    u16,
    Option<&'static str>,
);

const REFUSED: &[Refused] = &[
    ("GET", "v1/nowhere", "", 404, None),
    (
        "GET",
        "v1/customers/cus_none",
        "",
        404,
        Some("resource_missing"),
    ),
    (
        "POST",
        "v1/customers",
        "colour=red",
        400,
        Some("parameter_unknown"),
    ),
    ("POST", "v1/customers", "name=%", 400, None),
    (
        "POST",
        "v1/payment_intents",
        "currency=eur",
        400,
        Some("parameter_missing"),
    ),
    (
        "POST",
        "v1/payment_intents",
        "amount=x&currency=eur",
        400,
        Some("parameter_invalid_integer"),
    ),
    (
        "POST",
        "v1/payment_intents",
        "amount=49&currency=eur",
        400,
        Some("amount_too_small"),
    ),
    (
        "POST",
        "v1/payment_intents",
        "amount=1234&currency=kwd",
        400,
        Some("invalid_charge_amount"),
    ),
    (
        "POST",
        "v1/payment_intents",
        "amount=100&currency=xyz",
        400,
        None,
    ),
    (
        "POST",
        "v1/payment_intents",
        "amount=100&currency=eur&off_session=true",
        400,
        None,
    ),
    (
        "POST",
        "v1/payment_intents",
        "amount=100&currency=eur&expand[]=colour",
        400,
        None,
    ),
    (
        "GET",
        "v1/payment_intents/search?query=nonsense",
        "",
        400,
        None,
    ),
    (
        "GET",
        "v1/events?limit=101",
        "",
        400,
        Some("parameter_invalid_integer"),
    ),
];

#[tokio::test]
async fn what_stripe_would_not_take_is_refused_in_its_words() {
    let shop = Shop::open().await;
    for (method, path, body, status, code) in REFUSED.iter().copied() {
        let answer = shop.raw(method, path, body).await;
        let error = &answer.body["error"];
        assert_eq!(answer.status, status, "{method} {path} {body}: {error}");
        assert_eq!(
            error["code"].as_str(),
            code,
            "{method} {path} {body}: {error}"
        );
        assert_eq!(error["type"], "invalid_request_error");
        assert!(answer.headers.contains_key("request-id"));
    }
    let stranger = shop
        .raw_as("sk_test_other", None, "GET", "v1/customers", "")
        .await;
    assert_eq!(stranger.status, 401);
    let listed = shop.raw("GET", "v1/payment_intents", "").await;
    assert_eq!(
        listed.body["data"],
        serde_json::json!([]),
        "a refusal leaves nothing behind"
    );
    let replay = |key| shop.raw_as(KEY, Some(key), "POST", "v1/customers", "name=Acme");
    assert!(
        !replay("k")
            .await
            .headers
            .contains_key("idempotent-replayed")
    );
    assert_eq!(replay("k").await.headers["idempotent-replayed"], "true");
}
