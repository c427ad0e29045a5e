//! The engine alone, with workflows of the tests' own, its own time moved by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tenure_engine::inspect::{self, RunDetail};
use tenure_engine::operator::{self, Act, Verb};
use tenure_engine::seal::Keyring;
use tenure_engine::{
    Client, ClockId, Database, PoolConfig, Registry, RunId, RunRef, ShardId, Status, TenantId,
    Worker, WorkerConfig, Workflow, tenant,
};
use tokio_util::sync::CancellationToken;

/// An engine on a database of its own, with one tenant.
pub(crate) struct TestEngine {
    pub(crate) options: PgConnectOptions,
    pub(crate) client: Client,
    pub(crate) tenant: TenantId,
    offset: Arc<AtomicI64>,
    stop: CancellationToken,
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl TestEngine {
    pub(crate) async fn new(registry: Registry) -> Self {
        Self::on(super::database().await, registry).await
    }

    /// A second process on the database of the first, under the same moved time.
    pub(crate) async fn beside(&self, registry: Registry) -> Self {
        let mut other = Self::connect(self.options.clone(), registry, self.offset.clone()).await;
        other.tenant = self.tenant;
        other
    }

    pub(crate) async fn on(options: PgConnectOptions, registry: Registry) -> Self {
        let mut engine = Self::connect(options, registry, Arc::default()).await;
        engine.tenant = engine.add_tenant(None).await;
        engine
    }

    /// One whose database has several hosts; `options` names the first.
    pub(crate) async fn at(
        database: Database,
        options: PgConnectOptions,
        registry: Registry,
    ) -> Self {
        let mut engine = Self::connect_to(database, options, registry, Arc::default()).await;
        engine.tenant = engine.add_tenant(None).await;
        engine
    }

    async fn connect(
        options: PgConnectOptions,
        registry: Registry,
        offset: Arc<AtomicI64>,
    ) -> Self {
        Self::connect_to(options.clone().into(), options, registry, offset).await
    }

    async fn connect_to(
        database: Database,
        options: PgConnectOptions,
        registry: Registry,
        offset: Arc<AtomicI64>,
    ) -> Self {
        let config = PoolConfig {
            clock_offset_ms: Some(offset.clone()),
            acquire_timeout: Duration::from_secs(30),
            ..PoolConfig::default()
        };
        let pool = tenure_engine::connect(database, &config)
            .await
            .expect("a pool");
        let stop = CancellationToken::new();
        Self {
            options,
            client: Client::new(pool, registry, stop.clone()),
            tenant: tenure_engine::SYSTEM_TENANT,
            offset,
            stop,
        }
    }

    /// What opens payloads.
    pub(crate) fn keyring(&self) -> &Keyring {
        self.client.registry().keyring()
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.client.pool()
    }

    pub(crate) async fn add_tenant(&self, clock: Option<ClockId>) -> TenantId {
        let shard = ShardId::any();
        let tenant = TenantId::new(shard);
        let mut conn = self.pool().acquire().await.unwrap();
        tenant::register(&mut conn, tenant, shard, clock)
            .await
            .unwrap();
        tenant
    }

    /// Moves the engine's own time.
    pub(crate) fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap();
        self.offset.fetch_add(by, Ordering::Relaxed);
    }

    /// Sets the engine's own time, forwards or back.
    pub(crate) async fn set_time(&self, at: &str) {
        let at: DateTime<Utc> = at.parse().unwrap();
        let now: DateTime<Utc> = sqlx::query_scalar("select now()")
            .fetch_one(self.pool())
            .await
            .unwrap();
        self.offset
            .store((at - now).num_milliseconds(), Ordering::Relaxed);
    }

    pub(crate) async fn worker(&self) -> Worker {
        let config = WorkerConfig {
            // Longer than a busy machine stalls, shorter than the minutes that tests move.
            lease: Duration::from_secs(20),
            drain: Duration::from_secs(5),
            ..WorkerConfig::default()
        };
        Worker::start(&self.client, config).await.unwrap()
    }

    /// Works until nothing is due, then stops in order.
    pub(crate) async fn drain(&self) {
        let mut worker = self.worker().await;
        worker.idle().await;
        worker.shutdown().await;
    }

    pub(crate) async fn start<W: Workflow>(&self, key: &str, input: &W::Input) -> RunId {
        let mut conn = self.pool().acquire().await.unwrap();
        let started = self.client.start::<W>(&mut conn, self.tenant, key, input);
        let started = started.await.unwrap();
        self.client.ring();
        started.run_id
    }

    pub(crate) async fn signal<W: Workflow>(&self, run: RunId, id: &str, signal: &W::Signal) {
        let mut conn = self.pool().acquire().await.unwrap();
        self.client
            .signal::<W>(&mut conn, self.tenant, RunRef::Id(run), id, signal)
            .await
            .unwrap();
        self.client.ring();
    }

    pub(crate) async fn detail(&self, run: RunId) -> RunDetail {
        let mut conn = self.pool().acquire().await.unwrap();
        inspect::detail(&mut conn, self.client.registry(), run)
            .await
            .unwrap()
    }

    /// What an operator does to a run as it stands.
    pub(crate) async fn act(&self, run: RunId, verb: Verb) {
        let act = Act {
            actor: "maria".to_owned(),
            role: "operator".to_owned(),
            reason: "because".to_owned(),
            revision: self.detail(run).await.summary.revision(),
        };
        let mut conn = self.pool().acquire().await.unwrap();
        operator::intervene(&mut conn, self.client.registry(), run, &verb, &act)
            .await
            .unwrap();
    }

    pub(crate) async fn status(&self, run: RunId) -> Status {
        self.detail(run).await.summary.status
    }

    pub(crate) async fn output<T: serde::de::DeserializeOwned>(&self, run: RunId) -> T {
        let detail = self.detail(run).await;
        let output = detail
            .output
            .unwrap_or_else(|| panic!("no output: {:?}", detail.why));
        serde_json::from_value(output).unwrap()
    }

    /// The promise of every test: each run is finished or has exactly one wake reason.
    pub(crate) async fn assert_nothing_lost(&self) {
        let lost: Vec<(uuid::Uuid, i16)> = sqlx::query_as(
            "select run_id, status from engine.run
             where status in (0, 3)
               and not exists (select from engine.due where due.run_id = run.run_id)
               and not exists (select from engine.nudge where nudge.run_id = run.run_id)
             union all
             select run_id, status from engine.run
             where status = 2 and deadlines is not null and clock_id is null
               and not exists (select from engine.due where due.run_id = run.run_id)
             union all
             select run_id, status from engine.run
             where status = 6
               and not exists (select from engine.waiter where waiter.run_id = run.run_id)
               and not exists (select from engine.nudge where nudge.run_id = run.run_id)
             union all
             select run_id, status from engine.run
             where status in (5, 7, 8)
               and not exists (select from engine.parked where parked.run_id = run.run_id)
             union all
             select run_id, status from engine.run
             where status >= 10
               and (exists (select from engine.due where due.run_id = run.run_id)
                 or exists (select from engine.clocked where clocked.run_id = run.run_id))",
        )
        .fetch_all(self.pool())
        .await
        .unwrap();
        assert!(
            lost.is_empty(),
            "runs without their one wake reason: {lost:?}"
        );
    }
}
