//! The catalogue through the API, the client and the command line.

use std::process::Command;

use serde_json::{Value, json};
use tenure_client::{
    CatalogPublished, Client, ClientError, IdempotencyKey, NewSubscription, NewTenant,
    PublishCatalog, Role, Tenant,
};

use crate::support;
use crate::support::app::{TestApp, for_a_story, token};
use crate::support::process::tenure;

async fn publish(client: &Client, catalog: &Value, dry_run: bool) -> CatalogPublished {
    let publish = PublishCatalog {
        dry_run: dry_run.then_some(true),
        reason: (!dry_run).then(|| "a story".to_owned()),
    };
    let key = IdempotencyKey::generate();
    let published = client.publish_catalog(catalog, &publish, &key).await;
    published.unwrap()
}

/// Kind, key, version, whether it is new, what changed.
fn told(published: &CatalogPublished) -> Vec<String> {
    let line = |entry: &tenure_client::CatalogChange| {
        let what = if entry.new { "new" } else { "same" };
        let changed = entry.changed.join(",");
        let (kind, key, version) = (&entry.kind, &entry.key, entry.version);
        format!("{kind} {key} {version} {what} [{changed}]")
    };
    published.entries.iter().map(line).collect()
}

async fn tenant(client: &Client) -> Tenant {
    let new = NewTenant {
        name: "Acme".to_owned(),
        email: "billing@acme.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: Some("2027-06-01T08:00:00Z".parse().unwrap()),
        legal_entity: None,
    };
    let key = IdempotencyKey::generate();
    client.create_tenant(&new, &key).await.unwrap()
}

/// Subscribes a tenant to a plan; the price that it has got.
async fn subscribe(client: &Client, tenant: &Tenant, plan: &str) -> Result<String, ClientError> {
    let new = NewSubscription {
        plan: plan.to_owned(),
        currency: "EUR".to_owned(),
        ..NewSubscription::default()
    };
    let key = IdempotencyKey::generate();
    let made = client.subscribe(tenant.tenant_id, &new, &key).await?;
    Ok(made.price.to_string())
}

fn basic(price: &str) -> Value {
    json!({
        "plans": {"basic": {
            "name": "Basic", "product": "Notes", "interval": "month",
            "trial": {"days": 7, "without_method": "end"},
            "prices": {"EUR": price}, "periods": 6,
            "seats": {"included": 2, "most": 10, "prices": {"EUR": "3.00"}},
            "setup_fee": {"EUR": "20.00"}, "add_ons": ["more"],
            "features": {"notes": 100, "sso": true}
        }},
        "add_ons": {"more": {"name": "More", "prices": {"EUR": "1.00"}, "features": {"notes": 50}}}
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_price_is_a_new_version_and_whoever_has_the_old_one_keeps_it() {
    let app = TestApp::new().await;
    let client = &app.client;
    let tried = publish(client, &basic("9.00"), true).await;
    assert!(tried.dry_run);
    assert_eq!(
        told(&tried),
        ["add_on more 1 new []", "plan basic 1 new []"]
    );
    let unknown = client.list_plan_versions("basic").await.unwrap_err();
    assert_eq!(unknown.problem().unwrap().status, 404, "a dry run");

    let first = publish(client, &basic("9.00"), false).await;
    assert_eq!(told(&first), told(&tried));
    let same = publish(client, &basic("9.00"), false).await;
    assert_eq!(
        told(&same),
        ["add_on more 1 same []", "plan basic 1 same []"]
    );
    let (early, late) = (tenant(client).await, tenant(client).await);
    assert_eq!(
        subscribe(client, &early, "basic").await.unwrap(),
        "9.00 EUR"
    );

    let dearer = publish(client, &basic("11.00"), false).await;
    assert_eq!(
        told(&dearer),
        ["add_on more 1 same []", "plan basic 2 new [prices]"]
    );
    assert_eq!(
        subscribe(client, &late, "basic").await.unwrap(),
        "11.00 EUR"
    );
    let kept = client.list_subscriptions(early.tenant_id).await.unwrap();
    assert_eq!(kept[0].price.to_string(), "9.00 EUR");

    let plans = client.list_plans().await.unwrap();
    let shown = plans.iter().find(|plan| plan.plan == "basic").unwrap();
    assert_eq!((shown.version, shown.trial_days), (2, 7));
    assert_eq!(shown.prices[0].to_string(), "11.00 EUR");
    assert_eq!(shown.product.as_deref(), Some("Notes"));
    assert_eq!(shown.interval, "month");
    assert_eq!(shown.periods, Some(6));
    assert_eq!(shown.trial_without_method, "end");
    assert_eq!(shown.billing, "in_advance");
    assert_eq!(shown.activation, "start");
    let seats = shown.seats.as_ref().unwrap();
    assert_eq!((seats.included, seats.most), (2, Some(10)));
    assert_eq!(shown.setup_fee[0].to_string(), "20.00 EUR");
    assert_eq!(shown.add_ons, ["more"]);
    assert_eq!(shown.features["notes"], 100);
    let versions = client.list_plan_versions("basic").await.unwrap();
    let prices: Vec<String> = versions
        .iter()
        .map(|plan| plan.prices[0].to_string())
        .collect();
    assert_eq!(prices, ["11.00 EUR", "9.00 EUR"]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_plan_is_kept_by_those_who_have_it_and_refused_to_others() {
    let app = TestApp::new().await;
    let client = &app.client;
    publish(client, &basic("9.00"), false).await;
    let (early, late) = (tenant(client).await, tenant(client).await);
    subscribe(client, &early, "basic").await.unwrap();
    let mut retired = basic("9.00");
    retired["plans"]["basic"]["retired"] = json!(true);
    let published = publish(client, &retired, false).await;
    assert_eq!(told(&published)[1], "plan basic 2 new [retired]");

    let refused = subscribe(client, &late, "basic").await.unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!((problem.status, problem.code.as_str()), (422, "invalid"));
    assert_eq!(problem.errors[0].pointer, "/plan");
    let detail = problem.detail.as_deref().unwrap();
    assert!(detail.contains("\"basic\" is retired"), "{detail}");
    assert_eq!(
        client
            .list_subscriptions(early.tenant_id)
            .await
            .unwrap()
            .len(),
        1
    );
    let plans = client.list_plans().await.unwrap();
    assert!(plans.iter().all(|plan| plan.plan != "basic"));
    let catalog = client.list_catalog().await.unwrap();
    let entry = catalog.iter().find(|entry| entry.key == "basic").unwrap();
    assert!(entry.retired && entry.version == 2);
    assert_eq!(entry.terms["prices"]["EUR"], "9.00");

    publish(client, &basic("9.00"), false).await;
    subscribe(client, &late, "basic").await.unwrap();
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one case a line")]
async fn a_catalogue_that_does_not_fit_is_refused_with_its_place_and_nothing_changes() {
    let app = TestApp::new().await;
    let client = &app.client;
    let before = client.list_catalog().await.unwrap();
    let with = |field: &str, value: Value| {
        let mut catalog = basic("9.00");
        catalog["plans"]["basic"][field] = value;
        catalog
    };
    let cases = [
        (json!([]), "", "the catalogue: "),
        (
            json!({"products": {}}),
            "",
            "the catalogue: unknown field `products`",
        ),
        (
            with("prices", json!({"JPY": "1.5"})),
            "/plans/basic/prices/JPY",
            "plans.basic.prices.JPY: 1.5 is negative or has more than 0 decimals",
        ),
        (
            with("prices", json!({"EUR": "-1"})),
            "/plans/basic/prices/EUR",
            "-1 is negative",
        ),
        (
            with("interval", json!("fortnight")),
            "/plans/basic/interval",
            "\"fortnight\" is no interval",
        ),
        (
            with("trial", json!({"days": 1000})),
            "/plans/basic/trial",
            "the most is 730",
        ),
        (
            with("trial", json!({"days": 7, "prices": {"USD": "1.00"}})),
            "/plans/basic/trial/prices",
            "the plan is sold in EUR, and this has no price in it",
        ),
        (
            with("trial", json!({"prices": {"EUR": "1.00"}})),
            "/plans/basic/trial/days",
            "a trial that has a price has 1 day or more",
        ),
        (
            with("colour", json!("red")),
            "/plans/basic/colour",
            "unknown field `colour`",
        ),
        (
            with("add_ons", json!(["less"])),
            "/plans/basic/add_ons",
            "\"less\" is no add-on",
        ),
        (
            with("features", json!({"notes": 1.5})),
            "/plans/basic/features/notes",
            "a whole number",
        ),
        (
            with("retired", json!("yes")),
            "/plans/basic/retired",
            "true or false",
        ),
    ];
    let publish = for_a_story();
    for (catalog, pointer, says) in cases {
        let key = IdempotencyKey::generate();
        let refused = client.publish_catalog(&catalog, &publish, &key).await;
        let refused = refused.unwrap_err();
        let problem = refused.problem().unwrap();
        assert_eq!(problem.status, 422, "{catalog}");
        assert_eq!(problem.errors[0].pointer, pointer, "{catalog}");
        let detail = problem.detail.as_deref().unwrap();
        assert!(detail.contains(says), "{detail}");
    }
    assert_eq!(client.list_catalog().await.unwrap(), before);

    let mut conn = support::connect(&app.options).await;
    let support = token(&mut conn, Role::Support, None).await;
    let support = Client::new(&app.url, &support).unwrap();
    let key = IdempotencyKey::generate();
    let denied = support
        .publish_catalog(&basic("1.00"), &publish, &key)
        .await;
    assert_eq!(denied.unwrap_err().problem().unwrap().status, 403);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_publications_at_once_make_two_versions() {
    let app = TestApp::new().await;
    let client = &app.client;
    publish(client, &basic("1.00"), false).await;
    let (two, three) = (basic("2.00"), basic("3.00"));
    let (first, second) =
        tokio::join!(publish(client, &two, false), publish(client, &three, false));
    let mut versions = [first.entries[1].version, second.entries[1].version];
    versions.sort_unstable();
    assert_eq!(versions, [2, 3]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_checks_loads_and_shows_a_catalogue() {
    let app = TestApp::new().await;
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("catalog.json");
    std::fs::write(&json, basic("9.00").to_string()).unwrap();
    let toml = folder.path().join("catalog.toml");
    std::fs::write(
        &toml,
        "[plans.tiny]\nname = \"Tiny\"\ninterval = \"month\"\nprices = { EUR = \"2.00\" }\n",
    )
    .unwrap();
    let bad = folder.path().join("bad.json");
    std::fs::write(&bad, basic("9.001").to_string()).unwrap();
    let run = async |args: Vec<&str>, online: bool| {
        let mut command = Command::new(tenure());
        command.arg("catalog").args(args);
        if online {
            command.args(["--url", &app.url, "--token", &app.token]);
        }
        let done = tokio::task::spawn_blocking(move || command.output()).await;
        let done = done.unwrap().unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(text).unwrap())
    };
    let path = |path: &std::path::PathBuf| path.to_str().unwrap().to_owned();
    let (json, toml, bad) = (path(&json), path(&toml), path(&bad));

    let (done, text) = run(vec!["check", &json], false).await;
    assert!(
        done && text.contains("2 entries, all well formed"),
        "{text}"
    );
    let (done, text) = run(vec!["check", &bad], false).await;
    assert!(
        !done && text.contains("plans.basic.prices.EUR: 9.001 is negative or has more than 2"),
        "{text}"
    );
    let (done, text) = run(vec!["load", &json, "--dry-run"], true).await;
    assert!(
        done && text.contains("2 new versions would be published"),
        "{text}"
    );
    let (done, text) = run(vec!["load", &json, "--reason", "a story"], true).await;
    assert!(done && text.contains("2 new versions published"), "{text}");
    let (done, text) = run(vec!["load", &toml, "--reason", "a story"], true).await;
    assert!(done && text.contains("plan    tiny  1  new"), "{text}");
    let (done, text) = run(vec!["show"], true).await;
    assert!(done && text.contains("basic  1  Basic  9.00 EUR"), "{text}");
    let (done, text) = run(vec!["show", "--json"], true).await;
    let entries: Vec<tenure_client::CatalogEntry> = serde_json::from_str(&text).unwrap();
    assert!(
        done && entries.iter().any(|entry| entry.key == "tiny"),
        "{text}"
    );
    app.finish().await;
}
