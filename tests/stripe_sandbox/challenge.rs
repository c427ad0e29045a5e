//! 3-D Secure: the customer confirms or refuses, on the page or by command.

use stripe_core::payment_intent::{
    ConfirmPaymentIntent, CreatePaymentIntent, RetrievePaymentIntent,
};
use stripe_shared::{
    Customer, PaymentIntent, PaymentIntentSetupFutureUsage, PaymentIntentStatus, PaymentMethod,
};
use stripe_types::Currency;

use super::shop::{Shop, refusal};

const BACK: &str = "https://t.example/back?tenant=1";

/// Asks for a payment while the customer is there.
async fn ask(shop: &Shop, (customer, method): &(Customer, PaymentMethod)) -> PaymentIntent {
    let asked = CreatePaymentIntent::new(4900, Currency::EUR)
        .customer(customer.id.as_str())
        .payment_method(method.id.as_str())
        .setup_future_usage(PaymentIntentSetupFutureUsage::OffSession)
        .confirm(true)
        .return_url(BACK)
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(asked.status, PaymentIntentStatus::RequiresAction);
    asked
}

fn page_of(intent: &PaymentIntent) -> String {
    let action = intent.next_action.as_ref().unwrap();
    assert_eq!(action.type_, "redirect_to_url");
    let redirect = action.redirect_to_url.as_ref().unwrap();
    assert_eq!(redirect.return_url.as_deref(), Some(BACK));
    redirect.url.clone().unwrap()
}

/// Presses a button of the page, as a browser would; returns where it leads.
async fn press(page: &str, outcome: &str) -> String {
    let (path, secret) = page.split_once("?client_secret=").unwrap();
    let browser = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let shown = browser.get(page).send().await.unwrap();
    let shown = shown.text().await.unwrap();
    assert!(shown.contains(&format!("value=\"{outcome}\"")), "{shown}");
    let answer = browser
        .post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("client_secret={secret}&outcome={outcome}"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 303);
    answer.headers()["location"].to_str().unwrap().to_owned()
}

async fn found(shop: &Shop, intent: &PaymentIntent) -> PaymentIntent {
    RetrievePaymentIntent::new(intent.id.as_str())
        .expand(["latest_charge".to_owned()])
        .send(&shop.client)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_customer_confirms_on_the_page_and_comes_back() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_threeDSecure2Required").await;
    let asked = ask(&shop, &wallet).await;
    let page = page_of(&asked);
    let back = press(&page, "complete").await;
    assert!(back.starts_with(&format!("{BACK}&payment_intent={}", asked.id)));
    assert!(back.ends_with("redirect_status=succeeded"), "{back}");
    let paid = found(&shop, &asked).await;
    assert_eq!(paid.status, PaymentIntentStatus::Succeeded);
    let charge = paid.latest_charge.unwrap().into_object().unwrap();
    let card = charge.payment_method_details.unwrap().card.unwrap();
    assert!(card.three_d_secure.is_some(), "the charge tells of it");
    let again = reqwest::get(&page).await.unwrap();
    assert_eq!(again.status(), 409, "there is nothing to confirm any more");
}

#[tokio::test]
async fn a_customer_refuses_and_pays_by_another_card() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_authenticationRequired").await;
    let asked = ask(&shop, &wallet).await;
    let back = press(&page_of(&asked), "fail").await;
    assert!(back.ends_with("redirect_status=failed"), "{back}");
    let refused = found(&shop, &asked).await;
    assert_eq!(refused.status, PaymentIntentStatus::RequiresPaymentMethod);
    assert!(refused.latest_charge.is_none(), "nothing was charged");
    let error = refused.last_payment_error.unwrap();
    assert_eq!(
        error.code.unwrap().as_str(),
        "payment_intent_authentication_failure"
    );
    let other = shop.attach(&wallet.0, "pm_card_visa").await.unwrap();
    let paid = ConfirmPaymentIntent::new(asked.id.as_str())
        .payment_method(other.id.as_str())
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(paid.status, PaymentIntentStatus::Succeeded);
}

#[tokio::test]
async fn an_off_session_charge_is_declined_and_confirmed_later_by_the_customer() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_authenticationRequired").await;
    let (_, error) = refusal(shop.charge(&wallet, "in_1", "1").await);
    assert_eq!(error.code.unwrap().as_str(), "authentication_required");
    let intent = error.payment_intent.unwrap();
    let asked = ConfirmPaymentIntent::new(intent.id.as_str())
        .payment_method(wallet.1.id.as_str())
        .return_url(BACK)
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(asked.status, PaymentIntentStatus::RequiresAction);
    let path = format!("payment_intents/{}/authenticate", intent.id);
    let told = shop.door(&path, r#"{"outcome":"complete"}"#).await;
    assert_eq!(told.status, 200, "{}", told.body);
    assert_eq!(shop.paid("in_1"), 1);
    let told = shop.door(&path, r#"{"outcome":"complete"}"#).await;
    assert_eq!(told.status, 400, "{}", told.body);
}

#[tokio::test]
async fn a_card_that_was_set_up_with_the_customer_pays_without_it() {
    let shop = Shop::open().await;
    let wallet = shop
        .customer_with("pm_card_authenticationRequiredOnSetup")
        .await;
    let (_, error) = refusal(shop.charge(&wallet, "in_1", "1").await);
    assert_eq!(
        error.decline_code.as_deref(),
        Some("authentication_required")
    );
    let asked = ask(&shop, &wallet).await;
    shop.control().complete_authentication(&asked.id).unwrap();
    shop.charge(&wallet, "in_1", "2").await.unwrap();
    assert_eq!(shop.paid("in_1"), 1);
    ask(&shop, &wallet).await;
}

#[tokio::test]
async fn an_issuer_may_decline_after_the_confirmation() {
    let shop = Shop::open().await;
    let card = "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds";
    let wallet = shop.customer_with(card).await;
    let asked = ask(&shop, &wallet).await;
    let back = press(&page_of(&asked), "complete").await;
    assert!(back.ends_with("redirect_status=failed"), "{back}");
    let declined = found(&shop, &asked).await.last_payment_error.unwrap();
    assert_eq!(declined.decline_code.as_deref(), Some("insufficient_funds"));
    assert!(shop.control().fail_authentication(&asked.id).is_err());
}

#[tokio::test]
async fn the_page_opens_only_to_those_who_know_the_secret() {
    let shop = Shop::open().await;
    let wallet = shop.customer_with("pm_card_authenticationRequired").await;
    let asked = ask(&shop, &wallet).await;
    let page = page_of(&asked);
    let (path, _) = page.split_once('?').unwrap();
    for url in [path.to_owned(), format!("{path}?client_secret=guess")] {
        assert_eq!(reqwest::get(url).await.unwrap().status(), 400);
    }
    let guess = format!("{path}?x");
    let answer = reqwest::Client::new().post(&guess).body("outcome=complete");
    assert_eq!(answer.send().await.unwrap().status(), 400);
    assert_eq!(
        found(&shop, &asked).await.status,
        PaymentIntentStatus::RequiresAction
    );
}
