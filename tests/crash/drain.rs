//! The process is asked to stop while a charge is on its way.

use nix::sys::signal::Signal;
use sqlx::PgConnection;
use tenure_client::{IdempotencyKey, NewTenant};

use super::{Stage, ready};
use crate::support::app::Customer;
use crate::support::{self, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_told_takes_nothing_new_and_ends_with_the_visit() {
    let database = support::database_url().await;
    let mut conn = support::connect(&database.parse().unwrap()).await;
    let mut stage = Stage::on(database).await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let customer = make.starter().await;
    stage.charge_without_an_answer(&customer).await;
    stage.server.signal(Signal::SIGTERM);
    eventually("the server says that it drains", async || {
        let said = client.readyz().await.err();
        let problem = said.as_ref().and_then(|error| error.problem());
        problem.is_some_and(|problem| (problem.status, problem.code.as_str()) == (503, "draining"))
    })
    .await;
    let late = NewTenant {
        name: "Late".to_owned(),
        email: "late@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        legal_entity: None,
        test_clock: None,
    };
    let key = IdempotencyKey::generate();
    let late = client.create_tenant(&late, &key).await.unwrap().tenant_id;
    assert_eq!(stage.sandbox.control().release_answers(), 1);
    assert!(stage.server.wait(), "an orderly stop is a success");

    assert_eq!(count(&mut conn, "worker_id is not null").await, 0);
    let untouched = format!("tenant_id = '{late}' and status = 0 and epoch = 0");
    assert_eq!(count(&mut conn, &untouched).await, 1);
    let charged = "workflow = 'payment' and exists
        (select from engine.step where step.run_id = run.run_id and step.name = 'charge')";
    assert_eq!(count(&mut conn, charged).await, 1, "the answer was kept");
    // Whoever goes on has nothing to ask the provider again.
    let control = stage.sandbox.control();
    control.forget_idempotency_keys(None).unwrap();
    stage.server.start_ready(&client).await;
    ready(&customer).await;
    assert!(customer.ledger().await[0].contains("Paid"));
    stage.assert_once(&customer, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_outlasts_the_drain_is_given_back_and_charges_once() {
    let database = support::database_url().await;
    let mut conn = support::connect(&database.parse().unwrap()).await;
    let mut stage = Stage::on(database).await;
    let client = stage.client.clone();
    let make = Customer { client: &client };
    let customer = make.starter().await;
    stage.server.signal(Signal::SIGTERM);
    assert!(stage.server.wait());
    // A lease that nobody waits for here.
    let mut command = stage.server.command();
    command
        .env("TENURE_LEASE_SECONDS", "60")
        .env("TENURE_DRAIN_SECONDS", "1");
    stage.server.start_by(command);
    stage.server.ready(&client).await;
    stage.charge_without_an_answer(&customer).await;
    stage.server.signal(Signal::SIGTERM);
    assert!(stage.server.wait(), "an orderly stop is a success");
    assert_eq!(count(&mut conn, "worker_id is not null").await, 0);
    let given_back = "workflow = 'payment' and status = 0 and losses = 1";
    assert_eq!(count(&mut conn, given_back).await, 1);
    let control = stage.sandbox.control();
    control.forget_idempotency_keys(None).unwrap();
    stage.server.start_ready(&client).await;
    ready(&customer).await;
    assert!(customer.ledger().await[0].contains("Paid"));
    stage.assert_once(&customer, 1).await;
}

/// How many runs there are of this kind.
async fn count(conn: &mut PgConnection, such: &str) -> i64 {
    let counted = format!("select count(*) from engine.run where {such}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(counted))
        .fetch_one(conn)
        .await
        .unwrap()
}
