//! `tenure dunning-policy`: dunning as data. `check` asks no server; the rest goes through the API.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::SecondsFormat;
use serde_json::Value;
use tenure_client::{
    AssignDunningPolicy, DunningAssignment, DunningPolicy, DunningPolicyFilter, DunningScope,
    IdempotencyKey, LoadDunningPolicy,
};
use tenure_workflows::dunning::policy::Policy;
use toml_edit::{DocumentMut, Item, Value as Toml};
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// What to do with dunning policies.
#[derive(Debug, clap::Subcommand)]
pub(super) enum PolicyCommand {
    /// Check a file without loading it; an error names its place.
    Check {
        /// The policy, as TOML or, if it ends in .json, as JSON.
        file: PathBuf,
    },
    /// Load a file as the next version of a policy.
    Load {
        #[command(flatten)]
        api: ApiArgs,
        /// The policy's key.
        policy: String,
        /// The policy, as TOML or, if it ends in .json, as JSON.
        file: PathBuf,
        /// Why; kept with it and in the audit.
        #[arg(long)]
        reason: String,
    },
    /// List the policies that were loaded, in their newest version, and who goes by which.
    List {
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Print a policy; the one that is built in when none is named.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The policy's key.
        policy: Option<String>,
        /// This version instead of the newest.
        #[arg(long = "policy-version")]
        policy_version: Option<i32>,
    },
    /// Say who goes by a policy.
    Assign(AssignArgs),
}

/// `tenure dunning-policy assign`.
#[derive(Debug, clap::Args)]
#[group(id = "whom", required = true, multiple = false, args = ["default", "plan", "tenant"])]
pub(super) struct AssignArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The policy's key; nothing takes the assignment away.
    policy: Option<String>,
    /// Whoever no other assignment names.
    #[arg(long)]
    default: bool,
    /// Debts whose oldest unpaid invoice is for this plan.
    #[arg(long)]
    plan: Option<String>,
    /// This tenant.
    #[arg(long)]
    tenant: Option<Uuid>,
    /// Why; kept with it and in the audit.
    #[arg(long)]
    reason: String,
}

pub(super) async fn run(command: PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Check { file } => {
            check(&file)?;
            outln!("{} fits", file.display());
            Ok(())
        }
        PolicyCommand::Load {
            api,
            policy,
            file,
            reason,
        } => {
            let document = check(&file)?;
            let load = LoadDunningPolicy { document, reason };
            let (client, key) = (api.client()?, IdempotencyKey::generate());
            let loaded = client.load_dunning_policy(&policy, &load, &key).await?;
            print(&api, &loaded, || print_policy(&loaded))
        }
        PolicyCommand::List { api } => list(&api).await,
        PolicyCommand::Show {
            api,
            policy,
            policy_version,
        } => show(&api, policy, policy_version).await,
        PolicyCommand::Assign(args) => assign(args).await,
    }
}

async fn list(api: &ApiArgs) -> anyhow::Result<()> {
    let client = api.client()?;
    let mut policies = client
        .list_dunning_policies(&DunningPolicyFilter::default())
        .await?;
    // Newest versions come first.
    policies.dedup_by(|later, first| later.policy == first.policy);
    let assignments = client.list_dunning_assignments().await?;
    let both = serde_json::json!({ "policies": policies, "assignments": assignments });
    print(api, &both, || {
        policies.iter().for_each(print_policy);
        assignments.iter().for_each(print_assignment);
    })
}

async fn show(api: &ApiArgs, policy: Option<String>, version: Option<i32>) -> anyhow::Result<()> {
    let Some(name) = policy else {
        let built_in = serde_json::to_value(Policy::built_in())?;
        outln!("{}", serde_json::to_string_pretty(&built_in)?);
        return Ok(());
    };
    let filter = DunningPolicyFilter {
        policy: Some(name.clone()),
    };
    let versions = api.client()?.list_dunning_policies(&filter).await?;
    let wanted = |row: &DunningPolicy| version.is_none_or(|version| row.version == version);
    let Some(found) = versions.into_iter().find(wanted) else {
        bail!("policy {name} has no such version");
    };
    let document = serde_json::to_string_pretty(&found.document)?;
    print(api, &found, || outln!("{document}"))
}

async fn assign(args: AssignArgs) -> anyhow::Result<()> {
    let (scope, subject) = match (args.plan, args.tenant) {
        (Some(plan), _) => (DunningScope::Plan, plan),
        (None, Some(tenant)) => (DunningScope::Tenant, tenant.to_string()),
        (None, None) => (DunningScope::Default, String::new()),
    };
    let assign = AssignDunningPolicy {
        scope,
        subject,
        policy: args.policy,
        reason: args.reason,
    };
    let (client, key) = (args.api.client()?, IdempotencyKey::generate());
    let all = client.assign_dunning_policy(&assign, &key).await?;
    print(&args.api, &all, || all.iter().for_each(print_assignment))
}

/// Reads a policy's file and checks it.
fn check(file: &Path) -> anyhow::Result<Value> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let within = || file.display().to_string();
    let document = if file.extension().is_some_and(|is| is == "json") {
        serde_json::from_str(&text).with_context(within)?
    } else {
        from_toml(&text).with_context(within)?
    };
    Policy::parse(document)
        .and_then(|policy| {
            serde_json::to_value(policy).map_err(|error| tenure_workflows::DoorError::BadPolicy {
                place: String::new(),
                detail: error.to_string(),
            })
        })
        .with_context(within)
}

/// Reads TOML as the JSON that means the same.
fn from_toml(text: &str) -> anyhow::Result<Value> {
    let document: DocumentMut = text.parse()?;
    item(document.as_item())
}

fn item(item: &Item) -> anyhow::Result<Value> {
    match item {
        Item::None => Ok(Value::Null),
        Item::Value(one) => value(one),
        Item::Table(table) => table
            .iter()
            .map(|(key, one)| Ok((key.to_owned(), self::item(one)?)))
            .collect::<anyhow::Result<serde_json::Map<_, _>>>()
            .map(Value::Object),
        Item::ArrayOfTables(tables) => tables
            .iter()
            .map(|table| self::item(&Item::Table(table.clone())))
            .collect(),
    }
}

fn value(one: &Toml) -> anyhow::Result<Value> {
    Ok(match one {
        Toml::String(text) => Value::from(text.value().as_str()),
        Toml::Integer(number) => Value::from(*number.value()),
        Toml::Float(number) => Value::from(*number.value()),
        Toml::Boolean(is) => Value::from(*is.value()),
        Toml::Datetime(at) => bail!("{} is a date; a policy has none", at.value()),
        Toml::Array(array) => array.iter().map(value).collect::<anyhow::Result<_>>()?,
        Toml::InlineTable(table) => table
            .iter()
            .map(|(key, one)| Ok((key.to_owned(), value(one)?)))
            .collect::<anyhow::Result<serde_json::Map<_, _>>>()
            .map(Value::Object)?,
    })
}

fn print_policy(policy: &DunningPolicy) {
    let at = policy.loaded_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    outln!(
        "{} {}  loaded {at}  {}: {}",
        policy.policy,
        policy.version,
        policy.author,
        policy.reason
    );
}

fn print_assignment(one: &DunningAssignment) {
    outln!(
        "{} {} goes by {}  {}: {}",
        one.scope.as_str(),
        one.subject,
        one.policy,
        one.author,
        one.reason
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_mean_the_same() {
        let toml = r#"
            jitter_minutes = 30
            [ladders.soft]
            days = [1, 3]
            [[steps]]
            name = "grace"
            day = 2
            action = "grace"
            when = { amount_at_least = { EUR = "10.00" } }
            [end]
            day = 9
            action = "leave"
        "#;
        let json = serde_json::json!({
            "jitter_minutes": 30,
            "ladders": { "soft": { "days": [1, 3] } },
            "steps": [{ "name": "grace", "day": 2, "action": "grace",
                "when": { "amount_at_least": { "EUR": "10.00" } } }],
            "end": { "day": 9, "action": "leave" },
        });
        assert_eq!(from_toml(toml).unwrap(), json);
        assert!(Policy::parse(json).is_ok());
    }
}
