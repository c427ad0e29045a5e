//! An engine for one play: its own database, tenant and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use serde::de::DeserializeOwned;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use super::{Crash, Faults};
use crate::client::{Client, RunRef};
use crate::floor::Floor;
use crate::id::{RunId, ShardId, TenantId};
use crate::inspect::{self, RunDetail};
use crate::pool::{self, PoolConfig};
use crate::registry::RegistryBuilder;
use crate::run::Status;
use crate::search::{self, RunFilter, Wanted};
use crate::store;
use crate::tenant;
use crate::upkeep;
use crate::worker::{Worker, WorkerConfig};
use crate::workflow::Workflow;

/// Longer than a busy machine stalls. The play's time passes it at once.
const LEASE: Duration = Duration::from_secs(60);
/// After so many turns a play that still tries again never comes to rest.
const MAX_TURNS: u32 = 1_000;

/// Nine in the morning in seconds, and a little: no zone's day begins near it, for offsets from UTC are whole
/// quarters of an hour.
const MORNING: i64 = (9 * 60 + 7) * 60;

/// What ends a script before its time: the engine's errors, the database's, or the author's own.
pub type PlayError = Box<dyn std::error::Error + Send + Sync>;

/// An engine with one tenant, on a database that nobody else works on, with its time moved by hand.
///
/// Nothing works between the calls of a script: [`Play::settle`] starts a worker, lets it work until
/// nothing is due, and stops it.
pub struct Play {
    client: Client,
    tenant: TenantId,
    offset: Arc<AtomicI64>,
    stop: CancellationToken,
    faults: Arc<Faults>,
}

impl Play {
    /// Opens a play without faults on a migrated database.
    ///
    /// # Errors
    /// When the database does not answer, or a workflow is registered twice.
    pub async fn open(
        options: PgConnectOptions,
        workflows: RegistryBuilder,
    ) -> Result<Self, PlayError> {
        let play = Self::with(options, workflows, Arc::default()).await?;
        play.register().await?;
        Ok(play)
    }

    /// Opens a play on a stage where all plays begin at the same instant, whatever the time is: on the day
    /// after the stage was set, at nine in the morning.
    pub(crate) async fn on_stage(
        (options, workflows): (PgConnectOptions, RegistryBuilder),
        faults: Arc<Faults>,
        begins_at: &mut Option<DateTime<Utc>>,
    ) -> Result<Self, PlayError> {
        let play = Self::with(options, workflows, faults).await?;
        let now = play.now().await?;
        let begins_at = *begins_at.get_or_insert_with(|| morning_after(now));
        play.advance((begins_at - now).to_std().unwrap_or_default());
        play.register().await?;
        Ok(play)
    }

    async fn with(
        options: PgConnectOptions,
        workflows: RegistryBuilder,
        faults: Arc<Faults>,
    ) -> Result<Self, PlayError> {
        let offset = Arc::<AtomicI64>::default();
        let config = PoolConfig {
            clock_offset_ms: Some(offset.clone()),
            max_connections: 3,
            acquire_timeout: Duration::from_secs(30),
            ..PoolConfig::default()
        };
        let pool = pool::connect(options, &config).await?;
        let registry = workflows.faults(faults.clone()).build()?;
        let stop = CancellationToken::new();
        let client = Client::new(pool, registry, stop.clone());
        Ok(Self {
            client,
            tenant: TenantId::new(ShardId::any()),
            offset,
            stop,
            faults,
        })
    }

    async fn register(&self) -> Result<(), PlayError> {
        let mut conn = self.client.pool().acquire().await?;
        tenant::register(&mut conn, self.tenant, self.tenant.shard(), None).await?;
        Ok(())
    }

    /// The engine's time.
    async fn now(&self) -> Result<DateTime<Utc>, PlayError> {
        let mut conn = self.client.pool().acquire().await?;
        Ok(store::claim::find_ahead(&mut conn, &[], Floor::default())
            .await?
            .now)
    }

    /// The engine's door, for what the play has no verb for.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The owner of the play's runs.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Lets the play's verbs speak for another tenant from now on, which an author's own code made.
    pub fn speak_for(&mut self, tenant: TenantId) {
        self.tenant = tenant;
    }

    /// How often to send the next signal, which goes through a door of the author's own: the matrix
    /// sends it twice. [`Play::signal`] asks by itself.
    #[must_use]
    pub fn times(&self, signal: &str) -> usize {
        self.faults.times(signal)
    }

    /// Starts a run.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub async fn start<W: Workflow>(
        &self,
        key: &str,
        input: &W::Input,
    ) -> Result<RunId, PlayError> {
        let mut conn = self.client.pool().acquire().await?;
        let started = self.client.start::<W>(&mut conn, self.tenant, key, input);
        Ok(started.await?.run_id)
    }

    /// Sends a signal; the matrix sends it twice.
    ///
    /// # Errors
    /// As [`Client::signal`].
    pub async fn signal<W: Workflow>(
        &self,
        run: RunId,
        id: &str,
        signal: &W::Signal,
    ) -> Result<(), PlayError> {
        for _ in 0..self.times(id) {
            let mut conn = self.client.pool().acquire().await?;
            let place = RunRef::Id(run);
            let sent = self
                .client
                .signal::<W>(&mut conn, self.tenant, place, id, signal);
            sent.await?;
        }
        Ok(())
    }

    /// Sends signals, each with its id, whose order must not matter: the matrix lets neighbours
    /// change places.
    ///
    /// # Errors
    /// As [`Client::signal`].
    pub async fn signals<W: Workflow>(
        &self,
        run: RunId,
        signals: &[(&str, W::Signal)],
    ) -> Result<(), PlayError> {
        let ids: Vec<&str> = signals.iter().map(|(id, _)| *id).collect();
        for place in self.faults.order(&ids) {
            let (id, signal) = &signals[place];
            self.signal::<W>(run, id, signal).await?;
        }
        Ok(())
    }

    /// Asks a run to end and clean up after itself.
    ///
    /// # Errors
    /// As [`Client::cancel`].
    pub async fn cancel(&self, run: RunId) -> Result<(), PlayError> {
        let mut conn = self.client.pool().acquire().await?;
        self.client.cancel(&mut conn, self.tenant, run).await?;
        Ok(())
    }

    /// Lets the next `times` attempts at steps called `step` fail before their effect, with an error
    /// that is tried again.
    pub fn fail(&self, step: &str, times: u32) {
        self.faults.fail(step, times);
    }

    /// Lets the worker be gone at the next attempt at a step called `step`: [`Play::settle`] goes on with
    /// another once the lease has run out. Each call is one crash; of two at one step the second comes
    /// at the attempt after it. A step that is a transaction has no moment after its effect, which is
    /// written with it: ask for [`Crash::Before`] there.
    pub fn crash(&self, step: &str, when: Crash) {
        self.faults.crash(step, when);
    }

    /// Moves the engine's time, which the play's tenant shares, forward.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.offset.fetch_add(by, Ordering::Relaxed);
    }

    /// Works until nothing is due. Where a step is to be tried again, time goes on to that instant;
    /// deadlines stay ahead. After a crash another worker takes over once the lease has run out.
    ///
    /// # Errors
    /// When the database does not answer, or something is tried again without end.
    pub async fn settle(&self) -> Result<(), PlayError> {
        for _ in 0..MAX_TURNS {
            if self.crashes().await? {
                self.advance(LEASE + Duration::from_secs(1));
                upkeep::recover(self.client.pool()).await?;
                continue;
            }
            match self.ahead().await? {
                Some(wait) => self.advance(wait),
                None => return Ok(()),
            }
        }
        Err(format!("the play did not come to rest in {MAX_TURNS} turns").into())
    }

    /// Works until nothing is due, or the planned crash; says whether it came.
    async fn crashes(&self) -> Result<bool, PlayError> {
        let config = WorkerConfig {
            lease: LEASE,
            ..WorkerConfig::default()
        };
        let mut worker = Worker::start(&self.client, config).await?;
        let crashed = tokio::select! {
            () = worker.idle() => false,
            () = self.faults.crashed() => true,
        };
        if crashed {
            worker.crash().await;
            self.faults.gone();
        } else {
            worker.shutdown().await;
        }
        Ok(crashed)
    }

    /// How long until something happens by itself, deadlines apart: at once for what a worker left
    /// when it was stopped, later for what is tried again or waits for room.
    async fn ahead(&self) -> Result<Option<Duration>, PlayError> {
        let mut tx = pool::begin(self.client.pool()).await?;
        let workflows = self.client.registry().names();
        let ahead = store::claim::find_ahead(&mut tx, &workflows, Floor::default()).await?;
        if ahead.nudged || ahead.due_at.is_some_and(|due| due <= ahead.now) {
            return Ok(Some(Duration::ZERO));
        }
        let awake = [
            Status::Running,
            Status::Retrying,
            Status::Undoing,
            Status::Blocked,
        ];
        let awake = RunFilter {
            status: Wanted {
                any: Some(awake.to_vec()),
                none: Vec::new(),
            },
            ..RunFilter::default()
        };
        let runs = search::list(&mut tx, &awake, None, search::MAX_FOUND).await?;
        let next = runs.iter().filter_map(|run| match run.status {
            Status::Running => Some(ahead.now),
            Status::Blocked => ahead.gate_at,
            _ => run.next_at,
        });
        let wait = next.min().map(|next| (next - ahead.now).to_std());
        Ok(wait.map(Result::unwrap_or_default))
    }

    /// All that is known of a run, with why it is where it is.
    ///
    /// # Errors
    /// As [`inspect::detail`].
    pub async fn detail(&self, run: RunId) -> Result<RunDetail, PlayError> {
        let mut conn = self.client.pool().acquire().await?;
        Ok(inspect::detail(&mut conn, self.client.registry(), run).await?)
    }

    /// Reads what a completed run left behind.
    ///
    /// # Errors
    /// When it has not completed, with why; or left something else.
    pub async fn output<T: DeserializeOwned>(&self, run: RunId) -> Result<T, PlayError> {
        let detail = self.detail(run).await?;
        match detail.output {
            Some(output) => Ok(serde_json::from_value(output)?),
            None => Err(format!("no output: {}", detail.why.summary).into()),
        }
    }

    /// Closes the play's connections.
    pub async fn close(self) {
        self.stop.cancel();
        self.client.pool().close().await;
    }
}

/// The morning of the day after.
fn morning_after(now: DateTime<Utc>) -> DateTime<Utc> {
    let morning = NaiveTime::MIN + TimeDelta::seconds(MORNING);
    (now.date_naive() + Days::new(1))
        .and_time(morning)
        .and_utc()
}
