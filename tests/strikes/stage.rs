//! What a life is played on: a cluster of its own that holds Tenure's database and the product's, a
//! server as a process, and three worlds that are alike to the byte, one for each way to play.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use stripe_sandbox::{Sandbox, SandboxConfig, SandboxHandle};
use tempfile::TempDir;
use tenure_api::postgres::Cluster;
use tenure_client::{Client, ClientError, Place, TenancyModel};
use tenure_engine::TenantId;
use tenure_workflows::archive::Manifest;
use tenure_workflows::as_control;
use tenure_workflows::data_map::Model;
use tenure_workflows::product::{self as places, Site, Sources, maps};

use crate::deletions::second_token;
use crate::support::app::{CERTIFICATE_KEY, SANDBOX_KEY, seed};
use crate::support::process::Server;
use crate::support::product::{self, Member, TABLES, as_login};
use crate::support::smtp::SmtpServer;
use crate::support::{self, eventually};

/// The key of the tenant whose life it is, the same in all worlds.
const OAK: &str = "0c000000-0000-7000-8000-0000000000a0";
/// How often a life is struck.
const STRIKES: u64 = 3;
/// How many strikes must have met it under way.
const MUST_MEET: u64 = 2;
/// The workflows of tenants' data.
const WORKFLOWS: [&str; 9] = [
    "backfill",
    "backfill-range",
    "data-retention",
    "data-restore",
    "data-export",
    "tenant-move",
    "product-migration",
    "product-migration-place",
    "deletion",
];

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strike {
    /// SIGKILL of the server.
    Kill,
    /// An immediate stop of the database, Tenure's and the product's, and its start.
    Stop,
}

/// A workflow from its beginning to its end.
pub(super) trait Life {
    /// Begins it.
    async fn begin(&mut self, stage: &Stage, world: &World);

    /// Does what a person would do now, each thing under one key; whether it has ended.
    async fn push(&self, stage: &Stage, world: &World) -> Result<bool, ClientError>;

    /// What it leaves besides rows, archives and runs.
    async fn left(&self, stage: &Stage, world: &World) -> Vec<String>;
}

/// A product's databases with the tenant that lives in them.
pub(super) struct World {
    /// The name of its source with shared tables; the one with schemas is `<name>_rooms`.
    pub(super) name: &'static str,
    pub(super) oak: Member,
    pub(super) main: PgPool,
    pub(super) rooms: PgPool,
    own: PgPool,
    began: DateTime<Utc>,
}

pub(super) struct Stage {
    cluster: Cluster,
    _root: TempDir,
    archive: TempDir,
    server: Server,
    sources: String,
    pub(super) client: Client,
    /// A second admin.
    pub(super) second: Client,
    sandbox: SandboxHandle,
    _smtp: SmtpServer,
}

/// A pool that finds its way back after the database was gone.
fn pool(url: &str) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.acquire_timeout(Duration::from_secs(5));
    pool.connect_lazy(url).unwrap()
}

impl Stage {
    /// Without a world yet.
    pub(super) async fn set() -> Self {
        let (cluster, root) = support::durable_cluster().await;
        let options = cluster.connect_options("tenure");
        let token = seed(&options).await;
        let second = second_token(&options, "grace").await;
        let mut sources = Vec::new();
        for world in ["calm", "killed", "stopped"] {
            for source in [world.to_owned(), format!("{world}_rooms")] {
                cluster.ensure_database(&source).await.unwrap();
                sources.push(format!("{source}={}", as_login(&cluster.url(&source))));
            }
        }
        let smtp = SmtpServer::start().await;
        let sandbox = Sandbox::start(SandboxConfig::new(SANDBOX_KEY));
        let sandbox = sandbox.await.unwrap();
        let url = cluster.url("tenure");
        let server = Server::new(url, sandbox.url().to_owned(), smtp.url());
        let mut stage = Self {
            client: Client::new(&server.url(), &token).unwrap(),
            second: Client::new(&server.url(), &second).unwrap(),
            cluster,
            _root: root,
            archive: tempfile::tempdir().unwrap(),
            server,
            sources: sources.join(" "),
            sandbox,
            _smtp: smtp,
        };
        stage.start().await;
        stage
    }

    async fn start(&mut self) {
        let mut command = self.server.command();
        command
            .env("TENURE_PRODUCTS", &self.sources)
            .env("TENURE_CERTIFICATE_KEY", CERTIFICATE_KEY)
            .env("TENURE_ARCHIVE", self.archive.path());
        self.server.start_by(command);
        self.server.ready(&self.client).await;
    }

    pub(super) fn url(&self) -> String {
        self.server.url()
    }

    /// Makes a world, in which the tenant has worked: `n` tasks, and what comes with them.
    async fn make(&self, name: &'static str, n: usize) -> World {
        let (main, rooms) = (name.to_owned(), format!("{name}_rooms"));
        let urls = [self.cluster.url(&main), self.cluster.url(&rooms)];
        product::furnish(&urls[0], Some("shared.sql"), "").await;
        let cedar =
            "call shared.provision('cedar'); drop schema tenant_birch, tenant_salthouse cascade";
        product::furnish(&urls[1], Some("schema-per-tenant.sql"), cedar).await;
        product::load_map(&self.client, &main, &urls[0], (Model::Shared, "work")).await;
        product::load_map(&self.client, &rooms, &urls[1], (Model::Schema, "cedar")).await;
        let shared = product::place(TenancyModel::Shared, &main, None, OAK);
        let oak = product::add(&self.client, "Oak Surveyors", shared).await;
        let [main, rooms] = urls.each_ref().map(|url| pool(url));
        product::found(&mut main.acquire().await.unwrap(), &oak).await;
        product::fill(&urls[0], &oak, n).await;
        let own = pool(&self.cluster.url("tenure"));
        let now = sqlx::query_scalar("select clock_timestamp()");
        World {
            name,
            oak,
            main,
            rooms,
            began: now.fetch_one(&own).await.unwrap(),
            own,
        }
    }

    /// A world's tenant, opened as a step opens it, with nobody else at work on the cluster, and nothing on
    /// its disk but what a commit waited for.
    pub(super) async fn alone(&mut self, name: &'static str) -> Site {
        let world = self.make(name, 1).await;
        self.server.kill();
        let options = self.cluster.connect_options("tenure");
        let mut conn = support::connect(&options).await;
        let slow = "alter system set wal_writer_delay = '10s'";
        sqlx::query(slow).execute(&mut conn).await.unwrap();
        self.stop().await;
        let mut conn = support::connect(&options).await;
        let mut tx = sqlx::Connection::begin(&mut conn).await.unwrap();
        as_control(&mut tx).await.unwrap();
        let tenant = TenantId(world.oak.tenant);
        let placement = places::door::find(&mut tx, tenant).await.unwrap();
        let map = maps::current(&mut tx, name).await.unwrap();
        let sources = Sources::parse(self.sources.split(' ')).unwrap();
        Site::open(&sources, &placement, &map).await.unwrap()
    }

    /// Stops the database at once, and starts it again.
    pub(super) async fn stop(&mut self) {
        self.cluster.stop_immediate().await;
        self.cluster.restart().await.unwrap();
    }

    async fn strike(&mut self, strike: Strike) {
        match strike {
            Strike::Kill => {
                self.server.kill();
                self.start().await;
            }
            Strike::Stop => {
                self.stop().await;
                let client = &self.client;
                eventually("the server is ready again, by itself", async || {
                    client.readyz().await.is_ok()
                })
                .await;
            }
        }
    }

    /// Waits until so much is recorded of a life, or until it has ended; which of the two, and the most
    /// that was recorded.
    async fn until(&self, life: &impl Life, world: &World, mark: Option<u64>) -> (bool, u64) {
        let mut most = 0;
        let wait = async {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            loop {
                if life.push(self, world).await.unwrap_or(false) {
                    return true;
                }
                most = most.max(world.recorded().await.unwrap_or(0));
                if mark.is_some_and(|mark| most >= mark) {
                    return false;
                }
                tick.tick().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        let Ok(ended) = waited else {
            panic!(
                "{} goes no further than {most}:\n{}",
                world.name,
                world.told().await
            );
        };
        (ended, most)
    }

    /// Plays a life in a world of its own; what it ends with, and how much was recorded of it.
    async fn play<L: Life>(
        &mut self,
        name: &'static str,
        n: usize,
        strikes: Option<(Strike, u64)>,
        mut life: L,
    ) -> (Vec<String>, u64) {
        let world = self.make(name, n).await;
        life.begin(self, &world).await;
        let before = world.recorded().await.unwrap();
        let mut met = 0;
        if let Some((strike, all)) = strikes {
            for part in 1..=STRIKES {
                let mark = before + all * part / (STRIKES + 1);
                let (ended, _) = self.until(&life, &world, Some(mark)).await;
                if ended {
                    break;
                }
                self.strike(strike).await;
                met += 1;
            }
            assert!(met >= MUST_MEET, "only {met} strikes met it under way");
        }
        let (_, most) = self.until(&life, &world, None).await;
        // What its rows say may come a moment before its runs are at rest.
        eventually("its runs are at rest", async || !world.works().await).await;
        let mut left = world.runs().await;
        left.extend(self.archives(&world));
        left.extend(life.left(self, &world).await);
        (left, most.saturating_sub(before))
    }

    /// Each archive of the tenant: what it holds, and what lies in its folder besides.
    fn archives(&self, world: &World) -> Vec<String> {
        let folder = self.archive.path().join(world.oak.tenant.to_string());
        let mut told = Vec::new();
        for archive in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let files = std::fs::read_dir(archive.path()).unwrap().flatten();
            let mut files: Vec<String> = files
                .map(|file| file.file_name().into_string().unwrap())
                .collect();
            let manifest = std::fs::read(archive.path().join("manifest.json"));
            let manifest: Manifest = serde_json::from_slice(&manifest.unwrap()).unwrap();
            let known = |file: &String| {
                file == "manifest.json" || manifest.parts.iter().any(|part| part.name == *file)
            };
            files.retain(|file| !known(file));
            let parts = manifest.parts.iter();
            let mut parts: Vec<String> = parts
                .map(|part| match part.table.starts_with("tenure:") {
                    // Times and ids in them are each world's own.
                    true => format!("{} {}", part.table, part.rows),
                    false => format!("{} {} {}", part.table, part.rows, part.lines_sha256),
                })
                .collect();
            parts.sort();
            let kind = manifest.kind;
            told.push(format!(
                "archive {kind:?} {} {parts:?} besides {files:?}",
                manifest.rows
            ));
        }
        told.sort();
        told
    }
}

impl World {
    /// How much is recorded, in Tenure and in the product.
    async fn recorded(&self) -> Option<u64> {
        let own =
            "select (select count(*) from engine.transition) + (select count(*) from engine.step)";
        let mut all: i64 = sqlx::query_scalar(own).fetch_one(&self.own).await.ok()?;
        for pool in [&self.main, &self.rooms] {
            let there = "select to_regclass('tenure.done') is not null";
            if sqlx::query_scalar(there).fetch_one(pool).await.ok()? {
                let done = "select count(*) from tenure.done";
                let done: i64 = sqlx::query_scalar(done).fetch_one(pool).await.ok()?;
                all += done;
            }
        }
        u64::try_from(all).ok()
    }

    /// Whether a run that was started here is in a worker's hands, or wants to be.
    async fn works(&self) -> bool {
        let asked = "select exists (
             select from engine.run
             where started_at >= $1 and status in (0, 1, 3) and workflow = any($2))";
        let asked = sqlx::query_scalar(asked).bind(self.began).bind(WORKFLOWS);
        asked.fetch_one(&self.own).await.unwrap()
    }

    /// The runs that were started here, counted by what became of them.
    async fn runs(&self) -> Vec<String> {
        let asked = "select concat_ws(' ', 'runs', workflow, status, state, count(*))
             from engine.run
             where started_at >= $1 and workflow = any($2)
             group by workflow, status, state
             order by 1";
        let asked = sqlx::query_scalar(asked).bind(self.began).bind(WORKFLOWS);
        asked.fetch_all(&self.own).await.unwrap()
    }

    /// What its runs are at, for who looks at a failure.
    async fn told(&self) -> String {
        let asked = "select concat_ws(' ', workflow, key, status, state, stuck, error::text,
               convert_from(data, 'UTF8'))
             from engine.run where started_at >= $1 order by started_at";
        let runs: Vec<String> = sqlx::query_scalar(asked)
            .bind(self.began)
            .fetch_all(&self.own)
            .await
            .unwrap_or_default();
        runs.join("\n")
    }

    /// All rows of the tenant at a place: how many of each table, and what they come to.
    pub(super) async fn rows(&self, at: &Place) -> Vec<String> {
        let mut conn = match at.model {
            TenancyModel::Schema => self.rooms.acquire().await.unwrap(),
            _ => self.main.acquire().await.unwrap(),
        };
        let mut told = Vec::new();
        for table in TABLES {
            let rows = product::contents(&mut conn, &self.oak, at, table).await;
            told.push(summed(table, rows));
        }
        told
    }

    /// How many rows all tenants have in the shared tables, and how many keys the ledgers keep.
    pub(super) async fn counts(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for table in TABLES {
            let asked = format!("select count(*) from work.{table}");
            let asked = sqlx::query_scalar(sqlx::AssertSqlSafe(asked));
            counts.insert(table, asked.fetch_one(&self.main).await.unwrap());
        }
        for (name, pool) in [("ledger", &self.main), ("ledger of rooms", &self.rooms)] {
            let there = "select to_regclass('tenure.done') is not null";
            let mut keys = 0;
            if sqlx::query_scalar(there).fetch_one(pool).await.unwrap() {
                let asked = "select count(*) from tenure.done";
                keys = sqlx::query_scalar(asked).fetch_one(pool).await.unwrap();
            }
            counts.insert(name, keys);
        }
        counts
    }
}

/// A table's rows in one line, whatever their order.
pub(super) fn summed(table: &str, rows: Vec<Value>) -> String {
    let mut lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    lines.sort();
    let sum = hex::encode(Sha256::digest(lines.join("\n")));
    format!("{table} {} {}", lines.len(), &sum[..16])
}

/// Plays a life undisturbed, then under kills of the server, then under stops of the database, and
/// holds the ends against each other; what it ended with.
pub(super) async fn ends_the_same<L: Life>(n: usize, life: impl Fn() -> L) -> Vec<String> {
    let mut stage = Stage::set().await;
    let (calm, recorded) = stage.play("calm", n, None, life()).await;
    for (world, strike) in [("killed", Strike::Kill), ("stopped", Strike::Stop)] {
        let strikes = Some((strike, recorded));
        let (struck, _) = stage.play(world, n, strikes, life()).await;
        assert_eq!(struck, calm, "{strike:?}");
    }
    let Stage {
        mut cluster,
        mut server,
        sandbox,
        ..
    } = stage;
    server.kill();
    sandbox.shutdown().await;
    cluster.stop().await;
    calm
}
