//! What a collector of traces gets from a real `tenure serve`, and what its absence costs: nothing.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use reqwest::Method;
use serde_json::{Value as Json, json};
use stripe_sandbox::{Sandbox, SandboxConfig, SandboxHandle};
use tenure_client::{Client, IdempotencyKey, RunFilter, RunStatus};
use tokio::net::TcpListener;

use crate::support::app::{SANDBOX_KEY, seed};
use crate::support::process::Server;
use crate::support::{self, eventually};

/// The context of a caller, after the example of the W3C.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector that takes OTLP over HTTP.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Got>>);

#[derive(Default)]
struct Got {
    refuses: bool,
    batches: usize,
    keys: Vec<String>,
    services: Vec<String>,
    spans: Vec<Span>,
}

impl Collector {
    /// Starts it; where.
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new()
            .route("/v1/traces", post(take))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    fn batches(&self) -> usize {
        self.0.lock().unwrap().batches
    }

    /// The spans of this name.
    fn named(&self, name: &str) -> Vec<Span> {
        let got = self.0.lock().unwrap();
        let named = got.spans.iter().filter(|span| span.name == name);
        named.cloned().collect()
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let batch = ExportTraceServiceRequest::decode(body).unwrap();
    let mut got = collector.0.lock().unwrap();
    got.batches += 1;
    if got.refuses {
        return StatusCode::BAD_REQUEST;
    }
    let key = headers.get("x-key").map(|key| key.to_str().unwrap());
    got.keys.extend(key.map(str::to_owned));
    for part in batch.resource_spans {
        let resource = part.resource.unwrap_or_default();
        got.services
            .extend(text(&resource.attributes, "service.name"));
        let spans = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
        got.spans.extend(spans);
    }
    StatusCode::OK
}

/// The text of an attribute.
fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match &found.value {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
        }) => Some(text.clone()),
        Some(AnyValue {
            value: Some(Value::IntValue(number)),
        }) => Some(number.to_string()),
        _ => None,
    }
}

/// A server that exports, and what it needs around it.
struct Stage {
    server: Server,
    client: Client,
    token: String,
    _sandbox: SandboxHandle,
}

impl Stage {
    /// Serves with the collector at an address, and whatever else is set.
    async fn set(collector: &str, more: impl FnOnce(&mut Command)) -> Self {
        let database = support::database_url().await;
        let token = seed(&database.parse().unwrap()).await;
        let sandbox = Sandbox::start(SandboxConfig::new(SANDBOX_KEY));
        let sandbox = sandbox.await.unwrap();
        let nobody = "smtp://127.0.0.1:9".to_owned();
        let mut server = Server::new(database, sandbox.url().to_owned(), nobody);
        let mut command = server.command();
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        more(&mut command);
        server.start_by(command);
        let client = Client::new(&server.url(), &token).unwrap();
        server.ready(&client).await;
        Self {
            server,
            client,
            token,
            _sandbox: sandbox,
        }
    }

    /// Creates a tenant as a traced caller does; what it got back in `traceresponse`.
    async fn create_tenant(&self) -> Option<String> {
        let body = json!({"name": "Acme", "email": "a@acme.example", "zone": "UTC"});
        let url = format!("{}/v1/tenants", self.server.url());
        let answer = reqwest::Client::new()
            .request(Method::POST, url)
            .bearer_auth(&self.token)
            .header("idempotency-key", IdempotencyKey::generate().as_str())
            .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
        let context = answer.headers().get("traceresponse").cloned();
        assert!(answer.json::<Json>().await.unwrap()["tenant_id"].is_string());
        context.map(|context| context.to_str().unwrap().to_owned())
    }

    /// Waits until the tenant's run is at rest; its id.
    async fn provisioned(&self) -> String {
        let filter = RunFilter {
            workflow: Some("tenant".to_owned()),
            status: Some(RunStatus::Waiting),
            ..RunFilter::default()
        };
        eventually("the tenant is provisioned", async || {
            let page = self.client.list_runs(&filter).await.unwrap();
            page.items.iter().any(|run| run.state == "Ready")
        })
        .await;
        let page = self.client.list_runs(&filter).await.unwrap();
        page.items[0].run_id.to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_requests_under_their_caller_and_runs_with_their_steps() {
    let collector = Collector::default();
    let mut stage = Stage::set(&collector.start().await, |command| {
        command
            .env("OTEL_SERVICE_NAME", "tenure-suite")
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
            // Nothing leaves before the end: what arrives was flushed by SIGTERM.
            .env("OTEL_BSP_SCHEDULE_DELAY", "600000");
    })
    .await;
    let answered = stage.create_tenant().await.expect("a context comes back");
    assert!(answered.starts_with(&format!("00-{TRACE}-")), "{answered}");
    assert!(!answered.contains(CALLER), "{answered}");
    let run = stage.provisioned().await;
    assert_eq!(collector.batches(), 0);
    stage.server.signal(Signal::SIGTERM);
    assert!(stage.server.wait(), "it ends in order");
    assert_spans(&collector, &answered, &run);
    let got = collector.0.lock().unwrap();
    assert!(got.services.iter().all(|name| name == "tenure-suite"));
    assert!(got.keys.iter().all(|key| key == "abc"));
    assert_eq!(got.keys.len(), got.batches);
}

fn assert_spans(collector: &Collector, answered: &str, run: &str) {
    let requests = collector.named("POST /v1/tenants");
    let [request] = requests.as_slice() else {
        panic!("one such request was made: {requests:?}");
    };
    assert_eq!(hex::encode(&request.trace_id), TRACE);
    assert_eq!(hex::encode(&request.parent_span_id), CALLER);
    assert!(answered.contains(&hex::encode(&request.span_id)));
    assert_eq!(request.kind, i32::from(SpanKind::Server));
    let status = text(&request.attributes, "http.response.status_code");
    assert_eq!(status.as_deref(), Some("201"));

    let of_run = |name: &str| {
        let mut named = collector.named(name);
        named.retain(|span| text(&span.attributes, "run.id").as_deref() == Some(run));
        assert!(!named.is_empty(), "no {name} of run {run}");
        named
    };
    let (runs, visits) = (of_run("run tenant"), of_run("visit tenant"));
    assert!(runs.iter().all(|run| run.parent_span_id.is_empty()));
    assert!(visits.iter().all(|visit| {
        let outer = runs.iter().find(|run| run.span_id == visit.parent_span_id);
        outer.is_some_and(|run| run.trace_id == visit.trace_id)
    }));
    for step in ["create-customer", "store-customer"] {
        let steps = of_run(&format!("step {step}"));
        let [told] = steps.as_slice() else {
            panic!("one attempt was made: {steps:?}");
        };
        assert_eq!(text(&told.attributes, "step.name").as_deref(), Some(step));
        let outcome = text(&told.attributes, "outcome");
        assert_eq!(outcome.as_deref(), Some("succeeded"));
        assert!(
            visits
                .iter()
                .any(|visit| visit.span_id == told.parent_span_id)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_is_told_of_once_and_forgiven() {
    let collector = Collector::default();
    collector.0.lock().unwrap().refuses = true;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let stage = Stage::set(&collector.start().await, |command| {
        command
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
            .stderr(Stdio::from(std::fs::File::create(&log).unwrap()));
    })
    .await;
    eventually("some batches were refused", async || {
        stage.client.readyz().await.unwrap();
        collector.batches() >= 5
    })
    .await;
    collector.0.lock().unwrap().refuses = false;
    eventually("spans arrive again", async || {
        stage.client.readyz().await.unwrap();
        !collector.named("GET /readyz").is_empty()
    })
    .await;
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(
        lines.matches("cannot export traces").count(),
        1,
        "said once: {lines}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_nobody_up() {
    // Connections are made and nothing comes back.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", silent.local_addr().unwrap());
    let mut stage = Stage::set(&address, |command| {
        command.env("OTEL_BSP_SCHEDULE_DELAY", "20");
    })
    .await;
    stage.create_tenant().await;
    stage.provisioned().await;
    let asked = Instant::now();
    stage.server.signal(Signal::SIGTERM);
    assert!(stage.server.wait(), "it ends in order");
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}
