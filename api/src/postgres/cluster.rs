//! One private cluster: started, attached to or resumed; connected to; stopped.
//!
//! The order of things at a start, and whose the server is. How Postgres is called is in `server`,
//! who it runs as in `owner`, how it dies with us in `child`.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _};

use super::SUPERUSER;
use super::child::Server;
use super::folder::{self, Folder};
use super::leftover;
use super::server::ClusterConfig;

/// The name of the socket's file; nothing listens on the port itself.
const PORT: u16 = 5432;
/// How long a start may take: recovery after a crash on a busy disk included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often the lock and the socket are tried meanwhile.
const START_POLL: Duration = Duration::from_millis(5);
/// How often a server that should stay up is looked at.
const UP_POLL: Duration = Duration::from_millis(250);
/// How many starts in a row may fail before a server that ended is given up: what is left of one
/// that was killed holds its memory for a moment.
const STARTS_AFTER_AN_END: usize = 8;
/// How long a shutdown may take before it is made an immediate one.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How much of the log an error quotes.
const LOG_TAIL_LINES: usize = 8;

/// A running cluster, started by us or by another process of ours.
///
/// Dropping it ends a server that is ours, without waiting for the end; [`Cluster::stop`] waits.
#[derive(Debug)]
pub struct Cluster {
    config: ClusterConfig,
    folder: Folder,
    /// `None` when it is stopped, or when we attached to another process's.
    server: Option<Server>,
}

impl Cluster {
    /// The major version that an existing cluster needs, for [`find`](super::find()).
    #[must_use]
    pub fn wanted_major(root: &Path) -> Option<u32> {
        folder::data_major(root)
    }

    /// Starts the cluster, making it first if need be; attaches when another process runs it.
    ///
    /// # Errors
    /// When it cannot be made or does not answer within a minute (the error quotes its log), or
    /// when another major version made the data.
    pub async fn start(config: ClusterConfig) -> anyhow::Result<Self> {
        config.check_major()?;
        let folder = Folder::prepare(&config.root)?;
        if let Some(owner) = folder.owner
            && let Some(barrier) = owner.barred_at(&config.binaries.bin_dir)?
        {
            bail!(
                "the server does not run as root, and its user (uid {}) cannot enter {} to run {}",
                owner.uid,
                barrier.display(),
                config.binaries.bin_dir.display()
            );
        }
        let mut cluster = Self {
            config,
            folder,
            server: None,
        };
        cluster.within_start_limit(Self::own_or_attach).await?;
        Ok(cluster)
    }

    /// Stops the server, if it is ours, and starts it or attaches to who was faster.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        self.within_start_limit(Self::own_or_attach).await
    }

    /// Starts the server again whenever it ends without our asking. Returns only when it cannot be
    /// started any more, with the reason.
    pub async fn keep_up(&mut self) -> anyhow::Error {
        loop {
            tenure_engine::sleep(UP_POLL).await;
            let Some(status) = self.server.as_mut().and_then(Server::status) else {
                continue;
            };
            tracing::error!(
                postgres.status = status,
                "the private Postgres has ended by itself; starting it again"
            );
            if let Err(error) = self.start_again().await {
                return error.context("the private Postgres has ended and does not start again");
            }
            tracing::info!("the private Postgres runs again");
        }
    }

    async fn start_again(&mut self) -> anyhow::Result<()> {
        let mut failed = 0;
        loop {
            self.server = None;
            match self.within_start_limit(Self::own_or_attach).await {
                Err(error) if failed + 1 < STARTS_AFTER_AN_END => {
                    failed += 1;
                    tracing::warn!(error = %error, "the private Postgres does not start yet");
                    tenure_engine::sleep(UP_POLL).await;
                }
                started => return started,
            }
        }
    }

    /// Stops the server in order, if it is ours: sessions end, a checkpoint is written. One that
    /// takes longer than 20 s is stopped as a crash would.
    pub async fn stop(&mut self) {
        self.end(Signal::SIGINT).await;
    }

    /// Stops the server as a crash would, if it is ours: recovery follows at the next start.
    pub async fn stop_immediate(&mut self) {
        self.end(Signal::SIGQUIT).await;
    }

    /// Whether this process started the server, rather than attached to it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.server.is_some()
    }

    /// What it was started with.
    #[must_use]
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// How to connect to one of its databases; a stray `PGHOST` or password file has no say.
    #[must_use]
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("localhost")
            .port(PORT)
            .socket(&self.folder.socket_dir)
            .ssl_mode(PgSslMode::Disable)
            .username(SUPERUSER)
            .database(database)
    }

    /// The URL of one of its databases, for sqlx, `psql` and other programs.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let dir = percent_encoded(&self.folder.socket_dir);
        format!("postgres://{SUPERUSER}@localhost:{PORT}/{database}?host={dir}&sslmode=disable")
    }

    /// The line that opens a `psql` on one of its databases. Not every fetched Postgres brings
    /// `psql` along; then the one on `PATH` is meant.
    #[must_use]
    pub fn psql_command(&self, database: &str) -> String {
        let psql = self.config.binaries.bin_dir.join("psql");
        let psql = if psql.is_file() {
            &psql
        } else {
            Path::new("psql")
        };
        format!("{} '{}'", psql.display(), self.url(database))
    }

    /// Creates a database unless it exists.
    ///
    /// # Errors
    /// When the server does not answer, or the name is not a plain identifier.
    pub async fn ensure_database(&self, name: &str) -> anyhow::Result<()> {
        let database = identifier(name)?;
        let mut conn = self.admin().await?;
        let exists: bool =
            sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
                .bind(name)
                .fetch_one(&mut conn)
                .await?;
        if exists {
            return Ok(());
        }
        let created = sqlx::raw_sql(AssertSqlSafe(format!("create database {database}")))
            .execute(&mut conn)
            .await;
        match created {
            // Somebody else was faster.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P04") => Ok(()),
            created => created.map(drop).map_err(Into::into),
        }
    }

    /// A connection to the maintenance database.
    pub(super) async fn admin(&self) -> sqlx::Result<PgConnection> {
        PgConnection::connect_with(&self.connect_options("postgres")).await
    }

    async fn within_start_limit(
        &mut self,
        step: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let started = tokio::time::timeout(START_LIMIT, step(self)).await;
        started.unwrap_or_else(|_| {
            bail!(
                "Postgres did not answer within {} s; {}",
                START_LIMIT.as_secs(),
                self.log_tail()
            )
        })
    }

    /// Whoever gets the lock starts the server; everybody else waits for it to answer. The lock may
    /// become free meanwhile, when the other process ends.
    async fn own_or_attach(&mut self) -> anyhow::Result<()> {
        loop {
            let lock = File::options().append(true).open(self.folder.lock())?;
            match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return self.own(lock).await,
                Err((_, nix::Error::EWOULDBLOCK)) => {}
                Err((_, error)) => return Err(error).context("cannot lock the cluster's folder"),
            }
            if let Ok(conn) = self.admin().await {
                let _ = conn.close().await;
                return Ok(());
            }
            tenure_engine::sleep(START_POLL).await;
        }
    }

    async fn own(&mut self, lock: Flock<File>) -> anyhow::Result<()> {
        let (config, folder) = (self.config.clone(), self.folder.clone());
        let server = tokio::task::spawn_blocking(move || {
            leftover::end(&folder, STOP_LIMIT)?;
            folder.ensure_socket_dir()?;
            config.initdb(&folder)?;
            config.spawn(&folder, lock)
        });
        self.server = Some(server.await.context("the start was cut off")??);
        loop {
            let Err(error) = self.answers().await else {
                return Ok(());
            };
            tracing::trace!(error = %error, "the private Postgres does not answer yet");
            if let Some(status) = self.server.as_mut().and_then(Server::status) {
                let status = status.to_owned();
                self.server = None;
                bail!("Postgres ended at once ({status}); {}", self.log_tail());
            }
            tenure_engine::sleep(START_POLL).await;
        }
    }

    async fn answers(&self) -> sqlx::Result<()> {
        self.admin().await?.close().await
    }

    async fn end(&mut self, signal: Signal) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let ended = tokio::task::spawn_blocking(move || {
            server.signal(signal);
            if server.wait(STOP_LIMIT).is_none() {
                server.signal(Signal::SIGQUIT);
            }
            server.wait(STOP_LIMIT).is_some()
        });
        if ended.await.unwrap_or(false) {
            self.folder.tidy();
        } else {
            tracing::error!("the private Postgres does not stop; {}", self.log_tail());
        }
    }

    /// The last lines of the server's log, and where the rest is.
    fn log_tail(&self) -> String {
        let log = self.folder.log();
        let text = std::fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        format!("its log {} ends:\n{}", log.display(), tail.join("\n"))
    }
}

/// A plain lower-case identifier, so that it can stand in a statement.
pub(super) fn identifier(name: &str) -> anyhow::Result<&str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let leads = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !leads || name.len() > 63 || !name.chars().all(plain) {
        bail!("{name:?} is no plain database name");
    }
    Ok(name)
}

fn percent_encoded(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for &byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_url_survives_spaces_and_umlauts() {
        assert_eq!(percent_encoded(Path::new("/a b/ü%")), "/a%20b/%C3%BC%25");
    }

    #[test]
    fn a_name_that_could_end_a_statement_is_refused() {
        for name in ["", "a;b", "A", "a\"b", "1a", &"a".repeat(64)] {
            assert!(identifier(name).is_err(), "{name}");
        }
        assert!(identifier("template_0a").is_ok());
    }
}
