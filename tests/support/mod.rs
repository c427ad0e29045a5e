//! What all stories stand on: a Postgres, a database each, and the two ways to use it.

pub(crate) mod app;
pub(crate) mod disk;
pub(crate) mod engine;
pub(crate) mod matrix;
pub(crate) mod process;
pub(crate) mod product;
pub(crate) mod python;
pub(crate) mod replica;
pub(crate) mod s3;
pub(crate) mod smtp;
pub(crate) mod wire;

use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::mpsc::Sender;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tenure_api::MIGRATOR;
use tenure_api::postgres::{
    Binaries, Cluster, ClusterConfig, Durability, SearchPath, TestCluster, find,
};

/// Where Postgres is looked for, as the command line does it.
pub(crate) fn search_path() -> SearchPath {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::var_os("TENURE_PG_BIN").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let kept = tenure_api::postgres::default_home(home.as_deref(), state.as_deref());
    SearchPath::usual(named, &path, kept.join("postgres-programs"))
}

/// The programs of the Postgres that the suite runs on.
pub(crate) fn binaries() -> Binaries {
    find(&search_path(), None).expect("the suite needs a Postgres")
}

/// The one cluster of this process.
async fn cluster() -> &'static TestCluster {
    TestCluster::shared(&search_path())
        .await
        .expect("a cluster")
}

/// Brings a database's schema up.
pub(crate) async fn migrate(options: PgConnectOptions) -> anyhow::Result<()> {
    let mut conn = PgConnection::connect_with(&options).await?;
    MIGRATOR.run(&mut conn).await?;
    conn.close().await?;
    Ok(())
}

/// Clones a template, which is made first if nobody wanted it yet; returns the database's name.
async fn clone<F>(template: &str, make: F) -> String
where
    F: AsyncFnOnce(PgConnectOptions) -> anyhow::Result<()>,
{
    let cluster = cluster().await;
    let template = cluster.template(template, make).await;
    let template = template.expect("a template");
    let name = cluster.clone_database(&template).await.expect("a database");
    LENT.with_borrow_mut(|lent| lent.0.push(name.clone()));
    name
}

thread_local! {
    /// What the test of this thread was given. A test has a thread of its own, so what the thread
    /// leaves behind is what the test no longer needs: kept to the end of the process, the databases
    /// of the whole suite would fill the memory of a small machine.
    static LENT: RefCell<Lent> = const { RefCell::new(Lent(Vec::new())) };
}

struct Lent(Vec<String>);

impl Drop for Lent {
    fn drop(&mut self) {
        for name in self.0.drain(..) {
            // Nobody listens when the process ends, and then the whole cluster goes.
            let _ = returned().send(name);
        }
    }
}

/// Takes the names of databases that are to be dropped. A thread of its own does it: a thread that
/// ends can no longer drive a connection.
fn returned() -> &'static Sender<String> {
    static RETURNED: LazyLock<Sender<String>> = LazyLock::new(|| {
        let (sender, names) = std::sync::mpsc::channel::<String>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            while let Ok(first) = names.recv() {
                let all: Vec<String> = std::iter::once(first).chain(names.try_iter()).collect();
                let dropped =
                    runtime.block_on(async { cluster().await.drop_databases(&all).await });
                if let Err(why) = dropped {
                    eprintln!("of {all:?} of tests that ended some stay: {why:#}");
                }
            }
        });
        sender
    });
    &RETURNED
}

/// A cluster of the test's own, with a migrated database `tenure`, that writes to disk before it
/// answers.
pub(crate) async fn durable_cluster() -> (Cluster, TempDir) {
    let root = tempfile::tempdir().expect("a folder");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.path(), open).expect("a folder of ours");
    let cluster = Cluster::start(ClusterConfig {
        root: root.path().join("cluster"),
        binaries: binaries(),
        durability: Durability::Durable,
    });
    let cluster = cluster.await.expect("a cluster");
    cluster.ensure_database("tenure").await.expect("a database");
    let migrated = migrate(cluster.connect_options("tenure")).await;
    migrated.expect("a migrated database");
    (cluster, root)
}

/// A migrated database of its own.
pub(crate) async fn database() -> PgConnectOptions {
    let name = clone("migrated", migrate).await;
    cluster().await.cluster().connect_options(&name)
}

/// One that has the demo catalogue, too.
pub(crate) async fn database_with_catalogue() -> PgConnectOptions {
    let make = async |options: PgConnectOptions| {
        migrate(options.clone()).await?;
        app::publish_catalogue(&options).await;
        Ok(())
    };
    let name = clone("catalogue", make).await;
    cluster().await.cluster().connect_options(&name)
}

/// The URL of a migrated database of its own, for other processes.
pub(crate) async fn database_url() -> String {
    let name = clone("migrated", migrate).await;
    cluster().await.cluster().url(&name)
}

/// The URL of a database of the suite's cluster, for other processes.
pub(crate) async fn url(database: &PgConnectOptions) -> String {
    let name = database.get_database().expect("a name");
    cluster().await.cluster().url(name)
}

/// An empty database of its own.
pub(crate) async fn empty_database() -> PgConnectOptions {
    let name = clone("empty", async |_| Ok(())).await;
    cluster().await.cluster().connect_options(&name)
}

/// The URL of an empty database of its own, for other processes.
pub(crate) async fn empty_database_url() -> String {
    let name = clone("empty", async |_| Ok(())).await;
    cluster().await.cluster().url(&name)
}

/// A superuser's connection.
pub(crate) async fn connect(options: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options)
        .await
        .expect("a connection")
}

/// A number that nobody else of this process has.
pub(crate) fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1_000);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Waits until something holds: level-triggered, bounded, and told by name when it does not.
pub(crate) async fn eventually<F>(what: &str, holds: F)
where
    F: AsyncFn() -> bool,
{
    eventually_or_tell(what, holds, async || String::new()).await;
}

/// The same, with what is to be told of the moment at which it was given up.
pub(crate) async fn eventually_or_tell<F, T>(what: &str, holds: F, tell: T)
where
    F: AsyncFn() -> bool,
    T: AsyncFn() -> String,
{
    let wait = async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
        while !holds().await {
            tick.tick().await;
        }
    };
    let done = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
    if done.is_err() {
        panic!(
            "did not come to hold within a minute: {what}\n{}",
            tell().await
        );
    }
}
