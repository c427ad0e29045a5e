//! The API's face: bad input of each kind, tokens, idempotency, webhooks, the document.

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use tenure_client::{DeadlineClock, IdempotencyKey, NewTenant, Role};
use tenure_engine::TenantId;

use crate::support;
use crate::support::app::{TestApp, WEBHOOK_SECRET, token};

mod outage;

/// Requests as a stranger makes them, with nothing of our client.
struct Raw {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Raw {
    fn new(app: &TestApp) -> Self {
        // reqwest wants a TLS provider even for plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            http: reqwest::Client::new(),
            url: app.url.clone(),
            token: app.token.clone(),
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.bearer_auth(&self.token)
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> reqwest::RequestBuilder {
        let request = self.request(Method::POST, path).json(body);
        request.header("idempotency-key", key)
    }
}

/// Sends a request that must be refused; returns the problem's status, code and pointer.
async fn refused(request: reqwest::RequestBuilder) -> (u16, String, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let content_type = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(content_type, "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    for field in ["type", "title", "detail", "request_id", "instance"] {
        assert!(problem[field].is_string(), "no {field}: {problem}");
    }
    let code = problem["code"].as_str().unwrap().to_owned();
    let pointer = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
    (status, code, pointer.to_owned())
}

fn expect(status: u16, code: &str, pointer: &str) -> (u16, String, String) {
    (status, code.to_owned(), pointer.to_owned())
}

fn acme() -> Value {
    json!({"name": "Acme", "email": "a@acme.example", "zone": "UTC"})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_id_in_a_path_is_named() {
    let app = TestApp::new().await;
    let raw = Raw::new(&app);
    let answer = raw.request(Method::GET, "/v1/runs/not-an-id").send();
    let problem: Value = answer.await.unwrap().json().await.unwrap();
    let detail = problem["detail"].as_str().unwrap();
    let named = r#"run_id "not-an-id" is no id, such as "#;
    assert!(detail.contains(named), "{problem}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one case a line")]
async fn bad_input_of_each_kind_gets_a_clear_problem() {
    let app = TestApp::new().await;
    let raw = Raw::new(&app);
    let nobody = "01a209f6-4762-727e-b736-2430e0a79587";
    let made: Value = raw
        .post("/v1/tenants", "t", &acme())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let tenant = made["tenant_id"].as_str().unwrap();
    let subscriptions = format!("/v1/tenants/{tenant}/subscriptions");
    let plan = |plan: &str, currency: &str| json!({"plan": plan, "currency": currency});
    let run = |workflow: &str, input: Value| json!({"workflow": workflow, "tenant_id": tenant, "key": "k", "input": input});
    let zone = json!({"name": "A", "email": "a@acme.example", "zone": "Europe/Atlantis"});
    let mail = json!({"name": "A", "email": "nobody", "zone": "UTC"});
    let extra = json!({"name": "A", "email": "a@b.example", "zone": "UTC", "colour": "red"});
    let cases = [
        (
            raw.post("/v1/tenants", "1", &zone),
            expect(422, "invalid", "/zone"),
        ),
        (
            raw.post("/v1/tenants", "2", &mail),
            expect(422, "invalid", "/email"),
        ),
        (
            raw.post("/v1/tenants", "3", &extra),
            expect(422, "invalid", "/colour"),
        ),
        (
            raw.post("/v1/tenants", "14", &json!({"name": "A", "zone": "UTC"})),
            expect(422, "invalid", "/email"),
        ),
        (
            raw.post(&subscriptions, "4", &plan("nope", "EUR")),
            expect(422, "invalid", "/plan"),
        ),
        (
            raw.post(&subscriptions, "5", &plan("team-monthly", "XXX")),
            expect(422, "invalid", "/currency"),
        ),
        (
            raw.post(&subscriptions, "6", &plan("team-monthly", "GBP")),
            expect(422, "invalid", "/currency"),
        ),
        (
            raw.post(
                &format!("/v1/tenants/{nobody}/subscriptions"),
                "7",
                &plan("team-monthly", "EUR"),
            ),
            expect(404, "not_found", ""),
        ),
        (
            raw.post("/v1/runs", "8", &run("nope", json!({}))),
            expect(404, "unknown_workflow", "/workflow"),
        ),
        (
            raw.post("/v1/runs", "9", &run("invoice", json!(3))),
            expect(422, "invalid", "/input"),
        ),
        (
            raw.request(Method::GET, &format!("/v1/runs/{nobody}")),
            expect(404, "unknown_run", ""),
        ),
        (
            raw.request(Method::GET, "/v1/runs/not-an-id"),
            expect(404, "not_found", ""),
        ),
        (
            raw.request(Method::GET, "/v1/runs?status=lost"),
            expect(400, "invalid_query", ""),
        ),
        (
            raw.request(Method::GET, "/v1/runs?workflow=nope"),
            expect(400, "unknown_workflow", ""),
        ),
        (
            raw.request(Method::GET, "/v1/runs?state=Trialling"),
            expect(400, "unknown_state", ""),
        ),
        (
            raw.request(Method::GET, "/v1/runs?workflow=invoice&state=Trialing"),
            expect(400, "unknown_state", ""),
        ),
        (
            raw.request(Method::GET, "/v1/runs?limit=0"),
            expect(400, "invalid_query", ""),
        ),
        (
            raw.request(Method::GET, "/v1/runs?cursor=x"),
            expect(400, "invalid_query", ""),
        ),
        (
            raw.request(Method::GET, "/v1/nothing"),
            expect(404, "not_found", ""),
        ),
        (
            raw.request(Method::DELETE, "/v1/tenants"),
            expect(405, "method_not_allowed", ""),
        ),
        (
            raw.request(Method::POST, "/v1/tenants")
                .header("idempotency-key", "10")
                .body("{}"),
            expect(415, "unsupported_media_type", ""),
        ),
        (
            raw.request(Method::POST, "/v1/tenants")
                .header("idempotency-key", "11")
                .header("content-type", "application/json")
                .body("{\"name\": "),
            expect(400, "malformed_json", ""),
        ),
        (
            raw.post("/v1/tenants", "12", &json!({"name": "x".repeat(2_000_000)})),
            expect(413, "payload_too_large", ""),
        ),
        (
            raw.request(Method::POST, "/v1/tenants").json(&acme()),
            expect(400, "idempotency_key_required", ""),
        ),
        (
            raw.post(
                &format!("/v1/tenants/{tenant}/payment-methods"),
                "13",
                &json!({"payment_method": "visa"}),
            ),
            expect(422, "invalid", "/payment_method"),
        ),
    ];
    for (number, (request, expected)) in cases.into_iter().enumerate() {
        assert_eq!(refused(request).await, expected, "case {number}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one case a line")]
async fn a_problem_says_what_would_have_been_right() {
    let app = TestApp::new().await;
    let raw = Raw::new(&app);
    let mut clocked = acme();
    clocked["test_clock"] = json!("2027-01-31T09:00:00Z");
    let made = raw.post("/v1/tenants", "t", &clocked).send().await.unwrap();
    let made: Value = made.json().await.unwrap();
    let tenant = made["tenant_id"].as_str().unwrap();
    let clock = made["test_clock_id"].as_str().unwrap();
    let advance = format!("/v1/test-clocks/{clock}/advance");
    let mut unclear = acme();
    unclear["test_clock"] = json!("tomorrow");
    let deadline = format!("/v1/runs/{tenant}/actions/move-deadline");
    let named = |at: &str| json!({"reason": "x", "revision": 1, "args": {"name": "n", "at": at}});
    let run = json!({"workflow": "nope", "tenant_id": tenant, "key": "k", "input": {}});
    let schedule = json!({"name": "n", "workflow": "nope", "tenant_id": tenant, "input": {},
        "cron": "@daily", "zone": "UTC", "overlap": "skip", "catch_up": "none", "reason": "x"});
    let plan = json!({"plan": "nope", "currency": "EUR"});
    let subscriptions = format!("/v1/tenants/{tenant}/subscriptions");
    let cases = [
        (
            raw.post("/v1/tenants", "1", &unclear),
            "/test_clock",
            "\"tomorrow\" is no instant; write it as RFC 3339 does, such as 2027-01-31T09:00:00Z",
        ),
        (
            raw.post(&advance, "2", &json!({"to": "2027-02-30T09:00:00Z"})),
            "/to",
            "RFC 3339",
        ),
        (
            raw.post(&advance, "3", &json!({"to": ""})),
            "/to",
            "RFC 3339",
        ),
        (
            raw.post(&advance, "4", &json!({"to": 7})),
            "/to",
            "invalid type: integer",
        ),
        (
            raw.post(&advance, "5", &json!({"to": "2999-01-01T00:00:00Z"})),
            "/to",
            "by ten years at most",
        ),
        (
            raw.post(&advance, "6", &json!({"by": "9000y"})),
            "/by",
            "by ten years at most",
        ),
        (
            raw.post(&advance, "7", &json!({"by": "soon"})),
            "/by",
            "such as 6h",
        ),
        (
            raw.post(&deadline, "8", &named("2027-01-31")),
            "/args/at",
            "RFC 3339",
        ),
        (
            raw.post("/v1/runs", "9", &run),
            "/workflow",
            "see /v1/workflows",
        ),
        (
            raw.post("/v1/schedules", "10", &schedule),
            "/workflow",
            "see /v1/workflows",
        ),
        (
            raw.post(&subscriptions, "11", &plan),
            "/plan",
            "see /v1/plans",
        ),
        (
            raw.request(Method::GET, "/v1/runs?status=lost"),
            "",
            "there are due, running, waiting, retrying, undoing, paused, ",
        ),
    ];
    for (number, (request, pointer, word)) in cases.into_iter().enumerate() {
        let problem: Value = request.send().await.unwrap().json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(word), "case {number}: {detail}");
        let pointed = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert_eq!(pointed, pointer, "case {number}: {detail}");
    }
    for path in ["/v1/plans", "/v1/workflows"] {
        let seen = raw.request(Method::GET, path).send().await.unwrap();
        assert_eq!(seen.status(), StatusCode::OK, "{path}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_shows_why_its_last_payment_method_was_refused() {
    let app = TestApp::new().await;
    let customer = app.customer().starter().await;
    let tenant = customer.tenant.tenant_id;
    customer.attach("pm_nope").await;
    let shown = app.client.tenant(tenant).await.unwrap();
    let refusal = shown.payment_method_error.as_deref();
    assert_eq!(refusal, Some("resource_missing"));
    let kept = shown.default_payment_method.expect("the one before stays");
    assert_eq!(kept.brand, "visa");
    customer.attach("pm_card_visa").await;
    let shown = app.client.tenant(tenant).await.unwrap();
    assert_eq!(shown.payment_method_error, None);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_it_is_for_and_nothing_else() {
    let app = TestApp::new().await;
    let mut raw = Raw::new(&app);
    let mut ids = Vec::new();
    for key in ["a", "b"] {
        let made = raw.post("/v1/tenants", key, &acme()).send().await.unwrap();
        assert_eq!(made.status(), StatusCode::CREATED);
        let made: Value = made.json().await.unwrap();
        ids.push(made["tenant_id"].as_str().unwrap().to_owned());
    }
    let own = format!("/v1/tenants/{}", ids[0]);
    let other = format!("/v1/tenants/{}", ids[1]);
    let mut conn = support::connect(&app.options).await;
    let tenant: TenantId = ids[0].parse().unwrap();
    raw.token = token(&mut conn, Role::Support, Some(tenant)).await;
    let seen = raw.request(Method::GET, &own).send().await.unwrap();
    assert_eq!(seen.status(), StatusCode::OK);
    let hidden = refused(raw.request(Method::GET, &other)).await;
    assert_eq!(hidden, expect(404, "not_found", ""));
    let runs: Value = raw
        .request(Method::GET, "/v1/runs")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let runs = runs["items"].as_array().unwrap();
    assert!(!runs.is_empty());
    assert!(runs.iter().all(|run| run["tenant_id"] == ids[0].as_str()));
    assert_eq!(refused(raw.request(Method::GET, "/v1/mails")).await.0, 404);
    let run = runs[0]["run_id"].as_str().unwrap();
    for part in ["", "/steps", "/transitions", "/signals"] {
        let path = format!("/v1/runs/{run}{part}");
        let shown = raw.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(shown.status(), StatusCode::OK, "{path}");
    }
    let retry = raw.post(
        &format!("/v1/runs/{run}/actions/retry"),
        "r",
        &json!({"reason": "x", "revision": 1}),
    );
    assert_eq!(refused(retry).await, expect(403, "forbidden", ""));

    raw.token = token(&mut conn, Role::Viewer, None).await;
    assert_eq!(
        refused(raw.post("/v1/tenants", "c", &acme())).await,
        expect(403, "forbidden", "")
    );
    sqlx::query("update app.token set expires_at = created_at + interval '1 microsecond' where role = 'viewer'")
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(
        refused(raw.request(Method::GET, "/v1/whoami")).await,
        expect(401, "unauthorized", "")
    );
    for wrong in ["", "tenure_sk_x", &tenure_api::auth::generate()] {
        raw.token = wrong.to_owned();
        assert_eq!(
            refused(raw.request(Method::GET, "/v1/whoami")).await.0,
            401,
            "{wrong}"
        );
    }
    let bare = raw.http.get(format!("{}/v1/whoami", raw.url));
    assert_eq!(refused(bare).await.0, 401);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_posts_of_one_key_make_one_tenant() {
    let app = TestApp::new().await;
    let raw = Raw::new(&app);
    let body = acme();
    let posts = (0..50).map(|_| raw.post("/v1/tenants", "\"same\"", &body).send());
    let mut ids = Vec::new();
    for response in futures_util::future::join_all(posts).await {
        let response = response.unwrap();
        match response.status() {
            StatusCode::CREATED => {
                let made: Value = response.json().await.unwrap();
                ids.push(made["tenant_id"].as_str().unwrap().to_owned());
            }
            StatusCode::CONFLICT => {}
            status => panic!("{status}"),
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let again = raw.post("/v1/tenants", "same", &body).send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    let other = json!({"name": "Other", "email": "a@acme.example", "zone": "UTC"});
    assert_eq!(
        refused(raw.post("/v1/tenants", "same", &other)).await,
        expect(422, "idempotency_key_reused", "")
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_start_returns_the_first_and_a_conflicting_one_is_409() {
    let app = TestApp::new().await;
    let raw = Raw::new(&app);
    let made: Value = raw
        .post("/v1/tenants", "t", &acme())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let start = |input: Value| json!({"workflow": "dunning", "tenant_id": made["tenant_id"], "key": "k", "input": input});
    let first = raw
        .post("/v1/runs", "1", &start(json!({"currency": "EUR"})))
        .send()
        .await
        .unwrap();
    assert_eq!(first.status(), StatusCode::CREATED);
    let first: Value = first.json().await.unwrap();
    let again = raw
        .post("/v1/runs", "2", &start(json!({"currency": "EUR"})))
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::OK);
    let again: Value = again.json().await.unwrap();
    assert_eq!(first["run_id"], again["run_id"]);
    let other = raw.post("/v1/runs", "3", &start(json!({"currency": "USD"})));
    assert_eq!(refused(other).await, expect(409, "key_taken", "/key"));
    // A signal that the workflow does not know.
    let signals = format!("/v1/runs/{}/signals", first["run_id"].as_str().unwrap());
    let nonsense = json!({"id": "s", "signal": {"Dance": null}});
    assert_eq!(
        refused(raw.post(&signals, "4", &nonsense)).await,
        expect(422, "invalid", "/signal")
    );
    app.finish().await;
}

/// Signs as Stripe does.
pub(crate) fn signature(body: &str, secret: &str, at: i64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_verified_stored_once_and_kept_when_nobody_is_found() {
    let app = TestApp::new().await;
    let raw = Raw::new(&app);
    let mut conn = support::connect(&app.options).await;
    let now: i64 = sqlx::query_scalar("select extract(epoch from now())::bigint")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let body = json!({
        "id": "evt_suite", "type": "payment_intent.succeeded", "data": {"object": {"metadata": {}}}
    })
    .to_string();
    let deliver = |body: &str, signature: &str| {
        let request = raw.http.post(format!("{}/v1/webhooks/stripe", raw.url));
        request
            .header("stripe-signature", signature)
            .body(body.to_owned())
    };
    let good = signature(&body, WEBHOOK_SECRET, now);
    for bad in [
        String::new(),
        signature(&body, "whsec_other", now),
        signature(&body, WEBHOOK_SECRET, now - 400),
        good.replace("v1=", "v1=00"),
    ] {
        assert_eq!(
            refused(deliver(&body, &bad)).await,
            expect(400, "bad_signature", ""),
            "{bad}"
        );
    }
    assert_eq!(
        refused(deliver(&format!("{body} "), &good)).await.1,
        "bad_signature"
    );
    let no_event = "[]";
    let signed = signature(no_event, WEBHOOK_SECRET, now);
    assert_eq!(refused(deliver(no_event, &signed)).await.0, 422);
    for _ in 0..3 {
        let taken = deliver(&body, &good).send().await.unwrap();
        assert_eq!(taken.status(), StatusCode::OK);
    }
    let row: (String, i32) = sqlx::query_as(
        "select status, deliveries from app.webhook_event where event_id = 'evt_suite'",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(row, ("quarantined".to_owned(), 3));
    let huge = deliver(&"x".repeat(300_000), &good);
    assert_eq!(refused(huge).await, expect(413, "payload_too_large", ""));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_committed_and_whole() {
    let app = TestApp::new().await;
    let raw = Raw::new(&app);
    let served: Value = raw
        .request(Method::GET, "/openapi.json")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let committed: Value = serde_json::from_str(include_str!("../docs/openapi.json")).unwrap();
    assert!(
        served == committed,
        "docs/openapi.json is not current; run: cargo run -- openapi > docs/openapi.json"
    );
    let mut dangling = Vec::new();
    walk(&served, &mut |reference| {
        let pointer = reference.trim_start_matches('#');
        if served.pointer(pointer).is_none() {
            dangling.push(reference.to_owned());
        }
    });
    assert!(dangling.is_empty(), "{dangling:?}");
    for (path, methods) in served["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let declared = operation["parameters"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for name in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let name = name.trim_end_matches('}');
                let known = declared
                    .iter()
                    .any(|one| one["name"] == name && one["in"] == "path");
                assert!(known, "{method} {path} does not declare {name}");
            }
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_declares_the_idempotency_key_if_it_is_refused_without_one() {
    let app = TestApp::new().await;
    let raw = Raw::new(&app);
    let document: Value = serde_json::from_str(include_str!("../docs/openapi.json")).unwrap();
    let header = "#/components/parameters/IdempotencyKey";
    let shape = document.pointer(header.trim_start_matches('#')).unwrap();
    assert_eq!(shape["name"], "Idempotency-Key");
    assert_eq!(
        (&shape["in"], &shape["required"]),
        (&json!("header"), &json!(true))
    );
    let lengths = (&shape["schema"]["minLength"], &shape["schema"]["maxLength"]);
    assert_eq!(lengths, (&json!(1), &json!(255)));
    let mut keyed = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let parameters = operation["parameters"].as_array();
            let parameters = || parameters.into_iter().flatten();
            let declared = parameters().any(|one| one["$ref"] == header);
            let mut address = path.clone();
            for one in parameters().filter(|one| one["in"] == "path") {
                let value = match one["schema"]["format"] == "uuid" {
                    true => "01a209f6-4762-727e-b736-2430e0a79587",
                    false => "lost",
                };
                address = address.replace(&format!("{{{}}}", one["name"].as_str().unwrap()), value);
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            if method.is_safe() {
                assert!(!declared, "{method} {path}");
                continue;
            }
            let answer = raw.request(method.clone(), &address).json(&json!({}));
            let answer = answer.send().await.unwrap();
            let status = answer.status();
            let problem: Value = answer.json().await.unwrap();
            let asked = status == 400 && problem["code"] == "idempotency_key_required";
            assert_eq!(asked, declared, "{method} {path}: {problem}");
            keyed += usize::from(asked);
        }
    }
    assert!(keyed > 70, "only {keyed}");
    // What is declared of its length is what is checked.
    for (key, status) in [("k".repeat(255), 201), ("k".repeat(256), 400)] {
        let made = raw.post("/v1/tenants", &key, &acme()).send().await.unwrap();
        assert_eq!(made.status(), status);
    }
    app.finish().await;
}

fn walk(value: &Value, found: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match inner {
                    Value::String(reference) if key == "$ref" => found(reference),
                    inner => walk(inner, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_time_of_a_run_says_on_which_clock_it_is() {
    let app = TestApp::new().await;
    // Ahead of the clock on the wall for as long as anybody will run this.
    let from = "2090-01-31T09:00:00Z";
    let plan = "starter-monthly";
    let customer = app.customer();
    let customer = customer.subscribe(from, "UTC", plan, "EUR", "pm_card_visa");
    let customer = customer.await;
    customer.advance("15d").await;
    let from = from.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let runs = app.client.list_runs(&Default::default()).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    // What watches the provider's events does so in real time, whoever they are of.
    let runs = runs.items.into_iter();
    for run in runs.filter(|run| run.workflow != "webhook-watch") {
        seen.insert((run.workflow.clone(), run.status.is_terminal()));
        let is_system = run.tenant_name.as_deref() == Some("system");
        assert_eq!(is_system, run.workflow == "clock-advance", "{run:?}");
        assert_eq!(run.tenant_started_at.is_some(), !is_system, "{run:?}");
        let shown = app.client.run(run.run_id).await.unwrap().summary;
        assert_eq!(shown.tenant_name.is_some(), is_system);
        assert!(run.started_at < from && run.started_at <= run.changed_at);
        assert!(run.tenant_started_at.is_none_or(|at| at >= from));
        assert!(run.finished_at.is_none_or(|at| at >= run.started_at));
        assert_eq!(run.next_clock.is_some(), run.next_at.is_some());
        // What moves the clock may not have ended yet when the clock has arrived.
        let clock = match is_system {
            true => DeadlineClock::Real,
            false => DeadlineClock::Tenant,
        };
        assert!(run.next_clock.is_none_or(|found| found == clock), "{run:?}");
        assert!(
            run.next_at.is_none_or(|at| (at < from) == is_system),
            "{run:?}"
        );
        let visits = app.client.list_transitions(run.run_id).await.unwrap();
        for visit in visits {
            assert!(visit.at < from, "in real time");
            assert_eq!(visit.tenant_at.is_some(), !is_system);
        }
        for signal in app.client.list_signals(run.run_id).await.unwrap() {
            assert!(signal.received_at < from, "in real time");
            assert_eq!(signal.tenant_received_at.is_some(), !is_system);
        }
    }
    assert!(
        seen.contains(&("subscription".to_owned(), false)),
        "{seen:?}"
    );
    assert!(seen.contains(&("payment".to_owned(), true)), "{seen:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_types_and_the_servers_answers_agree() {
    let app = TestApp::new().await;
    let customer = app
        .customer()
        .subscribe(
            "2027-01-31T09:00:00Z",
            "UTC",
            "team-monthly",
            "EUR",
            "pm_card_visa",
        )
        .await;
    let client = &app.client;
    let tenant = customer.tenant.tenant_id;
    assert_eq!(client.whoami().await.unwrap().role, Role::Admin);
    assert_eq!(client.list_plans().await.unwrap().len(), 5);
    assert_eq!(client.list_workflows().await.unwrap().len(), 23);
    let filter = tenure_client::TenantFilter {
        q: Some("acm".to_owned()),
        ..Default::default()
    };
    let page = client.list_tenants(&filter);
    assert_eq!(page.await.unwrap().items.len(), 1);
    let invoice = customer.invoices().await.remove(0);
    let detail = client.invoice(tenant, invoice.invoice_id).await.unwrap();
    assert_eq!(detail.lines[0].amount.to_string(), "49.00 EUR");
    for run in client.list_runs(&Default::default()).await.unwrap().items {
        let shown = client.run(run.run_id).await.unwrap();
        assert!(!shown.why.summary.is_empty());
        let visits = client.list_transitions(run.run_id).await.unwrap();
        assert!(!visits.is_empty(), "{} has no visits", run.workflow);
        client.list_steps(run.run_id).await.unwrap();
        client.list_signals(run.run_id).await.unwrap();
    }
    let new = NewTenant {
        name: String::new(),
        email: "a@b.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    };
    let refused = client
        .create_tenant(&new, &IdempotencyKey::generate())
        .await
        .unwrap_err();
    assert_eq!(refused.problem().unwrap().errors[0].pointer, "/name");
    app.finish().await;
}

/// A client that sends all of its body before it looks for an answer sees it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_heard_out_and_then_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = TestApp::new().await;
    let host = app.url.strip_prefix("http://").unwrap();
    let body = vec![b' '; 8 * 1024 * 1024];
    for _ in 0..10 {
        let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
        let head = format!(
            "POST /v1/tenants HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\nidempotency-key: k\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            app.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
    app.finish().await;
}
