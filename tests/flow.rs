//! Flow control through the API and the command line: limits, pauses, breakers.

use std::process::Command;

use tenure_client::{
    ActOnBreaker, ActOnPause, Client, FlowRate, IdempotencyKey, PauseScope, RunFilter, RunPriority,
    RunStatus, SetFlowLimit,
};

use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::process::tenure;

const BECAUSE: &str = "the provider asked for it";

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_waits_while_its_limit_is_closed_and_goes_on_when_it_is_opened() {
    let app = TestApp::new().await;
    let limits = app.client.list_limits().await.unwrap();
    let charges = limits.iter().find(|one| one.name == "stripe-charges");
    assert_eq!(charges.unwrap().rate.unwrap().count, 80);
    let set = |concurrency, rate| SetFlowLimit {
        concurrency,
        rate,
        reason: BECAUSE.to_owned(),
    };
    let closed = set(Some(0), None);
    let line = app
        .client
        .set_limit("stripe-charges", &closed, &key())
        .await
        .unwrap();
    assert_eq!((line.concurrency, line.rate), (Some(0), None));

    let customer = app.customer().starter().await;
    customer.begin_advance("15d").await;
    let filter = RunFilter {
        workflow: Some("payment".to_owned()),
        status: Some(RunStatus::Blocked),
        ..RunFilter::default()
    };
    eventually("the payment is blocked", async || {
        app.client.list_runs(&filter).await.unwrap().items.len() == 1
    })
    .await;
    assert!(
        !customer.is_ready().await.unwrap(),
        "the clock waits for it"
    );
    let blocked = app.client.list_runs(&filter).await.unwrap().items;
    let detail = app.client.run(blocked[0].run_id).await.unwrap();
    assert!(
        detail.why.summary.contains("limit stripe-charges"),
        "{:?}",
        detail.why
    );

    let rate = FlowRate {
        count: 80,
        period_seconds: 1,
        burst: 80,
    };
    let open = set(None, Some(rate));
    app.client
        .set_limit("stripe-charges", &open, &key())
        .await
        .unwrap();
    eventually("the clock is ready", async || {
        customer.is_ready().await.unwrap()
    })
    .await;
    assert!(customer.ledger().await[0].contains("Paid"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_tenant_rests_alone_and_goes_on_where_it_stood() {
    let app = TestApp::new().await;
    let (one, other) = (
        app.customer().starter().await,
        app.customer().starter().await,
    );
    let act = ActOnPause {
        scope: PauseScope::Tenant,
        name: one.tenant.tenant_id.to_string(),
        reason: BECAUSE.to_owned(),
    };
    let pauses = app.client.pause_scope(&act, &key()).await.unwrap();
    assert_eq!((pauses.len(), pauses[0].waiting), (1, 0));
    one.advance("15d").await;
    other.advance("15d").await;
    assert!(one.ledger().await.is_empty(), "nothing happens to it");
    assert_eq!(other.ledger().await.len(), 1);
    let pauses = app.client.list_pauses().await.unwrap();
    assert!(pauses[0].waiting > 0, "{pauses:?}");
    let left = app.client.lift_pause(&act, &key()).await.unwrap();
    assert!(left.is_empty());
    one.advance("0h").await;
    assert_eq!(one.ledger().await.len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_left_alone_is_asked_again_when_the_breaker_is_closed() {
    let app = TestApp::new().await;
    let customer = app.customer().starter().await;
    let act = ActOnBreaker {
        reason: BECAUSE.to_owned(),
    };
    let open = app
        .client
        .open_breaker("stripe", &act, &key())
        .await
        .unwrap();
    assert_eq!((open.state.as_str(), open.forced), ("open", true));
    customer.begin_advance("15d").await;
    eventually("somebody waits for the provider", async || {
        app.client.list_breakers().await.unwrap()[0].waiting > 0
    })
    .await;
    let closed = app.client.close_breaker("stripe", &act, &key()).await;
    assert_eq!(closed.unwrap().state, "closed");
    eventually("the clock is ready", async || {
        customer.is_ready().await.unwrap()
    })
    .await;
    assert!(customer.ledger().await[0].contains("Paid"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let app = TestApp::new().await;
    let refusal = async |scope, name: &str, reason: &str| {
        let act = ActOnPause {
            scope,
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let refused = app.client.pause_scope(&act, &key()).await.unwrap_err();
        refused.to_string()
    };
    let unknown = refusal(PauseScope::Workflow, "nope", BECAUSE).await;
    assert!(unknown.contains("see /v1/workflows"), "{unknown}");
    let unknown = refusal(PauseScope::Tenant, "nope", BECAUSE).await;
    assert!(unknown.contains("see /v1/tenants"), "{unknown}");
    let empty = refusal(PauseScope::Workflow, "payment", " ").await;
    assert!(empty.contains("1 to 2,000 characters"), "{empty}");
    let mut set = SetFlowLimit {
        concurrency: None,
        rate: Some(FlowRate {
            count: 0,
            period_seconds: 1,
            burst: 1,
        }),
        reason: BECAUSE.to_owned(),
    };
    let none = app.client.set_limit("stripe-charges", &set, &key()).await;
    assert!(none.unwrap_err().to_string().contains("at least 1"));
    set.rate = None;
    let unknown = app.client.set_limit("a/b", &set, &key()).await;
    assert!(unknown.unwrap_err().to_string().contains("see /v1/limits"));
    assert!(app.client.list_pauses().await.unwrap().is_empty());
    let stranger = Client::new(&app.url, "tnr_wrong").unwrap();
    assert!(stranger.list_limits().await.is_err());
    app.finish().await;
}

/// Runs the program against an app; whether it ended well, and what it printed.
fn command(app: &TestApp, args: &[&str]) -> (bool, String) {
    let api = ["--url", &app.url, "--token", &app.token];
    let output = Command::new(tenure())
        .args(args)
        .args(api)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_starts_runs_later_and_gives_tenants_weight() {
    let app = TestApp::new().await;
    let subscriber = app.customer().starter().await;
    let tenant = subscriber.tenant.tenant_id.to_string();
    let tomorrow = subscriber.now().await + chrono::TimeDelta::days(1);
    let tomorrow = tomorrow.to_rfc3339();
    let start = [
        "run", "start", "notice", "--tenant", &tenant, "--key", "later",
    ];
    let what = [
        "--input",
        r#"{"recovered":{}}"#,
        "--priority",
        "low",
        "--at",
        &tomorrow,
    ];
    let (done, text) = command(&app, &[&start[..], &what].concat());
    assert!(done && text.contains("waiting"), "{text}");
    let run: uuid::Uuid = text.split_whitespace().next().unwrap().parse().unwrap();
    let shown = app.client.run(run).await.unwrap();
    assert_eq!(shown.priority, RunPriority::Low);
    assert_eq!(shown.why.kind, "starts_later", "{:?}", shown.why);
    let (done, text) = command(&app, &[&start[..], &["--priority", "soon"]].concat());
    assert!(!done && text.contains("one of highest, high"), "{text}");
    subscriber.advance("2d").await;
    let ended = app.client.run(run).await.unwrap().summary.status;
    assert!(!matches!(ended, RunStatus::Waiting), "{ended:?}");

    let set = ["flow", "set-weight", &tenant, "5", "--reason", "a contract"];
    let (done, text) = command(&app, &set);
    assert!(
        done && text.contains(&tenant) && text.contains('5'),
        "{text}"
    );
    let (done, text) = command(&app, &["flow", "weights"]);
    assert!(done && text.lines().count() == 1, "{text}");
    let much = ["flow", "set-weight", &tenant, "101", "--reason", "more"];
    let (done, text) = command(&app, &much);
    assert!(!done && text.contains("1 to 100"), "{text}");
    app.finish().await;
}
