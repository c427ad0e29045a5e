//! `tenure doctor`: how the database stands, asked beside it.

use std::process::ExitCode;

use chrono::SecondsFormat;
use serde::Serialize;
use tenure_engine::PoolConfig;
use tenure_engine::failover::{self, Failover, Risk};

use crate::config::DatabaseArgs;

/// Told apart from errors (1) and a command line that makes no sense (2).
const SOMETHING: u8 = 3;
/// How many failovers are listed.
const LATEST: u32 = 20;

/// What to tell.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    hosts: &'a [&'a str],
    risks: Vec<Finding>,
    failovers: &'a [Failover],
}

#[derive(Serialize)]
struct Finding {
    risk: Risk,
    description: &'static str,
}

pub(super) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let database = args.database.database()?;
    let config = PoolConfig {
        max_connections: 1,
        ..PoolConfig::default()
    };
    let pool = tenure_engine::connect(database.clone(), &config).await?;
    let mut conn = pool.acquire().await?;
    let risks = failover::risks(&mut conn).await?;
    let failovers = failover::list(&mut conn, LATEST).await?;
    drop(conn);
    pool.close().await;
    let lost = failovers.iter().any(|failover| failover.lost_commits > 0);
    if args.json {
        let risks = risks.iter().map(|risk| Finding {
            risk: *risk,
            description: risk.describe(),
        });
        let report = Report {
            hosts: &database.hosts(),
            risks: risks.collect(),
            failovers: &failovers,
        };
        outln!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&database.hosts(), &risks, &failovers);
    }
    Ok(if lost || !risks.is_empty() {
        ExitCode::from(SOMETHING)
    } else {
        ExitCode::SUCCESS
    })
}

fn print(hosts: &[&str], risks: &[Risk], failovers: &[Failover]) {
    outln!("hosts: {}", hosts.join(", "));
    for risk in risks {
        outln!("risk: {}", risk.describe());
    }
    if risks.is_empty() {
        outln!("the set-up loses no acknowledged commit that Postgres can tell of");
    }
    for failover in failovers {
        let at = failover.noticed_at;
        out!(
            "{}  {}  timeline {} to {}: {} of {} commits looked up are gone",
            at.to_rfc3339_opts(SecondsFormat::Secs, true),
            failover.worker,
            failover.timeline_before,
            failover.timeline_after,
            failover.lost_commits,
            failover.checked,
        );
        match failover.first_lost_run {
            Some(run) => outln!(
                ", with {} steps and transitions; the first of run {run}",
                failover.lost_rows
            ),
            None => outln!(),
        }
    }
}
