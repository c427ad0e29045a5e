//! `tenure retention`: how long finished runs are kept, and legal holds, through the API.

use std::path::Path;

use anyhow::Context as _;
use chrono::SecondsFormat;
use serde_json::Value;
use tenure_client::{
    IdempotencyKey, LegalHold, LegalHoldFilter, LiftLegalHold, PlaceLegalHold, PutRetention,
    RetentionAction, RetentionPolicy,
};
use tenure_engine::RunId;
use tenure_engine::retention::archive;
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// What to do with retention.
#[derive(Debug, clap::Subcommand)]
pub(super) enum RetentionCommand {
    /// List how long the finished runs of each workflow are kept.
    List {
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Decide how long the finished runs of a workflow are kept.
    Set(SetArgs),
    /// List legal holds, newest first.
    Holds {
        #[command(flatten)]
        api: ApiArgs,
        /// On this tenant, or on a run of it.
        #[arg(long)]
        tenant: Option<Uuid>,
    },
    /// Place a legal hold: nothing of the tenant or run is dropped until it is lifted.
    Hold(HoldArgs),
    /// Lift a legal hold.
    Lift {
        #[command(flatten)]
        api: ApiArgs,
        /// The hold.
        hold_id: Uuid,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
}

/// `tenure retention set`.
#[derive(Debug, clap::Args)]
#[group(id = "what", required = true, multiple = false, args = ["keep", "drop_after", "archive_after"])]
pub(super) struct SetArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The workflow.
    workflow: String,
    /// Keep them for ever.
    #[arg(long)]
    keep: bool,
    /// Drop them so many days after their end.
    #[arg(long, value_name = "DAYS")]
    drop_after: Option<u32>,
    /// Archive and drop them so many days after their end.
    #[arg(long, value_name = "DAYS")]
    archive_after: Option<u32>,
    /// Why; kept in the audit.
    #[arg(long)]
    reason: String,
}

/// `tenure retention hold`.
#[derive(Debug, clap::Args)]
#[group(id = "whom", required = true, multiple = false, args = ["tenant", "run"])]
pub(super) struct HoldArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// All that is this tenant's.
    #[arg(long)]
    tenant: Option<Uuid>,
    /// This run.
    #[arg(long)]
    run: Option<Uuid>,
    /// Why; kept in the audit.
    #[arg(long)]
    reason: String,
}

pub(super) async fn run(command: RetentionCommand) -> anyhow::Result<()> {
    match command {
        RetentionCommand::List { api } => {
            let policies = api.client()?.list_retention().await?;
            print(&api, &policies, || policies.iter().for_each(print_policy))
        }
        RetentionCommand::Set(args) => set(args).await,
        RetentionCommand::Holds { api, tenant } => {
            let filter = LegalHoldFilter {
                tenant_id: tenant,
                ..LegalHoldFilter::default()
            };
            let page = api.client()?.list_legal_holds(&filter).await?;
            print(&api, &page, || page.items.iter().for_each(print_hold))
        }
        RetentionCommand::Hold(args) => {
            let place = PlaceLegalHold {
                tenant_id: args.tenant,
                run_id: args.run,
                reason: args.reason,
            };
            let client = args.api.client()?;
            let key = IdempotencyKey::generate();
            let hold = client.place_legal_hold(&place, &key).await?;
            print(&args.api, &hold, || print_hold(&hold))
        }
        RetentionCommand::Lift {
            api,
            hold_id,
            reason,
        } => {
            let lift = LiftLegalHold { reason };
            let key = IdempotencyKey::generate();
            let lifted = api.client()?.lift_legal_hold(hold_id, &lift, &key).await?;
            print(&api, &lifted, || outln!("lifted {}", lifted.hold_id))
        }
    }
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    let (action, keep_days) = match (args.drop_after, args.archive_after) {
        (Some(days), _) => (RetentionAction::Drop, Some(days)),
        (None, Some(days)) => (RetentionAction::Archive, Some(days)),
        (None, None) => (RetentionAction::Keep, None),
    };
    let put = PutRetention {
        action,
        keep_days,
        reason: args.reason,
    };
    let client = args.api.client()?;
    let key = IdempotencyKey::generate();
    let policy = client.put_retention(&args.workflow, &put, &key).await?;
    print(&args.api, &policy, || print_policy(&policy))
}

fn print_policy(policy: &RetentionPolicy) {
    let what = match (policy.action, policy.keep_days) {
        (RetentionAction::Keep, _) => "kept for ever".to_owned(),
        (action, days) => format!(
            "{} after {} days",
            action.as_str(),
            days.unwrap_or_default()
        ),
    };
    let whence = match (&policy.changed_by, &policy.reason) {
        (Some(by), Some(reason)) => format!("  {by}: {reason}"),
        _ => String::new(),
    };
    outln!("{:<14} {what}{whence}", policy.workflow);
}

fn print_hold(hold: &LegalHold) {
    let whom = match hold.run_id {
        Some(run) => format!("run {run}"),
        None => format!("tenant {}", hold.tenant_id),
    };
    let since = hold.since.to_rfc3339_opts(SecondsFormat::Secs, true);
    outln!(
        "{}  {whom}  since {since}  {}: {}",
        hold.hold_id,
        hold.author,
        hold.reason
    );
}

/// Shows a run out of a file of the archive: `tenure run show --archive`.
pub(super) fn show_archived(file: &Path, run_id: Uuid) -> anyhow::Result<()> {
    let found: Option<Value> = archive::find(file, RunId(run_id))
        .with_context(|| format!("cannot read {}", file.display()))?;
    let found = found.with_context(|| format!("{} has no run {run_id}", file.display()))?;
    outln!("{}", serde_json::to_string_pretty(&found)?);
    Ok(())
}
