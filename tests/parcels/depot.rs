//! What both builds of the small program have in common: its two commands, and the outside, a folder.
//!
//! `plan URL` tells as JSON what this build would strand and ends with 3 if that is anything; `work
//! URL FOLDER` works until it is asked to end. Each outside effect is a line in `FOLDER/done`.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tenure_engine::{
    Client, Database, Exhausted, PoolConfig, RegistryBuilder, RetryPolicy, StepError, Worker,
    WorkerConfig, deploy,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// For as long as the printer is out of order.
pub(crate) const PATIENT: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(100),
    factor: 1.0,
    cap: Duration::from_millis(100),
    max_attempts: 100_000,
    exhausted: Exhausted::Stuck,
    ..RetryPolicy::DEFAULT
};

/// The outside.
pub(crate) struct Depot {
    folder: PathBuf,
}

impl Depot {
    /// Does something once more.
    pub(crate) fn note(&self, what: &str, parcel: &str, key: &str) -> Result<(), StepError> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("done"))?;
        writeln!(file, "{what} {parcel} {key}")?;
        Ok(())
    }

    /// Prints a label, unless the printer is out of order.
    pub(crate) fn print(&self, parcel: &str, key: &str) -> Result<String, StepError> {
        if self.folder.join("broken").exists() {
            return Err(StepError::retryable("printer", "it is out of order"));
        }
        self.note("label", parcel, key)?;
        Ok(format!("label of {parcel}"))
    }
}

/// Runs one build.
pub(crate) async fn run(
    build: impl FnOnce(Depot) -> RegistryBuilder,
) -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, url) = match &args[..] {
        [command, url, ..] => (command.as_str(), url.parse::<Database>()?),
        _ => return Err("plan URL, or work URL FOLDER".into()),
    };
    let folder = PathBuf::from(args.get(2).map_or("", String::as_str));
    let registry = build(Depot { folder }).build()?;
    let pool = tenure_engine::connect(url, &PoolConfig::default()).await?;
    if command == "plan" {
        let plan = deploy::plan(&pool, &registry, true).await?;
        println!("{}", serde_json::to_string(&plan.groups)?);
        let code = if plan.strands() { 3 } else { 0 };
        return Ok(ExitCode::from(code));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let client = Client::new(pool, registry, CancellationToken::new());
    let worker = Worker::start(&client, WorkerConfig::default()).await?;
    terminate.recv().await;
    worker.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
