//! API and worker in one process: started, and stopped in order.

use std::sync::Arc;

use anyhow::Context as _;
use sqlx::PgPool;
use tenure_engine::deploy::{self, Group};
use tenure_engine::seal::{Keyring, MasterKey};
use tenure_engine::{
    Client, Database, PoolConfig, Pooler, Registry, Worker, WorkerConfig, failover,
};
use tenure_workflows::archive::{Archive, ArchiveConfig};
use tenure_workflows::certificate::SigningKey;
use tenure_workflows::ports::mail::{MailConfig, Mailer};
use tenure_workflows::ports::stripe::Stripe;
use tenure_workflows::product::Sources;
use tenure_workflows::{Environment, webhook};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::StripeConfig;
use crate::state::{AppState, Outside};

/// The most connections for reads of one statement: each is busy for a fraction of a millisecond.
const READERS: u32 = 8;

/// What to serve.
pub struct ServeConfig {
    /// The database, with the migrated schema.
    pub database: Database,
    /// The API's listener; `None` serves no API.
    pub listener: Option<TcpListener>,
    /// The listener of `GET /metrics`; with `None` nothing is collected.
    pub metrics: Option<TcpListener>,
    /// The worker; `None` works on no runs.
    pub worker: Option<WorkerConfig>,
    /// Whether the worker starts even if this build would strand runs.
    pub allow_stranding: bool,
    /// The payment provider.
    pub stripe: StripeConfig,
    /// Where mails go.
    pub mail: MailConfig,
    /// What payloads are sealed with; without one they are stored in clear.
    pub master_key: Option<Arc<dyn MasterKey>>,
    /// What signs certificates of deletion.
    pub certificate_key: Option<Arc<dyn SigningKey>>,
    /// The product's own databases.
    pub products: Sources,
    /// Where rows are archived and exports lie; without one nothing is archived.
    pub archive: Option<ArchiveConfig>,
    /// The name of this installation.
    pub environment: String,
    /// Moves the engine's own time, for tests.
    pub pool: PoolConfig,
}

/// What is being served.
pub struct Running {
    state: AppState,
    environment: Environment,
    worker: Option<Worker>,
    server: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    metrics: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    stop: CancellationToken,
    closing: CancellationToken,
}

/// Starts serving.
///
/// # Errors
/// When the database, Stripe's or the mail server's address does not fit, or this build would strand
/// runs and that is not allowed.
pub async fn start(config: ServeConfig) -> anyhow::Result<Running> {
    let stop = CancellationToken::new();
    let closing = CancellationToken::new();
    // Before anything that counts begins.
    let metrics = match config.metrics {
        Some(listener) => Some((listener, crate::metrics::install()?)),
        None => None,
    };
    let Pools {
        engine: engine_pool,
        api: api_pool,
        readers,
    } = connect(&config.database, config.pool).await?;
    let stripe = Stripe::new(&config.stripe.url, &config.stripe.secret_key)
        .map_err(anyhow::Error::msg)
        .context("Stripe's address or key is malformed")?;
    let mailer = Mailer::new(&config.mail).map_err(anyhow::Error::msg)?;
    let archive = config.archive.as_ref().map(Archive::open);
    let archive = archive.transpose().map_err(anyhow::Error::msg)?;
    let environment = Environment::new(stripe, mailer, engine_pool.clone(), config.products)
        .with_archive(archive.clone());
    if let Some(key) = config.certificate_key {
        environment.sign_with(key);
    }
    let keyring = keyring(&engine_pool, config.database, config.master_key).await?;
    let workflows = tenure_workflows::workflows(&environment);
    let registry = workflows.keyring(keyring).build()?;
    warn_of_risks(&engine_pool).await?;
    if config.worker.is_some() {
        refuse_to_strand(&engine_pool, &registry, config.allow_stranding).await?;
    }
    let client = Client::new(engine_pool.clone(), registry, closing.clone());
    environment.connect(Some(client.clone()));
    if config.worker.is_some() {
        watch_webhooks(&engine_pool, &client).await?;
    }
    let worker = match config.worker {
        Some(worker) => Some(Worker::start(&client, worker).await?),
        None => None,
    };
    let state = AppState::new(
        client,
        api_pool,
        readers,
        Outside {
            products: environment.products().clone(),
            archive,
            signs: environment.signing_key().is_some(),
        },
        config.stripe.webhook_secrets,
        config.environment,
    );
    let server = config.listener.map(|listener| {
        let app = crate::routes::app(state.clone());
        let stopped = stop.clone().cancelled_owned();
        let serve = axum::serve(listener, app).with_graceful_shutdown(stopped);
        tokio::spawn(async move { serve.await })
    });
    let metrics = metrics.map(|(listener, handle)| {
        tokio::spawn(crate::metrics::serve(listener, handle, state.clone()))
    });
    Ok(Running {
        state,
        environment,
        worker,
        server,
        metrics,
        stop,
        closing,
    })
}

/// The connections of a process, by what they are for.
struct Pools {
    engine: PgPool,
    api: PgPool,
    /// For reads of one statement; none where a pooler keeps no sessions.
    readers: Option<PgPool>,
}

async fn connect(database: &Database, config: PoolConfig) -> anyhow::Result<Pools> {
    let engine = tenure_engine::connect(database.clone(), &config)
        .await
        .context("cannot connect to the database; is it migrated (tenure migrate up)?")?;
    let api = tenure_engine::connect(database.clone(), &config)
        .await
        .context("cannot connect to the database")?;
    let few = PoolConfig {
        max_connections: READERS,
        ..config
    };
    let readers = match database.pooler() {
        Pooler::None => Some(
            tenure_engine::connect_control(database.clone(), &few)
                .await
                .context("cannot connect to the database")?,
        ),
        Pooler::Prepared | Pooler::Unnamed => None,
    };
    Ok(Pools {
        engine,
        api,
        readers,
    })
}

/// Starts the watch over webhooks, unless there is one.
async fn watch_webhooks(pool: &PgPool, client: &Client) -> anyhow::Result<()> {
    let mut tx = tenure_engine::begin(pool).await?;
    let started = webhook::watch::start(client, &mut tx).await;
    started.context("cannot start the watch over webhooks")?;
    Ok(tx.commit().await?)
}

/// Says what the database's set-up could lose.
async fn warn_of_risks(pool: &PgPool) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    let risks = failover::risks(&mut conn).await;
    for risk in risks.context("cannot look at the database's set-up")? {
        tracing::warn!("{}", risk.describe());
    }
    Ok(())
}

/// What seals payloads; checked, so that no run meets a key that is not there.
async fn keyring(
    pool: &PgPool,
    database: Database,
    master: Option<Arc<dyn MasterKey>>,
) -> anyhow::Result<Keyring> {
    let keyring = match master {
        Some(master) => Keyring::new(database, master),
        None => Keyring::default(),
    };
    let mut conn = pool.acquire().await?;
    let checked = keyring.check(&mut conn).await;
    checked.context("cannot open the keys that seal this database's payloads")?;
    Ok(keyring)
}

/// Looks at a few runs of each workflow and version before the worker registers.
async fn refuse_to_strand(pool: &PgPool, registry: &Registry, allow: bool) -> anyhow::Result<()> {
    let found = deploy::sample(pool, registry)
        .await
        .context("cannot look at what runs there are")?;
    let groups: Vec<String> = found.stranded().map(describe).collect();
    if groups.is_empty() {
        return Ok(());
    }
    let groups = groups.join("; ");
    anyhow::ensure!(
        allow,
        "this build would strand runs: {groups}. `tenure plan-deploy` counts them all; \
         --allow-stranding starts all the same"
    );
    tracing::warn!(groups, "this build strands runs");
    Ok(())
}

fn describe(group: &Group) -> String {
    let reason = group.reason.as_deref().unwrap_or_default();
    format!(
        "{} version {} in state {}, at least {} ({}: {reason})",
        group.workflow,
        group.version,
        group.state,
        group.runs,
        group.verdict.as_str()
    )
}

impl Running {
    /// What the handlers share.
    #[must_use]
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// The worker, if there is one.
    pub fn worker(&mut self) -> Option<&mut Worker> {
        self.worker.as_mut()
    }

    /// Stops in order: not ready, the worker drained, no new requests, connections closed.
    pub async fn shutdown(self) {
        self.state.drain();
        // The API is served meanwhile: whoever hands out requests asks `/readyz`, and one that is
        // refused a connection says nothing of why.
        if let Some(worker) = self.worker {
            worker.shutdown().await;
        }
        self.stop.cancel();
        if let Some(server) = self.server {
            let _ = server.await;
        }
        self.environment.connect(None);
        // Served to the last, so that a drain can be watched.
        if let Some(metrics) = self.metrics {
            metrics.abort();
        }
        self.closing.cancel();
        self.state.close().await;
    }
}
