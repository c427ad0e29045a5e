//! A sandbox with a real Stripe client beside it, and the calls that the tests make most.

use std::collections::HashMap;

use stripe::{Client, ClientBuilder, IdempotencyKey, RequestStrategy, StripeError, StripeRequest};
use stripe_core::customer::CreateCustomer;
use stripe_core::event::ListEvent;
use stripe_core::payment_intent::{CreatePaymentIntent, CreatePaymentIntentOffSession};
use stripe_payment::payment_method::AttachPaymentMethod;
use stripe_sandbox::{Control, LedgerLine, Sandbox, SandboxConfig, SandboxHandle};
use stripe_shared::{ApiErrors, Customer, PaymentIntent, PaymentMethod};
use stripe_types::Currency;

pub(super) const KEY: &str = "sk_test_suite";

pub(super) struct Shop {
    pub(super) sandbox: SandboxHandle,
    pub(super) client: Client,
}

/// An answer to a request that no Stripe client would send.
pub(super) struct Raw {
    pub(super) status: u16,
    pub(super) body: serde_json::Value,
    pub(super) headers: reqwest::header::HeaderMap,
}

impl Shop {
    pub(super) async fn open() -> Self {
        Self::with(SandboxConfig::new(KEY)).await
    }

    pub(super) async fn with(config: SandboxConfig) -> Self {
        let sandbox = Sandbox::start(config).await.unwrap();
        let client = ClientBuilder::new(KEY).url(sandbox.url()).build().unwrap();
        Self { sandbox, client }
    }

    pub(super) fn control(&self) -> &Control {
        self.sandbox.control()
    }

    pub(super) async fn customer(&self) -> Customer {
        CreateCustomer::new()
            .name("Acme")
            .email("billing@acme.example")
            .metadata(HashMap::from([("tenant".to_owned(), "t1".to_owned())]))
            .send(&self.client)
            .await
            .unwrap()
    }

    pub(super) async fn attach(
        &self,
        customer: &Customer,
        method: &str,
    ) -> Result<PaymentMethod, StripeError> {
        AttachPaymentMethod::new(method)
            .customer(customer.id.as_str())
            .send(&self.client)
            .await
    }

    /// A customer with a card that attaches.
    pub(super) async fn customer_with(&self, method: &str) -> (Customer, PaymentMethod) {
        let customer = self.customer().await;
        let method = self.attach(&customer, method).await.unwrap();
        (customer, method)
    }

    /// Charges 49.00 for an invoice while the customer is away.
    pub(super) async fn charge(
        &self,
        (customer, method): &(Customer, PaymentMethod),
        invoice: &str,
        key: &str,
    ) -> Result<PaymentIntent, StripeError> {
        CreatePaymentIntent::new(4900, Currency::EUR)
            .customer(customer.id.as_str())
            .payment_method(method.id.as_str())
            .off_session(CreatePaymentIntentOffSession::Bool(true))
            .confirm(true)
            .metadata(HashMap::from([("invoice".to_owned(), invoice.to_owned())]))
            .customize()
            .request_strategy(keyed(key))
            .send(&self.client)
            .await
    }

    /// A test clock of the provider's; returns its id.
    pub(super) async fn clock(&self, at: i64) -> String {
        let path = "v1/test_helpers/test_clocks";
        let made = self.raw("POST", path, &format!("frozen_time={at}")).await;
        made.body["id"].as_str().unwrap().to_owned()
    }

    /// Moves a test clock.
    pub(super) async fn advance(&self, clock: &str, to: i64) {
        let path = format!("v1/test_helpers/test_clocks/{clock}/advance");
        let moved = self.raw("POST", &path, &format!("frozen_time={to}")).await;
        assert_eq!(moved.body["frozen_time"], to);
    }

    /// A customer that lives by a clock, with a payment method that attaches.
    pub(super) async fn clocked(&self, clock: &str, method: &str) -> (Customer, PaymentMethod) {
        let customer = CreateCustomer::new()
            .test_clock(clock)
            .send(&self.client)
            .await
            .unwrap();
        let method = self.attach(&customer, method).await.unwrap();
        (customer, method)
    }

    /// The types of the events so far, oldest first, from the one after a number of them.
    pub(super) async fn told(&self, skipped: usize) -> Vec<String> {
        let events = ListEvent::new()
            .limit(100)
            .send(&self.client)
            .await
            .unwrap();
        assert!(!events.has_more);
        let types = events.data.iter().rev().skip(skipped);
        types.map(|event| event.type_.as_str().to_owned()).collect()
    }

    /// The ledger's only line.
    pub(super) fn ledger(&self, customer: &Customer) -> LedgerLine {
        let mut lines = self.control().ledger(Some(customer.id.as_str()));
        assert_eq!(lines.len(), 1);
        lines.remove(0)
    }

    /// Asks the control door over HTTP; an empty text asks with GET.
    pub(super) async fn door(&self, path: &str, body: &str) -> Raw {
        let url = format!("{}sandbox/{path}", self.sandbox.url());
        let client = reqwest::Client::new();
        let request = if body.is_empty() {
            client.get(url)
        } else {
            client.post(url).body(body.to_owned())
        };
        let request = request.header("content-type", "application/json");
        let answer = request.send().await.unwrap();
        Raw {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.json().await.unwrap(),
        }
    }

    /// How often money was taken for an invoice.
    pub(super) fn paid(&self, invoice: &str) -> usize {
        let charges = self.control().charges(&[("invoice", invoice)]);
        charges.iter().filter(|charge| charge.paid).count()
    }

    pub(super) async fn raw(&self, method: &str, path: &str, body: &str) -> Raw {
        self.raw_as(KEY, None, method, path, body).await
    }

    pub(super) async fn raw_as(
        &self,
        api_key: &str,
        idempotency_key: Option<&str>,
        method: &str,
        path: &str,
        body: &str,
    ) -> Raw {
        let url = format!("{}{path}", self.sandbox.url());
        let mut request = reqwest::Client::new()
            .request(method.parse().unwrap(), url)
            .bearer_auth(api_key)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.to_owned());
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.unwrap();
        Raw {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.json().await.unwrap(),
        }
    }
}

pub(super) fn keyed(key: &str) -> RequestStrategy {
    RequestStrategy::Idempotent(IdempotencyKey::new(key).unwrap())
}

/// The refusal that an answer must be.
pub(super) fn refusal<T>(answer: Result<T, StripeError>) -> (u16, ApiErrors) {
    match answer {
        Err(StripeError::Stripe(error, status)) => (status, *error),
        Err(other) => panic!("not a refusal by Stripe: {other}"),
        Ok(_) => panic!("this should have been refused"),
    }
}
