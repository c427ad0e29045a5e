//! `tenure audit`: what people did, through the API.

use chrono::{DateTime, Utc};
use tenure_client::{AuditLine, AuditQuery};
use uuid::Uuid;

use super::run::{ApiArgs, print, rfc3339};

/// What to do with the audit.
#[derive(Debug, clap::Subcommand)]
pub(super) enum AuditCommand {
    /// List what people did, newest first: when, who, in which role, what, to what, and why; with
    /// --json also how it stood before and after.
    List(ListArgs),
}

/// `tenure audit list`.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// What was done to this run.
    #[arg(long)]
    run: Option<Uuid>,
    /// What was done to this tenant, or to what is its own: runs, subscriptions, invoices, holds.
    #[arg(long)]
    tenant: Option<Uuid>,
    /// By the token of this name.
    #[arg(long)]
    actor: Option<String>,
    /// This verb, such as retry or "set limit".
    #[arg(long)]
    action: Option<String>,
    /// What was done to this: an id, or a name such as a limit's.
    #[arg(long)]
    subject: Option<String>,
    /// At this instant or later, such as 2027-01-31T09:00:00Z.
    #[arg(long)]
    from: Option<DateTime<Utc>>,
    /// Before this instant.
    #[arg(long)]
    to: Option<DateTime<Utc>>,
    /// Lines of a page, at most 200; 50 unless it is given.
    #[arg(long)]
    limit: Option<u32>,
    /// Where the last page ended.
    #[arg(long)]
    cursor: Option<String>,
}

pub(super) async fn run(command: AuditCommand) -> anyhow::Result<()> {
    let AuditCommand::List(args) = command;
    let query = AuditQuery {
        run_id: args.run,
        tenant_id: args.tenant,
        actor: args.actor,
        action: args.action,
        subject: args.subject,
        from: args.from,
        to: args.to,
        cursor: args.cursor,
        limit: args.limit,
    };
    let page = args.api.client()?.list_audit(&query).await?;
    print(&args.api, &page, || {
        for line in &page.items {
            outln!("{}", told(line));
        }
        if let Some(cursor) = &page.next_cursor {
            eprintln!("There may be more: --cursor {cursor}");
        }
    })
}

fn told(line: &AuditLine) -> String {
    let what = match (line.run_id, &line.subject) {
        (Some(run), _) => format!("run {run}"),
        (None, subject) => subject.clone().unwrap_or_default(),
    };
    format!(
        "{}  {} ({})  {}  {what}: {}",
        rfc3339(line.at),
        line.actor,
        line.role,
        line.action,
        line.reason
    )
}
