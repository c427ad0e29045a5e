//! `tenure catalog`: the catalogue as a file, checked here or published through the API.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use tenure_client::{
    CatalogChange, CatalogEntry, CatalogPublished, IdempotencyKey, Plan, PublishCatalog,
};
use tenure_workflows::catalog;
use toml_edit::{DocumentMut, Item};

use super::run::{ApiArgs, print};

/// What to do with the catalogue.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CatalogCommand {
    /// Check a file, and name the first place that is wrong. Asks no server.
    Check {
        /// The catalogue: JSON, or TOML if it is called .toml.
        file: PathBuf,
    },
    /// Publish a file: what differs from its current version becomes a new one.
    Load {
        #[command(flatten)]
        api: ApiArgs,
        /// The catalogue: JSON, or TOML if it is called .toml.
        file: PathBuf,
        /// Only tell what would become of it.
        #[arg(long)]
        dry_run: bool,
        /// Why; kept in the audit. Only a dry run needs none.
        #[arg(long, required_unless_present = "dry_run")]
        reason: Option<String>,
    },
    /// List the plans that can be subscribed to, with their prices; all versions of one if it is named.
    Plans {
        #[command(flatten)]
        api: ApiArgs,
        /// The plan.
        plan: Option<String>,
    },
    /// Show the current version of every plan, add-on, coupon and legal entity.
    Show {
        #[command(flatten)]
        api: ApiArgs,
    },
}

pub(super) async fn run(command: CatalogCommand) -> anyhow::Result<()> {
    match command {
        CatalogCommand::Check { file } => {
            let entries = catalog::from_value(read(&file)?)
                .with_context(|| format!("{} is no catalogue", file.display()))?;
            outln!("{} entries, all well formed", entries.len());
            Ok(())
        }
        CatalogCommand::Plans { api, plan } => {
            let client = api.client()?;
            let plans = match plan {
                Some(plan) => client.list_plan_versions(&plan).await?,
                None => client.list_plans().await?,
            };
            print(&api, &plans, || plans.iter().for_each(print_plan))
        }
        CatalogCommand::Load {
            api,
            file,
            dry_run,
            reason,
        } => {
            let sent = read(&file)?;
            // Told here, before a server is asked, and with the file's name.
            catalog::from_value(sent.clone())
                .with_context(|| format!("{} is no catalogue", file.display()))?;
            let publish = PublishCatalog {
                dry_run: dry_run.then_some(true),
                reason,
            };
            let key = IdempotencyKey::generate();
            let client = api.client()?;
            let published = client.publish_catalog(&sent, &publish, &key).await?;
            print(&api, &published, || print_published(&published))
        }
        CatalogCommand::Show { api } => {
            let entries = api.client()?.list_catalog().await?;
            print(&api, &entries, || entries.iter().for_each(print_entry))
        }
    }
}

/// Reads a file as JSON would say it.
fn read(file: &Path) -> anyhow::Result<Value> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let is_toml = file
        .extension()
        .is_some_and(|extension| extension == "toml");
    let value = if is_toml {
        let document: Result<DocumentMut, _> = text.parse();
        document
            .map_err(anyhow::Error::new)
            .map(|document| from_toml(document.as_item()))
    } else {
        serde_json::from_str(&text).map_err(anyhow::Error::new)
    };
    value.with_context(|| format!("{} cannot be read", file.display()))
}

/// What TOML says, as JSON would; a date is a text.
fn from_toml(item: &Item) -> Value {
    if let Some(table) = item.as_table_like() {
        let fields = table.iter();
        return fields
            .map(|(key, item)| (key.to_owned(), from_toml(item)))
            .collect();
    }
    if let Some(tables) = item.as_array_of_tables() {
        let tables = tables.iter().cloned();
        return tables.map(|table| from_toml(&Item::Table(table))).collect();
    }
    let Some(value) = item.as_value() else {
        return Value::Null;
    };
    match value {
        toml_edit::Value::String(text) => Value::from(text.value().as_str()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::from(*number.value()),
        toml_edit::Value::Boolean(answer) => Value::from(*answer.value()),
        toml_edit::Value::Datetime(date) => Value::from(date.value().to_string()),
        toml_edit::Value::Array(values) => values
            .iter()
            .map(|value| from_toml(&Item::Value(value.clone())))
            .collect(),
        toml_edit::Value::InlineTable(_) => Value::Null,
    }
}

fn print_published(published: &CatalogPublished) {
    published.entries.iter().for_each(print_change);
    let new = published.entries.iter().filter(|entry| entry.new).count();
    if published.dry_run {
        outln!("{new} new versions would be published; this was a dry run");
    } else {
        outln!("{new} new versions published");
    }
}

fn print_change(entry: &CatalogChange) {
    let CatalogChange {
        kind, key, version, ..
    } = entry;
    let what = match (entry.new, entry.changed.is_empty()) {
        (false, _) => "as it was".to_owned(),
        (true, true) => "new".to_owned(),
        (true, false) => format!("new version: {}", entry.changed.join(", ")),
    };
    let retired = if entry.retired { "  retired" } else { "" };
    outln!("{kind:<7} {key}  {version}{retired}  {what}");
}

fn print_entry(entry: &CatalogEntry) {
    let retired = if entry.retired { "  retired" } else { "" };
    let name = entry.terms["name"].as_str().unwrap_or_default();
    let prices = entry.terms["prices"].as_object();
    let prices: Vec<String> = prices
        .into_iter()
        .flatten()
        .map(|(currency, amount)| format!("{} {currency}", amount.as_str().unwrap_or_default()))
        .collect();
    let (kind, key, version) = (&entry.kind, &entry.key, entry.version);
    let prices = match entry.terms["prefix"].as_str() {
        Some(prefix) => format!("numbers begin with {prefix}"),
        None => prices.join(", "),
    };
    outln!("{kind:<7} {key}  {version}{retired}  {name}  {prices}");
}

fn print_plan(plan: &Plan) {
    let prices: Vec<String> = plan.prices.iter().map(ToString::to_string).collect();
    let retired = if plan.retired { "  retired" } else { "" };
    outln!(
        "{}  {}  {}  a {}  version {}{retired}",
        plan.plan,
        plan.name,
        prices.join(" or "),
        plan.interval,
        plan.version
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_says_what_json_says() {
        let toml = r#"
            [plans.team]
            name = "Team"
            interval = "month"
            periods = 3
            prices = { EUR = "49.00" }
            add_ons = ["storage"]
            features = { sso = true }
            [coupons.five]
            name = "5 off"
            duration = "once"
            redeem_by = 2027-12-31
            off.amount.EUR = "5.00"
        "#;
        let document: DocumentMut = toml.parse().unwrap();
        let json = serde_json::json!({
            "plans": {"team": {"name": "Team", "interval": "month", "periods": 3,
                "prices": {"EUR": "49.00"}, "add_ons": ["storage"], "features": {"sso": true}}},
            "coupons": {"five": {"name": "5 off", "duration": "once", "redeem_by": "2027-12-31",
                "off": {"amount": {"EUR": "5.00"}}}}
        });
        assert_eq!(from_toml(document.as_item()), json);
    }
}
