//! Webhooks and the list of events: signed, repeated, late, out of order, or missing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use stripe_core::event::{ListEvent, RetrieveEvent};
use stripe_sandbox::{SandboxConfig, WebhookEndpoint, WebhookMode};

use super::shop::{KEY, Shop};

/// A listener that keeps what it is told and refuses on request.
#[derive(Clone, Default)]
pub(super) struct Listener {
    heard: Arc<Mutex<Vec<Heard>>>,
    refusals: Arc<Mutex<VecDeque<StatusCode>>>,
}

/// A delivery as it came.
#[derive(Clone)]
pub(super) struct Heard {
    pub(super) signature: String,
    pub(super) body: String,
    event: Value,
}

impl Listener {
    async fn start() -> (Self, String) {
        let listener = Self::default();
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", socket.local_addr().unwrap());
        let router = axum::Router::new()
            .route("/hook", axum::routing::post(hear))
            .with_state(listener.clone());
        tokio::spawn(axum::serve(socket, router).into_future());
        (listener, url)
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub(super) fn types(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard
            .iter()
            .map(|heard| heard.event["type"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn hear(State(listener): State<Listener>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if let Some(refusal) = listener.refusals.lock().unwrap().pop_front() {
        return refusal;
    }
    let header = headers["stripe-signature"].to_str().unwrap();
    let text = std::str::from_utf8(&body).unwrap();
    let timestamp = header
        .split(',')
        .next()
        .unwrap()
        .strip_prefix("t=")
        .unwrap();
    for secret in ["whsec_new", "whsec_old"] {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{timestamp}.{text}").as_bytes());
        let expected = format!("v1={}", hex::encode(mac.finalize().into_bytes()));
        assert!(
            header.split(',').any(|part| part == expected),
            "not signed with {secret}"
        );
    }
    listener.heard.lock().unwrap().push(Heard {
        signature: header.to_owned(),
        body: text.to_owned(),
        event: serde_json::from_str(text).unwrap(),
    });
    StatusCode::OK
}

pub(super) async fn shop_with_listener() -> (Shop, Listener) {
    shop_that_tries(SandboxConfig::new(KEY).webhook_attempts).await
}

/// A shop that gives a webhook up after some attempts.
async fn shop_that_tries(attempts: u32) -> (Shop, Listener) {
    let (listener, url) = Listener::start().await;
    let mut config = SandboxConfig::new(KEY);
    config.webhook_attempts = attempts;
    config.webhook_retry_milliseconds = 1;
    config.webhooks = vec![WebhookEndpoint {
        url,
        secrets: vec!["whsec_new".to_owned(), "whsec_old".to_owned()],
        enabled_events: Vec::new(),
    }];
    (Shop::with(config).await, listener)
}

pub(super) async fn quiet(shop: &Shop) {
    assert!(
        shop.control()
            .wait_until_quiet(Duration::from_secs(30))
            .await
    );
}

#[tokio::test]
async fn every_change_is_told_in_order_and_signed() {
    let (shop, listener) = shop_with_listener().await;
    listener
        .refusals
        .lock()
        .unwrap()
        .push_back(StatusCode::INTERNAL_SERVER_ERROR);
    shop.customer().await;
    quiet(&shop).await;
    assert_eq!(
        listener.types(),
        ["customer.created"],
        "a refused webhook comes again"
    );
    let wallet = shop.customer_with("pm_card_visa").await;
    shop.charge(&wallet, "in_1", "k").await.unwrap();
    quiet(&shop).await;
    assert_eq!(
        listener.types()[1..],
        [
            "customer.created",
            "payment_method.attached",
            "payment_intent.created",
            "charge.succeeded",
            "payment_intent.succeeded"
        ]
    );
    let heard = listener.heard();
    let last = &heard.last().unwrap().event;
    assert_eq!(last["data"]["object"]["metadata"]["invoice"], "in_1");
    assert_eq!(last["request"]["idempotency_key"], "k");
    let told = last["data"]["object"].as_object().unwrap();
    assert!(
        told.keys().all(|name| !name.starts_with('_')),
        "the sandbox's own fields stay inside"
    );
    let event = RetrieveEvent::new(last["id"].as_str().unwrap())
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(
        (event.type_.as_str(), event.pending_webhooks),
        ("payment_intent.succeeded", 0)
    );
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_given_up_and_may_be_told_again() {
    let (shop, listener) = shop_that_tries(3).await;
    let refusals = [500, 302, 404].map(|status| StatusCode::from_u16(status).unwrap());
    listener.refusals.lock().unwrap().extend(refusals);
    shop.customer().await;
    quiet(&shop).await;
    let delivery = shop.control().deliveries().remove(0);
    assert_eq!(
        (&delivery["state"], &delivery["attempts"]),
        (&"failed".into(), &3.into())
    );
    assert_eq!(delivery["answer"], "404 Not Found");
    assert!(listener.heard().is_empty());
    let undelivered = ListEvent::new().delivery_success(false);
    let undelivered = undelivered.send(&shop.client).await.unwrap();
    let event = undelivered.data[0].id.as_str();
    shop.control().resend_event(event).unwrap();
    quiet(&shop).await;
    assert_eq!(listener.types(), ["customer.created"]);
}

#[tokio::test]
async fn webhooks_come_twice_late_reversed_or_never_on_request() {
    let (shop, listener) = shop_with_listener().await;
    let wallet = shop.customer_with("pm_card_visa").await;
    quiet(&shop).await;
    let charged = [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
    ];
    let mut reversed = charged;
    reversed.reverse();
    let doubled: Vec<_> = charged.iter().flat_map(|name| [*name, *name]).collect();
    for (mode, expected) in [
        (WebhookMode::Twice, doubled.as_slice()),
        (WebhookMode::Late { milliseconds: 20 }, charged.as_slice()),
        (WebhookMode::Never, &[]),
    ] {
        listener.heard.lock().unwrap().clear();
        shop.control().set_webhook_mode(mode.clone()).unwrap();
        let key = format!("{mode:?}");
        shop.charge(&wallet, &key, &key).await.unwrap();
        quiet(&shop).await;
        assert_eq!(listener.types(), expected, "{mode:?}");
    }
    for newest_first in [false, true] {
        listener.heard.lock().unwrap().clear();
        shop.control().set_webhook_mode(WebhookMode::Held).unwrap();
        let key = format!("held {newest_first}");
        shop.charge(&wallet, &key, &key).await.unwrap();
        assert!(!shop.control().wait_until_quiet(Duration::ZERO).await);
        assert_eq!(shop.control().release_webhooks(newest_first).unwrap(), 3);
        quiet(&shop).await;
        assert_eq!(
            listener.types(),
            if newest_first { reversed } else { charged }
        );
    }
}

#[tokio::test]
async fn the_list_of_events_closes_every_gap() {
    let (shop, listener) = shop_with_listener().await;
    let wallet = shop.customer_with("pm_card_visa").await;
    shop.control().set_webhook_mode(WebhookMode::Never).unwrap();
    let newest = ListEvent::new()
        .limit(1)
        .send(&shop.client)
        .await
        .unwrap()
        .data
        .remove(0);
    assert_eq!(newest.type_.as_str(), "payment_method.attached");
    for invoice in ["in_1", "in_2", "in_3"] {
        shop.charge(&wallet, invoice, invoice).await.unwrap();
    }
    quiet(&shop).await;
    let missed = ListEvent::new()
        .types(["payment_intent.succeeded".to_owned()])
        .ending_before(newest.id.as_str())
        .limit(2)
        .send(&shop.client)
        .await
        .unwrap();
    assert!(missed.has_more);
    assert_eq!(
        missed.data.len(),
        2,
        "the page right after the last event that was seen"
    );
    let next = ListEvent::new()
        .types(["payment_intent.succeeded".to_owned()])
        .ending_before(missed.data[0].id.as_str())
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!((next.data.len(), next.has_more), (1, false));
    let undelivered = ListEvent::new()
        .delivery_success(false)
        .limit(100)
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(undelivered.data.len(), 9);
    assert_eq!(undelivered.data[0].pending_webhooks, 1);
    shop.control()
        .resend_event(undelivered.data[0].id.as_str())
        .unwrap();
    quiet(&shop).await;
    assert_eq!(listener.types().last().unwrap(), "payment_intent.succeeded");
    let left = ListEvent::new()
        .delivery_success(false)
        .limit(100)
        .send(&shop.client)
        .await
        .unwrap();
    assert_eq!(left.data.len(), 8);
}

#[tokio::test]
async fn a_test_clock_is_ready_only_when_its_webhooks_have_arrived() {
    let (shop, _listener) = shop_with_listener().await;
    let clocks = "v1/test_helpers/test_clocks";
    let clock = shop
        .raw("POST", clocks, "frozen_time=1700000000&name=t1")
        .await
        .body;
    let clock = format!("{clocks}/{}", clock["id"].as_str().unwrap());
    let id = clock.rsplit('/').next().unwrap();
    shop.control().set_webhook_mode(WebhookMode::Held).unwrap();
    let customer = shop
        .raw("POST", "v1/customers", &format!("test_clock={id}"))
        .await
        .body;
    assert_eq!(customer["created"], 1_700_000_000);
    let advanced = shop
        .raw(
            "POST",
            &format!("{clock}/advance"),
            "frozen_time=1800000000",
        )
        .await;
    assert_eq!(advanced.body["status"], "advancing");
    let attach = format!("customer={}", customer["id"].as_str().unwrap());
    let method = shop
        .raw("POST", "v1/payment_methods/pm_card_visa/attach", &attach)
        .await
        .body;
    assert_eq!(method["created"], 1_800_000_000);
    shop.control().release_webhooks(false).unwrap();
    quiet(&shop).await;
    assert_eq!(shop.raw("GET", &clock, "").await.body["status"], "ready");
    let back = shop
        .raw("POST", &format!("{clock}/advance"), "frozen_time=1")
        .await;
    assert_eq!(back.status, 400);
    let deleted = shop.raw("DELETE", &clock, "").await.body;
    assert_eq!(deleted["deleted"], true);
    let path = format!("v1/customers/{}", customer["id"].as_str().unwrap());
    assert_eq!(shop.raw("GET", &path, "").await.body["deleted"], true);
}
