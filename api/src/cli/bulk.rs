//! `tenure bulk`: one verb to many runs, for scripts, through the API.

use std::time::Duration;

use serde_json::Value;
use tenure_client::{
    AbortBulk, ActionArg, AllowedAction, BulkFilter, BulkOperation, BulkOutcome, BulkResultFilter,
    BulkStatus, ConfirmBulk, IdempotencyKey, PrepareBulk,
};
use uuid::Uuid;

use super::run::{ApiArgs, VerbArgs, print};

/// How often a watched operation is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What to do with operations on many runs.
#[derive(Debug, clap::Subcommand)]
pub(super) enum BulkCommand {
    /// List what can be done to many runs: what each verb takes and does, and why you may not.
    Verbs(ApiArgs),
    /// Freeze the runs that a filter finds, and say how many they are. Nothing is done to them yet.
    Prepare(Box<PrepareArgs>),
    /// Confirm how many runs are acted on, and begin.
    Confirm {
        #[command(flatten)]
        api: ApiArgs,
        /// The operation.
        bulk_operation_id: Uuid,
        /// How many runs, as `prepare` said.
        #[arg(long)]
        runs: i64,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Stay until it has ended; fail unless it is done.
        #[arg(long)]
        wait: bool,
    },
    /// List operations, newest first.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// Where the last page ended.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show an operation and how many runs came to what.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The operation.
        bulk_operation_id: Uuid,
    },
    /// List the runs of an operation and what came of each.
    Results {
        #[command(flatten)]
        api: ApiArgs,
        /// The operation.
        bulk_operation_id: Uuid,
        /// Only those that are pending, done, moved or refused.
        #[arg(long, value_parser = parse_outcome)]
        outcome: Option<BulkOutcome>,
        /// Where the last page ended.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// End an operation before its time; what was done stays done.
    Abort {
        #[command(flatten)]
        api: ApiArgs,
        /// The operation.
        bulk_operation_id: Uuid,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// `tenure bulk prepare`.
#[derive(Debug, clap::Args)]
pub(super) struct PrepareArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The verb: one of `tenure bulk verbs`.
    verb: String,
    /// Which runs; see *Finding runs* in docs/operating.md.
    #[arg(long)]
    filter: String,
    /// Why; kept in the audit of each run.
    #[arg(long)]
    reason: String,
    /// Runs per second, 1 to 500.
    #[arg(long, default_value_t = 10)]
    pace: i32,
    /// Stop when so many runs have refused the verb.
    #[arg(long)]
    stop_after: Option<i32>,
    #[command(flatten)]
    args: VerbArgs,
}

fn parse_outcome(text: &str) -> Result<BulkOutcome, String> {
    serde_json::from_value(Value::String(text.to_owned()))
        .map_err(|_| "one of pending, done, moved, refused".to_owned())
}

#[expect(clippy::too_many_lines, reason = "one arm a command")]
pub(super) async fn run(command: BulkCommand) -> anyhow::Result<()> {
    match command {
        BulkCommand::Verbs(api) => {
            let verbs = api.client()?.list_bulk_verbs().await?;
            print(&api, &verbs, || verbs.iter().for_each(print_verb))
        }
        BulkCommand::Prepare(asked) => prepare(*asked).await,
        BulkCommand::Confirm {
            api,
            bulk_operation_id,
            runs,
            reason,
            wait,
        } => {
            let confirm = ConfirmBulk { runs, reason };
            let client = api.client()?;
            let key = IdempotencyKey::generate();
            let mut bulk = client
                .confirm_bulk(bulk_operation_id, &confirm, &key)
                .await?;
            while wait && bulk.ended_at.is_none() {
                tenure_engine::sleep(LOOK_EVERY).await;
                bulk = client.bulk_operation(bulk_operation_id).await?;
            }
            print(&api, &bulk, || outln!("{}", told(&bulk)))?;
            let ended_well = !wait || bulk.status == BulkStatus::Done;
            anyhow::ensure!(ended_well, "the operation is {}", bulk.status.as_str());
            Ok(())
        }
        BulkCommand::List { api, cursor } => {
            let filter = BulkFilter {
                cursor,
                limit: None,
            };
            let page = api.client()?.list_bulk_operations(&filter).await?;
            print(&api, &page, || {
                for bulk in &page.items {
                    outln!("{}", told(bulk));
                }
                tell_more(page.next_cursor.as_deref());
            })
        }
        BulkCommand::Show {
            api,
            bulk_operation_id,
        } => {
            let bulk = api.client()?.bulk_operation(bulk_operation_id).await?;
            print(&api, &bulk, || {
                outln!("{}", told(&bulk));
                outln!("where {}", bulk.filter);
                outln!("by {}: {}", bulk.actor, bulk.reason);
            })
        }
        BulkCommand::Results {
            api,
            bulk_operation_id,
            outcome,
            cursor,
        } => {
            let filter = BulkResultFilter {
                outcome,
                cursor,
                limit: None,
            };
            let client = api.client()?;
            let page = client.list_bulk_results(bulk_operation_id, &filter).await?;
            print(&api, &page, || {
                for run in &page.items {
                    outln!(
                        "{}  {:<8} {:<12} {}  {}",
                        run.run_id,
                        run.outcome.as_str(),
                        run.workflow,
                        run.key,
                        run.detail.as_deref().unwrap_or_default()
                    );
                }
                tell_more(page.next_cursor.as_deref());
            })
        }
        BulkCommand::Abort {
            api,
            bulk_operation_id,
            reason,
        } => {
            let abort = AbortBulk { reason };
            let key = IdempotencyKey::generate();
            let client = api.client()?;
            let bulk = client.abort_bulk(bulk_operation_id, &abort, &key).await?;
            print(&api, &bulk, || outln!("{}", told(&bulk)))
        }
    }
}

async fn prepare(asked: PrepareArgs) -> anyhow::Result<()> {
    let prepare = PrepareBulk {
        filter: asked.filter,
        verb: asked.verb,
        args: asked.args.into_args(),
        reason: asked.reason,
        pace: asked.pace,
        stop_after: asked.stop_after,
    };
    let client = asked.api.client()?;
    let key = IdempotencyKey::generate();
    let bulk = client.prepare_bulk(&prepare, &key).await?;
    print(&asked.api, &bulk, || {
        outln!("{}", told(&bulk));
        outln!(
            "Nothing was done yet. To begin: tenure bulk confirm {} --runs {} --reason …",
            bulk.bulk_operation_id,
            bulk.selected
        );
    })
}

fn print_verb(verb: &AllowedAction) {
    let args: Vec<String> = verb.args.iter().map(flag).collect();
    outln!("{:<14} {:<20} {}", verb.action, args.join(" "), verb.help);
    if let Some(reason) = &verb.reason {
        outln!("{:<14} refused: {reason}", "");
    }
}

/// What `tenure bulk prepare` calls an argument; in brackets where the verb does without.
fn flag(arg: &ActionArg) -> String {
    if arg.required {
        format!("--{}", arg.name)
    } else {
        format!("[--{}]", arg.name)
    }
}

fn told(bulk: &BulkOperation) -> String {
    format!(
        "{}  {} {} runs: {}, {} done, {} moved on, {} refused",
        bulk.bulk_operation_id,
        bulk.verb,
        bulk.selected,
        bulk.status.as_str(),
        bulk.done,
        bulk.moved,
        bulk.refused
    )
}

fn tell_more(cursor: Option<&str>) {
    if let Some(cursor) = cursor {
        eprintln!("There may be more: --cursor {cursor}");
    }
}
