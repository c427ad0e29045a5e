//! Flow control through the API and the command line: limits, pauses, breakers.

use std::process::Command;

use tenure_client::{
    ActOnBreaker, ActOnPause, Client, ClientError, FlowRate, IdempotencyKey, PauseScope, RunFilter,
    RunPriority, RunStatus, SetFlowLimit, SetTenantWeight,
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
        seen: None,
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
        seen: None,
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
async fn a_paused_queue_holds_its_workflows_and_no_others() {
    let app = TestApp::new().await;
    let customer = app.customer().starter().await;
    let workflows = app.client.list_workflows().await.unwrap();
    let in_queue = |queue: &str| -> Vec<&str> {
        let of_it = workflows.iter().filter(|one| one.queue == queue);
        of_it.map(|one| one.workflow.as_str()).collect()
    };
    assert_eq!(in_queue("payments"), ["charge", "payment", "refund"]);
    assert_eq!(in_queue("mails"), ["notice"]);
    let act = ActOnPause {
        scope: PauseScope::Queue,
        name: "payments".to_owned(),
        reason: BECAUSE.to_owned(),
        seen: None,
    };
    app.client.pause_scope(&act, &key()).await.unwrap();
    customer.begin_advance("15d").await;
    eventually("its payment stands in the queue", async || {
        app.client.list_pauses().await.unwrap()[0].waiting == 1
    })
    .await;
    let blocked = RunFilter {
        filter: Some("status:blocked".to_owned()),
        ..RunFilter::default()
    };
    let blocked = app.client.list_runs(&blocked).await.unwrap().items;
    let blocked: Vec<&str> = blocked.iter().map(|run| run.workflow.as_str()).collect();
    assert_eq!(blocked, ["payment"]);
    app.client.lift_pause(&act, &key()).await.unwrap();
    // Not until the clock is ready: an advance does not wait for who is paused.
    eventually("its invoice is paid", async || {
        customer.ledger().await[0].contains("Paid")
    })
    .await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_left_alone_is_asked_again_when_the_breaker_is_closed() {
    let app = TestApp::new().await;
    let customer = app.customer().starter().await;
    let act = ActOnBreaker {
        reason: BECAUSE.to_owned(),
        seen: None,
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
            seen: None,
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
        seen: None,
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

/// Status, code, pointer and words of a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String, String, String) {
    let refused = answer.unwrap_err();
    let problem = refused.problem().unwrap();
    let pointer = problem.errors.first().map(|error| error.pointer.clone());
    (
        problem.status,
        problem.code.clone(),
        pointer.unwrap_or_default(),
        refused.to_string(),
    )
}

/// A refusal of what changed since it was seen, which tells how it is now.
fn assert_moved<T: std::fmt::Debug>(answer: Result<T, ClientError>, now: &str) {
    let (status, code, pointer, words) = refusal(answer);
    assert_eq!(
        (status, code.as_str(), pointer.as_str()),
        (409, "moved", "/seen"),
        "{words}"
    );
    assert!(words.contains(now), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_set_a_limit_that_both_saw_one_is_told_what_the_other_did() {
    const LIMIT: &str = "stripe-charges";
    let app = TestApp::new().await;
    let limit = async || {
        let limits = app.client.list_limits().await.unwrap();
        limits.into_iter().find(|one| one.name == LIMIT).unwrap()
    };
    let seen = limit().await.seen();
    let set = |most: u32| SetFlowLimit {
        concurrency: Some(most),
        rate: None,
        reason: BECAUSE.to_owned(),
        seen: Some(seen),
    };
    let (five, nine) = (set(5), set(9));
    let keys = (key(), key());
    let (one, other) = tokio::join!(
        app.client.set_limit(LIMIT, &five, &keys.0),
        app.client.set_limit(LIMIT, &nine, &keys.1),
    );
    let (won, lost) = match (one, other) {
        (Ok(won), lost) => (won, lost),
        (lost, Ok(won)) => (won, lost),
        neither => panic!("{neither:?}"),
    };
    let now = format!("it is now: {} at once, by suite", won.concurrency.unwrap());
    assert_moved(lost, &now);
    assert_eq!(
        limit().await.seen(),
        won.seen(),
        "what was refused did nothing"
    );

    // With what is there now it is done.
    let again = SetFlowLimit {
        seen: Some(won.seen()),
        ..set(7)
    };
    let done = app.client.set_limit(LIMIT, &again, &key()).await.unwrap();
    assert_eq!(done.concurrency, Some(7));
    let unknown = app.client.set_limit("nope", &again, &key()).await;
    assert_eq!(refusal(unknown).0, 404);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_set_a_weight_that_both_saw_one_is_told_what_the_other_did() {
    let app = TestApp::new().await;
    let tenant = app.customer().starter().await.tenant.tenant_id;
    let set = |weight, seen| SetTenantWeight {
        tenant_id: tenant,
        weight,
        reason: BECAUSE.to_owned(),
        seen,
    };
    // Neither one that has a weight of its own nor one that has none.
    for seen in [1, 5] {
        let (seven, nine) = (set(7, Some(seen)), set(9, Some(seen)));
        let keys = (key(), key());
        let (one, other) = tokio::join!(
            app.client.set_weight(&seven, &keys.0),
            app.client.set_weight(&nine, &keys.1),
        );
        let (won, lost) = match (one, other) {
            (Ok(won), lost) => (won, lost),
            (lost, Ok(won)) => (won, lost),
            neither => panic!("{neither:?}"),
        };
        assert_moved(lost, &format!("it is now: {}", won[0].weight));
        assert_eq!(app.client.list_weights().await.unwrap(), won);
        // Whoever does not say what was seen overwrites.
        app.client.set_weight(&set(5, None), &key()).await.unwrap();
    }
    let none = app.client.set_weight(&set(1, Some(5)), &key()).await;
    assert_eq!(none.unwrap(), []);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_somebody_else_placed_meanwhile_is_not_lifted() {
    let app = TestApp::new().await;
    let act = |reason: &str, seen| ActOnPause {
        scope: PauseScope::Workflow,
        name: "payment".to_owned(),
        reason: reason.to_owned(),
        seen,
    };
    let first = act("the provider is down", None);
    let first = app.client.pause_scope(&first, &key()).await.unwrap();
    let seen = first[0].seen();
    // Somebody lifts it, and another one is placed.
    let lift = act("it is up", Some(seen.clone()));
    assert_eq!(app.client.lift_pause(&lift, &key()).await.unwrap(), []);
    let second = act("an audit of ours", None);
    let second = app.client.pause_scope(&second, &key()).await.unwrap();
    let stale = app.client.lift_pause(&lift, &key()).await;
    assert_moved(stale, "by suite admin: an audit of ours");
    assert_eq!(app.client.list_pauses().await.unwrap(), second);
    let lift = act("it is over", Some(second[0].seen()));
    assert_eq!(app.client.lift_pause(&lift, &key()).await.unwrap(), []);
    let gone = app.client.lift_pause(&lift, &key()).await;
    assert_eq!(refusal(gone).0, 404);
    // One that stands keeps its author and reason, so that there is nothing to overwrite.
    let placed = act("again", Some(seen));
    let refused = app.client.pause_scope(&placed, &key()).await;
    let (status, _, pointer, _) = refusal(refused);
    assert_eq!((status, pointer.as_str()), (422, "/seen"));
    assert_eq!(app.client.list_pauses().await.unwrap(), []);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_is_set_only_as_it_was_seen() {
    let app = TestApp::new().await;
    let act = |seen| ActOnBreaker {
        reason: BECAUSE.to_owned(),
        seen,
    };
    let any = act(None);
    let open = app.client.open_breaker("stripe", &any, &key()).await;
    let seen = act(Some(open.unwrap().seen()));
    let closed = app.client.close_breaker("stripe", &seen, &key()).await;
    let closed = closed.unwrap();
    let stale = app.client.close_breaker("stripe", &seen, &key()).await;
    assert_moved(stale, "it is now: closed, by suite admin");
    let seen = act(Some(closed.seen()));
    let held = app.client.open_breaker("stripe", &seen, &key()).await;
    assert!(held.unwrap().forced);
    let never = app.client.open_breaker("nope", &seen, &key()).await;
    let (status, _, _, words) = refusal(never);
    assert_eq!(status, 404, "{words}");
    assert!(words.contains("see /v1/breakers"), "{words}");
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

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_sends_along_what_was_seen() {
    let app = TestApp::new().await;
    let line = |limits: &str| {
        let limits: Vec<serde_json::Value> = serde_json::from_str(limits).unwrap();
        let one = limits.iter().find(|one| one["name"] == "stripe-charges");
        one.unwrap().to_string()
    };
    let (done, limits) = command(&app, &["flow", "limits", "--json"]);
    assert!(done, "{limits}");
    let seen = line(&limits);
    let set = |most: &str, seen: &str| {
        let limit = ["flow", "set-limit", "stripe-charges", "--reason", "r"];
        let how = ["--concurrency", most, "--seen", seen];
        command(&app, &[&limit[..], &how].concat())
    };
    let (done, text) = set("5", &seen);
    assert!(done && text.contains("5 at once"), "{text}");
    let (done, text) = set("9", &seen);
    assert!(!done && text.contains("it is now: 5 at once"), "{text}");
    let (done, text) = set("9", "5");
    assert!(!done && text.contains("not as --json prints it"), "{text}");
    let (_, limits) = command(&app, &["flow", "limits", "--json"]);
    let (done, text) = set("9", &line(&limits));
    assert!(done && text.contains("9 at once"), "{text}");

    let pause = ["flow", "pause", "workflow", "payment", "--reason", "r"];
    let (done, pauses) = command(&app, &[&pause[..], &["--json"]].concat());
    assert!(done, "{pauses}");
    let pauses: Vec<serde_json::Value> = serde_json::from_str(&pauses).unwrap();
    let mut other = pauses[0].clone();
    other["reason"] = "another".into();
    let lift = |seen: &serde_json::Value| {
        let lift = ["flow", "lift", "workflow", "payment", "--reason", "r"];
        let seen = seen.to_string();
        command(&app, &[&lift[..], &["--seen", &seen]].concat())
    };
    let (done, text) = lift(&other);
    assert!(!done && text.contains("changed since you saw it"), "{text}");
    let (done, text) = lift(&pauses[0]);
    assert!(done, "{text}");
    assert_eq!(app.client.list_pauses().await.unwrap(), []);
    app.finish().await;
}
