//! What both builds of the small program have in common: its commands, and the outside, a folder.
//!
//! `plan URL` tells as JSON what this build would strand and ends with 3 if that is anything; `later URL
//! TENANT PARCEL AT` starts a parcel that is packed at that time; `work URL FOLDER` works until it is
//! asked to end. Each outside effect, such as `label p`, is a line in `FOLDER/done`. A file `no label p`
//! makes it fail; with a file `hold label p` it begins, which a file `at label p` tells, and goes on when
//! that is gone.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use tenure_engine::{
    Client, Context, Database, Exhausted, Limit, PoolConfig, Registry, RegistryBuilder,
    RetryPolicy, StartOptions, StepError, TenantId, Worker, WorkerConfig, deploy,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// One at a time.
pub(crate) const CRANE: Limit = Limit::named("crane").concurrency(1);

/// From how many grams on a parcel needs the crane.
pub(crate) const HEAVY: u32 = 10_000;

/// For as long as something is out of order, or held.
const PATIENT: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(100),
    factor: 1.0,
    cap: Duration::from_millis(100),
    max_attempts: 100_000,
    attempt_timeout: Duration::from_secs(600),
    exhausted: Exhausted::Stuck,
    ..RetryPolicy::DEFAULT
};

/// Longer than a visit is held.
const DRAIN: Duration = Duration::from_secs(300);

const USAGE: &str = "plan URL, later URL TENANT PARCEL AT, or work URL FOLDER";

/// The outside.
pub(crate) struct Depot {
    folder: PathBuf,
}

impl Depot {
    /// Does one outside thing for the parcel, as a step.
    pub(crate) async fn step(&self, cx: &Context, what: &'static str) -> Result<String, StepError> {
        let thing = format!("{what} {}", cx.key());
        cx.step(what, &PATIENT, async |step| {
            self.act(&thing, &step.key).await
        })
        .await
    }

    /// Books a way on which the parcel is refused.
    pub(crate) async fn book_in_vain(&self, cx: &Context) -> Result<(), StepError> {
        cx.on_undo("unbook", &());
        self.step(cx, "book").await?;
        Err(StepError::terminal("refused", "nobody takes it there"))
    }

    /// Reverses that.
    pub(crate) async fn unbook(&self, cx: &Context) -> Result<(), StepError> {
        self.step(cx, "recall").await?;
        self.step(cx, "unbook").await?;
        Ok(())
    }

    async fn act(&self, thing: &str, key: &str) -> Result<String, StepError> {
        if self.file("no", thing).exists() {
            return Err(StepError::retryable("out_of_order", thing));
        }
        if self.file("hold", thing).exists() {
            std::fs::write(self.file("at", thing), "")?;
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while self.file("hold", thing).exists() {
                tick.tick().await;
            }
        }
        let mut done = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("done"))?;
        // One write, so that lines of two builds do not mix.
        done.write_all(format!("{thing} {key}\n").as_bytes())?;
        Ok(format!("{thing} done"))
    }

    fn file(&self, how: &str, thing: &str) -> PathBuf {
        self.folder.join(format!("{how} {thing}"))
    }
}

/// Runs one build.
pub(crate) async fn run(
    build: impl FnOnce(Depot) -> RegistryBuilder,
) -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let url = args.get(1).ok_or(USAGE)?.parse::<Database>()?;
    let folder = PathBuf::from(args.get(2).copied().unwrap_or_default());
    let registry = build(Depot { folder }).build()?;
    let pool = tenure_engine::connect(url, &PoolConfig::default()).await?;
    match args[..] {
        ["plan", _] => plan(&pool, &registry).await,
        ["later", _, tenant, parcel, at] => later(pool, registry, [tenant, parcel, at]).await,
        ["work", _, _] => work(pool, registry).await,
        _ => Err(USAGE.into()),
    }
}

async fn plan(pool: &PgPool, registry: &Registry) -> Result<ExitCode, Box<dyn Error>> {
    let plan = deploy::plan(pool, registry, true).await?;
    println!("{}", serde_json::to_string(&plan.groups)?);
    let code = if plan.strands() { 3 } else { 0 };
    Ok(ExitCode::from(code))
}

async fn later(
    pool: PgPool,
    registry: Registry,
    [tenant, parcel, at]: [&str; 3],
) -> Result<ExitCode, Box<dyn Error>> {
    let tenant = TenantId(tenant.parse()?);
    let options = StartOptions {
        at: Some(at.parse()?),
        ..StartOptions::default()
    };
    let client = Client::new(pool, registry, CancellationToken::new());
    let mut conn = client.pool().acquire().await?;
    let place = ("parcel", parcel);
    client
        .start_named(&mut conn, tenant, place, &json!(500), options)
        .await?;
    Ok(ExitCode::SUCCESS)
}

async fn work(pool: PgPool, registry: Registry) -> Result<ExitCode, Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let client = Client::new(pool, registry, CancellationToken::new());
    let config = WorkerConfig {
        drain: DRAIN,
        ..WorkerConfig::default()
    };
    let worker = Worker::start(&client, config).await?;
    terminate.recv().await;
    worker.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
