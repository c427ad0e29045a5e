//! The command line: one file a command.

#[macro_use]
mod out;
mod account;
mod audit;
mod backfill;
pub mod bench;
mod bulk;
mod catalog;
mod certificate;
mod clock;
mod customer;
mod data_map;
mod deletion;
mod demo;
mod dev;
mod doctor;
mod dunning;
mod entitlement;
mod export;
mod flow;
mod invoice;
mod keep;
mod key;
mod methods;
mod migrate;
mod notice;
mod placement;
mod plan_deploy;
mod postgres;
mod retention;
mod run;
mod schedule;
mod serve;
mod story;
mod subscription;
mod tenant;
mod token;
mod webhook;
mod workflow;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::LogArgs;
use crate::settings::{self, FileSettings};
use crate::trace::Traces;

/// The command that takes a configuration file.
const SERVE: &str = "serve";

/// Durable lifecycles of `SaaS` products.
#[derive(Debug, Parser)]
#[command(name = "tenure", version, propagate_version = true)]
struct Cli {
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
    Serve(Box<serve::ServeArgs>),
    /// The schema: up, down, status.
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Tell which runs this build would strand, before it is rolled out. Reads only. Ends with 0 if
    /// there are none, 3 if there are some, 1 if it could not be told.
    PlanDeploy(plan_deploy::PlanDeployArgs),
    /// Tell how the database stands: where its writes go, what its set-up could lose, and what
    /// failovers lost. Ends with 0 if there is nothing to tell, 3 if there is.
    Doctor(doctor::DoctorArgs),
    /// The data map of a product's database: draft it, and check that it is still true.
    #[command(subcommand)]
    DataMap(data_map::DataMapCommand),
    /// Deletions of tenants, through the API: preview, request, approve, list, show, cancel, retry,
    /// accept, certificate.
    #[command(subcommand)]
    Deletion(deletion::DeletionCommand),
    /// Certificates of deletion, without any server: verify; keys: new-key, public-key.
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// API tokens: create, list, rotate, revoke.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Dunning policies: check a file, and through the API load, list, show, assign.
    #[command(subcommand)]
    DunningPolicy(dunning::PolicyCommand),
    /// Mails, through the API: list, preview.
    #[command(subcommand)]
    Notice(notice::NoticeCommand),
    /// What the payment provider told, through the API: list, replay.
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Tenants, through the API: list, show, create, attach, hold, debt, exempt, credit, tax,
    /// entitlements, override, usage.
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Invoices, through the API: list, show, page, collect, void, write-off, credit-note, refund,
    /// credit-notes, disputes.
    #[command(subcommand)]
    Invoice(invoice::InvoiceCommand),
    /// Test clocks, through the API: show, advance.
    #[command(subcommand)]
    TestClock(clock::ClockCommand),
    /// Where tenants' rows are in the product, through the API: list, show, set, provision, move,
    /// back-out, migrate.
    #[command(subcommand)]
    Placement(placement::PlacementCommand),
    /// The catalogue: check a file; load and show it through the API, and a plan's versions.
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// Runs, through the API: list, count, show, signal, act.
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Workflows, through the API: list.
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// Subscriptions, through the API: list, show, create, change, cancel, pause, resume, move-anchor,
    /// undo; each with --dry-run for what it would cost.
    #[command(subcommand)]
    Subscription(subscription::SubscriptionCommand),
    /// Flow control, through the API: limits, pauses of workflows, queues and tenants, breakers.
    #[command(subcommand)]
    Flow(flow::FlowCommand),
    /// Backfills of the product's tables, through the API: plan, start, list, show, ranges, advance,
    /// roll-out, back, retry, skip, verify, pause, resume, reads.
    #[command(subcommand)]
    Backfill(backfill::BackfillCommand),
    /// One verb to many runs, through the API: verbs, prepare, confirm, list, show, results, abort.
    #[command(subcommand)]
    Bulk(bulk::BulkCommand),
    /// Schedules, through the API: list, show, create, update, pause, resume, run-now, delete.
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Retention and legal holds, through the API: list, set, holds, hold, lift.
    #[command(subcommand)]
    Retention(retention::RetentionCommand),
    /// How long a product's rows are kept, through the API: policy, load, sweep, archives, restore,
    /// holds, hold, lift.
    #[command(subcommand)]
    Keep(keep::KeepCommand),
    /// Exports of a tenant's data, through the API: start, list, show.
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// The master key, and tenants' keys through the API: new, list, rotate, destroy, rewrap.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// What people did, through the API: list.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// The private Postgres: exec.
    #[command(subcommand)]
    Postgres(postgres::PostgresCommand),
    /// Measure the engine against the limit of Postgres on this machine.
    Bench(postgres::BenchCommand),
    /// Print the API's description.
    Openapi,
    /// Print the reference of all settings, `docs/configuration.md`.
    #[command(hide = true)]
    Configuration,
}

/// Runs the command of a command line, the program's name first. Ends the process if clap has the
/// answer: help, the version, or what is wrong with the line.
///
/// # Errors
/// Whatever went wrong, with its context; printed once, by `main`.
pub async fn run(line: impl IntoIterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    match asked(line.into_iter().collect())? {
        Asked::Run(cli) => execute(*cli).await,
        Asked::PrintConfig(toml) => {
            out!("{toml}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What a command line asks for.
enum Asked {
    Run(Box<Cli>),
    PrintConfig(String),
}

/// Reads a command line, and the configuration file that it names.
///
/// The line is read twice: what the file says becomes clap's defaults for the second time, so that
/// clap itself ranks flag, environment and file, and judges all three alike.
fn asked(line: Vec<OsString>) -> anyhow::Result<Asked> {
    let (mut cli, mut matches) = parse(Cli::command(), &line);
    let Command::Serve(args) = &cli.command else {
        return Ok(Asked::Run(Box::new(cli)));
    };
    let print = args.configuration.print_config;
    let mut built = Cli::command();
    built.build();
    let serve = built.find_subcommand(SERVE).context("serve is a command")?;
    let mut file = None;
    if let Some(path) = &args.configuration.config {
        let read = FileSettings::read(path, serve, of_serve(&matches)?)?;
        (cli, matches) = parse(read.as_defaults(Cli::command(), SERVE), &line);
        file = Some(read);
    }
    if print {
        let toml = settings::effective(serve, of_serve(&matches)?, file.as_ref())?;
        return Ok(Asked::PrintConfig(toml));
    }
    Ok(Asked::Run(Box::new(cli)))
}

fn parse(command: clap::Command, line: &[OsString]) -> (Cli, ArgMatches) {
    let matches = command.get_matches_from(line);
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => (cli, matches),
        Err(error) => error.format(&mut Cli::command()).exit(),
    }
}

fn of_serve(matches: &ArgMatches) -> anyhow::Result<&ArgMatches> {
    matches.subcommand_matches(SERVE).context("it is serve")
}

async fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    // The one TLS provider of the process; a second installation is refused, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wanted = match &cli.command {
        Command::Serve(args) => args.traces.config()?,
        _ => None,
    };
    let traces = wanted.as_ref().map(Traces::start).transpose()?;
    cli.log.start(traces.as_ref())?;
    let done = execute_command(cli.command).await;
    if let Some(traces) = traces {
        traces.finish().await;
    }
    done
}

async fn execute_command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(args) => dev::run(args).await?,
        Command::Serve(args) => serve::run(*args).await?,
        Command::Migrate(command) => migrate::run(command).await?,
        Command::PlanDeploy(args) => return plan_deploy::run(args).await,
        Command::Doctor(args) => return doctor::run(args).await,
        Command::DataMap(command) => return data_map::run(command).await,
        Command::Deletion(command) => deletion::run(command).await?,
        Command::Certificate(command) => return certificate::run(command),
        Command::Token(command) => token::run(command).await?,
        Command::DunningPolicy(command) => dunning::run(command).await?,
        Command::Notice(command) => notice::run(command).await?,
        Command::Webhook(command) => webhook::run(command).await?,
        Command::Tenant(command) => tenant::run(command).await?,
        Command::Invoice(command) => invoice::run(command).await?,
        Command::TestClock(command) => clock::run(command).await?,
        Command::Placement(command) => placement::run(command).await?,
        Command::Catalog(command) => catalog::run(command).await?,
        Command::Run(command) => run::run(command).await?,
        Command::Workflow(command) => workflow::run(command).await?,
        Command::Subscription(command) => subscription::run(command).await?,
        Command::Flow(command) => flow::run(command).await?,
        Command::Backfill(command) => backfill::run(command).await?,
        Command::Bulk(command) => bulk::run(command).await?,
        Command::Schedule(command) => schedule::run(command).await?,
        Command::Keep(command) => keep::run(command).await?,
        Command::Export(command) => export::run(command).await?,
        Command::Retention(command) => retention::run(command).await?,
        Command::Key(command) => key::run(command).await?,
        Command::Audit(command) => audit::run(command).await?,
        Command::Postgres(command) => postgres::run(command).await?,
        Command::Bench(command) => postgres::bench(command).await?,
        Command::Openapi => outln!("{}", crate::openapi().to_pretty_json()?),
        Command::Configuration => {
            let mut root = Cli::command();
            root.build();
            out!("{}", settings::reference(&root));
        }
    }
    Ok(ExitCode::SUCCESS)
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
