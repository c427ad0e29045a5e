//! Through a real PgBouncer in transaction mode.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tempfile::TempDir;
use tenure_engine::{Database, PoolConfig, Pooler, Status, Worker, WorkerConfig};

use crate::engine::workflows::{Errand, Outside, registry};
use crate::support::engine::TestEngine;
use crate::support::{self, eventually};

/// Fewer than a worker wants, so that sessions change their server connection all the time.
const SERVER_CONNECTIONS: u32 = 3;
/// The login that goes through the pooler.
const LOGIN: &str = "pooled";

/// A PgBouncer before the suite's cluster.
struct PgBouncer {
    child: Child,
    folder: TempDir,
    database: String,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian puts it where only root looks.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("pgbouncer"))
        .find(|program| program.is_file())
        .expect("the suite needs a PgBouncer; .ci/prepare installs it")
}

/// Whether this PgBouncer can keep prepared statements.
fn keeps_statements() -> bool {
    let told = Command::new(program()).arg("--version").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let version = told.split_whitespace().nth(1).unwrap().to_owned();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap());
    (parts.next().unwrap(), parts.next().unwrap()) >= (1, 21)
}

impl PgBouncer {
    async fn before(options: &PgConnectOptions) -> Self {
        let socket = options.get_socket().unwrap().clone();
        let owner = std::fs::metadata(&socket).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let database = options.get_database().unwrap().to_owned();
        let kept = if keeps_statements() {
            "max_prepared_statements = 100\n"
        } else {
            ""
        };
        let settings = format!(
            "[databases]\n{database} = host={} port={}\n[pgbouncer]\nlisten_port = 6432\n\
             unix_socket_dir = {}\npool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}\n\
             max_client_conn = 200\nauth_type = trust\nauth_file = {}\n{kept}",
            socket.display(),
            options.get_port(),
            path.display(),
            path.join("users").display(),
        );
        std::fs::write(path.join("pgbouncer.ini"), settings).unwrap();
        std::fs::write(path.join("users"), format!("\"{LOGIN}\" \"\"\n")).unwrap();
        let mut command = Command::new(program());
        command
            .arg("-q")
            .arg(path.join("pgbouncer.ini"))
            .current_dir("/");
        if nix::unistd::Uid::effective().is_root() {
            for file in [
                path.to_owned(),
                path.join("users"),
                path.join("pgbouncer.ini"),
            ] {
                chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
            }
            command.uid(owner.uid()).gid(owner.gid());
        }
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let pgbouncer = Self {
            child,
            folder,
            database,
        };
        let direct = Database::from(pgbouncer.options());
        let direct = direct.behind(Pooler::Prepared).unwrap();
        eventually("the pooler answers", async || {
            direct.connect().await.is_ok()
        })
        .await;
        pgbouncer
    }

    /// How to connect through it.
    fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("localhost")
            .socket(self.folder.path())
            .port(6432)
            .ssl_mode(PgSslMode::Disable)
            .username(LOGIN)
            .database(&self.database)
    }
}

/// Makes the login, which is shared by the cluster's databases, with its settings in this one.
async fn make_login(options: &PgConnectOptions, with_settings: bool) {
    let made = format!(
        "do $$ begin
           if not exists (select from pg_roles where rolname = '{LOGIN}') then
             create role {LOGIN} login;
           end if;
         exception when duplicate_object or unique_violation then null;
         end $$"
    );
    let mut statements = vec![
        made,
        format!("grant tenure_engine, tenure_tenant, tenure_control to {LOGIN}"),
    ];
    if with_settings {
        let database = options.get_database().unwrap();
        for setting in [
            "role = tenure_engine",
            "plan_cache_mode = force_generic_plan",
            "enable_seqscan = off",
            "jit = off",
            "lock_timeout = '5s'",
            "statement_timeout = '30s'",
            "idle_in_transaction_session_timeout = '10s'",
        ] {
            statements.push(format!(
                "alter role {LOGIN} in database {database} set {setting}"
            ));
        }
    }
    for statement in statements {
        // Roles are the cluster's: tests beside this one may be changing the same.
        eventually("the login is made", async || {
            let mut conn = support::connect(options).await;
            let done = sqlx::raw_sql(AssertSqlSafe(statement.clone()));
            done.execute(&mut conn).await.is_ok()
        })
        .await;
    }
}

/// Lets two workers do many runs through the pooler, and checks that each was done once.
async fn work_through(database: Database, options: PgConnectOptions) {
    let outside = Outside::default();
    let pool = tenure_engine::connect(database, &PoolConfig::default())
        .await
        .unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let client = tenure_engine::Client::new(pool.clone(), registry(&outside), stop.clone());
    let config = WorkerConfig {
        listen: false,
        ..WorkerConfig::default()
    };
    let workers = [
        Worker::start(&client, config.clone()).await.unwrap(),
        Worker::start(&client, config).await.unwrap(),
    ];
    let direct = TestEngine::on(options.clone(), registry(&outside)).await;
    let starts: Vec<_> = (0..200).map(|n| (format!("run-{n}"), 1)).collect();
    let mut conn = pool.acquire().await.unwrap();
    let started = client.start_many::<Errand>(&mut conn, direct.tenant, &starts);
    assert_eq!(started.await.unwrap().len(), 200);
    drop(conn);
    client.ring();
    eventually("all runs complete", async || {
        let left: i64 = sqlx::query_scalar("select count(*) from engine.run where status <> $1")
            .bind(Status::Completed.code())
            .fetch_one(direct.pool())
            .await
            .unwrap();
        left == 0
    })
    .await;
    for worker in workers {
        worker.shutdown().await;
    }
    let effects: i64 = sqlx::query_scalar("select count(*) from app.debt")
        .fetch_one(&mut support::connect(&options).await)
        .await
        .unwrap();
    assert_eq!(effects, 200, "a database effect was lost or done twice");
    direct.assert_nothing_lost().await;
    stop.cancel();
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_without_names_work_through_a_pooler_that_keeps_none() {
    let options = support::database().await;
    make_login(&options, true).await;
    let pgbouncer = PgBouncer::before(&options).await;
    let database = Database::from(pgbouncer.options());
    let database = database.behind(Pooler::Unnamed).unwrap();
    work_through(database.clone(), options.clone()).await;
    // Each session of the pooler's that is left has no statement with a name.
    let config = PoolConfig::default();
    let pool = tenure_engine::connect(database, &config).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..SERVER_CONNECTIONS {
        let mut tx = tenure_engine::begin(&pool).await.unwrap();
        let kept: i64 =
            sqlx::query_scalar("select count(*) from pg_prepared_statements where name <> ''")
                .fetch_one(&mut *tx)
                .await
                .unwrap();
        assert_eq!(kept, 0, "a statement has a name");
        let role: String = sqlx::query_scalar("select current_user::text")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        assert_eq!(role, "tenure_engine");
        held.push(tx);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn named_statements_work_through_a_pooler_that_keeps_them_and_others_are_refused() {
    let options = support::database().await;
    make_login(&options, true).await;
    let pgbouncer = PgBouncer::before(&options).await;
    let database = Database::from(pgbouncer.options());
    let database = database.behind(Pooler::Prepared).unwrap();
    if keeps_statements() {
        work_through(database, options).await;
        return;
    }
    let refused = tenure_engine::connect(database, &PoolConfig::default()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("keeps no prepared statements"),
        "{refused}"
    );
    assert!(refused.contains("unnamed"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_its_settings_is_refused_with_what_is_missing() {
    let options = support::database().await;
    make_login(&options, false).await;
    let pgbouncer = PgBouncer::before(&options).await;
    let impatient = PoolConfig {
        acquire_timeout: Duration::from_secs(2),
        ..PoolConfig::default()
    };
    for pooler in [Pooler::Prepared, Pooler::Unnamed] {
        let database = Database::from(pgbouncer.options()).behind(pooler).unwrap();
        let refused = tenure_engine::connect(database, &impatient).await;
        let refused = refused.unwrap_err().to_string();
        for words in [
            "alter role \"pooled\" set role = tenure_engine",
            "alter role \"pooled\" set plan_cache_mode = force_generic_plan",
            "alter role \"pooled\" set statement_timeout = 30000",
        ] {
            assert!(refused.contains(words), "{refused}");
        }
    }
    let tls = pgbouncer.options().ssl_mode(PgSslMode::Require);
    let refused = Database::from(tls).behind(Pooler::Unnamed).unwrap_err();
    assert!(refused.to_string().contains("in clear"), "{refused}");
}
