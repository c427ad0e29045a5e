//! The configuration: flags = environment, one documented struct per concern.
//!
//! A secret is an argument whose environment's value is hidden; it can also be given as a file
//! (`*_FILE`), as container platforms mount them. What is made of these definitions, the keys of
//! `--config`, `--print-config` and `docs/configuration.md`, is in `settings`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tenure_engine::retention::RetentionConfig;
use tenure_engine::seal::{LocalMasterKey, MasterKey};
use tenure_engine::{ClaimScope, Database, Pooler, WorkerConfig};
use tenure_workflows::archive::{ArchiveConfig, S3Config};
use tenure_workflows::certificate::{LocalSigningKey, SigningKey};
use tenure_workflows::ports::mail::MailConfig;
use tenure_workflows::product::Sources;
use tracing::level_filters::LevelFilter;
use tracing_log::{AsLog as _, LogTracer};
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::trace::Traces;

/// Where the configuration comes from, and a look at it. Not settings themselves.
#[derive(Debug, Clone, Args)]
pub struct ConfigurationArgs {
    /// A TOML file of settings; a key is a flag's name with underscores. Flags and environment
    /// outrank it, and it outranks the defaults.
    #[arg(long, env = "TENURE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the settings as TOML, each with where it comes from and secrets masked, and end.
    #[arg(long)]
    pub print_config: bool,
}

/// Where the database is.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// URL of the database, as `postgres://user:password@host/database`. The login must be a
    /// member of the roles that the migrations make. Several hosts may be given, as
    /// `host1:5432,host2:5432`: the one that takes writes is used, also after a failover.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// A file that holds the URL instead.
    #[arg(long, env = "DATABASE_URL_FILE", conflicts_with = "database_url")]
    pub database_url_file: Option<PathBuf>,
    /// What stands before the database: `none`; `prepared`, a pooler in transaction mode that keeps
    /// prepared statements (PgBouncer from 1.21, with `max_prepared_statements`); `unnamed`, one
    /// that keeps none. Behind a pooler nothing is listened for: polling finds the work.
    #[arg(long, env = "TENURE_POOLER", default_value = "none", value_parser = ["none", "prepared", "unnamed"])]
    pub pooler: String,
}

impl DatabaseArgs {
    /// Where it is.
    ///
    /// # Errors
    /// When no URL is given, or it cannot be read.
    pub fn database(&self) -> anyhow::Result<Database> {
        let url = secret(
            self.database_url.as_deref(),
            self.database_url_file.as_deref(),
        )?
        .context("give the database: --database-url or DATABASE_URL")?;
        let database: Database = url.parse()?;
        let pooler = match self.pooler.as_str() {
            "prepared" => Pooler::Prepared,
            "unnamed" => Pooler::Unnamed,
            _ => return Ok(database),
        };
        Ok(database.behind(pooler)?)
    }

    /// Where it is, for what needs a session of its own.
    ///
    /// # Errors
    /// As [`DatabaseArgs::database`], and when a pooler stands between.
    pub fn direct(&self) -> anyhow::Result<Database> {
        anyhow::ensure!(
            self.pooler == "none",
            "this holds locks and settings of a session: give the database's own address, and no \
             pooler"
        );
        self.database()
    }
}

/// Where the API listens.
#[derive(Debug, Clone, Args)]
pub struct HttpArgs {
    /// Address and port of the API. Plain HTTP: put a proxy with TLS before it.
    #[arg(long, env = "TENURE_LISTEN", default_value = "127.0.0.1:7070")]
    pub listen: std::net::SocketAddr,
    /// Name of this installation, which the console shows.
    #[arg(long, env = "TENURE_ENVIRONMENT", default_value = "production")]
    pub environment: String,
}

/// Where metrics are served.
#[derive(Debug, Clone, Args)]
pub struct MetricsArgs {
    /// Address and port of `GET /metrics`, for Prometheus; off unless given. It asks for no token:
    /// keep it on loopback or a private network.
    #[arg(long, env = "TENURE_METRICS_LISTEN")]
    pub metrics_listen: Option<std::net::SocketAddr>,
}

/// Where traces go.
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// Address of an OpenTelemetry collector that takes OTLP over HTTP, such as
    /// `http://127.0.0.1:4318`; `/v1/traces` is added. Traces are exported only if it is given.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Headers for the collector, such as a key, as `name=value` separated by commas.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true)]
    pub otlp_headers: Option<String>,
    /// A file that holds the headers instead.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_HEADERS_FILE",
        conflicts_with = "otlp_headers"
    )]
    pub otlp_headers_file: Option<PathBuf>,
    /// The name under which traces of this service are found.
    #[arg(long, env = "OTEL_SERVICE_NAME", default_value = "tenure")]
    pub otlp_service_name: String,
}

impl TraceArgs {
    /// Where traces go, if anywhere.
    ///
    /// # Errors
    /// When the address or a header is malformed, or the file cannot be read.
    pub fn config(&self) -> anyhow::Result<Option<TraceConfig>> {
        let Some(endpoint) = &self.otlp_endpoint else {
            return Ok(None);
        };
        let base = endpoint.trim_end_matches('/');
        let url = reqwest::Url::parse(&format!("{base}/v1/traces"));
        let url = url.context("the collector's address is malformed")?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https"),
            "the collector's address must begin with http:// or https://"
        );
        let headers = secret(
            self.otlp_headers.as_deref(),
            self.otlp_headers_file.as_deref(),
        )?;
        let headers = headers.as_deref().map_or(Vec::new(), listed);
        let headers = headers.iter().map(|header| {
            let pair = header.split_once('=');
            let (name, value) = pair.context("a header for the collector is no name=value")?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        });
        Ok(Some(TraceConfig {
            url,
            headers: headers.collect::<anyhow::Result<_>>()?,
            service_name: self.otlp_service_name.clone(),
        }))
    }
}

/// Where traces go, as it is used.
#[derive(Clone)]
pub struct TraceConfig {
    /// Where batches are posted.
    pub url: reqwest::Url,
    /// Sent along with each.
    pub headers: HashMap<String, String>,
    /// The name under which they are found.
    pub service_name: String,
}

/// How the worker works.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Seconds after which others take over from a lost worker.
    #[arg(long, env = "TENURE_LEASE_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=600))]
    pub lease_seconds: u64,
    /// The most visits in flight.
    #[arg(long, env = "TENURE_IN_FLIGHT", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// Threads that run workflow code.
    #[arg(long, env = "TENURE_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Seconds that an orderly stop waits for visits before it gives their runs back.
    #[arg(long, env = "TENURE_DRAIN_SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub drain_seconds: u64,
    /// Start even if the database holds runs that this build could not go on with: of a workflow
    /// that it has not, of a newer version, or in a state that it cannot read. They would wait as
    /// *no handler* or be stuck. See `tenure plan-deploy`.
    #[arg(long, env = "TENURE_ALLOW_STRANDING", value_parser = clap::builder::BoolishValueParser::new())]
    pub allow_stranding: bool,
    /// How much one claim looks at: `database`, all of it in one statement; `shard`, one shard after
    /// the other, for a schema that is distributed by shard.
    #[arg(long, env = "TENURE_CLAIM_SCOPE", default_value = "database", value_parser = ["database", "shard"])]
    pub claim_scope: String,
}

impl WorkerArgs {
    /// The worker's configuration, under a name that people read.
    #[must_use]
    pub fn config(&self, name: String) -> WorkerConfig {
        WorkerConfig {
            name,
            lease: Duration::from_secs(self.lease_seconds),
            in_flight: self.in_flight as usize,
            threads: self.threads as usize,
            drain: Duration::from_secs(self.drain_seconds),
            claim_scope: match self.claim_scope.as_str() {
                "shard" => ClaimScope::Shard,
                _ => ClaimScope::Database,
            },
            ..WorkerConfig::default()
        }
    }
}

/// The product's own databases.
#[derive(Debug, Clone, Args)]
pub struct ProductArgs {
    /// One of the product's databases, as `name=postgres://user:password@host/database`; may be
    /// given several times, in the environment separated by spaces. The login owns the product's
    /// tables, or may read and write them; where tenants share tables, row-level security must bind
    /// it.
    #[arg(
        long = "product",
        value_name = "NAME=URL",
        env = "TENURE_PRODUCTS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub products: Vec<String>,
    /// A file that holds them instead, one a line.
    #[arg(
        long,
        value_name = "FILE",
        env = "TENURE_PRODUCTS_FILE",
        conflicts_with = "products"
    )]
    pub products_file: Option<PathBuf>,
}

impl ProductArgs {
    /// The sources; none, unless some are given.
    ///
    /// # Errors
    /// When one is no `name=url`, or the file cannot be read.
    pub fn config(&self) -> anyhow::Result<Sources> {
        let products = self.products.join(" ");
        let products = secret(
            (!products.is_empty()).then_some(products.as_str()),
            self.products_file.as_deref(),
        )?;
        let products = products.unwrap_or_default();
        Ok(Sources::parse(products.split_whitespace())?)
    }
}

/// How long things are kept. The same for all workers of a database.
#[derive(Debug, Clone, Args)]
pub struct RetentionArgs {
    /// Folder that finished runs are archived to, the same for all workers; without one, runs that
    /// are to be archived stay.
    #[arg(long, env = "TENURE_ARCHIVE_FOLDER")]
    pub archive_folder: Option<PathBuf>,
    /// Whole months before the present one for which the logs of steps and visits are kept.
    #[arg(long, env = "TENURE_LOG_MONTHS", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1_200))]
    pub log_months: u32,
    /// Days for which the audit is kept.
    #[arg(long, env = "TENURE_AUDIT_DAYS", default_value_t = 3_650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub audit_days: u32,
    /// Days for which an operation on many runs is kept after its end.
    #[arg(long, env = "TENURE_OPERATION_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub operation_days: u32,
}

impl RetentionArgs {
    /// The worker's configuration of retention.
    #[must_use]
    pub fn config(&self) -> RetentionConfig {
        RetentionConfig {
            archive_folder: self.archive_folder.clone(),
            log_months: self.log_months,
            audit_days: self.audit_days,
            operation_days: self.operation_days,
            ..RetentionConfig::default()
        }
    }
}

/// Where rows that retention takes out of the product are archived, and where exports lie.
#[derive(Debug, Clone, Args)]
pub struct ArchiveArgs {
    /// A folder, or `s3://bucket/prefix`, for what is taken out of the product and for exports; the
    /// same for all nodes. Without one nothing is archived or exported.
    #[arg(long, env = "TENURE_ARCHIVE")]
    pub archive: Option<String>,
    /// Address of the S3-compatible store, such as `https://s3.example.com`; the region's own when
    /// none is given.
    #[arg(long, env = "TENURE_ARCHIVE_ENDPOINT")]
    pub archive_endpoint: Option<String>,
    /// The bucket's region.
    #[arg(long, env = "TENURE_ARCHIVE_REGION", default_value = "us-east-1")]
    pub archive_region: String,
    /// Id of the access key.
    #[arg(long, env = "TENURE_ARCHIVE_ACCESS_KEY_ID")]
    pub archive_access_key_id: Option<String>,
    /// The access key itself.
    #[arg(long, env = "TENURE_ARCHIVE_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub archive_secret_access_key: Option<String>,
    /// A file that holds it instead.
    #[arg(
        long,
        env = "TENURE_ARCHIVE_SECRET_ACCESS_KEY_FILE",
        conflicts_with = "archive_secret_access_key"
    )]
    pub archive_secret_access_key_file: Option<PathBuf>,
}

impl ArchiveArgs {
    /// Where archives lie, if anywhere.
    ///
    /// # Errors
    /// When it is neither, or a bucket is named without an access key.
    pub fn config(&self) -> anyhow::Result<Option<ArchiveConfig>> {
        let Some(archive) = &self.archive else {
            return Ok(None);
        };
        let Some(rest) = archive.strip_prefix("s3://") else {
            anyhow::ensure!(
                !archive.contains("://"),
                "--archive: give a folder, or s3://bucket/prefix"
            );
            return Ok(Some(ArchiveConfig::Folder(PathBuf::from(archive))));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        anyhow::ensure!(!bucket.is_empty(), "--archive: s3:// names no bucket");
        let secret_access_key = secret(
            self.archive_secret_access_key.as_deref(),
            self.archive_secret_access_key_file.as_deref(),
        )?;
        Ok(Some(ArchiveConfig::S3(S3Config {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            endpoint: self.archive_endpoint.clone(),
            region: self.archive_region.clone(),
            access_key_id: self
                .archive_access_key_id
                .clone()
                .context("a bucket needs --archive-access-key-id")?,
            secret_access_key: secret_access_key
                .context("a bucket needs --archive-secret-access-key, or a file with it")?,
        })))
    }
}

/// The payment provider.
#[derive(Debug, Clone, Args)]
pub struct StripeArgs {
    /// Address of Stripe's API, ending in a slash.
    #[arg(
        long,
        env = "TENURE_STRIPE_URL",
        default_value = "https://api.stripe.com/"
    )]
    pub stripe_url: String,
    /// Secret key.
    #[arg(long, env = "TENURE_STRIPE_SECRET_KEY", hide_env_values = true)]
    pub stripe_secret_key: Option<String>,
    /// A file that holds the secret key instead.
    #[arg(
        long,
        env = "TENURE_STRIPE_SECRET_KEY_FILE",
        conflicts_with = "stripe_secret_key"
    )]
    pub stripe_secret_key_file: Option<PathBuf>,
    /// Signing secrets of the webhook endpoint, separated by commas: two while one rolls.
    #[arg(
        long,
        env = "TENURE_STRIPE_WEBHOOK_SECRETS",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub stripe_webhook_secrets: Vec<String>,
    /// A file that holds the signing secrets instead, separated by commas or lines.
    #[arg(
        long,
        env = "TENURE_STRIPE_WEBHOOK_SECRETS_FILE",
        conflicts_with = "stripe_webhook_secrets"
    )]
    pub stripe_webhook_secrets_file: Option<PathBuf>,
}

impl StripeArgs {
    /// Address, key and webhook secrets.
    ///
    /// # Errors
    /// When no key is given, or a file cannot be read.
    pub fn config(&self) -> anyhow::Result<StripeConfig> {
        let file = self.stripe_secret_key_file.as_deref();
        let webhook_secrets = self.stripe_webhook_secrets.join(",");
        let webhook_secrets = secret(
            (!webhook_secrets.is_empty()).then_some(webhook_secrets.as_str()),
            self.stripe_webhook_secrets_file.as_deref(),
        )?;
        Ok(StripeConfig {
            url: self.stripe_url.clone(),
            secret_key: secret(self.stripe_secret_key.as_deref(), file)?
                .context("give Stripe's key: --stripe-secret-key or TENURE_STRIPE_SECRET_KEY")?,
            webhook_secrets: webhook_secrets.as_deref().map_or(Vec::new(), listed),
        })
    }
}

/// The payment provider, as it is used.
#[derive(Clone)]
pub struct StripeConfig {
    /// Address, ending in a slash.
    pub url: String,
    /// Secret key.
    pub secret_key: String,
    /// Signing secrets of the webhook endpoint.
    pub webhook_secrets: Vec<String>,
}

/// Where mails go.
#[derive(Debug, Clone, Args)]
pub struct MailArgs {
    /// Address of the SMTP server, as `smtps://user:password@host:465`.
    #[arg(long, env = "TENURE_SMTP_URL", hide_env_values = true)]
    pub smtp_url: Option<String>,
    /// A file that holds the address instead.
    #[arg(long, env = "TENURE_SMTP_URL_FILE", conflicts_with = "smtp_url")]
    pub smtp_url_file: Option<PathBuf>,
    /// The sender of all mails.
    #[arg(
        long,
        env = "TENURE_MAIL_FROM",
        default_value = "Billing <billing@tenure.example>"
    )]
    pub mail_from: String,
}

impl MailArgs {
    /// Where mails go.
    ///
    /// # Errors
    /// When no server is given.
    pub fn config(&self) -> anyhow::Result<MailConfig> {
        let url = secret(self.smtp_url.as_deref(), self.smtp_url_file.as_deref())?;
        Ok(MailConfig::Smtp {
            url: url.context("give the mail server: --smtp-url or TENURE_SMTP_URL")?,
            from: self.mail_from.clone(),
        })
    }
}

/// What payloads are sealed with.
#[derive(Debug, Clone, Args)]
pub struct SealArgs {
    /// Master keys as `name:key`, separated by commas or lines; the first wraps, the others open
    /// what they wrapped. `tenure key new` makes one. Without any, payloads are stored in clear.
    #[arg(long, env = "TENURE_MASTER_KEY", hide_env_values = true)]
    pub master_key: Option<String>,
    /// A file that holds the master keys instead.
    #[arg(long, env = "TENURE_MASTER_KEY_FILE", conflicts_with = "master_key")]
    pub master_key_file: Option<PathBuf>,
}

impl SealArgs {
    /// The master key, if one is given.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn config(&self) -> anyhow::Result<Option<Arc<dyn MasterKey>>> {
        let keys = secret(self.master_key.as_deref(), self.master_key_file.as_deref())?;
        let Some(keys) = keys else {
            return Ok(None);
        };
        let keys = LocalMasterKey::parse(&keys).map_err(anyhow::Error::msg)?;
        Ok(Some(Arc::new(keys)))
    }
}

/// What certificates of deletion are signed with.
#[derive(Debug, Clone, Args)]
pub struct CertificateArgs {
    /// The key that signs certificates of deletion, as `name:key`; `tenure certificate new-key` makes
    /// one. Without it no deletion can be asked for.
    #[arg(long, env = "TENURE_CERTIFICATE_KEY", hide_env_values = true)]
    pub certificate_key: Option<String>,
    /// A file that holds the key instead.
    #[arg(
        long,
        env = "TENURE_CERTIFICATE_KEY_FILE",
        conflicts_with = "certificate_key"
    )]
    pub certificate_key_file: Option<PathBuf>,
}

impl CertificateArgs {
    /// The key, if one is given.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn config(&self) -> anyhow::Result<Option<Arc<dyn SigningKey>>> {
        let file = self.certificate_key_file.as_deref();
        let Some(key) = secret(self.certificate_key.as_deref(), file)? else {
            return Ok(None);
        };
        let key = LocalSigningKey::parse(&key).map_err(anyhow::Error::msg)?;
        Ok(Some(Arc::new(key)))
    }
}

/// How the process logs, to standard error.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Form of a line.
    #[arg(long, global = true, env = "TENURE_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
    /// What is logged, as `tracing` filters are written.
    #[arg(
        long,
        global = true,
        env = "TENURE_LOG",
        default_value = "info,sqlx=warn,sqlx::query=error,stripe=error,async_stripe=error,stripe_client_core=error,stripe_sandbox=warn"
    )]
    pub log: String,
}

impl LogArgs {
    /// Starts logging, and the export of traces beside it.
    ///
    /// # Errors
    /// When the filter is malformed.
    pub fn start(&self, traces: Option<&Traces>) -> anyhow::Result<()> {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log)
            .context("the log filter is malformed")?;
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = if self.log_format == "json" {
            lines.json().with_filter(filter).boxed()
        } else {
            lines.with_target(false).with_filter(filter).boxed()
        };
        // What is exported does not depend on what is logged.
        let mut layers = vec![lines];
        layers.extend(traces.map(Traces::layer));
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layers))
            .context("somebody else logs in this process")?;
        // sqlx asks through `log` whether a statement is wanted, and says it through `tracing`, if at
        // all. A filter's answer to the question would be kept for what comes next on the thread: that
        // line or span would be lost.
        LogTracer::builder()
            .ignore_crate("sqlx")
            .with_max_level(LevelFilter::current().as_log())
            .init()
            .context("somebody else logs in this process")
    }
}

/// A secret from its value or from its file; both at once is a mistake.
pub(crate) fn secret(
    value: Option<&str>,
    file: Option<&std::path::Path>,
) -> anyhow::Result<Option<String>> {
    match (value, file) {
        (Some(_), Some(file)) => anyhow::bail!(
            "a secret is given twice: as a value and in {}",
            file.display()
        ),
        (Some(value), None) => Ok(Some(value.to_owned())),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let text = text.trim();
            anyhow::ensure!(!text.is_empty(), "{} holds no secret", file.display());
            Ok(Some(text.to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// The secrets of a text; an empty one would be a key that everybody has.
fn listed(text: &str) -> Vec<String> {
    text.split([',', '\n'])
        .map(str::trim)
        .filter(|secret| !secret.is_empty())
        .map(str::to_owned)
        .collect()
}
