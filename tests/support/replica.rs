//! A primary and its standby: two real servers, one streaming to the other.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tenure_api::postgres::{Cluster, ClusterConfig, Durability};

use super::eventually;

/// A primary with the migrated database `tenure`, and a standby that streams from it.
pub(crate) struct Pair {
    pub(crate) primary: Cluster,
    pub(crate) standby: Cluster,
    root: TempDir,
}

/// Whether the primary waits for its standby before it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replication {
    Synchronous,
    Asynchronous,
}

impl Pair {
    pub(crate) async fn start(replication: Replication) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let primary = cluster(&root.path().join("primary")).await;
        primary.ensure_database("tenure").await.unwrap();
        super::migrate(primary.connect_options("tenure"))
            .await
            .unwrap();
        copy(&primary, &root.path().join("standby"));
        let standby = cluster(&root.path().join("standby")).await;
        let pair = Self {
            primary,
            standby,
            root,
        };
        if replication == Replication::Synchronous {
            // Not before the copy, which would have it too and wait for a standby that it has not.
            pair.on_primary("alter system set synchronous_standby_names = '*'")
                .await;
            pair.on_primary("select pg_reload_conf()").await;
        }
        let wanted = match replication {
            Replication::Synchronous => "sync",
            Replication::Asynchronous => "async",
        };
        eventually("the standby streams", async || {
            let mut conn = super::connect(&pair.primary.connect_options("tenure")).await;
            let states = "select sync_state from pg_stat_replication where state = 'streaming'";
            let states: Vec<String> = sqlx::query_scalar(states)
                .fetch_all(&mut conn)
                .await
                .unwrap();
            states == [wanted]
        })
        .await;
        pair
    }

    /// The address with both hosts, the primary first.
    pub(crate) fn url(&self) -> String {
        let hosts = [&self.primary, &self.standby].map(|cluster| {
            let socket = cluster.connect_options("tenure");
            let socket = socket.get_socket().expect("a socket").display().to_string();
            socket.replace('/', "%2F")
        });
        let user = self.primary.connect_options("tenure");
        format!(
            "postgres://{}@localhost:5432/tenure?host={}&sslmode=disable&target_session_attrs=read-write",
            user.get_username(),
            hosts.join(",")
        )
    }

    pub(crate) fn first(&self) -> PgConnectOptions {
        self.primary.connect_options("tenure")
    }

    pub(crate) fn second(&self) -> PgConnectOptions {
        self.standby.connect_options("tenure")
    }

    /// Makes a primary of the standby.
    pub(crate) fn promote(&self) {
        let data = self.root.path().join("standby/data");
        let mut promote = as_owner_of(&data, "pg_ctl");
        promote.arg("promote").arg("-w").arg("-D").arg(&data);
        run(promote);
    }

    /// The primary goes away as in a crash, and the standby takes its place.
    pub(crate) async fn fail_over(&mut self) {
        self.primary.stop_immediate().await;
        self.promote();
    }

    /// Waits until the standby has all that the primary has.
    pub(crate) async fn caught_up(&self) {
        let mut conn = super::connect(&self.first()).await;
        let here: String = sqlx::query_scalar("select pg_current_wal_insert_lsn()::text")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        eventually("the standby has caught up", async || {
            let mut conn = super::connect(&self.second()).await;
            let caught_up = "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
            let caught_up = sqlx::query_scalar(caught_up).bind(&here);
            caught_up.fetch_one(&mut conn).await.unwrap()
        })
        .await;
    }

    /// The standby hears of the primary no more, as if the network between them were cut.
    pub(crate) async fn cut_off(&self) {
        let mut conn = super::connect(&self.second()).await;
        for statement in [
            "alter system set primary_conninfo = ''",
            "select pg_reload_conf()",
        ] {
            sqlx::raw_sql(statement).execute(&mut conn).await.unwrap();
        }
        eventually("the standby receives no more", async || {
            let receiving = "select count(*) = 0 from pg_stat_wal_receiver";
            let receiving = sqlx::query_scalar(receiving);
            receiving
                .fetch_one(&mut super::connect(&self.second()).await)
                .await
                .unwrap()
        })
        .await;
    }

    pub(crate) async fn on_primary(&self, statement: &str) {
        let mut conn = super::connect(&self.first()).await;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut conn)
            .await
            .unwrap();
    }

    pub(crate) async fn stop(mut self) {
        self.primary.stop().await;
        self.standby.stop().await;
    }
}

async fn cluster(root: &Path) -> Cluster {
    Cluster::start(ClusterConfig {
        root: root.to_owned(),
        binaries: super::binaries(),
        durability: Durability::Durable,
    })
    .await
    .unwrap()
}

/// Copies a running primary to a new folder, as its standby.
fn copy(primary: &Cluster, root: &Path) {
    let options = primary.connect_options("postgres");
    let data = primary.config().root.join("data");
    let owner = std::fs::metadata(&data).unwrap();
    std::fs::create_dir(root).unwrap();
    // What marks a folder as a cluster's.
    std::fs::write(root.join("lock"), "").unwrap();
    for path in [root.to_owned(), root.join("lock")] {
        chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let mut backup = as_owner_of(&data, "pg_basebackup");
    backup
        .arg("-h")
        .arg(options.get_socket().expect("a socket"))
        .args(["-U", options.get_username(), "-R", "-X", "stream"])
        .args(["-c", "fast", "--no-sync", "-D"])
        .arg(root.join("data"));
    run(backup);
}

/// One of Postgres' programs, as the user whose folder it is.
fn as_owner_of(folder: &Path, program: &str) -> Command {
    let owner = std::fs::metadata(folder).unwrap();
    let program: PathBuf = super::binaries().bin_dir.join(program);
    let mut command = Command::new(program);
    command.env_clear().current_dir("/");
    if nix::unistd::Uid::effective().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command
}

fn run(mut command: Command) {
    let done = command.output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {told}");
}
