//! `tenure tenant credit`, `tax`, `usage`: a tenant's money and what it uses.

use rust_decimal::Decimal;
use tenure_client::{
    ChangeTax, Credit, CreditPays, GrantCredit, IdempotencyKey, Money, ReportUsage, TaxRate, Usage,
};
use uuid::Uuid;

use super::run::{ApiArgs, print, rfc3339};

/// What to do with a tenant's credit.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CreditCommand {
    /// Show what it has in credit, and how that came about.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Grant it credit: its next invoices are paid with it first.
    Grant {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// How much, such as 12.50.
        amount: Decimal,
        /// In which currency, such as EUR.
        currency: String,
        /// Why; kept with it and in the audit.
        #[arg(long)]
        reason: String,
        /// Only tell what it would come to.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What to do with the tax on what a tenant is billed.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TaxCommand {
    /// Show it.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Set it, for what is billed from now on.
    Set {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// Its name, for invoices, such as VAT.
        name: String,
        /// In per cent, such as 19.
        percent: Decimal,
        /// Prices hold it already.
        #[arg(long)]
        inclusive: bool,
        #[command(flatten)]
        decision: TaxDecision,
    },
    /// Take it away; what was billed stays.
    Clear {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        #[command(flatten)]
        decision: TaxDecision,
    },
}

/// What every change of a tax says.
#[derive(Debug, clap::Args)]
pub(super) struct TaxDecision {
    /// Why; kept in the audit. A dry run needs none.
    #[arg(long)]
    reason: Option<String>,
    /// Only tell what it would come to.
    #[arg(long)]
    dry_run: bool,
}

/// What to do with what a tenant uses.
#[derive(Debug, clap::Subcommand)]
pub(super) enum UsageCommand {
    /// List what it uses, as it was reported, and what it has of it.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Report how much of a feature it uses now.
    Report {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The feature.
        feature: String,
        /// How much, in all.
        level: u64,
    },
}

pub(super) async fn credit(command: CreditCommand) -> anyhow::Result<()> {
    match command {
        CreditCommand::Show { api, tenant } => {
            let credit = api.client()?.credit(tenant).await?;
            print(&api, &credit, || print_credit(&credit))
        }
        CreditCommand::Grant {
            api,
            tenant,
            amount,
            currency,
            reason,
            dry_run,
        } => {
            let amount = Money { amount, currency };
            let grant = GrantCredit {
                amount,
                reason,
                dry_run,
            };
            let key = IdempotencyKey::generate();
            let credit = api.client()?.grant_credit(tenant, &grant, &key).await?;
            print(&api, &credit, || {
                print_credit(&credit);
                if dry_run {
                    outln!("nothing was done: this was a dry run");
                }
            })
        }
    }
}

fn print_credit(credit: &Credit) {
    if credit.balances.is_empty() {
        outln!("no credit");
    }
    for balance in &credit.balances {
        outln!("{balance} {}", Credit::words(balance));
    }
    for CreditPays { invoice_id, amount } in &credit.pays {
        outln!("{amount} of it pays invoice {invoice_id}");
    }
    for entry in &credit.entries {
        let note = entry.note.as_deref().unwrap_or_default();
        outln!(
            "{}  {}  {}  {}: {note}",
            rfc3339(entry.created_at),
            entry.amount,
            entry.reason,
            entry.author
        );
    }
}

pub(super) async fn tax(command: TaxCommand) -> anyhow::Result<()> {
    match command {
        TaxCommand::Show { api, tenant } => {
            let tax = api.client()?.tax(tenant).await?;
            print(&api, &tax, || match &tax {
                None => outln!("no tax"),
                Some(rate) => outln!("{rate}"),
            })
        }
        TaxCommand::Set {
            api,
            tenant,
            name,
            percent,
            inclusive,
            decision,
        } => {
            let rate = TaxRate {
                name,
                percent,
                inclusive,
            };
            change_tax(&api, tenant, Some(rate), decision).await
        }
        TaxCommand::Clear {
            api,
            tenant,
            decision,
        } => change_tax(&api, tenant, None, decision).await,
    }
}

async fn change_tax(
    api: &ApiArgs,
    tenant: Uuid,
    tax: Option<TaxRate>,
    decision: TaxDecision,
) -> anyhow::Result<()> {
    let asked = ChangeTax {
        tax,
        reason: decision.reason,
        dry_run: decision.dry_run,
    };
    let (client, key) = (api.client()?, IdempotencyKey::generate());
    let told = client.change_tax(tenant, &asked, &key).await?;
    print(api, &told, || {
        for line in told.words() {
            outln!("{line}");
        }
        if told.dry_run {
            outln!("nothing was done: this was a dry run");
        }
    })
}

pub(super) async fn usage(command: UsageCommand) -> anyhow::Result<()> {
    match command {
        UsageCommand::List { api, tenant } => {
            let all = api.client()?.list_usage(tenant).await?;
            print(&api, &all, || all.iter().for_each(print_usage))
        }
        UsageCommand::Report {
            api,
            tenant,
            feature,
            level,
        } => {
            let (report, key) = (ReportUsage { level }, IdempotencyKey::generate());
            let client = api.client()?;
            let used = client.report_usage(tenant, &feature, &report, &key).await?;
            print(&api, &used, || print_usage(&used))
        }
    }
}

fn print_usage(used: &Usage) {
    let limit = match (used.limit, used.percent) {
        (Some(limit), Some(percent)) => format!(" of {limit} ({percent} %)"),
        (Some(limit), None) => format!(" of {limit}"),
        _ => String::new(),
    };
    let told = used
        .told_percent
        .map_or_else(String::new, |told| format!("  told at {told} %"));
    outln!(
        "{}  {}{limit}  as of {}{told}",
        used.feature,
        used.level,
        rfc3339(used.reported_at)
    );
}
