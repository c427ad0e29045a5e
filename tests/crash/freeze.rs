//! The process is frozen past its lease, and wakes with an answer in its hands.

use nix::sys::signal::Signal;
use tenure_client::{Client, RunFilter};

use super::{Stage, ready};
use crate::support::app::{Customer, Subscriber};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_writes_nothing_when_it_wakes() {
    let stage = Stage::set().await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let customer = make.starter().await;
    stage.charge_without_an_answer(&customer).await;
    stage.server.signal(Signal::SIGSTOP);
    // Another server on the same database takes over once the lease has ended.
    let mut other = stage.server.twin();
    let beside = Client::new(&other.url(), &stage.token).unwrap();
    other.start_ready(&beside).await;
    let seen = Subscriber {
        client: &beside,
        tenant: customer.tenant.clone(),
        clock: customer.clock,
        subscription: customer.subscription,
    };
    ready(&seen).await;
    let before = (seen.ledger().await, payment_steps(&seen).await);
    assert!(before.0.len() == 1 && before.0[0].contains("Paid"));
    // The frozen one hears what it had asked for, a lease too late.
    assert_eq!(stage.sandbox.control().release_answers(), 1);
    stage.server.signal(Signal::SIGCONT);
    eventually(
        "the woken server knows that its lease is gone",
        async || stage.metric("tenure_leases_lost_total").await >= 1.0,
    )
    .await;
    eventually("the woken server serves again", async || {
        client.readyz().await.is_ok()
    })
    .await;
    assert_eq!((seen.ledger().await, payment_steps(&seen).await), before);
    seen.advance("1mo").await;
    assert_eq!(seen.ledger().await[..1], before.0[..]);
    stage.assert_once(&seen, 2).await;
}

/// When which step of the payments was recorded.
async fn payment_steps(customer: &Subscriber<'_>) -> Vec<String> {
    let filter = RunFilter {
        workflow: Some("payment".to_owned()),
        tenant_id: Some(customer.tenant.tenant_id),
        ..RunFilter::default()
    };
    let runs = customer.client.list_runs(&filter).await.unwrap();
    let mut lines = Vec::new();
    for run in runs.items {
        for step in customer.client.list_steps(run.run_id).await.unwrap() {
            lines.push(format!("{} {} {}", run.key, step.name, step.recorded_at));
        }
    }
    assert!(!lines.is_empty(), "no payment left a step");
    lines
}
