//! `tenure plan-deploy`: which runs this build would strand, asked before it is rolled out.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use tenure_engine::PoolConfig;
use tenure_engine::deploy::{self, Group, Plan, Verdict};
use tenure_engine::seal::Keyring;
use tenure_workflows::Environment;

use crate::config::{DatabaseArgs, SealArgs};

/// Told apart from errors (1) and a command line that makes no sense (2).
const WOULD_STRAND: u8 = 3;

/// What to tell.
#[derive(Debug, clap::Args)]
pub(super) struct PlanDeployArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    seal: SealArgs,
    /// List the ids of the runs of each group that is not fine.
    #[arg(long)]
    runs: bool,
    /// Count open journals of other versions as stranded, too.
    #[arg(long)]
    strict: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    strands: bool,
    build: &'a BTreeMap<&'static str, i32>,
    groups: &'a [Group],
}

pub(super) async fn run(args: PlanDeployArgs) -> anyhow::Result<ExitCode> {
    // Whatever happens here, nothing is written; a replica will do.
    let database = args.database.database()?.read_only();
    let config = PoolConfig {
        max_connections: 1,
        ..PoolConfig::default()
    };
    let pool = tenure_engine::connect(database.clone(), &config)
        .await
        .context("cannot connect to the database; is it migrated (tenure migrate up)?")?;
    let environment = Environment::unplugged(pool.clone()).map_err(anyhow::Error::msg)?;
    let mut workflows = tenure_workflows::workflows(&environment);
    if let Some(master) = args.seal.config()? {
        workflows = workflows.keyring(Keyring::new(database, master));
    }
    let registry = workflows.build()?;
    let plan = deploy::plan(&pool, &registry, args.runs)
        .await
        .context("cannot look at the runs; is the database migrated (tenure migrate up)?")?;
    pool.close().await;
    let strands = plan.strands() || args.strict && has_open_journals(&plan);
    if args.json {
        let report = Report {
            strands,
            build: &registry.versions(),
            groups: &plan.groups,
        };
        outln!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&plan, strands);
    }
    Ok(if strands {
        ExitCode::from(WOULD_STRAND)
    } else {
        ExitCode::SUCCESS
    })
}

fn has_open_journals(plan: &Plan) -> bool {
    let mut groups = plan.groups.iter();
    groups.any(|group| group.verdict == Verdict::OpenJournal)
}

fn print(plan: &Plan, strands: bool) {
    let wide = |of: fn(&Group) -> usize, least: usize| {
        let widths = plan.groups.iter().map(of);
        widths.max().unwrap_or_default().max(least)
    };
    let workflow = wide(|group| group.workflow.len(), "WORKFLOW".len());
    let state = wide(|group| group.state.len(), "STATE".len());
    let verdict = wide(|group| group.verdict.as_str().len(), "VERDICT".len());
    outln!(
        "{:<workflow$}  VERSION  {:<state$}       RUNS  {:<verdict$}  REASON",
        "WORKFLOW",
        "STATE",
        "VERDICT"
    );
    for group in &plan.groups {
        let line = format!(
            "{:<workflow$}  {:>7}  {:<state$}  {:>9}  {:<verdict$}  {}",
            group.workflow,
            group.version,
            group.state,
            group.runs,
            group.verdict.as_str(),
            group.reason.as_deref().unwrap_or_default()
        );
        outln!("{}", line.trim_end());
        for run in &group.run_ids {
            outln!("  {run}");
        }
    }
    outln!(
        "\n{}",
        if strands {
            "This build would strand runs."
        } else {
            "This build would strand nothing."
        }
    );
}
