//! `tenure serve`: API and worker against a database.

use std::net::SocketAddr;

use anyhow::Context as _;
use tenure_engine::{PoolConfig, Pooler, WorkerConfig};
use tokio::net::TcpListener;

use crate::config::{
    ArchiveArgs, CertificateArgs, ConfigurationArgs, DatabaseArgs, HttpArgs, MailArgs, MetricsArgs,
    ProductArgs, RetentionArgs, SealArgs, StripeArgs, TraceArgs, WorkerArgs,
};
use crate::serve::{ServeConfig, start};

/// What to serve.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) configuration: ConfigurationArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    pub(super) traces: TraceArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    retention: RetentionArgs,
    #[command(flatten)]
    stripe: StripeArgs,
    #[command(flatten)]
    mail: MailArgs,
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
    #[command(flatten)]
    product: ProductArgs,
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Serve the API only.
    #[arg(long)]
    no_workers: bool,
    /// Work on runs only.
    #[arg(long, conflicts_with = "no_workers")]
    no_api: bool,
}

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let listener = if args.no_api {
        None
    } else {
        Some(listen(args.http.listen).await?)
    };
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let metrics = match args.metrics.metrics_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let name = worker_name();
    let database = args.database.database()?;
    let listen = database.pooler() == Pooler::None;
    let running = start(ServeConfig {
        database,
        listener,
        metrics,
        worker: (!args.no_workers).then(|| WorkerConfig {
            retention: args.retention.config(),
            listen,
            ..args.worker.config(name)
        }),
        allow_stranding: args.worker.allow_stranding,
        stripe: args.stripe.config()?,
        mail: args.mail.config()?,
        master_key: args.seal.config()?,
        certificate_key: args.certificate.config()?,
        products: args.product.config()?,
        archive: args.archive.config()?,
        environment: args.http.environment,
        pool: PoolConfig::default(),
    })
    .await?;
    if let Some(address) = address {
        tracing::info!("serving the API on http://{address}");
    }
    super::until_asked_to_stop().await?;
    tracing::info!("draining");
    running.shutdown().await;
    Ok(())
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}"))
}

/// Host and process, for people.
pub(super) fn worker_name() -> String {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "host".to_owned());
    format!("{host}/{}", std::process::id())
}
