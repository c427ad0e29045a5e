//! `tenure tenant`: what support does to a tenant, through the API.

use chrono::{DateTime, SecondsFormat, Utc};
use tenure_client::{
    Hold, HoldBlocks, HoldFilter, HoldKind, Holds, IdempotencyKey, LiftHold, PlaceHold,
};
use uuid::Uuid;

use super::entitlement::{self, EntitlementsArgs, OverrideCommand};
use super::run::{ApiArgs, print};

/// What to do with tenants.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TenantCommand {
    /// Holds on a tenant or its subscriptions: list, place, lift.
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Show which features and limits a tenant has now, and why.
    Entitlements(EntitlementsArgs),
    /// What support gives a tenant in place of what it has bought: list, set, clear.
    #[command(subcommand)]
    Override(OverrideCommand),
}

/// What to do with holds.
#[derive(Debug, clap::Subcommand)]
pub(super) enum HoldCommand {
    /// List the holds, newest first, and whether service is on.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// On this subscription, its own holds and those on all that is the tenant's.
        #[arg(long)]
        subscription: Option<Uuid>,
        /// Also those that were lifted or have ended.
        #[arg(long)]
        past: bool,
    },
    /// Place a hold.
    Place(PlaceArgs),
    /// Lift a hold that a person placed.
    Lift {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The hold.
        hold_id: Uuid,
        /// Why; kept with it and in the audit.
        #[arg(long)]
        reason: String,
    },
}

/// `tenure tenant hold place`.
#[derive(Debug, clap::Args)]
pub(super) struct PlaceArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The tenant.
    tenant: Uuid,
    /// What it is for: customer-pause, fraud or legal.
    #[arg(long, value_parser = parse_kind)]
    kind: HoldKind,
    /// This subscription only.
    #[arg(long)]
    subscription: Option<Uuid>,
    /// From when on, in the tenant's time, such as 2027-01-31T09:00:00Z; now otherwise.
    #[arg(long)]
    from: Option<DateTime<Utc>>,
    /// Until when; until it is lifted otherwise.
    #[arg(long)]
    until: Option<DateTime<Utc>>,
    /// What it blocks: changes, access, billing, or several; as its kind does otherwise.
    #[arg(long, value_delimiter = ',', value_name = "WHAT")]
    block: Vec<Block>,
    /// Why; kept with it and in the audit.
    #[arg(long)]
    reason: String,
}

/// What can be blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Block {
    /// Plan, quantity and new subscriptions are refused.
    Changes,
    /// The product is shut.
    Access,
    /// Nothing is invoiced.
    Billing,
}

fn parse_kind(text: &str) -> Result<HoldKind, String> {
    match text.replace('-', "_").as_str() {
        "customer_pause" => Ok(HoldKind::CustomerPause),
        "fraud" => Ok(HoldKind::Fraud),
        "legal" => Ok(HoldKind::Legal),
        _ => Err("customer-pause, fraud or legal".to_owned()),
    }
}

pub(super) async fn run(command: TenantCommand) -> anyhow::Result<()> {
    match command {
        TenantCommand::Hold(command) => hold(command).await,
        TenantCommand::Entitlements(args) => entitlement::show(args).await,
        TenantCommand::Override(command) => entitlement::run(command).await,
    }
}

async fn hold(command: HoldCommand) -> anyhow::Result<()> {
    match command {
        HoldCommand::List {
            api,
            tenant,
            subscription,
            past,
        } => {
            let filter = HoldFilter {
                subscription_id: subscription,
                past: past.then_some(true),
            };
            let holds = api.client()?.list_holds(tenant, &filter).await?;
            print(&api, &holds, || print_holds(&holds))
        }
        HoldCommand::Place(args) => place(args).await,
        HoldCommand::Lift {
            api,
            tenant,
            hold_id,
            reason,
        } => {
            let (lift, key) = (LiftHold { reason }, IdempotencyKey::generate());
            let lifted = api
                .client()?
                .lift_hold(tenant, hold_id, &lift, &key)
                .await?;
            print(&api, &lifted, || print_hold(&lifted))
        }
    }
}

async fn place(args: PlaceArgs) -> anyhow::Result<()> {
    let blocks = |what| args.block.contains(&what);
    let named = HoldBlocks {
        changes: blocks(Block::Changes),
        access: blocks(Block::Access),
        billing: blocks(Block::Billing),
    };
    let place = PlaceHold {
        kind: args.kind,
        subscription_id: args.subscription,
        starts_at: args.from,
        ends_at: args.until,
        blocks: (!args.block.is_empty()).then_some(named),
        reason: args.reason,
    };
    let (client, key) = (args.api.client()?, IdempotencyKey::generate());
    let placed = client.place_hold(args.tenant, &place, &key).await?;
    print(&args.api, &placed, || print_hold(&placed))
}

fn print_holds(holds: &Holds) {
    println!("service {}", holds.service.as_str());
    holds.holds.iter().for_each(print_hold);
}

fn print_hold(hold: &Hold) {
    let instant = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let whom = hold
        .subscription_id
        .map_or_else(|| "all".to_owned(), |id| format!("subscription {id}"));
    let blocked = [
        (hold.blocks.changes, "changes"),
        (hold.blocks.access, "access"),
        (hold.blocks.billing, "billing"),
    ];
    let blocked: Vec<&str> = blocked
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, name)| *name)
        .collect();
    let until = hold
        .ends_at
        .map_or_else(String::new, |at| format!(" until {}", instant(at)));
    println!(
        "{}  {}  {whom}  blocks {}  from {}{until}  {}: {}",
        hold.hold_id,
        hold.kind.as_str(),
        blocked.join(", "),
        instant(hold.starts_at),
        hold.author,
        hold.reason
    );
    if let (Some(at), Some(by), Some(reason)) = (hold.lifted_at, &hold.lifted_by, &hold.lift_reason)
    {
        println!("  lifted {}  {by}: {reason}", instant(at));
    }
}
