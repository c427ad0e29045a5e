//! The database goes away: before a request, under one, and with all its connections.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;

use super::{Raw, acme, expect, refused};
use crate::support::app::TestApp;
use crate::support::{self, eventually};

/// How many connections each of the API's pools has open when the database goes away.
const AT_ONCE: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_503_and_nothing_is_half_done() {
    let (mut cluster, _root) = support::durable_cluster().await;
    let options = cluster.connect_options("tenure");
    let app = TestApp::on(options.clone()).await;
    let raw = Raw::new(&app);
    cluster.stop_immediate().await;
    let away = refused(raw.post("/v1/tenants", "k", &acme())).await;
    assert_eq!(away, expect(503, "database_unavailable", ""));
    assert!(app.client.readyz().await.is_err());
    assert!(app.client.livez().await.is_ok());
    cluster.restart().await.unwrap();
    ready(&app).await;
    assert_eq!(count(&options, "app.tenant").await, 0);
    // The same request with the same key goes through now.
    let made = raw.post("/v1/tenants", "k", &acme()).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    app.finish().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_under_a_request_is_503_and_its_key_is_good_once() {
    let (mut cluster, _root) = support::durable_cluster().await;
    let options = cluster.connect_options("tenure");
    let app = TestApp::on(options.clone()).await;
    let raw = Raw::new(&app);
    // The answer is kept last: all else is done when the request comes to wait for it.
    let mut keeper = support::connect(&options).await;
    sqlx::raw_sql("begin; lock table app.idempotency in share mode")
        .execute(&mut keeper)
        .await
        .unwrap();
    let asked = tokio::spawn(raw.post("/v1/tenants", "k", &acme()).send());
    eventually("the request waits within its transaction", async || {
        waiting(&options, "app.idempotency").await == 1
    })
    .await;
    cluster.stop_immediate().await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "database_unavailable");
    assert_eq!(problem["retryable"], true);
    cluster.restart().await.unwrap();
    ready(&app).await;
    for half in ["app.tenant", "app.idempotency"] {
        assert_eq!(count(&options, half).await, 0, "{half}");
    }
    let mut made = Vec::new();
    for again in [false, true] {
        let answer = raw.post("/v1/tenants", "k", &acme()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        let replayed = answer.headers().contains_key("idempotent-replayed");
        assert_eq!(replayed, again);
        made.push(answer.json::<Value>().await.unwrap());
    }
    assert_eq!(made[0], made[1]);
    assert_eq!(count(&options, "app.tenant").await, 1);
    app.finish().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_one_request_at_most_meets_a_connection_that_broke() {
    let (mut cluster, _root) = support::durable_cluster().await;
    let options = cluster.connect_options("tenure");
    let app = TestApp::on(options.clone()).await;
    let raw = Raw::new(&app);
    let made = raw.post("/v1/tenants", "first", &acme()).send();
    let made: Value = made.await.unwrap().json().await.unwrap();
    let path = format!(
        "/v1/tenants/{}/entitlements",
        made["tenant_id"].as_str().unwrap()
    );
    // One for each pool.
    let ask = |key: String| {
        [
            raw.post("/v1/tenants", &key, &acme()),
            raw.request(Method::GET, &path),
        ]
    };
    // First no key is looked up, then nobody is told apart: each waits on a connection of its own.
    let mut keeper = support::connect(&options).await;
    let (posts, gets): (Vec<_>, Vec<_>) = (0..AT_ONCE)
        .map(|n| ask(format!("before {n}")).into())
        .unzip();
    let mut asked = Vec::new();
    for (requests, table) in [(posts, "app.idempotency"), (gets, "app.token")] {
        let lock = format!("begin; lock table {table} in access exclusive mode");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock))
            .execute(&mut keeper)
            .await
            .unwrap();
        asked.extend(requests.into_iter().map(|one| tokio::spawn(one.send())));
        eventually("all wait", async || {
            waiting(&options, table).await == AT_ONCE
        })
        .await;
    }
    sqlx::raw_sql("commit").execute(&mut keeper).await.unwrap();
    for answer in asked {
        assert!(answer.await.unwrap().unwrap().status().is_success());
    }
    cluster.stop_immediate().await;
    cluster.restart().await.unwrap();
    let mut broken = 0;
    for one in (0..AT_ONCE).flat_map(|n| ask(format!("after {n}"))) {
        let status = one.send().await.unwrap().status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            broken += 1;
        } else {
            assert!(status.is_success(), "{status}");
        }
    }
    assert!(broken <= 1, "{broken} requests met a connection that broke");
    app.finish().await;
    cluster.stop().await;
}

async fn ready(app: &TestApp) {
    eventually("the API is ready again", async || {
        app.client.readyz().await.is_ok()
    })
    .await;
}

/// How many sessions wait for a lock on a table.
async fn waiting(options: &PgConnectOptions, table: &str) -> usize {
    let found: i64 = sqlx::query_scalar(
        "select count(*) from pg_locks where not granted and relation = $1::text::regclass",
    )
    .bind(table)
    .fetch_one(&mut support::connect(options).await)
    .await
    .unwrap();
    usize::try_from(found).unwrap()
}

async fn count(options: &PgConnectOptions, table: &'static str) -> i64 {
    let counted = format!("select count(*) from {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(counted))
        .fetch_one(&mut support::connect(options).await)
        .await
        .unwrap()
}
