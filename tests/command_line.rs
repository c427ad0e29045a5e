//! The program's verbs for scripts, against a served product: tenants, subscriptions, tokens.

use std::process::Command;

use serde_json::Value;
use sqlx::Connection as _;
use tenure_client::{Client, ClientError, Role, SubscriptionStatus};

use crate::support::app::{TestApp, token};
use crate::support::process::tenure;
use crate::support::{connect, url};

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
