//! The private Postgres: it starts for anybody, keeps what it was given, and ends with its owner.
//!
//! Each test that stops or kills a server has a cluster of its own. The owner that is killed with
//! `kill -9` is this test binary, started again for one test.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};
use tenure_api::postgres::{
    Binaries, Cluster, ClusterConfig, Durability, SearchPath, TestCluster, find,
};

/// Tells the test binary, started again, which folder's cluster to own.
const OWN: &str = "TENURE_TEST_OWN_CLUSTER";

fn search() -> SearchPath {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::var_os("TENURE_PG_BIN").map(PathBuf::from);
    SearchPath::usual(named, &path, PathBuf::from("/nonexistent"))
}

/// A folder, in memory where there is some, that the server's user can enter when we are root.
fn folder() -> anyhow::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let folder = tempfile::Builder::new()
        .prefix("tenure-")
        .tempdir_in(base)?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

fn scratch(root: PathBuf) -> anyhow::Result<ClusterConfig> {
    Ok(ClusterConfig {
        root,
        binaries: find(&search(), None)?,
        durability: Durability::Scratch,
    })
}

async fn connect(cluster: &Cluster) -> sqlx::Result<PgConnection> {
    PgConnection::connect_with(&cluster.connect_options("postgres")).await
}

async fn ask<T>(cluster: &Cluster, question: &str) -> sqlx::Result<T>
where
    T: Send + Unpin + sqlx::Type<sqlx::Postgres>,
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres>,
{
    let mut conn = connect(cluster).await?;
    sqlx::query_scalar(sqlx::AssertSqlSafe(question.to_owned()))
        .fetch_one(&mut conn)
        .await
}

async fn execute(cluster: &Cluster, statement: &str) -> sqlx::Result<()> {
    let mut conn = connect(cluster).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))
        .execute(&mut conn)
        .await?;
    Ok(())
}

fn postmaster(root: &Path) -> anyhow::Result<u32> {
    let text = std::fs::read_to_string(root.join("data/postmaster.pid"))?;
    Ok(text.lines().next().context("an empty pid file")?.parse()?)
}

#[tokio::test]
async fn a_durable_cluster_syncs_and_keeps_unicode() -> anyhow::Result<()> {
    let folder = folder()?;
    let mut config = scratch(folder.path().join("cluster"))?;
    config.durability = Durability::Durable;
    let mut cluster = Cluster::start(config).await?;
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value: String = ask(&cluster, &format!("show {setting}")).await?;
        assert_eq!(value, "on", "{setting}");
    }
    assert_eq!(
        ask::<String>(&cluster, "show server_encoding").await?,
        "UTF8"
    );
    assert_eq!(ask::<String>(&cluster, "show listen_addresses").await?, "");
    assert_eq!(
        ask::<String>(&cluster, "select 'Zoë 東京 🦀'").await?,
        "Zoë 東京 🦀"
    );
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn the_server_does_not_run_as_root_and_lets_no_other_user_in() -> anyhow::Result<()> {
    let folder = folder()?;
    let root = folder.path().join("cluster");
    let mut cluster = Cluster::start(scratch(root.clone())?).await?;
    let server = std::fs::metadata(format!("/proc/{}", postmaster(&root)?))?;
    assert_ne!(server.uid(), 0);
    for private in [root.clone(), root.join("data"), root.join("socket")] {
        let metadata = std::fs::metadata(&private)?;
        assert_eq!(metadata.uid(), server.uid(), "{}", private.display());
        assert_eq!(metadata.mode() & 0o777, 0o700, "{}", private.display());
    }
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_second_start_attaches_and_does_not_stop_the_first() -> anyhow::Result<()> {
    let folder = folder()?;
    let config = scratch(folder.path().join("cluster"))?;
    let mut first = Cluster::start(config.clone()).await?;
    let mut second = Cluster::start(config).await?;
    assert!(first.is_ours() && !second.is_ours());
    execute(&second, "create table kept ()").await?;
    second.stop().await;
    drop(second);
    assert_eq!(ask::<i64>(&first, "select count(*) from kept").await?, 0);
    first.stop().await;
    Ok(())
}

#[tokio::test]
async fn two_starts_at_once_make_one_server() -> anyhow::Result<()> {
    let folder = folder()?;
    let config = scratch(folder.path().join("cluster"))?;
    let (one, two) = tokio::join!(Cluster::start(config.clone()), Cluster::start(config));
    let (mut one, mut two) = (one?, two?);
    assert_ne!(one.is_ours(), two.is_ours());
    one.stop().await;
    two.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_committed() -> anyhow::Result<()> {
    let folder = folder()?;
    let mut config = scratch(folder.path().join("cluster"))?;
    config.durability = Durability::Durable;
    let mut cluster = Cluster::start(config).await?;
    execute(&cluster, "create table kept as select 42 as answer").await?;
    cluster.stop_immediate().await;
    cluster.restart().await?;
    assert_eq!(ask::<i32>(&cluster, "select answer from kept").await?, 42);
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_pid_file_whose_number_went_to_somebody_else_is_no_obstacle() -> anyhow::Result<()> {
    let folder = folder()?;
    let root = folder.path().join("cluster");
    let mut cluster = Cluster::start(scratch(root.clone())?).await?;
    let pid_file = root.join("data/postmaster.pid");
    let text = std::fs::read_to_string(&pid_file)?;
    cluster.stop().await;
    // As in a container that starts again on the same volume: the number is taken, here by us.
    let (old, rest) = text.split_once('\n').context("a pid file of one line")?;
    assert_ne!(old, std::process::id().to_string());
    std::fs::write(&pid_file, format!("{}\n{rest}", std::process::id()))?;
    cluster.restart().await?;
    assert_eq!(ask::<i32>(&cluster, "select 1").await?, 1);
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn killing_the_owner_ends_its_server_and_the_next_start_resumes() -> anyhow::Result<()> {
    let folder = folder()?;
    let root = folder.path().join("cluster");
    let mut owner = other_process(&root, &[])?;
    let attached = Cluster::start(scratch(root.clone())?).await?;
    assert!(!attached.is_ours());
    execute(&attached, "create table kept as select 42 as answer").await?;
    let mut session = connect(&attached).await?;
    // SIGKILL: the owner cannot do anything about its server.
    owner.kill()?;
    owner.wait()?;
    // The session ends because the server does; without that the query would outlast the limit.
    let ended = sqlx::query("select pg_sleep(60)").execute(&mut session);
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await?;
    assert!(ended.is_err());
    // The server may still be shutting down now.
    let mut resumed = Cluster::start(scratch(root)?).await?;
    assert!(resumed.is_ours());
    assert_eq!(ask::<i32>(&resumed, "select answer from kept").await?, 42);
    resumed.stop().await;
    Ok(())
}

#[tokio::test]
async fn stray_variables_do_not_redirect_us() -> anyhow::Result<()> {
    let folder = folder()?;
    let strays = [
        ("PGHOST", "stray.invalid"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGPORT", "1"),
        ("PGUSER", "stray"),
        ("PGDATABASE", "stray"),
        ("PGSSLMODE", "verify-full"),
        ("PGDATA", "/nonexistent"),
    ];
    // Says that it is ready only once it has asked its server a question.
    let mut owner = other_process(&folder.path().join("cluster"), &strays)?;
    owner.kill()?;
    owner.wait()?;
    Ok(())
}

/// Not a test of its own: the process that `other_process` starts. It owns a cluster, says so, and
/// holds it until it is killed or its standard input ends.
#[tokio::test]
async fn an_owner_holds_its_cluster() -> anyhow::Result<()> {
    let Some(root) = std::env::var_os(OWN) else {
        return Ok(());
    };
    let cluster = Cluster::start(scratch(root.into())?).await?;
    ask::<i32>(&cluster, "select 1").await?;
    println!("\nready");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Starts this binary again as the owner of a cluster, and waits until it is.
fn other_process(root: &Path, variables: &[(&str, &str)]) -> anyhow::Result<Child> {
    let name = std::any::type_name_of_val(&an_owner_holds_its_cluster);
    let (_, test) = name.split_once("::").context("a test outside of a crate")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(OWN, root)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(child.stdout.take().context("no output")?);
    for line in output.lines() {
        if line? == "ready" {
            return Ok(child);
        }
    }
    anyhow::bail!("the owner ended early")
}

#[tokio::test]
async fn data_of_another_major_is_refused_by_name() -> anyhow::Result<()> {
    let folder = folder()?;
    let root = folder.path().join("cluster");
    let config = scratch(root.clone())?;
    std::fs::create_dir_all(root.join("data"))?;
    std::fs::write(root.join("lock"), "")?;
    std::fs::write(root.join("data/PG_VERSION"), "14\n")?;
    let have = config.binaries.major;
    let error = Cluster::start(config).await.unwrap_err().to_string();
    assert!(error.contains("made by Postgres 14"), "{error}");
    assert!(error.contains(&format!("is Postgres {have}")), "{error}");
    let error = find(&search(), Cluster::wanted_major(&root)).unwrap_err();
    assert!(error.to_string().contains("made by Postgres 14"), "{error}");
    Ok(())
}

#[test]
fn no_postgres_gives_an_error_that_says_what_to_do() {
    let empty = SearchPath::default();
    let error = find(&empty, None).unwrap_err().to_string();
    assert!(error.contains("no Postgres 15 to 18"), "{error}");
    assert!(error.contains("apt-get install postgresql"), "{error}");
    let named = SearchPath {
        named: Some(PathBuf::from("/nonexistent")),
        ..search()
    };
    let error = find(&named, None).unwrap_err().to_string();
    assert!(error.contains("/nonexistent"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_is_quoted() -> anyhow::Result<()> {
    let folder = folder()?;
    let root = folder.path().join("cluster");
    let mut cluster = Cluster::start(scratch(root.clone())?).await?;
    cluster.stop().await;
    std::fs::remove_file(root.join("data/global/pg_control"))?;
    let error = cluster.restart().await.unwrap_err().to_string();
    assert!(error.contains("pg_control"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_folder_with_strange_contents_is_left_alone() -> anyhow::Result<()> {
    let folder = folder()?;
    std::fs::write(folder.path().join("thesis.tex"), "years of work")?;
    let error = Cluster::start(scratch(folder.path().to_owned())?).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
    assert_eq!(folder.path().metadata()?.mode() & 0o777, 0o755);
    Ok(())
}

#[tokio::test]
async fn long_and_odd_paths_work_in_options_and_urls() -> anyhow::Result<()> {
    let folder = folder()?;
    for name in ["a b & ü%20".to_owned(), "long".repeat(40)] {
        let mut cluster = Cluster::start(scratch(folder.path().join(name))?).await?;
        assert_eq!(ask::<i32>(&cluster, "select 1").await?, 1);
        cluster.restart().await?;
        let mut by_url = PgConnection::connect(&cluster.url("postgres")).await?;
        by_url.ping().await?;
        by_url.close().await?;
        cluster.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_clone_holds_the_template_and_comes_quickly() -> anyhow::Result<()> {
    let tests = TestCluster::shared(&search()).await?;
    let migrate = async |options| {
        let mut conn = PgConnection::connect_with(&options).await?;
        sqlx::raw_sql("create table kept as select 42 as answer")
            .execute(&mut conn)
            .await?;
        anyhow::Ok(conn.close().await?)
    };
    let template = tests.template("clone_test", migrate).await?;
    let again = tests.template("clone_test", async |_| anyhow::bail!("made twice"));
    assert_eq!(again.await?, template);
    let started = Instant::now();
    let name = tests.clone_database(&template).await?;
    // About 20 ms; the bound only says that it is no `initdb`.
    assert!(started.elapsed() < Duration::from_secs(5));
    let other = tests.clone_database(&template).await?;
    assert_ne!(name, other);
    let mut conn = PgConnection::connect_with(&tests.cluster().connect_options(&name)).await?;
    let answer: i32 = sqlx::query_scalar("select answer from kept")
        .fetch_one(&mut conn)
        .await?;
    assert_eq!(answer, 42);
    tests.drop_databases(&[name, other]).await
}

#[test]
fn programs_are_found_behind_links_on_the_path() -> anyhow::Result<()> {
    let Binaries { bin_dir, .. } = find(&search(), None)?;
    let folder = folder()?;
    std::os::unix::fs::symlink(bin_dir.join("postgres"), folder.path().join("postgres"))?;
    let path = OsString::from(folder.path());
    let only_path = SearchPath {
        path: std::env::split_paths(&path).collect(),
        ..SearchPath::default()
    };
    assert_eq!(find(&only_path, None)?.bin_dir, bin_dir.canonicalize()?);
    Ok(())
}
