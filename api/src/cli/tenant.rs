//! `tenure tenant`: the paying organisations for scripts, through the API.

use tenure_client::{Tenant, TenantFilter};
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// What to do with tenants.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TenantCommand {
    /// List tenants.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// Text that name, mail address or id must contain.
        #[arg(long)]
        q: Option<String>,
        /// Where the last page ended.
        #[arg(long)]
        cursor: Option<String>,
        /// Tenants per page, at most 200.
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Show a tenant: its zone, its clock, how it pays.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant_id: Uuid,
    },
}

pub(super) async fn run(command: TenantCommand) -> anyhow::Result<()> {
    match command {
        TenantCommand::List {
            api,
            q,
            cursor,
            limit,
        } => {
            let filter = TenantFilter { q, cursor, limit };
            let page = api.client()?.list_tenants(&filter).await?;
            print(&api, &page, || {
                for tenant in &page.items {
                    println!("{}  {}  <{}>", tenant.tenant_id, tenant.name, tenant.email);
                }
                if let Some(cursor) = &page.next_cursor {
                    eprintln!("There may be more: --cursor {cursor}");
                }
            })
        }
        TenantCommand::Show { api, tenant_id } => {
            let client = api.client()?;
            let tenant = client.tenant(tenant_id).await?;
            let clock = match tenant.test_clock_id {
                Some(clock) if !api.is_json() => Some(client.test_clock(clock).await?.now),
                _ => None,
            };
            print(&api, &tenant, || {
                print_detail(&tenant);
                if let Some(now) = clock {
                    println!("its test clock stands at {}", super::run::rfc3339(now));
                }
            })
        }
    }
}

fn print_detail(tenant: &Tenant) {
    println!("{}  {}  <{}>", tenant.tenant_id, tenant.name, tenant.email);
    println!(
        "dates in {}, since {}, on shard {}",
        tenant.zone,
        super::run::rfc3339(tenant.created_at),
        tenant.shard_id
    );
    match &tenant.default_payment_method {
        Some(card) => println!(
            "pays with {} {} ({})",
            card.brand, card.last4, card.provider_id
        ),
        None => println!("has no payment method"),
    }
    if let Some(error) = &tenant.payment_method_error {
        println!("the payment method that was given last was refused: {error}");
    }
}
