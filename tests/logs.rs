//! What a server logs: each line says of which request, tenant and run it is.

use std::process::Stdio;

use serde_json::{Map, Value};
use stripe_sandbox::{Failure, FailureKind, Sandbox, SandboxConfig, SandboxHandle};
use tempfile::TempDir;
use tenure_client::{
    AttachPaymentMethod, Client, IdempotencyKey, NewTenant, RunFilter, RunStatus, RunSummary,
};

use crate::support::app::{SANDBOX_KEY, seed};
use crate::support::process::Server;
use crate::support::{self, eventually};

/// How often in a row a dependency fails before that is told.
const FAILURES: usize = 5;

/// A server that logs its own debug lines and the requests', as JSON.
struct Stage {
    server: Server,
    client: Client,
    token: String,
    sandbox: SandboxHandle,
    folder: TempDir,
}

impl Stage {
    async fn set() -> Self {
        let database = support::database_url().await;
        let token = seed(&database.parse().unwrap()).await;
        let sandbox = Sandbox::start(SandboxConfig::new(SANDBOX_KEY));
        let sandbox = sandbox.await.unwrap();
        let nobody = "smtp://127.0.0.1:9".to_owned();
        let mut server = Server::new(database, sandbox.url().to_owned(), nobody);
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = server.command();
        command
            .env("TENURE_LOG", "info,tenure_engine=debug,tower_http=debug")
            .env("TENURE_LOG_FORMAT", "json")
            .stderr(Stdio::from(log));
        server.start_by(command);
        let client = Client::new(&server.url(), &token).unwrap();
        server.ready(&client).await;
        Self {
            server,
            client,
            token,
            sandbox,
            folder,
        }
    }

    /// Makes tenants and waits until each has had its first visit; their runs.
    async fn provisioned(&self) -> Vec<RunSummary> {
        for n in 0..FAILURES {
            let new = NewTenant {
                name: format!("Acme {n}"),
                email: "billing@acme.example".to_owned(),
                zone: "UTC".to_owned(),
                locale: None,
                legal_entity: None,
                test_clock: None,
            };
            let key = IdempotencyKey::generate();
            self.client.create_tenant(&new, &key).await.unwrap();
        }
        let filter = RunFilter {
            workflow: Some("tenant".to_owned()),
            status: Some(RunStatus::Waiting),
            ..RunFilter::default()
        };
        let ready = async || {
            let mut runs = self.client.list_runs(&filter).await.unwrap().items;
            runs.retain(|run| run.state == "Ready");
            runs
        };
        eventually("all are provisioned", async || {
            ready().await.len() == FAILURES
        })
        .await;
        ready().await
    }

    /// The first line that is such a one: its fields with those of its spans.
    fn line(&self, is_such: impl Fn(&Map<String, Value>) -> bool) -> Option<Map<String, Value>> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        let lines = text.lines().map(serde_json::from_str::<Value>);
        let mut told = lines.filter_map(Result::ok).map(|line| {
            let spans = line["spans"].as_array().into_iter().flatten();
            let parts = spans.chain([&line["fields"]]);
            let fields = parts.filter_map(Value::as_object).flatten();
            let fields = fields.map(|(name, value)| (name.clone(), value.clone()));
            fields.collect::<Map<_, _>>()
        });
        told.find(|told| is_such(told))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_request_says_which_it_is_and_of_which_tenant_or_run() {
    let stage = Stage::set().await;
    let mut asked = Vec::new();
    for run in stage.provisioned().await {
        asked.push((format!("/v1/runs/{}", run.run_id), "run.id", run.run_id));
        let tenant = run.tenant_id;
        asked.push((format!("/v1/tenants/{tenant}"), "tenant.id", tenant));
    }
    let http = reqwest::Client::new();
    for (path, name, value) in asked {
        let url = format!("{}{path}", stage.server.url());
        let answer = http.get(url).bearer_auth(&stage.token).send();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let id = answer.headers()["x-request-id"].to_str().unwrap();
        let line = stage.line(|told| {
            let is =
                |name: &str, value: &str| told.get(name).and_then(Value::as_str) == Some(value);
            is("message", "finished processing request") && is("request.id", id)
        });
        let told = line.unwrap_or_else(|| panic!("no line of request {id} to {path}"));
        assert_eq!(told[name], value.to_string(), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_runs_second_visit_says_of_which_run_and_tenant_it_is() {
    let stage = Stage::set().await;
    let runs = stage.provisioned().await;
    let mut failure = Failure::new(FailureKind::ErrorBefore, 1_000);
    failure.path = Some("/v1/payment_methods".to_owned());
    stage.sandbox.control().fail_next(failure);
    for run in &runs {
        let attach = AttachPaymentMethod {
            payment_method: "pm_card_visa".to_owned(),
            position: None,
        };
        let (tenant, key) = (run.tenant_id, IdempotencyKey::generate());
        let sent = stage.client.attach_payment_method(tenant, &attach, &key);
        sent.await.unwrap();
    }
    let is_told = |told: &Map<String, Value>| {
        let message = told.get("message").and_then(Value::as_str);
        message.is_some_and(|message| message.starts_with("a dependency keeps failing"))
    };
    eventually("it is told", async || stage.line(is_told).is_some()).await;
    let told = stage.line(is_told).unwrap();
    assert!(told["run.visit"].as_i64().unwrap() >= 1, "{told:?}");
    let run = runs
        .iter()
        .find(|run| told["run.id"] == run.run_id.to_string());
    let run = run.unwrap_or_else(|| panic!("of none of the runs: {told:?}"));
    assert_eq!(told["tenant.id"], run.tenant_id.to_string());
    assert_eq!(told["workflow"], "tenant");
}
