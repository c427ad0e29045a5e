//! R1: renewal day. Many subscriptions renew at one instant, on one anchor, against a provider that takes
//! 500 requests a second: how long it takes, how often the provider is asked, what memory that needs, and
//! what another tenant feels of it. Before that a tenth of them against one that takes 100: how close to
//! what it allows.
//!
//! The customers have no test clocks: the engine's own time is behind while they are made, so that all are
//! due when it is served without that. Time that is moved costs a round trip for each connection, so the
//! small day has that, and the large one, and what another tenant feels of it, has not. The provider is the
//! sandbox, as a process of its own (`tenure bench provider`), so that what it keeps is not counted as ours.
//! It has no limit itself: what is measured is how well ours is used and kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use sqlx::{Executor as _, PgPool};
use stripe_sandbox::{Sandbox, SandboxConfig, WebhookEndpoint};
use tenure_client::{
    AttachPaymentMethod, Client, FlowRate, IdempotencyKey, NewSubscription, NewTenant, Role,
    SetFlowLimit,
};
use tenure_engine::{PoolConfig, WorkerConfig};
use tenure_workflows::webhook::EVENTS;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Child;
use uuid::Uuid;

use super::entitlement::{publish, served, token};
use super::figure::{Measured, percentile};
use super::load::Bench;
use super::sleep::resident_bytes;
use crate::config::StripeConfig;
use crate::serve::{Running, ServeConfig, start};

/// Subscriptions, and how many of them a tenant has.
const SUBSCRIPTIONS: u32 = 100_000;
const EACH: usize = 2;
/// Longer than any month, so that all are due.
const A_MONTH_MS: i64 = 31 * 24 * 3_600_000;
/// Requests a second that the provider takes. A charge is one, and seldom a second one to look what came of
/// it, so as many charges may begin.
const TAKES: f64 = 500.0;
const TAKES_LESS: f64 = 100.0;
/// Requests to our own API at once, while the day is prepared.
const LANES: usize = 16;
/// Starts of another tenant: so many at a time, so often.
const OTHERS: usize = 10;
const LOOKS_ALONE: usize = 10;
/// How long any of it may take.
const PATIENCE: Duration = Duration::from_secs(7_200);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Seldom enough that the others are no load.
const LOOK_LASTS: Duration = Duration::from_secs(2);
const LOOK_SOON: Duration = Duration::from_millis(20);
/// The limit of charges that begin a second.
const LIMIT: &str = "stripe-charges";
const KEY: &str = "sk_test_tenure_bench";
const SECRET: &str = "whsec_tenure_bench";

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Measured> {
    let mut day = Day::begin(bench).await?;
    let wanted = bench.scaled(SUBSCRIPTIONS);
    day.prepare(wanted.div_ceil(10)).await?;
    day.provider_takes(TAKES_LESS).await?;
    let few = day.renew(false).await?;
    day.prepare(wanted - wanted.div_ceil(10)).await?;
    day.provider_takes(TAKES).await?;
    let memory = resident_bytes()?;
    let all = day.renew(true).await?;
    let memory = (resident_bytes()? - memory) / (1024.0 * 1024.0);
    day.until_quiet().await?;
    let mut alone = Vec::new();
    for _ in 0..LOOKS_ALONE {
        alone.extend(day.others().await?);
    }
    day.end().await?;
    let (alone_p99, beside_p99) = (percentile(&alone, 0.99), percentile(&all.others, 0.99));
    Ok(vec![
        ("renewals".to_owned(), all.renewals),
        ("renew_s".to_owned(), all.seconds),
        ("renewals_per_s".to_owned(), all.renewals / all.seconds),
        ("requests_each".to_owned(), all.requests / all.renewals),
        ("memory_mib".to_owned(), memory),
        ("alone_p99_ms".to_owned(), alone_p99),
        ("beside_p99_ms".to_owned(), beside_p99),
        ("beside_x_alone".to_owned(), beside_p99 / alone_p99),
        ("slow_renewals_per_s".to_owned(), few.renewals / few.seconds),
        (
            "slow_x_allowed".to_owned(),
            few.seconds * TAKES_LESS / few.requests,
        ),
    ])
}

/// What a renewal day came to.
struct Renewed {
    renewals: f64,
    seconds: f64,
    requests: f64,
    /// Milliseconds of another tenant's starts meanwhile.
    others: Vec<f64>,
}

/// The product served with a worker, its provider, and customers that have paid once.
struct Day {
    client: Client,
    provider: Child,
    provider_url: String,
    running: Option<Running>,
    /// Where it is served.
    address: SocketAddr,
    /// By how many milliseconds the engine's time is ahead of what it is: never positive.
    ahead: Arc<AtomicI64>,
    pool: PgPool,
    subscriptions: usize,
    /// Whose invoices are counted: those of this round.
    since: Uuid,
    other: Uuid,
    mails: tempfile::TempDir,
}

fn fresh() -> IdempotencyKey {
    IdempotencyKey::generate()
}

impl Day {
    async fn begin(bench: &Bench) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let url = format!("http://{address}");
        let (provider, provider_url) = start_provider(&url).await?;
        let pool = bench.pool().clone();
        publish(&pool).await?;
        let client = Client::new(&url, &token(&pool, "bench", Role::Admin).await?)?;
        let mut day = Self {
            client,
            provider,
            provider_url,
            running: None,
            address,
            ahead: Arc::new(AtomicI64::new(-2 * A_MONTH_MS)),
            pool,
            subscriptions: 0,
            since: Uuid::nil(),
            other: Uuid::nil(),
            mails: tempfile::tempdir()?,
        };
        day.move_provider(-2 * A_MONTH_MS).await?;
        day.serve(listener, true).await?;
        let (another, key) = (tenant("Another"), fresh());
        let other = day.client.create_tenant(&another, &key).await?;
        (day.since, day.other) = (other.tenant_id, other.tenant_id);
        Ok(day)
    }

    /// Serves, with the engine's time moved or not.
    async fn serve(&mut self, listener: TcpListener, moved: bool) -> anyhow::Result<()> {
        let config = served(&self.pool, listener, self.mails.path());
        let running = start(ServeConfig {
            worker: Some(WorkerConfig::default()),
            stripe: StripeConfig {
                url: self.provider_url.clone(),
                secret_key: KEY.to_owned(),
                webhook_secrets: vec![SECRET.to_owned()],
            },
            // Runs of the bench's own workflows may be left of other workloads.
            allow_stranding: true,
            pool: PoolConfig {
                clock_offset_ms: moved.then(|| self.ahead.clone()),
                ..config.pool
            },
            ..config
        });
        self.running = Some(running.await?);
        Ok(())
    }

    /// So many subscriptions more, which have paid for their first month.
    async fn prepare(&mut self, more: usize) -> anyhow::Result<()> {
        // As many as there is time for: only the day itself is measured.
        self.provider_takes(100_000.0).await?;
        let paid = self.paid().await?;
        let day = &*self;
        stream::iter((0..more).step_by(EACH))
            .map(Ok)
            .try_for_each_concurrent(LANES, async |nth| day.customer(EACH.min(more - nth)).await)
            .await?;
        self.subscriptions += more;
        self.until_paid(paid + more as f64).await
    }

    /// A tenant with a card and so many subscriptions.
    async fn customer(&self, subscriptions: usize) -> anyhow::Result<()> {
        let (new, key) = (tenant("Customer"), fresh());
        let id = self.client.create_tenant(&new, &key).await?.tenant_id;
        let card = AttachPaymentMethod {
            payment_method: "pm_card_visa".to_owned(),
            position: None,
        };
        let key = fresh();
        let attached = self.client.attach_payment_method(id, &card, &key);
        attached.await?;
        let began = Instant::now();
        while self
            .client
            .tenant(id)
            .await?
            .default_payment_method
            .is_none()
        {
            anyhow::ensure!(began.elapsed() < PATIENCE, "the card is not attached");
            tenure_engine::sleep(LOOK_SOON).await;
        }
        for _ in 0..subscriptions {
            let new = NewSubscription {
                plan: "team-monthly".to_owned(),
                currency: "EUR".to_owned(),
                ..NewSubscription::default()
            };
            self.client.subscribe(id, &new, &fresh()).await?;
        }
        Ok(())
    }

    /// Sets the limit of charges to what so many requests a second allow.
    async fn provider_takes(&self, requests: f64) -> anyhow::Result<()> {
        let set = SetFlowLimit {
            concurrency: None,
            rate: Some(FlowRate {
                count: requests as u32,
                period_seconds: 1,
                burst: requests as u32,
            }),
            reason: "bench".to_owned(),
            seen: None,
        };
        self.client.set_limit(LIMIT, &set, &fresh()).await?;
        Ok(())
    }

    /// Requests that charges and what follows them made so far.
    async fn requests(&self) -> anyhow::Result<f64> {
        #[derive(Deserialize)]
        struct Answer {
            requests: BTreeMap<String, u64>,
        }
        let url = format!(
            "{}/sandbox/requests",
            self.provider_url.trim_end_matches('/')
        );
        let answer: Answer = reqwest::get(url).await?.json().await?;
        // Neither what moves the provider's clock, nor the list of events that a clock's advance reads.
        let made = answer.requests.iter().filter(|(request, _)| {
            !request.ends_with(" /v1/test_helpers") && !request.ends_with(" /v1/events")
        });
        Ok(made.map(|(_, count)| *count as f64).sum())
    }

    /// How many invoices of this round are paid.
    async fn paid(&self) -> anyhow::Result<f64> {
        let count =
            "select count(*)::float8 from app.invoice where tenant_id > $1 and status = 'paid'";
        let mut conn = self.pool.acquire().await?;
        conn.execute("reset role").await?;
        let query = sqlx::query_scalar(count).bind(self.since);
        let paid = query.fetch_one(&mut *conn).await?;
        conn.execute("set role tenure_engine").await?;
        Ok(paid)
    }

    async fn until_paid(&self, wanted: f64) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let paid = self.paid().await?;
            if paid >= wanted {
                return Ok(());
            }
            anyhow::ensure!(began.elapsed() < PATIENCE, "{paid} of {wanted} are paid");
            tenure_engine::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the mails that tell of it are sent, too.
    async fn until_quiet(&self) -> anyhow::Result<()> {
        let busy = "select exists (select from engine.due where due_at <= engine.now())
             or exists (select from engine.nudge)";
        let began = Instant::now();
        while sqlx::query_scalar(busy).fetch_one(&self.pool).await? {
            anyhow::ensure!(began.elapsed() < PATIENCE, "there is always something due");
            tenure_engine::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Moves the engine's time, and with it the provider's, whose webhooks bear it.
    async fn go_on_a_month(&mut self) -> anyhow::Result<()> {
        let ahead = self.ahead.load(Ordering::Relaxed) + A_MONTH_MS;
        self.move_provider(ahead).await?;
        self.ahead.store(ahead, Ordering::Relaxed);
        if ahead == 0 {
            self.stop().await;
            let listener = TcpListener::bind(self.address).await?;
            self.serve(listener, false).await?;
        }
        Ok(())
    }

    async fn move_provider(&self, ahead: i64) -> anyhow::Result<()> {
        let url = format!("{}/sandbox/clock", self.provider_url.trim_end_matches('/'));
        let moved = reqwest::Client::new()
            .put(url)
            .json(&serde_json::json!({ "ahead_milliseconds": ahead }))
            .send();
        moved.await?.error_for_status()?;
        Ok(())
    }

    async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown().await;
        }
    }

    /// Moves the time over the day on which all are due, and waits until everything is paid; what another
    /// tenant feels of it, if that is wanted.
    async fn renew(&mut self, with_others: bool) -> anyhow::Result<Renewed> {
        let (paid, requests) = (self.paid().await?, self.requests().await?);
        let renewals = self.subscriptions as f64;
        // With the start of a node, where that is needed.
        let began = Instant::now();
        self.go_on_a_month().await?;
        let day = &*self;
        let renewed = async {
            day.until_paid(paid + renewals).await?;
            anyhow::Ok(began.elapsed().as_secs_f64())
        };
        tokio::pin!(renewed);
        let mut others = Vec::new();
        let seconds = loop {
            if !with_others {
                break renewed.await?;
            }
            let look = day.others();
            tokio::pin!(look);
            tokio::select! {
                seconds = &mut renewed => {
                    others.extend(look.await?);
                    break seconds?;
                }
                looked = &mut look => others.extend(looked?),
            }
        };
        Ok(Renewed {
            renewals,
            seconds,
            requests: day.requests().await? - requests,
            others,
        })
    }

    /// Another tenant starts ten trials, and takes two seconds for that; milliseconds from each start to the
    /// end of its first visit.
    async fn others(&self) -> anyhow::Result<Vec<f64>> {
        let new = NewSubscription {
            plan: "starter-monthly".to_owned(),
            currency: "EUR".to_owned(),
            ..NewSubscription::default()
        };
        let began = Instant::now();
        let mut runs = Vec::new();
        for _ in 0..OTHERS {
            let made = self.client.subscribe(self.other, &new, &fresh()).await?;
            runs.push(made.run_id);
        }
        let rested = "select extract(epoch from changed_at - started_at)::float8 * 1000
             from engine.run where run_id = any($1) and status = 2";
        loop {
            let times: Vec<f64> = sqlx::query_scalar(rested)
                .bind(&runs)
                .fetch_all(&self.pool)
                .await?;
            if times.len() == runs.len() {
                tenure_engine::sleep(LOOK_LASTS.saturating_sub(began.elapsed())).await;
                return Ok(times);
            }
            anyhow::ensure!(
                began.elapsed() < PATIENCE,
                "the other's trials do not begin"
            );
            tenure_engine::sleep(LOOK_SOON).await;
        }
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.stop().await;
        self.provider.kill().await?;
        Ok(())
    }
}

fn tenant(name: &str) -> NewTenant {
    NewTenant {
        name: name.to_owned(),
        email: "bench@tenure.example".to_owned(),
        zone: "UTC".to_owned(),
        locale: None,
        test_clock: None,
        legal_entity: None,
    }
}

/// Starts the sandbox in a process of its own; its address.
async fn start_provider(api: &str) -> anyhow::Result<(Child, String)> {
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .args(["bench", "provider", "--api", api])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the sandbox")?;
    let said = child.stdout.take().context("the sandbox says nothing")?;
    let url = BufReader::new(said).lines().next_line().await?;
    Ok((child, url.context("the sandbox did not start")?))
}

/// Is the provider until it is killed.
pub(super) async fn provide(api: &str) -> anyhow::Result<()> {
    let mut config = SandboxConfig::new(KEY);
    let url = format!("{api}/v1/webhooks/stripe");
    config.webhooks = vec![WebhookEndpoint {
        enabled_events: EVENTS.map(str::to_owned).to_vec(),
        ..WebhookEndpoint::new(url, SECRET)
    }];
    let sandbox = Sandbox::start(config).await?;
    outln!("{}", sandbox.url());
    sandbox.stopped().await;
    Ok(())
}
