//! `tenure deletion`: the deletion of a tenant, through the API.

use chrono::SecondsFormat;
use tenure_client::{
    Deletion, DeletionAct, DeletionFilter, DeletionStep, IdempotencyKey, RequestDeletion,
};
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// What to do with deletions.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DeletionCommand {
    /// Tell what a deletion would do, table by table, and what stands in its way. Changes nothing.
    Preview {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Ask for the deletion of a tenant; a second person approves it.
    Request {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// How long it can be taken back after it was approved, in days.
        #[arg(long, default_value_t = 14)]
        cooling_off_days: i32,
        /// How long backups are kept, in days.
        #[arg(long, default_value_t = 35)]
        backup_days: i32,
        /// Let the tenant take an export along, whose link works for so many days.
        #[arg(long, value_name = "DAYS")]
        export_link_days: Option<u32>,
        /// Why; kept with it and in the audit.
        #[arg(long)]
        reason: String,
    },
    /// List deletions, newest first.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// Of this tenant.
        #[arg(long)]
        tenant: Option<Uuid>,
    },
    /// Show a deletion with its steps.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The deletion.
        deletion: Uuid,
    },
    /// Approve a deletion that somebody else asked for.
    Approve(ActArgs),
    /// Take a deletion back, before the point of no return.
    Cancel(ActArgs),
    /// Let a deletion go on that failed or is held.
    Retry(ActArgs),
    /// Accept what was found after erasing.
    Accept(ActArgs),
    /// Print the signed certificate.
    Certificate {
        #[command(flatten)]
        api: ApiArgs,
        /// The deletion.
        deletion: Uuid,
    },
}

/// An act on a deletion.
#[derive(Debug, clap::Args)]
pub(super) struct ActArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The deletion.
    deletion: Uuid,
    /// Why; kept in the chain and in the audit.
    #[arg(long)]
    reason: String,
}

pub(super) async fn run(command: DeletionCommand) -> anyhow::Result<()> {
    match command {
        DeletionCommand::Preview { api, tenant } => preview(&api, tenant).await,
        DeletionCommand::Request {
            api,
            tenant,
            cooling_off_days,
            backup_days,
            export_link_days,
            reason,
        } => {
            let request = RequestDeletion {
                tenant_id: tenant,
                cooling_off_days,
                backup_days,
                export_link_days,
                reason,
            };
            let (client, key) = (api.client()?, IdempotencyKey::generate());
            let made = client.request_deletion(&request, &key).await?;
            print(&api, &made, || {
                print_deletion(&made);
                if let Some(link) = &made.export_link {
                    outln!("the export's link, told this once: {link}");
                }
            })
        }
        DeletionCommand::List { api, tenant } => list(&api, tenant).await,
        DeletionCommand::Show { api, deletion } => {
            let found = api.client()?.deletion(deletion).await?;
            print(&api, &found, || {
                print_deletion(&found.deletion);
                found.steps.iter().for_each(print_step);
            })
        }
        DeletionCommand::Approve(args) => act(args, "approve").await,
        DeletionCommand::Cancel(args) => act(args, "cancel").await,
        DeletionCommand::Retry(args) => act(args, "retry").await,
        DeletionCommand::Accept(args) => act(args, "accept").await,
        DeletionCommand::Certificate { api, deletion } => {
            let certificate = api.client()?.deletion_certificate(deletion).await?;
            outln!("{}", serde_json::to_string_pretty(&certificate)?);
            Ok(())
        }
    }
}

async fn preview(api: &ApiArgs, tenant: Uuid) -> anyhow::Result<()> {
    let found = api.client()?.preview_deletion(tenant).await?;
    print(api, &found, || {
        found.steps.iter().for_each(print_step);
        outln!("{} live runs would be ended", found.live_runs);
        for obstacle in &found.obstacles {
            outln!("in the way: {obstacle}");
        }
    })
}

async fn list(api: &ApiArgs, tenant: Option<Uuid>) -> anyhow::Result<()> {
    let client = api.client()?;
    let mut filter = DeletionFilter {
        tenant_id: tenant,
        ..DeletionFilter::default()
    };
    let mut all = Vec::new();
    loop {
        let page = client.list_deletions(&filter).await?;
        all.extend(page.items);
        match page.next_cursor {
            Some(next) => filter.cursor = Some(next),
            None => break,
        }
    }
    print(api, &all, || all.iter().for_each(print_deletion))
}

async fn act(args: ActArgs, verb: &str) -> anyhow::Result<()> {
    let act = DeletionAct {
        reason: args.reason,
    };
    let (client, key) = (args.api.client()?, IdempotencyKey::generate());
    let seen = client
        .act_on_deletion(args.deletion, verb, &act, &key)
        .await?;
    print(&args.api, &seen, || print_deletion(&seen))
}

fn print_deletion(deletion: &Deletion) {
    let due = deletion.due_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    outln!(
        "{}  tenant {}  {}  due {due}  {}",
        deletion.deletion_id,
        deletion.tenant_id,
        deletion.state,
        deletion.detail.as_deref().unwrap_or_default()
    );
}

fn print_step(step: &DeletionStep) {
    let basis = step.basis.as_deref().unwrap_or_default();
    outln!(
        "{:<8} {:<24} {:<9} {:>9} erased {:>7} masked {:>7} kept  {basis}",
        step.realm,
        step.name,
        step.action,
        step.rows,
        step.masked,
        step.kept
    );
}
