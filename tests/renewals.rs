//! Renewal day: how often the provider is asked when many subscriptions renew at one instant.
//!
//! The suite renews a hundred; `TENURE_SUITE_RENEWALS=5000` renews more.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use tenure_client::{IdempotencyKey, InvoiceStatus, NewSubscription};

use crate::support::app::TestApp;

/// Requests for what a charge is made of, not those that move the clock or read the list of events.
fn calls(app: &TestApp) -> BTreeMap<String, u64> {
    let mut calls = app.sandbox.control().requests();
    calls.retain(|request, _| {
        !request.ends_with(" /v1/test_helpers") && !request.ends_with(" /v1/events")
    });
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_asks_the_provider_twice_at_most() {
    let wanted = std::env::var_os("TENURE_SUITE_RENEWALS");
    let wanted = wanted.map(|wanted| wanted.into_string().unwrap());
    let renewals: usize = wanted.map_or(100, |wanted| wanted.parse().unwrap());
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let one_more = async |_| {
        let new = NewSubscription {
            plan: "team-monthly".to_owned(),
            currency: "USD".to_owned(),
            ..NewSubscription::default()
        };
        let key = IdempotencyKey::generate();
        client.subscribe(tenant, &new, &key).await.unwrap();
    };
    futures_util::stream::iter(1..renewals)
        .for_each_concurrent(6, one_more)
        .await;
    customer.advance("0h").await;
    let before = calls(&app);
    customer.advance("30d").await;
    let after = calls(&app);
    let invoices = customer.invoices().await;
    let renewed = invoices
        .iter()
        .filter(|invoice| invoice.status == InvoiceStatus::Paid)
        .count();
    assert_eq!(renewed, 2 * renewals, "all are paid, for June and for July");
    let mut asked = 0;
    for (request, count) in &after {
        let more = count - before.get(request).copied().unwrap_or_default();
        assert!(more <= 2 * renewals as u64, "{request}: {more}");
        asked += more;
    }
    // One that charges, and one that looks when the provider tells of it.
    assert!(
        (renewals as u64..=2 * renewals as u64).contains(&asked),
        "{asked} requests: {before:?}, then {after:?}"
    );
    app.finish().await;
}
