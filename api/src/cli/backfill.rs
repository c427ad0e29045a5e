//! `tenure backfill`: a change of a product's columns, through the API.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tenure_client::{
    ActOnBackfill, ActOnBackfillRange, Backfill, BackfillFilter, BackfillPlan, BackfillRange,
    BackfillRangeFilter, BackfillTrouble, IdempotencyKey, StartBackfill,
};
use tenure_workflows::backfill::say_seconds;
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// How often a watched backfill is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The cells of the progress bar.
const BAR: usize = 32;

/// What to do with backfills.
#[derive(Debug, clap::Subcommand)]
pub(super) enum BackfillCommand {
    /// Say what a file would do: statements, rows, time, what stands in the way. Nothing is done.
    Plan {
        #[command(flatten)]
        api: ApiArgs,
        /// The definition; see docs/backfills.md.
        file: PathBuf,
    },
    /// Start the backfill of a file.
    Start {
        #[command(flatten)]
        api: ApiArgs,
        /// The definition.
        file: PathBuf,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Only say what it would do, as `plan` does.
        #[arg(long)]
        dry_run: bool,
    },
    /// List backfills, newest first.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// Where the last page ended.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show a backfill: phase, progress, rate, when it ends, what holds it back.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// Its name or its id.
        name: String,
        /// Stay, with a progress bar, until it waits for somebody or has ended.
        #[arg(long)]
        watch: bool,
    },
    /// List its ranges: each tenant's rows, or parts of them.
    Ranges {
        #[command(flatten)]
        api: ApiArgs,
        /// Its name or its id.
        name: String,
        /// Only those that are planned, filling, verifying, throttled, paused, held, skipped or
        /// filled.
        #[arg(long)]
        status: Option<String>,
        /// Where the last page ended.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Let the next phase begin; refused with all that speaks against it.
    Advance(ActArgs),
    /// Let so many tenants of a hundred read the new columns.
    RollOut {
        #[command(flatten)]
        act: ActArgs,
        /// 0 to 100.
        #[arg(long)]
        percent: i16,
    },
    /// Go back: to expand, dual-write, fill or verify, or to how all was before.
    Back {
        #[command(flatten)]
        act: ActArgs,
        /// Where to.
        #[arg(long, value_parser = ["expand", "dual-write", "fill", "verify", "undone"])]
        to: String,
    },
    /// Go on where it was held, and fill again what is wrong or was skipped; or retry one range.
    Retry {
        #[command(flatten)]
        act: ActArgs,
        /// Only this range, which is held.
        #[arg(long)]
        range: Option<Uuid>,
    },
    /// Leave a range as it is. While rows of it are wrong the contract is refused.
    Skip {
        #[command(flatten)]
        act: ActArgs,
        /// The range.
        #[arg(long)]
        range: Uuid,
    },
    /// Compare all rows again.
    Verify(ActArgs),
    /// Let its ranges rest after the batch that they are in.
    Pause(ActArgs),
    /// Let them go on.
    Resume(ActArgs),
    /// Tell whether a tenant reads the old columns or the new ones.
    Reads {
        #[command(flatten)]
        api: ApiArgs,
        /// Its name or its id.
        name: String,
        /// The tenant.
        #[arg(long)]
        tenant: Uuid,
    },
}

/// A verb, and why.
#[derive(Debug, clap::Args)]
pub(super) struct ActArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Its name or its id.
    name: String,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Only say whether it would be refused.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(command: BackfillCommand) -> anyhow::Result<()> {
    match command {
        BackfillCommand::Plan { api, file } => plan(&api, &file).await,
        BackfillCommand::Start {
            api,
            file,
            dry_run: true,
            ..
        } => plan(&api, &file).await,
        BackfillCommand::Start {
            api,
            file,
            reason,
            dry_run: false,
        } => {
            let start = StartBackfill {
                definition: read(&file)?,
                reason,
            };
            let key = IdempotencyKey::generate();
            let of = api.client()?.start_backfill(&start, &key).await?;
            print(&api, &of, || outln!("{}", line(&of)))
        }
        BackfillCommand::List { api, cursor } => list(&api, cursor).await,
        BackfillCommand::Show { api, name, watch } => show(&api, &name, watch).await,
        BackfillCommand::Ranges {
            api,
            name,
            status,
            cursor,
        } => ranges(&api, &name, status, cursor).await,
        BackfillCommand::Advance(args) => act(args, "advance", ActOnBackfill::default()).await,
        BackfillCommand::RollOut { act: args, percent } => {
            let with = ActOnBackfill {
                percent: Some(percent),
                ..ActOnBackfill::default()
            };
            act(args, "roll-out", with).await
        }
        BackfillCommand::Back { act: args, to } => {
            let with = ActOnBackfill {
                to: Some(to),
                ..ActOnBackfill::default()
            };
            act(args, "back", with).await
        }
        BackfillCommand::Retry {
            act: args,
            range: Some(range),
        } => act_on_range(args, range, "retry").await,
        BackfillCommand::Retry {
            act: args,
            range: None,
        } => act(args, "retry", ActOnBackfill::default()).await,
        BackfillCommand::Skip { act: args, range } => act_on_range(args, range, "skip").await,
        BackfillCommand::Verify(args) => act(args, "verify", ActOnBackfill::default()).await,
        BackfillCommand::Pause(args) => act(args, "pause", ActOnBackfill::default()).await,
        BackfillCommand::Resume(args) => act(args, "resume", ActOnBackfill::default()).await,
        BackfillCommand::Reads { api, name, tenant } => {
            let reads = api.client()?.backfill_reads(&name, tenant).await?;
            print(&api, &reads, || outln!("{}", reads.columns))
        }
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

async fn plan(api: &ApiArgs, file: &Path) -> anyhow::Result<()> {
    let start = StartBackfill {
        definition: read(file)?,
        reason: String::new(),
    };
    let key = IdempotencyKey::generate();
    let plan = api.client()?.plan_backfill(&start, &key).await?;
    print(api, &plan, || tell_plan(&plan))
}

fn tell_plan(plan: &BackfillPlan) {
    for target in &plan.targets {
        outln!(
            "{}: {} (data map {})",
            target.source,
            target.table,
            target.map_version
        );
    }
    outln!(
        "{} tenants, about {} rows",
        plan.tenants,
        plan.estimated_rows
    );
    outln!(
        "the fill takes {} to {}, unless it is throttled",
        say_seconds(plan.earliest_seconds),
        say_seconds(plan.latest_seconds)
    );
    for statement in &plan.statements {
        outln!(
            "\n-- {} at {}\n{};",
            statement.phase,
            statement.source,
            statement.sql
        );
    }
    for warning in &plan.warnings {
        outln!("\nnote: {warning}");
    }
    for obstacle in &plan.obstacles {
        outln!(
            "\nin the way at {}: {}",
            obstacle.source,
            told(&obstacle.trouble)
        );
    }
}

fn told(trouble: &BackfillTrouble) -> String {
    let key = trouble
        .key
        .as_ref()
        .map(|key| format!(" (row {})", key.join(", ")));
    let key = key.unwrap_or_default();
    format!(
        "{}: {}{key}: {}",
        trouble.kind, trouble.detail, trouble.remedy
    )
}

async fn list(api: &ApiArgs, cursor: Option<String>) -> anyhow::Result<()> {
    let filter = BackfillFilter {
        cursor,
        limit: None,
    };
    let page = api.client()?.list_backfills(&filter).await?;
    print(api, &page, || {
        for of in &page.items {
            outln!("{}", line(of));
        }
        if let Some(cursor) = &page.next_cursor {
            eprintln!("There may be more: --cursor {cursor}");
        }
    })
}

async fn show(api: &ApiArgs, name: &str, watch: bool) -> anyhow::Result<()> {
    let client = api.client()?;
    let mut of = client.backfill(name).await?;
    if watch {
        // A terminal has one line that is drawn anew; a file gets one for each change.
        let terminal = std::io::stdout().is_terminal() && !api.is_json();
        let mut before = String::new();
        while of.status == "working" && of.next.is_none() {
            let now = line(&of);
            if !api.is_json() && now != before {
                let (begin, end) = if terminal {
                    ("\r\x1b[2K", "")
                } else {
                    ("", "\n")
                };
                out!("{begin}{now}{end}");
                super::out::flush();
                before = now;
            }
            tenure_engine::sleep(LOOK_EVERY).await;
            of = client.backfill(name).await?;
        }
        if terminal && !before.is_empty() {
            outln!();
        }
    }
    print(api, &of, || tell(&of))
}

fn tell(of: &Backfill) {
    outln!("{}", line(of));
    let progress = &of.progress;
    outln!(
        "{} of {} ranges done, {} held, {} skipped, {} gone; {} rows written",
        progress.finished_ranges,
        progress.ranges,
        progress.held_ranges,
        progress.skipped_ranges,
        progress.gone_ranges,
        progress.written_rows
    );
    if let Some(wrong) = of.mismatches {
        let since = of.clean_since.map(|since| format!(", clean since {since}"));
        outln!("verified: {wrong} rows wrong{}", since.unwrap_or_default());
    }
    outln!(
        "{} % of the tenants read the new columns",
        of.percent_reading
    );
    if let Some(trouble) = &of.trouble {
        let is = match of.status.as_str() {
            status @ ("ended" | "terminated") => status,
            _ => "held",
        };
        outln!("{is}: {}", told(trouble));
    }
    for throttle in &progress.throttled {
        outln!("throttled, {} ranges: {}", throttle.ranges, throttle.reason);
    }
    if !progress.unseen.is_empty() {
        outln!(
            "not seen, and so throttling nothing: {}",
            progress.unseen.join(", ")
        );
    }
    if let Some(next) = &of.next {
        match of.refusals.is_empty() {
            true => outln!("{next} may begin: tenure backfill advance {}", of.name),
            false => outln!("{next} is refused: {}", of.refusals.join("; ")),
        }
    }
    outln!("by {}: {}", of.started_by, of.reason);
}

/// A backfill in one line.
fn line(of: &Backfill) -> String {
    let progress = &of.progress;
    let paused = if of.paused { ", paused" } else { "" };
    let mut line = format!(
        "{}  {} {}{paused}  [{}] {:.1}%  {}/{}",
        of.name,
        of.phase,
        of.status,
        bar(progress.percent),
        progress.percent,
        progress.done_rows,
        progress.estimated_rows
    );
    if let Some(rate) = progress.rows_per_second {
        line.push_str(&format!("  {rate:.0} rows/s"));
    }
    match (progress.earliest_seconds, progress.latest_seconds) {
        (Some(from), Some(to)) => {
            line.push_str(&format!(
                "  {} to {} left",
                say_seconds(from),
                say_seconds(to)
            ));
        }
        (Some(from), None) => line.push_str(&format!("  at least {} left", say_seconds(from))),
        _ => {}
    }
    if progress.held_ranges > 0 {
        line.push_str(&format!("  {} held", progress.held_ranges));
    }
    if !progress.throttled.is_empty() {
        line.push_str("  throttled");
    }
    line
}

fn bar(percent: f64) -> String {
    // A share of so many cells, and no negative number.
    let full = ((percent.clamp(0.0, 100.0) / 100.0) * BAR as f64) as usize;
    format!("{}{}", "#".repeat(full), "-".repeat(BAR - full))
}

async fn ranges(
    api: &ApiArgs,
    name: &str,
    status: Option<String>,
    cursor: Option<String>,
) -> anyhow::Result<()> {
    let filter = BackfillRangeFilter {
        status,
        cursor,
        limit: None,
    };
    let page = api.client()?.list_backfill_ranges(name, &filter).await?;
    print(api, &page, || {
        for range in &page.items {
            outln!("{}", range_line(range));
        }
        if let Some(cursor) = &page.next_cursor {
            eprintln!("There may be more: --cursor {cursor}");
        }
    })
}

fn range_line(range: &BackfillRange) -> String {
    let why = range
        .trouble
        .as_ref()
        .map(told)
        .or_else(|| range.detail.clone());
    let wrong = range.mismatches.filter(|wrong| *wrong > 0);
    let wrong = wrong.map(|wrong| format!("  {wrong} wrong"));
    format!(
        "{}  {}/{}  {:<9}  {}/{} rows  next {}{}  {}",
        range.range_id,
        range.tenant_id,
        range.part,
        range.status,
        range.done_rows,
        range.estimated_rows,
        range.batch_rows,
        wrong.unwrap_or_default(),
        why.unwrap_or_default()
    )
}

async fn act(args: ActArgs, verb: &str, with: ActOnBackfill) -> anyhow::Result<()> {
    let act = ActOnBackfill {
        reason: args.reason,
        dry_run: args.dry_run,
        ..with
    };
    let key = IdempotencyKey::generate();
    let client = args.api.client()?;
    let of = client.act_on_backfill(&args.name, verb, &act, &key).await?;
    print(&args.api, &of, || {
        let would = if act.dry_run {
            "would be accepted"
        } else {
            "accepted"
        };
        outln!("{verb}: {would}\n{}", line(&of));
    })
}

async fn act_on_range(args: ActArgs, range: Uuid, verb: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        !args.dry_run,
        "a range is shown by `tenure backfill ranges`"
    );
    let act = ActOnBackfillRange {
        reason: args.reason,
    };
    let key = IdempotencyKey::generate();
    let client = args.api.client()?;
    let told = client
        .act_on_backfill_range(&args.name, range, verb, &act, &key)
        .await?;
    print(&args.api, &told, || {
        outln!("{verb}: accepted\n{}", range_line(&told))
    })
}
