//! The tax on what a tenant is billed, decided by support: through the API, the command line and the
//! console, with a reason, after it was told what it comes to.

use std::process::Command;

use serde_json::{Value, json};
use tenure_client::{ChangeTax, ClientError, IdempotencyKey, Role, TaxChange, TaxRate};
use uuid::Uuid;

use crate::console_pty::{Console, ENTER, size};
use crate::console_verbs::{choose, fill, open_tenant};
use crate::support::app::{Subscriber, TestApp, token};
use crate::support::connect;
use crate::support::process::tenure;

fn key() -> IdempotencyKey {
    IdempotencyKey::generate()
}

fn vat(percent: &str) -> TaxRate {
    TaxRate {
        name: "VAT".to_owned(),
        percent: percent.parse().unwrap(),
        inclusive: false,
    }
}

fn to(tax: Option<TaxRate>) -> ChangeTax {
    ChangeTax {
        tax,
        reason: Some("the office said so".to_owned()),
        dry_run: false,
    }
}

async fn change(customer: &Subscriber<'_>, asked: &ChangeTax) -> TaxChange {
    let tenant = customer.tenant.tenant_id;
    let told = customer.client.change_tax(tenant, asked, &key()).await;
    told.unwrap()
}

/// What was done to the tenant's tax, from the first on: why, what was before, and what is after.
async fn audited(app: &TestApp, tenant: Uuid) -> Vec<(String, Value, Value)> {
    let mut conn = connect(&app.options).await;
    sqlx::query_as(
        "select reason, coalesce(before, 'null'), coalesce(after, 'null')
         from engine.control_audit
         where subject = $1 and action = 'change tax of tenant'
         order by at",
    )
    .bind(tenant.to_string())
    .fetch_all(&mut conn)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_drafted_afterwards_has_the_new_tax_and_what_was_keeps_its_own() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let (client, tenant) = (customer.client, customer.tenant.tenant_id);
    let asked = ChangeTax {
        reason: None,
        dry_run: true,
        ..to(Some(vat("19")))
    };
    let told = change(&customer, &asked).await;
    assert_eq!((told.tax_before, told.tax), (None, Some(vat("19"))));
    assert!(told.dry_run);
    assert_eq!(client.tax(tenant).await.unwrap(), None, "it was only told");
    assert_eq!(audited(&app, tenant).await, []);

    // Once, however often it is asked for, and as it is kept.
    let spelt = TaxRate {
        name: " VAT ".to_owned(),
        ..vat("19.00000")
    };
    let (key, asked) = (key(), to(Some(spelt)));
    let done = client.change_tax(tenant, &asked, &key).await.unwrap();
    let again = client.change_tax(tenant, &asked, &key).await.unwrap();
    assert_eq!(done, again);
    assert_eq!(done.tax, Some(vat("19")));
    customer.advance("31d").await;
    change(&customer, &to(Some(vat("7")))).await;
    customer.advance("31d").await;
    change(&customer, &to(None)).await;
    customer.advance("31d").await;
    let mut rates = Vec::new();
    for one in customer.invoices().await {
        let shown = client.invoice(tenant, one.invoice_id).await.unwrap();
        rates.push(shown.tax_rate.map(|rate| rate.percent.to_string()));
    }
    let rates: Vec<_> = rates.iter().map(Option::as_deref).collect();
    assert_eq!(rates, [None, Some("19"), Some("7"), None]);
    let rate = |percent| json!({"name": "VAT", "percent": percent, "inclusive": false});
    let line = |before, after| ("the office said so".to_owned(), before, after);
    let wanted = [
        line(Value::Null, rate("19")),
        line(rate("19"), rate("7")),
        line(rate("7"), Value::Null),
    ];
    assert_eq!(audited(&app, tenant).await, wanted);
    app.finish().await;
}

/// Status, pointer and words of a refusal.
fn refused<T: std::fmt::Debug>(asked: Result<T, ClientError>) -> (u16, String, String) {
    let error = asked.unwrap_err();
    let problem = error.problem().unwrap_or_else(|| panic!("{error}"));
    let pointer = problem.errors.first().map(|one| one.pointer.clone());
    let pointer = pointer.unwrap_or_default();
    (problem.status, pointer, error.to_string())
}

/// Sends a body as it is; what is wrong with it: status, pointer, words.
async fn put(app: &TestApp, tenant: Uuid, body: &Value) -> (u16, String, String) {
    let answer = reqwest::Client::new()
        .put(format!("{}/v1/tenants/{tenant}/tax", app.url))
        .bearer_auth(&app.token)
        .header("idempotency-key", key().as_str())
        .json(body)
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let problem: Value = answer.json().await.unwrap();
    let error = &problem["errors"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (status, text(&error["pointer"]), problem.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_field_says_what_is_allowed_and_nothing_changes() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    change(&customer, &to(Some(vat("19")))).await;
    let rate = |name: &str, percent: Value| json!({"name": name, "percent": percent});
    let long = "x".repeat(101);
    let cases = [
        (rate("", json!("7")), "/tax/name", "1 to 100 characters"),
        (rate(" \t", json!("7")), "/tax/name", "1 to 100 characters"),
        (rate(&long, json!("7")), "/tax/name", "1 to 100 characters"),
        (rate("V\nAT", json!("7")), "/tax/name", "on one line"),
        (rate("VAT", json!("-1")), "/tax/percent", "0 to 100"),
        (rate("VAT", json!("100.01")), "/tax/percent", "0 to 100"),
        (rate("VAT", json!("7.00001")), "/tax/percent", "4 decimals"),
        (rate("VAT", json!("much")), "/tax/percent", "fixed-point"),
        (rate("VAT", json!([])), "/tax/percent", "fixed-point"),
        (json!({"name": "VAT"}), "/tax/percent", "missing field"),
        (json!({"percent": "7"}), "/tax/name", "missing field"),
        (json!("VAT"), "/tax", "TaxRate"),
    ];
    for (tax, at, says) in cases {
        let body = json!({"tax": tax, "reason": "r"});
        let (status, pointer, words) = put(&app, tenant, &body).await;
        assert_eq!((status, &*pointer), (422, at), "{words}");
        assert!(words.contains(says), "{says} is not in {words}");
    }
    // Nobody takes a tax away by leaving it out, or decides without a reason.
    let bodies = [
        (json!({"reason": "r"}), "/tax", "missing field"),
        (json!({"tax": null}), "/reason", "say why"),
        (json!({"tax": null, "reason": " "}), "/reason", "say why"),
        (json!({"tax": null, "because": "r"}), "/because", "reason"),
        (rate("VAT", json!("7")), "/name", "tax"),
    ];
    for (body, at, says) in bodies {
        let (status, pointer, words) = put(&app, tenant, &body).await;
        assert_eq!((status, &*pointer), (422, at), "{words}");
        assert!(words.contains(says), "{says} is not in {words}");
    }
    let ask = async |tenant, asked: ChangeTax| {
        refused(app.client.change_tax(tenant, &asked, &key()).await)
    };
    let (status, _, words) = ask(tenant, to(Some(vat("19.0")))).await;
    assert_eq!(status, 409, "{words}");
    assert!(words.contains("19 % VAT already"), "{words}");
    assert_eq!(ask(Uuid::nil(), to(None)).await.0, 404);
    let mut conn = connect(&app.options).await;
    let viewer = token(&mut conn, Role::Viewer, None).await;
    let viewer = tenure_client::Client::new(&app.url, &viewer).unwrap();
    let looks = viewer.change_tax(tenant, &to(None), &key()).await;
    assert_eq!(refused(looks).0, 403);
    let close = "update engine.tenant set closing_since = now() where tenant_id = $1";
    let closed = sqlx::query(close).bind(tenant).execute(&mut conn).await;
    closed.unwrap();
    let (status, _, words) = ask(tenant, to(None)).await;
    assert_eq!(status, 409, "{words}");
    assert_eq!(app.client.tax(tenant).await.unwrap(), Some(vat("19")));
    assert_eq!(audited(&app, tenant).await.len(), 1, "only the first");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_each_tell_what_they_really_replace() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let set = async |percent: &'static str| change(&customer, &to(Some(vat(percent)))).await;
    tokio::join!(set("1"), set("2"), set("3"), set("4"), set("5"), set("6"));
    let lines = audited(&app, customer.tenant.tenant_id).await;
    assert_eq!(lines.len(), 6);
    let mut stands = Value::Null;
    let mut left = lines;
    while !left.is_empty() {
        let next = left.iter().position(|(_, before, _)| *before == stands);
        let next = next.unwrap_or_else(|| panic!("nobody replaced {stands}: {left:?}"));
        stands = left.swap_remove(next).2;
    }
    app.finish().await;
}

/// Runs the program; whether it ended well, and what it printed.
fn run(app: &TestApp, args: &[&str]) -> (bool, String) {
    let output = Command::new(tenure())
        .args(["tenant", "tax"])
        .args(args)
        .args(["--url", &app.url, "--token", &app.token])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_tries_sets_and_clears_it_with_a_reason() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let of = tenant.to_string();
    let why = ["--reason", "the office said so"];
    let tried = run(&app, &["set", &of, "VAT", "19", "--inclusive", "--dry-run"]);
    let told = "It would be billed with VAT 19 %, held by prices from now on. Until now: no tax.";
    assert!(tried.0 && tried.1.contains(told), "{}", tried.1);
    assert!(tried.1.contains("nothing was done"), "{}", tried.1);
    let bare = run(&app, &["set", &of, "VAT", "19"]);
    assert!(!bare.0 && bare.1.contains("say why"), "{}", bare.1);
    let wrong = run(&app, &[&["set", &of, "VAT", "119"], &why[..]].concat());
    assert!(!wrong.0 && wrong.1.contains("0 to 100"), "{}", wrong.1);
    let (_, shown) = run(&app, &["show", &of]);
    assert_eq!(shown, "no tax\n");
    let set = run(
        &app,
        &[&["set", &of, "VAT", "19", "--inclusive"], &why[..]].concat(),
    );
    assert!(set.0 && set.1.contains("It is billed with"), "{}", set.1);
    let (_, shown) = run(&app, &["show", &of]);
    assert_eq!(shown, "VAT 19 %, held by prices\n");
    let cleared = run(&app, &[&["clear", &of], &why[..]].concat());
    let told = "It is billed with no tax from now on. Until now: VAT 19 %, held by prices.";
    assert!(cleared.0 && cleared.1.contains(told), "{}", cleared.1);
    let twice = run(&app, &[&["clear", &of], &why[..]].concat());
    assert!(!twice.0 && twice.1.contains("already"), "{}", twice.1);
    assert_eq!(audited(&app, tenant).await.len(), 2);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn support_sets_and_clears_it_in_the_console_after_it_was_told() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let mut console = Console::open(&app, size(40, 140));
    console.sees(&["suite", "live", "subscription"]).await;
    open_tenant(&mut console, "billing@acme", "Acme").await;
    choose(&mut console, "set-tax").await;
    fill(&mut console, "VAT").await;
    fill(&mut console, "19 %").await;
    console.press(ENTER);
    fill(&mut console, "the office said so").await;
    console
        .sees(&[
            "What will happen",
            "would be billed with VAT 19 %",
            "no tax.",
            "[ Do it: set-tax ]",
        ])
        .await;
    assert_eq!(app.client.tax(tenant).await.unwrap(), None);
    console.press(ENTER);
    console.sees(&["It is billed with VAT 19 % now."]).await;
    assert_eq!(app.client.tax(tenant).await.unwrap(), Some(vat("19")));
    choose(&mut console, "clear-tax").await;
    fill(&mut console, "they are exempt").await;
    console
        .sees(&["would be billed with no tax", "VAT 19 %."])
        .await;
    console.press(ENTER);
    console.sees(&["It is billed without tax now."]).await;
    assert_eq!(app.client.tax(tenant).await.unwrap(), None);
    let reasons = audited(&app, tenant).await;
    let reasons: Vec<&str> = reasons.iter().map(|(reason, ..)| &**reason).collect();
    assert_eq!(reasons, ["the office said so", "they are exempt"]);
    console.press("q");
    assert_eq!(console.ended().await, 0);
    app.finish().await;
}
