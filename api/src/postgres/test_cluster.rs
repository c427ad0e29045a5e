//! Databases for tests: one cluster per process on memory, a migrated template, a clone for each.
//!
//! Part of the library because it is the same cluster with other settings. Nothing is dropped at
//! the end of a test process: the server ends with it, and the folder, whose name holds the pid and
//! whose lock is then free, is removed by the next one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, Pid};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Mutex, OnceCell};

use super::cluster::{Cluster, identifier};
use super::find::{SearchPath, find};
use super::server::{ClusterConfig, Durability};

/// How the folders are called; the pid follows.
const PREFIX: &str = "tenure-test-";
/// Memory is used when this much is free: a clone takes about 10 MB.
const MEMORY_NEEDED_BYTES: u64 = 1 << 30;

/// The scratch cluster of this process.
#[derive(Debug)]
pub struct TestCluster {
    cluster: Cluster,
    next: AtomicU32,
    /// Those that are made; held while one is, so that each is made once.
    templates: Mutex<HashSet<String>>,
}

impl TestCluster {
    /// Starts the cluster at the first call; later calls, from whatever runtime, get the same one.
    ///
    /// # Errors
    /// When no Postgres is found or it does not start.
    pub async fn shared(search: &SearchPath) -> anyhow::Result<&'static Self> {
        static SHARED: OnceCell<TestCluster> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::start(search)).await
    }

    async fn start(search: &SearchPath) -> anyhow::Result<Self> {
        let base = base_dir();
        sweep(&base);
        let config = ClusterConfig {
            root: base.join(format!("{PREFIX}{}", std::process::id())),
            binaries: find(search, None)?,
            durability: Durability::Scratch,
        };
        // A namesake of an earlier life of this pid is of no use.
        let _ = std::fs::remove_dir_all(&config.root);
        Ok(Self {
            cluster: Cluster::start(config).await?,
            next: AtomicU32::new(0),
            templates: Mutex::default(),
        })
    }

    /// The cluster itself.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Makes a template named after `key`, usually a hash of the migrations, unless it exists:
    /// `migrate` fills an empty database. Returns its name, for [`TestCluster::clone_database`].
    ///
    /// # Errors
    /// When `migrate` fails, or leaves a connection open to the template.
    pub async fn template<F>(&self, key: &str, migrate: F) -> anyhow::Result<String>
    where
        F: AsyncFnOnce(PgConnectOptions) -> anyhow::Result<()>,
    {
        let name = format!("template_{key}");
        let database = identifier(&name)?;
        let mut templates = self.templates.lock().await;
        if templates.contains(&name) {
            return Ok(name);
        }
        let mut conn = self.cluster.admin().await?;
        let made: Option<bool> =
            sqlx::query_scalar("select datistemplate from pg_database where datname = $1")
                .bind(&name)
                .fetch_optional(&mut conn)
                .await?;
        if made == Some(true) {
            templates.insert(name.clone());
            return Ok(name);
        }
        // One that is no template yet is the remainder of a `migrate` that failed.
        for statement in [
            format!("drop database if exists {database} with (force)"),
            format!("create database {database}"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut conn)
                .await?;
        }
        migrate(self.cluster.connect_options(&name)).await?;
        // One open connection to the template would make every clone fail.
        let finish = format!("alter database {database} is_template true allow_connections false");
        sqlx::raw_sql(AssertSqlSafe(finish))
            .execute(&mut conn)
            .await?;
        templates.insert(name.clone());
        Ok(name)
    }

    /// Clones a template in about 20 ms; returns the new database's name.
    ///
    /// # Errors
    /// When there is no such template.
    pub async fn clone_database(&self, template: &str) -> anyhow::Result<String> {
        let template = identifier(template)?;
        let name = format!("test_{}", self.next.fetch_add(1, Ordering::Relaxed));
        // Copying files beats writing them to the log when nothing is synced.
        let clone = format!("create database {name} template {template} strategy file_copy");
        let mut conn = self.cluster.admin().await?;
        sqlx::raw_sql(AssertSqlSafe(clone))
            .execute(&mut conn)
            .await
            .with_context(|| format!("cannot clone {template}"))?;
        Ok(name)
    }

    /// Drops clones and ends their sessions, to free memory before the process ends. One connection does it
    /// for all.
    ///
    /// # Errors
    /// The first of those that were not dropped, with why.
    pub async fn drop_databases(&self, names: &[String]) -> anyhow::Result<()> {
        let mut conn = self.cluster.admin().await?;
        let mut failed = Ok(());
        for name in names {
            let name = identifier(name)?;
            let drop = format!("drop database if exists {name} with (force)");
            let dropped = sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut conn).await;
            failed = failed.and(dropped.map(|_| ()));
        }
        Ok(failed?)
    }
}

/// Memory where there is enough of it, else the folder for temporary files.
fn base_dir() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if is_roomy_memory(memory) {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

#[cfg(target_os = "linux")]
fn is_roomy_memory(dir: &Path) -> bool {
    let is_memory = nix::sys::statfs::statfs(dir)
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
    let is_roomy = nix::sys::statvfs::statvfs(dir).is_ok_and(|found| {
        found
            .blocks_available()
            .saturating_mul(found.fragment_size())
            >= MEMORY_NEEDED_BYTES
    });
    is_memory && is_roomy && nix::unistd::access(dir, AccessFlags::W_OK).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn is_roomy_memory(_dir: &Path) -> bool {
    false
}

/// Removes the folders of processes that are gone. Both signs are needed: a process that starts has
/// no lock yet, and a number may have gone to somebody else.
fn sweep(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some(Ok(pid)) = pid.map(str::parse) else {
            continue;
        };
        if nix::sys::signal::kill(Pid::from_raw(pid), None) != Err(nix::Error::ESRCH) {
            continue;
        }
        let Ok(lock) = std::fs::File::open(entry.path().join("lock")) else {
            continue;
        };
        if Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
