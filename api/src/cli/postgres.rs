//! The private Postgres for other commands: `tenure postgres exec`, and `tenure bench` without a
//! database of its own.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use sqlx::Connection as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tenure_engine::Database;

use super::bench::{self, BenchArgs, BenchTool};
use crate::MIGRATOR;
use crate::config::DatabaseArgs;
use crate::postgres::{Binaries, Cluster, ClusterConfig, Durability, SearchPath, fetch, find};

/// Where the private Postgres is looked for and kept.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PrivateArgs {
    /// The folder that holds everything of a private installation. A system folder for root, the
    /// user's state folder otherwise.
    #[arg(long = "home", env = "TENURE_HOME")]
    tenure_home: Option<PathBuf>,
    /// The folder of Postgres's programs; found or fetched when none is given.
    #[arg(long, env = "TENURE_PG_BIN")]
    pg_bin: Option<PathBuf>,
    #[arg(long, env = "PATH", hide = true, default_value = "")]
    search_path: OsString,
    #[arg(long, env = "HOME", hide = true)]
    user_home: Option<PathBuf>,
    #[arg(long, env = "XDG_STATE_HOME", hide = true)]
    state_home: Option<PathBuf>,
}

impl PrivateArgs {
    /// The folder of the installation.
    #[must_use]
    pub(super) fn home(&self) -> PathBuf {
        self.tenure_home.clone().unwrap_or_else(|| {
            crate::postgres::default_home(self.user_home.as_deref(), self.state_home.as_deref())
        })
    }

    /// Finds the programs for the cluster in `root`, and fetches some if that is agreed to.
    ///
    /// # Errors
    /// When there are none: what to do.
    pub(super) fn binaries(
        &self,
        root: &std::path::Path,
        may_fetch: bool,
    ) -> anyhow::Result<Binaries> {
        let cache = self.home().join("postgres-programs");
        let search = SearchPath::usual(self.pg_bin.clone(), &self.search_path, cache.clone());
        let wanted = Cluster::wanted_major(root);
        match find(&search, wanted) {
            Ok(found) => Ok(found),
            Err(error) if self.pg_bin.is_some() || wanted.is_some() => Err(error),
            Err(_) if may_fetch => {
                outln!("No Postgres 15 to 18 is here; fetching one.");
                fetch(&cache)
            }
            Err(error) => Err(error.context("say --yes to have one fetched")),
        }
    }
}

/// What to do with the private Postgres.
#[derive(Debug, clap::Subcommand)]
pub(super) enum PostgresCommand {
    /// Run a command with a fresh, migrated, throw-away Postgres in `DATABASE_URL`.
    Exec {
        #[command(flatten)]
        private: PrivateArgs,
        /// Folder of the migrations to bring it up with, instead of those built in.
        #[arg(long)]
        migrations: Option<PathBuf>,
        /// The command.
        #[arg(required = true, trailing_var_arg = true)]
        command: Vec<OsString>,
    },
}

/// `tenure bench`.
#[derive(Debug, clap::Args)]
pub(super) struct BenchCommand {
    #[command(subcommand)]
    tool: Option<BenchTool>,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    private: PrivateArgs,
    #[command(flatten)]
    bench: BenchArgs,
}

pub(super) async fn run(command: PostgresCommand) -> anyhow::Result<()> {
    let PostgresCommand::Exec {
        private,
        migrations,
        command,
    } = command;
    let (mut cluster, _folder) = throw_away(&private, Durability::Scratch).await?;
    match migrations {
        Some(folder) => migrated_by(&cluster, &Migrator::new(folder).await?).await?,
        None => migrated(&cluster).await?,
    };
    let status = tokio::process::Command::new(&command[0])
        .args(&command[1..])
        .env("DATABASE_URL", cluster.url("tenure"))
        .status()
        .await
        .with_context(|| format!("cannot run {}", command[0].to_string_lossy()))?;
    cluster.stop().await;
    anyhow::ensure!(status.success(), "the command ended with {status}");
    Ok(())
}

pub(super) async fn bench(command: BenchCommand) -> anyhow::Result<()> {
    if let Some(BenchTool::Compare(args)) = &command.tool {
        return bench::compare(args);
    }
    if let Some(BenchTool::Provider(args)) = &command.tool {
        return bench::provide(args).await;
    }
    if command.database.database_url.is_some() || command.database.database_url_file.is_some() {
        return measure(&command, command.database.direct()?).await;
    }
    let (mut cluster, _folder) = throw_away(&command.private, Durability::Durable).await?;
    let options = migrated(&cluster).await?;
    let result = measure(&command, options.into()).await;
    cluster.stop().await;
    result
}

async fn measure(command: &BenchCommand, database: Database) -> anyhow::Result<()> {
    match &command.tool {
        Some(BenchTool::Curve(args)) => bench::curve(args, database).await,
        Some(BenchTool::Soak(args)) => bench::soak(args, database).await,
        Some(BenchTool::Hold(args)) => bench::hold(args, database).await,
        _ => bench::run(&command.bench, database).await,
    }
}

/// A cluster in a temporary folder, which goes with the returned guard.
async fn throw_away(
    private: &PrivateArgs,
    durability: Durability,
) -> anyhow::Result<(Cluster, tempfile::TempDir)> {
    // Beside the system's temporary files, where the server's user can reach it; for scratch in
    // memory where there is some.
    let memory = std::path::Path::new("/dev/shm");
    let folder = if durability == Durability::Scratch && memory.is_dir() {
        tempfile::tempdir_in(memory)?
    } else {
        tempfile::tempdir_in("/var/tmp")?
    };
    let root = folder.path().join("cluster");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let binaries = private.binaries(&root, false)?;
    let cluster = Cluster::start(ClusterConfig {
        root,
        binaries,
        durability,
    })
    .await?;
    Ok((cluster, folder))
}

/// Makes database `tenure` and brings its schema up.
pub(super) async fn migrated(cluster: &Cluster) -> anyhow::Result<PgConnectOptions> {
    migrated_by(cluster, &MIGRATOR).await
}

async fn migrated_by(cluster: &Cluster, migrator: &Migrator) -> anyhow::Result<PgConnectOptions> {
    cluster.ensure_database("tenure").await?;
    let options = cluster.connect_options("tenure");
    let mut conn = PgConnection::connect_with(&options).await?;
    migrator
        .run(&mut conn)
        .await
        .context("the schema cannot be brought up")?;
    conn.close().await?;
    Ok(options)
}
