//! `tenure tenant entitlements` and `tenure tenant override`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use tenure_client::{
    ClearOverride, EntitlementOverride, Entitlements, IdempotencyKey, SetOverride,
};
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// `tenure tenant entitlements`.
#[derive(Debug, clap::Args)]
pub(super) struct EntitlementsArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The tenant.
    tenant: Uuid,
    /// This feature only; one that nothing names is not refused.
    feature: Option<String>,
}

/// What to do with overrides.
#[derive(Debug, clap::Subcommand)]
pub(super) enum OverrideCommand {
    /// List the overrides, also those that have expired.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Give the tenant a value of a feature in place of what it has bought.
    Set {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The feature.
        feature: String,
        /// true, false, a whole number, or a text.
        value: String,
        /// Until when it counts, in the tenant's time; until it is cleared otherwise.
        #[arg(long)]
        until: Option<DateTime<Utc>>,
        /// Why; kept with it and in the audit.
        #[arg(long)]
        reason: String,
    },
    /// Take an override away: what the tenant has bought counts again.
    Clear {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// The feature.
        feature: String,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
}

pub(super) async fn show(args: EntitlementsArgs) -> anyhow::Result<()> {
    if let Some(feature) = &args.feature {
        let client = args.api.client()?;
        let one = client.entitlement(args.tenant, feature).await?;
        return print(&args.api, &one, || {
            let has = &one.entitlement;
            outln!("{}  {}  {}", one.feature, has.value, has.because());
        });
    }
    let entitled = args.api.client()?.entitlements(args.tenant).await?;
    print(&args.api, &entitled, || print_entitlements(&entitled))
}

pub(super) async fn run(command: OverrideCommand) -> anyhow::Result<()> {
    match command {
        OverrideCommand::List { api, tenant } => {
            let found = api.client()?.list_overrides(tenant).await?;
            print(&api, &found, || found.iter().for_each(print_override))
        }
        OverrideCommand::Set {
            api,
            tenant,
            feature,
            value,
            until,
            reason,
        } => {
            let set = SetOverride {
                value: parse_value(&value),
                expires_at: until,
                reason,
            };
            let (client, key) = (api.client()?, IdempotencyKey::generate());
            let done = client.set_override(tenant, &feature, &set, &key).await?;
            print(&api, &done, || print_override(&done))
        }
        OverrideCommand::Clear {
            api,
            tenant,
            feature,
            reason,
        } => {
            let (clear, key) = (ClearOverride { reason }, IdempotencyKey::generate());
            let client = api.client()?;
            let done = client
                .clear_override(tenant, &feature, &clear, &key)
                .await?;
            print(&api, &done, || outln!("cleared {}", done.feature))
        }
    }
}

/// A switch or a number where it reads as one, otherwise a text.
fn parse_value(text: &str) -> Value {
    match (text.parse::<bool>(), text.parse::<u64>()) {
        (Ok(on), _) => Value::from(on),
        (_, Ok(number)) => Value::from(number),
        _ => Value::from(text),
    }
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn print_entitlements(entitled: &Entitlements) {
    for (feature, one) in &entitled.features {
        outln!("{feature}  {}  {}", one.value, one.because());
    }
    match entitled.valid_until {
        Some(until) => outln!("until {}", instant(until)),
        None => outln!("until somebody acts"),
    }
}

fn print_override(one: &EntitlementOverride) {
    let until = one
        .expires_at
        .map_or_else(String::new, |at| format!("  until {}", instant(at)));
    let (feature, value, author, reason) = (&one.feature, &one.value, &one.author, &one.reason);
    outln!("{feature}  {value}{until}  {author}: {reason}");
}
