//! `tenure keep`: how long a product's rows are kept, through the API.

use std::path::PathBuf;

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use tenure_client::{
    Client, DataArchive, DataArchiveFilter, DataHold, DataHoldFilter, DataJob, IdempotencyKey,
    KeepingPolicy, LiftDataHold, LoadKeepingPolicy, PlaceDataHold, RunDetail, RunStatus,
    StartRestore, StartSweep,
};
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// How often a run that is waited for is looked at.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// What to do with what is kept of a product's rows.
#[derive(Debug, clap::Subcommand)]
pub(super) enum KeepCommand {
    /// Show how long the rows of a source are kept.
    Policy {
        #[command(flatten)]
        api: ApiArgs,
        /// The product's database, by its name in the configuration.
        #[arg(long)]
        source: String,
    },
    /// Load a policy from a JSON file; it is held against the source's data map.
    Load {
        #[command(flatten)]
        api: ApiArgs,
        /// The file.
        file: PathBuf,
        /// The product's database, by its name in the configuration.
        #[arg(long)]
        source: String,
        /// Why; kept with the version.
        #[arg(long)]
        reason: String,
    },
    /// Sweep a tenant's rows: archive and delete what is past its time.
    Sweep(SweepArgs),
    /// List what was taken out of a tenant's rows, newest first.
    Archives {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// Of this sweep.
        #[arg(long)]
        sweep: Option<Uuid>,
        /// Where the last page ended.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Bring rows back as they were.
    Restore(RestoreArgs),
    /// List what holds a tenant's rows, newest first.
    Holds {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// Also those that were lifted or have expired.
        #[arg(long)]
        past: bool,
    },
    /// Hold a tenant's rows: nothing of them is deleted until it is lifted or expires.
    Hold(HoldArgs),
    /// Lift a hold.
    Lift {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The hold.
        hold_id: Uuid,
        /// Why; kept with it.
        #[arg(long)]
        reason: String,
    },
}

/// `tenure keep sweep`.
#[derive(Debug, clap::Args)]
pub(super) struct SweepArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The tenant.
    tenant: Uuid,
    /// Only count what would go, and what stays and why.
    #[arg(long)]
    dry_run: bool,
    /// The instant that days are counted back from; now unless it is given.
    #[arg(long)]
    as_of: Option<DateTime<Utc>>,
    /// Why; kept in the audit. A dry run needs none.
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Return when it has begun.
    #[arg(long)]
    no_wait: bool,
}

/// `tenure keep restore`.
#[derive(Debug, clap::Args)]
#[group(id = "what", required = true, multiple = false, args = ["sweep", "archive"])]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The tenant.
    tenant: Uuid,
    /// All that this sweep took out.
    #[arg(long)]
    sweep: Option<Uuid>,
    /// What is in this archive.
    #[arg(long)]
    archive: Option<Uuid>,
    /// Why; kept in the audit.
    #[arg(long)]
    reason: String,
    /// Return when it has begun.
    #[arg(long)]
    no_wait: bool,
}

/// `tenure keep hold`.
#[derive(Debug, clap::Args)]
pub(super) struct HoldArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The tenant.
    tenant: Uuid,
    /// The case that it is for, such as a file number.
    #[arg(long)]
    case: String,
    /// The table, as the data map names it; all that is the tenant's unless it is given.
    #[arg(long)]
    table: Option<String>,
    /// A column and the value that held rows have in it; may be given several times, and then all of
    /// them must hold. A value that is no JSON is taken as text.
    #[arg(long = "match", value_name = "COLUMN=VALUE", requires = "table")]
    matches: Vec<String>,
    /// Until when it counts.
    #[arg(long)]
    expires: Option<DateTime<Utc>>,
    /// Why; kept with it.
    #[arg(long)]
    reason: String,
}

pub(super) async fn run(command: KeepCommand) -> anyhow::Result<()> {
    match command {
        KeepCommand::Policy { api, source } => {
            let policy = api.client()?.keeping_policy(&source).await?;
            print(&api, &policy, || print_policy(&policy))
        }
        KeepCommand::Load {
            api,
            file,
            source,
            reason,
        } => {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let document = serde_json::from_str(&text)
                .with_context(|| format!("{} is no JSON", file.display()))?;
            let load = LoadKeepingPolicy { document, reason };
            let key = IdempotencyKey::generate();
            let client = api.client()?;
            let policy = client.load_keeping_policy(&source, &load, &key).await?;
            print(&api, &policy, || print_policy(&policy))
        }
        KeepCommand::Sweep(args) => sweep(args).await,
        KeepCommand::Archives {
            api,
            tenant,
            sweep,
            cursor,
        } => {
            let filter = DataArchiveFilter {
                sweep_id: sweep,
                cursor,
                limit: None,
            };
            let page = api.client()?.list_data_archives(tenant, &filter).await?;
            print(&api, &page, || page.items.iter().for_each(print_archive))
        }
        KeepCommand::Restore(args) => restore(args).await,
        KeepCommand::Holds { api, tenant, past } => {
            let filter = DataHoldFilter { past: Some(past) };
            let holds = api.client()?.list_data_holds(tenant, &filter).await?;
            print(&api, &holds, || holds.iter().for_each(print_hold))
        }
        KeepCommand::Hold(args) => hold(args).await,
        KeepCommand::Lift {
            api,
            tenant,
            hold_id,
            reason,
        } => {
            let lift = LiftDataHold { reason };
            let key = IdempotencyKey::generate();
            let client = api.client()?;
            let lifted = client.lift_data_hold(tenant, hold_id, &lift, &key).await?;
            print(&api, &lifted, || outln!("lifted {}", lifted.hold_id))
        }
    }
}

async fn sweep(args: SweepArgs) -> anyhow::Result<()> {
    let start = StartSweep {
        dry_run: args.dry_run,
        as_of: args.as_of,
        reason: args.reason,
    };
    let client = args.api.client()?;
    let key = IdempotencyKey::generate();
    let job = client.start_sweep(args.tenant, &start, &key).await?;
    follow(&args.api, &client, &job, args.no_wait).await
}

async fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let start = StartRestore {
        sweep_id: args.sweep,
        archive_id: args.archive,
        reason: args.reason,
    };
    let client = args.api.client()?;
    let key = IdempotencyKey::generate();
    let job = client.start_restore(args.tenant, &start, &key).await?;
    follow(&args.api, &client, &job, args.no_wait).await
}

/// Waits until a job has done what it does by itself: it has ended, or waits for a person or the end of
/// a window.
async fn follow(
    api: &ApiArgs,
    client: &Client,
    job: &DataJob,
    no_wait: bool,
) -> anyhow::Result<()> {
    if no_wait {
        return print(api, job, || outln!("run {}", job.run_id));
    }
    loop {
        let run = client.run(job.run_id).await?;
        let waits = matches!(run.summary.state.as_str(), "Halted" | "Window");
        let stands = !matches!(
            run.summary.status,
            RunStatus::Due | RunStatus::Running | RunStatus::Retrying | RunStatus::Waiting
        );
        if stands || waits && run.summary.status == RunStatus::Waiting {
            return print(api, &run, || print_run(&run));
        }
        tenure_engine::sleep(LOOK_EVERY).await;
    }
}

fn print_run(run: &RunDetail) {
    outln!(
        "run {}  {}  {}",
        run.summary.run_id,
        run.summary.status.as_str(),
        run.summary.state
    );
    let tables = run.output.as_ref().and_then(|output| output.get("tables"));
    let state = &run.data[&run.summary.state];
    let then = state.get("then").and_then(Value::as_object);
    let then = then.and_then(|then| then.values().next());
    let state = then.unwrap_or(state);
    let tables = tables.or_else(|| state["of"].get("done"));
    for (table, came) in tables.and_then(Value::as_object).into_iter().flatten() {
        let fields: Vec<String> = numbers("", came);
        outln!("{table:<28} {}", fields.join("  "));
    }
    if let Some(why) = run.data[&run.summary.state].get("why") {
        let text = |name: &str| why.get(name).and_then(Value::as_str).unwrap_or_default();
        outln!("halted: {}: {}", text("code"), text("detail"));
        outln!("  tenure run signal {} --help", run.summary.run_id);
    }
}

/// The numbers in what came of a table that are not 0, and its words.
fn numbers(under: &str, came: &Value) -> Vec<String> {
    let Value::Object(fields) = came else {
        return Vec::new();
    };
    let each = fields.iter().flat_map(|(name, value)| match value {
        Value::Object(_) => numbers(&format!("{under}{name}."), value),
        Value::Number(number) if number.as_u64() != Some(0) => {
            vec![format!("{under}{name} {number}")]
        }
        Value::String(text) => vec![format!("{under}{name}: {text}")],
        _ => Vec::new(),
    });
    each.collect()
}

async fn hold(args: HoldArgs) -> anyhow::Result<()> {
    let mut matches = Map::new();
    for pair in &args.matches {
        let pair = pair.split_once('=').context("--match: COLUMN=VALUE")?;
        let value = serde_json::from_str(pair.1).unwrap_or_else(|_| Value::from(pair.1));
        matches.insert(pair.0.to_owned(), value);
    }
    let place = PlaceDataHold {
        case: args.case,
        table: args.table,
        matches: (!matches.is_empty()).then_some(matches),
        expires_at: args.expires,
        reason: args.reason,
    };
    let client = args.api.client()?;
    let key = IdempotencyKey::generate();
    let placed = client.place_data_hold(args.tenant, &place, &key).await?;
    print(&args.api, &placed, || print_hold(&placed))
}

fn print_policy(policy: &KeepingPolicy) {
    outln!(
        "{} version {}  {}: {}",
        policy.source,
        policy.version,
        policy.author,
        policy.reason
    );
    let document = serde_json::to_string_pretty(&policy.document);
    outln!("{}", document.unwrap_or_default());
}

fn print_hold(hold: &DataHold) {
    let what = match (&hold.table, &hold.matches) {
        (None, _) => "all that is the tenant's".to_owned(),
        (Some(table), None) => table.clone(),
        (Some(table), Some(matches)) => format!("{table} {}", Value::Object(matches.clone())),
    };
    let until = match (hold.lifted_at, hold.expires_at) {
        (Some(at), _) => format!("lifted {}", instant(at)),
        (None, Some(at)) => format!("until {}", instant(at)),
        (None, None) => "until it is lifted".to_owned(),
    };
    outln!(
        "{}  {}  {what}  {until}  {}: {}",
        hold.hold_id,
        hold.case,
        hold.author,
        hold.reason
    );
    match hold.rows {
        Some(0) => outln!("  it holds no row now"),
        Some(rows) => outln!("  it holds {rows} rows now"),
        None => {}
    }
}

fn print_archive(archive: &DataArchive) {
    let until = match (archive.destroyed_at, archive.destroy_at) {
        (Some(at), _) => format!("destroyed {}", instant(at)),
        (None, Some(at)) => format!("can be restored until {}", instant(at)),
        (None, None) => "stays".to_owned(),
    };
    outln!(
        "{}  {:<24} {:>8} rows {:>12} bytes  {}  {until}",
        archive.archive_id,
        archive.table,
        archive.rows,
        archive.bytes,
        archive.status
    );
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
