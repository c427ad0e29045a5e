//! Metrics for Prometheus: every family is named, described and bucketed here, and served here.
//!
//! Engine, workflows and API count through the facade `metrics`, which does nothing until
//! `install` has run. The listener is apart from the API's: it asks for no token, so it belongs on
//! loopback or a private network.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use sqlx::PgPool;
use tokio::net::TcpListener;

use crate::state::AppState;

/// What a family is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram(Unit, &'static [f64]),
}

/// A family: name, kind, description.
type Family = (&'static str, Kind, &'static str);

/// From a statement on a warm row to a step's usual time limit.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Up to the most requests in one statement.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const FAMILIES: [Family; 19] = [
    (
        "tenure_visits_total",
        Kind::Counter,
        "Visits of runs, by workflow and by how they ended.",
    ),
    (
        "tenure_visit_duration_seconds",
        Kind::Histogram(Unit::Seconds, SECONDS),
        "From the choice of a visit's event to its durable settlement.",
    ),
    (
        "tenure_step_attempts_total",
        Kind::Counter,
        "Attempts at steps, by workflow, step and outcome; replayed answers are none.",
    ),
    (
        "tenure_claimed_runs_total",
        Kind::Counter,
        "Due runs that this process's worker took.",
    ),
    (
        "tenure_claim_lateness_seconds",
        Kind::Histogram(Unit::Seconds, SECONDS),
        "How long after its due instant a run was taken; runs that a message woke have none.",
    ),
    (
        "tenure_commits_total",
        Kind::Counter,
        "Statements of the group commit that were committed, by kind.",
    ),
    (
        "tenure_commit_rows",
        Kind::Histogram(Unit::Count, ROWS),
        "Rows that one statement of the group commit carried.",
    ),
    (
        "tenure_fenced_writes_total",
        Kind::Counter,
        "Rows that were not written because the run was another worker's by then.",
    ),
    (
        "tenure_leases_lost_total",
        Kind::Counter,
        "Leases that ended, or were given up, while the worker was at work.",
    ),
    (
        "tenure_deletion_alerts_total",
        Kind::Counter,
        "Times that a deletion of a tenant was called out as near or past its deadline.",
    ),
    (
        "tenure_failovers_total",
        Kind::Counter,
        "Times that this process's worker found the database on another timeline.",
    ),
    (
        "tenure_lost_commits_total",
        Kind::Counter,
        "Commits that had been acknowledged to this process's worker and were gone after a failover.",
    ),
    (
        "tenure_recovered_runs_total",
        Kind::Counter,
        "Runs that this process's worker made due again after another was lost.",
    ),
    (
        "tenure_signals_total",
        Kind::Counter,
        "Signals sent to runs through this process: new, or repeated under the same id.",
    ),
    (
        "tenure_http_requests_total",
        Kind::Counter,
        "Requests that the API answered, by method, route template and status.",
    ),
    (
        "tenure_http_request_duration_seconds",
        Kind::Histogram(Unit::Seconds, SECONDS),
        "Time to the API's answer, by method and route template.",
    ),
    (
        "tenure_webhook_events_total",
        Kind::Counter,
        "Webhook deliveries of the payment provider, by what became of them.",
    ),
    (
        "tenure_mails_total",
        Kind::Counter,
        "Attempts to hand over a mail: sent, refused for good, or failed for now.",
    ),
    (
        "tenure_db_pool_connections",
        Kind::Gauge,
        "Open connections to the database, by pool (engine, api) and state (idle, busy).",
    ),
];

/// The names of all families.
pub fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter().map(|(name, ..)| name)
}

/// Begins to collect. A process has one recorder: later calls get the first one's handle.
///
/// # Errors
/// When somebody else installed a recorder in this process.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let installed = HANDLE.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    installed.clone().map_err(anyhow::Error::msg)
}

fn build() -> anyhow::Result<PrometheusHandle> {
    let mut builder = PrometheusBuilder::new();
    for (name, kind, _) in FAMILIES {
        if let Kind::Histogram(_, buckets) = kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
        }
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).context("cannot collect metrics")?;
    describe();
    begin_at_zero();
    Ok(handle)
}

fn describe() {
    for (name, kind, description) in FAMILIES {
        match kind {
            Kind::Counter => describe_counter!(name, description),
            Kind::Gauge => describe_gauge!(name, description),
            Kind::Histogram(unit, _) => describe_histogram!(name, unit, description),
        }
    }
}

/// A series that is born with its first event hides that event from `rate`; those whose labels are
/// known beforehand, and which alerts watch, are there from the start.
fn begin_at_zero() {
    for name in [
        "tenure_claimed_runs_total",
        "tenure_fenced_writes_total",
        "tenure_leases_lost_total",
        "tenure_deletion_alerts_total",
        "tenure_failovers_total",
        "tenure_lost_commits_total",
        "tenure_recovered_runs_total",
    ] {
        counter!(name).absolute(0);
    }
    for outcome in ["new", "repeated"] {
        counter!("tenure_signals_total", "outcome" => outcome).absolute(0);
    }
    for outcome in [
        "mapped",
        "repeated",
        "ignored",
        "quarantined",
        "refused",
        "failed",
    ] {
        webhook_event(outcome, 0);
    }
    for outcome in ["sent", "refused", "failed"] {
        counter!("tenure_mails_total", "outcome" => outcome).absolute(0);
    }
}

/// Counts deliveries of the payment provider.
pub(crate) fn webhook_event(outcome: &'static str, events: u64) {
    counter!("tenure_webhook_events_total", "outcome" => outcome).increment(events);
}

/// Counts a request and its time, under the route's template.
pub(crate) async fn count_request(request: Request, next: Next) -> Response {
    let method = method_name(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched", MatchedPath::as_str)
        .to_owned();
    let began = Instant::now();
    let response = next.run(request).await;
    histogram!(
        "tenure_http_request_duration_seconds", "method" => method, "route" => route.clone()
    )
    .record(began.elapsed());
    counter!(
        "tenure_http_requests_total",
        "method" => method, "route" => route, "status" => response.status().as_str().to_owned()
    )
    .increment(1);
    response
}

/// A caller may invent methods; series are not theirs to make.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Serves `GET /metrics` until it is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    handle: PrometheusHandle,
    state: AppState,
) -> std::io::Result<()> {
    let tidied = handle.clone();
    let app = Router::new()
        .route("/metrics", get(scrape))
        .with_state((handle, state));
    tokio::select! {
        served = axum::serve(listener, app) => served,
        // Samples are folded into their buckets when somebody scrapes; nobody may.
        () = async { loop {
            tenure_engine::sleep(Duration::from_secs(5)).await;
            tidied.run_upkeep();
        } } => Ok(()),
    }
}

async fn scrape(State((handle, state)): State<(PrometheusHandle, AppState)>) -> impl IntoResponse {
    look_at_pool("engine", state.client().pool());
    look_at_pool("api", state.pool());
    if let Some(readers) = state.readers() {
        look_at_pool("readers", readers);
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], handle.render())
}

fn look_at_pool(name: &'static str, pool: &PgPool) {
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    let busy = pool.size().saturating_sub(idle);
    for (state, connections) in [("idle", idle), ("busy", busy)] {
        gauge!("tenure_db_pool_connections", "pool" => name, "state" => state)
            .set(f64::from(connections));
    }
}
