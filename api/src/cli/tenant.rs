//! `tenure tenant`: what support does to a tenant, through the API.

use chrono::{DateTime, SecondsFormat, Utc};
use tenure_client::{
    AttachPaymentMethod, ChangeLegalEntity, ChangeZone, Debt, DunningExemption, ExemptFromDunning,
    Hold, HoldBlocks, HoldFilter, HoldKind, Holds, IdempotencyKey, LiftExemption, LiftHold,
    NewTenant, PlaceHold, Tenant, TenantFilter,
};
use tenure_workflows::calendar;
use uuid::Uuid;

use super::account::{self, CreditCommand, TaxCommand, UsageCommand};
use super::entitlement::{self, EntitlementsArgs, OverrideCommand};
use super::methods::{self, MethodsCommand};
use super::run::{ApiArgs, print, rfc3339};

/// What to do with tenants.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TenantCommand {
    /// List tenants.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// Text that name, mail address or id must contain; or what the payment provider calls its
        /// customer, its payment method or a charge.
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
    /// Create a tenant.
    Create(CreateArgs),
    /// Give a tenant a payment method in place of the one that is charged first.
    Attach {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The payment method's id at the provider.
        payment_method: String,
    },
    /// Let its days begin in another zone.
    Zone(ZoneArgs),
    /// Let another legal entity issue its invoices.
    LegalEntity(LegalEntityArgs),
    /// What it pays by, in its order: list, add, order, remove.
    #[command(subcommand)]
    Methods(MethodsCommand),
    /// What it has in credit: show, grant.
    #[command(subcommand)]
    Credit(CreditCommand),
    /// The tax on what it is billed: show, set, clear.
    #[command(subcommand)]
    Tax(TaxCommand),
    /// How much it uses of what it has: list, report.
    #[command(subcommand)]
    Usage(UsageCommand),
    /// Holds on a tenant or its subscriptions: list, place, lift.
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Show which features and limits a tenant has now, and why.
    Entitlements(EntitlementsArgs),
    /// What support gives a tenant in place of what it has bought: list, set, clear.
    #[command(subcommand)]
    Override(OverrideCommand),
    /// Show what is owed, by currency, and what comes next.
    Debt {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Exemptions from dunning: list, grant, lift.
    #[command(subcommand)]
    Exempt(ExemptCommand),
}

/// `tenure tenant zone`.
#[derive(Debug, clap::Args)]
pub(super) struct ZoneArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The tenant.
    tenant: Uuid,
    /// IANA zone, such as `America/New_York`.
    zone: String,
    /// Why; kept in the audit. A dry run needs none.
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Only tell the next dates of its subscriptions before and after.
    #[arg(long)]
    dry_run: bool,
}

/// `tenure tenant legal-entity`.
#[derive(Debug, clap::Args)]
pub(super) struct LegalEntityArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The tenant.
    tenant: Uuid,
    /// The legal entity, by its key in the catalogue.
    legal_entity: String,
    /// Why; kept in the audit. A dry run needs none.
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Only tell the number that its next invoice gets there.
    #[arg(long)]
    dry_run: bool,
}

/// `tenure tenant create`.
#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Name of the organisation.
    name: String,
    /// Where its mails go.
    #[arg(long)]
    email: String,
    /// IANA zone in which its days begin.
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// Language of its mails, such as de-AT.
    #[arg(long)]
    locale: Option<String>,
    /// Bind it to a test clock of its own that stands at this instant.
    #[arg(long)]
    test_clock: Option<DateTime<Utc>>,
    /// Who issues its invoices, by the catalogue's key; the catalogue's default otherwise.
    #[arg(long)]
    legal_entity: Option<String>,
}

/// What to do with exemptions.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ExemptCommand {
    /// List the exemptions, newest first, those that are over too.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Spare a tenant the steps and the end of dunning until an instant; attempts go on.
    Grant {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// Until when, in the tenant's time, such as 2027-01-31T09:00:00Z; at most a year ahead.
        #[arg(long)]
        until: DateTime<Utc>,
        /// Of what is owed in this currency; of all otherwise.
        #[arg(long)]
        currency: Option<String>,
        /// Why; kept with it and in the audit.
        #[arg(long)]
        reason: String,
    },
    /// Take an exemption back.
    Lift {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The exemption.
        exemption_id: Uuid,
        /// Why; kept with it and in the audit.
        #[arg(long)]
        reason: String,
    },
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
                    outln!("{}  {}  <{}>", tenant.tenant_id, tenant.name, tenant.email);
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
                    outln!("its test clock stands at {}", rfc3339(now));
                }
            })
        }
        TenantCommand::Create(args) => create(args).await,
        TenantCommand::Attach {
            api,
            tenant,
            payment_method,
        } => {
            let attach = AttachPaymentMethod {
                payment_method,
                position: None,
            };
            let (client, key) = (api.client()?, IdempotencyKey::generate());
            let sent = client.attach_payment_method(tenant, &attach, &key).await?;
            print(&api, &sent, || {
                outln!("sent {} to run {}", sent.signal_id, sent.run_id);
            })
        }
        TenantCommand::Zone(args) => change_zone(args).await,
        TenantCommand::LegalEntity(args) => change_legal_entity(args).await,
        TenantCommand::Methods(command) => methods::run(command).await,
        TenantCommand::Credit(command) => account::credit(command).await,
        TenantCommand::Tax(command) => account::tax(command).await,
        TenantCommand::Usage(command) => account::usage(command).await,
        TenantCommand::Hold(command) => hold(command).await,
        TenantCommand::Entitlements(args) => entitlement::show(args).await,
        TenantCommand::Override(command) => entitlement::run(command).await,
        TenantCommand::Debt { api, tenant } => {
            let debts = api.client()?.list_debts(tenant).await?;
            print(&api, &debts, || debts.iter().for_each(print_debt))
        }
        TenantCommand::Exempt(command) => exempt(command).await,
    }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let new = NewTenant {
        name: args.name,
        email: args.email,
        zone: args.zone,
        locale: args.locale,
        test_clock: args.test_clock,
        legal_entity: args.legal_entity,
    };
    let (client, key) = (args.api.client()?, IdempotencyKey::generate());
    let made = client.create_tenant(&new, &key).await?;
    print(&args.api, &made, || print_detail(&made))
}

async fn change_zone(args: ZoneArgs) -> anyhow::Result<()> {
    let asked = ChangeZone {
        zone: args.zone,
        reason: args.reason,
        dry_run: args.dry_run,
    };
    let (client, key) = (args.api.client()?, IdempotencyKey::generate());
    let told = client.change_zone(args.tenant, &asked, &key).await?;
    let before = calendar::zone(&told.zone_before)?;
    let after = calendar::zone(&told.zone)?;
    print(&args.api, &told, || {
        for line in told.words(&before, &after) {
            outln!("{line}");
        }
        if told.signal_id.is_none() {
            outln!("nothing was done: this was a dry run");
        }
    })
}

async fn change_legal_entity(args: LegalEntityArgs) -> anyhow::Result<()> {
    let asked = ChangeLegalEntity {
        legal_entity: args.legal_entity,
        reason: args.reason,
        dry_run: args.dry_run,
    };
    let (client, key) = (args.api.client()?, IdempotencyKey::generate());
    let told = client
        .change_legal_entity(args.tenant, &asked, &key)
        .await?;
    print(&args.api, &told, || {
        for line in told.words() {
            outln!("{line}");
        }
        if told.dry_run {
            outln!("nothing was done: this was a dry run");
        }
    })
}

async fn exempt(command: ExemptCommand) -> anyhow::Result<()> {
    let key = IdempotencyKey::generate();
    match command {
        ExemptCommand::List { api, tenant } => {
            let all = api.client()?.list_exemptions(tenant).await?;
            print(&api, &all, || all.iter().for_each(print_exemption))
        }
        ExemptCommand::Grant {
            api,
            tenant,
            until,
            currency,
            reason,
        } => {
            let exempt = ExemptFromDunning {
                currency,
                ends_at: until,
                reason,
            };
            let client = api.client()?;
            let granted = client.exempt_from_dunning(tenant, &exempt, &key).await?;
            print(&api, &granted, || print_exemption(&granted))
        }
        ExemptCommand::Lift {
            api,
            tenant,
            exemption_id,
            reason,
        } => {
            let (client, lift) = (api.client()?, LiftExemption { reason });
            let lifted = client
                .lift_exemption(tenant, exemption_id, &lift, &key)
                .await?;
            print(&api, &lifted, || print_exemption(&lifted))
        }
    }
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn print_debt(debt: &Debt) {
    let since = debt
        .since
        .map_or_else(String::new, |at| format!(" since {}", instant(at)));
    outln!(
        "{}  {}  {}{since}",
        debt.currency,
        debt.state.as_str(),
        debt.owed
    );
    for unpaid in &debt.unpaid {
        let (invoice, of) = (unpaid.invoice_id, unpaid.subscription_id);
        outln!("  {}  invoice {invoice}  subscription {of}", unpaid.total);
        if let Some(whom) = &unpaid.waits_for {
            let since = unpaid
                .waits_since
                .map(|at| format!(" since {}", instant(at)));
            outln!("    waits for the {whom}{}", since.unwrap_or_default());
        }
    }
    if let Some(last) = &debt.last_decline {
        outln!(
            "  declined {}  {} ({})",
            instant(last.at),
            last.code,
            last.class
        );
    }
    let coming = [
        ("tried again", debt.next_attempt_at),
        (
            debt.next_step.as_deref().unwrap_or("step"),
            debt.next_step_at,
        ),
        ("ends", debt.ends_at),
    ];
    for (what, at) in coming {
        if let Some(at) = at {
            outln!("  {what} {}", instant(at));
        }
    }
    match (&debt.policy, debt.policy_version) {
        (Some(policy), Some(version)) => outln!("  policy {policy} {version}"),
        _ => outln!("  policy built in"),
    }
    if let Some(exemption) = &debt.exemption {
        out!("  exempt ");
        print_exemption(exemption);
    }
}

fn print_exemption(exemption: &DunningExemption) {
    let of = exemption.currency.as_deref().unwrap_or("all");
    let until = instant(exemption.ends_at);
    let (author, reason) = (&exemption.author, &exemption.reason);
    outln!(
        "{}  {of}  until {until}  {author}: {reason}",
        exemption.exemption_id
    );
    let parts = (
        exemption.lifted_at,
        &exemption.lifted_by,
        &exemption.lift_reason,
    );
    if let (Some(at), Some(by), Some(reason)) = parts {
        outln!("  lifted {}  {by}: {reason}", instant(at));
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
    outln!("service {}", holds.service.as_str());
    holds.holds.iter().for_each(print_hold);
}

fn print_hold(hold: &Hold) {
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
    outln!(
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
        outln!("  lifted {}  {by}: {reason}", instant(at));
    }
}

fn print_detail(tenant: &Tenant) {
    outln!("{}  {}  <{}>", tenant.tenant_id, tenant.name, tenant.email);
    outln!(
        "dates in {}, since {}, on shard {}",
        tenant.zone,
        rfc3339(tenant.created_at),
        tenant.shard_id
    );
    if let Some(legal_entity) = &tenant.legal_entity {
        outln!("legal entity {legal_entity} issues its invoices");
    }
    if let Some(customer) = &tenant.provider_customer_id {
        outln!("the payment provider calls it {customer}");
    }
    match &tenant.default_payment_method {
        Some(card) => outln!(
            "pays with {} {} ({})",
            card.brand,
            card.last4,
            card.provider_id
        ),
        None => outln!("has no payment method"),
    }
    if let Some(error) = &tenant.payment_method_error {
        outln!("the payment method that was given last was refused: {error}");
    }
}
