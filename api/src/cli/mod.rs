//! The command line: one file a command.

pub mod bench;
mod dev;
mod migrate;
mod postgres;
mod run;
mod schedule;
mod serve;
mod story;
mod token;

use clap::{Parser, Subcommand};

use crate::config::LogArgs;

/// Durable lifecycles of `SaaS` products.
#[derive(Debug, Parser)]
#[command(name = "tenure", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything on this machine with nothing to set up: a private Postgres, a demo catalogue, the
    /// API, a worker, the Stripe sandbox, captured mail, and a story that is played on a test clock.
    Dev(dev::DevArgs),
    /// Serve the API and work on runs, against a database.
    Serve(serve::ServeArgs),
    /// The schema: up, down, status.
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// API tokens: create, list, revoke.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Runs, through the API: list, show, signal, retry.
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Schedules, through the API: list, show, create, update, pause, resume, run-now, delete.
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// The private Postgres: exec.
    #[command(subcommand)]
    Postgres(postgres::PostgresCommand),
    /// Measure the engine against the limit of Postgres on this machine.
    Bench(postgres::BenchCommand),
    /// Print the API's description.
    Openapi,
}

/// Runs a command.
///
/// # Errors
/// Whatever went wrong, with its context; printed once, by `main`.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    cli.log.start()?;
    // The one TLS provider of the process; a second installation is refused, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Command::Dev(args) => dev::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Migrate(command) => migrate::run(command).await,
        Command::Token(command) => token::run(command).await,
        Command::Run(command) => run::run(command).await,
        Command::Schedule(command) => schedule::run(command).await,
        Command::Postgres(command) => postgres::run(command).await,
        Command::Bench(command) => postgres::bench(command).await,
        Command::Openapi => {
            println!("{}", crate::openapi().to_pretty_json()?);
            Ok(())
        }
    }
}

/// Waits until somebody asks the process to end; a second time ends it at once.
async fn until_asked_to_stop() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(())
}
