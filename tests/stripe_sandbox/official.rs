//! Stripe's own library, as a process of its own, takes the sandbox for Stripe.

use std::process::Stdio;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenure_workflows::ports::signature;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::shop::{KEY, Shop};
use super::webhooks::{quiet, shop_with_listener};
use crate::support::python::Environment;

/// The version that the suite talks through.
static PYTHON: Environment = Environment::new("stripe-client", "stripe", "16.1.0");
const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/stripe_sandbox/official.py"
);

/// Runs the script and reads the JSON that it prints; its complaints go to the test's output.
async fn run(arguments: &[&str], input: &Value) -> Value {
    let mut child = Command::new(PYTHON.python())
        .arg("-B")
        .arg(SCRIPT)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The script reads all or nothing of it.
    let _ = stdin.write_all(input.to_string().as_bytes()).await;
    drop(stdin);
    let done = child.wait_with_output().await.unwrap();
    assert!(done.status.success(), "the script failed: {}", done.status);
    serde_json::from_slice(&done.stdout).unwrap()
}

#[tokio::test]
async fn stripes_own_library_takes_the_sandbox_for_stripe() {
    let shop = Shop::open().await;
    let seen = run(&["shop", shop.sandbox.url(), KEY], &Value::Null).await;
    assert_eq!(seen["version"], "16.1.0");
    assert_eq!(
        seen["declines"],
        json!({
            "pm_card_chargeCustomerFail": ["card_declined", "generic_decline", "try_again_later"],
            "pm_sandbox_lost_card": ["card_declined", "lost_card", "do_not_try_again"],
            "pm_sandbox_expired_card": ["expired_card", "expired_card", "confirm_card_data"],
            "pm_sandbox_generic_decline__do_not_try_again":
                ["card_declined", "generic_decline", "do_not_try_again"],
            "pm_sandbox_insufficient_funds__none": ["card_declined", "insufficient_funds", null],
            "pm_card_authenticationRequired":
                ["authentication_required", "authentication_required", null],
        })
    );
    let ledger = |name: &str| shop.control().ledger(seen[name].as_str()).remove(0);
    let refunded = ledger("customer");
    assert_eq!(
        (refunded.charges, refunded.refunds, refunded.net),
        (4900, 4900, 0)
    );
    let disputed = ledger("disputed_customer");
    assert_eq!((disputed.disputes, disputed.won_disputes), (4900, 4900));
    assert_eq!(shop.paid("in_paid"), 1);
    assert_eq!(shop.paid("in_fault"), 1, "once, whatever went wrong");
    assert_eq!(shop.paid("in_debit"), 1);
    let net: i64 = shop
        .control()
        .ledger(None)
        .iter()
        .map(|line| line.net)
        .sum();
    // Confirmed on the page, disputed and won, debited, and paid after faults less a refund.
    assert_eq!(net, 4900 + 4900 + 4900 + 4800);
}

#[tokio::test]
async fn both_sides_believe_each_others_signatures() {
    let (shop, listener) = shop_with_listener().await;
    let wallet = shop.customer_with("pm_card_createDispute").await;
    shop.charge(&wallet, "in_1", "1").await.unwrap();
    quiet(&shop).await;
    let heard: Vec<Value> = listener
        .heard()
        .into_iter()
        .map(|heard| json!({ "signature": heard.signature, "body": heard.body }))
        .collect();
    assert_eq!(heard.len(), 7);
    let body = "{\"id\":\"evt_é\",\"object\":\"event\"}";
    let asked = json!({ "heard": heard, "secrets": ["whsec_new", "whsec_old"], "body": body });
    let told = run(&["verify"], &asked).await;
    assert_eq!(told["verified"], 7);

    let header = told["signature"].as_str().unwrap();
    let signed_at = header.split([',', '=']).nth(1).unwrap().parse().unwrap();
    let signed_at: DateTime<Utc> = DateTime::from_timestamp(signed_at, 0).unwrap();
    let verify = |body: &str, secret: &str, now| {
        signature::verify(header, body.as_bytes(), &[secret.to_owned()], now)
    };
    assert_eq!(verify(body, "whsec_new", signed_at), Ok(()));
    assert!(verify(body, "whsec_old", signed_at).is_err());
    assert!(verify("{}", "whsec_new", signed_at).is_err());
    let later = signed_at + TimeDelta::seconds(301);
    assert!(verify(body, "whsec_new", later).is_err());
}
