//! `tenure dev`: everything on one machine with nothing to set up.
//!
//! A private Postgres, the migrated schema, a demo catalogue, the API, a worker, the Stripe sandbox
//! and captured mail; then the story, once per installation. What is stored survives the process.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use stripe_sandbox::{Sandbox, SandboxConfig, SandboxHandle, WebhookEndpoint};
use tenure_client::{Client, Role};
use tenure_engine::seal::MasterKey;
use tenure_engine::{PoolConfig, WorkerConfig};
use tenure_workflows::catalog;
use tenure_workflows::ports::mail::MailConfig;
use tenure_workflows::product::Sources;
use tokio::net::TcpListener;

use super::postgres::{PrivateArgs, migrated};
use super::serve::worker_name;
use super::{demo, story};
use crate::auth::{self, NewToken};
use crate::config::{SealArgs, StripeConfig};
use crate::postgres::{Cluster, ClusterConfig, Durability};
use crate::serve::{Running, ServeConfig, start};

/// The catalogue that `dev` starts with.
const DEMO_CATALOG: &str = include_str!("../../../fixtures/seed/catalog.json");
/// The sandbox's key; it opens nothing but the sandbox.
const SANDBOX_KEY: &str = "sk_test_tenure_dev";
const SANDBOX_WEBHOOK_SECRET: &str = "whsec_tenure_dev";
/// A lost worker on one's own machine should not be waited for long.
const DEV_LEASE: Duration = Duration::from_secs(4);

/// How to develop.
#[derive(Debug, clap::Args)]
pub(super) struct DevArgs {
    #[command(flatten)]
    private: PrivateArgs,
    #[command(flatten)]
    seal: SealArgs,
    /// Address and port of the API; another free port is taken when this one is in use.
    #[arg(long, env = "TENURE_LISTEN", default_value = "127.0.0.1:7070")]
    listen: std::net::SocketAddr,
    /// Agree to whatever would be asked: fetching a Postgres when there is none.
    #[arg(long)]
    yes: bool,
    /// End after the story: with success only if every fact of it held.
    #[arg(long)]
    once: bool,
    /// After the story, keep customers coming and going, so that the console has something to show.
    #[arg(long, conflicts_with = "once")]
    demo: bool,
    /// Throw away what an earlier `dev` stored, and start over.
    #[arg(long)]
    fresh: bool,
}

pub(super) async fn run(args: DevArgs) -> anyhow::Result<()> {
    let home = args.private.home();
    let files = Files::in_home(&home)?;
    if args.fresh {
        files.remove_all()?;
    }
    let binaries = args.private.binaries(&files.cluster, args.yes)?;
    outln!(
        "Postgres   {} ({})",
        binaries.version,
        binaries.bin_dir.display()
    );
    let mut cluster = Cluster::start(ClusterConfig {
        root: files.cluster.clone(),
        binaries,
        durability: Durability::Durable,
    })
    .await?;
    anyhow::ensure!(
        cluster.is_ours(),
        "another `tenure dev` runs on {}; stop it first, or choose another folder with TENURE_HOME",
        home.display()
    );
    outln!("Data       {}", home.display());
    let database = migrated(&cluster).await.context(
        "the stored data does not fit this build; `--fresh` throws it away and starts over",
    )?;
    outln!("psql       psql '{}'", cluster.url("tenure"));
    let result = tokio::select! {
        result = develop(&args, &files, database) => result,
        error = cluster.keep_up() => Err(error),
    };
    cluster.stop().await;
    result
}

/// Serves, plays the story, and goes on serving until told to stop.
async fn develop(args: &DevArgs, files: &Files, database: PgConnectOptions) -> anyhow::Result<()> {
    let token = prepare(files, &database).await?;
    let listener = listen(args.listen).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let sandbox = start_sandbox(files, &url).await?;
    let running = serve(files, database, listener, &sandbox, args.seal.config()?).await?;
    outln!("API        {url}");
    outln!("Stripe     {} (a sandbox; no real money)", sandbox.url());
    outln!("Mails      {}", files.mails.display());

    let client = Client::new(&url, &token)?;
    let held = if args.once || !files.story.exists() {
        let held = story::play(&client, &sandbox).await?;
        if held {
            std::fs::write(&files.story, "")?;
        }
        held
    } else {
        outln!("\nThe story was played before; its tenants are still here.");
        true
    };
    if !args.once {
        tell_what_to_try(&url, files);
        serve_until_asked_to_stop(args.demo.then_some(&client)).await?;
        outln!("Stopping. Everything is kept; the same command goes on from here.");
    }
    running.shutdown().await;
    sandbox.shutdown().await;
    anyhow::ensure!(held, "not every fact of the story held; see above");
    Ok(())
}

/// Waits, and plays customers meanwhile if there is somebody to play them with.
async fn serve_until_asked_to_stop(players: Option<&Client>) -> anyhow::Result<()> {
    let Some(client) = players else {
        return super::until_asked_to_stop().await;
    };
    outln!("\nCustomers come and go: watch them in the console.");
    tokio::select! {
        asked = super::until_asked_to_stop() => asked,
        () = demo::play(client) => Ok(()),
    }
}

async fn serve(
    files: &Files,
    database: PgConnectOptions,
    listener: TcpListener,
    sandbox: &SandboxHandle,
    master_key: Option<Arc<dyn MasterKey>>,
) -> anyhow::Result<Running> {
    start(ServeConfig {
        database: database.into(),
        listener: Some(listener),
        metrics: None,
        worker: Some(WorkerConfig {
            name: worker_name(),
            lease: DEV_LEASE,
            ..WorkerConfig::default()
        }),
        // Its runs are for play, and another checkout may have written them.
        allow_stranding: true,
        stripe: StripeConfig {
            url: sandbox.url().to_owned(),
            secret_key: SANDBOX_KEY.to_owned(),
            webhook_secrets: vec![SANDBOX_WEBHOOK_SECRET.to_owned()],
        },
        mail: MailConfig::Capture {
            folder: files.mails.clone(),
            from: "Tenure <billing@tenure.example>".to_owned(),
        },
        master_key,
        certificate_key: None,
        products: Sources::default(),
        archive: None,
        environment: "dev".to_owned(),
        pool: PoolConfig::default(),
    })
    .await
}

async fn start_sandbox(files: &Files, api: &str) -> anyhow::Result<SandboxHandle> {
    let mut config = SandboxConfig::new(SANDBOX_KEY);
    config.journal = Some(files.stripe.clone());
    config.webhooks = vec![WebhookEndpoint::new(
        format!("{api}/v1/webhooks/stripe"),
        SANDBOX_WEBHOOK_SECRET,
    )];
    Sandbox::start(config)
        .await
        .context("the Stripe sandbox does not start")
}

/// The wanted port, or any free one.
async fn listen(wanted: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(wanted).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((wanted.ip(), 0))
            .await
            .with_context(|| format!("cannot listen on {}", wanted.ip())),
    }
}

/// Loads the catalogue and makes the token valid.
async fn prepare(files: &Files, database: &PgConnectOptions) -> anyhow::Result<String> {
    let token = files.token()?;
    let mut conn = PgConnection::connect_with(database).await?;
    let mut tx = conn.begin().await?;
    tenure_workflows::as_control(&mut tx).await?;
    publish_demo(&mut tx).await?;
    let new = NewToken {
        name: "dev".to_owned(),
        role: Role::Admin,
        tenant: None,
        days: 3650,
    };
    auth::ensure(&mut tx, &new, &token).await?;
    tx.commit().await?;
    Ok(token)
}

/// Publishes what the demo catalogue has and the installation does not: what somebody published over it,
/// or retired, stays.
async fn publish_demo(conn: &mut PgConnection) -> anyhow::Result<()> {
    let known = catalog::list(conn).await?;
    let mut missing = catalog::parse(DEMO_CATALOG)?;
    missing.retain(|new| {
        let same =
            |one: &catalog::Published| (one.entry.kind(), &one.key) == (new.entry.kind(), &new.key);
        !known.iter().any(same)
    });
    catalog::publish(conn, &missing).await?;
    Ok(())
}

fn tell_what_to_try(url: &str, files: &Files) {
    let token = files.token.display();
    outln!(
        "
Serving until you press Ctrl-C. What to try next, in another terminal:

  export TENURE_URL={url} TENURE_TOKEN_FILE={token}
  cargo run -p tenure-console                    # watch the runs, retry and signal
  cargo run -- run list                          # the same from a script; --json
  curl -s -H \"Authorization: Bearer $(cat {token})\" {url}/v1/tenants

The README's section \"Try it\" plays the story by hand with curl."
    );
}

/// What a private installation keeps, and where.
struct Files {
    cluster: PathBuf,
    stripe: PathBuf,
    mails: PathBuf,
    token: PathBuf,
    story: PathBuf,
}

impl Files {
    fn in_home(home: &Path) -> anyhow::Result<Self> {
        if !home.is_dir() {
            std::fs::create_dir_all(home)
                .with_context(|| format!("cannot make the folder {}", home.display()))?;
            // The server's user must get through to its own folder; what is private is closed
            // itself. A folder that somebody else made stays as it is.
            std::fs::set_permissions(home, Permissions::from_mode(0o711))?;
        }
        Ok(Self {
            cluster: home.join("postgres"),
            stripe: home.join("stripe-sandbox.jsonl"),
            mails: home.join("mails"),
            token: home.join("token"),
            story: home.join("story-played"),
        })
    }

    /// The token of this installation, made at the first call.
    fn token(&self) -> anyhow::Result<String> {
        if let Ok(token) = std::fs::read_to_string(&self.token) {
            return Ok(token.trim().to_owned());
        }
        let token = auth::generate();
        let new = self.token.with_extension("new");
        let mut file = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        writeln!(file, "{token}")?;
        std::fs::rename(&new, &self.token)?;
        Ok(token)
    }

    /// Removes what an earlier `dev` stored here, and nothing that is not its own or in use.
    fn remove_all(&self) -> anyhow::Result<()> {
        if !self.cluster.exists() {
            return Ok(());
        }
        let lock = self.cluster.join("lock");
        let lock = std::fs::File::options().append(true).open(&lock);
        let lock = lock.with_context(|| {
            let folder = self.cluster.display();
            format!("{folder} was not made by `tenure dev`, so --fresh leaves it alone")
        })?;
        let _held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| {
            let folder = self.cluster.display();
            anyhow::anyhow!("a server runs on {folder}; stop that `tenure dev` first")
        })?;
        for folder in [&self.cluster, &self.mails] {
            if folder.exists() {
                std::fs::remove_dir_all(folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
            }
        }
        for file in [&self.stripe, &self.story] {
            if file.exists() {
                std::fs::remove_file(file)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_over_leaves_alone_what_runs_and_what_is_not_its_own() {
        let home = tempfile::tempdir().unwrap();
        let files = Files::in_home(home.path()).unwrap();
        files.remove_all().unwrap();
        std::fs::create_dir(&files.cluster).unwrap();
        std::fs::create_dir(&files.mails).unwrap();
        assert!(files.remove_all().is_err(), "no mark of ours");
        let lock = std::fs::File::create(files.cluster.join("lock")).unwrap();
        let held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
        let running = files.remove_all().unwrap_err().to_string();
        assert!(running.contains("stop that"), "{running}");
        assert!(files.mails.exists());
        drop(held);
        files.remove_all().unwrap();
        assert!(!files.cluster.exists() && !files.mails.exists());
    }
}
