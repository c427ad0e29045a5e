//! What Prometheus scrapes from a real `tenure serve`.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use stripe_sandbox::{Sandbox, SandboxConfig, SandboxHandle, WebhookEndpoint};
use tenure_client::Client;
use uuid::Uuid;

use crate::support::app::{Customer, SANDBOX_KEY, WEBHOOK_SECRET, seed};
use crate::support::process::Server;
use crate::support::smtp::SmtpServer;
use crate::support::{self, eventually};

/// A server with metrics, and what it needs around it.
struct Stage {
    server: Server,
    client: Client,
    token: String,
    database: String,
    metrics: String,
    _sandbox: SandboxHandle,
    _smtp: SmtpServer,
}

impl Stage {
    async fn set() -> Self {
        let smtp = SmtpServer::start().await;
        let database = support::database_url().await;
        let token = seed(&database.parse().unwrap()).await;
        let sandbox = Sandbox::start(SandboxConfig::new(SANDBOX_KEY))
            .await
            .unwrap();
        let stripe = sandbox.url().to_owned();
        let mut server = Server::new(database.clone(), stripe, smtp.url());
        let metrics = server.serve_metrics();
        let hook = format!("{}/v1/webhooks/stripe", server.url());
        sandbox
            .control()
            .put_webhook_endpoint(Some("suite"), WebhookEndpoint::new(hook, WEBHOOK_SECRET))
            .unwrap();
        let client = Client::new(&server.url(), &token).unwrap();
        server.start_ready(&client).await;
        Self {
            server,
            client,
            token,
            database,
            metrics,
            _sandbox: sandbox,
            _smtp: smtp,
        }
    }

    async fn scrape(&self) -> Scrape {
        let response = reqwest::get(&self.metrics).await.unwrap();
        assert_eq!(response.status(), 200);
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        Scrape(response.text().await.unwrap())
    }
}

struct Scrape(String);

impl Scrape {
    fn samples(&self) -> impl Iterator<Item = &str> {
        let lines = self.0.lines();
        lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
    }

    /// The names that have a line of this word, such as `HELP`.
    fn told(&self, word: &str) -> BTreeSet<&str> {
        let prefix = format!("# {word} ");
        let lines = self.0.lines();
        let told = lines.filter_map(|line| line.strip_prefix(&prefix));
        told.filter_map(|line| line.split(' ').next()).collect()
    }

    /// The sum of the samples of this very name that have all of these labels.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let named = self.samples().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        named
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

/// Whether a UUID is in a text, wherever.
fn holds_uuid(text: &str) -> bool {
    let parts = text.as_bytes().windows(36);
    let mut parts = parts.filter_map(|part| std::str::from_utf8(part).ok());
    parts.any(|part| Uuid::parse_str(part).is_ok())
}

/// What a paying customer, a request to nowhere, an unsigned delivery and an invented method move:
/// names and some of the labels.
const MOVED: &[(&str, &[&str])] = &[
    (
        "tenure_visits_total",
        &["workflow=\"invoice\"", "outcome=\"completed\""],
    ),
    (
        "tenure_visit_duration_seconds_count",
        &["workflow=\"invoice\""],
    ),
    (
        "tenure_step_attempts_total",
        &["workflow=\"notice\"", "step=\"", "outcome=\"succeeded\""],
    ),
    ("tenure_claimed_runs_total", &[]),
    ("tenure_claim_lateness_seconds_count", &[]),
    ("tenure_commits_total", &["kind=\"settlements\""]),
    ("tenure_commits_total", &["kind=\"follow_up\""]),
    ("tenure_commit_rows_count", &["kind=\"steps\""]),
    ("tenure_signals_total", &["outcome=\"new\""]),
    (
        "tenure_http_requests_total",
        &["method=\"POST\"", "route=\"/v1/tenants\"", "status=\"201\""],
    ),
    (
        "tenure_http_requests_total",
        &["route=\"unmatched\"", "status=\"404\""],
    ),
    ("tenure_http_requests_total", &["method=\"other\""]),
    (
        "tenure_http_request_duration_seconds_bucket",
        &["route=\"/v1/tenants\"", "le=\"+Inf\""],
    ),
    ("tenure_webhook_events_total", &["outcome=\"refused\""]),
    ("tenure_mails_total", &["outcome=\"sent\""]),
    ("tenure_db_pool_connections", &["pool=\"engine\""]),
    ("tenure_db_pool_connections", &["pool=\"api\""]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_what_a_customer_caused_and_names_nobody() {
    let stage = Stage::set().await;
    let fresh = stage.scrape().await;
    let seen = |scrape: &Scrape, name: &str| scrape.told("TYPE").contains(name);
    assert!(seen(&fresh, "tenure_leases_lost_total"), "zero is told too");
    assert_eq!(fresh.sum("tenure_mails_total", &[]), 0.0);

    let make = Customer {
        client: &stage.client,
    };
    let customer = make
        .subscribe(
            "2027-01-31T09:00:00Z",
            "UTC",
            "starter-monthly",
            "EUR",
            "pm_card_visa",
        )
        .await;
    customer.advance("1mo").await;
    let http = reqwest::Client::new();
    let strange = format!("{}/v1/tenants/{}/none", stage.server.url(), Uuid::max());
    let sent = http.get(&strange).send().await.unwrap();
    assert_eq!(sent.status(), 404);
    let hook = format!("{}/v1/webhooks/stripe", stage.server.url());
    let unsigned = http.post(&hook).body("{}").send().await.unwrap();
    assert_eq!(unsigned.status(), 400);
    let invented = reqwest::Method::from_bytes(b"INVENTED").unwrap();
    http.request(invented, &hook).send().await.unwrap();
    eventually("a webhook event is mapped", async || {
        let scrape = stage.scrape().await;
        scrape.sum("tenure_webhook_events_total", &["outcome=\"mapped\""]) >= 1.0
    })
    .await;

    let scrape = stage.scrape().await;
    for (name, labels) in MOVED {
        let sum = scrape.sum(name, labels);
        assert!(sum >= 1.0, "{name}{labels:?} is {sum}");
    }
    let families: BTreeSet<&str> = tenure_api::metrics::families().collect();
    assert_eq!(scrape.told("HELP"), families);
    assert_eq!(scrape.told("TYPE"), families);
    for family in families {
        let guide = include_str!("../docs/operating.md");
        assert!(guide.contains(&format!("`{family}`")), "{family}: no word");
    }
    for sample in scrape.samples() {
        assert!(!holds_uuid(sample), "names somebody: {sample}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_counts_the_lease_that_it_lost() {
    let stage = Stage::set().await;
    let lost = async || {
        let scrape = stage.scrape().await;
        scrape.sum("tenure_leases_lost_total", &[])
    };
    assert_eq!(lost().await, 0.0);
    stage.server.signal(Signal::SIGSTOP);
    let mut other = stage.server.twin();
    let beside = Client::new(&other.url(), &stage.token).unwrap();
    other.start_ready(&beside).await;
    let options = stage.database.parse().unwrap();
    eventually("the other server has taken over", async || {
        let mut conn = support::connect(&options).await;
        let workers: i64 = sqlx::query_scalar("select count(distinct worker_id) from engine.lease")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        workers == 1
    })
    .await;
    stage.server.signal(Signal::SIGCONT);
    eventually("the loss is counted", async || lost().await >= 1.0).await;
}
