//! `tenure export`: all that a product keeps of a tenant, through the API.

use chrono::SecondsFormat;
use tenure_client::{DataExport, IdempotencyKey, StartExport};
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// What to do with exports.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ExportCommand {
    /// Put together all that the product keeps of a tenant. Prints the link, this once.
    Start {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// For so many days after it is ready the link works, 1 to 90.
        #[arg(long, default_value_t = 7)]
        link_days: u32,
        /// Why; kept with it.
        #[arg(long)]
        reason: String,
    },
    /// List a tenant's exports, newest first.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Show an export.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The export.
        export_id: Uuid,
    },
}

pub(super) async fn run(command: ExportCommand) -> anyhow::Result<()> {
    match command {
        ExportCommand::Start {
            api,
            tenant,
            link_days,
            reason,
        } => {
            let start = StartExport {
                link_days: Some(link_days),
                reason,
            };
            let client = api.client()?;
            let key = IdempotencyKey::generate();
            let started = client.start_export(tenant, &start, &key).await?;
            print(&api, &started, || {
                print_export(&started.export);
                let link = started.link.as_deref().unwrap_or_default();
                outln!("link, below the API's address, told this once: {link}");
            })
        }
        ExportCommand::List { api, tenant } => {
            let exports = api.client()?.list_exports(tenant).await?;
            print(&api, &exports, || exports.iter().for_each(print_export))
        }
        ExportCommand::Show {
            api,
            tenant,
            export_id,
        } => {
            let export = api.client()?.data_export(tenant, export_id).await?;
            print(&api, &export, || print_export(&export))
        }
    }
}

fn print_export(export: &DataExport) {
    let until = export.expires_at.map_or_else(String::new, |at| {
        format!("  until {}", at.to_rfc3339_opts(SecondsFormat::Secs, true))
    });
    outln!(
        "{}  {}  {} rows  {} bytes{until}  {}: {}",
        export.export_id,
        export.status,
        export.rows,
        export.bytes,
        export.asked_by,
        export.reason
    );
}
