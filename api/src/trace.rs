//! Traces for OpenTelemetry: what is exported, under which names, and how contexts come and go.
//!
//! The spans are those of `tracing`: requests here, runs with their visits and steps in the engine,
//! which knows nothing of OpenTelemetry. Batches leave on a thread of their own from a bounded
//! queue: a collector that is slow or away costs spans, never time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, TracerProvider as _};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tenure_engine::{RunId, TenantId};
use tracing::{Level, Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::{Layer, Registry};

use crate::config::TraceConfig;

/// How long a batch may take, its repetitions included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an orderly stop waits for what is not exported yet.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);
/// The crates whose spans are told; those of the libraries below them are their own business.
const OURS: &str = "tenure_";
/// The answer's context, for a caller that gave none (W3C Trace Context, level 2, draft).
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");
const TRACEPARENT: &str = "traceparent";

/// The export of traces, as long as it runs.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Starts exporting, on the current runtime. Nothing is sent before there are spans.
    ///
    /// # Errors
    /// When no client for the collector can be made.
    pub fn start(config: &TraceConfig) -> anyhow::Result<Self> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(config.url.as_str())
            .with_headers(config.headers.clone())
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .context("cannot export traces")?;
        let exporter = Exporter {
            inner: Arc::new(exporter),
            runtime: tokio::runtime::Handle::current(),
            failing: AtomicBool::new(false),
        };
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(exporter)
            .build();
        Ok(Self { provider })
    }

    /// What turns spans of `tracing` into exported ones.
    pub(crate) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(env!("CARGO_PKG_NAME")))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_told).with_max_level_hint(LevelFilter::DEBUG))
            .boxed()
    }

    /// Sends the rest, within a bound.
    pub async fn finish(self) {
        let provider = self.provider;
        let shut = move || provider.shutdown_with_timeout(FINISH_TIMEOUT);
        let shut = tokio::task::spawn_blocking(shut).await;
        if !matches!(shut, Ok(Ok(()))) {
            tracing::warn!("the last traces could not be exported");
        }
    }
}

/// Spans of visits and steps are below what is logged; events are told as they are logged.
fn is_told(what: &Metadata<'_>) -> bool {
    what.target().starts_with(OURS) && (what.is_span() || *what.level() <= Level::INFO)
}

/// Sends batches, on the runtime, and says once that it cannot.
#[derive(Debug)]
struct Exporter {
    inner: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: tokio::runtime::Handle,
    failing: AtomicBool,
}

impl SpanExporter for Exporter {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(tell);
        let inner = self.inner.clone();
        let sent = self.runtime.spawn(async move { inner.export(batch).await });
        // Cut off only when the process ends, which `finish` tells of.
        let cut_off =
            |error: tokio::task::JoinError| OTelSdkError::InternalFailure(error.to_string());
        let sent = sent.await.map_err(cut_off)?;
        let failed_before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !failed_before => {
                tracing::warn!(error = %error, "cannot export traces; they are dropped until it works");
            }
            Ok(()) if failed_before => tracing::info!("traces are exported again"),
            _ => {}
        }
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.set_resource(resource);
        }
    }
}

/// Tells a span as others read it: what it is about in its name, and whether it went wrong.
fn tell(span: &mut SpanData) {
    let text = |key: &str| {
        let mut attributes = span.attributes.iter();
        let found = attributes.find(|attribute| attribute.key.as_str() == key);
        found.map(|attribute| attribute.value.as_str().into_owned())
    };
    let about = match span.name.as_ref() {
        "request" => text("http.request.method").zip(text("http.route")),
        "run" | "visit" => text("workflow").map(|workflow| (span.name.to_string(), workflow)),
        "step" => text("step.name").map(|step| (span.name.to_string(), step)),
        _ => None,
    };
    let went_wrong = text("outcome").filter(|outcome| is_wrong(outcome));
    if span.name == "request" {
        span.span_kind = SpanKind::Server;
    }
    if let Some((what, about)) = about {
        span.name = format!("{what} {about}").into();
    }
    if let Some(outcome) = went_wrong {
        span.status = Status::error(outcome);
    }
}

/// Whether a visit or a step that ended so failed.
fn is_wrong(outcome: &str) -> bool {
    matches!(
        outcome,
        "retryable_error"
            | "terminal_error"
            | "timed_out"
            | "panicked"
            | "failed"
            | "retrying"
            | "stuck"
            | "unsettled"
    )
}

/// Makes the caller's context, if it sent one, the parent of the request's span.
pub(crate) fn continue_trace(span: &Span, headers: &HeaderMap) {
    if headers.contains_key(TRACEPARENT) {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // Refused when nothing is exported, which is fine.
        let _ = span.set_parent(parent);
    }
}

/// Writes the run that a request started into its span: what leads from one's traces to the other's.
pub(crate) fn tell_run(tenant: TenantId, run: RunId) {
    let span = Span::current();
    span.record("tenant.id", tracing::field::display(tenant));
    span.record("run.id", tracing::field::display(run));
}

/// Writes what a request was about and what became of it into its span, and its context into the
/// answer.
pub(crate) async fn tell_request(
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    let span = Span::current();
    for (name, value) in params.iter().flat_map(RawPathParams::iter) {
        match name {
            "tenant_id" => span.record("tenant.id", value),
            "run_id" => span.record("run.id", value),
            _ => &span,
        };
    }
    let mut response = next.run(request).await;
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return response;
    }
    let status = response.status();
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_status(Status::error(status.to_string()));
    }
    let mut headers = HeaderMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(&mut headers));
    if let Some(own) = headers.remove(TRACEPARENT) {
        response.headers_mut().insert(TRACERESPONSE, own);
    }
    response
}
