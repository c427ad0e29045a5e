//! The program's verbs for scripts, against a served product: tenants, subscriptions, tokens.

use std::process::Command;

use serde_json::Value;
use sqlx::Connection as _;
use tenure_client::{Client, ClientError, Role, SubscriptionStatus};

use crate::support::app::{TestApp, token};
use crate::support::process::tenure;
use crate::support::{connect, eventually, url};

/// Runs the program; whether it ended well, and what it printed.
fn run(args: &[&str]) -> (bool, String) {
    let output = Command::new(tenure()).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn ask(app: &TestApp, args: &[&str]) -> (bool, String) {
    run(&[args, &["--url", &app.url, "--token", &app.token]].concat())
}

fn json(app: &TestApp, args: &[&str]) -> Value {
    let (done, text) = ask(app, &[args, &["--json"]].concat());
    assert!(done, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_found_and_shown_from_a_script() {
    let app = TestApp::new().await;
    let customer = app.customer().starter().await;
    let tenant = customer.tenant.tenant_id.to_string();

    let listed = json(&app, &["tenant", "list", "--q", &tenant]);
    assert_eq!(listed["items"][0]["tenant_id"], tenant);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let (done, text) = ask(&app, &["tenant", "list", "--limit", "1"]);
    assert!(done && text.contains(&customer.tenant.name), "{text}");
    let (done, text) = ask(&app, &["tenant", "show", &tenant]);
    assert!(done && text.contains("pays with visa 4242"), "{text}");
    assert!(text.contains("its test clock stands at "), "{text}");
    assert_eq!(
        json(&app, &["tenant", "show", &tenant])["tenant_id"],
        tenant
    );
    let nobody = "01a209f6-4762-727e-b736-2430e0a79587";
    let (done, text) = ask(&app, &["tenant", "show", nobody]);
    assert!(!done && text.contains("no tenant"), "{text}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_bought_and_ended_from_a_script() {
    let app = TestApp::new().await;
    let customer = app.customer().starter().await;
    let tenant = customer.tenant.tenant_id.to_string();
    let of = ["--tenant", &tenant];
    let buy = [
        "subscription",
        "create",
        "--plan",
        "team-monthly",
        "--currency",
        "USD",
        "--key",
        "k",
    ];
    let made = json(&app, &[&buy[..], &of].concat());
    let again = json(&app, &[&buy[..], &of].concat());
    assert_eq!(made["subscription_id"], again["subscription_id"]);
    let euro = [
        "subscription",
        "create",
        "--plan",
        "team-monthly",
        "--currency",
        "EUR",
        "--key",
        "k",
    ];
    let (done, text) = ask(&app, &[&euro[..], &of].concat());
    assert!(!done && text.contains("another input"), "{text}");
    customer.advance("0h").await;
    let team = made["subscription_id"].as_str().unwrap();
    let (done, text) = ask(&app, &[&["subscription", "list"][..], &of].concat());
    assert!(done && text.contains("54.00 USD  period until "), "{text}");
    assert!(text.contains("trialing  19.00 EUR  trial until "), "{text}");

    let (done, text) = ask(
        &app,
        &[
            &["subscription", "cancel", team, "--when", "later"][..],
            &of,
        ]
        .concat(),
    );
    assert!(!done && text.contains("now, period-end, or"), "{text}");
    let (done, text) = ask(
        &app,
        &[
            &["subscription", "cancel", team, "--when", "period-end"][..],
            &of,
        ]
        .concat(),
    );
    assert!(done && text.contains("sent "), "{text}");
    customer.advance("0h").await;
    let shown = json(&app, &[&["subscription", "show", team][..], &of].concat());
    assert_eq!(shown["status"], SubscriptionStatus::Ending.as_str());
    let (done, _) = ask(
        &app,
        &[&["subscription", "cancel", team, "--when", "now"][..], &of].concat(),
    );
    assert!(done);
    customer.advance("0h").await;
    let (done, text) = ask(&app, &[&["subscription", "show", team][..], &of].concat());
    assert!(done && text.contains("ended  54.00 USD  ended "), "{text}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_counts_for_a_while_beside_the_new_one_and_then_no_more() {
    let app = TestApp::new().await;
    let database = url(&app.options).await;
    let mut conn = connect(&app.options).await;
    let old = token(&mut conn, Role::Support, None).await;
    let rotate = |id: &str, hours: &str| {
        let args = [
            "token",
            "rotate",
            id,
            "--overlap-hours",
            hours,
            "--database-url",
            &database,
        ];
        run(&args)
    };
    let of_support = async |conn: &mut sqlx::PgConnection| -> Vec<uuid::Uuid> {
        let mut tx = conn.begin().await.unwrap();
        sqlx::query_scalar(
            "select token_id from app.token where role = 'support' order by created_at",
        )
        .fetch_all(&mut *tx)
        .await
        .unwrap()
    };
    let first = of_support(&mut conn).await[0].to_string();
    let (done, text) = rotate(&first, "1");
    assert!(done, "{text}");
    let new = text.trim().to_owned();
    for counts in [&old, &new] {
        let who = Client::new(&app.url, counts)
            .unwrap()
            .whoami()
            .await
            .unwrap();
        assert_eq!(
            (who.token_name.as_str(), who.role),
            ("suite support", Role::Support)
        );
    }
    let left: f64 = sqlx::query_scalar(
        "select extract(epoch from expires_at - now())::float8 from app.token where token_id = $1::uuid",
    )
    .bind(uuid::Uuid::parse_str(&first).unwrap())
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert!((3_000.0..=3_600.0).contains(&left), "{left}");

    let second = of_support(&mut conn).await[1].to_string();
    let (done, text) = rotate(&second, "0");
    assert!(done, "{text}");
    let refused = Client::new(&app.url, &new).unwrap().whoami().await;
    assert!(
        matches!(refused, Err(ClientError::Problem(_))),
        "{refused:?}"
    );
    let third = Client::new(&app.url, text.trim()).unwrap();
    assert!(third.whoami().await.is_ok());
    let (done, text) = rotate(&second, "0");
    assert!(!done && text.contains("see `tenure token list`"), "{text}");
    app.finish().await;
}

/// The run of a workflow that a filter finds first.
fn first(app: &TestApp, filter: &str) -> String {
    let page = json(app, &["run", "list", "--filter", filter]);
    page["items"][0]["run_id"].as_str().unwrap().to_owned()
}

fn lines(app: &TestApp, args: &[&str]) -> Vec<String> {
    let (done, text) = ask(app, args);
    assert!(done, "{text}");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_counted_shown_and_mended() {
    let app = TestApp::new().await;
    app.customer().starter().await;
    let filter = "workflow:subscription";
    assert_eq!(lines(&app, &["run", "count", "--filter", filter]), ["1"]);
    let run = first(&app, filter);
    let shown = lines(&app, &["run", "show", &run]);
    assert!(shown[0].starts_with("subscription "), "{shown:?}");
    assert!(
        shown.iter().any(|line| line.starts_with("why: State ")),
        "{shown:?}"
    );
    for (words, told) in [("transitions", "entered"), ("steps", "start-trial")] {
        let told_of = lines(&app, &["run", words, &run]);
        assert!(
            told_of.iter().any(|line| line.contains(told)),
            "{told_of:?}"
        );
        let same = json(&app, &["run", words, &run]);
        assert_eq!(same.as_array().unwrap().len(), told_of.len());
    }
    let tenant = first(&app, "workflow:tenant");
    let messages = lines(&app, &["run", "signals", &tenant]);
    assert!(
        messages[0].contains("accepted") && messages[0].contains("AttachMethod"),
        "{messages:?}"
    );
    let unknown = uuid::Uuid::nil().to_string();
    for words in ["transitions", "steps", "signals"] {
        let (done, text) = ask(&app, &["run", words, &unknown]);
        assert!(!done && text.contains("no run 0000"), "{words}: {text}");
    }

    let status = || json(&app, &["run", "show", &run])["status"].clone();
    let pause = ["run", "act", "pause", &run, "--reason", "a look"];
    let dry = lines(&app, &[&pause[..], &["--dry-run"]].concat());
    assert!(dry.last().unwrap().contains("dry run"), "{dry:?}");
    assert_eq!(status(), "waiting");
    let (done, text) = ask(&app, &[&pause[..], &["--revision", "0"]].concat());
    assert!(!done && text.contains("revision"), "{text}");
    assert_eq!(status(), "waiting");
    let paused = lines(&app, &pause);
    assert!(
        paused.last().unwrap().starts_with("done, revision "),
        "{paused:?}"
    );
    assert_eq!(status(), "paused");
    lines(&app, &["run", "act", "resume", &run, "--reason", "seen"]);
    eventually("it waits again", async || status() == "waiting").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_pauses_and_breakers_are_set_and_lifted() {
    let app = TestApp::new().await;
    let because = ["--reason", "the provider asked for it"];
    let with = |args: &[&str]| lines(&app, &[args, &because].concat());
    with(&[
        "flow",
        "set-limit",
        "stripe-charges",
        "--concurrency",
        "3",
        "--rate",
        "40/s",
    ]);
    let limits = lines(&app, &["flow", "limits"]);
    let charges = limits.iter().find(|line| line.contains("stripe-charges"));
    assert!(
        charges.unwrap().contains("3 at once, 40 every 1 s"),
        "{limits:?}"
    );
    let (done, text) = ask(
        &app,
        &[
            &["flow", "set-limit", "stripe-charges", "--rate", "fast"],
            &because[..],
        ]
        .concat(),
    );
    assert!(!done && text.contains("--rate"), "{text}");

    assert!(lines(&app, &["flow", "pauses"]).is_empty());
    with(&["flow", "pause", "workflow", "payment"]);
    let pauses = lines(&app, &["flow", "pauses"]);
    assert!(
        pauses[0].contains("payment") && pauses[0].contains(because[1]),
        "{pauses:?}"
    );
    with(&["flow", "lift", "workflow", "payment"]);
    assert!(lines(&app, &["flow", "pauses"]).is_empty());

    with(&["flow", "open-breaker", "stripe"]);
    let breakers = json(&app, &["flow", "breakers"]);
    assert_eq!(breakers[0]["name"], "stripe", "{breakers}");
    assert_eq!(breakers[0]["state"], "open", "{breakers}");
    with(&["flow", "close-breaker", "stripe"]);
    let breakers = json(&app, &["flow", "breakers"]);
    assert_ne!(breakers[0]["state"], "open", "{breakers}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_verb_is_done_to_many_runs_that_were_counted_before() {
    let app = TestApp::new().await;
    for _ in 0..3 {
        app.customer().starter().await;
    }
    let filter = ["--filter", "workflow:subscription", "--reason", "a look"];
    let made = json(
        &app,
        &[
            &["bulk", "prepare", "pause"],
            &filter[..],
            &["--pace", "100"],
        ]
        .concat(),
    );
    let id = made["bulk_operation_id"].as_str().unwrap().to_owned();
    assert_eq!(made["selected"], 3, "{made}");
    let confirm = |runs| {
        [
            "bulk", "confirm", &id, "--runs", runs, "--reason", "a look", "--wait",
        ]
        .map(str::to_owned)
    };
    let confirmed = |runs: &'static str| {
        let args = confirm(runs);
        ask(&app, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (done, text) = confirmed("2");
    assert!(!done && text.contains('3'), "{text}");
    let (done, text) = confirmed("3");
    assert!(done, "{text}");
    let results = lines(&app, &["bulk", "results", &id, "--outcome", "done"]);
    assert_eq!(results.len(), 3, "{results:?}");
    assert!(lines(&app, &["bulk", "show", &id])[0].contains(&id));
    assert!(lines(&app, &["bulk", "list"])[0].contains(&id));
    let (done, text) = ask(&app, &["bulk", "abort", &id, "--reason", "too late"]);
    assert!(!done && text.contains("the operation is done"), "{text}");
    let paused = lines(
        &app,
        &[
            "run",
            "count",
            "--filter",
            "workflow:subscription status:paused",
        ],
    );
    assert_eq!(paused, ["3"]);
    app.finish().await;
}
