//! What a tenant has: through the API, the client and the command line, on several nodes and clocks.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Connection as _;
use tenure_api::config::StripeConfig;
use tenure_api::serve::{Running, ServeConfig, start};
use tenure_client::{
    CancelSubscription, ChangeSubscription, ClearOverride, Client, ClientError, Entitlement,
    EntitlementReason, EntitlementSource, Entitlements, HoldBlocks, HoldKind, IdempotencyKey,
    LiftHold, NewSubscription, PlaceHold, Role, SetOverride, When,
};
use tenure_engine::{PoolConfig, TenantId};
use tenure_workflows::ports::mail::MailConfig;
use tenure_workflows::product::Sources;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::support::app::{SANDBOX_KEY, TestApp, WEBHOOK_SECRET, for_a_story, token};
use crate::support::process::tenure;
use crate::support::{self};

fn fresh() -> IdempotencyKey {
    IdempotencyKey::generate()
}

/// A feature's value, reason and the kind of its source.
fn told(one: &Entitlement) -> String {
    let source = match &one.source {
        Some(EntitlementSource::Plan { plan, version, .. }) => format!(" {plan} {version}"),
        Some(EntitlementSource::Override { author, .. }) => format!(" override {author}"),
        Some(EntitlementSource::Hold { hold, .. }) => format!(" hold {}", hold.as_str()),
        Some(other) => format!(" {other:?}"),
        None => String::new(),
    };
    format!("{} {}{source}", one.value, one.reason.as_str())
}

fn of(entitled: &Entitlements, feature: &str) -> String {
    entitled.features.get(feature).map(told).unwrap_or_default()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer.unwrap_err() {
        ClientError::Problem(problem) => {
            let pointer = problem.errors.first().map(|error| error.pointer.clone());
            (problem.status, pointer.unwrap_or_default())
        }
        other => panic!("{other}"),
    }
}

fn fraud(starts_at: Option<&str>, ends_at: Option<&str>) -> PlaceHold {
    PlaceHold {
        kind: HoldKind::Fraud,
        subscription_id: None,
        starts_at: starts_at.map(|at| at.parse().unwrap()),
        ends_at: ends_at.map(|at| at.parse().unwrap()),
        blocks: None,
        reason: "ticket 17".to_owned(),
    }
}

fn set(value: Value, expires_at: Option<&str>) -> SetOverride {
    SetOverride {
        value,
        expires_at: expires_at.map(|at| at.parse().unwrap()),
        reason: "ticket 18".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from its beginning to its end"
)]
async fn a_tenant_has_what_its_plans_say_while_it_has_them() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let (client, tenant) = (&app.client, customer.tenant.tenant_id);
    let entitled = client.entitlements(tenant).await.unwrap();
    assert_eq!(
        of(&entitled, "projects"),
        "100 TARGETING_MATCH team-monthly 1"
    );
    assert_eq!(of(&entitled, "seats"), "5 TARGETING_MATCH team-monthly 1");
    assert_eq!(
        of(&entitled, "support"),
        "\"mail\" TARGETING_MATCH team-monthly 1"
    );
    let one = client.entitlement(tenant, "projects").await.unwrap();
    assert_eq!(one.feature, "projects");
    assert_eq!(&one.entitlement, &entitled.features["projects"]);
    let none = client.entitlement(tenant, "time-travel").await.unwrap();
    assert_eq!(none.entitlement.value, Value::Null);
    assert!(!none.entitlement.enabled);
    assert_eq!(none.entitlement.reason, EntitlementReason::Default);

    // A second, greater plan: the greater numbers and what the first has not.
    let second = NewSubscription {
        plan: "starter-monthly".to_owned(),
        currency: "USD".to_owned(),
        ..NewSubscription::default()
    };
    let second = client.subscribe(tenant, &second, &fresh()).await.unwrap();
    customer.advance("0h").await;
    let entitled = client.entitlements(tenant).await.unwrap();
    assert_eq!(
        of(&entitled, "projects"),
        "100 TARGETING_MATCH team-monthly 1"
    );
    assert_eq!(
        entitled.valid_until,
        client
            .subscription(tenant, second.subscription_id)
            .await
            .unwrap()
            .subscription
            .trial_ends_at,
        "the trial's end decides on more"
    );

    // What ends at the end of the period is there until then.
    let cancel = CancelSubscription {
        when: When::PeriodEnd,
        ..CancelSubscription::default()
    };
    client
        .cancel_subscription(tenant, customer.subscription, &cancel, &fresh())
        .await
        .unwrap();
    customer.advance("14d").await;
    let entitled = client.entitlements(tenant).await.unwrap();
    assert_eq!(
        of(&entitled, "projects"),
        "100 TARGETING_MATCH team-monthly 1"
    );
    assert_eq!(
        entitled.valid_until.map(|at| at.to_rfc3339()).as_deref(),
        Some("2027-07-01T00:00:00+00:00")
    );
    customer.advance("20d").await;
    let entitled = client.entitlements(tenant).await.unwrap();
    assert_eq!(
        of(&entitled, "projects"),
        "10 TARGETING_MATCH starter-monthly 1"
    );
    assert_eq!(of(&entitled, "storage_gb"), "");

    let nobody = client.entitlements(Uuid::nil()).await;
    assert_eq!(refused(nobody).0, 404);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_known_is_not_sent_again_until_it_is_another() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let ask = async |path: &str, known: Option<&str>| {
        let url = format!("{}/v1/tenants/{tenant}/entitlements{path}", app.url);
        let mut request = http.get(url).bearer_auth(&app.token);
        if let Some(known) = known {
            request = request.header("if-none-match", known);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(response.headers()["cache-control"], "private, no-cache");
        let etag = response.headers()["etag"].to_str().unwrap().to_owned();
        (status, etag, response.bytes().await.unwrap())
    };
    for path in ["", "/projects"] {
        let (status, etag, body) = ask(path, None).await;
        assert_eq!(status, 200);
        assert!(body.starts_with(b"{"));
        for known in [
            etag.clone(),
            format!("W/{etag}"),
            format!("\"other\", {etag}"),
            "*".to_owned(),
        ] {
            let (status, same, body) = ask(path, Some(&known)).await;
            assert_eq!((status, body.len()), (304, 0), "{known}");
            assert_eq!(same, etag);
        }
        let (status, ..) = ask(path, Some("\"other\"")).await;
        assert_eq!(status, 200);
    }
    let (_, whole, _) = ask("", None).await;
    let (_, projects, _) = ask("/projects", None).await;
    app.client
        .set_override(tenant, "beta", &set(json!(true), None), &fresh())
        .await
        .unwrap();
    assert_eq!(ask("", Some(&whole)).await.0, 200);
    assert_eq!(ask("/projects", Some(&projects)).await.0, 304);
    app.client
        .set_override(tenant, "projects", &set(json!(7), None), &fresh())
        .await
        .unwrap();
    assert_eq!(ask("/projects", Some(&projects)).await.0, 200);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_shuts_what_was_bought_and_names_itself_and_time_is_the_tenants() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let (client, tenant) = (&app.client, customer.tenant.tenant_id);
    let projects = async || of(&client.entitlements(tenant).await.unwrap(), "projects");
    let bought = "100 TARGETING_MATCH team-monthly 1";
    assert_eq!(projects().await, bought);

    let placed = client
        .place_hold(tenant, &fraud(None, None), &fresh())
        .await;
    assert_eq!(projects().await, "0 DISABLED hold fraud");
    let lift = LiftHold {
        reason: "a false alarm".to_owned(),
    };
    let hold = placed.unwrap().hold_id;
    client
        .lift_hold(tenant, hold, &lift, &fresh())
        .await
        .unwrap();
    assert_eq!(projects().await, bought);
    let legal = PlaceHold {
        kind: HoldKind::Legal,
        blocks: Some(HoldBlocks {
            changes: true,
            ..HoldBlocks::default()
        }),
        ..fraud(None, None)
    };
    client.place_hold(tenant, &legal, &fresh()).await.unwrap();
    assert_eq!(projects().await, bought, "access is open");

    // From the 3rd to the 5th of June nothing; 50 projects until the 4th and 500 storage until the 6th.
    let hold = fraud(Some("2027-06-03T00:00:00Z"), Some("2027-06-05T00:00:00Z"));
    client.place_hold(tenant, &hold, &fresh()).await.unwrap();
    for (feature, value, until) in [
        ("projects", 50, "2027-06-04T00:00:00Z"),
        ("storage_gb", 500, "2027-06-06T00:00:00Z"),
    ] {
        let set = set(json!(value), Some(until));
        client
            .set_override(tenant, feature, &set, &fresh())
            .await
            .unwrap();
    }
    let both = async || {
        let entitled = client.entitlements(tenant).await.unwrap();
        let until = entitled.valid_until.map(|at| at.format("%d").to_string());
        let value = |feature: &str| entitled.features[feature].value.clone();
        (value("projects"), value("storage_gb"), until)
    };
    let day = |day: &str| Some(day.to_owned());
    assert_eq!(both().await, (json!(50), json!(500), day("03")));
    customer.advance("2d").await;
    assert_eq!(both().await, (json!(0), json!(0), day("04")));
    customer.advance("1d").await;
    assert_eq!(both().await, (json!(0), json!(0), day("05")));
    customer.advance("1d").await;
    assert_eq!(both().await, (json!(100), json!(500), day("06")));
    customer.advance("1d").await;
    assert_eq!(both().await, (json!(100), json!(100), None));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn support_gives_and_takes_with_a_reason_and_it_is_audited() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let mut conn = support::connect(&app.options).await;
    let support = token(&mut conn, Role::Support, None).await;
    let support = Client::new(&app.url, &support).unwrap();

    let first = set(json!(500), Some("2027-07-01T00:00:00Z"));
    let key = fresh();
    let made = support.set_override(tenant, "projects", &first, &key).await;
    let made = made.unwrap();
    assert_eq!(
        (made.author.as_str(), &made.value),
        ("suite support", &json!(500))
    );
    assert_eq!(made.set_at, customer.now().await);
    let again = support.set_override(tenant, "projects", &first, &key).await;
    assert_eq!(again.unwrap(), made, "once per idempotency key");
    let second = set(json!(200), None);
    let made = support
        .set_override(tenant, "projects", &second, &fresh())
        .await;
    made.unwrap();
    let has = support.entitlement(tenant, "projects").await.unwrap();
    assert_eq!(told(&has.entitlement), "200 STATIC override suite support");
    let listed = support.list_overrides(tenant).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0].value, listed[0].expires_at),
        (&json!(200), None)
    );

    let clear = ClearOverride {
        reason: "over".to_owned(),
    };
    let cleared = support
        .clear_override(tenant, "projects", &clear, &fresh())
        .await;
    assert_eq!(cleared.unwrap().value, json!(200));
    let has = support.entitlement(tenant, "projects").await.unwrap();
    assert_eq!(has.entitlement.value, json!(100));
    let gone = support
        .clear_override(tenant, "projects", &clear, &fresh())
        .await;
    assert_eq!(refused(gone).0, 404);

    let audit: Vec<(String, String, Option<Value>, Option<Value>)> = sqlx::query_as(
        "select action, reason, before->'value', after->'value' from engine.control_audit
         where subject = $1 order by at",
    )
    .bind(tenant.to_string())
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let line = |action: &str, reason: &str, before: Option<u32>, after: Option<u32>| {
        let value = |value: Option<u32>| value.map(Value::from);
        (
            action.to_owned(),
            reason.to_owned(),
            value(before),
            value(after),
        )
    };
    assert_eq!(
        audit,
        [
            line("set override", "ticket 18", None, Some(500)),
            line("set override", "ticket 18", Some(500), Some(200)),
            line("clear override", "over", Some(200), None),
        ]
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_that_does_not_fit_is_refused_by_name() {
    let app = TestApp::new().await;
    let make = app.customer();
    let customer = make.team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let client = &app.client;
    let unreasoned = SetOverride {
        reason: " ".to_owned(),
        ..set(json!(true), None)
    };
    let cases = [
        ("SSO", set(json!(true), None), "/feature"),
        ("sso", set(json!(-1), None), "/value"),
        ("sso", set(json!(1.5), None), "/value"),
        ("sso", set(json!(null), None), "/value"),
        ("sso", set(json!([true]), None), "/value"),
        (
            "sso",
            set(json!(true), Some("2027-06-01T08:00:00Z")),
            "/expires_at",
        ),
        ("sso", unreasoned, "/reason"),
    ];
    for (feature, set, pointer) in cases {
        let answer = client.set_override(tenant, feature, &set, &fresh()).await;
        assert_eq!(refused(answer), (422, pointer.to_owned()), "{set:?}");
    }
    assert!(client.list_overrides(tenant).await.unwrap().is_empty());
    let on = set(json!(true), None);
    let nobody = client.set_override(Uuid::nil(), "sso", &on, &fresh()).await;
    assert_eq!(refused(nobody).0, 404);

    let mut conn = support::connect(&app.options).await;
    let own = token(&mut conn, Role::Admin, Some(TenantId(tenant))).await;
    let own = Client::new(&app.url, &own).unwrap();
    let gave_itself = own.set_override(tenant, "sso", &on, &fresh()).await;
    assert_eq!(refused(gave_itself).0, 404);
    let viewer = token(&mut conn, Role::Viewer, None).await;
    let viewer = Client::new(&app.url, &viewer).unwrap();
    let denied = viewer.set_override(tenant, "sso", &on, &fresh()).await;
    assert_eq!(refused(denied).0, 403);
    // A tenant sees its own, and no other's.
    assert!(own.entitlements(tenant).await.is_ok());
    let other = make.team("pm_card_visa").await.tenant.tenant_id;
    assert_eq!(refused(own.entitlements(other).await).0, 404);
    assert_eq!(refused(own.entitlement(other, "sso").await).0, 404);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_revoked_or_has_expired_stops_at_once() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let mut conn = support::connect(&app.options).await;
    for end in [
        "update app.token set revoked_at = now() where role = 'viewer'",
        "update app.token set expires_at = created_at + interval '1 microsecond' where role = 'viewer'",
    ] {
        let viewer = token(&mut conn, Role::Viewer, None).await;
        let viewer = Client::new(&app.url, &viewer).unwrap();
        assert!(viewer.entitlements(tenant).await.is_ok());
        assert!(viewer.entitlement(tenant, "projects").await.is_ok());
        sqlx::query(end).execute(&mut conn).await.unwrap();
        assert_eq!(refused(viewer.entitlements(tenant).await).0, 401);
        assert_eq!(refused(viewer.entitlement(tenant, "projects").await).0, 401);
    }
    let unknown = Client::new(&app.url, &tenure_api::auth::generate()).unwrap();
    assert_eq!(refused(unknown.entitlements(tenant).await).0, 401);
    let typo = Client::new(&app.url, "tenure_sk_typo").unwrap();
    assert_eq!(refused(typo.entitlements(tenant).await).0, 401);
    app.finish().await;
}

/// Another API node on the same database, which works on no runs.
async fn node(app: &TestApp, mails: &std::path::Path) -> (Client, Running) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let running = start(ServeConfig {
        database: app.options.clone().into(),
        listener: Some(listener),
        metrics: None,
        worker: None,
        allow_stranding: false,
        stripe: StripeConfig {
            url: app.sandbox.url().to_owned(),
            secret_key: SANDBOX_KEY.to_owned(),
            webhook_secrets: vec![WEBHOOK_SECRET.to_owned()],
        },
        mail: MailConfig::Capture {
            folder: mails.to_owned(),
            from: "Tenure <billing@tenure.example>".to_owned(),
        },
        master_key: None,
        certificate_key: None,
        products: Sources::default(),
        archive: None,
        environment: "node".to_owned(),
        pool: PoolConfig {
            acquire_timeout: Duration::from_secs(2),
            ..PoolConfig::default()
        },
    });
    (
        Client::new(&url, &app.token).unwrap(),
        running.await.unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_changed_no_other_answers_as_before() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let mails = tempfile::tempdir().unwrap();
    let (second, running) = node(&app, mails.path()).await;
    let nodes = [&app.client, &second];
    for turn in 1..=20_u64 {
        let (writer, reader) = if turn % 2 == 0 {
            (nodes[0], nodes[1])
        } else {
            (nodes[1], nodes[0])
        };
        let set = set(json!(turn), None);
        writer
            .set_override(tenant, "projects", &set, &fresh())
            .await
            .unwrap();
        for node in [reader, writer] {
            let entitled = node.entitlements(tenant).await.unwrap();
            assert_eq!(entitled.features["projects"].value, json!(turn));
        }
    }
    running.shutdown().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facts_are_one_tenants_and_the_transaction_speaks_for_nobody_afterwards() {
    let app = TestApp::new().await;
    let make = app.customer();
    let (one, other) = (make.team("pm_card_visa").await, make.starter().await);
    let mut conn = support::connect(&app.options).await;
    let mut tx = conn.begin().await.unwrap();
    tenure_workflows::as_control(&mut tx).await.unwrap();
    for (customer, plan) in [(&one, "team-monthly"), (&other, "starter-monthly")] {
        let facts: String = sqlx::query_scalar("select facts from app.entitlement_facts($1)")
            .bind(customer.tenant.tenant_id)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        let facts: Value = serde_json::from_str(&facts).unwrap();
        let subscriptions = facts["subscriptions"].as_array().unwrap();
        assert_eq!(subscriptions.len(), 1);
        assert_eq!(subscriptions[0]["plan"], plan);
    }
    let speaks_for: Option<String> =
        sqlx::query_scalar("select nullif(current_setting('app.tenant', true), '')")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
    assert_eq!(speaks_for, None);
    drop(tx);
    // A tenant's own transaction has no business with another's facts.
    let mut tx = conn.begin().await.unwrap();
    tenure_workflows::as_tenant(&mut tx, TenantId(one.tenant.tenant_id))
        .await
        .unwrap();
    let others = sqlx::query("select * from app.entitlement_facts($1)")
        .bind(other.tenant.tenant_id)
        .fetch_all(&mut *tx)
        .await;
    let told = others.unwrap_err().to_string();
    assert!(told.contains("permission denied"), "{told}");
    drop(tx);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_entitlements_and_sets_and_clears_overrides() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let tenant = customer.tenant.tenant_id.to_string();
    let run = async |args: &str| {
        let mut command = Command::new(tenure());
        command.arg("tenant").args(args.split(' '));
        command.args(["--url", &app.url, "--token", &app.token]);
        let done = tokio::task::spawn_blocking(move || command.output()).await;
        let done = done.unwrap().unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{told}");
        String::from_utf8(done.stdout).unwrap()
    };
    let shown = run(&format!("entitlements {tenant}")).await;
    assert!(
        shown.contains("projects  100  plan team-monthly, version 1"),
        "{shown}"
    );
    let set = format!("override set {tenant} projects 7 --until 2027-08-01T00:00:00Z --reason r");
    let shown = run(&set).await;
    assert!(
        shown.contains("projects  7  until 2027-08-01T00:00:00Z  suite admin: r"),
        "{shown}"
    );
    run(&format!("override set {tenant} sso true --reason r")).await;
    run(&format!("override set {tenant} support phone --reason r")).await;
    let shown = run(&format!("entitlements {tenant} --json")).await;
    let entitled: Entitlements = serde_json::from_str(&shown).unwrap();
    assert_eq!(of(&entitled, "sso"), "true STATIC override suite admin");
    assert_eq!(
        of(&entitled, "support"),
        "\"phone\" STATIC override suite admin"
    );
    run(&format!("override clear {tenant} projects --reason r")).await;
    let shown = run(&format!("override list {tenant}")).await;
    assert_eq!(shown.lines().count(), 2, "{shown}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_on_offers_what_it_did_when_it_was_sold() {
    let app = TestApp::new().await;
    let customer = app.customer().team("pm_card_visa").await;
    let (client, tenant) = (&app.client, customer.tenant.tenant_id);
    let more = |storage: u32, seats: Option<u32>| ChangeSubscription {
        add_ons: Some(BTreeMap::from([("extra-storage".to_owned(), storage)])),
        seats,
        ..ChangeSubscription::default()
    };
    let change = async |asked: ChangeSubscription| {
        let id = customer.subscription;
        let key = fresh();
        let sent = client.change_subscription(tenant, id, &asked, &key);
        sent.await.unwrap();
        customer.advance("0h").await;
    };
    let storage = async |tenant: Uuid| {
        let one = client.entitlement(tenant, "storage_gb").await.unwrap();
        one.entitlement.value
    };
    change(more(2, None)).await;
    assert_eq!(storage(tenant).await, 300);
    let catalog = json!({"add_ons": {"extra-storage": {
        "name": "Extra storage, 10 GB", "prices": {"USD": "11.00"}, "most": 50,
        "features": {"storage_gb": 10},
    }}});
    let publish = for_a_story();
    let published = client.publish_catalog(&catalog, &publish, &fresh()).await;
    published.unwrap();
    // What was bought stays, also when more of it is, and what comes later is of the new version.
    assert_eq!(storage(tenant).await, 300);
    change(more(3, Some(6))).await;
    assert_eq!(storage(tenant).await, 400);
    let later = app.customer().team("pm_card_visa").await;
    let asked = more(3, None);
    let id = later.subscription;
    let of = later.tenant.tenant_id;
    client
        .change_subscription(of, id, &asked, &fresh())
        .await
        .unwrap();
    later.advance("0h").await;
    assert_eq!(storage(of).await, 130);
    app.finish().await;
}
