//! `tenure data-map`: drafted from a product's database, and held against it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tenure_client::{IdempotencyKey, LoadDataMap};
use tenure_workflows::data_map::{self, Finding, Model, Snapshot};

use super::run::{ApiArgs, print};

/// Told apart from errors (1) and a command line that makes no sense (2).
const FINDINGS: u8 = 3;

/// What to do with a data map.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DataMapCommand {
    /// Draft a map from a product's database and print it. Reads the catalog only.
    Draft {
        #[command(flatten)]
        product: ProductArgs,
        /// How tenants are kept apart: `shared`, by a column and row-level security; `schema`, each
        /// in a schema of its own; `database`, each in a database of its own.
        #[arg(long, default_value = "shared", value_parser = ["shared", "schema", "database"])]
        model: String,
        /// The column that names a row's tenant; found by its name when it is left out.
        #[arg(long)]
        tenant_column: Option<String>,
    },
    /// Hold a map against a product's database. Reads the catalog only. Ends with 0 if all is well,
    /// 3 if there are findings, 1 if it could not be told. Keys that no index leads to are told, too,
    /// and fail nothing.
    Check {
        /// The map.
        file: PathBuf,
        #[command(flatten)]
        product: ProductArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Load a map through the API, as the newest version of a source's: what jobs go by that begin
    /// from then on. Refused if it does not say what the source's database holds.
    Load {
        #[command(flatten)]
        api: ApiArgs,
        /// The map.
        file: PathBuf,
        /// The product's database, by its name in the server's configuration.
        #[arg(long)]
        source: String,
        /// Do not hold it against the database, where each tenant has one of its own beside the
        /// source's.
        #[arg(long)]
        unchecked: bool,
    },
}

/// The product's own database, which need not be Tenure's.
#[derive(Debug, clap::Args)]
pub(super) struct ProductArgs {
    /// URL of the product's database, as `postgres://user:password@host/database`.
    #[arg(
        long = "database",
        value_name = "URL",
        env = "TENURE_PRODUCT_DATABASE_URL",
        hide_env_values = true
    )]
    product_database: Option<String>,
    /// A file that holds the URL instead.
    #[arg(
        long = "database-file",
        value_name = "FILE",
        env = "TENURE_PRODUCT_DATABASE_URL_FILE",
        conflicts_with = "product_database"
    )]
    product_database_file: Option<PathBuf>,
    /// A schema; may be given several times. A draft takes `public` when none is given, a check
    /// those of its map. With one schema per tenant a check holds the map against each.
    #[arg(long = "schema", value_name = "SCHEMA")]
    schemas: Vec<String>,
}

impl ProductArgs {
    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let (url, file) = (&self.product_database, &self.product_database_file);
        let url = crate::config::secret(url.as_deref(), file.as_deref())?
            .context("give the product's database: --database or TENURE_PRODUCT_DATABASE_URL")?;
        let options: PgConnectOptions = url
            .parse()
            .context("the URL of the product's database makes no sense")?;
        let connection = options.connect().await;
        connection.context("cannot connect to the product's database")
    }
}

/// A finding with the schema that it was made in, where each tenant has one.
#[derive(Serialize)]
struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(flatten)]
    finding: Finding,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    tables: usize,
    findings: Vec<Told>,
    /// True, but slow: keys that no index leads to.
    slow: Vec<Told>,
}

pub(super) async fn run(command: DataMapCommand) -> anyhow::Result<ExitCode> {
    match command {
        DataMapCommand::Draft {
            product,
            model,
            tenant_column,
        } => draft(&product, &model, tenant_column.as_deref()).await,
        DataMapCommand::Check {
            file,
            product,
            json,
        } => check(&file, &product, json).await,
        DataMapCommand::Load {
            api,
            file,
            source,
            unchecked,
        } => load(&api, &file, &source, unchecked).await,
    }
}

async fn draft(
    product: &ProductArgs,
    model: &str,
    tenant_column: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let words = Model::WORDS.iter().find(|(word, _)| *word == model);
    let model = words.context("clap knows the models")?.1;
    let schemas = match product.schemas.as_slice() {
        [] => vec!["public".to_owned()],
        schemas => schemas.to_vec(),
    };
    anyhow::ensure!(
        model != Model::Schema || schemas.len() == 1,
        "with a schema per tenant all have the same shape: draft from one of them"
    );
    let mut conn = product.connect().await?;
    let snapshot = data_map::read(&mut conn, model, &schemas).await?;
    conn.close().await?;
    anyhow::ensure!(
        !snapshot.tables.is_empty(),
        "there are no tables in {}",
        schemas.join(", ")
    );
    let map = data_map::draft(&snapshot, model, &schemas, tenant_column);
    out!("{}", data_map::print(&map));
    Ok(ExitCode::SUCCESS)
}

async fn check(file: &PathBuf, product: &ProductArgs, json: bool) -> anyhow::Result<ExitCode> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let map =
        data_map::parse(&text).with_context(|| format!("{} is no data map", file.display()))?;
    let schemas = match product.schemas.as_slice() {
        [] => map.schemas.clone(),
        schemas => schemas.to_vec(),
    };
    let mut conn = product.connect().await?;
    let mut report = Report {
        tables: 0,
        findings: Vec::new(),
        slow: Vec::new(),
    };
    // A tenant's schema is looked at by itself; schemas that tenants share are one whole.
    let parts: Vec<&[String]> = match map.model {
        Model::Schema => schemas.chunks(1).collect(),
        Model::Shared | Model::Database => vec![&schemas],
    };
    for part in parts {
        let snapshot: Snapshot = data_map::read(&mut conn, map.model, part).await?;
        report.tables += snapshot.tables.len();
        let schema = (map.model == Model::Schema).then(|| part[0].clone());
        let findings = data_map::check(&map, &snapshot).into_iter();
        report.findings.extend(findings.map(|finding| Told {
            schema: schema.clone(),
            finding,
        }));
        let slow = data_map::unindexed(&map, &snapshot).into_iter();
        report.slow.extend(slow.map(|one| Told {
            finding: one.finding(schema.as_deref()),
            schema: schema.clone(),
        }));
    }
    conn.close().await?;
    if json {
        outln!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print_report(&report);
    }
    Ok(if report.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

async fn load(
    api: &ApiArgs,
    file: &PathBuf,
    source: &str,
    unchecked: bool,
) -> anyhow::Result<ExitCode> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    // Told here, before a server is asked, and with the file's name.
    data_map::parse(&text).with_context(|| format!("{} is no data map", file.display()))?;
    let load = LoadDataMap { text, unchecked };
    let key = IdempotencyKey::generate();
    let loaded = api.client()?.load_data_map(source, &load, &key).await?;
    print(api, &loaded, || {
        outln!(
            "source {} goes by version {}",
            loaded.source,
            loaded.version
        );
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print_report(report: &Report) {
    for Told { schema, finding } in report.slow.iter().chain(&report.findings) {
        let schema = schema
            .as_ref()
            .map_or(String::new(), |schema| format!("{schema}."));
        let column = finding.column.as_ref();
        let column = column.map_or(String::new(), |column| format!(".{column}"));
        outln!("{schema}{}{column}: {}", finding.table, finding.detail);
        outln!("  {}", finding.remedy);
    }
    let slow = match report.slow.len() {
        0 => String::new(),
        1 => "; no index leads to 1 key".to_owned(),
        many => format!("; no index leads to {many} keys"),
    };
    match report.findings.len() {
        0 => outln!("{} tables, all as the map says{slow}", report.tables),
        1 => outln!("\n1 finding in {} tables{slow}", report.tables),
        many => outln!("\n{many} findings in {} tables{slow}", report.tables),
    }
}
