//! Several processes side by side on one database, each with API and worker.

use tenure_client::{Client, IdempotencyKey, NewTenant};

use super::{Stage, left, ready};
use crate::support::app::Customer;

#[tokio::test(flavor = "multi_thread")]
async fn api_nodes_and_workers_side_by_side_do_each_thing_once() {
    let stage = Stage::set().await;
    let mut other = stage.server.twin();
    let metrics = other.serve_metrics();
    let beside = Client::new(&other.url(), &stage.token).unwrap();
    other.start_ready(&beside).await;

    // A request that is repeated at another node is the same request.
    let new = NewTenant {
        name: "Twice".to_owned(),
        email: "twice@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let key = IdempotencyKey::generate();
    let here = stage.client.create_tenant(&new, &key).await.unwrap();
    let there = beside.create_tenant(&new, &key).await.unwrap();
    assert_eq!(here.tenant_id, there.tenant_id);

    let mut customers = Vec::new();
    for _ in 0..3 {
        for client in [&stage.client, &beside] {
            customers.push(Customer { client }.starter().await);
        }
    }
    for customer in &customers {
        customer.begin_advance("15d").await;
    }
    for customer in &customers {
        ready(customer).await;
    }
    let expected = left(&customers[0]).await;
    assert!(!expected.0.is_empty(), "an invoice was made");
    for customer in &customers {
        assert_eq!(left(customer).await, expected);
        stage.assert_once(customer, 1).await;
    }
    // Both had a hand in it.
    let text = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
    let claimed = text
        .lines()
        .find_map(|line| line.strip_prefix("tenure_claimed_runs_total "))
        .unwrap();
    assert_ne!(claimed, "0");
    assert!(stage.metric("tenure_claimed_runs_total").await >= 1.0);
}
