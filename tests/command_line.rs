//! The program's verbs for scripts, against a served product: tenants, subscriptions, tokens.

use std::process::{Command, Stdio};

use serde_json::Value;
use sqlx::Connection as _;
use tenure_client::{Client, ClientError, Role, SubscriptionStatus, Workflow};

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

#[test]
fn a_reader_that_goes_away_ends_no_command_with_a_panic() {
    let mut child = Command::new(tenure())
        .arg("openapi")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.is_empty(), "{told}");
    // Output that is lost for another reason is no success.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let output = Command::new(tenure())
        .arg("openapi")
        .stdout(full.unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{told}");
    assert!(
        told.starts_with("tenure: cannot write to standard output"),
        "{told}"
    );
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
async fn what_people_did_is_listed_with_who_and_why() {
    let app = TestApp::new().await;
    app.customer().starter().await;
    let run = first(&app, "workflow:subscription");
    lines(&app, &["run", "act", "pause", &run, "--reason", "a look"]);
    lines(&app, &["run", "act", "resume", &run, "--reason", "seen"]);
    let weekend = ["--reason", "a quiet weekend"];
    let close = ["flow", "set-limit", "stripe-charges", "--concurrency", "0"];
    lines(&app, &[&close[..], &weekend].concat());

    let all = lines(&app, &["audit", "list"]);
    let ends = [
        "  suite admin (admin)  set limit  stripe-charges: a quiet weekend".to_owned(),
        format!("  suite admin (admin)  resume  run {run}: seen"),
        format!("  suite admin (admin)  pause  run {run}: a look"),
    ];
    assert_eq!(all.len(), ends.len(), "{all:?}");
    for (line, end) in all.iter().zip(&ends) {
        assert!(line.ends_with(end.as_str()), "{line}");
    }
    let of_run = lines(&app, &["audit", "list", "--run", &run]);
    assert_eq!(of_run, all[1..]);
    let verb = ["audit", "list", "--action", "set limit"];
    assert_eq!(lines(&app, &verb), all[..1]);
    let (done, text) = ask(&app, &["audit", "list", "--limit", "1"]);
    assert!(done && text.contains("may be more: --cursor "), "{text}");
    let cursor = text.split_whitespace().last().unwrap();
    let rest = lines(&app, &["audit", "list", "--cursor", cursor]);
    assert_eq!(rest, all[1..]);

    let page = json(&app, &["audit", "list", "--subject", "stripe-charges"]);
    assert_eq!(page["items"][0]["before"]["rate"]["count"], 80, "{page}");
    assert_eq!(page["items"][0]["after"]["concurrency"], 0, "{page}");
    let from = page["items"][0]["at"].as_str().unwrap();
    assert_eq!(lines(&app, &["audit", "list", "--from", from]), all[..1]);
    assert_eq!(lines(&app, &["audit", "list", "--to", from]), all[1..]);
    let (done, text) = ask(&app, &["audit", "list", "--from", "yesterday"]);
    assert!(!done && text.contains("--from"), "{text}");
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

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_listed_with_what_a_filter_may_ask_for() {
    let app = TestApp::new().await;
    app.customer().starter().await;
    let told = lines(&app, &["workflow", "list"]);
    let head = |line: &String| {
        line.starts_with("subscription  version ") && line.ends_with(", queue default")
    };
    let at = told.iter().position(head).unwrap();
    let of_it = &told[at + 1..at + 4];
    assert!(of_it[0].starts_with("  states      Starting, "), "{told:?}");
    assert_eq!(of_it[1], "  runs        1 waiting");
    assert!(of_it[2].contains("currency (text), "), "{told:?}");
    assert!(of_it[2].contains("period_ends (time)"), "{told:?}");
    let listed = json(&app, &["workflow", "list"]);
    let listed: Vec<Workflow> = serde_json::from_value(listed).unwrap();
    assert_eq!(told.len(), 4 * listed.len());
    let of = |name: &str| listed.iter().find(|one| one.workflow == name).unwrap();
    assert_eq!(of("dunning").states, ["Clear", "PastDue", "UnderWay"]);
    assert!(of("notice").attributes.is_empty());
    let notice = told.iter().position(|line| line.starts_with("notice  "));
    assert_eq!(told[notice.unwrap() + 3], "  attributes  none");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_done_to_many_runs_is_listed_with_what_each_verb_takes() {
    let app = TestApp::new().await;
    let told = lines(&app, &["bulk", "verbs"]);
    let of = |told: &[String], verb: &str| {
        let start = format!("{verb} ");
        told.iter()
            .find(|line| line.starts_with(&start))
            .unwrap()
            .clone()
    };
    for (verb, takes) in [
        ("skip-step", "--answer"),
        ("fail-step", "--code --message"),
        ("move-deadline", "--name --at"),
        ("restart", "[--state] [--input]"),
        ("signal", "--signal"),
    ] {
        let line = of(&told, verb);
        assert!(line.contains(takes), "{line}");
    }
    assert!(!of(&told, "restart").contains("--key"), "{told:?}");
    let refused = |line: &String| line.contains("refused:");
    assert!(!told.iter().any(refused), "an admin may do all: {told:?}");
    let listed = json(&app, &["bulk", "verbs"]);
    assert_eq!(listed.as_array().unwrap().len(), told.len());
    // What is listed is what the other command takes.
    for verb in listed.as_array().unwrap() {
        let verb = verb["action"].as_str().unwrap();
        let prepare = [
            "bulk", "prepare", verb, "--filter", "age:>1d", "--reason", "r",
        ];
        let (_, text) = ask(&app, &prepare);
        assert!(!text.contains("no verb for many runs"), "{text}");
    }
    let mut conn = connect(&app.options).await;
    let support = token(&mut conn, Role::Support, None).await;
    let verbs = ["bulk", "verbs", "--url", &app.url, "--token", &support];
    let (done, text) = run(&verbs);
    assert!(
        done && text.contains("refused: needs role operator"),
        "{text}"
    );
    let told: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = told.iter().position(|line| line.starts_with("signal "));
    let next = told.get(at.unwrap() + 1).unwrap();
    assert!(!next.contains("refused:"), "support may send signals");
    app.finish().await;
}
