//! `tenure bench`: the workloads, with the limit of this Postgres measured beside them.
//!
//! A figure is the median of several runs, and its ratio to the limit measured in the same run,
//! because machines differ and are noisy. Nothing here is used by the product.

mod backfill;
mod compare;
mod crowd;
mod curve;
mod deletion;
mod entitlement;
mod figure;
mod ground;
mod http;
mod lane;
mod limit;
mod load;
mod lost;
mod pinned;
mod renewal;
mod sleep;
mod soak;
mod workflows;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sqlx::PgPool;
use tenure_engine::{Database, PoolConfig, Registry, RetryPolicy};

use figure::{Figure, Machine};

/// Measures the engine against the limit of Postgres on this machine.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Workloads to run; E1: entitlements; R1: a renewal day; B1 and B2: a backfill and a deletion of a
    /// product's rows. When none is named, all but W7, R1, B1 and B2, which take long; see
    /// docs/performance.md.
    #[arg(value_parser = ["W1", "W2", "W2T", "W2L", "W3", "W4", "W5", "W6", "W7", "W8", "W9", "W10", "E1", "R1", "B1", "B2"])]
    workloads: Vec<String>,
    /// Repetitions of each workload; the median is reported.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Grows or shrinks the work of each repetition.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// The most visits in flight.
    #[arg(long, default_value_t = 512)]
    in_flight: usize,
    /// Also writes the figures to this file, one JSON object a line.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What else is done with figures.
#[derive(Debug, clap::Subcommand)]
pub enum BenchTool {
    /// Hold two files of figures against each other.
    Compare(compare::CompareArgs),
    /// Draw what a piece of work costs against how much of it there is.
    Curve(curve::CurveArgs),
    /// Keep the machine at a part of what it can do, for hours, and see what grows.
    Soak(soak::SoakArgs),
    /// The worker that W9 kills.
    #[command(hide = true)]
    Hold(HoldArgs),
    /// The payment provider of R1.
    #[command(hide = true)]
    Provider(ProviderArgs),
}

/// Whom the provider tells what happened.
#[derive(Debug, clap::Args)]
pub struct ProviderArgs {
    /// The API's URL.
    #[arg(long)]
    api: String,
}

/// Is the payment provider of R1 until it is killed.
///
/// # Errors
/// When it cannot listen.
pub async fn provide(args: &ProviderArgs) -> anyhow::Result<()> {
    renewal::provide(&args.api).await
}

/// How much the worker that is to be killed takes.
#[derive(Debug, clap::Args)]
pub struct HoldArgs {
    /// The most visits in flight.
    #[arg(long)]
    in_flight: usize,
}

/// Takes runs of W9 and holds them until it is killed.
///
/// # Errors
/// When the database cannot be reached.
pub async fn hold(args: &HoldArgs, database: Database) -> anyhow::Result<()> {
    let (pool, _) = open(database).await?;
    lost::hold(pool, args.in_flight).await
}

/// Compares two files; needs no database.
///
/// # Errors
/// When a file cannot be read, or they have nothing in common.
pub fn compare(args: &compare::CompareArgs) -> anyhow::Result<()> {
    compare::run(args)
}

/// Measures and draws the curve on a database with the migrated schema.
///
/// # Errors
/// When the database cannot be reached or the file cannot be written.
pub async fn curve(args: &curve::CurveArgs, database: Database) -> anyhow::Result<()> {
    let (pool, machine) = open(database).await?;
    outln!("{machine}");
    let mut bench = load::Bench::new(pool, registry()?, args.in_flight, 1.0).await?;
    let drawn = curve::run(args, &mut bench).await;
    bench.close().await;
    drawn
}

/// Soaks a database with the migrated schema.
///
/// # Errors
/// When the database cannot be reached or the file cannot be written.
pub async fn soak(args: &soak::SoakArgs, database: Database) -> anyhow::Result<()> {
    let (pool, machine) = open(database).await?;
    outln!("{machine}");
    let bench = load::Bench::new(pool, registry()?, args.in_flight, 1.0).await?;
    let soaked = soak::run(args, &bench).await;
    bench.close().await;
    let mut figures = Vec::new();
    figure::collect(&mut figures, "soak", args.in_flight, soaked?);
    told(&machine, &figures, args.json.as_deref())
}

/// Prints figures, and writes them where a file is named.
fn told(machine: &Machine, figures: &[Figure], file: Option<&Path>) -> anyhow::Result<()> {
    figure::print_table(figures);
    if let Some(path) = file {
        figure::write_json(path, machine, figures)
            .with_context(|| format!("cannot write {}", path.display()))?;
        outln!("wrote {}", path.display());
    }
    Ok(())
}

async fn open(database: Database) -> anyhow::Result<(PgPool, Machine)> {
    let config = PoolConfig {
        max_connections: 24,
        ..PoolConfig::default()
    };
    let pool = tenure_engine::connect(database, &config)
        .await
        .context("cannot reach the database to measure")?;
    let machine = Machine::read(&pool).await?;
    Ok((pool, machine))
}

fn registry() -> anyhow::Result<Registry> {
    let registry = Registry::builder()
        .register(workflows::Steps)
        .register(workflows::Effects)
        .register(workflows::Listener)
        .register(workflows::Gated)
        .register(workflows::Sleeper)
        .register(workflows::Held { ends: true })
        .register(workflows::Brief)
        .build()?;
    Ok(registry)
}

/// Runs the named workloads on a database with the migrated schema.
///
/// # Errors
/// When the database cannot be reached or the file cannot be written.
pub async fn run(args: &BenchArgs, database: Database) -> anyhow::Result<()> {
    let (pool, machine) = open(database).await?;
    outln!("{machine}");
    let bench = load::Bench::new(pool, registry()?, args.in_flight, args.scale).await?;
    let wanted = |name: &str| match args.workloads.as_slice() {
        [] => !["W7", "R1", "B1", "B2"].contains(&name),
        named => named.iter().any(|w| w == name),
    };

    let mut figures: Vec<Figure> = Vec::new();
    let mut limits = limit::Limits::default();
    for round in 0..args.runs {
        outln!("round {} of {}", round + 1, args.runs);
        limits.measure(bench.pool()).await?;
        for (name, workload) in load::WORKLOADS {
            if wanted(name) {
                let measured = workload.measure(&bench).await?;
                figure::collect(&mut figures, name, args.in_flight, measured);
            }
        }
    }
    bench.close().await;
    figures.splice(0..0, limits.figures());
    limits.compare(&mut figures);
    told(&machine, &figures, args.json.as_deref())
}

/// The policy of the workloads' steps: they never fail.
pub(crate) const POLICY: RetryPolicy = RetryPolicy::ONCE;
